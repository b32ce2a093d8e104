//! Entries: parameters, position, inputs, outputs of an outer entry, outputs, probes.

use std::collections::HashMap;

use super::build::known_elem;
use super::scope::{Frame, Kind};
use super::value::{R, Reported, Tensor, Val, show_type};
use super::{Context, Elaborator};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::{Dim, Elem, Entry, Literal, Op, OutputDecl, Param, ParamKind, Start, Type};
use crate::lang::ast::{self, StmtKind};

impl<'a> Elaborator<'a> {
    /// Elaborates one entry into the module.
    pub(super) fn entry_statement(&mut self, entry: &'a ast::Entry) {
        let mut frame = Frame::model(0);
        frame.chain = entry.name.as_str().into();
        if self.push_frame(frame, entry.name.span).is_err() {
            return;
        }
        self.open_region(None);
        self.ran.clear();
        let result = self.entry_body(entry);
        self.frames.pop();
        self.regions.clear();
        let context = self.entry.take();
        if let (Ok(mut finished), Some(context)) = (result, context) {
            finished.body.set_results(context.results);
            finished.params = context.params;
            finished.outputs = context.outputs;
            self.module.entries.push(finished);
            self.entry_spans.push(entry.name.span);
        }
    }

    fn entry_body(&mut self, entry: &'a ast::Entry) -> R<Entry> {
        let within = match &entry.within {
            None => None,
            Some(outer) => match self.module.entry(outer.as_str()) {
                Some((index, _)) => Some(index),
                // The outer entry has mistakes of its own.
                None if self.diagnostics.has_errors() => return Err(Reported),
                None => {
                    return self.fail(
                        Diagnostic::error(Code::EntryForm, format!("`{}` is no entry above this one", outer.as_str()))
                            .at(outer.span, "the entry it runs inside of"),
                    );
                }
            },
        };
        self.entry = Some(Context {
            params: Vec::new(),
            outputs: Vec::new(),
            results: Vec::new(),
            known: HashMap::new(),
            within,
        });
        if let Some(index) = within {
            let name = self.module.entries[index].name.clone();
            let span = entry.name.span;
            self.declare(name.as_str().into(), Val::Entry(index), Kind::Fixed, span, span);
        }
        let mut types = Vec::new();
        for param in &entry.params {
            let ty = self.fixed_type(&param.ty)?;
            let range = self.range_of(param.limit.as_ref(), ty.elem)?;
            for name in &param.names {
                types.push((name, ty.clone(), range));
            }
        }
        let stream = types.len() == 1 && {
            let ty = &types[0].1;
            match ty.elem {
                Elem::U8 => ty.rank() <= 1,
                Elem::U32 => ty.rank() == 0,
                _ => false,
            }
        };
        for (name, ty, range) in types {
            let kind = if stream { ParamKind::Stream } else { ParamKind::Value };
            let tensor = self.entry_param(name.as_str(), &ty, kind, range);
            self.declare(name.text.clone(), Val::tensor(tensor), Kind::Param, name.span, name.span);
        }
        let start = match &entry.start {
            None => None,
            Some(start) => Some(self.start(start)?),
        };
        let name = entry.name.text.to_string();
        self.body(&entry.body.stmts)?;
        self.write_states(entry.header)?;
        if self.entry.as_ref().is_some_and(|e| e.outputs.is_empty()) {
            return self.fail(
                Diagnostic::error(Code::EntryForm, format!("entry `{name}` has no output"))
                    .at(entry.header, "it would compute nothing"),
            );
        }
        let body = self.close_region().region;
        Ok(Entry { name, within, start, params: Vec::new(), outputs: Vec::new(), body, lifted: false })
    }

    fn start(&mut self, start: &'a ast::Start) -> R<Start> {
        let value = self.eval(&start.value, Some(Elem::U32))?;
        let values = match &value {
            Val::List(values) => values.to_vec(),
            single => vec![single.clone()],
        };
        let mut elements = Vec::new();
        for value in &values {
            let n = self.as_int(value, start.value.span)?;
            match u32::try_from(n) {
                Ok(n) => elements.push(n),
                Err(_) => {
                    return self.fail(
                        Diagnostic::error(Code::EntryForm, format!("{n} is no element of a stream"))
                            .at(start.value.span, ""),
                    );
                }
            }
        }
        Ok(Start { elements, only_if_empty: start.if_empty })
    }

