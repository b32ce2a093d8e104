//! A file with memory behind it in one range of addresses: weights that kernels read right from the file's pages, and
//! behind them what had to be made of the rest.
//!
//! What the bytes mean is not known here. Where the system cannot put a file into a range that is already reserved, the
//! file is copied instead; nothing else changes.

use std::fs::File;

use memmap2::MmapMut;

use super::Mapping;
use super::shrunken::Watched;
use crate::error::{Error, Result};
use crate::native::Weights;

/// Readable bytes after the end: one vector.
const PAD: usize = 64;

/// A file's bytes, zeros to the border that was asked for, and writable memory behind it.
#[derive(Debug)]
pub struct Extended {
    /// The whole range. Its pages below `border` may be those of a file, which must not be written.
    map: MmapMut,
    file_bytes: usize,
    border: usize,
    bytes: usize,
    mapped: bool,
    watched: Option<Watched>,
}

impl Extended {
    /// A file with `behind` zero bytes from `border` on, which is no less than its length rounded up to a page.
    ///
    /// # Errors
    /// The system has no memory or no addresses left.
    pub fn new(file: &Mapping, border: usize, behind: usize) -> Result<Extended> {
        let none = || std::io::Error::from(std::io::ErrorKind::OutOfMemory);
        let bytes = border.checked_add(behind).filter(|_| file.len() <= border).unwrap_or(usize::MAX);
        let map = bytes.checked_add(PAD).ok_or_else(none).and_then(MmapMut::map_anon);
        let map = map.map_err(|source| Error::Memory { bytes, source })?;
        let mut all = Extended { map, file_bytes: file.len(), border, bytes, mapped: false, watched: None };
        if let Some((open, path)) = file.file() {
            all.mapped = all.put(open);
            let start = all.map.as_ptr().addr();
            all.watched = all.mapped.then(|| Watched::new(start..start + all.file_bytes, path));
        }
        if !all.mapped {
            all.map[..file.len()].copy_from_slice(file);
        }
        Ok(all)
    }

    /// Puts the file's pages in front; says whether the system could.
    #[cfg(unix)]
    fn put(&mut self, file: &File) -> bool {
        use std::os::fd::AsRawFd;
        // The last page of the file must not reach into what is written later.
        // SAFETY: a question without memory.
        let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(usize::MAX);
        let fits = self.file_bytes.checked_next_multiple_of(page).is_some_and(|end| end <= self.border);
        if self.file_bytes == 0 || !fits {
            return false;
        }
        let start = self.map.as_mut_ptr();
        let (reading, flags) = (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_FIXED);
        // SAFETY: the range from `start` on is this value's own, at least so long, and nobody has a reference into it;
        // what stood there were zeros that nobody has read. The pages go with the whole range when `map` is dropped.
        // As with every mapped file, we require that it is not truncated while it is in use.
        let placed = unsafe { libc::mmap(start.cast(), self.file_bytes, reading, flags, file.as_raw_fd(), 0) };
        placed == start.cast()
    }

    #[cfg(not(unix))]
    fn put(&mut self, _: &File) -> bool {
        false
    }

    /// The memory behind the border.
    pub fn behind_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.border..self.bytes]
    }

    /// Asks the system for huge pages for the memory behind the border; it may decline.
    pub fn advise_huge(&self) {
        #[cfg(target_os = "linux")]
        let _ = self.map.advise_range(memmap2::Advice::HugePage, self.border, self.bytes - self.border);
    }
}

impl std::ops::Deref for Extended {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[..self.bytes]
    }
}

// SAFETY: the range stays where it is when the value moves; it starts on a page and is padded.
unsafe impl Weights for Extended {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn mapped(&self) -> usize {
        if self.mapped { self.file_bytes } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &Mapping, expected: &[u8]) -> Extended {
        let mut all = Extended::new(file, 1 << 16, 100).unwrap();
        assert_eq!(all.as_ptr() as usize % 64, 0);
        assert_eq!(&all[..expected.len()], expected);
        assert!(all[expected.len()..].iter().all(|&byte| byte == 0));
        assert_eq!(all.len(), (1 << 16) + 100);
        all.behind_mut().fill(7);
        assert_eq!(&all[..expected.len()], expected);
        assert!(all[1 << 16..].iter().all(|&byte| byte == 7));
        all
    }

    #[test]
    fn files_and_copies_read_alike() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let path = std::env::temp_dir().join(format!("sterna-extended-{}", std::process::id()));
        std::fs::write(&path, &bytes).unwrap();
        let mapped = check(&Mapping::of_file(&path).unwrap(), &bytes);
        assert_eq!(mapped.mapped(), if cfg!(unix) { 5000 } else { 0 });
        assert_eq!(check(&Mapping::copy_of(&bytes).unwrap(), &bytes).mapped(), 0);
        assert_eq!(check(&Mapping::copy_of(&[]).unwrap(), &[]).mapped(), 0);
        // What is written behind a file never reaches it.
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_border_within_the_file_is_refused() {
        let file = Mapping::copy_of(&[1; 100]).unwrap();
        assert!(matches!(Extended::new(&file, 64, 0), Err(Error::Memory { .. })));
    }
}
