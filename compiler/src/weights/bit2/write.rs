//! Writing `.bit2`: the table follows from the declarations alone, so that the header is written first and each tensor
//! is read, rounded and forgotten in turn. Bytes are a function of config, metadata and weights.

use std::io::{self, Write};

use serde_json::{Map, Value};

use super::{ALIGNMENT, FORMAT, Float, Header, MAGIC, MAX_HEADER, PREAMBLE, Row, VERSION, padded, row_stride};
use crate::ir::{Encoding, Group, WeightDecl};
use crate::weights::WeightValue;

/// How floats are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOptions {
    /// The scales of sign rows.
    pub alphas: Float,
    /// All other tensors.
    pub dense: Float,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { alphas: Float::F16, dense: Float::F16 }
    }
}

/// Why weights cannot be written as `.bit2`. `E` is why one of them has no value.
#[derive(Debug, thiserror::Error)]
pub enum Bit2WriteError<E> {
    /// The stream fails.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A weight has no value.
    #[error("{0}")]
    Value(E),
    /// No weight has sign rows, so that the format saves nothing.
    #[error("no weight of the model is a sign weight with this config, and .bit2 packs nothing else")]
    NoSigns,
    /// A weight that the format has no form for.
    #[error(
        "weight `{weight}`, {encoding}, has no form in .bit2: it holds sign matrices with one scale a row, and floats"
    )]
    Encoding {
        /// The weight.
        weight: String,
        /// Its encoding.
        encoding: String,
    },
    /// A value that the stored type cannot hold.
    #[error("weight `{weight}`: {what} {index} is {value:?}, which {stored} cannot hold")]
    Range {
        /// The weight.
        weight: String,
        /// `element` or `scale`.
        what: &'static str,
        /// Which, row-major.
        index: usize,
        /// The value.
        value: f32,
        /// The stored type.
        stored: &'static str,
    },
    /// Config, metadata and table are longer than a header may be.
    #[error("config and table make a header of {0} bytes, the limit is {MAX_HEADER}")]
    HeaderTooLong(usize),
}

/// Writes these weights in their order; `value` gives each by its index, `progress` hears the bytes written so far.
/// Gives the length of the file.
///
/// # Errors
/// A weight has no value or no form in the format, or the stream fails.
pub fn write<E>(
    out: &mut impl Write,
    weights: &[&WeightDecl],
    (config, meta): (&Value, &Map<String, Value>),
    options: WriteOptions,
    mut value: impl FnMut(usize) -> Result<WeightValue, E>,
    mut progress: impl FnMut(usize),
) -> Result<usize, Bit2WriteError<E>> {
    let mut end = 0;
    let tensors = weights.iter().map(|weight| row(weight, options, &mut end)).collect::<Result<Vec<_>, _>>()?;
    if !tensors.iter().any(|row| matches!(row, Row::Bit1 { .. })) {
        return Err(Bit2WriteError::NoSigns);
    }
    let header = Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        config: config.clone(),
        meta: Value::Object(meta.clone()),
        tensors,
    };
    // by way of a value, whose keys are sorted
    let text = serde_json::to_value(&header).expect("a header has string keys only").to_string();
    if text.len() > MAX_HEADER {
        return Err(Bit2WriteError::HeaderTooLong(text.len()));
    }
    let data = padded(PREAMBLE + text.len());
    out.write_all(&preamble(text.as_bytes(), data, data + end))?;
    out.write_all(text.as_bytes())?;
    pad(out, PREAMBLE + text.len())?;
    let mut blob = Vec::new();
    let mut done = data;
    for (index, (weight, row)) in weights.iter().zip(&header.tensors).enumerate() {
        match (row, value(index).map_err(Bit2WriteError::Value)?) {
            (Row::Dense { dtype, .. }, WeightValue::Dense(values)) => {
                floats(&values, *dtype, (&weight.path, "element"), &mut blob)?;
                done += put(out, &blob)?;
            }
            (Row::Bit1 { shape, alpha_dtype, .. }, WeightValue::Codes { codes, scales }) => {
                bits(&codes, shape[1], &mut blob);
                done += put(out, &blob)?;
                floats(&scales, *alpha_dtype, (&weight.path, "scale"), &mut blob)?;
                done += put(out, &blob)?;
            }
            _ => unreachable!("a value has the form of its encoding"),
        }
        progress(done);
    }
    debug_assert_eq!(done, data + end, "the table is that of the data");
    Ok(done)
}

