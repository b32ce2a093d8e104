//! Float expressions of weights become weights of their own, computed once at load.

use std::collections::{HashMap, HashSet};

use super::super::rewrite::{Copy, is_leaf, is_pure};
use crate::ir::print::print_region;
use crate::ir::{
    Elem, Encoding, Initial, Module, NodeId, Op, OriginId, Region, Value, WeightDecl, WeightId, WeightSource,
};

/// Weights computed so far, by the text of their regions: the same expression is computed once.
#[derive(Default)]
pub(super) struct Computed {
    known: HashMap<String, WeightId>,
}

impl Computed {
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// The weight that a region computes; `stem` is the start of the path of a new one.
    fn weight(&mut self, module: &mut Module, region: Region, stem: &str, origin: OriginId) -> WeightId {
        let text = print_region(&region);
        if let Some(&known) = self.known.get(&text) {
            return known;
        }
        let taken: HashSet<&str> = module.weights.iter().map(|w| w.path.as_str()).collect();
        let path = (0..).map(|n| format!("{stem}#{n}")).find(|p| !taken.contains(p.as_str())).unwrap_or_default();
        let id = module.add_weight(WeightDecl {
            path,
            shape: region.ty(region.results()[0]).constant_shape().unwrap_or_default(),
            encoding: Encoding::F32,
            source: WeightSource::Computed(Box::new(region)),
            origin,
        });
        self.known.insert(text, id);
        id
    }
}

/// States start from weights of their own type: what is stored otherwise, or the same for each place of leading axes, is
/// computed from the weight that the model names.
pub(super) fn starts(module: &mut Module, computed: &mut Computed) {
    for i in 0..module.states.len() {
        let (ty, origin) = (module.states[i].ty.clone(), module.states[i].origin);
        let Initial::Weight(id) = module.states[i].initial else { continue };
        let decl = module.weight(id);
        let (stored, stem) = (decl.ty(), decl.path.clone());
        if stored == ty {
            continue;
        }
        let mut region = Region::new();
        let mut value = region.push1(Op::Weight(id), &[], stored.clone(), origin);
        if stored.elem != ty.elem {
            value = region.push1(Op::Convert(ty.elem), &[value], stored.with_elem(ty.elem), origin);
        }
        if stored.shape != ty.shape {
            let axes = (ty.rank() - stored.rank()..ty.rank()).collect();
            value = region.push1(Op::Broadcast { axes }, &[value], ty, origin);
        }
        region.set_results(vec![value]);
        module.states[i].initial = Initial::Weight(computed.weight(module, region, &stem, origin));
    }
}

/// Takes the weight-only expressions out of a region.
pub(super) fn hoist(module: &mut Module, region: &mut Region, computed: &mut Computed) {
    let mut constant: HashSet<Value> = HashSet::new();
    let mut of_weights: HashSet<Value> = HashSet::new();
    for id in region.nodes() {
        let node = region.node(id);
        let fixed = is_pure(&node.op)
            && Region::nested(&node.op).is_empty()
            && node.inputs.iter().all(|v| constant.contains(v));
        if !fixed {
            continue;
        }
        constant.extend(&node.results);
        let reads = matches!(node.op, Op::Weight(_)) || node.inputs.iter().any(|v| of_weights.contains(v));
        if reads {
            of_weights.extend(&node.results);
        }
    }
    // Only the last value of an expression is kept: what a step reads. A broadcast of it is done in the step.
    let mut wanted: Vec<Value> = Vec::new();
    let mut needed: HashSet<Value> = region.results().iter().copied().collect();
    for id in region.nodes().rev() {
        let node = region.node(id);
        // A fixed expression is looked at only for the sake of what is read of it.
        let fixed = !node.results.is_empty() && node.results.iter().all(|r| constant.contains(r));
        if fixed && !node.results.iter().any(|r| needed.contains(r)) {
            continue;
        }
        let hoisted = node.results.iter().any(|r| of_weights.contains(r) && worth(module, region, *r));
        if fixed && hoisted {
            wanted.extend(&node.results);
        } else {
            needed.extend(&node.inputs);
        }
    }
    if wanted.is_empty() {
        return;
    }
    wanted.reverse();
    let mut made: HashMap<Value, WeightId> = HashMap::new();
    for &v in &wanted {
        let id = compute(module, region, v, computed);
        made.insert(v, id);
    }
    let mut copy = Copy::new(region);
    for id in region.nodes() {
        let node = region.node(id);
        match node.results.first().and_then(|r| made.get(r)) {
            Some(&weight) => {
                let r = node.results[0];
                let ty = region.ty(r).clone();
                let new = copy.to.push1(Op::Weight(weight), &[], ty, node.origin);
                copy.set(r, new);
            }
            None => {
                copy.node(id);
            }
        }
    }
    *region = copy.finish();
    super::super::dce::sweep(region);
}

/// Whether a value that depends on weights only is to be kept as a weight: also a large one, since a step that computed it
/// anew would read as much and compute besides.
fn worth(module: &Module, region: &Region, value: Value) -> bool {
    let Some(id) = region.producer(value) else {
        return false;
    };
    let node = region.node(id);
    if is_leaf(&node.op) || matches!(node.op, Op::Broadcast { .. }) || node.results.len() != 1 {
        return false;
    }
    let ty = region.ty(value);
    let Some(elements) = ty.elements() else {
        return false;
    };
    ty.elem == Elem::F32 && elements <= read_elements(module, region, id).saturating_mul(2)
}

/// Elements of all weights that a node depends on.
fn read_elements(module: &Module, region: &Region, id: NodeId) -> usize {
    let mut seen = HashSet::from([id]);
    let mut stack = vec![id];
    let mut total = 0usize;
    while let Some(id) = stack.pop() {
        let node = region.node(id);
        if let Op::Weight(w) = node.op {
            total = total.saturating_add(module.weight(w).elements());
        }
        for &v in &node.inputs {
            if let Some(p) = region.producer(v)
                && seen.insert(p)
            {
                stack.push(p);
            }
        }
    }
    total
}

/// The computed weight of a value, made if no equal one is known.
fn compute(module: &mut Module, region: &Region, value: Value, computed: &mut Computed) -> WeightId {
    let mut needed = HashSet::from([value]);
    let mut nodes: Vec<NodeId> = Vec::new();
    for id in region.nodes().rev() {
        let node = region.node(id);
        if node.results.iter().any(|r| needed.contains(r)) {
            needed.extend(&node.inputs);
            nodes.push(id);
        }
    }
    let mut copy = Copy::without_params(region);
    let mut first = None;
    for &id in nodes.iter().rev() {
        if let Op::Weight(w) = region.node(id).op {
            first.get_or_insert(w);
        }
        copy.node(id);
    }
    let result = copy.value(value);
    copy.to.set_results(vec![result]);
    let stem = first.map_or(String::new(), |w| module.weight(w).path.clone());
    let origin = region.producer(value).map_or(OriginId(0), |p| region.node(p).origin);
    computed.weight(module, copy.to, &stem, origin)
}
