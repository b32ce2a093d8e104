//! The builder as a machine of [`crate::numerics`]: its functions become instructions on strips or scalars.

use super::build::Builder;
use super::ir::{Type, Value};
use crate::numerics::Lanes;

/// A builder whose float values are all F with I masks, or all S with N conditions.
///
/// `functions::exp(&mut Math::strips(b), x)` emits e^x of 16 lanes.
#[derive(Debug)]
pub struct Math<'b> {
    /// The builder.
    pub b: &'b mut Builder,
    /// Whether constants are vectors.
    pub wide: bool,
}

impl<'b> Math<'b> {
    /// Works on 16 lanes.
    pub fn strips(b: &'b mut Builder) -> Math<'b> {
        Math { b, wide: true }
    }

    /// Works on scalars.
    pub fn scalars(b: &'b mut Builder) -> Math<'b> {
        Math { b, wide: false }
    }

    /// Works on the kind of value that `like` is.
    pub fn like(b: &'b mut Builder, like: Value) -> Math<'b> {
        let wide = matches!(b.ty(like), Type::F | Type::I);
        Math { b, wide }
    }
}

macro_rules! forward {
    ($($name:ident($($arg:ident),*) = $method:ident;)*) => {
        $(fn $name(&mut self, $($arg: Value),*) -> Value {
            self.b.$method($($arg),*)
        })*
    };
}

impl Lanes for Math<'_> {
    type F = Value;
    type I = Value;

    fn f_bits(&mut self, bits: u32) -> Value {
        if self.wide { self.b.const_f_bits(bits) } else { self.b.const_s_bits(bits) }
    }

    fn i_const(&mut self, value: i32) -> Value {
        if self.wide { self.b.const_i(value) } else { self.b.const_n(value) }
    }

    forward! {
        add(a, b) = add;
        sub(a, b) = sub;
        mul(a, b) = mul;
        div(a, b) = div;
        sqrt(a) = sqrt;
        pmin(a, b) = pmin;
        pmax(a, b) = pmax;
        flt(a, b) = lt;
        fne(a, b) = ne;
        sel(m, a, b) = select;
        to_bits(a) = cast;
        from_bits(a) = cast;
        cvt(a) = convert;
        iadd(a, b) = add;
        isub(a, b) = sub;
        and(a, b) = and;
        or(a, b) = or;
        isel(m, a, b) = select;
    }

    fn shl(&mut self, a: Value, k: u32) -> Value {
        self.b.shl(a, k as u8)
    }

    fn sar(&mut self, a: Value, k: u32) -> Value {
        self.b.shr_s(a, k as u8)
    }
}
