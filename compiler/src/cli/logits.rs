//! `sterna logits`.

use std::io::Write;
use std::path::PathBuf;

use clap::ValueEnum;
use sterna_runtime::{Decoder, Engine, Mode};

use super::options::{self, EngineArguments, ModelArguments, WeightArguments};
use super::{Failure, Outcome};

/// Arguments of `sterna logits`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    weights: WeightArguments,
    #[command(flatten)]
    engine: EngineArguments,
    /// A JSON array of input ids: bytes for byte models, tokens otherwise.
    #[arg(long, value_name = "IDS.json")]
    tokens: PathBuf,
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
    let text = std::fs::read_to_string(&arguments.tokens)
        .map_err(|e| Failure::Input(format!("error: cannot read {}: {e}", arguments.tokens.display())))?;
    let elements: Vec<u32> = serde_json::from_str(&text)
        .map_err(|e| Failure::Input(format!("error: {} is no array of ids: {e}", arguments.tokens.display())))?;
    let session = options::session(&arguments.model, Some(&arguments.weights))?;
    let compile = arguments.engine.compile_options()?;
    match arguments.backend {
        Backend::Interp => {
            print(&mut session.interpreter(&compile, arguments.mode.into())?, &elements, arguments.mode.into())
        }
        Backend::Jit => {
            print(&mut session.native(&compile, arguments.engine.pool()?)?, &elements, arguments.mode.into())
        }
    }
}

fn print(engine: &mut impl Engine, elements: &[u32], mode: Mode) -> Outcome {
    let decoder = Decoder::new(engine.table())?;
    // A wrong id or a failing check must leave no half of an object behind.
    let mut text = String::from("{\"logits\": [");
    let mut first = true;
    decoder.all_logits(engine, elements, mode, |row| {
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
    text.push_str("]}\n");
    Ok(std::io::stdout().write_all(text.as_bytes())?)
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
