//! What can be wrong with a checkpoint. Every variant names its place: a byte offset, a member of the
//! container, or a tensor.

use std::path::PathBuf;

use super::bit2::Bit2Error;
use super::foreign::Foreign;
use super::safetensors::SafetensorsError;
use super::shards::ShardsError;
use super::torch::{LayoutError, LegacyError, PickleError, ZipError};

/// Why a checkpoint, or one tensor of it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be opened or mapped.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file asked for.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another error, with the file it is about.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        source: Box<WeightsError>,
    },
    /// A file of another kind.
    #[error("not a checkpoint: it is {}; {}", .0.what, .0.instead)]
    Foreign(Foreign),
    /// A file of weights, or another one, in the place of a config.
    #[error("not a config: it is {what}; {instead}")]
    NoConfig {
        /// What it is.
        what: &'static str,
        /// Where it goes.
        instead: &'static str,
    },
    /// One of several files.
    #[error("{0}")]
    Shard(String),
    /// Not a format that is read here.
    #[error(
        "not a checkpoint of a known format: it starts with {start:02x?}, expected a torch .pt file, safetensors or .bit2"
    )]
    UnknownFormat {
        /// The first bytes of the file, at most eight.
        start: Vec<u8>,
    },
    /// The ZIP container of a torch file is damaged.
    #[error(transparent)]
    Zip(#[from] ZipError),
    /// The pickle inside a torch file is damaged, or asks for something that is never done.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// A torch file from before the archives is damaged.
    #[error(transparent)]
    Legacy(#[from] LegacyError),
    /// A torch file holds none of the known layouts, or one that contradicts itself.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A safetensors file is damaged.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// The files of an index make no checkpoint.
    #[error(transparent)]
    Shards(#[from] ShardsError),
    /// A `.bit2` file is damaged.
    #[error(transparent)]
    Bit2(#[from] Bit2Error),
    /// One tensor cannot be read.
    #[error("tensor `{name}`: {problem}")]
    Tensor {
        /// The tensor's name in the file.
        name: String,
        /// What is wrong with it.
        problem: TensorProblem,
    },
}

/// What is wrong with one tensor.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TensorProblem {
    /// NaN or infinite values, as a diverged training run leaves them.
    #[error("{count} of {elements} weights are not finite, the first at element {first}")]
    NonFinite {
        /// How many.
        count: usize,
        /// Of how many.
        elements: usize,
        /// Index of the first, row-major.
        first: usize,
    },
    /// A packed ternary code 11.
    #[error("invalid ternary code 11 at row {row}, column {column}")]
    InvalidCode {
        /// Row of the code.
        row: usize,
        /// Column of the code.
        column: usize,
    },
    /// The unused bits after the last weight of a row are not zero.
    #[error("row {row} has non-zero padding bits after its last weight")]
    Padding {
        /// Row whose padding is wrong.
        row: usize,
    },
    /// An integer that f32 cannot hold exactly.
    #[error("integer {value} at element {index} has no exact f32")]
    InexactInteger {
        /// The stored integer.
        value: i64,
        /// Its index, row-major.
        index: usize,
    },
    /// The stored bytes differ from what was written.
    #[error(
        "the checksum of its data at byte {offset} is {found:08x}, the archive says {expected:08x}: the file is damaged"
    )]
    Checksum {
        /// Where the data starts in the file.
        offset: u64,
        /// CRC-32 of the bytes.
        found: u32,
        /// CRC-32 in the archive's directory.
        expected: u32,
    },
    /// A reader for another stored form was asked.
    #[error("it is stored as {stored}, not as {wanted}")]
    WrongForm {
        /// How it is stored.
        stored: String,
        /// What was asked for.
        wanted: &'static str,
    },
    /// Something that nobody computes with.
    #[error("it is {what}, which is not computed with")]
    NotRead {
        /// What it is.
        what: String,
    },
    /// A stored scale that no quantiser writes.
    #[error("scale {index} is {value}; scales are finite and not negative")]
    Scale {
        /// Index of the scale.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// The shape in the file is not the one the model declares.
    #[error("its shape is {found:?}, the model needs {expected:?}")]
    Shape {
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape of the declaration.
        expected: Vec<usize>,
    },
    /// A packed file whose weights mean something else than the model says.
    #[error("it is stored as {stored}, which the model's encoding {encoding} cannot use without its latent weights")]
    Encoding {
        /// How it is stored.
        stored: String,
        /// The declared encoding.
        encoding: String,
    },
}

impl WeightsError {
    pub(super) fn tensor(name: &str, problem: TensorProblem) -> Self {
        Self::Tensor { name: name.to_owned(), problem }
    }
}
