//! Evaluating expressions: literals, names, operators, lists and choices. Calls, indexing and the
//! operations of the language have files of their own.

use std::rc::Rc;
use std::sync::Arc;

use super::Elaborator;
use super::functions::OPERATIONS;
use super::scope::Kind;
use super::value::{R, Reported, Tensor, Val};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::Elem;
use crate::lang::ast::{self, BinaryOp, Domain, Expr, ExprKind, UnaryOp};
use crate::lang::foreign;

/// The value of a literal of the text.
pub(super) fn literal_value<'a>(value: &ast::Value) -> Val<'a> {
    match value {
        ast::Value::Int(n) => Val::Int(*n),
        ast::Value::Float(x) => Val::Float(*x),
        ast::Value::Text(text) => Val::Text(text.clone()),
        ast::Value::Bool(b) => Val::Bool(*b),
        ast::Value::Inf => Val::Float(f64::INFINITY),
        ast::Value::Null => Val::Null,
    }
}

impl<'a> Elaborator<'a> {
    /// The value of an expression. `hint` is the element that a literal inside should take if
    /// nothing nearer says so.
    pub(super) fn eval(&mut self, expr: &'a Expr, hint: Option<Elem>) -> R<Val<'a>> {
        self.count_evaluation(expr.span)?;
        match &expr.kind {
            ExprKind::Literal(value) => Ok(literal_value(value)),
            ExprKind::Name(name) => self.lookup(name, expr.span),
            ExprKind::List(elements) => {
                let mut values = Vec::new();
                let mut failed = false;
                for element in elements {
                    match self.eval(element, hint) {
                        Ok(value) => values.push(value),
                        Err(Reported) => failed = true,
                    }
                }
                if failed {
                    return Err(Reported);
                }
                self.list(values, expr.span)
            }
            ExprKind::Comprehension { element, variable, domain } => {
                let rounds = self.domain(domain, "list")?;
                let mut values = Vec::new();
                for round in rounds {
                    self.frame_mut().scopes.push(Default::default());
                    let span = variable.span;
                    self.declare(variable.text.clone(), round, Kind::LoopVariable, span, span);
                    let value = self.eval(element, hint);
                    self.frame_mut().scopes.pop();
                    values.push(value?);
                }
                self.list(values, expr.span)
            }
            ExprKind::Unary { op, operand, op_span: _ } => {
                let value = self.eval(operand, hint)?;
                self.unary(*op, &value, expr.span)
            }
            ExprKind::Binary { op, left, right, .. } => self.binary(*op, left, right, expr.span, hint),
            ExprKind::Call { callee, args, .. } => self.call(callee, args, expr.span, hint),
            ExprKind::Index { base, args, brackets } => {
                let value = self.eval(base, hint)?;
                self.index(value, args, *brackets, expr.span)
            }
            ExprKind::Member { base, member } => {
                let value = self.eval(base, hint)?;
                self.member(&value, member)
            }
            ExprKind::If { arms, otherwise } => self.choice(arms, otherwise, expr.span, hint),
        }
    }

    /// A list, within the limits.
    pub(super) fn list(&mut self, values: Vec<Val<'a>>, span: Span) -> R<Val<'a>> {
        let list = Val::list(values);
        self.list_fits(&list, span)?;
        Ok(list)
    }

    /// Refuses lists that grow beyond the limits.
    pub(super) fn list_fits(&mut self, value: &Val<'a>, span: Span) -> R<()> {
        if let Val::List(list) = value {
            let (most, depth) = (self.limits.list, self.limits.nesting);
            if list.leaves > most {
                return self.too_big(span, format!("a list of more than {most} elements"));
            }
            if list.depth > depth {
                return self.too_big(span, format!("more than {depth} lists inside one another"));
            }
        }
        Ok(())
    }

    /// An integer known before running.
    pub(super) fn as_int(&mut self, value: &Val<'a>, span: Span) -> R<i128> {
        match value {
            Val::Int(n) => Ok(*n),
            Val::Float(x) if x.fract() == 0.0 && x.abs() < 1e18 => Ok(*x as i128),
            other => {
                let code = if other.is_static() { Code::StaticValue } else { Code::NotStatic };
                self.fail(
                    Diagnostic::error(code, "an integer known before running was expected")
                        .at(span, format!("{} {}", other.kind(), other.show())),
                )
            }
        }
    }

    /// A size or index known before running.
    pub(super) fn as_size(&mut self, value: &Val<'a>, span: Span) -> R<usize> {
        let n = self.as_int(value, span)?;
        let most = self.limits.elements as i128;
        match usize::try_from(n) {
            Ok(size) if n <= most => Ok(size),
            _ => self.fail(
                Diagnostic::error(Code::StaticValue, format!("{n} is no size"))
                    .at(span, format!("expected 0 to {most}")),
            ),
        }
    }

    /// The values that a `for`, a comprehension or a part array runs over.
    pub(super) fn domain(&mut self, domain: &'a Domain, of: &str) -> R<Vec<Val<'a>>> {
        match domain {
            Domain::Value(expr) => match self.eval(expr, None)? {
                Val::List(values) => {
                    if values.len() > self.limits.list {
                        return self.too_big(expr.span, format!("{} rounds", values.len()));
                    }
                    Ok(values.to_vec())
                }
                other => self.fail(
                    Diagnostic::error(Code::StaticValue, format!("a {of} runs over a range or list"))
                        .at(expr.span, other.kind()),
                ),
            },
            Domain::Range { start, end, inclusive, span } => {
                let low = self.static_bound(start, of)?;
                let high = self.static_bound(end, of)?;
                let high = if *inclusive { high.saturating_add(1) } else { high };
                if high.saturating_sub(low) > self.limits.list as i128 {
                    return self.too_big(*span, format!("{} rounds", high.saturating_sub(low)));
                }
                Ok((low..high).map(Val::Int).collect())
            }
        }
    }

    fn static_bound(&mut self, expr: &'a Expr, of: &str) -> R<i128> {
        let value = self.eval(expr, None)?;
        if !matches!(value, Val::Tensor(_) | Val::Optional(_) | Val::Weight(_)) {
            return self.as_int(&value, expr.span);
        }
        let text = self.files.slice(expr.span);
        let mut diagnostic = Diagnostic::error(
            Code::NotStatic,
            match self.dynamic_source(expr) {
                Some((name, what, _)) => {
                    format!("the bound of `{of}` must be known before running; `{name}` is {what}")
                }
                None => format!("the bound of `{of}` must be known before running"),
            },
        )
        .at(expr.span, "varies per step");
        if let Some((_, _, span)) = self.dynamic_source(expr) {
            diagnostic = diagnostic.and_at(span, "declared here");
        }
        if of == "for" {
            let most = self.bound_of(expr).unwrap_or("...");
            diagnostic = diagnostic.help(format!(
                "`repeat r in 1..={text} max {most} {{ ... }}` runs a number of times chosen in the step"
            ));
        }
        self.fail(diagnostic)
    }

    /// The upper bound that an input declares, as written.
    fn bound_of(&self, expr: &Expr) -> Option<&'a str> {
        let global = self.namespaces[0].globals.get(expr.as_name()?)?;
        let super::globals::Decl::Input(stmt, _) = global.decl else {
            return None;
        };
        let ast::StmtKind::Input { param, .. } = &stmt.kind else {
            return None;
        };
        let high = param.limit.as_ref()?.high.as_ref()?;
        Some(self.files.slice(high.span))
    }

    /// The first name of an expression that varies per step, what it is, and where it is declared.
    pub(super) fn dynamic_source(&self, expr: &Expr) -> Option<(String, &'static str, Span)> {
        super::unused::names_of(expr).into_iter().find_map(|name| {
            if let Some(var) = self.frame().find(&name) {
                let what = match var.kind {
                    Kind::Param => "a parameter",
                    Kind::State(_) => "a state",
                    _ => "a value of the step",
                };
                return (!var.value.is_static()).then_some((name.to_string(), what, var.declared));
            }
            let home = self.frame().home;
            let global = self.namespaces[home].globals.get(&name)?;
            matches!(global.decl, super::globals::Decl::Input(..)).then_some((
                name.to_string(),
                "an input",
                global.span,
            ))
        })
    }

    pub(super) fn problem<T>(&mut self, problem: String, span: Span) -> R<T> {
        self.fail(Diagnostic::error(Code::Arithmetic, problem).at(span, ""))
    }

    fn member(&mut self, value: &Val<'a>, member: &'a ast::Name) -> R<Val<'a>> {
        let known: Vec<String> = match value {
            Val::Object(node) => {
                if let Some(value) = self.config_key(*node, member.as_str(), member.span)? {
                    return Ok(value);
                }
                self.schema.nodes[*node].keys.keys().map(|k| k.to_string()).collect()
            }
            Val::Map(entries) => {
                self.count_evaluations(entries.len() / 4, member.span)?;
                if let Some((_, value)) = entries.iter().find(|(k, _)| **k == *member.text) {
                    return Ok(value.clone());
                }
                entries.iter().map(|(k, _)| k.to_string()).collect()
            }
            Val::Part(part) => return self.part_member(&part.clone(), member),
            Val::Entry(index) => return self.outer_output(*index, member),
            Val::Poison => return Err(Reported),
            other => {
                let guard = "an object that may be null is read where `... != null` holds";
                let help = matches!(other, Val::Null).then(|| guard.to_string());
                let called = || {
                    let operation = OPERATIONS.contains(&member.as_str());
                    operation.then(|| format!("operations are called with the value: `{}(x)`", member.as_str()))
                };
                let help = help.or_else(called).or_else(|| foreign::member(member.as_str()).map(str::to_string));
                return self.fail(
                    Diagnostic::error(Code::UnknownMember, format!("{} has no members", other.kind()))
                        .at(member.span, "")
                        .help_if(help),
                );
            }
        };
        self.no_member(member, &known)
    }

    /// A member that does not exist.
    pub(super) fn no_member<T>(&mut self, member: &ast::Name, known: &[String]) -> R<T> {
        let near = crate::diagnostics::nearest(member.as_str(), known.iter().map(String::as_str));
        let help = near.map(|near| format!("nearest name: `{near}`"));
        self.fail(
            Diagnostic::error(Code::UnknownMember, format!("no member `{}`", member.as_str()))
                .at(member.span, "not found")
                .help_if(help),
        )
    }

    /// A condition: static, or a scalar of the step.
    pub(super) fn condition(&mut self, expr: &'a Expr) -> R<Condition> {
        let value = self.eval(expr, Some(Elem::Bool))?;
        match value {
            Val::Bool(b) => Ok(Condition::Static(b)),
            Val::Tensor(tensor) if tensor.elem == Elem::Bool && tensor.shape.is_empty() => {
                Ok(Condition::Step((*tensor).clone()))
            }
            Val::Poison => Err(Reported),
            other => {
                let code = if other.is_static() { Code::StaticValue } else { Code::ElementType };
                self.fail(
                    Diagnostic::error(code, "a condition is one bool")
                        .at(expr.span, format!("{} {}", other.kind(), other.show())),
                )
            }
        }
    }

    /// The optional values that a condition proves to be given when it holds (or does not).
    pub(super) fn guards_of(&mut self, expr: &'a Expr, holds: bool) -> Vec<usize> {
        match &expr.kind {
            ExprKind::Binary { op, left, right, .. }
                if (*op == BinaryOp::And) == holds && matches!(op, BinaryOp::And | BinaryOp::Or) =>
            {
                let mut all = self.guards_of(left, holds);
                all.extend(self.guards_of(right, holds));
                all
            }
            ExprKind::Unary { op: UnaryOp::Not, operand, .. } => self.guards_of(operand, !holds),
            ExprKind::Call { callee, args, .. } if holds && callee.as_name() == Some("given") => {
                let name = args.first().and_then(|a| a.value.as_value());
                match name.and_then(|e| Some((e.as_name()?, e.span))) {
                    Some((name, span)) => match self.lookup(name, span) {
                        Ok(Val::Optional(optional)) => vec![optional.id],
                        _ => Vec::new(),
                    },
                    None => Vec::new(),
                }
            }
            _ => Vec::new(),
        }
    }

    fn choice(&mut self, arms: &'a [(Expr, Expr)], otherwise: &'a Expr, span: Span, hint: Option<Elem>) -> R<Val<'a>> {
        let Some(((condition, value), rest)) = arms.split_first() else {
            return self.eval(otherwise, hint);
        };
        match self.condition(condition)? {
            Condition::Static(true) => {
                let guards = self.guards_of(condition, true);
                self.guarded(guards, |this| this.eval(value, hint))
            }
            Condition::Static(false) => self.choice(rest, otherwise, span, hint),
            Condition::Step(test) => {
                let yes = self.guards_of(condition, true);
                let no = self.guards_of(condition, false);
                self.dynamic_choice(
                    &test,
                    span,
                    hint,
                    |this| {
                        this.guarded(yes, |this| {
                            let value = this.eval(value, hint)?;
                            Ok(this.present_value(value))
                        })
                    },
                    |this| {
                        this.guarded(no, |this| {
                            let value = this.choice(rest, otherwise, span, hint)?;
                            Ok(this.present_value(value))
                        })
                    },
                )
            }
        }
    }

