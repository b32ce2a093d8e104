//! A writer of torch checkpoints in all their layouts, that can also write what torch would not.

mod pickle;

use std::io::{Cursor, Write};

use serde_json::{Value, json};

use pickle::Pickle;

/// An element that storages are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    Float,
    Double,
    Half,
    Bfloat16,
}

/// A tensor as it is to be written.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// Row-major; with a scale the codes.
    pub values: Vec<f32>,
    pub storage: Storage,
    /// Whether the storage holds the transposed matrix, read through exchanged strides.
    pub transposed: bool,
    /// Whether the storage holds just the first value, read again and again.
    pub expanded: bool,
    /// Packed ternary codes have a scale. Only the compact layout knows them.
    pub scale: Option<f32>,
}

/// Where the tensors stand in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Layout {
    /// They are the file: names to tensors.
    #[default]
    Bare,
    /// Under `model`, with values beside it.
    Training,
    /// Under `state`, some of them packed, with values beside it.
    Compact,
}

/// A checkpoint under construction.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    pub layout: Layout,
    pub tensors: Vec<Tensor>,
    /// Values beside the tensors, if the layout has them.
    pub beside: Vec<(String, Value)>,
    /// Whether an optimizer with two moments of each tensor stands beside them. Its moments are not finite.
    pub optimizer: bool,
    /// Whether all tensors share one storage, each behind some other numbers.
    pub shared: bool,
    /// Whether the archive has ZIP64 fields.
    pub zip64: bool,
    /// A function that loading would call, as `module`, `name`, with one text as its argument.
    pub call: Option<(&'static str, &'static str)>,
    /// The key of the state dictionary, if not `model`; with dots a path.
    pub key: Option<&'static str>,
    /// The protocol of the pickle; 0 for that of torch.
    pub protocol: u8,
    /// What stands before the names of an archive's members, if not one folder.
    pub root: Option<&'static str>,
    /// Whether it is written as before the archives.
    pub legacy: bool,
    /// Values beside the tensors, or among them, as the opcodes that make them.
    pub opcodes: Vec<(&'static str, Vec<u8>)>,
    pub opcodes_among: Vec<(&'static str, Vec<u8>)>,
}

impl Storage {
    /// Its class, and the bytes of an element.
    fn described(self) -> (&'static str, usize) {
        match self {
            Storage::Float => ("FloatStorage", 4),
            Storage::Double => ("DoubleStorage", 8),
            Storage::Half => ("HalfStorage", 2),
            Storage::Bfloat16 => ("BFloat16Storage", 2),
        }
    }

    fn bytes(self, value: f32) -> Vec<u8> {
        match self {
            Storage::Float => value.to_le_bytes().to_vec(),
            Storage::Double => f64::from(value).to_le_bytes().to_vec(),
            Storage::Half => half(value).to_le_bytes().to_vec(),
            Storage::Bfloat16 => ((value.to_bits() >> 16) as u16).to_le_bytes().to_vec(),
        }
    }

    /// The value as the storage keeps it: cut off, and small halves are zero.
    pub fn kept(self, value: f32) -> f32 {
        let bits = value.to_bits();
        match self {
            Storage::Float | Storage::Double => value,
            Storage::Half if half(value) & 0x7fff == 0 => f32::from_bits(bits & 0x8000_0000),
            Storage::Half => f32::from_bits(bits & !0x1fff),
            Storage::Bfloat16 => f32::from_bits(bits & !0xffff),
        }
    }
}

/// A number in the normal range of half precision, cut off to it; zero below.
fn half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    match (bits >> 23 & 0xff) as i32 - 112 {
        exponent @ 1..=30 => sign | (exponent as u16) << 10 | (bits >> 13 & 0x3ff) as u16,
        _ => sign,
    }
}

