//! `repeat`: a loop of the step. Names of outside that the body assigns are carried; an `exit when`
//! puts what follows it into a branch, so that nothing after it happens in the last round.

use std::sync::Arc;

use indexmap::IndexSet;

use super::Elaborator;
use super::build::known_elem;
use super::expressions::Condition;
use super::scope::{Kind, Scope};
use super::value::{R, Reported, Tensor, Val, show_type};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::{BinaryOp, Elem, Op, Type};
use crate::lang::ast::{self, Body, Domain, Expr, Stmt, StmtKind};

struct Carried {
    scope: usize,
    name: Arc<str>,
    initial: Tensor,
    /// It was a static number, whose element the body may decide.
    number: bool,
    span: Span,
}

impl<'a> Elaborator<'a> {
    /// `repeat r in a..b max m { ... }`.
    pub(super) fn repeat(
        &mut self,
        variable: &'a ast::Name,
        domain: &'a Domain,
        most: Option<&'a Expr>,
        body: &'a Body,
        span: Span,
    ) -> R<()> {
        let Domain::Range { start, end, inclusive, .. } = domain else {
            return self.fail(
                Diagnostic::error(Code::WrongStage, "a `repeat` runs over a range")
                    .at(domain.span(), "a list is known before running: use `for`"),
            );
        };
        let first = self.eval(start, None)?;
        let first = self.as_int(&first, start.span)?;
        let first = self.small(first, start.span)?;
        let end_value = self.eval(end, Some(Elem::I32))?;
        let plus = i64::from(*inclusive);
        let bound = match most {
            Some(most) => {
                let value = self.eval(most, None)?;
                let value = self.as_int(&value, most.span)?;
                Some(self.small(value, most.span)?)
            }
            None => None,
        };
        let (count, max, elem) = match &end_value {
            Val::Int(n) => {
                let last = self.small(*n, end.span)?;
                let rounds = (last + plus - first).max(0);
                let count = self.int_constant(rounds as i32, span)?;
                (count, rounds, Elem::I32)
            }
            other => {
                let tensor = self.tensor_of(other, Some(Elem::I32), end.span)?;
                let plain = tensor.shape.is_empty() && tensor.leads.is_empty();
                if !plain || !matches!(tensor.elem, Elem::I32 | Elem::U32) {
                    return self.fail_here(
                        Diagnostic::error(
                            Code::WrongStage,
                            "the end of a `repeat` is one integer, the same for all mapped indices",
                        )
                        .at(end.span, show_type(tensor.elem, &tensor.shape)),
                    );
                }
                let Some(bound) = bound else {
                    return self.fail(
                        Diagnostic::error(Code::WrongStage, "this `repeat` has no bound")
                            .at(end.span, "varies per step")
                            .help("write `max n` behind the range"),
                    );
                };
                let elem = tensor.elem;
                let tensor = self.convert(&tensor, Elem::I32, end.span)?;
                let less = self.int_constant((first - plus) as i32, end.span)?;
                let count = self.binary_node(BinaryOp::Sub, &tensor, &less, end.span)?;
                (count, (bound + plus - first).max(0), elem)
            }
        };
        let max = match bound {
            Some(bound) => max.min((bound + plus - first).max(0)),
            None => max,
        };
        let rounds = self.repeats.iter().fold(max as usize, |n, &outer| n.saturating_mul(outer.max(1)));
        let most = self.limits.rounds;
        if rounds > most {
            return self.too_big(span, format!("{rounds} rounds, with those of the loops around it; at most {most}"));
        }
        self.region_fits(span)?;
        let carried = self.carried(body, span)?;
        self.run_loop(variable, body, span, first, max as usize, elem, &count, carried)
    }

    fn small(&mut self, n: i128, span: Span) -> R<i64> {
        match i32::try_from(n) {
            Ok(n) => Ok(i64::from(n)),
            Err(_) => self.too_big(span, format!("{n} rounds")),
        }
    }

