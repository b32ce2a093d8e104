//! The graph of one head: where everything a kernel yields has the same leading axis, and no step mixes its places, the
//! kernel can compute one place of that axis alone, and different places are work for different threads.
//!
//! Found from the results backwards: a result that has the axis demands it, or demands its absence, of each operand.
//! A value that is wanted both ways, or a step without a rule here, means that the graph stays whole. An input that is
//! flat, heads one after the other, need not have the axis: a head has its part.

use super::access::Buffer;
use super::graph::{Act, Body, Graph, V};
use super::index::Ix;
use crate::ir::{Dim, Elem, Op, StateId, Type};

/// A graph without its leading axis.
#[derive(Debug)]
pub struct Heads {
    /// Places of the axis.
    pub count: usize,
    pub graph: Graph,
    /// Per value, whether it had the axis.
    pub sliced: Vec<bool>,
    /// Per value, whether it is an input in which the axis and the next ones are one: a head has its part of that.
    pub flat: Vec<bool>,
    /// States that have the axis.
    pub states: Vec<StateId>,
}

impl Heads {
    /// The part of a head of a value's array; all of it if the value has no heads.
    pub fn part(&self, v: V, head: &Ix, mut array: Buffer) -> Buffer {
        if self.sliced[v.index()] {
            return array.place_of_first(head);
        }
        if self.flat[v.index()] {
            let length = self.graph.ty(v).shape[0].constant().expect("flat inputs have known lengths");
            array.base = array.base.add_scaled(head, length as i64 * array.strides[0]);
        }
        array
    }
}

/// Takes the leading axis of the outputs off a graph, if that is possible.
pub fn per_head(graph: &Graph, body: &Body, outputs: &[V], module: &crate::ir::Module) -> Option<Heads> {
    let count = match graph.ty(*outputs.first()?).shape.first() {
        Some(Dim::Const(n)) if *n > 1 => *n,
        _ => return None,
    };
    let values = graph.types.len();
    let mut demands = Demands { graph, count, wanted: vec![None; values], flat: vec![false; values] };
    for &v in outputs {
        demands.want(v, true)?;
    }
    for &id in body.steps.iter().rev() {
        demands.step(id)?;
    }
    let flat = demands.flat;
    if flat.iter().zip(&demands.wanted).any(|(&flat, wanted)| flat && wanted.is_some()) {
        return None;
    }
    let sliced: Vec<bool> = demands.wanted.iter().map(|w| *w == Some(true)).collect();
    let mut states: Vec<(StateId, bool)> = Vec::new();
    for &id in &body.steps {
        let step = &graph.steps[id];
        let (Act::Op(Op::StateRead(state) | Op::Push { state } | Op::Recent { state, .. }), &v) =
            (&step.act, &step.results[0])
        else {
            continue;
        };
        let Some(has) = demands.wanted[v.index()] else { continue };
        match states.iter().find(|(s, _)| s == state) {
            Some((_, known)) if *known != has => return None,
            Some(_) => {}
            None => states.push((*state, has)),
        }
        if has && module.state(*state).growing().is_some_and(|(at, _)| at == 0) {
            return None;
        }
    }
    let mut one = graph.clone();
    for (i, ty) in one.types.iter_mut().enumerate() {
        if sliced[i] {
            ty.shape.remove(0);
        }
        if flat[i]
            && let Some(Dim::Const(n)) = ty.shape.first_mut()
        {
            *n /= count;
        }
    }
    for &id in &body.steps {
        let step = &graph.steps[id];
        if !step.results.iter().any(|v| sliced[v.index()]) {
            continue;
        }
        if let Act::Op(op) = &mut one.steps[id].act {
            let first = step.inputs.first().is_some_and(|v| sliced[v.index()]);
            without_axis(op, first);
        }
    }
    let states = states.into_iter().filter(|(_, has)| *has).map(|(s, _)| s).collect();
    Some(Heads { count, graph: one, sliced, flat, states })
}

