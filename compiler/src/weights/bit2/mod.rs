//! The `.bit2` format, version 1: sign rows with per-row scales, and dense tensors, in one mappable file.
//!
//! A 64-byte preamble (magic, version, flags, lengths, CRC-32 of the header), a JSON header, then blobs that
//! follow one another in the order of the table, each starting on 64 bytes and zero-padded to 64. What both
//! directions share is here; `read` checks and lists a file, `write` makes one.

mod read;
mod write;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Element;

pub use read::Bit2Error;
pub(super) use read::open;
pub use write::{Bit2WriteError, WriteOptions, write};

pub(super) const MAGIC: &[u8; 8] = b"BIT2PACK";
/// Longest header accepted, in bytes.
pub const MAX_HEADER: usize = 1 << 26;
const FORMAT: &str = "bit2";
const VERSION: u32 = 1;
const PREAMBLE: usize = 64;
const ALIGNMENT: usize = 64;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    version: u32,
    config: Value,
    #[serde(default)]
    meta: Value,
    tensors: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Row {
    Dense {
        name: String,
        dtype: Float,
        shape: Vec<usize>,
        offset: usize,
        nbytes: usize,
    },
    Bit1 {
        name: String,
        shape: [usize; 2],
        row_stride: usize,
        offset: usize,
        nbytes: usize,
        alpha_dtype: Float,
        alpha_offset: usize,
        alpha_nbytes: usize,
    },
}

/// A stored float.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Float {
    /// IEEE half.
    F16,
    /// IEEE single.
    F32,
}

impl Float {
    fn element(self) -> Element {
        match self {
            Self::F16 => Element::F16,
            Self::F32 => Element::F32,
        }
    }
}

/// Bytes from one row of bits to the next.
fn row_stride(columns: usize) -> usize {
    columns.div_ceil(64) * 8
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGNMENT)
}
