//! Names that nothing reads, found in the text alone: a name counts as read if any expression of
//! its scope mentions it, whatever the config makes of the branch it stands in.

use std::collections::HashSet;
use std::sync::Arc;

use super::Elaborator;
use crate::diagnostics::{Code, Diagnostic};
use crate::lang::ast::{self, Body, Domain, Expr, ExprKind, Key, KeyBody, KeyDecl, KeyForm, Piece, Stmt, StmtKind};

/// The names that an expression mentions, in order of appearance, each as often as it does.
pub(super) fn names_of(expr: &Expr) -> Vec<Arc<str>> {
    let mut mentioned = Mentioned::default();
    mentioned.expr(expr);
    mentioned.order
}

/// The names that a statement mentions.
pub(super) fn names_of_statement(stmt: &Stmt) -> HashSet<Arc<str>> {
    let mut mentioned = Mentioned::default();
    mentioned.stmt(stmt);
    mentioned.order.into_iter().collect()
}

/// Names and members that a text mentions.
#[derive(Default)]
struct Mentioned {
    order: Vec<Arc<str>>,
    members: HashSet<Arc<str>>,
}

impl Mentioned {
    fn names(&self) -> HashSet<&str> {
        self.order.iter().map(|n| &**n).collect()
    }

    fn expr(&mut self, expr: &Expr) {
        match &expr.kind {
            ExprKind::Literal(_) => {}
            ExprKind::Name(name) => self.order.push(name.clone()),
            ExprKind::List(values) => values.iter().for_each(|v| self.expr(v)),
            ExprKind::Comprehension { element, domain, .. } => {
                self.domain(domain);
                self.expr(element);
            }
            ExprKind::Unary { operand, .. } => self.expr(operand),
            ExprKind::Binary { left, right, .. } => {
                self.expr(left);
                self.expr(right);
            }
            ExprKind::Call { callee, args, .. } => {
                self.expr(callee);
                args.iter().for_each(|a| self.domain(&a.value));
            }
            ExprKind::Index { base, args, .. } => {
                self.expr(base);
                args.iter().for_each(|a| self.domain(&a.value));
            }
            ExprKind::Member { base, member } => {
                self.expr(base);
                self.members.insert(member.text.clone());
            }
            ExprKind::If { arms, otherwise } => {
                for (condition, value) in arms {
                    self.expr(condition);
                    self.expr(value);
                }
                self.expr(otherwise);
            }
        }
    }

    fn domain(&mut self, domain: &Domain) {
        match domain {
            Domain::Value(expr) => self.expr(expr),
            Domain::Range { start, end, .. } => {
                self.expr(start);
                self.expr(end);
            }
        }
    }

    fn template(&mut self, template: &ast::Template) {
        for piece in &template.pieces {
            if let Piece::Expr(expr) = piece {
                self.expr(expr);
            }
        }
    }

    fn value_type(&mut self, ty: &ast::ValueType) {
        self.order.push(ty.element.text.clone());
        ty.axes.iter().for_each(|a| self.expr(a));
    }

    fn limit(&mut self, limit: Option<&ast::Limit>) {
        if let Some(limit) = limit {
            limit.low.iter().chain(&limit.high).for_each(|e| self.expr(e));
        }
    }

    fn params(&mut self, params: &[ast::Param]) {
        for param in params {
            self.value_type(&param.ty);
            self.limit(param.limit.as_ref());
        }
    }

