//! Growing axes: which states share one, what a push must keep to, and what is said of values whose entries do not fit.
//!
//! Two states of one block with the same kind of axis are taken to share it. Whether they do is known at the end, when
//! all pushes are: states that were not pushed at the same places get axes of their own, and the model is elaborated
//! again.

use rustc_hash::FxHashMap;

use super::Elaborator;
use super::value::R;
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::lengths::{Length, LengthFault, lengths};
use crate::ir::{Axis, AxisCapacity, AxisId, Dim, OriginId, StateId};

/// Who shares an axis: states of one part, of one capacity, and of one group.
pub(super) type Shared = (Option<usize>, AxisCapacity, usize);

/// The group of each state that must not share the axis of the first group, by its path.
pub(super) type Apart = FxHashMap<String, usize>;

impl<'a> Elaborator<'a> {
    /// The growing axis of a state of the present part.
    pub(super) fn shared_axis(&mut self, path: &str, capacity: AxisCapacity) -> AxisId {
        let owner = self.frame().part.as_ref().map(|part| part.id);
        let group = self.apart.get(path).copied().unwrap_or(0);
        let key = (owner, capacity, group);
        if let Some(&axis) = self.axes.get(&key) {
            return axis;
        }
        let axis = self.module.add_axis(Axis { path: path.to_string(), capacity });
        self.axes.insert(key, axis);
        axis
    }

    /// A state is pushed inside the repeats that it was declared in.
    pub(super) fn may_push(&mut self, state: StateId, span: Span) -> R<()> {
        let decl = self.module.state(state);
        let path = decl.path.clone();
        if decl.held {
            return self.fail_here(
                Diagnostic::error(Code::Rebound, format!("`{path}` is held: the host writes it, not the graph"))
                    .at(span, "pushed here"),
            );
        }
        if decl.instances != self.repeats {
            return self.fail_here(
                Diagnostic::error(
                    Code::StateTwice,
                    format!("`{path}` is declared outside of this `repeat` and would be pushed in each of its rounds"),
                )
                .at(span, "pushed in every round")
                .note("a step pushes to a state once at most")
                .help("put the state into a part that is called in the `repeat`: then every round has its own"),
            );
        }
        Ok(())
    }

    /// The entry of a state differs per index of a mapped call, and the state is there once.
    pub(super) fn pushed_per_index<T>(&mut self, state: StateId, span: Span) -> R<T> {
        let path = self.module.state(state).path.clone();
        self.fail_here(
            Diagnostic::error(
                Code::StateType,
                format!("`{path}` is declared outside of this mapped call and would be pushed for each of its indices"),
            )
            .at(span, "another entry for each index")
            .help("declare the state in the block that is mapped: then every index has its own"),
        )
    }

    /// Why the entries of two shapes are not the same, if that is what tells the shapes apart.
    pub(super) fn other_entries(&self, a: &[Dim], b: &[Dim]) -> Option<String> {
        let grown = |shape: &[Dim]| {
            shape.iter().find_map(|dim| match dim {
                Dim::Grow { axis, plus } => Some((*axis, *plus)),
                _ => None,
            })
        };
        let ((a, a_plus), (b, b_plus)) = (grown(a)?, grown(b)?);
        if a == b {
            return (a_plus != b_plus)
                .then(|| format!("one has {a_plus} places in front of its entries, the other {b_plus}"));
        }
        let (one, other) = (self.module.axis(a), self.module.axis(b));
        let kept = |axis: &Axis| match axis.capacity {
            AxisCapacity::Unbounded => "keeps all entries".to_string(),
            AxisCapacity::Max(n) => format!("keeps at most {n} entries"),
            AxisCapacity::Ring(n) => format!("keeps the last {n} entries"),
        };
        if one.capacity != other.capacity {
            return Some(format!("`{}` {}, `{}` {}", one.path, kept(one), other.path, kept(other)));
        }
        let owner = |axis| self.axes.iter().find(|(_, known)| **known == axis).map(|(key, _)| key.0);
        Some(match owner(a) == owner(b) {
            true => format!(
                "`{}` and `{}` are not pushed at the same places of a step, so their entries are counted apart",
                one.path, other.path
            ),
            false => format!("`{}` and `{}` are states of different parts", one.path, other.path),
        })
    }

