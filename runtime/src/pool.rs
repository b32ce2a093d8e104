//! The thread pool: one launch at a time, cut into chunks that whichever thread is running claims.
//!
//! One 64-bit ticket holds the launch number and how many chunks are left. The leader publishes a job, then the
//! ticket, and claims chunks itself; a worker claims by compare-and-swap, which fails once the launch number has
//! changed, and reads the job only after a successful claim. A launch ends when all its CHUNKS are done, so a worker
//! that never woke is not waited for and a busy machine slows a step down but cannot stall it. Workers spin for a
//! short wall time and then park; the leader never parks inside a step. Results do not depend on who ran what.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use crate::float_control::DefaultFloats;
use crate::system::MAX_THREADS;

/// How long an idle worker spins before it parks.
const SPIN: Duration = Duration::from_micros(50);
/// Pauses of the leader before it yields its processor to whoever holds the last chunk.
const LEADER_PAUSES: u32 = 100;
/// Chunks per thread of one launch: more than one, so that a slowed thread does not hold up the end.
const CHUNKS_PER_THREAD: usize = 4;

/// A value on cache lines of its own.
#[repr(align(128))]
struct Line<T>(T);

/// Calls a job for the work units `begin..end`.
type Run = fn(data: usize, begin: usize, end: usize);

struct Shared {
    /// Launch number << 32 | chunks left.
    ticket: Line<AtomicU64>,
    done: Line<AtomicUsize>,
    // The job: written by the leader before the ticket, read after a successful claim, and not changed before every
    // chunk of it is done.
    data: AtomicUsize,
    run: AtomicUsize,
    units: AtomicUsize,
    chunk: AtomicUsize,
    chunks: AtomicUsize,
    stop: AtomicBool,
    leading: AtomicBool,
    sleeping: Vec<Line<AtomicBool>>,
}

/// A pool of threads; the calling thread is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(Thread, Option<JoinHandle<()>>)>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Pool {
    /// A pool of so many threads in all, or of as many as can be had. `pin` ties each to a processor of its own, the
    /// calling thread included, as long as there are enough of them.
    pub fn new(threads: usize, pin: bool) -> Pool {
        let threads = threads.clamp(1, MAX_THREADS);
        let processors = if pin && threads > 1 { allowed_processors() } else { Vec::new() };
        let place = |i: usize| (processors.len() >= threads).then(|| processors[i]);
        if let Some(processor) = place(0) {
            pin_to(processor);
        }
        let shared = Arc::new(Shared {
            ticket: Line(AtomicU64::new(0)),
            done: Line(AtomicUsize::new(0)),
            data: AtomicUsize::new(0),
            run: AtomicUsize::new(0),
            units: AtomicUsize::new(0),
            chunk: AtomicUsize::new(0),
            chunks: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            leading: AtomicBool::new(false),
            sleeping: (1..threads).map(|_| Line(AtomicBool::new(false))).collect(),
        });
        let workers = (1..threads)
            .map_while(|i| {
                let shared = shared.clone();
                let processor = place(i);
                let body = move || {
                    if let Some(processor) = processor {
                        pin_to(processor);
                    }
                    let _floats = DefaultFloats::set();
                    work(&shared, i - 1);
                };
                // Where one cannot be had those there are share the work.
                let handle = std::thread::Builder::new().name(format!("sterna-{i}")).spawn(body).ok()?;
                Some((handle.thread().clone(), Some(handle)))
            })
            .collect();
        Pool { shared, workers }
    }

    /// Threads that take part, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job` over `0..units` in chunks of whole `grain`s (the last may be short) and returns when all are done. A
    /// launch from within a launch, or from two threads at once, runs on its caller alone.
    pub fn launch<F: Fn(usize, usize) + Sync>(&self, units: usize, grain: usize, job: F) {
        let grain = grain.max(1);
        let chunk = grain * units.div_ceil(grain * self.threads() * CHUNKS_PER_THREAD).max(1);
        let chunks = units.div_ceil(chunk);
        if chunks < 2 || self.workers.is_empty() || self.shared.leading.swap(true, Ordering::Acquire) {
            if units > 0 {
                job(0, units);
            }
            return;
        }
        fn run<F: Fn(usize, usize) + Sync>(data: usize, begin: usize, end: usize) {
            // SAFETY: `data` is the address of the job that the leader borrows until every chunk is done, and a
            // worker gets here only for a chunk it has claimed; the job may be shared between threads.
            let job = unsafe { &*(data as *const F) };
            job(begin, end);
        }
        let shared = &*self.shared;
        let run: Run = run::<F>;
        shared.data.store(&raw const job as usize, Ordering::Relaxed);
        shared.run.store(run as usize, Ordering::Relaxed);
        shared.units.store(units, Ordering::Relaxed);
        shared.chunk.store(chunk, Ordering::Relaxed);
        shared.chunks.store(chunks, Ordering::Relaxed);
        shared.done.0.store(0, Ordering::Relaxed);
        let launch = (shared.ticket.0.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        shared.ticket.0.store(launch << 32 | chunks as u64, Ordering::SeqCst);
        for (sleeping, (worker, _)) in shared.sleeping.iter().zip(&self.workers) {
            if sleeping.0.load(Ordering::SeqCst) {
                worker.unpark();
            }
        }
        while claim(shared) {}
        let mut pauses = 0;
        while shared.done.0.load(Ordering::Acquire) < chunks {
            if pauses < LEADER_PAUSES {
                pauses += 1;
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        shared.leading.store(false, Ordering::Release);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for (worker, handle) in &mut self.workers {
            worker.unpark();
            if let Some(handle) = handle.take() {
                // A worker's panic has been reported on its own thread already.
                let _ = handle.join();
            }
        }
    }
}

/// Claims a chunk of the current launch and runs it; false if none is left.
fn claim(shared: &Shared) -> bool {
    let mut ticket = shared.ticket.0.load(Ordering::Acquire);
    loop {
        if ticket & u64::from(u32::MAX) == 0 {
            return false;
        }
        match shared.ticket.0.compare_exchange_weak(ticket, ticket - 1, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => break,
            Err(now) => ticket = now,
        }
    }
    let left = (ticket & u64::from(u32::MAX)) as usize;
    let (units, chunk) = (shared.units.load(Ordering::Relaxed), shared.chunk.load(Ordering::Relaxed));
    let begin = (shared.chunks.load(Ordering::Relaxed) - left) * chunk;
    // SAFETY: only `launch` stores here, always a function of type `Run`, before the ticket that was just claimed.
    let run: Run = unsafe { std::mem::transmute::<usize, Run>(shared.run.load(Ordering::Relaxed)) };
    let unwinding = AbortOnUnwind;
    run(shared.data.load(Ordering::Relaxed), begin, (begin + chunk).min(units));
    std::mem::forget(unwinding);
    shared.done.0.fetch_add(1, Ordering::Release);
    true
}

/// A job that unwinds would leave other threads with a borrow of a frame that is gone.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        std::process::abort();
    }
}

