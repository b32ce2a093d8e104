//! Many mutants on several workers: counts what becomes of them, and undoes the edits that a fault does not need.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use super::drive::write;
use super::outcome::{Answer, Job, Outcome};
use super::supervise::{LIMIT, Worker};
use super::{Kind, make};
use crate::workers::{folder_name, locked, spread};

/// Which mutants, and what to do with those that fail.
#[derive(Clone, Debug)]
pub struct Search {
    /// The kinds; seeds are shared among them.
    pub kinds: Vec<Kind>,
    /// How many.
    pub count: u64,
    /// The first seed; each kind has those from there on.
    pub seed: u64,
    /// Workers at the same time.
    pub threads: usize,
    /// Where mutants that fail are written.
    pub out: Option<PathBuf>,
    /// Mutants of one kind of fault that are written.
    pub each: usize,
}

/// Mutants that a worker is given at once.
const RUN: u64 = 250;

/// What became of the mutants of one kind.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// All of them.
    pub tried: u64,
    /// Those that were run.
    pub ran: u64,
    /// Those that were lowered and proven, and not run.
    pub planned: u64,
    /// Milliseconds of processor time, of all and of the slowest with its seed.
    pub time: u64,
    pub slowest: (u64, u64),
    /// The most memory in KiB, with the seed.
    pub memory: (u64, u64),
    /// By reason, how many were refused, and the first one's seed.
    pub refused: BTreeMap<String, (u64, u64)>,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// By kind.
    pub kinds: BTreeMap<Kind, Counts>,
    /// By kind and fault, the seeds.
    pub faults: BTreeMap<(Kind, String), Vec<u64>>,
    seconds: f64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tried: u64 = self.kinds.values().map(|counts| counts.tried).sum();
        let faults: usize = self.faults.values().map(Vec::len).sum();
        writeln!(f, "{tried} mutants in {:.0} s, {faults} faults", self.seconds)?;
        for (kind, counts) in &self.kinds {
            let Counts { tried, ran, planned, time, slowest, memory, refused } = counts;
            let refusals: u64 = refused.values().map(|(n, _)| n).sum();
            writeln!(
                f,
                "{}: {tried} mutants, {ran} ran, {planned} planned, {refusals} refused; {:.2} ms each, slowest {} ms \
                 (seed {}), most memory {} KiB (seed {})",
                kind.name(),
                *time as f64 / (*tried).max(1) as f64,
                slowest.0,
                slowest.1,
                memory.0,
                memory.1
            )?;
            let mut reasons: Vec<_> = refused.iter().collect();
            reasons.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
            for (reason, (count, seed)) in reasons.into_iter().take(40) {
                writeln!(f, "{count:8}  {reason}  (seed {seed})")?;
            }
        }
        for ((kind, fault), seeds) in &self.faults {
            let shown: Vec<String> = seeds.iter().take(12).map(u64::to_string).collect();
            writeln!(f, "FAULT {:6}  {}: {fault}  (seeds {})", seeds.len(), kind.name(), shown.join(", "))?;
        }
        Ok(())
    }
}

impl Search {
    /// Tries all mutants with workers that are this executable; progress goes to stderr.
    ///
    /// # Errors
    /// A worker that cannot be started, a folder that cannot be written.
    pub fn run(&self, executable: &Path) -> io::Result<Tally> {
        let (tally, begun) = (Mutex::new(Tally::default()), Instant::now());
        let jobs = self.jobs();
        spread(
            self.threads,
            || Worker::new(executable, LIMIT),
            |worker, at| match jobs.get(at as usize) {
                Some(job) => self.one(worker, job, &tally, begun).map(|()| true),
                None => Ok(false),
            },
        )?;
        let mut tally = locked(&tally).clone();
        tally.seconds = begun.elapsed().as_secs_f64();
        Ok(tally)
    }

    /// Short runs of each kind in turn.
    fn jobs(&self) -> Vec<Job> {
        let kinds = self.kinds.len() as u64;
        let mut jobs = Vec::new();
        let mut left: Vec<u64> = (0..kinds).map(|at| self.count / kinds + u64::from(at < self.count % kinds)).collect();
        let mut seed = self.seed;
        while left.iter().any(|&left| left > 0) {
            for (&kind, left) in self.kinds.iter().zip(&mut left).filter(|(_, left)| **left > 0) {
                let count = RUN.min(*left);
                jobs.push(Job { kind, seed, count, undone: 0 });
                *left -= count;
            }
            seed += RUN;
        }
        jobs
    }

    fn one(&self, worker: &mut Worker, job: &Job, tally: &Mutex<Tally>, begun: Instant) -> io::Result<()> {
        let mut faults = Vec::new();
        worker.check(job, |answer| {
            let mut tally = locked(tally);
            count_in(tally.kinds.entry(job.kind).or_default(), &answer);
            if answer.outcome.is_fault() {
                let seeds = tally.faults.entry((job.kind, answer.outcome.kind())).or_default();
                seeds.push(answer.seed);
                eprintln!("{} {}: {}", job.kind.name(), answer.seed, answer.outcome.kind());
                if seeds.len() <= self.each {
                    faults.push(answer);
                }
            }
            let done: u64 = tally.kinds.values().map(|counts| counts.tried).sum();
            if done.is_multiple_of(5000) {
                let faults: usize = tally.faults.values().map(Vec::len).sum();
                eprintln!("{done} mutants, {faults} faults, {} s", begun.elapsed().as_secs());
            }
        })?;
        if let Some(folder) = &self.out {
            for answer in faults {
                keep(worker, job.kind, &answer, folder)?;
            }
        }
        Ok(())
    }
}

fn count_in(counts: &mut Counts, answer: &Answer) {
    counts.tried += 1;
    counts.time += answer.time;
    counts.slowest = counts.slowest.max((answer.time, answer.seed));
    counts.memory = counts.memory.max((answer.memory, answer.seed));
    match &answer.outcome {
        Outcome::Ran => counts.ran += 1,
        Outcome::Planned => counts.planned += 1,
        Outcome::Refused(reason) => counts.refused.entry(reason.clone()).or_insert((0, answer.seed)).0 += 1,
        _ => {}
    }
}

/// Undoes one edit after the other while the mutant still fails in the same way.
///
/// # Errors
/// The worker.
pub fn needed(worker: &mut Worker, kind: Kind, seed: u64, fault: &str) -> io::Result<u64> {
    let (_, edits) = make(kind, seed, 0);
    let mut undone = 0;
    for edit in 0..edits {
        let fewer = undone | 1 << edit;
        let mut same = false;
        worker.check(&Job { kind, seed, count: 1, undone: fewer }, |answer| same = answer.outcome.kind() == fault)?;
        if same {
            undone = fewer;
        }
    }
    Ok(undone)
}

/// Writes a mutant that fails, with no more edits than it needs.
fn keep(worker: &mut Worker, kind: Kind, answer: &Answer, folder: &Path) -> io::Result<()> {
    let fault = answer.outcome.kind();
    let undone = needed(worker, kind, answer.seed, &fault)?;
    let word = folder_name(&fault, 80);
    let folder = folder.join(format!("{}-{word}-{}", kind.name(), answer.seed));
    std::fs::create_dir_all(&folder)?;
    let (mutant, _) = make(kind, answer.seed, undone);
    write(&mutant, &folder).map_err(io::Error::other)?;
    let (kind, seed, said) = (kind.name(), answer.seed, answer.outcome.text());
    std::fs::write(folder.join("said.txt"), format!("--kind {kind} --check {seed} --undone {undone}\n{said}\n"))
}
