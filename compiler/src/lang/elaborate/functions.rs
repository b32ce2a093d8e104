//! Calls: what is called decides; operations of the language with their static forms and encodings.

use super::Elaborator;
use super::build::known_elem;
use super::expressions::tuple;
use super::scope::builtin;
use super::statics;
use super::value::{R, Reported, Tensor, Val};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::{AxisCapacity, Dim, Elem, Op, Type};
use crate::lang::ast::{Arg, BinaryOp, Expr};

/// Everything the language itself can be called with, for names and advice.
pub(in crate::lang) const OPERATIONS: &[&str] = &[
    "exp",
    "expm1",
    "ln",
    "log1p",
    "sqrt",
    "sin",
    "cos",
    "tanh",
    "sigmoid",
    "abs",
    "floor",
    "round",
    "min",
    "max",
    "clamp",
    "select",
    "sum",
    "any",
    "argmax",
    "count",
    "cumsum",
    "top_k",
    "top_mask",
    "outer",
    "transpose",
    "permute",
    "reshape",
    "flatten",
    "split",
    "concat",
    "zeros",
    "iota",
    "bits",
    "push",
    "positions",
    "delay",
    "given",
    "present",
    "len",
    "keys",
    "words",
    "distinct",
    "all",
    "join",
    "starts_with",
    "log2",
    "fnv1a64",
    "weights_in",
    "about",
    "ternary",
    "sign",
    "int8",
    "ring",
    "cache",
];

/// An evaluated argument.
pub(super) struct Given<'a> {
    pub name: Option<&'a str>,
    pub value: Val<'a>,
    pub span: Span,
}

