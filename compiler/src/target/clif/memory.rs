//! Loads and stores, with the narrow and half-precision forms spelt out in baseline operations.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F32X4, I8, I8X16, I16, I16X8, I32, I32X4, I64};
use cranelift_codegen::ir::{BlockArg, InstBuilder, MemFlagsData, Type as ClifType, Value as Clif};
use smallvec::SmallVec;

use super::emit::{Emitter, Parts};
use crate::kernel::ir::Mem;

/// 2^112 as f32 bits: moves the exponent of a widened half float to its place.
const HALF_REBIAS: u32 = 0x7780_0000;

impl Emitter<'_, '_, '_> {
    fn pieces(&mut self, ty: ClifType, count: i32, flags: MemFlagsData, p: Clif, offset: i32) -> Parts {
        (0..count).map(|part| self.b.ins().load(ty, flags, p, offset + 16 * part)).collect()
    }

    /// Four floats from an address that is a multiple of 4.
    ///
    /// Cranelift folds a load that one comparison uses into the SSE form of `cmpps`, whose operand must lie at a multiple of
    /// 16, whatever the load's flags say. It folds no load through a cast, and no other SSE instruction gains by one.
    pub(super) fn load_floats(&mut self, flags: MemFlagsData, p: Clif, offset: i32) -> Clif {
        if self.target.any_alignment {
            return self.b.ins().load(F32X4, flags, p, offset);
        }
        let words = self.b.ins().load(I32X4, flags, p, offset);
        self.reinterpret(F32X4, words)
    }

    pub(super) fn load(&mut self, mem: Mem, flags: MemFlagsData, p: Clif, offset: i32) -> Parts {
        match mem {
            Mem::F32x16 => (0..4).map(|part| self.load_floats(flags, p, offset + 16 * part)).collect(),
            Mem::I32x16 => self.pieces(I32X4, 4, flags, p, offset),
            Mem::Bytes64 => self.pieces(I8X16, 4, flags.with_aligned(), p, offset),
            Mem::U16x16 => self.load_words(flags, p, offset),
            Mem::Bf16x16 => {
                let words = self.load_words(flags, p, offset);
                words
                    .iter()
                    .map(|&word| {
                        let bits = self.b.ins().ishl_imm_u(word, 16);
                        self.reinterpret(F32X4, bits)
                    })
                    .collect()
            }
            Mem::F16x16 => {
                let words = self.load_words(flags, p, offset);
                words.iter().map(|&word| self.half_to_float(word)).collect()
            }
            Mem::I8x16 | Mem::U8x16 => {
                let bytes = self.b.ins().load(I8X16, flags, p, offset);
                let signed = mem == Mem::I8x16;
                let mut parts = Parts::new();
                for half in 0..2 {
                    let words = match (signed, half) {
                        (true, 0) => self.b.ins().swiden_low(bytes),
                        (true, _) => self.b.ins().swiden_high(bytes),
                        (false, 0) => self.b.ins().uwiden_low(bytes),
                        (false, _) => self.b.ins().uwiden_high(bytes),
                    };
                    parts.push(self.b.ins().swiden_low(words));
                    parts.push(self.b.ins().swiden_high(words));
                }
                parts
            }
            _ => SmallVec::from_slice(&[self.load_scalar(mem, flags, p, offset)]),
        }
    }

    fn load_scalar(&mut self, mem: Mem, flags: MemFlagsData, p: Clif, offset: i32) -> Clif {
        match mem {
            Mem::F32 => self.b.ins().load(F32, flags, p, offset),
            Mem::I32 => self.b.ins().load(I32, flags, p, offset),
            Mem::I64 => self.b.ins().load(I64, flags, p, offset),
            Mem::I8 => {
                let byte = self.b.ins().load(I8, flags, p, offset);
                self.b.ins().sextend(I32, byte)
            }
            Mem::U8 => {
                let byte = self.b.ins().load(I8, flags, p, offset);
                self.b.ins().uextend(I32, byte)
            }
            Mem::Bf16 => {
                let word = self.load_scalar(Mem::U16, flags, p, offset);
                let bits = self.b.ins().ishl_imm_u(word, 16);
                self.b.ins().bitcast(F32, MemFlagsData::new(), bits)
            }
            Mem::F16 => {
                let word = self.load_scalar(Mem::U16, flags, p, offset);
                let word = self.b.ins().splat(I32X4, word);
                let float = self.half_to_float(word);
                self.b.ins().extractlane(float, 0u8)
            }
            _ => {
                let word = self.b.ins().load(I16, flags, p, offset);
                self.b.ins().uextend(I32, word)
            }
        }
    }

    /// 16 unsigned 16-bit numbers to four I32X4.
    fn load_words(&mut self, flags: MemFlagsData, p: Clif, offset: i32) -> Parts {
        let mut parts = Parts::new();
        for half in self.pieces(I16X8, 2, flags, p, offset) {
            parts.push(self.b.ins().uwiden_low(half));
            parts.push(self.b.ins().uwiden_high(half));
        }
        parts
    }

    /// Exact for every half float: the shifted magnitude times 2^112, with the exponent of infinities and
    /// NaNs completed and the sign put back.
    pub(super) fn half_to_float(&mut self, word: Clif) -> Clif {
        let magnitude = self.vconst_words(I32X4, [0x7fff; 4]);
        let magnitude = self.b.ins().band(word, magnitude);
        let shifted = self.b.ins().ishl_imm_u(magnitude, 13);
        let shifted = self.reinterpret(F32X4, shifted);
        let rebias = self.vconst_words(F32X4, [HALF_REBIAS; 4]);
        let scaled = self.b.ins().fmul(shifted, rebias);
        let scaled = self.reinterpret(I32X4, scaled);
        let finite = self.vconst_words(I32X4, [0x7bff; 4]);
        let special = self.b.ins().icmp(IntCC::SignedGreaterThan, magnitude, finite);
        let infinity = self.vconst_words(I32X4, [0x7f80_0000; 4]);
        let exponent = self.b.ins().band(special, infinity);
        let sign = self.b.ins().bxor(word, magnitude);
        let sign = self.b.ins().ishl_imm_u(sign, 16);
        let bits = self.b.ins().bor(scaled, exponent);
        let bits = self.b.ins().bor(bits, sign);
        self.reinterpret(F32X4, bits)
    }

    pub(super) fn store(&mut self, mem: Mem, flags: MemFlagsData, p: Clif, offset: i32, parts: &[Clif]) {
        let pieces: Parts = match mem {
            Mem::F32x16 | Mem::I32x16 | Mem::F32 | Mem::I32 | Mem::I64 => parts.into(),
            Mem::Bytes64 => {
                for (part, &value) in parts.iter().enumerate() {
                    self.b.ins().store(flags.with_aligned(), value, p, offset + 16 * part as i32);
                }
                return;
            }
            Mem::I8x16 => {
                let low = self.b.ins().snarrow(parts[0], parts[1]);
                let high = self.b.ins().snarrow(parts[2], parts[3]);
                SmallVec::from_slice(&[self.b.ins().snarrow(low, high)])
            }
            Mem::U8x16 => {
                let mask = self.vconst_words(I32X4, [0xff; 4]);
                let low: Parts = parts.iter().map(|&part| self.b.ins().band(part, mask)).collect();
                let halves = [(low[0], low[1]), (low[2], low[3])].map(|(a, b)| self.b.ins().snarrow(a, b));
                SmallVec::from_slice(&[self.b.ins().unarrow(halves[0], halves[1])])
            }
            Mem::U16x16 => {
                // Sign-extending the low half makes the saturating narrowing a truncation.
                let low: Parts = parts
                    .iter()
                    .map(|&part| {
                        let up = self.b.ins().ishl_imm_u(part, 16);
                        self.b.ins().sshr_imm_u(up, 16)
                    })
                    .collect();
                [(low[0], low[1]), (low[2], low[3])].map(|(a, b)| self.b.ins().snarrow(a, b)).into_iter().collect()
            }
            Mem::I8 | Mem::U8 => {
                self.b.ins().istore8(flags, parts[0], p, offset);
                return;
            }
            Mem::U16 => {
                self.b.ins().istore16(flags, parts[0], p, offset);
                return;
            }
            Mem::Bf16x16 | Mem::F16x16 | Mem::Bf16 | Mem::F16 => {
                unreachable!("the kernel was verified")
            }
        };
        for (part, &value) in pieces.iter().enumerate() {
            self.b.ins().store(flags, value, p, offset + 16 * part as i32);
        }
    }

    /// Stores through a stack buffer, so that nothing beyond the first `n` elements is touched.
    pub(super) fn store_first(&mut self, mem: Mem, p: Clif, offset: i32, parts: &[Clif], n: Clif) {
        let flags = MemFlagsData::new().with_notrap();
        let buffer = self.stack_buffer(64);
        self.store(mem, flags, buffer, 0, parts);
        let ty = match mem.element_bytes() {
            1 => I8,
            2 => I16,
            _ => I32,
        };
        let most = self.b.ins().iconst(I32, 16);
        let over = self.b.ins().icmp(IntCC::SignedGreaterThan, n, most);
        let n = self.b.ins().select(over, most, n);
        let (head, exit) = (self.b.create_block(), self.b.create_block());
        let zero = self.b.ins().iconst(I32, 0);
        let some = self.b.ins().icmp(IntCC::SignedGreaterThan, n, zero);
        let entering = [zero, buffer, p].map(BlockArg::from);
        self.b.ins().brif(some, head, &entering, exit, &[]);
        let index = self.b.append_block_param(head, I32);
        let (from, to) = (self.b.append_block_param(head, I64), self.b.append_block_param(head, I64));
        self.b.switch_to_block(head);
        let element = self.b.ins().load(ty, flags, from, 0);
        self.b.ins().store(flags, element, to, offset);
        let bytes = mem.element_bytes() as i64;
        let next = self.b.ins().iadd_imm_s(index, 1);
        let (from, to) = (self.b.ins().iadd_imm_s(from, bytes), self.b.ins().iadd_imm_s(to, bytes));
        let more = self.b.ins().icmp(IntCC::SignedLessThan, next, n);
        self.b.ins().brif(more, head, &[next, from, to].map(BlockArg::from), exit, &[]);
        self.b.switch_to_block(exit);
    }
}
