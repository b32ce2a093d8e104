//! Where weights come from, and the values that regions compute from them once.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use super::error::{Fault, InterpError};
use super::tensor::Tensor;
use super::{Interpreter, StreamState};
use crate::ir::{Group, Module, WeightId, WeightSource};

/// Decoded weights by id.
pub trait WeightStore {
    /// The weight's value; cheap, for values share their elements.
    fn weight(&self, id: WeightId) -> Result<WeightValue, InterpError>;
}

/// A weight as the interpreter uses it.
#[derive(Clone, Debug)]
pub enum WeightValue {
    /// Plain values, f32, already rounded to the encoding's format.
    Dense(Tensor),
    /// Codes with scales, for ternary and sign encodings.
    Coded(Arc<CodedWeight>),
}

/// Codes in -1..=1 with the scales of their groups.
#[derive(Debug)]
pub struct CodedWeight {
    /// As declared; the last axis is the inputs.
    pub shape: Vec<usize>,
    /// Row-major.
    pub codes: Vec<i8>,
    /// `Tensor`: one; `Row`: one per row; `Inputs(n)`: ceil(inputs / n) per row, row after row.
    pub scales: Vec<f32>,
    pub group: Group,
    dense: OnceLock<Tensor>,
}

impl CodedWeight {
    /// Checks that the counts agree.
    pub fn new(shape: &[usize], codes: Vec<i8>, scales: Vec<f32>, group: Group) -> Result<CodedWeight, Fault> {
        let inputs = shape.last().copied().unwrap_or(1);
        let elements = super::tensor::elements(shape)?;
        let rows = elements.checked_div(inputs).unwrap_or(0);
        let expected = match group {
            Group::Tensor => 1,
            Group::Row => rows,
            Group::Inputs(0) => 0,
            Group::Inputs(n) => rows * inputs.div_ceil(n),
        };
        if codes.len() != elements || scales.len() != expected || group == Group::Inputs(0) {
            return Err(Fault::Shape(format!(
                "{} codes and {} scales do not make a weight {shape:?} of {group:?}",
                codes.len(),
                scales.len()
            )));
        }
        Ok(CodedWeight { shape: shape.to_vec(), codes, scales, group, dense: OnceLock::new() })
    }

    /// Length of the last axis.
    pub fn inputs(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The codes of a row.
    pub fn row(&self, row: usize) -> &[i8] {
        let n = self.inputs();
        &self.codes[row * n..][..n]
    }

    /// Inputs that share a scale of a row.
    pub fn scale_inputs(&self) -> usize {
        match self.group {
            Group::Tensor | Group::Row => self.inputs(),
            Group::Inputs(size) => size,
        }
    }

    /// Inputs per scale, and the scales of a row.
    pub fn row_scales(&self, row: usize) -> (usize, &[f32]) {
        let size = self.scale_inputs();
        let scales = match self.group {
            Group::Tensor => &self.scales[..],
            Group::Row => &self.scales[row..=row],
            Group::Inputs(_) => {
                let per_row = self.inputs().div_ceil(size);
                &self.scales[row * per_row..][..per_row]
            }
        };
        (size, scales)
    }

    /// Appends the decoded values scale * code of a row.
    pub fn decode_row(&self, row: usize, out: &mut Vec<f32>) {
        let (size, scales) = self.row_scales(row);
        for (codes, scale) in self.row(row).chunks(size.max(1)).zip(scales) {
            out.extend(codes.iter().map(|&c| scale * f32::from(c)));
        }
    }

    /// All decoded values; computed once.
    pub fn dense(&self) -> &Tensor {
        self.dense.get_or_init(|| {
            let mut out = Vec::with_capacity(self.codes.len());
            if !self.codes.is_empty() {
                for row in 0..self.codes.len() / self.inputs() {
                    self.decode_row(row, &mut out);
                }
            }
            Tensor::f32(&self.shape, out)
        })
    }
}

impl WeightValue {
    /// The shape as declared.
    pub fn shape(&self) -> &[usize] {
        match self {
            WeightValue::Dense(t) => &t.shape,
            WeightValue::Coded(c) => &c.shape,
        }
    }

    /// The values scale * code, or the plain ones.
    pub fn dense(&self) -> Tensor {
        match self {
            WeightValue::Dense(t) => t.clone(),
            WeightValue::Coded(c) => c.dense().clone(),
        }
    }
}

/// Weights held in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryWeights {
    values: HashMap<WeightId, WeightValue>,
    paths: HashMap<WeightId, String>,
}

impl MemoryWeights {
    /// Takes weights by path: all of the checkpoint's, and of the computed ones those that are known; the others are
    /// evaluated.
    pub fn new(module: &Module, mut by_path: HashMap<String, WeightValue>) -> Result<MemoryWeights, InterpError> {
        let mut store = MemoryWeights::default();
        for (i, w) in module.weights.iter().enumerate() {
            let id = WeightId(i as u32);
            store.paths.insert(id, w.path.clone());
            let given = by_path.remove(&w.path);
            if given.is_none() && matches!(w.source, WeightSource::Checkpoint) {
                return Err(Fault::MissingWeight(w.path.clone()).into());
            }
            if let Some(value) = given {
                if value.shape() != w.shape {
                    return Err(Fault::BadArgument {
                        name: w.path.clone(),
                        expected: format!("{:?}", w.shape),
                        got: format!("{:?}", value.shape()),
                    }
                    .into());
                }
                store.values.insert(id, value);
            }
        }
        for (i, w) in module.weights.iter().enumerate() {
            let id = WeightId(i as u32);
            if matches!(w.source, WeightSource::Computed(_)) && !store.values.contains_key(&id) {
                let value = compute_weight(module, &store, id)?;
                store.values.insert(id, WeightValue::Dense(value));
            }
        }
        Ok(store)
    }
}

impl WeightStore for MemoryWeights {
    fn weight(&self, id: WeightId) -> Result<WeightValue, InterpError> {
        let name = || self.paths.get(&id).cloned().unwrap_or_default();
        self.values.get(&id).cloned().ok_or_else(|| Fault::MissingWeight(name()).into())
    }
}

/// Evaluates a computed weight; the weights it reads must be in the store.
pub fn compute_weight(module: &Module, weights: &dyn WeightStore, id: WeightId) -> Result<Tensor, InterpError> {
    let decl = module.weight(id);
    let WeightSource::Computed(region) = &decl.source else {
        return Ok(weights.weight(id)?.dense());
    };
    let interpreter = Interpreter::new(module, weights);
    let mut stream = StreamState::stateless();
    let mut results = interpreter.evaluate(region, &[], 1, &mut stream)?;
    results.pop().ok_or_else(|| Fault::MissingWeight(decl.path.clone()).into())
}
