//! The elementwise functions, over any [`Lanes`]. Polynomials are evaluated by Horner's rule, lowest coefficient
//! first in the tables; error bounds are measured by the tests beside this file and stated in spec/numerics.md.

use super::{CANONICAL_NAN, Lanes, MAGIC};

const SIGN: i32 = i32::MIN;
const ONE: u32 = 0x3f80_0000;
const LN2_HI: u32 = 0x3f31_7200;
const LN2_LO: u32 = 0x35bf_be8e;

const EXP_P: [u32; 5] = [0x3eff_fffe, 0x3e2a_aa49, 0x3d2a_ac57, 0x3c09_1cc2, 0x3ab5_279f];
const TANH_P: [u32; 5] = [0xbeaa_aaa6, 0x3e08_86b5, 0xbd5c_9900, 0x3cac_c165, 0xbbce_4bde];
const LOG1P_P: [u32; 6] = [0x3f2a_aaab, 0x3ecc_cc7f, 0x3e92_5454, 0x3e62_4248, 0x3e40_afde, 0x3e2b_7caf];
const LN_P: [u32; 4] = [0x3f2a_aaaa, 0x3ecc_ce13, 0x3e91_e9ee, 0x3e78_9e9a];
const SIN_P: [u32; 3] = [0xbe2a_aaa3, 0x3c08_839e, 0xb94c_a1f9];
const COS_P: [u32; 3] = [0x3d2a_aaa5, 0xbab6_061a, 0x37cc_f5ce];
/// pi/2 in parts of 8, 8, 8 and 24 bits.
const HALF_PI: [u32; 4] = [0x3fc9_0000, 0x39fd_0000, 0x35aa_0000, 0x3088_5a30];

fn horner<L: Lanes>(l: &mut L, x: L::F, coefficients: &[u32]) -> L::F {
    let mut rest = coefficients.iter().rev();
    let mut y = l.f_bits(*rest.next().expect("a polynomial has coefficients"));
    for &c in rest {
        let c = l.f_bits(c);
        y = l.mul(y, x);
        y = l.add(y, c);
    }
    y
}

/// The magnitude: clears the sign bit, of NaN too.
pub fn abs<L: Lanes>(l: &mut L, x: L::F) -> L::F {
    let keep = l.i_const(!SIGN);
    let bits = l.to_bits(x);
    let bits = l.and(bits, keep);
    l.from_bits(bits)
}

/// The negative: flips the sign bit, of NaN too.
pub fn neg<L: Lanes>(l: &mut L, x: L::F) -> L::F {
    let sign = l.i_const(SIGN);
    let bits = l.to_bits(x);
    let bits = l.iadd(bits, sign);
    l.from_bits(bits)
}

/// `y` with its sign bit set where that of `x` is.
fn or_sign<L: Lanes>(l: &mut L, y: L::F, x: L::F) -> L::F {
    let sign = l.i_const(SIGN);
    let x = l.to_bits(x);
    let x = l.and(x, sign);
    let y = l.to_bits(y);
    let y = l.or(y, x);
    l.from_bits(y)
}

/// `y`, or `x` where `x` is NaN.
fn keep_nan<L: Lanes>(l: &mut L, x: L::F, y: L::F) -> L::F {
    let nan = l.fne(x, x);
    l.sel(nan, x, y)
}

/// The two halves of exp: `y` with exp(x) = (y + 1) * 2^n, and n in the exponent's place.
fn exp_parts<L: Lanes>(l: &mut L, x: L::F) -> (L::F, L::I) {
    let log2e = l.f_bits(0x3fb8_aa3b);
    let magic = l.f_const(MAGIC);
    let t = l.mul(x, log2e);
    let t = l.add(t, magic);
    let n = l.sub(t, magic);
    let (hi, lo) = (l.f_bits(LN2_HI), l.f_bits(LN2_LO));
    let n_hi = l.mul(n, hi);
    let n_lo = l.mul(n, lo);
    let r = l.sub(x, n_hi);
    let r = l.sub(r, n_lo);
    let p = horner(l, r, &EXP_P);
    let rr = l.mul(r, r);
    let y = l.mul(p, rr);
    let y = l.add(y, r);
    let t = l.to_bits(t);
    let n = l.shl(t, 23);
    (y, n)
}

