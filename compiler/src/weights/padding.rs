//! Padding of packed weights: kernels multiply with it whatever lies in memory behind a row of activations, so it is
//! zero.

use super::layout::{ALIGNMENT, Layout, QUAD, ROW_GROUP};
use crate::kernel::ir::Packing;

impl Layout {
    /// The first row (of columns, the first column) whose padding is not zero in the bytes of a weight of this
    /// layout.
    #[must_use]
    pub fn row_with_padding(self, bytes: &[u8]) -> Option<usize> {
        let shape = self.shape();
        match self {
            Self::Rows { .. } => {
                spoilt_line(bytes, (shape.rows, self.row_bytes()), shape.columns * self.column_bytes() * 8)
            }
            Self::Columns { .. } => {
                spoilt_line(bytes, (shape.columns, self.column_bytes()), shape.rows * self.row_bytes() * 8)
            }
            Self::SignRows { .. } => spoilt_line(bytes, (shape.rows, self.row_bytes()), shape.columns),
            Self::Blocks { packing, .. } => {
                let padding = last_block(packing, shape.columns);
                (0..shape.rows.next_multiple_of(ROW_GROUP)).find(|&row| {
                    let block = |block: usize| {
                        let at = row / QUAD * QUAD * self.row_bytes() + (block * QUAD + row % QUAD) * ALIGNMENT;
                        &bytes[at..at + ALIGNMENT]
                    };
                    let blocks = packing.blocks(shape.columns);
                    if row >= shape.rows {
                        return (0..blocks).any(|at| block(at).iter().any(|&byte| byte != 0));
                    }
                    blocks > 0 && block(blocks - 1).iter().zip(&padding).any(|(byte, mask)| byte & mask != 0)
                })
            }
        }
    }
}

/// The first of some lines of bytes with a bit set behind its first `used` bits.
fn spoilt_line(bytes: &[u8], (lines, stride): (usize, usize), used: usize) -> Option<usize> {
    (0..lines).find(|&line| {
        let rest = &bytes[line * stride..][used / 8..stride];
        rest.iter().enumerate().any(|(i, byte)| if i == 0 { byte >> (used % 8) != 0 } else { *byte != 0 })
    })
}

/// The bits of a row's last block that belong to no column.
fn last_block(packing: Packing, columns: usize) -> [u8; ALIGNMENT] {
    let within = match columns % packing.block_weights() {
        0 => packing.block_weights(),
        within => within,
    };
    std::array::from_fn(|byte| {
        let fields = (0..packing.fields()).filter(|field| field * ALIGNMENT + byte >= within);
        fields.fold(0, |mask, field| mask | packing.field_mask(field))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Group;
    use crate::weights::{MatrixShape, WeightValue, layout::pack};

    /// Every bit of a packed weight that no column owns is padding, and no other.
    #[test]
    fn each_bit_is_a_column_or_padding() {
        for (rows, columns) in [(3, 70), (17, 256), (16, 300), (1, 1), (5, 600)] {
            for packing in [Packing::Codes2, Packing::Bits1, Packing::Bytes8] {
                let shape = MatrixShape { rows, columns };
                let layout = Layout::Blocks { packing, shape, group: Group::Tensor };
                let codes: Vec<i8> = (0..rows * columns).map(|i| if i % 3 == 0 { -1 } else { 1 }).collect();
                let mut bytes = vec![0; layout.bytes()];
                pack(&WeightValue::Codes { codes, scales: vec![1.0] }, layout, &mut bytes);
                assert_eq!(layout.row_with_padding(&bytes), None, "{layout:?}");
                let mut owned = vec![0u8; layout.code_bytes()];
                for row in 0..rows {
                    for column in 0..columns {
                        let (byte, bit) = layout.field(row, column);
                        owned[byte] |= packing.field_mask(0) << bit;
                    }
                }
                for at in (0..layout.code_bytes()).step_by(7) {
                    for bit in 0..8 {
                        let mut spoilt = bytes.clone();
                        spoilt[at] ^= 1 << bit;
                        let is_padding = owned[at] >> bit & 1 == 0;
                        assert_eq!(layout.row_with_padding(&spoilt).is_some(), is_padding, "{layout:?} {at} {bit}");
                    }
                }
            }
        }
    }

    #[test]
    fn dense_and_sign_rows_end_in_zeros() {
        let shape = MatrixShape { rows: 3, columns: 21 };
        let layout = Layout::SignRows { shape, group: Group::Row };
        let mut bytes = vec![0; layout.bytes()];
        bytes[8 + 2] = 0x1f;
        assert_eq!(layout.row_with_padding(&bytes), None);
        bytes[8 + 2] = 0x20;
        assert_eq!(layout.row_with_padding(&bytes), Some(1));
        let layout = Layout::Rows { element: crate::ir::Elem::F32, shape };
        let mut bytes = vec![0xff; layout.bytes()];
        assert_eq!(layout.row_with_padding(&bytes), Some(0));
        for row in bytes.chunks_exact_mut(layout.row_bytes()) {
            row[84..].fill(0);
        }
        assert_eq!(layout.row_with_padding(&bytes), None);
    }
}
