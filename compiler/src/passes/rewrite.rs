//! What the passes share: walking all regions, rebuilding one, and taking a group of nodes out into a body of its own.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::ir::graph::Inputs;
use crate::ir::infer::{TypeError, result_types};
use crate::ir::{Module, Node, NodeId, Op, OriginId, Region, Type, Value, WeightSource};

/// What surrounds a region that a pass looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Around {
    pub lifted: bool,
    pub in_scan: bool,
    pub in_fused: bool,
    /// Directly or indirectly in a choice, a repeat or an expert.
    pub nested: bool,
    /// It computes a weight.
    pub computed: bool,
}

/// Runs `f` on every region, innermost first. The module is given without its entries (its declarations are there).
pub fn each_region<E>(
    module: &mut Module,
    mut f: impl FnMut(&mut Module, &mut Region, Around) -> Result<(), E>,
) -> Result<(), E> {
    let mut entries = std::mem::take(&mut module.entries);
    let mut result = Ok(());
    for entry in &mut entries {
        let around = Around { lifted: entry.lifted, ..Around::default() };
        result = walk(module, &mut entry.body, around, &mut f);
        if result.is_err() {
            break;
        }
    }
    module.entries = entries;
    result
}

/// The same for the regions that compute weights.
pub fn each_computed(module: &mut Module, mut f: impl FnMut(&mut Module, &mut Region)) {
    for i in 0..module.weights.len() {
        let source = std::mem::replace(&mut module.weights[i].source, WeightSource::Checkpoint);
        if let WeightSource::Computed(mut region) = source {
            f(module, Arc::make_mut(&mut region));
            module.weights[i].source = WeightSource::Computed(region);
        }
    }
}

fn walk<E>(
    module: &mut Module,
    region: &mut Region,
    around: Around,
    f: &mut impl FnMut(&mut Module, &mut Region, Around) -> Result<(), E>,
) -> Result<(), E> {
    let ids: Vec<NodeId> = region.nodes().collect();
    for id in ids {
        let op = region.op_mut(id);
        let inside = Around {
            in_scan: around.in_scan || matches!(op, Op::Scan { .. }),
            in_fused: around.in_fused || matches!(op, Op::Fused { .. }),
            nested: around.nested || !matches!(op, Op::Scan { .. } | Op::Fused { .. }),
            ..around
        };
        for inner in Region::nested_mut(op) {
            walk(module, inner, inside, f)?;
        }
    }
    f(module, region, around)
}

/// An operation without operands that is the same everywhere: repeated inside a body rather than passed in.
pub fn is_leaf(op: &Op) -> bool {
    matches!(op, Op::Constant(_) | Op::Weight(_) | Op::Iota(_))
}

/// Whether an operation computes each element of its result from the same element of its operands.
pub fn is_elementwise(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Convert(_))
}

/// Whether an operation does something besides giving its results.
pub fn has_effect(op: &Op) -> bool {
    match op {
        Op::StateWrite(_) | Op::Push { .. } | Op::Check { .. } | Op::Probe { .. } => true,
        _ => Region::nested(op).into_iter().any(|r| r.nodes().any(|n| has_effect(&r.node(n).op))),
    }
}

/// Whether an operation gives the same results for the same operands in every step: no state, host or effect.
pub fn is_pure(op: &Op) -> bool {
    let nested = Region::nested(op);
    op.is_plain() || !nested.is_empty() && nested.iter().all(|r| r.nodes().all(|n| is_pure(&r.node(n).op)))
}

