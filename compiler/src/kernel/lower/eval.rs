//! Evaluation of a value at one place: loads where it lies in memory, otherwise the step that defines it,
//! on its operands at the places that its index map gives.

use super::NotCompiled;
use super::emit::{Emit, Loc};
use super::graph::{Act, Step, V};
use super::index::Ix;
use crate::ir::{Data, Dim, Literal, Op};
use crate::kernel::build::Builder;
use crate::kernel::ir::{LANES, Mem, Type, Value};

impl Emit<'_> {
    /// The value at a place; 16 neighbours along the last axis where `wide`.
    pub fn eval(&mut self, b: &mut Builder, v: V, at: &[Ix], wide: bool) -> Result<Value, NotCompiled> {
        if wide && at.is_empty() {
            if let Some(value) = self.recall(v, at, true) {
                return Ok(value);
            }
            let scalar = self.eval(b, v, at, false)?;
            let value = b.splat(scalar);
            self.remember(v, at, true, value);
            return Ok(value);
        }
        if let Some(value) = self.recall(v, at, wide) {
            return Ok(value);
        }
        let value = match self.locs[v.index()].clone() {
            Some(Loc::Reg(value)) => return Ok(value),
            Some(Loc::Buf(buffer)) => self.load(b, &buffer, at, wide),
            Some(Loc::Packed(weight)) => self.decode(b, weight, at, wide)?,
            None => match self.view(v) {
                Some(buffer) => self.load(b, &buffer, at, wide),
                None => self.eval_step(b, v, at, wide)?,
            },
        };
        self.remember(v, at, wide, value);
        Ok(value)
    }

    fn eval_step(&mut self, b: &mut Builder, v: V, at: &[Ix], wide: bool) -> Result<Value, NotCompiled> {
        let graph = self.graph;
        let step = graph.def(v).expect("a parameter has a place");
        let Act::Op(op) = &step.act else {
            unreachable!("results of control have a place");
        };
        let ty = graph.ty(v);
        match op {
            Op::Constant(literal) => self.constant(b, step, literal, at, wide),
            Op::Iota(_) => Ok(if wide {
                let (lanes, base) = (b.iota(), at[0].scalar(b));
                let base = b.splat(base);
                b.add(base, lanes)
            } else {
                at[0].scalar(b)
            }),
            Op::Unary(op) => {
                let x = self.eval(b, step.inputs[0], at, wide)?;
                super::elementwise::unary(b, *op, ty.elem, x).or_else(|w| self.fail(step.origin, w))
            }
            Op::Binary(op) => {
                let x = self.eval(b, step.inputs[0], at, wide)?;
                let y = self.eval(b, step.inputs[1], at, wide)?;
                super::elementwise::binary(b, *op, ty.elem, x, y).or_else(|w| self.fail(step.origin, w))
            }
            Op::Compare(op) => {
                let x = self.eval(b, step.inputs[0], at, wide)?;
                let y = self.eval(b, step.inputs[1], at, wide)?;
                let elem = graph.ty(step.inputs[0]).elem;
                Ok(super::elementwise::compare(b, *op, elem, x, y))
            }
            Op::Select => {
                let c = self.eval(b, step.inputs[0], at, wide)?;
                let x = self.eval(b, step.inputs[1], at, wide)?;
                let y = self.eval(b, step.inputs[2], at, wide)?;
                Ok(b.select(c, x, y))
            }
            Op::Convert(to) => {
                let x = self.eval(b, step.inputs[0], at, wide)?;
                let from = graph.ty(step.inputs[0]).elem;
                super::convert::convert(b, from, *to, x).or_else(|w| self.fail(step.origin, w))
            }
            Op::Broadcast { axes } => {
                let from = graph.ty(step.inputs[0]);
                let place: Vec<Ix> = axes
                    .iter()
                    .zip(&from.shape)
                    .map(|(&axis, &dim)| if dim == ty.shape[axis] { at[axis].clone() } else { Ix::constant(0) })
                    .collect();
                let along =
                    axes.last().is_some_and(|&axis| axis + 1 == ty.rank() && from.shape.last() == ty.shape.last());
                self.eval_moved(b, step.inputs[0], &place, wide, along)
            }
            Op::Slice { axis, start, .. } => {
                let mut place = at.to_vec();
                place[*axis] = place[*axis].offset(*start as i64);
                self.eval(b, step.inputs[0], &place, wide)
            }
            Op::Permute { axes } => {
                let mut place = at.to_vec();
                for (i, &axis) in axes.iter().enumerate() {
                    place[axis] = at[i].clone();
                }
                self.eval(b, step.inputs[0], &place, wide)
            }
            Op::Reshape => {
                let place = self.reshaped_place(b, step.inputs[0], v, at);
                let along = !place.is_empty();
                self.eval_moved(b, step.inputs[0], &place, wide, along)
            }
            Op::Gather { batch } => self.gather(b, step, *batch, at, wide),
            Op::Recent { back, state } => self.recent(b, step, *back, *state, at, wide),
            other => unreachable!("{other:?} is stored"),
        }
    }

    /// An operand at `place`; one element for all lanes unless strips run `along` its last axis.
    fn eval_moved(
        &mut self,
        b: &mut Builder,
        v: V,
        place: &[Ix],
        wide: bool,
        along: bool,
    ) -> Result<Value, NotCompiled> {
        if !wide || along {
            return self.eval(b, v, place, wide);
        }
        let value = self.eval(b, v, place, false)?;
        Ok(b.splat(value))
    }

    /// The place in `from` of the element `at` of its reshape `to`.
    fn reshaped_place(&mut self, b: &mut Builder, from: V, to: V, at: &[Ix]) -> Vec<Ix> {
        let (from, to) = (self.shape(from), self.shape(to));
        let mut place = vec![Ix::constant(0); from.len()];
        // Matches groups of axes of equal size from the back.
        let (mut i, mut j) = (from.len(), to.len());
        while i > 0 {
            let (i_end, j_end) = (i, j);
            i -= 1;
            let mut a = from[i];
            let mut z = 1;
            while a != z {
                if a < z {
                    i -= 1;
                    a *= from[i];
                } else {
                    j -= 1;
                    z *= to[j];
                }
            }
            let mut linear = Ix::default();
            for axis in j..j_end {
                linear = linear.times(to[axis] as i64).plus(&at[axis]);
            }
            for axis in (i + 1..i_end).rev() {
                if from[axis] == 1 {
                    continue;
                }
                if from[i..axis].iter().all(|&n| n == 1) {
                    place[axis] = linear.clone();
                    linear = Ix::constant(0);
                    break;
                }
                let n = from[axis];
                if let Some(known) = linear.known() {
                    place[axis] = Ix::constant(known % n as i64);
                    linear = Ix::constant(known / n as i64);
                } else {
                    let value = linear.scalar(b);
                    let count = b.const_n(n as i32);
                    place[axis] = Ix::value(b.urem(value, count));
                    linear = Ix::value(b.udiv(value, count));
                }
            }
            if from[i] != 1 {
                place[i] = linear;
            }
        }
        place
    }

    fn constant(
        &mut self,
        b: &mut Builder,
        step: &Step,
        literal: &Literal,
        at: &[Ix],
        wide: bool,
    ) -> Result<Value, NotCompiled> {
        if literal.data.is_empty() {
            return self.fail(step.origin, "an empty constant");
        }
        let mut linear = Some(0);
        for (index, &n) in at.iter().zip(&literal.shape) {
            linear = linear.and_then(|l: i64| Some(l * n as i64 + index.known()?));
        }
        let place = match linear {
            _ if uniform(&literal.data) => 0,
            Some(place) if !wide => place as usize,
            _ => return self.fail(step.origin, "a constant array at this place"),
        };
        Ok(match (&*literal.data, wide) {
            (Data::F32(v), true) => b.const_f(v[place]),
            (Data::F32(v), false) => b.const_s(v[place]),
            (Data::U64(v), _) => b.const_l(v[place] as i64),
            (data, wide) => {
                let value = match data {
                    Data::I32(v) => v[place],
                    Data::U32(v) => v[place] as i32,
                    Data::I8(v) => i32::from(v[place]),
                    Data::U8(v) => i32::from(v[place]),
                    Data::Bool(v) => -i32::from(v[place]),
                    Data::F32(_) | Data::U64(_) => unreachable!("handled above"),
                };
                if wide { b.const_i(value) } else { b.const_n(value) }
            }
        })
    }

    /// Rows, or elements, of a table by index; an index outside of it gives zeros.
    fn gather(
        &mut self,
        b: &mut Builder,
        step: &Step,
        batch: usize,
        at: &[Ix],
        wide: bool,
    ) -> Result<Value, NotCompiled> {
        let (table, index) = (step.inputs[0], step.inputs[1]);
        let index_rank = self.graph.ty(index).rank();
        let rows = self.graph.ty(table).rank() > batch + 1;
        if wide && !rows {
            return self.by_lane(b, at, |emit, b, place| emit.gather(b, step, batch, place, false));
        }
        let chosen = self.eval(b, index, &at[..index_rank], false)?;
        let (zero, one) = (b.const_n(0), b.const_n(1));
        let (length, grow) = match self.graph.ty(table).shape[batch] {
            Dim::Const(n) => (b.const_n(i32::try_from(n).unwrap_or(i32::MAX)), None),
            _ => {
                let grow = self.extent(b, table).expect("a table of entries");
                (self.places(b, &grow), Some(grow))
            }
        };
        // Numbers from data, and lanes behind the last element, may be anything: they must not leave the table. u32
        // from 2^31 on is negative here, and outside too.
        let (reached, inside) = (b.le(zero, chosen), b.lt(chosen, length));
        let present = b.and(reached, inside);
        let last = b.sub(length, one);
        let row = b.smin(chosen, last);
        // An axis without entries has no last place; its first slot is there, and not taken.
        let mut row = b.smax(row, zero);
        if let Some(grow) = grow {
            row = self.dense_place(b, &grow, row);
            let last = b.sub(grow.extent, one);
            row = b.smin(row, last);
            row = b.smax(row, zero);
        }
        let mut place = at[..batch].to_vec();
        place.push(Ix::value(row));
        place.extend_from_slice(&at[index_rank..]);
        let value = self.eval(b, table, &place, wide)?;
        Ok(self.or_zero(b, present, value))
    }

    /// `value` where the scalar condition holds, else zeros.
    pub fn or_zero(&mut self, b: &mut Builder, condition: Value, value: Value) -> Value {
        match b.ty(value) {
            Type::F => {
                let (mask, zero) = (b.splat(condition), b.const_f(0.0));
                b.select(mask, value, zero)
            }
            Type::I => {
                let (mask, zero) = (b.splat(condition), b.const_i(0));
                b.select(mask, value, zero)
            }
            Type::S => {
                let zero = b.const_s(0.0);
                b.select(condition, value, zero)
            }
            _ => {
                let zero = b.const_like(value, 0);
                b.select(condition, value, zero)
            }
        }
    }

    /// A strip made of 16 scalars.
    pub fn by_lane(
        &mut self,
        b: &mut Builder,
        at: &[Ix],
        mut lane: impl FnMut(&mut Self, &mut Builder, &[Ix]) -> Result<Value, NotCompiled>,
    ) -> Result<Value, NotCompiled> {
        let temporary = b.stack((LANES * 4) as u32);
        let mut form = Mem::I32x16;
        for i in 0..self.live_lanes {
            let mut place = at.to_vec();
            let end = place.len() - 1;
            place[end] = place[end].offset(i as i64);
            let value = lane(self, b, &place)?;
            let one = if b.ty(value) == Type::S {
                form = Mem::F32x16;
                Mem::F32
            } else {
                Mem::I32
            };
            b.store(one, temporary, (i * 4) as i32, value);
        }
        Ok(b.load(form, temporary, 0))
    }
}

/// Whether all elements are equal, bit by bit.
pub fn uniform(data: &Data) -> bool {
    fn same<T: Copy + PartialEq>(v: &[T]) -> bool {
        v.iter().all(|x| *x == v[0])
    }
    match data {
        Data::F32(v) => v.iter().all(|x| x.to_bits() == v[0].to_bits()),
        Data::I32(v) => same(v),
        Data::U32(v) => same(v),
        Data::U64(v) => same(v),
        Data::I8(v) => same(v),
        Data::U8(v) => same(v),
        Data::Bool(v) => same(v),
    }
}
