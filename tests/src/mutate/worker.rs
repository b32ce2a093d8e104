//! The process in which mutants are tried: it measures the time and the memory of each.

use super::drive::check;
use super::make;
use super::outcome::{Answer, Job, Outcome};
use crate::workers::{self, guarded};

/// Resident memory of a process that no mutant may make it exceed, in KiB.
pub const MEMORY: u64 = 1 << 20;

/// Answers jobs until the input ends, each mutant with a line.
///
/// # Errors
/// The pipes to the other process.
pub fn serve() -> std::io::Result<()> {
    workers::serve(|job: &Job, answer| {
        (job.seed..job.seed + job.count).try_for_each(|seed| answer(measured(job, seed)))
    })
}

fn measured(job: &Job, seed: u64) -> Answer {
    forget_peak();
    let begun = processor_time();
    let mut outcome = guarded(|| check(&make(job.kind, seed, job.undone).0, seed)).unwrap_or_else(Outcome::Panicked);
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
