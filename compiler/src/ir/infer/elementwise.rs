//! Elementwise operations.

use super::{TypeError, Typing, is_arithmetic};
use crate::ir::op::{BinaryOp, CompareOp, Op, UnaryOp};
use crate::ir::types::{Dim, Elem, Type};

impl Typing<'_> {
    pub(super) fn elementwise(&self) -> Result<Vec<Type>, TypeError> {
        match self.op {
            Op::Unary(op) => {
                self.count(1)?;
                let x = self.operands[0];
                let fits = match op {
                    UnaryOp::Neg => x.elem == Elem::F32 || x.elem.is_integer(),
                    UnaryOp::Abs => matches!(x.elem, Elem::F32 | Elem::I32 | Elem::I8),
                    UnaryOp::Not => x.elem == Elem::Bool,
                    UnaryOp::Exp
                    | UnaryOp::Expm1
                    | UnaryOp::Ln
                    | UnaryOp::Log1p
                    | UnaryOp::Sqrt
                    | UnaryOp::Sin
                    | UnaryOp::Cos
                    | UnaryOp::Tanh
                    | UnaryOp::Sigmoid
                    | UnaryOp::Floor
                    | UnaryOp::Round => x.elem == Elem::F32,
                };
                if !fits {
                    return self.operand(0, "another element");
                }
                Ok(vec![x.clone()])
            }
            Op::Binary(op) => {
                self.count(2)?;
                self.same_as_first(1)?;
                let elem = self.operands[0].elem;
                let number = elem == Elem::F32 || elem.is_integer();
                let fits = match op {
                    BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Min | BinaryOp::Max => number,
                    BinaryOp::Div => elem == Elem::F32,
                    BinaryOp::FloorDiv | BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr => elem.is_integer(),
                    BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => elem == Elem::Bool || elem.is_integer(),
                };
                if !fits {
                    return self.operand(0, "another element");
                }
                Ok(vec![self.operands[0].clone()])
            }
            Op::Compare(op) => {
                self.count(2)?;
                self.same_as_first(1)?;
                let x = self.operands[0];
                let ordered = x.elem == Elem::F32 || x.elem.is_integer();
                let fits = match op {
                    CompareOp::Eq | CompareOp::Ne => ordered || x.elem == Elem::Bool,
                    CompareOp::Lt | CompareOp::Le | CompareOp::Gt | CompareOp::Ge => ordered,
                };
                if !fits {
                    return self.operand(0, "numbers");
                }
                Ok(vec![x.with_elem(Elem::Bool)])
            }
            Op::Select => {
                self.count(3)?;
                if !is_arithmetic(self.operands[1].elem) {
                    return self.operand(1, "another element");
                }
                if self.operands[2] != self.operands[1] {
                    return self.operand(2, self.operands[1].to_string());
                }
                let condition = self.operands[1].with_elem(Elem::Bool);
                if *self.operands[0] != condition {
                    return self.operand(0, condition.to_string());
                }
                Ok(vec![self.operands[1].clone()])
            }
            Op::Convert(elem) => {
                self.count(1)?;
                let x = self.operands[0];
                if !is_arithmetic(*elem) || *elem == Elem::Bool {
                    return self.attribute(format!("nothing is converted to {}", elem.name()));
                }
                if !is_arithmetic(x.elem) && *elem != Elem::F32 {
                    return self.attribute(format!("{} is read as f32 only", x.elem.name()));
                }
                Ok(vec![x.with_elem(*elem)])
            }
            Op::Bits => {
                self.count(1)?;
                let x = self.operands[0];
                match (x.elem, x.shape.last()) {
                    (Elem::U64, Some(Dim::Const(n))) if n.checked_mul(64).is_some() => {
                        let mut shape = x.shape.clone();
                        shape.pop();
                        shape.push(Dim::Const(n * 64));
                        Ok(vec![Type::new(Elem::Bool, shape)])
                    }
                    _ => self.operand(0, "u64[.., n]"),
                }
            }
            _ => unreachable!("not an elementwise operation"),
        }
    }
}
