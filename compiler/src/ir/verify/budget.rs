//! What a graph from outside may cost: its size, what it computes and what it keeps. The verifier's other rules say
//! what a graph means; these say that it ends. The language counts the same while it elaborates, with places of its
//! own.

use rustc_hash::FxHashMap;

use super::{Checker, Fault, VerifyError};
use crate::ir::graph::{Node, NodeId, Region, Value};
use crate::ir::module::{AxisCapacity, Module, StateDecl, WeightSource};
use crate::ir::op::Op;
use crate::ir::print::{Place, RegionPath, Root};
use crate::ir::types::{Dim, Type};
use crate::limits::Limits;

/// Checks a module against limits.
///
/// # Errors
/// The first limits that are met, with the lines where.
pub fn within(module: &Module, limits: &Limits) -> Result<(), VerifyError> {
    let mut counter = Counter { checker: Checker::new(module), limits, nodes: 0, work: 0, constants: 0, full: false };
    counter.declarations();
    counter.regions();
    counter.checker.finish()
}

/// Elements that a node costs at least, however small its results are.
const NODE: usize = 1024;

struct Counter<'a> {
    checker: Checker<'a>,
    limits: &'a Limits,
    nodes: usize,
    work: usize,
    constants: usize,
    /// Whether enough has been said.
    full: bool,
}

/// Elements of a type, axes of unknown length aside.
pub fn elements(ty: &Type) -> usize {
    let axes = ty.shape.iter().map(|dim| match dim {
        Dim::Const(n) => *n,
        Dim::Grow { plus, .. } => plus.saturating_add(1),
        Dim::Time => 1,
    });
    axes.fold(1, usize::saturating_mul)
}

/// Terms of a product that take as long as one element of another result.
const TERMS: usize = 256;

/// Elements that a node computes or looks at besides those of its results: the search for the k largest passes over the
/// axis k times, and a product has a term for each pair that it multiplies.
pub fn looks(region: &Region, node: &Node) -> usize {
    let Some(&first) = node.inputs.first() else { return 0 };
    let first = region.ty(first);
    match node.op {
        Op::TopK { k } | Op::TopMask { k } => elements(first).saturating_mul(k),
        Op::MatMul { .. } | Op::Linear | Op::LinearInt8 { .. } => {
            let results = node.results.iter().map(|&r| elements(region.ty(r))).fold(0, usize::saturating_add);
            let terms = first.shape.last().and_then(|dim| dim.constant()).unwrap_or(1);
            results.saturating_mul(terms) / TERMS
        }
        _ => 0,
    }
}

/// Bytes of all instances of a state, as f32.
pub fn state_bytes(module: &Module, state: &StateDecl) -> usize {
    let entries = state.growing().map_or(1, |(_, axis)| match module.axes.get(axis.index()).map(|a| a.capacity) {
        Some(AxisCapacity::Max(n) | AxisCapacity::Ring(n)) => n,
        _ => 1,
    });
    let instances = state.instances.iter().fold(1usize, |n, &d| n.saturating_mul(d));
    [elements(&state.ty), entries, instances].into_iter().fold(4, usize::saturating_mul)
}

/// How many elements of weights the values of a region come from: those of the largest weight, or of all that are put
/// side by side. What is computed of weights alone, and no larger than they are, is computed once, at load, and costs
/// no more than they do.
#[derive(Debug, Default)]
pub struct OfWeights {
    known: FxHashMap<Value, usize>,
}

impl OfWeights {
    /// Notes a node with results of so many elements in all; says whether they are of weights and no larger.
    pub fn node(&mut self, op: &Op, inputs: &[Value], results: &[Value], elements: usize) -> bool {
        let of = |v: &Value| self.known.get(v).copied();
        let read = match op {
            Op::Weight(_) => Some(elements),
            Op::Constant(_) | Op::Iota(_) => Some(0),
            _ if inputs.is_empty() || !op.is_plain() => None,
            Op::Concat { .. } => {
                let sum: Option<usize> = inputs.iter().try_fold(0usize, |n, v| Some(n.saturating_add(of(v)?)));
                sum.map(|n| n.min(elements))
            }
            _ => inputs.iter().try_fold(0, |n: usize, v| Some(n.max(of(v)?))),
        };
        let Some(read) = read else {
            return false;
        };
        self.known.extend(results.iter().map(|&r| (r, read)));
        matches!(op, Op::Weight(_)) || read > 0 && elements <= read.saturating_mul(2)
    }
}

