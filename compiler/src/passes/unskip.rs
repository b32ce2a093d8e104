//! The same model with nothing skipped: every choice of which only one branch has work of its own takes that branch
//! always. It computes something else, and serves to measure what skipping saves.

use std::convert::Infallible;

use super::rewrite::{Copy, each_region};
use crate::ir::{Module, Op, Region};

/// Splices the working branch of every such choice into the region around it; says how many there were.
pub fn unskip(module: &mut Module) -> usize {
    let mut taken = 0;
    let Ok(()) = each_region(module, |_, region, _| {
        let skips = region.nodes().filter(|&id| working_branch(&region.node(id).op).is_some()).count();
        if skips > 0 {
            taken += skips;
            *region = spliced(region);
        }
        Ok::<(), Infallible>(())
    });
    taken
}

/// The only branch of a choice that has work of its own.
fn working_branch(op: &Op) -> Option<&Region> {
    match op {
        Op::If { then, otherwise } => match (then.works(), otherwise.works()) {
            (true, false) => Some(then),
            (false, true) => Some(otherwise),
            _ => None,
        },
        _ => None,
    }
}

fn spliced(region: &Region) -> Region {
    let mut copy = Copy::new(region);
    for id in region.nodes() {
        let node = region.node(id);
        match working_branch(&node.op) {
            // The first operand is the condition.
            Some(branch) => copy.splice(node, branch, &node.inputs[1..]),
            None => drop(copy.node(id)),
        }
    }
    copy.finish()
}
