//! Parts, weights and states: what a block owns, under which path, made once and found again when
//! the block runs a second time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::Elaborator;
use super::scope::{Frame, Kind};
use super::unused::{names_of, names_of_statement};
use super::value::{Part, PartArray, R, Reported, Val};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::{Dim, Elem, Encoding, UnreadTensor, WeightDecl, WeightSource};
use crate::lang::ast::{self, StmtKind};

impl<'a> Elaborator<'a> {
    /// A `part`, `weight` or `state` statement inside a block or entry.
    pub(super) fn declaration(&mut self, stmt: &'a ast::Stmt) -> R<()> {
        if !self.frame().owns {
            return self.needs_part(Some(stmt));
        }
        match &stmt.kind {
            StmtKind::Part { names, .. } => {
                for (i, part) in names.iter().enumerate() {
                    let value = self.part_value(stmt, i).unwrap_or(Val::Poison);
                    let name = &part.name;
                    self.declare(name.text.clone(), value, Kind::Fixed, name.span, stmt.span);
                }
            }
            StmtKind::Weight { names, .. } => {
                for (i, name) in names.iter().enumerate() {
                    let value = self.weight_decl(stmt, i).unwrap_or(Val::Poison);
                    self.declare(name.text.clone(), value, Kind::Fixed, name.span, stmt.span);
                }
            }
            _ => self.state_statement(stmt)?,
        }
        Ok(())
    }

    /// A block that owns something is called without a part.
    pub(super) fn needs_part<T>(&mut self, stmt: Option<&'a ast::Stmt>) -> R<T> {
        let frame = self.frame();
        let name = frame.block.map_or("", |b| b.name.as_str());
        let (call, path) = (frame.call, template_path(&frame.path));
        let part = frame.target.map_or("w".into(), |target| format!("w_{target}"));
        let last = match stmt.map(|s| &s.kind) {
            Some(StmtKind::Weight { names, at, .. }) => match at {
                Some(at) => at.as_plain().map(str::to_string),
                None => names.first().map(|n| n.text.to_string()),
            },
            _ => None,
        };
        let owned = match last {
            Some(_) => "weight",
            None => "path",
        };
        let full: Vec<&str> =
            [path.as_str(), &part, last.as_deref().unwrap_or_default()].into_iter().filter(|s| !s.is_empty()).collect();
        let text = call.map_or(name, |span| self.files.slice(span));
        let help =
            format!("declare `part {part}: {text}` and call `{part}(...)`; its {owned} is then {}", full.join("."));
        let what = if owned == "weight" { "weights" } else { "parts or states" };
        let diagnostic = Diagnostic::error(
            Code::NeedsPart,
            format!("`{name}` owns {what}, so its use needs a name in the checkpoint"),
        );
        let diagnostic = match call {
            Some(span) => diagnostic.at(span, "called directly"),
            None => diagnostic,
        };
        self.fail(diagnostic.help(help))
    }

    pub(super) fn path_of(&mut self, name: &'a ast::Name, at: Option<&'a ast::Template>) -> R<String> {
        let last = match at {
            None => name.text.to_string(),
            Some(template) => {
                self.frame_mut().scopes.push(Default::default());
                let text = Val::Text(name.text.clone());
                self.declare("name".into(), text, Kind::LoopVariable, name.span, name.span);
                let filled = self.fill(template);
                self.frame_mut().scopes.pop();
                filled?
            }
        };
        let path = &self.frame().path;
        Ok(match (path.is_empty(), last.is_empty()) {
            (true, _) => last,
            (_, true) => path.to_string(),
            _ => format!("{path}.{last}"),
        })
    }