fn work(shared: &Shared, index: usize) {
    let sleeping = &shared.sleeping[index].0;
    while !shared.stop.load(Ordering::Relaxed) {
        if claim(shared) {
            continue;
        }
        let since = Instant::now();
        let mut found = false;
        while !found && since.elapsed() < SPIN {
            for _ in 0..16 {
                std::hint::spin_loop();
            }
            found = shared.ticket.0.load(Ordering::Relaxed) & u64::from(u32::MAX) != 0;
        }
        if !found {
            sleeping.store(true, Ordering::SeqCst);
            // The leader looks at `sleeping` after the ticket, this thread at the ticket after `sleeping`: one sees the
            // other.
            if shared.ticket.0.load(Ordering::SeqCst) & u64::from(u32::MAX) == 0 && !shared.stop.load(Ordering::SeqCst)
            {
                std::thread::park();
            }
            sleeping.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(target_os = "linux")]
fn allowed_processors() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|&i| set.is_set(i)).collect()
}

#[cfg(target_os = "linux")]
fn pin_to(processor: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(processor);
    // Pinning is an optimisation: where it is forbidden the thread runs anywhere.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}

#[cfg(not(target_os = "linux"))]
fn allowed_processors() -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
fn pin_to(_: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_runs_once_whatever_the_threads() {
        for threads in [1, 2, 3, 4, 7] {
            let pool = Pool::new(threads, false);
            for units in [0, 1, 2, 5, 16, 97, 1000] {
                for grain in [1, 3, 64] {
                    let seen: Vec<AtomicUsize> = (0..units).map(|_| AtomicUsize::new(0)).collect();
                    pool.launch(units, grain, |begin, end| {
                        for s in &seen[begin..end] {
                            s.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                    assert!(seen.iter().all(|s| s.load(Ordering::Relaxed) == 1));
                }
            }
        }
    }

    #[test]
    fn many_small_launches_and_parked_workers() {
        let pool = Pool::new(4, true);
        let total = AtomicUsize::new(0);
        for round in 0..3000 {
            if round % 1000 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            pool.launch(8, 1, |begin, end| {
                total.fetch_add(end - begin, Ordering::Relaxed);
            });
        }
        assert_eq!(total.load(Ordering::Relaxed), 8 * 3000);
    }

    #[test]
    fn a_launch_within_a_launch_runs_alone() {
        let pool = Pool::new(3, false);
        let total = AtomicUsize::new(0);
        pool.launch(12, 1, |begin, end| {
            pool.launch(end - begin, 1, |b, e| {
                total.fetch_add(e - b, Ordering::Relaxed);
            });
        });
        assert_eq!(total.load(Ordering::Relaxed), 12);
    }
}
