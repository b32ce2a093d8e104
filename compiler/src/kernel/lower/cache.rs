//! States: reading them, and the growing ones with their entries and positions. What an extent is, and which places of
//! it count, is in `growing`.

use super::NotCompiled;
use super::access::{Buffer, Ring};
use super::emit::{Emit, Loc, Sink};
use super::graph::{Act, Body, Step, V};
use super::growing::Grow;
use super::index::Ix;
use crate::ir::{AxisCapacity, AxisId, Elem, Op, StateId};
use crate::kernel::build::Builder;
use crate::kernel::ir::Value;

impl<'a> Emit<'a> {
    /// The bytes from the first instance to the current one.
    fn instance(&self, strides: &[u64], outer: usize) -> Ix {
        let mut bytes = Ix::default();
        for (round, &stride) in self.rounds.iter().zip(strides.iter().skip(outer)) {
            bytes = bytes.add_scaled(round, stride as i64);
        }
        bytes
    }

    fn state_buffer(&mut self, state: StateId) -> Buffer {
        let place = &self.states.states[&state];
        let base = self.instance(&place.instance_strides, self.driver_loops);
        Buffer {
            pointer: self.state_pointers[&state],
            elem: self.module.state(state).stored,
            base,
            strides: place.strides.clone(),
            ring: None,
        }
    }

    /// The entries of a growing state after so many pushes, and which of the buffer's axes grows.
    pub fn entries(&mut self, b: &mut Builder, state: StateId, count: Value) -> Option<(Buffer, usize, Grow)> {
        let (mut at, axis) = self.module.state(state).growing()?;
        let mut buffer = self.state_buffer(state);
        if let Some(head) = self.head.as_ref().filter(|head| head.heads.states.contains(&state)) {
            buffer = buffer.place_of_first(&head.number);
            at -= 1;
        }
        let grow = self.grow(b, axis, count, 0);
        Some((buffer, at, grow))
    }

    /// The pushes that a value of a state knows of, where all pushes of the kernel's rows have been made: the count
    /// after this row's own, or before it.
    pub fn frozen_count(&mut self, b: &mut Builder, axis: AxisId, pushed: bool) -> Value {
        let after = self.counts[&axis];
        if pushed {
            return after;
        }
        let one = b.const_n(1);
        b.sub(after, one)
    }

    /// Gives a step that yields a state's entries its place, where all pushes have been made.
    fn frozen_entries(
        &mut self,
        b: &mut Builder,
        step: &Step,
        state: StateId,
        pushed: bool,
    ) -> Result<(), NotCompiled> {
        let Some((_, axis)) = self.module.state(state).growing() else {
            return self.fail(step.origin, "a state that does not grow among entries");
        };
        let count = self.frozen_count(b, axis, pushed);
        let Some((buffer, at, grow)) = self.entries(b, state, count) else {
            return Ok(());
        };
        let v = step.results[0];
        let buffer = self.with_ring(b, &buffer, at, &grow);
        self.grows.insert(v, grow);
        self.locs[v.index()] = Some(Loc::Buf(buffer));
        Ok(())
    }

    /// The i32 count of pushes of the current instance.
    pub fn counter(&mut self, axis: AxisId) -> Buffer {
        let place = &self.states.axes[&axis];
        let base = self.instance(&place.counter_strides, self.driver_loops);
        Buffer { pointer: self.axis_pointers[&axis].0, elem: Elem::I32, base, strides: Vec::new(), ring: None }
    }

    fn with_ring(&mut self, b: &mut Builder, buffer: &Buffer, at: usize, grow: &Grow) -> Buffer {
        let place = &self.states.axes[&grow.axis];
        let mut buffer = buffer.clone();
        if place.ring {
            let gap = grow.gap.unwrap_or_else(|| b.const_n(0));
            buffer.ring = Some(Ring { axis: at, gap, slots: place.slots as i32 });
        }
        buffer
    }

