//! Operations that change nothing, and products that are linears in other words.

use rustc_hash::FxHashMap;

use super::super::PassError;
use super::super::rewrite::{Copy, compose_broadcasts};
use crate::ir::{Elem, Encoding, Module, Node, Op, Region, Value};

/// Removes operations that give their operand back, and says how many.
pub(super) fn identities(region: &mut Region) -> usize {
    let mut same: FxHashMap<Value, Value> = FxHashMap::default();
    for id in region.nodes() {
        let node = region.node(id);
        if let [result] = node.results[..]
            && is_identity(region, node)
        {
            let operand = node.inputs[0];
            same.insert(result, *same.get(&operand).unwrap_or(&operand));
        }
    }
    region.replace_all(&same);
    let n = same.len() + compose_broadcasts(region);
    super::super::dce::sweep(region);
    n
}

fn is_identity(region: &Region, node: &Node) -> bool {
    let same_type = || region.ty(node.inputs[0]) == region.ty(node.results[0]);
    match &node.op {
        Op::Reshape | Op::Convert(_) | Op::Broadcast { .. } | Op::Slice { .. } => same_type(),
        Op::Permute { axes } => axes.iter().enumerate().all(|(i, &a)| i == a),
        Op::Concat { .. } => node.inputs.len() == 1,
        _ => false,
    }
}

/// `W @ x` with a float weight and a vector is the linear layer of that weight, with the same sums; says how many there
/// were.
pub(super) fn products(module: &Module, region: &mut Region) -> Result<usize, PassError> {
    let is_linear = |region: &Region, node: &Node| {
        let Op::MatMul { batch: 0 } = node.op else {
            return false;
        };
        let (a, x) = (node.inputs[0], node.inputs[1]);
        let weight = region.producer(a).is_some_and(|p| match region.node(p).op {
            Op::Weight(w) => matches!(module.weight(w).encoding, Encoding::F32 | Encoding::F16 | Encoding::Bf16),
            _ => false,
        });
        weight
            && region.ty(a).rank() == 2
            && region.ty(x).rank() == 1
            && region.ty(x).elem == Elem::F32
            && !region.ty(x).is_lifted()
    };
    if !region.nodes().any(|n| is_linear(region, region.node(n))) {
        return Ok(0);
    }
    let mut copy = Copy::new(region);
    let mut n = 0;
    for id in region.nodes() {
        let node = region.node(id);
        if !is_linear(region, node) {
            copy.node(id);
            continue;
        }
        n += 1;
        let inputs = [copy.value(node.inputs[1]), copy.value(node.inputs[0])];
        let new = copy.push(module, Op::Linear, &inputs, node.origin)?;
        copy.set(node.results[0], new[0]);
    }
    *region = copy.finish();
    Ok(n)
}
