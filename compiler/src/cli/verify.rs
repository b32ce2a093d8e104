//! `sterna verify`: the product's own test. Any user can prove that the compiled code means what the graph says, in
//! every output, probe and state ([`crate::session::compare`]).

use serde_json::json;
use sterna_runtime::{Decoder, Engine, Mode};

use super::options::{self, CacheArguments, EngineArguments, MOST_STEPS, ModelArguments, WeightArguments};
use super::{Failure, Outcome, output};
use crate::session::Bound;
use crate::session::compare::{Comparing, Difference, Elements, Level, against, draw, reference};
use crate::target::cpu::Cpu;

/// Arguments of `sterna verify`.
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
    /// Elements of the stream to compare; by default 22 and at least three steps, or as many as the model has room for.
    #[arg(long, value_name = "N", value_parser = options::between::<1, MOST_STEPS>)]
    elements: Option<usize>,
    /// Seed of the elements.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Also compile for every lower processor level that this machine can run.
    #[arg(long)]
    all_levels: bool,
    /// Print JSON to stdout.
    #[arg(long)]
    json: bool,
}

/// Elements where there is room.
const ELEMENTS: usize = 22;

pub fn run(arguments: Arguments) -> Outcome {
    let compile = arguments.engine.compile_options()?;
    let load = |observe| options::observing(&arguments.model, Some(&arguments.weights), arguments.cache, observe);
    let plain = load(Vec::new())?;
    // Probes change what is compiled: the program is compared as it runs, and once more with all of them as outputs.
    let observed = if plain.has_probes() { Some(load(vec!["*".to_owned()])?) } else { None };
    let table = plain.interpreter(&compile, Mode::Step)?.table().clone();
    let decoder = Decoder::new(&table)?;
    let patch = decoder.patch();
    let usual = ELEMENTS.max(3 * patch + 1);
    let bound = Bound { wanted: arguments.elements, usual, option: "--elements" };
    let count = bound.within(plain.room(&compile), &decoder, |elements| elements)?;
    if count < patch && !decoder.predicts_first() {
        return Err(Failure::Usage(format!("--elements {count} make no step: one takes {patch} elements")));
    }
    if arguments.elements.is_none() && count < usual {
        tell!("note: {count} elements are compared, for which the model has room");
    }
    let elements = draw(&table, arguments.seed, count)?;
    let script = Elements { elements, batches: vec![compile.max_rows] };
    let mut how = Comparing::new(compile);
    if let Some(threads) = arguments.engine.threads()? {
        how.levels[0].threads = vec![threads];
    }
    if arguments.all_levels {
        let first = how.levels[0].clone();
        let others = Cpu::here().filter(|level| *level != first.cpu);
        how.levels.extend(others.map(|cpu| Level { cpu, ..first.clone() }));
    }
    how.pin = !arguments.engine.no_pin;
    let bar = output::spinner("interpreting");
    let expected = reference(observed.as_ref().unwrap_or(&plain), &how.compile, &script)?;
    bar.finish_and_clear();
    let mut compared = against(&plain, &how, &script, &expected)?;
    if let Some(observed) = &observed {
        compared.add(against(observed, &how, &script, &expected)?, ", with probes");
    }
    let (outputs, probes, states) = expected.counts();
    let wrong: Vec<String> = compared.differences.iter().map(Difference::to_string).collect();
    if arguments.json {
        let (values, ways) = (compared.values, &compared.ways);
        let counts = json!({ "outputs": outputs, "probes": probes, "states": states });
        say!("{}", json!({ "values": values, "of": counts, "cases": ways, "differences": wrong }));
    } else if wrong.is_empty() && compared.stopped.is_none() {
        let (values, ways) = (output::grouped(compared.values), compared.ways.len() + 1);
        say!("equal bits: {values} values of {outputs} outputs, {probes} probes and {states} states in {ways} ways");
    }
    if !wrong.is_empty() {
        return Err(Failure::Check(format!("verify: the step interpreter and these differ\n  {}", wrong.join("\n  "))));
    }
    match compared.stopped {
        None => Ok(()),
        Some(why) => Err(Failure::Input(format!("error: every way stops before the end: {why}"))),
    }
}
