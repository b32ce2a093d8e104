//! The other side of a worker: starts it with limits, gives it runs of mutants, and notices at which one it dies or
//! stays.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::outcome::{Answer, Job, Outcome};
use crate::workers::{Process, Stopped, WORKER};

/// How long one mutant may take.
pub const LIMIT: Duration = Duration::from_secs(10);
/// Addresses that a worker may have, in KiB.
const ADDRESSES: u64 = 6 << 20;
/// Mutants after which a worker is replaced: what is kept from one to the next stays small.
const RENEWED: u64 = 5000;

/// A process that tries mutants one after the other, under guard pages.
pub struct Worker {
    program: PathBuf,
    /// With the number of mutants that it has tried.
    running: Option<(Process, u64)>,
    limit: Duration,
}

impl Worker {
    /// A worker that is this executable.
    pub fn new(program: &Path, limit: Duration) -> Worker {
        Worker { program: program.to_owned(), running: None, limit }
    }

    fn start(&self) -> std::io::Result<Process> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -c 0; ulimit -v {ADDRESSES}; exec \"$0\" {WORKER}")).arg(&self.program);
        Process::start(command.env("STERNA_GUARD", "1"))
    }

    /// Tries all mutants of a job. One that does not answer in time is given five times as long once more, alone in a
    /// new process, since the machine may have been busy; what counts then is the time of the processor.
    ///
    /// # Errors
    /// The worker cannot be started, or answers what is no answer.
    pub fn check(&mut self, job: &Job, mut heard: impl FnMut(Answer)) -> std::io::Result<()> {
        let end = job.seed + job.count;
        let mut seed = job.seed;
        while seed < end {
            let rest = Job { seed, count: end - seed, ..*job };
            let mut last = seed;
            let stopped = self.ask(&rest, self.limit, &mut |answer| {
                last = answer.seed + 1;
                heard(answer);
            })?;
            seed = last;
            let Some(outcome) = stopped else { continue };
            let outcome = match outcome {
                Outcome::Hung => self.once_more(&Job { seed, count: 1, ..*job })?,
                outcome => Answer { seed, outcome, time: 0, memory: 0 },
            };
            heard(outcome);
            seed += 1;
        }
        Ok(())
    }

    fn once_more(&mut self, job: &Job) -> std::io::Result<Answer> {
        let mut found = None;
        let stopped = self.ask(job, self.limit * 5, &mut |answer| found = Some(answer))?;
        self.running = None;
        let outcome = stopped.unwrap_or(Outcome::Hung);
        Ok(match found {
            Some(answer) if Duration::from_millis(answer.time) <= self.limit => answer,
            _ => Answer { seed: job.seed, outcome, time: 0, memory: 0 },
        })
    }

    /// Hears the answers to a job; gives what stopped it, if it was stopped.
    fn ask(&mut self, job: &Job, limit: Duration, heard: &mut dyn FnMut(Answer)) -> std::io::Result<Option<Outcome>> {
        let ((mut running, tried), mut patience) = match self.running.take().filter(|(_, tried)| *tried <= RENEWED) {
            Some(running) => (running, limit),
            // What mutants are made of is made first.
            None => ((self.start()?, 0), limit * 6),
        };
        running.give(job)?;
        for _ in 0..job.count {
            match running.answer(patience)? {
                Ok(answer) => heard(answer),
                Err(Stopped::Died(signal)) => return Ok(Some(Outcome::Died(signal))),
                Err(Stopped::Hung) => return Ok(Some(Outcome::Hung)),
            }
            patience = limit;
        }
        self.running = Some((running, tried + job.count));
        Ok(None)
    }
}
