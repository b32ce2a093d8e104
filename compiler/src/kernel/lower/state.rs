//! Where states lie in a stream's block, and what makes a used block new again.
//!
//! Entries that share states form a group with one block. A growing axis keeps the number of entries pushed so
//! far and, if the graph reads them, the positions of the entries; its states lie as their types say, with room for as
//! many entries as there are slots, so that the entries of one head are neighbours. Resetting a block need not touch
//! entries at all.

use rustc_hash::{FxHashMap, FxHashSet};

use indexmap::IndexSet;

use super::access::row_major;
use super::weights::WeightLayout;
use super::{NotCompiled, Options};
use crate::ir::groups::entry_groups;
use crate::ir::{AxisCapacity, AxisId, Dim, Elem, Encoding, Initial, Module, Op, Region, StateDecl, StateId, WeightId};
use crate::kernel::ir::LANES;
use crate::kernel::program::{Arg, Base, Extent, LoopVar};
use crate::weights::layout::Layout;

/// Where the instances of a state lie.
#[derive(Clone, Debug, PartialEq)]
pub struct StatePlace {
    pub group: usize,
    /// All instances in the block.
    pub extent: Extent,
    /// Bytes per index of each repeat around the state, outermost first.
    pub instance_strides: Vec<u64>,
    /// Bytes per index of each axis of the state's type.
    pub strides: Vec<i64>,
}

/// Where the bookkeeping of a growing axis lies.
#[derive(Clone, Debug, PartialEq)]
pub struct AxisPlace {
    pub group: usize,
    /// The i32 counts of pushes of all instances in the block.
    pub counter: Extent,
    /// The i32 positions of all instances, if they are read.
    pub positions: Option<Extent>,
    /// Bytes per index of each repeat around the axis.
    pub counter_strides: Vec<u64>,
    pub position_strides: Vec<u64>,
    /// Entries there is room for, and whether older ones are overwritten.
    pub slots: usize,
    pub ring: bool,
}

/// Within a block, with an index for each loop of the driver.
fn of_block(extent: Extent, loops: &[LoopVar], strides: &[u64]) -> Arg {
    let scaled = loops.iter().copied().zip(strides.iter().copied()).collect();
    Arg::Pointer { base: Base::State, offset: extent.start, scaled, extent: Some(extent) }
}

impl StatePlace {
    /// The argument that gives a kernel the state within these loops of the driver.
    pub fn arg(&self, loops: &[LoopVar]) -> Arg {
        of_block(self.extent, loops, &self.instance_strides)
    }
}

impl AxisPlace {
    /// The arguments for the count of pushes and, if they are kept, the positions.
    pub fn args(&self, loops: &[LoopVar]) -> (Arg, Option<Arg>) {
        let positions = self.positions.map(|extent| of_block(extent, loops, &self.position_strides));
        (of_block(self.counter, loops, &self.counter_strides), positions)
    }
}

/// What a range of a block holds at the beginning.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    Zero,
    /// One element, repeated.
    Pattern(Vec<u8>),
    /// f32 values of this weight, which lie at this offset of the weights image.
    Weights(u64),
}

/// A range of a block that must be written to make the block new.
#[derive(Clone, Debug, PartialEq)]
pub struct Reset {
    pub offset: u64,
    pub bytes: u64,
    pub fill: Fill,
}

/// The block of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateGroup {
    /// A multiple of 64.
    pub bytes: u64,
    /// Ranges that are not named need no reset.
    pub resets: Vec<Reset>,
}

/// The layout of all states.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateLayout {
    pub groups: Vec<StateGroup>,
    /// The group of each entry.
    pub entry_group: Vec<usize>,
    pub states: FxHashMap<StateId, StatePlace>,
    pub axes: FxHashMap<AxisId, AxisPlace>,
}

