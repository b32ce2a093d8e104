//! The pipeline on one screen: config + graph + weights become a module, a program, and an engine that runs.
//!
//! A [`Session`] is one model with its weights. [`Session::interpreter`] runs the graph as elaborated, and
//! [`Session::native`] compiled code; both are engines of the runtime, driven by the same streams. No option of the
//! command line and no file format is known here beyond their names.

mod agreement;
pub mod chart;
mod choices;
pub mod compare;
mod cost;
mod error;
mod evaluate;
mod export;
mod finite;
mod hosts;
mod in_place;
mod load;
mod observe;
mod oracle;
mod room;
mod sizes;
pub mod sweep;
pub mod sweep_results;
mod tables;
mod text;
mod tokens;
mod weight_checks;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use sterna_runtime::model::{Choice, Fill, ModelTable, Reset, StateTable};
use sterna_runtime::package::{Package, WeightsMemory};
use sterna_runtime::{Code, Mode, NativeEngine, Pool, Weights};

pub use agreement::{config_of_checkpoint, files_of_checkpoint};
pub use choices::{Kept, Replay, Saving, kept, replay, saving, unchecked};
pub use cost::{Cost, Experts};
pub use error::SessionError;
pub use evaluate::{Evaluation, Worst, evaluate};
pub use load::{CacheFormat, LoadOptions, ModelSource, TensorReport, WeightsSource, preset_names};
pub use observe::Observations;
pub use oracle::InterpreterEngine;
pub use room::{Bound, Room, window};
pub use sizes::{PresetSizes, preset_sizes};
pub use tokens::{TokenStream, Tokenizer, elements, find_tokenizer};

use crate::diagnostics::{Diagnostics, SourceFiles};
use crate::interp::MemoryWeights;
use crate::ir::{Elem, Module, WeightDecl};
use crate::kernel::lower::{self, Lowered};
use crate::kernel::program::{Step, TALLIES};
use crate::kernel::prove::prove;
use crate::lang::rename::RenameMap;
use crate::limits::Limits;
use crate::package::{self, Values};
use crate::passes::{self, probes::Observation};
use crate::target::clif::CompileError;
use crate::target::clif::jit::Jit;
use crate::target::cpu::Cpu;
use crate::weights::{Binding, Checkpoint, Layout, Section, ValueSource};

/// A result of a session.
pub type Result<T> = std::result::Result<T, SessionError>;

/// The last pass whose result a package stores: from here on nothing adds weights.
const PREPARED: &str = "place_constants";

/// How to compile.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Processor features.
    pub cpu: Cpu,
    /// Most rows of one call.
    pub max_rows: usize,
    /// Room of caches without a bound of their own, in entries.
    pub max_context: usize,
    /// Make every step take the branches that steps may skip, see [`passes::unskip`].
    pub unskipped: bool,
}

impl Default for CompileOptions {
    fn default() -> CompileOptions {
        CompileOptions { cpu: Cpu::default(), max_rows: 64, max_context: 4096, unskipped: false }
    }
}

/// Where a session's weights come from.
enum Held {
    Checkpoint { checkpoint: Box<Checkpoint>, renames: RenameMap, allow_nan: bool, memory: WeightsMemory },
    Random(u64),
    Package { package: Arc<Package>, section: Section },
}

/// One model with its weights.
pub struct Session {
    files: SourceFiles,
    warnings: Diagnostics,
    config: serde_json::Value,
    elaborated: Arc<Module>,
    /// After the passes whose result a package stores.
    prepared: Arc<Module>,
    observation: Observation,
    held: Held,
    tensors: Option<TensorReport>,
    memory_weights: OnceLock<Arc<MemoryWeights>>,
}

/// Machine code for a session's module.
pub struct Compiled {
    code: Code,
    table: Arc<ModelTable>,
    lowered: Lowered,
}

impl Compiled {
    /// The runtime's table.
    pub fn table(&self) -> &ModelTable {
        &self.table
    }
}

