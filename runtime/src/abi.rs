//! The ABI between compiled entries and their host: one C struct and two function types.
//!
//! `spec/abi.md` is the normative text; the field order and sizes here are part of it. Everything is written
//! for C, so that an ahead-of-time host needs no Rust.

use std::ffi::c_void;

/// A kernel: runs the work units `begin .. end` on an argument table of 8-byte slots.
pub type KernelFn = unsafe extern "C" fn(args: *const u64, begin: i32, end: i32);

/// Calls `kernel(args, begin, end)` on disjoint ranges of a multiple of `grain` units (but for the last) that cover
/// `0 .. units`, on any threads in any order, and returns when all have finished.
pub type ParallelFor =
    unsafe extern "C" fn(pool: *mut c_void, kernel: KernelFn, args: *const u64, units: i32, grain: i32);

/// An entry of a compiled model: 0, or the code of what went wrong.
pub type EntryFn = unsafe extern "C" fn(context: *mut Context) -> i32;

/// Every buffer is 64-byte aligned and padded to a multiple of 64 bytes plus [`PADDING`], so that whole
/// vectors may be loaded anywhere in it.
pub const ALIGNMENT: usize = 64;
/// Readable bytes after the end of every buffer's own size rounded up to 64.
pub const PADDING: usize = 64;

/// Bytes from one row of an input or output to the next, for rows of so many bytes. A row's elements lie row-major
/// without gaps; positions, one i32 after the other, are the only port without room between rows.
pub const fn row_stride(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}

/// What an entry works on. All pointers outlive the call; writable buffers overlap nothing else.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The packed weights image; read only.
    pub weights: *const u8,
    /// The state block of the first row's stream.
    pub state: *mut u8,
    /// 0: the rows are successive steps of one stream. Else the bytes between the state blocks of the rows,
    /// each of which is then one step of its own stream.
    pub state_stride: u64,
    /// The scratch arena, for this call alone; its content is unspecified before and after.
    pub scratch: *mut u8,
    /// One buffer per input of the entry, `rows` rows each.
    pub inputs: *const *const u8,
    /// One buffer per output of the entry, `rows` rows each.
    pub outputs: *const *mut u8,
    /// The time index of each row within its stream.
    pub position: *const i32,
    /// Rows of this call: 1 to the program's `max_rows`.
    pub rows: u64,
    /// Splits work over threads; when absent the entry runs on the calling thread alone.
    pub parallel_for: Option<ParallelFor>,
    /// Handed to `parallel_for`.
    pub pool: *mut c_void,
}

/// Byte offsets of the fields of [`Context`], for code generators.
pub mod offsets {
    use super::Context;
    use std::mem::offset_of;

    /// Offset of `weights`.
    pub const WEIGHTS: i32 = offset_of!(Context, weights) as i32;
    /// Offset of `state`.
    pub const STATE: i32 = offset_of!(Context, state) as i32;
    /// Offset of `state_stride`.
    pub const STATE_STRIDE: i32 = offset_of!(Context, state_stride) as i32;
    /// Offset of `scratch`.
    pub const SCRATCH: i32 = offset_of!(Context, scratch) as i32;
    /// Offset of `inputs`.
    pub const INPUTS: i32 = offset_of!(Context, inputs) as i32;
    /// Offset of `outputs`.
    pub const OUTPUTS: i32 = offset_of!(Context, outputs) as i32;
    /// Offset of `position`.
    pub const POSITION: i32 = offset_of!(Context, position) as i32;
    /// Offset of `rows`.
    pub const ROWS: i32 = offset_of!(Context, rows) as i32;
    /// Offset of `parallel_for`.
    pub const PARALLEL_FOR: i32 = offset_of!(Context, parallel_for) as i32;
    /// Offset of `pool`.
    pub const POOL: i32 = offset_of!(Context, pool) as i32;
}