    /// Looks at the lengths of all growing values. Gives the states that must not share an axis, if it is not known
    /// yet.
    pub(super) fn growing_values(&mut self) -> Option<Apart> {
        if self.diagnostics.has_errors() {
            return None;
        }
        let found = lengths(&self.module);
        if self.apart.is_empty() {
            let apart = self.apart(&found.left);
            if !apart.is_empty() {
                return Some(apart);
            }
        }
        if found.violations.is_empty() {
            return None;
        }
        let spans: FxHashMap<OriginId, Span> = self.origins.iter().map(|(key, &id)| (id, key.0)).collect();
        for violation in found.violations {
            let diagnostic = diagnostic(&violation.fault);
            let diagnostic = match spans.get(&violation.origin) {
                Some(&span) => diagnostic.at(span, label(&violation.fault)),
                None => diagnostic,
            };
            let origin = self.module.origins.get(violation.origin.index());
            let path = origin.map_or("", |origin| &*origin.path);
            let diagnostic = match path {
                "" => diagnostic,
                path => diagnostic.note(format!("in {path}")),
            };
            self.diagnostics.push(diagnostic);
        }
        None
    }

    /// States that share an axis and are not left with the same number of entries by each entry of the model.
    fn apart(&self, left: &[FxHashMap<StateId, Length>]) -> Apart {
        let mut groups: FxHashMap<AxisId, Vec<Vec<Option<Length>>>> = FxHashMap::default();
        let mut apart = Apart::default();
        for (i, state) in self.module.states.iter().enumerate() {
            let Some((_, axis)) = state.growing() else { continue };
            let lengths = left.iter().map(|left| left.get(&StateId(i as u32)).copied()).collect();
            let known = groups.entry(axis).or_default();
            let group = known.iter().position(|other| *other == lengths).unwrap_or(known.len());
            if group == known.len() {
                known.push(lengths);
            }
            if group > 0 {
                apart.insert(state.path.clone(), group);
            }
        }
        apart
    }
}

fn diagnostic(fault: &LengthFault) -> Diagnostic {
    match fault {
        LengthFault::Meet(one, other) => {
            Diagnostic::error(Code::GrowingState, "values with different numbers of entries meet")
                .note(format!("one has {one}, the other {other}"))
                .help("push first and use what `push` gave, or use the names from before the pushes")
        }
        LengthFault::Twice(state) => {
            Diagnostic::error(Code::StateTwice, format!("`{state}` is pushed a second time in one step"))
                .note("a step pushes to a state once at most")
                .help("push one entry that holds both, or declare a second state")
        }
        LengthFault::Stale(state) => {
            Diagnostic::error(Code::GrowingState, format!("these are not the newest entries of `{state}`"))
                .help("what a state is pushed to or left as is the result of its last `push`")
        }
        LengthFault::Lost(state) => {
            Diagnostic::error(Code::GrowingState, format!("`{state}` is pushed, but not left with the entry"))
                .help("assign what `push` gives to the state: `s = push(s, x)`")
        }
        LengthFault::Foreign(state) => {
            Diagnostic::error(Code::GrowingState, format!("this is not the state `{state}` itself"))
                .help("a growing state changes by `push` alone; keep what is computed of its entries in another name")
        }
        LengthFault::Unknown => Diagnostic::error(Code::GrowingState, "nothing tells how many entries this value has"),
        LengthFault::Expert(state) => {
            Diagnostic::error(Code::IndexedState, format!("`{state}` is pushed by a part that is chosen by an index"))
        }
    }
}

fn label(fault: &LengthFault) -> &'static str {
    match fault {
        LengthFault::Meet(..) => "these lengths differ",
        LengthFault::Twice(_) => "the second push",
        LengthFault::Lost(_) => "this entry would be lost",
        _ => "here",
    }
}