/// The row of one weight, whose data start at `end`, which moves behind them.
fn row<E>(weight: &WeightDecl, options: WriteOptions, end: &mut usize) -> Result<Row, Bit2WriteError<E>> {
    let name = weight.path.clone();
    let mut place = |length: usize| {
        let offset = *end;
        *end += padded(length);
        (offset, length)
    };
    match (&weight.encoding, weight.shape.as_slice()) {
        (Encoding::F32 | Encoding::F16 | Encoding::Bf16, shape) => {
            let (offset, nbytes) = place(shape.iter().product::<usize>() * options.dense.element().size());
            Ok(Row::Dense { name, dtype: options.dense, shape: shape.to_vec(), offset, nbytes })
        }
        (Encoding::Sign { group: Group::Row, .. }, &[rows, columns]) => {
            let row_stride = row_stride(columns);
            let (offset, nbytes) = place(rows * row_stride);
            let alpha_dtype = options.alphas;
            let (alpha_offset, alpha_nbytes) = place(rows * alpha_dtype.element().size());
            let shape = [rows, columns];
            Ok(Row::Bit1 { name, shape, row_stride, offset, nbytes, alpha_dtype, alpha_offset, alpha_nbytes })
        }
        (encoding, _) => Err(Bit2WriteError::Encoding { weight: name, encoding: encoding.to_string() }),
    }
}

fn preamble(header: &[u8], data: usize, file: usize) -> [u8; PREAMBLE] {
    let mut bytes = [0; PREAMBLE];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&(header.len() as u64).to_le_bytes());
    bytes[24..32].copy_from_slice(&(data as u64).to_le_bytes());
    bytes[32..40].copy_from_slice(&(file as u64).to_le_bytes());
    bytes[40..44].copy_from_slice(&crc32fast::hash(header).to_le_bytes());
    bytes
}

fn bits(codes: &[i8], columns: usize, out: &mut Vec<u8>) {
    out.clear();
    if columns == 0 {
        return;
    }
    for row in codes.chunks_exact(columns) {
        for word in row.chunks(64) {
            let bits = word.iter().enumerate().fold(0u64, |bits, (at, &code)| bits | u64::from(code > 0) << at);
            out.extend(bits.to_le_bytes());
        }
    }
}

/// Values in the stored type; none may lose its being finite.
fn floats<E>(
    values: &[f32],
    stored: Float,
    (weight, what): (&str, &'static str),
    out: &mut Vec<u8>,
) -> Result<(), Bit2WriteError<E>> {
    let rounded = |value: f32| match stored {
        Float::F16 => crate::numerics::narrow::f16(value),
        Float::F32 => value,
    };
    if let Some(index) = values.iter().position(|&value| !rounded(value).is_finite()) {
        let (weight, value, stored) = (weight.to_owned(), values[index], stored.element().name());
        return Err(Bit2WriteError::Range { weight, what, index, value, stored });
    }
    out.clear();
    match stored {
        Float::F16 => out.extend(values.iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes())),
        Float::F32 => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
    }
    Ok(())
}

/// Writes a blob with its padding and gives their length.
fn put(out: &mut impl Write, blob: &[u8]) -> io::Result<usize> {
    out.write_all(blob)?;
    pad(out, blob.len())?;
    Ok(padded(blob.len()))
}

fn pad(out: &mut impl Write, length: usize) -> io::Result<()> {
    out.write_all(&[0; ALIGNMENT][..padded(length) - length])
}
