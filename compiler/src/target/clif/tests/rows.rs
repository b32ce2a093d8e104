//! Float products of row groups of every element, shape and level: equal to each other and to the interpreter.

use super::{Buffer, Compiled, Input, bytes};
use crate::kernel::build::Builder;
use crate::kernel::ir::{FloatRows, RowElement};

/// Bit patterns of an element that are numbers of moderate size, denormals and zeros included; random bits for signs.
fn weights(element: RowElement, count: usize, seed: u64) -> Vec<u8> {
    let exponent = |high: u8, bits: u8| (high & 0x80) | ((high & 0x7f) % bits);
    let mut weights = bytes(count, seed);
    match element {
        RowElement::Sign => {}
        RowElement::F32 => weights.chunks_exact_mut(4).for_each(|w| w[3] = exponent(w[3], 0x42)),
        RowElement::F16 => weights.chunks_exact_mut(2).for_each(|w| w[1] = exponent(w[1], 0x48)),
        RowElement::Bf16 => weights.chunks_exact_mut(2).for_each(|w| w[1] = exponent(w[1], 0x42)),
    }
    weights
}

fn case(rows: FloatRows) {
    let group = 16 * rows.row_stride as usize;
    let mut b = Builder::new(format!("{:?}_{}_{}", rows.element, rows.columns, rows.tokens));
    let (w, x, out) = (b.ro("w"), b.ro("x"), b.rw("out"));
    let (begin, end) = (b.begin(), b.end());
    b.for_each(begin, end, |b, number| {
        let w = b.index(w, number, group as i64);
        let sums = b.float_rows(rows, w, x);
        let to = b.index(out, number, i64::from(64 * rows.tokens));
        for (token, sum) in sums.into_iter().enumerate() {
            b.store_f(to, 64 * token as i32, sum);
        }
    });
    let x = weights(RowElement::F32, (rows.stride * rows.tokens) as usize, 3);
    let inputs = [
        Input::Bytes(Buffer::new(&weights(rows.element, 2 * group, 9))),
        Input::Bytes(Buffer::new(&x)),
        Input::Bytes(Buffer::new(&vec![0; 2 * 64 * rows.tokens as usize])),
    ];
    Compiled::new(b.finish()).check(&inputs, 0, 2);
}

#[test]
fn row_groups_of_every_element() {
    for element in [RowElement::Sign, RowElement::F32, RowElement::F16, RowElement::Bf16] {
        for (columns, tokens) in [(1, 1), (15, 4), (16, 1), (64, 2), (79, 1), (96, 4), (147, 3), (208, 1)] {
            let strips = usize::try_from(columns).unwrap().div_ceil(16);
            // Rows of bits begin wherever the last one ends; floats have their padding.
            let row_stride = (strips * element.strip_bytes()).next_multiple_of(8) as u32;
            let stride = 4 * columns + 64;
            case(FloatRows { element, columns, row_stride, tokens, stride });
        }
    }
}

/// A row without columns sums to +0.
#[test]
fn no_columns() {
    case(FloatRows { element: RowElement::F32, columns: 0, row_stride: 64, tokens: 2, stride: 64 });
}
