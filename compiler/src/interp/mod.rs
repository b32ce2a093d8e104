//! The meaning of the IR: a plain evaluator, the oracle of everything compiled.
//!
//! An [`Interpreter`] runs an entry for some steps of one stream. Entries in step form are run step by step, lifted
//! ones in one evaluation; the results have the same bits. Nothing here is clever: each operation is a loop over
//! its elements, in the order that spec/numerics.md fixes, with the functions of `numerics`.
//!
//! What does not live here: rewriting (`passes`), reading of checkpoints (`weights`), sampling (the runtime).

mod control;
mod elementwise;
mod error;
mod eval;
mod finite;
mod product;
mod reduce;
mod shape;
mod state;
mod tensor;
mod weights;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use error::{Fault, InterpError};
pub use finite::{NotFinite, Watch};
pub use state::StreamState;
pub use tensor::{Growth, Tensor};
pub use weights::{CodedWeight, MemoryWeights, WeightStore, WeightValue, compute_weight};

use crate::ir::{Entry, Module, Param, ParamKind, Region, StateId, Type};
use eval::{Evaluator, Slot};

/// The functions of the embedding program.
pub trait Host {
    /// The answer to a question, or none. Within one call of an entry, equal questions must have equal answers.
    fn call(&self, name: &str, arguments: &[Tensor]) -> Option<Tensor>;
}

/// Values seen at probes.
#[derive(Clone, Debug, Default)]
pub struct Probes {
    wanted: Option<Vec<String>>,
    /// Per path one value for each time it was evaluated: per step, and within repeats per round (step by step in
    /// step form, round by round in lifted form).
    pub seen: HashMap<String, Vec<Tensor>>,
}

impl Probes {
    /// Records every probe.
    pub fn all() -> Probes {
        Probes::default()
    }

    /// Records the probes of these paths.
    pub fn only(paths: &[&str]) -> Probes {
        Probes { wanted: Some(paths.iter().map(|p| p.to_string()).collect()), seen: HashMap::new() }
    }

    fn wants(&self, path: &str) -> bool {
        self.wanted.as_ref().is_none_or(|w| w.iter().any(|p| p == path))
    }

    fn record(&mut self, path: &str, value: Tensor) {
        self.seen.entry(path.to_string()).or_default().push(value);
    }
}

/// What the caller gives to an entry, by name.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    values: HashMap<String, Tensor>,
    outer: HashMap<String, Tensor>,
    given: HashMap<String, Tensor>,
}

impl Arguments {
    /// Nothing given.
    pub fn new() -> Arguments {
        Arguments::default()
    }

    /// A parameter or input: `[steps, ..]`, or without the first axis if it is the same for all steps.
    pub fn with(mut self, name: &str, value: Tensor) -> Arguments {
        self.values.insert(name.to_string(), value);
        self
    }

    /// In which steps an optional input came, `[steps]`; without this it came in all of them if it has a value.
    pub fn with_given(mut self, input: &str, steps: Tensor) -> Arguments {
        self.given.insert(input.to_string(), steps);
        self
    }

    /// An output of the outer entry's step, for an inner entry; shaped like [`Arguments::with`].
    pub fn with_outer(mut self, output: &str, value: Tensor) -> Arguments {
        self.outer.insert(output.to_string(), value);
        self
    }
}

/// Outputs of an entry by name, each `[steps, ..]`, with NaN canonical.
pub type Outputs = HashMap<String, Tensor>;

/// Evaluates entries of one module with one set of weights.
pub struct Interpreter<'a> {
    module: &'a Module,
    weights: &'a dyn WeightStore,
    host: Option<&'a dyn Host>,
    watch: Option<&'a Watch>,
}

