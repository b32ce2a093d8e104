//! The float products of a linear kernel: strips of 16 rows with some tokens.

use super::NotCompiled;
use super::access::Buffer;
use super::emit::{Emit, Loc};
use super::index::Ix;
use super::linear::Layer;
use super::loops::Len;
use super::product::sums_of;
use super::weights::scale_group;
use crate::ir::{Elem, Group};
use crate::kernel::build::Builder;
use crate::kernel::ir::{FloatRows, LANES, RowElement, Value};
use crate::kernel::typing::MAX_STRIDE;
use crate::weights::Layout;

/// 16 rows that [`FloatRows`] can read.
struct RowGroup {
    element: RowElement,
    row_stride: u32,
    /// The first row, with a constant offset still to be added.
    place: (Value, i32),
    /// Columns that share a scale: all of them, or a multiple of 16.
    part: usize,
}

/// Inputs of a layer that is computed with its rows in the lanes.
pub const NARROW: usize = 16;

impl Emit<'_> {
    /// The float products of a strip of rows with some tokens.
    #[allow(clippy::too_many_arguments)]
    pub fn float_rows(
        &mut self,
        b: &mut Builder,
        layer: &Layer,
        rows: usize,
        strip: &Ix,
        _row: &Ix,
        count: u32,
        stride: i64,
    ) -> Result<Vec<Value>, NotCompiled> {
        let input = self.view(layer.input).expect("rows of inputs are dense, whatever their shape");
        let w = layer.weight_value;
        if self.packed(w).is_none() {
            self.prepare(b, w)?;
        }
        if self.packed(w).is_none() && self.shape(layer.input)[0] <= NARROW {
            return self.narrow_rows(b, layer, rows, strip, &input, count, stride);
        }
        if stride <= i64::from(MAX_STRIDE)
            && let Some(group) = self.row_group(b, layer, rows, strip, &input)
        {
            return Ok(self.group_sums(b, layer, &group, strip, &input, count, stride));
        }
        let temporary = b.stack(64 * count);
        let (zero, lanes) = (b.const_n(0), b.const_n(LANES.min(rows) as i32));
        self.each(b, zero, lanes, &mut |emit, b, lane| {
            let mut number = strip.times(LANES as i64).plus(lane);
            if rows > LANES && !rows.is_multiple_of(LANES) {
                // Rows behind the last repeat it; their results lie in padding.
                let (value, last) = (number.scalar(b), b.const_n(rows as i32 - 1));
                number = Ix::value(b.smin(value, last));
            }
            let sums = emit.row_dots(b, layer, &input, &number, count, stride)?;
            for (token, sum) in sums.into_iter().enumerate() {
                let (pointer, offset) = lane.times(4).address(b, temporary);
                b.store_s(pointer, offset + 64 * token as i32, sum);
            }
            Ok(())
        })?;
        Ok((0..count).map(|token| b.load_f(temporary, 64 * token as i32)).collect())
    }

    /// The rows of a strip, if they lie in memory as [`FloatRows`] wants them.
    fn row_group(
        &mut self,
        b: &mut Builder,
        layer: &Layer,
        rows: usize,
        strip: &Ix,
        input: &Buffer,
    ) -> Option<RowGroup> {
        let columns = self.shape(layer.input)[0];
        if !rows.is_multiple_of(LANES) || input.elem != Elem::F32 || !input.is_contiguous() || input.ring.is_some() {
            return None;
        }
        let first = strip.times(LANES as i64);
        if let Some(weight) = self.packed(layer.weight_value) {
            let layout = self.weights.layout(weight);
            let Layout::SignRows { .. } = layout else { return None };
            let part = match scale_group(layout) {
                Group::Inputs(n) if n % LANES != 0 => return None,
                Group::Inputs(n) => n,
                _ => columns,
            };
            let place = first.times(layout.row_bytes() as i64).address(b, self.weight_pointers[&weight]);
            let row_stride = u32::try_from(layout.row_bytes()).ok().filter(|&n| n <= MAX_STRIDE)?;
            return Some(RowGroup { element: RowElement::Sign, row_stride, place, part });
        }
        let Some(Loc::Buf(weight)) = self.locs[layer.weight_value.index()].clone() else { return None };
        let element = match weight.elem {
            Elem::F32 => RowElement::F32,
            Elem::F16 => RowElement::F16,
            Elem::Bf16 => RowElement::Bf16,
            _ => return None,
        };
        let row_stride = u32::try_from(weight.strides[0]).ok().filter(|&n| n <= MAX_STRIDE)?;
        if !weight.is_contiguous() || weight.ring.is_some() {
            return None;
        }
        let place = self.address(b, &weight, &[first, Ix::constant(0)]);
        Some(RowGroup { element, row_stride, place, part: columns })
    }

    /// The float products of a group of rows, scales applied.
    #[allow(clippy::too_many_arguments)]
    fn group_sums(
        &mut self,
        b: &mut Builder,
        layer: &Layer,
        group: &RowGroup,
        strip: &Ix,
        input: &Buffer,
        count: u32,
        stride: i64,
    ) -> Vec<Value> {
        let columns = self.shape(layer.input)[0];
        let (first, offset) = self.address(b, input, &[Ix::constant(0)]);
        let mut totals: Vec<Value> = Vec::new();
        for (number, start) in (0..columns.max(1)).step_by(group.part.max(1)).enumerate() {
            let rows = FloatRows {
                element: group.element,
                columns: group.part.min(columns - start) as u32,
                row_stride: group.row_stride,
                tokens: count,
                // One vector is none from another; a stride would only make forms differ.
                stride: if count == 1 { 64 } else { stride as u32 },
            };
            let skipped = (start / LANES * group.element.strip_bytes()) as i64;
            let weights = b.offset(group.place.0, i64::from(group.place.1) + skipped);
            let x = b.offset(first, i64::from(offset) + 4 * start as i64);
            let mut sums = b.float_rows(rows, weights, x);
            if let Some(weight) = self.packed(layer.weight_value) {
                let scale = self.scales(b, weight, strip, number);
                sums.iter_mut().for_each(|sum| *sum = b.mul(*sum, scale));
            }
            if totals.is_empty() {
                totals = sums;
            } else {
                totals.iter_mut().zip(sums).for_each(|(total, sum)| *total = b.add(*total, sum));
            }
        }
        totals
    }

    /// A strip of rows of few inputs: rows in the lanes, the tree of the lane-axis sum over the inputs. Lanes
    /// without an input would be +0, and no partial is -0, so they are left out.
    #[allow(clippy::too_many_arguments)]
    fn narrow_rows(
        &mut self,
        b: &mut Builder,
        layer: &Layer,
        rows: usize,
        strip: &Ix,
        input: &Buffer,
        count: u32,
        stride: i64,
    ) -> Result<Vec<Value>, NotCompiled> {
        let inputs = self.shape(layer.input)[0];
        let by_column = match &self.locs[layer.weight_value.index()] {
            Some(Loc::Buf(weight)) => Some(weight.permuted(&[1, 0])).filter(|w| w.is_contiguous()),
            _ => None,
        };
        let mut columns = Vec::new();
        for k in 0..inputs {
            let k = Ix::constant(k as i64);
            let first = strip.times(LANES as i64);
            if let Some(weight) = &by_column {
                columns.push(self.load(b, weight, &[k, first], true));
                continue;
            }
            columns.push(self.by_lane(b, &[first], |emit, b, place| {
                let mut number = place[0].clone();
                if !rows.is_multiple_of(LANES) {
                    let (value, last) = (number.scalar(b), b.const_n(rows as i32 - 1));
                    number = Ix::value(b.smin(value, last));
                }
                emit.eval(b, layer.weight_value, &[number, k.clone()], false)
            })?);
        }
        let zero = b.const_f(0.0);
        let mut totals = Vec::new();
        for token in 0..i64::from(count) {
            let mut partials = Vec::new();
            for (k, &column) in columns.iter().enumerate() {
                let mut buffer = input.clone();
                buffer.base = buffer.base.offset(token * stride);
                let x = self.load(b, &buffer, &[Ix::constant(k as i64)], false);
                let x = b.splat(x);
                let product = b.mul(column, x);
                partials.push(b.add(zero, product));
            }
            let mut width = LANES / 2;
            while width > 0 {
                for i in 0..width.min(partials.len().saturating_sub(width)) {
                    partials[i] = b.add(partials[i], partials[i + width]);
                }
                partials.truncate(width);
                width /= 2;
            }
            totals.push(partials.first().copied().unwrap_or(zero));
        }
        Ok(totals)
    }

    /// One row times some tokens.
    fn row_dots(
        &mut self,
        b: &mut Builder,
        layer: &Layer,
        input: &Buffer,
        number: &Ix,
        count: u32,
        stride: i64,
    ) -> Result<Vec<Value>, NotCompiled> {
        let columns = self.shape(layer.input)[0];
        let packed = self.packed(layer.weight_value);
        let part = packed.map_or(columns, |weight| self.group_inputs(weight)).max(1);
        let tokens: Vec<_> = (0..i64::from(count))
            .map(|token| {
                let mut buffer = input.clone();
                buffer.base = buffer.base.offset(token * stride);
                buffer
            })
            .collect();
        let signs = packed.is_some_and(|weight| self.has_signs(weight));
        let each = sums_of(signs);
        self.sum_of_runs(b, columns, part, count as usize, &mut |emit, b, start, n| {
            let zero = b.const_f(0.0);
            let inits = vec![zero; each * count as usize];
            let sums = emit.strips(b, &Len::Const(n), &inits, &mut |emit, b, base, tail, carried| {
                let column = base.plus(start);
                let factors = match packed {
                    Some(weight) => emit.factors(b, weight, number, &column)?,
                    None => emit.eval(b, layer.weight_value, &[number.clone(), column.clone()], true)?,
                };
                let mut next = Vec::new();
                for (buffer, sums) in tokens.iter().zip(carried.chunks(each)) {
                    let x = emit.load(b, buffer, std::slice::from_ref(&column), true);
                    next.extend(emit.add_product(b, signs, factors, tail, x, sums));
                }
                Ok(next)
            })?;
            let mut totals = Vec::new();
            for sums in sums.chunks(each) {
                let mut sum = emit.product_total(b, signs, sums);
                if let Some(weight) = packed {
                    let scale = emit.scale(b, weight, number, start);
                    sum = b.mul(sum, scale);
                }
                totals.push(sum);
            }
            Ok(totals)
        })
    }
}
