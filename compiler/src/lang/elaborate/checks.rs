//! `check` and `warn` at each stage, the rules for checkpoints, and what is never used.

use super::Elaborator;
use super::globals::Decl;
use super::schema::Content;
use super::value::{R, Reported, Val};
use crate::diagnostics::{Code, Diagnostic, Span, nearest};
use crate::ir::{CheckpointRule, Elem, Op};
use crate::lang::ast::{self, BinaryOp, Expr, ExprKind, StmtKind};

impl<'a> Elaborator<'a> {
    /// A check at model level: at once, or at the end if it asks for weights.
    pub(super) fn model_check(&mut self, stmt: &'a ast::Stmt) {
        let StmtKind::Check { condition, .. } = &stmt.kind else {
            return;
        };
        let names = super::unused::names_of(condition);
        if names.iter().any(|n| &**n == "weights_in") {
            self.deferred.push(stmt);
        } else {
            let _ = self.static_check(stmt);
        }
    }

    /// Checks that need all weights declared.
    pub(super) fn deferred_checks(&mut self) {
        // After a mistake the weights are incomplete, and a count of them means nothing.
        if self.diagnostics.has_errors() {
            return;
        }
        for stmt in std::mem::take(&mut self.deferred) {
            // Whether optional weights exist is known only with a checkpoint.
            let StmtKind::Check { warn, .. } = &stmt.kind else {
                continue;
            };
            if *warn || self.tensors.is_some() {
                let _ = self.static_check(stmt);
            }
        }
    }

    fn static_check(&mut self, stmt: &'a ast::Stmt) -> R<()> {
        let StmtKind::Check { warn, condition, message } = &stmt.kind else {
            return Err(Reported);
        };
        match self.eval(condition, None)? {
            Val::Bool(true) => Ok(()),
            Val::Bool(false) => {
                let text = self.fill(message)?;
                self.failed_check(*warn, condition, stmt, text)
            }
            other => {
                let code = if other.is_static() { Code::StaticValue } else { Code::NotStatic };
                self.fail(
                    Diagnostic::error(code, "a check at model level is a bool known before running")
                        .at(condition.span, other.kind()),
                )
            }
        }
    }

    fn failed_check(&mut self, warn: bool, condition: &'a Expr, stmt: &'a ast::Stmt, text: String) -> R<()> {
        let mut keys = Vec::new();
        self.keys_of(condition, &mut keys);
        let label = self.computed(condition);
        let mut diagnostic =
            if warn { Diagnostic::warning(Code::Claim, text) } else { Diagnostic::error(Code::CheckFailed, text) };
        let mut places = keys.into_iter();
        diagnostic = match places.next() {
            Some(first) => diagnostic.at(first, label.unwrap_or_default()),
            None => diagnostic.at(stmt.keyword, "this check"),
        };
        let has_key = diagnostic.primary.as_ref().is_some_and(|p| p.span != stmt.keyword);
        for place in places.take(3) {
            diagnostic = diagnostic.and_at(place, "");
        }
        if has_key && !warn {
            diagnostic = diagnostic.and_at(stmt.keyword, "this check");
        }
        if warn {
            diagnostic = diagnostic.note("a claim changes nothing; the model is compiled as its shapes say");
        }
        self.diagnostics.push(diagnostic);
        Ok(())
    }

    /// The places of the config keys that an expression reads by their names or by an alias.
    fn keys_of(&mut self, expr: &'a Expr, out: &mut Vec<Span>) {
        if let Some(span) = self.key_place(expr, 0) {
            if !out.contains(&span) {
                out.push(span);
            }
            return;
        }
        match &expr.kind {
            ExprKind::Unary { operand, .. } => self.keys_of(operand, out),
            ExprKind::Binary { left, right, .. } => {
                self.keys_of(left, out);
                self.keys_of(right, out);
            }
            ExprKind::Call { args, .. } => {
                for arg in args {
                    if let Some(value) = arg.value.as_value() {
                        self.keys_of(value, out);
                    }
                }
            }
            ExprKind::Index { base, .. } => self.keys_of(base, out),
            ExprKind::List(values) => values.iter().for_each(|v| self.keys_of(v, out)),
            ExprKind::Comprehension { domain, .. } => {
                if let Some(value) = domain.as_value() {
                    self.keys_of(value, out);
                }
            }
            _ => {}
        }
    }

