//! How large the file is that `torch.save` makes of a compact checkpoint. Its pickle is written as Python writes it,
//! memo and all; of the storages and the archive around them only the bytes are counted, so that nothing grows with the
//! weights. Files are not made here.

use std::collections::HashMap;

use serde_json::Value;

/// Members begin their data at multiples of this.
const ALIGNMENT: usize = 64;
/// Padding is a field of the member's header, and that field has a header of its own.
const PADDING_HEADER: usize = 4;
/// Items of a container that one opcode takes.
const BATCH: usize = 1000;

/// A compact checkpoint to be saved.
pub struct CompactFile<'a> {
    /// Name of the file without its ending, which is the folder of all members.
    pub stem: &'a str,
    /// The model's config.
    pub config: &'a [(String, Value)],
    /// Training step.
    pub step: u64,
    /// The tensors.
    pub tensors: &'a [CompactTensor<'a>],
}

/// A tensor of a compact checkpoint.
pub struct CompactTensor<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape, unpacked.
    pub shape: &'a [usize],
    /// How it is packed; a tensor that is not has elements of bf16.
    pub packed: Option<PackedRows>,
}

/// Codes in rows of whole bytes, and their scales as bf16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedRows {
    /// Rows.
    pub rows: usize,
    /// Bytes of a row.
    pub row_bytes: usize,
    /// Scales of the tensor.
    pub scales: usize,
}

/// Bytes of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveBytes {
    /// Of the members, each with its header and padding.
    pub members: usize,
    /// Of the directory behind them.
    pub directory: usize,
}

impl CompactFile<'_> {
    /// How large the file is.
    pub fn bytes(&self) -> ArchiveBytes {
        let (pickle, storages) = self.pickle();
        let mut members = vec![("data.pkl".to_owned(), pickle.len())];
        members.extend([(".format_version".to_owned(), 1), (".storage_alignment".to_owned(), 2)]);
        members.push(("byteorder".to_owned(), 6));
        members.extend(storages.iter().enumerate().map(|(key, &bytes)| (format!("data/{key}"), bytes)));
        members.extend([("version".to_owned(), 2), (".data/serialization_id".to_owned(), 40)]);
        archive_bytes(members.iter().map(|(name, bytes)| (self.stem.len() + 1 + name.len(), *bytes)))
    }

    /// The pickle, and the bytes of each storage.
    fn pickle(&self) -> (Vec<u8>, Vec<usize>) {
        let mut pickle = Pickle::new();
        pickle.open_dict();
        pickle.items(b'u', 5, |pickle, place| match place {
            0 => {
                pickle.text("format");
                pickle.text("compact_2bit");
            }
            1 => {
                pickle.text("version");
                pickle.int(1);
            }
            2 => {
                pickle.text("config");
                pickle.open_dict();
                pickle.items(b'u', self.config.len(), |pickle, place| {
                    pickle.text(&self.config[place].0);
                    pickle.json(&self.config[place].1);
                });
            }
            3 => {
                pickle.text("step");
                pickle.int(self.step as i64);
            }
            _ => {
                pickle.text("state");
                pickle.open_ordered_dict();
                pickle.items(b'u', self.tensors.len(), |pickle, place| self.tensors[place].save(pickle));
            }
        });
        pickle.bytes.push(b'.');
        (pickle.bytes, pickle.storages)
    }
}

impl CompactTensor<'_> {
    fn save(&self, pickle: &mut Pickle) {
        pickle.text(self.name);
        let Some(packed) = self.packed else {
            pickle.tensor("BFloat16Storage", 2, self.shape);
            return;
        };
        pickle.open_dict();
        pickle.items(b'u', 3, |pickle, place| match place {
            0 => {
                pickle.text("packed");
                pickle.tensor("ByteStorage", 1, &[packed.rows, packed.row_bytes]);
            }
            1 => {
                pickle.text("scale");
                pickle.tensor("BFloat16Storage", 2, &[packed.scales]);
            }
            _ => {
                pickle.text("shape");
                pickle.open_list();
                pickle.items(b'e', self.shape.len(), |pickle, place| pickle.int(self.shape[place] as i64));
            }
        });
    }
}

