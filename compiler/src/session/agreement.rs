//! A checkpoint's own config, the `config.json` beside it and the config given must agree.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::tokens::TOKENIZER_FILE;
use super::{ModelSource, Result, SessionError};
use crate::input_file;
use crate::ir::{CheckpointRule, Module, Treatment};
use crate::weights::{self, Checkpoint};

/// Bytes of JSON that a value saved with the weights has at most to be taken into a config.
const LARGEST_VALUE: usize = 4096;

/// The config that a checkpoint carries, or the `config.json` beside it. Nobody gave it for this run.
///
/// # Errors
/// The checkpoint cannot be opened, has neither, or both are there and differ in a key that both have.
pub fn config_of_checkpoint(path: &Path) -> Result<ModelSource> {
    let path = &weights::index_of(path);
    let checkpoint = Checkpoint::open(path)?;
    let beside = path.with_file_name("config.json");
    let Some(config) = checkpoint.config() else {
        if beside.is_file() {
            let text = input_file::read_text(&beside, input_file::JSON)
                .map_err(|source| SessionError::Read { path: beside.clone(), source })?;
            return Ok(ModelSource::Own { name: "config.json".into(), text });
        }
        let why = "the checkpoint has no config of its own and no config.json beside it; give one";
        return Err(SessionError::NoModel(why.into()));
    };
    agrees_with_beside(path, config, |_| true)?;
    let name = format!("config of {}", path.file_name().unwrap_or_default().to_string_lossy());
    let text = serde_json::to_string_pretty(config).unwrap_or_default();
    Ok(ModelSource::Own { name, text })
}

/// The files of a checkpoint: its own, and what may lie beside them and is read with them.
pub fn files_of_checkpoint(path: &Path) -> Vec<PathBuf> {
    let mut files = weights::files_of(path);
    let first = weights::index_of(path);
    files.extend(["config.json", TOKENIZER_FILE].map(|name| first.with_file_name(name)));
    files
}

/// What a checkpoint says about keys that a config may choose: the values beside its weights, and where the config is
/// not the checkpoint's own, those of the config that it carries, which are older.
pub(super) fn saved_values(checkpoint: &Checkpoint, own: bool) -> Map<String, Value> {
    let mut saved = match checkpoint.config().and_then(Value::as_object) {
        Some(config) if !own => config.clone(),
        _ => Map::new(),
    };
    saved.extend(checkpoint.saved_values().map(|(key, value)| (key.clone(), value.clone())));
    // A history of losses may be large; it is no value of a config.
    saved.retain(|_, value| value.to_string().len() <= LARGEST_VALUE);
    saved
}

/// Those of [`saved_values`] that the graph leaves open.
pub(super) fn open_values(module: &Module, checkpoint: &Checkpoint, own: bool) -> Map<String, Value> {
    saved_values(checkpoint, own).into_iter().filter(|(key, _)| is_open(module, key)).collect()
}

/// A checkpoint's own config against the `config.json` beside it, in the keys that count and that both have.
fn agrees_with_beside(path: &Path, own: &Value, counts: impl Fn(&str) -> bool) -> Result<()> {
    let beside = weights::index_of(path).with_file_name("config.json");
    if !beside.is_file() {
        return Ok(());
    }
    let read = input_file::read(&beside, input_file::JSON);
    let text = read.map_err(|source| SessionError::Read { path: beside.clone(), source })?;
    // What is wrong with a file that is not needed is not this command's business.
    let (Some(own), Ok(Value::Object(other))) = (own.as_object(), serde_json::from_slice(input_file::unmarked(&text)))
    else {
        return Ok(());
    };
    let common = own.iter().filter_map(|(key, value)| Some((key, value, other.get(key)?)));
    let wrong: Vec<String> = common
        .filter(|(key, value, theirs)| counts(key) && !same(value, theirs))
        .map(|(key, value, theirs)| format!("`{key}` is {value}, in {} {theirs}", beside.display()))
        .collect();
    if wrong.is_empty() { Ok(()) } else { Err(SessionError::Disagreement(wrong.join("; "))) }
}

/// Whether the graph reads a config key, given or not.
fn reads(module: &Module, key: &str) -> bool {
    let read = |treatment: &Treatment| matches!(treatment, Treatment::Used | Treatment::Default);
    module.config.iter().any(|used| used.key == key && read(&used.treatment))
}

/// Whether a config may differ in a key from the one saved with the weights.
fn is_open(module: &Module, key: &str) -> bool {
    module.checkpoint.iter().any(|r| matches!(r, CheckpointRule::Choose { key: k, .. } if k == key))
}

/// The config that the module was made for, the checkpoint's own, and the one beside it.
pub(super) fn configs_agree(module: &Module, path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let Some(own) = checkpoint.config() else { return Ok(()) };
    agree(module, own)?;
    all_said(module, checkpoint)?;
    agrees_with_beside(path, own, |key| reads(module, key) && !is_open(module, key))
}

/// A key that is left to its default has no value in the checkpoint, not even one that was left out of its config.
fn all_said(module: &Module, checkpoint: &Checkpoint) -> Result<()> {
    let left_out = |key: &str| checkpoint.unread().iter().any(|name| name.strip_prefix("config.") == Some(key));
    let defaults = module.config.iter().filter(|used| matches!(used.treatment, Treatment::Default));
    let keys: Vec<String> = defaults.filter(|d| left_out(&d.key)).map(|d| format!("`{}`", d.key)).collect();
    if keys.is_empty() { Ok(()) } else { Err(SessionError::LeftOut(keys.join(", "))) }
}

/// Keys that the graph reads must have the value saved with the weights, also where the config leaves them to their
/// defaults, unless the graph leaves the choice open.
fn agree(module: &Module, own: &Value) -> Result<()> {
    let Some(own) = own.as_object() else { return Ok(()) };
    let mut wrong = Vec::new();
    for used in module.config.iter().filter(|u| reads(module, &u.key)) {
        let Some(theirs) = own.get(&used.key) else { continue };
        let ours: Value = serde_json::from_str(&used.value).unwrap_or_else(|_| Value::from(used.value.as_str()));
        if !same(&ours, theirs) && !is_open(module, &used.key) {
            wrong.push(format!("`{}` is {ours}, in the checkpoint {theirs}", used.key));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(SessionError::Disagreement(wrong.join("; "))) }
}

/// Equality of JSON in which 1 and 1.0 are one number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(p, q)| same(p, q)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(k, p)| y.get(k).is_some_and(|q| same(p, q)))
        }
        _ => a == b,
    }
}
