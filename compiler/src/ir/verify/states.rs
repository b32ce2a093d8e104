//! Invariants of states that growing axes and the order of a step ask for: states on one axis are pushed together, what
//! is pushed is written, values of one length meet, nothing is read after an inner region has changed it.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::region::{Around, Uses};
use super::{Checker, Fault};
use crate::ir::extents::{Extents, Operand, growing};
use crate::ir::graph::{Node, NodeId, Region, Value, ValueDef};
use crate::ir::groups::groups_of;
use crate::ir::module::{AxisId, Module, StateId};
use crate::ir::op::Op;
use crate::ir::print::Place;
use crate::ir::types::InputQuant;

/// The states that entries use on each growing axis.
pub(super) type OnAxis = FxHashMap<AxisId, BTreeSet<StateId>>;

/// See [`OnAxis`].
pub(super) fn on_axis(module: &Module, uses: &[BTreeSet<StateId>]) -> OnAxis {
    let mut found = OnAxis::default();
    for &state in uses.iter().flatten() {
        if let Some((_, axis)) = module.states.get(state.index()).and_then(|decl| decl.growing()) {
            found.entry(axis).or_default().insert(state);
        }
    }
    found
}

/// What a walk through a region remembers of its states.
#[derive(Default)]
pub(super) struct Walk {
    extents: Extents<Value>,
    /// Pushes in order: the state, where it is pushed, what it gives.
    pushes: Vec<(StateId, Value, Value, NodeId)>,
}

impl Walk {
    /// Before the first node; the parameters of an inner region are as long as what they stand for.
    pub(super) fn new(region: &Region, around: &Around) -> Walk {
        let mut walk = Walk::default();
        for (number, &param) in region.params().iter().enumerate() {
            if let (Some(axis), Some(Some(pushes))) = (growing(region.ty(param)), around.seen.get(number)) {
                let known = walk.extents.know(param, axis, *pushes);
                debug_assert!(known.is_ok(), "nothing else is known of a parameter");
            }
        }
        walk
    }

    /// How many pushes the parameters of regions nested in a node have seen.
    pub(super) fn seen(&self, node: &Node) -> Vec<Option<usize>> {
        let outside = node.inputs.iter().map(|&v| self.extents.of(v));
        match node.op {
            Op::If { .. } | Op::Experts { .. } => outside.skip(1).collect(),
            // Carried values are what each round makes them.
            Op::Repeat { carried, .. } => {
                outside.enumerate().map(|(i, pushes)| pushes.filter(|_| i > carried)).collect()
            }
            _ => outside.collect(),
        }
    }
}

