//! The operations of the language on tensors: elementwise functions, reductions, shapes, constants
//! and growing states. Each case is one row of the table in the specification.

use super::Elaborator;
use super::build::{common_elem, union};
use super::functions::Given;
use super::value::{R, Tensor, Val, show_type};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::{BinaryOp as Op2, Dim, Elem, Op, ReduceOp, Type, UnaryOp as Op1};

impl<'a> Elaborator<'a> {
    /// An operation with at least one tensor among its arguments, or none with a static form.
    pub(super) fn tensor_function(
        &mut self,
        name: &'static str,
        args: &[Given<'a>],
        span: Span,
        hint: Option<Elem>,
    ) -> R<Val<'a>> {
        let (named, plain): (Vec<&Given<'a>>, Vec<&Given<'a>>) = args.iter().partition(|a| a.name.is_some());
        let takes_axis = matches!(name, "sum" | "max" | "min" | "any" | "argmax" | "concat" | "cumsum");
        if let Some(other) = named.iter().find(|a| !takes_axis || a.name != Some("axis")) {
            let what = other.name.unwrap_or_default();
            return self.fail(
                Diagnostic::error(Code::UnknownArgument, format!("`{name}` has no argument `{what}`"))
                    .at(other.span, ""),
            );
        }
        let axis = match named.first() {
            Some(arg) => Some(self.as_int(&arg.value, arg.span)?),
            None => None,
        };
        match (name, plain.as_slice()) {
            (
                "exp" | "expm1" | "ln" | "log1p" | "sqrt" | "sin" | "cos" | "tanh" | "sigmoid" | "abs" | "floor"
                | "round",
                [x],
            ) => self.function(name, x, span),
            ("min" | "max", [a, b]) => {
                let (x, y) = self.elementwise(name, &a.value, &b.value, span, hint)?;
                let op = if name == "min" { Op2::Min } else { Op2::Max };
                if x.elem == Elem::Bool {
                    return self.wrong_element(name, x.elem, span);
                }
                self.binary_node(op, &x, &y, span).map(Val::tensor)
            }
            ("clamp", [x, low, high]) => {
                let hint = common_elem([&x.value, &low.value, &high.value], hint);
                let (x, low) = self.elementwise(name, &x.value, &low.value, span, hint)?;
                let x = self.binary_node(Op2::Max, &x, &low, span)?;
                let (x, high) = self.elementwise(name, &Val::tensor(x), &high.value, span, hint)?;
                self.binary_node(Op2::Min, &x, &high, span).map(Val::tensor)
            }
            ("select", [c, a, b]) => self.select(c, a, b, span, hint),
            ("sum" | "max" | "min" | "any" | "argmax" | "count", [x]) => self.reduction(name, x, axis, span),
            ("cumsum", [x]) => self.running_sum(x, axis, span),
            ("top_k" | "top_mask", [x, k]) => self.top(name, x, k, span),
            ("outer", [a, b]) => self.outer(a, b, span),
            ("transpose", [x]) => {
                let x = self.tensor_of(&x.value, None, x.span)?;
                if x.shape.len() != 2 {
                    return self.rank(name, 2, &x, span);
                }
                self.permuted(&x, &[1, 0], span).map(Val::tensor)
            }
            ("permute", [x, axes @ ..]) => {
                let tensor = self.tensor_of(&x.value, None, x.span)?;
                let mut order = Vec::new();
                for axis in axes {
                    order.push(self.as_size(&axis.value, axis.span)?);
                }
                let mut sorted = order.clone();
                sorted.sort_unstable();
                if !sorted.iter().copied().eq(0..tensor.shape.len()) {
                    return self.fail_here(
                        Diagnostic::error(Code::ShapeMismatch, "`permute` names each axis once")
                            .at(span, show_type(tensor.elem, &tensor.shape)),
                    );
                }
                self.permuted(&tensor, &order, span).map(Val::tensor)
            }
            ("reshape", [x, ..]) => {
                let shape = self.sizes(&args[1..])?;
                let tensor = self.tensor_of(&x.value, None, x.span)?;
                self.reshaped(&tensor, &shape, span)
            }
            ("flatten", [x]) => {
                let tensor = self.tensor_of(&x.value, None, x.span)?;
                let n = tensor.shape.iter().try_fold(1usize, |n, d| n.checked_mul(d.constant()?));
                match n {
                    Some(n) => self.reshape(&tensor, &[Dim::Const(n)], span).map(Val::tensor),
                    None => self.reshaped(&tensor, &[], span),
                }
            }
            ("split", [x, n]) => self.split(x, n, span),
            ("concat", [_, ..]) => self.concatenation(&plain, axis, span, hint),
            ("zeros", _) => {
                let shape = self.sizes(args)?;
                let elem = hint.unwrap_or(Elem::F32);
                let zero = match elem {
                    Elem::Bool => Val::Bool(false),
                    _ => Val::Int(0),
                };
                let zero = self.tensor_of(&zero, Some(elem), span)?;
                self.expand(&zero, &[], &shape, span).map(Val::tensor)
            }
            ("iota", [n]) => {
                let n = self.as_size(&n.value, n.span)?;
                self.emit1(Op::Iota(n), &[], Elem::I32, &[], &[Dim::Const(n)], span).map(Val::tensor)
            }
            ("bits", [x]) => {
                let tensor = self.tensor_of(&x.value, Some(Elem::U64), x.span)?;
                if tensor.elem != Elem::U64 {
                    return self.wrong_element(name, tensor.elem, x.span);
                }
                let Some(n) = tensor.shape.last().and_then(|d| d.constant()) else {
                    return self.rank(name, 1, &tensor, span);
                };
                let mut shape = tensor.shape.clone();
                let last = shape.len() - 1;
                shape[last] = Dim::Const(n.saturating_mul(64));
                let value = self.local(&tensor);
                let leads = tensor.leads.clone();
                self.emit1(Op::Bits, &[value], Elem::Bool, &leads, &shape, span).map(Val::tensor)
            }
            ("push", [s, x]) => self.push(s, x, span),
            ("positions", [s]) => self.positions(s, span),
            _ => {
                let static_only =
                    ["len", "keys", "words", "distinct", "all", "join", "starts_with", "log2", "fnv1a64", "about"];
                if static_only.contains(&name) {
                    return self.fail(
                        Diagnostic::error(Code::StaticValue, format!("`{name}` does not take these values"))
                            .at(span, args.iter().map(|a| a.value.kind()).collect::<Vec<_>>().join(", ")),
                    );
                }
                self.fail(
                    Diagnostic::error(
                        Code::ArgumentCount,
                        format!("`{name}` does not take {} argument(s)", args.len()),
                    )
                    .at(span, ""),
                )
            }
        }
    }

