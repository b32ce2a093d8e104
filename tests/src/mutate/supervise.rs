//! The other side of a worker: starts it with limits, gives it runs of mutants, and notices at which one it dies or
//! stays.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use super::outcome::{Answer, Job, Outcome};

/// The argument that makes the command a worker.
pub const WORKER: &str = "--worker";
/// How long one mutant may take.
pub const LIMIT: Duration = Duration::from_secs(10);
/// Addresses that a worker may have, in KiB.
const ADDRESSES: u64 = 6 << 20;
/// Mutants after which a worker is replaced: what is kept from one to the next stays small.
const RENEWED: u64 = 5000;

/// A process that tries mutants one after the other, under guard pages.
pub struct Worker {
    program: PathBuf,
    running: Option<Running>,
    limit: Duration,
}

struct Running {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
    tried: u64,
}

impl Worker {
    /// A worker that is this executable.
    pub fn new(program: &Path, limit: Duration) -> Worker {
        Worker { program: program.to_owned(), running: None, limit }
    }

    fn start(&self) -> std::io::Result<Running> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("ulimit -c 0; ulimit -v {ADDRESSES}; exec \"$0\" {WORKER}")).arg(&self.program);
        command.env("STERNA_GUARD", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
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
        Ok(Running { child, input, answers, tried: 0 })
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
        self.stop();
        let outcome = stopped.unwrap_or(Outcome::Hung);
        Ok(match found {
            Some(answer) if Duration::from_millis(answer.time) <= self.limit => answer,
            _ => Answer { seed: job.seed, outcome, time: 0, memory: 0 },
        })
    }

    /// Hears the answers to a job; gives what stopped it, if it was stopped.
    fn ask(&mut self, job: &Job, limit: Duration, heard: &mut dyn FnMut(Answer)) -> std::io::Result<Option<Outcome>> {
        if self.running.as_ref().is_some_and(|running| running.tried > RENEWED) {
            self.stop();
        }
        let (mut running, mut patience) = match self.running.take() {
            Some(running) => (running, limit),
            // What mutants are made of is made first.
            None => (self.start()?, limit * 6),
        };
        let line = serde_json::to_string(job)?;
        // A worker that has died shows below, where its answer is missing.
        let _ = running.input.write_all(line.as_bytes()).and_then(|()| running.input.write_all(b"\n"));
        let _ = running.input.flush();
        for _ in 0..job.count {
            match running.answers.recv_timeout(patience) {
                Ok(line) => heard(serde_json::from_str(&line)?),
                Err(RecvTimeoutError::Timeout) => {
                    running.child.kill()?;
                    running.child.wait()?;
                    return Ok(Some(Outcome::Hung));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = running.child.wait()?;
                    return Ok(Some(Outcome::Died(signal_of(status))));
                }
            }
            patience = limit;
        }
        running.tried += job.count;
        self.running = Some(running);
        Ok(None)
    }

    fn stop(&mut self) {
        if let Some(Running { mut child, input, .. }) = self.running.take() {
            drop(input);
            let _ = child.wait();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
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
