//! What this process may use: addresses, memory, threads. Where something cannot be had the limit is named as what it
//! is, and memory that will be filled is asked for only where the control group of the process has it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Most threads of a pool. Sharing a step between more gains nothing on any machine, and each takes a stack.
pub const MAX_THREADS: usize = 1024;

/// Bytes of addresses that this process may have, if they are limited.
pub fn address_space() -> Option<u64> {
    #[cfg(unix)]
    return rustix::process::getrlimit(rustix::process::Resource::As).current;
    #[cfg(not(unix))]
    return None;
}

/// Words for an error about memory that the system did not give: the limits that there are; empty without any.
pub fn words() -> String {
    let mut text = String::new();
    let mebibytes = |bytes: u64| bytes >> 20;
    if let Some(bytes) = address_space() {
        let _ = write!(text, "; the address space of this process is limited to {} MiB (ulimit -v)", mebibytes(bytes));
    }
    if let Some(memory) = group_memory() {
        let _ = write!(text, "; its control group is limited to {} MiB of memory", mebibytes(memory.limit));
    }
    text
}

/// An error of the system with the limits that may be its cause, if it is about memory.
pub fn named(error: std::io::Error) -> std::io::Error {
    match (error.kind(), words()) {
        (std::io::ErrorKind::OutOfMemory, words) if !words.is_empty() => {
            std::io::Error::new(error.kind(), format!("{error}{words}"))
        }
        _ => error,
    }
}

/// Memory of a control group, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMemory {
    /// What all its processes together may have.
    pub limit: u64,
    /// What they hold and no file could give back.
    pub used: u64,
}

/// The narrowest limit of the control groups that this process is in, of either version; none if nothing limits it.
pub fn group_memory() -> Option<GroupMemory> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    narrowest(Path::new("/sys/fs/cgroup"), &groups)
}

/// The same for any mount and any content of `/proc/self/cgroup`: lines of `id:controllers:path`, where version 2 has
/// no controllers and version 1 a mount for each. A container may see the mount of its own group only, as the root.
fn narrowest(mount: &Path, groups: &str) -> Option<GroupMemory> {
    let found = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let (roots, limit, used): (Vec<PathBuf>, _, _) = match controllers {
            "" => (vec![mount.to_owned(), mount.join("unified")], "memory.max", "anon"),
            names if names.split(',').any(|name| name == "memory") => {
                (vec![mount.join("memory"), mount.join(names)], "memory.limit_in_bytes", "total_rss")
            }
            _ => return None,
        };
        let groups = roots.iter().flat_map(|root| {
            let inner = root.join(path);
            let above: Vec<PathBuf> =
                inner.ancestors().take_while(|g| g.starts_with(root)).map(Path::to_owned).collect();
            above
        });
        groups.filter_map(|group| memory_of(&group, limit, used)).min_by_key(|memory| memory.limit)
    });
    found.min_by_key(|memory| memory.limit)
}

fn memory_of(group: &Path, limit: &str, used: &str) -> Option<GroupMemory> {
    // Version 1 writes the largest number of pages where there is no limit, version 2 `max`.
    let limit: u64 = std::fs::read_to_string(group.join(limit)).ok()?.trim().parse().ok()?;
    let statistics = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let line = statistics.lines().find_map(|line| line.strip_prefix(used)?.strip_prefix(' '));
    let used = line.and_then(|value| value.trim().parse().ok()).unwrap_or(0);
    (limit < 1 << 60).then_some(GroupMemory { limit, used })
}

/// Whether memory that will be filled can be had: beyond the limit of a control group the system gives it, and ends the
/// process when it is used.
///
/// # Errors
/// The control group has less.
pub fn room_for(bytes: usize) -> Result<()> {
    match group_memory() {
        Some(memory) if bytes as u64 > memory.limit.saturating_sub(memory.used) => {
            let source = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
            Err(Error::Memory { bytes, source })
        }
        _ => Ok(()),
    }
}

/// The allocator of a command: the system's, but where it gives nothing the process ends with a sentence and code 1,
/// instead of a signal.
pub struct Allocator;

impl Allocator {
    fn given(pointer: *mut u8, bytes: usize) -> *mut u8 {
        if pointer.is_null() {
            Self::refused(bytes);
        }
        pointer
    }

    #[cold]
    fn refused(bytes: usize) -> ! {
        // Nothing may be allocated from here on.
        let mut text = Text { bytes: [0; 256], length: 0 };
        let _ = write!(text, "error: the system gives no memory for {bytes} bytes");
        if let Some(limit) = address_space() {
            let _ = write!(text, "; the address space of this process is limited to {} MiB (ulimit -v)", limit >> 20);
        }
        let _ = text.write_str("\n");
        #[cfg(unix)]
        {
            // Nobody is left to whom a failure to write could be told.
            let _ = rustix::io::write(rustix::stdio::stderr(), &text.bytes[..text.length]);
            // SAFETY: ends the process at once, without anything that would need memory.
            unsafe { libc::_exit(1) }
        }
        #[cfg(not(unix))]
        std::process::abort()
    }
}

/// Text in a place of its own.
struct Text {
    bytes: [u8; 256],
    length: usize,
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = &mut self.bytes[self.length..];
        let taken = text.len().min(room.len());
        room[..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.length += taken;
        Ok(())
    }
}

// SAFETY: everything is the system allocator's own, which keeps the contract; a null pointer is never given.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is the one of the system allocator.
        Self::given(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        Self::given(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        Self::given(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mount with these files.
    fn mount(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("sterna-limits-{}-{name}", std::process::id()));
        for (file, content) in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    fn memory(limit: u64, used: u64) -> Option<GroupMemory> {
        Some(GroupMemory { limit, used })
    }

    #[test]
    fn control_groups_of_both_versions_limit_memory() {
        let second = mount(
            "second",
            &[
                ("a/memory.max", "3000000\n"),
                ("a/memory.stat", "anon 1000\nfile 77\n"),
                ("a/b/memory.max", "max\n"),
                ("c/memory.max", "max\n"),
            ],
        );
        // The group above counts too.
        assert_eq!(narrowest(&second, "0::/a/b\n"), memory(3_000_000, 1000));
        assert_eq!(narrowest(&second, "0::/c\n"), None);
        assert_eq!(narrowest(&second, "0::/missing\n"), None);
        let first = mount(
            "first",
            &[
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory/box/memory.limit_in_bytes", "5000000\n"),
                ("memory/box/memory.stat", "rss 1\ntotal_rss 4096\n"),
                ("unified/box/memory.max", "4000000\n"),
            ],
        );
        assert_eq!(narrowest(&first, "4:memory:/box\n1:cpu:/\n"), memory(5_000_000, 4096));
        assert_eq!(narrowest(&first, "4:memory:/\n"), None);
        assert_eq!(narrowest(&first, "4:memory:/box\n0::/box\n"), memory(4_000_000, 0));
        // A container whose mount begins at its own group.
        let own = mount("own", &[("memory/memory.limit_in_bytes", "6000000\n")]);
        assert_eq!(narrowest(&own, "4:memory:/outside/name\n"), memory(6_000_000, 0));
        assert_eq!(narrowest(&own, "rubbish\n4\n4:memory\n"), None);
        [second, first, own].iter().for_each(|root| std::fs::remove_dir_all(root).unwrap());
    }

    #[test]
    fn errors_about_memory_name_limits() {
        let kind = std::io::ErrorKind::NotFound;
        assert_eq!(named(std::io::Error::from(kind)).to_string(), std::io::Error::from(kind).to_string());
        assert!(room_for(0).is_ok());
    }
}
