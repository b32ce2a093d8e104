//! Many checkpoints on one text: each architecture is compiled once, checkpoints are mapped one after the other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use regex::Regex;
use serde_json::Value;
use sterna_runtime::{Decoder, Engine, Pool};

use super::agreement::open_values;
use super::{
    CompileOptions, Compiled, LoadOptions, ModelSource, Result, Session, SessionError, Tokenizer, WeightsSource,
    config_of_checkpoint, elements, evaluate, find_tokenizer, window,
};
use crate::input_file;
use crate::weights::{self, Checkpoint};

/// What every checkpoint of a sweep shares.
pub struct SweepOptions {
    /// The config of all; by default each has its own, inside or beside it.
    pub config: Option<ModelSource>,
    /// How to load; the weights are those of each checkpoint.
    pub load: LoadOptions,
    /// How to compile.
    pub compile: CompileOptions,
    /// The threads.
    pub pool: Arc<Pool>,
    /// The tokenizer of token models; by default the one beside each checkpoint.
    pub tokenizer: Option<PathBuf>,
    /// The text.
    pub text: Vec<u8>,
    /// Elements of a stream, 0 for as many as the caches have room for.
    pub window: usize,
}

/// The result of one checkpoint, as a line of the results file.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Record {
    /// The file, as it was named.
    pub checkpoint: String,
    /// Checkpoints of one training run have this in common.
    pub run: String,
    /// Training step, from the file or its name.
    pub step: Option<u64>,
    /// `byte` or `token`.
    pub level: String,
    /// Elements predicted.
    pub predicted: usize,
    /// Nats per element; absent where the evaluation failed, which it does where a logit is not finite.
    pub loss: Option<f64>,
    /// e to the loss.
    pub perplexity: Option<f64>,
    /// Bits per byte of the text; absent where the text came as token ids.
    pub bits_per_byte: Option<f64>,
    /// Time of the evaluation, loading included.
    pub seconds: f64,
    /// CRC-32 of the text: results of different texts do not compare.
    pub text_crc32: u32,
    /// Elements of a stream as asked for, 0 for as many as the caches have room for.
    pub window: usize,
    /// Elements of a stream where that is less than the whole text and was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_to: Option<usize>,
    /// Why there is no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A model compiled for all checkpoints that share its config, the names of their tensors, and the values saved with
/// them for keys that the graph leaves open.
struct Architecture {
    config: String,
    names: Vec<String>,
    chosen: serde_json::Map<String, Value>,
    session: Session,
    compiled: Compiled,
}

/// Evaluates checkpoints one after the other.
pub struct Sweep {
    options: SweepOptions,
    text_crc32: u32,
    architectures: Vec<Architecture>,
}

impl Sweep {
    /// A sweep that has compiled nothing yet.
    pub fn new(options: SweepOptions) -> Sweep {
        let text_crc32 = crc32fast::hash(&options.text);
        Sweep { options, text_crc32, architectures: Vec::new() }
    }

    /// CRC-32 of the text.
    pub fn text_crc32(&self) -> u32 {
        self.text_crc32
    }

    /// Architectures compiled so far.
    pub fn compiled(&self) -> usize {
        self.architectures.len()
    }

    /// The record of a checkpoint; what goes wrong is part of it.
    pub fn record(&mut self, path: &Path) -> Record {
        let begin = Instant::now();
        let name = path.display().to_string();
        let (run, step) = run_and_step(path);
        let base = Record {
            checkpoint: name,
            run,
            step,
            text_crc32: self.text_crc32,
            window: self.options.window,
            ..Record::default()
        };
        let found = self.evaluate(path, base.clone());
        let mut record = found.unwrap_or_else(|error| Record { error: Some(error.to_string()), ..base });
        record.seconds = begin.elapsed().as_secs_f64();
        record
    }

    fn evaluate(&mut self, path: &Path, mut record: Record) -> Result<Record> {
        let checkpoint = Checkpoint::open(path)?;
        if let Some(step) = checkpoint.metadata().get("step").and_then(Value::as_u64) {
            record.step = Some(step);
        }
        let index = self.architecture(path, checkpoint)?;
        let architecture = &self.architectures[index];
        let mut engine = architecture.session.engine(&architecture.compiled, self.options.pool.clone())?;
        let decoder = Decoder::new(engine.table())?;
        let tokenizer = match decoder.is_bytes() {
            true => None,
            false => find_tokenizer(self.options.tokenizer.as_deref(), [path]),
        };
        let tokenizer = tokenizer.map(|file| Tokenizer::open(&file, decoder.vocabulary())).transpose()?;
        let text = &self.options.text;
        let elements = elements(text, decoder.is_bytes(), tokenizer.as_ref())?;
        let room = architecture.session.room(&self.options.compile);
        let window = window(room, &decoder, self.options.window, elements.len())?;
        record.cut_to = Some(window).filter(|&w| w != self.options.window);
        let found = evaluate(&mut engine, &elements, window, sterna_runtime::sample::finite, || {})
            .map_err(|error| architecture.session.explained(error, &self.options.compile))?;
        if found.predicted == 0 {
            return Err(SessionError::Text("the text has no element to predict".into()));
        }
        let finite = |value: f64| Some(value).filter(|v| v.is_finite());
        let bits = found.mean() / std::f64::consts::LN_2;
        record.level = found.unit().into();
        record.predicted = found.predicted;
        record.loss = finite(found.mean());
        record.perplexity = finite(found.mean().exp());
        record.bits_per_byte = match (found.bytes, &tokenizer) {
            (true, _) => finite(bits),
            (false, Some(_)) => finite(bits * found.predicted as f64 / text.len() as f64),
            (false, None) => None,
        };
        Ok(record)
    }

