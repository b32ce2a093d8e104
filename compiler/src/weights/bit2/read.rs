//! Reading `.bit2`: every rule of the format is checked before a tensor is listed, except the padding bits within
//! rows, which are looked at when the bits are.

use serde_json::Value;

use super::{ALIGNMENT, FORMAT, Header, MAX_HEADER, PREAMBLE, Row, VERSION, padded, row_stride as row_stride_of};
use crate::weights::{Contents, Extent, Format, Stored, TensorEntry, View, WeightsError, strict_json};

/// Why a `.bit2` file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Bit2Error {
    /// Shorter than its preamble.
    #[error("the file has {0} bytes, fewer than the preamble of {PREAMBLE}")]
    TooShort(usize),
    /// A field of the preamble is not what the version requires.
    #[error("byte {offset}: {field} is {found}, expected {expected}")]
    Preamble {
        /// Where the field lies.
        offset: usize,
        /// Its name.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What it must be.
        expected: u64,
    },
    /// The header is not JSON, or not of the form that the version requires.
    #[error("header (byte {PREAMBLE}): {0}")]
    Json(#[from] serde_json::Error),
    /// A tensor's row in the header is wrong.
    #[error("header: tensor `{name}`: {what}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// Padding that is not zero.
    #[error("byte {offset}: padding is not zero")]
    Padding {
        /// The first such byte.
        offset: usize,
    },
    /// Bytes after the last tensor.
    #[error("the tensors end at byte {end}, the file at byte {file}")]
    Trailing {
        /// Padded end of the last blob.
        end: usize,
        /// Length of the file.
        file: usize,
    },
}

pub fn open(bytes: &[u8]) -> Result<Contents, WeightsError> {
    Ok(read(bytes)?)
}

fn read(bytes: &[u8]) -> Result<Contents, Bit2Error> {
    let (header, data) = preamble(bytes)?;
    // twice: once to refuse duplicate keys, once into the rows
    let header: Header = serde_json::from_value(strict_json::parse(&bytes[PREAMBLE..PREAMBLE + header])?)?;
    if header.format != FORMAT || header.version != VERSION {
        let what =
            format!("format `{}` version {}, expected `{FORMAT}` version {VERSION}", header.format, header.version);
        return Err(Bit2Error::Json(serde::de::Error::custom(what)));
    }
    let mut cursor = Cursor { bytes, data, at: data };
    let mut contents = Contents::new(Format::Bit2);
    let mut names = std::collections::HashSet::new();
    for row in header.tensors {
        let entry = cursor.tensor(row)?;
        if !names.insert(entry.name.clone()) {
            return Err(Bit2Error::Tensor { name: entry.name, what: "occurs twice".to_owned() });
        }
        contents.tensors.push(entry);
    }
    if cursor.at != bytes.len() {
        return Err(Bit2Error::Trailing { end: cursor.at, file: bytes.len() });
    }
    match header.meta {
        Value::Object(meta) => contents.metadata = meta,
        Value::Null => {}
        _ => {
            return Err(Bit2Error::Json(serde::de::Error::custom("`meta` is not an object")));
        }
    }
    contents.config = Some(header.config);
    Ok(contents)
}

