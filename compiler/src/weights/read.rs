//! Reading tensor data: dense views element by element in row-major order, packed ternary codes, sign rows.
//! Widening is exact, except that f64 is rounded to the nearest f32.

use half::{bf16, f16};

use super::{Checkpoint, Element, Extent, Stored, TensorEntry, TensorProblem, View, WeightsError};

/// Ternary weights of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct TernaryTensor {
    /// -1, 0 or +1, row-major, without padding.
    pub codes: Vec<i8>,
    /// The scale of all of them.
    pub scale: f32,
}

/// Sign weights of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct SignTensor {
    /// -1 or +1, row-major, without padding.
    pub signs: Vec<i8>,
    /// One scale per row.
    pub scales: Vec<f32>,
}

impl Checkpoint {
    /// The entry of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors().iter().find(|entry| entry.name == name)
    }

    /// All weights of a tensor as f32, row-major; packed forms as code times scale. Integers must be exact.
    /// Values that are not finite are returned as they are, see [`Checkpoint::read_finite`].
    ///
    /// # Errors
    /// The stored data is damaged: a wrong checksum, an invalid code, non-zero padding bits.
    pub fn read_f32(&self, entry: &TensorEntry) -> Result<Vec<f32>, WeightsError> {
        let values = match &entry.stored {
            Stored::Dense(view) => self.dense(view),
            Stored::Ternary { .. } => self
                .ternary(entry, false)
                .map(|tensor| tensor.codes.iter().map(|&code| f32::from(code) * tensor.scale).collect()),
            Stored::Sign { .. } => self.signs(entry, false).map(|tensor| {
                let columns = entry.shape.last().copied().unwrap_or(1).max(1);
                let rows = tensor.signs.chunks_exact(columns).zip(&tensor.scales);
                rows.flat_map(|(row, &scale)| row.iter().map(move |&sign| f32::from(sign) * scale)).collect()
            }),
            Stored::Other { what } => Err(TensorProblem::NotRead { what: what.clone() }),
        };
        values.map_err(|problem| WeightsError::tensor(&entry.name, problem))
    }

    /// As [`Checkpoint::read_f32`], refusing NaN and infinities.
    ///
    /// # Errors
    /// As there; also values that are not finite, with their number.
    pub fn read_finite(&self, entry: &TensorEntry) -> Result<Vec<f32>, WeightsError> {
        let values = self.read_f32(entry)?;
        finite(&values).map_err(|problem| WeightsError::tensor(&entry.name, problem))?;
        Ok(values)
    }

    /// The codes and the scale of a packed ternary tensor.
    ///
    /// # Errors
    /// It is stored in another form, or damaged; (unless `any_scale`) a scale that no quantiser writes.
    pub fn read_ternary(&self, entry: &TensorEntry, any_scale: bool) -> Result<TernaryTensor, WeightsError> {
        self.ternary(entry, any_scale).map_err(|problem| WeightsError::tensor(&entry.name, problem))
    }

    /// The signs and row scales of a tensor stored as sign rows.
    ///
    /// # Errors
    /// As [`Checkpoint::read_ternary`].
    pub fn read_signs(&self, entry: &TensorEntry, any_scale: bool) -> Result<SignTensor, WeightsError> {
        self.signs(entry, any_scale).map_err(|problem| WeightsError::tensor(&entry.name, problem))
    }

    fn ternary(&self, entry: &TensorEntry, any_scale: bool) -> Result<TernaryTensor, TensorProblem> {
        let Stored::Ternary { codes, scale } = &entry.stored else {
            return Err(TensorProblem::WrongForm { stored: entry.stored.name().to_owned(), wanted: "packed ternary" });
        };
        let scale = self.dense(scale)?[0];
        if !any_scale {
            check_scales(&[scale])?;
        }
        let (rows, columns) = (entry.shape[0], entry.shape[1]);
        self.verify(codes)?;
        let packed = gather(self.storage(codes), codes, |[byte]: [u8; 1]| byte);
        let mut unpacked = Vec::with_capacity(rows * columns);
        for (row, bytes) in packed.chunks_exact(columns.div_ceil(4).max(1)).enumerate() {
            for column in 0..columns.next_multiple_of(4) {
                let code = bytes[column / 4] >> (2 * (column % 4)) & 3;
                match (code, column < columns) {
                    (0, true) => unpacked.push(0),
                    (1, true) => unpacked.push(1),
                    (2, true) => unpacked.push(-1),
                    (_, true) => return Err(TensorProblem::InvalidCode { row, column }),
                    (0, false) => {}
                    (_, false) => return Err(TensorProblem::Padding { row }),
                }
            }
        }
        Ok(TernaryTensor { codes: unpacked, scale })
    }

    fn signs(&self, entry: &TensorEntry, any_scale: bool) -> Result<SignTensor, TensorProblem> {
        let scales = self.row_scales(entry, any_scale)?;
        let Stored::Sign { bits, row_stride, .. } = &entry.stored else {
            unreachable!("only sign rows have row scales");
        };
        let (rows, columns) = (entry.shape[0], entry.shape[1]);
        let mut signs = Vec::with_capacity(rows * columns);
        for bytes in self.bytes_of(*bits).chunks_exact((*row_stride).max(1)) {
            let bit = |column: usize| bytes[column >> 3] >> (column & 7) & 1;
            signs.extend((0..columns).map(|column| if bit(column) == 1 { 1i8 } else { -1 }));
        }
        Ok(SignTensor { signs, scales })
    }

    /// The scales of sign rows, whose padding bits are zero.
    pub(super) fn row_scales(&self, entry: &TensorEntry, any_scale: bool) -> Result<Vec<f32>, TensorProblem> {
        let Stored::Sign { bits, row_stride, alpha } = &entry.stored else {
            return Err(TensorProblem::WrongForm { stored: entry.stored.name().to_owned(), wanted: "sign rows" });
        };
        let scales = self.dense(alpha)?;
        if !any_scale {
            check_scales(&scales)?;
        }
        let columns = entry.shape[1];
        if !columns.is_multiple_of(64) {
            for (row, bytes) in self.bytes_of(*bits).chunks_exact(*row_stride).enumerate() {
                let bit = |column: usize| bytes[column >> 3] >> (column & 7) & 1;
                if (columns..row_stride * 8).any(|column| bit(column) == 1) {
                    return Err(TensorProblem::Padding { row });
                }
            }
        }
        Ok(scales)
    }

    /// All elements of a dense view, row-major.
    fn dense(&self, view: &View) -> Result<Vec<f32>, TensorProblem> {
        self.verify(view)?;
        let bytes = self.storage(view);
        let exact = |values: Vec<i64>| {
            values
                .into_iter()
                .enumerate()
                .map(|(index, value)| {
                    let wide = value as f32;
                    if wide as i64 == value && wide.abs() < 9e18 {
                        Ok(wide)
                    } else {
                        Err(TensorProblem::InexactInteger { value, index })
                    }
                })
                .collect()
        };
        match view.element {
            Element::F64 => Ok(gather(bytes, view, |b| f64::from_le_bytes(b) as f32)),
            Element::F32 => Ok(gather(bytes, view, f32::from_le_bytes)),
            Element::F16 => Ok(gather(bytes, view, |b| f16::from_le_bytes(b).to_f32())),
            Element::Bf16 => Ok(gather(bytes, view, |b| bf16::from_le_bytes(b).to_f32())),
            Element::I64 => exact(gather(bytes, view, i64::from_le_bytes)),
            Element::I32 => exact(gather(bytes, view, |b| i32::from_le_bytes(b).into())),
            Element::U64 => exact(gather(bytes, view, |b| u64::from_le_bytes(b).try_into().unwrap_or(i64::MAX))),
            Element::U32 => exact(gather(bytes, view, |b| u32::from_le_bytes(b).into())),
            Element::I16 => Ok(gather(bytes, view, |b| i16::from_le_bytes(b).into())),
            Element::U16 => Ok(gather(bytes, view, |b| u16::from_le_bytes(b).into())),
            Element::I8 => Ok(gather(bytes, view, |b| i8::from_le_bytes(b).into())),
            Element::U8 => Ok(gather(bytes, view, |[b]: [u8; 1]| b.into())),
            Element::Bool => Ok(gather(bytes, view, |[b]: [u8; 1]| f32::from(b != 0))),
        }
    }

    pub(super) fn bytes_of(&self, extent: Extent) -> &[u8] {
        &self.files[extent.file][extent.offset..extent.offset + extent.length]
    }

    fn storage(&self, view: &View) -> &[u8] {
        self.bytes_of(view.storage)
    }

    /// Compares the view's storage with its checksum, the first time it is read.
    fn verify(&self, view: &View) -> Result<(), TensorProblem> {
        let Some(index) = view.checksum else {
            return Ok(());
        };
        let checksum = &self.contents.checksums[index];
        let found = *checksum.found.get_or_init(|| crc32fast::hash(self.bytes_of(checksum.extent)));
        if found == checksum.expected {
            Ok(())
        } else {
            Err(TensorProblem::Checksum { offset: checksum.extent.offset as u64, found, expected: checksum.expected })
        }
    }
}

