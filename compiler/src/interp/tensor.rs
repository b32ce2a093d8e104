//! Values at run time: a shape and shared, row-major elements.

use std::sync::Arc;

use super::error::Fault;
use crate::ir::{Data, Elem, Literal};
use crate::numerics::CANONICAL_NAN;

/// Elements of one value at most: what graphs may compute, of many steps at once, and what weights may have.
const MOST_ELEMENTS: u128 = 1 << 31;

/// Evaluates an expression with `$v` bound to the elements, and wraps the vector it yields in the same variant.
macro_rules! map_data {
    ($data:expr, $v:ident => $body:expr) => {
        match $data {
            $crate::ir::Data::F32($v) => $crate::ir::Data::F32($body),
            $crate::ir::Data::I32($v) => $crate::ir::Data::I32($body),
            $crate::ir::Data::U32($v) => $crate::ir::Data::U32($body),
            $crate::ir::Data::U64($v) => $crate::ir::Data::U64($body),
            $crate::ir::Data::I8($v) => $crate::ir::Data::I8($body),
            $crate::ir::Data::U8($v) => $crate::ir::Data::U8($body),
            $crate::ir::Data::Bool($v) => $crate::ir::Data::Bool($body),
        }
    };
}

/// Like `map_data` over two tensors' elements, which must be of one kind.
macro_rules! map_data2 {
    ($a:expr, $b:expr, $v:ident, $w:ident => $body:expr, else $other:expr) => {
        match ($a, $b) {
            ($crate::ir::Data::F32($v), $crate::ir::Data::F32($w)) => $crate::ir::Data::F32($body),
            ($crate::ir::Data::I32($v), $crate::ir::Data::I32($w)) => $crate::ir::Data::I32($body),
            ($crate::ir::Data::U32($v), $crate::ir::Data::U32($w)) => $crate::ir::Data::U32($body),
            ($crate::ir::Data::U64($v), $crate::ir::Data::U64($w)) => $crate::ir::Data::U64($body),
            ($crate::ir::Data::I8($v), $crate::ir::Data::I8($w)) => $crate::ir::Data::I8($body),
            ($crate::ir::Data::U8($v), $crate::ir::Data::U8($w)) => $crate::ir::Data::U8($body),
            ($crate::ir::Data::Bool($v), $crate::ir::Data::Bool($w)) => $crate::ir::Data::Bool($body),
            _ => $other,
        }
    };
}

pub(super) use {map_data, map_data2};

/// A value. Clones share their elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Arc<Data>,
    /// Where its growing axis stands, if it has one.
    pub growth: Option<Growth>,
}

/// The entries of a growing axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Growth {
    /// Number of pushes before the first entry that is still kept.
    pub first: usize,
    /// Position at which each kept entry was pushed.
    pub positions: Arc<Vec<i32>>,
}

/// Number of elements of a shape, refused when absurd.
pub(super) fn elements(shape: &[usize]) -> Result<usize, Fault> {
    let n = shape.iter().try_fold(1u128, |n, &d| n.checked_mul(d as u128)).unwrap_or(u128::MAX);
    if n > MOST_ELEMENTS {
        return Err(Fault::TooLarge(n));
    }
    Ok(n as usize)
}

/// `n` zeros, or false; weights' elements are f32 here.
pub(super) fn zeros(elem: Elem, n: usize) -> Data {
    Data::zeros(elem, n).unwrap_or_else(|| Data::F32(vec![0.0; n]))
}

impl Tensor {
    /// Elements in row-major order; their number must be the product of the shape.
    pub fn new(shape: &[usize], data: Data) -> Tensor {
        debug_assert_eq!(shape.iter().product::<usize>(), data.len());
        Tensor { shape: shape.to_vec(), data: Arc::new(data), growth: None }
    }

    /// A tensor of f32.
    pub fn f32(shape: &[usize], values: impl Into<Vec<f32>>) -> Tensor {
        Tensor::new(shape, Data::F32(values.into()))
    }

    /// A tensor of i32.
    pub fn i32(shape: &[usize], values: impl Into<Vec<i32>>) -> Tensor {
        Tensor::new(shape, Data::I32(values.into()))
    }

    /// A tensor of u32.
    pub fn u32(shape: &[usize], values: impl Into<Vec<u32>>) -> Tensor {
        Tensor::new(shape, Data::U32(values.into()))
    }

    /// A tensor of u8.
    pub fn u8(shape: &[usize], values: impl Into<Vec<u8>>) -> Tensor {
        Tensor::new(shape, Data::U8(values.into()))
    }

    /// A tensor of bool.
    pub fn bool(shape: &[usize], values: impl Into<Vec<bool>>) -> Tensor {
        Tensor::new(shape, Data::Bool(values.into()))
    }

    /// Zeros, or false; weights' elements are f32 here.
    pub fn zeros(elem: Elem, shape: &[usize]) -> Result<Tensor, Fault> {
        Ok(Tensor::new(shape, zeros(elem, elements(shape)?)))
    }

