//! Parts, weights and states: what a block owns, under which path, made once and found again when
//! the block runs a second time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::Elaborator;
use super::scope::{Declared, Delay, Frame, Kind};
use super::value::{Part, PartArray, R, Reported, Tensor, Val, show_type};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::{
    Axis, AxisCapacity, Dim, Elem, Encoding, Initial, Op, StateDecl, StateId, Type, WeightDecl,
    WeightSource,
};
use crate::lang::ast::{self, Arg, StmtKind};

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
    fn needs_part<T>(&mut self, stmt: Option<&'a ast::Stmt>) -> R<T> {
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
        let full: Vec<&str> = [path.as_str(), &part, last.as_deref().unwrap_or_default()]
            .into_iter()
            .filter(|s| !s.is_empty())
            .collect();
        let text = call.map_or(name, |span| self.files.slice(span));
        let help = format!(
            "declare `part {part}: {text}` and call `{part}(...)`; its {owned} is then {}",
            full.join(".")
        );
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

    fn path_of(&mut self, name: &'a ast::Name, at: Option<&'a ast::Template>) -> R<String> {
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
                    self.declare(
                        variable.text.clone(),
                        loop_value,
                        Kind::LoopVariable,
                        span,
                        span,
                    );
                    let part = self.make_part(name, at, block);
                    self.frame_mut().scopes.pop();
                    elements.push((key, part?));
                }
                Val::Parts(Rc::new(PartArray {
                    name: name.text.clone(),
                    declared: name.span,
                    elements,
                }))
            }
        };
        if let Some(owner) = &self.frame().part {
            let mut parts = owner.parts.borrow_mut();
            parts.insert(name.text.clone(), value.clone());
        }
        Ok(value)
    }

    fn make_part(
        &mut self,
        name: &'a ast::Name,
        path: String,
        block: &'a ast::Expr,
    ) -> R<Rc<Part<'a>>> {
        let bound = match self.eval(block, None)? {
            Val::Block(bound) => bound,
            other => {
                return self.fail(
                    Diagnostic::error(Code::NotABlock, "a part is an instance of a block")
                        .at(block.span, other.kind()),
                );
            }
        };
        if self.parts.len() >= self.limits.list {
            return self.too_big(block.span, format!("more than {} parts", self.limits.list));
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
        let encoding = self.encoding_of(&ty.element)?;
        let mut shape = Vec::new();
        for axis in &ty.axes {
            let value = self.eval(axis, None)?;
            shape.push(self.as_size(&value, axis.span)?);
        }
        let dims: Vec<Dim> = shape.iter().map(|&n| Dim::Const(n)).collect();
        self.check_size(&dims, ty.span)?;
        let owner = self.frame().part.clone();
        let known = owner.and_then(|o| o.weights.borrow().get(&name.text).cloned());
        if let Some(value) = known {
            if let Val::Weight(id) = value
                && (self.module.weight(id).shape != shape
                    || self.module.weight(id).encoding != encoding)
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
            let id = self.module.add_weight(WeightDecl {
                path,
                shape,
                encoding,
                source: WeightSource::Checkpoint,
                origin,
            });
            self.weight_used.push(false);
            self.weight_spans.push(name.span);
            self.weight_shapes.push(ty.span);
            if self.module.weights.len() > self.limits.list {
                return self.too_big(name.span, "too many weights".into());
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

    fn new_path(&mut self, path: &str, span: Span, state: bool) -> R<()> {
        let paths = if state {
            &mut self.state_paths
        } else {
            &mut self.paths
        };
        if let Some(before) = paths.insert(path.to_string(), span) {
            return self.fail(
                Diagnostic::error(Code::DuplicatePath, format!("two owners of `{path}`"))
                    .at(span, "declared here")
                    .and_at(before, "and here"),
            );
        }
        Ok(())
    }

    fn encoding_of(&mut self, element: &'a ast::Name) -> R<Encoding> {
        match self.lookup(element.as_str(), element.span)? {
            Val::Elem(Elem::F32) => Ok(Encoding::F32),
            Val::Elem(Elem::F16) => Ok(Encoding::F16),
            Val::Elem(Elem::Bf16) => Ok(Encoding::Bf16),
            Val::Encoding(encoding) => Ok((*encoding).clone()),
            other => self.fail(
                Diagnostic::error(
                    Code::Encoding,
                    format!("`{}` is no encoding", element.as_str()),
                )
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
            for (param, value) in block.statics.iter().zip(&part.bound.statics) {
                if let Some(value) = value {
                    let span = param.name.span;
                    self.declare(
                        param.name.text.clone(),
                        value.clone(),
                        Kind::Static,
                        span,
                        span,
                    );
                }
            }
            let value = match &stmt.kind {
                StmtKind::Weight { .. } => self.weight_decl(stmt, index),
                _ => self.part_value(stmt, index),
            };
            self.frames.pop();
            return value;
        }
        self.no_member(member, &known)
    }

    fn state_statement(&mut self, stmt: &'a ast::Stmt) -> R<()> {
        let StmtKind::State {
            held,
            names,
            ty,
            init,
        } = &stmt.kind
        else {
            return Err(Reported);
        };
        if self.frame().depth > 0 {
            return self.fail(
                Diagnostic::error(
                    Code::WrongStage,
                    "a state cannot be declared inside a branch or loop of the step",
                )
                .at(stmt.span, "declare it above"),
            );
        }
        let element = self.lookup(ty.element.as_str(), ty.element.span)?;
        let Val::Elem(elem) = element else {
            return self.fail(
                Diagnostic::error(Code::ElementType, "a state has an element type")
                    .at(ty.element.span, element.kind()),
            );
        };
        let mut shape = Vec::new();
        let mut capacity = None;
        for (i, axis) in ty.axes.iter().enumerate() {
            match self.eval(axis, None)? {
                Val::Axis(kind) if capacity.is_none() => {
                    capacity = Some((i, kind));
                    shape.push(Dim::Const(0));
                }
                Val::Axis(_) | Val::Grow(_) => {
                    return self.fail(
                        Diagnostic::error(Code::GrowingState, "one axis of a state may grow")
                            .at(axis.span, "a second one"),
                    );
                }
                value => shape.push(Dim::Const(self.as_size(&value, axis.span)?)),
            }
        }
        self.check_size(&shape, ty.span)?;
        let heading = names
            .last()
            .map_or(stmt.keyword, |name| stmt.keyword.to(name.span));
        self.once_per_step(heading)?;
        let initial = match (init, capacity) {
            (None, None) => {
                return self.fail(
                    Diagnostic::error(Code::StateType, "a state needs a value to start from")
                        .at(stmt.span, "write `= 0`"),
                );
            }
            (Some(expr), Some(_)) => {
                return self.fail(
                    Diagnostic::error(Code::GrowingState, "a growing state starts empty")
                        .at(expr.span, ""),
                );
            }
            (None, Some(_)) => Initial::Empty,
            (Some(expr), None) => self.initial(expr, elem, &shape)?,
        };
        let mut axis = None;
        for name in names {
            let id = self.state(name, elem, &shape, capacity, &mut axis, &initial, *held)?;
            let state = self.module.state(id);
            let own = state.ty.shape[state.ty.shape.len() - shape.len()..].to_vec();
            let leads = self.frame().leads.clone();
            let mut tensor =
                self.emit1(Op::StateRead(id), &[], elem, &leads, &own, name.span)?;
            tensor.state = Some(id);
            self.declare(
                name.text.clone(),
                Val::tensor(tensor),
                Kind::State(id),
                name.span,
                stmt.span,
            );
            let version = self.frame().find(name.as_str()).map_or(0, |v| v.version);
            self.frame_mut().states.push(Declared {
                id,
                name: name.text.clone(),
                version,
                span: name.span,
            });
        }
        Ok(())
    }

    /// Refuses a second run of a part with state in one step.
    fn once_per_step(&mut self, state: Span) -> R<()> {
        let Some(part) = self.frame().part.clone() else {
            return Ok(());
        };
        let first_in_call = self.frame().states.is_empty() && self.frame().delays.is_empty();
        if first_in_call && !self.ran.insert(part.id) {
            let call = self.frame().call.unwrap_or(part.declared);
            return self.fail(
                Diagnostic::error(
                    Code::StateTwice,
                    format!(
                        "part `{}` has state and is called twice in one step",
                        part.name
                    ),
                )
                .at(call, "second call")
                .and_at(state, "its state")
                .help("declare a second part, or keep the first result in a name"),
            );
        }
        Ok(())
    }

    fn initial(&mut self, expr: &'a ast::Expr, elem: Elem, shape: &[Dim]) -> R<Initial> {
        let value = self.eval(expr, Some(elem))?;
        let fill = match (&value, elem) {
            (Val::Bool(b), Elem::Bool) => Some(f64::from(u8::from(*b))),
            (Val::Int(n), Elem::F32) => Some(*n as f64),
            (Val::Float(x), Elem::F32) => Some(*x),
            (Val::Int(_), _) if elem.is_integer() => {
                super::statics::literal(&value, Some(elem)).ok().and(value.as_f64())
            }
            (Val::Weight(id), Elem::F32) => {
                let weight = self.module.weight(*id);
                let float = matches!(
                    weight.encoding,
                    Encoding::F32 | Encoding::F16 | Encoding::Bf16
                );
                if float && weight.ty().shape == shape {
                    self.weight_used[id.index()] = true;
                    return Ok(Initial::Weight(*id));
                }
                None
            }
            _ => None,
        };
        match fill {
            Some(fill) => Ok(Initial::Fill(fill)),
            None => self.fail(
                Diagnostic::error(
                    Code::StateType,
                    "a state starts from a number, a bool or a float weight of its shape",
                )
                .at(expr.span, format!("{} {}", value.kind(), value.show())),
            ),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn state(
        &mut self,
        name: &'a ast::Name,
        elem: Elem,
        shape: &[Dim],
        capacity: Option<(usize, AxisCapacity)>,
        axis: &mut Option<crate::ir::AxisId>,
        initial: &Initial,
        held: bool,
    ) -> R<StateId> {
        if let Some(owner) = &self.frame().part
            && let Some(&id) = owner.states.borrow().get(&name.text)
        {
            return Ok(id);
        }
        let path = self.path_of(name, None)?;
        self.new_path(&path, name.span, true)?;
        let mut own = shape.to_vec();
        if let Some((at, capacity)) = capacity {
            let id = match *axis {
                Some(id) => id,
                None => self.module.add_axis(Axis {
                    path: path.clone(),
                    capacity,
                }),
            };
            *axis = Some(id);
            own[at] = Dim::Grow { axis: id, plus: 0 };
        }
        let leads = self.frame().leads.clone();
        let origin = self.origin(name.span);
        let ty = Type::new(elem, self.full(&leads, &own));
        self.check_size(&ty.shape, name.span)?;
        let id = self.module.add_state(StateDecl {
            path,
            ty,
            initial: initial.clone(),
            instances: if held { Vec::new() } else { self.repeats.clone() },
            held,
            origin,
        });
        if let Some(owner) = &self.frame().part {
            owner.states.borrow_mut().insert(name.text.clone(), id);
        }
        Ok(id)
    }

    /// What the states of the call hold after it: written if they were assigned.
    pub(super) fn write_states(&mut self, _span: Span) -> R<()> {
        let states = std::mem::take(&mut self.frame_mut().states);
        for state in &states {
            let Some(var) = self.frame().find(&state.name) else {
                continue;
            };
            if var.version == state.version {
                continue;
            }
            let (value, assigned) = (var.value.clone(), var.assigned);
            let decl = self.module.state(state.id);
            let (elem, held) = (decl.elem(), decl.held);
            if held {
                return self.fail(
                    Diagnostic::error(
                        Code::Rebound,
                        format!("`{}` is held: the host writes it, not the graph", state.name),
                    )
                    .at(assigned, "assigned here")
                    .and_at(state.span, "declared here"),
                );
            }
            let leads = self.frame().leads.clone();
            let own = decl.ty.shape[self.lead_axes(&leads)..].to_vec();
            let tensor = self.to_tensor(&value, Some(elem), assigned)?;
            let scalar_fill = value.is_number();
            if tensor.elem != elem || tensor.shape != own && !scalar_fill {
                return self.fail_here(
                    Diagnostic::error(
                        Code::StateType,
                        format!("state `{}` is {}", state.name, show_type(elem, &own)),
                    )
                    .at(
                        assigned,
                        format!("assigned {}", show_type(tensor.elem, &tensor.shape)),
                    )
                    .and_at(state.span, "declared here"),
                );
            }
            let tensor = self.expand(&tensor, &leads, &own, assigned)?;
            self.emit(Op::StateWrite(state.id), &[tensor.value], Vec::new(), assigned)?;
        }
        let delays = std::mem::take(&mut self.frame_mut().delays);
        for delay in delays {
            let value = self.local(&delay.pushed);
            self.emit(Op::StateWrite(delay.state), &[value], Vec::new(), delay.span)?;
        }
        Ok(())
    }

    /// `delay(x, j)`: the value of a name j steps earlier.
    pub(super) fn delay(&mut self, args: &'a [Arg], span: Span) -> R<Val<'a>> {
        let [name, steps] = args else {
            return self.count("`delay`", 2, args.len(), span);
        };
        let (Some(expr), Some(steps)) = (name.value.as_value(), steps.value.as_value()) else {
            return self.count("`delay`", 2, args.len(), span);
        };
        let Some(name) = expr.as_name() else {
            return self.fail(
                Diagnostic::error(Code::WrongStage, "`delay` looks back at a name")
                    .at(expr.span, "give this value a name first"),
            );
        };
        let back = self.eval(steps, None)?;
        let back = self.as_size(&back, steps.span)?;
        if back == 0 || back > self.limits.list {
            return self.fail(
                Diagnostic::error(Code::StaticValue, format!("a delay of {back} steps"))
                    .at(steps.span, "expected 1 or more"),
            );
        }
        if !self.frame().owns {
            return self.needs_part(None);
        }
        if self.frame().depth > 0 {
            return self.fail(
                Diagnostic::error(
                    Code::WrongStage,
                    "`delay` inside a branch or loop of the step would skip steps",
                )
                .at(span, "take it out of the branch"),
            );
        }
        let value = self.eval(expr, None)?;
        let current = self.to_tensor(&value, None, expr.span)?;
        let pushed = self.history(name, &current, back, span)?;
        let state = pushed.state.unwrap_or(StateId(0));
        let input = self.local(&pushed);
        let leads = pushed.leads.clone();
        let op = Op::Recent { back, state };
        self.emit1(op, &[input], current.elem, &leads, &current.shape, span)
            .map(Val::tensor)
    }

    /// The ring of a name's last values, with the present one pushed.
    fn history(&mut self, name: &str, current: &Tensor, back: usize, span: Span) -> R<Tensor> {
        let known = self
            .frame()
            .delays
            .iter()
            .find(|d| *d.name == *name)
            .map(|d| (d.current == *current, d.pushed.clone(), d.state));
        if let Some((same, pushed, state)) = known {
            if !same {
                return self.fail(
                    Diagnostic::error(
                        Code::StateTwice,
                        format!("`delay` of `{name}` after `{name}` has changed"),
                    )
                    .at(span, "two histories of one name")
                    .help("give one of the two values its own name"),
                );
            }
            self.grow_ring(state, back);
            return Ok(pushed);
        }
        self.once_per_step(span)?;
        let key: Arc<str> = format!("{name} delayed").into();
        let owner = self.frame().part.clone();
        let found = owner
            .as_ref()
            .and_then(|o| o.states.borrow().get(&key).copied());
        let leads = self.frame().leads.clone();
        let state = match found {
            Some(state) => state,
            None => {
                let path = match &*self.frame().path {
                    "" => name.to_string(),
                    path => format!("{path}.{name}"),
                };
                self.new_path(&path, span, true)?;
                let axis = self.module.add_axis(Axis {
                    path: path.clone(),
                    capacity: AxisCapacity::Ring(back + 1),
                });
                let mut own = vec![Dim::Grow { axis, plus: 0 }];
                own.extend(current.shape.iter().copied());
                let ty = Type::new(current.elem, self.full(&leads, &own));
                let origin = self.origin(span);
                let state = self.module.add_state(StateDecl {
                    path,
                    ty,
                    initial: Initial::Empty,
                    instances: self.repeats.clone(),
                    held: false,
                    origin,
                });
                if let Some(owner) = &owner {
                    owner.states.borrow_mut().insert(key, state);
                }
                state
            }
        };
        self.grow_ring(state, back);
        let ty = &self.module.state(state).ty;
        let own = ty.shape[self.lead_axes(&leads)..].to_vec();
        let mut read = self.emit1(
            Op::StateRead(state),
            &[],
            current.elem,
            &leads,
            &own,
            span,
        )?;
        read.state = Some(state);
        let entry = self.expand(current, &leads, &current.shape.clone(), span)?;
        let pushed = self.push_entry(&read, state, &entry, span)?;
        self.frame_mut().delays.push(Delay {
            name: name.into(),
            current: current.clone(),
            pushed: pushed.clone(),
            state,
            span,
        });
        Ok(pushed)
    }

    fn grow_ring(&mut self, state: StateId, back: usize) {
        if let Some((_, axis)) = self.module.state(state).growing()
            && let AxisCapacity::Ring(n) = &mut self.module.axes[axis.index()].capacity
        {
            *n = (*n).max(back + 1);
        }
    }
}

/// A path with its indices as `{i}`, as one says it of all layers.
fn template_path(path: &str) -> String {
    path.split('.')
        .map(|segment| {
            if segment.bytes().all(|b| b.is_ascii_digit()) && !segment.is_empty() {
                "{i}"
            } else {
                segment
            }
        })
        .collect::<Vec<_>>()
        .join(".")
}
