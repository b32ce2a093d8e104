//! `experts[chosen](u)`: parts of an array chosen by an index vector of the step.

use std::rc::Rc;

use super::Elaborator;
use super::expressions::tuple;
use super::functions::Given;
use super::value::{PartArray, R, Reported, Tensor, Val, show_type};
use crate::diagnostics::Span;
use crate::diagnostics::{Code, Diagnostic};
use crate::ir::{Dim, Elem, Op, Type};
use crate::lang::ast::Arg;

impl<'a> Elaborator<'a> {
    /// `experts[chosen](u)`: the chosen parts run, their results are stacked in that order.
    pub(super) fn call_chosen(
        &mut self,
        parts: &Rc<PartArray<'a>>,
        index: &Tensor,
        args: &'a [Arg],
        span: Span,
    ) -> R<Val<'a>> {
        let Some((_, first)) = parts.elements.first() else {
            return self.fail(
                Diagnostic::error(Code::Arithmetic, format!("`{}` has no parts", parts.name)).at(span, "called here"),
            );
        };
        let given = self.block_args(&first.bound.clone(), args)?;
        let plain = index.leads.is_empty() && index.elem == Elem::I32;
        let (&[Dim::Const(places)], true) = (index.shape.as_slice(), plain) else {
            return self.fail_here(
                Diagnostic::error(Code::WrongStage, "parts are chosen by one i32 vector, outside of mapped calls")
                    .at(span, show_type(index.elem, &index.shape)),
            );
        };
        self.region_fits(span)?;
        let mut regions = Vec::new();
        let mut types: Vec<(Elem, Vec<Dim>)> = Vec::new();
        for (_, part) in &parts.elements {
            part.used.set(true);
            self.open_region(regions.last());
            let states = self.module.states.len();
            let args = given.iter().map(|g| Given { name: g.name, value: g.value.clone(), span: g.span }).collect();
            let result = self.invoke(&part.bound, Some(part.clone()), args, span, span);
            let result = match result {
                Ok(value) => value,
                Err(Reported) => {
                    self.close_region();
                    return Err(Reported);
                }
            };
            if self.module.states.len() > states {
                self.close_region();
                let state = self.module.states[states].path.clone();
                return self.fail(
                    Diagnostic::error(
                        Code::IndexedState,
                        format!("`{}` has state and cannot be chosen by a vector", parts.name),
                    )
                    .at(span, "chosen in the step")
                    .and_at(parts.declared, format!("its state is {state}")),
                );
            }
            let values = match &result {
                Val::Tuple(values) => values.to_vec(),
                single => vec![single.clone()],
            };
            let mut results = Vec::new();
            types.clear();
            for value in &values {
                let tensor = self.tensor_of(value, None, span)?;
                results.push(self.local(&tensor));
                types.push((tensor.elem, tensor.shape.clone()));
            }
            let mut builder = self.close_region();
            builder.region.set_results(results);
            regions.push(builder);
        }
        if let Some(last) = regions.pop() {
            for builder in &mut regions {
                builder.adopt_captures(&last);
            }
            regions.push(last);
        }
        let mut inputs = vec![self.local(index)];
        inputs.extend(regions.last().map_or(&[][..], |r| &r.captures));
        let stacked: Vec<(Elem, Vec<Dim>)> = types
            .into_iter()
            .map(|(elem, shape)| {
                let mut full = vec![Dim::Const(places)];
                full.extend(shape);
                (elem, full)
            })
            .collect();
        let op = Op::Experts { regions: regions.into_iter().map(|b| b.region).collect() };
        let types = stacked.iter().map(|(elem, shape)| Type::new(*elem, shape.clone())).collect();
        let results = self.emit(op, &inputs, types, span)?;
        let tensors = results
            .into_iter()
            .zip(stacked)
            .map(|(value, (elem, shape))| Val::tensor(self.wrap(value, elem, &[], &shape)))
            .collect();
        Ok(tuple(tensors))
    }
}
