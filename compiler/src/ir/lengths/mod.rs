//! How many entries growing values have: which values along one growing axis are of one length at every step.
//!
//! A growing state has as many entries as the step found, until the step pushes one. Whether it pushes may depend on a
//! choice. So the length of a value is a small term: what the step found, one more than another length, or one of two
//! lengths by a choice. Equal terms are equal lengths; other lengths are taken to differ. Values that meet must have
//! one length; that of a repeated scalar is the length of what it meets. The walk also follows which values are a
//! state's own entries, since only those lie in the state's memory and can be pushed to or looked back in.

mod control;
#[cfg(test)]
mod tests;

use rustc_hash::FxHashMap;

use super::graph::{Node, NodeId, Region, Value};
use super::module::{AxisId, Module, OriginId, StateId};
use super::op::Op;
use super::print::{Place, RegionPath, Root};
use super::types::Dim;

/// What is wrong with the lengths of growing values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LengthFault {
    /// Operands of one operation, or what control flow gives and what it hands on.
    #[error("values of different numbers of entries meet: {0}, and {1}")]
    Meet(String, String),
    /// More pushes to a state than one on some way through a step.
    #[error("{0} is pushed a second time in one step")]
    Twice(String),
    /// A push, or the value that a state is left with, that ignores an earlier push.
    #[error("these are not the newest entries of {0}")]
    Stale(String),
    /// A push whose result is not what the state is left as.
    #[error("{0} is pushed, and not left with the entry")]
    Lost(String),
    /// What only the entries of a state have.
    #[error("these are not the entries of {0}")]
    Foreign(String),
    /// A repeated scalar where its length counts.
    #[error("nothing tells how many entries this value has")]
    Unknown,
    /// Experts are chosen per place, states are there once.
    #[error("{0} is pushed by an expert")]
    Expert(String),
}

/// A fault with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct LengthViolation {
    pub place: Place,
    pub origin: OriginId,
    pub fault: LengthFault,
}

/// What was found out about a module.
#[derive(Debug, Default)]
pub struct Lengths {
    pub violations: Vec<LengthViolation>,
    /// Per entry, the lengths that its step leaves the growing states with that it pushes. States of one axis were
    /// pushed at the same places of the entry exactly if their lengths are equal.
    pub left: Vec<FxHashMap<StateId, Length>>,
}

/// A length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Length(u32);

/// The term of a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Term {
    /// That of whatever it meets.
    Any,
    /// As the step found the axis.
    Found(AxisId),
    /// One more.
    After(Length),
    /// By the outcome of a choice.
    Either(u32, Length, Length),
}

/// What is known of a growing value.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    length: Length,
    /// The state whose entries it is.
    state: Option<StateId>,
}

/// Where the step has brought a state.
#[derive(Clone, Debug)]
struct Reached {
    length: Length,
    /// A push after which the state was not yet written.
    unkept: Option<(Place, OriginId)>,
}

/// Follows the lengths through all entries of a module that is otherwise valid.
pub fn lengths(module: &Module) -> Lengths {
    if module.axes.is_empty() {
        return Lengths { left: vec![FxHashMap::default(); module.entries.len()], ..Lengths::default() };
    }
    let mut walk = Walk {
        module,
        terms: Vec::new(),
        ids: FxHashMap::default(),
        choices: 0,
        reached: FxHashMap::default(),
        changes: Vec::new(),
        found: Lengths::default(),
    };
    for (i, entry) in module.entries.iter().enumerate() {
        let at = At { root: Root::Entry(i), path: Vec::new() };
        walk.step(&entry.body, vec![None; entry.body.params().len()], &at);
        let left = walk.reached.drain().map(|(state, reached)| (state, reached.length)).collect();
        walk.found.left.push(left);
        walk.changes.clear();
    }
    walk.found
}

/// A region's place.
#[derive(Clone)]
struct At {
    root: Root,
    path: RegionPath,
}

impl At {
    fn node(&self, id: NodeId) -> Place {
        Place::Node(self.root, self.path.clone(), id)
    }

    fn inside(&self, id: NodeId, region: usize) -> At {
        let mut inside = self.clone();
        inside.path.push((id, region));
        inside
    }
}

struct Walk<'m> {
    module: &'m Module,
    terms: Vec<Term>,
    ids: FxHashMap<Term, Length>,
    choices: u32,
    /// States that the step has pushed so far, as they are now.
    reached: FxHashMap<StateId, Reached>,
    /// States that changed, with what was there before, in order.
    changes: Vec<(StateId, Option<Reached>)>,
    found: Lengths,
}

