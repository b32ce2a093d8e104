//! The kernel IR as data: a kernel is a list of operations over virtual vectors with structured loops
//! and conditionals, independent of the target.
//!
//! Only the types live here. [`super::build`] makes kernels, [`super::print`] shows them,
//! [`super::verify`] checks them, [`super::interp`] gives their meaning, and `target` turns them into
//! machine code. The 16 lanes of [`Type::F`] are the numeric definition, not a hint: no target may change them.

use std::fmt;

pub use super::products::{DotRows, FloatRows, MAX_TOKENS, Packing, RowElement, Rows};

/// Lanes of [`Type::F`] and [`Type::I`], and rows of one epilogue strip.
pub const LANES: usize = 16;
/// Bytes of a strip of 16 four-byte elements, and of [`Type::B`].
pub const STRIP_BYTES: usize = 64;

/// The type of a kernel value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// 16 f32 lanes.
    F,
    /// 16 i32 lanes; also lane masks, whose lanes are 0 or -1.
    I,
    /// 64 bytes; the operation gives the signedness.
    B,
    /// An exact i32 dot accumulator. Its lane count belongs to the target; only its total is observable.
    A,
    /// Scalar f32.
    S,
    /// Scalar i32; also scalar conditions, 0 or -1.
    N,
    /// Scalar 64-bit integer.
    L,
    /// A pointer into the buffer of one parameter, or into the kernel's own stack.
    P,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Type::F => "F",
            Type::I => "I",
            Type::B => "B",
            Type::A => "A",
            Type::S => "S",
            Type::N => "N",
            Type::L => "L",
            Type::P => "P",
        };
        f.write_str(name)
    }
}

/// A value of a kernel; defined exactly once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub u32);

impl Value {
    /// The value's place in [`Kernel::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

/// What a parameter slot of the argument table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ParamKind {
    /// A pointer that nothing writes while the kernel runs, through any parameter or thread.
    Ro,
    /// A pointer that this kernel may write and that no other parameter aliases.
    Rw,
    /// A 64-bit count or byte stride.
    Count,
}

/// A parameter: one 8-byte slot of the argument table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Param {
    /// For people; carries no meaning.
    pub name: String,
    /// What the slot holds.
    pub kind: ParamKind,
}

/// A kernel: `void name(const uint64_t *args, int32_t begin, int32_t end)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// For people and symbols; identical bodies are compiled once whatever their names.
    pub name: String,
    /// The slots of the argument table, in order.
    pub params: Vec<Param>,
    /// The type of each value.
    pub values: Vec<Type>,
    /// The operations; yields nothing.
    pub body: Block,
}

impl Kernel {
    /// The type of a value of this kernel.
    pub fn ty(&self, value: Value) -> Type {
        self.values[value.index()]
    }
}

/// A list of operations with entry values (of a loop body) and yielded values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Block {
    /// Values defined on entry: of a loop body the index (N), then the carried values.
    pub params: Vec<Value>,
    /// The operations in order.
    pub insts: Vec<Inst>,
    /// The values handed to the enclosing loop or conditional.
    pub yields: Vec<Value>,
}

/// One operation with its operands and results.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inst {
    /// What is done.
    pub op: Op,
    /// Operands.
    pub args: Vec<Value>,
    /// Results.
    pub results: Vec<Value>,
}

/// The form of a memory access: how many elements, and how they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mem {
    /// 16 f32 <-> F. Any 4-byte alignment.
    F32x16,
    /// 16 i32 <-> I. Any 4-byte alignment.
    I32x16,
    /// 64 bytes <-> B. 64-byte alignment.
    Bytes64,
    /// 16 bfloat16 -> F.
    Bf16x16,
    /// 16 half floats -> F.
    F16x16,
    /// 16 signed bytes <-> I; the store saturates.
    I8x16,
    /// 16 unsigned bytes <-> I; the store keeps the low 8 bits.
    U8x16,
    /// 16 unsigned 16-bit <-> I; the store keeps the low 16 bits.
    U16x16,
    /// f32 <-> S.
    F32,
    /// bfloat16 -> S.
    Bf16,
    /// Half float -> S.
    F16,
    /// i32 <-> N.
    I32,
    /// Signed byte <-> N; the store keeps the low 8 bits.
    I8,
    /// Unsigned byte <-> N; the store keeps the low 8 bits.
    U8,
    /// Unsigned 16-bit <-> N; the store keeps the low 16 bits.
    U16,
    /// 64-bit integer <-> L.
    I64,
}

