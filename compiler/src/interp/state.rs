//! The states of one stream and the operations on them.

use std::sync::Arc;

use super::error::{Fault, InterpError};
use super::eval::{Evaluator, Operands, Slot};
use super::tensor::{Growth, Tensor};
use super::weights::WeightStore;
use crate::ir::extents::{Extents, Operand, growing};
use crate::ir::{AxisCapacity, AxisId, Data, Elem, Initial, Module, Region, StateId, Value};
use crate::numerics::narrow;

/// All that a stream carries from step to step. A clone is a snapshot: elements are shared until written.
#[derive(Clone, Debug)]
pub struct StreamState {
    /// Steps taken, which is the position of the next one.
    pub position: i32,
    /// Per state, per instance; absent: still as before the first step.
    states: Vec<Vec<Option<Tensor>>>,
}

impl StreamState {
    /// A stream before its first step.
    pub fn new(module: &Module) -> StreamState {
        StreamState { position: 0, states: vec![Vec::new(); module.states.len()] }
    }

    /// For what looks into no state: it costs the same however many states a model has.
    pub fn stateless() -> StreamState {
        StreamState { position: 0, states: Vec::new() }
    }

    /// What an instance holds, if a step or the host has written it.
    pub fn get(&self, state: StateId, instance: usize) -> Option<&Tensor> {
        self.states.get(state.index())?.get(instance).and_then(|t| t.as_ref())
    }

    /// Writes a state by its path (for held states, and for tests).
    pub fn set(&mut self, module: &Module, path: &str, value: Tensor) -> Result<(), InterpError> {
        let found = module.states.iter().position(|s| s.path == path);
        let index = found.ok_or_else(|| Fault::MissingState(path.to_string()))?;
        let expected = module.states[index].ty.constant_shape();
        if expected.as_deref() != Some(&value.shape) || value.elem() != module.states[index].elem() {
            return Err(Fault::BadArgument {
                name: path.to_string(),
                expected: format!("{:?}", module.states[index].ty),
                got: format!("{}{:?}", value.elem().name(), value.shape),
            }
            .into());
        }
        self.put(StateId(index as u32), 0, value);
        Ok(())
    }

    fn put(&mut self, state: StateId, instance: usize, value: Tensor) {
        let slots = &mut self.states[state.index()];
        if slots.len() <= instance {
            slots.resize(instance + 1, None);
        }
        slots[instance] = Some(value);
    }

    /// Whether two streams hold the same bits.
    pub fn same_bits(&self, other: &StreamState) -> bool {
        let written = |s: &StreamState, i: usize, j: usize| s.states.get(i).and_then(|v| v.get(j)).cloned().flatten();
        self.position == other.position
            && (0..self.states.len().max(other.states.len())).all(|i| {
                let count = |s: &StreamState| s.states.get(i).map_or(0, |v| v.len());
                (0..count(self).max(count(other))).all(|j| match (written(self, i, j), written(other, i, j)) {
                    (Some(a), Some(b)) => a.same_bits(&b) && a.growth == b.growth,
                    (None, None) => true,
                    _ => false,
                })
            })
    }
}

/// The value of a state that nothing has written.
pub(super) fn initial(module: &Module, weights: &dyn WeightStore, state: StateId) -> Result<Tensor, InterpError> {
    let decl = module.state(state);
    if decl.growing().is_some() {
        let shape: Vec<usize> = decl.ty.shape.iter().map(|d| d.constant().unwrap_or(0)).collect();
        let mut empty = Tensor::zeros(decl.elem(), &shape)?;
        empty.growth = Some(Growth { first: 0, positions: Arc::new(Vec::new()) });
        return Ok(empty);
    }
    let shape = decl.ty.constant_shape().ok_or_else(|| Fault::Shape(format!("{} has no fixed shape", decl.path)))?;
    let n = super::tensor::elements(&shape)?;
    Ok(match &decl.initial {
        Initial::Empty => Tensor::zeros(decl.elem(), &shape)?,
        Initial::Weight(w) => {
            let start = weights.weight(*w)?.dense();
            let repeats = n.checked_div(start.len()).unwrap_or(0);
            Tensor::f32(&shape, start.floats("a state")?.repeat(repeats))
        }
        Initial::Fill(x) => Tensor::new(
            &shape,
            match decl.elem() {
                Elem::I32 => Data::I32(vec![*x as i32; n]),
                Elem::U32 => Data::U32(vec![*x as u32; n]),
                Elem::U64 => Data::U64(vec![*x as u64; n]),
                Elem::I8 => Data::I8(vec![*x as i8; n]),
                Elem::U8 => Data::U8(vec![*x as u8; n]),
                Elem::Bool => Data::Bool(vec![*x != 0.0; n]),
                _ => Data::F32(vec![*x as f32; n]),
            },
        ),
    })
}

