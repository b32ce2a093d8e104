//! All ways to run a model against each other, bit for bit: every output of every entry, the probes that the session
//! observes, and the state after each step.
//!
//! The first way, the graph as elaborated and interpreted step by step, is what the model means ([`reference`]). The
//! others must find the same ([`against`]); [`compare`] does both for one session. [`record`] notes what a way finds,
//! [`snapshots`] reads states out of an engine, [`kernels`] runs a program in the kernel interpreter.

mod difference;
mod kernels;
mod record;
mod snapshots;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sterna_runtime::model::{Element, ModelTable};
use sterna_runtime::{Decoder, Mode, Pool};

pub use difference::Difference;
use difference::differences;
use kernels::KernelEngine;
pub use record::Recording;
use record::{What, record};
use snapshots::{Native, Snapshots};

use super::{CompileOptions, Result, Session};
use crate::target::cpu::Cpu;

/// Which ways to run, and on what.
#[derive(Clone, Debug)]
pub struct Comparing {
    /// The elements of the stream, see [`draw`].
    pub elements: Vec<u32>,
    /// How to compile; its processor is that of the first level.
    pub compile: CompileOptions,
    /// More processor levels that this machine can run.
    pub levels: Vec<Cpu>,
    /// Most steps of one call in batches; a size is at most `compile.max_rows`. Steps one by one are always compared.
    pub batches: Vec<usize>,
    /// Numbers of threads.
    pub threads: Vec<usize>,
    /// Whether threads are tied to processors.
    pub pin: bool,
    /// Whether the kernel interpreter runs the programs too: slow, but it checks every access, starts memory with
    /// numbers that nobody would take for results, and cuts launches into chunks.
    pub kernels: bool,
}

impl Comparing {
    /// These elements on the level of `compile`, in steps and in batches of `max_rows`, with one thread and with two.
    pub fn new(elements: Vec<u32>, compile: CompileOptions) -> Comparing {
        let batches = vec![compile.max_rows];
        Comparing { elements, compile, levels: Vec::new(), batches, threads: vec![1, 2], pin: false, kernels: false }
    }
}

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub struct Compared {
    /// Names of the ways that were compared with the reference.
    pub ways: Vec<String>,
    /// Elements of all values of the reference.
    pub values: usize,
    /// Where ways differ from the reference; a way that fails where the reference does not differs too, and so does
    /// one that goes on where the reference fails.
    pub differences: Vec<Difference>,
    /// Why the reference stopped before the end, for instance since a cache was full.
    pub stopped: Option<String>,
}

/// Elements that look random, the same for each seed, from the range that the stream declares, or from those that can be
/// predicted if it declares none.
///
/// # Errors
/// The model has no stream with logits.
pub fn draw(table: &ModelTable, seed: u64, count: usize) -> Result<Vec<u32>> {
    let decoder = Decoder::new(table)?;
    let port = table.main().and_then(|main| table.entries[main].stream());
    let most = match port.map(|p| p.element) {
        Some(Element::U8) => f64::from(u8::MAX),
        _ => f64::from(u32::MAX),
    };
    let (low, high) = port.and_then(|p| p.range).unwrap_or((0.0, decoder.vocabulary() as f64 - 1.0));
    let (low, high) = (low.ceil().clamp(0.0, most) as u64, high.floor().clamp(0.0, most) as u64);
    let choices = high.saturating_sub(low) + 1;
    let mut state = seed;
    let draw = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (low + (state >> 33) % choices) as u32
    };
    Ok((0..count).map(draw).collect())
}

/// [`reference`] and [`against`] for one session: what the graph means, and how all other ways differ.
///
/// # Errors
/// What the session cannot compile or load. What fails while it runs is a difference, or the reason why the reference
/// stopped.
pub fn compare(session: &Session, how: &Comparing) -> Result<Compared> {
    against(session, how, &reference(session, how)?)
}