impl Session {
    /// The module as elaborated, or as the package has it.
    pub fn module(&self) -> &Module {
        &self.elaborated
    }

    /// What became of the checkpoint's tensors, if there is one.
    pub fn tensor_report(&self) -> Option<&TensorReport> {
        self.tensors.as_ref()
    }

    /// The config as it was given.
    pub fn config(&self) -> &serde_json::Value {
        &self.config
    }

    /// Plain values that the checkpoint has beside its weights, such as `step`.
    pub fn metadata(&self) -> Option<&serde_json::Map<String, serde_json::Value>> {
        match &self.held {
            Held::Checkpoint { checkpoint, .. } => Some(checkpoint.metadata()),
            _ => None,
        }
    }

    /// Whether its weights are made up: neither a checkpoint nor a package has given any.
    pub fn is_random(&self) -> bool {
        matches!(self.held, Held::Random(_))
    }

    /// The module after a pass (all of them if none is named), with what each pass did in a line.
    pub fn optimised(&self, after: Option<&str>) -> Result<(Module, Vec<String>)> {
        let mut module = (*self.elaborated).clone();
        let reports = passes::run_pipeline(&mut module, after)?;
        let lines = reports.iter().map(|(name, report)| format!("{name:<18} {}", report.text));
        Ok((module, lines.collect()))
    }

    /// How the lowering planned memory and launches after all passes, a line each, and how much was proven; or why it
    /// could not.
    pub fn planned(&self, options: &CompileOptions) -> Result<Vec<String>> {
        match self.lowered(options) {
            Ok(lowered) => {
                let mut lines = plan_lines(&lowered).to_vec();
                let proven = prove(&lowered.program).map_err(CompileError::from)?;
                let (accesses, launches) = (proven.accesses, proven.launches);
                lines.push(format!("{:<18} {accesses} accesses of {launches} launches stay inside", "prove"));
                Ok(lines)
            }
            Err(SessionError::NotCompiled(why)) => Ok(vec![format!("{:<18} {why}", "plan_memory")]),
            Err(error) => Err(error),
        }
    }

    /// Kernels and their places in memory, from the prepared module.
    fn lowered(&self, options: &CompileOptions) -> Result<Lowered> {
        let module = self.finished(options.unskipped)?;
        let options = lower::Options { max_rows: options.max_rows, max_context: options.max_context };
        let section = self.placement()?.map_or_else(|| Section::of(&module.weights), |placement| placement.section);
        lower::lower_over(&module, &options, section).map_err(|e| SessionError::not_compiled(&module, &e))
    }

    /// Compiles for this machine.
    pub fn compile(&self, options: &CompileOptions) -> Result<Compiled> {
        let lowered = self.lowered(options)?;
        let jit = Jit::new(&lowered.program, options.cpu)?;
        let names = lowered.program.entries.iter();
        let entries: Option<Vec<_>> = names.map(|entry| jit.entry(&entry.name)).collect();
        let entries = entries.ok_or(SessionError::Incomplete)?;
        // SAFETY: the entries were compiled from this very program, whose table and layouts the engine gets, for this
        // processor (`Jit::new` refuses others); the code lives as long as its owner.
        let code = unsafe { Code::new(entries, Arc::new(Mutex::new(jit))) };
        let table = Arc::new(self.table(&lowered)?);
        Ok(Compiled { code, table, lowered })
    }

