//! The kernels that a language model is made of, written with the builder, on the three images.

use super::{Buffer, Compiled, Image, Input, activations, bytes};
use crate::kernel::build::Builder;
use crate::kernel::functions::Math;
use crate::kernel::ir::{DotRows, Kernel, Mem, Packing, Reduce, Value};
use crate::numerics::functions;

fn floats(values: &[f32]) -> Input {
    Input::Bytes(Buffer::of_floats(values))
}

fn zeros(words: usize) -> Input {
    Input::Bytes(Buffer::new(&vec![0; words * 4]))
}

type Function = fn(&mut Math<'_>, Value) -> Value;

fn silu(m: &mut Math<'_>, x: Value) -> Value {
    let s = functions::sigmoid(m, x);
    m.b.mul(x, s)
}

fn softplus(m: &mut Math<'_>, x: Value) -> Value {
    let zero = m.b.float_like(x, 0);
    let positive = m.b.pmax(zero, x);
    let magnitude = m.b.abs(x);
    let magnitude = m.b.neg(magnitude);
    let e = functions::exp(m, magnitude);
    let log = functions::log1p(m, e);
    m.b.add(positive, log)
}

/// Normalisation, gain, and int8 with the largest magnitude as the scale.
fn rms_quant(n: i32) -> Kernel {
    let mut b = Builder::new("rms_quant");
    let (x, gain, tmp, q, out) = (b.ro("x"), b.ro("gain"), b.rw("tmp"), b.rw("q"), b.rw("out"));
    let (strips, tail) = ((n + 15) / 16, n % 16);
    let zero = b.const_f(0.0);
    // The pad of the last strip may hold anything.
    let guard = |b: &mut Builder, strip: Value, value: Value| {
        if tail == 0 {
            return value;
        }
        let (sixteen, n) = (b.const_n(16), b.const_n(n));
        let done = b.mul(strip, sixteen);
        let left = b.sub(n, done);
        let mask = b.lane_mask(left);
        let zero = b.const_f(0.0);
        b.select(mask, value, zero)
    };
    let squares = b.fold_n(strips, &[zero], |b, strip, sum| {
        let at = b.index(x, strip, 64);
        let value = b.load_f(at, 0);
        let square = b.mul(value, value);
        let square = guard(b, strip, square);
        vec![b.add(sum[0], square)]
    })[0];
    let total = b.red_add(squares);
    let (count, epsilon, one) = (b.const_s(n as f32), b.const_s(1e-6), b.const_s(1.0));
    let mean = b.div(total, count);
    let mean = b.add(mean, epsilon);
    let root = b.sqrt(mean);
    let inverse = b.div(one, root);
    let inverse = b.splat(inverse);
    let none = b.const_i(0);
    let largest = b.fold_n(strips, &[none], |b, strip, most| {
        let (from, by, to) = (b.index(x, strip, 64), b.index(gain, strip, 64), b.index(tmp, strip, 64));
        let (value, gain) = (b.load_f(from, 0), b.load_f(by, 0));
        let value = b.mul(value, inverse);
        let value = b.mul(value, gain);
        let value = guard(b, strip, value);
        b.store_f(to, 0, value);
        let magnitude = b.abs(value);
        let magnitude = b.cast(magnitude);
        vec![b.smax(most[0], magnitude)]
    })[0];
    let largest = b.red_imax(largest);
    let floor = b.const_n(1e-5f32.to_bits() as i32);
    let largest = b.smax(largest, floor);
    let largest = b.cast(largest);
    let limit = b.const_s(127.0);
    let factor = b.div(limit, largest);
    let factor = b.splat(factor);
    let (low, high) = (b.const_f(-127.0), b.const_f(127.0));
    let sum = b.fold_n(strips, &[none], |b, strip, sum| {
        let (from, to) = (b.index(tmp, strip, 64), b.index(q, strip, 16));
        let value = b.load_f(from, 0);
        let value = b.mul(value, factor);
        let value = b.pmax(low, value);
        let value = b.pmin(high, value);
        let code = b.round_to_int(value);
        b.store(Mem::I8x16, to, 0, code);
        vec![b.add(sum[0], code)]
    })[0];
    let sum = b.red_iadd(sum);
    let scale = b.div(largest, limit);
    b.store_s(out, 0, scale);
    b.store_n(out, 4, sum);
    b.finish()
}

#[test]
fn rms_norm_and_quantise() {
    for n in [16, 40, 333, 512] {
        let size = (n as usize).next_multiple_of(16);
        for image in Image::ALL {
            let inputs = [
                floats(&image.floats(size, 1)),
                floats(&image.floats(size, 2)),
                zeros(size),
                zeros(size / 4),
                zeros(2),
            ];
            Compiled::new(rms_quant(n)).check(&inputs, 0, 1);
        }
    }
}

fn gemv(blocks: u32, tokens: u32, epilogue: Option<Function>) -> Kernel {
    let mut b = Builder::new("gemv");
    let (w, q, info, y) = (b.ro("w"), b.ro("q"), b.ro("info"), b.rw("y"));
    let (begin, end) = (b.begin(), b.end());
    let scale = b.load_s(info, 0);
    let scale = b.splat(scale);
    let sum = b.load_n(info, 4);
    let sum = b.splat(sum);
    let dot = DotRows { packing: Packing::Codes2, blocks, tokens, stride: 256 * blocks };
    b.for_each(begin, end, |b, group| {
        let w = b.index(w, group, 16 * 64 * i64::from(blocks));
        let totals = b.dot_rows(dot, w, q);
        let y = b.index(y, group, i64::from(64 * tokens));
        for (token, total) in totals.into_iter().enumerate() {
            let exact = b.sub(total, sum);
            let value = b.convert(exact);
            let mut value = b.mul(value, scale);
            if let Some(function) = epilogue {
                value = function(&mut Math::strips(b), value);
            }
            b.store_f(y, 64 * token as i32, value);
        }
    });
    b.finish()
}

#[test]
fn gemv_and_gemm_with_epilogues() {
    let codes = bytes(3 * 16 * 64 * 3, 4).into_iter().map(|byte| byte & 0x55).collect::<Vec<u8>>();
    for tokens in 1..=4 {
        for (index, image) in Image::ALL.into_iter().enumerate() {
            let epilogue = [None, Some((|m, x| functions::sigmoid(m, x)) as Function), Some(silu as Function)][index];
            let scale = image.floats(8, 11)[tokens as usize];
            let mut info = Buffer::of_floats(&[scale]);
            info.bytes_mut()[4..8].copy_from_slice(&1234i32.to_le_bytes());
            let inputs = [
                Input::Bytes(Buffer::new(&codes)),
                Input::Bytes(Buffer::new(&activations(3 * 256 * tokens as usize, 5))),
                Input::Bytes(info),
                zeros(3 * 16 * tokens as usize),
            ];
            let kernel = Compiled::new(gemv(3, tokens, epilogue));
            kernel.check(&inputs, 0, 3);
            kernel.check(&inputs, 1, 2);
        }
    }
}

fn minus_infinity(b: &mut Builder) -> Value {
    b.const_f(f32::NEG_INFINITY)
}

#[test]
fn softmax() {
    let mut b = Builder::new("softmax");
    let (x, y) = (b.ro("x"), b.rw("y"));
    let lowest = minus_infinity(&mut b);
    let most = b.fold_n(6, &[lowest], |b, strip, most| {
        let at = b.index(x, strip, 64);
        let value = b.load_f(at, 0);
        vec![b.pmax(most[0], value)]
    })[0];
    let most = b.reduce(Reduce::PMax, most);
    let most = b.splat(most);
    let zero = b.const_f(0.0);
    let sum = b.fold_n(6, &[zero], |b, strip, sum| {
        let (from, to) = (b.index(x, strip, 64), b.index(y, strip, 64));
        let value = b.load_f(from, 0);
        let value = b.sub(value, most);
        let e = functions::exp(&mut Math::strips(b), value);
        b.store_f(to, 0, e);
        vec![b.add(sum[0], e)]
    })[0];
    let (sum, one) = (b.red_add(sum), b.const_s(1.0));
    let inverse = b.div(one, sum);
    let inverse = b.splat(inverse);
    b.for_n(6, |b, strip| {
        let at = b.index(y, strip, 64);
        let value = b.load_f(at, 0);
        let value = b.mul(value, inverse);
        b.store_f(at, 0, value);
    });
    let kernel = Compiled::new(b.finish());
    for image in Image::ALL {
        kernel.check(&[floats(&image.floats(96, 3)), zeros(96)], 0, 1);
    }
}

#[test]
fn gated_recurrence() {
    let mut b = Builder::new("gated");
    let (f, c, g, h, y) = (b.ro("f"), b.ro("c"), b.ro("g"), b.rw("h"), b.rw("y"));
    let (begin, end) = (b.begin(), b.end());
    let one = b.const_f(1.0);
    b.for_each(begin, end, |b, strip| {
        let [f, c, g, h, y] = [f, c, g, h, y].map(|pointer| b.index(pointer, strip, 64));
        let [f, c, g, before] = [f, c, g, h].map(|pointer| b.load_f(pointer, 0));
        let mut math = Math::strips(b);
        let forget = functions::sigmoid(&mut math, f);
        let candidate = silu(&mut math, c);
        let gate = functions::sigmoid(&mut math, g);
        let kept = b.mul(forget, before);
        let take = b.sub(one, forget);
        let new = b.mul(take, candidate);
        let after = b.add(kept, new);
        b.store_f(h, 0, after);
        let result = b.mul(gate, after);
        b.store_f(y, 0, result);
    });
    let kernel = Compiled::new(b.finish());
    for image in Image::ALL {
        let mut inputs: Vec<Input> = (0..4).map(|seed| floats(&image.floats(80, seed))).collect();
        inputs.push(zeros(80));
        kernel.check(&inputs, 0, 5);
        kernel.check(&inputs, 2, 3);
    }
}

/// One head of a 64 by 64 delta rule, a tile of 16 columns per work unit.
#[test]
fn delta_rule() {
    let mut b = Builder::new("delta");
    let (k, v, q, info, state, out) = (b.ro("k"), b.ro("v"), b.ro("q"), b.ro("info"), b.rw("state"), b.rw("out"));
    let (begin, end) = (b.begin(), b.end());
    let (alpha, beta) = (b.load_s(info, 0), b.load_s(info, 4));
    let (alpha, beta) = (b.splat(alpha), b.splat(beta));
    let zero = b.const_f(0.0);
    b.for_each(begin, end, |b, tile| {
        let column = b.index(state, tile, 64);
        let p = b.fold_n(64, &[zero], |b, row, p| {
            let (at, k) = (b.index(column, row, 256), b.index(k, row, 4));
            let (s, k) = (b.load_f(at, 0), b.load_s(k, 0));
            let (s, k) = (b.mul(s, alpha), b.splat(k));
            let term = b.mul(s, k);
            vec![b.add(p[0], term)]
        })[0];
        let at = b.index(v, tile, 64);
        let v = b.load_f(at, 0);
        let u = b.sub(v, p);
        let u = b.mul(beta, u);
        let o = b.fold_n(64, &[zero], |b, row, o| {
            let (at, k, q) = (b.index(column, row, 256), b.index(k, row, 4), b.index(q, row, 4));
            let (s, k, q) = (b.load_f(at, 0), b.load_s(k, 0), b.load_s(q, 0));
            let (s, k, q) = (b.mul(s, alpha), b.splat(k), b.splat(q));
            let add = b.mul(k, u);
            let s = b.add(s, add);
            b.store_f(at, 0, s);
            let term = b.mul(s, q);
            vec![b.add(o[0], term)]
        })[0];
        let at = b.index(out, tile, 64);
        b.store_f(at, 0, o);
    });
    let kernel = Compiled::new(b.finish());
    for image in Image::ALL {
        let mut inputs: Vec<Input> = (0..3).map(|seed| floats(&image.floats(64, seed))).collect();
        inputs.extend([floats(&[0.9, 0.4]), floats(&image.floats(64 * 64, 9)), zeros(64)]);
        kernel.check(&inputs, 0, 4);
    }
}

/// One query over a number of positions known only at run time.
#[test]
fn attention_of_a_dynamic_length() {
    let mut b = Builder::new("attention");
    let (q, keys, values, scores, out, n) =
        (b.ro("q"), b.ro("keys"), b.ro("values"), b.rw("scores"), b.rw("out"), b.count("n"));
    let zero_n = b.const_n(0);
    let scale = b.const_s(0.125);
    b.for_each(zero_n, n, |b, position| {
        let (key, to) = (b.index(keys, position, 256), b.index(scores, position, 4));
        let zero = b.const_f(0.0);
        let sum = (0..4).fold(zero, |sum, strip| {
            let (q, k) = (b.load_f(q, 64 * strip), b.load_f(key, 64 * strip));
            let term = b.mul(q, k);
            b.add(sum, term)
        });
        let score = b.red_add(sum);
        let score = b.mul(score, scale);
        b.store_s(to, 0, score);
    });
    let strips = b.shr_u(n, 4);
    let fifteen = b.const_n(15);
    let tail = b.and(n, fifteen);
    let mask = b.lane_mask(tail);
    let lowest = minus_infinity(&mut b);
    let most = b.loop_carried((zero_n, strips, 1), &[lowest], |b, strip, most| {
        let at = b.index(scores, strip, 64);
        let value = b.load_f(at, 0);
        vec![b.pmax(most[0], value)]
    })[0];
    let last = b.index(scores, strips, 64);
    let value = b.load_f(last, 0);
    let value = b.select(mask, value, lowest);
    let most = b.pmax(most, value);
    let most = b.red_pmax(most);
    let most = b.splat(most);
    let zero = b.const_f(0.0);
    let sum = b.loop_carried((zero_n, strips, 1), &[zero], |b, strip, sum| {
        let at = b.index(scores, strip, 64);
        let value = b.load_f(at, 0);
        let value = b.sub(value, most);
        let e = functions::exp(&mut Math::strips(b), value);
        b.store_f(at, 0, e);
        vec![b.add(sum[0], e)]
    })[0];
    let value = b.load_f(last, 0);
    let value = b.sub(value, most);
    let e = functions::exp(&mut Math::strips(&mut b), value);
    b.store_f_n(last, 0, e, tail);
    let e = b.select(mask, e, zero);
    let sum = b.add(sum, e);
    let (sum, one) = (b.red_add(sum), b.const_s(1.0));
    let inverse = b.div(one, sum);
    let inverse = b.splat(inverse);
    let totals = b.loop_carried((zero_n, n, 1), &[zero; 4], |b, position, totals| {
        let (p, v) = (b.index(scores, position, 4), b.index(values, position, 256));
        let p = b.load_s(p, 0);
        let p = b.splat(p);
        (0..4)
            .map(|strip| {
                let v = b.load_f(v, 64 * strip);
                let term = b.mul(v, p);
                b.add(totals[strip as usize], term)
            })
            .collect()
    });
    for (strip, total) in totals.into_iter().enumerate() {
        let value = b.mul(total, inverse);
        b.store_f(out, 64 * strip as i32, value);
    }
    let kernel = Compiled::new(b.finish());
    for n in [1usize, 15, 16, 17, 333] {
        for image in Image::ALL {
            let inputs = [
                floats(&image.floats(64, 1)),
                floats(&image.floats(64 * n, 2)),
                floats(&image.floats(64 * n, 3)),
                zeros(n),
                zeros(64),
                Input::Count(n as i64),
            ];
            kernel.check(&inputs, 0, 1);
        }
    }
}

/// The maps of the elementary functions over longer arrays.
#[test]
fn maps() {
    let all: [(&str, Function); 6] = [
        ("exp", |m, x| functions::exp(m, x)),
        ("sigmoid", |m, x| functions::sigmoid(m, x)),
        ("tanh", |m, x| functions::tanh(m, x)),
        ("silu", silu),
        ("softplus", softplus),
        ("ln", |m, x| functions::ln(m, x)),
    ];
    for (name, function) in all {
        let mut b = Builder::new(name);
        let (x, y) = (b.ro("x"), b.rw("y"));
        b.for_n(64, |b, strip| {
            let (from, to) = (b.index(x, strip, 64), b.index(y, strip, 64));
            let value = b.load_f(from, 0);
            let value = function(&mut Math::strips(b), value);
            b.store_f(to, 0, value);
        });
        let kernel = Compiled::new(b.finish());
        for image in Image::ALL {
            let mut values = image.floats(1024, 7);
            // Wider than the images alone: the ends of the range where exp overflows and vanishes.
            values.iter_mut().step_by(3).for_each(|value| *value *= 31.0);
            kernel.check(&[floats(&values), zeros(1024)], 0, 1);
        }
    }
}
