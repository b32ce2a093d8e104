//! Which tensor of a checkpoint is which weight of a module. Every weight is found and every tensor is accounted for:
//! read, ignored with the reason that the graph gives, or an error. All errors are reported together.

use std::collections::HashMap;

use regex::Regex;

use super::random::random_value;
use super::value::WeightValue;
use super::{Checkpoint, WeightsError};
use crate::ir::{CheckpointRule, Module, WeightId, WeightSource};

/// The outcome of matching names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Per weight of the module: its tensor's index in the checkpoint; `None` for computed weights.
    pub tensors: Vec<Option<usize>>,
    /// Tensors that are not needed, by index, with the reason.
    pub ignored: Vec<(usize, String)>,
}

/// A tensor's name as the graph knows it: prefixes stripped, then the first rename that matches.
#[must_use]
pub fn graph_name(name: &str, rules: &[CheckpointRule]) -> String {
    let mut rest = name;
    let prefixes = || {
        rules.iter().filter_map(|rule| match rule {
            CheckpointRule::Strip { prefix } if !prefix.is_empty() => Some(prefix.as_str()),
            _ => None,
        })
    };
    while let Some(shorter) = prefixes().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = shorter;
    }
    rules
        .iter()
        .find_map(|rule| match rule {
            CheckpointRule::Rename { from, to } => rename(rest, from, to),
            _ => None,
        })
        .unwrap_or_else(|| rest.to_owned())
}

fn rename(name: &str, from: &str, to: &str) -> Option<String> {
    let captures = glob(from).captures(name)?;
    let mut runs = captures.iter().skip(1).flatten();
    let mut pieces = to.split('*');
    let mut renamed = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        renamed.push_str(runs.next().map_or("", |run| run.as_str()));
        renamed.push_str(piece);
    }
    Some(renamed)
}

/// `*` stands for one run of characters, possibly empty; everything else for itself.
fn glob(pattern: &str) -> Regex {
    let parts: Vec<String> = pattern.split('*').map(regex::escape).collect();
    Regex::new(&format!("^{}$", parts.join("(.*?)"))).expect("escaped text and one kind of group")
}

/// Matches the tensors of a checkpoint with the weights of a module.
///
/// # Errors
/// Every weight that has no tensor or one of another shape, every tensor that nothing accounts for, and every pair of
/// tensors that come to one name.
pub fn bind(module: &Module, checkpoint: &Checkpoint) -> Result<Binding, Vec<WeightsError>> {
    let entries = checkpoint.tensors();
    let mut errors = Vec::new();
    let mut by_name: HashMap<String, usize> = HashMap::with_capacity(entries.len());
    for (index, entry) in entries.iter().enumerate() {
        let name = graph_name(&entry.name, &module.checkpoint);
        if let Some(other) = by_name.insert(name.clone(), index) {
            let tensors = [entries[other].name.clone(), entry.name.clone()];
            errors.push(WeightsError::Collision { tensors, name });
        }
    }
    let mut left = by_name.clone();
    let mut tensors = Vec::with_capacity(module.weights.len());
    for weight in &module.weights {
        let WeightSource::Checkpoint = weight.source else {
            tensors.push(None);
            continue;
        };
        // two declarations may read one tensor; it is used either way
        left.remove(&weight.path);
        let found = by_name.get(&weight.path).copied();
        match found {
            None => errors.push(WeightsError::Missing {
                path: weight.path.clone(),
                shape: weight.shape.clone(),
                nearest: nearest(&weight.path, left.keys()),
            }),
            Some(index) if entries[index].shape != weight.shape => {
                let problem =
                    super::TensorProblem::Shape { found: entries[index].shape.clone(), expected: weight.shape.clone() };
                errors.push(WeightsError::tensor(&entries[index].name, problem));
            }
            Some(_) => {}
        }
        tensors.push(found);
    }
    let ignores: Vec<(Regex, &String)> = module
        .checkpoint
        .iter()
        .filter_map(|rule| match rule {
            CheckpointRule::Ignore { glob: pattern, why } => Some((glob(pattern), why)),
            _ => None,
        })
        .collect();
    let mut left: Vec<(String, usize)> = left.into_iter().collect();
    left.sort_unstable_by_key(|&(_, index)| index);
    let mut ignored = Vec::new();
    for (name, index) in left {
        match ignores.iter().find(|(glob, _)| glob.is_match(&name)) {
            Some((_, why)) => ignored.push((index, (*why).clone())),
            None => errors.push(WeightsError::Unexpected {
                name: entries[index].name.clone(),
                shape: entries[index].shape.clone(),
            }),
        }
    }
    if errors.is_empty() { Ok(Binding { tensors, ignored }) } else { Err(errors) }
}

fn nearest<'a>(path: &str, names: impl Iterator<Item = &'a String>) -> Option<String> {
    let distance = |name: &String| strsim::damerau_levenshtein(path, name);
    let near = names.filter(|name| name.len().abs_diff(path.len()) <= 3 && name.len() < 256);
    let (distance, name) = near.map(|name| (distance(name), name)).min()?;
    (distance <= 3).then(|| name.clone())
}

/// Where the values of a module's weights come from.
#[derive(Debug)]
pub enum ValueSource<'a> {
    /// A checkpoint that has been bound to the module.
    Checkpoint {
        /// The file.
        checkpoint: &'a Checkpoint,
        /// Its tensors by weight.
        binding: Binding,
        /// Take NaN and infinities as they are.
        allow_non_finite: bool,
    },
    /// Random values.
    Random {
        /// The seed of all of them.
        seed: u64,
    },
}

impl ValueSource<'_> {
    /// The value of a weight; `None` for a computed one, which is evaluated from others.
    ///
    /// # Errors
    /// Its tensor cannot be read or encoded.
    pub fn value(&self, module: &Module, weight: WeightId) -> Result<Option<WeightValue>, WeightsError> {
        let declared = module.weight(weight);
        if let WeightSource::Computed(_) = declared.source {
            return Ok(None);
        }
        match self {
            Self::Random { seed } => Ok(Some(random_value(*seed, declared))),
            Self::Checkpoint { checkpoint, binding, allow_non_finite } => {
                let index = binding.tensors[weight.index()].expect("bind finds a tensor for every weight");
                checkpoint.encode(&checkpoint.tensors()[index], declared, *allow_non_finite).map(Some)
            }
        }
    }
}
