//! Gates and a state update become one sweep over the rows.
//!
//! A scan that is elementwise on `[m]` joins the linear epilogue that makes its gates, with what reads the new state.
//! One without such a linear, or with a matrix for a state, becomes a recurrence group with its elementwise neighbours.
//! Scans along a growing axis, and those with control flow, stay alone: they are kernels of their own kind.

use rustc_hash::FxHashMap;

use super::fuse_epilogue::{grow, row};
use super::rewrite::{each_region, is_elementwise, is_leaf};
use super::units::Units;
use super::{Context, PassError, Report};
use crate::ir::{FusedKind, Module, NodeId, Op, Region, Value};

/// Runs on every region outside of scans.
pub fn run(module: &mut Module, _: &mut Context) -> Result<Report, PassError> {
    let (mut with_linear, mut alone) = (0, 0);
    each_region(module, |_, region, around| {
        if around.in_scan || around.in_fused || !around.lifted {
            return Ok::<(), PassError>(());
        }
        let scans: Vec<NodeId> = region.nodes().filter(|&n| matches!(region.node(n).op, Op::Scan { .. })).collect();
        let mut units = Units::new(region);
        let mut groups: Vec<(NodeId, FusedKind)> = Vec::new();
        for scan in scans {
            if let Some(kind) = join(region, &mut units, scan) {
                groups.push((scan, kind));
            }
        }
        if groups.is_empty() {
            return Ok(());
        }
        let linear = |kind: FusedKind| kind == FusedKind::LinearEpilogue;
        with_linear += groups.iter().filter(|g| linear(g.1)).count();
        alone += groups.iter().filter(|g| !linear(g.1)).count();
        let kinds: FxHashMap<usize, FusedKind> =
            groups.into_iter().map(|(scan, kind)| (units.unit(scan), kind)).collect();
        *region = units.fuse(&kinds);
        Ok(())
    })?;
    Ok(Report::new(format!("{with_linear} recurrences joined a linear, {alone} became groups of their own")))
}

/// Merges a scan with its neighbours, and says what kind of group that makes; none if it stays as it is.
fn join(region: &Region, units: &mut Units, scan: NodeId) -> Option<FusedKind> {
    let node = region.node(scan);
    let Op::Scan { body } = &node.op else {
        return None;
    };
    let width = elementwise_width(body);
    if width.is_some() && node.results.iter().all(|&r| row(region.ty(r)) == width) {
        let rows = node.inputs.iter().filter(|&&v| row(region.ty(v)) == width);
        let joined = rows.into_iter().any(|&v| {
            let linear = linear_before(region, units, v);
            linear.is_some_and(|unit| units.try_merge(&[unit, units.unit(scan)]).is_ok())
        });
        if joined {
            grow(region, units, scan, |id| is_elementwise(&region.node(id).op));
            return Some(FusedKind::LinearEpilogue);
        }
    }
    if !is_sweep(body) {
        return None;
    }
    surround(region, units, scan);
    Some(FusedKind::Recurrence)
}

/// The unit that makes a value, if a linear is in it.
fn linear_before(region: &Region, units: &Units, value: Value) -> Option<usize> {
    let unit = units.unit(region.producer(value)?);
    let linear = units.members(unit).into_iter().any(|n| {
        matches!(
            region.node(n).op,
            Op::Fused { kind: FusedKind::LinearEpilogue, .. } | Op::Linear | Op::LinearInt8 { .. }
        )
    });
    linear.then_some(unit)
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

/// Merges with a scan the elementwise nodes that feed nothing else, and those that read it.
fn surround(region: &Region, units: &mut Units, scan: NodeId) {
    let members = units.members(units.unit(scan));
    let near = |units: &Units, id: NodeId, near: &mut Vec<NodeId>| {
        let node = region.node(id);
        near.extend(node.inputs.iter().filter_map(|&v| region.producer(v)));
        for &r in &node.results {
            near.extend(units.users(r));
        }
    };
    units.surround(scan, &members, near, |units, id| {
        let node = region.node(id);
        let unit = units.unit(scan);
        let within = |n: NodeId| units.unit(n) == unit;
        let fits =
            units.is_single(id) && is_elementwise(&node.op) && node.results.iter().all(|&r| region.ty(r).is_lifted());
        let feeds = || node.results.iter().all(|&r| !region.results().contains(&r) && units.users(r).all(within));
        let reads = || node.inputs.iter().any(|&v| region.producer(v).is_some_and(within));
        fits && (reads() || feeds())
    });
}