    /// Inclusive bounds of a parameter.
    fn range_of(&mut self, limit: Option<&'a ast::Limit>, elem: Elem) -> R<Option<(f64, f64)>> {
        let Some(limit) = limit else {
            return Ok(None);
        };
        let mut end = |expr: &'a Option<ast::Expr>| -> R<Option<f64>> {
            let Some(expr) = expr else { return Ok(None) };
            let value = self.eval(expr, None)?;
            match value.as_f64() {
                Some(x) => Ok(Some(x)),
                None => self.fail(
                    Diagnostic::error(Code::NotStatic, "the end of a range is a static number")
                        .at(expr.span, value.kind()),
                ),
            }
        };
        let low = end(&limit.low)?.unwrap_or(f64::NEG_INFINITY);
        let high = end(&limit.high)?.unwrap_or(f64::INFINITY);
        let high = if limit.inclusive || !elem.is_integer() || high.is_infinite() { high } else { high - 1.0 };
        Ok(Some((low, high)))
    }

    fn entry_param(&mut self, name: &str, ty: &Type, kind: ParamKind, range: Option<(f64, f64)>) -> Tensor {
        let base = &mut self.regions[0];
        let value = base.region.add_param(ty.clone());
        let region = base.id;
        if let Some(entry) = &mut self.entry {
            entry.params.push(Param { name: name.to_string(), ty: ty.clone(), kind, range });
        }
        Tensor {
            region,
            value,
            elem: ty.elem,
            leads: Vec::new(),
            shape: ty.shape.to_vec(),
            state: None,
            literal: false,
        }
    }

    fn known(&self, key: &str) -> Option<Val<'a>> {
        self.entry.as_ref()?.known.get(key).cloned()
    }

    fn remember(&mut self, key: String, value: &Val<'a>) {
        if let Some(entry) = &mut self.entry {
            entry.known.insert(key, value.clone());
        }
    }

    /// The index of the step on the entry's time axis.
    pub(super) fn position(&mut self, span: Span) -> R<Val<'a>> {
        if let Some(value) = self.known("position") {
            return Ok(value);
        }
        if self.entry.is_none() {
            return self.fail(
                Diagnostic::error(Code::NotStatic, "`position` exists only in the step")
                    .at(span, "read before running"),
            );
        }
        let ty = Type::scalar(Elem::I32);
        let value = Val::tensor(self.entry_param("position", &ty, ParamKind::Position, None));
        self.remember("position".into(), &value);
        Ok(value)
    }

    /// A model-level `input` as this entry sees it.
    pub(super) fn input_value(&mut self, stmt: &'a ast::Stmt, index: usize) -> R<Val<'a>> {
        let StmtKind::Input { param, neutral } = &stmt.kind else {
            return Err(Reported);
        };
        let name = &param.names[index];
        let key = format!("input {}", name.as_str());
        if let Some(value) = self.known(&key) {
            return Ok(value);
        }
        if self.entry.is_none() {
            return self.fail(
                Diagnostic::error(
                    Code::NotStatic,
                    format!("`{}` is an input: it is known only in the step", name.as_str()),
                )
                .at(name.span, "declared here"),
            );
        }
        let ty = self.fixed_type(&param.ty)?;
        let range = self.range_of(param.limit.as_ref(), ty.elem)?;
        let default = match (neutral, param.ty.optional) {
            (None, true) => None,
            (Some(expr), false) => {
                let value = self.eval(expr, Some(ty.elem))?;
                let neutral = self.neutral(&value, &ty, expr.span)?;
                if let Some((low, high)) = range
                    && let Some(value) = neutral.data.outside((low, high))
                {
                    return self.fail(
                        Diagnostic::error(Code::EntryForm, "a neutral value lies in the input's range")
                            .at(expr.span, format!("{value}, the input is in {low}..={high}")),
                    );
                }
                Some(neutral)
            }
            (None, false) => {
                return self.fail(
                    Diagnostic::error(Code::EntryForm, format!("input `{}` has no neutral value", name.as_str()))
                        .at(name.span, "declared here")
                        .help("write `= value`, or make it optional with `?`"),
                );
            }
            (Some(expr), true) => {
                return self.fail(
                    Diagnostic::error(Code::EntryForm, "an optional input has no neutral value").at(expr.span, ""),
                );
            }
        };
        let optional = default.is_none();
        let kind = ParamKind::Input { default };
        let tensor = self.entry_param(name.as_str(), &ty, kind, range);
        let value = if optional {
            let kind = ParamKind::Given { input: name.text.to_string() };
            let given_name = format!("given {}", name.as_str());
            let given = self.entry_param(&given_name, &Type::scalar(Elem::Bool), kind, None);
            let target = self.target.take();
            let value = self.optional(name.as_str(), name.span, tensor, given);
            self.target = target;
            value
        } else {
            Val::tensor(tensor)
        };
        self.remember(key, &value);
        Ok(value)
    }

    fn neutral(&mut self, value: &Val<'a>, ty: &Type, span: Span) -> R<Literal> {
        let literal = super::statics::literal(value, Some(ty.elem));
        match literal {
            Ok(literal) if literal.ty() == *ty => Ok(literal),
            Ok(literal) if literal.shape.is_empty() => {
                // One number stands for all elements.
                let shape = ty.constant_shape().unwrap_or_default();
                let n = shape.iter().product::<usize>();
                if n > self.limits.list {
                    return self.too_big(span, format!("{n} elements"));
                }
                let values = Val::list(vec![value.clone(); n]);
                match super::statics::literal(&values, Some(ty.elem)) {
                    Ok(literal) => Ok(Literal { shape, ..literal }),
                    Err(problem) => self.problem(problem, span),
                }
            }
            Ok(literal) => {
                let other = literal.ty();
                self.fail(Diagnostic::error(Code::EntryForm, "a neutral value has the input's type").at(
                    span,
                    format!("{}, the input is {}", show_type(other.elem, &other.shape), show_type(ty.elem, &ty.shape)),
                ))
            }
            Err(problem) => self.problem(problem, span),
        }
    }

    /// `step.y`: an output of the entry around this one.
    pub(super) fn outer_output(&mut self, index: usize, member: &'a ast::Name) -> R<Val<'a>> {
        let key = format!("outer {}", member.as_str());
        if let Some(value) = self.known(&key) {
            return Ok(value);
        }
        let within = self.entry.as_ref().and_then(|e| e.within);
        let outputs = &self.module.entries[index].outputs;
        let found = outputs.iter().find(|o| o.name == member.as_str());
        let Some(output) = found.filter(|_| within == Some(index)) else {
            let known: Vec<String> = outputs.iter().map(|o| o.name.clone()).collect();
            return self.no_member(member, &known);
        };
        let ty = output.ty.clone();
        let kind = ParamKind::Outer { output: member.text.to_string() };
        let value = Val::tensor(self.entry_param(member.as_str(), &ty, kind, None));
        self.remember(key, &value);
        Ok(value)
    }

    /// `output name = expr`.
    pub(super) fn output(&mut self, name: &'a ast::Name, value: Option<&'a ast::Expr>, span: Span) -> R<()> {
        let frame = self.frame();
        if self.entry.is_none() || frame.block.is_some() || frame.depth > 0 {
            return self.fail(
                Diagnostic::error(Code::EntryForm, "an output stands in an entry, outside of branches of the step")
                    .at(span, "here"),
            );
        }
        let tensor = self.named_value(name, value)?;
        let (tensor, ty) = {
            let shape = tensor.shape.clone();
            let full = self.expand(&tensor, &[], &shape, span)?;
            let ty = Type::new(full.elem, shape);
            (full, ty)
        };
        if ty.grows() {
            return self.fail(
                Diagnostic::error(Code::EntryForm, "an output has axes of known length")
                    .at(span, show_type(ty.elem, &ty.shape)),
            );
        }
        // Logits are read as an array by the runtime: [V] or [P, V].
        if name.as_str() == "logits" && (ty.elem != Elem::F32 || !matches!(ty.rank(), 1 | 2)) {
            return self.fail(
                Diagnostic::error(Code::EntryForm, "logits are f32[V] or f32[P, V]")
                    .at(span, show_type(ty.elem, &ty.shape)),
            );
        }
        let declare = self.frame().find(name.as_str()).is_none();
        let Some(entry) = &mut self.entry else {
            return Err(Reported);
        };
        if entry.outputs.iter().any(|o| o.name == name.as_str()) {
            return self.fail(
                Diagnostic::error(Code::DuplicateName, format!("output `{}` is given twice", name.as_str()))
                    .at(name.span, "given again"),
            );
        }
        entry.outputs.push(OutputDecl { name: name.text.to_string(), ty });
        entry.results.push(tensor.value);
        if declare {
            self.declare(name.text.clone(), Val::tensor(tensor), Kind::Local, name.span, span);
        }
        Ok(())
    }

    fn named_value(&mut self, name: &'a ast::Name, value: Option<&'a ast::Expr>) -> R<Tensor> {
        let (value, span) = match value {
            Some(expr) => (self.eval(expr, None)?, expr.span),
            None => (self.lookup(name.as_str(), name.span)?, name.span),
        };
        let hint = known_elem(&value);
        self.tensor_of(&value, hint, span)
    }

    /// `probe name = expr`.
    pub(super) fn probe(&mut self, name: &'a ast::Name, value: Option<&'a ast::Expr>, span: Span) -> R<()> {
        let tensor = self.named_value(name, value)?;
        let leads = self.frame().leads.clone();
        let shape: Vec<Dim> = tensor.shape.clone();
        let tensor = self.expand(&tensor, &leads, &shape, span)?;
        let path = match &*self.frame().path {
            "" => name.text.to_string(),
            path => format!("{path}.{}", name.as_str()),
        };
        self.emit(Op::Probe { path }, &[tensor.value], Vec::new(), span)?;
        if self.frame().find(name.as_str()).is_none() {
            let value = Val::tensor(tensor);
            self.declare(name.text.clone(), value, Kind::Local, name.span, span);
        }
        Ok(())
    }
}
