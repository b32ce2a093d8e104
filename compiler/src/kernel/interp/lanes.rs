//! Lane by lane meaning of loads, stores, arithmetic and reductions.

use super::Cell;
use crate::kernel::ir::{Binary, Compare, LANES, Mem, Op, Reduce, Shift};

fn elements<const N: usize, T>(bytes: &[u8], make: impl Fn([u8; N]) -> T) -> [T; LANES] {
    std::array::from_fn(|lane| {
        let element: &[u8] = &bytes[lane * N..(lane + 1) * N];
        make(element.try_into().expect("an element has N bytes"))
    })
}

fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("a scalar has N bytes")
}

/// The value of the bytes in memory; `bytes` is as long as the form says.
pub fn decode(mem: Mem, bytes: &[u8]) -> Cell {
    let bf16 = |bits: u16| half::bf16::from_bits(bits).to_f32();
    let f16 = |bits: u16| half::f16::from_bits(bits).to_f32();
    match mem {
        Mem::F32x16 => Cell::F(elements(bytes, f32::from_le_bytes)),
        Mem::I32x16 => Cell::I(elements(bytes, i32::from_le_bytes)),
        Mem::Bytes64 => Cell::B(first(bytes)),
        Mem::Bf16x16 => Cell::F(elements(bytes, |b| bf16(u16::from_le_bytes(b)))),
        Mem::F16x16 => Cell::F(elements(bytes, |b| f16(u16::from_le_bytes(b)))),
        Mem::I8x16 => Cell::I(elements(bytes, |[b]| i32::from(b as i8))),
        Mem::U8x16 => Cell::I(elements(bytes, |[b]| i32::from(b))),
        Mem::U16x16 => Cell::I(elements(bytes, |b| i32::from(u16::from_le_bytes(b)))),
        Mem::F32 => Cell::S(f32::from_le_bytes(first(bytes))),
        Mem::Bf16 => Cell::S(bf16(u16::from_le_bytes(first(bytes)))),
        Mem::F16 => Cell::S(f16(u16::from_le_bytes(first(bytes)))),
        Mem::I32 => Cell::N(i32::from_le_bytes(first(bytes))),
        Mem::I8 => Cell::N(i32::from(bytes[0] as i8)),
        Mem::U8 => Cell::N(i32::from(bytes[0])),
        Mem::U16 => Cell::N(i32::from(u16::from_le_bytes(first(bytes)))),
        Mem::I64 => Cell::L(i64::from_le_bytes(first(bytes))),
    }
}

/// The bytes that a store of the value writes.
pub fn encode(mem: Mem, cell: &Cell) -> Vec<u8> {
    match (mem, cell) {
        (_, Cell::F(lanes)) => lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect(),
        (Mem::I8x16, Cell::I(lanes)) => lanes.iter().map(|&lane| lane.clamp(-128, 127) as i8 as u8).collect(),
        (Mem::U8x16, Cell::I(lanes)) => lanes.iter().map(|&lane| lane as u8).collect(),
        (Mem::U16x16, Cell::I(lanes)) => lanes.iter().flat_map(|&lane| (lane as u16).to_le_bytes()).collect(),
        (_, Cell::I(lanes)) => lanes.iter().flat_map(|lane| lane.to_le_bytes()).collect(),
        (_, Cell::B(bytes)) => bytes.to_vec(),
        (_, Cell::S(value)) => value.to_le_bytes().to_vec(),
        (Mem::I8 | Mem::U8, Cell::N(value)) => vec![*value as u8],
        (Mem::U16, Cell::N(value)) => (*value as u16).to_le_bytes().to_vec(),
        (_, Cell::N(value)) => value.to_le_bytes().to_vec(),
        (_, Cell::L(value)) => value.to_le_bytes().to_vec(),
        (_, Cell::A(_) | Cell::P(_)) => mismatch(),
    }
}

fn mismatch() -> ! {
    unreachable!("the kernel was verified")
}

