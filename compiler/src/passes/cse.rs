//! Common subexpressions: of several nodes that compute the same from the same operands one stays.
//!
//! Works within a region (regions are isolated). Operations with nested regions, host functions and effects are left
//! alone; reading a state twice in a step gives the same value, so one reading is enough. What is repeated along a
//! growing axis is as long as what it meets, so two of them are the same only if they meet values of one length.

use std::cell::OnceCell;
use std::hash::{Hash, Hasher};

use hashbrown::HashTable;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::rewrite::{each_computed, each_region};
use super::{Context, PassError, Report};
use crate::ir::extents::{Extents, Operand, growing};
use crate::ir::key::OpKey;
use crate::ir::{Module, Node, NodeId, Op, Region, Value};

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
    let mut search = Search {
        region,
        known: HashTable::with_capacity(region.nodes().len()),
        replaced: FxHashMap::default(),
        lengths: OnceCell::new(),
    };
    let mut gone: FxHashSet<NodeId> = FxHashSet::default();
    for id in region.nodes() {
        if search.repeats(id) {
            gone.insert(id);
        }
    }
    if gone.is_empty() {
        return 0;
    }
    let replaced = search.replaced;
    region.replace_all(&replaced);
    let removed = gone.len();
    region.retain(|id| !gone.contains(&id));
    removed
}

/// A region on the search for what it computes twice.
struct Search<'r> {
    region: &'r Region,
    /// The first node of each computation: an operation with its operands and the types of its results.
    known: HashTable<NodeId>,
    replaced: FxHashMap<Value, Value>,
    /// Made when two values along a growing axis are first compared.
    lengths: OnceCell<Extents<Value>>,
}

impl Search<'_> {
    /// Whether a node computes what one before it does; else it is known from here on.
    fn repeats(&mut self, id: NodeId) -> bool {
        let region = self.region;
        let node = region.node(id);
        let sharable = match &node.op {
            Op::StateRead(_) | Op::Positions { .. } | Op::Recent { .. } => true,
            op => op.is_plain(),
        };
        if !sharable {
            return false;
        }
        let hash = hash_of(region, &self.replaced, node);
        if let Some(&first) = self.known.find(hash, |&first| self.alike(region.node(first), node)) {
            let pairs = || node.results.iter().copied().zip(region.node(first).results.iter().copied());
            let same = pairs().all(|(again, first)| self.same_length(first, again));
            if same {
                self.replaced.extend(pairs());
            }
            return same;
        }
        let Search { known, replaced, .. } = self;
        known.insert_unique(hash, id, |&known| hash_of(region, replaced, region.node(known)));
        false
    }

    fn same_length(&self, a: Value, b: Value) -> bool {
        if growing(self.region.ty(a)).is_none() {
            return true;
        }
        let lengths = self.lengths.get_or_init(|| lengths(self.region));
        lengths.are_equal(a, b) || matches!((lengths.of(a), lengths.of(b)), (Some(a), Some(b)) if a == b)
    }

    fn alike(&self, a: &Node, b: &Node) -> bool {
        let same = |a: &Value, b: &Value| of(&self.replaced, *a) == of(&self.replaced, *b);
        let types = |a: &Value, b: &Value| self.region.ty(*a) == self.region.ty(*b);
        a.inputs.len() == b.inputs.len()
            && a.results.len() == b.results.len()
            && a.inputs.iter().zip(&b.inputs).all(|(a, b)| same(a, b))
            && a.results.iter().zip(&b.results).all(|(a, b)| types(a, b))
            && OpKey::of(&a.op) == OpKey::of(&b.op)
    }
}

/// What stands for a value.
fn of(replaced: &FxHashMap<Value, Value>, value: Value) -> Value {
    *replaced.get(&value).unwrap_or(&value)
}

fn hash_of(region: &Region, replaced: &FxHashMap<Value, Value>, node: &Node) -> u64 {
    let mut hasher = FxHasher::default();
    OpKey::of(&node.op).hash(&mut hasher);
    node.inputs.iter().for_each(|&v| of(replaced, v).hash(&mut hasher));
    node.results.iter().for_each(|&r| region.ty(r).hash(&mut hasher));
    hasher.finish()
}

/// How long the values of a region along growing axes are, as far as the region tells.
fn lengths(region: &Region) -> Extents<Value> {
    let mut lengths = Extents::default();
    let operands =
        |values: &[Value]| values.iter().map(|&v| (v, growing(region.ty(v)))).collect::<Vec<Operand<Value>>>();
    for id in region.nodes() {
        let node = region.node(id);
        // A region that is not valid is refused by the verifier; here nothing of it is merged wrongly.
        let _ = lengths.add(&node.op, &operands(&node.inputs), &operands(&node.results));
    }
    lengths
}