    /// The n-th part of a statement: made now, or found if its block has run before.
    pub(super) fn part_value(&mut self, stmt: &'a ast::Stmt, index: usize) -> R<Val<'a>> {
        let StmtKind::Part { names, block, at } = &stmt.kind else {
            return Err(Reported);
        };
        let declared = &names[index];
        let name = &declared.name;
        if let Some(owner) = &self.frame().part
            && let Some(value) = owner.parts.borrow().get(&name.text)
        {
            return Ok(value.clone());
        }
        let path = self.path_of(name, at.as_ref())?;
        let value = match &declared.array {
            None => {
                let part = self.make_part(name, path, block)?;
                Val::Part(part)
            }
            Some((variable, domain)) => {
                let keys = self.domain(domain, "part array")?;
                let mut elements = Vec::new();
                for key in keys {
                    let at = format!("{path}.{}", key.show());
                    self.frame_mut().scopes.push(Default::default());
                    let span = variable.span;
                    let loop_value = key.clone();
                    self.declare(variable.text.clone(), loop_value, Kind::LoopVariable, span, span);
                    let part = self.make_part(name, at, block);
                    self.frame_mut().scopes.pop();
                    elements.push((key, part?));
                }
                Val::Parts(Rc::new(PartArray { name: name.text.clone(), declared: name.span, elements }))
            }
        };
        if let Some(owner) = &self.frame().part {
            let mut parts = owner.parts.borrow_mut();
            parts.insert(name.text.clone(), value.clone());
        }
        Ok(value)
    }

    fn make_part(&mut self, name: &'a ast::Name, path: String, block: &'a ast::Expr) -> R<Rc<Part<'a>>> {
        let bound = match self.eval(block, None)? {
            Val::Block(bound) => bound,
            other => {
                return self.fail(
                    Diagnostic::error(Code::NotABlock, "a part is an instance of a block").at(block.span, other.kind()),
                );
            }
        };
        if self.parts.len() >= self.limits.parts {
            return self.too_big(block.span, format!("more than {} parts", self.limits.parts));
        }
        let part = Rc::new(Part {
            id: self.next_id(),
            name: name.text.clone(),
            path,
            bound,
            declared: name.span,
            block_span: block.span,
            used: Cell::new(false),
            parts: RefCell::default(),
            weights: RefCell::default(),
            states: RefCell::default(),
        });
        self.parts.push(part.clone());
        Ok(part)
    }

    /// The n-th weight of a statement.
    pub(super) fn weight_decl(&mut self, stmt: &'a ast::Stmt, index: usize) -> R<Val<'a>> {
        let StmtKind::Weight { names, ty, at } = &stmt.kind else {
            return Err(Reported);
        };
        let name = &names[index];
        let (encoding, shape) = self.stored_type(ty)?;
        let owner = self.frame().part.clone();
        let known = owner.and_then(|o| o.weights.borrow().get(&name.text).cloned());
        if let Some(value) = known {
            if let Val::Weight(id) = value
                && (self.module.weight(id).shape != shape || self.module.weight(id).encoding != encoding)
            {
                let before = self.module.weight(id).shape.clone();
                return self.fail_here(
                    Diagnostic::error(
                        Code::ArgumentType,
                        format!("`{}` is called with different sizes", name.as_str()),
                    )
                    .at(ty.span, format!("{before:?} before, {shape:?} now")),
                );
            }
            return Ok(value);
        }
        let path = self.path_of(name, at.as_ref())?;
        let exists = self.tensors.as_ref().is_some_and(|t| t.contains(&path));
        let value = if ty.optional && !exists {
            Val::Absent(path.into())
        } else {
            self.new_path(&path, name.span, false)?;
            let origin = self.weight_origin(name.span);
            let id =
                self.module.add_weight(WeightDecl { path, shape, encoding, source: WeightSource::Checkpoint, origin });
            self.weight_used.push(false);
            self.weight_spans.push(name.span);
            self.weight_shapes.push(ty.span);
            let (most, bytes) = (self.limits.declared, self.limits.weights);
            if self.module.weights.len() > most {
                return self.too_big(name.span, format!("more than {most} weights"));
            }
            // As f32, the widest form.
            self.weight_bytes = self.weight_bytes.saturating_add(4 * self.module.weight(id).elements());
            if self.weight_bytes > bytes {
                return self.too_big(ty.span, format!("more than {bytes} bytes of weights as f32, all together"));
            }
            Val::Weight(id)
        };
        if let Some(owner) = &self.frame().part {
            let mut weights = owner.weights.borrow_mut();
            weights.insert(name.text.clone(), value.clone());
        }
        Ok(value)
    }

    /// Where the model's own text asks for a weight: a part of a library block is named there.
    fn weight_origin(&mut self, span: Span) -> crate::ir::OriginId {
        let own = self.frames.iter().rposition(|f| f.home == 0).unwrap_or(0);
        let Some(part) = self.frames.get(own + 1).and_then(|f| f.part.clone()) else {
            return self.origin(span);
        };
        let above = self.frames.split_off(own + 1);
        let origin = self.origin(part.declared);
        self.frames.extend(above);
        origin
    }

    pub(super) fn new_path(&mut self, path: &str, span: Span, state: bool) -> R<()> {
        let part = self.frame().part.as_ref().map_or(span, |part| part.declared);
        let paths = if state { &mut self.state_paths } else { &mut self.paths };
        let Some((before, before_part)) = paths.insert(path.to_string(), (span, part)) else {
            return Ok(());
        };
        // Two parts of one block meet in one path: the parts are what differs.
        let (here, there) = if before == span { (part, before_part) } else { (span, before) };
        self.fail(
            Diagnostic::error(Code::DuplicatePath, format!("two owners of `{path}`"))
                .at(here, "declared here")
                .and_at(there, "and here")
                .help("give one of them another path with `at`"),
        )
    }

    /// The encoding and shape that a tensor is declared to have in the checkpoint.
    fn stored_type(&mut self, ty: &'a ast::ValueType) -> R<(Encoding, Vec<usize>)> {
        let encoding = self.encoding_of(&ty.element)?;
        let mut shape = Vec::new();
        for axis in &ty.axes {
            let value = self.eval(axis, None)?;
            shape.push(self.as_size(&value, axis.span)?);
        }
        let dims: Vec<Dim> = shape.iter().map(|&n| Dim::Const(n)).collect();
        self.check_size(&dims, ty.span)?;
        Ok((encoding, shape))
    }

    /// A tensor of the model that the graph does not read.
    pub(super) fn unread_tensor(&mut self, name: &'a ast::Text, ty: &'a ast::ValueType) -> R<UnreadTensor> {
        if name.value.contains('*') {
            return self.fail(
                Diagnostic::error(Code::StaticValue, "a type is that of one tensor, so its name has no `*`")
                    .at(name.span, "a name for many"),
            );
        }
        self.new_path(&name.value, name.span, false)?;
        let (encoding, shape) = self.stored_type(ty)?;
        Ok(UnreadTensor { encoding, shape })
    }

    fn encoding_of(&mut self, element: &'a ast::Name) -> R<Encoding> {
        match self.lookup(element.as_str(), element.span)? {
            Val::Elem(Elem::F32) => Ok(Encoding::F32),
            Val::Elem(Elem::F16) => Ok(Encoding::F16),
            Val::Elem(Elem::Bf16) => Ok(Encoding::Bf16),
            Val::Encoding(encoding) => Ok((*encoding).clone()),
            other => self.fail(
                Diagnostic::error(Code::Encoding, format!("`{}` is no encoding", element.as_str()))
                    .at(element.span, other.kind())
                    .help("encodings are f32, f16, bf16, `ternary(...)` and `sign(...)`"),
            ),
        }
    }

    /// A weight or part inside a part, made if its block has not run yet.
    pub(super) fn part_member(&mut self, part: &Rc<Part<'a>>, member: &'a ast::Name) -> R<Val<'a>> {
        part.used.set(true);
        if let Some(value) = part.weights.borrow().get(&member.text) {
            return Ok(value.clone());
        }
        if let Some(value) = part.parts.borrow().get(&member.text) {
            return Ok(value.clone());
        }
        let block = part.bound.block;
        let mut known = Vec::new();
        for stmt in &block.body.stmts {
            let names: Vec<&ast::Name> = match &stmt.kind {
                StmtKind::Weight { names, .. } => names.iter().collect(),
                StmtKind::Part { names, .. } => names.iter().map(|n| &n.name).collect(),
                _ => continue,
            };
            known.extend(names.iter().map(|n| n.text.to_string()));
            let Some(index) = names.iter().position(|n| n.text == member.text) else {
                continue;
            };
            let frame = Frame {
                block: Some(block),
                part: Some(part.clone()),
                path: part.path.as_str().into(),
                call: Some(member.span),
                ..Frame::model(part.bound.home)
            };
            self.push_frame(frame, member.span)?;
            let value = self.early_member(part, member, stmt, index);
            self.frames.pop();
            return value;
        }
        self.no_member(member, &known)
    }

