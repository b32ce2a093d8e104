//! Statements in order, and branches: static ones are spliced in, those of the step become regions
//! (or, inside a mapped call whose indices differ, both sides and a selection).

use super::Elaborator;
use super::build::{Builder, known_elem, union};
use super::expressions::{Condition, literal_value};
use super::scope::{Kind, Scope};
use super::value::{R, Reported, Tensor, Val, show_type};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::{Elem, Op, Type};
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

/// A name that a branch may have changed.
struct Changed<'a> {
    scope: usize,
    name: std::sync::Arc<str>,
    before: Val<'a>,
    sides: [(Val<'a>, Span); 2],
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
            StmtKind::For {
                variable,
                domain,
                body,
            } => {
                for round in self.domain(domain, "for")? {
                    self.count_evaluation(stmt.span)?;
                    self.frame_mut().scopes.push(Scope::new());
                    let span = variable.span;
                    self.declare(variable.text.clone(), round, Kind::LoopVariable, span, span);
                    let flow = self.body(&body.stmts);
                    self.frame_mut().scopes.pop();
                    if let Flow::Return(values) = flow? {
                        return Ok(Flow::Return(values));
                    }
                }
            }
            StmtKind::Repeat {
                variable,
                domain,
                most,
                body,
            } => self.repeat(variable, domain, most.as_ref(), body, stmt.span)?,
            StmtKind::Exit { .. } => {
                return self.fail(
                    Diagnostic::error(
                        Code::Misplaced,
                        "`exit when` stands at the top level of a `repeat`",
                    )
                    .at(stmt.span, "elsewhere"),
                );
            }
            StmtKind::Return { values } => {
                if self.frame().depth > 0 {
                    return self.fail(
                        Diagnostic::error(
                            Code::WrongStage,
                            "`return` inside a branch or loop of the step",
                        )
                        .at(stmt.span, "known only in the step")
                        .help("assign a name in the branch and return it at the end"),
                    );
                }
                let hints: Vec<Option<Elem>> = match self.frame().block {
                    Some(block) => block
                        .results
                        .iter()
                        .map(|r| Elem::from_name(r.element.as_str()))
                        .collect(),
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
                return if failed {
                    Err(Reported)
                } else {
                    Ok(Flow::Return(out))
                };
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

    fn alternatives(
        &mut self,
        stmt: &'a Stmt,
    ) -> R<(Vec<Alternative<'a>>, Option<&'a Body>, bool)> {
        match &stmt.kind {
            StmtKind::If { arms, otherwise } => Ok((
                arms.iter()
                    .map(|arm| Alternative {
                        test: Test::Expr(&arm.condition),
                        body: &arm.body,
                    })
                    .collect(),
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
                    return Ok(Condition::Static(
                        literals
                            .iter()
                            .any(|l| value.same(&literal_value(&l.value))),
                    ));
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
                        Some(other) => {
                            self.binary_node(crate::ir::BinaryOp::Or, &other, &equal, *span)?
                        }
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
        self.fail_here(
            Diagnostic::error(Code::NoArm, "no arm of this `match` fits")
                .at(subject.span, value.show()),
        )
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
                        Diagnostic::error(
                            Code::NotStatic,
                            "a branch at model level is decided before running",
                        )
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

    /// `if c { a } else { b }` as a value, with c of the step.
    pub(super) fn dynamic_choice(
        &mut self,
        test: &Tensor,
        span: Span,
        hint: Option<Elem>,
        then: impl FnOnce(&mut Self) -> R<Val<'a>>,
        otherwise: impl FnOnce(&mut Self) -> R<Val<'a>>,
    ) -> R<Val<'a>> {
        let text = "the condition";
        let value = self.branches(
            test,
            span,
            text,
            hint,
            |this| then(this).map(Some),
            |this| otherwise(this).map(Some),
        )?;
        value.ok_or(Reported)
    }

    /// Both sides of a condition of the step: what they assign is merged, and their values, if any.
    pub(super) fn branches(
        &mut self,
        test: &Tensor,
        span: Span,
        text: &str,
        hint: Option<Elem>,
        then: impl FnOnce(&mut Self) -> R<Option<Val<'a>>>,
        otherwise: impl FnOnce(&mut Self) -> R<Option<Val<'a>>>,
    ) -> R<Option<Val<'a>>> {
        let mapped = !test.leads.is_empty();
        let before = self.frame().scopes.clone();
        let ran = self.ran.clone();
        let start = self.region().nodes().len();
        let (first, then_scopes, then_region) = self.side(mapped, None, then);
        self.frame_mut().scopes.clone_from(&before);
        let then_ran = std::mem::replace(&mut self.ran, ran);
        let (second, else_scopes, else_region) =
            self.side(mapped, then_region.as_ref(), otherwise);
        self.frame_mut().scopes.clone_from(&before);
        self.ran.extend(then_ran);
        let (first, second) = (first?, second?);

        let mut changed = Vec::new();
        for (i, scope) in before.iter().enumerate() {
            for (name, var) in scope {
                let (a, b) = (&then_scopes[i][name], &else_scopes[i][name]);
                if a.version != var.version || b.version != var.version {
                    changed.push(Changed {
                        scope: i,
                        name: name.clone(),
                        before: var.value.clone(),
                        sides: [
                            (a.value.clone(), a.assigned),
                            (b.value.clone(), b.assigned),
                        ],
                    });
                }
            }
        }
        if let (Some(a), Some(b)) = (first, second) {
            changed.push(Changed {
                scope: usize::MAX,
                name: "".into(),
                before: Val::Null,
                sides: [(a, span), (b, span)],
            });
        }
        let merged = match (then_region, else_region) {
            (Some(then), Some(otherwise)) => {
                self.merge(test, span, text, hint, &changed, then, otherwise)?
            }
            _ => self.select_sides(test, span, text, hint, &changed, start)?,
        };
        let mut value = None;
        for (change, merged) in changed.into_iter().zip(merged) {
            if change.scope == usize::MAX {
                value = Some(merged);
                continue;
            }
            let version = self.next_id();
            if let Some(var) = self.frame_mut().scopes[change.scope].get_mut(&change.name) {
                (var.value, var.version, var.assigned) = (merged, version, span);
            }
        }
        Ok(value)
    }

    /// Runs one side in a region of its own (or in place), and gives the names as they are after it.
    fn side(
        &mut self,
        mapped: bool,
        like: Option<&Builder>,
        work: impl FnOnce(&mut Self) -> R<Option<Val<'a>>>,
    ) -> (R<Option<Val<'a>>>, Vec<Scope<'a>>, Option<Builder>) {
        if !mapped {
            self.open_region(like);
        }
        let frame = self.frame_mut();
        frame.scopes.push(Scope::new());
        frame.depth += 1;
        let result = work(self);
        let frame = self.frame_mut();
        frame.depth -= 1;
        frame.scopes.pop();
        let scopes = frame.scopes.clone();
        let region = if mapped {
            None
        } else {
            Some(self.close_region())
        };
        (result, scopes, region)
    }

    fn side_tensor(&mut self, change: &Changed<'a>, at: usize, hint: Option<Elem>) -> R<Tensor> {
        let (value, span) = &change.sides[at];
        let other = &change.sides[1 - at].0;
        let elem = known_elem(value)
            .or_else(|| known_elem(other))
            .or_else(|| known_elem(&change.before))
            .or(hint)
            .or_else(|| {
                let float = |v: &Val<'_>| matches!(v, Val::Float(_));
                (float(value) || float(other)).then_some(Elem::F32)
            });
        self.to_tensor(value, elem, *span)
    }

    #[allow(clippy::too_many_arguments)]
    fn merge(
        &mut self,
        test: &Tensor,
        span: Span,
        text: &str,
        hint: Option<Elem>,
        changed: &[Changed<'a>],
        mut then: Builder,
        mut otherwise: Builder,
    ) -> R<Vec<Val<'a>>> {
        let fixed: Vec<bool> = changed.iter().map(same_static).collect();
        // Both regions take the same captures in the same order: each step that may add some to one
        // is followed by giving them to the other.
        then.adopt_captures(&otherwise);
        let mut firsts = Vec::new();
        then = self.inside(then, |this| {
            for (change, &fixed) in changed.iter().zip(&fixed) {
                if !fixed {
                    let tensor = this.side_tensor(change, 0, hint)?;
                    firsts.push(tensor);
                }
            }
            Ok(())
        })?;
        otherwise.adopt_captures(&then);
        let mut seconds = Vec::new();
        otherwise = self.inside(otherwise, |this| {
            for (change, &fixed) in changed.iter().zip(&fixed) {
                if !fixed {
                    let tensor = this.side_tensor(change, 1, hint)?;
                    seconds.push(tensor);
                }
            }
            Ok(())
        })?;
        then.adopt_captures(&otherwise);
        let moving = changed.iter().zip(&fixed).filter(|(_, f)| !**f);
        for ((change, _), (a, b)) in moving.clone().zip(firsts.iter().zip(&seconds)) {
            self.same_type(change, a, b, text)?;
        }
        let pairs: Vec<(Tensor, Tensor)> = firsts.into_iter().zip(seconds).collect();
        let leads: Vec<Vec<usize>> = pairs
            .iter()
            .map(|(a, b)| union([a, b].into_iter()))
            .collect();
        let mut results = Vec::new();
        then = self.inside(then, |this| {
            for ((a, _), leads) in pairs.iter().zip(&leads) {
                let full = this.expand(a, leads, &a.shape, span)?;
                results.push(full.value);
            }
            Ok(())
        })?;
        then.region.set_results(std::mem::take(&mut results));
        otherwise.adopt_captures(&then);
        otherwise = self.inside(otherwise, |this| {
            for ((_, b), leads) in pairs.iter().zip(&leads) {
                let full = this.expand(b, leads, &b.shape, span)?;
                results.push(full.value);
            }
            Ok(())
        })?;
        otherwise.region.set_results(results);
        then.adopt_captures(&otherwise);

        let empty = |b: &Builder| b.region.nodes().len() == 0;
        let mut merged = Vec::new();
        if !pairs.is_empty() || !empty(&then) || !empty(&otherwise) {
            let mut inputs = vec![self.local(test)];
            inputs.extend(&then.captures);
            let types = pairs
                .iter()
                .zip(&leads)
                .map(|((a, _), leads)| Type::new(a.elem, self.full(leads, &a.shape)))
                .collect();
            let op = Op::If {
                then: then.region,
                otherwise: otherwise.region,
            };
            let values = self.emit(op, &inputs, types, span)?;
            for ((value, (a, b)), leads) in values.into_iter().zip(&pairs).zip(&leads) {
                let mut tensor = self.wrap(value, a.elem, leads, &a.shape);
                if a.state == b.state {
                    tensor.state = a.state;
                }
                merged.push(Val::tensor(tensor));
            }
        }
        let mut merged = merged.into_iter();
        Ok(changed
            .iter()
            .zip(fixed)
            .map(|(change, fixed)| {
                if fixed {
                    change.sides[0].0.clone()
                } else {
                    merged.next().unwrap_or(Val::Poison)
                }
            })
            .collect())
    }

    /// Continues a region that was closed.
    pub(super) fn inside(
        &mut self,
        builder: Builder,
        work: impl FnOnce(&mut Self) -> R<()>,
    ) -> R<Builder> {
        self.regions.push(builder);
        let result = work(self);
        let builder = self.close_region();
        result.map(|()| builder)
    }

    fn same_type(&mut self, change: &Changed<'a>, a: &Tensor, b: &Tensor, text: &str) -> R<()> {
        if a.elem == b.elem && a.shape == b.shape {
            return Ok(());
        }
        let (was, is, span) = match &change.before {
            Val::Tensor(before) if before.elem == a.elem && before.shape == a.shape => {
                (a, b, change.sides[1].1)
            }
            _ => (b, a, change.sides[0].1),
        };
        let title = if change.name.is_empty() {
            format!(
                "the two sides are {} and {}",
                show_type(a.elem, &a.shape),
                show_type(b.elem, &b.shape)
            )
        } else {
            format!(
                "`{}` is {} before this `if` and {} after it",
                change.name,
                show_type(was.elem, &was.shape),
                show_type(is.elem, &is.shape)
            )
        };
        let label = if change.name.is_empty() {
            String::new()
        } else {
            format!("assigned {} here", show_type(is.elem, &is.shape))
        };
        let known = if text == "the condition" {
            text.to_string()
        } else {
            format!("`{text}`")
        };
        self.fail_here(Diagnostic::error(Code::BranchType, title).at(span, label).note(
            format!("{known} is known only in the step, so both outcomes must have one type"),
        ))
    }

    /// Both sides were computed in place, since the condition differs per mapped index.
    fn select_sides(
        &mut self,
        test: &Tensor,
        span: Span,
        text: &str,
        hint: Option<Elem>,
        changed: &[Changed<'a>],
        start: usize,
    ) -> R<Vec<Val<'a>>> {
        let region = self.region();
        let effect = region.nodes().skip(start).any(|n| has_effect(&region.node(n).op));
        if effect {
            return self.fail_here(
                Diagnostic::error(
                    Code::WrongStage,
                    "a branch with states, probes, checks or host calls cannot differ per mapped index",
                )
                .at(span, "the condition has the axes of a mapped call")
                .help("compute both sides and choose with `select`"),
            );
        }
        let mut merged = Vec::new();
        for change in changed {
            if same_static(change) {
                merged.push(change.sides[0].0.clone());
                continue;
            }
            let a = self.side_tensor(change, 0, hint)?;
            let b = self.side_tensor(change, 1, hint)?;
            self.same_type(change, &a, &b, text)?;
            let chosen = self.select_tensor(test, &a, &b, span)?;
            merged.push(Val::tensor(chosen));
        }
        Ok(merged)
    }
}

/// Whether both sides left the same static value.
fn same_static(change: &Changed<'_>) -> bool {
    let [(a, _), (b, _)] = &change.sides;
    (a.is_static() && b.is_static() && a.same(b)) || matches!(a, Val::Poison)
}

/// Whether running an operation is more than computing its results.
fn has_effect(op: &Op) -> bool {
    match op {
        Op::StateWrite(_) | Op::Push { .. } | Op::Host(_) | Op::Check { .. } | Op::Probe { .. } => {
            true
        }
        _ => crate::ir::Region::nested(op)
            .iter()
            .any(|region| region.nodes().any(|n| has_effect(&region.node(n).op))),
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
