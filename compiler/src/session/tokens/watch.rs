//! Searches that take too long. A search can be left only where something is found, and its worst is the square of a
//! text or more, so texts are read on a thread of their own where patterns of a file are searched, and whoever waits
//! for it gives up when a search does not come to an end. What is found never depends on that: only whether there is
//! an error instead.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often is looked. Looks are counted, not seconds: a process that was stopped meanwhile has lost no time.
const LOOK: Duration = Duration::from_millis(50);
/// Looks without anything found, and looks at searches altogether.
const MOST: usize = 100;
/// Bytes of text for each further look at searches altogether: several times slower than the slowest pattern in use.
const BYTES_PER_LOOK: usize = 12_500;
/// Stack of the thread: that of a main thread.
const STACK: usize = 8 << 20;

#[derive(Default)]
struct Watch {
    /// The pattern that is searched now.
    searched: Mutex<Option<Arc<str>>>,
    found: AtomicUsize,
    given_up: AtomicBool,
}

impl Watch {
    fn searched(&self, pattern: Option<Arc<str>>) {
        *self.searched.lock().unwrap_or_else(PoisonError::into_inner) = pattern;
    }
}

thread_local! {
    static WATCH: RefCell<Option<Arc<Watch>>> = const { RefCell::new(None) };
}

/// A search that is going on, as whoever waits sees it.
pub(super) struct Search(Option<Arc<Watch>>);

impl Search {
    /// From now on this pattern is searched; until it is dropped.
    pub fn begin(pattern: Arc<str>) -> Search {
        let watch = WATCH.with_borrow(Clone::clone);
        if let Some(watch) = &watch {
            watch.searched(Some(pattern));
        }
        Search(watch)
    }

    /// Something was found; whether anybody still waits for more.
    pub fn goes_on(&self) -> bool {
        self.0.as_ref().is_none_or(|watch| {
            watch.found.fetch_add(1, Ordering::Relaxed);
            !watch.given_up.load(Ordering::Relaxed)
        })
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        if let Some(watch) = &self.0 {
            watch.searched(None);
        }
    }
}

/// The result of a job over a text of so many bytes. Where no thread can be had the job runs here, unwatched.
///
/// # Errors
/// One of its searches takes too long: which. The job is left to itself, and ends with its search.
pub(super) fn watched<T: Send + 'static>(
    bytes: usize,
    job: impl Fn() -> T + Send + Sync + 'static,
) -> Result<T, String> {
    let (watch, job) = (Arc::<Watch>::default(), Arc::new(job));
    let (tell, told) = channel();
    let (there, theirs) = (job.clone(), watch.clone());
    let work = move || {
        WATCH.set(Some(theirs));
        // Nobody may be waiting any more.
        let _ = tell.send(there());
    };
    if std::thread::Builder::new().name("tokenizer".into()).stack_size(STACK).spawn(work).is_err() {
        return Ok(job());
    }
    let most = MOST + bytes / BYTES_PER_LOOK;
    let (mut found, mut without, mut looks) = (0, 0, 0);
    loop {
        match told.recv_timeout(LOOK) {
            Ok(result) => return Ok(result),
            // It cannot end without a word: panics are caught within.
            Err(RecvTimeoutError::Disconnected) => return Err("its thread has ended".into()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let searched = watch.searched.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(searched) = searched else {
            without = 0;
            continue;
        };
        let now = watch.found.load(Ordering::Relaxed);
        without = if now == found { without + 1 } else { 0 };
        (found, looks) = (now, looks + 1);
        if without > MOST || looks > most {
            watch.given_up.store(true, Ordering::Relaxed);
            return Err(format!("{searched} is given up: its search takes too long"));
        }
    }
}
