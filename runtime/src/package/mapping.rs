//! Bytes that stay where they are: a file mapped read-only, or page-aligned memory of our own.
//!
//! Checkpoints and packages are read through this and nothing else, so that a file is never held twice.
//! What the bytes mean is not known here.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Mmap, MmapMut, MmapOptions};

/// Read-only bytes whose first byte is page-aligned. They are shared by any number of threads.
#[derive(Debug)]
pub struct Mapping {
    map: Mmap,
    length: usize,
}

impl Mapping {
    /// Maps a whole file read-only. Pages are read from disk when they are first touched.
    ///
    /// # Errors
    /// Whatever opening or mapping the file gives; also a file longer than the address space.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a regular file",
            ));
        }
        let length = usize::try_from(metadata.len()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "longer than the address space")
        })?;
        // SAFETY: the mapping is private to this value and never written. The one hazard is another process
        // that truncates the file while it is mapped; like every loader that maps its files, we require that
        // a checkpoint or package is not changed while it is in use.
        let map = unsafe { MmapOptions::new().len(length).map(&file)? };
        Ok(Self { map, length })
    }

    /// Page-aligned memory with a copy of `bytes`.
    ///
    /// # Errors
    /// When the system has no memory left.
    pub fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let mut memory = MappingMut::zeroed(bytes.len())?;
        memory.as_mut().copy_from_slice(bytes);
        memory.freeze()
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[..self.length]
    }
}

/// Page-aligned memory being filled; [`MappingMut::freeze`] turns it into a [`Mapping`].
#[derive(Debug)]
pub struct MappingMut {
    map: MmapMut,
    length: usize,
}

impl MappingMut {
    /// `length` zero bytes, backed by memory only as they are touched.
    ///
    /// # Errors
    /// When the system has no address space left.
    pub fn zeroed(length: usize) -> io::Result<Self> {
        Ok(Self {
            map: MmapMut::map_anon(length.max(1))?,
            length,
        })
    }

    /// As [`MappingMut::zeroed`], asking the system for huge pages. `false` says that it did not grant them;
    /// the memory is usable either way.
    ///
    /// # Errors
    /// When the system has no address space left.
    pub fn zeroed_huge(length: usize) -> io::Result<(Self, bool)> {
        let memory = Self::zeroed(length)?;
        #[cfg(target_os = "linux")]
        let granted = memory.map.advise(memmap2::Advice::HugePage).is_ok();
        #[cfg(not(target_os = "linux"))]
        let granted = false;
        Ok((memory, granted))
    }

    /// Ends the writing.
    ///
    /// # Errors
    /// When the system refuses to make the pages read-only.
    pub fn freeze(self) -> io::Result<Mapping> {
        Ok(Mapping {
            map: self.map.make_read_only()?,
            length: self.length,
        })
    }
}

impl AsMut<[u8]> for MappingMut {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_its_bytes_and_is_page_aligned() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let copy = Mapping::copy_of(&bytes).unwrap();
        assert_eq!(&copy[..], &bytes[..]);
        assert_eq!(copy.as_ptr() as usize % 4096, 0);
    }

    #[test]
    fn no_bytes_are_legal() {
        assert!(Mapping::copy_of(&[]).unwrap().is_empty());
    }

    #[test]
    fn huge_memory_can_be_written_and_read() {
        let (mut memory, _) = MappingMut::zeroed_huge(3 << 20).unwrap();
        memory.as_mut()[2 << 20] = 7;
        assert_eq!(memory.freeze().unwrap()[2 << 20], 7);
    }
}
