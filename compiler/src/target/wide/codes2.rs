//! 2-bit codes by int8 activations with 512-bit VNNI.
//!
//! One token: 4 rows times 4 bit fields keep an accumulator each; fields are masked in place, so that they count 1, 4,
//! 16 and 64 times, and the accumulators are shifted back at the end. More tokens: one accumulator per row and
//! token, fields shifted to a common scale, which the tokens share. The layout is read as one stream.

use iced_x86::IcedError;
use iced_x86::code_asm::registers::{gpr32::*, gpr64::*, zmm::*};
use iced_x86::code_asm::{AsmRegisterZmm, CodeAssembler, ptr, xmmword_ptr, zmmword_ptr};

/// Bytes that the weight stream is fetched ahead of its use.
const PREFETCH: i32 = 4096;
/// Unroll up to this many blocks; more are a loop.
const UNROLL: u32 = 4;
/// Bytes of one quad's block: four rows of 64.
const QUAD_BLOCK: i32 = 256;

const ZMM: [AsmRegisterZmm; 32] = [
    zmm0, zmm1, zmm2, zmm3, zmm4, zmm5, zmm6, zmm7, zmm8, zmm9, zmm10, zmm11, zmm12, zmm13, zmm14, zmm15, zmm16, zmm17,
    zmm18, zmm19, zmm20, zmm21, zmm22, zmm23, zmm24, zmm25, zmm26, zmm27, zmm28, zmm29, zmm30, zmm31,
];

/// Machine code for 16 rows of `blocks` 64-byte blocks by 1 to 4 activation vectors `stride` bytes apart. Needs
/// AVX512F, AVX512BW and AVX512-VNNI. Clobbers rax, rcx, rdi, rsi, r8 and vector registers.
pub fn dot_rows_codes2(blocks: u32, tokens: u32, stride: u32) -> Result<Vec<u8>, IcedError> {
    assert!((1..=4).contains(&tokens) && blocks > 0, "a shape that the kernel verifier refuses");
    let mut a = CodeAssembler::new(64)?;
    a.set_prefer_vex(false);
    if tokens == 1 {
        one_token(&mut a, blocks)?
    } else {
        more_tokens(&mut a, blocks, tokens as usize, stride as i32)?
    }
    a.vzeroupper()?;
    a.ret()?;
    a.assemble(0)
}

/// Repeats `body(block offset in the weights, block offset in the activations)` over the blocks of a quad; rdi and r8
/// are the running pointers. Leaves rdi at the next quad.
fn over_blocks(
    a: &mut CodeAssembler,
    blocks: u32,
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
        body(a, b * QUAD_BLOCK, b * QUAD_BLOCK)?;
    }
    a.add(rdi, unrolled as i32 * QUAD_BLOCK)?;
    if unrolled < blocks {
        a.add(r8, unrolled as i32 * QUAD_BLOCK)?;
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
        over_blocks(a, blocks, |a, w, x| {
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

fn more_tokens(a: &mut CodeAssembler, blocks: u32, tokens: usize, stride: i32) -> Result<(), IcedError> {
    let acc = |row: usize, token: usize| ZMM[4 * token + row];
    let (mask, activation, temporary) = (zmm16, &ZMM[17..21], &ZMM[21..25]);
    broadcast(a, mask, 3)?;
    over_quads(a, |a| {
        for &z in &ZMM[..4 * tokens] {
            a.vpxord(z, z, z)?;
        }
        over_blocks(a, blocks, |a, w, x| {
            for row in 0..4 {
                a.prefetcht0(ptr(rdi + (w + 64 * row + PREFETCH)))?;
            }
            for field in 0..4 {
                for (token, &reg) in activation[..tokens].iter().enumerate() {
                    a.vmovdqu32(reg, zmmword_ptr(r8 + (x + 64 * field + stride * token as i32)))?;
                }
                for (row, &codes) in temporary.iter().enumerate() {
                    let source = zmmword_ptr(rdi + (w + 64 * row as i32));
                    if field == 0 {
                        a.vpandd(codes, mask, source)?;
                    } else {
                        a.vpsrlw(codes, source, 2 * field as u32)?;
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

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// Deterministic bytes.
    fn bytes(n: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn totals_equal_the_definition() {
        if !(is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni")) {
            return;
        }
        for blocks in 1..=9u32 {
            for tokens in 1..=4u32 {
                let stride = blocks * 256 + 64;
                let code = dot_rows_codes2(blocks, tokens, stride).unwrap();
                let mut map = memmap2::MmapMut::map_anon(code.len()).unwrap();
                map.copy_from_slice(&code);
                let map = map.make_exec().unwrap();
                // SAFETY: the bytes are a function of this convention, and the pages are executable.
                let function: unsafe extern "sysv64" fn(*const u8, *const i8, *mut i32) =
                    unsafe { std::mem::transmute(map.as_ptr()) };
                // Each field is 0, 1 or 2; activations reach both ends of their range.
                let weights: Vec<u8> = bytes(16 * 64 * blocks as usize, 7)
                    .into_iter()
                    .map(|b| (0..4).map(|f| ((b >> (2 * f)) & 3).min(2) << (2 * f)).sum())
                    .collect();
                let activations: Vec<i8> =
                    bytes((tokens * stride) as usize, 11).into_iter().map(|b| (b as i8).max(-127)).collect();
                let mut totals = vec![0i32; 16 * tokens as usize];
                // SAFETY: all three are as large as the function reads and writes.
                unsafe { function(weights.as_ptr(), activations.as_ptr(), totals.as_mut_ptr()) };
                for token in 0..tokens as usize {
                    for row in 0..16usize {
                        let mut expected = 0i32;
                        for b in 0..blocks as usize {
                            for j in 0..64 {
                                let w = weights[(row / 4 * blocks as usize + b) * 256 + row % 4 * 64 + j];
                                for f in 0..4 {
                                    let x = activations[token * stride as usize + 256 * b + 64 * f + j];
                                    expected += i32::from((w >> (2 * f)) & 3) * i32::from(x);
                                }
                            }
                        }
                        assert_eq!(totals[16 * token + row], expected, "{blocks} blocks, token {token}, row {row}");
                    }
                }
            }
        }
    }
}
