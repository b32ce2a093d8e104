//! The `.sterna` package: one file with a model's graph, config and packed weights, mapped and used in place.
//!
//! `spec/package.md` is the normative text. Here a package is opened and checked; it is written by the compiler.
//! The graph is text that this crate hands on and does not read, as it does the names of layouts and encodings.

mod extended;
mod format;
mod mapping;
mod shrunken;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use extended::Extended;
pub use format::{ALIGNMENT, FormatError, MAGIC, MAX_HEADER, PREAMBLE, Preamble, TAIL, VERSION};
pub use mapping::Mapping;
pub use shrunken::explain_shrunken_files;

use crate::abi::PADDING;
use crate::memory::Buffer;
use crate::native::Weights;
use crate::system;

/// The JSON header. Its text is the compact form of `serde_json` with the fields in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The model's name.
    pub name: String,
    /// The config the model was made from.
    pub config: serde_json::Value,
    /// The printed form of the IR.
    pub graph: String,
    /// The weights, in the order of their declaration in the graph and of their data.
    pub weights: Vec<WeightRow>,
}

/// One weight of the header's table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightRow {
    /// The weight's name.
    pub path: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its encoding, as printed IR has it.
    pub encoding: String,
    /// Its packed layout.
    pub layout: String,
    /// First byte, from the start of the weight section; a multiple of 64.
    pub offset: usize,
    /// Bytes; a multiple of 64.
    pub bytes: usize,
}

/// Why a package cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The file cannot be opened or mapped.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
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
        source: Box<PackageError>,
    },
    /// The fixed part of the file is wrong.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The header is not of the form that the version requires.
    #[error("header (byte {PREAMBLE}): {0}")]
    Header(#[from] serde_json::Error),
    /// A row of the weight table contradicts the file or the rows before it.
    #[error("header: weight `{path}`: {what}")]
    Weight {
        /// The weight.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// No memory for a copy of the weights.
    #[error(transparent)]
    Memory(#[from] crate::error::Error),
}

/// Where the weights lie while the model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightsMemory {
    /// In the mapped file: nothing is copied, and processes share the pages.
    Mmap,
    /// Copied once into memory for which huge pages are asked: fewer address translations for large models.
    Huge,
    /// `Huge` from [`HUGE_FROM`] bytes on, else `Mmap`.
    #[default]
    Auto,
}

/// Weight sections of at least this many bytes, too large for caches, gain from huge pages.
pub const HUGE_FROM: usize = 64 << 20;

/// An open package. Everything but the graph's own text has been checked against the file.
#[derive(Debug)]
pub struct Package {
    file: Mapping,
    preamble: Preamble,
    header: Header,
    copy: Option<Buffer>,
}

impl Package {
    /// Maps a package and checks it, with the checksum of its weights.
    ///
    /// # Errors
    /// The file cannot be mapped, is no package or is damaged; the error names the file and the place.
    pub fn open(path: &Path) -> Result<Self, PackageError> {
        let file = Mapping::of_file(path).map_err(|source| PackageError::Io { path: path.to_owned(), source })?;
        let checked = Self::from_mapping(file).and_then(|package| package.check_weights().map(|()| package));
        checked.map_err(|source| PackageError::InFile { path: path.to_owned(), source: Box::new(source) })
    }

    /// A package in bytes that are already mapped. The weights are not read; see [`Package::check_weights`].
    ///
    /// # Errors
    /// The bytes are no package or damaged.
    pub fn from_mapping(file: Mapping) -> Result<Self, PackageError> {
        let preamble = Preamble::read(&file)?;
        let header: Header = serde_json::from_slice(&file[PREAMBLE..PREAMBLE + preamble.header_bytes])?;
        check_rows(&header.weights, preamble.weights_bytes)?;
        Ok(Self { file, preamble, header, copy: None })
    }

    /// Compares the weights with their checksum; reads all of them.
    ///
    /// # Errors
    /// They differ.
    pub fn check_weights(&self) -> Result<(), PackageError> {
        Ok(self.preamble.check_weights(&self.file)?)
    }

    /// The same package with its weights in the memory asked for.
    ///
    /// # Errors
    /// The system has no memory for a copy.
    pub fn with_weights_in(mut self, memory: WeightsMemory) -> Result<Self, PackageError> {
        let huge = match memory {
            WeightsMemory::Mmap => false,
            WeightsMemory::Huge => true,
            // A copy that the control group has no memory for would end the process; the file's pages can be dropped.
            WeightsMemory::Auto => {
                let bytes = self.preamble.weights_bytes;
                bytes >= HUGE_FROM && system::room_for(bytes).is_ok()
            }
        };
        self.copy = if huge {
            let padded = self.padded();
            system::room_for(padded.len())?;
            let mut copy = Buffer::zeroed(padded.len())?;
            copy.advise_huge();
            copy.copy_from_slice(padded);
            Some(copy)
        } else {
            None
        };
        Ok(self)
    }

    /// What [`Package::with_weights_in`] settled on: `Mmap` or `Huge`.
    #[must_use]
    pub fn weights_memory(&self) -> WeightsMemory {
        if self.copy.is_some() { WeightsMemory::Huge } else { WeightsMemory::Mmap }
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The weight section; it starts on a multiple of 64.
    #[must_use]
    pub fn weights(&self) -> &[u8] {
        &self.bytes()[..self.preamble.weights_bytes]
    }

    /// The bytes of one weight of the table.
    #[must_use]
    pub fn weight(&self, row: &WeightRow) -> &[u8] {
        &self.weights()[row.offset..row.offset + row.bytes]
    }

    /// The section in the file, with its padding.
    fn padded(&self) -> &[u8] {
        &self.file[self.preamble.weights_offset..][..self.preamble.weights_bytes + PADDING]
    }
}

// SAFETY: neither a mapped file nor a buffer moves with its owner. Both start on a page, and the section starts on a
// multiple of 64 in either. Another vector follows the padding: the rest of the file's tail, or the buffer's own.
unsafe impl Weights for Package {
    /// The weight section with its padding, as kernels read it.
    fn bytes(&self) -> &[u8] {
        self.copy.as_deref().unwrap_or_else(|| self.padded())
    }

    fn mapped(&self) -> usize {
        if self.copy.is_some() { 0 } else { self.preamble.weights_bytes }
    }
}

/// Rows follow one another without gaps, fill the section, and have unique names.
fn check_rows(rows: &[WeightRow], section: usize) -> Result<(), PackageError> {
    let mut names = HashSet::with_capacity(rows.len());
    let mut end = 0;
    for row in rows {
        let wrong = |what: String| Err(PackageError::Weight { path: row.path.clone(), what });
        if !names.insert(row.path.as_str()) {
            return wrong("occurs twice".to_owned());
        }
        if row.offset != end {
            return wrong(format!("starts at {}, the weight before it ends at {end}", row.offset));
        }
        if !row.bytes.is_multiple_of(ALIGNMENT) || row.bytes > section - end {
            return wrong(format!("{} bytes at {end} of a section of {section}", row.bytes));
        }
        end += row.bytes;
    }
    if end == section {
        return Ok(());
    }
    let path = rows.last().map(|row| row.path.clone()).unwrap_or_default();
    Err(PackageError::Weight { path, what: format!("the weights end at {end}, their section at {section}") })
}
