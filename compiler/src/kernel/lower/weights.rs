//! Where weights and constants lie in the image that kernels read.
//!
//! The weights come first, as [`crate::weights::layout`] defines; the constants of the graphs that are not one
//! repeated number follow.

use rustc_hash::FxHashMap;

use super::NotCompiled;
use super::emit::Emit;
use super::eval::uniform;
use super::index::Ix;
use crate::ir::types::LiteralKey;
use crate::ir::{Elem, Group, Literal, Module, Op, Region, WeightId};
use crate::kernel::build::Builder;
use crate::kernel::ir::{LANES, Mem, Packing, Shift, Value};
use crate::kernel::program::Extent;
use crate::weights::layout::{Layout, Section};

/// The image of weights and constants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightLayout {
    /// The weights, in order of declaration.
    pub section: Section,
    /// Constants with their byte offsets, behind the section.
    pub literals: Vec<(Literal, u64)>,
    /// The offsets of the constants.
    places: FxHashMap<LiteralKey, u64>,
    /// Bytes of the image, padding included.
    pub bytes: u64,
}

/// Padding behind each constant and the image, so that whole vectors may be read at the end.
const PAD: u64 = 64;

impl WeightLayout {
    /// Lays out the constants that the entries read behind a section of the module's weights.
    pub fn new(module: &Module, section: Section) -> WeightLayout {
        let (mut literals, mut places) = (Vec::new(), FxHashMap::default());
        for entry in &module.entries {
            collect(&entry.body, &mut literals, &mut places);
        }
        let mut bytes = section.bytes as u64;
        let mut placed = Vec::new();
        for literal in literals {
            let key = literal.key();
            placed.push((literal, bytes));
            let next = bytes + (key.2.len() as u64 + PAD).next_multiple_of(64);
            places.insert(key, bytes);
            bytes = next;
        }
        WeightLayout { section, literals: placed, places, bytes: bytes + PAD }
    }