    fn function(&mut self, name: &str, x: &Given<'a>, span: Span) -> R<Val<'a>> {
        let op = match name {
            "exp" => Op1::Exp,
            "expm1" => Op1::Expm1,
            "ln" => Op1::Ln,
            "log1p" => Op1::Log1p,
            "sqrt" => Op1::Sqrt,
            "sin" => Op1::Sin,
            "cos" => Op1::Cos,
            "tanh" => Op1::Tanh,
            "sigmoid" => Op1::Sigmoid,
            "abs" => Op1::Abs,
            "floor" => Op1::Floor,
            _ => Op1::Round,
        };
        let tensor = self.tensor_of(&x.value, Some(Elem::F32), x.span)?;
        let fits = tensor.elem == Elem::F32 || op == Op1::Abs && matches!(tensor.elem, Elem::I32 | Elem::I8);
        if !fits {
            return self.wrong_element(name, tensor.elem, span);
        }
        self.map_unary(op, &tensor, span).map(Val::tensor)
    }

    /// An elementwise operation of operands already brought together.
    pub(super) fn binary_node(&mut self, op: Op2, x: &Tensor, y: &Tensor, span: Span) -> R<Tensor> {
        let inputs = [self.local(x), self.local(y)];
        let (leads, shape) = (x.leads.clone(), x.shape.clone());
        self.emit1(Op::Binary(op), &inputs, x.elem, &leads, &shape, span)
    }

    fn select(&mut self, c: &Given<'a>, a: &Given<'a>, b: &Given<'a>, span: Span, hint: Option<Elem>) -> R<Val<'a>> {
        let test = self.tensor_of(&c.value, Some(Elem::Bool), c.span)?;
        if test.elem != Elem::Bool {
            return self.wrong_element("select", test.elem, c.span);
        }
        let (x, y) = self.elementwise("select", &a.value, &b.value, span, hint)?;
        self.select_tensor(&test, &x, &y, span).map(Val::tensor)
    }

    /// `select` of tensors of one element.
    pub(super) fn select_tensor(&mut self, test: &Tensor, x: &Tensor, y: &Tensor, span: Span) -> R<Tensor> {
        let shape = self.common_shape("select", test, x, span)?;
        let leads = union([test, x, y].into_iter());
        let test = self.expand(test, &leads, &shape, span)?;
        let x = self.expand(x, &leads, &shape, span)?;
        let y = self.expand(y, &leads, &shape, span)?;
        let inputs = [test.value, x.value, y.value];
        let mut chosen = self.emit1(Op::Select, &inputs, x.elem, &leads, &shape, span)?;
        chosen.literal = x.literal && y.literal;
        Ok(chosen)
    }

    fn reduction(&mut self, name: &'static str, x: &Given<'a>, axis: Option<i128>, span: Span) -> R<Val<'a>> {
        let tensor = self.tensor_of(&x.value, None, x.span)?;
        let at = self.axis_of(name, &tensor, axis, span)?;
        let (op, result) = match name {
            "sum" => (ReduceOp::Sum, tensor.elem),
            "max" => (ReduceOp::Max, tensor.elem),
            "min" => (ReduceOp::Min, tensor.elem),
            "any" => (ReduceOp::Any, Elem::Bool),
            "count" => (ReduceOp::Count, Elem::I32),
            _ => (ReduceOp::ArgMax, Elem::I32),
        };
        let wants_bool = matches!(op, ReduceOp::Any | ReduceOp::Count);
        if wants_bool != (tensor.elem == Elem::Bool) {
            return self.wrong_element(name, tensor.elem, span);
        }
        let mut shape = tensor.shape.clone();
        shape.remove(at);
        let value = self.local(&tensor);
        let axis = at + self.lead_axes(&tensor.leads);
        let leads = tensor.leads.clone();
        self.emit1(Op::Reduce { op, axis }, &[value], result, &leads, &shape, span).map(Val::tensor)
    }

    fn top(&mut self, name: &'static str, x: &Given<'a>, k: &Given<'a>, span: Span) -> R<Val<'a>> {
        let tensor = self.tensor_of(&x.value, Some(Elem::F32), x.span)?;
        let k = self.as_size(&k.value, k.span)?;
        if tensor.elem != Elem::F32 {
            return self.wrong_element(name, tensor.elem, span);
        }
        if tensor.shape.is_empty() {
            return self.rank(name, 1, &tensor, span);
        }
        let value = self.local(&tensor);
        let leads = tensor.leads.clone();
        if name == "top_mask" {
            let shape = tensor.shape.clone();
            return self.emit1(Op::TopMask { k }, &[value], Elem::Bool, &leads, &shape, span).map(Val::tensor);
        }
        let mut shape = tensor.shape.clone();
        let last = shape.len() - 1;
        shape[last] = Dim::Const(k);
        let full = self.full(&leads, &shape);
        let types = vec![Type::new(Elem::F32, full.clone()), Type::new(Elem::I32, full)];
        let results = self.emit(Op::TopK { k }, &[value], types, span)?;
        Ok(Self::values(vec![
            self.wrap(results[0], Elem::F32, &leads, &shape),
            self.wrap(results[1], Elem::I32, &leads, &shape),
        ]))
    }

    fn outer(&mut self, a: &Given<'a>, b: &Given<'a>, span: Span) -> R<Val<'a>> {
        let x = self.tensor_of(&a.value, Some(Elem::F32), a.span)?;
        let y = self.tensor_of(&b.value, Some(Elem::F32), b.span)?;
        for side in [&x, &y] {
            if side.shape.len() != 1 {
                return self.rank("outer", 1, side, span);
            }
            if side.elem != Elem::F32 {
                return self.wrong_element("outer", side.elem, span);
            }
        }
        let leads = union([&x, &y].into_iter());
        let shape = [x.shape[0], y.shape[0]];
        let x = self.column(&x, &leads, &shape, 0, span)?;
        let y = self.column(&y, &leads, &shape, 1, span)?;
        self.binary_node(Op2::Mul, &x, &y, span).map(Val::tensor)
    }

    /// A vector along one axis of a matrix, repeated along the other.
    fn column(&mut self, tensor: &Tensor, leads: &[usize], shape: &[Dim], axis: usize, span: Span) -> R<Tensor> {
        let own = tensor.shape.clone();
        let tensor = self.expand(tensor, leads, &own, span)?;
        let n = self.lead_axes(leads);
        let axes: Vec<usize> = (0..n).chain([n + axis]).collect();
        let op = Op::Broadcast { axes };
        self.emit1(op, &[tensor.value], tensor.elem, leads, shape, span)
    }

    fn permuted(&mut self, tensor: &Tensor, order: &[usize], span: Span) -> R<Tensor> {
        let n = self.lead_axes(&tensor.leads);
        let axes: Vec<usize> = (0..n).chain(order.iter().map(|&i| n + i)).collect();
        let shape: Vec<Dim> = order.iter().map(|&i| tensor.shape[i]).collect();
        let value = self.local(tensor);
        let leads = tensor.leads.clone();
        self.emit1(Op::Permute { axes }, &[value], tensor.elem, &leads, &shape, span)
    }

    fn reshaped(&mut self, tensor: &Tensor, shape: &[Dim], span: Span) -> R<Val<'a>> {
        let product = |shape: &[Dim]| shape.iter().try_fold(1usize, |n, d| n.checked_mul(d.constant()?));
        let (have, want) = (product(&tensor.shape), product(shape));
        if have.is_none() || have != want {
            return self.fail_here(
                Diagnostic::error(
                    Code::ShapeMismatch,
                    "a reshape keeps the number of elements, and its axes have known lengths",
                )
                .at(span, format!("{} as {}", show_type(tensor.elem, &tensor.shape), show_type(tensor.elem, shape))),
            );
        }
        self.reshape(tensor, shape, span).map(Val::tensor)
    }

