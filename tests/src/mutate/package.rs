//! Mutants of packages: most have right checksums, so that what stands behind them is read, compiled and run.

use sterna_runtime::package::{ALIGNMENT, Header, PREAMBLE, Preamble, TAIL};

use super::{Files, Load, Mutant, Subject, bytes, corpus, json, words};
use crate::programs::dice::Dice;

/// A package in its parts.
pub struct Package {
    header: Vec<u8>,
    weights: Vec<u8>,
    donor: &'static [u8],
    /// Edits of the file as a whole, done last.
    raw: Vec<u64>,
}

/// Header and weights of a right package.
fn parts(file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let Ok(preamble) = Preamble::read(file) else { return Default::default() };
    let header = file[PREAMBLE..PREAMBLE + preamble.header_bytes].to_vec();
    (header, file[preamble.weights_offset..][..preamble.weights_bytes].to_vec())
}

/// A file of these parts, with right lengths and checksums.
fn joined(header: &[u8], weights: &[u8]) -> Vec<u8> {
    let weights_offset = (PREAMBLE + header.len()).next_multiple_of(ALIGNMENT);
    let preamble = Preamble {
        header_bytes: header.len(),
        weights_offset,
        weights_bytes: weights.len(),
        header_crc: crc32fast::hash(header),
        weights_crc: crc32fast::hash(weights),
    };
    let mut file = preamble.to_bytes().to_vec();
    file.extend(header);
    file.resize(weights_offset, 0);
    file.extend(weights);
    file.resize(weights_offset + weights.len() + TAIL, 0);
    file
}

impl Package {
    /// One of all packages.
    pub fn pick(dice: &mut Dice) -> Package {
        let all = corpus::packages();
        let (header, weights) = parts(&all[dice.below(all.len())]);
        Package { header, weights, donor: &all[dice.below(all.len())], raw: Vec::new() }
    }

    /// An edit of the printed graph within the header.
    fn graph(&mut self, dice: &mut Dice) {
        let Ok(mut header) = serde_json::from_slice::<Header>(&self.header) else { return };
        let donor = serde_json::from_slice::<Header>(&parts(self.donor).0).map(|header| header.graph);
        words::edit(&mut header.graph, &donor.unwrap_or_default(), dice);
        self.header = serde_json::to_vec(&header).unwrap_or_default();
    }
}

impl Subject for Package {
    fn edit(&mut self, dice: &mut Dice) {
        match dice.below(20) {
            0..8 => self.graph(dice),
            8..12 => {
                let donor = parts(self.donor).0;
                json::edit(&mut self.header, &donor, dice);
            }
            12..16 => bytes::edit_in_place(&mut self.weights, dice),
            16 => {
                let donor = parts(self.donor).1;
                bytes::edit(&mut self.weights, &donor, dice);
            }
            17 => self.weights = parts(self.donor).1,
            _ => self.raw.push(dice.bits()),
        }
    }

    fn finish(self: Box<Self>) -> Mutant {
        let mut file = joined(&self.header, &self.weights);
        for seed in &self.raw {
            let mut dice = Dice::new(*seed);
            if dice.chance(50) {
                // A field of the preamble behind a right checksum.
                let (at, size) =
                    dice.pick(&[(8, 4), (12, 4), (16, 8), (24, 8), (32, 8), (40, 8), (48, 4), (52, 4), (60, 4)]);
                bytes::replace_number(&mut file, at, size, &mut dice);
                if file.len() >= PREAMBLE {
                    let crc = crc32fast::hash(&file[..56]);
                    file[56..60].copy_from_slice(&crc.to_le_bytes());
                }
            } else {
                bytes::edit(&mut file, self.donor, &mut dice);
            }
        }
        Mutant { files: Files::from([("p.sterna".into(), file)]), load: Load::Package }
    }
}
