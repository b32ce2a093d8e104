//! The names of operations in printed IR: one table per family, used by the printer and the reader alike.

use super::op::{BinaryOp, CompareOp, FusedKind, Op, ReduceOp, UnaryOp};

macro_rules! names {
    ($(#[$doc:meta])* $table:ident: $ty:ident { $($variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        pub const $table: &[($ty, &str)] = &[$(($ty::$variant, $name),)*];

        impl $ty {
            /// The name in printed IR.
            pub fn name(self) -> &'static str {
                match self { $($ty::$variant => $name,)* }
            }

            /// The inverse of `name`.
            pub fn from_name(name: &str) -> Option<$ty> {
                $table.iter().find(|(_, n)| *n == name).map(|(op, _)| *op)
            }
        }
    };
}

names! {
    /// Elementwise operations of one operand.
    UNARY: UnaryOp {
        Neg = "neg", Abs = "abs", Not = "not", Exp = "exp", Expm1 = "expm1", Ln = "ln", Log1p = "log1p",
        Sqrt = "sqrt", Sin = "sin", Cos = "cos", Tanh = "tanh", Sigmoid = "sigmoid", Floor = "floor", Round = "round",
    }
}

names! {
    /// Elementwise operations of two operands.
    BINARY: BinaryOp {
        Add = "add", Sub = "sub", Mul = "mul", Div = "div", FloorDiv = "floor_div", Rem = "rem", Min = "min", Max = "max",
        And = "and", Or = "or", Xor = "xor", Shl = "shl", Shr = "shr",
    }
}

names! {
    /// Comparisons.
    COMPARE: CompareOp { Eq = "eq", Ne = "ne", Lt = "lt", Le = "le", Gt = "gt", Ge = "ge", }
}

names! {
    /// Reductions of an axis.
    REDUCE: ReduceOp {
        Sum = "reduce_sum", Max = "reduce_max", Min = "reduce_min", Any = "reduce_any", Count = "reduce_count",
        ArgMax = "reduce_argmax",
    }
}

names! {
    /// Kinds of fused groups.
    FUSED: FusedKind {
        Elementwise = "elementwise", NormQuant = "norm_quant", LinearEpilogue = "linear_epilogue", Recurrence = "recurrence",
    }
}

impl Op {
    /// The name in printed IR.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Constant(_) => "constant",
            Op::Weight(_) => "weight",
            Op::Iota(_) => "iota",
            Op::Unary(op) => op.name(),
            Op::Binary(op) => op.name(),
            Op::Compare(op) => op.name(),
            Op::Select => "select",
            Op::Convert(_) => "convert",
            Op::Bits => "bits",
            Op::Broadcast { .. } => "broadcast",
            Op::Reshape => "reshape",
            Op::Permute { .. } => "permute",
            Op::Slice { .. } => "slice",
            Op::Concat { .. } => "concat",
            Op::Gather { .. } => "gather",
            Op::Reduce { op, .. } => op.name(),
            Op::TopK { .. } => "top_k",
            Op::TopMask { .. } => "top_mask",
            Op::MatMul { .. } => "matmul",
            Op::Linear => "linear",
            Op::QuantizeInput { .. } => "quantize_input",
            Op::LinearInt8 { .. } => "linear_int8",
            Op::StateRead(_) => "state_read",
            Op::StateWrite(_) => "state_write",
            Op::Push { .. } => "push",
            Op::Positions { .. } => "positions",
            Op::Recent { .. } => "recent",
            Op::If { .. } => "if",
            Op::Repeat { .. } => "repeat",
            Op::Experts { .. } => "experts",
            Op::Scan { .. } => "scan",
            Op::Fused { .. } => "fused",
            Op::Host(_) => "host",
            Op::Check { .. } => "check",
            Op::Probe { .. } => "probe",
        }
    }
}
