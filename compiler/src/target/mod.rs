//! Emitters: kernels to machine code.
pub mod clif;
