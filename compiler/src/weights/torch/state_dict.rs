//! Layout: the top level is the state dictionary, name to tensor. The config lies elsewhere.

use super::{LayoutError, Pairs, TorchFile};
use crate::weights::{Contents, Format, Stored, TensorEntry, WeightsError};

pub(super) fn read(file: &mut TorchFile, pairs: &Pairs) -> Result<Contents, WeightsError> {
    if pairs.is_empty() {
        return Err(LayoutError::NoLayout { found: "an empty dictionary".to_owned() }.into());
    }
    let tensors = tensors(file, pairs)?;
    Ok(Contents { tensors, ..Contents::new(Format::TorchStateDict) })
}

/// The table of a state dictionary, whose values are all tensors.
pub(super) fn tensors(file: &mut TorchFile, pairs: &Pairs) -> Result<Vec<TensorEntry>, WeightsError> {
    file.named(pairs)?
        .into_iter()
        .map(|(name, &id)| {
            let view = file.view(&name, id)?;
            Ok(TensorEntry { name, shape: view.shape.clone(), stored: Stored::Dense(view) })
        })
        .collect()
}
