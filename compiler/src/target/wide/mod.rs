//! Wide x86 forms of the row products: machine code that Cranelift, whose vectors have 128 bits, cannot emit.
//!
//! Each function computes what [`crate::kernel::ir::Op::DotRows`] or [`crate::kernel::ir::Op::FloatRows`] says for one
//! group of 16 rows, with the shape baked in. Integer sums are exact, and a register of 16 floats holds just the 16
//! partial sums that the float operation defines, so these give the same bits as every other form. They are assembled
//! here and placed in the Cranelift module as local functions of the System V convention:
//! `fn(weights: *const u8, activations: *const u8, totals: *mut u8)`, with 16 totals of four bytes per token.
//! They need AVX512F, AVX512BW, AVX512VL and AVX512-VNNI. Which form a processor gets is decided by `target::clif`, by
//! its features; nothing here looks at them.

mod codes;
mod floats;

use iced_x86::IcedError;
use iced_x86::code_asm::AsmRegisterZmm;
use iced_x86::code_asm::registers::zmm::*;

use crate::kernel::ir::{Packing, Rows};

const ZMM: [AsmRegisterZmm; 32] = [
    zmm0, zmm1, zmm2, zmm3, zmm4, zmm5, zmm6, zmm7, zmm8, zmm9, zmm10, zmm11, zmm12, zmm13, zmm14, zmm15, zmm16, zmm17,
    zmm18, zmm19, zmm20, zmm21, zmm22, zmm23, zmm24, zmm25, zmm26, zmm27, zmm28, zmm29, zmm30, zmm31,
];

/// Whether an assembled form of the products exists.
pub fn has_form(rows: Rows) -> bool {
    match rows {
        Rows::Dot(dot) => dot.packing != Packing::Bytes8 && dot.blocks > 0,
        Rows::Float(_) => true,
    }
}

/// The machine code of products that [`has_form`].
///
/// # Errors
/// The assembler refuses an instruction: a bug of this module.
pub fn assemble(rows: Rows) -> Result<Vec<u8>, IcedError> {
    match rows {
        Rows::Dot(dot) => codes::dot_rows(dot),
        Rows::Float(float) => floats::float_rows(float),
    }
}
