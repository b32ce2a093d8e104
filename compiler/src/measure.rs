//! The machine's own yardstick: how fast it reads memory, measured in the same run as what is compared with it; and how
//! much of it the process takes.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sterna_runtime::system::group_memory;
use sterna_runtime::{Buffer, Pool, Result};

/// Bytes read per second, in 1e9, by all threads of the pool together over a buffer of `bytes`, or of a quarter of what
/// the control group has; the best of several rounds within about `time`.
pub fn read_bandwidth(pool: &Pool, bytes: usize, time: Duration) -> Result<f64> {
    const LINE: usize = 4096;
    let group = group_memory().map_or(u64::MAX, |memory| memory.limit.saturating_sub(memory.used) / 4);
    let bytes = bytes.min(usize::try_from(group).unwrap_or(usize::MAX)).max(LINE);
    let mut buffer = Buffer::zeroed(bytes.next_multiple_of(LINE))?;
    buffer.advise_huge();
    // Pages that were never written are all the same one.
    for page in buffer.chunks_mut(LINE) {
        page[0] = 1;
    }
    let since = Instant::now();
    let mut best = 0f64;
    let mut rounds = 0;
    while rounds < 3 || since.elapsed() < time {
        let total = AtomicU64::new(0);
        let start = Instant::now();
        pool.launch(buffer.len() / LINE, 16, |begin, end| {
            total.fetch_add(sum(&buffer[begin * LINE..end * LINE]), Ordering::Relaxed);
        });
        black_box(total.into_inner());
        best = best.max(buffer.len() as f64 / start.elapsed().as_secs_f64() / 1e9);
        rounds += 1;
    }
    Ok(best)
}

/// Memory of this process that is present, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    /// All of it.
    pub total: usize,
    /// Pages of files, which other processes may share and the system may drop.
    pub files: usize,
}

/// What the system says of this process's memory, where it says so.
pub fn resident() -> Option<Resident> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kilobytes = |key: &str| -> Option<usize> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.split_whitespace().next()?.parse::<usize>().ok()? * 1024)
    };
    Some(Resident { total: kilobytes("VmRSS:")?, files: kilobytes("RssFile:")? })
}

/// A sum over eight independent lanes, so that loads and not additions are the limit.
fn sum(bytes: &[u8]) -> u64 {
    let mut lanes = [0u64; 8];
    for line in bytes.chunks_exact(64) {
        for (lane, word) in lanes.iter_mut().zip(line.chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            *lane = lane.wrapping_add(u64::from_le_bytes(eight));
        }
    }
    lanes.iter().fold(0, |a, &b| a.wrapping_add(b))
}
