//! Bits and floats by f32 activations with 512-bit registers: one register holds the 16 partial sums of a row and token.
//!
//! One token: 16 rows (8 of floats) at a time, each strip of activations loaded once for all of them. More tokens: 4
//! rows at a time. Bits are masks of additions: additions and multiply-adds with 1, which round alike, take turns, since
//! each kind has pipes of its own. Products of floats are rounded before they are added, as everywhere.

use iced_x86::IcedError;
use iced_x86::code_asm::registers::{gpr32::*, gpr64::*, k::*, xmm::*, ymm::*, zmm::*};
use iced_x86::code_asm::{
    AsmRegisterK, AsmRegisterXmm, AsmRegisterYmm, AsmRegisterZmm, CodeAssembler, ptr, word_ptr, xmmword_ptr,
    ymmword_ptr, zmmword_ptr,
};

use super::ZMM;
use crate::kernel::ir::{FloatRows, LANES, RowElement};

/// Strips of 16 columns in one round of the loop.
const UNROLL: u32 = 4;

const YMM: [AsmRegisterYmm; 28] = [
    ymm0, ymm1, ymm2, ymm3, ymm4, ymm5, ymm6, ymm7, ymm8, ymm9, ymm10, ymm11, ymm12, ymm13, ymm14, ymm15, ymm16, ymm17,
    ymm18, ymm19, ymm20, ymm21, ymm22, ymm23, ymm24, ymm25, ymm26, ymm27,
];
const XMM: [AsmRegisterXmm; 28] = [
    xmm0, xmm1, xmm2, xmm3, xmm4, xmm5, xmm6, xmm7, xmm8, xmm9, xmm10, xmm11, xmm12, xmm13, xmm14, xmm15, xmm16, xmm17,
    xmm18, xmm19, xmm20, xmm21, xmm22, xmm23, xmm24, xmm25, xmm26, xmm27,
];
/// Row masks take turns; k7 is the mask of the tail.
const MASKS: [AsmRegisterK; 6] = [k1, k2, k3, k4, k5, k6];

/// The activations of a strip, one register per token.
const X: usize = 16;
/// Rows of floats, and their products.
const TEMPORARY: usize = 21;
/// For bits, the sums of the activations themselves, one register per token.
const SUMS: usize = 24;
const ONE: AsmRegisterZmm = zmm30;

struct Form {
    rows: FloatRows,
    /// Rows computed at once; a multiple of 4.
    together: usize,
}

/// Machine code for a group of 16 rows. Clobbers rax, rcx, rdi, r8 to r10, masks and vector
/// registers.
pub fn float_rows(rows: FloatRows) -> Result<Vec<u8>, IcedError> {
    assert!((1..=4).contains(&rows.tokens), "a shape that the kernel verifier refuses");
    let together = match (rows.tokens, rows.element) {
        (1, RowElement::Sign) => 16,
        (1, _) => 8,
        _ => 4,
    };
    let form = Form { rows, together };
    let mut a = CodeAssembler::new(64)?;
    a.set_prefer_vex(false);
    form.constants(&mut a)?;
    let mut passes = LANES / together;
    if form.bits() {
        form.pass(&mut a, true)?;
        passes -= 1;
    }
    if passes > 0 {
        let mut head = a.create_label();
        a.mov(eax, passes as i32)?;
        a.set_label(&mut head)?;
        form.pass(&mut a, false)?;
        a.dec(eax)?;
        a.jnz(head)?;
    }
    a.vzeroupper()?;
    a.ret()?;
    a.assemble(0)
}

impl Form {
    fn tokens(&self) -> usize {
        self.rows.tokens as usize
    }

    fn accumulators(&self) -> usize {
        self.together * self.tokens()
    }

    fn accumulator(&self, row: usize, token: usize) -> usize {
        row * self.tokens() + token
    }

    fn bits(&self) -> bool {
        self.rows.element == RowElement::Sign
    }