fn exp_from_parts<L: Lanes>(l: &mut L, x: L::F, y: L::F, n: L::I) -> L::F {
    let one = l.f_bits(ONE);
    let y = l.add(y, one);
    let y = l.to_bits(y);
    let y = l.iadd(y, n);
    let y = l.from_bits(y);
    let (low, high) = (l.f_bits(0xc2ae_ac4f), l.f_bits(0x42b1_7217));
    let (zero, inf) = (l.f_bits(0), l.f_const(f32::INFINITY));
    let below = l.flt(x, low);
    let y = l.sel(below, zero, y);
    let above = l.flt(high, x);
    let y = l.sel(above, inf, y);
    keep_nan(l, x, y)
}

/// e^x; +0 below -87.33654, never a denormal; infinity above 88.72283.
pub fn exp<L: Lanes>(l: &mut L, x: L::F) -> L::F {
    let (y, n) = exp_parts(l, x);
    exp_from_parts(l, x, y, n)
}

/// e^x - 1, accurate near 0 and with the sign of x.
pub fn expm1<L: Lanes>(l: &mut L, x: L::F) -> L::F {
    let (y, n) = exp_parts(l, x);
    let one = l.f_bits(ONE);
    let one_bits = l.i_const(ONE as i32);
    let scale = l.iadd(n, one_bits);
    let scale = l.from_bits(scale);
    let near = l.mul(scale, y);
    let whole = l.sub(scale, one);
    let near = l.add(near, whole);
    let far = exp_from_parts(l, x, y, n);
    let far = l.sub(far, one);
    let a = abs(l, x);
    let bound = l.f_const(20.0);
    let is_near = l.flt(a, bound);
    let result = l.sel(is_near, near, far);
    or_sign(l, result, x)
}

/// 1 / (1 + e^-x)
pub fn sigmoid<L: Lanes>(l: &mut L, x: L::F) -> L::F {
    let (zero, one) = (l.f_bits(0), l.f_bits(ONE));
    let minus = l.f_const(-0.0);
    let minus_abs = or_sign(l, x, minus);
    let e = exp(l, minus_abs);
    let negative = l.flt(x, zero);
    let top = l.sel(negative, e, one);
    let bottom = l.add(one, e);
    l.div(top, bottom)
}

/// The hyperbolic tangent.
pub fn tanh<L: Lanes>(l: &mut L, x: L::F) -> L::F {
    let one = l.f_bits(ONE);
    let a = abs(l, x);
    let z = l.mul(x, x);
    let p = horner(l, z, &TANH_P);
    let az = l.mul(a, z);
    let small = l.mul(az, p);
    let small = l.add(a, small);
    let twice = l.add(a, a);
    let e = neg(l, twice);
    let e = exp(l, e);
    let top = l.sub(one, e);
    let bottom = l.add(one, e);
    let large = l.div(top, bottom);
    let limit = l.f_const(0.55);
    let is_small = l.flt(a, limit);
    let y = l.sel(is_small, small, large);
    or_sign(l, y, x)
}

/// The natural logarithm: -infinity at both zeros, NaN below, denormals included.
pub fn ln<L: Lanes>(l: &mut L, x: L::F) -> L::F {
    let tiny_bound = l.f_bits(0x0080_0000);
    let tiny = l.flt(x, tiny_bound);
    let up = l.f_const(8_388_608.0);
    let scaled = l.mul(x, up);
    let normal = l.sel(tiny, scaled, x);
    let base = l.i_const(0x3f35_04f3);
    let i = l.to_bits(normal);
    let i = l.isub(i, base);
    let k = l.sar(i, 23);
    let mantissa = l.i_const(0x007f_ffff);
    let m = l.and(i, mantissa);
    let m = l.iadd(m, base);
    let m = l.from_bits(m);
    let one = l.f_bits(ONE);
    let g = l.sub(m, one);
    let k = l.cvt(k);
    let (zero, shift) = (l.f_bits(0), l.f_const(23.0));
    let shift = l.sel(tiny, shift, zero);
    let k = l.sub(k, shift);
    let two = l.f_const(2.0);
    let s = l.add(two, g);
    let s = l.div(g, s);
    let z = l.mul(s, s);
    let half = l.f_const(0.5);
    let h = l.mul(half, g);
    let h = l.mul(h, g);
    let p = horner(l, z, &LN_P);
    let p = l.mul(z, p);
    let p = l.add(h, p);
    let p = l.mul(s, p);
    let (hi, lo) = (l.f_bits(LN2_HI), l.f_bits(LN2_LO));
    let k_lo = l.mul(k, lo);
    let k_hi = l.mul(k, hi);
    let y = l.add(p, k_lo);
    let y = l.sub(y, h);
    let y = l.add(y, g);
    let y = l.add(y, k_hi);
    let inf = l.f_const(f32::INFINITY);
    let finite = l.flt(x, inf);
    let y = l.sel(finite, y, x);
    let positive = l.flt(zero, x);
    let is_not_zero = l.fne(x, zero);
    let (nan, minus_inf) = (l.f_bits(CANONICAL_NAN), l.f_const(f32::NEG_INFINITY));
    let otherwise = l.sel(is_not_zero, nan, minus_inf);
    let y = l.sel(positive, y, otherwise);
    keep_nan(l, x, y)
}

