//! Branches whose condition is known only in the step: two regions whose outcomes are merged, or,
//! where the condition differs per mapped index, both sides and a selection.

use std::sync::Arc;

use super::Elaborator;
use super::build::{Builder, common_elem, union};
use super::scope::{Scope, Touched};
use super::value::{R, Reported, Tensor, Val, show_type};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::{Elem, Op, Type};

/// A name that a branch may have changed.
pub(super) struct Changed<'a> {
    scope: usize,
    name: Arc<str>,
    before: Val<'a>,
    sides: [(Val<'a>, Span); 2],
}

impl<'a> Elaborator<'a> {
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
        let value =
            self.branches(test, span, text, hint, |this| then(this).map(Some), |this| otherwise(this).map(Some))?;
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
        self.region_fits(span)?;
        let mapped = !test.leads.is_empty();
        let start = self.region().nodes().len();
        let ran = self.ran.len();
        let (first, then_names, then_region) = self.side(mapped, None, then);
        let then_ran = self.ran.split_off(ran);
        let (second, else_names, else_region) = self.side(mapped, then_region.as_ref(), otherwise);
        self.ran.extend(then_ran);
        let (first, second) = (first?, second?);

        let scopes = &self.frame().scopes;
        let mut places: Vec<(usize, usize)> = then_names
            .keys()
            .chain(else_names.keys())
            .filter_map(|(scope, name)| Some((*scope, scopes[*scope].get_index_of(name)?)))
            .collect();
        places.sort_unstable();
        places.dedup();
        let mut changed = Vec::new();
        for (scope, place) in places {
            let Some((name, var)) = scopes[scope].get_index(place) else {
                continue;
            };
            let key = (scope, name.clone());
            let (a, b) = (then_names.get(&key).unwrap_or(var), else_names.get(&key).unwrap_or(var));
            if a.version != var.version || b.version != var.version {
                changed.push(Changed {
                    scope,
                    name: key.1,
                    before: var.value.clone(),
                    sides: [(a.value.clone(), a.assigned), (b.value.clone(), b.assigned)],
                });
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
            (Some(then), Some(otherwise)) => self.merge(test, span, text, hint, &changed, then, otherwise)?,
            _ => self.select_sides(test, span, text, hint, &changed, start)?,
        };
        let mut value = None;
        for (change, merged) in changed.into_iter().zip(merged) {
            if change.scope == usize::MAX {
                value = Some(merged);
                continue;
            }
            let version = self.next_id();
            if let Some(var) = self.frame_mut().change(change.scope, &change.name) {
                (var.value, var.version, var.assigned) = (merged, version, span);
            }
        }
        Ok(value)
    }

    /// Runs one side in a region of its own (or in place), and gives the names that it changed; they are set back.
    pub(super) fn side(
        &mut self,
        mapped: bool,
        like: Option<&Builder>,
        work: impl FnOnce(&mut Self) -> R<Option<Val<'a>>>,
    ) -> (R<Option<Val<'a>>>, Touched<'a>, Option<Builder>) {
        if !mapped {
            self.open_region(like);
        }
        let frame = self.frame_mut();
        let mark = frame.mark();
        frame.scopes.push(Scope::default());
        frame.depth += 1;
        let result = work(self);
        let frame = self.frame_mut();
        frame.depth -= 1;
        let touched = frame.set_back(mark);
        let region = if mapped { None } else { Some(self.close_region()) };
        (result, touched, region)
    }

    pub(super) fn side_tensor(&mut self, change: &Changed<'a>, at: usize, hint: Option<Elem>) -> R<Tensor> {
        let (value, span) = &change.sides[at];
        let other = &change.sides[1 - at].0;
        let elem = common_elem([value, other, &change.before], hint);
        self.tensor_of(value, elem, *span)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn merge(
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
        let leads: Vec<Vec<usize>> = pairs.iter().map(|(a, b)| union([a, b].into_iter())).collect();
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
            let types =
                pairs.iter().zip(&leads).map(|((a, _), leads)| Type::new(a.elem, self.full(leads, &a.shape))).collect();
            let op = Op::If { then: Arc::new(then.region), otherwise: Arc::new(otherwise.region) };
            let values = self.emit(op, &inputs, types, span)?;
            for ((value, (a, b)), leads) in values.into_iter().zip(&pairs).zip(&leads) {
                let mut tensor = self.wrap(value, a.elem, leads, &a.shape);
                if a.state == b.state {
                    tensor.state = a.state;
                }
                tensor.literal = a.literal && b.literal;
                merged.push(Val::tensor(tensor));
            }
        }
        let mut merged = merged.into_iter();
        Ok(changed
            .iter()
            .zip(fixed)
            .map(|(change, fixed)| if fixed { change.sides[0].0.clone() } else { merged.next().unwrap_or(Val::Poison) })
            .collect())
    }

    /// Continues a region that was closed.
    pub(super) fn inside(&mut self, builder: Builder, work: impl FnOnce(&mut Self) -> R<()>) -> R<Builder> {
        self.regions.push(builder);
        let result = work(self);
        let builder = self.close_region();
        result.map(|()| builder)
    }

    pub(super) fn same_type(&mut self, change: &Changed<'a>, a: &Tensor, b: &Tensor, text: &str) -> R<()> {
        if a.elem == b.elem && a.shape == b.shape {
            return Ok(());
        }
        let (was, is, span) = match &change.before {
            Val::Tensor(before) if before.elem == a.elem && before.shape == a.shape => (a, b, change.sides[1].1),
            _ => (b, a, change.sides[0].1),
        };
        let title = if change.name.is_empty() {
            format!("the two sides are {} and {}", show_type(a.elem, &a.shape), show_type(b.elem, &b.shape))
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
        let known = if text == "the condition" { text.to_string() } else { format!("`{text}`") };
        self.fail_here(
            Diagnostic::error(Code::BranchType, title)
                .at(span, label)
                .note(format!("{known} is known only in the step, so both outcomes must have one type"))
                .note_if(self.other_entries(&a.shape, &b.shape)),
        )
    }

    /// Both sides were computed in place, since the condition differs per mapped index.
    pub(super) fn select_sides(
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
pub(super) fn same_static(change: &Changed<'_>) -> bool {
    let [(a, _), (b, _)] = &change.sides;
    (a.is_static() && b.is_static() && a.same(b)) || matches!(a, Val::Poison)
}

/// Whether running an operation is more than computing its results.
pub(super) fn has_effect(op: &Op) -> bool {
    match op {
        Op::StateWrite(_) | Op::Push { .. } | Op::Host(_) | Op::Check { .. } | Op::Probe { .. } => true,
        _ => crate::ir::Region::nested(op).iter().any(|region| region.nodes().any(|n| has_effect(&region.node(n).op))),
    }
}