impl<'a> Interpreter<'a> {
    /// Without host functions: their answers are absent.
    pub fn new(module: &'a Module, weights: &'a dyn WeightStore) -> Interpreter<'a> {
        Interpreter { module, weights, host: None, watch: None }
    }

    /// With host functions.
    pub fn with_host(mut self, host: &'a dyn Host) -> Interpreter<'a> {
        self.host = Some(host);
        self
    }

    /// Looking for the first value that is not finite.
    pub fn watched(mut self, watch: &'a Watch) -> Interpreter<'a> {
        self.watch = Some(watch);
        self
    }

    /// What one instance of a state holds between two steps of a stream.
    pub fn state(&self, stream: &StreamState, state: StateId, instance: usize) -> Result<Tensor, InterpError> {
        match stream.get(state, instance) {
            Some(value) => Ok(value.clone()),
            None => state::initial(self.module, self.weights, state),
        }
    }

    /// Runs an entry for `steps` steps of a stream, at least one. On an error the stream is as before.
    pub fn run(
        &self,
        entry: &Entry,
        stream: &mut StreamState,
        steps: usize,
        arguments: &Arguments,
    ) -> Result<Outputs, InterpError> {
        self.run_probed(entry, stream, steps, arguments, None)
    }

    /// [`Interpreter::run`] that also records probes.
    pub fn run_probed(
        &self,
        entry: &Entry,
        stream: &mut StreamState,
        steps: usize,
        arguments: &Arguments,
        probes: Option<&mut Probes>,
    ) -> Result<Outputs, InterpError> {
        if steps == 0 {
            return Err(Fault::Shape("an entry is run for no steps".into()).into());
        }
        let mut evaluator = self.evaluator(stream.clone());
        evaluator.probes = probes.as_deref().cloned();
        let mut inputs = Vec::with_capacity(entry.params.len());
        for param in &entry.params {
            inputs.push(argument(param, stream.position, steps, arguments)?);
        }
        let values = if entry.lifted {
            lifted(&mut evaluator, entry, &inputs, steps)?
        } else {
            stepwise(&mut evaluator, entry, &inputs, steps)?
        };
        let advanced = i32::try_from(steps).ok().and_then(|n| stream.position.checked_add(n));
        evaluator.stream.position = advanced.ok_or_else(|| Fault::Shape("a stream beyond i32 steps".into()))?;
        *stream = evaluator.stream;
        if let (Some(to), Some(from)) = (probes, evaluator.probes) {
            *to = from;
        }
        let names = entry.outputs.iter().map(|o| o.name.clone());
        Ok(names.zip(values.into_iter().map(Tensor::canonical)).collect())
    }

    /// Evaluates a region that belongs to no entry, with `rows` steps where it has a time axis.
    pub fn evaluate(
        &self,
        region: &Region,
        arguments: &[Tensor],
        rows: usize,
        stream: &mut StreamState,
    ) -> Result<Vec<Tensor>, InterpError> {
        let mut evaluator = self.evaluator(stream.clone());
        let slots = arguments.iter().cloned().map(Slot::Tensor).collect();
        let values = evaluator.region(region, slots, rows)?;
        evaluator.end_step();
        *stream = evaluator.stream;
        Ok(values.iter().map(Evaluator::tensor).collect())
    }

    fn evaluator(&self, stream: StreamState) -> Evaluator<'a> {
        Evaluator {
            module: self.module,
            weights: self.weights,
            host: self.host,
            watch: self.watch,
            stream,
            rounds: Vec::new(),
            pushed: HashMap::new(),
            written: HashMap::new(),
            extents: HashMap::new(),
            probes: None,
        }
    }
}

/// All steps in one evaluation.
fn lifted(
    evaluator: &mut Evaluator,
    entry: &Entry,
    inputs: &[Tensor],
    steps: usize,
) -> Result<Vec<Tensor>, InterpError> {
    let mut slots = Vec::with_capacity(inputs.len());
    for (&param, input) in entry.body.params().iter().zip(inputs) {
        let whole = entry.body.ty(param).is_lifted();
        slots.push(Slot::Tensor(if whole { input.clone() } else { same_for_all(input)? }));
    }
    let results = evaluator.region(&entry.body, slots, steps)?;
    evaluator.end_step();
    let values = results.iter().zip(entry.body.results());
    values
        .map(|(slot, &v)| {
            let value = Evaluator::tensor(slot);
            let per_step = entry.body.ty(v).is_lifted();
            Ok(if per_step { value } else { value.repeated(steps)? })
        })
        .collect()
}