fn zip<T: Copy, R>(a: &[T; LANES], b: &[T; LANES], op: impl Fn(T, T) -> R) -> [R; LANES] {
    std::array::from_fn(|lane| op(a[lane], b[lane]))
}

/// `b < a ? b : a`.
pub fn pmin(a: f32, b: f32) -> f32 {
    if b < a { b } else { a }
}

/// `a < b ? b : a`.
pub fn pmax(a: f32, b: f32) -> f32 {
    if a < b { b } else { a }
}

fn float(op: Binary) -> fn(f32, f32) -> f32 {
    match op {
        Binary::Add => |a, b| a + b,
        Binary::Sub => |a, b| a - b,
        Binary::Mul => |a, b| a * b,
        Binary::Div => |a, b| a / b,
        Binary::PMin => pmin,
        Binary::PMax => pmax,
        _ => mismatch(),
    }
}

macro_rules! integer {
    ($name:ident, $ty:ty, $unsigned:ty) => {
        fn $name(op: Binary) -> fn($ty, $ty) -> $ty {
            match op {
                Binary::Add => <$ty>::wrapping_add,
                Binary::Sub => <$ty>::wrapping_sub,
                Binary::Mul => <$ty>::wrapping_mul,
                Binary::SMin => Ord::min,
                Binary::SMax => Ord::max,
                Binary::And => |a, b| a & b,
                Binary::Or => |a, b| a | b,
                Binary::Xor => |a, b| a ^ b,
                Binary::UDiv => |a, b| (a as $unsigned).checked_div(b as $unsigned).map_or(a, |q| q as $ty),
                Binary::URem => |a, b| (a as $unsigned).checked_rem(b as $unsigned).map_or(0, |r| r as $ty),
                _ => mismatch(),
            }
        }
    };
}

integer!(integer32, i32, u32);
integer!(integer64, i64, u64);

/// A two-operand operation.
pub fn binary(op: Binary, a: &Cell, b: &Cell) -> Cell {
    match (a, b) {
        (Cell::F(a), Cell::F(b)) => Cell::F(zip(a, b, float(op))),
        (Cell::S(a), Cell::S(b)) => Cell::S(float(op)(*a, *b)),
        (Cell::I(a), Cell::I(b)) => Cell::I(zip(a, b, integer32(op))),
        (Cell::N(a), Cell::N(b)) => Cell::N(integer32(op)(*a, *b)),
        (Cell::L(a), Cell::L(b)) => Cell::L(integer64(op)(*a, *b)),
        _ => mismatch(),
    }
}

/// Square roots.
pub fn sqrt(a: &Cell) -> Cell {
    match a {
        Cell::F(a) => Cell::F(a.map(f32::sqrt)),
        Cell::S(a) => Cell::S(a.sqrt()),
        _ => mismatch(),
    }
}

/// A shift by the same amount, modulo the width, in every lane.
pub fn shift(op: Shift, a: &Cell, amount: u32) -> Cell {
    let word = |a: i32| match op {
        Shift::Left => a.wrapping_shl(amount),
        Shift::RightS => a.wrapping_shr(amount),
        Shift::RightU => (a as u32).wrapping_shr(amount) as i32,
    };
    match a {
        Cell::I(a) => Cell::I(a.map(word)),
        Cell::N(a) => Cell::N(word(*a)),
        Cell::L(a) => Cell::L(match op {
            Shift::Left => a.wrapping_shl(amount),
            Shift::RightS => a.wrapping_shr(amount),
            Shift::RightU => (*a as u64).wrapping_shr(amount) as i64,
        }),
        _ => mismatch(),
    }
}

