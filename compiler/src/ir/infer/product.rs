//! Reductions, orderings and products.

use super::{TypeError, Typing, decoded, quant_blocks};
use crate::ir::op::{Op, ReduceOp};
use crate::ir::types::{Dim, Elem, InputQuant, Type};

impl Typing<'_> {
    pub(super) fn product(&self) -> Result<Vec<Type>, TypeError> {
        match self.op {
            Op::Reduce { op, axis } => self.reduce(*op, *axis),
            Op::TopK { k } => {
                let leading = self.ordered(*k)?;
                let mut shape = leading;
                shape.push(Dim::Const(*k));
                Ok(vec![Type::new(Elem::F32, shape.clone()), Type::new(Elem::I32, shape)])
            }
            Op::TopMask { k } => {
                self.ordered(*k)?;
                Ok(vec![self.operands[0].with_elem(Elem::Bool)])
            }
            Op::MatMul { batch } => self.matmul(*batch),
            Op::Linear => {
                self.at_least(2)?;
                if self.operands[0].elem != Elem::F32 {
                    return self.operand(0, "f32[.., k]");
                }
                self.linear(1)
            }
            Op::QuantizeInput { quant } => {
                self.count(1)?;
                let x = self.operands[0];
                match (x.elem, self.last(0)?) {
                    (Elem::F32, Dim::Const(n)) => Ok(vec![x.with_elem(Elem::I8), self.maxima(*quant, x, n)?]),
                    _ => self.operand(0, "f32[.., n]"),
                }
            }
            Op::LinearInt8 { quant } => {
                self.at_least(3)?;
                let q = self.operands[0];
                let (Elem::I8, Dim::Const(k)) = (q.elem, self.last(0)?) else {
                    return self.operand(0, "i8[.., k]");
                };
                let maxima = self.maxima(*quant, q, k)?;
                if *self.operands[1] != maxima {
                    return self.operand(1, maxima.to_string());
                }
                for (i, w) in self.operands.iter().enumerate().skip(2) {
                    if !matches!(w.elem, Elem::Ternary | Elem::Sign) {
                        return self.operand(i, "a ternary or sign weight");
                    }
                }
                self.linear(2)
            }
            _ => unreachable!("not a product"),
        }
    }

    fn reduce(&self, op: ReduceOp, axis: usize) -> Result<Vec<Type>, TypeError> {
        self.count(1)?;
        let x = self.operands[0];
        self.axis(axis, x.rank())?;
        if x.shape[axis] == Dim::Time {
            return self.attribute("steps are not reduced");
        }
        let number = x.elem == Elem::F32 || x.elem.is_integer();
        let elem = match op {
            ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min if number => x.elem,
            ReduceOp::ArgMax if number => Elem::I32,
            ReduceOp::Any if x.elem == Elem::Bool => Elem::Bool,
            ReduceOp::Count if x.elem == Elem::Bool => Elem::I32,
            _ => return self.operand(0, "another element"),
        };
        let mut shape = x.shape.clone();
        shape.remove(axis);
        Ok(vec![Type::new(elem, shape)])
    }

    /// Checks the operand of an ordering and gives its leading axes.
    fn ordered(&self, k: usize) -> Result<Vec<Dim>, TypeError> {
        self.count(1)?;
        let x = self.operands[0];
        if x.elem != Elem::F32 || self.last(0)? == Dim::Time {
            return self.operand(0, "f32[.., n]");
        }
        if k == 0 {
            return self.attribute("k must be at least 1");
        }
        Ok(x.shape[..x.rank() - 1].to_vec())
    }

    fn matmul(&self, batch: usize) -> Result<Vec<Type>, TypeError> {
        self.count(2)?;
        let (a, b) = (self.operands[0], self.operands[1]);
        for (i, ty) in [a, b].into_iter().enumerate() {
            if decoded(ty.elem) != Elem::F32 {
                return self.operand(i, "f32 or a weight");
            }
            let own = ty.rank().wrapping_sub(batch);
            if !(1..=2).contains(&own) {
                return self.operand(i, format!("{batch} shared axes and one or two more"));
            }
        }
        if a.shape[..batch] != b.shape[..batch] {
            return self.operand(1, format!("the first {batch} axes of {a}"));
        }
        let (rows, columns) = (&a.shape[batch..], &b.shape[batch..]);
        if rows[rows.len() - 1] != columns[0] || columns[0] == Dim::Time {
            return self.operand(1, format!("an axis of {} to contract", rows[rows.len() - 1]));
        }
        let mut shape = a.shape[..a.rank() - 1].to_vec();
        shape.extend_from_slice(&columns[1..]);
        Ok(vec![Type::new(Elem::F32, shape)])
    }

    fn maxima(&self, quant: InputQuant, x: &Type, n: usize) -> Result<Type, TypeError> {
        let Some(blocks) = quant_blocks(quant, n) else {
            return self.attribute("this is no quantisation to int8");
        };
        let mut shape = x.shape.clone();
        shape.pop();
        shape.push(Dim::Const(blocks));
        Ok(Type::new(Elem::F32, shape))
    }

    /// One result per weight, from operand `first` on.
    fn linear(&self, first: usize) -> Result<Vec<Type>, TypeError> {
        let x = self.operands[0];
        let k = self.last(0)?;
        let mut results = Vec::with_capacity(self.operands.len() - first);
        for (i, w) in self.operands.iter().enumerate().skip(first) {
            match w.shape[..] {
                [Dim::Const(m), n] if n == k && decoded(w.elem) == Elem::F32 => {
                    let mut shape = x.shape.clone();
                    shape.pop();
                    shape.push(Dim::Const(m));
                    results.push(Type::new(Elem::F32, shape));
                }
                _ => return self.operand(i, format!("a weight [m, {k}]")),
            }
        }
        Ok(results)
    }
}
