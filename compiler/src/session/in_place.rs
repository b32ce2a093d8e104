//! Weights of a checkpoint that kernels read right from its file's pages.

use sterna_runtime::package::{Extended, HUGE_FROM, WeightsMemory};

use super::{Held, Result, Session, load};
use crate::kernel::lower::Lowered;
use crate::package;
use crate::weights::{Binding, Checkpoint, InPlace, Section};

/// Which weights stay in the file, and the section that starts with it.
pub(super) struct Placement<'s> {
    checkpoint: &'s Checkpoint,
    binding: Binding,
    found: Vec<Option<InPlace>>,
    pub section: Section,
}

impl Session {
    /// The placement of the weights over the checkpoint's file; none where the file has nothing in the form that
    /// kernels read, or where a copy in huge pages serves better.
    pub(super) fn placement(&self) -> Result<Option<Placement<'_>>> {
        let Held::Checkpoint { checkpoint, renames, memory, .. } = &self.held else { return Ok(None) };
        let copied = match memory {
            WeightsMemory::Mmap => false,
            WeightsMemory::Huge => true,
            WeightsMemory::Auto => checkpoint.file_bytes() >= HUGE_FROM,
        };
        let module = &self.prepared;
        let binding = load::bound(module, checkpoint, renames, &self.files)?;
        let place =
            |(weight, tensor): (_, &Option<usize>)| checkpoint.in_place(&checkpoint.tensors()[(*tensor)?], weight);
        let found: Vec<_> = module.weights.iter().zip(&binding.tensors).map(place).collect();
        if copied || found.iter().all(Option::is_none) {
            return Ok(None);
        }
        let section = Section::behind(checkpoint.file_bytes(), &module.weights, &found);
        Ok(Some(Placement { checkpoint, binding, found, section }))
    }

    /// The image that a program compiled for a placement reads.
    pub(super) fn image_in_place(&self, placement: &Placement, lowered: &Lowered) -> Result<Extended> {
        let (section, bytes) = (&placement.section, lowered.weights.bytes as usize);
        let source = (placement.checkpoint, &placement.binding);
        let mut image = self.with_values(|values| {
            package::image_over_file(&self.prepared, section, bytes, source, &placement.found, values)
        })?;
        let tail = lowered.weights.tail();
        let behind = image.behind_mut();
        let start = behind.len() - tail.len();
        behind[start..].copy_from_slice(&tail);
        Ok(image)
    }
}
