//! `sterna bench`.

use std::time::Duration;

use serde_json::json;
use sterna_runtime::sample::finite;
use sterna_runtime::{Decoder, Engine, NativeEngine};

use super::options::{self, CacheArguments, EngineArguments, MOST_STEPS, ModelArguments, WeightArguments};
use super::skipping::Skipping;
use super::start::{self, Started};
use super::{Failure, Outcome, output};
use crate::measure;
use crate::session::{self, Replay, Saving};

/// Arguments of `sterna bench`.
#[derive(clap::Args)]
#[command(
    after_help = "Where steps may skip layers, the share of steps that keep them is counted, and the time saved is \
                        measured: the same elements also run with nothing skipped, round by round in turn."
)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    cache: CacheArguments,
    #[command(flatten)]
    weights: WeightArguments,
    #[command(flatten)]
    engine: EngineArguments,
    /// Steps of the prompt, and of decoding; by default 256, or as many as the model has room for.
    #[arg(long, value_name = "N", value_parser = options::between::<1, MOST_STEPS>)]
    steps: Option<usize>,
    /// Repetitions; the best is reported.
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// Print JSON to stdout.
    #[arg(long)]
    json: bool,
}

/// Steps where there is room.
const STEPS: usize = 256;

/// The elements that are both predicted and taken, as far as there are such.
#[derive(Clone, Copy)]
struct Taken {
    least: u32,
    count: u32,
}

impl Taken {
    fn of(decoder: &Decoder) -> Taken {
        let (least, most) = decoder.range();
        let last = most.min((decoder.vocabulary() as u32).saturating_sub(1)).max(least);
        Taken { least, count: (last - least).saturating_add(1) }
    }

    fn nth(self, n: u32) -> u32 {
        self.least + n % self.count
    }

    /// An element as it is, or another where the stream does not take it.
    fn nearest(self, element: u32) -> u32 {
        match element.checked_sub(self.least) {
            Some(place) if place < self.count => element,
            _ => self.nth(element),
        }
    }
}

/// Counts along the prompt and the elements decoded after it, with the times measured before.
fn skipping(
    engine: &mut NativeEngine,
    decoder: &Decoder,
    (prompt, decoded): (&[u32], &[u32]),
    saving: Saving,
) -> Result<Skipping, Failure> {
    session::kept(engine);
    let mut stream = decoder.stream(engine)?;
    decoder.prompt(engine, &mut stream, prompt)?;
    let prompt = session::kept(engine);
    for &element in decoded {
        decoder.logits(engine, &mut stream)?;
        decoder.feed(engine, &mut stream, &[element])?;
    }
    Ok(Skipping { prompt, decode: session::kept(engine), saving })
}

pub fn run(arguments: Arguments) -> Outcome {
    if arguments.rounds == 0 {
        return Err(Failure::Usage("--rounds must be at least 1".into()));
    }
    let options = arguments.engine.compile_options()?;
    let pool = arguments.engine.pool()?;
    let Started { session, compiled, mut engine, start } =
        start::start(&arguments.model, &arguments.weights, arguments.cache, &options, pool.clone())?;
    let decoder = Decoder::new(engine.table())?;
    let patch = decoder.patch();
    let of_stream = |steps: usize| steps.saturating_mul(2 * patch);
    let bound = session::Bound { wanted: arguments.steps, usual: STEPS, option: "--steps" };
    let steps = bound.within(session.room(&options), &decoder, of_stream)?;
    if arguments.steps.is_none() && steps < STEPS {
        tell!("note: {steps} steps of a prompt and as many of decoding, for which the model has room");
    }
    let taken = Taken::of(&decoder);
    let elements: Vec<u32> =
        (0..steps * patch).map(|i| taken.nth((i as u32).wrapping_mul(37).wrapping_add(11))).collect();

    let mut unskipped = session.unskipped(&options, &compiled, &engine)?;
    let bar = output::progress(arguments.rounds as u64, "measuring");
    let (mut best, mut best_unskipped) = (Replay::SLOWEST, Replay::SLOWEST);
    let mut decoded: Vec<u32> = Vec::new();
    let mut bandwidth = 0f64;
    let mut resident = None;
    for _ in 0..arguments.rounds {
        // Every round takes the way of the first, also where other logits would lead elsewhere.
        let mut next = |place: usize, logits: &[f32]| {
            let largest = taken.nearest(sterna_runtime::sample::largest(logits));
            if place == decoded.len() {
                decoded.push(largest);
            }
            decoded[place]
        };
        let measured = session::replay(&mut engine, &elements, elements.len(), finite, &mut next);
        best = best.best(measured.map_err(|error| session.explained(error, &options))?);
        // Before the yardstick takes memory of its own.
        resident = resident.or_else(measure::resident);
        if let Some(unskipped) = &mut unskipped {
            let measured = session::replay(unskipped, &elements, elements.len(), session::unchecked, &mut next)?;
            best_unskipped = best_unskipped.best(measured);
        }
        // Between the rounds, so that both meet the same neighbours on a shared machine.
        bandwidth = bandwidth.max(measure::read_bandwidth(&pool, 512 << 20, Duration::from_millis(50))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (prefill, decode) = (best.prompt, best.decode);
    let skipping = match unskipped {
        Some(_) => {
            let saving = Saving { skipping: best, unskipped: best_unskipped };
            Some(skipping(&mut engine, &decoder, (&elements, &decoded), saving)?)
        }
        None => None,
    };
    let steps = steps as f64;
    let per_step = session.cost(&options)?.weight_bytes_per_step;
    let weights = per_step as f64 * steps / decode / 1e9;
    let state: usize = engine.table().states.iter().map(|s| s.bytes).sum();
    let unit = if decoder.is_bytes() { "bytes" } else { "tokens" };
    if arguments.json {
        let mut report = json!({
            "decode_tokens_per_s": steps / decode,
            "prefill_tokens_per_s": steps / prefill,
            "elements_per_token": patch,
            "decode_elements_per_s": elements.len() as f64 / decode,
            "prefill_elements_per_s": elements.len() as f64 / prefill,
            "weight_gb_per_s": weights,
            "memory_gb_per_s": bandwidth,
            "share_of_memory_bandwidth": weights / bandwidth,
            "weight_bytes": engine.table().weight_bytes,
            "weight_bytes_per_token": per_step,
            "state_bytes_per_stream": state,
            "threads": pool.threads(),
        });
        start.add_to(&mut report, resident);
        if let Some(skipping) = &skipping {
            skipping.add_to(&mut report);
        }
        say!("{report}");
        return Ok(());
    }
    let patches = if patch > 1 { format!(", {:.0} {unit}/s", elements.len() as f64 / decode) } else { String::new() };
    say!("decode   {:>10.1} steps/s{patches}", steps / decode);
    say!("prefill  {:>10.1} steps/s", steps / prefill);
    say!("weights  {:>10.2} GB/s, {} a step", weights, output::bytes(per_step));
    say!(
        "memory   {bandwidth:>10.2} GB/s read by {} threads: decoding uses {:.0} %",
        pool.threads(),
        100.0 * weights / bandwidth
    );
    start.lines(resident).iter().for_each(|line| say!("{line}"));
    skipping.iter().flat_map(Skipping::lines).for_each(|line| say!("{line}"));
    Ok(())
}