/// Positions of the entries of a growing state.
pub(super) fn positions(entries: &Tensor) -> Result<Tensor, Fault> {
    let growth =
        entries.growth.clone().ok_or_else(|| Fault::Shape("positions of a state that does not grow".into()))?;
    let mut positions = Tensor::i32(&[growth.positions.len()], growth.positions.to_vec());
    positions.growth = Some(growth);
    Ok(positions)
}

impl Evaluator<'_> {
    /// Which instance of a state the repeats entered so far select.
    fn instance(&self, state: StateId) -> usize {
        let bounds = &self.module.state(state).instances;
        bounds.iter().zip(&self.rounds).fold(0, |index, (&bound, &round)| index * bound + round)
    }

    /// The stored value; does not look at what this step has pushed.
    pub(super) fn state_value(&self, state: StateId) -> Result<Tensor, InterpError> {
        match self.stream.get(state, self.instance(state)) {
            Some(value) => Ok(value.clone()),
            None => initial(self.module, self.weights, state),
        }
    }

    pub(super) fn state_write(&mut self, state: StateId, value: Tensor) {
        let instance = self.instance(state);
        self.written.insert((state, instance), value);
    }

    /// Ends a step: what it has written is what the next one reads.
    pub(super) fn end_step(&mut self) {
        self.pushed.clear();
        for ((state, instance), value) in self.written.drain() {
            self.stream.put(state, instance, value);
        }
    }

    /// One more entry at the end of the growing axis; a ring drops its oldest.
    pub(super) fn push(
        &mut self,
        state: StateId,
        s: &Tensor,
        x: &Tensor,
        position: i32,
    ) -> Result<Tensor, InterpError> {
        let decl = self.module.state(state);
        let (axis, id) = decl.growing().ok_or_else(|| Fault::Shape(format!("{} does not grow", decl.path)))?;
        let growth =
            s.growth.clone().ok_or_else(|| Fault::Shape(format!("{} is pushed without its entries", decl.path)))?;
        let len = s.shape[axis];
        let dropped = match self.module.axis(id).capacity {
            AxisCapacity::Max(capacity) if len >= capacity => {
                return Err(Fault::Overflow { state: decl.path.clone(), capacity }.into());
            }
            AxisCapacity::Ring(0) => {
                return Err(Fault::Shape(format!("{} is a ring of none", decl.path)).into());
            }
            AxisCapacity::Ring(capacity) => (len + 1).saturating_sub(capacity),
            _ => 0,
        };
        let kept = len - dropped;
        let outer: usize = s.shape[..axis].iter().product();
        let inner: usize = s.shape[axis + 1..].iter().product();
        if x.len() != outer * inner {
            return Err(Fault::Shape(format!("{} is pushed an entry of another shape", decl.path)).into());
        }
        let mut shape = s.shape.clone();
        shape[axis] = kept + 1;
        super::tensor::elements(&shape)?;
        let data = super::tensor::map_data2!(&*s.data, &*x.data, old, new => {
            let mut out = Vec::with_capacity(outer * (kept + 1) * inner);
            for o in 0..outer {
                out.extend_from_slice(&old[(o * len + dropped) * inner..][..kept * inner]);
                out.extend_from_slice(&new[o * inner..][..inner]);
            }
            out
        }, else return Err(x.wrong("push").into()));
        let data = match data {
            Data::F32(mut v) if decl.stored == Elem::Bf16 => {
                // What is there already is rounded; once more changes nothing.
                v.iter_mut().for_each(|x| *x = narrow::bf16(*x));
                Data::F32(v)
            }
            data => data,
        };
        let mut positions = growth.positions[dropped..].to_vec();
        positions.push(position);
        let mut result = Tensor::new(&shape, data);
        result.growth = Some(Growth { first: growth.first + dropped, positions: Arc::new(positions) });
        self.pushed.insert((state, self.instance(state)), result.clone());
        Ok(result)
    }

    /// The value after this step's push if there was one, else the stored one.
    pub(super) fn latest(&self, state: StateId) -> Result<Tensor, InterpError> {
        match self.pushed.get(&(state, self.instance(state))) {
            Some(value) => Ok(value.clone()),
            None => self.state_value(state),
        }
    }

    /// The entry `back` pushes before the newest; zeros if it was never pushed or is no longer kept.
    pub(super) fn recent(
        &self,
        state: StateId,
        s: &Tensor,
        back: usize,
        shape: &[usize],
    ) -> Result<Tensor, InterpError> {
        let (axis, _) = self
            .module
            .state(state)
            .growing()
            .ok_or_else(|| Fault::Shape("the recent entry of a state that does not grow".into()))?;
        let len = s.shape[axis];
        let Some(place) = len.checked_sub(back.saturating_add(1)) else {
            return Ok(Tensor::zeros(s.elem(), shape)?);
        };
        Ok(super::shape::slice(s, axis, place, 1)?.reshaped(shape)?)
    }

    /// Entries on a growing axis of a value that no operand tells of: as many as what it meets has.
    pub(super) fn axis_growth(&mut self, o: &Operands, v: Value, axis: AxisId) -> Result<Growth, InterpError> {
        let extents = self.extents.entry(std::ptr::from_ref(o.region) as usize).or_insert_with(|| lengths(o.region));
        let met = o.values.iter().find_map(|(&other, slot)| match slot {
            Slot::Tensor(t) if growing(o.region.ty(other)) == Some(axis) && extents.are_equal(other, v) => {
                t.growth.clone()
            }
            _ => None,
        });
        if let Some(growth) = met {
            return Ok(growth);
        }
        let seen = extents.of(v);
        let pushes = seen.unwrap_or_else(|| extents.last(axis));
        let states = self.module.states.iter().enumerate();
        let on_axis = states.filter(|(_, decl)| decl.growing().is_some_and(|(_, a)| a == axis));
        let states: Vec<StateId> = on_axis.map(|(i, _)| StateId(i as u32)).collect();
        let pushed = states.iter().find(|&&state| self.pushed.contains_key(&(state, self.instance(state)))).copied();
        let Some(state) = pushed.or(states.first().copied()) else {
            return Err(Fault::Shape("an axis without a state".into()).into());
        };
        let value = if seen == Some(0) { self.state_value(state)? } else { self.latest(state)? };
        let mut growth = value.growth.ok_or_else(|| Fault::Shape("an axis without entries".into()))?;
        if pushes > 0 && pushed.is_none() {
            let mut positions = growth.positions.to_vec();
            positions.push(self.stream.position);
            if let AxisCapacity::Ring(capacity) = self.module.axis(axis).capacity
                && positions.len() > capacity
            {
                positions.remove(0);
                growth.first += 1;
            }
            growth.positions = Arc::new(positions);
        }
        Ok(growth)
    }

    /// A slot's tensor; weights act by their decoded values.
    pub(super) fn tensor(slot: &Slot) -> Tensor {
        match slot {
            Slot::Tensor(t) => t.clone(),
            Slot::Weight { value, .. } => value.dense(),
        }
    }
}

/// Which pushes the values of a region have seen.
fn lengths(region: &Region) -> Extents<Value> {
    let mut extents = Extents::default();
    for id in region.nodes() {
        let node = region.node(id);
        let with_axis =
            |values: &[Value]| -> Vec<Operand<Value>> { values.iter().map(|&v| (v, growing(region.ty(v)))).collect() };
        // What does not fit together is refused by the verifier; here it would meet as tensors of unequal shapes.
        let _ = extents.add(&node.op, &with_axis(&node.inputs), &with_axis(&node.results));
    }
    extents
}
