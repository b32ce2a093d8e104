//! The other side of a worker: gives it programs, and says what becomes of one at which it dies or does not answer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::outcome::{Job, Outcome};
use crate::workers::{Process, Stopped, WORKER};

/// A process that checks programs one after the other.
pub struct Worker {
    program: PathBuf,
    running: Option<Process>,
    /// How long one program may take.
    limit: Duration,
}

impl Worker {
    /// A worker that is this executable.
    pub fn new(program: &Path, limit: Duration) -> Worker {
        Worker { program: program.to_owned(), running: None, limit }
    }

    /// What becomes of a program. One that does not answer in time is given five times as long once more, alone in a
    /// new process, since the machine may have been busy.
    ///
    /// # Errors
    /// The worker cannot be started, or answers what is no outcome.
    pub fn check(&mut self, job: &Job) -> std::io::Result<Outcome> {
        match self.ask(job, self.limit)? {
            Outcome::Hung => self.ask(job, self.limit * 5),
            outcome => Ok(outcome),
        }
    }

    fn ask(&mut self, job: &Job, limit: Duration) -> std::io::Result<Outcome> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Process::start(Command::new(&self.program).arg(WORKER))?,
        };
        running.give(job)?;
        match running.answer(limit)? {
            Ok(outcome) => {
                self.running = Some(running);
                Ok(outcome)
            }
            Err(Stopped::Died(signal)) => Ok(Outcome::Died { signal }),
            Err(Stopped::Hung) => Ok(Outcome::Hung),
        }
    }
}
