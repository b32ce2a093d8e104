//! Making what the runtime maps: the packed weight image of a module, the `.sterna` file around it, and the way
//! back from a package to a module.
//!
//! `spec/package.md` is the normative text; the checks of the file's own structure are the runtime's. Bytes are a
//! function of module, config and weights alone: no times, no paths, no hash order.

mod image;

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use sterna_runtime::package::{ALIGNMENT, Header, MAX_HEADER, PREAMBLE, Package, Preamble, TAIL, WeightRow};

use crate::ir::{self, Module, WeightId};
use crate::weights::{Section, WeightsError};
use crate::whole_file::write_whole;

pub use image::{ImageError, Values, image_over_file, memory_weights, weight_image};

/// Why a package cannot be written, or does not fit its own graph.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A weight has no value.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Graph and config are longer than a header may be.
    #[error("graph and config make a header of {0} bytes, the limit is {MAX_HEADER}")]
    HeaderTooLong(usize),
    /// The graph text of a package.
    #[error("header: graph: {0}")]
    Graph(#[from] ir::read::ReadError),
    /// The graph reads, but means nothing.
    #[error("header: graph: {0}")]
    Invalid(#[from] ir::verify::VerifyError),
    /// The graph is one that passes make after a package has been read.
    #[error("header: graph: {0}")]
    Form(String),
    /// The weight table differs from what the graph needs.
    #[error("header: weight `{path}`: {what}")]
    Table {
        /// The weight.
        path: String,
        /// What differs.
        what: String,
    },
}

impl From<WeightsError> for PackageError {
    fn from(error: WeightsError) -> Self {
        Self::Image(error.into())
    }
}

/// The header of a module's package.
#[must_use]
pub fn header(module: &Module, config: &Value) -> Header {
    Header {
        name: module.name.clone(),
        config: config.clone(),
        graph: ir::print::print_module_with_origins(module),
        weights: rows(module, &Section::of(&module.weights)),
    }
}

fn rows(module: &Module, section: &Section) -> Vec<WeightRow> {
    let places = section.offsets.iter().zip(&section.layouts);
    let row = |(weight, (&offset, layout)): (&ir::WeightDecl, (&usize, &crate::weights::Layout))| WeightRow {
        path: weight.path.clone(),
        shape: weight.shape.clone(),
        encoding: weight.encoding.to_string(),
        layout: layout.name().to_owned(),
        offset,
        bytes: layout.bytes(),
    };
    module.weights.iter().zip(places).map(row).collect()
}

/// Writes a package to `path`, one weight at a time; `progress` hears the bytes of weights written so far. The file
/// appears under its name only when it is complete.
///
/// # Errors
/// A weight has no value, or the file cannot be written.
pub fn write_file(
    path: &Path,
    module: &Module,
    config: &Value,
    values: &Values,
    progress: impl FnMut(usize),
) -> Result<(), PackageError> {
    let written = write_whole(path, |out| write(out, module, config, values, progress));
    written.map_err(|error| match error {
        WriteError::Io(source) => PackageError::Io { path: path.to_owned(), source },
        WriteError::Package(error) => error,
    })
}

/// Why writing to a stream failed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The stream.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What was to be written.
    #[error(transparent)]
    Package(#[from] PackageError),
}

/// Writes a package to a stream, from its current position.
///
/// # Errors
/// A weight has no value, or the stream fails.
pub fn write(
    out: &mut (impl Write + Seek),
    module: &Module,
    config: &Value,
    values: &Values,
    mut progress: impl FnMut(usize),
) -> Result<(), WriteError> {
    let section = Section::of(&module.weights);
    let header = serde_json::to_vec(&header(module, config)).expect("a header has string keys only");
    if header.len() > MAX_HEADER {
        return Err(PackageError::HeaderTooLong(header.len()).into());
    }
    let weights_offset = (PREAMBLE + header.len()).next_multiple_of(ALIGNMENT);
    let start = out.stream_position()?;
    out.write_all(&[0; PREAMBLE])?;
    out.write_all(&header)?;
    out.write_all(&[0; ALIGNMENT][..weights_offset - PREAMBLE - header.len()])?;
    let mut crc = crc32fast::Hasher::new();
    let mut packed = Vec::new();
    for index in 0..module.weights.len() {
        let layout = section.layouts[index];
        packed.resize(layout.bytes(), 0);
        values.pack(module, WeightId(index as u32), layout, &mut packed).map_err(PackageError::from)?;
        crc.update(&packed);
        out.write_all(&packed)?;
        progress(section.offsets[index] + packed.len());
    }
    out.write_all(&[0; TAIL])?;
    let preamble = Preamble {
        header_bytes: header.len(),
        weights_offset,
        weights_bytes: section.bytes,
        header_crc: crc32fast::hash(&header),
        weights_crc: crc.finalize(),
    };
    let end = out.stream_position()?;
    out.seek(SeekFrom::Start(start))?;
    out.write_all(&preamble.to_bytes())?;
    out.seek(SeekFrom::Start(end))?;
    Ok(())
}

/// The module of a package, read from its graph text and verified, with its weight section. The weight table must be
/// exactly the one that the graph's declarations give, so that kernels compiled from the module read the package in
/// place; the padding of its weights must be zero.
///
/// # Errors
/// The graph is malformed or invalid, the table differs from it, or padding is not zero.
pub fn module_of(package: &Package) -> Result<(Module, Section), PackageError> {
    let header = package.header();
    let module = ir::read::read_module(&header.graph)?;
    ir::verify::verify(&module)?;
    in_step_form(&module)?;
    check_sizes(&module, package.weights().len())?;
    let section = Section::of(&module.weights);
    let expected = rows(&module, &section);
    if let Some((found, expected)) = header.weights.iter().zip(&expected).find(|(found, expected)| found != expected) {
        let what = format!("the table has {found:?}, the graph needs {expected:?}");
        return Err(PackageError::Table { path: found.path.clone(), what });
    }
    if header.weights.len() != expected.len() {
        let what = format!("the table has {} rows, the graph declares {}", header.weights.len(), expected.len());
        return Err(PackageError::Table { path: header.name.clone(), what });
    }
    check_padding(&module, &section, package.weights())?;
    Ok((module, section))
}

/// Kernels multiply with the padding of a row what lies in memory behind the activations.
fn check_padding(module: &Module, section: &Section, bytes: &[u8]) -> Result<(), PackageError> {
    for ((weight, &layout), &offset) in module.weights.iter().zip(&section.layouts).zip(&section.offsets) {
        if let Some(row) = layout.row_with_padding(&bytes[offset..offset + layout.bytes()]) {
            let what = format!("the padding of row {row} is not zero");
            return Err(PackageError::Table { path: weight.path.clone(), what });
        }
    }
    Ok(())
}

/// Packages hold the graph of one step; time, groups and integer products are made of it by passes that run later.
fn in_step_form(module: &Module) -> Result<(), PackageError> {
    fn made_later(region: &ir::Region) -> Option<&'static str> {
        region.nodes().find_map(|id| {
            let op = &region.node(id).op;
            match op {
                ir::Op::Scan { .. } | ir::Op::Fused { .. } => Some(op.name()),
                ir::Op::QuantizeInput { .. } | ir::Op::LinearInt8 { .. } => Some(op.name()),
                _ => ir::Region::nested(op).into_iter().find_map(made_later),
            }
        })
    }
    for entry in &module.entries {
        if entry.lifted {
            return Err(PackageError::Form(format!("entry {} is lifted over time", entry.name)));
        }
        if let Some(name) = made_later(&entry.body) {
            return Err(PackageError::Form(format!("entry {} has a `{name}`, which a step does not have", entry.name)));
        }
    }
    Ok(())
}

/// No declared weight may be larger than the section: a layout's arithmetic is done on checked shapes only.
fn check_sizes(module: &Module, section: usize) -> Result<(), PackageError> {
    for weight in &module.weights {
        // a layout pads rows to 16 and columns to 512, and never has fewer than 1/8 byte per weight
        let axes = weight.shape.iter().chain(&[1]);
        let elements = axes.clone().try_fold(1usize, |product, &n| product.checked_mul(n.max(1)));
        if elements.is_none_or(|elements| elements / 8 > section) {
            let what = format!("shape {:?} does not fit a section of {section} bytes", weight.shape);
            return Err(PackageError::Table { path: weight.path.clone(), what });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
