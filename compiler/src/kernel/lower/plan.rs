//! The arena: values between launches get memory by liveness, so that a step allocates nothing and touches little.
//!
//! While a driver is made, an offset into scratch names a slot and a distance inside it; at the end slots get
//! places, two that live at the same time never the same, and all offsets are rewritten.

use crate::kernel::program::{Arg, Base, Extent, Step};

/// Bits of an offset that are the distance inside a slot.
const INNER: u32 = 40;

/// A piece of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(usize);

impl Slot {
    /// The offset that stands for this slot.
    pub fn offset(self) -> u64 {
        (self.0 as u64 + 1) << INNER
    }
}

#[derive(Clone, Debug)]
struct Life {
    bytes: u64,
    first: usize,
    last: usize,
}

/// Whether an offset names a slot.
pub fn is_slot(offset: u64) -> bool {
    offset >> INNER > 0
}

/// The slots of one entry.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    slots: Vec<Life>,
    now: usize,
}

impl Plan {
    /// A new slot, alive from its first use.
    pub fn slot(&mut self, bytes: u64) -> Slot {
        self.slots.push(Life { bytes: bytes.next_multiple_of(64), first: usize::MAX, last: 0 });
        Slot(self.slots.len() - 1)
    }

    /// The moment of the last launch.
    pub fn now(&self) -> usize {
        self.now
    }

    /// A launch with these arguments.
    pub fn launch(&mut self, args: &[Arg]) {
        self.now += 1;
        for arg in args {
            if let Arg::Pointer { base: Base::Scratch, offset, .. } = arg {
                self.touch(*offset);
            }
        }
    }

    /// A use of an offset now.
    pub fn touch(&mut self, offset: u64) {
        let number = offset >> INNER;
        if number == 0 {
            return;
        }
        let life = &mut self.slots[number as usize - 1];
        life.first = life.first.min(self.now);
        life.last = life.last.max(self.now);
    }

    /// The end of a loop that began after the moment `start`: what came from before lives until now.
    pub fn end_loop(&mut self, start: usize) {
        for life in &mut self.slots {
            if life.first <= start && life.last > start {
                life.last = self.now;
            }
        }
    }

    /// Places all slots behind `base`: where each lies, and the bytes needed in all.
    pub fn place(&self, base: u64) -> (Vec<Extent>, u64) {
        let mut order: Vec<usize> = (0..self.slots.len()).collect();
        order.sort_by_key(|&i| (self.slots[i].first, std::cmp::Reverse(self.slots[i].bytes)));
        let mut offsets = vec![base; self.slots.len()];
        // Those placed that still live when the next one begins to.
        let mut living: Vec<usize> = Vec::new();
        let mut end = base;
        for &i in &order {
            let life = &self.slots[i];
            if life.first == usize::MAX {
                continue;
            }
            living.retain(|&j| self.slots[j].last >= life.first);
            let mut taken: Vec<(u64, u64)> =
                living.iter().map(|&j| (offsets[j], offsets[j] + self.slots[j].bytes)).collect();
            taken.sort_unstable();
            let mut at = base;
            for (from, to) in taken {
                if at + life.bytes <= from {
                    break;
                }
                at = at.max(to);
            }
            offsets[i] = at;
            end = end.max(at + life.bytes);
            living.push(i);
        }
        let extent = |(&start, life): (&u64, &Life)| Extent { start, end: start + life.bytes };
        (offsets.iter().zip(&self.slots).map(extent).collect(), end)
    }
}

/// Puts the places of slots into the steps of a driver, and into each argument the extent of its slot.
pub fn resolve(steps: &mut [Step], slots: &[Extent]) {
    let slot = |offset: u64| (offset >> INNER).checked_sub(1).map(|number| slots[number as usize]);
    let place = |slot: Extent, offset: u64| slot.start + (offset & ((1 << INNER) - 1));
    for step in steps {
        match step {
            Step::Launch { args, .. } => {
                for arg in args {
                    if let Arg::Pointer { base: Base::Scratch, offset, extent, .. } = arg
                        && let Some(slot) = slot(*offset)
                    {
                        *offset = place(slot, *offset);
                        *extent = Some(slot);
                    }
                }
            }
            Step::LoadRows { offset, .. } => {
                if let Some(slot) = slot(*offset) {
                    *offset = place(slot, *offset);
                }
            }
            Step::Tally { .. } => {}
            Step::IfRows { body, .. } | Step::Loop { body, .. } => resolve(body, slots),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(plan: &mut Plan, slots: &[Slot]) {
        let args: Vec<Arg> = slots.iter().map(|s| Arg::at(Base::Scratch, s.offset())).collect();
        plan.launch(&args);
    }

    #[test]
    fn slots_that_do_not_meet_share_memory() {
        let mut plan = Plan::default();
        let (a, b, c) = (plan.slot(100), plan.slot(64), plan.slot(128));
        touch(&mut plan, &[a, b]);
        touch(&mut plan, &[b, c]);
        let (slots, end) = plan.place(64);
        assert_eq!(slots[0], slots[2]);
        assert!(slots[1].start >= slots[0].end);
        assert_eq!(end, 64 + 128 + 64);
    }

    #[test]
    fn a_loop_keeps_what_came_from_before() {
        let mut plan = Plan::default();
        let (a, b) = (plan.slot(64), plan.slot(64));
        touch(&mut plan, &[a]);
        let start = plan.now();
        touch(&mut plan, &[a]);
        touch(&mut plan, &[b]);
        plan.end_loop(start);
        let (slots, _) = plan.place(0);
        assert_ne!(slots[0], slots[1]);
    }
}
