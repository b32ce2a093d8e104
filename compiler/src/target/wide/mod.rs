//! Wide x86 forms of the integer dot products: machine code that Cranelift, whose vectors have 128 bits, cannot emit.
//!
//! Each function computes what [`crate::kernel::ir::Op::DotRows`] says for one group of 16 rows, with the shape baked
//! in. Integer sums are exact, so these give the same bits as every other form. They are assembled here and placed in
//! the Cranelift module as local functions of the System V convention:
//! `fn(weights: *const u8, activations: *const i8, totals: *mut i32)`, with 16 totals per token.
//! Which form a processor gets is decided by `target::clif`, by its features; nothing here looks at them.

mod codes2;

pub use codes2::dot_rows_codes2;
