//! How large the presets of a model are: parameters, and the bytes of the usual file forms. Nothing is compiled.

use std::path::Path;

use serde_json::Value;

use super::load::{drawn, library};
use super::{Result, SessionError};
use crate::diagnostics::{SourceFiles, nearest};
use crate::ir::{Encoding, Module};
use crate::lang;
use crate::weights::MatrixShape;

/// The sizes of the presets that share one config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresetSizes {
    /// Names of the presets, without the model.
    pub presets: Vec<String>,
    /// Weights that a checkpoint has to have.
    pub parameters: usize,
    /// Bytes of a checkpoint of 32-bit floats.
    pub fp32_bytes: usize,
    /// Bytes of a compact checkpoint, see [`compact_bytes`].
    pub compact_bytes: usize,
}

/// The sizes of all presets of a model, in the order of its graph.
///
/// # Errors
/// No model of this name, or one of its presets does not elaborate.
pub fn preset_sizes(model: &str, graphs: Option<&Path>) -> Result<Vec<PresetSizes>> {
    let library = library(graphs)?;
    let all = library.presets().map_err(|d| drawn(&d, &SourceFiles::new()))?;
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
                let sizes = PresetSizes {
                    presets: vec![preset.to_owned()],
                    parameters,
                    fp32_bytes: 4 * parameters,
                    compact_bytes: compact_bytes(&compiled.module),
                };
                rows.push((config, sizes));
            }
        }
    }
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

/// What a torch archive adds to the data of a dense tensor (headers of its member, padding, its line in the directory, its
/// record in the pickle). Fitted, with the constant below, to a table of published file sizes; not measured on files.
const DENSE_OVERHEAD: usize = 250;
/// The same for a packed tensor: two members (codes and scale), and a record with its shape.
const PACKED_OVERHEAD: usize = 456;

/// Bytes of a compact checkpoint file: a ternary matrix has rows of ceil(columns / 4) bytes and 2 bytes for each scale,
/// signs rows of ceil(columns / 8) bytes and their scales, every other weight has 2 bytes; and to each tensor the
/// archive adds its overhead, 456 bytes to a packed one and 250 to another.
pub fn compact_bytes(module: &Module) -> usize {
    let bytes = module.stored().map(|(_, encoding, shape)| {
        let matrix = MatrixShape::of(shape);
        let packed = |per_byte: usize, group| {
            matrix.rows * matrix.columns.div_ceil(per_byte) + 2 * matrix.scales(group) + PACKED_OVERHEAD
        };
        match encoding {
            Encoding::Ternary { group, .. } => packed(4, *group),
            Encoding::Sign { group, .. } => packed(8, *group),
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => 2 * matrix.elements() + DENSE_OVERHEAD,
        }
    });
    bytes.sum()
}
