//! The values of one weight in the form its encoding gives them: what the interpreter computes with and what
//! the packer packs. Layouts and files are not known here.

use crate::ir::{Encoding, Group};

/// A weight as a matrix: all axes but the last are its rows. A vector is one row, a scalar one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixShape {
    /// Product of all axes but the last.
    pub rows: usize,
    /// The last axis.
    pub columns: usize,
}

impl MatrixShape {
    /// The matrix of a tensor's shape.
    #[must_use]
    pub fn of(shape: &[usize]) -> Self {
        match shape.split_last() {
            None => Self { rows: 1, columns: 1 },
            Some((&columns, leading)) => Self { rows: leading.iter().product(), columns },
        }
    }

    /// Number of weights.
    #[must_use]
    pub fn elements(self) -> usize {
        self.rows * self.columns
    }

    /// Scales of one row: 1, or the number of groups.
    #[must_use]
    pub fn groups(self, group: Group) -> usize {
        match group {
            Group::Tensor | Group::Row => 1,
            Group::Inputs(inputs) => self.columns.div_ceil(inputs.max(1)),
        }
    }

    /// Scales of the whole weight: 1, one per row, or one per row and group.
    #[must_use]
    pub fn scales(self, group: Group) -> usize {
        match group {
            Group::Tensor => 1,
            Group::Row | Group::Inputs(_) => self.rows * self.groups(group),
        }
    }

    /// Index of the scale of weight (row, column).
    #[must_use]
    pub fn scale_index(self, group: Group, row: usize, column: usize) -> usize {
        match group {
            Group::Tensor => 0,
            Group::Row => row,
            Group::Inputs(inputs) => row * self.groups(group) + column / inputs.max(1),
        }
    }
}

/// The values of one weight, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum WeightValue {
    /// Encodings `f32`, `f16`, `bf16`: each value already rounded to it.
    Dense(Vec<f32>),
    /// Encodings `ternary` and `sign`: weight = code times the scale of its group.
    Codes {
        /// -1, 0, +1; for `sign` -1 or +1.
        codes: Vec<i8>,
        /// f32, already rounded to the scale format: one; or one per row; or row-major per row and group.
        scales: Vec<f32>,
    },
}

/// The group of an encoding that has scales.
#[must_use]
pub fn group_of(encoding: &Encoding) -> Option<Group> {
    match encoding {
        Encoding::F32 | Encoding::F16 | Encoding::Bf16 => None,
        Encoding::Ternary { group, .. } | Encoding::Sign { group, .. } => Some(*group),
    }
}

impl WeightValue {
    /// All weights as f32: code times scale.
    #[must_use]
    pub fn dequantised(&self, encoding: &Encoding, shape: &[usize]) -> Vec<f32> {
        let matrix = MatrixShape::of(shape);
        match (self, group_of(encoding)) {
            (Self::Codes { codes, scales }, Some(group)) => {
                let columns = matrix.columns.max(1);
                let scale = |at: usize| scales[matrix.scale_index(group, at / columns, at % columns)];
                codes.iter().enumerate().map(|(at, &code)| f32::from(code) * scale(at)).collect()
            }
            (Self::Dense(values), _) => values.clone(),
            (Self::Codes { .. }, None) => unreachable!("codes of a dense encoding"),
        }
    }
}
