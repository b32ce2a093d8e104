//! Elementwise operations on the rows of a linear join it: bias, residual, activation, gates.
//!
//! An operation joins if it works on rows `[T, m]` like those of the linear, reads at least one value of the group, and
//! reads from outside only what does not depend on the group. Broadcasts are repeated inside, so a bias, a scalar per
//! row or a constant costs no row.

use rustc_hash::{FxHashMap, FxHashSet};

use super::rewrite::{each_region, is_elementwise};
use super::units::Units;
use super::{Context, PassError, Report};
use crate::ir::{Dim, FusedKind, Module, NodeId, Op, Region, Type};

/// Runs on every region outside of scans.
pub fn run(module: &mut Module, _: &mut Context) -> Result<Report, PassError> {
    let (mut joined, mut linears) = (0, 0);
    each_region(module, |_, region, around| {
        if around.in_scan || around.in_fused || !around.lifted {
            return Ok(());
        }
        let mut units = Units::new(region);
        let mut kinds = FxHashMap::default();
        // Integer products first: what combines them with a small float product belongs to the large one.
        let mut seeds: Vec<NodeId> = region.nodes().filter(|&n| is_linear(region, n)).collect();
        seeds.sort_by_key(|&n| matches!(region.node(n).op, Op::Linear));
        for seed in seeds {
            let n = grow(region, &mut units, seed, |id| is_elementwise(&region.node(id).op));
            if n > 0 {
                joined += n;
                linears += 1;
                kinds.insert(units.unit(seed), FusedKind::LinearEpilogue);
            }
        }
        if !kinds.is_empty() {
            *region = units.fuse(&kinds);
        }
        Ok::<(), PassError>(())
    })?;
    Ok(Report::new(format!("{joined} elementwise nodes joined {linears} linears")))
}

fn is_linear(region: &Region, id: NodeId) -> bool {
    matches!(region.node(id).op, Op::Linear | Op::LinearInt8 { .. })
}

/// Rows of a linear: `[T, m]`.
pub(super) fn row(ty: &Type) -> Option<usize> {
    match ty.shape[..] {
        [Dim::Time, Dim::Const(m)] => Some(m),
        _ => None,
    }
}

/// Adds to the unit of `seed` the nodes that work on its rows, and says how many.
pub(super) fn grow(region: &Region, units: &mut Units, seed: NodeId, joins: impl Fn(NodeId) -> bool) -> usize {
    let widths: FxHashSet<usize> = units
        .members(units.unit(seed))
        .iter()
        .flat_map(|&n| &region.node(n).results)
        .filter_map(|&r| row(region.ty(r)))
        .collect();
    let members = units.members(units.unit(seed));
    units.surround(
        seed,
        &members,
        |units, id, near| {
            for &r in &region.node(id).results {
                near.extend(units.users(r));
            }
        },
        |units, id| {
            let node = region.node(id);
            let on_rows = node.results.iter().all(|&r| row(region.ty(r)).is_some_and(|m| widths.contains(&m)));
            on_rows && !node.results.is_empty() && units.is_single(id) && joins(id)
        },
    )
}
