//! Writers of torch files for the tests, that can also write what torch never would.

use crate::weights::Element;

/// A stored ZIP archive of these members.
pub fn archive(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let start = out.len() as u32;
        let common = |bytes: &mut Vec<u8>| {
            // version, flags, method, time, date
            bytes.extend([0u8; 10]);
            bytes.extend(crc32fast::hash(data).to_le_bytes());
            bytes.extend((data.len() as u32).to_le_bytes());
            bytes.extend((data.len() as u32).to_le_bytes());
            bytes.extend((name.len() as u16).to_le_bytes());
            bytes.extend([0, 0]);
        };
        out.extend(b"PK\x03\x04");
        common(&mut out);
        out.extend(name.as_bytes());
        out.extend(data);
        directory.extend(b"PK\x01\x02\0\0");
        common(&mut directory);
        // comment length, disk, attributes
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (offset, length, count) = (out.len() as u32, directory.len() as u32, members.len() as u16);
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// The members of an archive, copied.
pub fn members_of(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let archive = super::zip::Archive::read(bytes).unwrap();
    let data = |extent: crate::weights::Extent| bytes[extent.offset..extent.offset + extent.length].to_vec();
    archive.members().iter().map(|member| (member.name.clone(), data(member.extent))).collect()
}

/// A torch file with this pickle and these storages, keys 0, 1, ...
pub fn torch_file(pickle: Vec<u8>, storages: &[Vec<u8>]) -> Vec<u8> {
    let mut members = vec![("t/data.pkl".to_owned(), pickle), ("t/byteorder".to_owned(), b"little".to_vec())];
    members.extend(storages.iter().enumerate().map(|(key, data)| (format!("t/data/{key}"), data.clone())));
    archive(&members)
}

/// A file from before the archives: the value, and keys, element counts and bytes of its storages.
pub fn legacy_file(pickle: Vec<u8>, storages: &[(&str, u64, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec();
    bytes.extend(Pickle::new().int(1001).stop());
    bytes.extend(Pickle::new().raw(b"}").text("little_endian").raw(b"\x88s").stop());
    bytes.extend(pickle);
    let keys = storages.iter().fold(Pickle::new().raw(b"]("), |keys, (key, _, _)| keys.text(key));
    bytes.extend(keys.raw(b"e").stop());
    for (_, elements, data) in storages {
        bytes.extend(elements.to_le_bytes());
        bytes.extend(data);
    }
    bytes
}

/// A pickle under construction.
#[derive(Default, Clone)]
pub struct Pickle(pub Vec<u8>);

impl Pickle {
    /// The protocol's opening.
    pub fn new() -> Self {
        Self(b"\x80\x02".to_vec())
    }

    /// Opcodes as they are.
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub fn text(mut self, text: &str) -> Self {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.raw(text.as_bytes())
    }

    /// An integer, as LONG1.
    pub fn int(self, value: i64) -> Self {
        self.raw(b"\x8a\x08").raw(&value.to_le_bytes())
    }

    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub fn ints(self, values: &[i64]) -> Self {
        values.iter().fold(self.raw(b"("), |pickle, &value| pickle.int(value)).raw(b"t")
    }

    pub fn storage(self, kind: &str, key: usize, elements: i64) -> Self {
        let open = self.raw(b"(").text("storage").global("torch", kind);
        open.text(&key.to_string()).text("cpu").int(elements).raw(b"tQ")
    }

    /// A tensor on a new mention of a storage.
    pub fn tensor(self, kind: &str, key: usize, elements: i64, first: i64, shape: &[i64], strides: &[i64]) -> Self {
        let open = self.global("torch._utils", "_rebuild_tensor_v2").raw(b"(").storage(kind, key, elements).int(first);
        open.ints(shape).ints(strides).raw(b"\x89").global("collections", "OrderedDict").raw(b")RtR")
    }

    pub fn stop(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

/// The storage type of an element.
pub fn storage_type(element: Element) -> &'static str {
    match element {
        Element::F64 => "DoubleStorage",
        Element::F32 => "FloatStorage",
        Element::F16 => "HalfStorage",
        Element::Bf16 => "BFloat16Storage",
        Element::I64 => "LongStorage",
        Element::I32 => "IntStorage",
        Element::I16 => "ShortStorage",
        Element::I8 => "CharStorage",
        Element::U8 => "ByteStorage",
        Element::U64 | Element::U32 | Element::U16 => "UntypedStorage",
        Element::Bool => "BoolStorage",
    }
}
