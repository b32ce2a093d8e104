//! Common subexpressions: of several nodes that compute the same from the same operands one stays.
//!
//! Works within a region (regions are isolated). Operations with nested regions, host functions and effects are left alone;
//! reading a state twice in a step gives the same value, so one reading is enough.

use std::collections::HashMap;

use super::rewrite::{each_computed, each_region, is_pure};
use super::{Context, PassError, Report};
use crate::ir::print::op_text;
use crate::ir::{Module, Op, Region, Type, Value};

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

/// Removes repetitions in one region and says how many.
pub fn region(region: &mut Region) -> usize {
    let mut known: HashMap<(String, Vec<Value>, Vec<Type>), Vec<Value>> = HashMap::new();
    let mut replaced: HashMap<Value, Value> = HashMap::new();
    let mut gone = std::collections::HashSet::new();
    let ids: Vec<_> = region.nodes().collect();
    for id in ids {
        let inputs: Vec<Value> = region.node(id).inputs.iter().map(|v| *replaced.get(v).unwrap_or(v)).collect();
        let node = region.node(id);
        let sharable = match &node.op {
            Op::StateRead(_) | Op::Positions { .. } | Op::Recent { .. } => true,
            op => is_pure(op) && Region::nested(op).is_empty(),
        };
        if !sharable {
            continue;
        }
        let types = node.results.iter().map(|&r| region.ty(r).clone()).collect();
        let key = (op_text(&node.op), inputs, types);
        let results = node.results.clone();
        match known.get(&key) {
            Some(first) => {
                replaced.extend(results.into_iter().zip(first.iter().copied()));
                gone.insert(id);
            }
            None => {
                known.insert(key, results);
            }
        }
    }
    if gone.is_empty() {
        return 0;
    }
    region.replace_all(&replaced);
    let removed = gone.len();
    region.retain(|id| !gone.contains(&id));
    removed
}
