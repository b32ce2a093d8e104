//! The process in which mutants are tried: it takes jobs as lines of JSON and answers each mutant with a line.

use std::io::{BufRead, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use super::drive::check;
use super::make;
use super::outcome::{Answer, Job, Outcome};

/// Resident memory of a process that no mutant may make it exceed, in KiB.
pub const MEMORY: u64 = 1 << 20;

/// What the panic of the present mutant said.
static SAID: Mutex<Option<String>> = Mutex::new(None);

/// Answers jobs until the input ends.
///
/// # Errors
/// The pipes to the other process.
pub fn serve() -> std::io::Result<()> {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, ToString::to_string);
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        if let Ok(mut said) = SAID.lock() {
            said.get_or_insert_with(|| format!("{place}\n{text}"));
        }
    }));
    let (input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    for line in input.lines() {
        let job: Job = serde_json::from_str(&line?)?;
        for seed in job.seed..job.seed + job.count {
            let answer = guarded(&job, seed);
            serde_json::to_writer(&mut output, &answer)?;
            output.write_all(b"\n")?;
            output.flush()?;
        }
    }
    Ok(())
}

fn guarded(job: &Job, seed: u64) -> Answer {
    forget_peak();
    let begun = processor_time();
    let tried = catch_unwind(AssertUnwindSafe(|| check(&make(job.kind, seed, job.undone).0, seed)));
    let mut outcome = tried.unwrap_or_else(|_| {
        let said = SAID.lock().ok().and_then(|mut said| said.take());
        Outcome::Panicked(said.unwrap_or_default())
    });
    let memory = peak();
    if memory > MEMORY && !outcome.is_fault() {
        outcome = Outcome::Memory(memory);
    }
    Answer { seed, outcome, time: processor_time() - begun, memory }
}

/// From here on the peak counts anew; where the system does not do that, it is that of the whole process.
fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most resident memory in KiB; 0 where the system does not tell.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Milliseconds of processor time of this process; 0 where the system does not tell.
fn processor_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: user and system time in hundredths of a second.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>() * 10
}
