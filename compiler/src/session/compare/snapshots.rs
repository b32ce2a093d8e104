//! States as an engine holds them, as tensors: what the interpreter keeps, and what lies in a block of compiled code.

use std::sync::Arc;

use sterna_runtime::engine::{Engine, Rows};
use sterna_runtime::model::ModelTable;
use sterna_runtime::native::StateBlocks;
use sterna_runtime::{Buffer, NativeEngine, Result};

use crate::interp::{Growth, StreamState, Tensor};
use crate::ir::groups::states_of;
use crate::ir::{AxisCapacity, Data, Elem, Module, StateId};
use crate::kernel::lower::{Lowered, StateLayout};
use crate::session::{InterpreterEngine, tables};

/// What one instance of a state holds.
pub struct Held {
    /// The state.
    pub path: String,
    /// Which instance, counted over all axes of instances.
    pub instance: usize,
    /// With the number of entries that came before those kept, if it grows.
    pub value: Tensor,
    /// Positions of the kept entries, where the engine keeps them.
    pub positions: Option<Tensor>,
}

/// An engine whose states can be looked at.
pub trait Snapshots: Engine {
    /// The states of one block that steps of an entry may change.
    ///
    /// # Errors
    /// A state that the engine cannot show.
    fn states_of(&self, entry: usize, states: &Self::States, block: usize) -> Result<Vec<Held>>;
}

impl Snapshots for InterpreterEngine {
    fn states_of(&self, entry: usize, states: &Vec<StreamState>, block: usize) -> Result<Vec<Held>> {
        let mut all = Vec::new();
        for id in states_of(&self.module().entries[entry].body) {
            let decl = self.module().state(id);
            for instance in 0..decl.instances.iter().product() {
                let value = self.state(&states[block], id, instance)?;
                let positions = value.growth.as_ref().map(|growth| {
                    let positions = growth.positions.to_vec();
                    Tensor::i32(&[positions.len()], positions)
                });
                all.push(Held { path: decl.path.clone(), instance, value, positions });
            }
        }
        Ok(all)
    }
}

/// Compiled code with what says where its states lie.
pub(super) struct Native<'a> {
    pub engine: NativeEngine,
    pub lowered: &'a Lowered,
    pub module: &'a Module,
}

impl Native<'_> {
    /// The states of a group in a block.
    pub fn states_in(&self, group: usize, block: &[u8]) -> Vec<Held> {
        let layout = &self.lowered.states;
        let mut all = Vec::new();
        for (number, decl) in self.module.states.iter().enumerate() {
            let id = StateId(number as u32);
            // What no entry uses after the passes has no place.
            let Some(place) = layout.states.get(&id).filter(|place| place.group == group) else { continue };
            for instance in 0..decl.instances.iter().product() {
                let at = place.extent.start + moved(instance, &decl.instances, &place.instance_strides);
                let (value, positions) = held(self.module, layout, block, id, instance, at);
                all.push(Held { path: decl.path.clone(), instance, value, positions });
            }
        }
        all
    }
}

/// Bytes from the first instance to this one.
fn moved(mut instance: usize, counts: &[usize], strides: &[u64]) -> u64 {
    let mut bytes = 0;
    for (&count, &stride) in counts.iter().zip(strides).rev() {
        bytes += (instance % count) as u64 * stride;
        instance /= count;
    }
    bytes
}

/// One instance of a state that begins at byte `at` of the block.
fn held(
    module: &Module,
    layout: &StateLayout,
    block: &[u8],
    id: StateId,
    instance: usize,
    at: u64,
) -> (Tensor, Option<Tensor>) {
    let decl = module.state(id);
    let strides = &layout.states[&id].strides;
    let size = decl.stored.bytes().unwrap_or(4);
    let dense = |axis: usize, n: usize| (0..n as u64).map(|i| i * strides[axis] as u64).collect::<Vec<u64>>();
    let mut axes: Vec<Vec<u64>> =
        decl.ty.shape.iter().enumerate().map(|(axis, dim)| dense(axis, dim.constant().unwrap_or(0))).collect();
    let (mut growth, mut positions) = (None, None);
    if let Some((axis, id)) = decl.growing() {
        let place = &layout.axes[&id];
        let counter = place.counter.start + moved(instance, &decl.instances, &place.counter_strides);
        let count = words(block, counter, [0].into_iter())[0].max(0) as usize;
        let kept = match module.axis(id).capacity {
            AxisCapacity::Ring(n) => count.min(n),
            _ => count.min(place.slots),
        };
        let first = count - kept;
        let slots: Vec<u64> = (first..count).map(|i| (i % place.slots) as u64).collect();
        axes[axis] = slots.iter().map(|slot| slot * strides[axis] as u64).collect();
        positions = place.positions.map(|extent| {
            let start = extent.start + moved(instance, &decl.instances, &place.position_strides);
            Tensor::i32(&[kept], words(block, start, slots.iter().map(|slot| slot * 4)))
        });
        growth = Some(Growth { first, positions: Arc::new(Vec::new()) });
    }
    let mut bytes = Vec::new();
    copy(block, at, &axes, size, &mut bytes);
    let shape: Vec<usize> = axes.iter().map(Vec::len).collect();
    let value = Tensor { growth, ..Tensor::new(&shape, data(decl.stored, &bytes)) };
    (value, positions)
}

/// The i32 at these distances from `start`.
fn words(block: &[u8], start: u64, distances: impl Iterator<Item = u64>) -> Vec<i32> {
    let word = |distance| {
        let at = (start + distance) as usize;
        block.get(at..at + 4).map_or(0, |b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    };
    distances.map(word).collect()
}

/// Appends the elements at all places, the last axis fastest.
fn copy(block: &[u8], at: u64, axes: &[Vec<u64>], size: usize, out: &mut Vec<u8>) {
    match axes {
        [] => out.extend_from_slice(&block[at as usize..][..size]),
        [last] if last.iter().enumerate().all(|(i, &place)| place == (i * size) as u64) => {
            out.extend_from_slice(&block[at as usize..][..last.len() * size]);
        }
        [axis, rest @ ..] => axis.iter().for_each(|place| copy(block, at + place, rest, size, out)),
    }
}

/// Elements as they are stored; only bf16 is narrower than what is computed with.
fn data(stored: Elem, bytes: &[u8]) -> Data {
    match tables::element(stored) {
        Some(element) => tables::data_of(element, bytes),
        None => {
            let halves = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]));
            Data::F32(halves.map(|bits| f32::from_bits(u32::from(bits) << 16)).collect())
        }
    }
}

impl Engine for Native<'_> {
    type States = StateBlocks;

    fn table(&self) -> &ModelTable {
        self.engine.table()
    }

    fn new_states(&self, group: usize, blocks: usize) -> Result<StateBlocks> {
        self.engine.new_states(group, blocks)
    }

    fn reset(&self, group: usize, states: &mut StateBlocks, blocks: usize) -> Result<()> {
        self.engine.reset(group, states, blocks)
    }

    fn run(
        &mut self,
        entry: usize,
        states: &mut StateBlocks,
        rows: Rows,
        positions: &[i32],
        inputs: &[Buffer],
        outputs: &mut [Buffer],
    ) -> Result<()> {
        self.engine.run(entry, states, rows, positions, inputs, outputs)
    }
}

impl Snapshots for Native<'_> {
    fn states_of(&self, entry: usize, states: &StateBlocks, block: usize) -> Result<Vec<Held>> {
        Ok(self.states_in(self.table().entries[entry].group, states.block(block)))
    }
}
