//! Operations that move elements without computing.

use super::error::Fault;
use super::eval::Slot;
use super::tensor::{Tensor, map_data, zeros};
use super::weights::WeightValue;
use crate::ir::Data;

/// Row-major strides.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// Elements of `shape` in row-major order, taken from places that advance by `steps` along each axis.
fn strided<T: Copy>(v: &[T], shape: &[usize], steps: &[usize]) -> Vec<T> {
    let n: usize = shape.iter().product();
    let mut out = Vec::with_capacity(n);
    if n == 0 {
        return out;
    }
    let Some((&last, outer)) = shape.split_last() else {
        return v[..1].to_vec();
    };
    let step = steps[outer.len()];
    let mut index = vec![0; outer.len()];
    let mut at = 0;
    loop {
        match step {
            0 => out.extend(std::iter::repeat_n(v[at], last)),
            1 => out.extend_from_slice(&v[at..at + last]),
            _ => out.extend((0..last).map(|i| v[at + i * step])),
        }
        let mut axis = outer.len();
        loop {
            if axis == 0 {
                return out;
            }
            axis -= 1;
            index[axis] += 1;
            at += steps[axis];
            if index[axis] < outer[axis] {
                break;
            }
            at -= steps[axis] * outer[axis];
            index[axis] = 0;
        }
    }
}

pub(super) fn broadcast(x: &Tensor, axes: &[usize], shape: &[usize]) -> Result<Tensor, Fault> {
    let own = strides(&x.shape);
    let mut steps = vec![0; shape.len()];
    for (i, &to) in axes.iter().enumerate() {
        if x.shape[i] != 1 {
            if x.shape[i] != shape[to] {
                return Err(Fault::Shape(format!("{:?} cannot fill {shape:?}", x.shape)));
            }
            steps[to] = own[i];
        }
    }
    Ok(Tensor::new(shape, map_data!(&*x.data, v => strided(v, shape, &steps))))
}

pub(super) fn permute(x: &Tensor, axes: &[usize], shape: &[usize]) -> Result<Tensor, Fault> {
    let own = strides(&x.shape);
    let steps: Vec<usize> = axes.iter().map(|&a| own[a]).collect();
    let fits = axes.iter().zip(shape).all(|(&a, &n)| x.shape[a] == n);
    if !fits {
        return Err(Fault::Shape(format!("{:?} is not a permuted {shape:?}", x.shape)));
    }
    Ok(Tensor::new(shape, map_data!(&*x.data, v => strided(v, shape, &steps))))
}

pub(super) fn slice(x: &Tensor, axis: usize, start: usize, len: usize) -> Result<Tensor, Fault> {
    let n = x.shape[axis];
    if start.checked_add(len).is_none_or(|end| end > n) {
        return Err(Fault::Shape(format!("{len} places from {start} of {n}")));
    }
    let inner: usize = x.shape[axis + 1..].iter().product();
    let mut shape = x.shape.clone();
    shape[axis] = len;
    let data = map_data!(&*x.data, v => {
        let blocks = v.chunks_exact((n * inner).max(1));
        blocks.flat_map(|b| &b[start * inner..(start + len) * inner]).copied().collect()
    });
    Ok(Tensor::new(&shape, data))
}

pub(super) fn concat(parts: &[Tensor], axis: usize, shape: &[usize]) -> Result<Tensor, Fault> {
    let outer: usize = shape[..axis].iter().product();
    let inner: usize = shape[axis + 1..].iter().product();
    let lengths: usize = parts.iter().map(|p| p.shape[axis]).sum();
    let fits = parts.iter().all(|p| p.len() == outer * p.shape[axis] * inner);
    if !fits || lengths != shape[axis] {
        return Err(Fault::Shape(format!("parts do not make {shape:?}")));
    }
    macro_rules! join {
        ($($variant:ident),*) => {
            match &*parts[0].data {
                $(Data::$variant(_) => {
                    let mut out = Vec::with_capacity(outer * lengths * inner);
                    for o in 0..outer {
                        for p in parts {
                            let Data::$variant(v) = &*p.data else {
                                return Err(p.wrong("concat"));
                            };
                            let n = p.shape[axis] * inner;
                            out.extend_from_slice(&v[o * n..][..n]);
                        }
                    }
                    Data::$variant(out)
                })*
            }
        };
    }
    Ok(Tensor::new(shape, join!(F32, I32, U32, U64, I8, U8, Bool)))
}

fn indices(index: &Tensor) -> Result<Vec<i64>, Fault> {
    match &*index.data {
        Data::I32(v) => Ok(v.iter().map(|&i| i64::from(i)).collect()),
        Data::U32(v) => Ok(v.iter().map(|&i| i64::from(i)).collect()),
        Data::U8(v) => Ok(v.iter().map(|&i| i64::from(i)).collect()),
        _ => Err(index.wrong("an index")),
    }
}

/// The place that an index names; none outside.
fn place(index: i64, len: usize) -> Option<usize> {
    usize::try_from(index).ok().filter(|&i| i < len)
}

pub(super) fn gather(table: &Slot, index: &Tensor, batch: usize, shape: &[usize]) -> Result<Tensor, Fault> {
    let indices = indices(index)?;
    let count: usize = shape.iter().product();
    if let Slot::Weight { value: WeightValue::Coded(coded), .. } = table
        && batch == 0
        && coded.shape.len() == 2
    {
        let mut out = Vec::with_capacity(count);
        for i in indices {
            match place(i, coded.shape[0]) {
                Some(row) => coded.decode_row(row, &mut out),
                None => out.resize(out.len() + coded.inputs(), 0.0),
            }
        }
        return Ok(Tensor::f32(shape, out));
    }
    let table = match table {
        Slot::Tensor(t) => t.clone(),
        Slot::Weight { value, .. } => value.dense(),
    };
    let batches: usize = table.shape[..batch].iter().product();
    let n = table.shape[batch];
    let inner: usize = table.shape[batch + 1..].iter().product();
    let each = indices.len().checked_div(batches).unwrap_or(0);
    if each * batches * inner != count {
        return Err(Fault::Shape("a table and its index have unequal leading axes".into()));
    }
    let mut places = Vec::with_capacity(indices.len());
    for (i, &index) in indices.iter().enumerate() {
        places.push(place(index, n).map(|p| (i / each * n + p) * inner));
    }
    macro_rules! take {
        ($($variant:ident),*) => {
            match &*table.data {
                $(Data::$variant(v) => {
                    let Data::$variant(mut out) = zeros(table.elem(), count) else {
                        return Err(table.wrong("gather"));
                    };
                    for (to, from) in out.chunks_exact_mut(inner.max(1)).zip(places) {
                        if let Some(from) = from {
                            to.copy_from_slice(&v[from..][..inner]);
                        }
                    }
                    Data::$variant(out)
                })*
            }
        };
    }
    Ok(Tensor::new(shape, take!(F32, I32, U32, U64, I8, U8, Bool)))
}
