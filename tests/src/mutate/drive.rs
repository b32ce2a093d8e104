//! Takes one mutant as the command would, and runs what is accepted.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sterna_compiler::ir::verify::budget;
use sterna_compiler::ir::{Module, Region};
use sterna_compiler::limits::Limits;
use sterna_compiler::session::compare::{self, Script};
use sterna_compiler::session::{
    CompileOptions, Compiled, LoadOptions, ModelSource, Session, SessionError, Tokenizer, WeightsSource,
};
use sterna_compiler::target::cpu::Cpu;
use sterna_compiler::weights;
use sterna_runtime::model::ModelTable;
use sterna_runtime::{Decoder, Engine, NativeEngine, Pool, Sampler, generate};

use super::outcome::Outcome;
use super::{Load, Mutant, corpus, printed};
use crate::programs::dice::Dice;
use crate::programs::outcome::reason;
use crate::programs::streams::{Streams, WAYS};

/// Streams side by side.
const STREAMS: usize = 2;
/// Steps of each stream.
const STEPS: usize = 4;
/// Bytes of weights, scratch memory and states of a model that is run.
const RUN: usize = 64 << 20;
/// Elements that a step of a model computes that is run, and of one that is interpreted; weights of that likewise.
const WORK: usize = 1 << 24;
const INTERPRETED: usize = 1 << 21;
/// Nodes of a small model.
const SMALL: usize = 250;
/// Elements of all inputs of a step.
const INPUTS: usize = 1 << 14;
/// Tokens of the model for which tokenizers are read.
const VOCABULARY: usize = 64;

/// Tries a mutant in this process; it may panic or die. The seed decides how it is run.
pub fn check(mutant: &Mutant, seed: u64) -> Outcome {
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => return Outcome::Refused(format!("no folder: {error}")),
    };
    let found = write(mutant, folder.path()).and_then(|()| taken(mutant, folder.path(), &mut Dice::new(!seed)));
    found.unwrap_or_else(|text| Outcome::Refused(reason(&text)))
}

/// Writes the files of a mutant.
///
/// # Errors
/// What the system says.
pub fn write(mutant: &Mutant, folder: &Path) -> Result<(), String> {
    mutant
        .files
        .iter()
        .try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
        .map_err(|e| e.to_string())
}

fn taken(mutant: &Mutant, folder: &Path, dice: &mut Dice) -> Result<Outcome, String> {
    let words = |error: SessionError| error.to_string();
    let package = folder.join("p.sterna");
    match &mutant.load {
        Load::Tokenizer => tokenizer(&folder.join("tokenizer.json"), dice),
        Load::Package => run(&load(&ModelSource::Package(package), LoadOptions::default(), dice)?, dice).map_err(words),
        Load::Printed { seed } => {
            let text = mutant.files.first().map(|(_, bytes)| String::from_utf8_lossy(bytes)).unwrap_or_default();
            std::fs::write(&package, printed::package_of(&text, *seed)?).map_err(|e| e.to_string())?;
            match load(&ModelSource::Package(package), LoadOptions::default(), dice) {
                Ok(session) => run(&session, dice).map_err(words),
                Err(text) => Ok(unless_of_a_later_pass(text)),
            }
        }
        Load::Config { model, graphs, weights, base, rename } => {
            let file = weights.as_ref().map(|name| folder.join(name));
            if let Some(path) = &file {
                read_all(path);
            }
            // The code of a model is the same with all its checkpoints.
            if let (Some(path), Some(known)) = (&file, base.and_then(known).filter(|_| dice.chance(97))) {
                let (session, compiled) = known.as_ref();
                let opened = weights::Checkpoint::open(path).map_err(|error| error.to_string())?;
                let session = session.with_checkpoint(path, opened).map_err(words)?;
                let options = compiling(Cpu::default(), FEW_ROWS);
                return ran(&session, compiled, &options, dice).map_err(words);
            }
            let options = LoadOptions {
                model: model.clone(),
                graphs: graphs.then(|| folder.to_owned()),
                weights: file.map_or(WeightsSource::Random(1), WeightsSource::File),
                allow_nan: dice.chance(30),
                rename: rename.then(|| folder.join("r.json")),
                ..LoadOptions::default()
            };
            run(&load(&ModelSource::File(folder.join("c.json")), options, dice)?, dice).map_err(words)
        }
    }
}

