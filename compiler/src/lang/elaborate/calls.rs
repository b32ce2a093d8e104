//! Calling blocks: statics read off the arguments, mapping over leading axes, the body, the results.

use std::rc::Rc;

use super::Elaborator;
use super::control::Flow;
use super::expressions::tuple;
use super::functions::Given;
use super::scope::{Frame, Kind};
use super::value::{Bound, Part, R, Reported, Tensor, Val, show_type};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::{Dim, Elem, Type};
use crate::lang::ast::{self, Arg, ExprKind};

/// One parameter with its argument.
struct Pair<'a> {
    name: &'a ast::Name,
    ty: &'a ast::ValueType,
    value: Val<'a>,
    span: Span,
    shape: Vec<Dim>,
}

impl<'a> Elaborator<'a> {
    /// A block called without a part.
    pub(super) fn call_direct(
        &mut self,
        bound: &Rc<Bound<'a>>,
        args: &'a [Arg],
        callee: Span,
        span: Span,
    ) -> R<Val<'a>> {
        let args = self.block_args(bound, args)?;
        self.invoke(bound, None, args, callee, span)
    }

    /// A part called.
    pub(super) fn call_part(&mut self, part: &Rc<Part<'a>>, args: &'a [Arg], span: Span) -> R<Val<'a>> {
        part.used.set(true);
        let bound = part.bound.clone();
        let args = self.block_args(&bound, args)?;
        self.invoke(&bound, Some(part.clone()), args, span, span)
    }

    pub(super) fn block_args(&mut self, bound: &Bound<'a>, args: &'a [Arg]) -> R<Vec<Given<'a>>> {
        // Literals take the element that the parameter names, if it names one.
        let hints: Vec<Option<Elem>> = bound
            .block
            .params
            .iter()
            .flat_map(|p| p.names.iter().map(|_| Elem::from_name(p.ty.element.as_str())))
            .collect();
        let mut out = Vec::new();
        let mut failed = false;
        for (i, arg) in args.iter().enumerate() {
            let hint = hints.get(i).copied().flatten();
            match self.evaluate_args(std::slice::from_ref(arg), hint) {
                Ok(values) => out.extend(values),
                Err(Reported) => failed = true,
            }
        }
        if failed { Err(Reported) } else { Ok(out) }
    }

    /// Evaluates a block's body for these arguments.
    pub(super) fn invoke(
        &mut self,
        bound: &Rc<Bound<'a>>,
        owner: Option<Rc<Part<'a>>>,
        args: Vec<Given<'a>>,
        callee: Span,
        span: Span,
    ) -> R<Val<'a>> {
        let block = bound.block;
        let pairs = self.pair_arguments(block, args, span)?;
        let caller = self.frame();
        let (path, chain) = match &owner {
            Some(part) => (
                part.path.as_str().into(),
                match &*caller.chain {
                    "" => block.name.as_str().into(),
                    chain => format!("{chain} > {}", block.name.as_str()).into(),
                },
            ),
            None => (
                caller.path.clone(),
                match &*caller.chain {
                    "" => block.name.as_str().into(),
                    chain => format!("{chain} > {}", block.name.as_str()).into(),
                },
            ),
        };
        let frame = Frame {
            block: Some(block),
            path,
            chain,
            call: Some(callee),
            target: self.target,
            leads: caller.leads.clone(),
            owns: owner.is_some(),
            part: owner,
            ..Frame::model(bound.home)
        };
        self.push_frame(frame, span)?;
        let before = self.target.take();
        let result = self.in_frame(bound, pairs, span);
        self.target = before;
        let frame = self.frames.pop();
        let (values, lead) = result?;
        drop(frame);
        let Some(lead) = lead else {
            return Ok(tuple(values.into_iter().map(Val::tensor).collect()));
        };
        // What was mapped comes back with the mapped axes in front, as the caller sees them.
        let dims = self.mapped[lead].dims.clone();
        let mut out = Vec::new();
        for tensor in values {
            let mut leads = tensor.leads.clone();
            if !leads.contains(&lead) {
                leads.push(lead);
                leads.sort_unstable();
            }
            let own = tensor.shape.clone();
            let mut full = self.expand(&tensor, &leads, &own, span)?;
            full.leads.retain(|&l| l != lead);
            full.shape = dims.iter().copied().chain(own).collect();
            full.state = None;
            out.push(Val::tensor(full));
        }
        Ok(tuple(out))
    }

    fn pair_arguments(&mut self, block: &'a ast::Block, args: Vec<Given<'a>>, span: Span) -> R<Vec<Pair<'a>>> {
        let params: Vec<(&'a ast::Name, &'a ast::ValueType)> =
            block.params.iter().flat_map(|p| p.names.iter().map(move |name| (name, &p.ty))).collect();
        if params.len() != args.len() {
            return self.fail(
                Diagnostic::error(
                    Code::ArgumentCount,
                    format!("`{}` takes {} argument(s), it is given {}", block.name.as_str(), params.len(), args.len()),
                )
                .at(span, "called here")
                .and_at(block.header, "declared here"),
            );
        }
        let mut slots: Vec<Option<Given<'a>>> = params.iter().map(|_| None).collect();
        let mut next = 0;
        for arg in args {
            let at = match arg.name {
                Some(name) => params.iter().position(|(p, _)| p.as_str() == name),
                None => {
                    let at = next;
                    next += 1;
                    Some(at)
                }
            };
            match at.filter(|&at| slots[at].is_none()) {
                Some(at) => slots[at] = Some(arg),
                None => {
                    let name = arg.name.unwrap_or_default();
                    return self.fail(
                        Diagnostic::error(
                            Code::UnknownArgument,
                            format!("`{}` has no parameter `{name}`, or it is given twice", block.name.as_str()),
                        )
                        .at(arg.span, ""),
                    );
                }
            }
        }
        let mut pairs = Vec::new();
        for ((name, ty), slot) in params.into_iter().zip(slots) {
            let Some(arg) = slot else {
                return Err(Reported);
            };
            let shape = self.shape_of(&arg.value, arg.span)?;
            pairs.push(Pair { name, ty, value: arg.value, span: arg.span, shape });
        }
        Ok(pairs)
    }

    /// The results of the body as tensors, and the mapped call if it was one.
    fn in_frame(&mut self, bound: &Rc<Bound<'a>>, pairs: Vec<Pair<'a>>, span: Span) -> R<(Vec<Tensor>, Option<usize>)> {
        let block = bound.block;
        self.bind_static_params(bound, &pairs, span)?;
        let mut lead_dims: Option<Vec<Dim>> = None;
        let mut ready = Vec::new();
        for pair in &pairs {
            let (elem, wanted) = self.value_type(pair.ty)?;
            let tensor = self.tensor_of(&pair.value, Some(elem), pair.span)?;
            let extra = tensor.shape.len().checked_sub(wanted.len());
            let Some(extra) = extra.filter(|&extra| tensor.elem == elem && tensor.shape[extra..] == wanted[..]) else {
                return self.wrong_argument(bound, pair, elem, &wanted, &tensor);
            };
            if extra > 0 {
                let front = tensor.shape[..extra].to_vec();
                match &lead_dims {
                    Some(dims) if *dims != front => {
                        return self.wrong_mapping(pair, dims.clone(), &front);
                    }
                    _ => lead_dims = Some(front),
                }
            }
            ready.push((tensor, extra));
        }
        let lead = lead_dims.map(|dims| self.new_lead(dims));
        if let Some(lead) = lead {
            self.frame_mut().leads.push(lead);
        }
        for (pair, (mut tensor, extra)) in pairs.iter().zip(ready) {
            if let (Some(lead), true) = (lead, extra > 0) {
                tensor.leads.push(lead);
                tensor.shape.drain(..extra);
                tensor.state = None;
            }
            let name = pair.name;
            let value = Val::tensor(tensor);
            self.declare(name.text.clone(), value, Kind::Param, name.span, name.span);
        }
        let flow = self.body(&block.body.stmts)?;
        let values = match flow {
            Flow::Return(values) => values,
            Flow::Next => {
                return self.fail(
                    Diagnostic::error(Code::ReturnType, format!("`{}` ends without `return`", block.name.as_str()))
                        .at(block.header, "returns nothing"),
                );
            }
        };
        let results = self.checked_results(block, values)?;
        self.write_states(span)?;
        Ok((results, lead))
    }

    fn checked_results(&mut self, block: &'a ast::Block, values: Vec<(Val<'a>, Span)>) -> R<Vec<Tensor>> {
        if values.len() != block.results.len() {
            let span = values.first().map_or(block.header, |v| v.1);
            return self.fail(
                Diagnostic::error(
                    Code::ReturnType,
                    format!(
                        "`{}` declares {} result(s), it returns {}",
                        block.name.as_str(),
                        block.results.len(),
                        values.len()
                    ),
                )
                .at(span, "returned here")
                .and_at(block.header, "declared here"),
            );
        }
        let mut out = Vec::new();
        for ((value, span), ty) in values.into_iter().zip(&block.results) {
            let (elem, shape) = self.value_type(ty)?;
            let tensor = self.tensor_of(&value, Some(elem), span)?;
            if tensor.elem != elem || tensor.shape != shape {
                return self.fail_here(
                    Diagnostic::error(
                        Code::ReturnType,
                        format!(
                            "`{}` declares {}, it returns {}",
                            block.name.as_str(),
                            show_type(elem, &shape),
                            show_type(tensor.elem, &tensor.shape)
                        ),
                    )
                    .at(span, show_type(tensor.elem, &tensor.shape))
                    .and_at(ty.span, "declared here")
                    .note_if(self.other_entries(&shape, &tensor.shape)),
                );
            }
            out.push(tensor);
        }
        Ok(out)
    }

    /// Statics given, read off the arguments, or by default.
    fn bind_static_params(&mut self, bound: &Rc<Bound<'a>>, pairs: &[Pair<'a>], span: Span) -> R<()> {
        let block = bound.block;
        for (i, param) in block.statics.iter().enumerate() {
            let name = &param.name;
            let value = match &bound.statics[i] {
                Some(value) => Some(value.clone()),
                None => infer(name.as_str(), pairs),
            };
            let Some(value) = self.given_or_default(param, value)? else {
                return self.fail(
                    Diagnostic::error(
                        Code::NotInferable,
                        format!(
                            "`{}` of `{}` is neither given nor the axis of an argument",
                            name.as_str(),
                            block.name.as_str()
                        ),
                    )
                    .at(span, "called here")
                    .and_at(param.span, "declared here"),
                );
            };
            self.declare(name.text.clone(), value, Kind::Static, name.span, name.span);
        }
        Ok(())
    }

    /// The value of a static parameter, if it was given one or has a default.
    pub(super) fn given_or_default(
        &mut self,
        param: &'a ast::StaticParam,
        given: Option<Val<'a>>,
    ) -> R<Option<Val<'a>>> {
        match (given, &param.default) {
            (None, Some(default)) => {
                let value = self.eval(default, None)?;
                self.static_argument(value, param.kind, default.span).map(Some)
            }
            (given, _) => Ok(given),
        }
    }

    fn wrong_argument<T>(
        &mut self,
        bound: &Bound<'a>,
        pair: &Pair<'a>,
        elem: Elem,
        wanted: &[Dim],
        tensor: &Tensor,
    ) -> R<T> {
        let block = bound.block;
        let frame = self.frame();
        let given = show_type(tensor.elem, &tensor.shape);
        let mut diagnostic = Diagnostic::error(
            Code::ArgumentType,
            format!(
                "`{}` takes {}, it is given {given}",
                frame.part.as_ref().map_or(block.name.as_str(), |p| p.name.as_ref()),
                show_type(elem, wanted)
            ),
        )
        .at(pair.span, given)
        .note_if(self.other_entries(wanted, &tensor.shape));
        diagnostic = match &frame.part {
            Some(part) => {
                let names: Vec<&str> = block
                    .statics
                    .iter()
                    .zip(&bound.statics)
                    .filter(|(_, v)| v.as_ref().is_some_and(Val::is_number))
                    .map(|(s, _)| s.name.as_str())
                    .collect();
                let values: Vec<String> =
                    bound.statics.iter().flatten().filter(|v| v.is_number()).map(Val::show).collect();
                let label = if names.is_empty() {
                    "declared here".to_string()
                } else {
                    format!("[{}] = [{}]", names.join(", "), values.join(", "))
                };
                diagnostic.and_at(part.block_span, label)
            }
            None => diagnostic.and_at(pair.ty.span, "declared here"),
        };
        // The place and the chain are the caller's.
        let callee = self.frames.pop();
        let diagnostic = self.with_chain(diagnostic);
        self.frames.extend(callee);
        self.fail(diagnostic)
    }

    fn wrong_mapping<T>(&mut self, pair: &Pair<'a>, before: Vec<Dim>, front: &[Dim]) -> R<T> {
        let show = |dims: &[Dim]| dims.iter().map(super::value::show_dim).collect::<Vec<_>>().join(", ");
        let callee = self.frames.pop();
        let diagnostic = self.with_chain(
            Diagnostic::error(Code::ArgumentType, "mapped arguments must share their leading axes")
                .at(pair.span, format!("[{}], others have [{}]", show(front), show(&before)))
                .note_if(self.other_entries(front, &before)),
        );
        self.frames.extend(callee);
        self.fail(diagnostic)
    }

    /// Element and axes of a declared type.
    pub(super) fn value_type(&mut self, ty: &'a ast::ValueType) -> R<(Elem, Vec<Dim>)> {
        let element = self.lookup(ty.element.as_str(), ty.element.span)?;
        let Val::Elem(elem) = element else {
            return self.fail(
                Diagnostic::error(Code::ElementType, format!("`{}` is no element of a value", ty.element.as_str()))
                    .at(ty.element.span, element.kind())
                    .help("elements are f32, i32, u32, u64, i8, u8 and bool"),
            );
        };
        let mut shape = Vec::new();
        for axis in &ty.axes {
            let value = self.eval(axis, None)?;
            shape.push(match value {
                Val::Grow(dim) => dim,
                value => Dim::Const(self.as_size(&value, axis.span)?),
            });
        }
        if shape.len() > self.limits.rank {
            return self.too_big(ty.span, format!("more than {} axes", self.limits.rank));
        }
        self.check_size(&shape, ty.span)?;
        Ok((elem, shape))
    }

    /// A declared type whose axes are all constants.
    pub(super) fn fixed_type(&mut self, ty: &'a ast::ValueType) -> R<Type> {
        let (elem, shape) = self.value_type(ty)?;
        Ok(Type::new(elem, shape))
    }
}

/// The static parameter as the axis of an argument.
fn infer<'a>(name: &str, pairs: &[Pair<'a>]) -> Option<Val<'a>> {
    for pair in pairs {
        let axes = &pair.ty.axes;
        let Some(extra) = pair.shape.len().checked_sub(axes.len()) else {
            continue;
        };
        for (axis, dim) in axes.iter().zip(&pair.shape[extra..]) {
            if matches!(&axis.kind, ExprKind::Name(n) if **n == *name) {
                return Some(match dim {
                    Dim::Const(n) => Val::Int(*n as i128),
                    other => Val::Grow(*other),
                });
            }
        }
    }
    None
}
