//! States and effects.

use super::{TypeError, Typing, is_arithmetic};
use crate::ir::module::{AxisCapacity, MAX_ENTRIES, StateDecl, StateId};
use crate::ir::op::Op;
use crate::ir::types::{Dim, Elem, Type};

impl Typing<'_> {
    pub(super) fn state(&self) -> Result<Vec<Type>, TypeError> {
        match self.op {
            Op::StateRead(id) => {
                self.count(0)?;
                Ok(vec![self.declaration(*id)?.ty.clone()])
            }
            Op::StateWrite(id) => {
                self.count(1)?;
                let state = self.declaration(*id)?;
                if state.held {
                    return self.attribute(format!("{} is written by the host", state.path));
                }
                self.whole(0, state)?;
                Ok(Vec::new())
            }
            Op::Push { state } => {
                self.count(3)?;
                let state = self.declaration(*state)?;
                self.whole(0, state)?;
                let (entry, _) = self.growing(state)?;
                if *self.operands[1] != entry {
                    return self.operand(1, entry.to_string());
                }
                if *self.operands[2] != Type::scalar(Elem::I32) {
                    return self.operand(2, "i32");
                }
                Ok(vec![state.ty.clone()])
            }
            Op::Positions { state } => {
                self.count(1)?;
                let state = self.declaration(*state)?;
                self.whole(0, state)?;
                let (_, axis) = self.growing(state)?;
                Ok(vec![Type::new(Elem::I32, vec![axis])])
            }
            Op::Recent { state, back } => {
                self.count(1)?;
                let state = self.declaration(*state)?;
                self.whole(0, state)?;
                let (entry, _) = self.growing(state)?;
                let kept = state.growing().and_then(|(_, axis)| self.module.axes.get(axis.index()));
                let kept = match kept.map(|axis| axis.capacity) {
                    Some(AxisCapacity::Max(n) | AxisCapacity::Ring(n)) => n,
                    _ => MAX_ENTRIES,
                };
                if *back >= kept {
                    let what = format!("{} keeps {kept} entries, the one {back} before the newest is none", state.path);
                    return self.attribute(what);
                }
                Ok(vec![entry])
            }
            Op::Host(id) => {
                let Some(host) = self.module.hosts.get(id.index()) else {
                    return self.undeclared(format!("h{}", id.0));
                };
                self.count(host.params.len())?;
                let lifted = self.operands.iter().any(|ty| ty.is_lifted());
                for (i, (_, ty)) in host.params.iter().enumerate() {
                    let expected = if lifted { ty.lifted() } else { ty.clone() };
                    if *self.operands[i] != expected {
                        return self.operand(i, expected.to_string());
                    }
                }
                let results = [host.result.clone(), Type::scalar(Elem::Bool)];
                Ok(results.into_iter().map(|ty| if lifted { ty.lifted() } else { ty }).collect())
            }
            Op::Check { .. } => {
                self.count(1)?;
                if self.operands[0].step() != Type::scalar(Elem::Bool) {
                    return self.operand(0, "bool");
                }
                Ok(Vec::new())
            }
            Op::Probe { .. } => {
                self.count(1)?;
                if !is_arithmetic(self.operands[0].elem) {
                    return self.operand(0, "a value, converted from how it is stored");
                }
                Ok(Vec::new())
            }
            _ => unreachable!("not a state operation"),
        }
    }

    fn declaration(&self, id: StateId) -> Result<&StateDecl, TypeError> {
        match self.module.states.get(id.index()) {
            Some(state) => Ok(state),
            None => self.undeclared(format!("s{}", id.0)),
        }
    }

    fn whole(&self, index: usize, state: &StateDecl) -> Result<(), TypeError> {
        if *self.operands[index] == state.ty {
            return Ok(());
        }
        self.operand(index, state.ty.to_string())
    }

    /// The type of one entry of a growing state, and its growing axis.
    fn growing(&self, state: &StateDecl) -> Result<(Type, Dim), TypeError> {
        let Some((at, _)) = state.growing() else {
            return self.attribute(format!("{} does not grow", state.path));
        };
        let mut shape = state.ty.shape.clone();
        let axis = shape.remove(at);
        Ok((Type::new(state.ty.elem, shape), axis))
    }
}
