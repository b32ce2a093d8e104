//! A region's nodes on their way into groups: which may become one, in which order they then stand, and the region with
//! the groups made.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::{SmallVec, smallvec};

use super::rewrite::{Copy, Extracted, extract, has_effect};
use crate::ir::{FusedKind, NodeId, NodeMap, Op, Region, Value};

/// Nodes of a group at most: a kernel of more gains nothing, and its compilation takes long.
pub const LARGEST: usize = 256;

/// Places of nodes, mostly one or two.
type Few = SmallVec<[usize; 2]>;

/// Between the labels of units at first, so that others fit in.
const GAP: u64 = 1 << 32;
/// Between labels that are made anew, on average.
const ROOM: u64 = 1 << 24;

/// A region's nodes as units that a pass merges; it stays possible to put the units in an order.
///
/// The units have such an order at any time, as labels that ascend from definitions to uses. So whether some can become
/// one is answered by a look at what lies between them in that order, from the side on which there is less.
pub struct Units<'r> {
    pub region: &'r Region,
    ids: Vec<NodeId>,
    place: NodeMap<usize>,
    /// By the number of a value.
    users: Vec<Few>,
    /// Per node, the nodes that use its results, and those whose results it uses.
    edges: [Vec<Few>; 2],
    /// Per node, the unit it belongs to.
    unit: Vec<usize>,
    /// Per unit, its nodes in no order.
    members: Vec<Few>,
    labels: Vec<u64>,
    by_label: BTreeMap<u64, usize>,
}

/// What a region with groups consists of.
enum Part {
    Group(FusedKind, Box<Extracted>),
    Node(NodeId),
}

/// Towards uses or towards definitions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Uses,
    Definitions,
}

/// One side of a search: what it has found, and where it is.
struct Search {
    way: Way,
    /// A unit with the member and the edge to look at next.
    stack: Vec<(usize, usize, usize)>,
    found: FxHashSet<usize>,
}

/// What a search has come to.
enum Progress {
    Looking,
    /// Everything on this side is found.
    Done,
    /// A way leads through this unit.
    Blocked(usize),
}

impl<'r> Units<'r> {
    /// Every node by itself.
    pub fn new(region: &'r Region) -> Units<'r> {
        let ids: Vec<NodeId> = region.nodes().collect();
        let mut place = NodeMap::default();
        ids.iter().enumerate().for_each(|(i, &id)| place.insert(id, i));
        let mut users: Vec<Few> = vec![Few::new(); region.value_numbers()];
        let mut edges = [vec![Few::new(); ids.len()], vec![Few::new(); ids.len()]];
        for (i, &id) in ids.iter().enumerate() {
            for &v in &region.node(id).inputs {
                let list = &mut users[v.0 as usize];
                if list.last() != Some(&i) {
                    list.push(i);
                    let from = region.producer(v).and_then(|from| place.get(from));
                    if let Some(&from) = from {
                        edges[Way::Uses as usize][from].push(i);
                        edges[Way::Definitions as usize][i].push(from);
                    }
                }
            }
        }
        let label = |i: usize| (i as u64 + 1) * GAP;
        Units {
            region,
            unit: (0..ids.len()).collect(),
            members: (0..ids.len()).map(|i| smallvec![i]).collect(),
            labels: (0..ids.len()).map(label).collect(),
            by_label: (0..ids.len()).map(|i| (label(i), i)).collect(),
            ids,
            place,
            users,
            edges,
        }
    }

    /// The nodes that use a value, in order.
    pub fn users(&self, value: Value) -> impl Iterator<Item = NodeId> + '_ {
        self.users[value.0 as usize].iter().map(|&i| self.ids[i])
    }

    /// Where a node stands in the region's order.
    pub fn place(&self, id: NodeId) -> usize {
        self.place.get(id).copied().expect("a node of the region")
    }

    /// The unit of a node.
    pub fn unit(&self, id: NodeId) -> usize {
        self.unit[self.place(id)]
    }

    /// The nodes of a unit, in order.
    pub fn members(&self, unit: usize) -> Vec<NodeId> {
        let mut members = self.members[unit].clone();
        members.sort_unstable();
        members.into_iter().map(|i| self.ids[i]).collect()
    }

    /// How many nodes a unit has.
    pub fn size(&self, unit: usize) -> usize {
        self.members[unit].len()
    }

    /// Whether a node is still by itself.
    pub fn is_single(&self, id: NodeId) -> bool {
        self.members[self.unit(id)].len() == 1
    }

