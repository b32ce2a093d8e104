//! What tells an operation from others in tables, without the cost of printing it. The printed form decides, as it says
//! all that an operation is apart from its operands and regions; here are shorter forms of the most frequent ones.

use smallvec::SmallVec;

use super::op::Op;
use super::print::op_text;
use super::types::LiteralKey;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OpKey {
    /// A name with numbers.
    Numbers(&'static str, [usize; 3]),
    /// A name with axes.
    Axes(&'static str, SmallVec<[usize; 4]>),
    Constant(LiteralKey),
    /// The printed form.
    Text(String),
}

impl OpKey {
    /// The key of an operation.
    pub fn of(op: &Op) -> OpKey {
        let numbers = match op {
            Op::Broadcast { axes } | Op::Permute { axes } => return OpKey::Axes(op.name(), axes[..].into()),
            Op::Constant(literal) => return OpKey::Constant(literal.key()),
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Bits | Op::Reshape | Op::Linear => [0; 3],
            Op::Convert(elem) => [*elem as usize, 0, 0],
            Op::Weight(weight) => [weight.index(), 0, 0],
            Op::StateRead(state) | Op::StateWrite(state) => [state.index(), 0, 0],
            Op::Iota(n) => [*n, 0, 0],
            Op::Slice { axis, start, len } => [*axis, *start, *len],
            Op::Reduce { axis, .. } | Op::Concat { axis } => [*axis, 0, 0],
            Op::Gather { batch } | Op::MatMul { batch } => [*batch, 0, 0],
            other => return OpKey::Text(op_text(other)),
        };
        OpKey::Numbers(op.name(), numbers)
    }
}