    /// The value of a literal.
    pub fn literal(literal: &Literal) -> Tensor {
        Tensor { shape: literal.shape.clone(), data: literal.data.clone(), growth: None }
    }

    /// Its element.
    pub fn elem(&self) -> Elem {
        self.data.elem()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The elements, if they are f32.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &*self.data {
            Data::F32(v) => Some(v),
            _ => None,
        }
    }

    /// The elements, if they are i32.
    pub fn as_i32(&self) -> Option<&[i32]> {
        match &*self.data {
            Data::I32(v) => Some(v),
            _ => None,
        }
    }

    /// The elements, if they are bool.
    pub fn as_bool(&self) -> Option<&[bool]> {
        match &*self.data {
            Data::Bool(v) => Some(v),
            _ => None,
        }
    }

    pub(super) fn floats(&self, op: &'static str) -> Result<&[f32], Fault> {
        self.as_f32().ok_or(self.wrong(op))
    }

    pub(super) fn bools(&self, op: &'static str) -> Result<&[bool], Fault> {
        self.as_bool().ok_or(self.wrong(op))
    }

    pub(super) fn wrong(&self, op: &'static str) -> Fault {
        Fault::Element { op, elem: self.elem().name() }
    }

    /// The same elements in another shape of as many.
    pub(super) fn reshaped(&self, shape: &[usize]) -> Result<Tensor, Fault> {
        if elements(shape)? != self.len() {
            return Err(Fault::Shape(format!("{:?} cannot be given the shape {shape:?}", self.shape)));
        }
        Ok(Tensor { shape: shape.to_vec(), data: self.data.clone(), growth: self.growth.clone() })
    }

    /// Rows of the first axis, in the order given; each must exist.
    pub(super) fn rows(&self, rows: &[usize]) -> Tensor {
        let n: usize = self.shape[1..].iter().product();
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        let data = map_data!(&*self.data, v => {
            let mut out = Vec::with_capacity(rows.len() * n);
            for &r in rows {
                out.extend_from_slice(&v[r * n..][..n]);
            }
            out
        });
        Tensor::new(&shape, data)
    }

    /// One place of the first axis, without that axis.
    pub fn row(&self, row: usize) -> Tensor {
        let mut t = self.rows(&[row]);
        t.shape.remove(0);
        t
    }

    /// A first axis of `n` equal places.
    pub(super) fn repeated(&self, n: usize) -> Result<Tensor, Fault> {
        let mut shape = vec![n];
        shape.extend(&self.shape);
        elements(&shape)?;
        Ok(Tensor::new(&shape, map_data!(&*self.data, v => v.repeat(n))))
    }

    /// Writes the rows of `source` at the places `rows` of the first axis.
    pub(super) fn scatter(&mut self, rows: &[usize], source: &Tensor) -> Result<(), Fault> {
        let n: usize = self.shape[1..].iter().product();
        if source.len() != rows.len() * n {
            return Err(Fault::Shape("rows of unequal shapes are joined".into()));
        }
        macro_rules! copy {
            ($($variant:ident),*) => {
                match (Arc::make_mut(&mut self.data), &*source.data) {
                    $((Data::$variant(to), Data::$variant(from)) => {
                        for (i, &r) in rows.iter().enumerate() {
                            to[r * n..][..n].clone_from_slice(&from[i * n..][..n]);
                        }
                    })*
                    _ => return Err(Fault::Shape("rows of unequal elements are joined".into())),
                }
            };
        }
        copy!(F32, I32, U32, U64, I8, U8, Bool);
        Ok(())
    }

    /// Equal-shaped tensors as places of a new first axis; `shape` and `elem` are those of one place.
    pub(super) fn stack(items: &[Tensor], elem: Elem, shape: &[usize]) -> Result<Tensor, Fault> {
        let mut full = vec![items.len()];
        full.extend(shape);
        let mut out = Tensor::zeros(elem, &full)?;
        for (i, item) in items.iter().enumerate() {
            out.scatter(&[i], item)?;
        }
        Ok(out)
    }

    /// The same with every NaN given the one payload that outputs have.
    pub fn canonical(self) -> Tensor {
        match self.as_f32() {
            Some(v) if v.iter().any(|x| x.is_nan()) => {
                let canonical = f32::from_bits(CANONICAL_NAN);
                let values = v.iter().map(|x| if x.is_nan() { canonical } else { *x });
                Tensor { data: Arc::new(Data::F32(values.collect())), ..self }
            }
            _ => self,
        }
    }

    /// Whether two tensors have the same bits, any two NaN counting as equal.
    pub fn same_bits(&self, other: &Tensor) -> bool {
        self.shape == other.shape
            && match (self.as_f32(), other.as_f32()) {
                (Some(a), Some(b)) => {
                    a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan()))
                }
                _ => self.data == other.data,
            }
    }
}
