//! Elementwise operations on strips and scalars: the same code makes either, by the type of the operands.

use crate::ir::{BinaryOp, CompareOp, Elem, UnaryOp};
use crate::kernel::build::Builder;
pub use crate::kernel::functions::Math;
use crate::kernel::ir::{Shift, Value};
use crate::numerics::{Lanes, functions};

/// A rough count of operations.
pub fn unary_cost(op: UnaryOp) -> u32 {
    match op {
        UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Not => 1,
        UnaryOp::Sqrt | UnaryOp::Floor | UnaryOp::Round => 5,
        _ => 20,
    }
}

/// One operand; the error names what has no form.
pub fn unary(b: &mut Builder, op: UnaryOp, elem: Elem, x: Value) -> Result<Value, String> {
    if elem == Elem::F32 {
        let mut math = Math::like(b, x);
        let l = &mut math;
        return Ok(match op {
            UnaryOp::Neg => functions::neg(l, x),
            UnaryOp::Abs => functions::abs(l, x),
            UnaryOp::Exp => functions::exp(l, x),
            UnaryOp::Expm1 => functions::expm1(l, x),
            UnaryOp::Ln => functions::ln(l, x),
            UnaryOp::Log1p => functions::log1p(l, x),
            UnaryOp::Sqrt => l.sqrt(x),
            UnaryOp::Sin => functions::sin(l, x),
            UnaryOp::Cos => functions::cos(l, x),
            UnaryOp::Tanh => functions::tanh(l, x),
            UnaryOp::Sigmoid => functions::sigmoid(l, x),
            UnaryOp::Floor => functions::floor(l, x),
            UnaryOp::Round => functions::round(l, x),
            UnaryOp::Not => return Err("not on floats".into()),
        });
    }
    match op {
        UnaryOp::Not => Ok(b.not(x)),
        UnaryOp::Neg => {
            let zero = b.const_like(x, 0);
            let y = b.sub(zero, x);
            Ok(wrap(b, elem, y))
        }
        UnaryOp::Abs => {
            if matches!(elem, Elem::U8 | Elem::U32 | Elem::U64) {
                return Ok(x);
            }
            let zero = b.const_like(x, 0);
            let y = b.sub(zero, x);
            let y = b.smax(x, y);
            Ok(wrap(b, elem, y))
        }
        UnaryOp::Floor | UnaryOp::Round => Ok(x),
        other => Err(format!("{other:?} on {}", elem.name())),
    }
}

/// Brings an 8-bit result back into its range, modulo 256.
pub fn wrap(b: &mut Builder, elem: Elem, x: Value) -> Value {
    match elem {
        Elem::U8 => {
            let low = b.const_like(x, 0xff);
            b.and(x, low)
        }
        Elem::I8 => {
            let x = b.shl(x, 24);
            b.shr_s(x, 24)
        }
        _ => x,
    }
}

/// Two operands of the same element.
pub fn binary(b: &mut Builder, op: BinaryOp, elem: Elem, x: Value, y: Value) -> Result<Value, String> {
    if elem == Elem::F32 {
        return Ok(match op {
            BinaryOp::Add => b.add(x, y),
            BinaryOp::Sub => b.sub(x, y),
            BinaryOp::Mul => b.mul(x, y),
            BinaryOp::Div => b.div(x, y),
            BinaryOp::Min => b.pmin(x, y),
            BinaryOp::Max => b.pmax(x, y),
            BinaryOp::FloorDiv => {
                let q = b.div(x, y);
                functions::floor(&mut Math::like(b, q), q)
            }
            other => return Err(format!("{other:?} on f32")),
        });
    }
    let unsigned = matches!(elem, Elem::U8 | Elem::U32 | Elem::U64 | Elem::Bool);
    let result = match op {
        BinaryOp::Add => b.add(x, y),
        BinaryOp::Sub => b.sub(x, y),
        BinaryOp::Mul => b.mul(x, y),
        BinaryOp::And => b.and(x, y),
        BinaryOp::Or => b.or(x, y),
        BinaryOp::Xor => b.xor(x, y),
        BinaryOp::Min | BinaryOp::Max => {
            let (low, high) = if op == BinaryOp::Min { (x, y) } else { (y, x) };
            let less = if unsigned { b.lt_u(x, y) } else { b.lt(x, y) };
            b.select(less, low, high)
        }
        BinaryOp::Div => return Err(format!("float division on {}", elem.name())),
        BinaryOp::FloorDiv | BinaryOp::Rem => divide(b, op, unsigned, x, y),
        BinaryOp::Shl | BinaryOp::Shr => shift(b, op, elem, x, y),
    };
    Ok(wrap(b, elem, result))
}

/// Floored quotient or remainder of scalars; by 0 both are 0.
fn divide(b: &mut Builder, op: BinaryOp, unsigned: bool, x: Value, y: Value) -> Value {
    let zero = b.const_like(x, 0);
    let one = b.const_like(x, 1);
    let quotient;
    let remainder;
    if unsigned {
        quotient = b.udiv(x, y);
        remainder = b.urem(x, y);
    } else {
        let (minus_x, minus_y) = (b.sub(zero, x), b.sub(zero, y));
        let (x_negative, y_negative) = (b.lt(x, zero), b.lt(y, zero));
        let ax = b.select(x_negative, minus_x, x);
        let ay = b.select(y_negative, minus_y, y);
        let q = b.udiv(ax, ay);
        let r = b.urem(ax, ay);
        let minus_r = b.sub(zero, r);
        // Truncated toward zero first, then one down where the signs differ and something is left.
        let differ = b.xor(x_negative, y_negative);
        let minus_q = b.sub(zero, q);
        let q = b.select(differ, minus_q, q);
        let r = b.select(x_negative, minus_r, r);
        let left = b.ne(r, zero);
        let down = b.and(left, differ);
        let lower = b.sub(q, one);
        quotient = b.select(down, lower, q);
        let moved = b.add(r, y);
        remainder = b.select(down, moved, r);
    }
    let by_zero = b.eq(y, zero);
    let result = if op == BinaryOp::FloorDiv { quotient } else { remainder };
    b.select(by_zero, zero, result)
}

/// Shifts of scalars by scalars, modulo the width of the element.
fn shift(b: &mut Builder, op: BinaryOp, elem: Elem, x: Value, y: Value) -> Value {
    let amount = if elem == Elem::U64 { b.truncate(y) } else { y };
    let width = b.const_n(elem.bytes().unwrap_or(4) as i32 * 8 - 1);
    let amount = b.and(amount, width);
    let form = match (op, elem) {
        (BinaryOp::Shl, _) => Shift::Left,
        (_, Elem::U8 | Elem::U32 | Elem::U64) => Shift::RightU,
        _ => Shift::RightS,
    };
    b.shift_by(form, x, amount)
}

/// A mask or condition.
pub fn compare(b: &mut Builder, op: CompareOp, elem: Elem, x: Value, y: Value) -> Value {
    let unsigned = matches!(elem, Elem::U32 | Elem::U64 | Elem::Bool);
    match op {
        CompareOp::Eq => b.eq(x, y),
        CompareOp::Ne => b.ne(x, y),
        CompareOp::Lt if unsigned => b.lt_u(x, y),
        CompareOp::Le if unsigned => b.le_u(x, y),
        CompareOp::Gt if unsigned => b.lt_u(y, x),
        CompareOp::Ge if unsigned => b.le_u(y, x),
        CompareOp::Lt => b.lt(x, y),
        CompareOp::Le => b.le(x, y),
        CompareOp::Gt => b.lt(y, x),
        CompareOp::Ge => b.le(y, x),
    }
}
