//! `sterna probe`.

use std::path::{Path, PathBuf};

use sterna_runtime::{Decoder, Engine, Mode};

use super::logits::Backend;
use super::options::{self, CacheArguments, EngineArguments, MOST_STEPS, ModelArguments, WeightArguments};
use super::{Failure, Outcome, output};
use crate::health::measure::Measure;
use crate::health::report::{Probe, Report, Subject};
use crate::health::{self, input, picture};
use crate::input_file;
use crate::output_file;
use crate::session::Session;

/// Arguments of `sterna probe`.
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
    input: Input,
    /// Sequences to measure.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = options::between::<1, 65_536>)]
    sequences: usize,
    /// Tokens of one sequence of a text.
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = options::between::<1, MOST_STEPS>)]
    length: usize,
    /// Seed of random blocks.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Where the document goes; by default beside the checkpoint, and without one to stdout. `-`: to stdout.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Also draw the match rates of layers and heads.
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,
    /// What computes.
    #[arg(long, default_value = "jit")]
    backend: Backend,
}

/// What is measured on.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Input {
    /// Consecutive windows of a file of tokens: 16-bit, little-endian.
    #[arg(long, value_name = "TOKENS.u16")]
    text: Option<PathBuf>,
    /// Blocks of so many different random tokens, each written twice.
    #[arg(long, value_name = "BLOCK")]
    repeat: Option<usize>,
}

pub fn run(arguments: Arguments) -> Outcome {
    let mut inputs = options::inputs(&arguments.model, &arguments.weights);
    inputs.extend(arguments.input.text.clone());
    for output in sidecar(&arguments).iter().chain(&arguments.svg) {
        options::check_output(output, &inputs)?;
    }
    let observe = vec![health::SURVIVORS.to_owned(), health::TOP4.to_owned()];
    let session = options::observing(&arguments.model, Some(&arguments.weights), arguments.cache, observe)?;
    options::note_random(&session);
    let compile = arguments.engine.compile_options()?;
    match arguments.backend {
        Backend::Interp => measure(&session, &mut session.interpreter(&compile, Mode::Batch)?, &arguments),
        Backend::Jit => measure(&session, &mut session.native(&compile, arguments.engine.pool()?)?, &arguments),
    }
}

fn measure(session: &Session, engine: &mut impl Engine, arguments: &Arguments) -> Outcome {
    let decoder = Decoder::new(engine.table())?;
    let (sequences, probe) = sequences(arguments, decoder.vocabulary())?;
    let mut observations = session.observing(engine)?;
    let mut measure = Measure::default();
    let bar = output::progress(sequences.len() as u64, "measuring");
    for tokens in &sequences {
        let mut stream = decoder.stream(observations.engine())?;
        decoder.feed(observations.engine(), &mut stream, tokens)?;
        measure.add(tokens, &observations.take())?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let report = Report::new(subject(session, arguments), probe, &measure);
    if let Some(path) = &arguments.svg {
        let name = session.config()["name"].as_str().unwrap_or(&session.module().name);
        write(path, &picture::heat_map(&report, &format!("Pointers of {name}")))?;
    }
    let document = serde_json::to_string_pretty(&report)? + "\n";
    match sidecar(arguments) {
        Some(path) => {
            write(&path, &document)?;
            tell!("wrote {}", path.display());
            Ok(())
        }
        None => {
            output::text(&document);
            Ok(())
        }
    }
}

fn sequences(arguments: &Arguments, vocabulary: usize) -> Result<(Vec<Vec<u32>>, Probe), Failure> {
    let n_sequences = arguments.sequences;
    if let Some(path) = &arguments.input.text {
        let bytes = input_file::read(path, input_file::TEXT)
            .map_err(|e| Failure::Input(format!("error: cannot read {}: {e}", path.display())))?;
        let windows = input::windows(&bytes, n_sequences, arguments.length)?;
        let probe = Probe { kind: "text", n_sequences, seq_len: arguments.length, seed: None, block: None, reps: None };
        return Ok((windows, probe));
    }
    let block = arguments.input.repeat.unwrap_or(0);
    let sequences = input::repeats(n_sequences, block, vocabulary, arguments.seed)?;
    let probe = Probe {
        kind: "repeat",
        n_sequences,
        seq_len: block * input::REPETITIONS,
        seed: Some(arguments.seed),
        block: Some(block),
        reps: Some(input::REPETITIONS),
    };
    Ok((sequences, probe))
}

fn subject(session: &Session, arguments: &Arguments) -> Subject {
    let saved = |key: &str| session.metadata().and_then(|m| m.get(key));
    let file = arguments.weights.weights.as_deref().and_then(Path::file_name);
    Subject {
        checkpoint: file.map(|name| name.to_string_lossy().into_owned()),
        model: session.config()["name"].as_str().unwrap_or_default().to_owned(),
        step: saved("step").and_then(serde_json::Value::as_u64),
        val_bpc: saved("val_bpc").and_then(serde_json::Value::as_f64),
    }
}

/// Where the document goes, unless to stdout.
fn sidecar(arguments: &Arguments) -> Option<PathBuf> {
    if let Some(path) = &arguments.output {
        return (path.as_os_str() != "-").then(|| path.clone());
    }
    let checkpoint = arguments.weights.weights.as_ref()?;
    let stem = checkpoint.file_stem()?.to_string_lossy();
    let kind = if arguments.input.text.is_some() { "pointer_health" } else { "induction" };
    Some(checkpoint.with_file_name(format!("{stem}_{kind}.json")))
}

fn write(path: &Path, text: &str) -> Outcome {
    output_file::write_text(path, text)
        .map_err(|e| Failure::Input(format!("error: cannot write {}: {e}", path.display())))
}