/// Makes broadcasts of broadcasts one, and says how many there were.
pub fn compose_broadcasts(region: &mut Region) -> usize {
    // Per broadcast, what it repeats in the end and along which axes.
    let mut ends: FxHashMap<Value, (Value, Vec<usize>)> = FxHashMap::default();
    let mut composed = Vec::new();
    let ids: Vec<NodeId> = region.nodes().collect();
    for id in ids {
        let node = region.node(id);
        let (Op::Broadcast { axes: outer }, [operand], [result]) = (&node.op, &node.inputs[..], &node.results[..])
        else {
            continue;
        };
        let (operand, result) = (*operand, *result);
        let Some((end, axes)) = ends.get(&operand) else {
            ends.insert(result, (operand, outer.clone()));
            continue;
        };
        let (end, axes): (Value, Vec<usize>) = (*end, axes.iter().map(|&a| outer[a]).collect());
        ends.insert(result, (end, axes.clone()));
        *region.op_mut(id) = Op::Broadcast { axes };
        composed.push((id, vec![end]));
    }
    let n = composed.len();
    region.rewire(composed);
    n
}

/// A region on its way into another: nodes are copied, replaced or left out.
pub struct Copy<'a> {
    pub from: &'a Region,
    pub to: Region,
    map: Map,
}

/// What stands for values of the old region.
enum Map {
    /// By number, for copies of most of it.
    All(Vec<Option<Value>>),
    /// For copies that must not cost what the whole region has.
    Few(FxHashMap<Value, Value>),
}

impl Map {
    fn get(&self, old: Value) -> Option<Value> {
        match self {
            Map::All(all) => all[old.0 as usize],
            Map::Few(few) => few.get(&old).copied(),
        }
    }

    fn set(&mut self, old: Value, new: Value) {
        match self {
            Map::All(all) => all[old.0 as usize] = Some(new),
            Map::Few(few) => drop(few.insert(old, new)),
        }
    }
}

