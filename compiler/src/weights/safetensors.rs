//! The safetensors format. The crate parses the header; what it lets pass is checked here: duplicate names,
//! offsets that overflow, element types that no weight has.

use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;

use super::{Contents, Element, Extent, Format, Stored, TensorEntry, View, WeightsError, strict_json};

/// Longest header accepted, in bytes.
pub const MAX_HEADER: usize = 1 << 26;
const LENGTH_FIELD: usize = 8;

/// Why a safetensors file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    /// The header does not fit the file, or is unreasonably long.
    #[error("byte 0: the header is said to have {length} bytes; the file has {file}, the limit is {MAX_HEADER}")]
    HeaderLength {
        /// Its declared length.
        length: u64,
        /// Length of the file.
        file: usize,
    },
    /// The header is no JSON object, or has a duplicate key.
    #[error("header (byte 8): {0}")]
    Json(serde_json::Error),
    /// The crate refuses the header.
    #[error("header (byte 8): {0}")]
    Header(#[from] safetensors::SafeTensorError),
    /// One tensor's row in the header is wrong.
    #[error("header: tensor `{name}`: {what}")]
    Tensor {
        /// The tensor.
        name: String,
        /// What is wrong.
        what: String,
    },
}

/// Whether the bytes start as a safetensors file does: a header length and an opening brace.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    bytes.len() > LENGTH_FIELD && bytes[7] == 0 && bytes[LENGTH_FIELD] == b'{'
}

pub(super) fn open(bytes: &[u8]) -> Result<Contents, WeightsError> {
    Ok(read(bytes)?)
}

fn read(bytes: &[u8]) -> Result<Contents, SafetensorsError> {
    let length = u64::from_le_bytes(bytes[..LENGTH_FIELD].try_into().expect("eight bytes"));
    let header = usize::try_from(length)
        .ok()
        .filter(|&length| length <= MAX_HEADER)
        .and_then(|length| bytes.get(LENGTH_FIELD..LENGTH_FIELD + length))
        .ok_or(SafetensorsError::HeaderLength { length, file: bytes.len() })?;
    let data = LENGTH_FIELD + header.len();
    check_rows(&strict_json::parse(header).map_err(SafetensorsError::Json)?, bytes.len() - data)?;

    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let mut contents = Contents::new(Format::Safetensors);
    for (key, value) in metadata.metadata().iter().flatten() {
        match (key.as_str(), serde_json::from_str(value)) {
            ("config", Ok(config @ Value::Object(_))) => contents.config = Some(config),
            _ => {
                contents.metadata.insert(key.clone(), Value::String(value.clone()));
            }
        }
    }
    for name in metadata.offset_keys() {
        let info = metadata.info(&name).expect("a name of the table");
        let wrong = |what: String| SafetensorsError::Tensor { name: name.clone(), what };
        let Some(element) = element(info.dtype) else {
            let stored = Stored::Other { what: info.dtype.to_string() };
            contents.tensors.push(TensorEntry { name, shape: info.shape.clone(), stored });
            continue;
        };
        let (start, end) = info.data_offsets;
        let extent = Extent::new(data + start, end - start);
        let view = View::dense(element, extent, &info.shape).map_err(wrong)?;
        contents.tensors.push(TensorEntry { name, shape: info.shape.clone(), stored: Stored::Dense(view) });
    }
    Ok(contents)
}

/// The offsets of every row must lie in the data, before the crate computes with them.
fn check_rows(header: &Value, data: usize) -> Result<(), SafetensorsError> {
    for (name, row) in header.as_object().into_iter().flatten().filter(|(name, _)| *name != "__metadata__") {
        let offsets = row.get("data_offsets").and_then(Value::as_array);
        let inside = |value: &Value| value.as_u64().is_some_and(|offset| offset <= data as u64);
        if !offsets.is_some_and(|pair| pair.len() == 2 && pair.iter().all(inside)) {
            return Err(SafetensorsError::Tensor {
                name: name.clone(),
                what: format!("data_offsets are not two offsets within the {data} bytes of data"),
            });
        }
    }
    Ok(())
}

/// The elements of a type; none of one that nobody computes with.
fn element(dtype: Dtype) -> Option<Element> {
    match dtype {
        Dtype::F64 => Some(Element::F64),
        Dtype::F32 => Some(Element::F32),
        Dtype::F16 => Some(Element::F16),
        Dtype::BF16 => Some(Element::Bf16),
        Dtype::I64 => Some(Element::I64),
        Dtype::I32 => Some(Element::I32),
        Dtype::I16 => Some(Element::I16),
        Dtype::I8 => Some(Element::I8),
        Dtype::U64 => Some(Element::U64),
        Dtype::U32 => Some(Element::U32),
        Dtype::U16 => Some(Element::U16),
        Dtype::U8 => Some(Element::U8),
        Dtype::BOOL => Some(Element::Bool),
        _ => None,
    }
}
