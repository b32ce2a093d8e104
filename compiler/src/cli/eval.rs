//! `sterna eval`.

use std::path::PathBuf;

use serde_json::json;
use sterna_runtime::{Decoder, Engine, Mode};

use super::logits::Backend;
use super::options::{self, EngineArguments, ModelArguments, TokenizerArguments, WeightArguments};
use super::{Failure, Outcome, output};
use crate::session;

/// Arguments of `sterna eval`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    weights: WeightArguments,
    #[command(flatten)]
    engine: EngineArguments,
    #[command(flatten)]
    tokenizer: TokenizerArguments,
    /// The text; for token models without a tokenizer a JSON array of ids.
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Evaluate windows of so many elements, each a stream of its own; 0: the whole text is one stream.
    #[arg(long, default_value_t = 0, value_name = "N")]
    window: usize,
    /// What computes.
    #[arg(long, default_value = "jit")]
    backend: Backend,
    /// Print JSON to stdout.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    let session = options::session(&arguments.model, Some(&arguments.weights))?;
    let compile = arguments.engine.compile_options()?;
    match arguments.backend {
        Backend::Interp => evaluate(&mut session.interpreter(&compile, Mode::Batch)?, &arguments),
        Backend::Jit => evaluate(&mut session.native(&compile, arguments.engine.pool()?)?, &arguments),
    }
}

fn evaluate(engine: &mut impl Engine, arguments: &Arguments) -> Outcome {
    let path = arguments.text.display();
    let text = std::fs::read(&arguments.text).map_err(|e| Failure::Input(format!("error: cannot read {path}: {e}")))?;
    let decoder = Decoder::new(engine.table())?;
    let tokenizer = arguments.tokenizer.open(&decoder, &arguments.model, &arguments.weights)?;
    let elements = session::elements(&text, decoder.is_bytes(), tokenizer.as_ref())
        .map_err(|e| Failure::Input(format!("error: {path}: {e}")))?;
    let bar = output::progress(elements.len() as u64, "evaluating");
    let found = session::evaluate(engine, &elements, arguments.window, || bar.inc(1))?;
    bar.finish_and_clear();
    if found.predicted == 0 {
        return Err(Failure::Input(format!("error: {path} has no element to predict")));
    }
    let (mean, unit) = (found.mean(), found.unit());
    let bits = mean / std::f64::consts::LN_2;
    // Of a tokenizer's text the bytes are known too, so that models of both kinds can be compared.
    let per_byte = tokenizer.is_some().then(|| bits * found.predicted as f64 / text.len() as f64);
    if arguments.json {
        let mut report = json!({
            "level": unit, "predicted": found.predicted, "loss": mean, "perplexity": mean.exp(),
        });
        report[format!("bits_per_{unit}")] = json!(bits);
        if let Some(bits) = per_byte {
            report["bits_per_byte"] = json!(bits);
        }
        println!("{report}");
    } else {
        println!("{unit}s predicted   {}", output::grouped(found.predicted));
        println!("loss per {unit}     {mean:.6} nats");
        println!("perplexity        {:.4} per {unit}", mean.exp());
        println!("bits per {unit}     {bits:.6}");
        if let Some(bits) = per_byte {
            println!("bits per byte     {bits:.6}");
        }
    }
    Ok(())
}