    /// Where the config key stands that this expression is: its value in the config, or its declaration.
    fn key_place(&self, expr: &'a Expr, depth: usize) -> Option<Span> {
        let (node, key) = self.key_slot(expr, depth)?;
        let slot = &self.schema.nodes[node].keys[key];
        match slot.content {
            Content::Value { .. } => Some(slot.given.map_or(slot.name.span, |g| g.1)),
            _ => None,
        }
    }

    fn key_slot(&self, expr: &'a Expr, depth: usize) -> Option<(usize, usize)> {
        if depth > 8 {
            return None;
        }
        match &expr.kind {
            ExprKind::Name(name) => {
                let root = self.schema.nodes.first()?;
                if let Some(key) = root.keys.get_index_of(&**name) {
                    return Some((0, key));
                }
                match self.namespaces[0].globals.get(name)?.decl {
                    Decl::Assign(stmt, index) => match &stmt.kind {
                        StmtKind::Assign { values, .. } => self.key_slot(values.get(index)?, depth + 1),
                        _ => None,
                    },
                    _ => None,
                }
            }
            ExprKind::Member { base, member } => {
                let (node, key) = self.key_slot(base, depth + 1)?;
                match self.schema.nodes[node].keys[key].content {
                    Content::Object(inner) => {
                        let key = self.schema.nodes[inner].keys.get_index_of(&*member.text)?;
                        Some((inner, key))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// What a comparison or a claim computed: `8 * 3.0 = 24.0`.
    fn computed(&mut self, condition: &'a Expr) -> Option<String> {
        match &condition.kind {
            ExprKind::Binary { op, left, right, .. } if op.level() == 4 && *op != BinaryOp::In => {
                let side = [left, right].into_iter().find(|e| matches!(e.kind, ExprKind::Binary { .. }))?;
                let value = self.eval(side, None).ok()?;
                Some(format!("{} = {}", self.with_values(side)?, value.show()))
            }
            ExprKind::Call { callee, args, .. } if callee.as_name() == Some("about") => {
                let counted = args.get(1)?.value.as_value()?;
                let value = self.eval(counted, None).ok()?;
                let Val::Int(n) = value else { return None };
                let what = match &counted.kind {
                    ExprKind::Call { args, .. } => {
                        let span = args.first()?.span;
                        format!(" weights in {}", self.files.slice(span).trim_matches('"'))
                    }
                    _ => String::new(),
                };
                Some(format!("counted: {}{what}", grouped(n)))
            }
            _ => None,
        }
    }

    fn with_values(&mut self, expr: &'a Expr) -> Option<String> {
        match &expr.kind {
            ExprKind::Binary { op, left, right, .. } => {
                Some(format!("{} {} {}", self.with_values(left)?, op.symbol(), self.with_values(right)?))
            }
            _ => self.eval(expr, None).ok().map(|v| v.show()),
        }
    }

    /// A check inside a block or entry: now if it is static, else in the step.
    pub(super) fn step_check(&mut self, stmt: &'a ast::Stmt) -> R<()> {
        let StmtKind::Check { warn, condition, message } = &stmt.kind else {
            return Err(Reported);
        };
        let value = self.eval(condition, Some(Elem::Bool))?;
        match &value {
            Val::Bool(true) => return Ok(()),
            Val::Bool(false) => {
                let text = self.fill(message)?;
                return self.failed_check(*warn, condition, stmt, text);
            }
            _ => {}
        }
        let tensor = self.tensor_of(&value, Some(Elem::Bool), condition.span)?;
        if *warn || tensor.elem != Elem::Bool || !tensor.shape.is_empty() || !tensor.leads.is_empty() {
            return self.fail_here(
                Diagnostic::error(
                    Code::WrongStage,
                    "in the step only `check` exists, of one bool outside of mapped calls",
                )
                .at(condition.span, "varies per step"),
            );
        }
        let message = self.fill(message)?;
        let value = self.local(&tensor);
        self.emit(Op::Check { message }, &[value], Vec::new(), stmt.span)?;
        Ok(())
    }

    /// The rules of the `checkpoint` section, their conditions decided.
    pub(super) fn checkpoint_rules(&mut self) {
        let file = self.namespaces[0].file;
        for item in &file.items {
            let ast::Item::Checkpoint(section) = item else {
                continue;
            };
            for rule in &section.rules {
                match rule {
                    ast::CheckpointRule::Ignore { glob, stored, copy_of, when, reason, .. } => {
                        let applies = match when {
                            None => Ok(true),
                            Some(expr) => self.eval(expr, None).and_then(|value| match value {
                                Val::Bool(b) => Ok(b),
                                other => self.fail(
                                    Diagnostic::error(Code::NotStatic, "the condition of a rule is a static bool")
                                        .at(expr.span, other.kind()),
                                ),
                            }),
                        };
                        let Ok(true) = applies else { continue };
                        let tensor = match stored.as_ref().map(|ty| self.unread_tensor(glob, ty)).transpose() {
                            Ok(tensor) => tensor,
                            Err(_) => continue,
                        };
                        self.module.checkpoint.push(CheckpointRule::Ignore {
                            glob: glob.value.to_string(),
                            why: reason.value.to_string(),
                            tensor,
                            copy_of: copy_of.as_ref().map(|path| path.value.to_string()),
                        });
                    }
                    ast::CheckpointRule::Strip { prefix, .. } => {
                        self.module.checkpoint.push(CheckpointRule::Strip { prefix: prefix.value.to_string() });
                    }
                    ast::CheckpointRule::Choose { key, reason, .. } => {
                        self.module
                            .checkpoint
                            .push(CheckpointRule::Choose { key: key.value.to_string(), why: reason.value.to_string() });
                    }
                    ast::CheckpointRule::Rename { from, to, .. } => {
                        self.module
                            .checkpoint
                            .push(CheckpointRule::Rename { from: from.value.to_string(), to: to.value.to_string() });
                    }
                }
            }
        }
        if let Some(tensors) = self.tensors.take() {
            let rules = &self.module.checkpoint;
            let names = tensors.iter().flat_map(|name| crate::lang::checkpoint::graph_names(rules, name));
            self.tensors = Some(names.collect());
        }
    }

    /// Rules that call a tensor a copy of a weight that does not exist.
    pub(super) fn copies_without_original(&mut self) {
        let file = self.namespaces[0].file;
        let sections = file.items.iter().filter_map(|item| match item {
            ast::Item::Checkpoint(section) => Some(section),
            _ => None,
        });
        for rule in sections.flat_map(|section| &section.rules) {
            let ast::CheckpointRule::Ignore { glob, copy_of: Some(path), .. } = rule else { continue };
            let applies =
                |rule: &CheckpointRule| matches!(rule, CheckpointRule::Ignore { glob: g, .. } if **g == *glob.value);
            let exists = self.module.weights.iter().any(|weight| *weight.path == *path.value);
            if self.module.checkpoint.iter().any(applies) && !exists {
                let near = nearest(&path.value, self.module.weights.iter().map(|weight| weight.path.as_str()));
                let title = format!("the model has no weight `{}`", path.value);
                let error = Diagnostic::error(Code::UnknownName, title).at(path.span, "not found");
                self.diagnostics.push(error.help_if(near.map(|near| format!("nearest weight: `{near}`"))));
            }
        }
    }

    /// Parts that nothing calls, weights that nothing reads.
    pub(super) fn unused_parts_and_weights(&mut self) {
        // A mistake above leaves much uncalled; saying so would hide it.
        if self.diagnostics.has_errors() {
            return;
        }
        for part in std::mem::take(&mut self.parts) {
            if part.used.get() {
                continue;
            }
            self.diagnostics.push(
                Diagnostic::error(
                    Code::UnusedPart,
                    format!("part `{}` is never called, its weight would be read for nothing", part.name),
                )
                .at(part.declared, "declared here")
                .help("call it, remove it, or list its tensors in `checkpoint { ignore \"...\": \"why\" }`"),
            );
        }
        for (i, &used) in self.weight_used.iter().enumerate() {
            if !used {
                let weight = &self.module.weights[i];
                self.diagnostics.push(
                    Diagnostic::error(Code::UnusedName, format!("nothing reads weight `{}`", weight.path))
                        .at(self.weight_spans[i], "declared here")
                        .help("read it, remove it, or ignore its tensor in `checkpoint`"),
                );
            }
        }
    }
}

/// Digits in groups of three.
fn grouped(n: i128) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && c.is_ascii_digit() {
            out.push(',');
        }
        out.push(c);
    }
    out
}
