//! The packed layouts: how each weight lies in the weight section that kernels read. One definition, the same
//! on every target; the package names it and the lowering follows it.
//!
//! A weight is a matrix [`MatrixShape`]. It takes a multiple of 64 bytes in the section: its rows or codes first,
//! then, on the next multiple of 64, its scales.
//!
//! | layout | used for | rows |
//! | --- | --- | --- |
//! | [`Layout::Rows`] | f32, f16, bf16 | row-major, little-endian, each row zero-padded to 64 bytes |
//! | [`Layout::Columns`] | the same, 16 rows and more of at most 16 columns | column-major, each column zero-padded to 64 bytes, so that kernels keep 16 rows in their lanes |
//! | [`Layout::Blocks`] of [`Packing::Codes2`] | ternary | 2-bit codes plus one, four rows interleaved by 64-byte blocks |
//! | [`Layout::Blocks`] of [`Packing::Bits1`] | sign, int8 input | bits, interleaved likewise |
//! | [`Layout::SignRows`] | sign, float input | bits in natural order, each row zero-padded to 8 bytes |
//!
//! **Blocks.** Rows are padded to a multiple of 16, columns to a multiple of the weights in a 64-byte block (256 for
//! `Codes2`, 512 for `Bits1`). Four consecutive rows are a quad, interleaved by blocks: r0b0 r1b0 r2b0 r3b0 r0b1 ...
//! Byte j of block b holds in field f (lowest bits first) the weight `block_weights * b + 64 * f + j`. `Codes2` stores
//! code + 1, so a kernel subtracts the sum of the activations once. `Bits1` stores 1 for +1 and 0 for -1. Padding is 0
//! in both, so that activations behind the last column may hold anything.
//!
//! **Scales.** f32. `tensor`: one, zero-padded to 64 bytes. `row` and groups: rows padded to a multiple of 16, and for
//! each 16 rows one 64-byte vector of their scales per group, groups ascending: the scale of (row, group) is float
//! `(row / 16 * groups + group) * 16 + row % 16`. With one group per row that is simply one float per row. Scales of
//! padding rows are 0.

use std::ops::Range;

use super::value::{MatrixShape, WeightValue, group_of};
use crate::ir::{Elem, Encoding, Group, InputQuant, WeightDecl};
use crate::kernel::ir::Packing;

/// Every part of the section starts and ends on a multiple of this many bytes.
pub const ALIGNMENT: usize = 64;
/// Rows of codes and of scales are padded to a multiple of this many.
pub const ROW_GROUP: usize = 16;
/// What stands behind a file in one range of addresses starts on a multiple of this: no page is larger, and offsets do
/// not depend on the machine.
pub const FILE_BORDER: usize = 1 << 16;
pub(super) const QUAD: usize = 4;

/// How one weight lies in the weight section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Dense rows of `F32`, `F16` or `Bf16`.
    Rows {
        /// The element stored.
        element: Elem,
        /// The matrix.
        shape: MatrixShape,
    },
    /// Dense columns of `F32`, `F16` or `Bf16`, for a narrow matrix.
    Columns {
        /// The element stored.
        element: Elem,
        /// The matrix.
        shape: MatrixShape,
    },
    /// Interleaved blocks of codes, with scales.
    Blocks {
        /// What a block holds.
        packing: Packing,
        /// The matrix, without padding.
        shape: MatrixShape,
        /// Which weights share a scale.
        group: Group,
    },
    /// Sign bits, row by row: weight (row, column) is bit `column % 8` of byte `column / 8` of its row; with scales.
    SignRows {
        /// The matrix, without padding.
        shape: MatrixShape,
        /// Which weights share a scale.
        group: Group,
    },
}

impl Layout {
    /// The layout of a weight; it depends on nothing but its encoding and shape.
    #[must_use]
    pub fn of(encoding: &Encoding, shape: &[usize]) -> Self {
        let shape = MatrixShape::of(shape);
        match *encoding {
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => {
                let element = encoding.elem();
                if shape.rows >= ROW_GROUP && (1..=ROW_GROUP).contains(&shape.columns) {
                    Self::Columns { element, shape }
                } else {
                    Self::Rows { element, shape }
                }
            }
            Encoding::Ternary { group, .. } => Self::Blocks { packing: Packing::Codes2, shape, group },
            Encoding::Sign { group, input: InputQuant::None, .. } => Self::SignRows { shape, group },
            Encoding::Sign { group, input: InputQuant::Int8 { .. }, .. } => {
                Self::Blocks { packing: Packing::Bits1, shape, group }
            }
        }
    }

