//! Linears that read the same input become one with several weights, so that the input is read once and the work is
//! split once.

use rustc_hash::FxHashMap;

use super::rewrite::{Copy, each_region, is_leaf};
use super::units::Units;
use super::{Context, PassError, Report};
use crate::ir::key::OpKey;
use crate::ir::{Module, NodeId, Op, Region, Value};

/// Runs on every region of every entry.
pub fn run(module: &mut Module, _: &mut Context) -> Result<Report, PassError> {
    let (mut before, mut after) = (0, 0);
    each_region(module, |module, region, _| {
        let groups = shared(region);
        if !groups.is_empty() {
            before += groups.iter().map(|g| g.len()).sum::<usize>();
            after += groups.len();
            *region = fuse(module, region, &groups)?;
        }
        Ok::<(), PassError>(())
    })?;
    Ok(Report::new(format!("fused {before} linears into {after}")))
}

/// Operands before the weights.
fn inputs_of(op: &Op) -> Option<usize> {
    match op {
        Op::Linear => Some(1),
        Op::LinearInt8 { .. } => Some(2),
        _ => None,
    }
}

/// Linears of one region that have equal inputs, two or more each, whose weights are leaves.
fn shared(region: &Region) -> Vec<Vec<NodeId>> {
    let mut order: Vec<(OpKey, Vec<Value>)> = Vec::new();
    let mut groups: FxHashMap<(OpKey, Vec<Value>), Vec<NodeId>> = FxHashMap::default();
    for id in region.nodes() {
        let node = region.node(id);
        let Some(n) = inputs_of(&node.op) else {
            continue;
        };
        let leaf = |&w: &Value| {
            let producer = region.producer(w);
            producer.is_none_or(|p| is_leaf(&region.node(p).op))
        };
        if !node.inputs[n..].iter().all(leaf) {
            continue;
        }
        let key = (OpKey::of(&node.op), node.inputs[..n].to_vec());
        let group = groups.entry(key.clone()).or_default();
        if group.is_empty() {
            order.push(key);
        }
        group.push(id);
    }
    order.into_iter().filter_map(|key| groups.remove(&key)).filter(|g| g.len() > 1).collect()
}

fn fuse(module: &Module, region: &Region, groups: &[Vec<NodeId>]) -> Result<Region, PassError> {
    let mut units = Units::new(region);
    let mut fused = FxHashMap::default();
    for group in groups {
        let merged: Vec<usize> = group.iter().map(|&n| units.unit(n)).collect();
        fused.insert(units.merge(&merged), ());
    }
    let mut copy = Copy::new(region);
    for (unit, members) in units.ordered() {
        if !fused.contains_key(&unit) {
            for id in members {
                copy.node(id);
            }
            continue;
        }
        let first = region.node(members[0]);
        let n = inputs_of(&first.op).unwrap_or(0);
        let mut inputs = copy.values(&first.inputs[..n]);
        let mut results = Vec::new();
        for &id in &members {
            let node = region.node(id);
            inputs.extend(copy.values(&node.inputs[n..]));
            results.extend(&node.results);
        }
        let new = copy.push(module, first.op.clone(), &inputs, first.origin)?;
        for (old, new) in results.into_iter().zip(new) {
            copy.set(old, new);
        }
    }
    Ok(copy.finish())
}