impl Tensor {
    /// The numbers in the order in which the storage has them, and the strides.
    fn laid_out(&self) -> (Vec<f32>, Vec<usize>) {
        if self.expanded {
            return (vec![self.values[0]], vec![0; self.shape.len()]);
        }
        match (self.transposed, self.shape.as_slice()) {
            (true, &[rows, columns]) => {
                let at = |i: usize| self.values[i % rows * columns + i / rows];
                ((0..rows * columns).map(at).collect(), vec![1, rows])
            }
            (_, shape) => {
                let strides = (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect();
                (self.values.clone(), strides)
            }
        }
    }
}

impl Tensor {
    /// The packed codes, rows of whole bytes.
    fn packed(&self) -> Vec<u8> {
        let pack = |four: &[f32]| {
            let code = |value: f32| if value == 0.0 { 0 } else { 1 + u8::from(value < 0.0) };
            four.iter().rev().fold(0, |byte, &value| byte << 2 | code(value))
        };
        self.values.chunks(self.shape[1]).flat_map(|row| row.chunks(4).map(pack)).collect()
    }
}

/// Where a tensor lies: its storage, first element and strides.
struct Place {
    key: usize,
    first: usize,
    strides: Vec<usize>,
}

impl Checkpoint {
    /// The bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let protocol = if self.protocol == 0 { 2 } else { self.protocol };
        let mut pickle = Pickle::new(protocol, self.legacy);
        match self.layout {
            Layout::Bare => self.state(&mut pickle),
            Layout::Training => {
                let path: Vec<&str> = self.key.unwrap_or("model").split('.').collect();
                for key in &path {
                    pickle.open_dict();
                    pickle.text(key);
                }
                self.state(&mut pickle);
                path[1..].iter().for_each(|_| pickle.close_dict());
                if self.optimizer {
                    pickle.text("optimizer");
                    self.moments(&mut pickle);
                }
                self.values_beside(&mut pickle);
            }
            Layout::Compact => {
                pickle.open_dict();
                pickle.text("format");
                pickle.text("compact_2bit");
                pickle.text("version");
                pickle.json(&json!(1));
                self.values_beside(&mut pickle);
                pickle.text("state");
                self.state(&mut pickle);
            }
        }
        if self.layout != Layout::Bare {
            pickle.close_dict();
        }
        let (pickle, storages) = pickle.finish();
        if self.legacy {
            return self.in_a_row(&pickle, &storages);
        }
        let mut members = vec![("data.pkl".to_owned(), pickle), ("byteorder".to_owned(), b"little".to_vec())];
        members.push(("version".to_owned(), b"3\n".to_vec()));
        members.extend(storages.into_iter().enumerate().map(|(key, bytes)| (format!("data/{key}"), bytes)));
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .large_file(self.zip64)
            .with_alignment(64);
        for (name, bytes) in members {
            archive.start_file(format!("{}{name}", self.root.unwrap_or("some root/")), stored).expect("a new member");
            archive.write_all(&bytes).expect("memory");
        }
        archive.finish().expect("memory").into_inner()
    }

    /// The file as it was before the archives: pickles one after the other, and then the storages.
    fn in_a_row(&self, pickle: &[u8], storages: &[Vec<u8>]) -> Vec<u8> {
        let protocol = self.protocol.max(2);
        let mut bytes = Vec::new();
        // The magic number and the version.
        for opcodes in [&b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"[..], b"M\xe9\x03"] {
            let mut number = Pickle::new(protocol, true);
            number.raw(opcodes);
            bytes.extend(number.finish().0);
        }
        let mut more = Pickle::new(protocol, true);
        more.json(&json!({ "protocol_version": 1001, "little_endian": true, "type_sizes": { "int": 4 } }));
        bytes.extend(more.finish().0);
        bytes.extend(pickle);
        let mut keys = Pickle::new(protocol, true);
        let names: Vec<String> = (0..storages.len()).map(|key| key.to_string()).collect();
        keys.json(&json!(names));
        bytes.extend(keys.finish().0);
        for (key, storage) in storages.iter().enumerate() {
            let tensor = &self.tensors[key];
            bytes.extend((storage.len() as u64 / tensor.storage.described().1 as u64).to_le_bytes());
            bytes.extend(storage);
        }
        bytes
    }

