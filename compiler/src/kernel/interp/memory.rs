//! The interpreter's bounds-checked memory: a pointer is a region and an offset, never an address.

use thiserror::Error;

use super::race::Watch;

/// Why an interpreted kernel stopped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Trap {
    /// An access left its buffer.
    #[error("access of {bytes} bytes at offset {offset} leaves region {region} of {size} bytes")]
    OutOfBounds {
        /// The region.
        region: usize,
        /// Offset of the access.
        offset: i64,
        /// Bytes accessed.
        bytes: usize,
        /// Bytes of the region.
        size: usize,
    },
    /// A store into read-only memory.
    #[error("store into read-only region {0}")]
    ReadOnly(usize),
    /// A 64-byte access that is not 64-byte aligned.
    #[error("access at offset {1} of region {0} is not aligned")]
    Misaligned(usize, i64),
    /// A dot accumulator overflowed, so its total would depend on the target.
    #[error("a dot product overflows 32 bits")]
    DotOverflow,
    /// The kernel does not verify or its arguments do not fit.
    #[error("{0}")]
    Invalid(String),
}

/// One buffer.
#[derive(Debug)]
pub enum Region<'a> {
    /// Shared bytes.
    Ro(&'a [u8]),
    /// Bytes that kernels may write.
    Rw(&'a mut [u8]),
    /// Bytes of the interpreter's own: stack buffers.
    Own(Vec<u8>),
}

impl Region<'_> {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Region::Ro(bytes) => bytes,
            Region::Rw(bytes) => bytes,
            Region::Own(bytes) => bytes,
        }
    }
}

/// A pointer of the interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Which region.
    pub region: usize,
    /// Bytes from its start; may lie outside until it is used.
    pub offset: i64,
}

/// All buffers that a kernel can reach.
#[derive(Debug, Default)]
pub struct Memory<'a> {
    /// The buffers.
    pub regions: Vec<Region<'a>>,
    /// Notes accesses where present.
    pub watch: Option<Watch>,
}

impl Memory<'_> {
    fn range(&self, pointer: Pointer, offset: i32, bytes: usize) -> Result<std::ops::Range<usize>, Trap> {
        let size = self.regions[pointer.region].bytes().len();
        let offset = pointer.offset.wrapping_add(i64::from(offset));
        let outside = Trap::OutOfBounds { region: pointer.region, offset, bytes, size };
        let start = usize::try_from(offset).map_err(|_| outside.clone())?;
        match start.checked_add(bytes) {
            Some(end) if end <= size => Ok(start..end),
            _ => Err(outside),
        }
    }

    /// The bytes of a load.
    pub fn read(&self, pointer: Pointer, offset: i32, bytes: usize) -> Result<&[u8], Trap> {
        let range = self.range(pointer, offset, bytes)?;
        Ok(&self.regions[pointer.region].bytes()[range])
    }

    /// The bytes of a store.
    pub fn write(&mut self, pointer: Pointer, offset: i32, bytes: usize) -> Result<&mut [u8], Trap> {
        let range = self.range(pointer, offset, bytes)?;
        match &mut self.regions[pointer.region] {
            Region::Ro(_) => Err(Trap::ReadOnly(pointer.region)),
            Region::Rw(all) => Ok(&mut all[range]),
            Region::Own(all) => Ok(&mut all[range]),
        }
    }
}
