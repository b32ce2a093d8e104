//! Drafts of files, and what becomes of them when a signal ends the process: they are removed first. What no process
//! can heed (a kill, a lost machine) leaves the draft behind.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::{Builder, TempPath};

/// The drafts that there are. Whoever makes one, or gives it its name, holds the lock, so that a signal finds all of
/// them and no other file.
static DRAFTS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static HEEDED: AtomicBool = AtomicBool::new(false);

fn drafts() -> MutexGuard<'static, Vec<PathBuf>> {
    DRAFTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on a signal that ends the process removes its drafts, and too long a file is an error. For programs, not
/// for libraries: signals of the whole process are handled once there is a draft.
pub fn heed_signals() {
    HEEDED.store(true, Ordering::Relaxed);
}

/// A file under a name of its own; it is removed unless it gets another.
pub(super) struct Draft(Option<TempPath>);

impl Draft {
    /// A new one in a folder. Its name is short, whatever that of the file will be.
    pub fn new(folder: &Path) -> io::Result<(File, Draft)> {
        if HEEDED.load(Ordering::Relaxed) {
            signals::heed();
        }
        let mut builder = Builder::new();
        builder.prefix(".sterna-").suffix(".part");
        #[cfg(unix)]
        builder.permissions(<std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o666));
        let mut drafts = drafts();
        let (file, path) = builder.tempfile_in(folder)?.into_parts();
        drafts.push(path.to_path_buf());
        Ok((file, Draft(Some(path))))
    }

    /// Takes the name of the file.
    pub fn persist(mut self, path: &Path) -> io::Result<()> {
        let mut drafts = drafts();
        let Some(draft) = self.0.take() else { return Ok(()) };
        drafts.retain(|listed| **listed != *draft);
        draft.persist(path).map_err(|error| error.error)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(draft) = self.0.take() {
            let mut drafts = drafts();
            drafts.retain(|listed| **listed != *draft);
            drop(draft);
        }
    }
}

#[cfg(unix)]
mod signals {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::channel;
    use std::sync::{Arc, Once};

    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU, SIGXFSZ};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::{emulate_default_handler, exit};

    /// Signals that end a process which does not heed them.
    const ENDING: [i32; 5] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU];
    const STACK: usize = 256 << 10;

    pub fn heed() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // Handled, so that whoever writes more than the limit is told so.
            let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
            // Signals are registered by the thread that waits for them: where none can be had nothing changes.
            let (tell, told) = channel();
            let work = move || {
                let signals = Signals::new(ENDING.into_iter().filter(|&signal| !is_ignored(signal)));
                let _ = tell.send(());
                if let Some(signal) = signals.ok().and_then(|mut signals| signals.forever().next()) {
                    end(signal);
                }
            };
            if std::thread::Builder::new().name("signals".into()).stack_size(STACK).spawn(work).is_ok() {
                let _ = told.recv();
            }
        });
    }

    /// Removes the drafts and ends as if the signal had not been heeded.
    fn end(signal: i32) {
        let drafts = super::drafts();
        for draft in drafts.iter() {
            let _ = std::fs::remove_file(draft);
        }
        let _ = emulate_default_handler(signal);
        exit(128 + signal);
    }

    /// Whether the process was started with the signal ignored, as `nohup` does; it stays so. Where that cannot be
    /// known, `nohup` is assumed.
    fn is_ignored(signal: i32) -> bool {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        match mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) {
            Some(mask) => mask >> (signal - 1) & 1 == 1,
            None => signal == SIGHUP,
        }
    }
}

#[cfg(not(unix))]
mod signals {
    pub fn heed() {}
}
