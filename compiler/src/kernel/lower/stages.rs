//! Which stages of a kernel use a value: one use is evaluated in place, several are worth a place in memory.

use rustc_hash::FxHashMap;

use super::emit::Emit;
use super::graph::{Act, Body, Graph, StepId, V};
use crate::ir::extents::{Extents, Operand, growing};
use crate::ir::{Op, StateId};

impl Emit<'_> {
    /// Counts the stages of all steps of a kernel, and finds which pushes their values have seen.
    pub fn count_stages(&mut self, body: &Body, sinks: &[V]) {
        let mut count = Count { graph: self.graph, users: vec![Vec::new(); self.graph.types.len()], next: 0 };
        count.body(body, sinks);
        self.stages = count.users.iter().map(Vec::len).collect();
        self.copied = shared_states(self.graph, body);
        self.extents = Extents::default();
        lengths(self.graph, body, &mut self.extents);
    }
}

/// Adds the steps of a body to `extents`.
fn lengths(graph: &Graph, body: &Body, extents: &mut Extents<V>) {
    for &id in &body.steps {
        let step = &graph.steps[id];
        match &step.act {
            Act::Op(op) => {
                let with_axis =
                    |values: &[V]| -> Vec<Operand<V>> { values.iter().map(|&v| (v, growing(graph.ty(v)))).collect() };
                let met = extents.add(op, &with_axis(&step.inputs), &with_axis(&step.results));
                debug_assert!(met.is_ok(), "the verifier refuses entries of different moments: {met:?}");
            }
            Act::If { then, otherwise } => {
                lengths(graph, then, extents);
                lengths(graph, otherwise, extents);
            }
            Act::Repeat { body, .. } => lengths(graph, body, extents),
            Act::Experts { bodies } => bodies.iter().for_each(|body| lengths(graph, body, extents)),
        }
    }
}

struct Count<'g> {
    graph: &'g Graph,
    users: Vec<Vec<usize>>,
    next: usize,
}

impl Count<'_> {
    fn fresh(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    fn mark(&mut self, v: V, stages: &[usize]) {
        // One or several is all that matters, so that a third is not kept.
        let users = &mut self.users[v.index()];
        for stage in stages {
            if users.len() < 2 && !users.contains(stage) {
                users.push(*stage);
            }
        }
    }

    fn body(&mut self, body: &Body, sinks: &[V]) {
        // Stores of one shape are one stage.
        let mut groups = FxHashMap::default();
        let writes = body.steps.iter().filter_map(|&id| {
            let step = &self.graph.steps[id];
            matches!(step.act, Act::Op(Op::StateWrite(_))).then(|| step.inputs[0])
        });
        let stored: Vec<V> = sinks.iter().copied().chain(writes).collect();
        for v in stored {
            let shape = self.graph.ty(v).shape.clone();
            let stage = match groups.get(&shape) {
                Some(stage) => *stage,
                None => {
                    let stage = self.fresh();
                    groups.insert(shape, stage);
                    stage
                }
            };
            self.mark(v, &[stage]);
        }
        for &id in body.steps.iter().rev() {
            self.step(id);
        }
    }

    fn step(&mut self, id: StepId) {
        let graph = self.graph;
        let step = &graph.steps[id];
        let stages = match &step.act {
            Act::Op(
                Op::Unary(_)
                | Op::Binary(_)
                | Op::Compare(_)
                | Op::Select
                | Op::Convert(_)
                | Op::Broadcast { .. }
                | Op::Reshape
                | Op::Permute { .. }
                | Op::Slice { .. }
                | Op::Gather { .. },
            ) => {
                let users = self.users[step.results[0].index()].clone();
                let heavy = match &step.act {
                    Act::Op(Op::Unary(op)) => super::elementwise::unary_cost(*op) > 4,
                    Act::Op(Op::Gather { .. }) => true,
                    _ => false,
                };
                if users.len() > 1 && heavy { vec![self.fresh()] } else { users }
            }
            Act::Op(Op::StateWrite(_)) => return,
            Act::Op(_) => vec![self.fresh()],
            Act::If { then, otherwise } => {
                self.body(then, &then.results);
                self.body(otherwise, &otherwise.results);
                vec![self.fresh()]
            }
            Act::Repeat { body, .. } => {
                self.body(body, &body.results);
                vec![self.fresh()]
            }
            Act::Experts { bodies } => {
                for body in bodies {
                    self.body(body, &body.results);
                }
                vec![self.fresh()]
            }
        };
        for &input in &step.inputs {
            self.mark(input, &stages);
        }
    }
}

/// The states that are read in one body and written in another.
fn shared_states(graph: &Graph, body: &Body) -> Vec<StateId> {
    fn walk(graph: &Graph, body: &Body, next: &mut usize, uses: &mut Vec<(StateId, usize, bool)>) {
        let here = *next;
        *next += 1;
        for &id in &body.steps {
            match &graph.steps[id].act {
                Act::Op(Op::StateRead(state)) => uses.push((*state, here, false)),
                Act::Op(Op::StateWrite(state)) => uses.push((*state, here, true)),
                Act::Op(_) => {}
                Act::If { then, otherwise } => {
                    walk(graph, then, next, uses);
                    walk(graph, otherwise, next, uses);
                }
                Act::Repeat { body, .. } => walk(graph, body, next, uses),
                Act::Experts { bodies } => {
                    for body in bodies {
                        walk(graph, body, next, uses);
                    }
                }
            }
        }
    }
    let mut uses = Vec::new();
    walk(graph, body, &mut 0, &mut uses);
    let mut shared = Vec::new();
    for &(state, place, write) in &uses {
        let other = uses.iter().any(|&(s, p, w)| s == state && p != place && w != write);
        if other && !shared.contains(&state) {
            shared.push(state);
        }
    }
    shared
}