impl Mem {
    /// Every form.
    pub const ALL: [Mem; 16] = [
        Mem::F32x16,
        Mem::I32x16,
        Mem::Bytes64,
        Mem::Bf16x16,
        Mem::F16x16,
        Mem::I8x16,
        Mem::U8x16,
        Mem::U16x16,
        Mem::F32,
        Mem::Bf16,
        Mem::F16,
        Mem::I32,
        Mem::I8,
        Mem::U8,
        Mem::U16,
        Mem::I64,
    ];

    /// The type of the value loaded or stored.
    pub fn ty(self) -> Type {
        match self {
            Mem::F32x16 | Mem::Bf16x16 | Mem::F16x16 => Type::F,
            Mem::I32x16 | Mem::I8x16 | Mem::U8x16 | Mem::U16x16 => Type::I,
            Mem::Bytes64 => Type::B,
            Mem::F32 | Mem::Bf16 | Mem::F16 => Type::S,
            Mem::I32 | Mem::I8 | Mem::U8 | Mem::U16 => Type::N,
            Mem::I64 => Type::L,
        }
    }

    /// Bytes of one element in memory.
    pub fn element_bytes(self) -> usize {
        match self {
            Mem::F32x16 | Mem::I32x16 | Mem::F32 | Mem::I32 => 4,
            Mem::Bytes64 | Mem::I8x16 | Mem::U8x16 | Mem::I8 | Mem::U8 => 1,
            Mem::Bf16x16 | Mem::F16x16 | Mem::U16x16 | Mem::Bf16 | Mem::F16 | Mem::U16 => 2,
            Mem::I64 => 8,
        }
    }

    /// Elements of one access.
    pub fn elements(self) -> usize {
        match self {
            Mem::Bytes64 => 64,
            _ if matches!(self.ty(), Type::F | Type::I) => LANES,
            _ => 1,
        }
    }

    /// Bytes of one access.
    pub fn bytes(self) -> usize {
        self.element_bytes() * self.elements()
    }

    /// Whether the form can be stored. Half-precision floats are stored as `U16x16` bits.
    pub fn storable(self) -> bool {
        !matches!(self, Mem::Bf16x16 | Mem::F16x16 | Mem::Bf16 | Mem::F16)
    }

    /// Whether the first `n` of 16 elements can be stored by [`Op::StoreFirst`].
    pub fn storable_in_part(self) -> bool {
        self.storable() && self.elements() == LANES
    }
}

/// Two-operand operations; both operands and the result have the same type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// F, S, and wrapping on I, N, L.
    Add,
    /// F, S, and wrapping on I, N, L.
    Sub,
    /// F, S, and wrapping on I, N, L.
    Mul,
    /// F, S.
    Div,
    /// F, S: `b < a ? b : a`.
    PMin,
    /// F, S: `a < b ? b : a`.
    PMax,
    /// I, N, L: signed minimum.
    SMin,
    /// I, N, L: signed maximum.
    SMax,
    /// I, N, L.
    And,
    /// I, N, L.
    Or,
    /// I, N, L.
    Xor,
    /// N, L: unsigned quotient; dividing by 0 gives the dividend.
    UDiv,
    /// N, L: unsigned remainder; dividing by 0 gives 0.
    URem,
}

/// Shifts of I, N and L. Amounts are taken modulo the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shift {
    /// Left.
    Left,
    /// Right, signed.
    RightS,
    /// Right, unsigned.
    RightU,
}

/// Comparisons. On vectors they give a mask (I), on scalars a condition (N); true is -1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compare {
    /// Equal; false on NaN.
    Eq,
    /// Not equal; true on NaN.
    Ne,
    /// Less (signed for integers); false on NaN.
    Lt,
    /// Less or equal (signed for integers); false on NaN.
    Le,
    /// Unsigned less; I, N, L only.
    LtU,
    /// Unsigned less or equal; I, N, L only.
    LeU,
}

/// Reductions over the 16 lanes, by halves: lane i with i+8, then i+4, i+2, i+1, the lower lane first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduce {
    /// F -> S.
    Add,
    /// F -> S.
    PMin,
    /// F -> S.
    PMax,
    /// I -> N, wrapping.
    IAdd,
    /// I -> N, signed.
    IMin,
    /// I -> N, signed.
    IMax,
}