impl View {
    /// A contiguous view of a whole extent.
    pub(super) fn dense(element: Element, extent: Extent, shape: &[usize]) -> Result<Self, String> {
        let elements = shape.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        if elements.and_then(|n| n.checked_mul(element.size())) != Some(extent.length) {
            return Err(format!("shape {shape:?} of {} does not fill its {} bytes", element.name(), extent.length));
        }
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            // nothing is ever addressed in an empty view, whose axes may have any length
            strides[axis - 1] = if elements == Some(0) { 0 } else { strides[axis] * shape[axis] };
        }
        Ok(Self { element, storage: extent, first: 0, shape: shape.to_vec(), strides, checksum: None })
    }
}

/// Reports values that are not finite.
pub(super) fn finite(values: &[f32]) -> Result<(), TensorProblem> {
    // the common case is one branch-free sweep
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    let mut bad = values.iter().enumerate().filter(|(_, value)| !value.is_finite());
    let first = bad.next().expect("some value is not finite").0;
    Err(TensorProblem::NonFinite { count: bad.count() + 1, elements: values.len(), first })
}

/// Scales as a packed weight has them, padding and all.
///
/// # Errors
/// One of them is not finite, or negative.
pub fn check_packed_scales(path: &str, bytes: &[u8]) -> Result<(), WeightsError> {
    let scales = bytes.chunks_exact(4).map(|chunk| f32::from_le_bytes(chunk.try_into().expect("chunks of four")));
    check_scales(&scales.collect::<Vec<_>>()).map_err(|problem| WeightsError::tensor(path, problem))
}

