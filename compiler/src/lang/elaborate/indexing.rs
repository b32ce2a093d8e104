//! `x[i]`: static arguments of a block, elements of lists, rows of tensors and weights, parts of an array.

use std::rc::Rc;

use super::Elaborator;
use super::build::union;
use super::statics;
use super::value::{Bound, R, Reported, Tensor, Val, show_type};
use crate::diagnostics::{Code, Diagnostic, Span, nearest};
use crate::ir::{Dim, Elem, Op};
use crate::lang::ast::{Arg, Domain, StaticKind};

impl<'a> Elaborator<'a> {
    /// A value behind which brackets stand.
    pub(super) fn index(&mut self, base: Val<'a>, args: &'a [Arg], brackets: Span, span: Span) -> R<Val<'a>> {
        if let Val::Block(bound) = &base {
            return self.bind_statics(bound, args, brackets);
        }
        let [arg] = args else {
            return self.fail(
                Diagnostic::error(Code::ArgumentCount, "one index picks along axis 0")
                    .at(brackets, format!("{} indices", args.len()))
                    .help("index again for the next axis: `x[i][j]`"),
            );
        };
        if let Some(name) = &arg.name {
            return self.fail(
                Diagnostic::error(Code::UnknownArgument, "an index has no name")
                    .at(name.span, "")
                    .help("a slice is written with two dots: `x[a..b]`"),
            );
        }
        match &arg.value {
            Domain::Range { start, end, inclusive, span: range } => {
                let low = self.eval(start, None)?;
                let low = self.as_place(&low, start.span)?;
                let high = self.eval(end, None)?;
                let high = self.as_place(&high, end.span)? + usize::from(*inclusive);
                self.sliced(&base, low, high, *range, span)
            }
            Domain::Value(expr) => {
                let index = self.eval(expr, None)?;
                self.picked(base, &index, expr.span, span)
            }
        }
    }

    fn sliced(&mut self, base: &Val<'a>, low: usize, high: usize, range: Span, span: Span) -> R<Val<'a>> {
        if let Val::List(values) = base {
            self.count_evaluations(high.saturating_sub(low), span)?;
            return match values.get(low..high) {
                Some(part) => Ok(Val::list(part.to_vec())),
                None => self.out_of_range(range, values.len()),
            };
        }
        let tensor = self.tensor_of(base, None, span)?;
        let length = match tensor.shape.first() {
            Some(Dim::Const(n)) => *n,
            _ => {
                return self.fail_here(
                    Diagnostic::error(Code::ShapeMismatch, "only an axis of known length is sliced")
                        .at(span, show_type(tensor.elem, &tensor.shape)),
                );
            }
        };
        if low > high || high > length {
            return self.out_of_range(range, length);
        }
        self.slice(&tensor, 0, low, high - low, span).map(Val::tensor)
    }

    /// A static index, which counts from 0.
    fn as_place(&mut self, index: &Val<'a>, span: Span) -> R<usize> {
        match index {
            Val::Int(n) if *n < 0 => self.fail(
                Diagnostic::error(Code::StaticValue, format!("{n} is no index: places count from 0"))
                    .at(span, "")
                    .help(format!("with n places, `n - {}` counts from the end", n.unsigned_abs())),
            ),
            other => self.as_size(other, span),
        }
    }

    fn out_of_range<T>(&mut self, span: Span, length: usize) -> R<T> {
        self.fail(
            Diagnostic::error(Code::Arithmetic, "an index outside the axis")
                .at(span, format!("the axis has {length} places")),
        )
    }

    fn picked(&mut self, base: Val<'a>, index: &Val<'a>, index_span: Span, span: Span) -> R<Val<'a>> {
        match (&base, index) {
            (Val::Map(entries), Val::Text(_)) if self.count_evaluations(entries.len() / 4, index_span).is_err() => {
                return Err(Reported);
            }
            (Val::Map(entries), Val::Text(key)) => match entries.iter().find(|(k, _)| k == key) {
                Some((_, value)) => return Ok(value.clone()),
                None => {
                    let keys = entries.iter().map(|(k, _)| &**k);
                    let near = nearest(key, keys).map(|k| format!("nearest key: \"{k}\""));
                    return self.fail(
                        Diagnostic::error(Code::UnknownMember, format!("no key \"{key}\""))
                            .at(index_span, "not found")
                            .help_if(near),
                    );
                }
            },
            (Val::Parts(parts), _) if index.is_static() => {
                // Most arrays run over a range, where the place follows from the index.
                let place = match (parts.elements.first(), index) {
                    (Some((Val::Int(first), _)), Val::Int(n)) => usize::try_from(n.saturating_sub(*first)).ok(),
                    _ => None,
                };
                let there = place.and_then(|at| parts.elements.get(at)).filter(|(key, _)| key.same(index));
                if there.is_none() {
                    self.count_evaluations(parts.elements.len() / 4, index_span)?;
                }
                let found = there.or_else(|| parts.elements.iter().find(|(key, _)| key.same(index)));
                return match found {
                    Some((_, part)) => Ok(Val::Part(part.clone())),
                    None => {
                        let message = format!("`{}` has no part {}", parts.name, index.show());
                        let declared = parts.declared;
                        self.fail(
                            Diagnostic::error(Code::Arithmetic, message)
                                .at(index_span, "not in the array")
                                .and_at(declared, "declared here"),
                        )
                    }
                };
            }
            (Val::Parts(parts), _) => {
                let index = self.tensor_of(index, Some(Elem::I32), index_span)?;
                return Ok(Val::Chosen(parts.clone(), Rc::new(index)));
            }
            (Val::List(values), Val::Int(_)) => {
                let at = self.as_place(index, index_span)?;
                return match values.get(at) {
                    Some(value) => Ok(value.clone()),
                    None => self.out_of_range(index_span, values.len()),
                };
            }
            _ => {}
        }
        if let (true, Val::Int(n)) = (index.is_number(), index) {
            let at = self.as_place(&Val::Int(*n), index_span)?;
            let encoded = match &base {
                Val::Weight(id) => matches!(self.module.weight(*id).encoding.elem(), Elem::Ternary | Elem::Sign),
                _ => false,
            };
            if !encoded {
                let tensor = self.tensor_of(&base, None, span)?;
                return match tensor.shape.first() {
                    Some(Dim::Const(length)) if at < *length => self.pick(&tensor, at, span).map(Val::tensor),
                    Some(Dim::Const(length)) => {
                        let length = *length;
                        self.out_of_range(index_span, length)
                    }
                    _ => self.cannot_index(&tensor, span),
                };
            }
        }
        self.gather(&base, index, index_span, span).map(Val::tensor)
    }

    fn cannot_index<T>(&mut self, tensor: &Tensor, span: Span) -> R<T> {
        self.fail_here(
            Diagnostic::error(Code::ShapeMismatch, "an index needs an axis of known length, or an index of the step")
                .at(span, show_type(tensor.elem, &tensor.shape)),
        )
    }

    /// Rows of a table at indices of the step.
    fn gather(&mut self, base: &Val<'a>, index: &Val<'a>, index_span: Span, span: Span) -> R<Tensor> {
        let table = match base {
            Val::Weight(id) => self.weight_value(*id, span)?,
            other => self.tensor_of(other, None, span)?,
        };
        let index = self.tensor_of(index, Some(Elem::I32), index_span)?;
        if !matches!(index.elem, Elem::I32 | Elem::U32 | Elem::U8) {
            return self.wrong_element("[]", index.elem, index_span);
        }
        let Some((_, row)) = table.shape.split_first() else {
            return self.fail_here(
                Diagnostic::error(Code::ShapeMismatch, "a scalar has no rows")
                    .at(span, show_type(table.elem, &table.shape)),
            );
        };
        let mut shape = index.shape.clone();
        shape.extend(row.iter().copied());
        let elem = match table.elem {
            Elem::F16 | Elem::Bf16 | Elem::Ternary | Elem::Sign => Elem::F32,
            elem => elem,
        };
        if table.leads.is_empty() {
            let inputs = [self.local(&table), self.local(&index)];
            let leads = index.leads.clone();
            return self.emit1(Op::Gather { batch: 0 }, &inputs, elem, &leads, &shape, span);
        }
        let leads = union([&table, &index].into_iter());
        let (own, at) = (table.shape.clone(), index.shape.clone());
        let table = self.expand(&table, &leads, &own, span)?;
        let index = self.expand(&index, &leads, &at, span)?;
        let batch = self.lead_axes(&leads);
        self.emit1(Op::Gather { batch }, &[table.value, index.value], elem, &leads, &shape, span)
    }

    /// A block with static arguments: `linear[m, n]`, `rope[base: 1e4]`.
    fn bind_statics(&mut self, bound: &Rc<Bound<'a>>, args: &'a [Arg], brackets: Span) -> R<Val<'a>> {
        let block = bound.block;
        let mut values = bound.statics.clone();
        let mut next = 0;
        for arg in args {
            let at = match &arg.name {
                Some(name) => block.statics.iter().position(|s| s.name.text == name.text),
                None => {
                    while next < values.len() && values[next].is_some() {
                        next += 1;
                    }
                    (next < values.len()).then_some(next)
                }
            };
            let Some(at) = at else {
                let (code, title, span) = match &arg.name {
                    Some(name) => (
                        Code::UnknownArgument,
                        format!("`{}` has no static parameter `{}`", block.name.as_str(), name.as_str()),
                        name.span,
                    ),
                    None => (
                        Code::ArgumentCount,
                        format!("`{}` has {} static parameters", block.name.as_str(), block.statics.len()),
                        brackets,
                    ),
                };
                return self.fail(Diagnostic::error(code, title).at(span, "").and_at(block.header, "declared here"));
            };
            if values[at].is_some() {
                return self.fail(
                    Diagnostic::error(
                        Code::UnknownArgument,
                        format!("`{}` is given twice", block.statics[at].name.as_str()),
                    )
                    .at(arg.span, "given again"),
                );
            }
            let Some(expr) = arg.value.as_value() else {
                return self
                    .fail(Diagnostic::error(Code::StaticValue, "a range is no static argument").at(arg.span, ""));
            };
            let value = self.eval(expr, None)?;
            let kind = block.statics[at].kind;
            values[at] = Some(self.static_argument(value, kind, expr.span)?);
        }
        Ok(Val::Block(Rc::new(Bound { block, home: bound.home, statics: values })))
    }

    /// A value as a static parameter of this kind holds it.
    pub(super) fn static_argument(&mut self, value: Val<'a>, kind: StaticKind, span: Span) -> R<Val<'a>> {
        let (fits, expected) = match kind {
            StaticKind::Int => (matches!(value, Val::Int(_) | Val::Grow(_)), "an integer"),
            StaticKind::Float => (value.as_f64().is_some(), "a number"),
            StaticKind::Bool => (matches!(value, Val::Bool(_)), "true or false"),
            StaticKind::String => (matches!(value, Val::Text(_)), "a text"),
            StaticKind::List => (matches!(value, Val::List(_)) && value.is_static(), "a list"),
            StaticKind::Encoding => (matches!(value, Val::Encoding(_) | Val::Elem(_)), "an encoding"),
            StaticKind::Axis => (matches!(value, Val::Axis(_) | Val::Int(_) | Val::Grow(_)), "an axis"),
            StaticKind::Part => (matches!(value, Val::Part(_)), "a part"),
        };
        if matches!(value, Val::Poison) {
            return Err(Reported);
        }
        if !fits {
            let code = if value.is_static() { Code::StaticValue } else { Code::NotStatic };
            return self.fail(
                Diagnostic::error(code, format!("{expected} known before running was expected"))
                    .at(span, format!("{} {}", value.kind(), value.show())),
            );
        }
        Ok(match (kind, value) {
            (StaticKind::Float, Val::Int(n)) => Val::Float(n as f64),
            (_, value) => value,
        })
    }

    /// The full shape of an argument as the text sees it, before it becomes a tensor.
    pub(super) fn shape_of(&mut self, value: &Val<'a>, span: Span) -> R<Vec<Dim>> {
        match value {
            Val::Tensor(tensor) => Ok(tensor.shape.clone()),
            Val::Optional(optional) => Ok(optional.value.shape.clone()),
            Val::Weight(id) => Ok(self.module.weight(*id).ty().shape.to_vec()),
            Val::List(values) if !value.is_static() => {
                let Some(first) = values.first() else {
                    return Ok(vec![Dim::Const(0)]);
                };
                let mut shape = vec![Dim::Const(values.len())];
                shape.extend(self.shape_of(first, span)?);
                Ok(shape)
            }
            Val::Poison => Err(Reported),
            other => match statics::shape(other) {
                Some(shape) => Ok(shape.into_iter().map(Dim::Const).collect()),
                None => self.fail(
                    Diagnostic::error(Code::ArgumentType, format!("{} is no tensor", other.kind()))
                        .at(span, other.show()),
                ),
            },
        }
    }
}
