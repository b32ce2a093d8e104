//! Checkpoint files: named tensors that stay on disk until they are read, and what becomes of them.
//!
//! [`Checkpoint::open`] maps a file, recognises its format and lists its tensors without touching their data.
//! Checkpoints are hostile input: nothing in them is executed, every length, offset and shape is checked
//! against the file before use, and no read allocates more than its tensor's own size. The quantisers, the
//! packed layouts of the kernels and random weights for measurements are here too. Which tensors a model needs
//! and what they mean is the graph's business and not known here.

mod bit2;
mod checkpoint;
mod encode;
mod error;
mod foreign;
mod in_place;
pub mod layout;
mod padding;
pub mod quantise;
mod random;
mod read;
mod safetensors;
mod shards;
mod source;
mod strict_json;
mod torch;
mod unneeded;
mod value;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod layout_tests;
#[cfg(test)]
mod tests;

pub use bit2::{Bit2Error, Bit2WriteError, Float, WriteOptions, write as write_bit2};
use checkpoint::{Checksum, Contents};

pub use checkpoint::{Checkpoint, OpenOptions};
pub use encode::encode_latent;
pub use error::{TensorProblem, WeightsError};
pub use foreign::{Foreign, is_no_config};
pub use layout::{InPlace, Layout, Section};
pub use random::random_value;
pub use read::{SignTensor, TernaryTensor, check_packed_scales};
pub use safetensors::SafetensorsError;
pub use shards::{ShardsError, files_of, index_of};
pub use source::{Binding, ValueSource};
pub use torch::{
    ArchiveBytes, CompactFile, CompactTensor, LayoutError, LegacyError, PackedRows, PickleError, PickleProblem,
    ZipError,
};
pub use value::{MatrixShape, WeightValue, group_of};

/// The file formats and, within them, the layouts that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// torch: a dictionary with `format` = `compact_2bit`: packed ternary codes and bf16 tensors.
    TorchCompact,
    /// torch: a training checkpoint; the tensors are under a key such as `model`.
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
    /// Signed 16-bit integer.
    I16,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 64-bit integer.
    U64,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 16-bit integer.
    U16,
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
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
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
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U64 => "u64",
            Self::U32 => "u32",
            Self::U16 => "u16",
            Self::U8 => "u8",
            Self::Bool => "bool",
        }
    }

    /// Whether it is a float: what is trained is made of floats.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::Bf16)
    }
}

/// A range of a file, checked to lie inside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Which file of the checkpoint.
    pub file: usize,
    /// First byte, from the start of the file.
    pub offset: usize,
    /// Bytes.
    pub length: usize,
}

impl Extent {
    /// A range of the only file.
    pub(crate) fn new(offset: usize, length: usize) -> Self {
        Self { file: 0, offset, length }
    }
}

/// A dense array inside a storage: element `(i, j, ..)` is element `first + i*strides[0] + j*strides[1] + ..` of it.
/// Several views may share a storage. Checked when made: every index lies inside the storage, and the view has no
/// more elements than the storage, so that reading it allocates no more than the file holds; only views that repeat
/// elements (of stride 0) may have more, up to a fixed number.
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
    /// Something that nobody computes with: elements of other types, or no tensor at all.
    Other {
        /// What it is, such as `complex64` or `an integer`.
        what: String,
    },
}

impl Stored {
    /// The stored form in a word or two, as error messages and `check` print it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Dense(view) => view.element.name(),
            Self::Ternary { .. } => "packed ternary",
            Self::Sign { .. } => "sign rows",
            Self::Other { what } => what,
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
