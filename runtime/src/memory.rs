//! Memory for states, scratch and ports: zeroed, page-aligned, and touched by the system only where it is used.

use memmap2::MmapMut;

use crate::error::{Error, Result};

/// Bytes after the end of every buffer that may be read: one vector.
const PAD: usize = 64;

/// A zeroed buffer whose start is aligned to a page, followed by readable padding.
#[derive(Debug)]
pub struct Buffer {
    map: MmapMut,
    bytes: usize,
}

impl Buffer {
    /// A buffer of so many bytes, all zero.
    pub fn zeroed(bytes: usize) -> Result<Buffer> {
        let map = bytes
            .checked_add(PAD)
            .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::OutOfMemory))
            .and_then(MmapMut::map_anon)
            .map_err(|source| Error::Memory { bytes, source })?;
        Ok(Buffer { map, bytes })
    }

    /// Asks the system for huge pages; it may decline.
    pub fn advise_huge(&self) {
        #[cfg(target_os = "linux")]
        let _ = self.map.advise(memmap2::Advice::HugePage);
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[..self.bytes]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zero() {
        let buffer = Buffer::zeroed(100).unwrap();
        assert_eq!(buffer.len(), 100);
        assert_eq!(buffer.as_ptr() as usize % 64, 0);
        assert!(buffer.iter().all(|&b| b == 0));
    }
}
