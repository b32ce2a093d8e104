//! Names: frames of blocks being called with their scopes, namespaces of files, and what is said
//! when a name is not found.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

use super::Elaborator;
use super::functions::OPERATIONS;
use super::globals::Global;
use super::value::{Part, R, Tensor, Val};
use crate::diagnostics::{Code, Diagnostic, Span, nearest};
use crate::ir::{Elem, StateId};
use crate::lang::{ast, foreign, library};

/// What may be done with a name of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Local,
    Param,
    Static,
    LoopVariable,
    State(StateId),
    /// Part or weight: never assigned.
    Fixed,
}

impl Kind {
    /// The word for it in advice.
    fn word(self) -> &'static str {
        match self {
            Kind::Local => "name",
            Kind::Param => "parameter",
            Kind::Static => "static parameter",
            Kind::LoopVariable => "loop variable",
            Kind::State(_) => "state",
            Kind::Fixed => "part or weight",
        }
    }
}

/// A name of a block with its present value.
#[derive(Clone)]
pub(super) struct Var<'a> {
    pub value: Val<'a>,
    pub kind: Kind,
    /// Where it was made.
    pub declared: Span,
    /// The statement that gave it its value.
    pub assigned: Span,
    /// Changes with every assignment.
    pub version: usize,
}

pub(super) type Scope<'a> = IndexMap<Arc<str>, Var<'a>, FxBuildHasher>;

/// A state declared in the call, to be written when it ends.
pub(super) struct Declared {
    pub id: StateId,
    pub name: Arc<str>,
    pub version: usize,
    pub span: Span,
}

/// The history of a name, for `delay`.
pub(super) struct Delay {
    pub name: Arc<str>,
    pub current: Tensor,
    pub pushed: Tensor,
    pub state: StateId,
    pub span: Span,
}

/// A block being called, an entry, or the model level.
pub(super) struct Frame<'a> {
    pub home: usize,
    pub block: Option<&'a ast::Block>,
    pub part: Option<Rc<Part<'a>>>,
    pub path: Arc<str>,
    pub chain: Arc<str>,
    /// The number of path and chain among those of all frames.
    pub way: usize,
    pub call: Option<Span>,
    /// The name that the call's result is assigned to, for advice.
    pub target: Option<&'a str>,
    pub scopes: Vec<Scope<'a>>,
    pub leads: Vec<usize>,
    pub states: Vec<Declared>,
    pub delays: Vec<Delay>,
    /// Whether parts, weights and states may be declared here.
    pub owns: bool,
    /// Dynamic branches and loops open in this frame.
    pub depth: usize,
    /// What names held before they were given other values inside the branches and loops that are open.
    pub log: Vec<(usize, Arc<str>, Var<'a>)>,
    /// How many of these are open.
    pub recording: usize,
}

/// The names of outside that a branch or round gave other values, by scope and name, with those.
pub(super) type Touched<'a> = HashMap<(usize, Arc<str>), Var<'a>>;

/// A moment of a frame, to which its names can be set back.
pub(super) struct Mark {
    scopes: usize,
    log: usize,
}

impl<'a> Frame<'a> {
    /// A frame for names of model level.
    pub fn model(home: usize) -> Frame<'a> {
        Frame {
            home,
            block: None,
            part: None,
            path: "".into(),
            chain: "".into(),
            way: 0,
            call: None,
            target: None,
            scopes: vec![Scope::default()],
            leads: Vec::new(),
            states: Vec::new(),
            delays: Vec::new(),
            owns: true,
            depth: 0,
            log: Vec::new(),
            recording: 0,
        }
    }

    /// Remembers the names as they are, until [`Frame::set_back`].
    pub fn mark(&mut self) -> Mark {
        self.recording += 1;
        Mark { scopes: self.scopes.len(), log: self.log.len() }
    }

    /// Gives the names what they held at a mark, and says what those held that have changed since.
    pub fn set_back(&mut self, mark: Mark) -> Touched<'a> {
        self.recording -= 1;
        self.scopes.truncate(mark.scopes);
        let mut touched = Touched::new();
        for (scope, name, before) in self.log.drain(mark.log..).rev() {
            let Some(var) = self.scopes.get_mut(scope).and_then(|s| s.get_mut(&name)) else {
                continue;
            };
            let after = std::mem::replace(var, before);
            touched.entry((scope, name)).or_insert(after);
        }
        touched
    }

    /// The variable of a name in one scope, to be given another value.
    pub fn change(&mut self, scope: usize, name: &str) -> Option<&mut Var<'a>> {
        let (_, key, var) = self.scopes.get_mut(scope)?.get_full_mut(name)?;
        if self.recording > 0 {
            self.log.push((scope, key.clone(), var.clone()));
        }
        Some(var)
    }

    /// The variable of a name, innermost scope first.
    pub fn find(&self, name: &str) -> Option<&Var<'a>> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name))
    }

    /// As [`Frame::find`], to be given another value.
    fn find_mut(&mut self, name: &str) -> Option<&mut Var<'a>> {
        let scope = self.scopes.iter().rposition(|scope| scope.contains_key(name))?;
        self.change(scope, name)
    }
}

