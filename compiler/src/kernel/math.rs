//! Short names for arithmetic in the [`Builder`], and the macros that are sequences of operations: rounding by
//! addition, absolute value, negation, floor. The elementary functions live in [`crate::numerics`].

use super::build::Builder;
use super::ir::{Binary, Compare, Reduce, Shift, Type, Value};

/// 1.5 * 2^23: adding it rounds to an integer, half to even, for magnitudes below 2^22.
pub const MAGIC: u32 = 0x4b40_0000;

macro_rules! binaries {
    ($($(#[$doc:meta])* $name:ident = $op:ident;)*) => {
        impl Builder {
            $($(#[$doc])*
            pub fn $name(&mut self, a: Value, b: Value) -> Value {
                self.binary(Binary::$op, a, b)
            })*
        }
    };
}

binaries! {
    /// `a + b`; integers wrap.
    add = Add;
    /// `a - b`; integers wrap.
    sub = Sub;
    /// `a * b`; integers wrap.
    mul = Mul;
    /// `a / b` (F, S).
    div = Div;
    /// `b < a ? b : a` (F, S).
    pmin = PMin;
    /// `a < b ? b : a` (F, S).
    pmax = PMax;
    /// Signed minimum (I, N, L).
    smin = SMin;
    /// Signed maximum (I, N, L).
    smax = SMax;
    /// Bitwise and (I, N, L).
    and = And;
    /// Bitwise or (I, N, L).
    or = Or;
    /// Bitwise exclusive or (I, N, L).
    xor = Xor;
    /// Unsigned quotient; by 0 the dividend (N, L).
    udiv = UDiv;
    /// Unsigned remainder; by 0 it is 0 (N, L).
    urem = URem;
}

macro_rules! compares {
    ($($(#[$doc:meta])* $name:ident = $op:ident;)*) => {
        impl Builder {
            $($(#[$doc])*
            pub fn $name(&mut self, a: Value, b: Value) -> Value {
                self.compare(Compare::$op, a, b)
            })*
        }
    };
}

compares! {
    /// `a == b`.
    eq = Eq;
    /// `a != b`; true on NaN.
    ne = Ne;
    /// `a < b`, signed.
    lt = Lt;
    /// `a <= b`, signed.
    le = Le;
    /// `a < b`, unsigned integers.
    lt_u = LtU;
    /// `a <= b`, unsigned integers.
    le_u = LeU;
}

macro_rules! reductions {
    ($($(#[$doc:meta])* $name:ident = $op:ident;)*) => {
        impl Builder {
            $($(#[$doc])*
            pub fn $name(&mut self, a: Value) -> Value {
                self.reduce(Reduce::$op, a)
            })*
        }
    };
}

reductions! {
    /// Sum of the f32 lanes by halves.
    red_add = Add;
    /// `pmin` of the f32 lanes by halves.
    red_pmin = PMin;
    /// `pmax` of the f32 lanes by halves.
    red_pmax = PMax;
    /// Wrapping sum of the i32 lanes.
    red_iadd = IAdd;
    /// Signed minimum of the i32 lanes.
    red_imin = IMin;
    /// Signed maximum of the i32 lanes.
    red_imax = IMax;
}

impl Builder {
    /// Left shift by a constant.
    pub fn shl(&mut self, a: Value, amount: u8) -> Value {
        self.shift(Shift::Left, a, amount)
    }

    /// Signed right shift by a constant.
    pub fn shr_s(&mut self, a: Value, amount: u8) -> Value {
        self.shift(Shift::RightS, a, amount)
    }

    /// Unsigned right shift by a constant.
    pub fn shr_u(&mut self, a: Value, amount: u8) -> Value {
        self.shift(Shift::RightU, a, amount)
    }

    /// The integer constant `value` of the integer type of `like` (I, N, L).
    pub fn const_like(&mut self, like: Value, value: i64) -> Value {
        match self.ty(like) {
            Type::I => self.const_i(value as i32),
            Type::N => self.const_n(value as i32),
            Type::L => self.const_l(value),
            ty => panic!("no integer constant of type {ty}"),
        }
    }

    /// The float constant with these bits of the float type of `like` (F, S).
    pub fn float_like(&mut self, like: Value, bits: u32) -> Value {
        match self.ty(like) {
            Type::F => self.const_f_bits(bits),
            Type::S => self.const_s_bits(bits),
            ty => panic!("no float constant of type {ty}"),
        }
    }

    /// Bitwise complement (I, N, L).
    pub fn not(&mut self, a: Value) -> Value {
        let ones = self.const_like(a, -1);
        self.xor(a, ones)
    }

    /// Clears the sign bit (F, S).
    pub fn abs(&mut self, a: Value) -> Value {
        self.on_bits(a, Binary::And, 0x7fff_ffff)
    }

    /// Flips the sign bit (F, S).
    pub fn neg(&mut self, a: Value) -> Value {
        self.on_bits(a, Binary::Xor, i32::MIN)
    }

    fn on_bits(&mut self, a: Value, op: Binary, constant: i32) -> Value {
        let bits = self.cast(a);
        let constant = self.const_like(bits, i64::from(constant));
        let bits = self.binary(op, bits, constant);
        self.cast(bits)
    }

    /// The nearest integer, half to even, as a float; exact for magnitudes below 2^22 (F, S).
    pub fn round_small(&mut self, a: Value) -> Value {
        let magic = self.float_like(a, MAGIC);
        let sum = self.add(a, magic);
        self.sub(sum, magic)
    }

    /// The nearest integer, half to even, as an integer, for magnitudes below 2^22 (F to I, S to N).
    pub fn round_to_int(&mut self, a: Value) -> Value {
        let magic = self.float_like(a, MAGIC);
        let sum = self.add(a, magic);
        let bits = self.cast(sum);
        let base = self.const_like(bits, i64::from(MAGIC));
        self.sub(bits, base)
    }

    /// The largest integer not above `a`, as a float, for magnitudes below 2^22 (F, S).
    pub fn floor_small(&mut self, a: Value) -> Value {
        let rounded = self.round_small(a);
        let above = self.lt(a, rounded);
        let one = self.float_like(a, 1f32.to_bits());
        let below = self.sub(rounded, one);
        self.select(above, below, rounded)
    }
}
