//! What happens when a mapped file shrinks while it is in use: the system sends a signal to whoever touches the pages
//! that are gone, and nothing can be computed any more. A program may ask for a sentence that names the file.

use std::ops::Range;
use std::path::Path;

/// A mapped range whose file is named if it shrinks; until it is dropped.
#[derive(Debug)]
pub(super) struct Watched(Option<usize>);

impl Watched {
    /// Names the file of a range of addresses. Beyond a fixed number of ranges they stay nameless.
    pub fn new(range: Range<usize>, path: &Path) -> Watched {
        Watched(table::enter(range, path))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(slot) = self.0 {
            table::leave(slot);
        }
    }
}

/// From now on, if a mapped file shrinks while it is in use, the process ends with exit code 1 and a sentence on
/// stderr. For programs, not for libraries: it handles a signal of the whole process.
pub fn explain_shrunken_files() {
    table::install();
}

#[cfg(unix)]
mod table {
    use std::ops::Range;
    use std::path::Path;
    use std::sync::Once;
    use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

    /// Ranges that are named at one time: more files than a checkpoint has.
    const SLOTS: usize = 1024;
    const NAMELESS: &str = "error: a file was truncated while it was in use\n";

    struct Slot {
        /// 0 while the slot is free, 1 while it is filled.
        start: AtomicUsize,
        end: AtomicUsize,
        /// Never freed, since a handler may be reading it on another thread.
        sentence: AtomicPtr<String>,
    }

    static TABLE: [Slot; SLOTS] = [const {
        Slot { start: AtomicUsize::new(0), end: AtomicUsize::new(0), sentence: AtomicPtr::new(std::ptr::null_mut()) }
    }; SLOTS];

    pub fn enter(range: Range<usize>, path: &Path) -> Option<usize> {
        if range.is_empty() {
            return None;
        }
        let free = |slot: &Slot| slot.start.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let index = TABLE.iter().position(free)?;
        let sentence = format!("error: {} was truncated while it was in use\n", path.display());
        TABLE[index].sentence.store(Box::into_raw(Box::new(sentence)), Ordering::Release);
        TABLE[index].end.store(range.end, Ordering::Release);
        TABLE[index].start.store(range.start, Ordering::Release);
        Some(index)
    }

    pub fn leave(slot: usize) {
        TABLE[slot].end.store(0, Ordering::Release);
        TABLE[slot].start.store(0, Ordering::Release);
    }

    pub fn install() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: the action is complete: zeros are an empty mask and no flags; `handle` is a handler of three
            // arguments, as SA_SIGINFO says, and calls only what may be called within a signal.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = handle as *const () as usize;
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
            }
        });
    }

    extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: with SA_SIGINFO the system passes a valid `siginfo_t`, and for this signal one with an address.
        let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
        let found = TABLE.iter().find(|slot| {
            let (start, end) = (slot.start.load(Ordering::Acquire), slot.end.load(Ordering::Acquire));
            start > 1 && (start..end).contains(&address)
        });
        let sentence = match found.map(|slot| slot.sentence.load(Ordering::Acquire)) {
            // SAFETY: the sentence of a slot is never freed.
            Some(sentence) => unsafe { (*sentence).as_str() },
            None if code == BEYOND_THE_END => NAMELESS,
            None => {
                // SAFETY: resets the action and sends the signal again: as if nobody had handled it.
                unsafe {
                    libc::signal(signal, libc::SIG_DFL);
                    libc::raise(signal);
                }
                return;
            }
        };
        // SAFETY: both may be called within a signal; the bytes are those of a string.
        unsafe {
            libc::write(libc::STDERR_FILENO, sentence.as_ptr().cast(), sentence.len());
            libc::_exit(1);
        }
    }

    /// `BUS_ADRERR`: there is no memory behind an address.
    const BEYOND_THE_END: libc::c_int = 2;
}

#[cfg(not(unix))]
mod table {
    pub fn enter(_: std::ops::Range<usize>, _: &std::path::Path) -> Option<usize> {
        None
    }

    pub fn leave(_: usize) {}

    pub fn install() {}
}
