//! Reductions, `argmax`, and arrays made of others: bits and concatenations.

use super::NotCompiled;
use super::emit::{Emit, Loc, Sink};
use super::graph::{Step, V};
use super::index::Ix;
use super::loops::Len;
use crate::ir::{Dim, Elem, ReduceOp};
use crate::kernel::build::Builder;
use crate::kernel::ir::{Reduce, Value};

impl<'a> Emit<'a> {
    /// Stores scalars, one per place of the leading axes; in a register if there are none.
    #[allow(clippy::type_complexity)]
    pub fn scalars(
        &mut self,
        b: &mut Builder,
        v: V,
        make: &mut dyn FnMut(&mut Emit<'a>, &mut Builder, &[Ix]) -> Result<Value, NotCompiled>,
    ) -> Result<(), NotCompiled> {
        let shape = self.graph.ty(v).shape.clone();
        if shape.is_empty() {
            let value = make(self, b, &[])?;
            self.locs[v.index()] = Some(Loc::Reg(value));
            return Ok(());
        }
        let buffer = self.allocate(b, v);
        let grow = self.extent(b, v);
        let lens = self.lens(&shape, grow.as_ref())?;
        self.nest(b, &lens, &[], &mut |emit, b, at| {
            let value = make(emit, b, at)?;
            emit.store(b, &buffer, at, value, None);
            Ok(())
        })?;
        self.locs[v.index()] = Some(Loc::Buf(buffer));
        Ok(())
    }

    /// The reduction of one axis.
    pub fn reduce(&mut self, b: &mut Builder, step: &Step, op: ReduceOp, axis: usize) -> Result<(), NotCompiled> {
        let (x, v) = (step.inputs[0], step.results[0]);
        let ty = self.graph.ty(x).clone();
        self.prepare(b, x)?;
        let grow = self.extent(b, x);
        let len = self.lens(&ty.shape[axis..=axis], grow.as_ref())?.remove(0);
        if op == ReduceOp::ArgMax {
            return self.scalars(b, v, &mut |emit, b, at| emit.arg_max(b, x, axis, &len, at));
        }
        if axis + 1 == ty.rank() && !self.scalar_only(x) {
            return self.scalars(b, v, &mut |emit, b, at| emit.reduce_lanes(b, op, x, &len, at));
        }
        if ty.elem == Elem::U64 {
            return self.scalars(b, v, &mut |emit, b, at| emit.reduce_ascending(b, op, x, axis, &len, at, false));
        }
        if axis + 1 == ty.rank() {
            self.ensure_buffer(b, x)?;
            return self.scalars(b, v, &mut |emit, b, at| emit.reduce_lanes(b, op, x, &len, at));
        }
        let target = self.allocate(b, v);
        let shape = self.graph.ty(v).shape.clone();
        let lens = self.lens(&shape, grow.as_ref())?;
        let (last, leading) = lens.split_last().expect("an axis is left");
        self.nest(b, leading, &[], &mut |emit, b, at| {
            emit.strips(b, last, &[], &mut |emit, b, base, tail, _| {
                let mut place = at.to_vec();
                place.push(base.clone());
                let value = emit.reduce_ascending(b, op, x, axis, &len, &place, true)?;
                emit.store(b, &target, &place, value, Some(tail));
                Ok(Vec::new())
            })?;
            Ok(())
        })?;
        self.locs[v.index()] = Some(Loc::Buf(target));
        Ok(())
    }

    /// The value every partial starts from.
    fn neutral(&self, b: &mut Builder, op: ReduceOp, elem: Elem, wide: bool) -> Value {
        let float = |b: &mut Builder, x: f32| {
            if wide { b.const_f(x) } else { b.const_s(x) }
        };
        let int = |b: &mut Builder, x: i32| {
            if wide { b.const_i(x) } else { b.const_n(x) }
        };
        match (op, elem) {
            (ReduceOp::Sum, Elem::F32) => float(b, 0.0),
            (ReduceOp::Max, Elem::F32) => float(b, f32::NEG_INFINITY),
            (ReduceOp::Min, Elem::F32) => float(b, f32::INFINITY),
            (ReduceOp::Max, Elem::U64) => b.const_l(0),
            (ReduceOp::Min, Elem::U64) => b.const_l(-1),
            (_, Elem::U64) => b.const_l(0),
            (ReduceOp::Max, Elem::U32 | Elem::U8) => int(b, 0),
            (ReduceOp::Min, Elem::U32 | Elem::U8) => int(b, -1),
            (ReduceOp::Max, _) => int(b, i32::MIN),
            (ReduceOp::Min, _) => int(b, i32::MAX),
            _ => int(b, 0),
        }
    }

    fn combine(&self, b: &mut Builder, op: ReduceOp, elem: Elem, acc: Value, x: Value) -> Value {
        let unsigned = matches!(elem, Elem::U32 | Elem::U64);
        match (op, elem) {
            (ReduceOp::Max, Elem::F32) => b.pmax(acc, x),
            (ReduceOp::Min, Elem::F32) => b.pmin(acc, x),
            (ReduceOp::Max | ReduceOp::Min, _) if unsigned => {
                let less = b.lt_u(acc, x);
                if op == ReduceOp::Max { b.select(less, x, acc) } else { b.select(less, acc, x) }
            }
            (ReduceOp::Max, _) => b.smax(acc, x),
            (ReduceOp::Min, _) => b.smin(acc, x),
            (ReduceOp::Any, _) => b.or(acc, x),
            // A true lane is -1.
            (ReduceOp::Count, _) => b.sub(acc, x),
            _ => b.add(acc, x),
        }
    }

    /// A reduction of the last axis: lanes first, then the lanes by halves.
    fn reduce_lanes(
        &mut self,
        b: &mut Builder,
        op: ReduceOp,
        x: V,
        len: &Len,
        at: &[Ix],
    ) -> Result<Value, NotCompiled> {
        let elem = self.graph.ty(x).elem;
        let neutral = self.neutral(b, op, elem, true);
        let total = self.strips(b, len, &[neutral], &mut |emit, b, base, tail, carried| {
            let mut place = at.to_vec();
            place.push(base.clone());
            let value = emit.eval(b, x, &place, true)?;
            let value = emit.masked(b, tail, value, neutral);
            Ok(vec![emit.combine(b, op, elem, carried[0], value)])
        })?[0];
        Ok(match (op, elem) {
            (ReduceOp::Sum, Elem::F32) => b.red_add(total),
            (ReduceOp::Max, Elem::F32) => b.red_pmax(total),
            (ReduceOp::Min, Elem::F32) => b.red_pmin(total),
            (ReduceOp::Max | ReduceOp::Min, Elem::U32) => {
                // Signed order of the numbers with their top bit flipped.
                let top = b.const_i(i32::MIN);
                let flipped = b.xor(total, top);
                let chosen = if op == ReduceOp::Max { b.red_imax(flipped) } else { b.red_imin(flipped) };
                let top = b.const_n(i32::MIN);
                b.xor(chosen, top)
            }
            (ReduceOp::Max, _) => b.red_imax(total),
            (ReduceOp::Min | ReduceOp::Any, _) => b.reduce(Reduce::IMin, total),
            _ => b.red_iadd(total),
        })
    }

    /// A reduction of an axis in front of the strip: one partial per element, ascending.
    #[allow(clippy::too_many_arguments)]
    fn reduce_ascending(
        &mut self,
        b: &mut Builder,
        op: ReduceOp,
        x: V,
        axis: usize,
        len: &Len,
        at: &[Ix],
        wide: bool,
    ) -> Result<Value, NotCompiled> {
        let elem = self.graph.ty(x).elem;
        let neutral = self.neutral(b, op, elem, wide);
        let result = self.ascending(b, len, &[neutral], &mut |emit, b, i, carried| {
            let mut place = at.to_vec();
            place.insert(axis, i.clone());
            let value = emit.eval(b, x, &place, wide)?;
            Ok(vec![emit.combine(b, op, elem, carried[0], value)])
        })?;
        Ok(result[0])
    }

    /// Runs `body` for each place of an axis in order, carrying values.
    #[allow(clippy::type_complexity)]
    pub fn ascending(
        &mut self,
        b: &mut Builder,
        len: &Len,
        inits: &[Value],
        body: &mut dyn FnMut(&mut Emit<'a>, &mut Builder, &Ix, &[Value]) -> Result<Vec<Value>, NotCompiled>,
    ) -> Result<Vec<Value>, NotCompiled> {
        match len {
            Len::Const(1) => body(self, b, &Ix::constant(0), inits),
            Len::Const(n) => {
                let range = (b.const_n(0), b.const_n(*n as i32), 1);
                self.fold(b, range, inits, body)
            }
            Len::Grow(grow) => {
                let grow = grow.clone();
                self.fold_entries(b, &grow, inits, body)
            }
        }
    }

    /// The index a place on a growing axis has for the graph: fixed places first, entries behind.
    pub fn logical(&mut self, b: &mut Builder, len: &Len, i: &Ix) -> Value {
        let place = i.scalar(b);
        let Len::Grow(grow) = len else { return place };
        let Some(low) = grow.low else { return place };
        let plus = b.const_n(grow.plus as i32);
        let moved = b.sub(place, low);
        let moved = b.add(moved, plus);
        let fixed = b.lt(place, plus);
        b.select(fixed, place, moved)
    }

    fn arg_max(&mut self, b: &mut Builder, x: V, axis: usize, len: &Len, at: &[Ix]) -> Result<Value, NotCompiled> {
        let elem = self.graph.ty(x).elem;
        let first = self.neutral(b, ReduceOp::Max, elem, false);
        let zero = b.const_n(0);
        // The first element starts the search, so that an axis of NaN gives 0.
        let found = self.ascending(b, len, &[first, zero], &mut |emit, b, i, carried| {
            let mut place = at.to_vec();
            place.insert(axis, i.clone());
            let value = emit.eval(b, x, &place, false)?;
            let larger = match elem {
                Elem::U32 | Elem::U64 => b.lt_u(carried[0], value),
                _ => b.lt(carried[0], value),
            };
            let index = emit.logical(b, len, i);
            Ok(vec![b.select(larger, value, carried[0]), b.select(larger, index, carried[1])])
        })?;
        Ok(found[1])
    }

    /// The 64 bits of each number, lowest first.
    pub fn bits(&mut self, b: &mut Builder, step: &Step) -> Result<(), NotCompiled> {
        let (x, v) = (step.inputs[0], step.results[0]);
        self.ensure_buffer(b, x)?;
        let target = self.allocate(b, v);
        let shape = self.graph.ty(x).shape.clone();
        let lens = self.lens(&shape, None)?;
        self.nest(b, &lens, &[], &mut |emit, b, at| {
            let word = emit.eval(b, x, at, false)?;
            let range = (b.const_n(0), b.const_n(64), 1);
            emit.fold(b, range, &[], &mut |emit, b, i, _| {
                let amount = i.scalar(b);
                let bit = b.shift_by(crate::kernel::ir::Shift::RightU, word, amount);
                let bit = b.truncate(bit);
                let mut place = at.to_vec();
                let end = place.len() - 1;
                place[end] = place[end].times(64).plus(i);
                emit.store(b, &target, &place, bit, None);
                Ok(Vec::new())
            })?;
            Ok(())
        })?;
        self.locs[v.index()] = Some(Loc::Buf(target));
        Ok(())
    }

    /// One array behind the other along an axis.
    pub fn concat(&mut self, b: &mut Builder, step: &Step, axis: usize) -> Result<(), NotCompiled> {
        let v = step.results[0];
        let target = self.allocate(b, v);
        let mut start = 0;
        for &input in &step.inputs {
            let shape = self.graph.ty(input).shape.clone();
            if let Dim::Const(n) = shape[axis] {
                let sink = Sink { value: input, buffer: target.sliced(axis, start), padded: false };
                self.store_all(b, &[sink])?;
                start += n;
                continue;
            }
            // Entries go to their place behind the fixed ones.
            self.prepare(b, input)?;
            let (Some(from), Some(to)) = (self.extent(b, input), self.extent(b, v)) else {
                return self.fail(step.origin, "a concatenation along an axis that has no state");
            };
            let zero = b.const_n(0);
            let old = from.low.unwrap_or(zero);
            let new = match to.low {
                Some(low) => low,
                None => b.const_n(to.plus as i32),
            };
            let shift = b.sub(new, old);
            let lens = self.lens(&shape, Some(&from))?;
            self.nest(b, &lens, &[], &mut |emit, b, at| {
                let value = emit.eval(b, input, at, false)?;
                let mut place = at.to_vec();
                place[axis] = place[axis].plus(&Ix::value(shift));
                emit.store(b, &target, &place, value, None);
                Ok(())
            })?;
        }
        self.locs[v.index()] = Some(Loc::Buf(target));
        Ok(())
    }
}
