//! Growing axes within a kernel: how many entries there are, where they lie, which places count.
//!
//! A value with a growing axis lies in a dense index space: first the fixed places of a concatenation, then the
//! entries, moved down by a multiple of 16 so that an entry's index modulo 16 is that of its absolute place, as the
//! order of float sums demands. Entries begin at `low` and end at `extent`; what lies between the fixed places
//! and `low` is not part of the value. Reading and pushing entries is in `cache`.

use super::NotCompiled;
use super::emit::Emit;
use super::graph::{Act, Step, V};
use super::index::Ix;
use crate::ir::{AxisCapacity, AxisId, Dim, Op};
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
    pub fn pushes(&mut self, b: &mut Builder, axis: AxisId) -> Value {
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
    pub fn growing_axis(&self, v: V) -> Option<(AxisId, usize)> {
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
}
