//! Operators: static arithmetic if both sides are static, else nodes over operands brought to one
//! element, one set of mapped axes and one shape.

use super::Elaborator;
use super::build::{common_elem, union};
use super::statics;
use super::value::{R, Reported, Tensor, Val, show_type};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::{BinaryOp as Op2, CompareOp, Dim, Elem, Op, UnaryOp as Op1};
use crate::lang::ast::{BinaryOp, Expr, UnaryOp};

impl<'a> Elaborator<'a> {
    pub(super) fn unary(&mut self, op: UnaryOp, value: &Val<'a>, span: Span) -> R<Val<'a>> {
        match (op, value) {
            (UnaryOp::Not, Val::Bool(b)) => return Ok(Val::Bool(!b)),
            (UnaryOp::Negate, Val::Int(_) | Val::Float(_)) => {
                return match statics::negate(value) {
                    Ok(value) => Ok(value),
                    Err(problem) => self.problem(problem, span),
                };
            }
            _ => {}
        }
        let tensor = self.tensor_of(value, None, span)?;
        let fits = match op {
            UnaryOp::Not => tensor.elem == Elem::Bool,
            UnaryOp::Negate => matches!(tensor.elem, Elem::F32 | Elem::I32 | Elem::I8 | Elem::U64),
        };
        if !fits {
            return self.wrong_element(op.symbol(), tensor.elem, span);
        }
        let op = match op {
            UnaryOp::Not => Op1::Not,
            UnaryOp::Negate => Op1::Neg,
        };
        self.map_unary(op, &tensor, span).map(Val::tensor)
    }

    /// An elementwise operation of one operand.
    pub(super) fn map_unary(&mut self, op: Op1, tensor: &Tensor, span: Span) -> R<Tensor> {
        let value = self.local(tensor);
        let (leads, shape) = (tensor.leads.clone(), tensor.shape.clone());
        self.emit1(Op::Unary(op), &[value], tensor.elem, &leads, &shape, span)
    }

    /// An operator that does not take this element.
    pub(super) fn wrong_element<T>(&mut self, what: &str, elem: Elem, span: Span) -> R<T> {
        self.fail_here(
            Diagnostic::error(Code::ElementType, format!("`{what}` does not take {}", elem.name()))
                .at(span, elem.name())
                .help("conversions are written: `f32(x)`, `i32(x)`, ..."),
        )
    }

    pub(super) fn binary(
        &mut self,
        op: BinaryOp,
        left: &'a Expr,
        right: &'a Expr,
        span: Span,
        hint: Option<Elem>,
    ) -> R<Val<'a>> {
        let compares = matches!(op.level(), 4);
        let inner = if compares { None } else { hint };
        let a = match self.eval(left, inner) {
            Ok(a) => a,
            Err(Reported) => {
                // The right side's own mistakes are worth knowing too.
                if !matches!(op, BinaryOp::And | BinaryOp::Or) {
                    let _ = self.eval(right, inner);
                }
                return Err(Reported);
            }
        };
        if let Val::Bool(b) = a
            && (op == BinaryOp::And && !b || op == BinaryOp::Or && b)
        {
            return Ok(Val::Bool(b));
        }
        let guards = match op {
            BinaryOp::And => self.guards_of(left, true),
            BinaryOp::Or => self.guards_of(left, false),
            _ => Vec::new(),
        };
        // What may be absent is read where its guard holds, and reported at the name, not at the whole operation.
        let b = self.guarded(guards, |this| match this.eval(right, super::build::known_elem(&a).or(inner))? {
            value @ Val::Optional(_) => this.tensor_of(&value, None, right.span).map(Val::tensor),
            value => Ok(value),
        })?;
        if let Val::Optional(_) = a {
            self.tensor_of(&a, None, left.span)?;
        }
        // What is compared need not be what is asked for.
        self.combine(op, &a, &b, span, inner)
    }

