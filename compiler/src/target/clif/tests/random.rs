//! Random kernels: straight lines, loops and conditionals over every value type.

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Buffer, Compiled, Image, Input, bytes};
use crate::kernel::build::Builder;
use crate::kernel::ir::{Binary, Compare, Mem, Reduce, Shift, Type, Value};

struct Maker {
    rng: Xoshiro256PlusPlus,
    /// Values in scope.
    pool: Vec<Value>,
    x: Value,
}

impl Maker {
    fn below(&mut self, n: usize) -> usize {
        self.rng.next_u32() as usize % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = self.below(from.len());
        from[index]
    }

    fn any(&mut self, b: &mut Builder, ty: Type) -> Value {
        let fitting: Vec<Value> = self.pool.iter().copied().filter(|&value| b.ty(value) == ty).collect();
        if fitting.is_empty() || self.below(8) == 0 {
            let value = self.leaf(b, ty);
            self.pool.push(value);
            return value;
        }
        self.pick(&fitting)
    }

    fn leaf(&mut self, b: &mut Builder, ty: Type) -> Value {
        let offset = 4 * self.below(48) as i32;
        match ty {
            Type::F => {
                let mem = self.pick(&[Mem::F32x16, Mem::F16x16, Mem::Bf16x16]);
                b.load(mem, self.x, offset)
            }
            Type::I => {
                let mem = self.pick(&[Mem::I32x16, Mem::I8x16, Mem::U8x16, Mem::U16x16]);
                b.load(mem, self.x, offset)
            }
            Type::S => {
                let bits = self.rng.next_u32();
                if self.below(2) == 0 { b.load_s(self.x, offset) } else { b.const_s_bits(bits) }
            }
            Type::L => b.load(Mem::I64, self.x, offset),
            _ => {
                let value = self.rng.next_u32() as i32;
                if self.below(2) == 0 { b.load_n(self.x, offset) } else { b.const_n(value) }
            }
        }
    }

    /// One of two values, so that a float's NaN payload, which is not defined, never becomes an integer.
    fn bits(&mut self, b: &mut Builder, ty: Type) -> Value {
        let value = self.any(b, ty);
        let nan = b.ne(value, value);
        let canonical = b.float_like(value, 0x7fc0_0000);
        let value = b.select(nan, canonical, value);
        b.cast(value)
    }

    fn op(&mut self, b: &mut Builder) -> Value {
        let float = self.pick(&[Type::F, Type::S]);
        let int = self.pick(&[Type::I, Type::N, Type::L]);
        match self.below(11) {
            0..=2 => {
                use Binary::*;
                let op = self.pick(&[Add, Sub, Mul, Div, PMin, PMax]);
                let (x, y) = (self.any(b, float), self.any(b, float));
                b.binary(op, x, y)
            }
            3 | 4 => {
                use Binary::*;
                let all = [Add, Sub, Mul, SMin, SMax, And, Or, Xor, UDiv, URem];
                let op = self.pick(if int == Type::I { &all[..8] } else { &all });
                let (x, y) = (self.any(b, int), self.any(b, int));
                b.binary(op, x, y)
            }
            5 => {
                let op = self.pick(&[Shift::Left, Shift::RightS, Shift::RightU]);
                let (x, n) = (self.any(b, int), self.any(b, Type::N));
                if self.below(2) == 0 { b.shift(op, x, 7) } else { b.shift_by(op, x, n) }
            }
            6 => {
                let ty = self.pick(&[float, int]);
                let (x, y) = (self.any(b, ty), self.any(b, ty));
                use Compare::*;
                let all = [Eq, Ne, Lt, Le, LtU, LeU];
                let op = self.pick(if ty == float { &all[..4] } else { &all });
                let mask = b.compare(op, x, y);
                self.pool.push(mask);
                match ty {
                    Type::F | Type::I => b.select(mask, x, y),
                    _ => b.select(mask, y, x),
                }
            }
            7 => {
                let ty = self.pick(&[Type::I, Type::N]);
                let x = self.any(b, ty);
                if self.below(2) == 0 { b.convert(x) } else { b.cast(x) }
            }
            8 => self.bits(b, float),
            9 => {
                let op = self.pick(&[Reduce::Add, Reduce::PMin, Reduce::PMax]);
                let x = self.any(b, Type::F);
                let y = self.any(b, Type::I);
                let scalar = b.reduce(op, x);
                self.pool.push(scalar);
                let op = self.pick(&[Reduce::IAdd, Reduce::IMin, Reduce::IMax]);
                let scalar = b.reduce(op, y);
                b.splat(scalar)
            }
            _ => {
                let x = self.any(b, float);
                let magnitude = b.abs(x);
                b.sqrt(magnitude)
            }
        }
    }

