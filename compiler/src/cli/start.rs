//! From arguments to an engine that runs, with what that took: `run --stats` and `bench` report it alike.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use sterna_runtime::{NativeEngine, Pool};

use super::options::{self, CacheArguments, ModelArguments, WeightArguments};
use super::{Failure, output};
use crate::measure::Resident;
use crate::session::{CompileOptions, Compiled, Session};

/// What starting took.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// When it began.
    pub begin: Instant,
    /// Milliseconds until the graph was elaborated and the checkpoint's table read.
    load: f64,
    /// Milliseconds of the compiler.
    pub compile: f64,
    /// Milliseconds until the weights lay as kernels read them.
    weights: f64,
    /// Bytes of the weights that are a file's pages.
    mapped: usize,
    weight_bytes: usize,
}

/// A model that is ready to run.
pub struct Started {
    pub session: Session,
    pub compiled: Compiled,
    pub engine: NativeEngine,
    pub start: Start,
}

/// Loads, compiles and places the weights.
pub fn start(
    model: &ModelArguments,
    weights: &WeightArguments,
    cache: CacheArguments,
    options: &CompileOptions,
    pool: Arc<Pool>,
) -> Result<Started, Failure> {
    let begin = Instant::now();
    let mut last = begin;
    let mut lap = || {
        let now = Instant::now();
        let took = now.duration_since(std::mem::replace(&mut last, now));
        took.as_secs_f64() * 1e3
    };
    let session = options::session(model, Some(weights), cache)?;
    let load = lap();
    let compiled = session.compile(options)?;
    let compile = lap();
    let engine = session.engine(&compiled, pool)?;
    let (mapped, weight_bytes) = (engine.mapped_weight_bytes(), compiled.table().weight_bytes);
    let start = Start { begin, load, compile, weights: lap(), mapped, weight_bytes };
    Ok(Started { session, compiled, engine, start })
}

impl Start {
    /// Milliseconds of all of it.
    fn total(&self) -> f64 {
        self.load + self.compile + self.weights
    }

    /// Adds everything to a report.
    pub fn add_to(&self, report: &mut Value, resident: Option<Resident>) {
        report["load_ms"] = json!(self.load);
        report["compile_ms"] = json!(self.compile);
        report["weights_ms"] = json!(self.weights);
        report["start_ms"] = json!(self.total());
        report["mapped_weight_bytes"] = json!(self.mapped);
        if let Some(resident) = resident {
            report["resident_bytes"] = json!(resident.total);
            report["resident_file_bytes"] = json!(resident.files);
        }
    }

    /// The same for people.
    pub fn lines(&self, resident: Option<Resident>) -> Vec<String> {
        let place = match self.mapped {
            0 => format!("{} in memory", output::bytes(self.weight_bytes)),
            mapped if mapped == self.weight_bytes => format!("{} mapped from the file", output::bytes(mapped)),
            mapped => format!(
                "{} mapped from the file, {} in memory",
                output::bytes(mapped),
                output::bytes(self.weight_bytes.saturating_sub(mapped))
            ),
        };
        let mut lines = vec![format!(
            "start    {:>10.1} ms: load {:.1}, compile {:.1}, weights {:.1} ({place})",
            self.total(),
            self.load,
            self.compile,
            self.weights
        )];
        lines.extend(resident.map(|resident| {
            let (total, files) = (output::bytes(resident.total), output::bytes(resident.files));
            format!("resident {total:>10}, of that {files} pages of files")
        }));
        lines
    }
}
