//! An open checkpoint: its mapped files and the table of its tensors.

use std::path::Path;
use std::sync::OnceLock;

use serde_json::Value;
use sterna_runtime::package::Mapping;

use super::{Extent, Format, TensorEntry, WeightsError, bit2, foreign, safetensors, shards, torch};

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
pub(super) struct Checksum {
    pub extent: Extent,
    pub expected: u32,
    pub found: OnceLock<u32>,
}

/// What a reader of one format finds in a file.
#[derive(Debug)]
pub(super) struct Contents {
    pub format: Format,
    pub config: Option<Value>,
    pub metadata: serde_json::Map<String, Value>,
    pub tensors: Vec<TensorEntry>,
    /// The key under which the tensors stood, and those under which there were others.
    pub key: Option<String>,
    pub others: Vec<String>,
    pub unread: Vec<String>,
    pub checksums: Vec<Checksum>,
}

impl Contents {
    pub fn new(format: Format) -> Self {
        Self {
            format,
            config: None,
            metadata: serde_json::Map::new(),
            tensors: Vec::new(),
            key: None,
            others: Vec::new(),
            unread: Vec::new(),
            checksums: Vec::new(),
        }
    }
}

/// An open checkpoint: its mapped files and the table of its tensors. No tensor data has been read yet.
#[derive(Debug)]
pub struct Checkpoint {
    /// One, unless the tensors are spread over several.
    pub(super) files: Vec<Mapping>,
    pub(super) contents: Contents,
}

impl Checkpoint {
    /// Maps `path` and reads its table of tensors. The index of a checkpoint in several files (`*.index.json`), or the
    /// folder in which it lies, stands for all of them.
    ///
    /// # Errors
    /// A file cannot be mapped, is of no known format, or is malformed; the error names the file and the place.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let path = shards::index_of(path);
        if shards::is_index(&path) {
            return shards::open(&path);
        }
        shards::is_whole(&path)?;
        let (file, contents) = Self::map(&path)?;
        Ok(Self { files: vec![file], contents })
    }

    /// One file and what is in it.
    pub(super) fn map(path: &Path) -> Result<(Mapping, Contents), WeightsError> {
        let bytes = Mapping::of_file(path).map_err(|source| WeightsError::Io { path: path.to_owned(), source })?;
        let contents =
            read(&bytes).map_err(|source| WeightsError::InFile { path: path.to_owned(), source: Box::new(source) })?;
        Ok((bytes, contents))
    }

    /// As [`Checkpoint::open`], for one file that is already mapped.
    ///
    /// # Errors
    /// The bytes are of no known format or malformed.
    pub fn from_mapping(bytes: Mapping, options: OpenOptions) -> Result<Self, WeightsError> {
        let mut contents = read(&bytes)?;
        if !options.verify_checksums {
            for checksum in &mut contents.checksums {
                checksum.found = OnceLock::from(checksum.expected);
            }
        }
        Ok(Self { files: vec![bytes], contents })
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

    /// Plain values beside the weights that the training wrote, by key; null says nothing. Formats whose values beside
    /// the weights are free text have none.
    pub fn saved_values(&self) -> impl Iterator<Item = (&String, &Value)> {
        let typed = matches!(self.format(), Format::TorchCompact | Format::TorchTraining | Format::TorchStateDict);
        self.metadata().iter().filter(move |(_, value)| typed && !value.is_null())
    }

    /// Parts of the file that hold no weights and were left unread, such as `optimizer`.
    #[must_use]
    pub fn unread(&self) -> &[String] {
        &self.contents.unread
    }

    /// The key under which the tensors stood, such as `model` or `state.model`; none where they are the file.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.contents.key.as_deref()
    }

    /// Keys under which there are other state dictionaries, which were left unread: an average of the weights.
    #[must_use]
    pub fn other_keys(&self) -> &[String] {
        &self.contents.others
    }

    /// All tensors, in the order of the file. Names are unique.
    #[must_use]
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.contents.tensors
    }

    /// Length of the file in bytes, or of all files together.
    #[must_use]
    pub fn file_bytes(&self) -> usize {
        self.files.iter().map(|file| file.len()).sum()
    }

    /// The file, or the first of several.
    #[must_use]
    pub fn mapping(&self) -> &Mapping {
        &self.files[0]
    }
}

/// The table of a file, by its format.
fn read(bytes: &[u8]) -> Result<Contents, WeightsError> {
    if bytes.starts_with(b"PK\x03\x04") {
        torch::open(bytes)
    } else if torch::is_legacy(bytes) {
        torch::open_legacy(bytes)
    } else if bytes.starts_with(bit2::MAGIC) {
        bit2::open(bytes)
    } else if safetensors::looks_like(bytes) {
        safetensors::open(bytes)
    } else {
        let unknown = || WeightsError::UnknownFormat { start: bytes.iter().take(8).copied().collect() };
        Err(foreign::named(bytes).map_or_else(unknown, WeightsError::Foreign))
    }
}