    /// The names of the block that the body assigns, with what they hold before the loop.
    fn carried(&mut self, body: &'a Body, span: Span) -> R<Vec<Carried>> {
        let mut found: IndexSet<(usize, Arc<str>)> = IndexSet::new();
        for stmt in &body.stmts {
            for name in super::control::made_names(stmt) {
                let scopes = &self.frame().scopes;
                let at = scopes.iter().rposition(|s| s.contains_key(&name.text));
                if let Some(at) = at
                    && scopes[at][&name.text].kind != Kind::Fixed
                {
                    found.insert((at, name.text.clone()));
                }
            }
        }
        let mut carried = Vec::new();
        for (scope, name) in found {
            let var = self.frame().scopes[scope][&name].clone();
            if matches!(var.value, Val::Poison) {
                return Err(Reported);
            }
            let initial = self.tensor_of(&var.value, None, var.assigned)?;
            let leads = self.frame().leads.clone();
            let shape = initial.shape.clone();
            let initial = self.expand(&initial, &leads, &shape, span)?;
            carried.push(Carried { scope, name, initial, number: var.value.is_number(), span: var.assigned });
        }
        Ok(carried)
    }

    #[allow(clippy::too_many_arguments)]
    fn run_loop(
        &mut self,
        variable: &'a ast::Name,
        body: &'a Body,
        span: Span,
        first: i64,
        max: usize,
        elem: Elem,
        count: &Tensor,
        mut carried: Vec<Carried>,
    ) -> R<()> {
        let mark = self.frame_mut().mark();
        self.open_region(None);
        let types: Vec<Type> =
            carried.iter().map(|c| Type::new(c.initial.elem, self.full(&c.initial.leads, &c.initial.shape))).collect();
        let builder = self.regions.last_mut().expect("a region is open");
        let round = builder.region.add_param(Type::scalar(Elem::I32));
        let params: Vec<_> = types.into_iter().map(|ty| builder.region.add_param(ty)).collect();
        let round = self.wrap(round, Elem::I32, &[], &[]);
        for (c, &param) in carried.iter().zip(&params) {
            let mut tensor = self.wrap(param, c.initial.elem, &c.initial.leads, &c.initial.shape);
            tensor.state = c.initial.state;
            let version = self.next_id();
            if let Some(var) = self.frame_mut().change(c.scope, &c.name) {
                (var.value, var.version) = (Val::tensor(tensor), version);
            }
        }
        self.repeats.push(max);
        self.frame_mut().scopes.push(Scope::default());
        self.frame_mut().depth += 1;
        let result = self.round(variable, &round, elem, body, span, &carried, &params);
        self.frame_mut().depth -= 1;
        self.frame_mut().set_back(mark);
        self.repeats.pop();
        let mut builder = self.close_region();
        let (results, decided) = result?;
        builder.region.set_results(results);
        for (at, elem) in decided {
            let c = &mut carried[at];
            let ty = builder.region.ty(params[at]).with_elem(elem);
            builder.region.set_type(params[at], ty);
            // The element that the body gave it: the number before the loop becomes one of those.
            let number = self.frame().scopes[c.scope][&c.name].value.clone();
            let leads = c.initial.leads.clone();
            let initial = self.tensor_of(&number, Some(elem), c.span)?;
            c.initial = self.expand(&initial, &leads, &[], c.span)?;
        }
        let mut inputs = vec![self.local(count)];
        for c in &carried {
            inputs.push(self.local(&c.initial));
        }
        inputs.extend(&builder.captures);
        let types =
            carried.iter().map(|c| Type::new(c.initial.elem, self.full(&c.initial.leads, &c.initial.shape))).collect();
        let op = Op::Repeat { first, max, carried: carried.len(), body: Arc::new(builder.region) };
        let values = self.emit(op, &inputs, types, span)?;
        for (c, value) in carried.iter().zip(values) {
            let mut tensor = self.wrap(value, c.initial.elem, &c.initial.leads, &c.initial.shape);
            tensor.state = c.initial.state;
            let version = self.next_id();
            if let Some(var) = self.frame_mut().change(c.scope, &c.name) {
                (var.value, var.version, var.assigned) = (Val::tensor(tensor), version, span);
            }
        }
        Ok(())
    }

