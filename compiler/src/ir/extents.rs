//! How long values along a growing axis are: as many entries as there were before this step's pushes, or after them.
//!
//! Values that one operation takes or gives along one axis are equally long. So a scalar that is repeated along an axis
//! has the length of what it meets, and entries from before a push do not meet those from after it. The verifier, the
//! interpreter and the lowering walk their graphs with the same [`Extents`]. Nothing here knows how many entries there
//! are.

use std::hash::Hash;

use rustc_hash::FxHashMap;

use super::module::AxisId;
use super::op::Op;
use super::types::{Dim, Type};

/// Pushes of a step that a value along a growing axis has seen: 0 for the entries as the step found them.
pub type Pushes = usize;

/// A value with the growing axis of its type, if it has one.
pub type Operand<V> = (V, Option<AxisId>);

/// Entries of different moments meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mixed {
    pub axis: AxisId,
    pub pushes: [Pushes; 2],
}

/// The lengths of the values seen so far.
#[derive(Clone, Debug)]
pub struct Extents<V> {
    /// Towards the value that stands for all of one length.
    parents: FxHashMap<V, V>,
    /// Of the values that stand for others, where it is known.
    pushes: FxHashMap<V, Pushes>,
    /// The most pushes on one axis.
    last: FxHashMap<AxisId, Pushes>,
}

impl<V> Default for Extents<V> {
    fn default() -> Self {
        Extents { parents: FxHashMap::default(), pushes: FxHashMap::default(), last: FxHashMap::default() }
    }
}

/// The growing axis of a type.
pub fn growing(ty: &Type) -> Option<AxisId> {
    ty.shape.iter().find_map(|dim| match dim {
        Dim::Grow { axis, .. } => Some(*axis),
        _ => None,
    })
}

impl<V: Copy + Eq + Hash> Extents<V> {
    /// Takes in an operation, after all that come before it.
    ///
    /// # Errors
    /// It takes entries from before a push together with those from after it.
    pub fn add(&mut self, op: &Op, inputs: &[Operand<V>], results: &[Operand<V>]) -> Result<(), Mixed> {
        if inputs.iter().chain(results).all(|(_, axis)| axis.is_none()) {
            return Ok(());
        }
        match op {
            Op::StateRead(_) => self.set(results, |_| 0),
            Op::Push { .. } => {
                let before = inputs.first().and_then(|&(v, _)| self.of(v)).unwrap_or(0);
                self.set(results, |_| before + 1)
            }
            Op::StateWrite(_) | Op::Recent { .. } | Op::Probe { .. } => Ok(()),
            // Control flow gives what its bodies say.
            Op::If { .. } | Op::Repeat { .. } | Op::Experts { .. } | Op::Scan { .. } | Op::Fused { .. } => Ok(()),
            // The places of a gather are those of its index.
            Op::Gather { .. } if inputs.get(1).is_some_and(|(_, axis)| axis.is_some()) => {
                self.meet(&[&inputs[1..], results].concat())
            }
            _ => self.meet(&[inputs, results].concat()),
        }
    }

    /// The pushes that a value has seen; none if nothing that it met tells.
    pub fn of(&self, v: V) -> Option<Pushes> {
        self.pushes.get(&self.root(v)).copied()
    }

    /// Whether two values have one length whatever they have seen.
    pub fn are_equal(&self, a: V, b: V) -> bool {
        self.root(a) == self.root(b)
    }

    /// The most pushes on an axis: what a value has seen that met nothing.
    pub fn last(&self, axis: AxisId) -> Pushes {
        self.last.get(&axis).copied().unwrap_or(0)
    }

    /// Says what a value has seen that comes from outside.
    ///
    /// # Errors
    /// Something else is known.
    pub fn know(&mut self, v: V, axis: AxisId, pushes: Pushes) -> Result<(), Mixed> {
        self.set(&[(v, Some(axis))], |_| pushes)
    }

    fn set(&mut self, values: &[Operand<V>], pushes: impl Fn(AxisId) -> Pushes) -> Result<(), Mixed> {
        for &(v, axis) in values {
            let Some(axis) = axis else { continue };
            let (root, new) = (self.root(v), pushes(axis));
            let last = self.last.entry(axis).or_default();
            *last = new.max(*last);
            match self.pushes.insert(root, new) {
                Some(old) if old != new => return Err(Mixed { axis, pushes: [old, new] }),
                _ => {}
            }
        }
        Ok(())
    }

    fn meet(&mut self, values: &[Operand<V>]) -> Result<(), Mixed> {
        for (i, &(v, axis)) in values.iter().enumerate() {
            let Some(axis) = axis else { continue };
            let Some(&(other, _)) = values[..i].iter().find(|(_, a)| *a == Some(axis)) else { continue };
            let (a, b) = (self.root(other), self.root(v));
            if a == b {
                continue;
            }
            self.parents.insert(b, a);
            let known = (self.pushes.get(&a).copied(), self.pushes.remove(&b));
            match known {
                (Some(x), Some(y)) if x != y => return Err(Mixed { axis, pushes: [x, y] }),
                (None, Some(pushes)) => drop(self.pushes.insert(a, pushes)),
                _ => {}
            }
        }
        Ok(())
    }

    fn root(&self, mut v: V) -> V {
        while let Some(&parent) = self.parents.get(&v) {
            v = parent;
        }
        v
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{BinaryOp, StateId};

    const AXIS: Option<AxisId> = Some(AxisId(0));

    #[test]
    fn a_repeated_scalar_has_the_length_of_what_it_meets() {
        let mut extents = Extents::default();
        extents.add(&Op::Broadcast { axes: vec![] }, &[(0, None)], &[(1, AXIS)]).unwrap();
        extents.add(&Op::Broadcast { axes: vec![] }, &[(0, None)], &[(2, AXIS)]).unwrap();
        extents.add(&Op::StateRead(StateId(0)), &[], &[(3, AXIS)]).unwrap();
        extents.add(&Op::Push { state: StateId(0) }, &[(3, AXIS), (0, None)], &[(4, AXIS)]).unwrap();
        extents.add(&Op::Binary(BinaryOp::Add), &[(1, AXIS), (3, AXIS)], &[(5, AXIS)]).unwrap();
        assert_eq!((extents.of(1), extents.of(5), extents.of(2), extents.of(4)), (Some(0), Some(0), None, Some(1)));
        assert_eq!(extents.last(AxisId(0)), 1);
        let mixed = extents.add(&Op::Binary(BinaryOp::Add), &[(5, AXIS), (4, AXIS)], &[(6, AXIS)]);
        assert_eq!(mixed, Err(Mixed { axis: AxisId(0), pushes: [0, 1] }));
    }

    #[test]
    fn the_places_of_a_gather_are_those_of_its_index() {
        let mut extents = Extents::default();
        extents.add(&Op::StateRead(StateId(0)), &[], &[(0, AXIS)]).unwrap();
        extents.add(&Op::Push { state: StateId(0) }, &[(0, AXIS), (9, None)], &[(1, AXIS)]).unwrap();
        extents.add(&Op::Gather { batch: 0 }, &[(0, AXIS), (1, AXIS)], &[(2, AXIS)]).unwrap();
        extents.add(&Op::Gather { batch: 0 }, &[(0, AXIS), (1, AXIS)], &[(3, AXIS)]).unwrap();
        assert_eq!((extents.of(2), extents.of(3)), (Some(1), Some(1)));
    }
}