    fn constants(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        if self.bits() {
            a.mov(ecx, 1.0f32.to_bits().cast_signed())?;
            a.vpbroadcastd(ONE, ecx)?;
        }
        if self.rows.tail() > 0 {
            a.mov(ecx, (1 << self.rows.tail()) - 1)?;
            a.kmovw(k7, ecx)?;
        }
        Ok(())
    }

    /// The rows from rdi, which ends behind them, and the totals at rdx. The first pass over bits also makes the sums of
    /// the activations.
    fn pass(&self, a: &mut CodeAssembler, sums: bool) -> Result<(), IcedError> {
        let sums = if sums { &ZMM[SUMS..SUMS + self.tokens()] } else { &[] };
        for &z in ZMM[..self.accumulators()].iter().chain(sums) {
            a.vpxord(z, z, z)?;
        }
        self.columns(a, !sums.is_empty())?;
        if !sums.is_empty() {
            self.fold_sums(a)?;
        }
        self.totals(a)?;
        if self.together < LANES {
            a.add(rdi, (self.together as u32 * self.rows.row_stride) as i32)?;
            a.add(rdx, (4 * self.together) as i32)?;
        }
        Ok(())
    }

    /// All columns of the rows from rdi. r8 and r9 run along weights and activations, r10 along the rows behind.
    fn columns(&self, a: &mut CodeAssembler, sums: bool) -> Result<(), IcedError> {
        let step = self.rows.element.strip_bytes() as i32;
        a.mov(r8, rdi)?;
        a.mov(r9, rsi)?;
        a.lea(r10, ptr(rdi + (self.together as u32 * self.rows.row_stride) as i32))?;
        let (rounds, rest) = (self.rows.strips() / UNROLL, self.rows.strips() % UNROLL);
        if rounds > 0 {
            let mut head = a.create_label();
            a.mov(ecx, rounds as i32)?;
            a.set_label(&mut head)?;
            // The next rows lie behind these: each round fetches its share of them.
            let bytes = UNROLL as i32 * step * self.together as i32;
            for line in 0..(bytes + 63) / 64 {
                a.prefetcht1(ptr(r10 + 64 * line))?;
            }
            a.add(r10, bytes)?;
            for strip in 0..UNROLL as i32 {
                self.strip(a, (strip * step, 64 * strip), false, sums)?;
            }
            a.add(r8, UNROLL as i32 * step)?;
            a.add(r9, UNROLL as i32 * 64)?;
            a.dec(ecx)?;
            a.jnz(head)?;
        }
        for strip in 0..rest as i32 {
            self.strip(a, (strip * step, 64 * strip), false, sums)?;
        }
        if self.rows.tail() > 0 {
            self.strip(a, (rest as i32 * step, 64 * rest as i32), true, sums)?;
        }
        Ok(())
    }

    /// 16 columns. Behind the last column activations count as +0, which no partial sum notices.
    fn strip(&self, a: &mut CodeAssembler, (w, x): (i32, i32), tail: bool, sums: bool) -> Result<(), IcedError> {
        for token in 0..self.tokens() {
            let register = if tail { ZMM[X + token].k7().z() } else { ZMM[X + token] };
            a.vmovups(register, zmmword_ptr(r9 + (x + token as i32 * self.rows.stride as i32)))?;
            if sums {
                a.vaddps(ZMM[SUMS + token], ZMM[SUMS + token], ZMM[X + token])?;
            }
        }
        let bits = self.bits();
        for row in 0..self.together {
            let at = w + row as i32 * self.rows.row_stride as i32;
            let mask = MASKS[row % MASKS.len()];
            let temporary = ZMM[TEMPORARY + row % 4];
            if bits {
                a.kmovw(mask, word_ptr(r8 + at))?;
            } else {
                self.floats(a, temporary, at, tail)?;
            }
            for token in 0..self.tokens() {
                let sum = ZMM[self.accumulator(row, token)];
                let x = ZMM[X + token];
                if bits && (row + token).is_multiple_of(2) {
                    a.vaddps(masked(sum, mask), sum, x)?;
                } else if bits {
                    a.vfmadd231ps(masked(sum, mask), x, ONE)?;
                } else {
                    let product = ZMM[TEMPORARY + 4 + token];
                    a.vmulps(product, temporary, x)?;
                    a.vaddps(sum, sum, product)?;
                }
            }
        }
        Ok(())
    }

