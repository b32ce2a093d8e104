//! Every operation by itself on the three images.

use super::{Buffer, Compiled, Image, Input, bytes};
use crate::kernel::build::Builder;
use crate::kernel::functions::Math;
use crate::kernel::ir::{Binary, Compare, Mem, Reduce, Shift, Type, Value};
use crate::numerics::functions;

/// Stores results one after another.
struct Out {
    pointer: Value,
    offset: i32,
}

impl Out {
    fn put(&mut self, b: &mut Builder, value: Value) {
        let (mem, bytes) = match b.ty(value) {
            Type::F => (Mem::F32x16, 64),
            Type::I => (Mem::I32x16, 64),
            Type::S => (Mem::F32, 4),
            Type::N => (Mem::I32, 4),
            Type::L => (Mem::I64, 8),
            ty => panic!("{ty} has no place in memory"),
        };
        b.store(mem, self.pointer, self.offset, value);
        self.offset += bytes;
    }
}

/// Runs `body(x, y)` over pairs of strips and scalars made from two images of 16 floats.
fn each(name: &str, body: impl Fn(&mut Builder, &mut Out, Value, Value)) {
    let mut b = Builder::new(name);
    let (x, y, out) = (b.ro("x"), b.ro("y"), b.rw("out"));
    let mut out = Out { pointer: out, offset: 0 };
    body(&mut b, &mut out, x, y);
    let kernel = Compiled::new(b.finish());
    for image in Image::ALL {
        for seed in 0..3 {
            let inputs = [
                Input::Bytes(Buffer::of_floats(&image.floats(64, seed))),
                Input::Bytes(Buffer::of_floats(&image.floats(64, seed + 100))),
                Input::Bytes(Buffer::new(&vec![0; out.offset as usize])),
            ];
            kernel.check(&inputs, 0, 1);
        }
    }
}

const FLOAT: [Binary; 6] = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::PMin, Binary::PMax];
const INT: [Binary; 8] =
    [Binary::Add, Binary::Sub, Binary::Mul, Binary::SMin, Binary::SMax, Binary::And, Binary::Or, Binary::Xor];
const ORDER: [Compare; 4] = [Compare::Eq, Compare::Ne, Compare::Lt, Compare::Le];
const ORDER_U: [Compare; 2] = [Compare::LtU, Compare::LeU];
const SHIFTS: [Shift; 3] = [Shift::Left, Shift::RightS, Shift::RightU];

#[test]
fn float_arithmetic() {
    each("float", |b, out, x, y| {
        for (load, from) in [(Mem::F32x16, 0), (Mem::F32, 4), (Mem::F32x16, 4)] {
            let (x, y) = (b.load(load, x, from), b.load(load, y, from));
            for op in FLOAT {
                let z = b.binary(op, x, y);
                out.put(b, z);
            }
            for op in ORDER {
                let mask = b.compare(op, x, y);
                out.put(b, mask);
                let z = b.select(mask, x, y);
                out.put(b, z);
            }
            let (root, abs, neg) = (b.sqrt(x), b.abs(x), b.neg(y));
            for z in [root, abs, neg] {
                out.put(b, z);
            }
        }
        let x = b.load_f(x, 0);
        let (add, low, high) = (b.red_add(x), b.red_pmin(x), b.red_pmax(x));
        for z in [add, low, high] {
            out.put(b, z);
            let lanes = b.splat(z);
            out.put(b, lanes);
        }
    });
}

#[test]
fn integer_arithmetic() {
    each("integer", |b, out, x, y| {
        for load in [Mem::I32x16, Mem::I32, Mem::I64, Mem::I8, Mem::U8, Mem::U16] {
            let (x, y) = (b.load(load, x, 8), b.load(load, y, 8));
            for op in INT {
                let z = b.binary(op, x, y);
                out.put(b, z);
            }
            for op in ORDER.into_iter().chain(ORDER_U) {
                let mask = b.compare(op, x, y);
                out.put(b, mask);
                let z = b.select(mask, x, y);
                out.put(b, z);
            }
            if b.ty(x) != Type::I {
                let zero = b.const_like(x, 0);
                for divisor in [y, zero] {
                    let (quotient, rest) = (b.udiv(x, divisor), b.urem(x, divisor));
                    out.put(b, quotient);
                    out.put(b, rest);
                }
            }
            for op in SHIFTS {
                for amount in [0, 1, 13, 31] {
                    let z = b.shift(op, x, amount);
                    out.put(b, z);
                }
                let amount = b.const_n(77);
                let z = b.shift_by(op, x, amount);
                out.put(b, z);
            }
        }
    });
}