    fn split(&mut self, x: &Given<'a>, n: &Given<'a>, span: Span) -> R<Val<'a>> {
        let tensor = self.tensor_of(&x.value, None, x.span)?;
        let n = self.as_size(&n.value, n.span)?;
        let length = tensor.shape.last().and_then(|d| d.constant()).unwrap_or(0);
        if n == 0 || length == 0 || length % n != 0 || n > self.limits.list {
            return self.fail_here(
                Diagnostic::error(
                    Code::ShapeMismatch,
                    format!("`split` cannot cut the last axis into {n} equal pieces"),
                )
                .at(span, show_type(tensor.elem, &tensor.shape)),
            );
        }
        let axis = tensor.shape.len() - 1;
        let each = length / n;
        let mut pieces = Vec::new();
        for i in 0..n {
            pieces.push(self.slice(&tensor, axis, i * each, each, span)?);
        }
        Ok(Self::values(pieces))
    }

    fn concatenation(&mut self, args: &[&Given<'a>], axis: Option<i128>, span: Span, hint: Option<Elem>) -> R<Val<'a>> {
        let elem = common_elem(args.iter().map(|a| &a.value), hint);
        let mut tensors = Vec::new();
        for arg in args {
            tensors.push(self.tensor_of(&arg.value, elem, arg.span)?);
        }
        let rank = tensors[0].shape.len() as i128;
        let wanted = axis.unwrap_or(0);
        let at = if wanted < 0 { wanted + rank } else { wanted };
        let others = |t: &Tensor| {
            let mut shape = t.shape.clone();
            if (at as usize) < shape.len() {
                shape.remove(at as usize);
            }
            (t.elem, shape)
        };
        let along = |t: &Tensor| growing(t).is_some_and(|axis| axis as i128 == at);
        let grows = tensors.iter().filter(|t| along(t)).count();
        let fits = at >= 0
            && at < rank
            && tensors.iter().all(|t| t.shape.len() as i128 == rank && others(t) == others(&tensors[0]))
            && (grows == 0 || grows == 1 && tensors.last().is_some_and(along));
        if !fits {
            let types: Vec<String> = tensors.iter().map(|t| show_type(t.elem, &t.shape)).collect();
            return self.fail_here(
                Diagnostic::error(
                    Code::ShapeMismatch,
                    format!("`concat` along axis {wanted} needs the other axes to be equal"),
                )
                .at(span, types.join(", "))
                .note("along this axis at most the last may grow")
                .note_if(self.other_entries(&tensors[0].shape, &tensors[tensors.len() - 1].shape)),
            );
        }
        self.concat(&tensors, at as usize, span).map(Val::tensor)
    }

    fn rank<T>(&mut self, name: &str, rank: usize, tensor: &Tensor, span: Span) -> R<T> {
        self.fail_here(
            Diagnostic::error(Code::ShapeMismatch, format!("`{name}` takes values of rank {rank}"))
                .at(span, show_type(tensor.elem, &tensor.shape)),
        )
    }

    fn not_growing<T>(&mut self, name: &str, tensor: &Tensor, span: Span) -> R<T> {
        self.fail_here(
            Diagnostic::error(Code::GrowingState, format!("`{name}` works on a state with an axis `cache` or `ring`"))
                .at(span, show_type(tensor.elem, &tensor.shape)),
        )
    }

    fn push(&mut self, s: &Given<'a>, x: &Given<'a>, span: Span) -> R<Val<'a>> {
        let state = self.tensor_of(&s.value, None, s.span)?;
        let (Some(id), Some(axis)) = (state.state, growing(&state)) else {
            return self.not_growing("push", &state, s.span);
        };
        self.may_push(id, span)?;
        let entry = self.tensor_of(&x.value, Some(state.elem), x.span)?;
        let mut wanted = state.shape.clone();
        wanted.remove(axis);
        if entry.shape != wanted || entry.elem != state.elem {
            return self.fail_here(
                Diagnostic::error(
                    Code::StateType,
                    format!("an entry of this state is {}", show_type(state.elem, &wanted)),
                )
                .at(x.span, show_type(entry.elem, &entry.shape)),
            );
        }
        if entry.leads.iter().any(|lead| !state.leads.contains(lead)) {
            return self.pushed_per_index(id, x.span);
        }
        let entry = self.expand(&entry, &state.leads, &wanted, span)?;
        self.push_entry(&state, id, &entry, span).map(Val::tensor)
    }

    /// The positions at which the entries of a growing state were pushed.
    fn positions(&mut self, s: &Given<'a>, span: Span) -> R<Val<'a>> {
        let tensor = self.tensor_of(&s.value, None, s.span)?;
        let (Some(state), Some(axis)) = (tensor.state, growing(&tensor)) else {
            return self.not_growing("positions", &tensor, s.span);
        };
        let shape = [tensor.shape[axis]];
        let read = |this: &mut Self| {
            let value = this.local(&tensor);
            this.emit1(Op::Positions { state }, &[value], Elem::I32, &[], &shape, span)
        };
        // Each round of a `repeat` has its own instance of the states declared in it: one declared outside is looked at
        // there.
        let positions = if self.module.state(state).instances == self.repeats {
            read(self)?
        } else {
            self.outside(tensor.region, read)?
        };
        Ok(Val::tensor(positions))
    }

    /// A growing state with one more entry, at the present position.
    pub(super) fn push_entry(
        &mut self,
        state: &Tensor,
        id: crate::ir::StateId,
        entry: &Tensor,
        span: Span,
    ) -> R<Tensor> {
        let position = self.position(span)?;
        let position = self.tensor_of(&position, None, span)?;
        let inputs = [self.local(state), self.local(entry), self.local(&position)];
        let (leads, shape) = (state.leads.clone(), state.shape.clone());
        let op = Op::Push { state: id };
        let mut pushed = self.emit1(op, &inputs, state.elem, &leads, &shape, span)?;
        pushed.state = Some(id);
        Ok(pushed)
    }
}

/// Which axis grows.
pub(super) fn growing(tensor: &Tensor) -> Option<usize> {
    tensor.shape.iter().position(|d| matches!(d, Dim::Grow { .. }))
}
