//! The arithmetic that every back end shares, written once (spec/numerics.md is the normative text).
//!
//! [`functions`] holds the polynomial functions, generic over [`Lanes`]: the interpreter instantiates them with
//! [`Scalar`] and gets numbers, the kernel builder instantiates them with its own type and gets instructions, and
//! both have the same bits. [`reduce`] fixes the order of float sums, [`narrow`] the rounding to 16-bit floats.
//!
//! What does not live here: anything that knows shapes, weights or graphs (`interp`, `kernel`).

pub mod functions;
pub mod narrow;
pub mod quantise;
pub mod reduce;

/// 1.5 * 2^23: adding it rounds a float of magnitude below 2^22 to an integer, half to even, in its low bits.
pub const MAGIC: f32 = f32::from_bits(0x4b40_0000);

/// The NaN that outputs and state snapshots are given.
pub const CANONICAL_NAN: u32 = 0x7fc0_0000;

/// A machine with float and integer lanes, as narrow as every target offers.
///
/// A value of `F` is any number of f32 lanes, one of `I` as many i32 lanes; masks are `I` lanes of 0 or -1. Methods
/// take `&mut self` because an implementation may build instructions. There is no fused multiply-add, no rounding
/// instruction, no conversion of floats to integers and no branch: choices are [`Lanes::sel`].
#[allow(clippy::wrong_self_convention)] // self is the builder, not the value that is converted
pub trait Lanes {
    /// Float lanes.
    type F: Copy;
    /// Integer or mask lanes.
    type I: Copy;

    /// The constant of these bits in every float lane.
    fn f_bits(&mut self, bits: u32) -> Self::F;
    /// The constant in every integer lane.
    fn i_const(&mut self, value: i32) -> Self::I;

    /// a + b
    fn add(&mut self, a: Self::F, b: Self::F) -> Self::F;
    /// a - b
    fn sub(&mut self, a: Self::F, b: Self::F) -> Self::F;
    /// a * b
    fn mul(&mut self, a: Self::F, b: Self::F) -> Self::F;
    /// a / b, correctly rounded
    fn div(&mut self, a: Self::F, b: Self::F) -> Self::F;
    /// The square root, correctly rounded.
    fn sqrt(&mut self, a: Self::F) -> Self::F;
    /// b < a ? b : a
    fn pmin(&mut self, a: Self::F, b: Self::F) -> Self::F;
    /// a < b ? b : a
    fn pmax(&mut self, a: Self::F, b: Self::F) -> Self::F;
    /// Mask of a < b; false with NaN.
    fn flt(&mut self, a: Self::F, b: Self::F) -> Self::I;
    /// Mask of a != b; true with NaN.
    fn fne(&mut self, a: Self::F, b: Self::F) -> Self::I;
    /// m ? a : b
    fn sel(&mut self, m: Self::I, a: Self::F, b: Self::F) -> Self::F;

    /// The bits of a float.
    fn to_bits(&mut self, a: Self::F) -> Self::I;
    /// The float of these bits.
    fn from_bits(&mut self, a: Self::I) -> Self::F;
    /// Conversion of an integer, to nearest even.
    fn cvt(&mut self, a: Self::I) -> Self::F;

    /// a + b, wrapping
    fn iadd(&mut self, a: Self::I, b: Self::I) -> Self::I;
    /// a - b, wrapping
    fn isub(&mut self, a: Self::I, b: Self::I) -> Self::I;
    /// a & b
    fn and(&mut self, a: Self::I, b: Self::I) -> Self::I;
    /// a | b
    fn or(&mut self, a: Self::I, b: Self::I) -> Self::I;
    /// a << k, k in 0..32
    fn shl(&mut self, a: Self::I, k: u32) -> Self::I;
    /// a >> k, arithmetic, k in 0..32
    fn sar(&mut self, a: Self::I, k: u32) -> Self::I;

    /// The constant in every float lane.
    fn f_const(&mut self, value: f32) -> Self::F {
        self.f_bits(value.to_bits())
    }

    /// m ? a : b on integers.
    fn isel(&mut self, m: Self::I, a: Self::I, b: Self::I) -> Self::I {
        let (a, b) = (self.from_bits(a), self.from_bits(b));
        let c = self.sel(m, a, b);
        self.to_bits(c)
    }
}

/// One lane, evaluated at once: the meaning of all other implementations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scalar;

fn mask(c: bool) -> i32 {
    -i32::from(c)
}

impl Lanes for Scalar {
    type F = f32;
    type I = i32;

    #[inline(always)]
    fn f_bits(&mut self, bits: u32) -> f32 {
        f32::from_bits(bits)
    }
    #[inline(always)]
    fn i_const(&mut self, value: i32) -> i32 {
        value
    }
    #[inline(always)]
    fn add(&mut self, a: f32, b: f32) -> f32 {
        a + b
    }
    #[inline(always)]
    fn sub(&mut self, a: f32, b: f32) -> f32 {
        a - b
    }
    #[inline(always)]
    fn mul(&mut self, a: f32, b: f32) -> f32 {
        a * b
    }
    #[inline(always)]
    fn div(&mut self, a: f32, b: f32) -> f32 {
        a / b
    }
    #[inline(always)]
    fn sqrt(&mut self, a: f32) -> f32 {
        a.sqrt()
    }
    #[inline(always)]
    fn pmin(&mut self, a: f32, b: f32) -> f32 {
        if b < a { b } else { a }
    }
    #[inline(always)]
    fn pmax(&mut self, a: f32, b: f32) -> f32 {
        if a < b { b } else { a }
    }
    #[inline(always)]
    fn flt(&mut self, a: f32, b: f32) -> i32 {
        mask(a < b)
    }
    #[inline(always)]
    fn fne(&mut self, a: f32, b: f32) -> i32 {
        mask(a != b)
    }
    #[inline(always)]
    fn sel(&mut self, m: i32, a: f32, b: f32) -> f32 {
        if m != 0 { a } else { b }
    }
    #[inline(always)]
    fn to_bits(&mut self, a: f32) -> i32 {
        a.to_bits() as i32
    }
    #[inline(always)]
    fn from_bits(&mut self, a: i32) -> f32 {
        f32::from_bits(a as u32)
    }
    #[inline(always)]
    fn cvt(&mut self, a: i32) -> f32 {
        a as f32
    }
    #[inline(always)]
    fn iadd(&mut self, a: i32, b: i32) -> i32 {
        a.wrapping_add(b)
    }
    #[inline(always)]
    fn isub(&mut self, a: i32, b: i32) -> i32 {
        a.wrapping_sub(b)
    }
    #[inline(always)]
    fn and(&mut self, a: i32, b: i32) -> i32 {
        a & b
    }
    #[inline(always)]
    fn or(&mut self, a: i32, b: i32) -> i32 {
        a | b
    }
    #[inline(always)]
    fn shl(&mut self, a: i32, k: u32) -> i32 {
        a << k
    }
    #[inline(always)]
    fn sar(&mut self, a: i32, k: u32) -> i32 {
        a >> k
    }
}

#[cfg(test)]
mod tests;