    fn table(&self, lowered: &Lowered) -> Result<ModelTable> {
        let mut entries = tables::entries(&self.prepared).map_err(SessionError::Border)?;
        for (index, entry) in entries.iter_mut().enumerate() {
            entry.group = lowered.states.entry_group[index];
            entry.choices = self.choices(&lowered.choices[index]);
            let (inputs, outputs) = (&lowered.inputs[index], &lowered.outputs[index]);
            for (port, placed) in entry.inputs.iter_mut().zip(inputs).chain(entry.outputs.iter_mut().zip(outputs)) {
                port.stride = placed.stride as usize;
            }
        }
        let states = lowered.states.groups.iter().map(|group| StateTable {
            bytes: group.bytes as usize,
            resets: group
                .resets
                .iter()
                .map(|r| Reset {
                    offset: r.offset as usize,
                    bytes: r.bytes as usize,
                    fill: match &r.fill {
                        lower::state::Fill::Zero => Fill::Zero,
                        lower::state::Fill::Pattern(p) => Fill::Pattern(p.clone()),
                        lower::state::Fill::Weights(at) => Fill::Weights(*at as usize),
                    },
                })
                .collect(),
        });
        Ok(ModelTable {
            name: self.prepared.name.clone(),
            entries,
            states: states.collect(),
            scratch_bytes: lowered.program.scratch_bytes as usize,
            max_rows: lowered.program.max_rows as usize,
            weight_bytes: self.weight_bytes(lowered),
            messages: lowered.messages.clone(),
        })
    }

    /// The runtime's table of an entry's choices.
    fn choices(&self, lowered: &[lower::Choice]) -> Vec<Choice> {
        let table = lowered.iter().zip(0..).map(|(choice, index)| {
            let (place, path) = match self.prepared.origins.get(choice.origin.index()) {
                Some(o) => (format!("{}:{}:{}", o.file, o.line, o.column), o.path.to_string()),
                None => Default::default(),
            };
            Choice { place, path, works: choice.works, tallies: (TALLIES + 8 * index) as usize }
        });
        table.collect()
    }

    /// Bytes that kernels read as weights; constants behind the section count where there are any.
    fn weight_bytes(&self, lowered: &Lowered) -> usize {
        if lowered.weights.literals.is_empty() { lowered.weights.section.bytes } else { lowered.weights.bytes as usize }
    }

    /// An engine of compiled code.
    pub fn engine(&self, compiled: &Compiled, pool: Arc<Pool>) -> Result<NativeEngine> {
        let weights = self.image(&compiled.lowered)?;
        Ok(NativeEngine::new(compiled.table.clone(), compiled.code.clone(), weights, pool)?)
    }

    /// [`Session::compile`] and [`Session::engine`].
    pub fn native(&self, options: &CompileOptions, pool: Arc<Pool>) -> Result<NativeEngine> {
        self.engine(&self.compile(options)?, pool)
    }

    /// The graph itself as an engine: for steps as elaborated, which is the meaning of everything else; for batches
    /// as the passes leave it.
    pub fn interpreter(&self, options: &CompileOptions, mode: Mode) -> Result<InterpreterEngine> {
        let module = match mode {
            Mode::Step => self.elaborated.clone(),
            Mode::Batch => Arc::new(self.finished(options.unskipped)?),
        };
        let weights = self.memory_weights()?;
        InterpreterEngine::new(module, weights, options.max_rows).map_err(SessionError::Border)
    }

    /// The module after all passes.
    fn finished(&self, unskipped: bool) -> Result<Module> {
        let mut module = (*self.prepared).clone();
        hosts::absent(&mut module);
        if unskipped {
            passes::unskip::unskip(&mut module);
        }
        passes::run_after(&mut module, PREPARED)?;
        Ok(module)
    }

    fn memory_weights(&self) -> Result<Arc<MemoryWeights>> {
        if let Some(weights) = self.memory_weights.get() {
            return Ok(weights.clone());
        }
        self.random_fits(|weight| {
            let coded = matches!(weight.encoding.elem(), Elem::Ternary | Elem::Sign);
            weight.elements().saturating_mul(if coded { 1 } else { 4 })
        })?;
        let weights = self.with_values(|values| package::memory_weights(&self.prepared, values))?;
        Ok(self.memory_weights.get_or_init(|| Arc::new(weights)).clone())
    }

