//! Operations that move elements without computing.

use super::{TypeError, Typing, decoded, is_arithmetic};
use crate::ir::op::Op;
use crate::ir::types::{Dim, Elem, Type};

impl Typing<'_> {
    pub(super) fn shape(&self) -> Result<Vec<Type>, TypeError> {
        let table = matches!(self.op, Op::Gather { .. });
        for (i, ty) in self.operands.iter().enumerate() {
            let stored_table = table && i == 0;
            if !(is_arithmetic(ty.elem) || stored_table) {
                return self.operand(i, "a value, converted from how it is stored");
            }
        }
        match self.op {
            Op::Broadcast { axes } => self.broadcast(axes),
            Op::Reshape => self.reshape(),
            Op::Permute { axes } => {
                self.count(1)?;
                let x = self.operands[0];
                let mut sorted = axes.clone();
                sorted.sort_unstable();
                if sorted.len() != x.rank() || sorted.iter().enumerate().any(|(i, &a)| i != a) {
                    return self.attribute(format!("{axes:?} is no order of {} axes", x.rank()));
                }
                let shape: Vec<Dim> = axes.iter().map(|&a| x.shape[a]).collect();
                Ok(vec![Type::new(x.elem, shape)])
            }
            Op::Slice { axis, start, len } => {
                self.count(1)?;
                let x = self.operands[0];
                self.axis(*axis, x.rank())?;
                match (x.shape[*axis], start.checked_add(*len)) {
                    (Dim::Const(n), Some(end)) if end <= n && *len > 0 => {
                        let mut shape = x.shape.clone();
                        shape[*axis] = Dim::Const(*len);
                        Ok(vec![Type::new(x.elem, shape)])
                    }
                    (dim, _) => self.attribute(format!("{len} places from {start} do not lie in an axis of {dim}")),
                }
            }
            Op::Concat { axis } => self.concat(*axis),
            Op::Gather { batch } => self.gather(*batch),
            _ => unreachable!("not a shape operation"),
        }
    }

    fn declared_result(&self) -> Result<&Type, TypeError> {
        match self.declared {
            Some([ty]) => Ok(ty),
            _ => Err(TypeError::NeedsResult { op: self.name }),
        }
    }

    fn broadcast(&self, axes: &[usize]) -> Result<Vec<Type>, TypeError> {
        self.count(1)?;
        let (x, result) = (self.operands[0], self.declared_result()?);
        if x.elem != result.elem {
            return self.operand(0, result.elem.name());
        }
        if axes.len() != x.rank() || axes.windows(2).any(|w| w[0] >= w[1]) {
            return self.attribute(format!("{axes:?} does not place {} axes", x.rank()));
        }
        for (i, &to) in axes.iter().enumerate() {
            self.axis(to, result.rank())?;
            if x.shape[i] != result.shape[to] && x.shape[i] != Dim::Const(1) {
                return self.attribute(format!("axis of {} cannot fill one of {}", x.shape[i], result.shape[to]));
            }
        }
        Ok(vec![result.clone()])
    }

    fn reshape(&self) -> Result<Vec<Type>, TypeError> {
        self.count(1)?;
        let (x, result) = (self.operands[0], self.declared_result()?);
        // Between two axes of unknown length the known ones must hold equally many places.
        let runs = |ty: &Type| {
            let mut runs: Vec<(Option<usize>, Option<Dim>)> = Vec::new();
            let mut places = Some(1usize);
            for &dim in &ty.shape {
                match dim {
                    Dim::Const(n) => places = places.and_then(|p| p.checked_mul(n)),
                    dim => {
                        runs.push((places, Some(dim)));
                        places = Some(1);
                    }
                }
            }
            runs.push((places, None));
            runs
        };
        if x.elem != result.elem || runs(x) != runs(result) {
            return self.operand(0, format!("as many elements as {result}"));
        }
        Ok(vec![result.clone()])
    }

    fn concat(&self, axis: usize) -> Result<Vec<Type>, TypeError> {
        self.at_least(1)?;
        let first = self.operands[0];
        self.axis(axis, first.rank())?;
        let mut total = Some(0usize);
        let mut last = None;
        for (i, ty) in self.operands.iter().enumerate() {
            let fits = ty.elem == first.elem
                && ty.rank() == first.rank()
                && (0..ty.rank()).all(|a| a == axis || ty.shape[a] == first.shape[a]);
            if !fits {
                return self.operand(i, format!("{first} but for axis {axis}"));
            }
            match ty.shape[axis] {
                Dim::Const(n) => total = total.and_then(|t| t.checked_add(n)),
                dim @ Dim::Grow { .. } if i + 1 == self.operands.len() => last = Some(dim),
                _ => return self.operand(i, "a known length; only the last may grow"),
            }
        }
        let Some(total) = total else {
            return self.attribute("too long");
        };
        let mut shape = first.shape.clone();
        shape[axis] = match last {
            Some(Dim::Grow { axis, plus }) => match plus.checked_add(total) {
                Some(plus) => Dim::Grow { axis, plus },
                None => return self.attribute("too long"),
            },
            _ => Dim::Const(total),
        };
        Ok(vec![Type::new(first.elem, shape)])
    }

    fn gather(&self, batch: usize) -> Result<Vec<Type>, TypeError> {
        self.count(2)?;
        let (table, index) = (self.operands[0], self.operands[1]);
        if !matches!(index.elem, Elem::I32 | Elem::U32 | Elem::U8) {
            return self.operand(1, "i32, u32 or u8");
        }
        if table.rank() <= batch || index.rank() < batch {
            return self.attribute(format!("operands do not have {batch} shared axes"));
        }
        if table.shape[..batch] != index.shape[..batch] {
            return self.operand(1, format!("the first {batch} axes of {table}"));
        }
        if table.shape[batch] == Dim::Time {
            return self.operand(0, "a table without time, or time among the shared axes");
        }
        let mut shape = index.shape.clone();
        shape.extend_from_slice(&table.shape[batch + 1..]);
        Ok(vec![Type::new(decoded(table.elem), shape)])
    }
}
