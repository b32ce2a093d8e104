//! Codes of one and two bits by int8 activations with 512-bit VNNI.
//!
//! One token of 2-bit codes: 4 rows times 4 bit fields keep an accumulator each; fields are masked in place, so that they
//! count 1, 4, 16 and 64 times, and the accumulators are shifted back at the end. Else: one accumulator per row and
//! token, fields shifted to a common scale, which the tokens share. The layout is read as one stream.

use iced_x86::IcedError;
use iced_x86::code_asm::registers::{gpr32::*, gpr64::*, zmm::*};
use iced_x86::code_asm::{AsmRegisterZmm, CodeAssembler, ptr, xmmword_ptr, zmmword_ptr};

use super::ZMM;
use crate::kernel::ir::{DotRows, Packing};

/// Bytes that the weight stream is fetched ahead of its use.
const PREFETCH: i32 = 4096;
/// Unroll up to this many blocks; more are a loop.
const UNROLL: u32 = 4;
/// Bytes of one quad's block: four rows of 64.
const QUAD_BLOCK: i32 = 256;

/// Machine code for a group of 16 rows of one or two bits, at least one block. Clobbers rax, rcx, rdi, rsi, r8 and
/// vector registers.
pub fn dot_rows(dot: DotRows) -> Result<Vec<u8>, IcedError> {
    assert!((1..=4).contains(&dot.tokens) && dot.blocks > 0, "a shape that the kernel verifier refuses");
    let mut a = CodeAssembler::new(64)?;
    a.set_prefer_vex(false);
    if dot.tokens == 1 && dot.packing == Packing::Codes2 {
        one_token(&mut a, dot.blocks)?
    } else {
        shared_fields(&mut a, dot)?
    }
    a.vzeroupper()?;
    a.ret()?;
    a.assemble(0)
}

/// Repeats `body(block offset in the weights, block offset in the activations)` over the blocks of a quad; rdi and r8
/// are the running pointers, `x_block` the activations of a block in bytes. Leaves rdi at the next quad.
fn over_blocks(
    a: &mut CodeAssembler,
    blocks: u32,
    x_block: i32,
    mut body: impl FnMut(&mut CodeAssembler, i32, i32) -> Result<(), IcedError>,
) -> Result<(), IcedError> {
    a.mov(r8, rsi)?;
    let unrolled = if blocks <= UNROLL {
        blocks
    } else if blocks.is_multiple_of(2) {
        2
    } else {
        1
    };
    let mut head = a.create_label();
    if unrolled < blocks {
        a.mov(ecx, (blocks / unrolled) as i32)?;
        a.set_label(&mut head)?;
    }
    for b in 0..unrolled as i32 {
        body(a, b * QUAD_BLOCK, b * x_block)?;
    }
    a.add(rdi, unrolled as i32 * QUAD_BLOCK)?;
    if unrolled < blocks {
        a.add(r8, unrolled as i32 * x_block)?;
        a.dec(ecx)?;
        a.jnz(head)?;
    }
    Ok(())
}

