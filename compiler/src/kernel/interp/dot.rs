//! Exact dot products of bytes.

use super::memory::{Memory, Pointer, Trap};
use crate::kernel::ir::{DotRows, LANES, Packing, STRIP_BYTES};

type Bytes = [u8; STRIP_BYTES];

/// `acc + sum (w & mask) * x`, w unsigned and x signed.
pub fn masked(acc: i32, w: &Bytes, mask: u8, x: &Bytes) -> Result<i32, Trap> {
    let products = w.iter().zip(x).map(|(&w, &x)| i32::from(w & mask) * i32::from(x as i8));
    acc.checked_add(products.sum()).ok_or(Trap::DotOverflow)
}

/// `acc + sum w * x`, both signed.
pub fn signed(acc: i32, w: &Bytes, x: &Bytes) -> Result<i32, Trap> {
    let products = w.iter().zip(x).map(|(&w, &x)| i32::from(w as i8) * i32::from(x as i8));
    acc.checked_add(products.sum()).ok_or(Trap::DotOverflow)
}

/// The totals of the 16 rows of a group with one token.
pub fn rows(
    memory: &Memory<'_>,
    dot: &DotRows,
    weights: Pointer,
    activations: Pointer,
    token: u32,
) -> Result<[i32; LANES], Trap> {
    let blocks = dot.blocks as usize;
    let fields = dot.packing.fields();
    if weights.offset % 64 != 0 || activations.offset % 64 != 0 {
        return Err(Trap::Misaligned(weights.region, weights.offset));
    }
    let packed = memory.read(weights, 0, LANES * blocks * STRIP_BYTES)?;
    let start =
        Pointer { region: activations.region, offset: activations.offset + i64::from(token) * i64::from(dot.stride) };
    let x = memory.read(start, 0, blocks * fields * STRIP_BYTES)?;
    let mut totals = [0i32; LANES];
    for (row, total) in totals.iter_mut().enumerate() {
        let quad = &packed[row / 4 * 4 * blocks * STRIP_BYTES..];
        let mut sum = 0i64;
        for block in 0..blocks {
            let bytes = &quad[(4 * block + row % 4) * STRIP_BYTES..][..STRIP_BYTES];
            for field in 0..fields {
                let x = &x[(block * fields + field) * STRIP_BYTES..][..STRIP_BYTES];
                let part: i32 = match dot.packing {
                    Packing::Bytes8 => {
                        bytes.iter().zip(x).map(|(&w, &x)| i32::from(w as i8) * i32::from(x as i8)).sum()
                    }
                    _ => {
                        let mask = dot.packing.field_mask(field);
                        let shift = field * dot.packing.field_bits();
                        let product = |(&w, &x): (&u8, &u8)| i32::from((w & mask) >> shift) * i32::from(x as i8);
                        bytes.iter().zip(x).map(product).sum()
                    }
                };
                sum += i64::from(part);
            }
        }
        *total = i32::try_from(sum).map_err(|_| Trap::DotOverflow)?;
    }
    Ok(totals)
}
