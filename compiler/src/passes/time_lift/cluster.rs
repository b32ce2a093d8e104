//! Finds the recurrences of a region: the nodes that must run step by step, in one sweep.
//!
//! All uses of one state belong together, and so does everything along one growing axis, for each step must see its own
//! length of it. What lies between such nodes belongs to them too. A choice or repeat that has a state all to itself is
//! no recurrence here: it is lifted, and the state's uses are found again in its body.

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::units::Units;
use crate::ir::{AxisId, Dim, Module, NodeId, Op, Region, StateId, Type};

/// States and growing axes that a node touches, in nested regions too.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Resources {
    states: FxHashSet<StateId>,
    axes: FxHashSet<AxisId>,
}

impl Resources {
    /// Those of an operation (types of its operands aside).
    pub(super) fn of(op: &Op) -> Resources {
        let mut all = Resources::default();
        match op {
            Op::StateRead(s) | Op::StateWrite(s) => drop(all.states.insert(*s)),
            Op::Push { state } | Op::Positions { state } | Op::Recent { state, .. } => {
                all.states.insert(*state);
            }
            _ => {}
        }
        for region in Region::nested(op) {
            all.add(&Resources::of_region(region));
        }
        all
    }

    fn of_region(region: &Region) -> Resources {
        let mut all = Resources::default();
        for &p in region.params() {
            all.add_type(region.ty(p));
        }
        for id in region.nodes() {
            all.add(&Resources::of_node(region, id));
        }
        all
    }

    fn of_node(region: &Region, id: NodeId) -> Resources {
        let node = region.node(id);
        let mut all = Resources::of(&node.op);
        for &v in node.inputs.iter().chain(&node.results) {
            all.add_type(region.ty(v));
        }
        all
    }

    fn add_type(&mut self, ty: &Type) {
        for dim in &ty.shape {
            if let Dim::Grow { axis, .. } = dim {
                self.axes.insert(*axis);
            }
        }
    }

    fn add(&mut self, other: &Resources) {
        self.states.extend(&other.states);
        self.axes.extend(&other.axes);
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.states.is_empty() && self.axes.is_empty()
    }

    fn meets(&self, other: &Resources) -> bool {
        !self.states.is_disjoint(&other.states) || !self.axes.is_disjoint(&other.axes)
    }
}

/// Merges the units of each recurrence, and gives those units.
pub(super) fn recurrences(module: &Module, region: &Region, units: &mut Units) -> FxHashSet<usize> {
    let mut by_state: FxHashMap<StateId, Vec<NodeId>> = FxHashMap::default();
    let mut by_axis: FxHashMap<AxisId, Vec<NodeId>> = FxHashMap::default();
    let mut alone: FxHashMap<NodeId, bool> = FxHashMap::default();
    for id in region.nodes() {
        let resources = Resources::of_node(region, id);
        let node = region.node(id);
        let lonely_host = matches!(node.op, Op::Host(_)) && node.inputs.is_empty();
        if resources.is_empty() && !lonely_host {
            continue;
        }
        for &s in &resources.states {
            by_state.entry(s).or_default().push(id);
            // A growing state and its axis are one thing.
            if let Some((_, axis)) = module.state(s).growing() {
                by_axis.entry(axis).or_default().push(id);
            }
        }
        for &a in &resources.axes {
            by_axis.entry(a).or_default().push(id);
        }
        alone.insert(id, liftable(region, id));
    }
    // In the order of the region, so that the outcome does not depend on hashing.
    let mut groups: Vec<Vec<NodeId>> = by_state.into_values().chain(by_axis.into_values()).collect();
    for group in &mut groups {
        group.dedup();
    }
    let places: FxHashMap<NodeId, usize> = region.nodes().enumerate().map(|(i, n)| (n, i)).collect();
    groups.sort_by_key(|g| (places[&g[0]], g.len()));
    let mut recurrent: FxHashSet<NodeId> = FxHashSet::default();
    for group in groups {
        if let [only] = group[..]
            && alone[&only]
        {
            continue;
        }
        recurrent.extend(&group);
        let mut merged: Vec<usize> = group.iter().map(|&n| units.unit(n)).collect();
        merged.sort_unstable();
        merged.dedup();
        units.merge(&merged);
    }
    for (&id, &liftable) in &alone {
        if !liftable {
            recurrent.insert(id);
        }
    }
    close(region, units);
    recurrent.into_iter().map(|id| units.unit(id)).collect()
}

/// Whether a node that touches states can be lifted with its body: its regions share none, and it has none outside.
fn liftable(region: &Region, id: NodeId) -> bool {
    let node = region.node(id);
    let types = node.inputs.iter().chain(&node.results);
    if types.into_iter().any(|&v| region.ty(v).grows()) {
        return false;
    }
    match &node.op {
        Op::If { then, otherwise } => !Resources::of_region(then).meets(&Resources::of_region(otherwise)),
        Op::Repeat { .. } => true,
        _ => false,
    }
}

/// Merges units that depend on each other in a circle, so that every unit is convex and they can be ordered.
fn close(region: &Region, units: &mut Units) {
    let mut graph: petgraph::graph::DiGraph<usize, ()> = petgraph::graph::DiGraph::new();
    let mut nodes = FxHashMap::default();
    for id in region.nodes() {
        let unit = units.unit(id);
        nodes.entry(unit).or_insert_with(|| graph.add_node(unit));
    }
    for id in region.nodes() {
        for &v in &region.node(id).inputs {
            if let Some(from) = region.producer(v) {
                let (from, to) = (units.unit(from), units.unit(id));
                if from != to {
                    graph.add_edge(nodes[&from], nodes[&to], ());
                }
            }
        }
    }
    for circle in petgraph::algo::tarjan_scc(&graph) {
        if circle.len() > 1 {
            let mut circle: Vec<usize> = circle.into_iter().map(|n| graph[n]).collect();
            circle.sort_unstable();
            units.merge(&circle);
        }
    }
}