    /// 16 columns of a row as floats.
    fn floats(&self, a: &mut CodeAssembler, to: AsmRegisterZmm, at: i32, tail: bool) -> Result<(), IcedError> {
        let register = if tail { to.k7().z() } else { to };
        match self.rows.element {
            RowElement::Sign => unreachable!("bits are masks"),
            RowElement::F32 => a.vmovups(register, zmmword_ptr(r8 + at)),
            RowElement::F16 => a.vcvtph2ps(register, ymmword_ptr(r8 + at)),
            RowElement::Bf16 => {
                a.vpmovzxwd(register, ymmword_ptr(r8 + at))?;
                a.vpslld(to, to, 16u32)
            }
        }
    }

    /// Folds the sums of the activations and repeats each in all lanes.
    fn fold_sums(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        for token in 0..self.tokens() {
            let (y, x) = (YMM[SUMS + token], XMM[SUMS + token]);
            a.vextractf64x4(ymm16, ZMM[SUMS + token], 1u32)?;
            a.vaddps(y, y, ymm16)?;
            a.vextractf32x4(xmm16, y, 1u32)?;
            a.vaddps(x, x, xmm16)?;
            a.vmovhlps(xmm16, x, x)?;
            a.vaddps(x, x, xmm16)?;
            a.vmovshdup(xmm16, x)?;
            a.vaddps(x, x, xmm16)?;
            a.vbroadcastss(x, x)?;
        }
        Ok(())
    }

    /// Folds the accumulators, lane i with i + 8, then i + 4, i + 2 and i + 1, four rows at a time, and stores a float
    /// per row at rdx for each token.
    fn totals(&self, a: &mut CodeAssembler) -> Result<(), IcedError> {
        for token in 0..self.tokens() {
            for quad in 0..self.together / 4 {
                let sums: [usize; 4] = std::array::from_fn(|i| self.accumulator(4 * quad + i, token));
                for &sum in &sums {
                    a.vextractf64x4(ymm16, ZMM[sum], 1u32)?;
                    a.vaddps(YMM[sum], YMM[sum], ymm16)?;
                    a.vextractf32x4(xmm16, YMM[sum], 1u32)?;
                    a.vaddps(XMM[sum], XMM[sum], xmm16)?;
                }
                let [r0, r1, r2, r3] = sums.map(|sum| XMM[sum]);
                // Lanes 0 and 1 of each row, then 2 and 3.
                a.vunpcklps(xmm16, r0, r1)?;
                a.vunpcklps(xmm17, r2, r3)?;
                a.vunpckhps(xmm18, r0, r1)?;
                a.vunpckhps(xmm19, r2, r3)?;
                a.vmovlhps(xmm20, xmm16, xmm17)?;
                a.vmovhlps(xmm21, xmm17, xmm16)?;
                a.vmovlhps(xmm22, xmm18, xmm19)?;
                a.vmovhlps(xmm23, xmm19, xmm18)?;
                a.vaddps(xmm20, xmm20, xmm22)?;
                a.vaddps(xmm21, xmm21, xmm23)?;
                a.vaddps(xmm20, xmm20, xmm21)?;
                if self.bits() {
                    a.vaddps(xmm20, xmm20, xmm20)?;
                    a.vsubps(xmm20, xmm20, XMM[SUMS + token])?;
                }
                a.vmovups(xmmword_ptr(rdx + (64 * token as i32 + 16 * quad as i32)), xmm20)?;
            }
        }
        Ok(())
    }
}

fn masked(register: AsmRegisterZmm, mask: AsmRegisterK) -> AsmRegisterZmm {
    match MASKS.iter().position(|&m| m == mask) {
        Some(0) => register.k1(),
        Some(1) => register.k2(),
        Some(2) => register.k3(),
        Some(3) => register.k4(),
        Some(4) => register.k5(),
        _ => register.k6(),
    }
}