    fn block(&mut self, b: &mut Builder, ops: usize, depth: usize) {
        for _ in 0..ops {
            let choice = self.below(12);
            if depth > 0 && choice == 0 {
                self.repeat(b, ops / 2, depth - 1);
            } else if depth > 0 && choice == 1 {
                self.branch(b, ops / 2, depth - 1);
            } else {
                let value = self.op(b);
                self.pool.push(value);
            }
        }
    }

    fn repeat(&mut self, b: &mut Builder, ops: usize, depth: usize) {
        let types = [Type::F, Type::N, Type::I, Type::S, Type::L];
        let inits: Vec<Value> = types.into_iter().map(|ty| self.any(b, ty)).collect();
        let count = self.below(4) as i32;
        let outer = self.pool.len();
        let results = b.fold_n(count, &inits, |b, index, carried| {
            self.pool.push(index);
            self.pool.extend_from_slice(carried);
            self.block(b, ops, depth);
            types.into_iter().map(|ty| self.any(b, ty)).collect()
        });
        self.pool.truncate(outer);
        self.pool.extend(results);
    }

    fn branch(&mut self, b: &mut Builder, ops: usize, depth: usize) {
        let types = [Type::I, Type::S, Type::F];
        let condition = self.any(b, Type::N);
        let outer = self.pool.len();
        // Both arms draw from the same maker, one after the other, so it is shared through a cell.
        let shared = std::cell::RefCell::new(self);
        let arm = |b: &mut Builder| {
            let mut maker = shared.borrow_mut();
            maker.block(b, ops, depth);
            let yields: Vec<Value> = types.into_iter().map(|ty| maker.any(b, ty)).collect();
            maker.pool.truncate(outer);
            yields
        };
        let results = b.if_else(condition, arm, arm);
        shared.borrow_mut().pool.extend(results);
    }
}

#[test]
fn random_kernels_agree() {
    for seed in 0..120 {
        let mut b = Builder::new(format!("random{seed}"));
        let (x, out) = (b.ro("x"), b.rw("out"));
        let rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut maker = Maker { rng, pool: Vec::new(), x };
        maker.block(&mut b, 24, 2);
        let mut offset = 0;
        for value in maker.pool.clone() {
            let mem = match b.ty(value) {
                Type::F => Mem::F32x16,
                Type::I => Mem::I32x16,
                Type::S => Mem::F32,
                Type::L => Mem::I64,
                _ => Mem::I32,
            };
            b.store(mem, out, offset, value);
            offset += 64;
        }
        let kernel = Compiled::new(b.finish());
        for image in Image::ALL {
            let mut data = Buffer::of_floats(&image.floats(80, seed));
            // Small integers too, so that comparisons and counts meet.
            let small = bytes(8, seed).into_iter().flat_map(|byte| i32::from(byte as i8 % 20).to_le_bytes());
            data.bytes_mut()[..32].copy_from_slice(&small.collect::<Vec<u8>>());
            let inputs = [Input::Bytes(data), Input::Bytes(Buffer::new(&vec![0; offset as usize]))];
            kernel.check(&inputs, 0, 1);
        }
    }
}