/// Scales as quantisers write them.
pub(super) fn check_scales(scales: &[f32]) -> Result<(), TensorProblem> {
    match scales.iter().position(|scale| !scale.is_finite() || *scale < 0.0) {
        None => Ok(()),
        Some(index) => Err(TensorProblem::Scale { index, value: scales[index] }),
    }
}

/// The elements of a view in row-major order. The view's indices were checked when it was made.
fn gather<const N: usize, T>(storage: &[u8], view: &View, decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    let elements: usize = view.shape.iter().product();
    let mut out = Vec::with_capacity(elements);
    if elements == 0 {
        return out;
    }
    let (&inner, &stride) = match (view.shape.last(), view.strides.last()) {
        (Some(inner), Some(stride)) => (inner, stride),
        _ => (&1, &1),
    };
    let outer = view.shape.len().saturating_sub(1);
    let mut index = vec![0; outer];
    let mut row = view.first;
    loop {
        if stride == 1 {
            let bytes = &storage[row * N..(row + inner) * N];
            out.extend(bytes.chunks_exact(N).map(|chunk| decode(chunk.try_into().expect("chunks of N"))));
        } else {
            out.extend((0..inner).map(|i| {
                let at = (row + i * stride) * N;
                decode(storage[at..at + N].try_into().expect("a slice of N"))
            }));
        }
        let mut axis = outer;
        loop {
            if axis == 0 {
                return out;
            }
            axis -= 1;
            index[axis] += 1;
            row += view.strides[axis];
            if index[axis] < view.shape[axis] {
                break;
            }
            row -= view.strides[axis] * view.shape[axis];
            index[axis] = 0;
        }
    }
}