/// The names of one file.
pub(super) struct Namespace<'a> {
    pub file: &'a ast::File,
    pub globals: HashMap<Arc<str>, Global<'a>>,
    /// In the order declared.
    pub order: Vec<Arc<str>>,
    /// Namespaces of imported libraries.
    pub imports: Vec<usize>,
}

impl<'a> Namespace<'a> {
    /// The namespace of a file, still empty.
    pub fn new(file: &'a ast::File) -> Namespace<'a> {
        Namespace { file, globals: HashMap::new(), order: Vec::new(), imports: Vec::new() }
    }
}

impl<'a> Elaborator<'a> {
    /// The value of a name: the block's own, then the file's, then its imports', then an operation's.
    pub(super) fn lookup(&mut self, name: &str, span: Span) -> R<Val<'a>> {
        if let Some(var) = self.frame().find(name) {
            return match &var.value {
                Val::Poison => Err(super::value::Reported),
                value => Ok(value.clone()),
            };
        }
        let home = self.frame().home;
        if let Some(value) = self.global(home, name, span)? {
            return Ok(value);
        }
        if let Some(value) = builtin(name) {
            return Ok(value);
        }
        if name == "position" && self.entry.is_some() {
            return self.position(span);
        }
        self.unknown_name(name, span)
    }

    /// Gives a name a value: rebinds the block's own, or makes a new one in the innermost scope.
    pub(super) fn assign(&mut self, name: &'a ast::Name, value: Val<'a>, stmt: Span) {
        let version = self.next_id();
        if let Some(var) = self.frame().find(name.as_str())
            && var.kind == Kind::Fixed
        {
            let declared = var.declared;
            self.diagnostics.push(
                Diagnostic::error(
                    Code::Rebound,
                    format!("`{}` is a part or weight and cannot be assigned", name.as_str()),
                )
                .at(name.span, "assigned here")
                .and_at(declared, "declared here"),
            );
            return;
        }
        if let Some(var) = self.frame_mut().find_mut(name.as_str()) {
            var.value = value;
            var.assigned = stmt;
            var.version = version;
            return;
        }
        self.declare(name.text.clone(), value, Kind::Local, name.span, stmt);
    }

    /// After a mistake: what the statement would have made is not to be complained about again.
    pub(super) fn poison(&mut self, name: &'a ast::Name, stmt: Span) {
        match self.frame().find(name.as_str()).map(|v| v.kind) {
            Some(Kind::Fixed) => {}
            Some(_) => self.assign(name, Val::Poison, stmt),
            None => {
                let local = Kind::Local;
                self.declare(name.text.clone(), Val::Poison, local, name.span, stmt);
            }
        }
    }

    /// Makes a name in the innermost scope.
    pub(super) fn declare(&mut self, name: Arc<str>, value: Val<'a>, kind: Kind, declared: Span, assigned: Span) {
        let version = self.next_id();
        let frame = self.frame_mut();
        let scope = frame.scopes.last_mut().expect("a frame has a scope");
        let taken = scope.get(&name).map(|v| (v.kind, v.declared));
        if let Some((Kind::Fixed | Kind::State(_), before)) = taken
            && before != declared
        {
            self.duplicate(&name, declared, before);
            return;
        }
        scope.insert(name, Var { value, kind, declared, assigned, version });
    }

    /// Two declarations of one name.
    pub(super) fn duplicate(&mut self, name: &str, span: Span, before: Span) {
        self.diagnostics.push(
            Diagnostic::error(Code::DuplicateName, format!("`{name}` is declared twice"))
                .at(span, "declared again")
                .and_at(before, "declared first"),
        );
    }