/// Checks the preamble; gives the header's length and where the data starts.
fn preamble(bytes: &[u8]) -> Result<(usize, usize), Bit2Error> {
    let head: &[u8; PREAMBLE] = bytes.first_chunk().ok_or(Bit2Error::TooShort(bytes.len()))?;
    let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
    let long = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let expect = |offset, field, found: u64, expected: u64| {
        if found == expected { Ok(()) } else { Err(Bit2Error::Preamble { offset, field, found, expected }) }
    };
    expect(8, "the version", word(8).into(), VERSION.into())?;
    expect(12, "the flags", word(12).into(), 0)?;
    for (offset, &byte) in head.iter().enumerate().skip(44) {
        expect(offset, "a reserved byte", byte.into(), 0)?;
    }
    expect(32, "the file size", long(32), bytes.len() as u64)?;
    if !bytes.len().is_multiple_of(ALIGNMENT) {
        return Err(Bit2Error::Preamble {
            offset: 32,
            field: "the file size modulo 64",
            found: (bytes.len() % ALIGNMENT) as u64,
            expected: 0,
        });
    }
    let limit = (bytes.len() - PREAMBLE).min(MAX_HEADER);
    let header = usize::try_from(long(16)).ok().filter(|&length| length <= limit);
    let header = header.ok_or(Bit2Error::Preamble {
        offset: 16,
        field: "the header length",
        found: long(16),
        expected: limit as u64,
    })?;
    let data = padded(PREAMBLE + header);
    expect(24, "the data offset", long(24), data as u64)?;
    expect(40, "the header's CRC-32", word(40).into(), crc32fast::hash(&bytes[PREAMBLE..PREAMBLE + header]).into())?;
    zero(bytes, PREAMBLE + header, data)?;
    Ok((header, data))
}

/// Walks the blobs in the order of the table.
struct Cursor<'a> {
    bytes: &'a [u8],
    data: usize,
    at: usize,
}

impl Cursor<'_> {
    fn tensor(&mut self, row: Row) -> Result<TensorEntry, Bit2Error> {
        match row {
            Row::Dense { name, dtype, shape, offset, nbytes } => {
                let extent = self.blob(&name, "its data", offset, nbytes)?;
                let view = View::dense(dtype.element(), extent, &shape)
                    .map_err(|what| Bit2Error::Tensor { name: name.clone(), what })?;
                Ok(TensorEntry { name, shape, stored: Stored::Dense(view) })
            }
            Row::Bit1 { name, shape, row_stride, offset, nbytes, alpha_dtype, alpha_offset, alpha_nbytes } => {
                let wrong = |what: String| Bit2Error::Tensor { name: name.clone(), what };
                let [rows, columns] = shape;
                let expected = row_stride_of(columns);
                if row_stride != expected {
                    return Err(wrong(format!("row_stride is {row_stride}, {columns} columns need {expected}")));
                }
                if rows.checked_mul(row_stride) != Some(nbytes) {
                    return Err(wrong(format!("nbytes is {nbytes}, not {rows} rows of {row_stride} bytes")));
                }
                let bits = self.blob(&name, "its bits", offset, nbytes)?;
                let extent = self.blob(&name, "its scales", alpha_offset, alpha_nbytes)?;
                let alpha = View::dense(alpha_dtype.element(), extent, &[rows]).map_err(wrong)?;
                Ok(TensorEntry { name, shape: shape.to_vec(), stored: Stored::Sign { bits, row_stride, alpha } })
            }
        }
    }

    /// The next blob: it must start where the one before ended, lie in the file, and be padded with zeros.
    fn blob(&mut self, name: &str, what: &str, offset: usize, length: usize) -> Result<Extent, Bit2Error> {
        let wrong = |what: String| Bit2Error::Tensor { name: name.to_owned(), what };
        if self.data.checked_add(offset) != Some(self.at) {
            return Err(wrong(format!(
                "{what} at offset {offset}, expected {} right after the tensor before",
                self.at - self.data
            )));
        }
        if length > self.bytes.len() - self.at {
            return Err(wrong(format!("{what} of {length} bytes at offset {offset} reach beyond the end of the file")));
        }
        let extent = Extent::new(self.at, length);
        // the file is a multiple of 64 bytes long, so that the padding lies inside it
        self.at = padded(self.at + length);
        zero(self.bytes, extent.offset + length, self.at)?;
        Ok(extent)
    }
}

fn zero(bytes: &[u8], from: usize, to: usize) -> Result<(), Bit2Error> {
    match bytes[from..to].iter().position(|&byte| byte != 0) {
        None => Ok(()),
        Some(at) => Err(Bit2Error::Padding { offset: from + at }),
    }
}
