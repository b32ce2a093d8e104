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
    /// One of two bodies; results go to memory that both write, but for a state's entries, which lie in the state.
    pub fn branch(&mut self, b: &mut Builder, step: &Step, then: &Body, otherwise: &Body) -> Result<(), NotCompiled> {
        let condition = step.inputs[0];
        self.prepare(b, condition)?;
        let condition = self.eval(b, condition, &[], false)?;
        let targets = self.targets(b, step)?;
        // Both sides give the lengths of growing results, and how many pushes there then are.
        let growing: Vec<usize> = (0..step.results.len()).filter(|&i| self.graph.ty(step.results[i]).grows()).collect();
        let mut axes = self.pushed_axes(then);
        axes.extend(self.pushed_axes(otherwise));
        axes.sort_unstable();
        axes.dedup();
        let before: Vec<Value> = axes.iter().map(|&axis| self.count_now(b, axis)).collect();
        let mut failure = None;
        let mut side = |emit: &mut Self, b: &mut Builder, body: &Body| {
            let given = emit.forgetting(b, |emit, b| -> Result<Vec<Value>, NotCompiled> {
                for &id in &body.steps {
                    emit.single(b, id)?;
                }
                emit.finish(b, body, &sinks(&body.results, &targets))?;
                let mut given = Vec::new();
                for &i in &growing {
                    match emit.grows.get(&body.results[i]) {
                        Some(grow) => given.push(grow.count),
                        None => return emit.fail(step.origin, "a growing value that no state gives its length"),
                    }
                }
                let counts = axes.iter().zip(&before);
                given.extend(counts.map(|(axis, before)| emit.counts.get(axis).copied().unwrap_or(*before)));
                Ok(given)
            });
            given.unwrap_or_else(|problem| {
                failure = Some(problem);
                let zero = b.const_n(0);
                vec![zero; growing.len() + axes.len()]
            })
        };
        let cell = std::cell::RefCell::new((&mut *self, &mut side));
        let given = b.if_else(
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
        let (lengths, counts) = given.split_at(growing.len());
        self.counts.extend(axes.iter().copied().zip(counts.iter().copied()));
        self.place(b, &step.results, &targets);
        for (&i, &count) in growing.iter().zip(lengths) {
            let v = step.results[i];
            match self.entries_of.get(&v) {
                Some(&state) => self.place_entries(b, v, state, count),
                None => {
                    let (axis, plus) = self.growing_axis(v).expect("a growing value");
                    let grow = self.grow(b, axis, count, plus);
                    self.grows.insert(v, grow);
                }
            }
        }
        Ok(())
    }

    /// Memory for the results of a step; none for a state's entries.
    fn targets(&mut self, b: &mut Builder, step: &Step) -> Result<Vec<Option<Buffer>>, NotCompiled> {
        let mut targets = Vec::new();
        for &v in &step.results {
            targets.push(if self.entries_of.contains_key(&v) { None } else { Some(self.allocate(b, v)) });
        }
        Ok(targets)
    }

    /// Gives results their memory, or a register where they have no axes.
    fn place(&mut self, b: &mut Builder, results: &[V], targets: &[Option<Buffer>]) {
        for (&v, target) in results.iter().zip(targets) {
            let Some(target) = target else { continue };
            let loc = if target.strides.is_empty() {
                Loc::Reg(self.load(b, target, &[], false))
            } else {
                Loc::Buf(target.clone())
            };
            self.locs[v.index()] = Some(loc);
        }
    }

    /// The place and length of one value for another.
    fn share(&mut self, from: V, to: V) {
        self.locs[to.index()] = self.locs[from.index()].clone();
        if let Some(grow) = self.grows.get(&from).cloned() {
            self.grows.insert(to, grow);
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
        let (inits, carried) = (&step.inputs[1..], &body.params[1..]);
        let current = self.targets(b, step)?;
        // Not `targets`, which may be an output of the kernel, as `current` is.
        let next: Vec<Option<Buffer>> = step
            .results
            .iter()
            .zip(&current)
            .map(|(&v, current)| {
                current.as_ref()?;
                let elem = self.graph.ty(v).elem;
                let shape: Vec<usize> = self.graph.ty(v).shape.iter().map(|dim| self.most(*dim)).collect();
                Some(self.allocate_shape(b, elem, &shape))
            })
            .collect();
        for (&init, target) in inits.iter().zip(&current) {
            let Some(target) = target else { continue };
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
        // A growing value keeps its length from round to round.
        for (i, &init) in inits.iter().enumerate() {
            for v in [carried[i], step.results[i]] {
                if self.entries_of.contains_key(&v) {
                    self.share(init, v);
                } else if let Some(grow) = self.grows.get(&init).cloned() {
                    self.grows.insert(v, grow);
                }
            }
        }
        self.each(b, zero, count, &mut |emit, b, round| {
            let left = emit.load(b, &exit, &[], false);
            let stay = b.not(left);
            emit.when(b, stay, &mut |emit, b| {
                let number = round.offset(first).scalar(b);
                emit.locs[body.params[0].index()] = Some(Loc::Reg(number));
                emit.place(b, carried, &current);
                emit.rounds.push(round.clone());
                let mut sinks = sinks(&body.results[1..], &next);
                sinks.push(Sink { value: body.results[0], buffer: exit.clone(), padded: false });
                let result = emit.inner_body(b, body, &sinks);
                emit.rounds.pop();
                result?;
                for ((from, to), &v) in next.iter().zip(&current).zip(carried) {
                    let (Some(from), Some(to)) = (from, to) else { continue };
                    let grow = emit.grows.get(&v).cloned();
                    let lens = emit.lens(&emit.graph.ty(v).shape, grow.as_ref())?;
                    emit.copy_lens(b, from, to, &lens)?;
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
                let Some(target) = target else { continue };
                let mut part = target.clone();
                let stride = part.strides.remove(0);
                part.base = part.base.add_scaled(place, stride);
                let shape = emit.shape(v)[1..].to_vec();
                emit.clear(b, &part, &shape)?;
                parts.push(Some(part));
            }
            for (number, body) in bodies.iter().enumerate() {
                let number = b.const_n(number as i32);
                let here = b.eq(chosen, number);
                emit.when(b, here, &mut |emit, b| {
                    let sinks = sinks(&body.results, &parts);
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
        self.copy_lens(b, from, to, &constant(shape))
    }

    fn copy_lens(&mut self, b: &mut Builder, from: &Buffer, to: &Buffer, lens: &[Len]) -> Result<(), NotCompiled> {
        let scalar = from.elem == Elem::U64;
        let fetch = |emit: &mut Self, b: &mut Builder, at: &[Ix], wide: bool| Ok(emit.load(b, from, at, wide));
        self.fill(b, to, lens, scalar, fetch)
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
        self.fill(b, to, &constant(shape), elem == Elem::U64, zero)
    }

    fn fill(
        &mut self,
        b: &mut Builder,
        to: &Buffer,
        lens: &[Len],
        scalar: bool,
        mut value: impl FnMut(&mut Self, &mut Builder, &[Ix], bool) -> Result<Value, NotCompiled>,
    ) -> Result<(), NotCompiled> {
        if scalar || lens.is_empty() {
            return self.nest(b, lens, &[], &mut |emit, b, at| {
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

fn constant(shape: &[usize]) -> Vec<Len> {
    shape.iter().map(|&n| Len::Const(n)).collect()
}

fn sinks(values: &[V], targets: &[Option<Buffer>]) -> Vec<Sink> {
    let pairs = values.iter().zip(targets);
    pairs.filter_map(|(&value, to)| Some(Sink { value, buffer: to.clone()?, padded: false })).collect()
}