/// A comparison; true is -1.
pub fn compare(op: Compare, a: &Cell, b: &Cell) -> Cell {
    let float = |a: f32, b: f32| match op {
        Compare::Eq => a == b,
        Compare::Ne => a != b,
        Compare::Lt => a < b,
        Compare::Le => a <= b,
        Compare::LtU | Compare::LeU => mismatch(),
    };
    let integer = |a: i64, b: i64| match op {
        Compare::Eq => a == b,
        Compare::Ne => a != b,
        Compare::Lt => a < b,
        Compare::Le => a <= b,
        Compare::LtU => (a as u64) < b as u64,
        Compare::LeU => a as u64 <= b as u64,
    };
    // Sign extension keeps the unsigned order too.
    let word = |a: i32, b: i32| -i32::from(integer(i64::from(a), i64::from(b)));
    match (a, b) {
        (Cell::F(a), Cell::F(b)) => Cell::I(zip(a, b, |a, b| -i32::from(float(a, b)))),
        (Cell::S(a), Cell::S(b)) => Cell::N(-i32::from(float(*a, *b))),
        (Cell::I(a), Cell::I(b)) => Cell::I(zip(a, b, word)),
        (Cell::N(a), Cell::N(b)) => Cell::N(word(*a, *b)),
        (Cell::L(a), Cell::L(b)) => Cell::N(-i32::from(integer(*a, *b))),
        _ => mismatch(),
    }
}

/// `mask ? a : b`.
pub fn select(mask: &Cell, a: &Cell, b: &Cell) -> Cell {
    let mix = |m: i32, a: i32, b: i32| (m & a) | (!m & b);
    match (mask, a, b) {
        (Cell::I(m), Cell::I(a), Cell::I(b)) => Cell::I(std::array::from_fn(|lane| mix(m[lane], a[lane], b[lane]))),
        (Cell::I(m), Cell::F(a), Cell::F(b)) => Cell::F(std::array::from_fn(|lane| {
            let bits = mix(m[lane], a[lane].to_bits() as i32, b[lane].to_bits() as i32);
            f32::from_bits(bits as u32)
        })),
        (Cell::N(condition), a, b) => *if *condition != 0 { a } else { b },
        _ => mismatch(),
    }
}

/// Casts, conversions, extensions and splats.
pub fn convert(op: &Op, a: &Cell) -> Cell {
    match (op, a) {
        (Op::Cast, Cell::F(a)) => Cell::I(a.map(|lane| lane.to_bits() as i32)),
        (Op::Cast, Cell::I(a)) => Cell::F(a.map(|lane| f32::from_bits(lane as u32))),
        (Op::Cast, Cell::S(a)) => Cell::N(a.to_bits() as i32),
        (Op::Cast, Cell::N(a)) => Cell::S(f32::from_bits(*a as u32)),
        (Op::Convert, Cell::I(a)) => Cell::F(a.map(|lane| lane as f32)),
        (Op::Convert, Cell::N(a)) => Cell::S(*a as f32),
        (Op::Extend(true), Cell::N(a)) => Cell::L(i64::from(*a)),
        (Op::Extend(false), Cell::N(a)) => Cell::L(i64::from(*a as u32)),
        (Op::Truncate, Cell::L(a)) => Cell::N(*a as i32),
        (Op::Splat, Cell::S(a)) => Cell::F([*a; LANES]),
        (Op::Splat, Cell::N(a)) => Cell::I([*a; LANES]),
        _ => mismatch(),
    }
}

/// Folds lanes by halves, the lower lane first.
pub fn fold<T: Copy>(mut lanes: [T; LANES], op: impl Fn(T, T) -> T) -> T {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] = op(lanes[lane], lanes[lane + half]);
        }
    }
    lanes[0]
}

/// A reduction over the lanes.
pub fn reduce(op: Reduce, a: &Cell) -> Cell {
    match (op, a) {
        (Reduce::Add, Cell::F(a)) => Cell::S(fold(*a, |a, b| a + b)),
        (Reduce::PMin, Cell::F(a)) => Cell::S(fold(*a, pmin)),
        (Reduce::PMax, Cell::F(a)) => Cell::S(fold(*a, pmax)),
        (Reduce::IAdd, Cell::I(a)) => Cell::N(fold(*a, i32::wrapping_add)),
        (Reduce::IMin, Cell::I(a)) => Cell::N(fold(*a, Ord::min)),
        (Reduce::IMax, Cell::I(a)) => Cell::N(fold(*a, Ord::max)),
        _ => mismatch(),
    }
}
