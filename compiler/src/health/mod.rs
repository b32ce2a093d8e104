//! Pointer health: how heads that attend by pointers use them, measured along token sequences.
//!
//! A model is known only by its probes: those named `survivors` (i32, heads by candidates, best first, -1 for none)
//! and `top4` (f32, heads by four scores, best first) are taken in order of the graph, one pair for each layer. The
//! sequences are made in [`input`], counted in [`measure`], written in [`report`] and drawn in [`picture`].

pub mod input;
pub mod measure;
pub mod picture;
pub mod report;

use crate::interp::Tensor;
use crate::ir::Data;

/// Glob of the probes that hold survivors.
pub const SURVIVORS: &str = "*survivors";
/// Glob of the probes that hold the four best scores.
pub const TOP4: &str = "*top4";

/// Why pointers cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// A probe of a known name that holds something else.
    #[error("the probe `{path}` is no {expected}")]
    Probe { path: String, expected: &'static str },
    /// As many of both probes are needed.
    #[error("the model has {survivors} probes named survivors and {top4} named top4")]
    Pairs { survivors: usize, top4: usize },
    /// Scores of which there is no mean.
    #[error("the scores of `{path}` are not finite: in step {step}, counted from 0, one of head {head} is {value}")]
    NotFinite { path: String, step: usize, head: usize, value: f64 },
    /// Layers with different numbers of heads have no matrix.
    #[error("layers have different numbers of heads")]
    Heads,
    /// The file holds no array of 16-bit numbers.
    #[error("{bytes} bytes are no row of 16-bit tokens")]
    OddBytes { bytes: usize },
    /// Fewer tokens than the sequences need.
    #[error("{sequences} sequences of {length} tokens need {}, the file has {found}", sequences * length)]
    TooShort { sequences: usize, length: usize, found: usize },
    /// A block of distinct tokens from a smaller vocabulary.
    #[error("a block of {block} different tokens cannot be drawn from {vocabulary}")]
    Block { block: usize, vocabulary: usize },
    /// More than memory should hold.
    #[error("{sequences} blocks of {block} tokens are more than 2^26 tokens")]
    Many { sequences: usize, block: usize },
    /// Nothing to measure.
    #[error("there are no sequences to measure")]
    Nothing,
}

/// Values of one probe of one layer along a sequence: steps by heads by places.
struct Layer<'a, T> {
    path: &'a str,
    heads: usize,
    places: usize,
    values: &'a [T],
}

impl<T: Copy> Layer<'_, T> {
    fn steps(&self) -> usize {
        self.values.len() / (self.heads * self.places).max(1)
    }

    fn row(&self, step: usize, head: usize) -> &[T] {
        &self.values[(step * self.heads + head) * self.places..][..self.places]
    }
}

fn named<'a>(seen: &'a [(String, Tensor)], suffix: &'a str) -> impl Iterator<Item = &'a (String, Tensor)> {
    let name = suffix.trim_start_matches('*');
    seen.iter().filter(move |(path, _)| path.ends_with(name))
}

fn survivor_layers(seen: &[(String, Tensor)]) -> Result<Vec<Layer<'_, i32>>, HealthError> {
    let mut layers = Vec::new();
    for (path, tensor) in named(seen, SURVIVORS) {
        match (&*tensor.data, tensor.shape.as_slice()) {
            (Data::I32(values), &[_, heads, places]) if places > 0 => {
                layers.push(Layer { path, heads, places, values })
            }
            _ => return Err(HealthError::Probe { path: path.clone(), expected: "i32[heads, candidates]" }),
        }
    }
    Ok(layers)
}

fn score_layers(seen: &[(String, Tensor)]) -> Result<Vec<Layer<'_, f32>>, HealthError> {
    let mut layers = Vec::new();
    for (path, tensor) in named(seen, TOP4) {
        match (&*tensor.data, tensor.shape.as_slice()) {
            (Data::F32(values), &[_, heads, 4]) => layers.push(Layer { path, heads, places: 4, values }),
            _ => return Err(HealthError::Probe { path: path.clone(), expected: "f32[heads, 4]" }),
        }
    }
    Ok(layers)
}

/// Survivors by layer, head and step, best first, without those that do not exist.
///
/// # Errors
/// A probe named survivors holds something else.
pub fn survivors(seen: &[(String, Tensor)]) -> Result<Vec<Vec<Vec<Vec<i32>>>>, HealthError> {
    let existing = |row: &[i32]| row.iter().copied().filter(|&place| place >= 0).collect();
    let head = |layer: &Layer<i32>, head| (0..layer.steps()).map(|step| existing(layer.row(step, head))).collect();
    Ok(survivor_layers(seen)?.iter().map(|layer| (0..layer.heads).map(|h| head(layer, h)).collect()).collect())
}