/// An operand that one operation alone uses may become part of the instruction, whose memory operand may have to be
/// aligned more than the kernel's memory is.
#[test]
fn operands_come_straight_from_unaligned_memory() {
    use Mem::*;
    for offset in [4, 12, 16] {
        for mem in [F32x16, I32x16, Bf16x16, F16x16, I8x16, U8x16, U16x16] {
            each("operand", |b, out, from, other| {
                let float = mem.ty() == Type::F;
                let left = b.load(mem, from, 0);
                let put_all = |b: &mut Builder, out: &mut Out, make: &dyn Fn(&mut Builder, Value, Value) -> Value| {
                    let one = b.load(mem, other, offset);
                    let z = make(b, left, one);
                    out.put(b, z);
                    let one = b.load(mem, other, offset);
                    let z = make(b, one, left);
                    out.put(b, z);
                    let (one, two) = (b.load(mem, from, offset), b.load(mem, other, offset));
                    let z = make(b, one, two);
                    out.put(b, z);
                };
                for op in if float { &FLOAT[..] } else { &INT } {
                    put_all(b, out, &|b, x, y| b.binary(*op, x, y));
                }
                for op in ORDER.into_iter().chain(ORDER_U.into_iter().filter(|_| !float)) {
                    put_all(b, out, &|b, x, y| b.compare(op, x, y));
                    put_all(b, out, &|b, x, y| {
                        let mask = b.compare(op, x, y);
                        let (yes, no) = (b.load(mem, from, 0), b.load(mem, other, offset));
                        b.select(mask, yes, no)
                    });
                }
                put_all(b, out, &|b, x, _| if float { b.sqrt(x) } else { b.convert(x) });
                put_all(b, out, &|b, x, _| b.cast(x));
                for op in if float { &[Reduce::Add, Reduce::PMin][..] } else { &[Reduce::IAdd, Reduce::IMax] } {
                    put_all(b, out, &|b, x, _| b.reduce(*op, x));
                }
                for op in SHIFTS.into_iter().filter(|_| !float) {
                    put_all(b, out, &|b, x, _| b.shift(op, x, 3));
                }
            });
        }
    }
}

#[test]
fn conversions_and_lanes() {
    each("lanes", |b, out, x, y| {
        let lanes = b.load_i(x, 0);
        let n = b.load_n(y, 0);
        let (float, scalar, bits) = (b.convert(lanes), b.convert(n), b.cast(lanes));
        let (extended, unsigned) = (b.extend(n), b.extend_u(n));
        let (again, mask) = (b.truncate(unsigned), b.mask_bits(n));
        let (sum, low, high) = (b.red_iadd(lanes), b.red_imin(lanes), b.red_imax(lanes));
        let (splat, iota) = (b.splat(n), b.iota());
        for z in [float, scalar, bits, extended, unsigned, again, mask, sum, low, high, splat, iota] {
            out.put(b, z);
        }
        for count in [-3, 0, 1, 7, 15, 16, 40] {
            let count = b.const_n(count);
            let mask = b.lane_mask(count);
            out.put(b, mask);
        }
    });
}

#[test]
fn loads_and_stores_of_every_form() {
    for mem in Mem::ALL {
        each("memory", |b, out, x, _| {
            for offset in [0, 64] {
                let value = b.load(mem, x, offset);
                if b.ty(value) == Type::B {
                    b.store(Mem::Bytes64, out.pointer, out.offset, value);
                    out.offset += 64;
                    continue;
                }
                out.put(b, value);
                out.offset = (out.offset + 63) & !63;
                if mem.storable() {
                    b.store(mem, out.pointer, out.offset, value);
                    out.offset += 64;
                }
                if mem.storable_in_part() {
                    for n in [-1, 0, 1, 5, 16, 17] {
                        let n = b.const_n(n);
                        b.store_first(mem, out.pointer, out.offset + 4, value, n);
                        out.offset += 128;
                    }
                }
            }
        });
    }
}

#[test]
fn narrow_stores_of_any_integer() {
    each("narrow", |b, out, x, y| {
        let (x, y) = (b.load_i(x, 0), b.load_i(y, 0));
        let small = b.shr_s(y, 23);
        for value in [x, small] {
            for mem in [Mem::I8x16, Mem::U8x16, Mem::U16x16] {
                b.store(mem, out.pointer, out.offset, value);
                out.offset += 64;
            }
        }
    });
}

/// All half floats and bfloat16s, signalling NaNs included, against their definition.
#[test]
fn every_half_float_widens_exactly() {
    let mut b = Builder::new("halves");
    let (x, out) = (b.ro("x"), b.rw("out"));
    b.for_n(65536 / 16, |b, strip| {
        let (from, to) = (b.index(x, strip, 32), b.index(out, strip, 128));
        for (mem, offset) in [(Mem::F16x16, 0), (Mem::Bf16x16, 64)] {
            let value = b.load(mem, from, 0);
            b.store_f(to, offset, value);
        }
    });
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let inputs = [Input::Bytes(Buffer::new(&all)), Input::Bytes(Buffer::new(&vec![0; 65536 * 8]))];
    Compiled::new(b.finish()).check(&inputs, 0, 1);
}

