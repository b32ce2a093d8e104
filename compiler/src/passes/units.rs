//! A region's nodes on their way into groups: which may become one, in which order they then stand, and the region with the
//! groups made.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::rewrite::{Copy, extract};
use crate::ir::{FusedKind, NodeId, Op, Region, Value};

/// A region's nodes as units that a pass merges; it stays possible to put the units in an order.
pub struct Units<'r> {
    pub region: &'r Region,
    ids: Vec<NodeId>,
    place: HashMap<NodeId, usize>,
    users: HashMap<Value, Vec<usize>>,
    /// Per node, the unit it belongs to.
    unit: Vec<usize>,
    members: Vec<Vec<usize>>,
}

impl<'r> Units<'r> {
    /// Every node by itself.
    pub fn new(region: &'r Region) -> Units<'r> {
        let ids: Vec<NodeId> = region.nodes().collect();
        let place = ids.iter().enumerate().map(|(i, &id)| (id, i)).collect();
        let mut users: HashMap<Value, Vec<usize>> = HashMap::new();
        for (i, &id) in ids.iter().enumerate() {
            for &v in &region.node(id).inputs {
                let list = users.entry(v).or_default();
                if list.last() != Some(&i) {
                    list.push(i);
                }
            }
        }
        Units {
            region,
            unit: (0..ids.len()).collect(),
            members: (0..ids.len()).map(|i| vec![i]).collect(),
            ids,
            place,
            users,
        }
    }

    /// The nodes that use a value, in order.
    pub fn users(&self, value: Value) -> impl Iterator<Item = NodeId> + '_ {
        let list = self.users.get(&value).map_or(&[][..], |l| l.as_slice());
        list.iter().map(|&i| self.ids[i])
    }

    /// Where a node stands in the region's order.
    pub fn place(&self, id: NodeId) -> usize {
        self.place[&id]
    }

    /// The unit of a node.
    pub fn unit(&self, id: NodeId) -> usize {
        self.unit[self.place[&id]]
    }

    /// The nodes of a unit, in order.
    pub fn members(&self, unit: usize) -> Vec<NodeId> {
        self.members[unit].iter().map(|&i| self.ids[i]).collect()
    }

    /// Whether a node is still by itself.
    pub fn is_single(&self, id: NodeId) -> bool {
        self.members[self.unit(id)].len() == 1
    }

    fn successors(&self, unit: usize) -> impl Iterator<Item = usize> + '_ {
        self.members[unit]
            .iter()
            .flat_map(|&i| &self.region.node(self.ids[i]).results)
            .filter_map(|v| self.users.get(v))
            .flatten()
            .map(|&i| self.unit[i])
    }

    /// Whether these units can become one: no way leads from them through others back to them.
    pub fn can_merge(&self, units: &[usize]) -> bool {
        let set: HashSet<usize> = units.iter().copied().collect();
        let mut seen = HashSet::new();
        let mut stack: Vec<usize> = Vec::new();
        for &u in &set {
            stack.extend(self.successors(u).filter(|s| !set.contains(s)));
        }
        while let Some(u) = stack.pop() {
            if !seen.insert(u) {
                continue;
            }
            for s in self.successors(u) {
                if set.contains(&s) {
                    return false;
                }
                if !seen.contains(&s) {
                    stack.push(s);
                }
            }
        }
        true
    }

    /// Makes the units one and gives it.
    pub fn merge(&mut self, units: &[usize]) -> usize {
        let into = units[0];
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
        self.members[into].sort_unstable();
        self.members[into].dedup();
        into
    }

    /// The units, definitions before uses, otherwise as the nodes stood; each with its nodes in order.
    pub fn ordered(&self) -> Vec<(usize, Vec<NodeId>)> {
        let units: Vec<usize> = (0..self.members.len()).filter(|&u| !self.members[u].is_empty()).collect();
        let mut waiting: HashMap<usize, usize> = units.iter().map(|&u| (u, 0)).collect();
        let after = |u: usize| -> HashSet<usize> { self.successors(u).filter(|&s| s != u).collect() };
        for &u in &units {
            for s in after(u) {
                *waiting.entry(s).or_default() += 1;
            }
        }
        let mut ready: BinaryHeap<Reverse<(usize, usize)>> =
            units.iter().filter(|u| waiting[u] == 0).map(|&u| Reverse((self.members[u][0], u))).collect();
        let mut order = Vec::with_capacity(units.len());
        while let Some(Reverse((_, u))) = ready.pop() {
            order.push((u, self.members(u)));
            for s in after(u) {
                if let Some(n) = waiting.get_mut(&s) {
                    *n -= 1;
                    if *n == 0 {
                        ready.push(Reverse((self.members[s][0], s)));
                    }
                }
            }
        }
        assert_eq!(order.len(), units.len(), "units depend on each other");
        order
    }

    /// The region with each unit of `kinds` made a fused group.
    pub fn fuse(&self, kinds: &HashMap<usize, FusedKind>) -> Region {
        let mut copy = Copy::new(self.region);
        for (unit, members) in self.ordered() {
            match kinds.get(&unit) {
                Some(&kind) => {
                    let loose = |n| !kinds.contains_key(&self.unit(n));
                    let group = extract(self.region, &members, &loose);
                    let inputs = copy.values(&group.captures);
                    let types = group.results.iter().map(|&r| self.region.ty(r).clone()).collect();
                    let op = Op::Fused { kind, body: Box::new(group.body) };
                    let id = copy.to.push(op, &inputs, types, group.origin);
                    let results = copy.to.node(id).results.clone();
                    for (old, new) in group.results.into_iter().zip(results) {
                        copy.set(old, new);
                    }
                }
                None => {
                    for id in members {
                        copy.node(id);
                    }
                }
            }
        }
        let mut region = copy.finish();
        super::dce::sweep(&mut region);
        region
    }
}
