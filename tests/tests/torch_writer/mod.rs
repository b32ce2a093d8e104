//! A writer of torch checkpoints, that can also write what torch would not.

use std::io::{Cursor, Write};

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
    /// Row-major.
    pub values: Vec<f32>,
    pub storage: Storage,
    /// Whether the storage holds the transposed matrix, read through exchanged strides.
    pub transposed: bool,
}

/// A checkpoint under construction.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    pub tensors: Vec<Tensor>,
    /// JSON-like values beside the model: text, numbers. None: the state dictionary is the top level.
    pub beside: Option<Vec<(String, f64)>>,
    /// Whether all tensors share one storage, each behind some other numbers.
    pub shared: bool,
    /// Whether the archive has ZIP64 fields.
    pub zip64: bool,
    /// A function that loading would call, as `module`, `name`, with one text as its argument.
    pub call: Option<(&'static str, &'static str)>,
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn int(out: &mut Vec<u8>, value: usize) {
    out.extend(b"\x8a\x08");
    out.extend((value as u64).to_le_bytes());
}

fn ints(out: &mut Vec<u8>, values: &[usize]) {
    out.push(b'(');
    values.iter().for_each(|&v| int(out, v));
    out.push(b't');
}

fn global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.extend(format!("c{module}\n{name}\n").as_bytes());
}

impl Storage {
    fn name(self) -> &'static str {
        match self {
            Storage::Float => "FloatStorage",
            Storage::Double => "DoubleStorage",
            Storage::Half => "HalfStorage",
            Storage::Bfloat16 => "BFloat16Storage",
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

/// Where a tensor lies: its storage, first element and strides.
type Place = (usize, usize, Vec<usize>);

impl Checkpoint {
    /// The storages, and the place of each tensor.
    fn storages(&self) -> (Vec<Vec<u8>>, Vec<Place>) {
        let mut storages: Vec<Vec<u8>> = Vec::new();
        let mut places = Vec::new();
        for tensor in &self.tensors {
            let (values, strides) = tensor.laid_out();
            if storages.is_empty() || !self.shared {
                storages.push(Vec::new());
            }
            let key = storages.len() - 1;
            let storage = &mut storages[key];
            if self.shared {
                storage.extend((0..3).flat_map(|_| tensor.storage.bytes(9.0)));
            }
            places.push((key, storage.len() / tensor.storage.bytes(0.0).len(), strides));
            storage.extend(values.iter().flat_map(|&v| tensor.storage.bytes(v)));
        }
        (storages, places)
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let (storages, places) = self.storages();
        let mut state = Vec::new();
        global(&mut state, "collections", "OrderedDict");
        state.extend(b")R(");
        for (tensor, (key, first, strides)) in self.tensors.iter().zip(&places) {
            text(&mut state, &tensor.name);
            global(&mut state, "torch._utils", "_rebuild_tensor_v2");
            state.extend(b"((");
            text(&mut state, "storage");
            global(&mut state, "torch", tensor.storage.name());
            text(&mut state, &key.to_string());
            text(&mut state, "cpu");
            int(&mut state, storages[*key].len() / tensor.storage.bytes(0.0).len());
            state.extend(b"tQ");
            int(&mut state, *first);
            ints(&mut state, &tensor.shape);
            ints(&mut state, strides);
            state.push(b'\x89');
            global(&mut state, "collections", "OrderedDict");
            state.extend(b")RtR");
        }
        state.push(b'u');
        let mut pickle = b"\x80\x02".to_vec();
        match &self.beside {
            None => pickle.extend(state),
            Some(beside) => {
                pickle.extend(b"}(");
                text(&mut pickle, "model");
                pickle.extend(state);
                for (key, value) in beside {
                    text(&mut pickle, key);
                    pickle.push(b'G');
                    pickle.extend(value.to_be_bytes());
                }
                if let Some((module, name)) = self.call {
                    text(&mut pickle, "hook");
                    global(&mut pickle, module, name);
                    text(&mut pickle, "true");
                    pickle.extend(b"\x85R");
                }
                pickle.push(b'u');
            }
        }
        pickle.push(b'.');
        let mut members = vec![("data.pkl".to_owned(), pickle), ("byteorder".to_owned(), b"little".to_vec())];
        members.push(("version".to_owned(), b"3\n".to_vec()));
        members.extend(storages.into_iter().enumerate().map(|(key, bytes)| (format!("data/{key}"), bytes)));
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .large_file(self.zip64)
            .with_alignment(64);
        for (name, bytes) in members {
            archive.start_file(format!("some root/{name}"), stored).expect("a new member");
            archive.write_all(&bytes).expect("memory");
        }
        archive.finish().expect("memory").into_inner()
    }
}