/// A package that was just made of a verified graph may only be refused for the form of the graph.
fn unless_of_a_later_pass(text: String) -> Outcome {
    if text.contains("lifted over time") || text.contains("which a step does not have") || text.contains("cale") {
        return Outcome::Refused(reason(&text));
    }
    Outcome::Differs(format!("a package that was just written: {text}"))
}

/// With the probes of a model, or without.
fn load(source: &ModelSource, options: LoadOptions, dice: &mut Dice) -> Result<Session, String> {
    let observing = LoadOptions { observe: vec!["*".into()], ..options.clone() };
    match if dice.chance(30) { Session::load(source, &observing) } else { Session::load(source, &options) } {
        Err(SessionError::NoProbe { .. }) => Session::load(source, &options),
        other => other,
    }
    .map_err(|error| error.to_string())
}

/// Reads what a checkpoint lists, also what no model would ask for.
fn read_all(path: &Path) {
    let Ok(file) = weights::Checkpoint::open(path) else { return };
    for entry in file.tensors() {
        let elements = entry.shape.iter().fold(1usize, |n, &axis| n.saturating_mul(axis));
        if elements <= INTERPRETED {
            let read = [file.read_f32(entry).is_ok(), file.read_finite(entry).is_ok()];
            let coded = [file.read_ternary(entry, true).is_ok(), file.read_signs(entry, false).is_ok()];
            std::hint::black_box((read, coded));
        }
    }
}

/// Bytes that a model needs to run here.
fn memory(table: &ModelTable) -> usize {
    let states = table.states.iter().map(|state| state.bytes).fold(0, usize::saturating_add);
    states.saturating_mul(STREAMS).saturating_add(table.scratch_bytes).saturating_add(table.weight_bytes)
}

/// Whether the inputs of all entries are few, those of the places of an inner entry counted one by one.
fn few_inputs(table: &ModelTable) -> bool {
    let ports = table.entries.iter().flat_map(|entry| &entry.inputs).map(|port| port.elements());
    let patch = table.main().map_or(1, |main| table.entries[main].patch().max(1));
    ports.fold(0, usize::saturating_add).saturating_mul(patch) <= INPUTS
}

fn pools() -> &'static [Arc<Pool>; 2] {
    static ALL: OnceLock<[Arc<Pool>; 2]> = OnceLock::new();
    ALL.get_or_init(|| [1, 3].map(|threads| Arc::new(Pool::new(threads, false))))
}

/// Compiles a model and runs it for a few steps in some way.
fn run(session: &Session, dice: &mut Dice) -> Result<Outcome, SessionError> {
    let levels: Vec<Cpu> = Cpu::here().collect();
    let max_rows = dice.pick(&[1, 2, 3, 5, 16]);
    let options = compiling(dice.pick(&levels), max_rows);
    // Code takes longest by far: some is made, less of what is not small, and all is lowered and proven.
    let made = if nodes(session.module()) > SMALL { 10 } else { 35 };
    if !dice.chance(made) {
        session.planned(&options)?;
        return Ok(Outcome::Planned);
    }
    ran(session, &session.compile(&options)?, &options, dice)
}

/// How the models of checkpoints are compiled.
const FEW_ROWS: usize = 3;

fn compiling(cpu: Cpu, max_rows: usize) -> CompileOptions {
    CompileOptions { cpu, max_rows, max_context: 20, ..CompileOptions::default() }
}

/// Nodes of all entries.
fn nodes(module: &Module) -> usize {
    fn of(region: &Region) -> usize {
        let nested = |id| Region::nested(&region.node(id).op).into_iter().map(of).sum::<usize>();
        region.nodes().map(|id| 1 + nested(id)).sum()
    }
    module.entries.iter().map(|entry| of(&entry.body)).sum()
}

/// A model that was loaded and compiled.
type Known = Arc<(Session, Compiled)>;

