//! `sterna verify`: the product's own test. Any user can prove that the compiled code means what the graph says.

use std::sync::Arc;

use serde_json::json;
use sterna_runtime::{Decoder, Engine, Mode, Pool};

use super::options::{self, CacheArguments, EngineArguments, ModelArguments, WeightArguments};
use super::{Failure, Outcome, output};
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
    /// Elements of the stream to compare.
    #[arg(long, default_value_t = 22, value_name = "N")]
    elements: usize,
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

/// The logits of all positions as bits, with one NaN for all.
fn bits(engine: &mut impl Engine, elements: &[u32], mode: Mode) -> Result<Vec<Vec<u32>>, Failure> {
    let decoder = Decoder::new(engine.table())?;
    let mut rows = Vec::new();
    decoder.all_logits(engine, elements, mode, |row| {
        rows.push(row.iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect());
        Ok(())
    })?;
    Ok(rows)
}

pub fn run(arguments: Arguments) -> Outcome {
    let session = options::session(&arguments.model, Some(&arguments.weights), arguments.cache)?;
    let compile = arguments.engine.compile_options()?;
    let mut interpreter = session.interpreter(&compile, Mode::Step)?;
    let decoder = Decoder::new(interpreter.table())?;
    let mut state = arguments.seed;
    let elements: Vec<u32> = (0..arguments.elements)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) % decoder.vocabulary() as u64) as u32
        })
        .collect();
    let bar = output::spinner("interpreting");
    let expected = bits(&mut interpreter, &elements, Mode::Step)?;
    bar.finish_and_clear();

    let mut levels = vec![compile.cpu];
    if arguments.all_levels {
        levels.extend(Cpu::NAMES.map(|n| n.1).into_iter().filter(|&l| l != compile.cpu && l.runs_here()));
    }
    let threads: Vec<usize> = match arguments.engine.threads()? {
        Some(n) => vec![n],
        None => vec![1, 2],
    };
    let mut passed = session.interpreter(&compile, Mode::Batch)?;
    let mut cases =
        vec![("interpreter, after all passes, batch".to_string(), bits(&mut passed, &elements, Mode::Batch)?)];
    for level in levels {
        for &threads in &threads {
            let options = crate::session::CompileOptions { cpu: level, ..compile.clone() };
            let mut engine = session.native(&options, Arc::new(Pool::new(threads, !arguments.engine.no_pin)))?;
            for (name, mode) in [("step", Mode::Step), ("batch", Mode::Batch)] {
                cases.push((
                    format!("{}, {threads} threads, {name}", level.name()),
                    bits(&mut engine, &elements, mode)?,
                ));
            }
        }
    }
    let values: usize = expected.iter().map(Vec::len).sum();
    let mut wrong = Vec::new();
    for (name, found) in &cases {
        if let Some(text) = difference(&expected, found) {
            wrong.push(format!("{name}: {text}"));
        }
    }
    if arguments.json {
        let names: Vec<&String> = cases.iter().map(|c| &c.0).collect();
        say!("{}", json!({ "logits": values, "cases": names, "differences": wrong }));
    } else if wrong.is_empty() {
        say!("equal bits: {} logits in {} ways", output::grouped(values), cases.len() + 1);
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::Check(format!("verify: the step interpreter and these differ\n  {}", wrong.join("\n  "))))
}

/// Where two tables of logits first differ.
fn difference(expected: &[Vec<u32>], found: &[Vec<u32>]) -> Option<String> {
    if expected.len() != found.len() {
        return Some(format!("{} rows instead of {}", found.len(), expected.len()));
    }
    let count: usize = expected.iter().zip(found).flat_map(|(a, b)| a.iter().zip(b)).filter(|(a, b)| a != b).count();
    let (row, (a, b)) = expected.iter().zip(found).enumerate().find(|(_, (a, b))| a != b)?;
    let place = a.iter().zip(b).position(|(x, y)| x != y).unwrap_or(a.len().min(b.len()));
    let value = |v: &Vec<u32>| v.get(place).map_or(f32::NAN, |&bits| f32::from_bits(bits));
    Some(format!("{count} logits, first row {row} place {place}: {:?} instead of {:?}", value(b), value(a)))
}
