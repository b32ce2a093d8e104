//! Edits of pickles by their opcodes: each keeps the others whole, so that the reader gets far.

use std::ops::Range;

use super::bytes;
use crate::programs::dice::Dice;

/// How the operand of an opcode is found.
enum Operand {
    /// So many bytes.
    Bytes(usize),
    /// A length of so many bytes, and as many bytes as it says.
    Counted(usize),
    /// So many lines.
    Lines(usize),
}

fn operand(opcode: u8) -> Operand {
    match opcode {
        b'\x80' | b'K' | b'q' | b'h' | b'\x82' => Operand::Bytes(1),
        b'M' | b'\x83' => Operand::Bytes(2),
        b'J' | b'r' | b'j' | b'\x84' => Operand::Bytes(4),
        b'G' | b'\x95' => Operand::Bytes(8),
        b'U' | b'C' | b'\x8a' | b'\x8c' => Operand::Counted(1),
        b'X' | b'T' | b'B' | b'\x8b' => Operand::Counted(4),
        b'\x8d' | b'\x8e' | b'\x96' => Operand::Counted(8),
        b'c' | b'i' => Operand::Lines(2),
        b'I' | b'L' | b'F' | b'S' | b'V' | b'P' | b'p' | b'g' => Operand::Lines(1),
        _ => Operand::Bytes(0),
    }
}

/// The opcodes with their operands, up to `pickles` ends.
pub fn opcodes(bytes: &[u8], pickles: usize) -> Vec<Range<usize>> {
    let (mut out, mut at, mut ends) = (Vec::new(), 0, 0);
    while ends < pickles
        && let Some(&opcode) = bytes.get(at)
    {
        let rest = &bytes[at + 1..];
        let length = match operand(opcode) {
            Operand::Bytes(n) => n,
            Operand::Counted(n) => {
                let number = rest.iter().take(n).rev().fold(0usize, |number, &byte| number << 8 | usize::from(byte));
                n.saturating_add(number)
            }
            Operand::Lines(n) => {
                let ends = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
                ends.take(n).last().unwrap_or(rest.len())
            }
        };
        let end = at + 1 + length.min(rest.len());
        out.push(at..end);
        ends += usize::from(opcode == b'.');
        at = end;
    }
    out
}

/// One edit of an opcode of the first pickles.
pub fn edit(pickle: &mut Vec<u8>, pickles: usize, dice: &mut Dice) {
    let all = opcodes(pickle, pickles);
    if all.is_empty() {
        return;
    }
    let (at, other) = (all[dice.below(all.len())].clone(), all[dice.below(all.len())].clone());
    match dice.below(10) {
        0 => drop(pickle.drain(at)),
        1 => {
            let copy = pickle[at.clone()].to_vec();
            pickle.splice(at.start..at.start, copy);
        }
        2 => {
            let copy = pickle[other].to_vec();
            pickle.splice(at, copy);
        }
        3 => {
            let copy = pickle[other].to_vec();
            pickle.splice(at.start..at.start, copy);
        }
        4 => {
            pickle[at.start] = dice
                .pick(b"\x80\x95.NJKMXUTBCqrhj(tu}])se\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8f\x90\x93\x94RQb\x81012alocGi")
        }
        5..8 => {
            // The operands of numbers: shapes, strides, offsets, lengths.
            let numbers: Vec<&Range<usize>> =
                all.iter().filter(|at| matches!(pickle[at.start], b'J' | b'K' | b'M' | b'\x8a')).collect();
            if numbers.is_empty() {
                return;
            }
            let at = dice.pick(&numbers).clone();
            let digits = if pickle[at.start] == b'\x8a' { at.start + 2..at.end } else { at.start + 1..at.end };
            let old = pickle[digits].iter().rev().take(8).fold(0i128, |n, &byte| n << 8 | i128::from(byte));
            let mut new = vec![b'\x8a', 8];
            new.extend((bytes::number(old, dice) as i64).to_le_bytes());
            pickle.splice(at, new);
        }
        8 => {
            let inside = at.clone();
            bytes::edit_in_place(&mut pickle[inside], dice);
        }
        _ => bytes::edit_in_place(pickle, dice),
    }
}
