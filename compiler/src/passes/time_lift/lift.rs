//! How each operation gets the time axis.

use std::sync::Arc;

use super::super::PassError;
use super::{Lifting, lift_region, varies};
use crate::ir::infer::result_types;
use crate::ir::{Node, NodeId, Op, Region, Type, Value};

/// Lifts one node that is in no recurrence.
pub(super) fn lift_node(l: &mut Lifting, id: NodeId) -> Result<(), PassError> {
    let from = l.copy.from;
    let node = from.node(id);
    let steps: Vec<bool> = node.inputs.iter().map(|&v| l.is_per_step(v)).collect();
    if !varies(&node.op) && !steps.contains(&true) {
        l.copy.node(id);
        return Ok(());
    }
    l.counts.lifted += 1;
    let all = |l: &mut Lifting| -> Result<Vec<Value>, PassError> {
        node.inputs.iter().map(|&v| l.with_time(v, node.origin)).collect()
    };
    let as_is = |l: &Lifting| l.copy.values(&node.inputs);
    let up = |axes: &[usize]| -> Vec<usize> { axes.iter().map(|a| a + 1).collect() };
    let (op, inputs) = match &node.op {
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Compare(_)
        | Op::Select
        | Op::Convert(_)
        | Op::Bits
        | Op::Reshape
        | Op::TopK { .. }
        | Op::TopMask { .. }
        | Op::QuantizeInput { .. }
        | Op::Host(_) => (node.op.clone(), all(l)?),
        // Their other operands are weights, shared by all steps.
        Op::Linear | Op::LinearInt8 { .. } | Op::Check { .. } | Op::Probe { .. } => (node.op.clone(), as_is(l)),
        Op::Broadcast { axes } => {
            let mut lifted = vec![0];
            lifted.extend(up(axes));
            (Op::Broadcast { axes: lifted }, all(l)?)
        }
        Op::Permute { axes } => {
            let mut lifted = vec![0];
            lifted.extend(up(axes));
            (Op::Permute { axes: lifted }, all(l)?)
        }
        Op::Slice { axis, start, len } => {
            let op = Op::Slice { axis: axis + 1, start: *start, len: *len };
            (op, all(l)?)
        }
        Op::Concat { axis } => (Op::Concat { axis: axis + 1 }, all(l)?),
        Op::Reduce { op, axis } => {
            let op = Op::Reduce { op: *op, axis: axis + 1 };
            (op, all(l)?)
        }
        // One table for all steps: time is one more axis of the index.
        Op::Gather { batch: 0 } if !steps[0] => (node.op.clone(), as_is(l)),
        Op::Gather { batch } => (Op::Gather { batch: batch + 1 }, all(l)?),
        // A row times one matrix: the steps are the rows of the product.
        Op::MatMul { batch: 0 } if !steps[1] && from.ty(node.inputs[0]).rank() == 1 => (node.op.clone(), as_is(l)),
        Op::MatMul { batch } => (Op::MatMul { batch: batch + 1 }, all(l)?),
        Op::If { .. } | Op::Repeat { .. } | Op::Experts { .. } => {
            return control(l, node, &steps);
        }
        Op::Constant(_)
        | Op::Weight(_)
        | Op::Iota(_)
        | Op::StateRead(_)
        | Op::StateWrite(_)
        | Op::Push { .. }
        | Op::Positions { .. }
        | Op::Recent { .. }
        | Op::Scan { .. }
        | Op::Fused { .. } => {
            return Err(PassError::Unsupported {
                pass: "time_lift",
                what: format!("{} outside of a recurrence", node.op.name()),
            });
        }
    };
    finish(l, node, op, &inputs)
}

/// A choice, repeat or choice of experts that has time: everything it gives has it.
fn control(l: &mut Lifting, node: &Node, steps: &[bool]) -> Result<(), PassError> {
    let mut inputs: Vec<Value> = l.copy.values(&node.inputs);
    let op = match &node.op {
        Op::If { then, otherwise } => {
            let results = vec![true; then.results().len()];
            Op::If {
                then: Arc::new(lift_region(l.module, then, &steps[1..], &results, l.counts)?),
                otherwise: Arc::new(lift_region(l.module, otherwise, &steps[1..], &results, l.counts)?),
            }
        }
        Op::Repeat { first, max, carried, body } => {
            let mut given = steps.to_vec();
            given[0] = false;
            for i in 1..=*carried {
                given[i] = true;
                inputs[i] = l.with_time(node.inputs[i], node.origin)?;
            }
            let mut results = vec![true; body.results().len()];
            results[0] = false;
            Op::Repeat {
                first: *first,
                max: *max,
                carried: *carried,
                body: Arc::new(lift_region(l.module, body, &given, &results, l.counts)?),
            }
        }
        Op::Experts { regions } => {
            inputs[0] = l.with_time(node.inputs[0], node.origin)?;
            let lifted: Result<Vec<Region>, PassError> = regions
                .iter()
                .map(|r| {
                    let results = vec![true; r.results().len()];
                    lift_region(l.module, r, &steps[1..], &results, l.counts)
                })
                .collect();
            Op::Experts { regions: lifted? }
        }
        _ => unreachable!("not control flow"),
    };
    finish(l, node, op, &inputs)
}

fn finish(l: &mut Lifting, node: &Node, op: Op, inputs: &[Value]) -> Result<(), PassError> {
    let declared: Vec<Type> = node.results.iter().map(|&r| l.copy.from.ty(r).lifted()).collect();
    let operands: Vec<&Type> = inputs.iter().map(|&v| l.copy.to.ty(v)).collect();
    let wanted: Vec<&Type> = declared.iter().collect();
    let types = result_types(l.module, &op, &operands, Some(&wanted))?;
    let id = l.copy.to.push(op, inputs, types, node.origin);
    let results = l.copy.to.node(id).results.clone();
    for (&old, new) in node.results.iter().zip(results) {
        l.per_step.insert(new);
        l.copy.set(old, new);
    }
    Ok(())
}
