//! Float expressions of weights become weights of their own, computed once at load.

use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::rewrite::{Copy, is_leaf};
use crate::ir::print::print_region;
use crate::ir::{
    Elem, Encoding, Initial, Module, NodeId, Op, OriginId, Region, Value, WeightDecl, WeightId, WeightSource,
};

/// Weights computed so far, by the text of their regions: the same expression is computed once.
#[derive(Default)]
pub(super) struct Computed {
    known: FxHashMap<String, WeightId>,
    /// Paths of all weights, once one has been asked for.
    taken: FxHashSet<String>,
    /// Per stem of a path, the number to try next.
    numbers: FxHashMap<String, usize>,
    /// Per computed weight, the path of the first weight of the checkpoint that it is computed from.
    stems: FxHashMap<WeightId, String>,
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
        if self.taken.is_empty() {
            self.taken.extend(module.weights.iter().map(|w| w.path.clone()));
        }
        let number = self.numbers.entry(stem.to_owned()).or_default();
        let path = loop {
            let path = format!("{stem}#{number}");
            *number += 1;
            if self.taken.insert(path.clone()) {
                break path;
            }
        };
        let id = module.add_weight(WeightDecl {
            path,
            shape: region.ty(region.results()[0]).constant_shape().unwrap_or_default(),
            encoding: Encoding::F32,
            source: WeightSource::Computed(Arc::new(region)),
            origin,
        });
        self.known.insert(text, id);
        self.stems.insert(id, stem.to_owned());
        id
    }
}

/// States start from weights of their own type: what is stored otherwise, or the same for each place of leading axes,
/// is computed from the weight that the model names.
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
    let mut constant: FxHashSet<Value> = FxHashSet::default();
    let mut of_weights: FxHashMap<Value, Rc<Reads>> = FxHashMap::default();
    for id in region.nodes() {
        let node = region.node(id);
        let fixed = node.op.is_plain() && node.inputs.iter().all(|v| constant.contains(v));
        if !fixed {
            continue;
        }
        constant.extend(&node.results);
        let reads = match node.op {
            Op::Weight(w) => Some(Rc::new(Reads::one(module, w))),
            _ => Reads::of_all(module, node.inputs.iter().filter_map(|v| of_weights.get(v))),
        };
        if let Some(reads) = reads {
            of_weights.extend(node.results.iter().map(|&r| (r, reads.clone())));
        }
    }
    // Only the last value of an expression is kept: what a step reads. A broadcast of it is done in the step.
    let mut wanted: Vec<Value> = Vec::new();
    let mut needed: FxHashSet<Value> = region.results().iter().copied().collect();
    for id in region.nodes().rev() {
        let node = region.node(id);
        // A fixed expression is looked at only for the sake of what is read of it.
        let fixed = !node.results.is_empty() && node.results.iter().all(|r| constant.contains(r));
        if fixed && !node.results.iter().any(|r| needed.contains(r)) {
            continue;
        }
        let hoisted = node.results.iter().any(|r| of_weights.get(r).is_some_and(|reads| worth(region, *r, reads)));
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
    let mut made: FxHashMap<Value, WeightId> = FxHashMap::default();
    for &v in &wanted {
        let id = compute(module, region, v, &made, computed);
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

/// The weights that a value depends on.
struct Reads {
    /// Each once, ascending; none if there are more than [`Reads::MANY`].
    weights: Vec<WeightId>,
    /// Elements of all of them.
    elements: usize,
}

impl Reads {
    /// With more weights than this, one that is read on several ways may count more than once.
    const MANY: usize = 256;

    fn one(module: &Module, weight: WeightId) -> Reads {
        Reads { weights: vec![weight], elements: module.weight(weight).elements() }
    }

    /// What several values depend on; none if there are no values.
    fn of_all<'a>(module: &Module, values: impl Iterator<Item = &'a Rc<Reads>>) -> Option<Rc<Reads>> {
        let mut all: Option<Rc<Reads>> = None;
        for reads in values {
            all = Some(match all {
                None => reads.clone(),
                Some(all) if Rc::ptr_eq(&all, reads) => all,
                Some(all) => Rc::new(Reads::both(module, &all, reads)),
            });
        }
        all
    }

    fn both(module: &Module, a: &Reads, b: &Reads) -> Reads {
        let sum = a.elements.saturating_add(b.elements);
        if a.weights.is_empty() || b.weights.is_empty() {
            return Reads { weights: Vec::new(), elements: sum };
        }
        let mut weights: Vec<WeightId> = a.weights.iter().chain(&b.weights).copied().collect();
        weights.sort_unstable();
        weights.dedup();
        if weights.len() > Reads::MANY {
            return Reads { weights: Vec::new(), elements: sum };
        }
        let elements = weights.iter().fold(0usize, |n, &w| n.saturating_add(module.weight(w).elements()));
        Reads { weights, elements }
    }
}

/// Whether a value that depends on weights only is to be kept as a weight: also a large one, since a step that computed
/// it anew would read as much and compute besides.
fn worth(region: &Region, value: Value, reads: &Reads) -> bool {
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
    ty.elem == Elem::F32 && elements <= reads.elements.saturating_mul(2)
}

/// The computed weight of a value, made if no equal one is known; it reads those `made` before.
fn compute(
    module: &mut Module,
    region: &Region,
    value: Value,
    made: &FxHashMap<Value, WeightId>,
    computed: &mut Computed,
) -> WeightId {
    let is_made = |id: NodeId| region.node(id).results.first().and_then(|r| made.get(r)).copied();
    let mut needed: FxHashSet<NodeId> = region.producer(value).into_iter().collect();
    let mut stack: Vec<NodeId> = needed.iter().copied().collect();
    while let Some(id) = stack.pop() {
        if is_made(id).is_none() {
            let producers = region.node(id).inputs.iter().filter_map(|&v| region.producer(v));
            stack.extend(producers.filter(|&p| needed.insert(p)));
        }
    }
    let nodes = region.in_order(needed);
    let mut copy = Copy::of_few(region);
    let mut first = None;
    for &id in &nodes {
        let node = region.node(id);
        if let Some(weight) = is_made(id) {
            first.get_or_insert(weight);
            let r = node.results[0];
            let new = copy.to.push1(Op::Weight(weight), &[], region.ty(r).clone(), node.origin);
            copy.set(r, new);
            continue;
        }
        if let Op::Weight(w) = node.op {
            first.get_or_insert(w);
        }
        copy.node(id);
    }
    let result = copy.value(value);
    copy.to.set_results(vec![result]);
    let stem = first.map_or(String::new(), |w| match computed.stems.get(&w) {
        Some(stem) => stem.clone(),
        None => module.weight(w).path.clone(),
    });
    let origin = region.producer(value).map_or(OriginId(0), |p| region.node(p).origin);
    computed.weight(module, copy.to, &stem, origin)
}