    /// What a state holds before the step.
    pub fn state_read(&mut self, b: &mut Builder, step: &Step, state: StateId) -> Result<(), NotCompiled> {
        let v = step.results[0];
        if self.frozen {
            return self.frozen_entries(b, step, state, false);
        }
        let buffer = self.state_buffer(state);
        let buffer = match self.module.state(state).growing() {
            None => buffer,
            Some((at, axis)) => {
                let count = self.pushes(b, axis);
                let grow = self.grow(b, axis, count, 0);
                self.grows.insert(v, grow.clone());
                self.with_ring(b, &buffer, at, &grow)
            }
        };
        self.locs[v.index()] = Some(Loc::Buf(buffer));
        if self.copied.contains(&state) && !self.graph.ty(v).grows() {
            let copy = self.allocate(b, v);
            let sink = Sink { value: v, buffer: copy.clone(), padded: true };
            self.store_all(b, &[sink])?;
            self.locs[v.index()] = Some(Loc::Buf(copy));
        }
        Ok(())
    }

    /// Where a written state goes; none if it does not change or grows by pushes.
    pub fn state_sink(&mut self, state: StateId, step: &Step) -> Result<Option<Sink>, NotCompiled> {
        let value = step.inputs[0];
        if self.module.state(state).growing().is_some() {
            return Ok(None);
        }
        if let Some(Act::Op(Op::StateRead(read))) = self.graph.def(value).map(|s| &s.act)
            && *read == state
        {
            return Ok(None);
        }
        Ok(Some(Sink { value, buffer: self.state_buffer(state), padded: true }))
    }

    /// Appends an entry.
    pub fn push_entry(&mut self, b: &mut Builder, step: &Step, state: StateId) -> Result<(), NotCompiled> {
        if self.frozen {
            return self.frozen_entries(b, step, state, true);
        }
        let (s, x, position) = (step.inputs[0], step.inputs[1], step.inputs[2]);
        let Some((at, axis)) = self.module.state(state).growing() else {
            return self.fail(step.origin, "a push to a state that does not grow");
        };
        let before = self.grows[&s].count;
        let place = self.states.axes[&axis].clone();
        let slots = b.const_n(place.slots as i32);
        let one = b.const_n(1);
        let (slot, count) = if place.ring {
            (b.urem(before, slots), b.add(before, one))
        } else {
            let (capacity, advice) = match self.module.axis(axis).capacity {
                AxisCapacity::Max(n) => (n, ""),
                _ => (self.max_context, "; a larger --context makes room for more"),
            };
            let path = &self.module.axis(axis).path;
            let message = format!("{path} holds at most {capacity} entries{advice}");
            let capacity = b.const_n(capacity as i32);
            let full = b.le(capacity, before);
            self.report(b, full, message);
            let last = b.sub(capacity, one);
            let slot = b.smin(before, last);
            let after = b.add(slot, one);
            (slot, after)
        };
        let mut entry = self.state_buffer(state);
        let stride = entry.strides.remove(at);
        entry.base = entry.base.add_scaled(&Ix::value(slot), stride);
        let sink = Sink { value: x, buffer: entry, padded: false };
        self.store_all(b, &[sink])?;
        if place.positions.is_some() {
            self.prepare(b, position)?;
            let now = self.eval(b, position, &[], false)?;
            let mut target = self.position_buffer(axis);
            target.strides.clear();
            target.base = target.base.add_scaled(&Ix::value(slot), 4);
            self.store(b, &target, &[], now, None);
        }
        self.counts.insert(axis, count);
        self.place_entries(b, step.results[0], state, count);
        Ok(())
    }

    /// Writes the counts of the axes that the body pushed to, on the ways taken through its choices.
    pub fn finish_pushes(&mut self, b: &mut Builder, body: &Body) -> Result<(), NotCompiled> {
        for axis in self.pushed_axes(body) {
            let counter = self.counter(axis);
            let count = self.counts[&axis];
            self.store(b, &counter, &[], count, None);
        }
        Ok(())
    }

    /// The axes that a body or a choice in it pushes to. Rounds have instances of their own.
    pub fn pushed_axes(&self, body: &Body) -> Vec<AxisId> {
        let mut axes = Vec::new();
        self.collect_pushed(body, &mut axes);
        axes
    }

    fn collect_pushed(&self, body: &Body, axes: &mut Vec<AxisId>) {
        for &id in &body.steps {
            match &self.graph.steps[id].act {
                Act::Op(Op::Push { state }) => {
                    if let Some((_, axis)) = self.module.state(*state).growing()
                        && !axes.contains(&axis)
                    {
                        axes.push(axis);
                    }
                }
                Act::If { then, otherwise } => {
                    self.collect_pushed(then, axes);
                    self.collect_pushed(otherwise, axes);
                }
                _ => {}
            }
        }
    }

