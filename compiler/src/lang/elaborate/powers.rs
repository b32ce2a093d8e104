//! Elementwise functions that are made of others: integer powers and running sums. What stands here is their
//! definition, roundings included (spec/numerics.md); the IR does not know them.

use super::Elaborator;
use super::functions::Given;
use super::value::{R, Tensor, Val, show_type};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::{BinaryOp as Op2, Dim, Elem};

/// The largest exponent of `x ** n`.
const LARGEST_EXPONENT: u128 = 1 << 20;

impl<'a> Elaborator<'a> {
    /// `x ** n` for a tensor and a static integer, by squaring from the highest bit of n.
    pub(super) fn power(&mut self, base: &Val<'a>, exponent: &Val<'a>, span: Span, hint: Option<Elem>) -> R<Val<'a>> {
        let n = match exponent {
            Val::Int(n) => *n,
            other => {
                let what = "`**` takes a static integer as exponent where its base varies";
                let help = match other.as_f64() {
                    Some(0.5) => "write `sqrt(x)`",
                    Some(-0.5) => "write `rsqrt(x)`, which `std` has",
                    _ => "for x > 0, `exp(y * ln(x))` is x to the power of y",
                };
                return self.fail(Diagnostic::error(Code::NotStatic, what).at(span, other.kind()).help(help));
            }
        };
        let x = self.tensor_of(base, hint, span)?;
        if x.elem == Elem::Bool {
            return self.wrong_element("**", x.elem, span);
        }
        if n < 0 && x.elem != Elem::F32 || n.unsigned_abs() > LARGEST_EXPONENT {
            let text = format!("{n} of {}", show_type(x.elem, &x.shape));
            return self.fail_here(
                Diagnostic::error(Code::StaticValue, "an exponent outside its range")
                    .at(span, text)
                    .note(format!("-{LARGEST_EXPONENT} to {LARGEST_EXPONENT} for f32, from 0 for integers")),
            );
        }
        let one = |this: &mut Self| this.tensor_of(&Val::Int(1), Some(x.elem), span);
        let bits = n.unsigned_abs();
        if bits == 0 {
            let one = one(self)?;
            let (leads, shape) = (x.leads.clone(), x.shape.clone());
            return self.expand(&one, &leads, &shape, span).map(Val::tensor);
        }
        let mut result = x.clone();
        for bit in (0..bits.ilog2()).rev() {
            result = self.binary_node(Op2::Mul, &result, &result, span)?;
            if bits >> bit & 1 == 1 {
                result = self.binary_node(Op2::Mul, &result, &x, span)?;
            }
        }
        if n < 0 {
            let one = one(self)?;
            let (one, below) = self.elementwise("/", &Val::tensor(one), &Val::tensor(result), span, None)?;
            result = self.binary_node(Op2::Div, &one, &below, span)?;
        }
        Ok(Val::tensor(result))
    }

    /// `cumsum(x, axis: -1)`: place i is the sum of places 0 to i. In each round places get what stands s places before
    /// them, s = 1, 2, 4, ...
    pub(super) fn running_sum(&mut self, x: &Given<'a>, axis: Option<i128>, span: Span) -> R<Val<'a>> {
        let mut sum = self.tensor_of(&x.value, Some(Elem::F32), x.span)?;
        let axis = self.axis_of("cumsum", &sum, axis, span)?;
        if sum.elem == Elem::Bool {
            return self.wrong_element("cumsum", sum.elem, span);
        }
        let Dim::Const(length) = sum.shape[axis] else {
            return self.fail_here(
                Diagnostic::error(Code::GrowingState, "`cumsum` works along an axis of known length")
                    .at(span, show_type(sum.elem, &sum.shape))
                    .help("keep the sum in a state: `total = total + x`"),
            );
        };
        let mut step = 1;
        while step < length {
            let mut shape = sum.shape.clone();
            shape[axis] = Dim::Const(step);
            let zero = self.tensor_of(&Val::Int(0), Some(sum.elem), span)?;
            let zeros = self.expand(&zero, &[], &shape, span)?;
            let before = self.slice(&sum, axis, 0, length - step, span)?;
            let shifted = self.concat(&[zeros, before], axis, span)?;
            sum = self.binary_node(Op2::Add, &sum, &shifted, span)?;
            step *= 2;
        }
        Ok(Val::tensor(sum))
    }

    /// The axis that a function works along: by default the last, negative ones count from the end.
    pub(super) fn axis_of(&mut self, name: &str, x: &Tensor, axis: Option<i128>, span: Span) -> R<usize> {
        let rank = x.shape.len() as i128;
        let wanted = axis.unwrap_or(-1);
        let at = if wanted < 0 { wanted.saturating_add(rank) } else { wanted };
        if at < 0 || at >= rank {
            return self.fail_here(
                Diagnostic::error(Code::ShapeMismatch, format!("`{name}` works along an axis that is not there"))
                    .at(span, format!("axis {wanted} of {}", show_type(x.elem, &x.shape))),
            );
        }
        Ok(at as usize)
    }
}
