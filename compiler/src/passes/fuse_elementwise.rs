//! Elementwise neighbours that no other group took become one sweep.
//!
//! A group has one shape `[T, .., n]`. Operations on that shape belong to it, reductions of its last axis, and what is
//! computed from those on `[T, ..]`. A node joins the group of one that it reads from.

use rustc_hash::FxHashMap;

use super::rewrite::{each_region, is_elementwise};
use super::units::{LARGEST, Units};
use super::{Context, PassError, Report};
use crate::ir::{Dim, FusedKind, Module, NodeId, Op, Region};

/// Runs on every region outside of scans.
pub fn run(module: &mut Module, _: &mut Context) -> Result<Report, PassError> {
    let (mut before, mut after) = (0, 0);
    each_region(module, |_, region, around| {
        if around.in_scan || around.in_fused || !around.lifted {
            return Ok(());
        }
        let mut units = Units::new(region);
        let mut domains: FxHashMap<usize, Vec<Dim>> = FxHashMap::default();
        for id in region.nodes() {
            join(region, &mut units, &mut domains, id);
        }
        let mut kinds = FxHashMap::default();
        for &unit in domains.keys() {
            let n = units.members(unit).len();
            if n > 1 {
                before += n;
                after += 1;
                kinds.insert(unit, FusedKind::Elementwise);
            }
        }
        if !kinds.is_empty() {
            *region = units.fuse(&kinds);
        }
        Ok::<(), PassError>(())
    })?;
    Ok(Report::new(format!("fused {before} elementwise nodes into {after}")))
}

/// The shape over which a node loops, if it can be part of a group.
fn domain(region: &Region, id: NodeId) -> Option<Vec<Dim>> {
    let node = region.node(id);
    let result = *node.results.first()?;
    let shape = match &node.op {
        Op::Reduce { axis, .. } => {
            let x = region.ty(node.inputs[0]);
            if axis + 1 != x.rank() {
                return None;
            }
            x.shape.clone()
        }
        // One on its own is only a way of reading; it joins its readers by being repeated there.
        Op::Broadcast { .. } => region.ty(result).shape.clone(),
        op if is_elementwise(op) => region.ty(result).shape.clone(),
        _ => return None,
    };
    (shape.first() == Some(&Dim::Time)).then_some(shape.to_vec())
}

/// `small` is `large` or that without its last axis.
fn covers(large: &[Dim], small: &[Dim]) -> bool {
    small == large || large.len() > 1 && *small == large[..large.len() - 1]
}

fn join(region: &Region, units: &mut Units, domains: &mut FxHashMap<usize, Vec<Dim>>, id: NodeId) {
    let Some(own) = domain(region, id) else {
        return;
    };
    let broadcast = matches!(region.node(id).op, Op::Broadcast { .. });
    let mut at = units.unit(id);
    if !broadcast {
        domains.insert(at, own);
    }
    for &v in &region.node(id).inputs {
        let Some(p) = region.producer(v) else {
            continue;
        };
        let other = units.unit(p);
        let Some(theirs) = domains.get(&other).cloned() else {
            continue;
        };
        if other == at {
            continue;
        }
        let mine = match domains.get(&at) {
            Some(d) => d.clone(),
            // A broadcast joins only what it reads.
            None => region.ty(region.node(id).results[0]).shape.to_vec(),
        };
        let both = if covers(&mine, &theirs) {
            mine
        } else if covers(&theirs, &mine) {
            theirs
        } else {
            continue;
        };
        if units.size(other) + units.size(at) <= LARGEST
            && let Ok(merged) = units.try_merge(&[other, at])
        {
            domains.remove(&at);
            domains.remove(&other);
            at = merged;
            domains.insert(at, both);
        }
    }
}