    /// The results of one round, and the elements that the body decided for numbers.
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    fn round(
        &mut self,
        variable: &'a ast::Name,
        round: &Tensor,
        elem: Elem,
        body: &'a Body,
        span: Span,
        carried: &[Carried],
        params: &[crate::ir::Value],
    ) -> R<(Vec<crate::ir::Value>, Vec<(usize, Elem)>)> {
        let r = self.convert(round, elem, variable.span)?;
        let value = Val::tensor(r);
        self.declare(variable.text.clone(), value, Kind::LoopVariable, variable.span, variable.span);
        let exit = self.round_body(&body.stmts)?;
        let exit = self.tensor_of(&exit, Some(Elem::Bool), span)?;
        let mut results = vec![self.local(&exit)];
        let mut decided = Vec::new();
        for (i, c) in carried.iter().enumerate() {
            let var = self.frame().scopes[c.scope][&c.name].clone();
            let hint = known_elem(&var.value).unwrap_or(c.initial.elem);
            let tensor = self.tensor_of(&var.value, Some(hint), var.assigned)?;
            let shape = c.initial.shape.clone();
            let unread = !self.region().is_used(params[i]);
            if tensor.elem != c.initial.elem && c.number && unread && tensor.shape == shape {
                decided.push((i, tensor.elem));
            } else if tensor.elem != c.initial.elem || tensor.shape != shape {
                return self.fail_here(
                    Diagnostic::error(
                        Code::BranchType,
                        format!(
                            "`{}` is {} before this `repeat` and {} after a round",
                            c.name,
                            show_type(c.initial.elem, &shape),
                            show_type(tensor.elem, &tensor.shape)
                        ),
                    )
                    .at(var.assigned, format!("assigned {} here", show_type(tensor.elem, &tensor.shape)))
                    .and_at(c.span, "the value before")
                    .note_if(self.other_entries(&shape, &tensor.shape)),
                );
            }
            let leads = c.initial.leads.clone();
            let full = self.expand(&tensor, &leads, &shape, span)?;
            results.push(full.value);
        }
        Ok((results, decided))
    }

    /// The statements of a round; gives whether the loop ends after it.
    fn round_body(&mut self, stmts: &'a [Stmt]) -> R<Val<'a>> {
        let at = stmts.iter().position(|s| matches!(s.kind, StmtKind::Exit { .. }));
        let Some(at) = at else {
            self.body(stmts)?;
            return Ok(Val::Bool(false));
        };
        self.body(&stmts[..at])?;
        let StmtKind::Exit { condition } = &stmts[at].kind else {
            return Err(Reported);
        };
        let rest = &stmts[at + 1..];
        match self.condition(condition)? {
            Condition::Static(true) => Ok(Val::Bool(true)),
            Condition::Static(false) => self.round_body(rest),
            Condition::Step(test) if !test.leads.is_empty() => self.fail_here(
                Diagnostic::error(Code::WrongStage, "`exit when` cannot differ per mapped index")
                    .at(condition.span, "the condition has the axes of a mapped call"),
            ),
            Condition::Step(test) if rest.is_empty() => Ok(Val::tensor(test)),
            Condition::Step(test) => {
                let text = self.files.slice(condition.span).to_string();
                let exit = self.branches(
                    &test,
                    stmts[at].span,
                    &text,
                    Some(Elem::Bool),
                    |_| Ok(Some(Val::Bool(true))),
                    |this| this.round_body(rest).map(Some),
                )?;
                exit.ok_or(Reported)
            }
        }
    }
}