    /// An optional value that is known to be given, as an ordinary one: its guard ends with its branch.
    fn present_value(&self, value: Val<'a>) -> Val<'a> {
        match &value {
            Val::Optional(optional) if self.guards.contains(&optional.id) => Val::tensor(optional.value.clone()),
            _ => value,
        }
    }

    /// Evaluates while these optional values are known to be given.
    pub(super) fn guarded<T>(&mut self, guards: Vec<usize>, work: impl FnOnce(&mut Self) -> R<T>) -> R<T> {
        let open = self.guards.len();
        self.guards.extend(guards);
        let result = work(self);
        self.guards.truncate(open);
        result
    }

    /// A message or path with its expressions filled in.
    pub(super) fn fill(&mut self, template: &'a ast::Template) -> R<String> {
        let mut out = String::new();
        for piece in &template.pieces {
            match piece {
                ast::Piece::Text(text) => out.push_str(text),
                ast::Piece::Expr(expr) => {
                    let value = self.eval(expr, None)?;
                    if !value.is_static() {
                        return self.fail(
                            Diagnostic::error(Code::NotStatic, "a message or path is known before running")
                                .at(expr.span, "varies per step"),
                        );
                    }
                    out.push_str(&value.show());
                }
            }
            if out.len() > self.limits.text {
                return self.too_big(template.span, format!("a text of {} bytes", out.len()));
            }
        }
        Ok(out)
    }

    /// The values of an assignment, one per name.
    pub(super) fn assigned_values(
        &mut self,
        names: &'a [ast::Name],
        values: &'a [Expr],
        span: Span,
    ) -> R<Vec<Val<'a>>> {
        let before = self.target;
        let mut out = Vec::new();
        let mut failed = false;
        for (i, value) in values.iter().enumerate() {
            let name = names.get(i).map(ast::Name::as_str);
            self.target = name;
            let hint = name.and_then(|name| self.state_elem(name));
            match self.eval(value, hint) {
                Ok(value) => out.push(self.present_value(value)),
                Err(Reported) => failed = true,
            }
        }
        self.target = before;
        if failed {
            return Err(Reported);
        }
        if let [only] = out.as_slice()
            && names.len() > 1
        {
            out = match only {
                Val::Tuple(values) => values.to_vec(),
                Val::List(values) => values.to_vec(),
                _ => out,
            };
        }
        if out.len() == 1 && matches!(out[0], Val::Tuple(_)) || out.len() != names.len() {
            let found = match out.as_slice() {
                [Val::Tuple(values)] => values.len(),
                other => other.len(),
            };
            return self.fail(
                Diagnostic::error(Code::ArgumentCount, format!("{} names for {found} values", names.len()))
                    .at(span, ""),
            );
        }
        Ok(out)
    }

    fn state_elem(&self, name: &str) -> Option<Elem> {
        match self.frame().find(name)?.kind {
            Kind::State(id) => Some(self.module.state(id).elem()),
            _ => None,
        }
    }

    /// A text from a static value.
    pub(super) fn as_text(&mut self, value: &Val<'a>, span: Span) -> R<Arc<str>> {
        match value {
            Val::Text(text) => Ok(text.clone()),
            other => self.fail(Diagnostic::error(Code::StaticValue, "a text was expected").at(span, other.kind())),
        }
    }
}

/// A condition that is known now, or in the step.
pub(super) enum Condition {
    Static(bool),
    Step(Tensor),
}

/// Several values as one.
pub(super) fn tuple<'a>(mut values: Vec<Val<'a>>) -> Val<'a> {
    if values.len() == 1 { values.swap_remove(0) } else { Val::Tuple(Rc::new(values)) }
}
