//! States: reading them, and the growing ones with their entries, positions and masks.
//!
//! A value with a growing axis lies in a dense index space: first the fixed places of a concatenation, then the
//! entries, moved down by a multiple of 16 so that an entry's index modulo 16 is that of its absolute place, as the
//! order of float sums demands. Entries begin at `low` and end at `extent`; what lies between the fixed places
//! and `low` is not part of the value.

use super::NotCompiled;
use super::access::{Buffer, Ring};
use super::emit::{Emit, Loc, Sink};
use super::graph::{Act, Body, Step, V};
use super::index::Ix;
use crate::ir::{AxisCapacity, AxisId, Dim, Elem, Op, StateId};
use crate::kernel::build::Builder;
use crate::kernel::ir::{LANES, Value};

/// The most pushes that a ring counts: positions and places behind them are still i32.
const MOST_PUSHES: i32 = i32::MAX - (1 << 24);

/// The extent of a growing axis at one moment.
#[derive(Clone, Debug)]
pub struct Grow {
    pub axis: AxisId,
    /// Pushes so far.
    pub count: Value,
    /// Fixed places in front.
    pub plus: usize,
    /// Dense index of the first entry; none if that is `plus`.
    pub low: Option<Value>,
    /// One past the dense index of the last entry.
    pub extent: Value,
    /// What the entries were moved down by; none for nothing.
    pub gap: Option<Value>,
}

impl<'a> Emit<'a> {
    /// A count of pushes that comes from memory, kept between `least` and the most there can be: whatever memory holds,
    /// no place that follows from it leaves the cache.
    pub fn bounded_count(&self, b: &mut Builder, axis: AxisId, count: Value, least: i32) -> Value {
        let place = &self.states.axes[&axis];
        let most = if place.ring { MOST_PUSHES } else { place.slots as i32 };
        b.clamp(count, least, most)
    }

    /// The pushes so far, as the state has them.
    fn pushes(&mut self, b: &mut Builder, axis: AxisId) -> Value {
        let counter = self.counter(axis);
        let count = self.load(b, &counter, &[], false);
        self.bounded_count(b, axis, count, 0)
    }

    /// The extent after `count` pushes.
    pub fn grow(&mut self, b: &mut Builder, axis: AxisId, count: Value, plus: usize) -> Grow {
        let fixed = b.const_n(plus as i32);
        let AxisCapacity::Ring(reach) = self.module.axis(axis).capacity else {
            return Grow { axis, count, plus, low: None, extent: b.add(count, fixed), gap: None };
        };
        let (window, zero) = (b.const_n(reach as i32), b.const_n(0));
        let first = b.sub(count, window);
        let first = b.smax(first, zero);
        let place = b.add(first, fixed);
        let aligned = b.const_n(-(LANES as i32));
        let strip = b.and(place, aligned);
        let room = plus.next_multiple_of(LANES);
        let below = b.const_n(room as i32);
        let gap = b.sub(strip, below);
        let gap = b.smax(gap, zero);
        let end = b.add(count, fixed);
        // Differences of numbers that only together are small: said once more, as what the prover can see.
        let (low, extent) = (b.sub(place, gap), b.sub(end, gap));
        let most = room + LANES - 1;
        let low = b.clamp(low, 0, most as i32);
        let extent = b.clamp(extent, 0, (most + reach) as i32);
        Grow { axis, count, plus, low: Some(low), extent, gap: Some(gap) }
    }

    /// The extent of a value with a growing axis; none for others. One that no entries came into, such as a repeated
    /// scalar, has the length of what it meets ([`crate::ir::extents`]).
    pub fn extent(&mut self, b: &mut Builder, v: V) -> Option<Grow> {
        if let Some(grow) = self.grows.get(&v) {
            return Some(grow.clone());
        }
        let (axis, plus) = self.growing_axis(v)?;
        let pushed = self.extents.of(v).unwrap_or_else(|| self.extents.last(axis)) > 0;
        let count = match self.counts.get(&axis) {
            Some(&count) if pushed => count,
            _ if self.frozen => self.frozen_count(b, axis, pushed),
            _ => {
                let before = self.pushes(b, axis);
                if pushed { self.after_push(b, axis, before) } else { before }
            }
        };
        Some(self.grow(b, axis, count, plus))
    }

    /// The number of entries that a push leaves where there were `before`.
    fn after_push(&mut self, b: &mut Builder, axis: AxisId, before: Value) -> Value {
        let one = b.const_n(1);
        let before = match self.capacity(axis) {
            Some(capacity) => {
                let last = b.const_n(capacity as i32 - 1);
                b.smin(before, last)
            }
            None => before,
        };
        b.add(before, one)
    }

    /// The most entries of an axis that keeps all of them.
    fn capacity(&self, axis: AxisId) -> Option<usize> {
        match self.module.axis(axis).capacity {
            AxisCapacity::Ring(_) => None,
            AxisCapacity::Max(n) => Some(n),
            AxisCapacity::Unbounded => Some(self.max_context),
        }
    }

    /// The growing axis of a value's type, and the fixed places in front of it.
    fn growing_axis(&self, v: V) -> Option<(AxisId, usize)> {
        self.graph.ty(v).shape.iter().find_map(|d| match d {
            Dim::Grow { axis, plus } => Some((*axis, *plus)),
            _ => None,
        })
    }

    /// Places of a value along its growing axis.
    pub fn places(&mut self, b: &mut Builder, grow: &Grow) -> Value {
        let Some(low) = grow.low else { return grow.extent };
        let plus = b.const_n(grow.plus as i32);
        let entries = b.sub(grow.extent, low);
        b.add(entries, plus)
    }

