//! Elementwise operations, one loop per operation and element.

use super::error::Fault;
use super::tensor::{Tensor, map_data2};
use crate::ir::{BinaryOp, CompareOp, Data, Elem, UnaryOp};
use crate::numerics::{Lanes, Scalar, functions};

fn like(x: &Tensor, data: Data) -> Tensor {
    Tensor { shape: x.shape.clone(), data: data.into(), growth: x.growth.clone() }
}

fn each(x: &[f32], f: impl Fn(&mut Scalar, f32) -> f32) -> Data {
    Data::F32(x.iter().map(|&v| f(&mut Scalar, v)).collect())
}

pub(super) fn unary(op: UnaryOp, x: &Tensor) -> Result<Tensor, Fault> {
    use functions as f;
    let data = match (op, &*x.data) {
        (UnaryOp::Neg, Data::F32(v)) => each(v, f::neg),
        (UnaryOp::Neg, Data::I32(v)) => Data::I32(v.iter().map(|a| a.wrapping_neg()).collect()),
        (UnaryOp::Neg, Data::U32(v)) => Data::U32(v.iter().map(|a| a.wrapping_neg()).collect()),
        (UnaryOp::Neg, Data::U64(v)) => Data::U64(v.iter().map(|a| a.wrapping_neg()).collect()),
        (UnaryOp::Neg, Data::I8(v)) => Data::I8(v.iter().map(|a| a.wrapping_neg()).collect()),
        (UnaryOp::Neg, Data::U8(v)) => Data::U8(v.iter().map(|a| a.wrapping_neg()).collect()),
        (UnaryOp::Abs, Data::F32(v)) => each(v, f::abs),
        (UnaryOp::Abs, Data::I32(v)) => Data::I32(v.iter().map(|a| a.wrapping_abs()).collect()),
        (UnaryOp::Abs, Data::I8(v)) => Data::I8(v.iter().map(|a| a.wrapping_abs()).collect()),
        (UnaryOp::Not, Data::Bool(v)) => Data::Bool(v.iter().map(|a| !a).collect()),
        (UnaryOp::Exp, Data::F32(v)) => each(v, f::exp),
        (UnaryOp::Expm1, Data::F32(v)) => each(v, f::expm1),
        (UnaryOp::Ln, Data::F32(v)) => each(v, f::ln),
        (UnaryOp::Log1p, Data::F32(v)) => each(v, f::log1p),
        (UnaryOp::Sqrt, Data::F32(v)) => each(v, |l, a| l.sqrt(a)),
        (UnaryOp::Sin, Data::F32(v)) => each(v, f::sin),
        (UnaryOp::Cos, Data::F32(v)) => each(v, f::cos),
        (UnaryOp::Tanh, Data::F32(v)) => each(v, f::tanh),
        (UnaryOp::Sigmoid, Data::F32(v)) => each(v, f::sigmoid),
        (UnaryOp::Floor, Data::F32(v)) => each(v, f::floor),
        (UnaryOp::Round, Data::F32(v)) => each(v, f::round),
        _ => return Err(x.wrong("an elementwise function")),
    };
    Ok(like(x, data))
}

fn zip<T: Copy>(a: &[T], b: &[T], f: impl Fn(T, T) -> T) -> Vec<T> {
    a.iter().zip(b).map(|(&x, &y)| f(x, y)).collect()
}

macro_rules! integer {
    ($op:expr, $a:expr, $b:expr, $t:ty) => {{
        let (a, b): (&[$t], &[$t]) = ($a, $b);
        match $op {
            BinaryOp::Add => zip(a, b, <$t>::wrapping_add),
            BinaryOp::Sub => zip(a, b, <$t>::wrapping_sub),
            BinaryOp::Mul => zip(a, b, <$t>::wrapping_mul),
            BinaryOp::FloorDiv => zip(a, b, |x, y| {
                if y == 0 {
                    return 0;
                }
                let q = x.wrapping_div(y);
                let r = x.wrapping_rem(y);
                #[allow(unused_comparisons)]
                let down = r != 0 && (r < 0) != (y < 0);
                if down { q.wrapping_sub(1) } else { q }
            }),
            BinaryOp::Rem => zip(a, b, |x, y| {
                if y == 0 {
                    return 0;
                }
                let r = x.wrapping_rem(y);
                #[allow(unused_comparisons)]
                let down = r != 0 && (r < 0) != (y < 0);
                if down { r.wrapping_add(y) } else { r }
            }),
            BinaryOp::Min => zip(a, b, <$t>::min),
            BinaryOp::Max => zip(a, b, <$t>::max),
            BinaryOp::And => zip(a, b, |x, y| x & y),
            BinaryOp::Or => zip(a, b, |x, y| x | y),
            BinaryOp::Xor => zip(a, b, |x, y| x ^ y),
            BinaryOp::Shl => zip(a, b, |x, y| x.wrapping_shl(y as u32)),
            BinaryOp::Shr => zip(a, b, |x, y| x.wrapping_shr(y as u32)),
            BinaryOp::Div => return Err(Fault::Element { op: "/", elem: stringify!($t) }),
        }
    }};
}

