//! A norm and the quantiser that reads it become one sweep over the row.
//!
//! A norm has no name here. Walking back from a quantiser over elementwise operations, broadcasts and reductions of the
//! last axis, the group is what depends on one of those reductions, and what feeds nothing but them. So the value that
//! is normalised stays outside, with whatever made it.

use rustc_hash::{FxHashMap, FxHashSet};

use super::rewrite::{each_region, is_elementwise};
use super::units::{LARGEST, Units};
use super::{Context, PassError, Report};
use crate::ir::{FusedKind, Module, NodeId, Op, Region};

/// Runs on every region outside of scans.
pub fn run(module: &mut Module, _: &mut Context) -> Result<Report, PassError> {
    let (mut before, mut after) = (0, 0);
    each_region(module, |_, region, around| {
        if around.in_scan || around.in_fused || !around.lifted {
            return Ok(());
        }
        let quantisers: Vec<NodeId> =
            region.nodes().filter(|&n| matches!(region.node(n).op, Op::QuantizeInput { .. })).collect();
        if quantisers.is_empty() {
            return Ok(());
        }
        let mut units = Units::new(region);
        let mut kinds = FxHashMap::default();
        for id in quantisers {
            let group = norm(region, &units, id);
            let merged: Vec<usize> = group.iter().map(|&n| units.unit(n)).collect();
            if merged.len() > 1
                && let Ok(unit) = units.try_merge(&merged)
            {
                before += merged.len();
                after += 1;
                kinds.insert(unit, FusedKind::NormQuant);
            }
        }
        *region = units.fuse(&kinds);
        Ok::<(), PassError>(())
    })?;
    Ok(Report::new(format!("fused {before} nodes into {after} norms with their quantisers")))
}

/// The nodes of the norm that a quantiser reads, with the quantiser; it alone if there is none.
fn norm(region: &Region, units: &Units, quantiser: NodeId) -> Vec<NodeId> {
    let mut cone: FxHashSet<NodeId> = FxHashSet::default();
    let mut stack = vec![quantiser];
    while let Some(id) = stack.pop() {
        for &v in &region.node(id).inputs {
            let Some(p) = region.producer(v) else {
                continue;
            };
            if units.is_single(p) && in_norm(region, p) && cone.insert(p) {
                stack.push(p);
            }
            if cone.len() >= LARGEST {
                return vec![quantiser];
            }
        }
    }
    let reduces = |id: NodeId| matches!(region.node(id).op, Op::Reduce { .. });
    let mut members: Vec<NodeId> = cone.into_iter().collect();
    members.sort_unstable_by_key(|&n| units.place(n));
    let mut after: FxHashSet<NodeId> = FxHashSet::default();
    for &id in &members {
        let depends = region.node(id).inputs.iter().any(|&v| {
            let producer = region.producer(v);
            producer.is_some_and(|p| after.contains(&p))
        });
        if reduces(id) || depends {
            after.insert(id);
        }
    }
    let mut before: FxHashSet<NodeId> = FxHashSet::default();
    for &id in members.iter().rev() {
        let feeds_reductions = region.node(id).results.iter().all(|&r| {
            !region.results().contains(&r)
                && units.users(r).all(|u| before.contains(&u) || after.contains(&u) && reduces(u))
        });
        if !after.contains(&id) && feeds_reductions {
            before.insert(id);
        }
    }
    let mut group: Vec<NodeId> = members.into_iter().filter(|n| before.contains(n) || after.contains(n)).collect();
    group.push(quantiser);
    group
}

fn in_norm(region: &Region, id: NodeId) -> bool {
    let node = region.node(id);
    let lifted = node.results.iter().all(|&r| region.ty(r).is_lifted());
    lifted
        && match &node.op {
            Op::Reduce { axis, .. } => {
                let rank = region.ty(node.inputs[0]).rank();
                *axis + 1 == rank
            }
            Op::Broadcast { .. } => true,
            op => is_elementwise(op),
        }
}
