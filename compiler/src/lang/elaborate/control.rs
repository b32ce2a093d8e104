//! Statements in order, and branches: static ones are spliced in, those of the step become regions
//! (or, inside a mapped call whose indices differ, both sides and a selection).

use super::Elaborator;
use super::expressions::{Condition, literal_value};
use super::scope::{Kind, Scope};
use super::value::{R, Reported, Tensor, Val};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::{Elem, Op};
use crate::lang::ast::{self, Body, Expr, Pattern, Stmt, StmtKind};

/// How a body ends.
pub(super) enum Flow<'a> {
    /// At its end.
    Next,
    /// At a `return`, with the values and where they stand.
    Return(Vec<(Val<'a>, Span)>),
}

/// One alternative of a conditional statement.
struct Alternative<'a> {
    test: Test<'a>,
    body: &'a Body,
}

enum Test<'a> {
    Expr(&'a Expr),
    /// The subject of a `match` with the values of an arm.
    Equals(Val<'a>, &'a [ast::Literal], Span),
}

impl<'a> Elaborator<'a> {
    /// Runs statements in order. After a mistake, the names it would have made are poison and the
    /// rest is still looked at.
    pub(super) fn body(&mut self, stmts: &'a [Stmt]) -> R<Flow<'a>> {
        let mut failed = false;
        for stmt in stmts {
            match self.statement(stmt) {
                Ok(Flow::Next) => {}
                Ok(returned) if !failed => return Ok(returned),
                Ok(_) => return Err(Reported),
                Err(Reported) => {
                    failed = true;
                    if matches!(stmt.kind, StmtKind::Return { .. }) {
                        return Err(Reported);
                    }
                    for name in made_names(stmt) {
                        self.poison(name, stmt.span);
                    }
                }
            }
        }
        if failed { Err(Reported) } else { Ok(Flow::Next) }
    }

    fn statement(&mut self, stmt: &'a Stmt) -> R<Flow<'a>> {
        match &stmt.kind {
            StmtKind::Part { .. } | StmtKind::Weight { .. } | StmtKind::State { .. } => {
                self.declaration(stmt)?;
            }
            StmtKind::Assign { names, values } => {
                let values = self.assigned_values(names, values, stmt.span)?;
                for (name, value) in names.iter().zip(values) {
                    self.assign(name, value, stmt.span);
                }
            }
            StmtKind::If { .. } | StmtKind::Match { .. } => return self.conditional(stmt),
            StmtKind::For { variable, domain, body } => {
                for round in self.domain(domain, "for")? {
                    self.count_evaluation(stmt.span)?;
                    self.frame_mut().scopes.push(Scope::default());
                    let span = variable.span;
                    self.declare(variable.text.clone(), round, Kind::LoopVariable, span, span);
                    let flow = self.body(&body.stmts);
                    self.frame_mut().scopes.pop();
                    if let Flow::Return(values) = flow? {
                        return Ok(Flow::Return(values));
                    }
                }
            }
            StmtKind::Repeat { variable, domain, most, body } => {
                self.repeat(variable, domain, most.as_ref(), body, stmt.span)?
            }
            StmtKind::Exit { .. } => {
                return self.fail(
                    Diagnostic::error(Code::Misplaced, "`exit when` stands at the top level of a `repeat`")
                        .at(stmt.span, "elsewhere"),
                );
            }
            StmtKind::Return { values } => {
                if self.frame().depth > 0 {
                    return self.fail(
                        Diagnostic::error(Code::WrongStage, "`return` inside a branch or loop of the step")
                            .at(stmt.span, "known only in the step")
                            .help("assign a name in the branch and return it at the end"),
                    );
                }
                let hints: Vec<Option<Elem>> = match self.frame().block {
                    Some(block) => block.results.iter().map(|r| Elem::from_name(r.element.as_str())).collect(),
                    None => Vec::new(),
                };
                let mut out = Vec::new();
                let mut failed = false;
                for (i, value) in values.iter().enumerate() {
                    match self.eval(value, hints.get(i).copied().flatten()) {
                        Ok(Val::Tuple(inner)) if values.len() == 1 => {
                            out.extend(inner.iter().map(|v| (v.clone(), value.span)));
                        }
                        Ok(evaluated) => out.push((evaluated, value.span)),
                        Err(Reported) => failed = true,
                    }
                }
                return if failed { Err(Reported) } else { Ok(Flow::Return(out)) };
            }
            StmtKind::Output { name, value } => self.output(name, value.as_ref(), stmt.span)?,
            StmtKind::Probe { name, value } => self.probe(name, value.as_ref(), stmt.span)?,
            StmtKind::Check { .. } => self.step_check(stmt)?,
            StmtKind::Input { .. } | StmtKind::Host { .. } | StmtKind::Entry(_) => {
                return self.fail(
                    Diagnostic::error(Code::Misplaced, "this statement belongs to model level")
                        .at(stmt.keyword, "inside a block or entry"),
                );
            }
        }
        Ok(Flow::Next)
    }

    fn alternatives(&mut self, stmt: &'a Stmt) -> R<(Vec<Alternative<'a>>, Option<&'a Body>, bool)> {
        match &stmt.kind {
            StmtKind::If { arms, otherwise } => Ok((
                arms.iter().map(|arm| Alternative { test: Test::Expr(&arm.condition), body: &arm.body }).collect(),
                otherwise.as_ref(),
                false,
            )),
            StmtKind::Match { subject, arms } => {
                let value = self.eval(subject, None)?;
                let mut out = Vec::new();
                let mut otherwise = None;
                for arm in arms {
                    match &arm.pattern {
                        Pattern::Values(literals) => out.push(Alternative {
                            test: Test::Equals(value.clone(), literals, subject.span),
                            body: &arm.body,
                        }),
                        Pattern::Otherwise(_) => {
                            otherwise = Some(&arm.body);
                            break;
                        }
                    }
                }
                Ok((out, otherwise, true))
            }
            _ => Err(Reported),
        }
    }

    fn test(&mut self, test: &Test<'a>) -> R<Condition> {
        match test {
            Test::Expr(expr) => self.condition(expr),
            Test::Equals(value, literals, span) => {
                if value.is_static() {
                    return Ok(Condition::Static(literals.iter().any(|l| value.same(&literal_value(&l.value)))));
                }
                let mut any: Option<Tensor> = None;
                for literal in *literals {
                    let wanted = literal_value(&literal.value);
                    let (x, y) = self.elementwise("==", value, &wanted, *span, None)?;
                    if !x.shape.is_empty() {
                        return self.wrong_element("match", x.elem, *span);
                    }
                    let inputs = [x.value, y.value];
                    let leads = x.leads.clone();
                    let op = Op::Compare(crate::ir::CompareOp::Eq);
                    let equal = self.emit1(op, &inputs, Elem::Bool, &leads, &[], *span)?;
                    any = Some(match any {
                        Some(other) => self.binary_node(crate::ir::BinaryOp::Or, &other, &equal, *span)?,
                        None => equal,
                    });
                }
                any.map(Condition::Step).ok_or(Reported)
            }
        }
    }

    fn conditional(&mut self, stmt: &'a Stmt) -> R<Flow<'a>> {
        let (alternatives, otherwise, must_match) = self.alternatives(stmt)?;
        self.chain_of(&alternatives, otherwise, must_match, stmt)
    }

    fn chain_of(
        &mut self,
        alternatives: &[Alternative<'a>],
        otherwise: Option<&'a Body>,
        must_match: bool,
        stmt: &'a Stmt,
    ) -> R<Flow<'a>> {
        let Some((first, rest)) = alternatives.split_first() else {
            return match otherwise {
                Some(body) => self.body(&body.stmts),
                None if must_match && self.frame().depth == 0 => self.no_arm(stmt),
                None => Ok(Flow::Next),
            };
        };
        match self.test(&first.test)? {
            Condition::Static(true) => {
                let guards = self.test_guards(&first.test, true);
                let body = first.body;
                self.guarded(guards, |this| this.body(&body.stmts))
            }
            Condition::Static(false) => self.chain_of(rest, otherwise, must_match, stmt),
            Condition::Step(test) => {
                self.stepwise.insert(stmt.span);
                let yes = self.test_guards(&first.test, true);
                let no = self.test_guards(&first.test, false);
                let body = first.body;
                let text = match &first.test {
                    Test::Expr(expr) => self.files.slice(expr.span).to_string(),
                    Test::Equals(_, _, span) => self.files.slice(*span).to_string(),
                };
                self.branches(
                    &test,
                    stmt.span,
                    &text,
                    None,
                    |this| {
                        this.guarded(yes, |this| this.body(&body.stmts))?;
                        Ok(None)
                    },
                    |this| {
                        this.guarded(no, |this| this.chain_of(rest, otherwise, false, stmt))?;
                        Ok(None)
                    },
                )?;
                Ok(Flow::Next)
            }
        }
    }

    fn test_guards(&mut self, test: &Test<'a>, holds: bool) -> Vec<usize> {
        match test {
            Test::Expr(expr) => self.guards_of(expr, holds),
            Test::Equals(..) => Vec::new(),
        }
    }

    fn no_arm<T>(&mut self, stmt: &'a Stmt) -> R<T> {
        let StmtKind::Match { subject, .. } = &stmt.kind else {
            return Err(Reported);
        };
        let value = self.eval(subject, None)?;
        self.fail_here(Diagnostic::error(Code::NoArm, "no arm of this `match` fits").at(subject.span, value.show()))
    }

    /// The body that a model-level `if` or `match` takes.
    pub(super) fn static_branch(&mut self, stmt: &'a Stmt) -> R<Option<&'a Body>> {
        let (alternatives, otherwise, must_match) = self.alternatives(stmt)?;
        for alternative in &alternatives {
            match self.test(&alternative.test)? {
                Condition::Static(true) => return Ok(Some(alternative.body)),
                Condition::Static(false) => {}
                Condition::Step(_) => {
                    return self.fail(
                        Diagnostic::error(Code::NotStatic, "a branch at model level is decided before running")
                            .at(stmt.keyword, "varies per step"),
                    );
                }
            }
        }
        if otherwise.is_none() && must_match {
            return self.no_arm(stmt);
        }
        Ok(otherwise)
    }
}

/// The names that a statement makes or assigns, those of nested bodies included.
pub(super) fn made_names(stmt: &Stmt) -> Vec<&ast::Name> {
    let mut names = Vec::new();
    collect_names(stmt, &mut names);
    names
}

fn collect_names<'s>(stmt: &'s Stmt, names: &mut Vec<&'s ast::Name>) {
    match &stmt.kind {
        StmtKind::Assign { names: own, .. }
        | StmtKind::Weight { names: own, .. }
        | StmtKind::State { names: own, .. } => names.extend(own),
        StmtKind::Part { names: own, .. } => names.extend(own.iter().map(|p| &p.name)),
        StmtKind::If { arms, otherwise } => {
            let bodies = arms.iter().map(|a| &a.body).chain(otherwise.iter());
            bodies.for_each(|b| b.stmts.iter().for_each(|s| collect_names(s, names)));
        }
        StmtKind::Match { arms, .. } => {
            for arm in arms {
                arm.body.stmts.iter().for_each(|s| collect_names(s, names));
            }
        }
        StmtKind::For { body, .. } | StmtKind::Repeat { body, .. } => {
            body.stmts.iter().for_each(|s| collect_names(s, names));
        }
        _ => {}
    }
}
