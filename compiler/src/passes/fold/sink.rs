//! Leaves move into the regions that use them, where they can be seen: a linear's weight is then a node of its own region.

use crate::ir::{NodeId, Op, OriginId, Region, Value};

use super::super::rewrite::is_leaf;

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
        let mut inputs = node.inputs.clone();
        for i in (own..inputs.len()).rev() {
            let Some(leaf) = leaf(region, inputs[i]) else {
                continue;
            };
            for inner in Region::nested_mut(region.op_mut(id)) {
                let param = inner.params()[given + i - own];
                let ty = inner.ty(param).clone();
                if inner.is_used(param) {
                    let node = inner.insert(0, leaf.0.clone(), &[], vec![ty], leaf.1);
                    let value = inner.node(node).results[0];
                    inner.replace_uses(param, value);
                }
                inner.remove_param(given + i - own);
            }
            inputs.remove(i);
        }
        region.set_inputs(id, inputs);
        for inner in Region::nested_mut(region.op_mut(id)) {
            sink(inner);
        }
    }
}

fn leaf(region: &Region, value: Value) -> Option<(Op, OriginId)> {
    let node = region.node(region.producer(value)?);
    is_leaf(&node.op).then(|| (node.op.clone(), node.origin))
}
