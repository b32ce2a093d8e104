//! Leaves move into the regions that use them, where they can be seen: a linear's weight is then a node of its own
//! region.

use rustc_hash::FxHashMap;

use crate::ir::{NodeId, Op, OriginId, Region, Value};

use super::super::rewrite::is_leaf;
use crate::ir::graph::Inputs;

/// Sinks leaves from a region into those nested in it, at all depths.
pub(super) fn sink(region: &mut Region) {
    let ids: Vec<NodeId> = region.nodes().collect();
    for id in ids {
        let node = region.node(id);
        let (own, given) = match &node.op {
            Op::If { .. } | Op::Experts { .. } => (1, 0),
            Op::Repeat { carried, .. } => (1 + carried, 1 + carried),
            Op::Scan { .. } | Op::Fused { .. } => (0, 0),
            _ => continue,
        };
        let inputs = node.inputs.clone();
        let leaves: FxHashMap<usize, Leaf> =
            (own..inputs.len()).filter_map(|i| Some((given + i - own, leaf(region, inputs[i])?))).collect();
        if !leaves.is_empty() {
            for inner in Region::nested_mut(region.op_mut(id)) {
                take_in(inner, &leaves);
            }
            let kept = inputs.iter().enumerate().filter(|(i, _)| *i < own || !leaves.contains_key(&(given + i - own)));
            let kept: Inputs = kept.map(|(_, &v)| v).collect();
            region.set_inputs(id, kept);
        }
        for inner in Region::nested_mut(region.op_mut(id)) {
            sink(inner);
        }
    }
}

type Leaf = (Op, OriginId);

/// Makes parameters, by their positions, the leaves that were given for them.
fn take_in(region: &mut Region, leaves: &FxHashMap<usize, Leaf>) {
    let mut used: Vec<Value> = Vec::new();
    let mut nodes = Vec::new();
    for (i, &param) in region.params().iter().enumerate() {
        if let Some((op, origin)) = leaves.get(&i)
            && region.is_used(param)
        {
            used.push(param);
            nodes.push((op.clone(), region.ty(param).clone(), *origin));
        }
    }
    let values = region.prepend(nodes);
    region.replace_all(&used.into_iter().zip(values).collect());
    region.remove_params(|i| leaves.contains_key(&i));
}

fn leaf(region: &Region, value: Value) -> Option<Leaf> {
    let node = region.node(region.producer(value)?);
    is_leaf(&node.op).then(|| (node.op.clone(), node.origin))
}
