//! Names of model level: declared first, evaluated when something reads them, so that their order
//! does not matter; model-level branches, whose conditions decide which names exist.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::Elaborator;
use super::scope::Frame;
use super::value::{Bound, R, Reported, Val};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::HostDecl;
use crate::lang::ast::{self, StmtKind};

/// A name of model level.
pub(super) struct Global<'a> {
    pub decl: Decl<'a>,
    pub span: Span,
    pub state: Lazy<'a>,
}

/// What declares it.
#[derive(Clone, Copy)]
pub(super) enum Decl<'a> {
    Block(&'a ast::Block),
    Assign(&'a ast::Stmt, usize),
    Part(&'a ast::Stmt, usize),
    Weight(&'a ast::Stmt, usize),
    Input(&'a ast::Stmt, usize),
    Host(&'a ast::Stmt),
    Entry,
}

/// A value computed when it is first read.
#[derive(Clone)]
pub(super) enum Lazy<'a> {
    Waiting,
    Busy,
    Ready(Val<'a>),
    Failed,
}

impl Global<'_> {
    /// The word for it in advice.
    pub fn word(&self) -> &'static str {
        match self.decl {
            Decl::Block(_) => "block",
            Decl::Assign(..) => "name",
            Decl::Part(..) => "part",
            Decl::Weight(..) => "weight",
            Decl::Input(..) => "input",
            Decl::Host(_) => "host function",
            Decl::Entry => "entry",
        }
    }
}

/// Where a file's config declares its keys of the top level.
pub(super) fn config_keys(file: &ast::File) -> HashMap<&str, Span> {
    let configs = file.items.iter().filter_map(|item| match item {
        ast::Item::Config(config) => Some(config),
        _ => None,
    });
    let keys = configs.flat_map(|config| &config.keys).flat_map(|decl| &decl.keys);
    let mut found = HashMap::new();
    for key in keys {
        if let ast::Key::Named(name) = key {
            found.entry(name.as_str()).or_insert(name.span);
        }
    }
    found
}

impl<'a> Elaborator<'a> {
    /// Enters what every file declares unconditionally, and resolves imports.
    pub(super) fn declare_namespaces(&mut self) {
        for home in 0..self.namespaces.len() {
            let file = self.namespaces[home].file;
            for item in &file.items {
                match item {
                    ast::Item::Block(block) => {
                        self.declare_global(home, &block.name, Decl::Block(block));
                    }
                    ast::Item::Stmt(stmt) => self.declare_stmt(home, stmt),
                    ast::Item::Import(import) => {
                        let found = self.namespaces.iter().position(|n| n.file.name.text == import.library.text);
                        if let Some(at) = found {
                            self.namespaces[home].imports.push(at);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn declare_global(&mut self, home: usize, name: &'a ast::Name, decl: Decl<'a>) {
        if let Some(before) = self.namespaces[home].globals.get(&name.text) {
            let before = before.span;
            self.duplicate(name.as_str(), name.span, before);
            return;
        }
        if home == 0
            && let Some(&key) = self.config_keys.get(name.as_str())
        {
            self.duplicate(name.as_str(), name.span, key);
            return;
        }
        let namespace = &mut self.namespaces[home];
        namespace.order.push(name.text.clone());
        namespace.globals.insert(name.text.clone(), Global { decl, span: name.span, state: Lazy::Waiting });
    }

    fn declare_stmt(&mut self, home: usize, stmt: &'a ast::Stmt) {
        match &stmt.kind {
            StmtKind::Assign { names, .. } => {
                for (i, name) in names.iter().enumerate() {
                    self.declare_global(home, name, Decl::Assign(stmt, i));
                }
            }
            StmtKind::Part { names, .. } => {
                for (i, part) in names.iter().enumerate() {
                    self.declare_global(home, &part.name, Decl::Part(stmt, i));
                }
            }
            StmtKind::Weight { names, .. } => {
                for (i, name) in names.iter().enumerate() {
                    self.declare_global(home, name, Decl::Weight(stmt, i));
                }
            }
            StmtKind::Input { param, .. } => {
                for (i, name) in param.names.iter().enumerate() {
                    self.declare_global(home, name, Decl::Input(stmt, i));
                }
            }
            StmtKind::Host { name, .. } => self.declare_global(home, name, Decl::Host(stmt)),
            StmtKind::Entry(entry) => self.declare_global(home, &entry.name, Decl::Entry),
            _ => {}
        }
    }

    /// Decides model-level branches, runs checks that need config alone, and gives the entries in
    /// the order of the text.
    pub(super) fn model_statements(&mut self) -> Vec<&'a ast::Entry> {
        let mut entries = Vec::new();
        let file = self.namespaces[0].file;
        for item in &file.items {
            if let ast::Item::Stmt(stmt) = item {
                self.model_statement(stmt, &mut entries, true);
            }
        }
        entries
    }

    fn model_statement(&mut self, stmt: &'a ast::Stmt, entries: &mut Vec<&'a ast::Entry>, declared: bool) {
        if !declared {
            self.declare_stmt(0, stmt);
        }
        match &stmt.kind {
            StmtKind::If { .. } | StmtKind::Match { .. } => {
                if let Ok(Some(body)) = self.static_branch(stmt) {
                    // Parts and weights of a branch are declared before its checks and entries read them.
                    for stmt in &body.stmts {
                        self.model_statement(stmt, entries, false);
                    }
                }
            }
            StmtKind::Check { .. } => self.model_check(stmt),
            StmtKind::Entry(entry) => entries.push(entry),
            StmtKind::Assign { .. }
            | StmtKind::Part { .. }
            | StmtKind::Weight { .. }
            | StmtKind::Input { .. }
            | StmtKind::Host { .. } => {}
            _ => self.diagnostics.push(
                Diagnostic::error(Code::Misplaced, "this statement belongs into a block")
                    .at(stmt.span, "at model level"),
            ),
        }
    }

    /// The value of a name of model level, a config key or an import.
    pub(super) fn global(&mut self, home: usize, name: &str, span: Span) -> R<Option<Val<'a>>> {
        if self.namespaces[home].globals.contains_key(name) {
            return self.force(home, name, span).map(Some);
        }
        if home == 0
            && let Some(value) = self.config_key(0, name, span)?
        {
            return Ok(Some(value));
        }
        for i in 0..self.namespaces[home].imports.len() {
            let at = self.namespaces[home].imports[i];
            if self.namespaces[at].globals.contains_key(name) {
                return self.force(at, name, span).map(Some);
            }
        }
        Ok(None)
    }

    fn force(&mut self, home: usize, name: &str, span: Span) -> R<Val<'a>> {
        let global = &self.namespaces[home].globals[name];
        let (decl, declared) = (global.decl, global.span);
        match &global.state {
            Lazy::Ready(value) => return Ok(value.clone()),
            Lazy::Failed => return Err(Reported),
            Lazy::Busy => {
                return self.fail(
                    Diagnostic::error(Code::Cycle, format!("`{name}` needs itself"))
                        .at(span, "read here while its value is being found")
                        .and_at(declared, "declared here"),
                );
            }
            Lazy::Waiting => {}
        }
        self.set_state(home, name, Lazy::Busy);
        let result = self.in_model_frame(home, span, |this| this.evaluate_global(home, decl));
        let state = match &result {
            // Tensors belong to a region: the name is evaluated anew where it is read next.
            Ok(value) if value.in_graph() => Lazy::Waiting,
            Ok(value) => Lazy::Ready(value.clone()),
            Err(Reported) => Lazy::Failed,
        };
        self.set_state(home, name, state);
        result
    }

    fn set_state(&mut self, home: usize, name: &str, state: Lazy<'a>) {
        if let Some(global) = self.namespaces[home].globals.get_mut(name) {
            global.state = state;
        }
    }

    /// Evaluates with the names of a file's model level only.
    pub(super) fn in_model_frame<T>(&mut self, home: usize, span: Span, work: impl FnOnce(&mut Self) -> R<T>) -> R<T> {
        self.push_frame(Frame::model(home), span)?;
        let result = work(self);
        self.frames.pop();
        result
    }

    /// Opens a frame, within the limit.
    pub(super) fn push_frame(&mut self, mut frame: Frame<'a>, span: Span) -> R<()> {
        if self.frames.len() >= self.limits.calls {
            let most = self.limits.calls;
            return self.fail(
                Diagnostic::error(Code::Cycle, format!("more than {most} blocks or names inside one another"))
                    .at(span, "here")
                    .help("blocks cannot call themselves"),
            );
        }
        frame.way = self.ways.insert_full((frame.path.clone(), frame.chain.clone())).0;
        self.frames.push(frame);
        Ok(())
    }

    fn evaluate_global(&mut self, home: usize, decl: Decl<'a>) -> R<Val<'a>> {
        match decl {
            Decl::Block(block) => {
                Ok(Val::Block(Rc::new(Bound { block, home, statics: vec![None; block.statics.len()] })))
            }
            Decl::Assign(stmt, index) => {
                let StmtKind::Assign { names, values } = &stmt.kind else {
                    return Err(Reported);
                };
                let mut values = self.assigned_values(names, values, stmt.span)?;
                Ok(values.swap_remove(index))
            }
            Decl::Part(stmt, index) => self.part_value(stmt, index),
            Decl::Weight(stmt, index) => self.weight_decl(stmt, index),
            Decl::Input(stmt, index) => self.input_value(stmt, index),
            Decl::Host(stmt) => self.host_value(stmt),
            Decl::Entry => Ok(Val::Null),
        }
    }

    fn host_value(&mut self, stmt: &'a ast::Stmt) -> R<Val<'a>> {
        let StmtKind::Host { name, params, result } = &stmt.kind else {
            return Err(Reported);
        };
        let mut types = Vec::new();
        for param in params {
            let ty = self.fixed_type(&param.ty)?;
            types.extend(param.names.iter().map(|name| (name.text.to_string(), ty.clone())));
        }
        let result = self.fixed_type(result)?;
        Ok(Val::Host(self.module.add_host(HostDecl { name: name.text.to_string(), params: types, result })))
    }

    /// Evaluates what nothing has read, so that its mistakes are found too.
    pub(super) fn force_globals(&mut self) {
        for i in 0..self.namespaces[0].order.len() {
            let name: Arc<str> = self.namespaces[0].order[i].clone();
            let global = &self.namespaces[0].globals[&name];
            let span = global.span;
            if matches!(global.state, Lazy::Waiting)
                && matches!(global.decl, Decl::Assign(..) | Decl::Part(..) | Decl::Weight(..) | Decl::Host(_))
            {
                // A name that is a tensor needs a region; it was checked where an entry read it.
                self.open_region(None);
                let _ = self.force(0, &name, span);
                self.close_region();
            }
        }
    }
}