    fn unknown_name<T>(&mut self, name: &str, span: Span) -> R<T> {
        if let Some(Branch { condition, place, stepwise }) = self.branch_not_taken(name) {
            let (which, label) = match stepwise {
                true => ("in a branch that not every step takes", "not made in every step"),
                false => ("in a branch that was not taken", "not made for this config"),
            };
            return self.fail(
                Diagnostic::error(Code::BranchNotTaken, format!("`{name}` exists only {which}"))
                    .at(span, label)
                    .and_at(place, "made here")
                    .note(format!("the branch needs {condition}"))
                    .help_if(stepwise.then(|| format!("give `{name}` a value before the branch"))),
            );
        }
        let mut known: Vec<(Arc<str>, String)> = Vec::new();
        for scope in self.frame().scopes.iter().rev() {
            for (name, var) in scope {
                let line = self.files.position(var.declared).line;
                known.push((name.clone(), format!("{}, line {line}", var.kind.word())));
            }
        }
        let home = self.frame().home;
        let mut places = vec![self.namespaces[home].file.name.text.to_string()];
        let mut homes = vec![home];
        homes.extend(self.namespaces[home].imports.iter().copied());
        for &at in &homes {
            for name in &self.namespaces[at].order {
                let global = &self.namespaces[at].globals[name];
                let line = self.files.position(global.span).line;
                known.push((name.clone(), format!("{}, line {line}", global.word())));
            }
            if at != home {
                places.push(self.namespaces[at].file.name.text.to_string());
            }
        }
        if home == 0 {
            for (key, span) in self.schema.top_keys() {
                let line = self.files.position(span).line;
                known.push((key, format!("config key, line {line}")));
            }
        }
        for op in OPERATIONS {
            known.push(((*op).into(), "operation".into()));
        }
        let near = nearest(name, known.iter().map(|(name, _)| &**name)).map(str::to_string);
        let near = near.and_then(|near| {
            let (name, what) = known.iter().find(|(name, _)| **name == *near)?;
            Some(format!("nearest name: `{name}` ({what})"))
        });
        let help = self.library_with(name).or_else(|| foreign::name(name).map(str::to_string)).or(near);
        self.fail(
            Diagnostic::error(Code::UnknownName, format!("unknown name `{name}`"))
                .at(span, format!("not found here, in {}", places.join(" or in ")))
                .help_if(help),
        )
    }

    /// Advice for a block of a library that comes with the program and is not imported.
    fn library_with(&self, name: &str) -> Option<String> {
        let library = library::embedded_with_block(name)?;
        let imported = &self.namespaces[self.frame().home].imports;
        let open = imported.iter().any(|&at| self.namespaces[at].file.name.as_str() == library);
        (!open).then(|| format!("`{library}` has a block `{name}`: write `import {library}` below the header"))
    }

    /// A branch in the current block that makes, or would make, this name.
    fn branch_not_taken(&self, name: &str) -> Option<Branch> {
        let frame = self.frame();
        match frame.block {
            Some(block) => self.find_in_branches(&block.body.stmts, name, None),
            None => self.namespaces[frame.home].file.items.iter().find_map(|item| match item {
                ast::Item::Stmt(stmt) => self.find_in_branches(std::slice::from_ref(stmt), name, None),
                _ => None,
            }),
        }
    }

    fn find_in_branches(&self, stmts: &[ast::Stmt], name: &str, within: Option<(&str, bool)>) -> Option<Branch> {
        for stmt in stmts {
            if let Some((condition, stepwise)) = within
                && let Some(found) = super::control::made_names(stmt).into_iter().find(|n| n.as_str() == name)
            {
                return Some(Branch { condition: condition.to_string(), place: found.span, stepwise });
            }
            let stepwise = self.stepwise.contains(&stmt.span);
            let found = match &stmt.kind {
                ast::StmtKind::If { arms, otherwise } => arms
                    .iter()
                    .find_map(|arm| {
                        let text = format!("`{}`", self.files.slice(arm.condition.span));
                        self.find_in_branches(&arm.body.stmts, name, Some((&text, stepwise)))
                    })
                    .or_else(|| {
                        let first = self.files.slice(arms.first()?.condition.span);
                        let text = format!("`{first}` to be false");
                        self.find_in_branches(&otherwise.as_ref()?.stmts, name, Some((&text, stepwise)))
                    }),
                ast::StmtKind::Match { subject, arms } => arms.iter().find_map(|arm| {
                    let text = format!(
                        "the arm in line {} of `match {}`",
                        self.files.position(arm.span).line,
                        self.files.slice(subject.span)
                    );
                    self.find_in_branches(&arm.body.stmts, name, Some((&text, stepwise)))
                }),
                // Names of an entry are its own: what decides about the entry does not decide about them.
                ast::StmtKind::Entry(entry) => self.find_in_branches(&entry.body.stmts, name, None),
                _ => None,
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

/// A branch that makes a name which does not exist outside of it.
struct Branch {
    condition: String,
    /// Where it makes the name.
    place: Span,
    /// Whether each step decides anew.
    stepwise: bool,
}

/// What the language itself calls by this name.
pub(super) fn builtin<'a>(name: &str) -> Option<Val<'a>> {
    if let Some(elem) = Elem::from_name(name)
        && !matches!(elem, Elem::Ternary | Elem::Sign)
    {
        return Some(Val::Elem(elem));
    }
    match name {
        "pi" => Some(Val::Float(std::f64::consts::PI)),
        "cache" => Some(Val::Axis(crate::ir::AxisCapacity::Unbounded)),
        _ => OPERATIONS.iter().find(|op| **op == name).map(|op| Val::Op(op)),
    }
}
