//! Which statement may stand where. The grammar allows every statement everywhere; this says more
//! than "unexpected" when one stands in the wrong place.

use crate::diagnostics::{Code, Diagnostic, Diagnostics, Span};
use crate::lang::ast::*;
use crate::limits::Limits;

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Model,
    Library,
    Block,
    Entry,
}

struct Checker<'a> {
    diagnostics: &'a mut Diagnostics,
    /// Statements seen.
    statements: usize,
}

/// Reports every statement that stands where it cannot, and the first one beyond the limit.
pub fn check(file: &File, diagnostics: &mut Diagnostics) {
    let mut checker = Checker { diagnostics, statements: 0 };
    let place = if file.kind == FileKind::Model { Place::Model } else { Place::Library };
    for item in &file.items {
        match item {
            Item::Block(block) => checker.body(&block.body, Place::Block),
            Item::Stmt(stmt) => checker.stmt(stmt, place, false),
            Item::Import(_) => {}
            Item::Config(Config { span, .. }) => checker.model_only("config", *span, place),
            Item::Preset(Preset { span, .. }) => checker.model_only("preset", *span, place),
            Item::Checkpoint(rules) => checker.model_only("checkpoint", rules.span, place),
        }
    }
}

impl Checker<'_> {
    fn model_only(&mut self, what: &str, span: Span, place: Place) {
        if place == Place::Library {
            let word = Span { end: span.start + what.len() as u32, ..span };
            self.report(what, word, "a library sees no config: it has blocks and static names only");
        }
    }

    fn body(&mut self, body: &Body, place: Place) {
        body.stmts.iter().for_each(|stmt| self.stmt(stmt, place, false));
    }

    fn stmt(&mut self, stmt: &Stmt, place: Place, in_repeat: bool) {
        self.statements += 1;
        if self.statements == Limits::DEFAULT.statements + 1 {
            let title = format!("more than {} statements", Limits::DEFAULT.statements);
            self.diagnostics.push(Diagnostic::error(Code::TooBig, title).at(stmt.span, "the first one beyond"));
        }
        if let Some((what, rule)) = misplaced(&stmt.kind, place, in_repeat) {
            self.report(what, stmt.keyword, rule);
            return;
        }
        match &stmt.kind {
            StmtKind::If { arms, otherwise } => {
                arms.iter().for_each(|arm| self.body(&arm.body, place));
                otherwise.iter().for_each(|body| self.body(body, place));
            }
            StmtKind::Match { arms, .. } => arms.iter().for_each(|arm| self.body(&arm.body, place)),
            StmtKind::For { body, .. } => self.body(body, place),
            StmtKind::Repeat { body, .. } => {
                body.stmts.iter().for_each(|stmt| self.stmt(stmt, place, true));
            }
            StmtKind::Entry(entry) => self.body(&entry.body, Place::Entry),
            _ => {}
        }
    }

    fn report(&mut self, what: &str, span: Span, rule: &str) {
        let title = format!("`{what}` cannot stand here");
        self.diagnostics.push(Diagnostic::error(Code::Misplaced, title).at(span, rule));
    }
}

/// The word and the rule that a statement breaks by standing here.
fn misplaced(kind: &StmtKind, place: Place, in_repeat: bool) -> Option<(&'static str, &'static str)> {
    let (what, allowed, rule): (_, &[Place], _) = match kind {
        StmtKind::Part { .. } => ("part", &[Place::Model, Place::Block], "parts belong to a block or to the model"),
        StmtKind::Weight { .. } => {
            ("weight", &[Place::Model, Place::Block], "weights belong to a block or to the model")
        }
        StmtKind::State { .. } => ("state", &[Place::Model, Place::Block], "states belong to a block or to the model"),
        StmtKind::Input { .. } => ("input", &[Place::Model], "inputs belong to the model"),
        StmtKind::Host { .. } => ("host", &[Place::Model], "host functions belong to the model"),
        StmtKind::Entry(_) => ("entry", &[Place::Model], "entries belong to the model"),
        StmtKind::Output { .. } => ("output", &[Place::Entry], "only an entry has outputs"),
        StmtKind::Return { .. } => ("return", &[Place::Block], "only a block returns values"),
        StmtKind::Probe { .. } => ("probe", &[Place::Block, Place::Entry], "probes belong to a block or an entry"),
        StmtKind::Repeat { .. } => ("repeat", &[Place::Block, Place::Entry], "only a block or an entry runs"),
        StmtKind::Exit { .. } => {
            let rule = "`exit` belongs at the top level of a `repeat`";
            return (!in_repeat).then_some(("exit", rule));
        }
        StmtKind::Assign { .. } => return None,
        StmtKind::Check { .. } => ("check", &[Place::Model, Place::Block, Place::Entry], LIBRARY),
        StmtKind::If { .. } => ("if", &[Place::Model, Place::Block, Place::Entry], LIBRARY),
        StmtKind::Match { .. } => ("match", &[Place::Model, Place::Block, Place::Entry], LIBRARY),
        StmtKind::For { .. } => ("for", &[Place::Model, Place::Block, Place::Entry], LIBRARY),
    };
    (!allowed.contains(&place)).then_some((what, rule))
}

const LIBRARY: &str = "a library has blocks and static names only";
