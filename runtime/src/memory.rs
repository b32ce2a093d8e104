//! Memory for states, scratch and ports: zeroed, page-aligned, and touched by the system only where it is used.

use memmap2::MmapMut;

use crate::abi::PADDING;
use crate::error::{Error, Result};
use crate::guard;

/// A zeroed buffer whose start is aligned to 64 bytes, followed by readable padding.
#[derive(Debug)]
pub struct Buffer {
    map: MmapMut,
    /// Where in the map it starts: at a page, unless it is guarded.
    start: usize,
    bytes: usize,
}

impl Buffer {
    /// A buffer of so many bytes, all zero.
    pub fn zeroed(bytes: usize) -> Result<Buffer> {
        let plain = || {
            let all = bytes.checked_add(PADDING).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::OutOfMemory));
            all.and_then(MmapMut::map_anon).map(|map| (map, 0))
        };
        let mapped = if guard::is_on() { guard::map(bytes) } else { plain() };
        let (map, start) = mapped.map_err(|source| Error::Memory { bytes, source })?;
        Ok(Buffer { map, start, bytes })
    }

    /// A buffer with the same bytes.
    pub fn copy_of(bytes: &[u8]) -> Result<Buffer> {
        let mut copy = Buffer::zeroed(bytes.len())?;
        copy.copy_from_slice(bytes);
        Ok(copy)
    }

    /// Asks the system for huge pages; it may decline.
    pub fn advise_huge(&self) {
        #[cfg(target_os = "linux")]
        let _ = self.map.advise(memmap2::Advice::HugePage);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if guard::is_on() {
            guard::check(&self.map, self.start, self.bytes);
        }
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[self.start..][..self.bytes]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.start..][..self.bytes]
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
