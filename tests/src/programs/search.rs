//! Many programs, one after the other on several threads: counts what becomes of them, and cuts down what fails.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::outcome::{Job, Outcome, Thorough};
use super::shrink::shrink;
use super::supervise::Worker;
use super::tree::Program;
use super::{generate, render};
use crate::workers::{folder_name, locked, spread};

/// How long one program may take.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Which programs, and what to do with those that fail.
#[derive(Clone, Debug)]
pub struct Search {
    /// How many.
    pub count: u64,
    /// The seed of the first; the others follow.
    pub seed: u64,
    /// Programs checked at the same time.
    pub threads: usize,
    /// Where shrunk programs are written; nothing is shrunk without it.
    pub out: Option<PathBuf>,
    /// Candidates that are tried to make one program smaller.
    pub questions: usize,
    /// Failing programs of one kind that are shrunk; others are counted.
    pub each: usize,
    /// Shrink a program of each refusal too.
    pub refusals: bool,
    /// In how many ways.
    pub thorough: Thorough,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Programs checked.
    pub done: u64,
    /// Programs with the same bits in every way.
    pub equal: u64,
    /// Elements of outputs, probes and states that were compared.
    pub values: usize,
    /// By reason, how many programs were refused and the first one's seed.
    pub refused: BTreeMap<String, (u64, u64)>,
    /// By kind, the seeds of programs that show a fault.
    pub faults: BTreeMap<String, Vec<u64>>,
    seconds: f64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: u64 = self.refused.values().map(|(n, _)| n).sum();
        let Tally { done, equal, values, seconds, .. } = self;
        writeln!(f, "{done} programs in {seconds:.0} s: {equal} equal ({values} values), {refused} refused")?;
        let mut reasons: Vec<_> = self.refused.iter().collect();
        reasons.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (reason, (count, seed)) in reasons {
            writeln!(f, "{count:6}  {reason}  (seed {seed})")?;
        }
        for (kind, seeds) in &self.faults {
            let shown: Vec<String> = seeds.iter().take(12).map(u64::to_string).collect();
            writeln!(f, "FAULT {:6}  {kind}  (seeds {})", seeds.len(), shown.join(", "))?;
        }
        Ok(())
    }
}

/// The job of a program.
pub fn job(program: &Program, seed: u64, thorough: Thorough) -> Job {
    Job { graph: render::graph(program), config: render::config(program), seed, thorough }
}

impl Search {
    /// Checks all programs with workers that are this executable; progress goes to stderr.
    ///
    /// # Errors
    /// A worker that cannot be started, a folder that cannot be written.
    pub fn run(&self, executable: &Path) -> io::Result<Tally> {
        let (tally, begun) = (Mutex::new(Tally::default()), Instant::now());
        spread(
            self.threads,
            || Worker::new(executable, LIMIT),
            |worker, at| {
                if at >= self.count {
                    return Ok(false);
                }
                self.one(worker, self.seed + at, &tally, begun).map(|()| true)
            },
        )?;
        let mut tally = locked(&tally).clone();
        tally.seconds = begun.elapsed().as_secs_f64();
        Ok(tally)
    }

    fn one(&self, worker: &mut Worker, seed: u64, tally: &Mutex<Tally>, begun: Instant) -> io::Result<()> {
        let program = generate(seed);
        let outcome = worker.check(&job(&program, seed, self.thorough))?;
        let kind = outcome.kind();
        let keep = self.count_in(&mut locked(tally), &outcome, &kind, seed, begun);
        if outcome.is_fault() {
            eprintln!("seed {seed}: {kind}");
        }
        let Some(folder) = self.out.as_ref().filter(|_| keep) else { return Ok(()) };
        let small = shrink(&program, self.questions, |candidate| {
            worker.check(&job(candidate, seed, self.thorough)).is_ok_and(|found| found.kind() == kind)
        });
        let word = folder_name(&kind, 60);
        let folder = folder.join(format!("{word}-{seed}"));
        std::fs::create_dir_all(&folder)?;
        let shown = job(&small, seed, self.thorough);
        let said = worker.check(&shown)?.text();
        std::fs::write(folder.join("m.graph"), &shown.graph)?;
        std::fs::write(folder.join("c.json"), &shown.config)?;
        std::fs::write(folder.join("said.txt"), format!("seed {seed}\n{said}\n\n{}\n", outcome.text()))
    }

    /// Whether the program is to be shrunk.
    fn count_in(&self, tally: &mut Tally, outcome: &Outcome, kind: &str, seed: u64, begun: Instant) -> bool {
        tally.done += 1;
        if tally.done.is_multiple_of(200) {
            let refused: u64 = tally.refused.values().map(|(n, _)| n).sum();
            let faults: usize = tally.faults.values().map(Vec::len).sum();
            let Tally { done, equal, .. } = tally;
            let seconds = begun.elapsed().as_secs();
            eprintln!("{done} programs, {equal} equal, {refused} refused, {faults} faults, {seconds} s");
        }
        match outcome {
            Outcome::Equal { values, .. } => {
                tally.equal += 1;
                tally.values += values;
                false
            }
            Outcome::Refused { reason, .. } => {
                let (count, _) = tally.refused.entry(reason.clone()).or_insert((0, seed));
                *count += 1;
                *count == 1 && self.refusals
            }
            _ => {
                let seeds = tally.faults.entry(kind.to_owned()).or_default();
                seeds.push(seed);
                seeds.len() <= self.each
            }
        }
    }
}
