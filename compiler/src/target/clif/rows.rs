//! Products of 16 rows: calls of assembled functions, and the float products in 128-bit registers.
//!
//! Of the latter, a quarter of the 16 partial sums at a time, so that the sums of several rows and tokens stay in registers; the
//! quarters are folded at the end. Bits choose what is added; the sums of all activations are made once beside.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{F32, F32X4, I16, I32, I32X4};
use cranelift_codegen::ir::{FuncRef, InstBuilder, MemFlagsData, Type as ClifType, Value as Clif};

use super::emit::{Buffer, Emitter, Parts};
use crate::kernel::ir::{FloatRows, LANES, Reduce, RowElement};

/// Lanes of a 128-bit register.
const PART: usize = 4;
const PARTS: usize = LANES / PART;
/// Accumulators that leave room for weights, activations and constants in 16 registers.
const ACCUMULATORS: u32 = 8;

/// What the lanes of a quarter are computed with: everything that changes along a row.
struct Place {
    /// The quarter.
    part: usize,
    /// Lanes that count in the tail; none in whole strips.
    mask: Option<Clif>,
}

impl Emitter<'_, '_, '_> {
    /// The totals of a 16-row group by an assembled function.
    pub(super) fn wide_rows(
        &mut self,
        function: FuncRef,
        ty: ClifType,
        tokens: u32,
        weights: Clif,
        x: Clif,
    ) -> Vec<Parts> {
        let out = self.stack_buffer(64 * tokens);
        self.b.ins().call(function, &[weights, x, out]);
        self.load_rows(ty, out, tokens)
    }

    /// 16 totals per token from memory.
    pub(super) fn load_rows(&mut self, ty: ClifType, out: Clif, tokens: u32) -> Vec<Parts> {
        let flags = MemFlagsData::new().with_notrap();
        (0..tokens as i32)
            .map(|token| (0..4).map(|part| self.b.ins().load(ty, flags, out, 64 * token + 16 * part)).collect())
            .collect()
    }

    /// The sums of a 16-row group with each token.
    pub(super) fn float_rows(&mut self, rows: FloatRows, weights: Buffer, x: Buffer) -> Vec<Parts> {
        let row_partials = 64 * rows.tokens as i32;
        let partials = self.stack_buffer((row_partials * LANES as i32) as u32);
        let together = (ACCUMULATORS / rows.tokens).clamp(1, 4).next_power_of_two().min(4);
        self.repeat(LANES as u32 / together, &[weights.0, partials], |e, now| {
            for part in 0..PARTS {
                let sums = e.quarter(rows, together, part, (now[0], weights.1), x);
                for (at, sum) in sums.into_iter().enumerate() {
                    let flags = MemFlagsData::new().with_notrap();
                    e.b.ins().store(flags, sum, now[1], 64 * at as i32 + 16 * part as i32);
                }
            }
            let stride = i64::from(rows.row_stride) * i64::from(together);
            let partials = i64::from(row_partials) * i64::from(together);
            vec![e.b.ins().iadd_imm_s(now[0], stride), e.b.ins().iadd_imm_s(now[1], partials)]
        });
        let sums = if rows.element == RowElement::Sign { self.vector_sums(rows, x) } else { Vec::new() };
        self.fold_rows(rows.tokens, partials, &sums)
    }

    /// The sum of each token's activations.
    fn vector_sums(&mut self, rows: FloatRows, x: Buffer) -> Vec<Clif> {
        (0..rows.tokens as i32)
            .map(|token| {
                let offset = token * rows.stride as i32;
                let zero = self.vconst(F32X4, [0; 16]);
                let mut carried = vec![x.0];
                carried.extend([zero; PARTS]);
                let mut now = self.repeat(rows.strips(), &carried, |e, now| {
                    let mut next = vec![e.b.ins().iadd_imm_s(now[0], 4 * LANES as i64)];
                    for (part, &sum) in now[1..].iter().enumerate() {
                        let x = e.load_floats(x.1, now[0], offset + 16 * part as i32);
                        next.push(e.b.ins().fadd(sum, x));
                    }
                    next
                });
                for part in 0..PARTS {
                    if let Some(mask) = self.tail_mask(rows, part) {
                        let x = self.load_floats(x.1, now[0], offset + 16 * part as i32);
                        let x = self.kept(x, mask);
                        now[1 + part] = self.b.ins().fadd(now[1 + part], x);
                    }
                }
                self.reduce(Reduce::Add, &now[1..].iter().copied().collect::<Parts>())
            })
            .collect()
    }

    /// The lanes of a quarter that the tail has; none if it has none of them.
    fn tail_mask(&mut self, rows: FloatRows, part: usize) -> Option<Clif> {
        let left = (rows.tail() as usize).saturating_sub(part * PART).min(PART);
        let lanes = std::array::from_fn(|lane| if lane < left { u32::MAX } else { 0 });
        (left > 0).then(|| self.vconst_words(I32X4, lanes))
    }

    /// The lanes of a mask, +0 elsewhere.
    fn kept(&mut self, x: Clif, mask: Clif) -> Clif {
        let bits = self.reinterpret(I32X4, x);
        let bits = self.b.ins().band(bits, mask);
        self.reinterpret(F32X4, bits)
    }

    /// One quarter of the partial sums of some rows, tokens innermost.
    fn quarter(&mut self, rows: FloatRows, together: u32, part: usize, weights: Buffer, x: Buffer) -> Vec<Clif> {
        let zero = self.vconst(F32X4, [0; 16]);
        let mut carried = vec![weights.0, x.0];
        carried.extend(std::iter::repeat_n(zero, (together * rows.tokens) as usize));
        let mut now = self.repeat(rows.strips(), &carried, |e, now| {
            let place = Place { part, mask: None };
            let sums = e.strip(rows, &place, (now[0], weights.1), (now[1], x.1), &now[2..]);
            let mut next = vec![
                e.b.ins().iadd_imm_s(now[0], rows.element.strip_bytes() as i64),
                e.b.ins().iadd_imm_s(now[1], 4 * LANES as i64),
            ];
            next.extend(sums);
            next
        });
        if let Some(mask) = self.tail_mask(rows, part) {
            let place = Place { part, mask: Some(mask) };
            return self.strip(rows, &place, (now[0], weights.1), (now[1], x.1), &now[2..]);
        }
        now.split_off(2)
    }

    fn strip(&mut self, rows: FloatRows, place: &Place, weights: Buffer, x: Buffer, sums: &[Clif]) -> Vec<Clif> {
        let mut next = Vec::new();
        let values: Vec<Clif> = (0..rows.tokens as i32)
            .map(|token| {
                let offset = token * rows.stride as i32 + 16 * place.part as i32;
                self.load_floats(x.1, x.0, offset)
            })
            .collect();
        for (row, sums) in sums.chunks_exact(rows.tokens as usize).enumerate() {
            let offset = row as i32 * rows.row_stride as i32;
            let w = self.row_quarter(rows.element, place.part, weights, offset);
            for (&x, &sum) in values.iter().zip(sums) {
                let mut product = match rows.element {
                    RowElement::Sign => self.kept(x, w),
                    _ => self.b.ins().fmul(w, x),
                };
                if let Some(mask) = place.mask {
                    product = self.kept(product, mask);
                }
                next.push(self.b.ins().fadd(sum, product));
            }
        }
        next
    }

    /// Four columns of a row as floats; of bits, the mask of those that are set.
    fn row_quarter(&mut self, element: RowElement, part: usize, weights: Buffer, offset: i32) -> Clif {
        let (pointer, flags) = weights;
        match element {
            RowElement::Sign => {
                let word = self.b.ins().load(I16, flags, pointer, offset);
                let word = self.b.ins().uextend(I32, word);
                let word = self.b.ins().splat(I32X4, word);
                let bits = std::array::from_fn(|lane| 1 << (PART * part + lane));
                let bits = self.vconst_words(I32X4, bits);
                let bit = self.b.ins().band(word, bits);
                self.b.ins().icmp(IntCC::Equal, bit, bits)
            }
            RowElement::F32 => self.load_floats(flags, pointer, offset + 16 * part as i32),
            RowElement::F16 | RowElement::Bf16 => {
                let words = self.b.ins().uload16x4(flags, pointer, offset + 8 * part as i32);
                if element == RowElement::F16 {
                    return self.half_to_float(words);
                }
                let bits = self.b.ins().ishl_imm_u(words, 16);
                self.reinterpret(F32X4, bits)
            }
        }
    }

    /// Folds the partial sums of 16 rows to a total per row: of bits, twice the sum less that of the token's activations.
    fn fold_rows(&mut self, tokens: u32, partials: Clif, sums: &[Clif]) -> Vec<Parts> {
        let out = self.stack_buffer(64 * tokens);
        let flags = MemFlagsData::new().with_notrap();
        self.repeat(LANES as u32, &[partials, out], |e, now| {
            for token in 0..tokens as i32 {
                let parts: Parts =
                    (0..PARTS as i32).map(|p| e.b.ins().load(F32X4, flags, now[0], 64 * token + 16 * p)).collect();
                let mut total = e.reduce(Reduce::Add, &parts);
                debug_assert_eq!(e.b.func.dfg.value_type(total), F32);
                if let Some(&sum) = sums.get(token as usize) {
                    let twice = e.b.ins().fadd(total, total);
                    total = e.b.ins().fsub(twice, sum);
                }
                e.b.ins().store(flags, total, now[1], 64 * token);
            }
            vec![e.b.ins().iadd_imm_s(now[0], 64 * i64::from(tokens)), e.b.ins().iadd_imm_s(now[1], 4)]
        });
        self.load_rows(F32X4, out, tokens)
    }
}