impl Counter<'_> {
    fn declared(&mut self, name: String, what: String) {
        self.checker.declaration(&name, what);
        self.full = true;
    }

    fn declarations(&mut self) {
        let (module, limits) = (self.checker.module, self.limits);
        for (count, what) in [(module.weights.len(), "weights"), (module.states.len(), "states")] {
            if count > limits.declared {
                self.declared(module.name.clone(), format!("{count} {what}, at most {}", limits.declared));
            }
        }
        let mut bytes = 0usize;
        for (i, weight) in module.weights.iter().enumerate() {
            bytes = bytes.saturating_add(elements(&weight.ty()).saturating_mul(4));
            if bytes > limits.weights {
                let most = limits.weights;
                return self.declared(format!("w{i}"), format!("more than {most} bytes of weights as f32"));
            }
        }
        let mut bytes = 0usize;
        for (i, state) in module.states.iter().enumerate() {
            bytes = bytes.saturating_add(state_bytes(module, state));
            if bytes > limits.states {
                let most = limits.states;
                return self.declared(format!("s{i}"), format!("more than {most} bytes of states as f32"));
            }
        }
    }

    fn regions(&mut self) {
        let module = self.checker.module;
        for (i, weight) in module.weights.iter().enumerate() {
            if let WeightSource::Computed(region) = &weight.source {
                self.region(region, Root::Weight(i), &mut Vec::new(), 1);
            }
        }
        for (i, entry) in module.entries.iter().enumerate() {
            // Entries run one at a time.
            self.work = 0;
            self.region(&entry.body, Root::Entry(i), &mut Vec::new(), 1);
        }
    }

    fn region(&mut self, region: &Region, root: Root, path: &mut RegionPath, rounds: usize) {
        let mut of_weights = OfWeights::default();
        for id in region.nodes() {
            if self.full {
                return;
            }
            if let Err(what) = self.node(region, id, &mut of_weights, path.len(), rounds) {
                self.checker.fault(Place::Node(root, path.clone(), id), Fault::Budget(what));
                self.full = true;
                return;
            }
            let op = &region.node(id).op;
            let rounds = match op {
                Op::Repeat { max, .. } => rounds.saturating_mul((*max).max(1)),
                _ => rounds,
            };
            for (i, inner) in Region::nested(op).into_iter().enumerate() {
                path.push((id, i));
                self.region(inner, root, path, rounds);
                path.pop();
            }
        }
    }

    fn node(
        &mut self,
        region: &Region,
        id: NodeId,
        of_weights: &mut OfWeights,
        depth: usize,
        rounds: usize,
    ) -> Result<(), String> {
        let (node, limits) = (region.node(id), self.limits);
        self.nodes += 1;
        if self.nodes > limits.nodes {
            return Err(format!("more than {} nodes", limits.nodes));
        }
        if depth > limits.regions {
            return Err(format!("more than {} regions inside one another", limits.regions));
        }
        if let Op::Repeat { max, .. } = &node.op
            && rounds.saturating_mul((*max).max(1)) > limits.rounds
        {
            return Err(format!("more than {} rounds, with those of the repeats around it", limits.rounds));
        }
        if let Op::Constant(literal) = &node.op {
            let bytes = literal.data.len().saturating_mul(literal.data.elem().bytes().unwrap_or(8));
            self.constants = self.constants.saturating_add(bytes);
            if self.constants > limits.constants {
                return Err(format!("more than {} bytes of constants", limits.constants));
            }
        }
        let sizes = node.results.iter().map(|&r| elements(region.ty(r)));
        let all = sizes.clone().fold(0, usize::saturating_add);
        let mut computed = NODE;
        if !of_weights.node(&node.op, &node.inputs, &node.results, all) {
            if let Some(n) = sizes.max().filter(|&n| n > limits.value) {
                return Err(format!("a value of {n} elements, at most {}", limits.value));
            }
            computed = computed.saturating_add(all);
        }
        computed = computed.saturating_add(looks(region, node));
        self.work = self.work.saturating_add(computed.saturating_mul(rounds));
        if self.work > limits.work {
            return Err(format!("more than {} elements computed in a step", limits.work));
        }
        Ok(())
    }
}
