//! The int8 quantiser and the exact products of its codes.

use super::NotCompiled;
use super::access::Tail;
use super::elementwise::Math;
use super::emit::{Emit, Loc};
use super::graph::{Step, V};
use super::index::Ix;
use super::loops::Len;
use super::weights::scale_group;
use crate::ir::{Dim, Group, InputQuant, Undo, WeightId};
use crate::kernel::build::Builder;
use crate::kernel::ir::{DotRows, LANES, Mem, Packing, Value};
use crate::numerics::quantise;
use crate::weights::layout::Layout;

impl Emit<'_> {
    /// (x[.., n]) -> (q: i8[.., n], a: f32[.., blocks]).
    pub fn quantize(&mut self, b: &mut Builder, step: &Step, quant: InputQuant) -> Result<(), NotCompiled> {
        let InputQuant::Int8 { block, floor, .. } = quant else {
            return self.fail(step.origin, "a quantiser that keeps floats");
        };
        let x = step.inputs[0];
        self.prepare(b, x)?;
        if self.cost(x) > 4 {
            self.ensure_buffer(b, x)?;
        }
        let (q, a) = (step.results[0], step.results[1]);
        let (q_buffer, a_buffer) = (self.allocate(b, q), self.allocate(b, a));
        let (n, lens) = self.rows_of(x)?;
        let block = block.unwrap_or(n).clamp(1, n.max(1));
        if block != n && block % LANES != 0 {
            return self.fail(step.origin, format!("activations in blocks of {block}"));
        }
        self.nest(b, &lens, &[], &mut |emit, b, at| {
            for (index, start) in (0..n).step_by(block).enumerate() {
                let len = Len::Const(block.min(n - start));
                let start = start as i64;
                let floor = b.const_i(floor.to_bits() as i32);
                let none = b.const_i(0);
                let most = emit.strips(b, &len, &[floor], &mut |emit, b, base, tail, carried| {
                    let mut place = at.to_vec();
                    place.push(base.offset(start));
                    let value = emit.eval(b, x, &place, true)?;
                    let bits = b.cast(value);
                    let magnitude = b.const_i(0x7fff_ffff);
                    let bits = b.and(bits, magnitude);
                    let bits = emit.masked(b, tail, bits, none);
                    Ok(vec![b.smax(carried[0], bits)])
                })?[0];
                let most = b.red_imax(most);
                let most = b.cast(most);
                let mut place = at.to_vec();
                place.push(Ix::constant(index as i64));
                emit.store(b, &a_buffer, &place, most, None);
                let none = b.const_i(0);
                let factor = quantise::factor(&mut Math::like(b, most), most);
                let factor = b.splat(factor);
                let sum = emit.strips(b, &len, &[none], &mut |emit, b, base, tail, carried| {
                    let mut place = at.to_vec();
                    place.push(base.offset(start));
                    let value = emit.eval(b, x, &place, true)?;
                    let code = quantise::int8(&mut Math::like(b, value), value, factor);
                    emit.store(b, &q_buffer, &place, code, Some(tail));
                    let counted = emit.masked(b, tail, code, none);
                    Ok(vec![b.add(carried[0], counted)])
                })?[0];
                if lens.is_empty() && block == n {
                    let sum = b.red_iadd(sum);
                    emit.code_sums.insert(a, sum);
                }
            }
            Ok(())
        })?;
        self.locs[q.index()] = Some(Loc::Buf(q_buffer));
        self.locs[a.index()] = Some(Loc::Buf(a_buffer));
        Ok(())
    }

    /// (q, a, w...) -> one result per weight.
    pub fn linear_int8(&mut self, b: &mut Builder, step: &Step, quant: InputQuant) -> Result<(), NotCompiled> {
        let (q, a) = (step.inputs[0], step.inputs[1]);
        self.ensure_buffer(b, q)?;
        self.ensure_buffer(b, a)?;
        let (n, lens) = self.rows_of(q)?;
        let mut targets = Vec::new();
        for (&w, &v) in step.inputs[2..].iter().zip(&step.results) {
            let Some(weight) = self.packed(w) else {
                return self.fail(step.origin, "an int8 product with something that is no weight");
            };
            targets.push((weight, self.allocate(b, v), v));
        }
        let whole = targets.iter().all(|(weight, ..)| one_block(self.weights.layout(*weight), quant));
        self.nest(b, &lens, &[], &mut |emit, b, at| {
            let sums = if whole { vec![emit.code_sum(b, q, at, 0, n)?] } else { Vec::new() };
            for (weight, target, _) in &targets {
                let rows = emit.weights.layout(*weight).shape().rows;
                let groups = Len::Const(rows.div_ceil(LANES));
                emit.ascending(b, &groups, &[], &mut |emit, b, strip, _| {
                    let value = if whole {
                        let totals = emit.totals(b, *weight, q, at, strip, 1, 0)?[0];
                        let factor = emit.undo(b, *weight, a, at, strip, quant)?;
                        emit.scaled(b, *weight, totals, sums[0], factor)
                    } else {
                        emit.block_rows(b, step, *weight, (q, a), at, strip, quant)?
                    };
                    let mut place = at.to_vec();
                    place.push(strip.times(LANES as i64));
                    if rows % LANES == 0 {
                        emit.store(b, target, &place, value, Some(Tail::All));
                    } else {
                        // The last group has fewer rows.
                        let left = strip.times(-(LANES as i64)).offset(rows as i64);
                        let left = left.scalar(b);
                        let (pointer, offset) = emit.address(b, target, &place);
                        b.store_first(Mem::F32x16, pointer, offset, value, left);
                    }
                    Ok(Vec::new())
                })?;
            }
            Ok(())
        })?;
        for (_, target, v) in targets {
            self.locs[v.index()] = Some(Loc::Buf(target));
        }
        Ok(())
    }

    /// The length of a value's rows, and the axes in front of them, one of which may grow.
    fn rows_of(&self, v: V) -> Result<(usize, Vec<Len>), NotCompiled> {
        let shape = &self.graph.ty(v).shape;
        let Some((Dim::Const(n), leading)) = shape.split_last() else {
            return self.fail(self.origin, "a quantiser along entries");
        };
        Ok((*n, self.lens(leading, self.grows.get(&v))?))
    }

    /// The sum of `n` codes of the row `q[at]` from `start`.
    pub fn code_sum(&mut self, b: &mut Builder, q: V, at: &[Ix], start: usize, n: usize) -> Result<Value, NotCompiled> {
        let zero = b.const_i(0);
        let len = Len::Const(n);
        let sum = self.strips(b, &len, &[zero], &mut |emit, b, base, tail, carried| {
            let mut place = at.to_vec();
            place.push(base.offset(start as i64));
            let codes = emit.eval(b, q, &place, true)?;
            let codes = emit.masked(b, tail, codes, zero);
            Ok(vec![b.add(carried[0], codes)])
        })?[0];
        Ok(b.red_iadd(sum))
    }

    /// Dot products of the 16 rows of a strip with `tokens` code vectors `stride` bytes apart.
    #[allow(clippy::too_many_arguments)]
    pub fn totals(
        &mut self,
        b: &mut Builder,
        weight: WeightId,
        q: V,
        at: &[Ix],
        strip: &Ix,
        tokens: u32,
        stride: u32,
    ) -> Result<Vec<Value>, NotCompiled> {
        let layout = self.weights.layout(weight);
        let Layout::Blocks { packing, shape, .. } = layout else {
            let origin = self.module.weight(weight).origin;
            return self.fail(origin, "an int8 product with a weight for float inputs");
        };
        let Some(Loc::Buf(codes)) = self.locs[q.index()].clone() else {
            unreachable!("codes lie in memory");
        };
        let mut place = at.to_vec();
        place.push(Ix::constant(0));
        let (codes, offset) = self.address(b, &codes, &place);
        let codes = b.offset(codes, i64::from(offset));
        let group = (layout.row_bytes() * LANES) as i64;
        let (rows, offset) = strip.times(group).address(b, self.weight_pointers[&weight]);
        let rows = b.offset(rows, i64::from(offset));
        let dot = DotRows {
            packing,
            blocks: packing.blocks(shape.columns) as u32,
            tokens,
            stride: if tokens == 1 { 64 } else { stride },
        };
        Ok(b.dot_rows(dot, rows, codes))
    }

    /// What totals of a strip are multiplied with.
    pub fn undo(
        &mut self,
        b: &mut Builder,
        weight: WeightId,
        a: V,
        at: &[Ix],
        strip: &Ix,
        quant: InputQuant,
    ) -> Result<Value, NotCompiled> {
        let InputQuant::Int8 { undo, .. } = quant else {
            unreachable!("int8 products have int8 inputs");
        };
        if scale_group(self.weights.layout(weight)) == Group::Tensor {
            let factor = self.token_factor(b, weight, a, at, quant)?;
            return Ok(b.splat(factor));
        }
        let mut place = at.to_vec();
        place.push(Ix::constant(0));
        let a = self.eval(b, a, &place, false)?;
        let scale = self.scales(b, weight, strip, 0);
        let a = b.splat(a);
        Ok(quantise::undo_factor(&mut Math::like(b, scale), undo, scale, a))
    }

    /// What the totals of a token are multiplied with, for a weight of one scale.
    pub fn token_factor(
        &mut self,
        b: &mut Builder,
        weight: WeightId,
        a: V,
        at: &[Ix],
        quant: InputQuant,
    ) -> Result<Value, NotCompiled> {
        let InputQuant::Int8 { undo, .. } = quant else {
            unreachable!("int8 products have int8 inputs");
        };
        let mut place = at.to_vec();
        place.push(Ix::constant(0));
        let a = self.eval(b, a, &place, false)?;
        let scale = self.scale(b, weight, &Ix::constant(0), &Ix::constant(0));
        Ok(quantise::undo_factor(&mut Math::like(b, scale), undo, scale, a))
    }

    /// Totals of stored fields, corrected to those of codes and scaled.
    pub fn scaled(&mut self, b: &mut Builder, weight: WeightId, totals: Value, sum: Value, factor: Value) -> Value {
        let sum = b.splat(sum);
        let totals = match self.weights.layout(weight) {
            Layout::Blocks { packing: Packing::Bits1, .. } => b.add(totals, totals),
            _ => totals,
        };
        let totals = b.sub(totals, sum);
        let totals = b.convert(totals);
        b.mul(totals, factor)
    }

    /// Row by row and block by block, for scales that change along a row.
    #[allow(clippy::too_many_arguments)]
    fn block_rows(
        &mut self,
        b: &mut Builder,
        step: &Step,
        weight: WeightId,
        (q, a): (V, V),
        at: &[Ix],
        strip: &Ix,
        quant: InputQuant,
    ) -> Result<Value, NotCompiled> {
        let layout = self.weights.layout(weight);
        let columns = layout.shape().columns;
        let InputQuant::Int8 { block, undo, .. } = quant else {
            unreachable!("int8 products have int8 inputs");
        };
        let block = block.unwrap_or(columns).clamp(1, columns.max(1));
        let group = match scale_group(layout) {
            Group::Inputs(n) => n.max(1),
            _ => columns.max(1),
        };
        let mut parts = Vec::new();
        let mut from = 0;
        while from < columns {
            let to = ((from / block + 1) * block).min((from / group + 1) * group).min(columns);
            if from % LANES != 0 {
                let what = format!("an int8 product in blocks of {block} and groups of {group}");
                return self.fail(step.origin, what);
            }
            parts.push((from, to - from));
            from = to;
        }
        let strip = strip.clone();
        let temporary = b.stack(64);
        let lanes = Len::Const(LANES);
        self.ascending(b, &lanes, &[], &mut |emit, b, lane, _| {
            let row = strip.times(LANES as i64).plus(lane);
            let mut total = None;
            for &(start, length) in &parts {
                let n = Len::Const(length);
                let zero = b.const_i(0);
                let acc = emit.strips(b, &n, &[zero], &mut |emit, b, base, tail, carried| {
                    let column = base.offset(start as i64);
                    let mut place = at.to_vec();
                    place.push(column.clone());
                    let x = emit.eval(b, q, &place, true)?;
                    let code = emit.int_code(b, weight, &row, &column, true);
                    let product = b.mul(x, code);
                    let product = emit.masked(b, tail, product, zero);
                    Ok(vec![b.add(carried[0], product)])
                })?[0];
                let acc = b.red_iadd(acc);
                let acc = b.convert(acc);
                let mut place = at.to_vec();
                place.push(Ix::constant((start / block) as i64));
                let most = emit.eval(b, a, &place, false)?;
                let scale = emit.scale(b, weight, &row, &Ix::constant(start as i64));
                let n = b.const_s(127.0);
                let term = match undo {
                    Undo::Multiply => {
                        let most = b.div(most, n);
                        let value = b.mul(acc, most);
                        b.mul(value, scale)
                    }
                    Undo::Divide => {
                        let factor = b.div(n, most);
                        let factor = b.div(scale, factor);
                        b.mul(acc, factor)
                    }
                };
                total = Some(match total {
                    None => term,
                    Some(total) => b.add(total, term),
                });
            }
            let total = total.unwrap_or_else(|| b.const_s(0.0));
            let (pointer, offset) = lane.times(4).address(b, temporary);
            b.store_s(pointer, offset, total);
            Ok(Vec::new())
        })?;
        Ok(b.load_f(temporary, 0))
    }
}

/// Whether one integer total and one factor give a row's product.
pub fn one_block(layout: Layout, quant: InputQuant) -> bool {
    let InputQuant::Int8 { block, .. } = quant else {
        return false;
    };
    let columns = layout.shape().columns;
    !matches!(scale_group(layout), Group::Inputs(_)) && block.is_none_or(|n| n >= columns)
}