/// The first of equal rows.
fn same_for_all(input: &Tensor) -> Result<Tensor, InterpError> {
    let first = input.row(0);
    if (1..input.shape[0]).any(|row| !input.row(row).same_bits(&first)) {
        return Err(Fault::Shape("a value that is not lifted differs between steps".into()).into());
    }
    Ok(first)
}

/// One evaluation per step.
fn stepwise(
    evaluator: &mut Evaluator,
    entry: &Entry,
    inputs: &[Tensor],
    steps: usize,
) -> Result<Vec<Tensor>, InterpError> {
    let mut columns: Vec<Vec<Tensor>> = vec![Vec::with_capacity(steps); entry.outputs.len()];
    for step in 0..steps {
        let slots = inputs.iter().map(|t| Slot::Tensor(t.row(step))).collect();
        let results = evaluator.region(&entry.body, slots, 1)?;
        evaluator.end_step();
        for (column, slot) in columns.iter_mut().zip(&results) {
            column.push(Evaluator::tensor(slot));
        }
        evaluator.stream.position = evaluator.stream.position.wrapping_add(1);
    }
    let stacked = columns.iter().zip(&entry.outputs).map(|(column, output)| {
        let ty = output.ty.step();
        let shape = ty.constant_shape().ok_or_else(|| Fault::Shape(format!("output {} grows", output.name)))?;
        Ok(Tensor::stack(column, ty.elem, &shape)?)
    });
    stacked.collect()
}

/// The value of a parameter for all steps: `[steps, ..]`.
fn argument(param: &Param, position: i32, steps: usize, arguments: &Arguments) -> Result<Tensor, InterpError> {
    let ty = param.ty.step();
    let missing = || InterpError::from(Fault::MissingArgument(param.name.clone()));
    let value = match &param.kind {
        ParamKind::Position => {
            let positions = (0..steps as i32).map(|t| position.wrapping_add(t));
            return Ok(Tensor::i32(&[steps], positions.collect::<Vec<_>>()));
        }
        ParamKind::Given { input } => match arguments.given.get(input) {
            Some(given) => given.clone(),
            None => return Ok(Tensor::bool(&[], [arguments.values.contains_key(input)]).repeated(steps)?),
        },
        ParamKind::Stream | ParamKind::Value => arguments.values.get(&param.name).ok_or_else(missing)?.clone(),
        ParamKind::Outer { output } => arguments.outer.get(output).ok_or_else(missing)?.clone(),
        ParamKind::Input { default } => match (arguments.values.get(&param.name), default) {
            (Some(value), _) => value.clone(),
            (None, Some(literal)) => Tensor::literal(literal),
            // What is absent is no value, and need not lie in the range of one.
            (None, None) => {
                let zeros = Tensor::zeros(ty.elem, &ty.constant_shape().unwrap_or_default())?;
                return Ok(zeros.repeated(steps)?);
            }
        },
    };
    let value = fitted(param, &ty, value, steps)?;
    in_range(param, &value)?;
    Ok(value)
}

fn fitted(param: &Param, ty: &Type, value: Tensor, steps: usize) -> Result<Tensor, InterpError> {
    let shape = ty.constant_shape().unwrap_or_default();
    if value.elem() == ty.elem {
        if value.shape == shape {
            return Ok(value.repeated(steps)?);
        }
        if value.shape.first() == Some(&steps) && value.shape[1..] == shape {
            return Ok(value);
        }
    }
    Err(Fault::BadArgument {
        name: param.name.clone(),
        expected: format!("{}{shape:?} for each of {steps} steps", ty.elem.name()),
        got: format!("{}{:?}", value.elem().name(), value.shape),
    }
    .into())
}

fn in_range(param: &Param, value: &Tensor) -> Result<(), InterpError> {
    let Some((low, high)) = param.range else { return Ok(()) };
    match value.data.outside((low, high)) {
        None => Ok(()),
        Some(value) => Err(Fault::OutOfRange { name: param.name.clone(), value, low, high }.into()),
    }
}