    /// The weights as kernels read them: the package in place where it has all of them, and a checkpoint's file where
    /// the program was compiled for what it has in place.
    fn image(&self, lowered: &Lowered) -> Result<Arc<dyn Weights>> {
        if let Held::Package { package, .. } = &self.held
            && lowered.weights.literals.is_empty()
        {
            return Ok(package.clone());
        }
        let section = &lowered.weights.section;
        self.random_fits(|weight| Layout::of(&weight.encoding, &weight.shape).bytes())?;
        if let Some(placement) = self.placement()?
            && placement.section == *section
        {
            return Ok(Arc::new(self.image_in_place(&placement, lowered)?));
        }
        let bytes = lowered.weights.bytes as usize;
        let mut image = self.with_values(|values| package::weight_image(&self.prepared, section, bytes, values))?;
        image[section.bytes..].copy_from_slice(&lowered.weights.tail());
        Ok(Arc::new(image))
    }

    /// Refuses random weights that would need more memory than is made up; `bytes` says what one of them needs.
    fn random_fits(&self, bytes: impl Fn(&WeightDecl) -> usize) -> Result<()> {
        let Held::Random(_) = self.held else {
            return Ok(());
        };
        let most = Limits::DEFAULT.resident;
        let weights = &self.prepared.weights;
        let needed = weights.iter().map(&bytes).fold(0, usize::saturating_add);
        let Some(largest) = weights.iter().max_by_key(|w| bytes(w)).filter(|_| needed > most) else {
            return Ok(());
        };
        let place = match self.prepared.origins.get(largest.origin.index()) {
            Some(o) if o.line > 0 => format!(", {}:{}:{}", o.file, o.line, o.column),
            _ => String::new(),
        };
        Err(SessionError::TooLarge { needed, most, largest: largest.path.clone(), place })
    }

    fn with_values<T, E>(&self, job: impl FnOnce(&Values) -> std::result::Result<T, E>) -> Result<T>
    where
        SessionError: From<E>,
    {
        let values = match &self.held {
            Held::Package { package, section } => Values::Packed { section, bytes: package.weights() },
            Held::Random(seed) => ValueSource::Random { seed: *seed }.into(),
            Held::Checkpoint { checkpoint, renames, allow_nan, .. } => {
                let binding: Binding = load::bound(&self.prepared, checkpoint, renames, &self.files)?;
                ValueSource::Checkpoint { checkpoint, binding, allow_non_finite: *allow_nan }.into()
            }
        };
        Ok(job(&values)?)
    }

    /// Writes the package; gives its size.
    pub fn write_package(&self, path: &Path, progress: impl FnMut(usize)) -> Result<usize> {
        self.with_values(|values| package::write_file(path, &self.prepared, &self.config, values, progress))?;
        let found = std::fs::metadata(path).map_err(|source| SessionError::Read { path: path.to_owned(), source })?;
        Ok(found.len() as usize)
    }

    /// Bytes of the weight section.
    pub fn section_bytes(&self) -> usize {
        Section::of(&self.prepared.weights).bytes
    }
}

/// What planning memory and scheduling did, a line each.
fn plan_lines(lowered: &Lowered) -> [String; 2] {
    fn launches(steps: &[Step]) -> usize {
        let inner = |step: &Step| match step {
            Step::Launch { .. } => 1,
            Step::IfRows { body, .. } | Step::Loop { body, .. } => launches(body),
            Step::LoadRows { .. } | Step::Tally { .. } => 0,
        };
        steps.iter().map(inner).sum()
    }
    let program = &lowered.program;
    let state: u64 = lowered.states.groups.iter().map(|g| g.bytes).sum();
    let entries: Vec<String> =
        program.entries.iter().map(|e| format!("{} launches in {}", launches(&e.steps), e.name)).collect();
    let (scratch, rows) = (program.scratch_bytes, program.max_rows);
    [
        format!("{:<18} one arena of {scratch} bytes for {rows} rows, {state} bytes of state a stream", "plan_memory"),
        format!("{:<18} {} of {} kernels", "schedule", entries.join(", "), program.kernels.len()),
    ]
}
