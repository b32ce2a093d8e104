//! Products: `MatMul` in its two orders of summation, linear layers, and the int8 quantiser before them.

use super::NotCompiled;
use super::access::Tail;
use super::emit::{Emit, Loc};
use super::graph::{Step, V};
use super::index::Ix;
use super::loops::Len;
use super::weights::scale_group;
use crate::ir::{Group, WeightId};
use crate::kernel::build::Builder;
use crate::kernel::ir::{LANES, Value};
use crate::weights::Layout;

impl<'a> Emit<'a> {
    /// (a[B.., M?, k], b[B.., k, N?]).
    pub fn mat_mul(&mut self, b: &mut Builder, step: &Step, batch: usize) -> Result<(), NotCompiled> {
        let (x, y, v) = (step.inputs[0], step.inputs[1], step.results[0]);
        let (x_ty, y_ty) = (self.graph.ty(x).clone(), self.graph.ty(y).clone());
        let rows = x_ty.rank() == batch + 2;
        let columns = y_ty.rank() == batch + 2;
        let k_dim = x_ty.rank() - 1;
        let grow = self.extent(b, x).or_else(|| self.extent(b, y));
        let len = self.lens(&x_ty.shape[k_dim..], grow.as_ref())?.remove(0);
        self.prepare(b, x)?;
        self.prepare(b, y)?;
        if !columns {
            if rows && self.cost(y) > 0 {
                self.ensure_buffer(b, y)?;
            }
            return self.scalars(b, v, &mut |emit, b, at| emit.dot(b, x, y, &len, at, &at[..batch]));
        }
        if self.cost(x) > 0 {
            self.ensure_buffer(b, x)?;
        }
        if rows && self.cost(y) > 2 {
            self.ensure_buffer(b, y)?;
        }
        let target = self.allocate(b, v);
        let shape = self.graph.ty(v).shape.clone();
        let grow = self.extent(b, v);
        let lens = self.lens(&shape, grow.as_ref())?;
        let (last, leading) = lens.split_last().expect("columns");
        self.nest(b, leading, &[], &mut |emit, b, at| {
            emit.strips(b, last, &[], &mut |emit, b, base, tail, _| {
                let zero = b.const_f(0.0);
                let sum = emit.ascending(b, &len, &[zero], &mut |emit, b, i, carried| {
                    let mut x_at = at.to_vec();
                    x_at.push(i.clone());
                    let mut y_at = at[..batch].to_vec();
                    y_at.extend([i.clone(), base.clone()]);
                    let p = emit.eval(b, x, &x_at, false)?;
                    let p = b.splat(p);
                    let q = emit.eval(b, y, &y_at, true)?;
                    let product = b.mul(p, q);
                    Ok(vec![b.add(carried[0], product)])
                })?[0];
                let mut place = at.to_vec();
                place.push(base.clone());
                emit.store(b, &target, &place, sum, Some(tail));
                Ok(Vec::new())
            })?;
            Ok(())
        })?;
        self.locs[v.index()] = Some(Loc::Buf(target));
        Ok(())
    }

    /// The lane-axis sum of products of rows `x[x_at]` and `y[y_at]`.
    fn dot(&mut self, b: &mut Builder, x: V, y: V, len: &Len, x_at: &[Ix], y_at: &[Ix]) -> Result<Value, NotCompiled> {
        let zero = b.const_f(0.0);
        let sum = self.strips(b, len, &[zero], &mut |emit, b, base, tail, carried| {
            let (mut x_at, mut y_at) = (x_at.to_vec(), y_at.to_vec());
            x_at.push(base.clone());
            y_at.push(base.clone());
            let p = emit.eval(b, x, &x_at, true)?;
            let q = emit.eval(b, y, &y_at, true)?;
            let product = b.mul(p, q);
            let product = emit.masked(b, tail, product, zero);
            Ok(vec![b.add(carried[0], product)])
        })?[0];
        Ok(b.red_add(sum))
    }

    /// The weight behind a value, if it is one.
    pub fn packed(&self, v: V) -> Option<WeightId> {
        match self.locs[v.index()] {
            Some(Loc::Packed(weight)) => Some(weight),
            _ => None,
        }
    }

    /// (x[.., k], w[m, k]) in floats.
    pub fn linear(&mut self, b: &mut Builder, step: &Step) -> Result<(), NotCompiled> {
        let x = step.inputs[0];
        let x_ty = self.graph.ty(x).clone();
        let len = self.lens(&x_ty.shape[x_ty.rank() - 1..], None)?.remove(0);
        self.prepare(b, x)?;
        if self.cost(x) > 0 {
            self.ensure_buffer(b, x)?;
        }
        for (&w, &v) in step.inputs[1..].iter().zip(&step.results) {
            self.prepare(b, w)?;
            let Some(weight) = self.packed(w) else {
                if self.cost(w) > 2 {
                    self.ensure_buffer(b, w)?;
                }
                self.scalars(b, v, &mut |emit, b, at| {
                    let (leading, row) = at.split_at(at.len() - 1);
                    emit.dot(b, w, x, &len, row, leading)
                })?;
                continue;
            };
            self.scalars(b, v, &mut |emit, b, at| {
                let (leading, row) = at.split_at(at.len() - 1);
                emit.code_dot(b, weight, x, &row[0], leading)
            })?;
        }
        Ok(())
    }

