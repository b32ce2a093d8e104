//! Dot products of every packing, shape and level: equal to each other and to the interpreter.

use super::{Buffer, Compiled, Input, activations, bytes};
use crate::kernel::build::Builder;
use crate::kernel::ir::{DotRows, Packing};

/// Weights of a packing with the values that occur: codes 0 to 2, any bits, bytes in [-127, 127].
fn weights(packing: Packing, count: usize, seed: u64) -> Vec<u8> {
    match packing {
        Packing::Codes2 => bytes(count, seed)
            .into_iter()
            .map(|byte| (0..4).map(|field| (byte >> (2 * field) & 3).min(2) << (2 * field)).sum())
            .collect(),
        Packing::Bits1 => bytes(count, seed),
        Packing::Bytes8 => activations(count, seed),
    }
}

fn rows_case(packing: Packing, blocks: u32, tokens: u32, weights: Vec<u8>, x: impl Fn(usize) -> Vec<u8>) {
    let stride = blocks * 64 * packing.fields() as u32 + 64;
    let mut b = Builder::new(format!("rows_{packing:?}_{blocks}_{tokens}"));
    let (w, activations, out) = (b.ro("w"), b.ro("x"), b.rw("out"));
    let (begin, end) = (b.begin(), b.end());
    b.for_each(begin, end, |b, group| {
        let w = b.index(w, group, packing.packed_bytes(16, blocks as usize * packing.block_weights()) as i64);
        let totals = b.dot_rows(DotRows { packing, blocks, tokens, stride }, w, activations);
        let to = b.index(out, group, i64::from(64 * tokens));
        for (token, total) in totals.into_iter().enumerate() {
            b.store_i(to, 64 * token as i32, total);
        }
    });
    let inputs = [
        Input::Bytes(Buffer::new(&weights)),
        Input::Bytes(Buffer::new(&x((stride * tokens) as usize))),
        Input::Bytes(Buffer::new(&vec![0; 2 * 64 * tokens as usize])),
    ];
    Compiled::new(b.finish()).check(&inputs, 0, 2);
}

#[test]
fn row_groups_of_every_packing() {
    for packing in [Packing::Codes2, Packing::Bits1, Packing::Bytes8] {
        for (blocks, tokens) in [(1, 1), (1, 4), (2, 3), (3, 2), (5, 1), (10, 4), (27, 1)] {
            let size = 2 * packing.packed_bytes(16, blocks as usize * packing.block_weights());
            let weights = weights(packing, size, 5);
            rows_case(packing, blocks, tokens, weights, |count| activations(count, 6));
        }
    }
}

/// The largest sums that the forms can meet, of both signs.
#[test]
fn extreme_activations_do_not_saturate() {
    for packing in [Packing::Codes2, Packing::Bits1, Packing::Bytes8] {
        let full = match packing {
            Packing::Codes2 => 0b10_10_10_10,
            Packing::Bits1 => 0xff,
            Packing::Bytes8 => 127,
        };
        for byte in [127u8, 129] {
            for tokens in [1, 2] {
                let weights = vec![full; 2 * packing.packed_bytes(16, 3 * packing.block_weights())];
                rows_case(packing, 3, tokens, weights, |count| vec![byte; count]);
            }
        }
    }
}

/// The primitive dots, with each field mask and the signed form.
#[test]
fn primitive_dots() {
    let mut b = Builder::new("dots");
    let (w, x, out) = (b.ro("w"), b.ro("x"), b.rw("out"));
    let masks: Vec<u8> = (0..4)
        .map(|field| Packing::Codes2.field_mask(field))
        .chain((0..8).map(|field| Packing::Bits1.field_mask(field)))
        .collect();
    for (index, &mask) in masks.iter().enumerate() {
        let zero = b.acc_zero();
        let accs = b.fold_n(3, &[zero, zero], |b, block, accs| {
            let (w, x) = (b.index(w, block, 64), b.index(x, block, 64));
            let (w, x) = (b.load_b(w, 0), b.load_b(x, 0));
            vec![b.dot(accs[0], w, mask, x), b.dot_signed(accs[1], x, x)]
        });
        let shift = mask.trailing_zeros() as u8;
        let folded = b.acc_fold(&[accs[0]], &[shift]);
        b.store_n(out, 8 * index as i32, folded);
        let folded = b.acc_fold(&[accs[1], accs[0]], &[0, shift]);
        b.store_n(out, 8 * index as i32 + 4, folded);
    }
    let inputs = [
        Input::Bytes(Buffer::new(&weights(Packing::Codes2, 192, 1))),
        Input::Bytes(Buffer::new(&activations(192, 2))),
        Input::Bytes(Buffer::new(&[0; 128])),
    ];
    Compiled::new(b.finish()).check(&inputs, 0, 1);
}