    /// The name in a package.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rows { .. } => "rows",
            Self::Columns { .. } => "columns",
            Self::Blocks { packing: Packing::Codes2, .. } => "codes2-blocks",
            Self::Blocks { packing: Packing::Bits1, .. } => "bits1-blocks",
            Self::Blocks { packing: Packing::Bytes8, .. } => "bytes8-blocks",
            Self::SignRows { .. } => "sign-rows",
        }
    }

    /// The matrix without padding.
    #[must_use]
    pub fn shape(self) -> MatrixShape {
        match self {
            Self::Rows { shape, .. }
            | Self::Columns { shape, .. }
            | Self::Blocks { shape, .. }
            | Self::SignRows { shape, .. } => shape,
        }
    }

    /// Bytes from one row to the next; for blocks, of the blocks of one row (which are not contiguous).
    #[must_use]
    pub fn row_bytes(self) -> usize {
        let columns = self.shape().columns;
        match self {
            Self::Rows { element, .. } => {
                (columns * element.bytes().expect("a dense element")).next_multiple_of(ALIGNMENT)
            }
            Self::Columns { element, .. } => element.bytes().expect("a dense element"),
            Self::Blocks { packing, .. } => packing.blocks(columns) * ALIGNMENT,
            Self::SignRows { .. } => columns.div_ceil(64) * 8,
        }
    }

    /// Bytes from one column to the next of dense elements.
    #[must_use]
    pub fn column_bytes(self) -> usize {
        match self {
            Self::Rows { element, .. } => element.bytes().expect("a dense element"),
            Self::Columns { element, shape } => {
                (shape.rows * element.bytes().expect("a dense element")).next_multiple_of(ALIGNMENT)
            }
            Self::Blocks { .. } | Self::SignRows { .. } => 0,
        }
    }

    /// Bytes of the rows or codes, without the scales: a multiple of 64.
    #[must_use]
    pub fn code_bytes(self) -> usize {
        let rows = self.shape().rows;
        match self {
            Self::Rows { .. } => rows * self.row_bytes(),
            Self::SignRows { .. } => (rows * self.row_bytes()).next_multiple_of(ALIGNMENT),
            Self::Columns { shape, .. } => shape.columns * self.column_bytes(),
            Self::Blocks { packing, .. } => packing.packed_bytes(rows, self.shape().columns),
        }
    }

    /// Byte range of the scales within the weight; empty for dense rows.
    #[must_use]
    pub fn scales(self) -> Range<usize> {
        let start = self.code_bytes();
        let length = match self {
            Self::Rows { .. } | Self::Columns { .. } => 0,
            Self::Blocks { shape, group, .. } | Self::SignRows { shape, group } => match group {
                Group::Tensor => ALIGNMENT,
                Group::Row | Group::Inputs(_) => shape.rows.next_multiple_of(ROW_GROUP) * shape.groups(group) * 4,
            },
        };
        start..start + length
    }

    /// Byte offset within the weight of the scale of weight (row, column).
    #[must_use]
    pub fn scale_offset(self, row: usize, column: usize) -> Option<usize> {
        let (shape, group) = match self {
            Self::Rows { .. } | Self::Columns { .. } => return None,
            Self::Blocks { shape, group, .. } | Self::SignRows { shape, group } => (shape, group),
        };
        let float = match group {
            Group::Tensor => 0,
            Group::Row => row,
            Group::Inputs(inputs) => {
                let place = row / ROW_GROUP * shape.groups(group) + column / inputs.max(1);
                place * ROW_GROUP + row % ROW_GROUP
            }
        };
        Some(self.scales().start + 4 * float)
    }

    /// Bytes of the whole weight, a multiple of 64.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.scales().end
    }

    /// Where the field of weight (row, column) lies: byte offset within the weight and bit within the byte. Defined
    /// for padding rows and columns of blocks, too.
    #[must_use]
    pub fn field(self, row: usize, column: usize) -> (usize, usize) {
        match self {
            Self::Rows { .. } | Self::Columns { .. } => (row * self.row_bytes() + column * self.column_bytes(), 0),
            Self::Blocks { packing, .. } => {
                let (block, within) = (column / packing.block_weights(), column % packing.block_weights());
                let quad = row / QUAD * QUAD * self.row_bytes();
                let byte = quad + (block * QUAD + row % QUAD) * ALIGNMENT + within % ALIGNMENT;
                (byte, within / ALIGNMENT * packing.field_bits())
            }
            Self::SignRows { .. } => (row * self.row_bytes() + column / 8, column % 8),
        }
    }
}