    /// What stands behind the weights: the constants and padding, from the end of the section to that of the image.
    pub fn tail(&self) -> Vec<u8> {
        let start = self.section.bytes as u64;
        let mut tail = vec![0; (self.bytes - start) as usize];
        for (literal, at) in &self.literals {
            let bytes = literal.data.to_bytes();
            let at = (at - start) as usize;
            tail[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        tail
    }

    /// The layout of a weight.
    pub fn layout(&self, weight: WeightId) -> Layout {
        self.section.layouts[weight.index()]
    }

    /// Where a weight's scales lie.
    pub fn scales_extent(&self, weight: WeightId) -> Extent {
        let start = self.section.scales[weight.index()] as u64;
        Extent { start, end: start + self.layout(weight).scales().len() as u64 }
    }

    /// Where a weight's rows or codes lie.
    pub fn extent(&self, weight: WeightId) -> Extent {
        let start = self.offset(weight);
        Extent { start, end: start + self.layout(weight).code_bytes() as u64 }
    }

    /// Where a constant lies that was laid out.
    pub fn literal_extent(&self, literal: &Literal) -> Option<Extent> {
        let key = literal.key();
        let start = *self.places.get(&key)?;
        Some(Extent { start, end: start + key.2.len() as u64 })
    }

    /// The byte offset of a weight's rows or codes.
    pub fn offset(&self, weight: WeightId) -> u64 {
        self.section.offsets[weight.index()] as u64
    }
}

fn collect(region: &Region, literals: &mut Vec<Literal>, known: &mut FxHashMap<LiteralKey, u64>) {
    for id in region.nodes() {
        let op = &region.node(id).op;
        match op {
            Op::Constant(literal) if needs_memory(literal) && known.insert(literal.key(), 0).is_none() => {
                literals.push(literal.clone());
            }
            _ => {}
        }
        for inner in Region::nested(op) {
            collect(inner, literals, known);
        }
    }
}

/// Whether a constant must lie in memory: it has axes and its elements differ.
pub fn needs_memory(literal: &Literal) -> bool {
    !literal.shape.is_empty() && !literal.data.is_empty() && !uniform(&literal.data)
}

/// Whether values of the element are stored as codes.
pub fn is_packed(elem: Elem) -> bool {
    matches!(elem, Elem::Ternary | Elem::Sign)
}

/// The weights that share a scale; one group per row where a group is no shorter than a row.
pub fn scale_group(layout: Layout) -> Group {
    match layout {
        Layout::Rows { .. } | Layout::Columns { .. } => Group::Tensor,
        Layout::Blocks { group, shape, .. } | Layout::SignRows { group, shape } => match group {
            Group::Inputs(n) if n >= shape.columns => Group::Row,
            group => group,
        },
    }
}

impl Emit<'_> {
    /// Code times scale of a packed weight at a place, or at 16 along its last axis. The axes before the last make the
    /// row.
    pub fn decode(&mut self, b: &mut Builder, weight: WeightId, at: &[Ix], wide: bool) -> Result<Value, NotCompiled> {
        let shape = &self.module.weight(weight).shape;
        let leading = at.len().saturating_sub(1);
        let row = at[..leading].iter().zip(shape).fold(Ix::constant(0), |row, (i, &n)| row.times(n as i64).plus(i));
        let column = at.last().cloned().unwrap_or_default();
        if wide && !self.one_scale(weight, &column) {
            return self.by_lane(b, &[row, column], |emit, b, at| emit.decoded(b, weight, &at[0], &at[1], false));
        }
        self.decoded(b, weight, &row, &column, wide)
    }

    fn decoded(
        &mut self,
        b: &mut Builder,
        weight: WeightId,
        row: &Ix,
        column: &Ix,
        wide: bool,
    ) -> Result<Value, NotCompiled> {
        let column = if wide { column.clone() } else { self.real_column(b, weight, column) };
        let code = self.code(b, weight, row, &column, wide)?;
        let scale = self.scale(b, weight, row, &column);
        let scale = if wide { b.splat(scale) } else { scale };
        Ok(b.mul(scale, code))
    }

    /// Whether 16 columns from this one are a strip that shares a scale.
    fn one_scale(&self, weight: WeightId, column: &Ix) -> bool {
        let shared = match scale_group(self.weights.layout(weight)) {
            Group::Inputs(n) => n.is_multiple_of(LANES),
            _ => true,
        };
        shared && self.starts_strip(column)
    }

    /// A column that is there: lanes behind the last element look at the last.
    fn real_column(&self, b: &mut Builder, weight: WeightId, column: &Ix) -> Ix {
        let last = self.weights.layout(weight).shape().columns as i64 - 1;
        match column.known() {
            Some(known) => Ix::constant(known.min(last)),
            None => {
                let (value, last) = (column.scalar(b), b.const_n(last as i32));
                Ix::value(b.smin(value, last))
            }
        }
    }

    /// A code of a packed weight as a float, or 16 from a column on.
    pub fn code(
        &mut self,
        b: &mut Builder,
        weight: WeightId,
        row: &Ix,
        column: &Ix,
        wide: bool,
    ) -> Result<Value, NotCompiled> {
        let code = self.int_code(b, weight, row, column, wide)?;
        Ok(b.convert(code))
    }

    /// Which of 16 sign weights are +1, from a column on.
    pub fn signs(&mut self, b: &mut Builder, weight: WeightId, row: &Ix, column: &Ix) -> Result<Value, NotCompiled> {
        if !self.starts_strip(column) {
            let codes = self.int_code(b, weight, row, column, true)?;
            let zero = b.const_i(0);
            return Ok(b.lt(zero, codes));
        }
        let row_bytes = self.weights.layout(weight).row_bytes() as i64;
        let at = row.times(row_bytes).plus(&divided(b, column, 8));
        let (pointer, offset) = at.address(b, self.weight_pointers[&weight]);
        let bits = b.load(Mem::U16, pointer, offset);
        Ok(b.mask_bits(bits))
    }

    /// A code of a packed weight, or 16 from a column on: at once from the start of a strip, else one by one.
    pub fn int_code(
        &mut self,
        b: &mut Builder,
        weight: WeightId,
        row: &Ix,
        column: &Ix,
        wide: bool,
    ) -> Result<Value, NotCompiled> {
        if wide && !self.starts_strip(column) {
            return self.by_lane(b, &[row.clone(), column.clone()], |emit, b, at| {
                let column = emit.real_column(b, weight, &at[1]);
                emit.int_code(b, weight, &at[0], &column, false)
            });
        }
        let layout = self.weights.layout(weight);
        let pointer = self.weight_pointers[&weight];
        let row_bytes = layout.row_bytes() as i64;
        match layout {
            Layout::Rows { .. } | Layout::Columns { .. } => unreachable!("a packed weight"),
            Layout::SignRows { .. } => {
                let place = divided(b, column, 8);
                let at = row.times(row_bytes).plus(&place);
                let (pointer, offset) = at.address(b, pointer);
                if wide {
                    let mask = self.signs(b, weight, row, column)?;
                    let (plus, minus) = (b.const_i(1), b.const_i(-1));
                    return Ok(b.select(mask, plus, minus));
                }
                let byte = b.load(Mem::U8, pointer, offset);
                let bit = remainder(b, column, 8).scalar(b);
                let bit = b.shift_by(Shift::RightU, byte, bit);
                Ok(sign_of(b, bit))
            }
            Layout::Blocks { packing, .. } => {
                let (quad, in_quad) = (divided(b, row, 4), remainder(b, row, 4));
                let block = divided(b, column, packing.block_weights() as i64);
                let within = remainder(b, column, packing.block_weights() as i64);
                let (field, byte) = (divided(b, &within, 64), remainder(b, &within, 64));
                let at = quad.times(4 * row_bytes).add_scaled(&in_quad, 64).add_scaled(&block, 256).plus(&byte);
                let (pointer, offset) = at.address(b, pointer);
                let form = if wide { Mem::U8x16 } else { Mem::U8 };
                let bytes = b.load(form, pointer, offset);
                let amount = field.times(packing.field_bits() as i64).scalar(b);
                let fields = b.shift_by(Shift::RightU, bytes, amount);
                Ok(match packing {
                    Packing::Codes2 => {
                        let (mask, one) = (b.const_like(fields, 3), b.const_like(fields, 1));
                        let code = b.and(fields, mask);
                        b.sub(code, one)
                    }
                    _ => sign_of(b, fields),
                })
            }
        }
    }

    /// The scale of a weight, a scalar.
    pub fn scale(&mut self, b: &mut Builder, weight: WeightId, row: &Ix, column: &Ix) -> Value {
        let layout = self.weights.layout(weight);
        let start = Ix::constant(0);
        let at = match scale_group(layout) {
            Group::Tensor => start,
            Group::Row => start.add_scaled(row, 4),
            Group::Inputs(n) => {
                let groups = layout.shape().groups(Group::Inputs(n)) as i64;
                let group = divided(b, column, n as i64);
                let (strip, lane) = (divided(b, row, 16), remainder(b, row, 16));
                start.add_scaled(&strip, groups * 64).add_scaled(&group, 64).add_scaled(&lane, 4)
            }
        };
        let (pointer, offset) = at.address(b, self.scale_pointers[&weight]);
        b.load_s(pointer, offset)
    }

    /// The scales of 16 rows from `strip * 16`.
    pub fn scales(&mut self, b: &mut Builder, weight: WeightId, strip: &Ix, group: usize) -> Value {
        let layout = self.weights.layout(weight);
        let start = Ix::constant(0);
        let pointer = self.scale_pointers[&weight];
        match scale_group(layout) {
            Group::Tensor => {
                let (pointer, offset) = start.address(b, pointer);
                let scale = b.load_s(pointer, offset);
                b.splat(scale)
            }
            Group::Row => {
                let (pointer, offset) = start.add_scaled(strip, 64).address(b, pointer);
                b.load_f(pointer, offset)
            }
            Group::Inputs(n) => {
                let groups = layout.shape().groups(Group::Inputs(n)) as i64;
                let at = start.add_scaled(strip, groups * 64).offset(group as i64 * 64);
                let (pointer, offset) = at.address(b, pointer);
                b.load_f(pointer, offset)
            }
        }
    }
}

/// +1 where the lowest bit is set, else -1.
fn sign_of(b: &mut Builder, bits: Value) -> Value {
    let one = b.const_like(bits, 1);
    let bit = b.and(bits, one);
    let twice = b.add(bit, bit);
    b.sub(twice, one)
}

/// `index / n` for an index that is not negative.
pub fn divided(b: &mut Builder, index: &Ix, n: i64) -> Ix {
    if let Some(known) = index.known() {
        return Ix::constant(known / n);
    }
    if index.constant % n == 0 && index.terms.iter().all(|t| t.1 % n == 0) {
        let terms = index.terms.iter().map(|t| (t.0, t.1 / n)).collect();
        return Ix { constant: index.constant / n, terms };
    }
    let value = index.scalar(b);
    Ix::value(if n.count_ones() == 1 {
        b.shr_u(value, n.trailing_zeros() as u8)
    } else {
        let n = b.const_n(n as i32);
        b.udiv(value, n)
    })
}

/// `index mod n` for an index that is not negative.
pub fn remainder(b: &mut Builder, index: &Ix, n: i64) -> Ix {
    if let Some(known) = index.known() {
        return Ix::constant(known % n);
    }
    if index.terms.iter().all(|t| t.1 % n == 0) {
        return Ix::constant(index.constant.rem_euclid(n));
    }
    let value = index.scalar(b);
    Ix::value(if n.count_ones() == 1 {
        let mask = b.const_n(n as i32 - 1);
        b.and(value, mask)
    } else {
        let n = b.const_n(n as i32);
        b.urem(value, n)
    })
}