    /// The dense index of a place counted from the first fixed place, or entry.
    pub fn dense_place(&mut self, b: &mut Builder, grow: &Grow, place: Value) -> Value {
        let Some(low) = grow.low else { return place };
        let plus = b.const_n(grow.plus as i32);
        let entry = b.sub(place, plus);
        let entry = b.add(entry, low);
        let fixed = b.lt(place, plus);
        b.select(fixed, place, entry)
    }

    /// Gives the growing results of a step their extent.
    pub fn extents(&mut self, b: &mut Builder, step: &Step) -> Result<(), NotCompiled> {
        for &v in &step.results {
            let Some((axis, plus)) = self.growing_axis(v) else {
                continue;
            };
            if matches!(step.act, Act::Op(Op::StateRead(_) | Op::Push { .. } | Op::Positions { .. })) {
                continue;
            }
            // The places of a gather are those of its index.
            let first = usize::from(matches!(step.act, Act::Op(Op::Gather { .. })));
            let order = step.inputs.iter().skip(first).chain(step.inputs.iter().take(first));
            let Some(known) = order.filter_map(|x| self.grows.get(x)).find(|grow| grow.axis == axis).cloned() else {
                continue;
            };
            let grow = if known.plus == plus { known } else { self.grow(b, axis, known.count, plus) };
            self.grows.insert(v, grow);
        }
        Ok(())
    }

    /// The lanes of the strip at `base` that are part of the value.
    pub fn entry_mask(&mut self, b: &mut Builder, grow: &Grow, base: &Ix) -> Value {
        let (lanes, start) = (b.iota(), base.scalar(b));
        let start = b.splat(start);
        let lanes = b.add(lanes, start);
        let extent = b.splat(grow.extent);
        let mask = b.lt(lanes, extent);
        let Some(low) = grow.low else {
            return mask;
        };
        let low = b.splat(low);
        let mut inside = b.le(low, lanes);
        if grow.plus > 0 {
            let plus = b.const_i(grow.plus as i32);
            let fixed = b.lt(lanes, plus);
            inside = b.or(inside, fixed);
        }
        b.and(mask, inside)
    }

    /// Runs `body` for each place of the value, ascending.
    pub fn each_entry(
        &mut self,
        b: &mut Builder,
        grow: &Grow,
        body: &mut dyn FnMut(&mut Emit<'a>, &mut Builder, &Ix) -> Result<(), NotCompiled>,
    ) -> Result<(), NotCompiled> {
        self.fold_entries(b, grow, &[], &mut |emit, b, i, _| {
            body(emit, b, i)?;
            Ok(Vec::new())
        })?;
        Ok(())
    }

    /// Like [`Emit::each_entry`], carrying values.
    #[allow(clippy::type_complexity)]
    pub fn fold_entries(
        &mut self,
        b: &mut Builder,
        grow: &Grow,
        inits: &[Value],
        body: &mut dyn FnMut(&mut Emit<'a>, &mut Builder, &Ix, &[Value]) -> Result<Vec<Value>, NotCompiled>,
    ) -> Result<Vec<Value>, NotCompiled> {
        let mut carried = inits.to_vec();
        let mut start = b.const_n(0);
        if let Some(low) = grow.low {
            if grow.plus > 0 {
                let end = b.const_n(grow.plus as i32);
                carried = self.fold(b, (start, end, 1), &carried, body)?;
            }
            start = low;
        }
        self.fold(b, (start, grow.extent, 1), &carried, body)
    }

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
    fn counter(&mut self, axis: AxisId) -> Buffer {
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
        let graph = self.graph;
        let (s, x, position) = (step.inputs[0], step.inputs[1], step.inputs[2]);
        if !matches!(graph.def(s).map(|s| &s.act), Some(Act::Op(Op::StateRead(read))) if *read == state) {
            return self.fail(step.origin, "a second push to a state in one step");
        }
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
        let grow = self.grow(b, axis, count, 0);
        let v = step.results[0];
        self.grows.insert(v, grow.clone());
        self.counts.insert(axis, count);
        let buffer = self.state_buffer(state);
        let buffer = self.with_ring(b, &buffer, at, &grow);
        self.locs[v.index()] = Some(Loc::Buf(buffer));
        Ok(())
    }

    /// Writes the counts of the axes that the body pushed to.
    pub fn finish_pushes(&mut self, b: &mut Builder, body: &Body) -> Result<(), NotCompiled> {
        let mut done: Vec<AxisId> = Vec::new();
        for &id in &body.steps {
            if let Act::Op(Op::Push { state }) = &self.graph.steps[id].act {
                let Some((_, axis)) = self.module.state(*state).growing() else {
                    continue;
                };
                if !done.contains(&axis) {
                    done.push(axis);
                    let counter = self.counter(axis);
                    let count = self.counts[&axis];
                    self.store(b, &counter, &[], count, None);
                }
            }
        }
        Ok(())
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

    /// The positions of the entries after this step's push.
    pub fn positions(&mut self, b: &mut Builder, step: &Step, state: StateId) -> Result<(), NotCompiled> {
        let Some((_, axis)) = self.module.state(state).growing() else {
            return self.fail(step.origin, "positions of a state that does not grow");
        };
        let v = step.results[0];
        let Some(grow) = self.extent(b, v) else {
            return self.fail(step.origin, "positions without an axis");
        };
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
