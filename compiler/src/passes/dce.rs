//! Dead code: nodes without effect whose results nobody uses, results of choices, scans and groups that nobody
//! reads, and parameters of bodies that they do not look at.
//!
//! Weights and states stay declared (a checkpoint still has them; `inspect` still lists them); the report counts those
//! that no entry uses.

use rustc_hash::{FxHashMap, FxHashSet};

use super::rewrite::{Copy, each_computed, has_effect};
use super::{Context, PassError, Report};
use crate::ir::{Module, NodeId, Op, Region, Value, WeightSource};

/// Runs on every region.
pub fn run(module: &mut Module, _: &mut Context) -> Result<Report, PassError> {
    let mut removed = 0;
    for entry in &mut module.entries {
        removed += region(&mut entry.body);
    }
    each_computed(module, |_, r| removed += sweep(r));
    let (mut weights, mut states) = (FxHashSet::default(), FxHashSet::default());
    for entry in &module.entries {
        uses(&entry.body, &mut weights, &mut states);
    }
    for weight in module.weights.iter().rev() {
        if let WeightSource::Computed(region) = &weight.source {
            uses(region, &mut weights, &mut states);
        }
    }
    let idle = |n: usize, what: &str| match n {
        0 => String::new(),
        n => format!(", {n} {what} no longer read"),
    };
    Ok(Report::new(format!(
        "{removed} dead nodes removed{}{}",
        idle(module.weights.len() - weights.len(), "weights"),
        idle(module.states.len() - states.len(), "states")
    )))
}

fn uses(region: &Region, weights: &mut FxHashSet<usize>, states: &mut FxHashSet<usize>) {
    for id in region.nodes() {
        let op = &region.node(id).op;
        match op {
            Op::Weight(w) => drop(weights.insert(w.index())),
            Op::StateRead(s) | Op::StateWrite(s) => drop(states.insert(s.index())),
            _ => {}
        }
        for inner in Region::nested(op) {
            uses(inner, weights, states);
        }
    }
}

/// Removes nodes without effect whose results nobody uses, and says how many.
pub fn sweep(region: &mut Region) -> usize {
    let mut used = vec![false; region.value_numbers()];
    region.results().iter().for_each(|v| used[v.0 as usize] = true);
    let mut gone: FxHashSet<NodeId> = FxHashSet::default();
    for id in region.nodes().rev() {
        let node = region.node(id);
        if has_effect(&node.op) || node.results.iter().any(|r| used[r.0 as usize]) {
            node.inputs.iter().for_each(|v| used[v.0 as usize] = true);
        } else {
            gone.insert(id);
        }
    }
    if !gone.is_empty() {
        region.retain(|id| !gone.contains(&id));
    }
    gone.len()
}

/// Removes what nobody reads from a region and those nested in it, and says how many nodes, results and captures that
/// were.
///
/// One walk from the last node to the first: what a node reads is known once those after it are done with, and what its
/// own regions read once they are.
fn region(region: &mut Region) -> usize {
    let mut used: FxHashSet<Value> = region.results().iter().copied().collect();
    let mut keep: FxHashSet<NodeId> = FxHashSet::default();
    let mut narrowed: FxHashMap<NodeId, Vec<bool>> = FxHashMap::default();
    let mut rewired: Vec<(NodeId, Vec<Value>)> = Vec::new();
    let mut removed = 0;
    let ids: Vec<NodeId> = region.nodes().collect();
    for &id in ids.iter().rev() {
        let node = region.node(id);
        let read: Vec<bool> = node.results.iter().map(|r| used.contains(r)).collect();
        if !read.contains(&true) && !has_effect(&node.op) {
            removed += 1;
            continue;
        }
        keep.insert(id);
        if !Region::nested(&node.op).is_empty() {
            let inputs = node.inputs.clone();
            let narrow = droppable(&node.op) && read.contains(&false);
            for inner in Region::nested_mut(region.op_mut(id)) {
                if narrow {
                    let results = those(inner.results(), &read);
                    inner.set_results(results);
                }
                removed += self::region(inner);
            }
            if narrow {
                removed += read.iter().filter(|read| !**read).count();
                narrowed.insert(id, read);
            }
            let left = drop_captures(region.op_mut(id), inputs.to_vec());
            removed += inputs.len() - left.len();
            used.extend(&left);
            if left.len() < inputs.len() {
                rewired.push((id, left));
            }
        } else {
            used.extend(&node.inputs);
        }
    }
    region.rewire(rewired);
    if !narrowed.is_empty() {
        *region = without_unread_results(region, &keep, &narrowed);
    } else {
        region.retain(|id| keep.contains(&id));
    }
    removed
}

/// Whether results of an operation can be left out.
fn droppable(op: &Op) -> bool {
    matches!(op, Op::If { .. } | Op::Experts { .. } | Op::Scan { .. } | Op::Fused { .. })
}

/// Those of the values that are wanted.
fn those(values: &[Value], wanted: &[bool]) -> Vec<Value> {
    values.iter().zip(wanted).filter(|(_, wanted)| **wanted).map(|(&v, _)| v).collect()
}

/// The region with the nodes to keep, some of them without results that nobody reads.
fn without_unread_results(
    region: &Region,
    keep: &FxHashSet<NodeId>,
    narrowed: &FxHashMap<NodeId, Vec<bool>>,
) -> Region {
    let mut copy = Copy::new(region);
    for id in region.nodes().filter(|id| keep.contains(id)) {
        let Some(read) = narrowed.get(&id) else {
            copy.node(id);
            continue;
        };
        let node = region.node(id);
        let results = those(&node.results, read);
        let types = results.iter().map(|&r| region.ty(r).clone());
        let inputs = copy.values(&node.inputs);
        let new = copy.to.push(node.op.clone(), &inputs, types, node.origin);
        let new = copy.to.node(new).results.clone();
        for (old, new) in results.into_iter().zip(new) {
            copy.set(old, new);
        }
    }
    copy.finish()
}

/// Removes captures that no nested region of a node uses, and gives the operands that are left of those given.
fn drop_captures(op: &mut Op, inputs: Vec<Value>) -> Vec<Value> {
    let (own, given) = match op {
        Op::If { .. } | Op::Experts { .. } => (1, 0),
        // The round and the carried values stay.
        Op::Repeat { carried, .. } => (1 + *carried, 1 + *carried),
        Op::Scan { .. } | Op::Fused { .. } => (0, 0),
        _ => return inputs,
    };
    let mut nested = Region::nested_mut(op);
    let used = |i: usize| nested.iter().any(|r| r.is_used(r.params()[given + i]));
    let used: Vec<bool> = (0..inputs.len() - own).map(used).collect();
    if !used.contains(&false) {
        return inputs;
    }
    for r in &mut nested {
        r.remove_params(|i| i >= given && !used[i - given]);
    }
    let mut left = inputs[..own].to_vec();
    left.extend(those(&inputs[own..], &used));
    left
}
