//! Where numbers stop being numbers: the first value of a stream that is not finite although all that it was made from
//! was. Infinities that a graph writes itself, such as those of masks, are no fault.

use std::cell::RefCell;

use super::eval::{Operands, Slot};
use super::weights::WeightValue;
use crate::ir::{Data, Module, Op, Origin, ReduceOp};

/// A value that is not finite, with where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct NotFinite {
    /// The step of its stream, counted from 0.
    pub step: i32,
    /// The operation that gave it, or the weight that it is part of.
    pub operation: String,
    /// Where the model's text has the operation.
    pub origin: Option<Origin>,
    pub value: f32,
}

/// Looks for the first value that is not finite while an interpreter runs.
#[derive(Debug, Default)]
pub struct Watch(RefCell<Option<NotFinite>>);

impl Watch {
    /// What was found so far.
    pub fn found(&self) -> Option<NotFinite> {
        self.0.borrow().clone()
    }

    /// Looks at what a node gave.
    pub(super) fn look(&self, module: &Module, step: i32, operands: &Operands, results: &[Slot]) {
        // Others only choose among values: an infinity of theirs is one that the graph wrote, or means that there is
        // nothing.
        let computes = match &operands.node.op {
            Op::Reduce { op, .. } => *op == ReduceOp::Sum,
            Op::Weight(_) | Op::Unary(_) | Op::Binary(_) | Op::Convert(_) | Op::MatMul { .. } => true,
            Op::Linear | Op::LinearInt8 { .. } | Op::QuantizeInput { .. } => true,
            _ => false,
        };
        if !computes || self.0.borrow().is_some() {
            return;
        }
        let Some(value) = results.iter().find_map(worst) else { return };
        let given: Vec<f32> = operands.slots.iter().filter_map(worst).collect();
        // Infinite operands may give infinite results; nothing but a number that is none gives more of those.
        let excused = if value.is_nan() { given.iter().any(|x| x.is_nan()) } else { !given.is_empty() };
        if excused {
            return;
        }
        let operation = match &operands.node.op {
            Op::Weight(id) => format!("the weight {}", module.weight(*id).path),
            op => format!("`{}`", op.name()),
        };
        let origin = module.origins.get(operands.node.origin.index()).cloned();
        *self.0.borrow_mut() = Some(NotFinite { step, operation, origin, value });
    }
}

/// A value that is not finite, rather NaN than an infinity.
fn worst(slot: &Slot) -> Option<f32> {
    match slot {
        Slot::Tensor(tensor) => match &*tensor.data {
            Data::F32(values) => of(values),
            _ => None,
        },
        Slot::Weight { value: WeightValue::Dense(tensor), .. } => tensor.as_f32().and_then(of),
        Slot::Weight { value: WeightValue::Coded(coded), .. } => of(&coded.scales),
    }
}

fn of(values: &[f32]) -> Option<f32> {
    let bad = || values.iter().copied().filter(|value| !value.is_finite());
    bad().find(|value| value.is_nan()).or_else(|| bad().next())
}