/// Bytes of an archive of members, given as the lengths of their names and of their data.
fn archive_bytes(members: impl Iterator<Item = (usize, usize)>) -> ArchiveBytes {
    const HEADER: usize = 30;
    // The check sum and sizes follow the data.
    const DESCRIPTOR: usize = 16;
    const DIRECTORY_LINE: usize = 46;
    // The end of the directory in its ZIP64 form (56 bytes), where that is (20), and the plain form (22).
    const END: usize = 98;
    let (mut at, mut directory) = (0, END);
    for (name, data) in members {
        at = (at + HEADER + name + PADDING_HEADER).next_multiple_of(ALIGNMENT) + data + DESCRIPTOR;
        directory += DIRECTORY_LINE + name;
    }
    ArchiveBytes { members: at, directory }
}

/// A pickle of protocol 2 under construction, as CPython writes it.
struct Pickle {
    bytes: Vec<u8>,
    /// Bytes of each storage.
    storages: Vec<usize>,
    /// Places of texts and callables in the memo; the other values occur once.
    known: HashMap<String, u32>,
    memo: u32,
}

impl Pickle {
    fn new() -> Pickle {
        Pickle { bytes: b"\x80\x02".to_vec(), storages: Vec::new(), known: HashMap::new(), memo: 0 }
    }

    /// An opcode whose operand has one byte, or another whose operand has four.
    fn place(&mut self, short: u8, long: u8, place: u32) {
        match u8::try_from(place) {
            Ok(place) => self.bytes.extend([short, place]),
            Err(_) => {
                self.bytes.push(long);
                self.bytes.extend(place.to_le_bytes());
            }
        }
    }

    /// Every object but numbers and the like is noted when it is written.
    fn note(&mut self) {
        self.place(b'q', b'r', self.memo);
        self.memo += 1;
    }

    /// An object that was written before, or else what `write` writes.
    fn once(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(&place) = self.known.get(name) {
            self.place(b'h', b'j', place);
        } else {
            self.known.insert(name.to_owned(), self.memo);
            write(&mut self.bytes);
            self.note();
        }
    }

    fn text(&mut self, text: &str) {
        self.once(text, |bytes| {
            bytes.push(b'X');
            bytes.extend((text.len() as u32).to_le_bytes());
            bytes.extend(text.as_bytes());
        });
    }

    fn global(&mut self, module: &str, name: &str) {
        let line = format!("c{module}\n{name}\n");
        self.once(&line, |bytes| bytes.extend(line.as_bytes()));
    }

    fn int(&mut self, value: i64) {
        if let Ok(value) = u8::try_from(value) {
            self.bytes.extend([b'K', value]);
        } else if let Ok(value) = u16::try_from(value) {
            self.bytes.push(b'M');
            self.bytes.extend(value.to_le_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            self.bytes.push(b'J');
            self.bytes.extend(value.to_le_bytes());
        } else {
            // As few bytes as hold the value with its sign.
            let spare = if value < 0 { (!value).leading_zeros() } else { value.leading_zeros() };
            let length = 8 - (spare as usize - 1) / 8;
            self.bytes.extend([0x8a, length as u8]);
            self.bytes.extend(&value.to_le_bytes()[..length]);
        }
    }

    fn open_dict(&mut self) {
        self.bytes.push(b'}');
        self.note();
    }

    fn open_ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.bytes.extend(b")R");
        self.note();
    }

    fn open_list(&mut self) {
        self.bytes.push(b']');
        self.note();
    }

    /// The items of the container that was just opened, put into it by `many`, or by its form for one.
    fn items(&mut self, many: u8, count: usize, mut item: impl FnMut(&mut Pickle, usize)) {
        for first in (0..count).step_by(BATCH) {
            let end = count.min(first + BATCH);
            if count == first + 1 {
                item(self, first);
                self.bytes.push(if many == b'u' { b's' } else { b'a' });
            } else {
                self.bytes.push(b'(');
                (first..end).for_each(|place| item(self, place));
                self.bytes.push(many);
            }
        }
    }

    fn tuple(&mut self, values: &[usize]) {
        let open = match values.len() {
            // The empty tuple is not noted.
            0 => return self.bytes.push(b')'),
            1..=3 => false,
            _ => true,
        };
        self.bytes.extend(open.then_some(b'('));
        values.iter().for_each(|&value| self.int(value as i64));
        self.bytes.push(if open { b't' } else { 0x84 + values.len() as u8 });
        self.note();
    }

    /// A tensor that fills a storage of its own.
    fn tensor(&mut self, kind: &str, width: usize, shape: &[usize]) {
        let elements: usize = shape.iter().product();
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.bytes.extend(b"((");
        self.text("storage");
        self.global("torch", kind);
        self.text(&self.storages.len().to_string());
        self.text("cpu");
        self.int(elements as i64);
        self.bytes.push(b't');
        self.note();
        self.bytes.push(b'Q');
        self.storages.push(width * elements);
        self.int(0);
        self.tuple(shape);
        let strides: Vec<usize> = (1..=shape.len()).map(|axis| shape[axis..].iter().product()).collect();
        self.tuple(&strides);
        self.bytes.push(0x89);
        self.open_ordered_dict();
        self.bytes.push(b't');
        self.note();
        self.bytes.push(b'R');
        self.note();
    }

    fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes.push(b'N'),
            Value::Bool(value) => self.bytes.push(if *value { 0x88 } else { 0x89 }),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(value), _) => self.int(value),
                (None, value) => {
                    self.bytes.push(b'G');
                    self.bytes.extend(value.unwrap_or_default().to_be_bytes());
                }
            },
            Value::String(text) => self.text(text),
            Value::Array(values) => {
                self.open_list();
                self.items(b'e', values.len(), |pickle, place| pickle.json(&values[place]));
            }
            Value::Object(values) => {
                let values: Vec<_> = values.iter().collect();
                self.open_dict();
                self.items(b'u', values.len(), |pickle, place| {
                    pickle.text(values[place].0);
                    pickle.json(values[place].1);
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::super::{pickle, value::Node, zip::Archive};
    use super::*;
    use crate::weights::{Checkpoint, Format, Stored};

    /// All torch files below a folder.
    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, found);
            } else if path.extension().is_some_and(|e| e == "pt") {
                found.push(path);
            }
        }
    }

    /// The config of a file in its own order, its pickle and its stem.
    fn read(bytes: &[u8]) -> (Vec<(String, Value)>, Vec<u8>, String) {
        let archive = Archive::read(bytes).unwrap();
        let root = archive.members().iter().find_map(|m| m.name.strip_suffix("/data.pkl")).unwrap();
        let text = archive.member(&format!("{root}/data.pkl")).unwrap().verified(bytes).unwrap();
        let (arena, top) = pickle::read(text).unwrap();
        let Node::Dict(pairs) = arena.node(top) else { panic!("no dictionary") };
        let Node::Dict(config) = arena.node(arena.get(pairs, "config").unwrap()) else { panic!("no config") };
        let pair = |(key, value): &_| (arena.text(*key).unwrap().to_owned(), arena.json(*value).unwrap().0);
        (config.iter().map(pair).collect(), text.to_vec(), root.to_owned())
    }

    #[test]
    fn files_of_torch_have_these_bytes() {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("tests/files/goldens");
        let mut all = Vec::new();
        files(&tests, &mut all);
        let mut compared = 0;
        for path in all {
            let checkpoint = Checkpoint::open(&path).unwrap();
            if checkpoint.format() != Format::TorchCompact {
                continue;
            }
            let bytes = std::fs::read(&path).unwrap();
            let (config, pickle, stem) = read(&bytes);
            let tensors: Vec<CompactTensor> = checkpoint
                .tensors()
                .iter()
                .map(|tensor| {
                    let packed = match &tensor.stored {
                        Stored::Ternary { codes, .. } => {
                            Some(PackedRows { rows: codes.shape[0], row_bytes: codes.shape[1], scales: 1 })
                        }
                        _ => None,
                    };
                    CompactTensor { name: &tensor.name, shape: &tensor.shape, packed }
                })
                .collect();
            let step = checkpoint.metadata()["step"].as_u64().unwrap();
            let file = CompactFile { stem: &stem, config: &config, step, tensors: &tensors };
            assert!(file.pickle().0 == pickle, "{}", path.display());
            let found = file.bytes();
            assert_eq!(found.members + found.directory, bytes.len(), "{}", path.display());
            compared += 1;
        }
        assert!(compared >= 4, "{compared}");
    }

    #[test]
    fn integers_take_as_few_bytes_as_hold_them() {
        let written = |value| {
            let mut pickle = Pickle::new();
            pickle.int(value);
            pickle.bytes.split_off(2)
        };
        assert_eq!(written(255), [b'K', 255]);
        assert_eq!(written(65535), [b'M', 255, 255]);
        assert_eq!(written(65536), [b'J', 0, 0, 1, 0]);
        assert_eq!(written(-1), [b'J', 255, 255, 255, 255]);
        assert_eq!(written(1 << 31), [0x8a, 5, 0, 0, 0, 128, 0]);
        assert_eq!(written(-(1 << 31) - 1), [0x8a, 5, 255, 255, 255, 127, 255]);
        assert_eq!(written(i64::MIN), [0x8a, 8, 0, 0, 0, 0, 0, 0, 0, 128]);
    }
}