/// The model of a checkpoint; the last one is kept. Code has addresses of its own, so not many are.
fn known(base: usize) -> Option<Known> {
    static LAST: Mutex<Option<(usize, Known)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, known)) = last.as_ref().filter(|(at, _)| *at == base) {
        return Some(known.clone());
    }
    let weights = corpus::checkpoints().get(base)?;
    let folder = tempfile::tempdir().ok()?;
    weights.files.iter().try_for_each(|(name, bytes)| std::fs::write(folder.path().join(name), bytes)).ok()?;
    let path = folder.path().join(&weights.files[0].0);
    let source = ModelSource::Own { name: "c.json".into(), text: weights.config.clone() };
    let options = LoadOptions { weights: WeightsSource::File(path), ..LoadOptions::default() };
    let session = Session::load(&source, &options).ok()?;
    let compiled = session.compile(&compiling(Cpu::default(), FEW_ROWS)).ok()?;
    let known = Arc::new((session, compiled));
    *last = Some((base, known.clone()));
    Some(known)
}

/// Runs a compiled model for a few steps in some way.
fn ran(
    session: &Session,
    compiled: &Compiled,
    options: &CompileOptions,
    dice: &mut Dice,
) -> Result<Outcome, SessionError> {
    let table = compiled.table();
    let within = |work| budget::within(session.module(), &Limits { work, ..Limits::DEFAULT }).is_ok();
    if memory(table) > RUN || session.section_bytes() > RUN || !within(WORK) || !few_inputs(table) {
        return Ok(Outcome::Planned);
    }
    let pool = &pools()[usize::from(dice.chance(10))];
    let mut engine = session.engine(compiled, pool.clone())?;
    if dice.chance(30) {
        // What a stream is fed with and gives back in `run`.
        let generated = continued(&mut engine, session, options, dice);
        std::hint::black_box(generated.is_ok());
    }
    if table.entries.is_empty() {
        return Ok(Outcome::Ran);
    }
    let way = dice.below(WAYS);
    let script = Streams::new(table, dice, STREAMS, STEPS);
    let found = compare::compiled(session, compiled, pool.clone(), &script, way)?;
    if !within(INTERPRETED) || session.section_bytes() > INTERPRETED {
        return Ok(found.stopped().map_or(Outcome::Ran, |error| Outcome::Refused(reason(error))));
    }
    let expected = compare::reference(session, options, &script)?;
    let differences = compare::differences("compiled code", &expected, &found, script.calls()[way].rows);
    Ok(match (expected.stopped(), differences.first()) {
        (_, Some(difference)) => Outcome::Differs(difference.to_string()),
        (None, None) => Outcome::Ran,
        (Some(error), None) => Outcome::Refused(reason(&format!("does not run: {error}"))),
    })
}

/// Goes on after a prompt, as `run` does.
fn continued(
    engine: &mut NativeEngine,
    session: &Session,
    options: &CompileOptions,
    dice: &mut Dice,
) -> sterna_runtime::Result<()> {
    let decoder = Decoder::new(engine.table())?;
    let mut stream = decoder.stream(engine)?;
    let prompt: Vec<u32> = (0..dice.below(6)).map(|_| dice.below(decoder.vocabulary().clamp(1, 300)) as u32).collect();
    decoder.prompt(engine, &mut stream, &prompt)?;
    let mut sampler = Sampler::new(sterna_runtime::Options::default())?;
    let steps = session.room(options).map(|room| room.steps);
    let limits = sterna_runtime::Limits { elements: 5, steps };
    generate(&decoder, engine, &mut stream, &mut sampler, limits, |_| true).map(|_| ())
}

/// Reads a text with a tokenizer, and tokens that nobody has written; what is shown while it comes is the whole.
fn tokenizer(path: &Path, dice: &mut Dice) -> Result<Outcome, String> {
    let tokenizer = Tokenizer::open(path, VOCABULARY).map_err(|error| error.to_string())?;
    for text in ["", "a b abab cat cats. the", "é\u{0} <s>▁▁ 12ab\n\t🙂c"] {
        std::hint::black_box(tokenizer.encode(text).is_ok());
    }
    let tokens: Vec<u32> = (0..dice.below(12)).map(|_| dice.below(VOCABULARY) as u32).collect();
    let whole = tokenizer.decode(&tokens);
    let mut stream = tokenizer.stream();
    let mut shown: String = tokens.iter().map(|&token| stream.push(token)).collect();
    shown.push_str(&stream.finish());
    if whole == shown { Ok(Outcome::Ran) } else { Ok(Outcome::Differs(format!("{tokens:?}: {shown:?} for {whole:?}"))) }
}
