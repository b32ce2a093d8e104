//! Checkpoint files: named tensors that stay on disk until they are read, and what becomes of them.
//!
//! [`Checkpoint::open`] maps a file, recognises its format and lists its tensors without touching their data.
//! Checkpoints are hostile input: nothing in them is executed, every length, offset and shape is checked
//! against the file before use, and no read allocates more than its tensor's own size. The quantisers, the
//! packed layouts of the kernels and random weights for measurements are here too. Which tensors a model needs
//! and what they mean is the graph's business and not known here.

mod bit2;
mod encode;
mod error;
mod in_place;
pub mod layout;
mod padding;
pub mod quantise;
mod random;
mod read;
mod safetensors;
mod source;
mod strict_json;
mod torch;
mod value;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod layout_tests;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;
use sterna_runtime::package::Mapping;

pub use bit2::{Bit2Error, Bit2WriteError, Float, WriteOptions, write as write_bit2};
pub use encode::encode_latent;
pub use error::{TensorProblem, WeightsError};
pub use layout::{InPlace, Layout, Section};
pub use random::random_value;
pub use read::{SignTensor, TernaryTensor};
pub use safetensors::SafetensorsError;
pub use source::{Binding, ValueSource};
pub use torch::{
    ArchiveBytes, CompactFile, CompactTensor, LayoutError, PackedRows, PickleError, PickleProblem, ZipError,
};
pub use value::{MatrixShape, WeightValue, group_of};

/// The file formats and, within them, the layouts that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// torch: a dictionary with `format` = `compact_2bit`: packed ternary codes and bf16 tensors.
    TorchCompact,
    /// torch: a training checkpoint; the tensors are under `model`.
    TorchTraining,
    /// torch: the top level is the state dictionary.
    TorchStateDict,
    /// safetensors.
    Safetensors,
    /// `.bit2` version 1: sign rows and dense tensors.
    Bit2,
}

/// Element type of dense data, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// IEEE double.
    F64,
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an IEEE single.
    Bf16,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Byte.
    U8,
    /// One byte, 0 or 1.
    Bool,
}

impl Element {
    /// Bytes per element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::U8 | Self::Bool => 1,
        }
    }

    /// The usual short name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }
}

/// A range of the file, checked to lie inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte, from the start of the file.
    pub offset: usize,
    /// Bytes.
    pub length: usize,
}

/// A dense array inside a storage: element `(i, j, ..)` is element `first + i*strides[0] + j*strides[1] + ..` of it.
/// Several views may share a storage. Checked when made: every index lies inside the storage, and the view has no
/// more elements than the storage, so that reading it allocates no more than the file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    element: Element,
    storage: Extent,
    first: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
    checksum: Option<usize>,
}

/// How a tensor lies in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// One number per weight.
    Dense(View),
    /// Ternary, four codes to a byte, lowest bits first, each row starting on a byte: 00 is 0, 01 is +1, 10 is -1.
    /// Weight = code times `scale`.
    Ternary {
        /// u8, `[rows, ceil(columns / 4)]`.
        codes: View,
        /// One bf16.
        scale: View,
    },
    /// Sign rows, one bit per weight, lowest first: 1 is +1, 0 is -1. Weight = sign times the row's `alpha`.
    Sign {
        /// The bits of all rows.
        bits: Extent,
        /// Bytes from one row to the next.
        row_stride: usize,
        /// One scale per row.
        alpha: View,
    },
}

impl Stored {
    /// The stored form in a word or two, as error messages and `check` print it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dense(view) => view.element.name(),
            Self::Ternary { .. } => "packed ternary",
            Self::Sign { .. } => "sign rows",
        }
    }
}

/// One tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Its full name, as in the file.
    pub name: String,
    /// Its logical shape (for packed forms, of the weights and not of the bytes).
    pub shape: Vec<usize>,
    /// Where and how it is stored.
    pub stored: Stored,
}