    /// Pushes of the current instance so far.
    pub fn count_now(&mut self, b: &mut Builder, axis: AxisId) -> Value {
        match self.counts.get(&axis) {
            Some(&count) => count,
            None => self.pushes(b, axis),
        }
    }

    /// Gives a value that is a state's entries its place, with so many pushes.
    pub fn place_entries(&mut self, b: &mut Builder, v: V, state: StateId, count: Value) {
        let Some((at, axis)) = self.module.state(state).growing() else { return };
        let grow = self.grow(b, axis, count, 0);
        self.grows.insert(v, grow.clone());
        let buffer = self.state_buffer(state);
        let buffer = self.with_ring(b, &buffer, at, &grow);
        self.locs[v.index()] = Some(Loc::Buf(buffer));
    }

    fn position_buffer(&mut self, axis: AxisId) -> Buffer {
        let place = &self.states.axes[&axis];
        let base = self.instance(&place.position_strides, self.driver_loops);
        Buffer {
            pointer: self.axis_pointers[&axis].1.expect("positions are kept"),
            elem: Elem::I32,
            base,
            strides: vec![4],
            ring: None,
        }
    }

    /// The positions of a state's entries.
    pub fn positions(&mut self, b: &mut Builder, step: &Step, state: StateId) -> Result<(), NotCompiled> {
        let Some((_, axis)) = self.module.state(state).growing() else {
            return self.fail(step.origin, "positions of a state that does not grow");
        };
        let entries = step.inputs[0];
        let count = if self.frozen {
            let pushed = matches!(self.graph.def(entries).map(|s| &s.act), Some(Act::Op(Op::Push { .. })));
            self.frozen_count(b, axis, pushed)
        } else {
            self.grows[&entries].count
        };
        let v = step.results[0];
        let grow = self.grow(b, axis, count, 0);
        self.grows.insert(v, grow.clone());
        let buffer = self.position_buffer(axis);
        let buffer = self.with_ring(b, &buffer, 0, &grow);
        self.locs[v.index()] = Some(Loc::Buf(buffer));
        Ok(())
    }

    /// An entry counted from the newest; zeros where there is none.
    pub fn recent(
        &mut self,
        b: &mut Builder,
        step: &Step,
        back: usize,
        state: StateId,
        at: &[Ix],
        wide: bool,
    ) -> Result<Value, NotCompiled> {
        let s = step.inputs[0];
        let Some((axis_at, _)) = self.module.state(state).growing() else {
            return self.fail(step.origin, "a delay of a state that does not grow");
        };
        let grow = self.grows[&s].clone();
        let Some(Loc::Buf(buffer)) = self.locs[s.index()].clone() else {
            return self.fail(step.origin, "an entry of something that is not a state");
        };
        // No cache has so many entries that a larger distance would find one.
        let distance = b.const_n(i32::try_from(back).unwrap_or(i32::MAX - 1).saturating_add(1));
        let entry = b.sub(grow.count, distance);
        let zero = b.const_n(0);
        let there = b.le(zero, entry);
        let mut slot = b.smax(entry, zero);
        if let Some(ring) = &buffer.ring {
            let slots = b.const_n(ring.slots);
            slot = b.urem(slot, slots);
        }
        let mut view = buffer;
        view.ring = None;
        let stride = view.strides.remove(axis_at);
        view.base = view.base.add_scaled(&Ix::value(slot), stride);
        let value = self.load(b, &view, at, wide);
        Ok(self.or_zero(b, there, value))
    }

    /// Sets the status where a condition holds.
    pub fn report(&mut self, b: &mut Builder, failed: Value, message: String) {
        let code = match self.messages.iter().position(|m| *m == message) {
            Some(at) => at,
            None => {
                self.messages.push(message);
                self.messages.len() - 1
            }
        };
        let status = self.status.expect("a kernel that checks has a status");
        b.if_then(failed, |b| {
            let code = b.const_n(code as i32 + 1);
            b.store_n(status, 0, code);
        });
    }

    /// Stops the entry with a message unless a condition holds.
    pub fn check(&mut self, b: &mut Builder, step: &Step, message: &str) -> Result<(), NotCompiled> {
        let ok = step.inputs[0];
        self.prepare(b, ok)?;
        let ok = self.eval(b, ok, &[], false)?;
        let zero = b.const_n(0);
        let failed = b.eq(ok, zero);
        self.report(b, failed, message.to_string());
        Ok(())
    }
}
