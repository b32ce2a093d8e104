//! From a tensor of a checkpoint to the value of a declared weight: latent floats are quantised or rounded, packed
//! forms are taken over where they mean exactly what the encoding says, and refused where they do not.

use super::read::finite;
use super::value::{MatrixShape, WeightValue};
use super::{Checkpoint, Stored, TensorEntry, TensorProblem, WeightsError, quantise};
use crate::ir::{Encoding, Group, Keep, ScaleFormat, WeightDecl};
use crate::numerics::narrow;

impl Checkpoint {
    /// The value that a weight declaration gives to a tensor.
    ///
    /// # Errors
    /// The tensor has another shape, is packed in a form that its encoding cannot use, is damaged, or (unless
    /// `allow_non_finite`) has values that are not finite, or scales that are negative.
    pub fn encode(
        &self,
        entry: &TensorEntry,
        weight: &WeightDecl,
        allow_non_finite: bool,
    ) -> Result<WeightValue, WeightsError> {
        let fail = |problem| WeightsError::tensor(&entry.name, problem);
        if entry.shape != weight.shape {
            return Err(fail(TensorProblem::Shape { found: entry.shape.clone(), expected: weight.shape.clone() }));
        }
        let packed_otherwise = || fail(packed_otherwise(entry, weight));
        match (&entry.stored, &weight.encoding) {
            (Stored::Ternary { .. }, Encoding::Ternary { group: Group::Tensor, scale, .. }) => {
                let tensor = self.read_ternary(entry, allow_non_finite)?;
                let scales = exact_scales(vec![tensor.scale], *scale).ok_or_else(packed_otherwise)?;
                Ok(WeightValue::Codes { codes: tensor.codes, scales })
            }
            (Stored::Sign { .. }, Encoding::Sign { group: Group::Row, scale, .. }) => {
                let tensor = self.read_signs(entry, allow_non_finite)?;
                let scales = exact_scales(tensor.scales, *scale).ok_or_else(packed_otherwise)?;
                Ok(WeightValue::Codes { codes: tensor.signs, scales })
            }
            (Stored::Dense(_), encoding) => {
                let value = encode_latent(self.read_f32(entry)?, &weight.shape, encoding, |values| {
                    if allow_non_finite { Ok(()) } else { finite(values) }
                });
                value.map_err(fail)
            }
            (Stored::Ternary { .. } | Stored::Sign { .. }, _) => Err(packed_otherwise()),
            (Stored::Other { what }, _) => Err(fail(TensorProblem::NotRead { what: what.clone() })),
        }
    }
}

/// The value that an encoding gives to latent floats, row-major; `check` sees them, and dense values once more after
/// rounding (which may overflow).
///
/// # Errors
/// Those of `check`.
pub fn encode_latent<E>(
    mut values: Vec<f32>,
    shape: &[usize],
    encoding: &Encoding,
    check: impl Fn(&[f32]) -> Result<(), E>,
) -> Result<WeightValue, E> {
    check(&values)?;
    let matrix = MatrixShape::of(shape);
    match *encoding {
        Encoding::F32 => Ok(WeightValue::Dense(values)),
        Encoding::F16 | Encoding::Bf16 => {
            let round = if *encoding == Encoding::F16 { narrow::f16 } else { narrow::bf16 };
            values.iter_mut().for_each(|value| *value = round(*value));
            check(&values)?;
            Ok(WeightValue::Dense(values))
        }
        Encoding::Ternary { group, floor, scale, keep, .. } => {
            if (group, keep) == (Group::Tensor, Keep::Nearest)
                && let Some((codes, scale)) = quantise::dequantised(&values, scale)
            {
                return Ok(WeightValue::Codes { codes, scales: vec![scale] });
            }
            let scheme = quantise::TernaryScheme { group, floor, scale, keep };
            let (codes, scales) = quantise::quantise_ternary(&values, matrix, scheme);
            Ok(WeightValue::Codes { codes, scales })
        }
        Encoding::Sign { group, scale, .. } => {
            let (codes, scales) = quantise::quantise_sign(&values, matrix, group, scale);
            Ok(WeightValue::Codes { codes, scales })
        }
    }
}

/// A packed form that means something else than the weight's encoding.
pub(super) fn packed_otherwise(entry: &TensorEntry, weight: &WeightDecl) -> TensorProblem {
    TensorProblem::Encoding { stored: entry.stored.name().to_owned(), encoding: describe(&weight.encoding) }
}

/// Stored scales, if the scale format of the encoding holds them exactly.
pub(super) fn exact_scales(scales: Vec<f32>, format: ScaleFormat) -> Option<Vec<f32>> {
    scales.iter().all(|&scale| narrow::scale(scale, format) == scale || scale.is_nan()).then_some(scales)
}

fn describe(encoding: &Encoding) -> String {
    let group = |group: &Group| match group {
        Group::Tensor => "tensor".to_owned(),
        Group::Row => "row".to_owned(),
        Group::Inputs(inputs) => format!("{inputs} inputs"),
    };
    match encoding {
        Encoding::F32 | Encoding::F16 | Encoding::Bf16 => encoding.elem().name().to_owned(),
        Encoding::Ternary { group: g, scale, .. } => format!("ternary (one {scale:?} scale per {})", group(g)),
        Encoding::Sign { group: g, scale, .. } => format!("sign (one {scale:?} scale per {})", group(g)),
    }
}