/// log(1 + x) for x in [-0.5, 1], by one odd polynomial.
pub fn log1p_near<L: Lanes>(l: &mut L, x: L::F) -> L::F {
    let two = l.f_const(2.0);
    let s = l.add(two, x);
    let s = l.div(x, s);
    let z = l.mul(s, s);
    let p = horner(l, z, &LOG1P_P);
    let sz = l.mul(s, z);
    let p = l.mul(sz, p);
    let twice = l.add(s, s);
    l.add(twice, p)
}

/// log(1 + x), accurate near 0; -infinity at -1, NaN below.
pub fn log1p<L: Lanes>(l: &mut L, x: L::F) -> L::F {
    let one = l.f_bits(ONE);
    let near = log1p_near(l, x);
    let u = l.add(one, x);
    let far = ln(l, u);
    let (low, high) = (l.f_const(-0.5), l.f_bits(ONE));
    let below = l.flt(x, low);
    let above = l.flt(high, x);
    let outside = l.or(below, above);
    let y = l.sel(outside, far, near);
    keep_nan(l, x, y)
}

/// sine and cosine of the same argument share all but two selections.
fn sin_cos_parts<L: Lanes>(l: &mut L, x: L::F) -> (L::F, L::F, L::I) {
    let two_over_pi = l.f_bits(0x3f22_f983);
    let magic = l.f_const(MAGIC);
    let t = l.mul(x, two_over_pi);
    let t = l.add(t, magic);
    let n = l.sub(t, magic);
    let mut r = x;
    for part in HALF_PI {
        let part = l.f_bits(part);
        let step = l.mul(n, part);
        r = l.sub(r, step);
    }
    let z = l.mul(r, r);
    let p = horner(l, z, &SIN_P);
    let rz = l.mul(r, z);
    let s = l.mul(rz, p);
    let s = l.add(r, s);
    let p = horner(l, z, &COS_P);
    let zz = l.mul(z, z);
    let p = l.mul(zz, p);
    let half = l.f_const(0.5);
    let h = l.mul(half, z);
    let one = l.f_bits(ONE);
    let c = l.sub(one, h);
    let c = l.add(c, p);
    let t = l.to_bits(t);
    (s, c, t)
}

/// NaN where |x| is 2^22 or more: neighbouring floats are then too far apart for an angle to mean anything.
fn bounded_angle<L: Lanes>(l: &mut L, x: L::F, y: L::F) -> L::F {
    let a = abs(l, x);
    let bound = l.f_const(4_194_304.0);
    let inside = l.flt(a, bound);
    let nan = l.f_bits(CANONICAL_NAN);
    let y = l.sel(inside, y, nan);
    keep_nan(l, x, y)
}

/// Chooses by the low bit of the quadrant and negates by its second bit.
fn quadrant<L: Lanes>(l: &mut L, even: L::F, odd: L::F, q: L::I) -> L::F {
    let low = l.shl(q, 31);
    let low = l.sar(low, 31);
    let y = l.sel(low, odd, even);
    let two = l.i_const(2);
    let sign = l.and(q, two);
    let sign = l.shl(sign, 30);
    let y = l.to_bits(y);
    let y = l.iadd(y, sign);
    l.from_bits(y)
}

/// The sine; accurate to |x| <= 1e5, NaN from 2^22 on.
pub fn sin<L: Lanes>(l: &mut L, x: L::F) -> L::F {
    let (s, c, q) = sin_cos_parts(l, x);
    let y = quadrant(l, s, c, q);
    bounded_angle(l, x, y)
}

