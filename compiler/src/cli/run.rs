//! `sterna run`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;
use sterna_runtime::{Decoder, End, Engine, Error, Limits, Sampler, generate, text::Utf8Stream};

use super::options::{self, CacheArguments, EngineArguments, ModelArguments, TokenizerArguments, WeightArguments};
use super::skipping::Skipping;
use super::start::{self, Started};
use super::{Failure, Outcome};
use crate::session::SessionError;
use crate::{input_file, measure, session};

/// Arguments of `sterna run`.
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
    /// The text to continue; for token models without a tokenizer a JSON array of ids. `-`: read from stdin.
    #[arg(long, short, default_value = "", value_name = "TEXT", allow_hyphen_values = true)]
    prompt: String,
    /// Continue the text of a file, all of it, a line feed at its end included. `-`: read from stdin.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    prompt_file: Option<PathBuf>,
    /// Instead of a text: the ids to continue, separated by commas; "" for none. The new ones are printed likewise.
    #[arg(long, value_name = "IDS", conflicts_with_all = ["prompt", "prompt_file"])]
    tokens: Option<Ids>,
    /// Bytes or tokens to generate; fewer where the context ends, which is said.
    #[arg(long, short = 'n', default_value_t = 256, value_name = "N")]
    max_new: usize,
    /// 0 always takes the most probable; above, the larger the more surprising.
    #[arg(long, short, default_value_t = 0.7, value_name = "X")]
    temperature: f64,
    /// Draw only from the so many most probable; 0: all.
    #[arg(long, default_value_t = 0, value_name = "N")]
    top_k: usize,
    /// Draw only from the most probable that reach this sum.
    #[arg(long, default_value_t = 0.95, value_name = "P")]
    top_p: f64,
    /// Make elements seen lately less probable; 1: off.
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    repetition_penalty: f64,
    /// The same seed gives the same text.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u64,
    /// Report speed, start and memory on stderr; where steps may skip layers also the share of steps that keep them and
    /// the time saved, which is measured by running the same elements again with and without skipping.
    #[arg(long)]
    stats: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Ids separated by commas.
#[derive(Clone)]
struct Ids(Vec<u32>);

impl std::str::FromStr for Ids {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Ids, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Ids(Vec::new()));
        }
        text.split(',').map(|id| id.trim().parse()).collect::<Result<_, _>>().map(Ids)
    }
}

/// The text to continue.
fn prompt_text(arguments: &Arguments) -> Result<Vec<u8>, Failure> {
    let file = arguments.prompt_file.as_deref();
    let stdin = file.map_or(arguments.prompt == "-", |path| path.as_os_str() == "-");
    let name = file.filter(|_| !stdin).map_or_else(|| "the prompt".into(), |path| path.display().to_string());
    let read = match file {
        _ if stdin => input_file::read_stdin(input_file::TEXT),
        Some(path) => input_file::read(path, input_file::TEXT),
        None => return Ok(arguments.prompt.clone().into_bytes()),
    };
    read.map_err(|e| Failure::Input(format!("error: cannot read {name}: {e}")))
}

/// Elements as text while they come.
enum Shown<'t> {
    Bytes(Utf8Stream),
    Tokens(session::TokenStream<'t>),
}

impl Shown<'_> {
    /// Takes the elements of a prompt; gives what of it is to be shown.
    fn prompt(&mut self, text: &[u8], elements: &[u32]) -> String {
        match self {
            Shown::Bytes(bytes) => elements.iter().map(|&byte| bytes.push(byte as u8)).collect(),
            Shown::Tokens(tokens) => {
                tokens.prompt(elements);
                String::from_utf8_lossy(text).into_owned()
            }
        }
    }

    fn push(&mut self, element: u32) -> String {
        match self {
            Shown::Bytes(bytes) => bytes.push(element as u8),
            Shown::Tokens(tokens) => tokens.push(element),
        }
    }

    fn finish(self) -> String {
        match self {
            Shown::Bytes(mut bytes) => bytes.finish(),
            Shown::Tokens(tokens) => tokens.finish(),
        }
    }
}

