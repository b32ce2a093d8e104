//! Emitters: kernels to machine code.
pub mod clif;
pub mod wide;