/// The cosine; accurate to |x| <= 1e5, NaN from 2^22 on.
pub fn cos<L: Lanes>(l: &mut L, x: L::F) -> L::F {
    let (s, c, q) = sin_cos_parts(l, x);
    let one = l.i_const(1);
    let q = l.iadd(q, one);
    let y = quadrant(l, s, c, q);
    bounded_angle(l, x, y)
}

/// The nearest integer, half to even, for every float; keeps the sign of zero.
pub fn round<L: Lanes>(l: &mut L, x: L::F) -> L::F {
    let a = abs(l, x);
    let bound = l.f_const(8_388_608.0);
    let y = l.add(a, bound);
    let y = l.sub(y, bound);
    let y = or_sign(l, y, x);
    let has_fraction = l.flt(a, bound);
    l.sel(has_fraction, y, x)
}

/// The largest integer not above x, for every float; keeps the sign of zero.
pub fn floor<L: Lanes>(l: &mut L, x: L::F) -> L::F {
    let n = round(l, x);
    let one = l.f_bits(ONE);
    let down = l.sub(n, one);
    let too_high = l.flt(x, n);
    let y = l.sel(too_high, down, n);
    or_sign(l, y, x)
}

/// Toward zero for |x| below 2^22, as integer lanes.
fn truncate_small<L: Lanes>(l: &mut L, x: L::F) -> L::I {
    let a = abs(l, x);
    let bound = l.f_const(8_388_608.0);
    let n = l.add(a, bound);
    let one = l.i_const(1);
    let bits = l.to_bits(n);
    let zero = l.i_const(0);
    let back = l.sub(n, bound);
    let too_high = l.flt(a, back);
    let correction = l.isel(too_high, one, zero);
    let bits = l.isub(bits, correction);
    let mantissa = l.i_const(0x007f_ffff);
    let n = l.and(bits, mantissa);
    let minus = l.isub(zero, n);
    let zero_f = l.f_bits(0);
    let negative = l.flt(x, zero_f);
    l.isel(negative, minus, n)
}

/// `(hi << 16) + lo` of a float clamped to at most 2^32 in magnitude, toward zero, wrapping.
fn truncate<L: Lanes>(l: &mut L, x: L::F) -> L::I {
    let down = l.f_const(1.0 / 65536.0);
    let up = l.f_const(65536.0);
    let hi = l.mul(x, down);
    let hi = truncate_small(l, hi);
    let hi_f = l.cvt(hi);
    let hi_f = l.mul(hi_f, up);
    let lo = l.sub(x, hi_f);
    let lo = truncate_small(l, lo);
    let hi = l.shl(hi, 16);
    l.iadd(hi, lo)
}

/// Conversion to i32: toward zero, clamped to the range, NaN gives 0.
pub fn to_i32<L: Lanes>(l: &mut L, x: L::F) -> L::I {
    convert(l, x, -2_147_483_648.0, 2_147_483_648.0, i32::MAX)
}

/// Conversion to u32 (as the bits of i32 lanes): toward zero, clamped to the range, NaN gives 0.
pub fn to_u32<L: Lanes>(l: &mut L, x: L::F) -> L::I {
    convert(l, x, 0.0, 4_294_967_296.0, -1)
}

/// Conversion to i8 (in i32 lanes): toward zero, clamped to the range, NaN gives 0.
pub fn to_i8<L: Lanes>(l: &mut L, x: L::F) -> L::I {
    convert(l, x, -128.0, 127.0, 127)
}

/// Conversion to u8 (in i32 lanes): toward zero, clamped to the range, NaN gives 0.
pub fn to_u8<L: Lanes>(l: &mut L, x: L::F) -> L::I {
    convert(l, x, 0.0, 255.0, 255)
}

/// `top` where x is at least `high`, otherwise the truncation of x clamped from below.
fn convert<L: Lanes>(l: &mut L, x: L::F, low: f32, high: f32, top: i32) -> L::I {
    let (low, high) = (l.f_const(low), l.f_const(high));
    let y = l.pmax(low, x);
    let y = l.pmin(high, y);
    let n = truncate(l, y);
    let inside = l.flt(x, high);
    let top = l.i_const(top);
    let n = l.isel(inside, n, top);
    let zero = l.i_const(0);
    let nan = l.fne(x, x);
    l.isel(nan, zero, n)
}
