//! Layout: a training checkpoint, with the state dictionary under `model` and usually `config`, `step` and an
//! `optimizer` beside it. Nothing of the optimizer is read, not even the places of its storages.

use super::{Pairs, TorchFile, state_dict};
use crate::weights::{Contents, Format, WeightsError};

pub(super) fn read(file: &mut TorchFile, pairs: &Pairs, model: &Pairs) -> Result<Contents, WeightsError> {
    let tensors = state_dict::tensors(file, model)?;
    let config = file.config(pairs)?;
    let (metadata, unread) = file.beside(pairs, &["model", "config"]);
    Ok(Contents { config, metadata, tensors, unread, ..Contents::new(Format::TorchTraining) })
}