impl StateLayout {
    /// Lays out the states that the entries use.
    pub fn new(module: &Module, weights: &WeightLayout, options: &Options) -> Result<StateLayout, NotCompiled> {
        let mut uses: Vec<Uses> = module
            .entries
            .iter()
            .map(|entry| {
                let mut uses = Uses::default();
                uses.collect(&entry.body);
                let axis = |s: &StateId| module.state(*s).growing().map(|(_, axis)| axis);
                uses.positions = uses.position_states.iter().filter_map(axis).collect();
                uses
            })
            .collect();
        // Entries may share an axis: what one of them reads of it, the others keep.
        let looked_at: FxHashSet<AxisId> = uses.iter().flat_map(|u| u.looked_at.iter().copied()).collect();
        let positions: FxHashSet<AxisId> = uses.iter().flat_map(|u| u.positions.iter().copied()).collect();
        for one in &mut uses {
            one.looked_at.clone_from(&looked_at);
            one.positions.clone_from(&positions);
        }
        let entry_group = entry_groups(module);
        let mut layout = StateLayout {
            groups: vec![StateGroup::default(); entry_group.iter().max().map_or(0, |last| last + 1)],
            entry_group: entry_group.clone(),
            ..StateLayout::default()
        };
        for (entry, uses) in uses.iter().enumerate() {
            for &state in &uses.states {
                layout.add(module, weights, entry_group[entry], state, uses, options)?;
            }
        }
        Ok(layout)
    }

    fn add(
        &mut self,
        module: &Module,
        weights: &WeightLayout,
        group: usize,
        id: StateId,
        uses: &Uses,
        options: &Options,
    ) -> Result<(), NotCompiled> {
        if self.states.contains_key(&id) {
            return Ok(());
        }
        let state = module.state(id);
        let bytes = state.stored.bytes().unwrap_or(4);
        let shape = match state.growing() {
            None => state.ty.constant_shape().unwrap_or_default(),
            Some((axis, id)) => entries(state, axis, room(module, state, id, uses, options)?),
        };
        let size = block_bytes(state, shape.iter().chain(&[bytes]))?;
        let size = size.next_multiple_of(64) + 64;
        let count = block_bytes(state, state.instances.iter().chain(&[size as usize]))? / size;
        if let Some((_, axis)) = state.growing() {
            self.add_axis(module, group, axis, state, uses, options)?;
        }
        let strides = row_major(&shape, bytes);
        let instance_strides = strides_of(&state.instances, size);
        let extent = self.take(group, size * count);
        let offset = extent.start;
        if state.growing().is_none() {
            let fill = match &state.initial {
                Initial::Fill(value) => pattern(state.ty.elem, *value),
                Initial::Weight(_) | Initial::Empty => Fill::Zero,
            };
            match state.initial {
                Initial::Weight(weight) => {
                    let pieces = pieces(module, weights, state, weight)?;
                    let resets = &mut self.groups[group].resets;
                    for i in 0..count {
                        resets.extend(pieces.iter().map(|piece| Reset {
                            offset: offset + i * size + piece.0,
                            bytes: piece.1,
                            fill: Fill::Weights(piece.2),
                        }));
                    }
                }
                _ => self.groups[group].resets.push(Reset { offset, bytes: size * count, fill }),
            }
        }
        let place = StatePlace { group, extent, instance_strides, strides };
        self.states.insert(id, place);
        Ok(())
    }

    /// Bytes at the end of a group's block.
    fn take(&mut self, group: usize, bytes: u64) -> Extent {
        let start = self.groups[group].bytes;
        self.groups[group].bytes += bytes;
        Extent { start, end: start + bytes }
    }

