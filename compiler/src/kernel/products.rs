//! The products of 16 rows at once, [`Op::DotRows`] and [`Op::FloatRows`]: their attributes and the packing of codes.
//!
//! These two operations are what a target may compute in the widest form that it has; everything else in a kernel is
//! a vector at a time.
//!
//! [`Op::DotRows`]: super::ir::Op::DotRows
//! [`Op::FloatRows`]: super::ir::Op::FloatRows

use super::ir::{LANES, Mem};

/// How weights are packed for [`DotRows`]. In every form rows are padded to groups of 16; a group is four
/// quads; a quad is four rows interleaved by 64-byte blocks (r0b0 r1b0 r2b0 r3b0 r0b1 ...).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// 2-bit codes in {0, 1, 2} (the weight plus one): byte j of block b holds in bits 2f..2f+2 the code of
    /// weight 256*b + 64*f + j.
    Codes2,
    /// Single bits: byte j of block b holds in bit f the bit of weight 512*b + 64*f + j.
    Bits1,
    /// Signed bytes: byte j of block b is weight 64*b + j. Never -128.
    Bytes8,
}

impl Packing {
    /// Weights of one row in one 64-byte block.
    pub fn block_weights(self) -> usize {
        self.fields() * 64
    }

    /// Fields of a byte.
    pub fn fields(self) -> usize {
        match self {
            Packing::Codes2 => 4,
            Packing::Bits1 => 8,
            Packing::Bytes8 => 1,
        }
    }

    /// Bits of one field.
    pub fn field_bits(self) -> usize {
        8 / self.fields()
    }

    /// Blocks of a row of `k` weights.
    pub fn blocks(self, k: usize) -> usize {
        k.div_ceil(self.block_weights())
    }

    /// Bytes of the packed matrix of `rows` rows (padded to 16) of `k` weights.
    pub fn packed_bytes(self, rows: usize, k: usize) -> usize {
        rows.div_ceil(LANES) * LANES * self.blocks(k) * 64
    }

    /// The mask that isolates a field of a byte.
    pub fn field_mask(self, field: usize) -> u8 {
        let low = ((1u16 << self.field_bits()) - 1) as u8;
        low << (field * self.field_bits())
    }
}

/// Exact dot products of packed codes with int8 vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DotRows {
    /// The layout of the weights.
    pub packing: Packing,
    /// 64-byte blocks of each row, first to last of the dot product.
    pub blocks: u32,
    /// Activation vectors, 1 to [`MAX_TOKENS`].
    pub tokens: u32,
    /// Bytes from one activation vector to the next; a multiple of 64.
    pub stride: u32,
}

/// The most activation vectors of one product.
pub const MAX_TOKENS: u32 = 4;

/// What a row of [`FloatRows`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowElement {
    /// Bits, lowest first: +1 where set, else -1. Readable to a multiple of 16 columns.
    Sign,
    /// f32.
    F32,
    /// Half floats.
    F16,
    /// bfloat16.
    Bf16,
}

impl RowElement {
    /// Bytes from 16 columns to the next 16.
    pub fn strip_bytes(self) -> usize {
        match self {
            RowElement::Sign => LANES / 8,
            RowElement::F32 => 4 * LANES,
            RowElement::F16 | RowElement::Bf16 => 2 * LANES,
        }
    }

    /// The form of a load of 16 columns; none for bits.
    pub fn mem(self) -> Option<Mem> {
        match self {
            RowElement::Sign => None,
            RowElement::F32 => Some(Mem::F32x16),
            RowElement::F16 => Some(Mem::F16x16),
            RowElement::Bf16 => Some(Mem::Bf16x16),
        }
    }
}

/// Products of 16 rows with f32 vectors. Each is the lane sum (spec/numerics.md, section 2): column i is multiplied and
/// added to partial i mod 16, ascending; then the partials are folded. Of bits: twice the lane sum of the columns with
/// +1, less that of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FloatRows {
    /// What a row holds.
    pub element: RowElement,
    /// Columns of each row.
    pub columns: u32,
    /// Bytes from one row to the next.
    pub row_stride: u32,
    /// Activation vectors, 1 to [`MAX_TOKENS`].
    pub tokens: u32,
    /// Bytes from one activation vector to the next; a multiple of 4.
    pub stride: u32,
}

impl FloatRows {
    /// Whole strips of 16 columns.
    pub fn strips(&self) -> u32 {
        self.columns / LANES as u32
    }

    /// Columns behind the last whole strip.
    pub fn tail(&self) -> u32 {
        self.columns % LANES as u32
    }

    /// Bytes of one row that are read at least: those of its columns.
    pub fn row_bytes(&self) -> usize {
        match self.element {
            RowElement::Sign => self.columns.div_ceil(LANES as u32) as usize * 2,
            element => self.columns as usize * element.strip_bytes() / LANES,
        }
    }
}

/// A product of 16 rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// Of codes with int8 vectors.
    Dot(DotRows),
    /// Of bits or floats with f32 vectors.
    Float(FloatRows),
}
