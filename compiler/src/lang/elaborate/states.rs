//! States and delays: declared once per part, read at their declaration, written when the call ends.

use std::sync::Arc;

use super::Elaborator;
use super::scope::{Declared, Delay, Kind};
use super::value::{R, Reported, Tensor, Val, show_type};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::verify::budget::state_bytes;
use crate::ir::{Axis, AxisCapacity, Dim, Elem, Initial, Op, StateDecl, StateId, Type};
use crate::lang::ast::{self, Arg, StmtKind};

/// Whether two states start from the same.
fn alike(one: &Initial, other: &Initial) -> bool {
    match (one, other) {
        (Initial::Fill(a), Initial::Fill(b)) => a.to_bits() == b.to_bits(),
        (Initial::Weight(a), Initial::Weight(b)) => a == b,
        (Initial::Empty, Initial::Empty) => true,
        _ => false,
    }
}

impl<'a> Elaborator<'a> {
    pub(super) fn state_statement(&mut self, stmt: &'a ast::Stmt) -> R<()> {
        let StmtKind::State { held, names, ty, init } = &stmt.kind else {
            return Err(Reported);
        };
        if self.frame().depth > 0 {
            return self.fail(
                Diagnostic::error(Code::WrongStage, "a state cannot be declared inside a branch or loop of the step")
                    .at(stmt.span, "declare it above"),
            );
        }
        let element = self.lookup(ty.element.as_str(), ty.element.span)?;
        let Val::Elem(elem) = element else {
            return self.fail(
                Diagnostic::error(Code::ElementType, "a state has an element type").at(ty.element.span, element.kind()),
            );
        };
        let mut shape = Vec::new();
        let mut capacity = None;
        for (i, axis) in ty.axes.iter().enumerate() {
            match self.eval(axis, None)? {
                Val::Axis(kind) if capacity.is_none() => {
                    capacity = Some((i, kind));
                    shape.push(Dim::Const(1));
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
        if *held && let Some((at, _)) = capacity {
            return self.fail(
                Diagnostic::error(Code::GrowingState, "a held state does not grow: the host writes it as a whole")
                    .at(ty.axes[at].span, "an axis of known length is needed"),
            );
        }
        let heading = names.last().map_or(stmt.keyword, |name| stmt.keyword.to(name.span));
        self.once_per_step(heading)?;
        let initial = match (init, capacity) {
            (None, None) => {
                return self.fail(
                    Diagnostic::error(Code::StateType, "a state needs a value to start from")
                        .at(stmt.span, "write `= 0`"),
                );
            }
            (Some(expr), Some(_)) => {
                return self
                    .fail(Diagnostic::error(Code::GrowingState, "a growing state starts empty").at(expr.span, ""));
            }
            (None, Some(_)) => Initial::Empty,
            (Some(expr), None) => self.initial(expr, elem, &shape)?,
        };
        for name in names {
            let twice = self.frame().states.iter().find(|first| first.name == name.text && first.span != name.span);
            if let Some(before) = twice.map(|first| first.span) {
                self.duplicate(name.as_str(), name.span, before);
                return Err(Reported);
            }
            let id = self.state(name, elem, &shape, capacity, &initial, *held)?;
            let state = self.module.state(id);
            let own = state.ty.shape[state.ty.shape.len() - shape.len()..].to_vec();
            let leads = self.frame().leads.clone();
            let mut tensor = self.emit1(Op::StateRead(id), &[], elem, &leads, &own, name.span)?;
            tensor.state = Some(id);
            self.declare(name.text.clone(), Val::tensor(tensor), Kind::State(id), name.span, stmt.span);
            let version = self.frame().find(name.as_str()).map_or(0, |v| v.version);
            self.frame_mut().states.push(Declared { id, name: name.text.clone(), version, span: name.span });
        }
        Ok(())
    }

    /// Refuses a second run of a part with state in one step.
    pub(super) fn once_per_step(&mut self, state: Span) -> R<()> {
        let Some(part) = self.frame().part.clone() else {
            return Ok(());
        };
        let first_in_call = self.frame().states.is_empty() && self.frame().delays.is_empty();
        if first_in_call && !self.ran.insert(part.id) {
            let call = self.frame().call.unwrap_or(part.declared);
            return self.fail(
                Diagnostic::error(
                    Code::StateTwice,
                    format!("part `{}` has state and is called twice in one step", part.name),
                )
                .at(call, "second call")
                .and_at(state, "its state")
                .help("declare a second part, or keep the first result in a name"),
            );
        }
        Ok(())
    }

    pub(super) fn initial(&mut self, expr: &'a ast::Expr, elem: Elem, shape: &[Dim]) -> R<Initial> {
        let value = self.eval(expr, Some(elem))?;
        let fill = match (&value, elem) {
            (Val::Bool(b), Elem::Bool) => Some(f64::from(u8::from(*b))),
            (Val::Int(n), Elem::F32) => Some(f64::from(*n as f32)),
            (Val::Float(x), Elem::F32) => Some(f64::from(*x as f32)),
            (Val::Int(_), _) if elem.is_integer() => {
                super::statics::literal(&value, Some(elem)).ok().and(value.as_f64())
            }
            (Val::Weight(id), Elem::F32) => {
                if self.module.weight(*id).ty().shape[..] == shape[..] {
                    self.weight_used[id.index()] = true;
                    return Ok(Initial::Weight(*id));
                }
                None
            }
            _ => None,
        };
        match fill {
            Some(fill) => Ok(Initial::Fill(fill)),
            None => {
                let found = match &value {
                    Val::Weight(id) => self.module.weight(*id).ty().to_string(),
                    other => format!("{} {}", other.kind(), other.show()),
                };
                self.fail(
                    Diagnostic::error(
                        Code::StateType,
                        format!(
                            "a state {} starts from a number of its element, or a weight of its shape",
                            show_type(elem, shape)
                        ),
                    )
                    .at(expr.span, found),
                )
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    /// Whether a state has these axes of its own, behind those of its instances.
    fn has_form(&self, state: &StateDecl, elem: Elem, shape: &[Dim], capacity: Option<(usize, AxisCapacity)>) -> bool {
        let all = &state.ty.shape;
        let Some(own) = all.len().checked_sub(shape.len()).map(|leads| &all[leads..]) else {
            return false;
        };
        let mut axes = own.iter().zip(shape).enumerate();
        state.ty.elem == elem
            && axes.all(|(i, (own, axis))| match (own, capacity) {
                (Dim::Grow { axis, .. }, Some((at, capacity))) => {
                    at == i && self.module.axes.get(axis.index()).is_some_and(|known| known.capacity == capacity)
                }
                _ => own == axis && capacity.is_none_or(|(at, _)| at != i),
            })
    }

    pub(super) fn state(
        &mut self,
        name: &'a ast::Name,
        elem: Elem,
        shape: &[Dim],
        capacity: Option<(usize, AxisCapacity)>,
        initial: &Initial,
        held: bool,
    ) -> R<StateId> {
        let known = self.frame().part.as_ref().and_then(|owner| owner.states.borrow().get(&name.text).copied());
        if let Some(id) = known {
            let state = self.module.state(id);
            let same =
                self.has_form(state, elem, shape, capacity) && alike(&state.initial, initial) && state.held == held;
            if same {
                return Ok(id);
            }
            let (path, ty) = (state.path.clone(), state.ty.to_string());
            return self.fail(
                Diagnostic::error(Code::StateType, format!("state `{path}` is another one here than in another call"))
                    .at(name.span, format!("there it is {ty}"))
                    .help("declare a part for each"),
            );
        }
        let path = self.path_of(name, None)?;
        self.new_path(&path, name.span, true)?;
        let mut own = shape.to_vec();
        if let Some((at, capacity)) = capacity {
            own[at] = Dim::Grow { axis: self.shared_axis(&path, capacity), plus: 0 };
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
            stored: elem,
            origin,
        });
        let (most, bytes) = (self.limits.declared, self.limits.states);
        if self.module.states.len() > most {
            return self.too_big(name.span, format!("more than {most} states"));
        }
        let own = state_bytes(&self.module, self.module.state(id));
        self.state_bytes = self.state_bytes.saturating_add(own);
        if self.state_bytes > bytes {
            return self.too_big(name.span, format!("more than {bytes} bytes of states as f32, all together"));
        }
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
            let tensor = self.tensor_of(&value, Some(elem), assigned)?;
            let scalar_fill = value.is_number();
            if tensor.elem != elem || tensor.shape != own && !scalar_fill {
                return self.fail_here(
                    Diagnostic::error(Code::StateType, format!("state `{}` is {}", state.name, show_type(elem, &own)))
                        .at(assigned, format!("assigned {}", show_type(tensor.elem, &tensor.shape)))
                        .and_at(state.span, "declared here")
                        .note_if(self.other_entries(&own, &tensor.shape)),
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
                Diagnostic::error(Code::WrongStage, "`delay` inside a branch or loop of the step would skip steps")
                    .at(span, "take it out of the branch"),
            );
        }
        let value = self.eval(expr, None)?;
        let current = self.tensor_of(&value, None, expr.span)?;
        let pushed = self.history(name, &current, back, span)?;
        let state = pushed.state.unwrap_or(StateId(0));
        let input = self.local(&pushed);
        let leads = pushed.leads.clone();
        let op = Op::Recent { back, state };
        self.emit1(op, &[input], current.elem, &leads, &current.shape, span).map(Val::tensor)
    }

    /// The ring of a name's last values, with the present one pushed.
    pub(super) fn history(&mut self, name: &str, current: &Tensor, back: usize, span: Span) -> R<Tensor> {
        let known = self
            .frame()
            .delays
            .iter()
            .find(|d| *d.name == *name)
            .map(|d| (d.current == *current, d.pushed.clone(), d.state));
        if let Some((same, pushed, state)) = known {
            if !same {
                return self.fail(
                    Diagnostic::error(Code::StateTwice, format!("`delay` of `{name}` after `{name}` has changed"))
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
        let found = owner.as_ref().and_then(|o| o.states.borrow().get(&key).copied());
        let leads = self.frame().leads.clone();
        let state = match found {
            Some(state) => state,
            None => {
                let path = match &*self.frame().path {
                    "" => name.to_string(),
                    path => format!("{path}.{name}"),
                };
                self.new_path(&path, span, true)?;
                let axis = self.module.add_axis(Axis { path: path.clone(), capacity: AxisCapacity::Ring(back + 1) });
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
                    stored: current.elem,
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
        let mut read = self.emit1(Op::StateRead(state), &[], current.elem, &leads, &own, span)?;
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

    pub(super) fn grow_ring(&mut self, state: StateId, back: usize) {
        if let Some((_, axis)) = self.module.state(state).growing()
            && let AxisCapacity::Ring(n) = &mut self.module.axes[axis.index()].capacity
        {
            *n = (*n).max(back + 1);
        }
    }
}
