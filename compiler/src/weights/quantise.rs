//! The weight quantisers: from latent floats to codes and scales, as spec/language.md defines the encodings.

use super::value::MatrixShape;
use crate::ir::{Group, Keep, ScaleFormat};
use crate::numerics::narrow;

/// The parameters of a `ternary` encoding that its quantiser needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TernaryScheme {
    /// Which weights share a scale.
    pub group: Group,
    /// Least mean magnitude of a group.
    pub floor: f32,
    /// What the scale is rounded to.
    pub scale: ScaleFormat,
    /// Which codes are not zero.
    pub keep: Keep,
}

/// Codes (row-major, -1, 0 or +1) and scales (rounded to their format, see [`super::WeightValue::Codes`]) of a
/// latent matrix.
///
/// Per group, g = max(mean magnitude in f64, floor) rounded to f32, and code = round(w / g) in f32, half to even,
/// clamped to -1..=1. With `ThreeOfFour` the smallest magnitude of each 4 consecutive inputs (the first of equal
/// ones) is 0, the others are signs (+ for both zeros), and the mean is taken over those.
#[must_use]
pub fn quantise_ternary(values: &[f32], shape: MatrixShape, scheme: TernaryScheme) -> (Vec<i8>, Vec<f32>) {
    assert_eq!(values.len(), shape.elements(), "values of another shape");
    let mut codes = vec![0; values.len()];
    let scales = groups(values, &mut codes, shape, scheme.group, |values, codes| match scheme.keep {
        Keep::Nearest => {
            let gamma = mean(values.iter().copied(), values.len(), scheme.floor);
            for (code, value) in codes.iter_mut().zip(values) {
                // NaN, where it is allowed, becomes 0
                *code = (value / gamma).round_ties_even().clamp(-1.0, 1.0) as i8;
            }
            narrow::scale(gamma, scheme.scale)
        }
        Keep::ThreeOfFour => {
            three_of_four(values, codes);
            let kept = codes.iter().filter(|code| **code != 0).count();
            let kept_values = values.iter().zip(&*codes).filter(|(_, code)| **code != 0).map(|(value, _)| *value);
            narrow::scale(mean(kept_values, kept, scheme.floor), scheme.scale)
        }
    });
    (codes, scales)
}

/// Signs (+1 where w >= 0, both zeros included, else -1) and scales (mean magnitude of the group in f64, rounded to
/// f32 and then to the format) of a latent matrix.
#[must_use]
pub fn quantise_sign(values: &[f32], shape: MatrixShape, group: Group, scale: ScaleFormat) -> (Vec<i8>, Vec<f32>) {
    assert_eq!(values.len(), shape.elements(), "values of another shape");
    let mut codes = vec![0; values.len()];
    let scales = groups(values, &mut codes, shape, group, |values, codes| {
        for (code, value) in codes.iter_mut().zip(values) {
            *code = if *value >= 0.0 { 1 } else { -1 };
        }
        narrow::scale(mean(values.iter().copied(), values.len(), 0.0), scale)
    });
    (codes, scales)
}

/// The codes and the one scale of a tensor that was quantised before and stored as floats: all its non-zero values
/// have one magnitude, which is the scale. `None` if that is not so, or if all values are zero.
///
/// Quantising such a tensor again would be wrong: the mean magnitude is the scale times its density.
#[must_use]
pub fn dequantised(values: &[f32], scale: ScaleFormat) -> Option<(Vec<i8>, f32)> {
    let magnitude = values.iter().find(|value| **value != 0.0)?.abs();
    let uniform = values.iter().all(|value| *value == 0.0 || value.abs() == magnitude);
    (uniform && magnitude.is_finite()).then(|| {
        let code = |value: &f32| i8::from(*value > 0.0) - i8::from(*value < 0.0);
        (values.iter().map(code).collect(), narrow::scale(magnitude, scale))
    })
}

/// The mean magnitude, at least `floor`.
fn mean(values: impl Iterator<Item = f32>, count: usize, floor: f32) -> f32 {
    let sum: f64 = values.map(|value| f64::from(value.abs())).sum();
    let mean = if count == 0 { 0.0 } else { sum / count as f64 };
    mean.max(f64::from(floor)) as f32
}

fn three_of_four(values: &[f32], codes: &mut [i8]) {
    for (values, codes) in values.chunks(4).zip(codes.chunks_mut(4)) {
        let mut smallest = 0;
        for (index, value) in values.iter().enumerate() {
            if value.abs() < values[smallest].abs() {
                smallest = index;
            }
        }
        for (index, (code, value)) in codes.iter_mut().zip(values).enumerate() {
            *code = if index == smallest {
                0
            } else if *value >= 0.0 {
                1
            } else {
                -1
            };
        }
    }
}

/// Calls `one` for the weights and codes of each group; gives the scales in order.
fn groups(
    values: &[f32],
    codes: &mut [i8],
    shape: MatrixShape,
    group: Group,
    mut one: impl FnMut(&[f32], &mut [i8]) -> f32,
) -> Vec<f32> {
    let columns = shape.columns;
    let length = match group {
        Group::Tensor => return vec![one(values, codes)],
        Group::Row => columns,
        Group::Inputs(inputs) => inputs,
    };
    if columns == 0 {
        return vec![0.0; shape.scales(group)];
    }
    let rows = values.chunks_exact(columns).zip(codes.chunks_exact_mut(columns));
    let mut scales = Vec::with_capacity(shape.scales(group));
    for (values, codes) in rows {
        let length = length.clamp(1, columns);
        scales.extend(values.chunks(length).zip(codes.chunks_mut(length)).map(|(values, codes)| one(values, codes)));
    }
    scales
}