    fn add_axis(
        &mut self,
        module: &Module,
        group: usize,
        id: AxisId,
        state: &StateDecl,
        uses: &Uses,
        options: &Options,
    ) -> Result<(), NotCompiled> {
        if let Some(place) = self.axes.get(&id) {
            if place.group == group {
                return Ok(());
            }
            let what = format!("{}, which entries with states of their own share", module.axis(id).path);
            return Err(NotCompiled { origin: state.origin, what });
        }
        let slots = room(module, state, id, uses, options)?;
        let count = block_bytes(state, state.instances.iter().chain(&[4]))? / 4;
        let counter = self.take(group, (count * 4).next_multiple_of(64));
        self.groups[group].resets.push(Reset {
            offset: counter.start,
            bytes: counter.end - counter.start,
            fill: Fill::Zero,
        });
        let room = block_bytes(state, &[slots, 4])?.next_multiple_of(64) + 64;
        let all = block_bytes(state, state.instances.iter().chain(&[room as usize]))?;
        let positions = uses.positions.contains(&id).then(|| self.take(group, all));
        let place = AxisPlace {
            group,
            counter,
            positions,
            counter_strides: strides_of(&state.instances, 4),
            position_strides: strides_of(&state.instances, room),
            slots,
            ring: matches!(module.axis(id).capacity, AxisCapacity::Ring(_)),
        };
        self.axes.insert(id, place);
        Ok(())
    }
}

/// The most entries of a cache.
const MOST_ENTRIES: usize = 1 << 28;
/// The most bytes of one state in all its instances.
const MOST_BYTES: usize = 1 << 40;

/// The product of numbers, none of them 0 by itself, as bytes of a state that can be had.
fn block_bytes<'a>(state: &StateDecl, numbers: impl IntoIterator<Item = &'a usize>) -> Result<u64, NotCompiled> {
    let bytes = numbers.into_iter().try_fold(1usize, |product, &n| product.checked_mul(n));
    match bytes.filter(|&bytes| bytes <= MOST_BYTES) {
        Some(bytes) => Ok(bytes as u64),
        None => {
            let what = format!("{}, a state of more than {MOST_BYTES} bytes", state.path);
            Err(NotCompiled { origin: state.origin, what })
        }
    }
}

/// The most entries of an axis that a step sees, with a whole strip at either end.
pub fn reach(module: &Module, axis: AxisId, max_context: usize) -> usize {
    match module.axis(axis).capacity {
        AxisCapacity::Unbounded => max_context.next_multiple_of(LANES),
        AxisCapacity::Max(n) => n.next_multiple_of(LANES),
        // A strip of 16 that the window touches is whole in memory.
        AxisCapacity::Ring(n) => (n + LANES - 1).next_multiple_of(LANES),
    }
}

/// Entries that an axis has room for. Where entries are `looked_at` beyond single recent ones, all rows of a call push
/// before the first of them reads, so a ring keeps what the first row sees until the last has pushed.
fn slots(module: &Module, axis: AxisId, looked_at: bool, options: &Options) -> usize {
    let reach = reach(module, axis, options.max_context);
    match module.axis(axis).capacity {
        AxisCapacity::Ring(_) if looked_at => (reach + options.max_rows - 1).next_multiple_of(LANES),
        _ => reach,
    }
}

/// As [`slots`], a number that an i32 holds with room to spare.
fn room(
    module: &Module,
    state: &StateDecl,
    axis: AxisId,
    uses: &Uses,
    options: &Options,
) -> Result<usize, NotCompiled> {
    let capacity = match module.axis(axis).capacity {
        AxisCapacity::Unbounded => options.max_context,
        AxisCapacity::Max(n) | AxisCapacity::Ring(n) => n,
    };
    if capacity > MOST_ENTRIES {
        let what = format!("{}, a cache of more than {MOST_ENTRIES} entries", state.path);
        return Err(NotCompiled { origin: state.origin, what });
    }
    Ok(slots(module, axis, uses.looked_at.contains(&axis), options))
}

/// The shape of a growing state with room for so many entries.
fn entries(state: &StateDecl, growing: usize, slots: usize) -> Vec<usize> {
    (state.ty.shape.iter().enumerate())
        .map(|(i, dim)| if i == growing { slots } else { dim.constant().unwrap_or(1) })
        .collect()
}

