//! Exact products of int8 codes whose scales change along a row: one integer sum for each stretch of inputs that shares
//! a block of the input and a scale of the weight, then the terms added up, ascending. Row by row; whole rows of one
//! scale are [`super::quantised`].

use super::NotCompiled;
use super::elementwise::Math;
use super::emit::Emit;
use super::graph::V;
use super::index::Ix;
use super::loops::Len;
use super::weights::{divided, remainder};
use crate::ir::{InputQuant, Undo, WeightId};
use crate::kernel::build::Builder;
use crate::kernel::ir::{LANES, Value};
use crate::numerics::quantise;

/// How the inputs of a row are cut.
#[derive(Clone, Copy)]
struct Cuts {
    columns: usize,
    /// Inputs of a block, and of a group of the weight.
    block: usize,
    group: usize,
    undo: Undo,
}

impl Cuts {
    /// Inputs after which, and after whose multiples, a stretch may end.
    fn unit(self) -> usize {
        let (mut a, mut b) = (self.block, self.group);
        if a >= self.columns || b >= self.columns {
            return a.min(b);
        }
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    }

    /// Whether one term is the whole product.
    fn one_term(self) -> bool {
        self.block >= self.columns && self.group >= self.columns
    }
}

/// A row of a weight and a vector of codes with its block maxima.
struct Meeting<'p> {
    weight: WeightId,
    row: Ix,
    codes: V,
    maxima: V,
    at: &'p [Ix],
}

impl Emit<'_> {
    /// The products of the 16 rows of a strip with the vector `at` of the codes and maxima.
    pub fn block_rows(
        &mut self,
        b: &mut Builder,
        weight: WeightId,
        (codes, maxima): (V, V),
        at: &[Ix],
        strip: &Ix,
        quant: InputQuant,
    ) -> Result<Value, NotCompiled> {
        let InputQuant::Int8 { block, undo, .. } = quant else {
            unreachable!("int8 products have int8 inputs");
        };
        let shape = self.weights.layout(weight).shape();
        let columns = shape.columns;
        let block = block.unwrap_or(columns).clamp(1, columns.max(1));
        let cuts = Cuts { columns, block, group: self.group_inputs(weight), undo };
        let strip = strip.clone();
        let temporary = b.stack(64);
        self.ascending(b, &Len::Const(LANES), &[], &mut |emit, b, lane, _| {
            let mut row = strip.times(LANES as i64).plus(lane);
            if !shape.rows.is_multiple_of(LANES) {
                // Rows behind the last repeat it; their results are not stored.
                let (value, last) = (row.scalar(b), b.const_n(shape.rows as i32 - 1));
                row = Ix::value(b.smin(value, last));
            }
            let total = emit.row_of_blocks(b, &Meeting { weight, row, codes, maxima, at }, cuts)?;
            let (pointer, offset) = lane.times(4).address(b, temporary);
            b.store_s(pointer, offset, total);
            Ok(Vec::new())
        })?;
        Ok(b.load_f(temporary, 0))
    }

    fn row_of_blocks(&mut self, b: &mut Builder, meeting: &Meeting<'_>, cuts: Cuts) -> Result<Value, NotCompiled> {
        let unit = cuts.unit();
        if unit == cuts.block.min(cuts.group) {
            let total = self.sum_of_runs(b, cuts.columns, unit, 1, &mut |emit, b, start, n| {
                let acc = emit.code_products(b, meeting, start, n)?;
                Ok(vec![emit.block_term(b, meeting, start, acc, cuts)?])
            })?;
            return Ok(total[0]);
        }
        // Some units end no stretch: their sums are carried on.
        let last = (cuts.columns - 1) / unit;
        let range = (b.const_n(0), b.const_n(last as i32), 1);
        let inits = [b.const_n(0), b.const_s(-0.0)];
        let carried = self.fold(b, range, &inits, &mut |emit, b, i, carried| {
            let start = i.times(unit as i64);
            let sum = emit.code_products(b, meeting, &start, unit)?;
            let acc = b.add(carried[0], sum);
            let term = emit.block_term(b, meeting, &start, acc, cuts)?;
            let more = b.add(carried[1], term);
            let end = start.offset(unit as i64);
            let none = b.const_n(0);
            let [in_block, in_group] = [cuts.block, cuts.group].map(|n| remainder(b, &end, n as i64).scalar(b));
            let (ends_block, ends_group) = (b.eq(in_block, none), b.eq(in_group, none));
            let ends = b.or(ends_block, ends_group);
            Ok(vec![b.select(ends, none, acc), b.select(ends, more, carried[1])])
        })?;
        let start = Ix::constant((last * unit) as i64);
        let sum = self.code_products(b, meeting, &start, cuts.columns - last * unit)?;
        let acc = b.add(carried[0], sum);
        let term = self.block_term(b, meeting, &start, acc, cuts)?;
        Ok(b.add(carried[1], term))
    }

    /// The exact sum of `n` products of codes from `start`.
    fn code_products(
        &mut self,
        b: &mut Builder,
        meeting: &Meeting<'_>,
        start: &Ix,
        n: usize,
    ) -> Result<Value, NotCompiled> {
        let zero = b.const_i(0);
        let acc = self.strips(b, &Len::Const(n), &[zero], &mut |emit, b, base, tail, carried| {
            let column = base.plus(start);
            let mut place = meeting.at.to_vec();
            place.push(column.clone());
            let x = emit.eval(b, meeting.codes, &place, true)?;
            let code = emit.int_code(b, meeting.weight, &meeting.row, &column, true)?;
            let product = b.mul(x, code);
            let product = emit.masked(b, tail, product, zero);
            Ok(vec![b.add(carried[0], product)])
        })?[0];
        Ok(b.red_iadd(acc))
    }

    /// What the integer sum of a stretch means; `start` lies in it.
    fn block_term(
        &mut self,
        b: &mut Builder,
        meeting: &Meeting<'_>,
        start: &Ix,
        acc: Value,
        cuts: Cuts,
    ) -> Result<Value, NotCompiled> {
        let acc = b.convert(acc);
        let mut place = meeting.at.to_vec();
        place.push(divided(b, start, cuts.block as i64));
        let most = self.eval(b, meeting.maxima, &place, false)?;
        let scale = self.scale(b, meeting.weight, &meeting.row, start);
        let n = b.const_s(127.0);
        if cuts.one_term() || cuts.undo == Undo::Divide {
            let factor = quantise::undo_factor(&mut Math::like(b, scale), cuts.undo, scale, most);
            return Ok(b.mul(acc, factor));
        }
        let most = b.div(most, n);
        let value = b.mul(acc, most);
        Ok(b.mul(value, scale))
    }
}