/// What the graph means: as elaborated, interpreted step by step.
///
/// # Errors
/// The model has no stream with logits, or weights that cannot be read.
pub fn reference(session: &Session, how: &Comparing) -> Result<Recording> {
    let mut engine = session.interpreter(&how.compile, Mode::Step)?;
    record(&mut engine, &how.elements, None)
}

/// All other ways to run a session, against a reference of it, or of the same model with more probes observed.
///
/// # Errors
/// As [`compare`].
pub fn against(session: &Session, how: &Comparing, reference: &Recording) -> Result<Compared> {
    let mut compared = Compared {
        values: reference.elements(),
        stopped: reference.stopped().map(str::to_owned),
        ..Compared::default()
    };
    let rows = how.compile.max_rows;
    let mut batches: Vec<usize> = how.batches.iter().map(|&size| size.clamp(1, rows)).collect();
    batches.sort_unstable();
    batches.dedup();
    let calls: Vec<Option<usize>> = std::iter::once(None).chain(batches.into_iter().map(Some)).collect();

    let mut passed = session.interpreter(&how.compile, Mode::Batch)?;
    compared.run(&mut passed, "interpreter, after all passes", how, &calls, reference)?;
    let mut levels = vec![how.compile.cpu];
    levels.extend(how.levels.iter().filter(|&&level| level != how.compile.cpu));
    for (number, cpu) in levels.into_iter().enumerate() {
        let compiled = session.compile(&CompileOptions { cpu, ..how.compile.clone() })?;
        for &threads in &how.threads {
            let engine = session.engine(&compiled, Arc::new(Pool::new(threads.max(1), how.pin)))?;
            let mut native = Native { engine, lowered: &compiled.lowered, module: &session.prepared };
            let name = format!("{}, {threads} threads", cpu.name());
            compared.run(&mut native, &name, how, &calls, reference)?;
        }
        if how.kernels && number == 0 {
            let engine = session.engine(&compiled, Arc::new(Pool::new(1, false)))?;
            let native = Native { engine, lowered: &compiled.lowered, module: &session.prepared };
            compared.run(&mut KernelEngine::new(native)?, "kernel interpreter", how, &calls, reference)?;
        }
    }
    Ok(compared)
}

impl Compared {
    /// Adds what another comparison of the same reference found, its ways named with `what` behind.
    pub fn add(&mut self, other: Compared, what: &str) {
        let named = |way: String| format!("{way}{what}");
        self.ways.extend(other.ways.into_iter().map(named));
        let renamed = |d: Difference| Difference { way: named(d.way), ..d };
        self.differences.extend(other.differences.into_iter().map(renamed));
    }

    /// One engine in steps (`None`) and in batches of these sizes.
    fn run<E: Snapshots>(
        &mut self,
        engine: &mut E,
        name: &str,
        how: &Comparing,
        calls: &[Option<usize>],
        reference: &Recording,
    ) -> Result<()> {
        for &rows in calls {
            let way = match rows {
                None => format!("{name}, step"),
                Some(rows) if calls.len() == 2 && rows == how.compile.max_rows => format!("{name}, batch"),
                Some(rows) => format!("{name}, batches of {rows}"),
            };
            let found = record(engine, &how.elements, rows)?;
            self.differences.extend(differences(&way, reference, &found, rows.unwrap_or(1)));
            self.ways.push(way);
        }
        Ok(())
    }
}

impl Recording {
    /// Numbers of different outputs, of probes among them, and of states.
    pub fn counts(&self) -> (usize, usize, usize) {
        let is_probe = |name: &str| name.starts_with(crate::passes::probes::OUTPUT);
        let names = self.names();
        let outputs = names.iter().filter(|(_, what)| matches!(what, What::Output(name) if !is_probe(name))).count();
        let probes = names.iter().filter(|(_, what)| matches!(what, What::Output(name) if is_probe(name))).count();
        let states = names.iter().filter(|(_, what)| matches!(what, What::State(..))).count();
        (outputs, probes, states)
    }
}
