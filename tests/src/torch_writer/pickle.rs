//! The opcodes of `torch.save`, without its memo, and the storages that tensors refer to.

use serde_json::Value;

/// A pickle under construction, with the storages beside it.
pub struct Pickle {
    bytes: Vec<u8>,
    storages: Vec<Vec<u8>>,
    protocol: u8,
    /// Whether references to storages have a sixth part, as in files from before the archives.
    legacy: bool,
}

impl Pickle {
    /// Nothing but the protocol.
    pub fn new(protocol: u8, legacy: bool) -> Pickle {
        Pickle { bytes: vec![b'\x80', protocol], storages: Vec::new(), protocol, legacy }
    }

    /// The pickle's bytes, and the storages in the order of their keys.
    pub fn finish(mut self) -> (Vec<u8>, Vec<Vec<u8>>) {
        self.bytes.push(b'.');
        if self.protocol >= 4 {
            let length = (self.bytes.len() - 2) as u64;
            self.bytes.splice(2..2, std::iter::once(b'\x95').chain(length.to_le_bytes()));
        }
        (self.bytes, self.storages)
    }

    /// Opcodes as they are.
    pub fn raw(&mut self, opcodes: &[u8]) {
        self.bytes.extend(opcodes);
    }

    pub fn text(&mut self, text: &str) {
        if self.protocol >= 4 {
            self.bytes.extend([b'\x8c', u8::try_from(text.len()).expect("a short text")]);
            self.bytes.extend(text.as_bytes());
            // remembered, as Python does
            self.bytes.push(b'\x94');
            return;
        }
        self.bytes.push(b'X');
        self.bytes.extend((text.len() as u32).to_le_bytes());
        self.bytes.extend(text.as_bytes());
    }

    pub fn int(&mut self, value: i64) {
        self.bytes.extend(b"\x8a\x08");
        self.bytes.extend(value.to_le_bytes());
    }

    /// A dictionary: keys and values follow, and then [`Pickle::close_dict`].
    pub fn open_dict(&mut self) {
        self.bytes.extend(b"}(");
    }

    /// The same, of the class that state dictionaries have.
    pub fn open_ordered_dict(&mut self) {
        self.global("collections", "OrderedDict");
        self.bytes.extend(b")R(");
    }

    pub fn close_dict(&mut self) {
        self.bytes.push(b'u');
    }

    /// Any JSON value.
    pub fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes.push(b'N'),
            Value::Bool(value) => self.bytes.push(if *value { b'\x88' } else { b'\x89' }),
            Value::Number(number) => match number.as_i64() {
                Some(value) => self.int(value),
                None => {
                    self.bytes.push(b'G');
                    self.bytes.extend(number.as_f64().expect("a double").to_be_bytes());
                }
            },
            Value::String(value) => self.text(value),
            Value::Array(values) => {
                self.bytes.extend(b"](");
                values.iter().for_each(|value| self.json(value));
                self.bytes.push(b'e');
            }
            Value::Object(values) => {
                self.open_dict();
                for (key, value) in values {
                    self.text(key);
                    self.json(value);
                }
                self.close_dict();
            }
        }
    }

    /// A call of a function with one text.
    pub fn call(&mut self, module: &str, name: &str, argument: &str) {
        self.global(module, name);
        self.text(argument);
        self.bytes.extend(b"\x85R");
    }

    /// A storage of these bytes; gives its key. It may grow until a tensor refers to it.
    pub fn storage(&mut self, bytes: Vec<u8>) -> usize {
        self.storages.push(bytes);
        self.storages.len() - 1
    }

    /// How many storages there are.
    pub fn storages(&self) -> usize {
        self.storages.len()
    }

    /// Appends to a storage; gives the place of the first byte.
    pub fn append(&mut self, key: usize, bytes: &[u8]) -> usize {
        self.storages[key].extend(bytes);
        self.storages[key].len() - bytes.len()
    }

    /// A tensor of a storage of elements of `kind`, each of `width` bytes.
    pub fn tensor(
        &mut self,
        (kind, width): (&str, usize),
        key: usize,
        first: usize,
        shape: &[usize],
        strides: &[usize],
    ) {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.bytes.extend(b"((");
        self.text("storage");
        self.global("torch", kind);
        self.text(&key.to_string());
        self.text("cpu");
        self.int((self.storages[key].len() / width) as i64);
        if self.legacy {
            self.bytes.push(b'N');
        }
        self.bytes.extend(b"tQ");
        self.int(first as i64);
        self.ints(shape);
        self.ints(strides);
        self.bytes.push(b'\x89');
        self.open_ordered_dict();
        self.close_dict();
        self.bytes.extend(b"tR");
    }

    fn ints(&mut self, values: &[usize]) {
        self.bytes.push(b'(');
        values.iter().for_each(|&v| self.int(v as i64));
        self.bytes.push(b't');
    }

    fn global(&mut self, module: &str, name: &str) {
        if self.protocol >= 4 {
            self.text(module);
            self.text(name);
            self.bytes.push(b'\x93');
            return;
        }
        self.bytes.extend(format!("c{module}\n{name}\n").as_bytes());
    }
}