impl<'a> Elaborator<'a> {
    /// `callee(args)`.
    pub(super) fn call(&mut self, callee: &'a Expr, args: &'a [Arg], span: Span, hint: Option<Elem>) -> R<Val<'a>> {
        let mut target = self.eval(callee, None)?;
        // A value that cannot be called hides neither an operation nor a conversion of its name (a key `ternary`).
        if !callable(&target)
            && let Some(builtin) = callee.as_name().and_then(builtin).filter(callable)
        {
            target = builtin;
        }
        match target {
            Val::Op("delay") => self.delay(args, span),
            Val::Op("given") => self.given(args, span),
            Val::Op("present") => self.present(args, span),
            Val::Op(name @ ("min" | "max" | "clamp" | "select" | "concat")) => {
                let args = self.evaluate_alike(args, usize::from(name == "select"), hint)?;
                self.operation(name, &args, span, hint)
            }
            Val::Op(name) => {
                let args = self.evaluate_args(args, hint)?;
                self.operation(name, &args, span, hint)
            }
            Val::Axis(AxisCapacity::Unbounded) => {
                let args = self.evaluate_args(args, None)?;
                let n = self.one_size("cache", &args, span)?;
                Ok(Val::Axis(AxisCapacity::Max(n)))
            }
            Val::Elem(elem) => {
                let args = self.evaluate_args(args, None)?;
                self.conversion(elem, &args, span)
            }
            Val::Block(bound) => self.call_direct(&bound, args, callee.span, span),
            Val::Part(part) => self.call_part(&part, args, span),
            Val::Chosen(parts, index) => self.call_chosen(&parts, &index, args, span),
            Val::Weight(id) => {
                let args = self.evaluate_args(args, Some(Elem::F32))?;
                match args.as_slice() {
                    [x] => self.linear(id, &x.value, x.span, span),
                    _ => self.count("a weight", 1, args.len(), span),
                }
            }
            Val::Absent(_) => self.tensor_of(&target, None, callee.span).map(Val::tensor),
            Val::Host(id) => self.call_host(id, args, span),
            Val::Poison => Err(Reported),
            other => self.fail(
                Diagnostic::error(Code::NotABlock, format!("{} cannot be called", other.kind()))
                    .at(callee.span, "called here"),
            ),
        }
    }

    /// The arguments, all evaluated even if one is wrong.
    pub(super) fn evaluate_args(&mut self, args: &'a [Arg], hint: Option<Elem>) -> R<Vec<Given<'a>>> {
        let mut out = Vec::new();
        let mut failed = false;
        for arg in args {
            let Some(expr) = arg.value.as_value() else {
                self.diagnostics
                    .push(Diagnostic::error(Code::ArgumentType, "a range is no argument here").at(arg.span, ""));
                failed = true;
                continue;
            };
            match self.eval(expr, hint) {
                Ok(value) => out.push(Given { name: arg.name.as_ref().map(|n| n.as_str()), value, span: expr.span }),
                Err(Reported) => failed = true,
            }
        }
        if failed { Err(Reported) } else { Ok(out) }
    }

    /// Arguments that have one element in common, all but the first `others`: literals in one take that of those before
    /// it.
    fn evaluate_alike(&mut self, args: &'a [Arg], others: usize, hint: Option<Elem>) -> R<Vec<Given<'a>>> {
        let mut out: Vec<Given<'a>> = Vec::new();
        let mut failed = false;
        for i in 0..args.len() {
            let before = out.iter().skip(others).find_map(|given| known_elem(&given.value));
            match self.evaluate_args(&args[i..=i], before.or(hint)) {
                Ok(values) => out.extend(values),
                Err(Reported) => failed = true,
            }
        }
        if failed { Err(Reported) } else { Ok(out) }
    }

    /// A wrong number of arguments.
    pub(super) fn count<T>(&mut self, what: &str, takes: usize, got: usize, span: Span) -> R<T> {
        self.fail(
            Diagnostic::error(Code::ArgumentCount, format!("{what} takes {takes} argument(s), it is given {got}"))
                .at(span, ""),
        )
    }

    fn one_size(&mut self, what: &str, args: &[Given<'a>], span: Span) -> R<usize> {
        match args {
            [arg] => {
                let n = self.as_size(&arg.value, arg.span)?;
                if n == 0 {
                    return self
                        .fail(Diagnostic::error(Code::StaticValue, format!("`{what}` of 0 entries")).at(arg.span, ""));
                }
                Ok(n)
            }
            _ => self.count(&format!("`{what}`"), 1, args.len(), span),
        }
    }

    fn conversion(&mut self, elem: Elem, args: &[Given<'a>], span: Span) -> R<Val<'a>> {
        let [arg] = args else {
            return self.count(&format!("`{}`", elem.name()), 1, args.len(), span);
        };
        if matches!(elem, Elem::F16 | Elem::Bf16) {
            return self.fail(
                Diagnostic::error(
                    Code::ElementType,
                    format!("{} is how weights are stored; arithmetic is in f32", elem.name()),
                )
                .at(span, ""),
            );
        }
        if elem == Elem::Bool {
            return match &arg.value {
                Val::Bool(_) => Ok(arg.value.clone()),
                value if known_elem(value) == Some(Elem::Bool) => Ok(value.clone()),
                value => self.combine(BinaryOp::NotEqual, value, &Val::Int(0), span, None),
            };
        }
        let natural = match (&arg.value, elem) {
            (Val::Int(n), Elem::F32) => return Ok(Val::Float(*n as f64)),
            (Val::Int(_) | Val::Bool(_), _) => Some(elem),
            _ => None,
        };
        let tensor = self.tensor_of(&arg.value, natural, arg.span)?;
        self.convert(&tensor, elem, span).map(Val::tensor)
    }

    fn operation(&mut self, name: &'static str, args: &[Given<'a>], span: Span, hint: Option<Elem>) -> R<Val<'a>> {
        match name {
            "ternary" | "sign" | "int8" => return self.encoding(name, args),
            "ring" => {
                let n = self.one_size("ring", args, span)?;
                return Ok(Val::Axis(AxisCapacity::Ring(n)));
            }
            "weights_in" => return self.weights_in(args, span),
            _ => {}
        }
        for arg in args {
            self.count_size(&arg.value, name == "distinct", span)?;
        }
        let all_static = args.iter().all(|a| a.value.is_static());
        if all_static && let Some(result) = self.static_form(name, args) {
            return match result {
                Ok(value) => {
                    self.list_fits(&value, span)?;
                    self.text_fits(&value, span)?;
                    Ok(value)
                }
                Err(problem) => self.problem(problem, span),
            };
        }
        self.tensor_function(name, args, span, hint)
    }

    /// The value of an operation whose arguments are static, if it has such a form.
    fn static_form(&mut self, name: &str, args: &[Given<'a>]) -> Option<Result<Val<'a>, statics::Problem>> {
        if args.iter().any(|a| a.name.is_some()) {
            return None;
        }
        let values: Vec<Val<'a>> = args.iter().map(|a| a.value.clone()).collect();
        if let Some(result) = statics::static_function(name, &values) {
            return Some(result);
        }
        match (name, values.as_slice()) {
            ("concat", _) => statics::concat_lists(&values).map(Ok),
            ("sum", [Val::List(list)]) => Some(statics::sum(list)),
            ("min" | "max", [Val::List(list)]) => Some(statics::extreme(list, name == "max")),
            ("min" | "max", [a, b]) if a.is_number() && b.is_number() => Some(statics::extreme(&values, name == "max")),
            ("clamp", [x, low, high]) if x.is_number() => Some(
                statics::extreme(&[x.clone(), low.clone()], true)
                    .and_then(|x| statics::extreme(&[x, high.clone()], false)),
            ),
            ("select", [Val::Bool(c), a, b]) => Some(Ok(if *c { a.clone() } else { b.clone() })),
            (_, [x]) if x.is_number() => statics::unary_function(name, x),
            _ => None,
        }
    }

    fn weights_in(&mut self, args: &[Given<'a>], span: Span) -> R<Val<'a>> {
        let [arg] = args else {
            return self.count("`weights_in`", 1, args.len(), span);
        };
        let glob = self.as_text(&arg.value, arg.span)?;
        self.count_evaluations(self.module.weights.len(), span)?;
        let total: usize = self
            .module
            .stored()
            .filter(|(path, _, _)| crate::lang::checkpoint::matches_glob(&glob, path))
            .map(|(_, _, shape)| shape.iter().product::<usize>())
            .sum();
        Ok(Val::Int(total as i128))
    }

    fn given(&mut self, args: &'a [Arg], span: Span) -> R<Val<'a>> {
        match self.evaluate_args(args, None)?.as_slice() {
            [arg] => match &arg.value {
                Val::Optional(optional) => Ok(Val::tensor(optional.given.clone())),
                other => self.fail(
                    Diagnostic::error(Code::ArgumentType, "`given` asks about an optional value")
                        .at(arg.span, other.kind()),
                ),
            },
            other => self.count("`given`", 1, other.len(), span),
        }
    }

    fn present(&mut self, args: &'a [Arg], span: Span) -> R<Val<'a>> {
        match self.evaluate_args(args, None)?.as_slice() {
            [arg] => match &arg.value {
                Val::Absent(_) => Ok(Val::Bool(false)),
                Val::Weight(id) => {
                    self.weight_used[id.index()] = true;
                    Ok(Val::Bool(true))
                }
                other => self.fail(
                    Diagnostic::error(Code::ArgumentType, "`present` asks about an optional weight")
                        .at(arg.span, other.kind()),
                ),
            },
            other => self.count("`present`", 1, other.len(), span),
        }
    }

    fn call_host(&mut self, id: crate::ir::HostId, args: &'a [Arg], span: Span) -> R<Val<'a>> {
        let args = self.evaluate_args(args, None)?;
        let host = self.module.hosts[id.index()].clone();
        if args.len() != host.params.len() {
            return self.count(&format!("`{}`", host.name), host.params.len(), args.len(), span);
        }
        let mut inputs = Vec::new();
        for (arg, (_, ty)) in args.iter().zip(&host.params) {
            let tensor = self.tensor_of(&arg.value, Some(ty.elem), arg.span)?;
            if tensor.elem != ty.elem || tensor.shape[..] != ty.shape[..] || !tensor.leads.is_empty() {
                return self.fail_here(
                    Diagnostic::error(
                        Code::ArgumentType,
                        format!("`{}` is asked with {}", host.name, super::value::show_type(ty.elem, &ty.shape)),
                    )
                    .at(arg.span, super::value::show_type(tensor.elem, &tensor.shape)),
                );
            }
            inputs.push(self.local(&tensor));
        }
        let types = vec![host.result.clone(), Type::scalar(Elem::Bool)];
        let results = self.emit(Op::Host(id), &inputs, types, span)?;
        let value = self.wrap(results[0], host.result.elem, &[], &host.result.shape);
        let given = self.wrap(results[1], Elem::Bool, &[], &[]);
        Ok(self.optional(&host.name, span, value, given))
    }

    pub(super) fn optional(&mut self, name: &str, declared: Span, value: Tensor, given: Tensor) -> Val<'a> {
        let id = self.next_id();
        let name = match self.target {
            Some(target) => target.to_string(),
            None => name.to_string(),
        };
        Val::Optional(super::value::Optional { id, name, declared, value, given }.into())
    }

    /// Sizes given as arguments, as axes.
    pub(super) fn sizes(&mut self, args: &[Given<'a>]) -> R<Vec<Dim>> {
        let mut shape = Vec::new();
        for arg in args {
            match &arg.value {
                Val::Grow(dim) => shape.push(*dim),
                value => shape.push(Dim::Const(self.as_size(value, arg.span)?)),
            }
        }
        if shape.len() > self.limits.rank {
            let most = self.limits.rank;
            let span = args[0].span;
            return self.too_big(span, format!("more than {most} axes"));
        }
        Ok(shape)
    }

    pub(super) fn values(values: Vec<Tensor>) -> Val<'a> {
        tuple(values.into_iter().map(Val::tensor).collect())
    }
}

fn callable(value: &Val<'_>) -> bool {
    matches!(
        value,
        Val::Op(_)
            | Val::Axis(_)
            | Val::Elem(_)
            | Val::Block(_)
            | Val::Part(_)
            | Val::Chosen(..)
            | Val::Weight(_)
            | Val::Absent(_)
            | Val::Host(_)
    )
}
