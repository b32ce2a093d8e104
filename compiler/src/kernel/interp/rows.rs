//! Lane sums of float products.

use super::Cell;
use super::lanes::{decode, fold};
use super::memory::{Memory, Pointer, Trap};
use crate::kernel::ir::{FloatRows, LANES, RowElement, STRIP_BYTES};
use crate::numerics::reduce::{lane_signs, lane_sum};

/// The products of 16 rows with the vector `offset` bytes behind `activations`.
pub fn sums(
    memory: &Memory<'_>,
    rows: &FloatRows,
    weights: Pointer,
    activations: Pointer,
    offset: i32,
) -> Result<[f32; LANES], Trap> {
    let columns = rows.columns as usize;
    let x = memory.read(activations, offset, 4 * columns)?;
    let x: Vec<f32> = x.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect();
    let all = (rows.element == RowElement::Sign).then(|| lane_sum(&x));
    let mut sums = [0.0; LANES];
    for (row, sum) in sums.iter_mut().enumerate() {
        let bytes = memory.read(weights, (row * rows.row_stride as usize) as i32, rows.row_bytes())?;
        if let Some(all) = all {
            *sum = lane_signs((0..columns).map(|column| bytes[column / 8] >> (column % 8) & 1 == 1), &x, all);
            continue;
        }
        let mut partials = [0.0f32; LANES];
        for (strip, x) in x.chunks(LANES).enumerate() {
            let w = strip_of(rows, bytes, strip);
            for ((partial, w), x) in partials.iter_mut().zip(w).zip(x) {
                *partial += w * x;
            }
        }
        *sum = fold(partials, |a, b| a + b);
    }
    Ok(sums)
}

/// 16 columns of a row; behind the last column anything.
fn strip_of(rows: &FloatRows, row: &[u8], strip: usize) -> [f32; LANES] {
    let start = strip * rows.element.strip_bytes();
    let mem = rows.element.mem().expect("bits have sums of their own");
    let mut bytes = [0; STRIP_BYTES];
    let end = row.len().min(start + mem.bytes());
    bytes[..end - start].copy_from_slice(&row[start..end]);
    match decode(mem, &bytes[..mem.bytes()]) {
        Cell::F(values) => values,
        _ => unreachable!("a form of floats"),
    }
}
