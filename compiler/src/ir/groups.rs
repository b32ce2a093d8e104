//! Which states a region uses, and which entries share theirs.

use std::collections::BTreeSet;

use super::graph::Region;
use super::module::{Module, StateId};
use super::op::Op;

/// The state that an operation reads, writes, pushes to or looks into.
pub fn state_of(op: &Op) -> Option<StateId> {
    match op {
        Op::StateRead(state) | Op::StateWrite(state) => Some(*state),
        Op::Push { state } | Op::Positions { state } | Op::Recent { state, .. } => Some(*state),
        _ => None,
    }
}

/// The states that a region uses, nested regions included.
pub fn states_of(region: &Region) -> BTreeSet<StateId> {
    let mut states = BTreeSet::new();
    collect(region, &mut states);
    states
}

fn collect(region: &Region, states: &mut BTreeSet<StateId>) {
    for id in region.nodes() {
        let op = &region.node(id).op;
        states.extend(state_of(op));
        Region::nested(op).into_iter().for_each(|inner| collect(inner, states));
    }
}

/// For each entry the number of its group, counted from 0: entries that share states, directly or through others, are
/// one group with one block of state for a stream.
pub fn entry_groups(module: &Module) -> Vec<usize> {
    let uses: Vec<BTreeSet<StateId>> = module.entries.iter().map(|entry| states_of(&entry.body)).collect();
    groups_of(&uses)
}

/// As [`entry_groups`], of the states that each entry uses.
pub fn groups_of(uses: &[BTreeSet<StateId>]) -> Vec<usize> {
    let mut groups: Vec<usize> = (0..uses.len()).collect();
    for i in 0..uses.len() {
        for j in 0..i {
            if !uses[i].is_disjoint(&uses[j]) {
                let (from, to) = (groups[i], groups[j]);
                groups.iter_mut().filter(|group| **group == from).for_each(|group| *group = to);
            }
        }
    }
    let used: Vec<usize> = groups.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    groups.iter().map(|group| used.binary_search(group).unwrap_or(0)).collect()
}