struct Demands<'g> {
    graph: &'g Graph,
    count: usize,
    /// Per value, whether it has the axis; none if nobody asks.
    wanted: Vec<Option<bool>>,
    /// Per value, whether a head is to have a part of its only axis.
    flat: Vec<bool>,
}

impl Demands<'_> {
    fn has_room(&self, ty: &Type) -> bool {
        ty.shape.first() == Some(&Dim::Const(self.count)) && !matches!(ty.elem, Elem::Ternary | Elem::Sign)
    }

    fn want(&mut self, v: V, axis: bool) -> Option<()> {
        if axis && !self.has_room(self.graph.ty(v)) {
            return None;
        }
        let known = &mut self.wanted[v.index()];
        match known {
            Some(before) if *before != axis => None,
            _ => {
                *known = Some(axis);
                Some(())
            }
        }
    }

    fn want_all(&mut self, values: &[V], axis: bool) -> Option<()> {
        values.iter().try_for_each(|&v| self.want(v, axis))
    }

    fn step(&mut self, id: usize) -> Option<()> {
        let graph = self.graph;
        let step = &graph.steps[id];
        let mut wants = step.results.iter().filter_map(|v| self.wanted[v.index()]);
        let axis = wants.next();
        if wants.any(|other| Some(other) != axis) {
            return None;
        }
        let (Some(axis), Act::Op(op)) = (axis, &step.act) else {
            // Nobody reads it, or it is control flow, which has no rule.
            return axis.is_none().then_some(());
        };
        self.want_all(&step.results, axis)?;
        let inputs = &step.inputs;
        if let Op::Push { .. } | Op::Positions { .. } | Op::Recent { .. } = op {
            // Entries are read where they lie; what was pushed is not looked at again.
            let allowed = !axis || !matches!(op, Op::Positions { .. });
            if let Op::Recent { .. } = op {
                self.want(inputs[0], axis)?;
            }
            return allowed.then_some(());
        }
        if !axis {
            return self.want_all(inputs, false);
        }
        match op {
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Convert(_) => self.want_all(inputs, true),
            Op::Constant(_) | Op::Weight(_) | Op::StateRead(_) => Some(()),
            Op::Broadcast { axes } => {
                let from = graph.ty(inputs[0]);
                let along = axes.first() == Some(&0);
                if along && from.shape[0] != Dim::Const(self.count) {
                    return None;
                }
                self.want(inputs[0], along)
            }
            Op::Permute { axes } if axes.first() == Some(&0) => self.want(inputs[0], true),
            Op::Reshape if self.has_room(graph.ty(inputs[0])) => self.want(inputs[0], true),
            Op::Reshape => {
                // Row by row, head after head: a part of the flat array is a head, whatever its shape.
                let [Dim::Const(n)] = graph.ty(inputs[0]).shape[..] else { return None };
                self.flat[inputs[0].index()] = true;
                (n % self.count == 0 && graph.def(inputs[0]).is_none()).then_some(())
            }
            Op::Slice { axis, .. } | Op::Reduce { axis, .. } if *axis > 0 => self.want(inputs[0], true),
            Op::Concat { axis } if *axis > 0 => self.want_all(inputs, true),
            Op::TopK { .. } | Op::TopMask { .. } if graph.ty(inputs[0]).rank() > 1 => self.want(inputs[0], true),
            Op::Gather { batch } | Op::MatMul { batch } if *batch > 0 => self.want_all(inputs, true),
            _ => None,
        }
    }
}

/// The operation on operands without the leading axis; `first` says whether its first operand had it.
fn without_axis(op: &mut Op, first: bool) {
    match op {
        Op::Broadcast { axes } => {
            *axes = axes[usize::from(first)..].iter().map(|a| a - 1).collect();
        }
        Op::Permute { axes } => *axes = axes[1..].iter().map(|a| a - 1).collect(),
        Op::Slice { axis, .. } | Op::Reduce { axis, .. } | Op::Concat { axis } => *axis -= 1,
        Op::Gather { batch } | Op::MatMul { batch } => *batch -= 1,
        _ => {}
    }
}