/// How a checkpoint is opened.
#[derive(Debug, Clone, Copy)]
pub struct OpenOptions {
    /// Compare each storage of a torch archive with its CRC-32 when it is first read.
    pub verify_checksums: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { verify_checksums: true }
    }
}

/// A CRC-32 that the container gives for one storage, compared once.
#[derive(Debug)]
struct Checksum {
    extent: Extent,
    expected: u32,
    found: OnceLock<u32>,
}

/// What a reader of one format finds in a file.
#[derive(Debug)]
struct Contents {
    format: Format,
    config: Option<Value>,
    metadata: serde_json::Map<String, Value>,
    tensors: Vec<TensorEntry>,
    unread: Vec<String>,
    checksums: Vec<Checksum>,
}

impl Contents {
    fn new(format: Format) -> Self {
        Self {
            format,
            config: None,
            metadata: serde_json::Map::new(),
            tensors: Vec::new(),
            unread: Vec::new(),
            checksums: Vec::new(),
        }
    }
}

/// An open checkpoint: the mapped file and the table of its tensors. No tensor data has been read yet.
#[derive(Debug)]
pub struct Checkpoint {
    bytes: Mapping,
    contents: Contents,
}

impl Checkpoint {
    /// Maps `path` and reads its table of tensors.
    ///
    /// # Errors
    /// The file cannot be mapped, is of no known format, or is malformed; the error names the file and the place.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let bytes = Mapping::of_file(path).map_err(|source| WeightsError::Io { path: path.to_owned(), source })?;
        Self::from_mapping(bytes, OpenOptions::default())
            .map_err(|source| WeightsError::InFile { path: path.to_owned(), source: Box::new(source) })
    }

    /// As [`Checkpoint::open`], for bytes that are already mapped.
    ///
    /// # Errors
    /// The bytes are of no known format or malformed.
    pub fn from_mapping(bytes: Mapping, options: OpenOptions) -> Result<Self, WeightsError> {
        let mut contents = if bytes.starts_with(b"PK\x03\x04") {
            torch::open(&bytes)?
        } else if bytes.starts_with(bit2::MAGIC) {
            bit2::open(&bytes)?
        } else if safetensors::looks_like(&bytes) {
            safetensors::open(&bytes)?
        } else {
            return Err(WeightsError::UnknownFormat { start: bytes.iter().take(8).copied().collect() });
        };
        if !options.verify_checksums {
            for checksum in &mut contents.checksums {
                checksum.found = OnceLock::from(checksum.expected);
            }
        }
        Ok(Self { bytes, contents })
    }

    /// The format and layout that were recognised.
    #[must_use]
    pub fn format(&self) -> Format {
        self.contents.format
    }

    /// The model's config, where the file carries one.
    #[must_use]
    pub fn config(&self) -> Option<&Value> {
        self.contents.config.as_ref()
    }

    /// Plain values beside the weights, such as `step`.
    #[must_use]
    pub fn metadata(&self) -> &serde_json::Map<String, Value> {
        &self.contents.metadata
    }

    /// Plain values beside the weights that the training wrote, by key; null says nothing. Formats whose values beside the
    /// weights are free text have none.
    pub fn saved_values(&self) -> impl Iterator<Item = (&String, &Value)> {
        let typed = matches!(self.format(), Format::TorchCompact | Format::TorchTraining | Format::TorchStateDict);
        self.metadata().iter().filter(move |(_, value)| typed && !value.is_null())
    }

    /// Parts of the file that hold no weights and were left unread, such as `optimizer`.
    #[must_use]
    pub fn unread(&self) -> &[String] {
        &self.contents.unread
    }

    /// All tensors, in the order of the file. Names are unique.
    #[must_use]
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.contents.tensors
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn file_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The file.
    #[must_use]
    pub fn mapping(&self) -> &Mapping {
        &self.bytes
    }
}
