//! Control flow: what its bodies push, and what their results are as long as.

use super::{At, Known, LengthFault, Reached, Term, Walk};
use crate::ir::graph::{Node, NodeId, Region};
use crate::ir::module::StateId;
use crate::ir::op::Op;

impl Walk<'_> {
    pub(super) fn control(
        &mut self,
        id: NodeId,
        node: &Node,
        given: Vec<Option<Known>>,
        at: &At,
    ) -> Vec<Option<Known>> {
        let place = || (at.node(id), node.origin);
        match &node.op {
            Op::If { then, otherwise } => self.choice(id, node, [then, otherwise], given[1..].to_vec(), at),
            Op::Repeat { carried, body, .. } => {
                let mut arguments = vec![None];
                arguments.extend_from_slice(&given[1..]);
                let results = self.region(body, arguments, &at.inside(id, 0));
                let any = self.length(Term::Any);
                for (before, after) in given[1..=*carried].iter().zip(results.iter().skip(1)) {
                    let (Some(before), Some(after)) = (before, after) else { continue };
                    if before.length == any {
                        let (at, origin) = place();
                        self.fault(at, origin, LengthFault::Unknown);
                    }
                    self.meet([before.length, after.length], &place);
                    if let Some(state) = before.state
                        && after.state != before.state
                    {
                        let (at, origin) = place();
                        let fault = LengthFault::Foreign(self.path(state));
                        self.fault(at, origin, fault);
                    }
                }
                given[1..=*carried].to_vec()
            }
            Op::Experts { regions } => {
                let mut all: Option<Vec<Option<Known>>> = None;
                for (i, region) in regions.iter().enumerate() {
                    let mark = self.changes.len();
                    let results = self.region(region, given[1..].to_vec(), &at.inside(id, i));
                    let mut pushed: Vec<StateId> = self.undo(mark).into_keys().collect();
                    pushed.sort_unstable();
                    for state in pushed {
                        let (at, origin) = place();
                        let fault = LengthFault::Expert(self.path(state));
                        self.fault(at, origin, fault);
                    }
                    let results: Vec<Option<Known>> =
                        results.into_iter().map(|r| r.map(|known| Known { state: None, ..known })).collect();
                    if let Some(all) = &all {
                        for (a, b) in all.iter().zip(&results) {
                            if let (Some(a), Some(b)) = (a, b) {
                                self.meet([a.length, b.length], &place);
                            }
                        }
                    }
                    all.get_or_insert(results);
                }
                all.unwrap_or_default()
            }
            Op::Scan { body } => {
                let outer = std::mem::take(&mut self.reached);
                let changes = std::mem::take(&mut self.changes);
                self.step(body, given, &at.inside(id, 0));
                self.reached = outer;
                self.changes = changes;
                vec![None; node.results.len()]
            }
            Op::Fused { body, .. } => self.region(body, given, &at.inside(id, 0)),
            _ => Vec::new(),
        }
    }

    fn choice(
        &mut self,
        id: NodeId,
        node: &Node,
        sides: [&Region; 2],
        given: Vec<Option<Known>>,
        at: &At,
    ) -> Vec<Option<Known>> {
        self.choices += 1;
        let choice = self.choices;
        let mut results = Vec::new();
        let mut reached = Vec::new();
        for (i, side) in sides.into_iter().enumerate() {
            let mark = self.changes.len();
            results.push(self.region(side, given.clone(), &at.inside(id, i)));
            reached.push(self.undo(mark));
        }
        let mut states: Vec<StateId> = reached.iter().flat_map(|side| side.keys().copied()).collect();
        states.sort_unstable();
        states.dedup();
        for state in states {
            let before = match self.reached.get(&state) {
                Some(before) => before.clone(),
                None => Reached { length: self.now(state), unkept: None },
            };
            let side = |i: usize| reached[i].get(&state).unwrap_or(&before).clone();
            let (a, b) = (side(0), side(1));
            let length = self.either(choice, a.length, b.length);
            self.set(state, Reached { length, unkept: a.unkept.or(b.unkept) });
        }
        let any = self.length(Term::Any);
        let pairs: Vec<(Option<Known>, Option<Known>)> = results[0].iter().copied().zip(results[1].clone()).collect();
        pairs
            .into_iter()
            .map(|pair| {
                let (Some(a), Some(b)) = pair else { return None };
                if a.length == any || b.length == any {
                    self.fault(at.node(id), node.origin, LengthFault::Unknown);
                }
                let state = if a.state == b.state { a.state } else { None };
                Some(Known { length: self.either(choice, a.length, b.length), state })
            })
            .collect()
    }
}