    fn values_beside(&self, pickle: &mut Pickle) {
        for (key, opcodes) in &self.opcodes {
            pickle.text(key);
            pickle.raw(opcodes);
        }
        for (key, value) in &self.beside {
            pickle.text(key);
            pickle.json(value);
        }
        if let Some((module, name)) = self.call {
            pickle.text("hook");
            pickle.call(module, name, "true");
        }
    }

    /// The state dictionary.
    fn state(&self, pickle: &mut Pickle) {
        let places: Vec<Place> = self.tensors.iter().map(|t| self.place(t, pickle)).collect();
        pickle.open_ordered_dict();
        for (tensor, Place { key, first, strides }) in self.tensors.iter().zip(&places) {
            pickle.text(&tensor.name);
            let Some(scale) = tensor.scale else {
                pickle.tensor(tensor.storage.described(), *key, *first, &tensor.shape, strides);
                continue;
            };
            let shape = [tensor.shape[0], tensor.shape[1].div_ceil(4)];
            pickle.open_dict();
            pickle.text("packed");
            pickle.tensor(("ByteStorage", 1), *key, *first, &shape, strides);
            pickle.text("scale");
            let key = pickle.storage(Storage::Bfloat16.bytes(scale));
            pickle.tensor(Storage::Bfloat16.described(), key, 0, &[1], &[1]);
            pickle.text("shape");
            pickle.json(&json!(tensor.shape));
            pickle.close_dict();
        }
        for (key, opcodes) in &self.opcodes_among {
            pickle.text(key);
            pickle.raw(opcodes);
        }
        pickle.close_dict();
    }

    /// Puts the values of a tensor where they belong.
    fn place(&self, tensor: &Tensor, pickle: &mut Pickle) -> Place {
        if tensor.scale.is_some() {
            let strides = vec![tensor.shape[1].div_ceil(4), 1];
            return Place { key: pickle.storage(tensor.packed()), first: 0, strides };
        }
        let (values, strides) = tensor.laid_out();
        let bytes = |values: &[f32]| values.iter().flat_map(|&v| tensor.storage.bytes(v)).collect::<Vec<u8>>();
        if !self.shared {
            return Place { key: pickle.storage(bytes(&values)), first: 0, strides };
        }
        let key = if pickle.storages() == 0 { pickle.storage(Vec::new()) } else { 0 };
        pickle.append(key, &bytes(&[9.0; 3]));
        let first = pickle.append(key, &bytes(&values)) / tensor.storage.described().1;
        Place { key, first, strides }
    }

    /// What an optimizer of two moments keeps: a dictionary by the places of its parameters, and their groups.
    fn moments(&self, pickle: &mut Pickle) {
        pickle.open_dict();
        pickle.text("state");
        pickle.open_dict();
        for (place, tensor) in self.tensors.iter().enumerate() {
            pickle.json(&json!(place));
            pickle.open_dict();
            pickle.text("step");
            let key = pickle.storage(Storage::Float.bytes(640.0));
            pickle.tensor(Storage::Float.described(), key, 0, &[], &[]);
            for name in ["exp_avg", "exp_avg_sq"] {
                let moment = Tensor { values: vec![f32::NAN; tensor.values.len()], ..tensor.clone() };
                let Place { key, first, strides } = Checkpoint::default().place(&moment, pickle);
                pickle.text(name);
                pickle.tensor(moment.storage.described(), key, first, &moment.shape, &strides);
            }
            pickle.close_dict();
        }
        pickle.close_dict();
        pickle.text("param_groups");
        let parameters: Vec<usize> = (0..self.tensors.len()).collect();
        pickle.json(&json!([{ "lr": 0.0015, "betas": [0.9, 0.95], "foreach": null, "params": parameters }]));
        pickle.close_dict();
    }
}
