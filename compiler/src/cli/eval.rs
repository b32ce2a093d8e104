//! `sterna eval`.

use std::path::PathBuf;

use serde_json::json;
use sterna_runtime::sample::finite;
use sterna_runtime::{Decoder, Engine, Mode};

use super::logits::Backend;
use super::options::{
    self, CacheArguments, CacheName, EngineArguments, ModelArguments, TokenizerArguments, WeightArguments,
};
use super::{Failure, Outcome, output};
use crate::input_file;
use crate::session::{self, Evaluation, Room, SessionError};

/// Arguments of `sterna eval`.
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
    #[command(flatten)]
    tokenizer: TokenizerArguments,
    /// The text; for token models without a tokenizer a JSON array of ids.
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Evaluate windows of so many elements, each a stream of its own; 0: the whole text is one stream, unless the
    /// caches have no room for it (--context, or the graph's own bound): then windows that fill them, which the output
    /// says.
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
    let found = measured(&arguments, arguments.cache)?;
    let exact = CacheArguments { cache: Some(CacheName::F32) };
    let rounded = arguments.cache.cache == Some(CacheName::Bf16);
    let effect = if rounded { Some(measured(&arguments, exact)?) } else { None };
    let perplexity = found.evaluation.perplexity()?;
    report(&arguments, &found, perplexity, effect.as_ref());
    Ok(())
}

/// What one evaluation found.
struct Measured {
    evaluation: Evaluation,
    /// Bytes of the text, where it was tokenised.
    text_bytes: Option<usize>,
    /// Of one stream; none if the interpreter computed.
    state_bytes: Option<usize>,
    /// Elements of a stream, 0 if the whole text was one.
    window: usize,
    /// Of the caches, if they have a bound.
    room: Option<Room>,
}

fn measured(arguments: &Arguments, cache: CacheArguments) -> Result<Measured, Failure> {
    let session = options::session(&arguments.model, Some(&arguments.weights), cache)?;
    let compile = arguments.engine.compile_options()?;
    if cache.cache == arguments.cache.cache {
        options::note_random(&session);
    }
    let room = session.room(&compile);
    let explained = |error| session.explained(error, &compile);
    match arguments.backend {
        Backend::Interp => evaluate(&mut session.interpreter(&compile, Mode::Batch)?, room, arguments, explained),
        Backend::Jit => {
            let mut engine = session.native(&compile, arguments.engine.pool()?)?;
            let bytes = engine.table().states.iter().map(|s| s.bytes).sum();
            Ok(Measured { state_bytes: Some(bytes), ..evaluate(&mut engine, room, arguments, explained)? })
        }
    }
}

fn evaluate(
    engine: &mut impl Engine,
    room: Option<Room>,
    arguments: &Arguments,
    explained: impl Fn(SessionError) -> SessionError,
) -> Result<Measured, Failure> {
    let path = arguments.text.display();
    let text = input_file::read(&arguments.text, input_file::TEXT)
        .map_err(|e| Failure::Input(format!("error: cannot read {path}: {e}")))?;
    let decoder = Decoder::new(engine.table())?;
    let tokenizer = arguments.tokenizer.open(&decoder, &arguments.model, &arguments.weights)?;
    let elements = session::elements(&text, decoder.is_bytes(), tokenizer.as_ref())
        .map_err(|e| Failure::Input(format!("error: {path}: {e}")))?;
    let window = session::window(room, &decoder, arguments.window, elements.len())?;
    let bar = output::progress(elements.len() as u64, "evaluating");
    let found = session::evaluate(engine, &elements, window, finite, || bar.inc(1));
    bar.finish_and_clear();
    let found = found.map_err(explained)?;
    if found.predicted == 0 {
        return Err(Failure::Input(format!("error: {path} has no element to predict")));
    }
    let text_bytes = tokenizer.is_some().then_some(text.len());
    Ok(Measured { evaluation: found, text_bytes, state_bytes: None, window, room })
}

/// Prints what was found; with rounded caches also what exact ones give.
fn report(arguments: &Arguments, measured: &Measured, perplexity: f64, exact: Option<&Measured>) {
    let found = &measured.evaluation;
    let (mean, unit) = (found.mean(), found.unit());
    let bits_of = |e: &Evaluation| e.mean() / std::f64::consts::LN_2;
    let bits = bits_of(found);
    let saved = |exact: &Measured| Some(exact.state_bytes?.saturating_sub(measured.state_bytes?));
    // Of a tokenizer's text the bytes are known too, so that models of both kinds can be compared.
    let per_byte = measured.text_bytes.map(|bytes| bits * found.predicted as f64 / bytes as f64);
    if arguments.json {
        let mut report = json!({
            "level": unit, "predicted": found.predicted, "loss": mean, "perplexity": perplexity,
            "window": measured.window,
        });
        report[format!("bits_per_{unit}")] = json!(bits);
        if let Some(bits) = per_byte {
            report["bits_per_byte"] = json!(bits);
        }
        if let Some(exact) = exact {
            let own = bits_of(&exact.evaluation);
            report["cache"] = json!({
                "format": "bf16", "loss_with_f32": exact.evaluation.mean(), format!("bits_per_{unit}_with_f32"): own,
                "difference_in_bits": bits - own, "state_bytes": measured.state_bytes,
                "state_bytes_saved": saved(exact),
            });
        }
        say!("{report}");
        return;
    }
    say!("{unit}s predicted   {}", output::grouped(found.predicted));
    if let (Some(room), true) = (measured.room, measured.window != arguments.window) {
        let by = if room.by_options { " (--context)" } else { "" };
        say!("in windows of     {} {unit}s, as there is room for {} steps{by}", measured.window, room.steps);
    }
    say!("loss per {unit}     {mean:.6} nats");
    say!("perplexity        {perplexity:.4} per {unit}");
    say!("bits per {unit}     {bits:.6}");
    if let Some(bits) = per_byte {
        say!("bits per byte     {bits:.6}");
    }
    if let Some(exact) = exact {
        let own = bits_of(&exact.evaluation);
        say!("with f32 caches   {own:.6} bits per {unit}; bf16 differs by {:+.6}", bits - own);
        if let (Some(saved), Some(own)) = (saved(exact), exact.state_bytes) {
            say!("state per stream  {} instead of {}", output::bytes(own - saved), output::bytes(own));
        }
    }
}
