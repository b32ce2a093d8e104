//! Where the values of a module's weights come from, once their tensors are known.

use super::random::random_value;
use super::value::WeightValue;
use super::{Checkpoint, WeightsError};
use crate::ir::{Module, WeightId, WeightSource};

/// Which tensor of a checkpoint is which weight of a module; names are matched by `lang::checkpoint`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binding {
    /// Per weight of the module: its tensor's index in the checkpoint; `None` for computed weights.
    pub tensors: Vec<Option<usize>>,
    /// Tensors that are not needed, by index, with the reason.
    pub ignored: Vec<(usize, String)>,
    /// Those of them that should be copies, with the tensor that is read instead.
    pub copies: Vec<(usize, usize)>,
}

/// Where the values of a module's weights come from.
#[derive(Debug)]
pub enum ValueSource<'a> {
    /// A checkpoint that has been bound to the module.
    Checkpoint {
        /// The file.
        checkpoint: &'a Checkpoint,
        /// Its tensors by weight.
        binding: Binding,
        /// Take NaN and infinities as they are.
        allow_non_finite: bool,
    },
    /// Random values.
    Random {
        /// The seed of all of them.
        seed: u64,
    },
}

impl ValueSource<'_> {
    /// The value of a weight; `None` for a computed one, which is evaluated from others.
    ///
    /// # Errors
    /// Its tensor cannot be read or encoded.
    pub fn value(&self, module: &Module, weight: WeightId) -> Result<Option<WeightValue>, WeightsError> {
        let declared = module.weight(weight);
        if let WeightSource::Computed(_) = declared.source {
            return Ok(None);
        }
        match self {
            Self::Random { seed } => Ok(Some(random_value(*seed, declared))),
            Self::Checkpoint { checkpoint, binding, allow_non_finite } => {
                let index = binding.tensors[weight.index()].expect("bind finds a tensor for every weight");
                checkpoint.encode(&checkpoint.tensors()[index], declared, *allow_non_finite).map(Some)
            }
        }
    }
}
