//! Bytes that stay where they are: a file mapped read-only, or page-aligned memory of our own.
//!
//! Checkpoints and packages are read through this and nothing else, so that a file is never held twice.
//! What the bytes mean is not known here.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};

use super::shrunken::Watched;
use crate::error::Result;
use crate::memory::Buffer;
use crate::system;

/// Read-only bytes whose first byte is page-aligned. They are shared by any number of threads.
#[derive(Debug)]
pub struct Mapping(Bytes);

#[derive(Debug)]
enum Bytes {
    File { map: Mmap, file: File, path: PathBuf, _watched: Watched },
    Memory(Buffer),
}

impl Mapping {
    /// Maps a whole file read-only. Pages are read from disk when they are first touched.
    ///
    /// # Errors
    /// Whatever opening or mapping the file gives; also a file longer than the address space.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidInput, what);
        // Asked before it is opened, too: opening a pipe waits for somebody to write.
        if !std::fs::metadata(path)?.is_file() {
            return Err(invalid("not a regular file"));
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(invalid("not a regular file"));
        }
        let length = usize::try_from(metadata.len()).map_err(|_| invalid("longer than the address space"))?;
        // SAFETY: the mapping is private to this value and never written. The one hazard is another process
        // that truncates or rewrites the file while it is mapped; like every loader that maps its files, we require
        // that a checkpoint or package is not changed while it is in use. Pages that are gone end the process
        // (`shrunken`).
        let map = unsafe { MmapOptions::new().len(length).map(&file) }.map_err(system::named)?;
        let range = map.as_ptr().addr()..map.as_ptr().addr() + map.len();
        Ok(Self(Bytes::File { _watched: Watched::new(range, path), map, file, path: path.to_owned() }))
    }

    /// The open file with its name, if the bytes are one.
    pub(super) fn file(&self) -> Option<(&File, &Path)> {
        match &self.0 {
            Bytes::File { file, path, .. } => Some((file, path)),
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
