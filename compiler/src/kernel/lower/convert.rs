//! Conversions between elements, on strips and scalars; u64 is a scalar always.

use crate::ir::Elem;
use crate::kernel::build::Builder;
use crate::kernel::functions::Math;
use crate::kernel::ir::{Type, Value};
use crate::numerics::functions;

use super::elementwise::wrap;

/// A value in another element.
pub fn convert(b: &mut Builder, from: Elem, to: Elem, x: Value) -> Result<Value, String> {
    let unknown = || Err(format!("{} to {}", from.name(), to.name()));
    if from == to {
        return Ok(x);
    }
    match (from, to) {
        // What is stored is decoded where it is read.
        (Elem::F16 | Elem::Bf16 | Elem::Ternary | Elem::Sign, Elem::F32) => Ok(x),
        (Elem::Bool, Elem::F32) => {
            let one = b.const_like(x, 1);
            let bit = b.and(x, one);
            Ok(b.convert(bit))
        }
        (Elem::Bool, Elem::U64) => {
            let one = b.const_like(x, 1);
            let bit = b.and(x, one);
            Ok(b.extend_u(bit))
        }
        (Elem::Bool, _) => {
            let one = b.const_like(x, 1);
            Ok(b.and(x, one))
        }
        (Elem::F32, Elem::I32) => Ok(functions::to_i32(&mut Math::like(b, x), x)),
        (Elem::F32, Elem::U32) => Ok(functions::to_u32(&mut Math::like(b, x), x)),
        (Elem::F32, Elem::I8) => Ok(functions::to_i8(&mut Math::like(b, x), x)),
        (Elem::F32, Elem::U8) => Ok(functions::to_u8(&mut Math::like(b, x), x)),
        (_, Elem::Bool) => {
            if from == Elem::F32 {
                let zero = if b.ty(x) == Type::F { b.const_f(0.0) } else { b.const_s(0.0) };
                return Ok(b.ne(x, zero));
            }
            let zero = b.const_like(x, 0);
            Ok(b.ne(x, zero))
        }
        (Elem::I32 | Elem::I8 | Elem::U8, Elem::F32) => Ok(b.convert(x)),
        (Elem::U32, Elem::F32) => Ok(from_u32(b, x)),
        (Elem::U64, Elem::F32) => Ok(from_u64(b, x)),
        (Elem::F32, Elem::U64) => Ok(to_u64(b, x)),
        (Elem::I32 | Elem::I8, Elem::U64) => Ok(b.extend(x)),
        (Elem::U32 | Elem::U8, Elem::U64) => Ok(b.extend_u(x)),
        (Elem::U64, Elem::I32 | Elem::U32) => Ok(b.truncate(x)),
        (Elem::U64, Elem::I8 | Elem::U8) => {
            let x = b.truncate(x);
            Ok(wrap(b, to, x))
        }
        (Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8, Elem::I32 | Elem::U32) => Ok(x),
        (Elem::I32 | Elem::U32 | Elem::I8 | Elem::U8, Elem::I8 | Elem::U8) => Ok(wrap(b, to, x)),
        _ => unknown(),
    }
}

/// The nearest float of an unsigned integer: both halves are exact, so the one addition rounds once.
fn from_u32(b: &mut Builder, x: Value) -> Value {
    let (high, mask) = (b.shr_u(x, 16), b.const_like(x, 0xffff));
    let low = b.and(x, mask);
    let (high, low) = (b.convert(high), b.convert(low));
    let scale = b.float_like(high, 65536f32.to_bits());
    let high = b.mul(high, scale);
    b.add(high, low)
}

/// The nearest float: low bits beyond the first 32 only say whether there are any, in the lowest that is left. A float
/// has 24, so that rounds alike.
fn from_u64(b: &mut Builder, x: Value) -> Value {
    let (mut x, mut scale) = (x, b.const_s(1.0));
    for step in [16u8, 8, 4, 2, 1, 1] {
        let least = b.const_l(1 << (31 + step));
        let over = b.le_u(least, x);
        let (dropped, none, one) = (b.const_l((1 << step) - 1), b.const_l(0), b.const_n(1));
        let dropped = b.and(x, dropped);
        let any = b.ne(dropped, none);
        let any = b.and(any, one);
        let any = b.extend_u(any);
        let shorter = b.shr_u(x, step);
        let shorter = b.or(shorter, any);
        let factor = b.const_s(f32::from(1u16 << (step - 1)) * 2.0);
        let larger = b.mul(scale, factor);
        x = b.select(over, shorter, x);
        scale = b.select(over, larger, scale);
    }
    let x = b.truncate(x);
    let x = from_u32(b, x);
    b.mul(x, scale)
}

/// Toward zero, clamped to the range, NaN gives 0: the upper half, and what it leaves, which is exact.
fn to_u64(b: &mut Builder, x: Value) -> Value {
    let (down, up, end) = (b.const_s(1.0 / 4_294_967_296.0), b.const_s(4_294_967_296.0), b.const_s(2f32.powi(64)));
    let high = b.mul(x, down);
    let high = functions::to_u32(&mut Math::like(b, high), high);
    let whole = from_u32(b, high);
    let whole = b.mul(whole, up);
    let low = b.sub(x, whole);
    let low = functions::to_u32(&mut Math::like(b, low), low);
    let (high, low) = (b.extend_u(high), b.extend_u(low));
    let high = b.shl(high, 32);
    let (value, top) = (b.or(high, low), b.const_l(-1));
    let beyond = b.le(end, x);
    b.select(beyond, top, value)
}
