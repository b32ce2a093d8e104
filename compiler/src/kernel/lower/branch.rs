//! Control inside a kernel: one of two branches, repeats, and experts, for one row at a time.

use super::NotCompiled;
use super::access::{Buffer, Tail};
use super::emit::{Emit, Loc, Sink};
use super::graph::{Body, Step, V};
use super::index::Ix;
use super::loops::Len;
use crate::ir::Elem;
use crate::kernel::build::Builder;
use crate::kernel::ir::Value;

impl<'a> Emit<'a> {
    /// One of two bodies; results go to memory that both write.
    pub fn branch(&mut self, b: &mut Builder, step: &Step, then: &Body, otherwise: &Body) -> Result<(), NotCompiled> {
        let condition = step.inputs[0];
        self.prepare(b, condition)?;
        let condition = self.eval(b, condition, &[], false)?;
        let targets = self.targets(b, step)?;
        let mut failure = None;
        let mut side = |emit: &mut Self, b: &mut Builder, body: &Body| {
            let sinks = sinks(body.results.iter().copied(), &targets);
            if let Err(problem) = emit.inner_body(b, body, &sinks) {
                failure = Some(problem);
            }
            Vec::new()
        };
        let cell = std::cell::RefCell::new((&mut *self, &mut side));
        b.if_else(
            condition,
            |b| {
                let (emit, side) = &mut *cell.borrow_mut();
                side(emit, b, then)
            },
            |b| {
                let (emit, side) = &mut *cell.borrow_mut();
                side(emit, b, otherwise)
            },
        );
        if let Some(problem) = failure {
            return Err(problem);
        }
        self.place(b, &step.results, &targets);
        Ok(())
    }

    /// Memory for the results of a step.
    fn targets(&mut self, b: &mut Builder, step: &Step) -> Result<Vec<Buffer>, NotCompiled> {
        let mut targets = Vec::new();
        for &v in &step.results {
            if self.graph.ty(v).grows() {
                return self.fail(step.origin, "control that yields a growing value");
            }
            targets.push(self.allocate(b, v));
        }
        Ok(targets)
    }

    /// Gives results their memory, or a register where they have no axes.
    fn place(&mut self, b: &mut Builder, results: &[V], targets: &[Buffer]) {
        for (&v, target) in results.iter().zip(targets) {
            let loc = if target.strides.is_empty() {
                Loc::Reg(self.load(b, target, &[], false))
            } else {
                Loc::Buf(target.clone())
            };
            self.locs[v.index()] = Some(loc);
        }
    }

    /// Rounds of a body with carried values.
    pub fn repeat(
        &mut self,
        b: &mut Builder,
        step: &Step,
        first: i64,
        max: usize,
        body: &Body,
    ) -> Result<(), NotCompiled> {
        let current = self.targets(b, step)?;
        // Not `targets`, which may be an output of the kernel, as `current` is.
        let next: Vec<Buffer> = step
            .results
            .iter()
            .map(|&v| {
                let elem = self.graph.ty(v).elem;
                let shape = self.shape(v);
                self.allocate_shape(b, elem, &shape)
            })
            .collect();
        for (&init, target) in step.inputs[1..].iter().zip(&current) {
            let sink = Sink { value: init, buffer: target.clone(), padded: true };
            self.store_all(b, &[sink])?;
        }
        let exit = self.allocate_shape(b, Elem::Bool, &[]);
        let no = b.const_n(0);
        self.store(b, &exit, &[], no, None);
        self.prepare(b, step.inputs[0])?;
        let count = self.eval(b, step.inputs[0], &[], false)?;
        let most = b.const_n(max as i32);
        let count = b.smin(count, most);
        let zero = b.const_n(0);
        self.each(b, zero, count, &mut |emit, b, round| {
            let left = emit.load(b, &exit, &[], false);
            let stay = b.not(left);
            emit.when(b, stay, &mut |emit, b| {
                let number = round.offset(first).scalar(b);
                emit.locs[body.params[0].index()] = Some(Loc::Reg(number));
                let carried = &body.params[1..];
                emit.place(b, carried, &current);
                emit.rounds.push(round.clone());
                let mut sinks = sinks(body.results[1..].iter().copied(), &next);
                sinks.push(Sink { value: body.results[0], buffer: exit.clone(), padded: false });
                let result = emit.inner_body(b, body, &sinks);
                emit.rounds.pop();
                result?;
                for ((from, to), &v) in next.iter().zip(&current).zip(carried) {
                    let shape = emit.shape(v);
                    emit.copy(b, from, to, &shape)?;
                }
                Ok(())
            })
        })?;
        self.place(b, &step.results, &current);
        Ok(())
    }

