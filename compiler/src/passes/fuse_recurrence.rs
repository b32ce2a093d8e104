//! Gates and a state update become one sweep over the rows.
//!
//! A scan that is elementwise on `[m]` joins the linear epilogue that makes its gates, with what reads the new state. One
//! without such a linear, or with a matrix for a state, becomes a recurrence group with its elementwise neighbours. Scans along a
//! growing axis, and those with control flow, stay alone: they are kernels of their own kind.

use std::collections::HashMap;

use super::fuse_epilogue::{grow, row};
use super::rewrite::{Units, each_region, is_elementwise, is_leaf};
use super::{Context, PassError, Report};
use crate::ir::{FusedKind, Module, NodeId, Op, Region};

/// Runs on every region outside of scans.
pub fn run(module: &mut Module, _: &mut Context) -> Result<Report, PassError> {
    let (mut with_linear, mut alone) = (0, 0);
    each_region(module, |_, region, around| {
        if around.in_scan || around.in_fused || !around.lifted {
            return Ok(());
        }
        // One scan at a time: a group that was a linear epilogue is dissolved and made anew, larger.
        loop {
            let scans: Vec<NodeId> = region.nodes().filter(|&n| matches!(region.node(n).op, Op::Scan { .. })).collect();
            let Some((new, linear)) = scans.into_iter().find_map(|n| join(region, n)) else {
                return Ok::<(), PassError>(());
            };
            *region = new;
            if linear {
                with_linear += 1;
            } else {
                alone += 1;
            }
        }
    })?;
    Ok(Report::new(format!("{with_linear} recurrences joined a linear, {alone} became groups of their own")))
}

/// The region with a scan joined to its neighbours, and whether a linear is among them.
fn join(region: &Region, scan: NodeId) -> Option<(Region, bool)> {
    let Op::Scan { body } = &region.node(scan).op else {
        return None;
    };
    let mut units = Units::new(region);
    let width = elementwise_width(body);
    let scan_rows = region.node(scan).results.iter().all(|&r| row(region.ty(r)) == width);
    if width.is_some() && scan_rows {
        let linear = region.nodes().find(|&n| {
            let node = region.node(n);
            let makes_rows =
                node.results.iter().any(|&r| row(region.ty(r)) == width && region.node(scan).inputs.contains(&r));
            let epilogue = matches!(
                node.op,
                Op::Fused { kind: FusedKind::LinearEpilogue, .. } | Op::Linear | Op::LinearInt8 { .. }
            );
            makes_rows && epilogue && units.can_merge(&[units.unit(n), units.unit(scan)])
        });
        if let Some(linear) = linear {
            let unit = units.merge(&[units.unit(linear), units.unit(scan)]);
            grow(region, &mut units, scan, |id| is_elementwise(&region.node(id).op));
            let kinds = HashMap::from([(unit, FusedKind::LinearEpilogue)]);
            return Some((units.fuse(&kinds), true));
        }
    }
    if !is_sweep(body) {
        return None;
    }
    surround(region, &mut units, scan);
    let kinds = HashMap::from([(units.unit(scan), FusedKind::Recurrence)]);
    Some((units.fuse(&kinds), false))
}

/// The m of a body that computes elementwise on `[m]`, states included.
fn elementwise_width(body: &Region) -> Option<usize> {
    let mut width = None;
    for id in body.nodes() {
        let node = body.node(id);
        let fits = is_leaf(&node.op)
            || is_elementwise(&node.op)
            || matches!(node.op, Op::StateRead(_) | Op::StateWrite(_) | Op::Broadcast { .. });
        if !fits {
            return None;
        }
        if is_leaf(&node.op) {
            continue;
        }
        for &v in node.inputs.iter().chain(&node.results) {
            let [m] = body.ty(v).constant_shape()?[..] else {
                if matches!(node.op, Op::Broadcast { .. }) && node.inputs.contains(&v) {
                    continue;
                }
                return None;
            };
            if *width.get_or_insert(m) != m {
                return None;
            }
        }
    }
    width
}

/// Whether a body is one sweep over fixed-size states.
fn is_sweep(body: &Region) -> bool {
    body.nodes().all(|id| {
        let node = body.node(id);
        Region::nested(&node.op).is_empty()
            && !matches!(node.op, Op::Host(_) | Op::Check { .. } | Op::Probe { .. })
            && node.results.iter().chain(&node.inputs).all(|&v| !body.ty(v).grows())
    })
}

/// Merges with a scan the elementwise nodes that feed nothing else, and those that read it at once, of its results' shapes.
fn surround(region: &Region, units: &mut Units, scan: NodeId) {
    loop {
        let unit = units.unit(scan);
        let members = units.members(unit);
        let next = region.nodes().find(|&id| {
            if members.contains(&id) || !units.is_single(id) || !is_elementwise(&region.node(id).op) {
                return false;
            }
            let node = region.node(id);
            if !node.results.iter().all(|&r| region.ty(r).is_lifted()) {
                return false;
            }
            let feeds = node
                .results
                .iter()
                .all(|&r| !region.results().contains(&r) && units.users(r).all(|u| members.contains(&u)));
            let reads = node.inputs.iter().any(|&v| region.producer(v).is_some_and(|p| members.contains(&p)));
            (feeds || reads) && units.can_merge(&[unit, units.unit(id)])
        });
        match next {
            Some(id) => {
                units.merge(&[unit, units.unit(id)]);
            }
            None => return,
        }
    }
}