#[test]
fn elementary_functions() {
    for (vector, load) in [(true, Mem::F32x16), (false, Mem::F32)] {
        each("functions", |b, out, x, _| {
            for offset in [0, 64, 128] {
                let x = b.load(load, x, offset);
                assert_eq!(vector, b.ty(x) == Type::F);
                let all: [fn(&mut Math<'_>, Value) -> Value; 11] = [
                    |m, x| functions::exp(m, x),
                    |m, x| functions::expm1(m, x),
                    |m, x| functions::sigmoid(m, x),
                    |m, x| functions::tanh(m, x),
                    |m, x| functions::ln(m, x),
                    |m, x| functions::log1p(m, x),
                    |m, x| functions::sin(m, x),
                    |m, x| functions::cos(m, x),
                    |m, x| functions::round(m, x),
                    |m, x| functions::floor(m, x),
                    |m, x| functions::abs(m, x),
                ];
                for function in all {
                    let z = function(&mut Math::like(b, x), x);
                    out.put(b, z);
                }
                let z = functions::to_i32(&mut Math::like(b, x), x);
                out.put(b, z);
            }
        });
    }
}

#[test]
fn rounding_macros_meet_their_definition() {
    let mut b = Builder::new("rounding");
    let (x, out) = (b.ro("x"), b.rw("out"));
    let value = b.load_f(x, 0);
    let (floor, round, int) = (b.floor_small(value), b.round_small(value), b.round_to_int(value));
    b.store_f(out, 0, floor);
    b.store_f(out, 64, round);
    b.store_i(out, 128, int);
    let values: Vec<f32> = (0..16).map(|i| (i as f32 - 8.0) * 1.25).collect();
    let inputs = [Input::Bytes(Buffer::of_floats(&values)), Input::Bytes(Buffer::new(&[0; 192]))];
    let result = Compiled::new(b.finish()).check(&inputs, 0, 1);
    let Input::Bytes(result) = &result[1] else { panic!("a buffer") };
    let words: Vec<u32> = result.words().collect();
    for (lane, value) in values.iter().enumerate() {
        assert_eq!(f32::from_bits(words[lane]), value.floor());
        assert_eq!(f32::from_bits(words[16 + lane]), value.round_ties_even());
        assert_eq!(words[32 + lane] as i32, value.round_ties_even() as i32);
    }
}

/// Loops of every trip count, with carried values that swap, and nested conditionals.
#[test]
fn control_flow() {
    let mut b = Builder::new("control");
    let (x, out, count) = (b.ro("x"), b.rw("out"), b.count("count"));
    let (begin, end) = (b.begin(), b.end());
    let (one, ten) = (b.const_n(1), b.const_n(10));
    let start = b.load_f(x, 0);
    let other = b.load_f(x, 64);
    let result = b.loop_carried((begin, end, 3), &[start, other, one, x], |b, index, carried| {
        let small = b.lt(index, ten);
        let chosen = b.if_else(
            small,
            |b| {
                let odd = b.and(index, one);
                let inner = b.if_else(odd, |_| vec![carried[0]], |_| vec![carried[1]]);
                vec![inner[0], ten]
            },
            |b| vec![b.add(carried[0], carried[1]), index],
        );
        let total = b.fold_n(2, &[carried[2]], |b, _, sum| vec![b.add(sum[0], chosen[1])]);
        let next = b.offset(carried[3], 4);
        vec![carried[1], chosen[0], total[0], next]
    });
    b.store_f(out, 0, result[0]);
    b.store_f(out, 64, result[1]);
    b.store_n(out, 128, result[2]);
    let after = b.load_s(result[3], 0);
    b.store_s(out, 132, after);
    b.store_n(out, 136, count);
    b.if_then(count, |b| b.store_n(out, 140, one));
    let kernel = Compiled::new(b.finish());
    for (begin, end) in [(0, 0), (0, 1), (2, 40), (5, 3), (-7, 20)] {
        for count in [0, 9] {
            let inputs = [
                Input::Bytes(Buffer::of_floats(&Image::Normal.floats(64, 1))),
                Input::Bytes(Buffer::new(&bytes(192, 2))),
                Input::Count(count),
            ];
            kernel.check(&inputs, begin, end);
        }
    }
}

#[test]
fn stack_buffers_hold_what_is_stored() {
    each("stack", |b, out, x, y| {
        let (first, second) = (b.stack(256), b.stack(64));
        b.for_n(4, |b, strip| {
            let from = b.index(x, strip, 64);
            let value = b.load_f(from, 0);
            let to = b.index(first, strip, 64);
            b.store_f(to, 0, value);
        });
        let value = b.load_f(y, 0);
        b.store_f(second, 0, value);
        for (pointer, offset) in [(first, 0), (first, 100), (first, 192), (second, 0)] {
            let value = b.load_f(pointer, offset);
            out.put(b, value);
        }
    });
}
