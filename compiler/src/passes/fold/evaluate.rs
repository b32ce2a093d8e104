//! Operations on constants are evaluated by the interpreter, which is what they mean.

use rustc_hash::FxHashMap;

use super::super::PassError;
use super::super::rewrite::{Copy, is_leaf};
use crate::interp::{Interpreter, MemoryWeights, StreamState};
use crate::ir::{Literal, Module, Node, Op, Region, Value};

/// A constant made here has at most this many elements, unless its operands store as many.
const MAX_ELEMENTS: usize = 256;

/// Replaces operations on constants by their results, and says how many.
pub(super) fn evaluate(module: &Module, region: &mut Region) -> Result<usize, PassError> {
    if !region.nodes().any(|n| foldable(region, region.node(n))) {
        return Ok(0);
    }
    let weights = MemoryWeights::default();
    let interpreter = Interpreter::new(module, &weights);
    let mut copy = Copy::new(region);
    // Values of the new region that are constants, with the literals.
    let mut constants: FxHashMap<Value, Op> = FxHashMap::default();
    let mut folded = 0;
    let mut stream = StreamState::stateless();
    for id in region.nodes() {
        let node = region.node(id);
        let inputs = copy.values(&node.inputs);
        let operands: Option<Vec<Op>> = inputs.iter().map(|v| constants.get(v).cloned()).collect();
        let candidate = !is_leaf(&node.op) && node.op.is_plain() && small(region, node);
        let (Some(operands), true) = (operands, candidate) else {
            copy.node(id);
            if matches!(node.op, Op::Constant(_) | Op::Iota(_)) {
                constants.insert(copy.value(node.results[0]), node.op.clone());
            }
            continue;
        };
        let mut body = Region::new();
        let mut values = Vec::new();
        for (op, &v) in operands.into_iter().zip(&inputs) {
            values.push(body.push1(op, &[], copy.to.ty(v).clone(), node.origin));
        }
        let types = node.results.iter().map(|&r| region.ty(r).clone());
        let made = body.push(node.op.clone(), &values, types, node.origin);
        body.set_results(body.node(made).results.to_vec());
        // What cannot be evaluated stays, and is reported when it runs.
        let Ok(results) = interpreter.evaluate(&body, &[], 1, &mut stream) else {
            copy.node(id);
            continue;
        };
        folded += 1;
        for (&old, tensor) in node.results.iter().zip(results) {
            let op = Op::Constant(Literal { shape: tensor.shape, data: tensor.data });
            let new = copy.to.push1(op.clone(), &[], region.ty(old).clone(), node.origin);
            constants.insert(new, op);
            copy.set(old, new);
        }
    }
    *region = copy.finish();
    super::super::dce::sweep(region);
    Ok(folded)
}

fn foldable(region: &Region, node: &Node) -> bool {
    !is_leaf(&node.op) && !node.inputs.is_empty() && {
        let constant = |&v: &Value| {
            let producer = region.producer(v);
            producer.is_some_and(|p| is_leaf(&region.node(p).op))
        };
        node.inputs.iter().all(constant)
    }
}

/// Whether the results are not much larger than the operands. A broadcast is never smaller than what it repeats: it
/// stays.
fn small(region: &Region, node: &Node) -> bool {
    if matches!(node.op, Op::Broadcast { .. }) {
        return false;
    }
    let elements = |v: &Value| region.ty(*v).elements();
    // An iota stores nothing, so that what is computed of a long one would only be larger.
    let stores = |v: &&Value| {
        let producer = region.producer(**v);
        !producer.is_some_and(|p| matches!(region.node(p).op, Op::Iota(_)))
    };
    let operands: usize = node.inputs.iter().filter(stores).filter_map(elements).fold(0, usize::saturating_add);
    node.results.iter().all(|r| elements(r).is_some_and(|n| n <= operands.max(MAX_ELEMENTS)))
}
