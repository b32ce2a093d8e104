//! Edits of bytes that nobody knows more about, and the numbers that readers stumble over.

use crate::programs::dice::Dice;

/// Numbers at the edges of types, alignments and blocks.
const EDGES: [i128; 34] = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    65,
    127,
    128,
    255,
    256,
    257,
    4096,
    65_535,
    65_536,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 40,
    1 << 53,
    (1 << 63) - 1,
    1 << 63,
    (1 << 64) - 1,
    -1,
];

/// A number in the place of another: one at an edge, or one that is near.
pub fn number(old: i128, dice: &mut Dice) -> i128 {
    match dice.below(10) {
        0..4 => dice.pick(&EDGES),
        4..6 => old.wrapping_add(1),
        6..8 => old.wrapping_sub(1),
        8 => old.wrapping_mul(dice.pick(&[2, 3, -1, 64])),
        _ => old.wrapping_add(dice.pick(&[8, -8, 16, -16, 64, -64])),
    }
}

/// Replaces a little-endian number of `size` bytes.
pub fn replace_number(bytes: &mut [u8], at: usize, size: usize, dice: &mut Dice) {
    let Some(place) = bytes.get_mut(at..at + size) else { return };
    let old = place.iter().rev().fold(0, |number, &byte| number << 8 | i128::from(byte));
    let new = number(old, dice).to_le_bytes();
    place.copy_from_slice(&new[..size]);
}

/// A range of some length, mostly short.
pub fn range(length: usize, dice: &mut Dice) -> std::ops::Range<usize> {
    if length == 0 {
        return 0..0;
    }
    let start = dice.below(length);
    let most = if dice.chance(80) { 16 } else { length };
    start..length.min(start + 1 + dice.below(most))
}

/// One edit; `donor` is another input.
pub fn edit(bytes: &mut Vec<u8>, donor: &[u8], dice: &mut Dice) {
    if bytes.is_empty() {
        return bytes.extend(&donor[range(donor.len(), dice)]);
    }
    let at = dice.below(bytes.len());
    match dice.below(12) {
        0..3 => bytes[at] ^= 1 << dice.below(8),
        3 => bytes[at] = dice.bits() as u8,
        4 | 5 => {
            let size = dice.pick(&[2, 4, 8]);
            replace_number(bytes, at, size, dice);
        }
        6 => drop(bytes.drain(range(bytes.len(), dice))),
        7 => {
            let copy = bytes[range(bytes.len(), dice)].to_vec();
            bytes.splice(at..at, copy);
        }
        8 => {
            let filled = range(bytes.len(), dice);
            bytes[filled].fill(dice.pick(&[0, 0x7f, 0x80, 0xff]));
        }
        9 => {
            let put = donor[range(donor.len(), dice)].to_vec();
            bytes.splice(at..at, put);
        }
        10 => {
            // The front of one and the back of the other.
            let from = dice.below(donor.len() + 1);
            bytes.truncate(at);
            bytes.extend(&donor[from..]);
        }
        _ => bytes.truncate(at),
    }
}

/// One edit of bytes that stay as many, for what has a length elsewhere.
pub fn edit_in_place(bytes: &mut [u8], dice: &mut Dice) {
    if bytes.is_empty() {
        return;
    }
    let at = dice.below(bytes.len());
    match dice.below(5) {
        0 => bytes[at] ^= 1 << dice.below(8),
        1 => bytes[at] = dice.bits() as u8,
        2 => {
            let filled = range(bytes.len(), dice);
            bytes[filled].fill(dice.pick(&[0, 0x55, 0x7f, 0x80, 0xff]));
        }
        3 => {
            // A float that is none, or the largest, or the smallest.
            let float = dice.pick(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1.0, 1e-45, -0.0]);
            let at = at / 4 * 4;
            if let Some(place) = bytes.get_mut(at..at + 4) {
                place.copy_from_slice(&float.to_le_bytes());
            }
        }
        _ => {
            let from = range(bytes.len(), dice);
            let to = at.min(bytes.len() - from.len());
            bytes.copy_within(from, to);
        }
    }
}
