//! Mutants of checkpoints in every format, edited at what their readers go by: the opcodes of pickles, the fields of
//! archives, the JSON of headers and of indexes, behind right checksums where there are some.

use super::archive::{self, Member};
use super::{Files, Load, Mutant, Subject, bytes, corpus, json, pickle};
use crate::programs::dice::Dice;

/// A map of names that changes nothing.
const RENAMES: &str = r#"{"layers\\.(\\d+)\\.(.*)":"layers.$1.$2","(?<all>x.+)":"${all}"}"#;

/// Seeds that share a checkpoint.
const IN_A_ROW: u64 = 50;

/// Pickles in front of the storages in a file from before the archives.
const PICKLES: usize = 5;

/// A checkpoint with the config of its model.
pub struct Checkpoint {
    config: Vec<u8>,
    base: usize,
    donor: &'static corpus::Weights,
    files: Files,
    main: Main,
    renames: Option<Vec<u8>>,
    /// Edits of the file as a whole, done last.
    raw: Vec<u64>,
}

/// The file to open, in its parts.
enum Main {
    /// A torch archive.
    Archive(Vec<Member>),
    /// Pickles, and what follows them.
    Legacy(Vec<u8>),
    /// A length, a JSON header and data.
    Safetensors { header: Vec<u8>, data: Vec<u8> },
    /// A preamble with a checksum, a JSON header and data.
    Signs { header: Vec<u8>, data: Vec<u8> },
    /// The index of several files.
    Index(Vec<u8>),
}

/// The bytes of a length that a file gives, so far as it has them.
fn counted(file: &[u8], at: usize, start: usize) -> usize {
    let length = file.get(at..at + 8).map_or(0, |bytes| bytes.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)));
    length.min(file.len().saturating_sub(start))
}

impl Main {
    fn of(name: &str, file: &[u8]) -> Main {
        if name.ends_with(".json") {
            return Main::Index(file.to_vec());
        }
        if file.starts_with(b"PK") {
            return Main::Archive(archive::members(file));
        }
        if file.starts_with(b"\x80") {
            return Main::Legacy(file.to_vec());
        }
        if name.ends_with(".bit2") {
            let header = counted(file, 16, 64);
            let data = (64 + header).next_multiple_of(64).min(file.len());
            return Main::Signs { header: file[64..64 + header].to_vec(), data: file[data..].to_vec() };
        }
        let header = counted(file, 0, 8);
        Main::Safetensors { header: file[8..8 + header].to_vec(), data: file[8 + header..].to_vec() }
    }

    fn joined(self) -> Vec<u8> {
        match self {
            Main::Archive(members) => archive::archive(&members),
            Main::Legacy(bytes) | Main::Index(bytes) => bytes,
            Main::Safetensors { header, data } => [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat(),
            Main::Signs { header, data } => {
                let offset = (64 + header.len()).next_multiple_of(64);
                let mut file = b"BIT2PACK\x01\0\0\0\0\0\0\0".to_vec();
                file.extend([header.len(), offset, offset + data.len()].map(|n| (n as u64).to_le_bytes()).concat());
                file.extend(crc32fast::hash(&header).to_le_bytes());
                file.resize(64, 0);
                file.extend(header);
                file.resize(offset, 0);
                file.extend(data);
                file
            }
        }
    }
}

impl Checkpoint {
    /// One of all formats, the same for some seeds in a row: its model is compiled once for them.
    pub fn pick(seed: u64, dice: &mut Dice) -> Checkpoint {
        let all = corpus::checkpoints();
        let (base, donor) = ((seed / IN_A_ROW) as usize % all.len(), &all[dice.below(all.len())]);
        let weights = &all[base];
        let (name, file) = &weights.files[0];
        let renames = dice.chance(8).then(|| RENAMES.as_bytes().to_vec());
        let config = weights.config.clone().into_bytes();
        Checkpoint {
            config,
            base,
            donor,
            files: weights.files.clone(),
            main: Main::of(name, file),
            renames,
            raw: Vec::new(),
        }
    }
}

impl Subject for Checkpoint {
    fn edit(&mut self, dice: &mut Dice) {
        if let Some(renames) = self.renames.as_mut().filter(|_| dice.chance(60)) {
            return json::edit(renames, br#"{"(a|b)*+?{3}[^c]":"$0$$"}"#, dice);
        }
        if dice.chance(3) {
            return json::edit(&mut self.config, self.donor.config.as_bytes(), dice);
        }
        if dice.chance(20) {
            return self.raw.push(dice.bits());
        }
        match &mut self.main {
            Main::Archive(members) if members.is_empty() => self.raw.push(dice.bits()),
            Main::Archive(members) => {
                let at = members.iter().position(|(name, _)| name.ends_with("/data.pkl")).unwrap_or(0);
                let other = dice.below(members.len());
                match dice.below(12) {
                    0..8 => pickle::edit(&mut members[at].1, 1, dice),
                    8 => drop(members.remove(other)),
                    9 => members[other].0 = format!("{}{}", dice.pick(&["", "x/", "../"]), members[at].0),
                    10 => bytes::edit(&mut members[other].1, b"little\0\xff\x7f", dice),
                    _ => bytes::edit_in_place(&mut members[other].1, dice),
                }
            }
            Main::Legacy(file) => pickle::edit(file, PICKLES, dice),
            Main::Safetensors { header, data } | Main::Signs { header, data } => match dice.below(10) {
                0..7 => json::edit(header, br#"{"dtype":"BF16","shape":[2,5],"kind":"bit1"}"#, dice),
                7 => bytes::edit(data, &[0xff; 64], dice),
                _ => bytes::edit_in_place(data, dice),
            },
            Main::Index(text) => match self.files.len() {
                length if length > 1 && dice.chance(30) => {
                    let at = 1 + dice.below(length - 1);
                    bytes::edit(&mut self.files[at].1, &self.donor.files[0].1, dice);
                }
                _ => json::edit(text, br#"{"weight_map":{"w":"a-2.safetensors","v":"../x"}}"#, dice),
            },
        }
    }

    fn finish(mut self: Box<Self>) -> Mutant {
        let mut file = self.main.joined();
        for seed in &self.raw {
            let mut dice = Dice::new(*seed);
            match dice.below(4) {
                0 | 1 => archive::edit_field(&mut file, &mut dice),
                _ => bytes::edit(&mut file, &self.donor.files[0].1, &mut dice),
            }
        }
        self.files[0].1 = file;
        let weights = Some(self.files[0].0.clone());
        let rename = self.renames.is_some();
        let same = !rename && self.config == corpus::checkpoints()[self.base].config.as_bytes();
        self.files.push(("c.json".into(), self.config));
        self.files.extend(self.renames.map(|text| ("r.json".into(), text)));
        let base = same.then_some(self.base);
        Mutant { files: self.files, load: Load::Config { model: None, graphs: false, weights, base, rename } }
    }
}