    /// A member in the frame of its part, where only what the part was given and what has a default is known.
    fn early_member(
        &mut self,
        part: &Rc<Part<'a>>,
        member: &ast::Name,
        stmt: &'a ast::Stmt,
        index: usize,
    ) -> R<Val<'a>> {
        let statics = || part.bound.block.statics.iter().zip(&part.bound.statics);
        let mut read = names_of_statement(stmt);
        for (param, _) in statics().rev().filter(|(_, given)| given.is_none()) {
            if read.contains(&param.name.text) {
                read.extend(param.default.iter().flat_map(names_of));
            }
        }
        for (param, given) in statics().filter(|(param, _)| read.contains(&param.name.text)) {
            let name = &param.name;
            let Some(value) = self.given_or_default(param, given.clone())? else {
                return self.fail(
                    Diagnostic::error(
                        Code::NotInferable,
                        format!("`{}` of `{}` is not known before the part is called", name.text, part.bound.label()),
                    )
                    .at(member.span, "read here")
                    .help("call the part first, or give it what it takes from its arguments"),
                );
            };
            self.declare(name.text.clone(), value, Kind::Static, name.span, name.span);
        }
        match &stmt.kind {
            StmtKind::Weight { .. } => self.weight_decl(stmt, index),
            _ => self.part_value(stmt, index),
        }
    }
}

/// A path with its indices as `{i}`, as one says it of all layers.
fn template_path(path: &str) -> String {
    path.split('.')
        .map(|segment| if segment.bytes().all(|b| b.is_ascii_digit()) && !segment.is_empty() { "{i}" } else { segment })
        .collect::<Vec<_>>()
        .join(".")
}
