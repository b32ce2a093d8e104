//! Work that may kill its process: what a command that makes inputs and tries each has in common with others. One side
//! gives jobs as lines of JSON to a process of its own, and notices when that dies or does not answer ([`Process`]);
//! the other side is that process ([`serve`], [`guarded`]). [`spread`] does so on several threads. What a job is, and
//! which answers are faults, is said where the inputs are made.

use std::any::Any;
use std::io::{self, BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Child, ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The argument that makes a command a worker.
pub const WORKER: &str = "--worker";

/// A process that takes jobs and answers.
pub struct Process {
    child: Child,
    /// Closed before the end is waited for.
    input: Option<ChildStdin>,
    answers: Receiver<String>,
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The process died of a signal.
    Died(i32),
    /// There was no answer in time; the process was killed.
    Hung,
}

impl Process {
    /// Starts a command.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> io::Result<Process> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let missing = || io::Error::other("a worker without pipes");
        let input = Some(child.stdin.take().ok_or_else(missing)?);
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
        Ok(Process { child, input, answers })
    }

    /// Gives it a job.
    ///
    /// # Errors
    /// The job has no form as JSON. A process that has died shows where its answer is missing.
    pub fn give(&mut self, job: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(job)?;
        if let Some(input) = &mut self.input {
            let _ = input.write_all(line.as_bytes()).and_then(|()| input.write_all(b"\n")).and_then(|()| input.flush());
        }
        Ok(())
    }

    /// Its next answer. A process that stopped is of no more use.
    ///
    /// # Errors
    /// What it says is no answer.
    pub fn answer<A: DeserializeOwned>(&mut self, limit: Duration) -> io::Result<Result<A, Stopped>> {
        match self.answers.recv_timeout(limit) {
            Ok(line) => Ok(Ok(serde_json::from_str(&line)?)),
            Err(RecvTimeoutError::Timeout) => {
                self.child.kill()?;
                self.child.wait()?;
                Ok(Err(Stopped::Hung))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(Err(Stopped::Died(signal_of(self.child.wait()?)))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

#[cfg(unix)]
fn signal_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.signal().unwrap_or(0)
}

#[cfg(not(unix))]
fn signal_of(_: ExitStatus) -> i32 {
    0
}

/// What the panic of the present job said.
static SAID: Mutex<Option<String>> = Mutex::new(None);

/// Takes jobs from stdin until that ends. `work` does one and gives its answers, each of which is written at once.
///
/// # Errors
/// The pipes to the other process.
pub fn serve<J: DeserializeOwned, A: Serialize>(
    mut work: impl FnMut(&J, &mut dyn FnMut(A) -> io::Result<()>) -> io::Result<()>,
) -> io::Result<()> {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, ToString::to_string);
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        locked(&SAID).get_or_insert_with(|| format!("{place}\n{text}"));
    }));
    let (input, mut output) = (io::stdin().lock(), io::stdout().lock());
    for line in input.lines() {
        work(&serde_json::from_str(&line?)?, &mut |answer| {
            serde_json::to_writer(&mut output, &answer)?;
            output.write_all(b"\n")?;
            output.flush()
        })?;
    }
    Ok(())
}

/// What a process that [`serve`]s computes, or what a panic said: its place in the first line.
pub fn guarded<T>(compute: impl FnOnce() -> T) -> Result<T, String> {
    let said = |_: Box<dyn Any + Send>| locked(&SAID).take().unwrap_or_default();
    catch_unwind(AssertUnwindSafe(compute)).map_err(said)
}

/// Works on the numbers from 0 on several threads, each with a worker of its own, until `work` finds none left.
///
/// # Errors
/// What `work` fails with.
pub fn spread<W>(
    threads: usize,
    worker: impl Fn() -> W + Sync,
    work: impl Fn(&mut W, u64) -> io::Result<bool> + Sync,
) -> io::Result<()> {
    let next = AtomicU64::new(0);
    let run = || {
        let mut worker = worker();
        while work(&mut worker, next.fetch_add(1, Ordering::Relaxed))? {}
        Ok(())
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(run)).collect();
        all.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// What the mutex guards, also where another thread has panicked.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A text as a name of a folder, of at most so many characters.
pub fn folder_name(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(most).collect()
}

/// How a command ends that says whether no fault was found: 3 where there was one, 2 where it could not look.
pub fn exit(found: Result<bool, Box<dyn std::error::Error>>) -> ExitCode {
    match found {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