/// An operation. `args -> results` is given in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// The pointer of a parameter `[-> P]`.
    Param(u32),
    /// The low 32 bits of a count parameter `[-> N]`.
    Count(u32),
    /// A count parameter `[-> L]`.
    CountL(u32),
    /// First work unit of this call `[-> N]`.
    Begin,
    /// One past the last work unit of this call `[-> N]`.
    End,
    /// 16 equal f32 lanes, by bits `[-> F]`.
    ConstF(u32),
    /// 16 equal i32 lanes `[-> I]`.
    ConstI(i32),
    /// A scalar f32, by bits `[-> S]`.
    ConstS(u32),
    /// A scalar i32 `[-> N]`.
    ConstN(i32),
    /// A scalar i64 `[-> L]`.
    ConstL(i64),
    /// Lanes 0, 1, .. 15 `[-> I]`.
    Iota,
    /// Lane i is -1 where i < n `[N -> I]`.
    LaneMask,
    /// Lane i is -1 where bit i is set `[N -> I]`.
    MaskBits,
    /// A buffer of so many bytes on the kernel's stack, 64-byte aligned, of unspecified content `[-> P]`.
    Stack(u32),
    /// `[P -> value]`.
    Load {
        /// Form.
        mem: Mem,
        /// Byte offset.
        offset: i32,
    },
    /// `[P, value ->]`.
    Store {
        /// Form.
        mem: Mem,
        /// Byte offset.
        offset: i32,
    },
    /// Stores the first n of 16 elements, 0 <= n <= 16 after clamping `[P, value, N ->]`.
    StoreFirst {
        /// Form.
        mem: Mem,
        /// Byte offset.
        offset: i32,
    },
    /// `p + offset` bytes `[P -> P]`.
    Offset(i64),
    /// `p + scale * n` bytes, n sign-extended `[P, N -> P]`.
    Index(i64),
    /// `p + l` bytes `[P, L -> P]`.
    OffsetBy,
    /// Correctly rounded square root `[F -> F]`, `[S -> S]`.
    Sqrt,
    /// `[T, T -> T]`.
    Binary(Binary),
    /// `[T -> T]` for I, N, L.
    Shift(Shift, u8),
    /// `[T, N -> T]` for I, N, L.
    ShiftBy(Shift),
    /// `[F, F -> I]`, `[I, I -> I]`, `[S, S -> N]`, `[N, N -> N]`, `[L, L -> N]`.
    Compare(Compare),
    /// `mask ? a : b`, bit by bit on vectors `[I, F, F -> F]`, `[I, I, I -> I]`; by non-zero condition on
    /// scalars `[N, T, T -> T]` for S, N, L and P.
    Select,
    /// The same bits `[F -> I]`, `[I -> F]`, `[S -> N]`, `[N -> S]`.
    Cast,
    /// Signed integer to float, to nearest even `[I -> F]`, `[N -> S]`.
    Convert,
    /// `[N -> L]`; the flag says signed.
    Extend(bool),
    /// The low 32 bits `[L -> N]`.
    Truncate,
    /// `[S -> F]`, `[N -> I]`.
    Splat,
    /// Over the lanes `[F -> S]` or `[I -> N]`.
    Reduce(Reduce),
    /// A zero accumulator `[-> A]`.
    AccZero,
    /// `acc + sum over bytes of (w & mask) as unsigned * x as signed` `[A, B, B -> A]`. The mask is a field of
    /// a [`Packing`]; no field of w is 3 where two bits wide, and x is never -128.
    Dot(u8),
    /// `acc + sum over bytes of w as signed * x as signed` `[A, B, B -> A]`. Neither is ever -128.
    DotSigned,
    /// The sum of the accumulators' totals, each first shifted right by its amount `[A.. -> N]`.
    AccFold(Vec<u8>),
    /// The exact dot products of a group of 16 rows with up to four int8 vectors: weights, activations
    /// `[P, P -> I..]`, one I per token. Fields count as unsigned for `Codes2` and `Bits1`.
    DotRows(DotRows),
    /// The products of a group of 16 rows with up to four float vectors, as [`FloatRows`] defines them: weights,
    /// activations `[P, P -> F..]`, one F per token, a row in each lane.
    FloatRows(FloatRows),
    /// Runs `body` for index = start, start + step, .. while index < end `[N start, N end, inits.. -> carried..]`.
    Loop {
        /// Positive.
        step: i32,
        /// Parameters: index (N), then the carried values; yields the next carried values.
        body: Block,
    },
    /// `[N -> yields..]`: `then` where the condition is not zero.
    If {
        /// No parameters.
        then: Block,
        /// No parameters; yields the same types.
        otherwise: Block,
    },
}
