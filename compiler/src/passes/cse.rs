//! Common subexpressions: of several nodes that compute the same from the same operands one stays.
//!
//! Works within a region (regions are isolated). Operations with nested regions, host functions and effects are left
//! alone; reading a state twice in a step gives the same value, so one reading is enough. What is repeated along a
//! growing axis is as long as what it meets, so two of them are the same only if they meet values of one length.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::rewrite::{each_computed, each_region};
use super::{Context, PassError, Report};
use crate::ir::extents::{Extents, Operand, growing};
use crate::ir::key::OpKey;
use crate::ir::{Module, NodeId, Op, Region, Type, Value};

/// Runs on every region.
pub fn run(module: &mut Module, _: &mut Context) -> Result<Report, PassError> {
    let mut removed = 0;
    each_region(module, |_, r, _| {
        removed += region(r);
        Ok::<(), PassError>(())
    })?;
    each_computed(module, |_, r| removed += region(r));
    Ok(Report::new(format!("{removed} common subexpressions removed")))
}

/// An operation with its operands and the types of its results.
type Computation<'r> = (OpKey, SmallVec<[Value; 4]>, SmallVec<[&'r Type; 2]>);

/// Removes repetitions in one region and says how many.
pub fn region(region: &mut Region) -> usize {
    let mut known: HashMap<Computation, &[Value]> = HashMap::with_capacity(region.nodes().len());
    let mut replaced: FxHashMap<Value, Value> = FxHashMap::default();
    let mut gone: FxHashSet<NodeId> = FxHashSet::default();
    let lengths = lengths(region);
    for id in region.nodes() {
        let node = region.node(id);
        let inputs = node.inputs.iter().map(|v| *replaced.get(v).unwrap_or(v)).collect();
        let sharable = match &node.op {
            Op::StateRead(_) | Op::Positions { .. } | Op::Recent { .. } => true,
            op => op.is_plain(),
        };
        if !sharable {
            continue;
        }
        let types = node.results.iter().map(|&r| region.ty(r)).collect();
        let results = &node.results[..];
        match known.entry((OpKey::of(&node.op), inputs, types)) {
            Entry::Occupied(known) => {
                let first = *known.get();
                if first.iter().zip(results).all(|(&a, &b)| same_length(region, &lengths, a, b)) {
                    replaced.extend(results.iter().copied().zip(first.iter().copied()));
                    gone.insert(id);
                }
            }
            Entry::Vacant(known) => {
                known.insert(results);
            }
        }
    }
    drop(known);
    if gone.is_empty() {
        return 0;
    }
    region.replace_all(&replaced);
    let removed = gone.len();
    region.retain(|id| !gone.contains(&id));
    removed
}

/// How long the values of a region along growing axes are, as far as the region tells.
fn lengths(region: &Region) -> Extents<Value> {
    let mut lengths = Extents::default();
    let operands =
        |values: &[Value]| values.iter().map(|&v| (v, growing(region.ty(v)))).collect::<Vec<Operand<Value>>>();
    let nodes: Vec<NodeId> = region.nodes().collect();
    if nodes.iter().all(|&id| region.node(id).results.iter().all(|&v| growing(region.ty(v)).is_none())) {
        return lengths;
    }
    for id in nodes {
        let node = region.node(id);
        // A region that is not valid is refused by the verifier; here nothing of it is merged wrongly.
        let _ = lengths.add(&node.op, &operands(&node.inputs), &operands(&node.results));
    }
    lengths
}

fn same_length(region: &Region, lengths: &Extents<Value>, a: Value, b: Value) -> bool {
    if growing(region.ty(a)).is_none() || lengths.are_equal(a, b) {
        return true;
    }
    matches!((lengths.of(a), lengths.of(b)), (Some(a), Some(b)) if a == b)
}
