//! `sterna logits`.

use std::path::PathBuf;

use clap::ValueEnum;
use sterna_runtime::{Decoder, Engine, Mode};

use super::options::{self, CacheArguments, EngineArguments, ModelArguments, WeightArguments};
use super::{Failure, Outcome, output};
use crate::health;
use crate::input_file;
use crate::interp::Tensor;
use crate::ir::Data;
use crate::lang::checkpoint::matches_glob;
use crate::session::Session;

/// Arguments of `sterna logits`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    cache: CacheArguments,
    #[command(flatten)]
    weights: WeightArguments,
    #[command(flatten)]
    engine: EngineArguments,
    /// A JSON array of input ids: bytes for byte models, tokens otherwise.
    #[arg(long, value_name = "IDS.json")]
    tokens: PathBuf,
    /// Also print the values of probes whose paths match, `*` standing for anything; may be given several times.
    #[arg(long, value_name = "PATH")]
    probe: Vec<String>,
    /// Also print which positions survive in each layer and head, best first (the probes named survivors).
    #[arg(long)]
    pointers: bool,
    /// What computes.
    #[arg(long, default_value = "jit")]
    backend: Backend,
    /// One step a call, or many.
    #[arg(long, default_value = "batch")]
    mode: ModeName,
}

/// What computes.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The interpreter, which defines what the graph means.
    Interp,
    /// Compiled code.
    Jit,
}

/// How many steps a call evaluates.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModeName {
    Step,
    Batch,
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Mode {
        match name {
            ModeName::Step => Mode::Step,
            ModeName::Batch => Mode::Batch,
        }
    }
}

pub fn run(arguments: Arguments) -> Outcome {
    let text = input_file::read_text(&arguments.tokens, input_file::TEXT)
        .map_err(|e| Failure::Input(format!("error: cannot read {}: {e}", arguments.tokens.display())))?;
    let elements: Vec<u32> = serde_json::from_slice(input_file::unmarked(text.as_bytes()))
        .map_err(|e| Failure::Input(format!("error: {} is no array of ids: {e}", arguments.tokens.display())))?;
    let mut globs = arguments.probe.clone();
    globs.extend(arguments.pointers.then(|| health::SURVIVORS.to_owned()));
    let session = options::observing(&arguments.model, Some(&arguments.weights), arguments.cache, globs)?;
    for (path, why) in session.hidden() {
        tell!("warning: the probe `{path}` is left out: {why}");
    }
    let compile = arguments.engine.compile_options()?;
    match arguments.backend {
        Backend::Interp => {
            print(&session, &mut session.interpreter(&compile, arguments.mode.into())?, &elements, &arguments)
        }
        Backend::Jit => {
            print(&session, &mut session.native(&compile, arguments.engine.pool()?)?, &elements, &arguments)
        }
    }
}

fn print(session: &Session, engine: &mut impl Engine, elements: &[u32], arguments: &Arguments) -> Outcome {
    let decoder = Decoder::new(engine.table())?;
    let mut observations = session.observing(engine)?;
    // A wrong id or a failing check must leave no half of an object behind.
    let mut text = String::from("{\"logits\": [");
    let mut first = true;
    decoder.all_logits(observations.engine(), elements, arguments.mode.into(), |row| {
        text.push_str(if first { "[" } else { ",\n[" });
        first = false;
        for (i, &value) in row.iter().enumerate() {
            if i > 0 {
                text.push_str(", ");
            }
            number(&mut text, value);
        }
        text.push(']');
        Ok(())
    })?;
    text.push(']');
    let seen = observations.take();
    if arguments.pointers {
        let rows = health::survivors(&seen).map_err(|e| Failure::Input(format!("error: {e}")))?;
        text.push_str(&format!(", \"survivors\": {}", serde_json::Value::from(rows)));
    }
    if !arguments.probe.is_empty() {
        text.push_str(", \"probes\": {");
        let wanted = |path: &str| arguments.probe.iter().any(|glob| matches_glob(glob, path));
        for (place, (path, value)) in seen.iter().filter(|(path, _)| wanted(path)).enumerate() {
            text.push_str(if place > 0 { ",\n" } else { "" });
            text.push_str(&format!("{}: ", serde_json::Value::from(path.as_str())));
            nested(&mut text, &value.shape, &mut elements_of(value));
        }
        text.push('}');
    }
    text.push_str("}\n");
    output::text(&text);
    Ok(())
}

/// The elements of a tensor as JSON numbers.
fn elements_of(value: &Tensor) -> impl Iterator<Item = String> + '_ {
    let word = |i: usize| match &*value.data {
        Data::F32(v) => {
            let mut text = String::new();
            number(&mut text, v[i]);
            text
        }
        Data::I32(v) => v[i].to_string(),
        Data::U32(v) => v[i].to_string(),
        Data::U64(v) => v[i].to_string(),
        Data::I8(v) => v[i].to_string(),
        Data::U8(v) => v[i].to_string(),
        Data::Bool(v) => v[i].to_string(),
    };
    (0..value.shape.iter().product()).map(word)
}

/// Arrays within arrays, one level for each axis.
fn nested(text: &mut String, shape: &[usize], elements: &mut impl Iterator<Item = String>) {
    let Some((&length, inner)) = shape.split_first() else {
        text.push_str(&elements.next().unwrap_or_default());
        return;
    };
    text.push('[');
    for place in 0..length {
        text.push_str(if place > 0 { ", " } else { "" });
        nested(text, inner, elements);
    }
    text.push(']');
}

/// The shortest decimal that reads back as the same f32; JSON has no other word for NaN and infinities than null.
fn number(text: &mut String, value: f32) {
    use std::fmt::Write;
    if value.is_finite() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{value:?}");
    } else {
        text.push_str("null");
    }
}