    pub(super) fn combine(
        &mut self,
        op: BinaryOp,
        a: &Val<'a>,
        b: &Val<'a>,
        span: Span,
        hint: Option<Elem>,
    ) -> R<Val<'a>> {
        use BinaryOp as B;
        if matches!(op, B::And | B::Or) {
            match (a, b) {
                // The left side did not decide.
                (Val::Bool(_), other) if matches!(other, Val::Bool(_)) || !other.is_static() => {
                    return Ok(other.clone());
                }
                (other, Val::Bool(b)) if !other.is_static() => {
                    return Ok(if *b == (op == B::And) { other.clone() } else { Val::Bool(*b) });
                }
                _ => {}
            }
        }
        let lists = matches!(a, Val::List(_)) || matches!(b, Val::List(_));
        self.count_size(a, false, span)?;
        self.count_size(b, false, span)?;
        let both_static = a.is_static() && b.is_static();
        if both_static && (!lists || matches!(op, B::Equal | B::NotEqual | B::In)) {
            return match statics::binary(op, a, b) {
                Ok(value) => Ok(value),
                Err(problem) => self.problem(problem, span),
            };
        }
        if op == B::Contract {
            return self.contract(a, b, span);
        }
        if op == B::Power {
            return self.power(a, b, span, hint);
        }
        if op == B::In {
            let what = format!("`{}` works on static values only", op.symbol());
            return self.fail(Diagnostic::error(Code::NotStatic, what).at(span, "varies per step"));
        }
        // The quotient of integer literals is a float, as it is of static integers.
        let hint = hint.or_else(|| (op == B::Divide).then_some(Elem::F32));
        let (x, y) = self.elementwise(op.symbol(), a, b, span, hint)?;
        let (leads, shape, elem) = (x.leads.clone(), x.shape.clone(), x.elem);
        let inputs = [x.value, y.value];
        let compare = match op {
            B::Less => Some(CompareOp::Lt),
            B::LessEqual => Some(CompareOp::Le),
            B::Greater => Some(CompareOp::Gt),
            B::GreaterEqual => Some(CompareOp::Ge),
            B::Equal => Some(CompareOp::Eq),
            B::NotEqual => Some(CompareOp::Ne),
            _ => None,
        };
        if let Some(compare) = compare {
            if elem == Elem::Bool && !matches!(compare, CompareOp::Eq | CompareOp::Ne) {
                return self.wrong_element(op.symbol(), elem, span);
            }
            let op = Op::Compare(compare);
            let out = self.emit1(op, &inputs, Elem::Bool, &leads, &shape, span)?;
            return Ok(Val::tensor(out));
        }
        let (op2, fits) = match op {
            B::Add => (Op2::Add, elem != Elem::Bool),
            B::Subtract => (Op2::Sub, elem != Elem::Bool),
            B::Multiply => (Op2::Mul, elem != Elem::Bool),
            B::Divide => (Op2::Div, elem == Elem::F32),
            B::FloorDivide => (Op2::FloorDiv, elem.is_integer()),
            B::Remainder => (Op2::Rem, elem.is_integer()),
            B::ShiftLeft => (Op2::Shl, elem.is_integer()),
            B::ShiftRight => (Op2::Shr, elem.is_integer()),
            B::Xor => (Op2::Xor, elem != Elem::F32),
            B::And => (Op2::And, elem == Elem::Bool),
            B::Or => (Op2::Or, elem == Elem::Bool),
            _ => return Err(Reported),
        };
        if !fits {
            return self.wrong_element(op.symbol(), elem, span);
        }
        self.emit1(Op::Binary(op2), &inputs, elem, &leads, &shape, span).map(Val::tensor)
    }

    /// Two operands brought to one element, one set of mapped axes and one shape, or an error:
    /// operators do not broadcast anything but scalars.
    pub(super) fn elementwise(
        &mut self,
        what: &str,
        a: &Val<'a>,
        b: &Val<'a>,
        span: Span,
        hint: Option<Elem>,
    ) -> R<(Tensor, Tensor)> {
        let elem = common_elem([a, b], hint);
        let x = self.tensor_of(a, elem, span)?;
        let y = self.tensor_of(b, elem, span)?;
        if x.elem != y.elem {
            return self.fail_here(
                Diagnostic::error(Code::ElementType, format!("`{what}` needs equal elements on both sides"))
                    .at(span, format!("{} {what} {}", show_type(x.elem, &x.shape), show_type(y.elem, &y.shape)))
                    .help("conversions are written: `f32(x)`, `i32(x)`, ..."),
            );
        }
        let shape = self.common_shape(what, &x, &y, span)?;
        let leads = union([&x, &y].into_iter());
        let x = self.expand(&x, &leads, &shape, span)?;
        let y = self.expand(&y, &leads, &shape, span)?;
        Ok((x, y))
    }

    pub(super) fn common_shape(&mut self, what: &str, x: &Tensor, y: &Tensor, span: Span) -> R<Vec<Dim>> {
        if x.shape == y.shape || y.shape.is_empty() {
            return Ok(x.shape.clone());
        }
        if x.shape.is_empty() {
            return Ok(y.shape.clone());
        }
        let mut error =
            Diagnostic::error(Code::ShapeMismatch, format!("`{what}` needs equal shapes, or a scalar on one side"))
                .at(span, format!("{} {what} {}", show_type(x.elem, &x.shape), show_type(y.elem, &y.shape)))
                .note("operators do not broadcast")
                .note_if(self.other_entries(&x.shape, &y.shape));
        // The commonest cause is a formula per head written outside the block that is per head.
        let (small, large) = if x.shape.len() < y.shape.len() { (x, y) } else { (y, x) };
        if large.shape.ends_with(&small.shape) {
            let rest = &large.shape[..large.shape.len() - small.shape.len()];
            error = error.help(format!(
                "a block maps over leading axes: `block per_row[n](a, b: f32[n]) -> f32[n] {{ return a {what} b }}` \
                 runs for each of the {} when one of its arguments has them",
                rest.iter().map(super::value::show_dim).collect::<Vec<_>>().join(" x ")
            ));
        } else if large.shape.starts_with(&small.shape) {
            error = error.help(format!(
                "put the formula for one of them into a block: the call maps it over the {}",
                small.shape.iter().map(super::value::show_dim).collect::<Vec<_>>().join(" x ")
            ));
        }
        self.fail_here(error)
    }
}