    /// The architecture of a checkpoint, which is its session's from here on.
    fn architecture(&mut self, path: &Path, checkpoint: Checkpoint) -> Result<usize> {
        let source = match &self.options.config {
            Some(source) => source.clone(),
            None => config_of_checkpoint(path)?,
        };
        let config = match &source {
            ModelSource::File(file) => {
                let read = input_file::read_text(file, input_file::JSON);
                read.map_err(|source| SessionError::Read { path: file.clone(), source })?
            }
            ModelSource::Own { text, .. } => text.clone(),
            other => format!("{other:?}"),
        };
        let names: Vec<String> = checkpoint.tensors().iter().map(|t| t.name.clone()).collect();
        let own = self.options.config.is_none();
        let known = self.architectures.iter().position(|a| {
            a.config == config && a.names == names && a.chosen == open_values(a.session.module(), &checkpoint, own)
        });
        if let Some(index) = known {
            let architecture = &mut self.architectures[index];
            architecture.session = architecture.session.with_checkpoint(path, checkpoint)?;
            return Ok(index);
        }
        let load = LoadOptions { weights: WeightsSource::File(path.into()), ..self.options.load.clone() };
        let session = Session::load(&source, &load)?;
        let compiled = session.compile(&self.options.compile)?;
        let chosen = open_values(session.module(), &checkpoint, own);
        self.architectures.push(Architecture { config, names, chosen, session, compiled });
        Ok(self.architectures.len() - 1)
    }
}

/// The run and the step in a checkpoint's name: `checkpoint_NAME_phase2_step1200.pt` is step 1200 of `NAME`. A name
/// that says nothing else is that of its folder.
fn run_and_step(path: &Path) -> (String, Option<u64>) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let parts = Regex::new(
        r"(?i)^(?:checkpoint[_-]?)?(.*?)[_.-]?(?:phase\d+[_.-]?)?(?:(?:step|iter)[_-]?(\d+)|final|last|best)?$",
    )
    .expect("a constant expression");
    let found = parts.captures(&stem);
    let group = |index: usize| found.as_ref().and_then(|f| f.get(index)).map_or("", |m| m.as_str());
    let step = group(2).parse().ok();
    let run = match group(1) {
        "" => path.parent().and_then(Path::file_name).map_or_else(String::new, |n| n.to_string_lossy().into_owned()),
        run => run.to_owned(),
    };
    (run, step)
}

/// The checkpoints that names stand for: files, folders with all they hold, and globs; sorted, each once.
///
/// # Errors
/// A folder cannot be read, a glob is malformed, or a name stands for nothing.
pub fn find_checkpoints(names: &[String]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in names {
        let before = found.len();
        let path = Path::new(name);
        if path.is_dir() {
            walk(path, &mut found)?;
        } else if path.is_file() {
            found.push(path.to_owned());
        } else {
            let nothing = |why: String| SessionError::NoModel(format!("`{name}`: {why}"));
            for path in glob::glob(name).map_err(|e| nothing(e.to_string()))?.flatten() {
                if path.is_dir() { walk(&path, &mut found)? } else { found.push(path) }
            }
        }
        if found.len() == before {
            return Err(SessionError::NoModel(format!("`{name}` names no checkpoint")));
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = |source| SessionError::Read { path: folder.into(), source };
    let index = weights::index_of(folder);
    // The files of an index are one checkpoint.
    let parts = weights::files_of(folder);
    if parts.len() > 1 {
        found.push(index);
    }
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        // Links to folders may lead back.
        if entry.file_type().map_err(unreadable)?.is_dir() {
            walk(&path, found)?;
        } else if parts.len() > 1 && parts.contains(&path) {
            continue;
        } else if path.extension().is_some_and(|e| e == "pt" || e == "safetensors" || e == "bit2") {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_run_and_step() {
        let of = |name: &str| {
            let (run, step) = run_and_step(&Path::new("archive").join(name));
            (run, step)
        };
        assert_eq!(of("checkpoint_run_04_step640.pt"), ("run_04".into(), Some(640)));
        assert_eq!(of("checkpoint_run_04_phase2_step12.pt"), ("run_04".into(), Some(12)));
        assert_eq!(of("checkpoint_run_02a_byte_only_heads_final.pt"), ("run_02a_byte_only_heads".into(), None));
        assert_eq!(of("step5.safetensors"), ("archive".into(), Some(5)));
        assert_eq!(of("model.safetensors"), ("model".into(), None));
    }
}
