//! Bytes that stay where they are: a file mapped read-only, or page-aligned memory of our own.
//!
//! Checkpoints and packages are read through this and nothing else, so that a file is never held twice.
//! What the bytes mean is not known here.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Mmap, MmapOptions};

use crate::error::Result;
use crate::memory::Buffer;
use crate::system;

/// Read-only bytes whose first byte is page-aligned. They are shared by any number of threads.
#[derive(Debug)]
pub struct Mapping(Bytes);

#[derive(Debug)]
enum Bytes {
    File { map: Mmap, file: File },
    Memory(Buffer),
}

impl Mapping {
    /// Maps a whole file read-only. Pages are read from disk when they are first touched.
    ///
    /// # Errors
    /// Whatever opening or mapping the file gives; also a file longer than the address space.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        if !metadata.is_file() {
            return Err(invalid("not a regular file"));
        }
        let length = usize::try_from(metadata.len()).map_err(|_| invalid("longer than the address space"))?;
        // SAFETY: the mapping is private to this value and never written. The one hazard is another process
        // that truncates the file while it is mapped; like every loader that maps its files, we require that
        // a checkpoint or package is not changed while it is in use.
        let map = unsafe { MmapOptions::new().len(length).map(&file) }.map_err(system::named)?;
        Ok(Self(Bytes::File { map, file }))
    }

    /// The open file, if the bytes are one.
    pub(super) fn file(&self) -> Option<&File> {
        match &self.0 {
            Bytes::File { file, .. } => Some(file),
            Bytes::Memory(_) => None,
        }
    }

    /// A copy of `bytes` in memory.
    ///
    /// # Errors
    /// When the system has no memory left.
    pub fn copy_of(bytes: &[u8]) -> Result<Self> {
        let mut memory = Buffer::zeroed(bytes.len())?;
        memory.copy_from_slice(bytes);
        Ok(memory.into())
    }
}

impl From<Buffer> for Mapping {
    fn from(memory: Buffer) -> Self {
        Self(Bytes::Memory(memory))
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::File { map, .. } => map,
            Bytes::Memory(memory) => memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_its_bytes() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        assert_eq!(&Mapping::copy_of(&bytes).unwrap()[..], &bytes[..]);
        assert!(Mapping::copy_of(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_directory_is_not_mapped() {
        assert!(Mapping::of_file(&std::env::temp_dir()).is_err());
    }
}