    fn body(&mut self, body: &Body) {
        body.stmts.iter().for_each(|s| self.stmt(s));
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match &stmt.kind {
            StmtKind::Part { names, block, at } => {
                for part in names {
                    if let Some((_, domain)) = &part.array {
                        self.domain(domain);
                    }
                }
                self.expr(block);
                at.iter().for_each(|t| self.template(t));
            }
            StmtKind::Weight { ty, at, .. } => {
                self.value_type(ty);
                at.iter().for_each(|t| self.template(t));
            }
            StmtKind::State { ty, init, .. } => {
                self.value_type(ty);
                init.iter().for_each(|e| self.expr(e));
            }
            StmtKind::Assign { values, .. } | StmtKind::Return { values } => {
                values.iter().for_each(|v| self.expr(v));
            }
            StmtKind::If { arms, otherwise } => {
                for arm in arms {
                    self.expr(&arm.condition);
                    self.body(&arm.body);
                }
                otherwise.iter().for_each(|b| self.body(b));
            }
            StmtKind::Match { subject, arms } => {
                self.expr(subject);
                arms.iter().for_each(|a| self.body(&a.body));
            }
            StmtKind::For { domain, body, .. } => {
                self.domain(domain);
                self.body(body);
            }
            StmtKind::Repeat { domain, most, body, .. } => {
                self.domain(domain);
                most.iter().for_each(|e| self.expr(e));
                self.body(body);
            }
            StmtKind::Exit { condition } => self.expr(condition),
            StmtKind::Output { name, value } | StmtKind::Probe { name, value } => match value {
                Some(value) => self.expr(value),
                None => self.order.push(name.text.clone()),
            },
            StmtKind::Check { condition, message, .. } => {
                self.expr(condition);
                self.template(message);
            }
            StmtKind::Input { param, neutral } => {
                self.params(std::slice::from_ref(param));
                neutral.iter().for_each(|e| self.expr(e));
            }
            StmtKind::Host { params, result, .. } => {
                self.params(params);
                self.value_type(result);
            }
            StmtKind::Entry(entry) => {
                self.params(&entry.params);
                entry.start.iter().for_each(|s| self.expr(&s.value));
                self.body(&entry.body);
            }
        }
    }

    fn block(&mut self, block: &ast::Block) {
        for param in &block.statics {
            param.default.iter().for_each(|e| self.expr(e));
        }
        self.params(&block.params);
        block.results.iter().for_each(|r| self.value_type(r));
        self.body(&block.body);
    }

    fn keys(&mut self, keys: &[KeyDecl]) {
        for decl in keys {
            match &decl.body {
                KeyBody::Object { keys, .. } => self.keys(keys),
                KeyBody::Fate(_) => {}
                KeyBody::Value { ty, default } => {
                    default.iter().for_each(|e| self.expr(e));
                    self.limit(ty.limit.as_ref());
                    for alternative in &ty.alternatives {
                        if let KeyForm::Scalar { list: Some(list), .. } = &alternative.form {
                            list.length.iter().for_each(|e| self.expr(e));
                        }
                    }
                }
            }
        }
    }

    fn file(&mut self, file: &ast::File) {
        for item in &file.items {
            match item {
                ast::Item::Block(block) => self.block(block),
                ast::Item::Stmt(stmt) => self.stmt(stmt),
                ast::Item::Config(config) => self.keys(&config.keys),
                ast::Item::Checkpoint(section) => {
                    for rule in &section.rules {
                        if let ast::CheckpointRule::Ignore { stored, when, .. } = rule {
                            stored.iter().for_each(|ty| self.value_type(ty));
                            when.iter().for_each(|e| self.expr(e));
                        }
                    }
                }
                ast::Item::Import(_) | ast::Item::Preset(_) => {}
            }
        }
    }
}

impl<'a> Elaborator<'a> {
    /// Reports keys, names, parameters and locals that no expression mentions.
    pub(super) fn unused_names(&mut self) {
        let mut all = Mentioned::default();
        all.file(self.namespaces[0].file);
        let names = all.names();
        let mut found = Vec::new();
        for item in &self.namespaces[0].file.items {
            match item {
                ast::Item::Config(config) => {
                    unread_keys(&config.keys, true, &names, &all.members, &mut found);
                }
                ast::Item::Stmt(stmt) => model_names(stmt, &names, &mut found),
                _ => {}
            }
        }
        for namespace in &self.namespaces {
            for item in &namespace.file.items {
                if let ast::Item::Block(block) = item {
                    unused_in_block(block, &mut found);
                }
            }
        }
        self.diagnostics.extend(found);
    }
}

fn unread_keys(
    keys: &[KeyDecl],
    top: bool,
    names: &HashSet<&str>,
    members: &HashSet<Arc<str>>,
    found: &mut Vec<Diagnostic>,
) {
    for decl in keys {
        match &decl.body {
            KeyBody::Object { keys, .. } => unread_keys(keys, false, names, members, found),
            KeyBody::Fate(_) => {}
            KeyBody::Value { ty, .. } => {
                if constant(ty) {
                    continue;
                }
                for key in &decl.keys {
                    let Key::Named(name) = key else { continue };
                    let read = members.contains(&name.text) || top && names.contains(name.as_str());
                    if !read {
                        let key = name.as_str();
                        found.push(
                            Diagnostic::error(
                                Code::UnreadKey,
                                format!("config key `{key}` is declared but nothing reads it"),
                            )
                            .at(name.span, "declared here")
                            .help(format!(
                                "use it, check it, or write `{key}: ignored(\"why\")`: nothing is ignored in silence"
                            )),
                        );
                    }
                }
            }
        }
    }
}

