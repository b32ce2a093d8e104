//! The int8 quantiser and the exact products of its codes.

use super::NotCompiled;
use super::access::Tail;
use super::elementwise::Math;
use super::emit::{Emit, Loc, Sink};
use super::graph::{Step, V};
use super::index::Ix;
use super::loops::Len;
use super::weights::{divided, scale_group};
use crate::ir::{Elem, Group, InputQuant, WeightId};
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
        let (lens, n) = self.vectors(x)?;
        let block = block.unwrap_or(n).clamp(1, n.max(1));
        let alone = lens.is_empty() && block == n;
        self.nest(b, &lens, &[], &mut |emit, b, at| {
            emit.sum_of_runs(b, n, block, 0, &mut |emit, b, start, n| {
                let len = Len::Const(n);
                let floor = b.const_i(floor.to_bits() as i32);
                let none = b.const_i(0);
                let most = emit.strips(b, &len, &[floor], &mut |emit, b, base, tail, carried| {
                    let mut place = at.to_vec();
                    place.push(base.plus(start));
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
                place.push(divided(b, start, block as i64));
                emit.store(b, &a_buffer, &place, most, None);
                let none = b.const_i(0);
                let factor = quantise::factor(&mut Math::like(b, most), most);
                let factor = b.splat(factor);
                let sum = emit.strips(b, &len, &[none], &mut |emit, b, base, tail, carried| {
                    let mut place = at.to_vec();
                    place.push(base.plus(start));
                    let value = emit.eval(b, x, &place, true)?;
                    let code = quantise::int8(&mut Math::like(b, value), value, factor);
                    emit.store(b, &q_buffer, &place, code, Some(tail));
                    let counted = emit.masked(b, tail, code, none);
                    Ok(vec![b.add(carried[0], counted)])
                })?[0];
                if alone {
                    let sum = b.red_iadd(sum);
                    emit.code_sums.insert(a, sum);
                }
                Ok(Vec::new())
            })?;
            Ok(())
        })?;
        self.locs[q.index()] = Some(Loc::Buf(q_buffer));
        self.locs[a.index()] = Some(Loc::Buf(a_buffer));
        Ok(())
    }

    /// (q, a, w...) -> one result per weight.
    pub fn linear_int8(&mut self, b: &mut Builder, step: &Step, quant: InputQuant) -> Result<(), NotCompiled> {
        let (q, a) = (step.inputs[0], step.inputs[1]);
        self.ensure_codes(b, q)?;
        self.ensure_buffer(b, a)?;
        let (lens, n) = self.vectors(q)?;
        let mut targets = Vec::new();
        for (&w, &v) in step.inputs[2..].iter().zip(&step.results) {
            let Some(weight) = self.packed(w) else {
                return self.fail(step.origin, "an int8 product with something that is no weight");
            };
            targets.push((weight, self.allocate(b, v), v));
        }
        self.nest(b, &lens, &[], &mut |emit, b, at| {
            let mut known = None;
            for (weight, target, _) in &targets {
                let layout = emit.weights.layout(*weight);
                let rows = layout.shape().rows;
                let groups = Len::Const(rows.div_ceil(LANES));
                let sum = match known {
                    _ if !one_block(layout, quant) => None,
                    None => Some(emit.code_sum(b, q, at, 0, n)?),
                    sum => sum,
                };
                known = known.or(sum);
                emit.ascending(b, &groups, &[], &mut |emit, b, strip, _| {
                    let value = if let Some(sum) = sum {
                        let totals = emit.totals(b, *weight, q, at, strip, 1, 0)?[0];
                        let factor = emit.undo(b, *weight, a, at, strip, quant)?;
                        emit.scaled(b, *weight, totals, sum, factor)
                    } else {
                        emit.block_rows(b, *weight, (q, a), at, strip, quant)?
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

    /// Makes codes lie as integer products read them: each vector on a multiple of 64 bytes, with room behind the last.
    fn ensure_codes(&mut self, b: &mut Builder, q: V) -> Result<(), NotCompiled> {
        let found = self.ensure_buffer(b, q)?;
        let Some((_, leading)) = found.strides.split_last() else { return Ok(()) };
        let mut steps = leading.iter().chain([&found.base.constant]).chain(found.base.terms.iter().map(|(_, n)| n));
        if found.ring.is_none() && found.is_contiguous() && steps.all(|n| n % 64 == 0) {
            return Ok(());
        }
        let shape: Vec<usize> = self.graph.ty(q).shape.iter().map(|dim| self.most(*dim)).collect();
        let buffer = self.allocate_shape(b, Elem::I8, &shape);
        self.store_all(b, &[Sink { value: q, buffer: buffer.clone(), padded: true }])?;
        self.locs[q.index()] = Some(Loc::Buf(buffer));
        Ok(())
    }

    /// The extents of the axes over which a value is vectors, and the elements of a vector.
    fn vectors(&self, v: V) -> Result<(Vec<Len>, usize), NotCompiled> {
        let mut lens = self.lens(&self.graph.ty(v).shape, self.grows.get(&v))?;
        match lens.pop() {
            Some(Len::Const(n)) => Ok((lens, n)),
            _ => self.fail(self.origin, "a vector of codes without a known length"),
        }
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
}

/// Whether one integer total and one factor give a row's product, and the weight lies as integer products want it.
pub fn one_block(layout: Layout, quant: InputQuant) -> bool {
    let InputQuant::Int8 { block, .. } = quant else {
        return false;
    };
    let columns = layout.shape().columns;
    let stored = matches!(layout, Layout::Blocks { .. });
    stored && !matches!(scale_group(layout), Group::Inputs(_)) && block.is_none_or(|n| n >= columns)
}
