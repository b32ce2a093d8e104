//! Runs a program in all ways and says where one differs from the interpreter, step by step.
//!
//! What is compared, and over which engines, is the product's own `session::compare`: all outputs of all entries,
//! probes and states must have the same bits.

use sterna_compiler::session::compare::{Comparing, Difference, Level, against, reference};
use sterna_compiler::session::{CompileOptions, LoadOptions, ModelSource, Session, SessionError, WeightsSource};
use sterna_compiler::target::cpu::Cpu;
use sterna_runtime::{Engine, Mode};

use super::dice::Dice;
use super::outcome::{Job, Outcome, Thorough, reason};
use super::streams::Streams;

/// Steps of each stream.
const STEPS: usize = 11;
/// Streams side by side.
const STREAMS: usize = 3;

/// Checks one program in this process; it may panic or die.
pub fn check(job: &Job) -> Outcome {
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => return Outcome::Refused { reason: "no folder".into(), text: error.to_string() },
    };
    if let Err(error) = std::fs::write(folder.path().join("m.graph"), &job.graph) {
        return Outcome::Refused { reason: "no file".into(), text: error.to_string() };
    }
    match ways(job, folder.path()) {
        Ok(outcome) => outcome,
        Err(error) => {
            let text = error.to_string();
            Outcome::Refused { reason: reason(&text), text }
        }
    }
}

fn load(job: &Job, graphs: &std::path::Path, observe: bool) -> Result<Session, SessionError> {
    let source = ModelSource::Own { name: "c.json".into(), text: job.config.clone() };
    let options = LoadOptions {
        model: Some("m".into()),
        graphs: Some(graphs.into()),
        weights: WeightsSource::Random(job.seed),
        observe: if observe { vec!["*".into()] } else { Vec::new() },
        ..LoadOptions::default()
    };
    Session::load(&source, &options)
}

fn ways(job: &Job, graphs: &std::path::Path) -> Result<Outcome, SessionError> {
    let mut dice = Dice::new(job.seed ^ 0x5eed);
    let observe = dice.chance(65);
    let session = match load(job, graphs, observe) {
        Err(SessionError::NoProbe { .. }) => load(job, graphs, false)?,
        other => other?,
    };
    let max_rows = dice.pick(&[2, 3, 5, 16, 64]);
    let compile = CompileOptions { max_rows, max_context: 40, ..CompileOptions::default() };
    let script = Streams::new(session.interpreter(&compile, Mode::Step)?.table(), &mut dice, STREAMS, STEPS);
    let expected = reference(&session, &compile, &script)?;
    if let Some(error) = expected.stopped() {
        let text = format!("the interpreter fails: {error}");
        return Ok(Outcome::Refused { reason: reason(&text), text });
    }
    let how = Comparing { compile, levels: levels(job), pin: false };
    let found = against(&session, &how, &script, &expected)?;
    if found.differences.is_empty() {
        return Ok(Outcome::Equal { ways: found.ways.len() + 1, values: found.values });
    }
    let texts: Vec<String> = found.differences.iter().map(Difference::to_string).collect();
    Ok(Outcome::Differs { text: texts.join("\n") })
}

/// The best level with one thread, with three and in the kernel interpreter; all others, now and then in the kernel
/// interpreter too, since they have kernels of their own. Where it has to be quick one of the others, and now and then one
/// of the two in the kernel interpreter, which is slow.
fn levels(job: &Job) -> Vec<Level> {
    let mut found: Vec<Cpu> = Cpu::here().collect();
    let quick = job.thorough == Thorough::Quick;
    let kernels = !quick || job.seed.is_multiple_of(32);
    let others = if quick { job.seed % 32 == 16 } else { job.seed.is_multiple_of(4) };
    let best = found.pop().map(|cpu| Level { cpu, threads: vec![1, 3], kernels });
    if quick && !found.is_empty() {
        found = vec![found[(job.seed / 8) as usize % found.len()]];
    }
    let other = |cpu| Level { cpu, threads: vec![1], kernels: others };
    best.into_iter().chain(found.into_iter().map(other)).collect()
}
