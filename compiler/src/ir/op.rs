//! The closed list of operations.
//!
//! One variant per operation; the exhaustive matches of the verifier, the printer, the interpreter and the
//! lowering lead to every place a new one must be handled (spec/ir.md lists them). There is no implicit
//! broadcasting: operands of elementwise operations have the shape of the result, and [`Op::Broadcast`] says
//! how a smaller value fills it. The time axis of a lifted graph is one more leading axis of every per-step value.

use std::sync::Arc;

use super::graph::Region;
use super::module::{HostId, StateId, WeightId};
use super::types::{Elem, InputQuant, Literal};

/// An operation. Operand and result conventions stand with each variant; `[..]` means any leading axes. Copies of an
/// operation share its regions until one of them is changed, so that a pass that copies a graph copies no bodies.
#[derive(Clone, Debug)]
pub enum Op {
    // ---- leaves -------------------------------------------------------------------------------
    /// () -> the literal.
    Constant(Literal),
    /// () -> the weight, with the element of its encoding and its checkpoint shape.
    Weight(WeightId),
    /// () -> i32[n] = 0..n-1.
    Iota(usize),

    // ---- elementwise --------------------------------------------------------------------------
    /// (x) -> same type.
    Unary(UnaryOp),
    /// (a, b), equal types -> same type.
    Binary(BinaryOp),
    /// (a, b), equal types -> bool of the same shape.
    Compare(CompareOp),
    /// (c: bool, a, b), equal shapes -> type of a and b. Both sides are computed.
    Select,
    /// (x) -> the element; f32 to integer truncates toward zero after clamping to the range, NaN gives 0;
    /// integer to f32 rounds to nearest even; between integers wraps; bool gives 0 or 1.
    Convert(Elem),
    /// (u64[.., n]) -> bool[.., 64 n], lowest bit first.
    Bits,

    // ---- shape --------------------------------------------------------------------------------
    /// (x) -> `result type of the node`; operand axis i becomes result axis `axes[i]` (ascending), or, where
    /// the operand's length is 1 and the result's is not, is repeated; all other result axes repeat.
    Broadcast { axes: Vec<usize> },
    /// (x) -> same elements in row-major order in the result's shape.
    Reshape,
    /// (x) -> result axis i is operand axis `axes[i]`.
    Permute { axes: Vec<usize> },
    /// (x) -> `len` places from `start` along `axis`.
    Slice { axis: usize, start: usize, len: usize },
    /// (x...) -> one after the other along `axis`; at most the last may grow.
    Concat { axis: usize },
    /// (table[B.., n, R..], index: i32|u32|u8 [B.., I..]) -> [B.., I.., R..]; `batch` axes B are shared.
    /// An encoded table is decoded (scale * code). Index -1 gives zeros. Other indices are in range.
    Gather { batch: usize },

    // ---- reductions ---------------------------------------------------------------------------
    /// (x) -> x without `axis`. Float sums over the last axis use 16 interleaved partials in the fixed tree,
    /// over another axis one ascending sum per element; over a growing last axis the lane is plus + absolute position.
    Reduce { op: ReduceOp, axis: usize },
    /// (x[.., n]) -> (values f32[.., k], indices i32[.., k]); descending, ties to the lower index, missing: -inf and
    /// -1.
    TopK { k: usize },
    /// (x[.., n]) -> bool[.., n], true at those k places.
    TopMask { k: usize },

    // ---- products -----------------------------------------------------------------------------
    /// (a[B.., M?, k], b[B.., k, N?]) -> [B.., M?, N?]; `batch` axes B. Without N the sum over k is a lane-axis sum of
    /// products; with N it is, for each output, ascending in k. An encoded weight acts by its dequantised values.
    MatMul { batch: usize },
    /// (x[.., k], w[m, k]...) -> one f32[.., m] per weight: linear layers before `quantise` has chosen their arithmetic
    /// (one weight until `fuse_shared_input`); the input quantisation is that of each weight's encoding. Float: sum of
    /// products over the lane axis; ternary or sign with float input: the lane-axis sum of code * x per group, then its
    /// scale; groups are added ascending.
    Linear,
    /// (x[.., n]) -> (q: i8[.., n], a: f32[.., blocks]): the int8 quantiser with its block maxima (not yet divided by
    /// 127).
    QuantizeInput { quant: InputQuant },
    /// (q: i8[.., k], a: f32[.., blocks], w[m, k]...) -> one f32[.., m] per weight: exact integer products undone as
    /// `quant` says.
    LinearInt8 { quant: InputQuant },