    fn successors(&self, unit: usize) -> impl Iterator<Item = usize> + '_ {
        self.members[unit].iter().flat_map(|&i| &self.edges[Way::Uses as usize][i]).map(|&i| self.unit[i])
    }

    /// Makes the units one if no way leads from them through others back to them, and gives that one; else a unit on
    /// such a way.
    pub fn try_merge(&mut self, units: &[usize]) -> Result<usize, usize> {
        let set: FxHashSet<usize> = units.iter().copied().collect();
        let labels: Vec<u64> = set.iter().map(|&u| self.labels[u]).collect();
        let low = labels.iter().copied().min().unwrap_or(0);
        let high = labels.iter().copied().max().unwrap_or(0);
        // No way leads from the last of them to another, or from another to the first.
        let start = |way, not: u64| {
            let from = set.iter().filter(|&&u| self.labels[u] != not);
            Search { way, stack: from.map(|&u| (u, 0, 0)).collect(), found: FxHashSet::default() }
        };
        let (mut after, mut before) = (start(Way::Uses, high), start(Way::Definitions, low));
        // In turns, so that the side with less to find decides how long this takes.
        let (label, side) = loop {
            match self.look(&mut after, &set, low..=high) {
                Progress::Done => break (high, after),
                Progress::Blocked(through) => return Err(through),
                Progress::Looking => {}
            }
            match self.look(&mut before, &set, low..=high) {
                Progress::Done => break (low, before),
                Progress::Blocked(through) => return Err(through),
                Progress::Looking => {}
            }
        };
        for u in set.iter().chain(&side.found) {
            self.by_label.remove(&self.labels[*u]);
        }
        let into = self.merge(units);
        self.labels[into] = label;
        self.by_label.insert(label, into);
        self.move_beside(label, side);
        Ok(into)
    }

    /// Looks along one edge.
    fn look(&self, search: &mut Search, set: &FxHashSet<usize>, labels: std::ops::RangeInclusive<u64>) -> Progress {
        let Some((unit, member, edge)) = search.stack.last_mut() else {
            return Progress::Done;
        };
        let Some(&node) = self.members[*unit].get(*member) else {
            search.stack.pop();
            return Progress::Looking;
        };
        let Some(&next) = self.edges[search.way as usize][node].get(*edge) else {
            (*member, *edge) = (*member + 1, 0);
            return Progress::Looking;
        };
        *edge += 1;
        let (from, to) = (*unit, self.unit[next]);
        if set.contains(&to) {
            return if set.contains(&from) { Progress::Looking } else { Progress::Blocked(from) };
        }
        if labels.contains(&self.labels[to]) && search.found.insert(to) {
            search.stack.push((to, 0, 0));
        }
        Progress::Looking
    }

    /// Moves what a search has found, which has no labels now, to right behind or before a label.
    fn move_beside(&mut self, label: u64, search: Search) {
        let mut moved: Vec<usize> = search.found.into_iter().collect();
        if moved.is_empty() {
            return;
        }
        moved.sort_unstable_by_key(|&u| self.labels[u]);
        let (low, high) = match search.way {
            Way::Uses => (label, self.by_label.range(label + 1..).next().map_or(u64::MAX, |(&l, _)| l)),
            Way::Definitions => (self.by_label.range(..label).next_back().map_or(0, |(&l, _)| l), label),
        };
        let step = (high - low) / (moved.len() as u64 + 1);
        if step > 0 {
            for (u, i) in moved.into_iter().zip(1..) {
                self.labels[u] = low + i * step;
                self.by_label.insert(self.labels[u], u);
            }
            return;
        }
        self.spread(low, moved);
    }

    /// Puts units behind a label where there is no room: the labels around it are made anew, no more than it takes for
    /// some room between all of them. Were it all labels, each time, the cost would grow with the square of the region.
    fn spread(&mut self, behind: u64, moved: Vec<usize>) {
        let mut reach = GAP;
        let (low, step) = loop {
            let (low, high) = (behind.saturating_sub(reach), behind.saturating_add(reach));
            let count = self.by_label.range(low..=high).count() + moved.len();
            let step = (high - low) / (count as u64 + 1);
            if step >= ROOM || (low, high) == (0, u64::MAX) {
                break (low, step);
            }
            reach = reach.saturating_mul(2);
        };
        let high = behind.saturating_add(reach);
        let mut near: Vec<usize> = self.by_label.range(low..=high).map(|(_, &u)| u).collect();
        for &u in &near {
            self.by_label.remove(&self.labels[u]);
        }
        let at = near.partition_point(|&u| self.labels[u] <= behind);
        near.splice(at..at, moved);
        for (u, i) in near.into_iter().zip(1..) {
            self.labels[u] = low + i * step;
            self.by_label.insert(self.labels[u], u);
        }
    }

    /// Makes the units one and gives it. Nothing is asked, so that the units may depend on each other afterwards.
    pub fn merge(&mut self, units: &[usize]) -> usize {
        let Some(&into) = units.iter().max_by_key(|&&u| (self.members[u].len(), std::cmp::Reverse(u))) else {
            unreachable!("some units");
        };
        for &u in units {
            if u == into {
                continue;
            }
            let moved = std::mem::take(&mut self.members[u]);
            for &i in &moved {
                self.unit[i] = into;
            }
            self.members[into].extend(moved);
        }
        into
    }

    /// Merges single nodes near a unit into it, first those that stand first, as long as any fits; says how many.
    ///
    /// `near` lists the neighbours of a member, `fits` says of a node outside whether it may join as the unit is now.
    pub fn surround(
        &mut self,
        seed: NodeId,
        members: &[NodeId],
        near: impl Fn(&Units, NodeId, &mut Vec<NodeId>),
        fits: impl Fn(&Units, NodeId) -> bool,
    ) -> usize {
        let mut found = Vec::new();
        members.iter().for_each(|&id| near(self, id, &mut found));
        let mut candidates: BTreeSet<usize> = found.iter().map(|&n| self.place(n)).collect();
        // Nodes that a way through another unit keeps out: it stays until that unit has joined.
        let mut blocked: FxHashMap<usize, Vec<usize>> = FxHashMap::default();
        let mut joined = 0;
        while let Some(place) = candidates.pop_first() {
            if self.members[self.unit(seed)].len() >= LARGEST {
                break;
            }
            let (id, unit) = (self.ids[place], self.unit(seed));
            if self.unit[place] == unit || !fits(self, id) {
                continue;
            }
            let single = self.unit[place];
            if let Err(through) = self.try_merge(&[unit, single]) {
                blocked.entry(through).or_default().push(place);
                continue;
            }
            joined += 1;
            candidates.extend(blocked.remove(&single).into_iter().flatten());
            found.clear();
            near(self, id, &mut found);
            candidates.extend(found.iter().map(|&n| self.place(n)));
        }
        joined
    }

    /// The units, definitions before uses, otherwise as the nodes stood; each with its nodes in order.
    pub fn ordered(&self) -> Vec<(usize, Vec<NodeId>)> {
        let units: Vec<usize> = (0..self.members.len()).filter(|&u| !self.members[u].is_empty()).collect();
        // Uses that are not yet in order, so that a unit which is used several times is counted as often.
        let mut waiting = vec![0usize; self.members.len()];
        let after = |u: usize| self.successors(u).filter(move |&s| s != u);
        for &u in &units {
            after(u).for_each(|s| waiting[s] += 1);
        }
        let first = |u: usize| self.members[u].iter().copied().min().unwrap_or(0);
        let mut ready: BinaryHeap<Reverse<(usize, usize)>> =
            units.iter().filter(|&&u| waiting[u] == 0).map(|&u| Reverse((first(u), u))).collect();
        let mut order = Vec::with_capacity(units.len());
        while let Some(Reverse((_, u))) = ready.pop() {
            order.push((u, self.members(u)));
            for s in after(u) {
                waiting[s] -= 1;
                if waiting[s] == 0 {
                    ready.push(Reverse((first(s), s)));
                }
            }
        }
        assert_eq!(order.len(), units.len(), "units depend on each other");
        order
    }

    /// The region with each unit of `kinds` made a fused group.
    ///
    /// A leaf that groups repeat inside may be read by nobody else then, and goes.
    pub fn fuse(&self, kinds: &FxHashMap<usize, FusedKind>) -> Region {
        let region = self.region;
        let mut used = vec![false; region.value_numbers()];
        region.results().iter().for_each(|v| used[v.0 as usize] = true);
        let loose = |n| !kinds.contains_key(&self.unit(n));
        let mut parts = Vec::new();
        for (unit, members) in self.ordered().into_iter().rev() {
            let kind = kinds.get(&unit);
            let whole = if kind.is_some() { members.len() } else { 1 };
            for part in members.rchunks(whole) {
                let needed = |id: &NodeId| {
                    let node = region.node(*id);
                    node.results.iter().any(|r| used[r.0 as usize]) || has_effect(&node.op)
                };
                if !part.iter().any(needed) {
                    continue;
                }
                let part = match kind {
                    Some(&kind) => Part::Group(kind, Box::new(extract(region, part, &loose))),
                    None => Part::Node(part[0]),
                };
                let reads = match &part {
                    Part::Group(_, group) => &group.captures[..],
                    Part::Node(id) => &region.node(*id).inputs,
                };
                reads.iter().for_each(|v| used[v.0 as usize] = true);
                parts.push(part);
            }
        }
        let mut copy = Copy::new(region);
        for part in parts.into_iter().rev() {
            let (kind, group) = match part {
                Part::Group(kind, group) => (kind, *group),
                Part::Node(id) => {
                    copy.node(id);
                    continue;
                }
            };
            let inputs = copy.values(&group.captures);
            let types = group.results.iter().map(|&r| region.ty(r).clone());
            let op = Op::Fused { kind, body: Arc::new(group.body) };
            let id = copy.to.push(op, &inputs, types, group.origin);
            let results = copy.to.node(id).results.clone();
            for (old, new) in group.results.into_iter().zip(results) {
                copy.set(old, new);
            }
        }
        copy.finish()
    }
}
