//! `sterna eval`.

use std::path::PathBuf;

use serde_json::json;
use sterna_runtime::{Decoder, Engine, Mode};

use super::logits::Backend;
use super::options::{self, EngineArguments, ModelArguments, WeightArguments};
use super::{Failure, Outcome, output};

/// Arguments of `sterna eval`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    weights: WeightArguments,
    #[command(flatten)]
    engine: EngineArguments,
    /// The text, as bytes; for token models a JSON array of ids.
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
    let decoder = Decoder::new(engine.table())?;
    let path = arguments.text.display();
    let text = std::fs::read(&arguments.text).map_err(|e| Failure::Input(format!("error: cannot read {path}: {e}")))?;
    let elements: Vec<u32> = if decoder.is_bytes() {
        text.iter().map(|&b| u32::from(b)).collect()
    } else {
        serde_json::from_slice(&text)
            .map_err(|e| Failure::Input(format!("error: this model takes tokens, and {path} is no array of ids: {e}")))?
    };
    let window = if arguments.window == 0 { elements.len().max(1) } else { arguments.window };
    let bar = output::progress(elements.len() as u64, "evaluating");
    let (mut loss, mut predicted) = (0.0f64, 0usize);
    for window in elements.chunks(window) {
        let mut next = if decoder.predicts_first() { 0 } else { decoder.patch() };
        decoder.all_logits(engine, window, Mode::Batch, |row| {
            if let Some(&element) = window.get(next) {
                loss += surprise(row, element);
                predicted += 1;
                bar.inc(1);
            }
            next += 1;
            Ok(())
        })?;
    }
    bar.finish_and_clear();
    if predicted == 0 {
        return Err(Failure::Input(format!("error: {path} has no element to predict")));
    }
    let mean = loss / predicted as f64;
    let bits = mean / std::f64::consts::LN_2;
    let unit = if decoder.is_bytes() { "byte" } else { "token" };
    if arguments.json {
        let mut report = json!({
            "level": unit, "predicted": predicted, "loss": mean, "perplexity": mean.exp(),
        });
        report[format!("bits_per_{unit}")] = json!(bits);
        println!("{report}");
    } else {
        println!("{unit}s predicted   {}", output::grouped(predicted));
        println!("loss per {unit}     {mean:.6} nats");
        println!("perplexity        {:.4} per {unit}", mean.exp());
        println!("bits per {unit}     {bits:.6}");
    }
    Ok(())
}

/// -ln of the probability that the logits give an element.
fn surprise(logits: &[f32], element: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - most).exp()).sum();
    sum.ln() - f64::from(logits[element as usize] - most)
}
