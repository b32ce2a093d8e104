//! The int8 quantiser of activations and the ways its products are scaled back.

use super::{Lanes, MAGIC};
use crate::ir::Undo;

/// The factor 127 / a of a block whose maximum is `a`.
pub fn factor<L: Lanes>(l: &mut L, a: L::F) -> L::F {
    let n = l.f_const(127.0);
    l.div(n, a)
}

/// clamp(round(x * factor), -127, 127), half to even, in i32 lanes; a NaN product gives -127 (the factor is then
/// NaN too, and reaches the output through the undo scale).
pub fn int8<L: Lanes>(l: &mut L, x: L::F, factor: L::F) -> L::I {
    let (low, high) = (l.f_const(-127.0), l.f_const(127.0));
    let magic = l.f_const(MAGIC);
    let v = l.mul(x, factor);
    let v = l.pmax(low, v);
    let v = l.pmin(high, v);
    let v = l.add(v, magic);
    let v = l.to_bits(v);
    let base = l.i_const(MAGIC.to_bits() as i32);
    l.isub(v, base)
}

/// What `float(acc)` is multiplied with when one block covers the whole input.
pub fn undo_factor<L: Lanes>(l: &mut L, undo: Undo, scale: L::F, a: L::F) -> L::F {
    let n = l.f_const(127.0);
    match undo {
        Undo::Multiply => {
            let a = l.div(a, n);
            l.mul(scale, a)
        }
        Undo::Divide => {
            let s = l.div(n, a);
            l.div(scale, s)
        }
    }
}

/// max(max |x|, floor) of a block, as integers: exact, and a NaN wins.
pub fn block_maximum(x: &[f32], floor: f32) -> f32 {
    let most = x.iter().fold(floor.to_bits() as i32, |most, v| most.max((v.to_bits() & 0x7fff_ffff) as i32));
    f32::from_bits(most as u32)
}
