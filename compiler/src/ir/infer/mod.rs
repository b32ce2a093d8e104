//! Result types: what an operation gives for operands of given types, or why it does not take them.
//!
//! Used by the elaborator and the passes to type new nodes, and by the verifier to check those that exist. One file
//! per family; this one has the entrance, the error and what the families share.

mod control;
mod elementwise;
mod product;
mod shape;
mod state;

use super::module::Module;
use super::op::Op;
use super::types::{Dim, Elem, InputQuant, Type};

/// Why an operation does not take its operands.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TypeError {
    /// Wrong number of operands.
    #[error("{op} takes {expected} operands, not {found}")]
    Count { op: &'static str, expected: String, found: usize },
    /// An operand of the wrong type; `index` from 0.
    #[error("operand {} of {op} is {found}, expected {expected}", index + 1)]
    Operand { op: &'static str, index: usize, found: Type, expected: String },
    /// An attribute that does not fit the operands.
    #[error("{op}: {what}")]
    Attribute { op: &'static str, what: String },
    /// A weight, state or host function that is not declared.
    #[error("{op}: {what} is not declared")]
    Undeclared { op: &'static str, what: String },
    /// A nested region whose parameters or results do not fit.
    #[error("{op}: {what}")]
    Region { op: &'static str, what: String },
    /// `broadcast` and `reshape` are told their result.
    #[error("{op} must be given its result type")]
    NeedsResult { op: &'static str },
}

/// One operation with its operand types, on the way to its result types.
pub(crate) struct Typing<'a> {
    module: &'a Module,
    op: &'a Op,
    name: &'static str,
    operands: &'a [&'a Type],
    declared: Option<&'a [&'a Type]>,
}

/// The result types of `op` on operands of these types. `declared` is the result type wanted; it decides for
/// `broadcast` and `reshape` and is not looked at by the others.
pub fn result_types(
    module: &Module,
    op: &Op,
    operands: &[&Type],
    declared: Option<&[&Type]>,
) -> Result<Vec<Type>, TypeError> {
    let typing = Typing { module, op, name: op.name(), operands, declared };
    match op {
        Op::Constant(literal) => {
            typing.count(0)?;
            let ty = literal.ty();
            if ty.elements() != Some(literal.data.len()) {
                return typing.attribute(format!("{} values do not fill {ty}", literal.data.len()));
            }
            Ok(vec![ty])
        }
        Op::Weight(id) => {
            typing.count(0)?;
            match module.weights.get(id.index()) {
                Some(weight) => Ok(vec![weight.ty()]),
                None => typing.undeclared(format!("w{}", id.0)),
            }
        }
        Op::Iota(n) => {
            typing.count(0)?;
            if *n > i32::MAX as usize {
                return typing.attribute(format!("{n} does not fit i32"));
            }
            Ok(vec![Type::of(Elem::I32, &[*n])])
        }
        Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Convert(_) | Op::Bits => typing.elementwise(),
        Op::Broadcast { .. }
        | Op::Reshape
        | Op::Permute { .. }
        | Op::Slice { .. }
        | Op::Concat { .. }
        | Op::Gather { .. } => typing.shape(),
        Op::Reduce { .. }
        | Op::TopK { .. }
        | Op::TopMask { .. }
        | Op::MatMul { .. }
        | Op::Linear
        | Op::QuantizeInput { .. }
        | Op::LinearInt8 { .. } => typing.product(),
        Op::StateRead(_)
        | Op::StateWrite(_)
        | Op::Push { .. }
        | Op::Positions { .. }
        | Op::Recent { .. }
        | Op::Host(_)
        | Op::Check { .. }
        | Op::Probe { .. } => typing.state(),
        Op::If { .. } | Op::Repeat { .. } | Op::Experts { .. } | Op::Scan { .. } | Op::Fused { .. } => typing.control(),
    }
}

/// Number of blocks that an input of `n` numbers is quantised in.
pub fn quant_blocks(quant: InputQuant, n: usize) -> Option<usize> {
    match quant {
        InputQuant::None => None,
        InputQuant::Int8 { block: None, .. } => Some(1),
        InputQuant::Int8 { block: Some(0), .. } => None,
        InputQuant::Int8 { block: Some(b), .. } => Some(n.div_ceil(b)),
    }
}

/// Whether values of the element can be computed with (the others are only stored in weights).
pub fn is_arithmetic(elem: Elem) -> bool {
    !matches!(elem, Elem::F16 | Elem::Bf16 | Elem::Ternary | Elem::Sign)
}

/// The element that a stored one has once it is read.
pub fn decoded(elem: Elem) -> Elem {
    if is_arithmetic(elem) { elem } else { Elem::F32 }
}

impl Typing<'_> {
    fn count(&self, expected: usize) -> Result<(), TypeError> {
        if self.operands.len() == expected {
            return Ok(());
        }
        Err(TypeError::Count { op: self.name, expected: expected.to_string(), found: self.operands.len() })
    }

    fn at_least(&self, expected: usize) -> Result<(), TypeError> {
        if self.operands.len() >= expected {
            return Ok(());
        }
        Err(TypeError::Count { op: self.name, expected: format!("at least {expected}"), found: self.operands.len() })
    }

    fn operand<T>(&self, index: usize, expected: impl Into<String>) -> Result<T, TypeError> {
        Err(TypeError::Operand { op: self.name, index, found: self.operands[index].clone(), expected: expected.into() })
    }

    fn attribute<T>(&self, what: impl Into<String>) -> Result<T, TypeError> {
        Err(TypeError::Attribute { op: self.name, what: what.into() })
    }

    fn undeclared<T>(&self, what: impl Into<String>) -> Result<T, TypeError> {
        Err(TypeError::Undeclared { op: self.name, what: what.into() })
    }

    fn region<T>(&self, what: impl Into<String>) -> Result<T, TypeError> {
        Err(TypeError::Region { op: self.name, what: what.into() })
    }

    /// Operand `index` must have the type of operand 0.
    fn same_as_first(&self, index: usize) -> Result<(), TypeError> {
        if self.operands[index] == self.operands[0] {
            return Ok(());
        }
        self.operand(index, self.operands[0].to_string())
    }

    fn axis(&self, axis: usize, rank: usize) -> Result<(), TypeError> {
        if axis < rank {
            return Ok(());
        }
        self.attribute(format!("there is no axis {axis} among {rank}"))
    }

    /// The last axis of an operand.
    fn last(&self, index: usize) -> Result<Dim, TypeError> {
        match self.operands[index].shape.last() {
            Some(&dim) => Ok(dim),
            None => self.operand(index, "at least one axis"),
        }
    }
}