/// Runs `quad` four times, with rdx advanced by the 16 bytes of a quad's totals.
fn over_quads(
    a: &mut CodeAssembler,
    mut quad: impl FnMut(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), IcedError> {
    let mut head = a.create_label();
    a.mov(eax, 4)?;
    a.set_label(&mut head)?;
    quad(a)?;
    a.add(rdx, 16)?;
    a.dec(eax)?;
    a.jnz(head)
}

fn broadcast(a: &mut CodeAssembler, to: AsmRegisterZmm, byte: u8) -> Result<(), IcedError> {
    a.mov(ecx, i32::from_ne_bytes([byte; 4]))?;
    a.vpbroadcastd(to, ecx)
}

fn one_token(a: &mut CodeAssembler, blocks: u32) -> Result<(), IcedError> {
    let acc = |row: usize, field: usize| ZMM[4 * row + field];
    let (mask, activation, temporary) = (&ZMM[16..20], &ZMM[20..24], &ZMM[24..28]);
    for (field, &mask) in mask.iter().enumerate() {
        broadcast(a, mask, 3 << (2 * field))?;
    }
    over_quads(a, |a| {
        for &z in &ZMM[..16] {
            a.vpxord(z, z, z)?;
        }
        over_blocks(a, blocks, QUAD_BLOCK, |a, w, x| {
            for (field, &reg) in activation.iter().enumerate() {
                a.vmovdqu32(reg, zmmword_ptr(r8 + (x + 64 * field as i32)))?;
            }
            for row in 0..4 {
                let at = w + 64 * row as i32;
                a.prefetcht0(ptr(rdi + (at + PREFETCH)))?;
                for field in 0..4 {
                    a.vpandd(temporary[field], mask[field], zmmword_ptr(rdi + at))?;
                    a.vpdpbusd(acc(row, field), temporary[field], activation[field])?;
                }
            }
            Ok(())
        })?;
        for row in 0..4 {
            for field in 1..4 {
                a.vpsrad(acc(row, field), acc(row, field), 2 * field as u32)?;
            }
            a.vpaddd(acc(row, 0), acc(row, 0), acc(row, 1))?;
            a.vpaddd(acc(row, 2), acc(row, 2), acc(row, 3))?;
            a.vpaddd(acc(row, 0), acc(row, 0), acc(row, 2))?;
        }
        fold(a, [acc(0, 0), acc(1, 0), acc(2, 0), acc(3, 0)], [zmm28, zmm29], 0)
    })
}

fn shared_fields(a: &mut CodeAssembler, dot: DotRows) -> Result<(), IcedError> {
    let (tokens, fields, bits) = (dot.tokens as usize, dot.packing.fields() as i32, dot.packing.field_bits() as i32);
    let acc = |row: usize, token: usize| ZMM[4 * token + row];
    let (mask, activation, temporary) = (zmm16, &ZMM[17..21], &ZMM[21..25]);
    broadcast(a, mask, dot.packing.field_mask(0))?;
    over_quads(a, |a| {
        for &z in &ZMM[..4 * tokens] {
            a.vpxord(z, z, z)?;
        }
        over_blocks(a, dot.blocks, 64 * fields, |a, w, x| {
            for row in 0..4 {
                a.prefetcht0(ptr(rdi + (w + 64 * row + PREFETCH)))?;
            }
            for field in 0..fields {
                for (token, &reg) in activation[..tokens].iter().enumerate() {
                    a.vmovdqu32(reg, zmmword_ptr(r8 + (x + 64 * field + dot.stride as i32 * token as i32)))?;
                }
                for (row, &codes) in temporary.iter().enumerate() {
                    let source = zmmword_ptr(rdi + (w + 64 * row as i32));
                    if field == 0 {
                        a.vpandd(codes, mask, source)?;
                    } else {
                        a.vpsrlw(codes, source, (bits * field) as u32)?;
                        a.vpandd(codes, mask, codes)?;
                    }
                    for (token, &reg) in activation[..tokens].iter().enumerate() {
                        a.vpdpbusd(acc(row, token), codes, reg)?;
                    }
                }
            }
            Ok(())
        })?;
        for token in 0..tokens {
            let rows = [acc(0, token), acc(1, token), acc(2, token), acc(3, token)];
            fold(a, rows, [zmm25, zmm26], 64 * token as i32)?;
        }
        Ok(())
    })
}

/// Totals of four accumulators, stored as four i32 at rdx + `offset`.
fn fold(a: &mut CodeAssembler, r: [AsmRegisterZmm; 4], t: [AsmRegisterZmm; 2], offset: i32) -> Result<(), IcedError> {
    use iced_x86::code_asm::registers::{xmm::*, ymm::*};
    for (x, y) in [(r[0], r[1]), (r[2], r[3])] {
        a.vpunpckldq(t[0], x, y)?;
        a.vpunpckhdq(t[1], x, y)?;
        a.vpaddd(x, t[0], t[1])?;
    }
    a.vpunpcklqdq(t[0], r[0], r[2])?;
    a.vpunpckhqdq(t[1], r[0], r[2])?;
    a.vpaddd(zmm31, t[0], t[1])?;
    a.vextracti64x4(ymm30, zmm31, 1u32)?;
    a.vpaddd(ymm31, ymm31, ymm30)?;
    a.vextracti32x4(xmm30, ymm31, 1u32)?;
    a.vpaddd(xmm31, xmm31, xmm30)?;
    a.vmovdqu32(xmmword_ptr(rdx + offset), xmm31)
}