/// The dense pieces of a weight that starts a state: byte in the state, bytes, byte of the weights image.
fn pieces(
    module: &Module,
    weights: &WeightLayout,
    state: &StateDecl,
    id: WeightId,
) -> Result<Vec<(u64, u64, u64)>, NotCompiled> {
    let decl = module.weight(id);
    let layout = weights.layout(id);
    if decl.encoding != Encoding::F32 || decl.ty() != state.ty {
        // The pass `fold` makes such a weight.
        let what = format!("a state {} that starts as {}, which is {}", state.ty, decl.path, decl.ty());
        return Err(NotCompiled { origin: state.origin, what });
    }
    let (rows, columns) = (layout.shape().rows, layout.shape().columns);
    let (run, runs) = match layout {
        Layout::Rows { .. } => (columns, rows),
        _ => (1, rows * columns),
    };
    let mut pieces: Vec<(u64, u64, u64)> = Vec::new();
    for at in (0..runs).map(|i| i * run) {
        let from = weights.offset(id) + layout.field(at / columns, at % columns).0 as u64;
        let (to, bytes) = (at as u64 * 4, run as u64 * 4);
        match pieces.last_mut() {
            Some(last) if last.2 + last.1 == from && last.0 + last.1 == to => last.1 += bytes,
            _ => pieces.push((to, bytes, from)),
        }
    }
    Ok(pieces)
}

fn strides_of(counts: &[usize], bytes: u64) -> Vec<u64> {
    let mut strides = vec![0; counts.len()];
    let mut next = bytes;
    for (stride, &n) in strides.iter_mut().zip(counts).rev() {
        *stride = next;
        next *= n as u64;
    }
    strides
}

/// An element of this value, as bytes.
fn pattern(elem: Elem, value: f64) -> Fill {
    let bytes: Vec<u8> = match elem {
        Elem::F32 | Elem::F16 | Elem::Bf16 => (value as f32).to_le_bytes().to_vec(),
        Elem::I32 => (value as i32).to_le_bytes().to_vec(),
        Elem::U32 => (value as u32).to_le_bytes().to_vec(),
        Elem::U64 => (value as u64).to_le_bytes().to_vec(),
        Elem::I8 | Elem::Ternary | Elem::Sign => (value as i8).to_le_bytes().to_vec(),
        Elem::U8 | Elem::Bool => vec![value as u8],
    };
    if bytes.iter().all(|&b| b == 0) { Fill::Zero } else { Fill::Pattern(bytes) }
}

/// The states that a region uses, nested regions included.
#[derive(Default)]
struct Uses {
    states: IndexSet<StateId>,
    positions: FxHashSet<AxisId>,
    position_states: FxHashSet<StateId>,
    /// Growing axes whose entries are read otherwise than one counted from the newest.
    looked_at: FxHashSet<AxisId>,
}

impl Uses {
    fn collect(&mut self, region: &Region) {
        for id in region.nodes() {
            let op = &region.node(id).op;
            match op {
                Op::StateRead(state) | Op::StateWrite(state) | Op::Push { state } | Op::Recent { state, .. } => {
                    self.states.insert(*state);
                }
                Op::Positions { state } => {
                    self.states.insert(*state);
                    self.position_states.insert(*state);
                }
                _ => {}
            }
            if !matches!(op, Op::StateRead(_) | Op::StateWrite(_) | Op::Push { .. } | Op::Recent { .. }) {
                for &v in region.node(id).inputs.iter().chain(&region.node(id).results) {
                    self.looked_at.extend(region.ty(v).shape.iter().filter_map(|dim| match dim {
                        Dim::Grow { axis, .. } => Some(*axis),
                        _ => None,
                    }));
                }
            }
            for inner in Region::nested(op) {
                self.collect(inner);
            }
        }
    }
}