/// Where parts of a weight lie in a file that have there the very form of its layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InPlace {
    /// Byte offset of the rows or codes, a multiple of 64.
    pub codes: usize,
    /// Byte offset of the scales, where these have the form, too.
    pub scales: Option<usize>,
}

/// The weight section: where each weight of a module lies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Section {
    /// Byte offset of each weight's rows or codes, in the order of declaration; multiples of 64.
    pub offsets: Vec<usize>,
    /// Byte offset of each weight's scales, for weights that have some; multiples of 64.
    pub scales: Vec<usize>,
    /// Layout of each weight.
    pub layouts: Vec<Layout>,
    /// Bytes of the section, a multiple of 64.
    pub bytes: usize,
}

impl Section {
    /// The section of these weights, one after the other.
    #[must_use]
    pub fn of<'a>(weights: impl IntoIterator<Item = &'a WeightDecl>) -> Self {
        let mut section = Self::default();
        for weight in weights {
            let layout = Layout::of(&weight.encoding, &weight.shape);
            section.add(layout, None);
        }
        section
    }

    /// The section that starts with a file of so many bytes: what the file has in the form of its layout stays where it
    /// is, everything else follows, on a border of [`FILE_BORDER`].
    #[must_use]
    pub fn behind(file: usize, weights: &[WeightDecl], found: &[Option<InPlace>]) -> Self {
        let mut section = Self { bytes: file.next_multiple_of(FILE_BORDER), ..Self::default() };
        for (weight, found) in weights.iter().zip(found) {
            section.add(Layout::of(&weight.encoding, &weight.shape), *found);
        }
        section
    }

    fn add(&mut self, layout: Layout, found: Option<InPlace>) {
        let mut append = |bytes: usize| {
            let at = self.bytes;
            self.bytes += bytes;
            at
        };
        let codes = found.map_or_else(|| append(layout.code_bytes()), |found| found.codes);
        let scales = found.and_then(|found| found.scales).unwrap_or_else(|| append(layout.scales().len()));
        self.offsets.push(codes);
        self.scales.push(scales);
        self.layouts.push(layout);
    }

    /// The bytes of a weight's rows or codes in an image of the section, and those of its scales.
    ///
    /// # Panics
    /// When the image is shorter than the section.
    pub fn parts<'i>(&self, weight: usize, image: &'i mut [u8]) -> (&'i mut [u8], &'i mut [u8]) {
        let (layout, codes, scales) = (self.layouts[weight], self.offsets[weight], self.scales[weight]);
        let ranges = [codes..codes + layout.code_bytes(), scales..scales + layout.scales().len()];
        match image.get_disjoint_mut(ranges) {
            Ok([codes, scales]) => (codes, scales),
            Err(error) => panic!("a section whose parts overlap: {error}"),
        }
    }
}

/// Packs a weight into `out`, which has [`Layout::bytes`] bytes.
///
/// # Panics
/// When value, layout and buffer do not belong together.
pub fn pack(value: &WeightValue, layout: Layout, out: &mut [u8]) {
    assert_eq!(out.len(), layout.bytes(), "buffer of another size than the layout");
    let (codes, scales) = out.split_at_mut(layout.code_bytes());
    pack_parts(value, layout, codes, scales);
}

