//! Exact dot products of bytes in three forms with equal totals, and the expansion of row groups.

use cranelift_codegen::ir::types::{I8X16, I16X8, I32, I32X4};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value as Clif};
use smallvec::SmallVec;

use super::emit::{ACC_PARTS, Buffer, Emitter, Parts};
use super::isa::DotForm;
use crate::kernel::ir::{DotRows, Packing, Reduce};

impl Emitter<'_, '_, '_> {
    fn ones(&mut self) -> Clif {
        let mut bytes = [0; 16];
        bytes.iter_mut().step_by(2).for_each(|byte| *byte = 1);
        self.vconst(I16X8, bytes)
    }

    /// `pmaddwd`: pairs of 16-bit products summed to 32 bits.
    fn pair_products(&mut self, a: Clif, b: Clif) -> Clif {
        let (a_low, a_high) = (self.b.ins().swiden_low(a), self.b.ins().swiden_high(a));
        let (b_low, b_high) = (self.b.ins().swiden_low(b), self.b.ins().swiden_high(b));
        let low = self.b.ins().imul(a_low, b_low);
        let high = self.b.ins().imul(a_high, b_high);
        self.b.ins().iadd_pairwise(low, high)
    }

    /// `acc + w . x` on 16 bytes, w unsigned (at most 0xc0 in the `pmaddubsw` form) and x signed.
    fn dot_16(&mut self, acc: Clif, w: Clif, x: Clif) -> Clif {
        match self.target.dot {
            DotForm::Vnni => {
                // The shape that Cranelift knows as vpdpbusd.
                let (x_low, w_low) = (self.b.ins().swiden_low(x), self.b.ins().uwiden_low(w));
                let low = self.b.ins().imul(x_low, w_low);
                let (x_high, w_high) = (self.b.ins().swiden_high(x), self.b.ins().uwiden_high(w));
                let high = self.b.ins().imul(x_high, w_high);
                let sums = [low, high].map(|products| {
                    let a = self.b.ins().swiden_low(products);
                    let b = self.b.ins().swiden_high(products);
                    self.b.ins().iadd_pairwise(a, b)
                });
                let sum = self.b.ins().iadd_pairwise(sums[0], sums[1]);
                self.b.ins().iadd(sum, acc)
            }
            DotForm::Maddubs => {
                let pairs = self.b.ins().x86_pmaddubsw(x, w);
                let ones = self.ones();
                let sum = self.pair_products(pairs, ones);
                self.b.ins().iadd(acc, sum)
            }
            DotForm::Widen => {
                let (x_low, w_low) = (self.b.ins().swiden_low(x), self.b.ins().uwiden_low(w));
                let low = self.pair_products(x_low, w_low);
                let (x_high, w_high) = (self.b.ins().swiden_high(x), self.b.ins().uwiden_high(w));
                let high = self.pair_products(x_high, w_high);
                let sum = self.b.ins().iadd(low, high);
                self.b.ins().iadd(acc, sum)
            }
        }
    }

    fn dot_16_signed(&mut self, acc: Clif, w: Clif, x: Clif) -> Clif {
        let (x_low, w_low) = (self.b.ins().swiden_low(x), self.b.ins().swiden_low(w));
        let low = self.pair_products(x_low, w_low);
        let (x_high, w_high) = (self.b.ins().swiden_high(x), self.b.ins().swiden_high(w));
        let high = self.pair_products(x_high, w_high);
        let sum = self.b.ins().iadd(low, high);
        self.b.ins().iadd(acc, sum)
    }

    pub(super) fn dot_masked(&mut self, mut acc: Parts, w: &[Clif], mask: u8, x: &[Clif]) -> Parts {
        let mask = self.vconst(I8X16, [mask; 16]);
        for (part, (&w, &x)) in w.iter().zip(x).enumerate() {
            let field = self.b.ins().band(w, mask);
            let at = part % ACC_PARTS;
            acc[at] = self.dot_16(acc[at], field, x);
        }
        acc
    }

    pub(super) fn dot_signed(&mut self, mut acc: Parts, w: &[Clif], x: &[Clif]) -> Parts {
        for (part, (&w, &x)) in w.iter().zip(x).enumerate() {
            let at = part % ACC_PARTS;
            acc[at] = self.dot_16_signed(acc[at], w, x);
        }
        acc
    }

    /// Each partial sum is a multiple of its field's weight, so shifting it is as exact as shifting the total.
    pub(super) fn acc_fold(&mut self, accs: &[Parts], shifts: &[u8]) -> Clif {
        let mut sums = Parts::new();
        for (acc, &shift) in accs.iter().zip(shifts) {
            let sum = acc[1..].iter().fold(acc[0], |sum, &part| self.b.ins().iadd(sum, part));
            sums.push(if shift == 0 { sum } else { self.b.ins().sshr_imm_u(sum, i64::from(shift)) });
        }
        let total = sums[1..].iter().fold(sums[0], |total, &sum| self.b.ins().iadd(total, sum));
        let zero = self.vconst(I32X4, [0; 16]);
        self.reduce(Reduce::IAdd, &[total, zero, zero, zero])
    }

    /// The totals of a 16-row group: row after row, the blocks of a row in a loop.
    pub(super) fn dot_rows(&mut self, dot: DotRows, weights: Buffer, x: Buffer) -> Vec<Parts> {
        let out = self.stack_buffer(64 * dot.tokens);
        self.repeat(4, &[weights.0, out], |e, quad| {
            let rows = e.repeat(4, quad, |e, row| {
                let totals = e.dot_row(dot, (row[0], weights.1), x);
                let flags = MemFlagsData::new().with_notrap();
                for (token, total) in totals.into_iter().enumerate() {
                    e.b.ins().store(flags, total, row[1], 64 * token as i32);
                }
                vec![e.b.ins().iadd_imm_s(row[0], 64), e.b.ins().iadd_imm_s(row[1], 4)]
            });
            let next = e.b.ins().iadd_imm_s(quad[0], 4 * 64 * i64::from(dot.blocks));
            vec![next, rows[1]]
        });
        self.load_rows(I32X4, out, dot.tokens)
    }

    /// The totals of one row with each token.
    fn dot_row(&mut self, dot: DotRows, weights: Buffer, x: Buffer) -> Vec<Clif> {
        let masked = self.masks_fields(dot);
        let fields = if masked { dot.packing.fields() } else { 1 };
        // Eight fields fill the registers with one accumulator each.
        let parts = if fields > 4 { 1 } else { ACC_PARTS };
        let accs = if masked { fields } else { dot.tokens as usize };
        let zero = self.vconst(I32X4, [0; 16]);
        let mut carried = vec![weights.0, x.0];
        carried.extend(std::iter::repeat_n(zero, accs * parts));
        let result = self.repeat(dot.blocks, &carried, |e, now| {
            let mut accs: Vec<Clif> = now[2..].to_vec();
            let (w, x) = ((now[0], weights.1.with_aligned()), (now[1], x.1.with_aligned()));
            if masked {
                e.block_masked(dot, w, x, &mut accs);
            } else {
                e.block_scaled(dot, w, x, &mut accs);
            }
            let mut next = vec![
                e.b.ins().iadd_imm_s(now[0], 4 * 64),
                e.b.ins().iadd_imm_s(now[1], 64 * dot.packing.fields() as i64),
            ];
            next.append(&mut accs);
            next
        });
        let accs: Vec<Parts> = result[2..].chunks_exact(parts).map(SmallVec::from_slice).collect();
        if masked {
            let shift = |field: usize| (field * dot.packing.field_bits()) as u8;
            let shifts: Vec<u8> = (0..fields).map(shift).collect();
            vec![self.acc_fold(&accs, &shifts)]
        } else {
            accs.into_iter().map(|acc| self.acc_fold(&[acc], &[0])).collect()
        }
    }

    /// Whether fields are masked in place, each with its own accumulators. That saves shifts, but takes
    /// registers; otherwise fields share their sums.
    fn masks_fields(&self, dot: DotRows) -> bool {
        dot.tokens == 1 && dot.packing != Packing::Bytes8 && self.target.dot == DotForm::Vnni
    }

    fn block_masked(&mut self, dot: DotRows, w: Buffer, x: Buffer, accs: &mut [Clif]) {
        let parts = accs.len() / dot.packing.fields();
        for part in 0..4 {
            let packed = self.b.ins().load(I8X16, w.1, w.0, 16 * part);
            for field in 0..dot.packing.fields() {
                let mask = self.vconst(I8X16, [dot.packing.field_mask(field); 16]);
                let codes = self.b.ins().band(packed, mask);
                let x = self.b.ins().load(I8X16, x.1, x.0, 64 * field as i32 + 16 * part);
                let at = field * parts + part as usize % parts;
                accs[at] = self.dot_16(accs[at], codes, x);
            }
        }
    }

    fn block_scaled(&mut self, dot: DotRows, w: Buffer, x: Buffer, accs: &mut [Clif]) {
        let tokens = dot.tokens as usize;
        for part in 0..4 {
            let packed = self.b.ins().load(I8X16, w.1, w.0, 16 * part);
            // Sums of 16-bit pairs over all fields, at most 8 * 2 * 3 * 128: far from saturation, and with several
            // tokens faster than vpdpbusd, whose accumulators are chains.
            let mut pairs: Vec<Option<Clif>> = vec![None; tokens];
            for field in 0..dot.packing.fields() {
                let codes = self.field(dot.packing, packed, field);
                for (token, pairs) in pairs.iter_mut().enumerate() {
                    let offset = dot.stride as i32 * token as i32 + 64 * field as i32 + 16 * part;
                    let x = self.b.ins().load(I8X16, x.1, x.0, offset);
                    let acc = &mut accs[token * ACC_PARTS + part as usize % ACC_PARTS];
                    if dot.packing == Packing::Bytes8 {
                        *acc = self.dot_16_signed(*acc, codes, x);
                    } else if self.target.dot != DotForm::Widen {
                        let products = self.b.ins().x86_pmaddubsw(x, codes);
                        let sum = pairs.map(|sum| self.b.ins().iadd(sum, products));
                        *pairs = Some(sum.unwrap_or(products));
                    } else {
                        *acc = self.dot_16(*acc, codes, x);
                    }
                }
            }
            for (token, pairs) in pairs.into_iter().enumerate() {
                if let Some(pairs) = pairs {
                    let ones = self.ones();
                    let sum = self.pair_products(pairs, ones);
                    let acc = &mut accs[token * ACC_PARTS + part as usize % ACC_PARTS];
                    *acc = self.b.ins().iadd(*acc, sum);
                }
            }
        }
    }

    /// A field of packed bytes, shifted down to its own scale.
    fn field(&mut self, packing: Packing, packed: Clif, field: usize) -> Clif {
        if packing == Packing::Bytes8 {
            return packed;
        }
        let shifted = if field == 0 {
            packed
        } else {
            let words = self.reinterpret(I16X8, packed);
            let amount = self.b.ins().iconst(I32, (field * packing.field_bits()) as i64);
            let words = self.b.ins().ushr(words, amount);
            self.reinterpret(I8X16, words)
        };
        let mask = self.vconst(I8X16, [packing.field_mask(0); 16]);
        self.b.ins().band(shifted, mask)
    }
}
