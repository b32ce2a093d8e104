//! `a @ b` and linear layers: which contraction, and how mapped axes take part in it.

use super::Elaborator;
use super::build::union;
use super::value::{R, Reported, Tensor, Val, show_type};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::types::row_fits;
use crate::ir::{Dim, Elem, Encoding, Op, WeightId};

impl<'a> Elaborator<'a> {
    /// An operand of a product: weights keep their encoding.
    fn factor(&mut self, value: &Val<'a>, span: Span) -> R<Tensor> {
        match value {
            Val::Weight(id) => self.weight_value(*id, span),
            other => self.tensor_of(other, Some(Elem::F32), span),
        }
    }

    /// `a @ b`: the last axis of a with the first of b.
    pub(super) fn contract(&mut self, a: &Val<'a>, b: &Val<'a>, span: Span) -> R<Val<'a>> {
        let mut x = self.factor(a, span)?;
        let mut y = self.factor(b, span)?;
        let float = |t: &Tensor| !t.elem.is_integer() && t.elem != Elem::Bool;
        if !float(&x) || !float(&y) {
            let elem = if float(&x) { y.elem } else { x.elem };
            return self.wrong_element("@", elem, span);
        }
        let ranks = (x.shape.len(), y.shape.len());
        let fits = matches!(ranks, (1..=2, 1..=2)) && x.shape.last() == y.shape.first();
        if !fits {
            return self.fail_here(
                Diagnostic::error(
                    Code::ShapeMismatch,
                    "`@` contracts the last axis of the left side with the first of the right",
                )
                .at(span, format!("{} @ {}", show_type(x.elem, &x.shape), show_type(y.elem, &y.shape)))
                .note_if(self.other_entries(&x.shape, &y.shape)),
            );
        }
        let mut shape = x.shape[..ranks.0 - 1].to_vec();
        shape.extend(y.shape[1..].iter().copied());
        if x.leads == y.leads {
            return self.matmul(&x, &y, &shape, span).map(Val::tensor);
        }
        // One side is the same for all mapped indices: they are rows of one product.
        if y.leads.is_empty()
            && let Some(rows) = self.constant_axes(&x.leads)
        {
            let k = *x.shape.last().unwrap_or(&Dim::Const(1));
            let m = rows * x.shape[..ranks.0 - 1].first().map_or(1, |d| d.constant().unwrap_or(1));
            if x.shape[..ranks.0 - 1].iter().all(|d| d.constant().is_some()) {
                let value = self.local(&x);
                let flat = self.emit1(Op::Reshape, &[value], x.elem, &[], &[Dim::Const(m), k], span)?;
                let mut flat_shape = vec![Dim::Const(m)];
                flat_shape.extend(y.shape[1..].iter().copied());
                let product = self.matmul(&flat, &y, &flat_shape, span)?;
                let leads = x.leads.clone();
                return self.emit1(Op::Reshape, &[product.value], Elem::F32, &leads, &shape, span).map(Val::tensor);
            }
        }
        if x.leads.is_empty() && ranks == (2, 1) && matches!(a, Val::Weight(_)) && float_weight(&x) {
            let inputs = [self.local(&y), x.value];
            let leads = y.leads.clone();
            return self.emit1(Op::Linear, &inputs, Elem::F32, &leads, &shape, span).map(Val::tensor);
        }
        let leads = union([&x, &y].into_iter());
        for (side, value) in [(&mut x, a), (&mut y, b)] {
            if let Val::Weight(id) = value {
                *side = self.weight_tensor(*id, span)?;
            }
            let own = side.shape.clone();
            *side = self.expand(side, &leads, &own, span)?;
        }
        self.matmul(&x, &y, &shape, span).map(Val::tensor)
    }

    /// The product of the lengths of mapped axes, if all are constants.
    fn constant_axes(&self, leads: &[usize]) -> Option<usize> {
        self.full(leads, &[]).iter().try_fold(1usize, |n, d| n.checked_mul(d.constant()?))
    }

    /// Refuses products of rows that are too wide.
    fn row_fits(&mut self, encoding: &Encoding, columns: usize, span: Span) -> R<()> {
        match row_fits(encoding, columns) {
            Ok(()) => Ok(()),
            Err(what) => {
                self.fail_here(Diagnostic::error(Code::TooBig, "a product of rows that are too wide").at(span, what))
            }
        }
    }

    fn matmul(&mut self, x: &Tensor, y: &Tensor, shape: &[Dim], span: Span) -> R<Tensor> {
        if let Some(columns) = x.shape.last().and_then(|d| d.constant()) {
            self.row_fits(&Encoding::F32, columns, span)?;
        }
        let inputs = [self.local(x), self.local(y)];
        let batch = self.lead_axes(&x.leads);
        let leads = x.leads.clone();
        self.emit1(Op::MatMul { batch }, &inputs, Elem::F32, &leads, shape, span)
    }

    /// `w(x)`: a linear layer with the input quantisation of the weight's encoding.
    pub(super) fn linear(&mut self, id: WeightId, x: &Val<'a>, x_span: Span, span: Span) -> R<Val<'a>> {
        let decl = self.module.weight(id);
        let (shape, path) = (decl.shape.clone(), decl.path.clone());
        let [rows, columns] = shape[..] else {
            return self.fail_here(
                Diagnostic::error(
                    Code::ArgumentType,
                    format!("`{path}` has rank {}, a linear layer has rank 2", shape.len()),
                )
                .at(span, "called here"),
            );
        };
        let x = self.tensor_of(x, Some(Elem::F32), x_span)?;
        let Some((&last, rest)) = x.shape.split_last() else {
            return self.wrong_input(id, columns, &x, x_span);
        };
        if x.elem != Elem::F32 || last != Dim::Const(columns) {
            return self.wrong_input(id, columns, &x, x_span);
        }
        self.row_fits(&self.module.weight(id).encoding.clone(), columns, span)?;
        let mut out = rest.to_vec();
        out.push(Dim::Const(rows));
        let weight = self.weight_value(id, span)?;
        let inputs = [self.local(&x), weight.value];
        let leads = x.leads.clone();
        self.emit1(Op::Linear, &inputs, Elem::F32, &leads, &out, span).map(Val::tensor)
    }

    fn wrong_input<T>(&mut self, id: WeightId, columns: usize, x: &Tensor, span: Span) -> R<T> {
        let decl = self.module.weight(id);
        let (path, shape) = (decl.path.clone(), decl.shape.clone());
        let given = show_type(x.elem, &x.shape);
        let declared = self.weight_shapes[id.index()];
        self.fail_here(
            Diagnostic::error(Code::ArgumentType, format!("`{path}` takes f32[{columns}], it is given {given}"))
                .at(span, given)
                .and_at(declared, format!("[out, in] = {shape:?}")),
        )
        .map_err(|Reported| Reported)
    }
}

fn float_weight(tensor: &Tensor) -> bool {
    matches!(tensor.elem, Elem::F32 | Elem::F16 | Elem::Bf16)
}