impl<'a> Copy<'a> {
    /// Starts with the parameters.
    pub fn new(from: &'a Region) -> Copy<'a> {
        let mut copy = Copy::without_params(from);
        for &p in from.params() {
            let new = copy.to.add_param(from.ty(p).clone());
            copy.set(p, new);
        }
        copy
    }

    /// Starts with nothing.
    pub fn without_params(from: &'a Region) -> Copy<'a> {
        let to = Region::with_room_for(from);
        Copy { from, to, map: Map::All(vec![None; from.value_numbers()]) }
    }

    /// Starts with nothing, for a few nodes of a region that may have many.
    pub fn of_few(from: &'a Region) -> Copy<'a> {
        Copy { from, to: Region::new(), map: Map::Few(FxHashMap::default()) }
    }

    /// What stands for a value of the old region.
    pub fn value(&self, old: Value) -> Value {
        match self.map.get(old) {
            Some(new) => new,
            None => panic!("{old} is copied after its use"),
        }
    }

    /// Several of them.
    pub fn values(&self, old: &[Value]) -> Vec<Value> {
        old.iter().map(|&v| self.value(v)).collect()
    }

    /// Whether something stands for a value.
    pub fn has(&self, old: Value) -> bool {
        self.map.get(old).is_some()
    }

    /// Lets `new` stand for `old`.
    pub fn set(&mut self, old: Value, new: Value) {
        self.map.set(old, new);
    }

    /// Copies a node.
    pub fn node(&mut self, id: NodeId) -> NodeId {
        let node = self.from.node(id);
        let mut inputs = Inputs::from_slice(&node.inputs);
        inputs.iter_mut().for_each(|v| *v = self.value(*v));
        let types = node.results.iter().map(|&r| self.from.ty(r).clone());
        let new = self.to.push(node.op.clone(), &inputs, types, node.origin);
        for (&old, &new) in node.results.iter().zip(&self.to.node(new).results) {
            self.map.set(old, new);
        }
        new
    }

    /// Puts the nodes of a region in place of the node that runs it on `given`, values of the old region.
    pub fn splice(&mut self, node: &Node, body: &Region, given: &[Value]) {
        let mut inner = Copy::without_params(body);
        inner.to = std::mem::take(&mut self.to);
        for (&param, &value) in body.params().iter().zip(given) {
            inner.set(param, self.value(value));
        }
        for id in body.nodes() {
            inner.node(id);
        }
        for (&old, &result) in node.results.iter().zip(body.results()) {
            self.set(old, inner.value(result));
        }
        self.to = inner.to;
    }

    /// Appends a node of the new region, with inferred types.
    pub fn push(
        &mut self,
        module: &Module,
        op: Op,
        inputs: &[Value],
        origin: OriginId,
    ) -> Result<Vec<Value>, TypeError> {
        append(module, &mut self.to, op, inputs, None, origin)
    }

    /// The new region, yielding what the old one did.
    pub fn finish(mut self) -> Region {
        let results = self.values(self.from.results());
        self.to.set_results(results);
        self.to
    }
}

/// Appends a node with inferred (or, for `broadcast` and `reshape`, declared) types.
pub fn append(
    module: &Module,
    region: &mut Region,
    op: Op,
    inputs: &[Value],
    declared: Option<Type>,
    origin: OriginId,
) -> Result<Vec<Value>, TypeError> {
    let operands: Vec<&Type> = inputs.iter().map(|&v| region.ty(v)).collect();
    let declared = declared.as_ref().map(|ty| [ty]);
    let types = result_types(module, &op, &operands, declared.as_ref().map(|types| &types[..]))?;
    let node = region.push(op, inputs, types, origin);
    Ok(region.node(node).results.to_vec())
}

/// A group of nodes taken out of a region.
pub struct Extracted {
    /// One parameter per capture, one result per value of `results`; types as in the old region.
    pub body: Region,
    /// Values of the old region that the group reads.
    pub captures: Vec<Value>,
    /// Values of the old region that the group defines and others use.
    pub results: Vec<Value>,
    pub origin: OriginId,
}

/// Copies `members` (in the region's order, together convex) into a body. Leaves and broadcasts outside that they read
/// are repeated inside, where `loose` says that they are in no group of their own; fused groups among the members are
/// dissolved.
pub fn extract(region: &Region, members: &[NodeId], loose: &dyn Fn(NodeId) -> bool) -> Extracted {
    let set: FxHashSet<NodeId> = members.iter().copied().collect();
    let mut copy = Copy::of_few(region);
    let mut captures = Vec::new();
    let mut results = Vec::new();
    for &id in members {
        let node = region.node(id);
        for &v in &node.inputs {
            import(&mut copy, &mut captures, &|n| !set.contains(&n) && loose(n), v);
        }
        match &node.op {
            Op::Fused { body, .. } => copy.splice(node, body, &node.inputs),
            _ => {
                copy.node(id);
            }
        }
    }
    let yielded: FxHashSet<Value> = region.results().iter().copied().collect();
    for &id in members {
        for &r in &region.node(id).results {
            if yielded.contains(&r) || region.users(r).iter().any(|u| !set.contains(u)) {
                results.push(r);
            }
        }
    }
    let yields = copy.values(&results);
    copy.to.set_results(yields);
    let mut body = copy.to;
    super::cse::region(&mut body);
    super::dce::sweep(&mut body);
    drop_unused_params(&mut body, &mut captures);
    Extracted { body, captures, results, origin: members.first().map_or(OriginId(0), |&n| region.node(n).origin) }
}

fn import(copy: &mut Copy, captures: &mut Vec<Value>, loose: &dyn Fn(NodeId) -> bool, value: Value) {
    if copy.has(value) {
        return;
    }
    if let Some(id) = copy.from.producer(value)
        && loose(id)
    {
        let node = copy.from.node(id);
        if is_leaf(&node.op) || matches!(node.op, Op::Broadcast { .. }) {
            for &v in &node.inputs {
                import(copy, captures, loose, v);
            }
            copy.node(id);
            return;
        }
    }
    let param = copy.to.add_param(copy.from.ty(value).clone());
    copy.set(value, param);
    captures.push(value);
}

/// Removes parameters that nothing in a body uses, with what is given for them.
fn drop_unused_params(body: &mut Region, captures: &mut Vec<Value>) {
    let used: Vec<bool> = body.params().iter().map(|&p| body.is_used(p)).collect();
    if used.contains(&false) {
        body.remove_params(|i| !used[i]);
        let mut i = 0;
        captures.retain(|_| {
            i += 1;
            used[i - 1]
        });
    }
}