/// Packs a weight whose scales do not lie behind its rows or codes.
///
/// # Panics
/// When value, layout and buffers do not belong together.
pub fn pack_parts(value: &WeightValue, layout: Layout, out: &mut [u8], scales_out: &mut [u8]) {
    assert_eq!(out.len(), layout.code_bytes(), "buffer of another size than the layout");
    out.fill(0);
    let shape = layout.shape();
    match (layout, value) {
        (Layout::Rows { element, .. }, WeightValue::Dense(values)) => {
            assert_eq!(values.len(), shape.elements(), "values of another shape than the layout");
            pack_rows(values, element, layout, out);
        }
        (Layout::Columns { element, .. }, WeightValue::Dense(values)) => {
            assert_eq!(values.len(), shape.elements(), "values of another shape than the layout");
            for (at, &value) in values.iter().enumerate() {
                let (byte, _) = layout.field(at / shape.columns, at % shape.columns);
                pack_row(&[value], element, &mut out[byte..]);
            }
        }
        (Layout::Blocks { packing, group, .. }, WeightValue::Codes { codes, scales }) => {
            assert_eq!(codes.len(), shape.elements(), "codes of another shape than the layout");
            pack_blocks(codes, packing, layout, out);
            pack_scales(scales, group, layout, scales_out);
        }
        (Layout::SignRows { group, .. }, WeightValue::Codes { codes, scales }) => {
            assert_eq!(codes.len(), shape.elements(), "codes of another shape than the layout");
            let columns = shape.columns.max(1);
            for (row, codes) in codes.chunks_exact(columns).enumerate() {
                let bits = &mut out[row * layout.row_bytes()..];
                for (column, &code) in codes.iter().enumerate() {
                    bits[column / 8] |= u8::from(code > 0) << (column % 8);
                }
            }
            pack_scales(scales, group, layout, scales_out);
        }
        _ => panic!("a value of another encoding than the layout"),
    }
}

fn pack_rows(values: &[f32], element: Elem, layout: Layout, out: &mut [u8]) {
    let (columns, stride) = (layout.shape().columns.max(1), layout.row_bytes());
    for (row, values) in values.chunks_exact(columns).enumerate() {
        pack_row(values, element, &mut out[row * stride..(row + 1) * stride]);
    }
}

fn pack_row(values: &[f32], element: Elem, out: &mut [u8]) {
    match element {
        Elem::F32 => store(values, out, |value| value.to_le_bytes()),
        Elem::F16 => store(values, out, |value| half::f16::from_f32(value).to_le_bytes()),
        Elem::Bf16 => store(values, out, |value| half::bf16::from_f32(value).to_le_bytes()),
        other => unreachable!("{} in dense rows", other.name()),
    }
}

fn store<const N: usize>(values: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; N]) {
    for (slot, &value) in out.chunks_exact_mut(N).zip(values) {
        slot.copy_from_slice(&bytes(value));
    }
}

fn pack_blocks(codes: &[i8], packing: Packing, layout: Layout, out: &mut [u8]) {
    let shape = layout.shape();
    let stored = |code: i8| match packing {
        Packing::Codes2 => (code + 1) as u8,
        Packing::Bits1 => u8::from(code > 0),
        Packing::Bytes8 => code as u8,
    };
    let columns = shape.columns.max(1);
    for (row, codes) in codes.chunks_exact(columns).enumerate() {
        for (run, codes) in codes.chunks(ALIGNMENT).enumerate() {
            let (byte, shift) = layout.field(row, run * ALIGNMENT);
            let clear = !packing.field_mask(shift / packing.field_bits());
            for (slot, &code) in out[byte..byte + codes.len()].iter_mut().zip(codes) {
                *slot = *slot & clear | stored(code) << shift;
            }
        }
    }
}

/// Packs the scales of a weight alone.
///
/// # Panics
/// When scales, layout and buffer do not belong together.
pub fn pack_scales(scales: &[f32], group: Group, layout: Layout, out: &mut [u8]) {
    assert_eq!(out.len(), layout.scales().len(), "buffer of another size than the scales");
    out.fill(0);
    let shape = layout.shape();
    assert_eq!(scales.len(), shape.scales(group), "scales of another grouping than the layout");
    let inputs = match group {
        Group::Tensor | Group::Row => shape.columns,
        Group::Inputs(inputs) => inputs,
    };
    let groups = shape.groups(group).max(1);
    for (index, scale) in scales.iter().enumerate() {
        let (row, place) = (index / groups, index % groups);
        let at = layout.scale_offset(row, place * inputs).expect("a layout with scales") - layout.scales().start;
        out[at..at + 4].copy_from_slice(&scale.to_le_bytes());
    }
}

