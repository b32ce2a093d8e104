//! The other side of a worker: starts it, gives it jobs, and notices when it dies or does not answer.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::outcome::{Job, Outcome};

/// The argument that makes the command a worker.
pub const WORKER: &str = "--worker";

/// A process that checks programs one after the other.
pub struct Worker {
    program: std::path::PathBuf,
    running: Option<Running>,
    /// How long one program may take.
    limit: Duration,
}

struct Running {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Worker {
    /// A worker that is this executable.
    pub fn new(program: &Path, limit: Duration) -> Worker {
        Worker { program: program.to_owned(), running: None, limit }
    }

    fn start(&self) -> std::io::Result<Running> {
        let mut child = Command::new(&self.program).arg(WORKER).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let missing = || std::io::Error::other("a worker without pipes");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Running { child, input, answers })
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
            None => self.start()?,
        };
        let line = serde_json::to_string(job)?;
        // A worker that has died shows below, where its answer is missing.
        let _ = running.input.write_all(line.as_bytes()).and_then(|()| running.input.write_all(b"\n"));
        let _ = running.input.flush();
        match running.answers.recv_timeout(limit) {
            Ok(line) => {
                let outcome = serde_json::from_str(&line)?;
                self.running = Some(running);
                Ok(outcome)
            }
            Err(RecvTimeoutError::Timeout) => {
                running.child.kill()?;
                running.child.wait()?;
                Ok(Outcome::Hung)
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = running.child.wait()?;
                Ok(Outcome::Died { signal: signal_of(status) })
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(Running { mut child, input, .. }) = self.running.take() {
            drop(input);
            let _ = child.wait();
        }
    }
}

#[cfg(unix)]
fn signal_of(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.signal().unwrap_or(0)
}

#[cfg(not(unix))]
fn signal_of(_: std::process::ExitStatus) -> i32 {
    0
}
