//! The float products of a linear kernel: strips of 16 rows with some tokens.

use super::NotCompiled;
use super::access::Buffer;
use super::emit::{Emit, Loc};
use super::index::Ix;
use super::linear::Layer;
use super::loops::Len;
use crate::kernel::build::Builder;
use crate::kernel::ir::{LANES, Value};

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
        let Some(Loc::Buf(input)) = self.locs[layer.input.index()].clone() else {
            unreachable!("inputs lie in memory");
        };
        let w = layer.weight_value;
        if self.packed(w).is_none() {
            self.prepare(b, w)?;
        }
        if self.packed(w).is_none() && self.shape(layer.input)[0] <= NARROW {
            return self.narrow_rows(b, layer, rows, strip, &input, count, stride);
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
        let part = match packed {
            Some(weight) => {
                let step = self.graph.def(layer.result).expect("a layer");
                self.group_inputs(step, weight)?
            }
            None => columns,
        };
        let tokens: Vec<_> = (0..i64::from(count))
            .map(|token| {
                let mut buffer = input.clone();
                buffer.base = buffer.base.offset(token * stride);
                buffer
            })
            .collect();
        let mut totals: Vec<Option<Value>> = vec![None; count as usize];
        for start in (0..columns).step_by(part.max(1)) {
            let len = Len::Const(part.min(columns - start));
            let zero = b.const_f(0.0);
            let inits = vec![zero; count as usize];
            let sums = self.strips(b, &len, &inits, &mut |emit, b, base, tail, carried| {
                let column = base.offset(start as i64);
                let w = match packed {
                    Some(weight) => emit.code(b, weight, number, &column, true),
                    None => {
                        let at = [number.clone(), column.clone()];
                        emit.eval(b, layer.weight_value, &at, true)?
                    }
                };
                let mut next = Vec::new();
                for (buffer, &acc) in tokens.iter().zip(carried) {
                    let x = emit.load(b, buffer, std::slice::from_ref(&column), true);
                    let product = b.mul(w, x);
                    let product = emit.masked(b, tail, product, zero);
                    next.push(b.add(acc, product));
                }
                Ok(next)
            })?;
            for (total, sum) in totals.iter_mut().zip(sums) {
                let mut sum = b.red_add(sum);
                if let Some(weight) = packed {
                    let scale = self.scale(b, weight, number, &Ix::constant(start as i64));
                    sum = b.mul(sum, scale);
                }
                *total = Some(match *total {
                    None => sum,
                    Some(total) => b.add(total, sum),
                });
            }
        }
        let none = b.const_s(0.0);
        Ok(totals.into_iter().map(|t| t.unwrap_or(none)).collect())
    }
}