impl Walk<'_> {
    fn length(&mut self, term: Term) -> Length {
        if let Some(&known) = self.ids.get(&term) {
            return known;
        }
        let id = Length(self.terms.len() as u32);
        self.terms.push(term);
        self.ids.insert(term, id);
        id
    }

    fn term(&self, length: Length) -> Term {
        self.terms[length.0 as usize]
    }

    fn either(&mut self, choice: u32, a: Length, b: Length) -> Length {
        if a == b { a } else { self.length(Term::Either(choice, a, b)) }
    }

    fn fault(&mut self, place: Place, origin: OriginId, fault: LengthFault) {
        self.found.violations.push(LengthViolation { place, origin, fault });
    }

    fn path(&self, state: StateId) -> String {
        self.module.state(state).path.clone()
    }

    /// A length in words.
    fn show(&self, length: Length) -> String {
        let mut pushes = "as the step found them";
        let mut at = length;
        loop {
            match self.term(at) {
                Term::Any => return "a repeated number".into(),
                Term::Found(axis) => return format!("the entries of {} {pushes}", self.module.axis(axis).path),
                Term::After(inner) => {
                    pushes = "with this step's";
                    at = inner;
                }
                Term::Either(_, inner, _) => {
                    pushes = "after a choice that pushes on one side";
                    at = match self.term(inner) {
                        Term::After(found) => found,
                        _ => inner,
                    };
                    while let Term::After(inner) | Term::Either(_, inner, _) = self.term(at) {
                        at = inner;
                    }
                }
            }
        }
    }

    /// The length of values that meet.
    fn meet(&mut self, values: impl IntoIterator<Item = Length>, place: &dyn Fn() -> (Place, OriginId)) -> Length {
        let any = self.length(Term::Any);
        let mut all = any;
        for value in values {
            if all == any {
                all = value;
            } else if value != any && value != all {
                let (at, origin) = place();
                let fault = LengthFault::Meet(self.show(all), self.show(value));
                self.fault(at, origin, fault);
                return all;
            }
        }
        all
    }

    fn now(&mut self, state: StateId) -> Length {
        if let Some(reached) = self.reached.get(&state) {
            return reached.length;
        }
        match self.module.state(state).growing() {
            Some((_, axis)) => self.length(Term::Found(axis)),
            None => self.length(Term::Any),
        }
    }

    fn set(&mut self, state: StateId, reached: Reached) {
        let before = self.reached.insert(state, reached);
        self.changes.push((state, before));
    }

    /// Takes back what changed since a mark; gives the states' newest values.
    fn undo(&mut self, mark: usize) -> FxHashMap<StateId, Reached> {
        let mut newest = FxHashMap::default();
        for (state, before) in self.changes.drain(mark..).rev() {
            let now = match before {
                Some(before) => self.reached.insert(state, before),
                None => self.reached.remove(&state),
            };
            if let Some(now) = now {
                newest.entry(state).or_insert(now);
            }
        }
        newest
    }

    /// A region that is a whole step; what it pushes it must keep.
    fn step(&mut self, region: &Region, arguments: Vec<Option<Known>>, at: &At) {
        self.region(region, arguments, at);
        let mut lost: Vec<(StateId, (Place, OriginId))> =
            self.reached.iter().filter_map(|(&s, r)| Some((s, r.unkept.clone()?))).collect();
        lost.sort_by_key(|(state, _)| *state);
        for (state, (place, origin)) in lost {
            let fault = LengthFault::Lost(self.path(state));
            self.fault(place, origin, fault);
        }
    }

    fn region(&mut self, region: &Region, arguments: Vec<Option<Known>>, at: &At) -> Vec<Option<Known>> {
        let mut values: FxHashMap<Value, Known> = FxHashMap::default();
        for (&param, known) in region.params().iter().zip(arguments) {
            if let Some(known) = known {
                values.insert(param, known);
            }
        }
        for id in region.nodes() {
            let node = region.node(id);
            let grows = |v: &Value| region.ty(*v).grows();
            if node.op.is_plain() && !node.inputs.iter().chain(&node.results).any(grows) {
                continue;
            }
            let results = self.node(region, id, node, &values, at);
            for (&result, known) in node.results.iter().zip(results) {
                if let Some(known) = known {
                    values.insert(result, known);
                }
            }
        }
        region.results().iter().map(|v| values.get(v).copied()).collect()
    }

    fn node(
        &mut self,
        region: &Region,
        id: NodeId,
        node: &Node,
        values: &FxHashMap<Value, Known>,
        at: &At,
    ) -> Vec<Option<Known>> {
        let place = || (at.node(id), node.origin);
        let operand = |n: usize| node.inputs.get(n).and_then(|v| values.get(v)).copied();
        match &node.op {
            Op::StateRead(state) => {
                let Some((_, axis)) = self.module.state(*state).growing() else { return vec![None] };
                let length = self.length(Term::Found(axis));
                return vec![Some(Known { length, state: Some(*state) })];
            }
            Op::Push { state } => return vec![Some(self.push(*state, operand(0), &place))],
            Op::StateWrite(state) => {
                if self.module.state(*state).growing().is_some() {
                    self.write(*state, operand(0), &place);
                }
                return Vec::new();
            }
            Op::Positions { state } => {
                let length = self.own(*state, operand(0), &place);
                return vec![Some(Known { length, state: None })];
            }
            Op::Recent { state, .. } => {
                self.own(*state, operand(0), &place);
                return vec![None];
            }
            Op::If { .. } | Op::Repeat { .. } | Op::Experts { .. } | Op::Scan { .. } | Op::Fused { .. } => {
                let given: Vec<Option<Known>> = (0..node.inputs.len()).map(operand).collect();
                return self.control(id, node, given, at);
            }
            _ => {}
        }
        let grows = |v: &Value| region.ty(*v).grows();
        let growing: Vec<Length> =
            node.inputs.iter().filter(|v| grows(v)).filter_map(|v| Some(values.get(v)?.length)).collect();
        let length = match &node.op {
            // The places of the result are those of the index, or those beside the table's own.
            Op::Gather { batch } => {
                let along = |v: &Value| region.ty(*v).shape.iter().position(|d| matches!(d, Dim::Grow { .. }));
                let (table, index) = (operand(0).map(|k| k.length), operand(1).map(|k| k.length));
                let table_at = node.inputs.first().and_then(along);
                let index_at = node.inputs.get(1).and_then(along);
                match (table, index) {
                    (Some(table), Some(index)) if table_at < Some(*batch) && index_at < Some(*batch) => {
                        self.meet([table, index], &place)
                    }
                    (_, Some(index)) => index,
                    (Some(table), None) => table,
                    (None, None) => self.length(Term::Any),
                }
            }
            _ => self.meet(growing, &place),
        };
        // What else the repeated number meets says nothing here: that may be computed for nobody, and go.
        let counts = node.inputs.iter().any(&grows) && !node.results.iter().any(&grows);
        if counts && length == self.length(Term::Any) {
            let (at, origin) = place();
            self.fault(at, origin, LengthFault::Unknown);
        }
        node.results.iter().map(|r| grows(r).then_some(Known { length, state: None })).collect()
    }

    /// The length of a value that must be entries of a state.
    fn own(&mut self, state: StateId, value: Option<Known>, place: &dyn Fn() -> (Place, OriginId)) -> Length {
        match value {
            Some(known) if known.state == Some(state) => known.length,
            _ => {
                let (at, origin) = place();
                let fault = LengthFault::Foreign(self.path(state));
                self.fault(at, origin, fault);
                self.now(state)
            }
        }
    }

    fn push(&mut self, state: StateId, value: Option<Known>, place: &dyn Fn() -> (Place, OriginId)) -> Known {
        let length = self.own(state, value, place);
        let now = self.now(state);
        let (at, origin) = place();
        if !matches!(self.term(now), Term::Found(_)) {
            let fault = LengthFault::Twice(self.path(state));
            self.fault(at.clone(), origin, fault);
        } else if length != now {
            let fault = LengthFault::Stale(self.path(state));
            self.fault(at.clone(), origin, fault);
        }
        let length = self.length(Term::After(length));
        self.set(state, Reached { length, unkept: Some((at, origin)) });
        Known { length, state: Some(state) }
    }

    fn write(&mut self, state: StateId, value: Option<Known>, place: &dyn Fn() -> (Place, OriginId)) {
        let length = self.own(state, value, place);
        if length != self.now(state) {
            let (at, origin) = place();
            let fault = LengthFault::Stale(self.path(state));
            self.fault(at, origin, fault);
        }
        if let Some(reached) = self.reached.get(&state)
            && reached.unkept.is_some()
        {
            let reached = Reached { length: reached.length, unkept: None };
            self.set(state, reached);
        }
    }
}