/// Whether a key has one allowed value: validating it is using it.
fn constant(ty: &ast::KeyType) -> bool {
    match ty.alternatives.as_slice() {
        [only] if !only.optional => match &only.form {
            KeyForm::Literal(_) => true,
            KeyForm::Tuple(types) => types.iter().all(constant),
            _ => false,
        },
        _ => false,
    }
}

fn unused(what: &str, name: &ast::Name) -> Diagnostic {
    Diagnostic::error(Code::UnusedName, format!("nothing reads {what} `{}`", name.as_str()))
        .at(name.span, "made here")
        .help("read it or remove it")
}

fn model_names(stmt: &Stmt, names: &HashSet<&str>, found: &mut Vec<Diagnostic>) {
    match &stmt.kind {
        StmtKind::Assign { names: own, .. } => {
            if let Some(name) = own.first()
                && own.iter().all(|n| !names.contains(n.as_str()))
            {
                found.push(unused("name", name));
            }
        }
        StmtKind::Input { param, .. } => {
            for name in &param.names {
                if !names.contains(name.as_str()) {
                    found.push(unused("input", name));
                }
            }
        }
        StmtKind::Host { name, .. } if !names.contains(name.as_str()) => {
            found.push(unused("host function", name));
        }
        StmtKind::If { arms, otherwise } => {
            let bodies = arms.iter().map(|a| &a.body).chain(otherwise.iter());
            bodies.for_each(|b| b.stmts.iter().for_each(|s| model_names(s, names, found)));
        }
        StmtKind::Match { arms, .. } => {
            for arm in arms {
                arm.body.stmts.iter().for_each(|s| model_names(s, names, found));
            }
        }
        StmtKind::Entry(entry) => {
            let mut mentioned = Mentioned::default();
            mentioned.body(&entry.body);
            let names = mentioned.names();
            for name in entry.params.iter().flat_map(|p| &p.names) {
                if !names.contains(name.as_str()) {
                    found.push(unused("parameter", name));
                }
            }
            for stmt in &entry.body.stmts {
                unused_locals(stmt, &names, found);
            }
        }
        _ => {}
    }
}

fn unused_in_block(block: &ast::Block, found: &mut Vec<Diagnostic>) {
    let mut mentioned = Mentioned::default();
    mentioned.block(block);
    let names = mentioned.names();
    for param in &block.statics {
        if !names.contains(param.name.as_str()) {
            found.push(unused("static parameter", &param.name));
        }
    }
    for name in block.params.iter().flat_map(|p| &p.names) {
        if !names.contains(name.as_str()) {
            found.push(unused("parameter", name));
        }
    }
    for stmt in &block.body.stmts {
        unused_locals(stmt, &names, found);
    }
}

/// Of names taken apart from one value, one that is read is enough.
fn unused_locals(stmt: &Stmt, names: &HashSet<&str>, found: &mut Vec<Diagnostic>) {
    let mut inner = |body: &Body| {
        body.stmts.iter().for_each(|s| unused_locals(s, names, found));
    };
    match &stmt.kind {
        StmtKind::Assign { names: own, values } => {
            let read = |n: &&ast::Name| names.contains(n.as_str());
            if own.len() == values.len() {
                let unread: Vec<&ast::Name> = own.iter().filter(|n| !read(n)).collect();
                found.extend(unread.into_iter().map(|n| unused("name", n)));
            } else if let Some(first) = own.first()
                && !own.iter().any(|n| read(&n))
            {
                found.push(unused("name", first));
            }
        }
        StmtKind::State { names: own, .. } => {
            for name in own {
                if !names.contains(name.as_str()) {
                    found.push(unused("state", name));
                }
            }
        }
        StmtKind::If { arms, otherwise } => {
            arms.iter().for_each(|a| inner(&a.body));
            otherwise.iter().for_each(inner);
        }
        StmtKind::Match { arms, .. } => arms.iter().for_each(|a| inner(&a.body)),
        StmtKind::For { body, .. } | StmtKind::Repeat { body, .. } => inner(body),
        _ => {}
    }
}
