//! All ways to run a model against each other, bit for bit: every output of every entry, the probes that the session
//! observes, and the state after each step.
//!
//! The first way, the graph as elaborated and interpreted step by step, is what the model means ([`reference`]). The
//! others must find the same ([`against`]); [`compare`] does both for one session. A [`Script`] says what the model is
//! run on, [`record`] notes what a way finds, [`snapshots`] reads states out of an engine, [`kernels`] runs a program
//! in the kernel interpreter.

mod difference;
mod kernels;
mod record;
mod script;
mod snapshots;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sterna_runtime::{Mode, Pool};

pub use difference::{Difference, differences};
use kernels::KernelEngine;
use record::record;
pub use record::{Recorder, Recording};
pub use script::{Calls, Elements, Script, draw};
use snapshots::Native;
pub use snapshots::{Held, Snapshots};

use super::{CompileOptions, Compiled, Result, Session};
use crate::target::cpu::Cpu;

/// A processor level with the ways to run its code.
#[derive(Clone, Debug)]
pub struct Level {
    /// The level.
    pub cpu: Cpu,
    /// Numbers of threads.
    pub threads: Vec<usize>,
    /// Whether the kernel interpreter runs the program too: slow, but it checks every access, starts memory with
    /// numbers that nobody would take for results, and cuts launches into chunks.
    pub kernels: bool,
}

/// Which ways to run.
#[derive(Clone, Debug)]
pub struct Comparing {
    /// How to compile, but for the processor.
    pub compile: CompileOptions,
    /// Processor levels that this machine can run.
    pub levels: Vec<Level>,
    /// Whether threads are tied to processors.
    pub pin: bool,
}

impl Comparing {
    /// The level of `compile`, with one thread and with two.
    pub fn new(compile: CompileOptions) -> Comparing {
        let levels = vec![Level { cpu: compile.cpu, threads: vec![1, 2], kernels: false }];
        Comparing { compile, levels, pin: false }
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

/// [`reference`] and [`against`] for one session: what the graph means, and how all other ways differ.
///
/// # Errors
/// What the session cannot compile or load. What fails while it runs is a difference, or the reason why the reference
/// stopped.
pub fn compare(session: &Session, how: &Comparing, script: &impl Script) -> Result<Compared> {
    against(session, how, script, &reference(session, &how.compile, script)?)
}

/// What the graph means: as elaborated, interpreted step by step.
///
/// # Errors
/// The model has no main entry, or weights that cannot be read.
pub fn reference(session: &Session, compile: &CompileOptions, script: &impl Script) -> Result<Recording> {
    record(&mut session.interpreter(compile, Mode::Step)?, script, 0)
}

/// What compiled code of the session finds, with the steps of a script cut into calls in one of its ways.
///
/// # Errors
/// The model has no main entry, or tables that the code does not fit.
pub fn compiled(
    session: &Session,
    compiled: &Compiled,
    pool: Arc<Pool>,
    script: &impl Script,
    calls: usize,
) -> Result<Recording> {
    record(&mut native(session, compiled, pool)?, script, calls)
}

fn native<'s>(session: &'s Session, compiled: &'s Compiled, pool: Arc<Pool>) -> Result<Native<'s>> {
    let engine = session.engine(compiled, pool)?;
    Ok(Native { engine, lowered: &compiled.lowered, module: &session.prepared })
}

/// All other ways to run a session, against a reference of it, or of the same model with more probes observed.
///
/// # Errors
/// As [`compare`].
pub fn against(session: &Session, how: &Comparing, script: &impl Script, reference: &Recording) -> Result<Compared> {
    let mut compared = Compared {
        values: reference.elements(),
        stopped: reference.stopped().map(str::to_owned),
        ..Compared::default()
    };
    let mut passed = session.interpreter(&how.compile, Mode::Batch)?;
    compared.run(&mut passed, "interpreter, after all passes", script, |_| true, reference)?;
    for Level { cpu, threads, kernels } in &how.levels {
        let compiled = session.compile(&CompileOptions { cpu: *cpu, ..how.compile.clone() })?;
        for &threads in threads {
            let name = format!("{}, {threads} threads", cpu.name());
            compared.run(
                &mut native(session, &compiled, Arc::new(Pool::new(threads.max(1), how.pin)))?,
                &name,
                script,
                |_| true,
                reference,
            )?;
        }
        if *kernels {
            let name = format!("{}, kernel interpreter", cpu.name());
            compared.run(
                &mut KernelEngine::new(native(session, &compiled, Arc::new(Pool::new(1, false)))?)?,
                &name,
                script,
                |calls| calls.kernels,
                reference,
            )?;
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

    /// One engine in the ways to cut the script into calls that are wanted.
    fn run<E: Snapshots>(
        &mut self,
        engine: &mut E,
        name: &str,
        script: &impl Script,
        wanted: fn(&Calls) -> bool,
        reference: &Recording,
    ) -> Result<()> {
        for (number, calls) in script.calls().into_iter().enumerate().filter(|(_, calls)| wanted(calls)) {
            let way = format!("{name}, {}", calls.name);
            let found = record(engine, script, number)?;
            self.differences.extend(differences(&way, reference, &found, calls.rows));
            self.ways.push(way);
        }
        Ok(())
    }
}