    /// Inputs that share a scale.
    pub fn group_inputs(&self, weight: WeightId) -> usize {
        let layout = self.weights.layout(weight);
        match scale_group(layout) {
            Group::Inputs(n) => n.max(1),
            _ => layout.shape().columns.max(1),
        }
    }

    /// The terms of runs of `n` of `columns` places, added up ascending, the first as it is. `term` gives `count` of
    /// them for the run that starts at a place and has so many. Many runs are a loop.
    pub fn sum_of_runs(
        &mut self,
        b: &mut Builder,
        columns: usize,
        n: usize,
        count: usize,
        term: &mut RunFn<'_, 'a>,
    ) -> Result<Vec<Value>, NotCompiled> {
        let most = if n.is_multiple_of(LANES) { MOST_RUNS } else { MOST_BROKEN_RUNS };
        let whole = columns / n;
        let mut totals: Vec<Value> = Vec::new();
        let mut start = 0;
        if whole > most {
            // To add to -0 gives any number as it is.
            let none = b.const_s(-0.0);
            let range = (b.const_n(0), b.const_n(whole as i32), 1);
            totals = self.fold(b, range, &vec![none; count], &mut |emit, b, run, totals| {
                let terms = term(emit, b, &run.times(n as i64), n)?;
                Ok(totals.iter().zip(terms).map(|(&total, term)| b.add(total, term)).collect())
            })?;
            start = whole * n;
        }
        for start in (start..columns).step_by(n) {
            let terms = term(self, b, &Ix::constant(start as i64), n.min(columns - start))?;
            totals = match totals.is_empty() {
                true => terms,
                false => totals.iter().zip(terms).map(|(&total, term)| b.add(total, term)).collect(),
            };
        }
        Ok(totals)
    }

    /// Whether a packed weight has signs, whose products are sums of chosen elements.
    pub fn has_signs(&self, weight: WeightId) -> bool {
        matches!(self.weights.layout(weight), Layout::SignRows { .. })
    }

    /// 16 columns of a row as [`Emit::add_product`] takes them: codes, or which signs are +1.
    pub fn factors(&mut self, b: &mut Builder, weight: WeightId, row: &Ix, column: &Ix) -> Result<Value, NotCompiled> {
        match self.has_signs(weight) {
            true => self.signs(b, weight, row, column),
            false => self.code(b, weight, row, column, true),
        }
    }

    /// 16 products added to the sums that [`Emit::product_total`] ends: one sum, and for `signs` a second of the
    /// vector.
    pub fn add_product(
        &mut self,
        b: &mut Builder,
        signs: bool,
        factors: Value,
        tail: Tail,
        x: Value,
        sums: &[Value],
    ) -> Vec<Value> {
        let zero = b.const_f(0.0);
        if signs {
            let x = self.masked(b, tail, x, zero);
            let chosen = b.select(factors, x, zero);
            return vec![b.add(sums[0], chosen), b.add(sums[1], x)];
        }
        let product = b.mul(factors, x);
        let product = self.masked(b, tail, product, zero);
        vec![b.add(sums[0], product)]
    }

    /// The product that the sums of [`Emit::add_product`] give: for signs twice that of the elements with +1, less that
    /// of all.
    pub fn product_total(&mut self, b: &mut Builder, signs: bool, sums: &[Value]) -> Value {
        let sum = b.red_add(sums[0]);
        if !signs {
            return sum;
        }
        let (twice, all) = (b.add(sum, sum), b.red_add(sums[1]));
        b.sub(twice, all)
    }

    /// The float product of a row of codes: the lane-axis sum per group times its scale, groups ascending.
    pub fn code_dot(
        &mut self,
        b: &mut Builder,
        weight: WeightId,
        x: V,
        row: &Ix,
        at: &[Ix],
    ) -> Result<Value, NotCompiled> {
        let columns = self.weights.layout(weight).shape().columns;
        let n = self.group_inputs(weight);
        let signs = self.has_signs(weight);
        let total = self.sum_of_runs(b, columns, n, 1, &mut |emit, b, start, n| {
            let zero = b.const_f(0.0);
            let inits = [zero, zero];
            let sums =
                emit.strips(b, &Len::Const(n), &inits[..sums_of(signs)], &mut |emit, b, base, tail, carried| {
                    let column = base.plus(start);
                    let mut place = at.to_vec();
                    place.push(column.clone());
                    let factors = emit.factors(b, weight, row, &column)?;
                    let value = emit.eval(b, x, &place, true)?;
                    Ok(emit.add_product(b, signs, factors, tail, value, carried))
                })?;
            let sum = emit.product_total(b, signs, &sums);
            let scale = emit.scale(b, weight, row, start);
            Ok(vec![b.mul(sum, scale)])
        })?;
        Ok(total[0])
    }
}

/// Most runs of whole strips, and of others, that have code of their own.
const MOST_RUNS: usize = 64;
const MOST_BROKEN_RUNS: usize = 2;

/// The terms of one run of places: the first place, and how many there are.
pub type RunFn<'f, 'a> = dyn FnMut(&mut Emit<'a>, &mut Builder, &Ix, usize) -> Result<Vec<Value>, NotCompiled> + 'f;

/// Sums that a product carries, see [`Emit::add_product`].
pub fn sums_of(signs: bool) -> usize {
    1 + usize::from(signs)
}