/// Shift amounts are taken modulo the bits of the element.
pub(super) fn binary(op: BinaryOp, a: &Tensor, b: &Tensor) -> Result<Tensor, Fault> {
    same_length(a, b)?;
    let data = match (&*a.data, &*b.data) {
        (Data::F32(x), Data::F32(y)) => Data::F32(match op {
            BinaryOp::Add => zip(x, y, |x, y| x + y),
            BinaryOp::Sub => zip(x, y, |x, y| x - y),
            BinaryOp::Mul => zip(x, y, |x, y| x * y),
            BinaryOp::Div => zip(x, y, |x, y| x / y),
            BinaryOp::Min => zip(x, y, |x, y| Scalar.pmin(x, y)),
            BinaryOp::Max => zip(x, y, |x, y| Scalar.pmax(x, y)),
            _ => return Err(a.wrong("an integer operation")),
        }),
        (Data::I32(x), Data::I32(y)) => Data::I32(integer!(op, x, y, i32)),
        (Data::U32(x), Data::U32(y)) => Data::U32(integer!(op, x, y, u32)),
        (Data::U64(x), Data::U64(y)) => Data::U64(integer!(op, x, y, u64)),
        (Data::I8(x), Data::I8(y)) => Data::I8(integer!(op, x, y, i8)),
        (Data::U8(x), Data::U8(y)) => Data::U8(integer!(op, x, y, u8)),
        (Data::Bool(x), Data::Bool(y)) => Data::Bool(match op {
            BinaryOp::And => zip(x, y, |x, y| x & y),
            BinaryOp::Or => zip(x, y, |x, y| x | y),
            BinaryOp::Xor => zip(x, y, |x, y| x ^ y),
            _ => return Err(a.wrong("arithmetic")),
        }),
        _ => return Err(b.wrong("an operand of another kind")),
    };
    Ok(like(if a.growth.is_some() { a } else { b }, data))
}

fn same_length(a: &Tensor, b: &Tensor) -> Result<(), Fault> {
    if a.shape == b.shape {
        return Ok(());
    }
    Err(Fault::Shape(format!("shapes {:?} and {:?} meet in an elementwise operation", a.shape, b.shape)))
}

pub(super) fn compare(op: CompareOp, a: &Tensor, b: &Tensor) -> Result<Tensor, Fault> {
    fn with<T: PartialOrd>(op: CompareOp, a: &[T], b: &[T]) -> Vec<bool> {
        let pairs = a.iter().zip(b);
        match op {
            CompareOp::Eq => pairs.map(|(x, y)| x == y).collect(),
            CompareOp::Ne => pairs.map(|(x, y)| x != y).collect(),
            CompareOp::Lt => pairs.map(|(x, y)| x < y).collect(),
            CompareOp::Le => pairs.map(|(x, y)| x <= y).collect(),
            CompareOp::Gt => pairs.map(|(x, y)| x > y).collect(),
            CompareOp::Ge => pairs.map(|(x, y)| x >= y).collect(),
        }
    }
    same_length(a, b)?;
    macro_rules! all {
        ($($variant:ident),*) => {
            match (&*a.data, &*b.data) {
                $((Data::$variant(x), Data::$variant(y)) => with(op, x, y),)*
                _ => return Err(b.wrong("a comparison with another kind")),
            }
        };
    }
    let result = all!(F32, I32, U32, U64, I8, U8, Bool);
    Ok(like(if a.growth.is_some() { a } else { b }, Data::Bool(result)))
}

pub(super) fn select(c: &Tensor, a: &Tensor, b: &Tensor) -> Result<Tensor, Fault> {
    same_length(c, a)?;
    same_length(a, b)?;
    let c = c.bools("select")?;
    let data = map_data2!(&*a.data, &*b.data, x, y => {
        c.iter().zip(x.iter().zip(y)).map(|(&c, (&x, &y))| if c { x } else { y }).collect()
    }, else return Err(b.wrong("a choice of another kind")));
    Ok(like(if a.growth.is_some() { a } else { b }, data))
}

/// Rust's `as` is the language's conversion: toward zero, saturating, NaN to 0; to nearest even; wrapping.
pub(super) fn convert(x: &Tensor, elem: Elem) -> Result<Tensor, Fault> {
    macro_rules! to {
        ($v:expr) => {
            match elem {
                Elem::F32 => Data::F32($v.iter().map(|&a| a as f32).collect()),
                Elem::I32 => Data::I32($v.iter().map(|&a| a as i32).collect()),
                Elem::U32 => Data::U32($v.iter().map(|&a| a as u32).collect()),
                Elem::U64 => Data::U64($v.iter().map(|&a| a as u64).collect()),
                Elem::I8 => Data::I8($v.iter().map(|&a| a as i8).collect()),
                Elem::U8 => Data::U8($v.iter().map(|&a| a as u8).collect()),
                _ => return Err(x.wrong("convert")),
            }
        };
    }
    if x.elem() == elem {
        return Ok(x.clone());
    }
    let data = match &*x.data {
        Data::F32(v) => to!(v),
        Data::I32(v) => to!(v),
        Data::U32(v) => to!(v),
        Data::U64(v) => to!(v),
        Data::I8(v) => to!(v),
        Data::U8(v) => to!(v),
        Data::Bool(v) => {
            let v: Vec<u8> = v.iter().map(|&b| u8::from(b)).collect();
            to!(v)
        }
    };
    Ok(like(x, data))
}

pub(super) fn bits(x: &Tensor, shape: &[usize]) -> Result<Tensor, Fault> {
    let Data::U64(words) = &*x.data else {
        return Err(x.wrong("bits"));
    };
    let bits = words.iter().flat_map(|w| (0..64).map(move |i| w >> i & 1 != 0));
    Ok(Tensor::bool(shape, bits.collect::<Vec<_>>()))
}