pub fn run(arguments: Arguments) -> Outcome {
    let mut sampler = Sampler::new(sterna_runtime::Options {
        temperature: arguments.temperature,
        top_k: arguments.top_k,
        top_p: arguments.top_p,
        repetition_penalty: arguments.repetition_penalty,
        seed: arguments.seed,
        ..Default::default()
    })
    .map_err(|e| Failure::Usage(format!("error: {e}")))?;
    let options = arguments.engine.compile_options()?;
    let Started { session, compiled, mut engine, start } =
        start::start(&arguments.model, &arguments.weights, arguments.cache, &options, arguments.engine.pool()?)?;
    options::note_random(&session);
    let decoder = Decoder::new(engine.table())?;
    let tokenizer = arguments.tokenizer.open(&decoder, &arguments.model, &arguments.weights)?;
    let text = prompt_text(&arguments)?;
    if let (Some(tokenizer), None) = (&tokenizer, &arguments.tokens) {
        sampler = sampler.only(tokenizer.with_text());
    }
    if arguments.max_new > 1 {
        decoder.continues(&sampler)?;
    }
    let prompt = match &arguments.tokens {
        Some(Ids(ids)) => ids.clone(),
        None => session::elements(&text, decoder.is_bytes(), tokenizer.as_ref())?,
    };
    let mut stream = decoder.stream(&engine)?;
    let begin = Instant::now();
    decoder.prompt(&mut engine, &mut stream, &prompt)?;
    let prefill = begin.elapsed();
    let kept_of_prompt = session::kept(&mut engine);
    prompt.iter().for_each(|&e| sampler.see(e));

    let mut stdout = std::io::stdout();
    let mut shown = match &tokenizer {
        _ if decoder.is_bytes() => Some(Shown::Bytes(Utf8Stream::default())),
        Some(tokenizer) => Some(Shown::Tokens(tokenizer.stream())),
        None => None,
    };
    let is_text = arguments.tokens.is_none() && shown.is_some();
    let mut first = None;
    let mut elements = Vec::new();
    let mut broken = None;
    let mut say = |text: &str| match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => true,
        Err(error) => {
            broken = Some(error);
            false
        }
    };
    let begin = Instant::now();
    let known = shown.as_mut().map(|shown| shown.prompt(&text, &prompt));
    if !arguments.json && is_text {
        say(&known.unwrap_or_default());
    }
    let mut generated = String::new();
    let room = session.room(&options);
    let limits = Limits { elements: arguments.max_new, steps: room.map(|room| room.steps) };
    let end = generate(&decoder, &mut engine, &mut stream, &mut sampler, limits, |element| {
        first.get_or_insert_with(|| start.begin.elapsed());
        let separator = if elements.is_empty() { "" } else { "," };
        elements.push(element);
        let new = shown.as_mut().map(|shown| shown.push(element)).unwrap_or_default();
        generated.push_str(&new);
        match is_text {
            _ if arguments.json => true,
            true => say(&new),
            false => say(&format!("{separator}{element}")),
        }
    });
    let rest = shown.map(Shown::finish).unwrap_or_default();
    generated.push_str(&rest);
    if !arguments.json {
        say(&if is_text { format!("{rest}\n") } else { "\n".into() });
    }
    let end = end.map_err(|error| match error {
        Error::NotFinite { .. } => {
            let elements = [&prompt[..], &elements].concat();
            let prompted = !prompt.is_empty();
            let error = SessionError::NotFinite { source: error, within: 0, elements, prompted, first: None };
            session.explained(error, &options)
        }
        other => other.into(),
    })?;
    let seconds = begin.elapsed().as_secs_f64();
    let resident = measure::resident();
    let first_ms = first.map(|first| first.as_secs_f64() * 1e3);
    let decode = session::kept(&mut engine);
    let unskipped = if arguments.stats { session.unskipped(&options, &compiled, &engine)? } else { None };
    let skipping = match unskipped {
        Some(mut unskipped) => {
            // Where the context ends there is no room for the last one.
            let fed = elements.len() - usize::from(end == End::Context);
            let saving = session::saving(&mut engine, &mut unskipped, &prompt, &elements[..fed])?;
            Some(Skipping { prompt: kept_of_prompt, decode, saving })
        }
        None => None,
    };
    if arguments.json {
        let mut report = json!({ "elements": elements, "prefill_s": prefill.as_secs_f64(), "decode_s": seconds });
        report["end"] = json!(if end == End::Context { "context" } else { "length" });
        if arguments.stats {
            start.add_to(&mut report, resident);
            report["first_element_ms"] = json!(first_ms);
        }
        if let Some(skipping) = &skipping {
            skipping.add_to(&mut report);
        }
        if decoder.is_bytes() || tokenizer.is_some() {
            report["text"] = json!(generated);
        }
        say(&format!("{report}\n"));
    }
    match broken {
        // A reader that has seen enough closes the pipe; that is no mistake of the input.
        Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    let unit = if decoder.is_bytes() { "bytes" } else { "tokens" };
    if let (End::Context, Some(room)) = (end, room) {
        let by = if room.by_options { ", by --context" } else { "" };
        let (of, made) = (arguments.max_new, elements.len());
        tell!("the context is full after {} steps{by}: {made} of {of} {unit} were generated", room.steps);
    }
    if arguments.stats {
        tell!(
            "prompt: {} {unit} in {:.1} ms; generated {} {unit} in {seconds:.2} s, {:.0} {unit}/s on {} threads",
            prompt.len(),
            prefill.as_secs_f64() * 1e3,
            elements.len(),
            elements.len() as f64 / seconds.max(1e-9),
            engine.pool().threads(),
        );
        start.lines(resident).iter().for_each(|line| tell!("{line}"));
        if let Some(first_ms) = first_ms {
            tell!("the first after {first_ms:.1} ms");
        }
        skipping.iter().flat_map(Skipping::lines).for_each(|line| tell!("{line}"));
    }
    Ok(())
}
