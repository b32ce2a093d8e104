//! Rounding of f32 to the 16-bit floats, to nearest even, and back.

use crate::ir::ScaleFormat;

/// The nearest bf16, widened again. NaN stays NaN.
pub fn bf16(x: f32) -> f32 {
    half::bf16::from_f32(x).to_f32()
}

/// The nearest f16, widened again. NaN stays NaN; beyond the range is infinity.
pub fn f16(x: f32) -> f32 {
    half::f16::from_f32(x).to_f32()
}

/// A scale rounded to the format that its encoding names.
pub fn scale(x: f32, format: ScaleFormat) -> f32 {
    match format {
        ScaleFormat::F32 => x,
        ScaleFormat::Bf16 => bf16(x),
        ScaleFormat::F16 => f16(x),
    }
}
