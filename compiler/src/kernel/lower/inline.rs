//! What can be evaluated where it is used: its cost, what must be stored first, and views of memory.

use rustc_hash::FxHashSet;

use super::NotCompiled;
use super::access::Buffer;
use super::emit::{Emit, Loc};
use super::graph::{Act, Step, V};
use crate::ir::{BinaryOp, Dim, Elem, Op, StateId};
use crate::kernel::build::Builder;

impl Emit<'_> {
    /// The operation that defines a value, if it is evaluated where it is used.
    fn inline_op(&self, v: V) -> Option<(&Op, &Step)> {
        let step = self.graph.def(v)?;
        match &step.act {
            Act::Op(op) => Some((op, step)),
            _ => None,
        }
    }

    /// Whether the element or operation needs one element at a time.
    pub fn scalar_only(&self, v: V) -> bool {
        if self.graph.ty(v).elem == Elem::U64 {
            return true;
        }
        let plain = &self.plain[v.index()];
        if self.locs[v.index()].is_some() || plain.get() {
            return false;
        }
        let scalar = self.needs_scalars(v);
        plain.set(!scalar);
        scalar
    }

    fn needs_scalars(&self, v: V) -> bool {
        match self.inline_op(v) {
            Some((op, step)) => match op {
                Op::Binary(BinaryOp::FloorDiv | BinaryOp::Rem) => self.graph.ty(v).elem != Elem::F32,
                Op::Binary(BinaryOp::Shl | BinaryOp::Shr) => true,
                Op::Unary(_)
                | Op::Binary(_)
                | Op::Compare(_)
                | Op::Select
                | Op::Convert(_)
                | Op::Broadcast { .. }
                | Op::Reshape
                | Op::Slice { .. }
                | Op::Permute { .. } => step.inputs.iter().any(|&x| self.scalar_only(x)),
                _ => false,
            },
            None => false,
        }
    }

    /// How many steps of an inline evaluation of this step stand inside one another.
    pub fn inline_depth(&self, step: &Step) -> u32 {
        let below = step.inputs.iter().filter(|v| self.locs[v.index()].is_none());
        1 + below.map(|v| self.depths[v.index()]).max().unwrap_or(0)
    }

    /// A rough count of the operations of an inline evaluation.
    pub fn cost(&self, v: V) -> u32 {
        if self.locs[v.index()].is_some() || self.graph.ty(v).rank() == 0 {
            return 0;
        }
        let Some((op, step)) = self.inline_op(v) else {
            return 100;
        };
        let own = match op {
            Op::Constant(_) | Op::Iota(_) => return 0,
            Op::Broadcast { .. } | Op::Reshape | Op::Permute { .. } | Op::Slice { .. } => 0,
            Op::Unary(op) => super::elementwise::unary_cost(*op),
            Op::Binary(BinaryOp::Div | BinaryOp::FloorDiv | BinaryOp::Rem) => 5,
            Op::Binary(_) | Op::Compare(_) | Op::Select => 1,
            Op::Convert(_) => 3,
            _ => 10,
        };
        let mut sum = own;
        for &input in &step.inputs {
            if sum > 100 {
                break;
            }
            sum += self.cost(input);
        }
        sum
    }

    /// The states that an inline evaluation reads, and whether only at the place evaluated.
    pub fn states_read(&self, v: V) -> Vec<(StateId, bool)> {
        let mut found = Vec::new();
        self.collect_states(v, true, &mut found, &mut FxHashSet::default());
        found
    }

    fn collect_states(&self, v: V, in_place: bool, found: &mut Vec<(StateId, bool)>, seen: &mut FxHashSet<(V, bool)>) {
        let Some((op, step)) = self.inline_op(v).filter(|_| seen.insert((v, in_place))) else {
            return;
        };
        match op {
            Op::StateRead(state) => {
                if !self.copied.contains(state) && !found.contains(&(*state, in_place)) {
                    found.push((*state, in_place));
                }
            }
            // A view may have a place, which is then one in the state's own memory.
            Op::Broadcast { .. } | Op::Reshape | Op::Permute { .. } | Op::Slice { .. } => {
                self.collect_states(step.inputs[0], false, found, seen);
            }
            _ if self.locs[v.index()].is_some() => {}
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Convert(_) => {
                for &input in &step.inputs {
                    self.collect_states(input, in_place, found, seen);
                }
            }
            // Whatever else is evaluated where it is used may read any place.
            _ => {
                for &input in &step.inputs {
                    self.collect_states(input, false, found, seen);
                }
            }
        }
    }

    /// Makes sure that a value can be evaluated inside loops: stores what has no index map.
    pub fn prepare(&mut self, b: &mut Builder, v: V) -> Result<(), NotCompiled> {
        self.prepare_once(b, v, &mut FxHashSet::default())
    }

    /// As [`Emit::prepare`], but for what has been `seen`.
    fn prepare_once(&mut self, b: &mut Builder, v: V, seen: &mut FxHashSet<V>) -> Result<(), NotCompiled> {
        if self.locs[v.index()].is_some() || !seen.insert(v) {
            return Ok(());
        }
        let graph = self.graph;
        let Some(step) = graph.def(v) else {
            unreachable!("a parameter has a place");
        };
        let Act::Op(op) = &step.act else {
            unreachable!("results of control have a place");
        };
        match op {
            Op::Constant(_) | Op::Iota(_) | Op::Recent { .. } => {}
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Convert(_) => {
                for &input in &step.inputs {
                    self.prepare_once(b, input, seen)?;
                }
            }
            Op::Slice { .. } => self.prepare_once(b, step.inputs[0], seen)?,
            Op::Broadcast { .. } => {
                let from = step.inputs[0];
                let repeats = graph.ty(from).elements() != graph.ty(v).elements();
                if repeats && self.cost(from) > 2 {
                    self.ensure_buffer(b, from)?;
                }
                self.prepare_once(b, from, seen)?;
            }
            Op::Reshape => {
                let from = step.inputs[0];
                if self.splits(from, v) && self.locs[from.index()].is_none() {
                    return self.prepare_once(b, from, seen);
                }
                if self.view(v).is_none() {
                    let dense = self.ensure_dense(b, from)?;
                    let Some(view) = dense.reshaped_beside(&graph.ty(from).shape, &graph.ty(v).shape) else {
                        return self.fail(step.origin, "a reshape of quantised values");
                    };
                    self.locs[v.index()] = Some(Loc::Buf(view));
                }
            }
            Op::Permute { axes } => {
                let from = step.inputs[0];
                if axes.last().is_none_or(|&last| last + 1 == axes.len()) {
                    self.prepare_once(b, from, seen)?;
                } else {
                    let buffer = self.ensure_buffer(b, from)?;
                    self.locs[v.index()] = Some(Loc::Buf(buffer.permuted(axes)));
                }
            }
            Op::Gather { .. } => {
                let (table, index) = (step.inputs[0], step.inputs[1]);
                self.prepare_once(b, table, seen)?;
                if !matches!(self.locs[table.index()], Some(Loc::Packed(_))) {
                    self.ensure_buffer(b, table)?;
                }
                self.prepare_once(b, index, seen)?;
                if graph.ty(index).rank() > 0 && self.cost(index) > 0 {
                    self.ensure_buffer(b, index)?;
                }
            }
            other => {
                let what = format!("{other:?} at this place");
                return self.fail(step.origin, what);
            }
        }
        Ok(())
    }

    /// Whether a reshape only adds or removes axes of length 1 or splits axes, so that strips stay strips
    /// wherever they begin.
    fn splits(&self, from: V, to: V) -> bool {
        let (Some(from), Some(to)) = (self.graph.ty(from).constant_shape(), self.graph.ty(to).constant_shape()) else {
            return false;
        };
        let last = |shape: &[usize]| shape.iter().rev().copied().find(|&n| n != 1).unwrap_or(1);
        let (a, z) = (last(&from), last(&to));
        // The strips of the result run along the operand's last axis and never leave it.
        to.last() == Some(&z) && from.last() == Some(&a) && a % z == 0
    }

    /// The value as a strided array, if it is a view of one.
    pub fn view(&self, v: V) -> Option<Buffer> {
        match &self.locs[v.index()] {
            Some(Loc::Buf(buffer)) => return Some(buffer.clone()),
            Some(_) => return None,
            None => {}
        }
        let (op, step) = self.inline_op(v)?;
        let from = *step.inputs.first()?;
        let (from_ty, ty) = (self.graph.ty(from), self.graph.ty(v));
        match op {
            Op::Slice { axis, start, .. } => matches!(from_ty.shape[*axis], Dim::Const(_))
                .then(|| self.view(from).map(|buffer| buffer.sliced(*axis, *start)))?,
            Op::Permute { axes } => self.view(from).map(|buffer| buffer.permuted(axes)),
            Op::Broadcast { axes } => self.view(from).map(|buffer| buffer.broadcast(axes, &from_ty.shape, &ty.shape)),
            Op::Reshape => self.view(from)?.reshaped_beside(&from_ty.shape, &ty.shape),
            _ => None,
        }
    }
}
