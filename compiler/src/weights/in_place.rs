//! Tensors that lie in their file as kernels read them, so that nothing has to be copied: the sign rows of a `.bit2`
//! file, and what of its floats is stored in single precision.

use super::encode::exact_scales;
use super::value::group_of;
use super::{Checkpoint, Element, Format, InPlace, Layout, Stored, TensorEntry, TensorProblem, View, WeightsError};
use crate::ir::{Elem, Encoding, WeightDecl};

/// Kernels expect each part of a weight to start on a multiple of this many bytes.
const ALIGNMENT: usize = super::layout::ALIGNMENT;

impl Checkpoint {
    /// Where parts of a tensor have the form of the weight's layout; none if its rows or codes have not. The tensor's
    /// values have yet to be looked at.
    #[must_use]
    pub fn in_place(&self, entry: &TensorEntry, weight: &WeightDecl) -> Option<InPlace> {
        // only there is everything aligned, and zero behind it
        if self.format() != Format::Bit2 || self.files.len() > 1 || entry.shape != weight.shape {
            return None;
        }
        let layout = Layout::of(&weight.encoding, &weight.shape);
        let single = |view: &View| {
            let aligned = view.storage.offset.is_multiple_of(ALIGNMENT);
            (view.element == Element::F32 && view.checksum.is_none() && aligned).then_some(view.storage.offset)
        };
        match (&entry.stored, layout) {
            (Stored::Sign { bits, row_stride, alpha }, Layout::SignRows { .. }) => {
                let fits = *row_stride == layout.row_bytes() && bits.offset.is_multiple_of(ALIGNMENT);
                fits.then_some(InPlace { codes: bits.offset, scales: single(alpha) })
            }
            (Stored::Dense(view), Layout::Rows { element: Elem::F32, shape }) => {
                let unpadded = shape.rows == 1 || shape.columns * 4 == layout.row_bytes();
                single(view).filter(|_| unpadded).map(|codes| InPlace { codes, scales: None })
            }
            _ => None,
        }
    }

    /// The row scales of a tensor whose sign rows are used as they are; what [`Checkpoint::encode`] would refuse is
    /// refused.
    ///
    /// # Errors
    /// As there.
    pub fn scales_of_rows(
        &self,
        entry: &TensorEntry,
        weight: &WeightDecl,
        any_scale: bool,
    ) -> Result<Vec<f32>, WeightsError> {
        let fail = |problem| WeightsError::tensor(&entry.name, problem);
        let Encoding::Sign { scale, .. } = weight.encoding else {
            let wanted = "a sign weight";
            return Err(fail(TensorProblem::WrongForm { stored: entry.stored.name().to_owned(), wanted }));
        };
        debug_assert!(group_of(&weight.encoding).is_some());
        let scales = self.row_scales(entry, any_scale).map_err(fail)?;
        exact_scales(scales, scale).ok_or_else(|| fail(super::encode::packed_otherwise(entry, weight)))
    }
}
