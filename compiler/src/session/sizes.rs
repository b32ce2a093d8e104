//! How large the presets of a model are: parameters, and the bytes of the usual file forms. Nothing is compiled.

use std::path::Path;

use serde_json::Value;

use super::load::{drawn, library};
use super::{Result, SessionError};
use crate::diagnostics::{SourceFiles, nearest};
use crate::ir::{Encoding, Module, Treatment};
use crate::lang;
use crate::weights::{ArchiveBytes, CompactFile, CompactTensor, MatrixShape, PackedRows};

/// The sizes of the presets that share one config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresetSizes {
    /// Names of the presets, without the model.
    pub presets: Vec<String>,
    /// Weights that a checkpoint has to have.
    pub parameters: usize,
    /// Bytes of a checkpoint of 32-bit floats.
    pub fp32_bytes: usize,
    /// Bytes of a compact checkpoint's tensors, names, shapes and config with their headers in the file.
    pub compact_bytes: usize,
    /// Bytes of that file: with the archive's directory.
    pub compact_file_bytes: usize,
}

/// The sizes of all presets of a model, in the order of its graph.
///
/// # Errors
/// No model of this name, or one of its presets does not elaborate.
pub fn preset_sizes(model: &str, graphs: Option<&Path>) -> Result<Vec<PresetSizes>> {
    let library = library(graphs)?;
    let mut files = SourceFiles::new();
    let all = library.presets(&mut files).map_err(|d| drawn(&d, &files))?;
    let own: Vec<&str> = all.iter().filter_map(|name| name.strip_prefix(model)?.strip_prefix('/')).collect();
    if own.is_empty() {
        let mut models: Vec<&str> = all.iter().filter_map(|name| Some(name.split_once('/')?.0)).collect();
        models.dedup();
        let near = nearest(model, models.iter().copied());
        let help =
            near.map_or_else(|| format!("; there are {}", models.join(", ")), |n| format!("; the nearest is `{n}`"));
        return Err(SessionError::NoModel(format!("no model with presets is named `{model}`{help}")));
    }
    let mut rows: Vec<(Value, PresetSizes)> = Vec::new();
    for preset in own {
        let mut files = SourceFiles::new();
        let compiled = library
            .compile_preset(&mut files, &format!("{model}/{preset}"), &lang::Options::default())
            .map_err(|d| drawn(&d, &files))?;
        let config = compiled.config.to_value();
        match rows.iter_mut().find(|(known, _)| *known == config) {
            Some((_, row)) => row.presets.push(preset.to_owned()),
            None => {
                let parameters = compiled.module.parameters();
                let file = compact_file(&compiled.module);
                let sizes = PresetSizes {
                    presets: vec![preset.to_owned()],
                    parameters,
                    fp32_bytes: 4 * parameters,
                    compact_bytes: file.members,
                    compact_file_bytes: file.members + file.directory,
                };
                rows.push((config, sizes));
            }
        }
    }
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// The size of the compact checkpoint file of a model, as `torch.save` writes it into a stream: a ternary matrix has
/// rows of ceil(columns / 4) bytes and 2 bytes for each scale, every other weight has 2 bytes; the rest is the archive
/// and the pickle, which has the config with its defaults, and step 0. Signs, for which there is no such file, are
/// counted as rows of ceil(columns / 8) bytes with their scales.
fn compact_file(module: &Module) -> ArchiveBytes {
    let tensors = module.stored().map(|(name, encoding, shape)| {
        let matrix = MatrixShape::of(shape);
        let packed = |per_byte, group| PackedRows {
            rows: matrix.rows,
            row_bytes: matrix.columns.div_ceil(per_byte),
            scales: matrix.scales(group),
        };
        let packed = match encoding {
            Encoding::Ternary { group, .. } => Some(packed(4, *group)),
            Encoding::Sign { group, .. } => Some(packed(8, *group)),
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => None,
        };
        CompactTensor { name, shape, packed }
    });
    let tensors: Vec<CompactTensor> = tensors.collect();
    let value = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    let keys = module.config.iter().filter(|used| matches!(used.treatment, Treatment::Used | Treatment::Default));
    let config: Vec<(String, Value)> = keys.map(|used| (used.key.clone(), value(&used.value))).collect();
    // The folder of the members where no file name gives another.
    CompactFile { stem: "archive", config: &config, step: 0, tensors: &tensors }.bytes()
}