/// One row of a packed weight as codes (blocks, sign rows) or as f32 values (dense rows): what an embedding
/// lookup reads. `bytes` is the weight as [`pack`] made it.
#[must_use]
pub fn decode_row(bytes: &[u8], layout: Layout, row: usize) -> WeightValue {
    let columns = layout.shape().columns;
    let (group, code): (_, &dyn Fn(usize) -> i8) = match layout {
        Layout::Rows { element, .. } | Layout::Columns { element, .. } => {
            return WeightValue::Dense(
                (0..columns).map(|column| dense(bytes, element, layout.field(row, column).0)).collect(),
            );
        }
        Layout::Blocks { packing, group, .. } => (group, &move |column| {
            let (byte, shift) = layout.field(row, column);
            let field = bytes[byte] >> shift & packing.field_mask(0);
            match packing {
                Packing::Codes2 => field as i8 - 1,
                Packing::Bits1 => 2 * field as i8 - 1,
                Packing::Bytes8 => field as i8,
            }
        }),
        Layout::SignRows { group, .. } => (group, &move |column| {
            let (byte, shift) = layout.field(row, column);
            2 * (bytes[byte] >> shift & 1) as i8 - 1
        }),
    };
    let groups = layout.shape().groups(group);
    let inputs = match group {
        Group::Tensor | Group::Row => columns,
        Group::Inputs(inputs) => inputs,
    };
    let scale = |place: usize| {
        let at = layout.scale_offset(row, place * inputs).expect("a layout with scales");
        dense(bytes, Elem::F32, at)
    };
    WeightValue::Codes { codes: (0..columns).map(code).collect(), scales: (0..groups).map(scale).collect() }
}

fn dense(bytes: &[u8], element: Elem, at: usize) -> f32 {
    let pair = || [bytes[at], bytes[at + 1]];
    match element {
        Elem::F32 => f32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")),
        Elem::F16 => half::f16::from_le_bytes(pair()).to_f32(),
        Elem::Bf16 => half::bf16::from_le_bytes(pair()).to_f32(),
        other => unreachable!("{} in dense rows", other.name()),
    }
}

/// The inverse of [`pack`].
#[must_use]
pub fn unpack(bytes: &[u8], layout: Layout) -> WeightValue {
    let shape = layout.shape();
    let rows = (0..shape.rows).map(|row| decode_row(bytes, layout, row));
    if let Layout::Rows { .. } | Layout::Columns { .. } = layout {
        let mut all = Vec::with_capacity(shape.elements());
        for row in rows {
            if let WeightValue::Dense(values) = row {
                all.extend(values);
            }
        }
        return WeightValue::Dense(all);
    }
    let (mut all, mut all_scales) = (Vec::with_capacity(shape.elements()), Vec::new());
    for row in rows {
        if let WeightValue::Codes { codes, scales } = row {
            all.extend(codes);
            all_scales.extend(scales);
        }
    }
    if let Layout::Blocks { group: Group::Tensor, .. } | Layout::SignRows { group: Group::Tensor, .. } = layout {
        all_scales = vec![dense(bytes, Elem::F32, layout.scales().start)];
    }
    WeightValue::Codes { codes: all, scales: all_scales }
}

/// Whether a value has the numbers of codes and scales that a declaration needs.
#[must_use]
pub fn fits(value: &WeightValue, encoding: &Encoding, shape: &[usize]) -> bool {
    let matrix = MatrixShape::of(shape);
    match (value, group_of(encoding)) {
        (WeightValue::Dense(values), None) => values.len() == matrix.elements(),
        (WeightValue::Codes { codes, scales }, Some(group)) => {
            codes.len() == matrix.elements() && scales.len() == matrix.scales(group)
        }
        _ => false,
    }
}