    /// For each place, the body that its index names; zeros where that is -1.
    pub fn experts(&mut self, b: &mut Builder, step: &Step, bodies: &[Body]) -> Result<(), NotCompiled> {
        let targets = self.targets(b, step)?;
        let index = step.inputs[0];
        self.ensure_buffer(b, index)?;
        let places = Len::Const(self.shape(index)[0]);
        self.ascending(b, &places, &[], &mut |emit, b, place, _| {
            let chosen = emit.eval(b, index, std::slice::from_ref(place), false)?;
            let mut parts = Vec::new();
            for (target, &v) in targets.iter().zip(&step.results) {
                let mut part = target.clone();
                let stride = part.strides.remove(0);
                part.base = part.base.add_scaled(place, stride);
                let shape = emit.shape(v)[1..].to_vec();
                emit.clear(b, &part, &shape)?;
                parts.push(part);
            }
            for (number, body) in bodies.iter().enumerate() {
                let number = b.const_n(number as i32);
                let here = b.eq(chosen, number);
                emit.when(b, here, &mut |emit, b| {
                    let sinks = sinks(body.results.iter().copied(), &parts);
                    emit.inner_body(b, body, &sinks)
                })?;
            }
            Ok(Vec::new())
        })?;
        self.place(b, &step.results, &targets);
        Ok(())
    }

    /// Runs `body` where a scalar condition holds.
    pub fn when(
        &mut self,
        b: &mut Builder,
        condition: Value,
        body: &mut dyn FnMut(&mut Emit<'a>, &mut Builder) -> Result<(), NotCompiled>,
    ) -> Result<(), NotCompiled> {
        let mut result = Ok(());
        b.if_then(condition, |b| {
            self.open();
            result = body(self, b);
            self.close();
        });
        result
    }

    /// Copies an array of constant shape.
    pub fn copy(&mut self, b: &mut Builder, from: &Buffer, to: &Buffer, shape: &[usize]) -> Result<(), NotCompiled> {
        let scalar = from.elem == Elem::U64;
        let fetch = |emit: &mut Self, b: &mut Builder, at: &[Ix], wide: bool| Ok(emit.load(b, from, at, wide));
        self.fill(b, to, shape, scalar, fetch)
    }

    /// Sets an array of constant shape to zeros.
    pub fn clear(&mut self, b: &mut Builder, to: &Buffer, shape: &[usize]) -> Result<(), NotCompiled> {
        let elem = to.elem;
        let zero = |_: &mut Self, b: &mut Builder, _: &[Ix], wide: bool| {
            Ok(match (elem, wide) {
                (Elem::F32, true) => b.const_f(0.0),
                (Elem::F32, false) => b.const_s(0.0),
                (Elem::U64, _) => b.const_l(0),
                (_, true) => b.const_i(0),
                (_, false) => b.const_n(0),
            })
        };
        self.fill(b, to, shape, elem == Elem::U64, zero)
    }

    fn fill(
        &mut self,
        b: &mut Builder,
        to: &Buffer,
        shape: &[usize],
        scalar: bool,
        mut value: impl FnMut(&mut Self, &mut Builder, &[Ix], bool) -> Result<Value, NotCompiled>,
    ) -> Result<(), NotCompiled> {
        let lens: Vec<Len> = shape.iter().map(|&n| Len::Const(n)).collect();
        if scalar || lens.is_empty() {
            return self.nest(b, &lens, &[], &mut |emit, b, at| {
                let value = value(emit, b, at, false)?;
                emit.store(b, to, at, value, None);
                Ok(())
            });
        }
        let (last, leading) = lens.split_last().expect("an axis");
        self.nest(b, leading, &[], &mut |emit, b, at| {
            emit.strips(b, last, &[], &mut |emit, b, base, tail, _| {
                let mut place = at.to_vec();
                place.push(base.clone());
                let value = value(emit, b, &place, true)?;
                let tail = if matches!(tail, Tail::Mask(_)) { Tail::All } else { tail };
                emit.store(b, to, &place, value, Some(tail));
                Ok(Vec::new())
            })?;
            Ok(())
        })
    }
}

fn sinks(values: impl Iterator<Item = V>, targets: &[Buffer]) -> Vec<Sink> {
    values.zip(targets).map(|(value, buffer)| Sink { value, buffer: buffer.clone(), padded: false }).collect()
}