impl Checker<'_> {
    /// What states on one axis have in common.
    pub(super) fn axes(&mut self) {
        let module = self.module;
        let groups = groups_of(&self.uses);
        let mut owners: BTreeMap<u32, usize> = BTreeMap::new();
        let uses = std::mem::take(&mut self.uses);
        for (used, &group) in uses.iter().zip(&groups) {
            for state in used {
                let Some((_, axis)) = module.states.get(state.index()).and_then(|decl| decl.growing()) else {
                    continue;
                };
                if *owners.entry(axis.0).or_insert(group) != group {
                    let what = "entries that share no state push to states along it: each needs an axis of its own";
                    self.declaration(&format!("cache{}", axis.0), what);
                }
            }
        }
        let mut all: Vec<(&AxisId, &BTreeSet<StateId>)> = self.on_axis.iter().collect();
        all.sort_by_key(|(axis, _)| axis.0);
        let mut faults = Vec::new();
        for (axis, states) in all {
            let mut decls = states.iter().map(|state| module.state(*state));
            let Some(first) = decls.next() else { continue };
            if let Some(other) = decls.find(|decl| decl.instances != first.instances) {
                let what = format!("{} and {} grow along it and are within other repeats", first.path, other.path);
                faults.push((format!("cache{}", axis.0), what));
            }
        }
        for (name, what) in faults {
            self.declaration(&name, what);
        }
    }

    /// A node, before its nested regions.
    pub(super) fn step(&mut self, region: &Region, id: NodeId, around: &Around, walk: &mut Walk) {
        let node = region.node(id);
        let place = || Place::Node(around.root, around.path.clone(), id);
        let with_axis = |values: &[Value]| -> SmallVec<[Operand<Value>; 4]> {
            values.iter().map(|&v| (v, growing(region.ty(v)))).collect()
        };
        let (inputs, results) = (with_axis(&node.inputs), with_axis(&node.results));
        if let Err(mixed) = walk.extents.add(&node.op, &inputs, &results) {
            let path = self.module.axes.get(mixed.axis.index()).map_or("", |axis| axis.path.as_str());
            let what =
                format!("entries of {path} from before a push meet those from after it: they are not equally many");
            self.fault(place(), Fault::Structure(what));
        }
        if let Op::StateRead(state) = node.op
            && around.is_changed(state)
        {
            let what = format!("{} is read after a branch or round of this step has changed it", self.path(state));
            self.fault(place(), Fault::Structure(what));
        }
        if let (Op::Push { state }, [_, _, position], [result]) = (&node.op, &node.inputs[..], &node.results[..]) {
            walk.pushes.push((*state, *position, *result, id));
        }
    }

    /// A region, after its last node.
    pub(super) fn pushes(&mut self, region: &Region, around: &Around, walk: &Walk) {
        let mut positions: FxHashMap<StateId, Vec<Value>> = FxHashMap::default();
        for &(state, position, ..) in &walk.pushes {
            positions.entry(state).or_default().push(position);
        }
        let mut looked_at: FxHashSet<AxisId> = FxHashSet::default();
        for &(state, _, result, id) in &walk.pushes {
            let place = || Place::Node(around.root, around.path.clone(), id);
            let goes_on = |user: NodeId| match region.node(user).op {
                Op::StateWrite(s) | Op::Push { state: s } => s == state && region.node(user).inputs[0] == result,
                _ => false,
            };
            if !region.results().contains(&result) && !region.users(result).into_iter().any(goes_on) {
                let what = format!("an entry is pushed to {0} and {0} is not written with it", self.path(state));
                self.fault(place(), Fault::Structure(what));
            }
            let Some((_, axis)) = self.module.states.get(state.index()).and_then(|decl| decl.growing()) else {
                continue;
            };
            // Once for each axis: at its first push.
            if !looked_at.insert(axis) {
                continue;
            }
            let own = positions.get(&state);
            let mut others = self.on_axis.get(&axis).into_iter().flatten();
            if let Some(&other) = others.find(|&other| positions.get(other) != own) {
                let what = format!(
                    "{} and {} grow along one axis: they are pushed together, at one position, or not at all",
                    self.path(state),
                    self.path(other)
                );
                self.fault(place(), Fault::Structure(what));
            }
        }
    }

    /// What a node's nested regions have written or pushed is not read any more in this step.
    pub(super) fn changed(around: &mut Around, inner: &Uses) {
        let changed = inner.iter().filter(|(_, (writes, pushes))| writes + pushes > 0);
        around.changed.extend(changed.map(|(state, _)| *state));
    }

    /// Codes and maxima of an integer product come from one quantiser of its kind.
    pub(super) fn codes(&self, region: &Region, node: &Node, around: &Around) -> Result<(), String> {
        let (Op::LinearInt8 { quant }, [codes, maxima, ..]) = (&node.op, &node.inputs[..]) else {
            return Ok(());
        };
        let made = [codes, maxima].map(|v| quantiser(region, *v, around));
        match made {
            [Some((a, 0, kind)), Some((b, 1, _))] if std::ptr::eq(a, b) && same_codes(kind, *quant) => Ok(()),
            _ => Err("an integer product takes codes and maxima of one quantiser of its kind".into()),
        }
    }

    fn path(&self, state: StateId) -> &str {
        self.module.states.get(state.index()).map_or("", |decl| decl.path.as_str())
    }
}

/// Whether two ways of quantising make the same codes; how they are undone is the product's affair.
fn same_codes(a: InputQuant, b: InputQuant) -> bool {
    match (a, b) {
        (InputQuant::Int8 { block: a, floor: x, .. }, InputQuant::Int8 { block: b, floor: y, .. }) => (a, x) == (b, y),
        _ => false,
    }
}

/// The quantiser that makes a value, which of its results that is, and how it quantises.
fn quantiser<'r>(region: &'r Region, value: Value, around: &Around<'r>) -> Option<(&'r Node, usize, InputQuant)> {
    match region.def(value) {
        ValueDef::Result(id, result) => made(region, id, result),
        ValueDef::Param(number) => {
            let (outer, id, beyond) = around.outer?;
            let input = match outer.node(id).op {
                Op::If { .. } | Op::Experts { .. } => number + 1,
                Op::Repeat { carried, .. } if number <= carried => return None,
                _ => number,
            };
            quantiser(outer, *outer.node(id).inputs.get(input)?, beyond)
        }
    }
}

fn made(region: &Region, id: NodeId, result: usize) -> Option<(&Node, usize, InputQuant)> {
    let node = region.node(id);
    match &node.op {
        Op::QuantizeInput { quant } => Some((node, result, *quant)),
        Op::Fused { body, .. } => match body.def(*body.results().get(result)?) {
            ValueDef::Result(id, result) => made(body, id, result),
            ValueDef::Param(_) => None,
        },
        _ => None,
    }
}