    // ---- state --------------------------------------------------------------------------------
    /// () -> the state's value at the start of the step (of this instance).
    StateRead(StateId),
    /// (value) -> (): what the state holds after the step. At most once per state and step.
    StateWrite(StateId),
    /// (s, x, position: i32) -> s with one more entry; the axis is that of the state's type.
    Push { state: StateId },
    /// (s) -> i32[grow]: positions at which these entries were pushed.
    Positions { state: StateId },
    /// (s) -> the entry pushed `back` pushes before the newest; zeros if there are not so many.
    Recent { back: usize, state: StateId },

    // ---- control ------------------------------------------------------------------------------
    /// (c: bool, captures...) -> results; both regions take the captures and yield the results. In a lifted
    /// graph c is bool[T]: each region runs on the rows that take it, gathered, and the results are scattered back.
    If { then: Arc<Region>, otherwise: Arc<Region> },
    /// (count: i32, carried..., captures...) -> carried...: the body takes (r: i32, carried..., captures...) and
    /// yields (exit: bool, carried...). `r` runs from `first` for `count` rounds, at most `max`; a true exit leaves
    /// after its round's values.
    Repeat { first: i64, max: usize, carried: usize, body: Arc<Region> },
    /// (index: i32[k], captures...) -> each result stacked [k, ..]: region index[j] runs for place j; -1 gives zeros.
    Experts { regions: Vec<Region> },
    /// (captures...) -> results: the body is run for each time step in order; captures with a time axis are
    /// given one step at a time, results are stacked over time. Only in lifted graphs; states in it advance step by
    /// step.
    Scan { body: Arc<Region> },
    /// (captures...) -> results: the body, computed by one kernel. Means exactly its body.
    Fused { kind: FusedKind, body: Arc<Region> },

    // ---- effects ------------------------------------------------------------------------------
    /// (args...) -> (answer, given: bool).
    Host(HostId),
    /// (ok: bool): false stops the entry with this message (a code in compiled programs).
    Check { message: String },
    /// (x): observed under this path when asked for.
    Probe { path: String },
}

/// Elementwise operations of one operand. Float functions are those of `numerics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    Neg,
    Abs,
    Not,
    Exp,
    Expm1,
    Ln,
    Log1p,
    Sqrt,
    Sin,
    Cos,
    Tanh,
    Sigmoid,
    Floor,
    /// Half to even.
    Round,
}

/// Elementwise operations of two operands; integers wrap, `FloorDiv` and `Rem` floor (division by zero gives 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    /// Float division.
    Div,
    FloorDiv,
    Rem,
    /// b < a ? b : a
    Min,
    /// a < b ? b : a
    Max,
    And,
    Or,
    Xor,
    Shl,
    /// Arithmetic for signed, logical for unsigned elements.
    Shr,
}

/// Comparisons; with NaN all are false but `Ne`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// Reductions of one axis. `Max` and `Min` of f32 fold with the elementwise rule: over the last axis as sums do, 16
/// lanes and then their tree, over another axis ascending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    Sum,
    Max,
    Min,
    /// bool -> bool
    Any,
    /// bool -> i32
    Count,
    /// -> i32, the lowest index of the largest
    ArgMax,
}

/// Which pass made a fused group, and so which kernel form it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FusedKind {
    /// Elementwise operations over one shape, with reductions that end them.
    Elementwise,
    /// A norm with the quantiser that reads it.
    NormQuant,
    /// One or more linears over the same input with the elementwise operations on their rows.
    LinearEpilogue,
    /// Gates, a state update and what reads it, row by row in order of time.
    Recurrence,
}

impl Op {
    /// Whether it computes its results from its operands alone: no region, state, host function or effect.
    pub fn is_plain(&self) -> bool {
        let stateful = matches!(
            self,
            Op::StateRead(_)
                | Op::StateWrite(_)
                | Op::Push { .. }
                | Op::Positions { .. }
                | Op::Recent { .. }
                | Op::Host(_)
                | Op::Check { .. }
                | Op::Probe { .. }
        );
        !stateful && Region::nested(self).is_empty()
    }
}
