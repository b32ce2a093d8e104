//! Dead code: nodes without effect whose results nobody uses, results of choices, scans and groups that nobody
//! reads, and parameters of bodies that they do not look at.
//!
//! Weights and states stay declared (a checkpoint still has them; `inspect` still lists them); the report counts those that no entry uses.

use std::collections::HashSet;

use super::rewrite::{Copy, drop_unused_params, each_computed, each_region, has_effect};
use super::{Context, PassError, Report};
use crate::ir::{Module, NodeId, Op, Region, Value, WeightSource};

/// Runs on every region.
pub fn run(module: &mut Module, _: &mut Context) -> Result<Report, PassError> {
    let mut removed = 0;
    // Outer regions are seen after inner ones, but tell them which results are read: repeat until nothing changes.
    loop {
        let mut now = 0;
        each_region(module, |_, r, _| {
            now += region(r);
            Ok::<(), PassError>(())
        })?;
        removed += now;
        if now == 0 {
            break;
        }
    }
    each_computed(module, |_, r| removed += sweep(r));
    let (mut weights, mut states) = (HashSet::new(), HashSet::new());
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

fn uses(region: &Region, weights: &mut HashSet<usize>, states: &mut HashSet<usize>) {
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
    let mut used: HashSet<Value> = region.results().iter().copied().collect();
    let mut keep: HashSet<NodeId> = HashSet::new();
    for id in region.nodes().rev() {
        let node = region.node(id);
        if has_effect(&node.op) || node.results.iter().any(|r| used.contains(r)) {
            keep.insert(id);
            used.extend(&node.inputs);
        }
    }
    let removed = region.nodes().len() - keep.len();
    if removed > 0 {
        region.retain(|id| keep.contains(&id));
    }
    removed
}

fn region(region: &mut Region) -> usize {
    let mut removed = sweep(region);
    let ids: Vec<NodeId> = region.nodes().collect();
    let narrow = ids.iter().any(|&id| droppable(&region.node(id).op) && unread(region, id).next().is_some());
    if narrow {
        let (new, n) = without_unread_results(region);
        *region = new;
        removed += n;
    }
    let ids: Vec<NodeId> = region.nodes().collect();
    for id in ids {
        removed += drop_captures(region, id);
    }
    removed
}

/// Whether results of an operation can be left out.
fn droppable(op: &Op) -> bool {
    matches!(op, Op::If { .. } | Op::Experts { .. } | Op::Scan { .. } | Op::Fused { .. })
}

fn unread(region: &Region, id: NodeId) -> impl Iterator<Item = usize> + '_ {
    let results = &region.node(id).results;
    (0..results.len()).filter(move |&i| !region.is_used(results[i]))
}

fn without_unread_results(region: &Region) -> (Region, usize) {
    let mut copy = Copy::new(region);
    let mut dropped = 0;
    for id in region.nodes() {
        let gone: HashSet<usize> = unread(region, id).collect();
        let node = region.node(id);
        if gone.is_empty() || !droppable(&node.op) {
            copy.node(id);
            continue;
        }
        dropped += gone.len();
        let kept = |values: &[Value]| -> Vec<Value> {
            let kept = values.iter().enumerate();
            kept.filter(|(i, _)| !gone.contains(i)).map(|(_, &v)| v).collect()
        };
        let mut op = node.op.clone();
        for inner in Region::nested_mut(&mut op) {
            let results = kept(inner.results());
            inner.set_results(results);
        }
        let results = kept(&node.results);
        let types = results.iter().map(|&r| region.ty(r).clone()).collect();
        let inputs = copy.values(&node.inputs);
        let new = copy.to.push(op, &inputs, types, node.origin);
        let new = copy.to.node(new).results.clone();
        for (old, new) in results.into_iter().zip(new) {
            copy.set(old, new);
        }
    }
    (copy.finish(), dropped)
}

/// Removes captures that no nested region of a node uses.
fn drop_captures(region: &mut Region, id: NodeId) -> usize {
    let inputs = region.node(id).inputs.clone();
    let (own, given) = match &region.node(id).op {
        Op::If { .. } | Op::Experts { .. } => (1, 0),
        // The round and the carried values stay.
        Op::Repeat { carried, .. } => (1 + carried, 1 + carried),
        Op::Scan { .. } | Op::Fused { .. } => (0, 0),
        _ => return 0,
    };
    let mut captures: Vec<Value> = inputs[own..].to_vec();
    let before = captures.len();
    let mut nested = Region::nested_mut(region.op_mut(id));
    if let ([body], 0) = (&mut nested[..], given) {
        drop_unused_params(body, &mut captures);
    } else {
        for i in (0..captures.len()).rev() {
            let used = nested.iter().any(|r| r.is_used(r.params()[given + i]));
            if !used {
                for r in &mut nested {
                    r.remove_param(given + i);
                }
                captures.remove(i);
            }
        }
    }
    let dropped = before - captures.len();
    if dropped > 0 {
        let mut all = inputs[..own].to_vec();
        all.extend(captures);
        region.set_inputs(id, all);
    }
    dropped
}
