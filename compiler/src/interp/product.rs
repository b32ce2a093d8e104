//! Products: matrices, linear layers, and the quantised ones.

use super::error::Fault;
use super::eval::Slot;
use super::tensor::Tensor;
use super::weights::{CodedWeight, WeightValue};
use crate::ir::{Data, Elem, InputQuant, Module, Undo};
use crate::numerics::reduce::{LaneSum, lane_dot, lane_dot_codes, lane_signs, lane_sum};
use crate::numerics::{Scalar, quantise};

/// `start` is given if the contracted axis grows: fixed places, then pushes before the first entry kept.
pub(super) fn matmul(
    a: &Tensor,
    b: &Tensor,
    batch: usize,
    start: Option<(usize, usize)>,
    shape: &[usize],
) -> Result<Tensor, Fault> {
    let (x, y) = (a.floats("@")?, b.floats("@")?);
    let batches: usize = a.shape[..batch].iter().product();
    let k = a.shape.last().copied().unwrap_or(1);
    if b.shape.get(batch) != Some(&k) || b.shape[..batch] != a.shape[..batch] {
        return Err(Fault::Shape(format!("{:?} @ {:?} with {batch} shared axes", a.shape, b.shape)));
    }
    let rows = a.shape[batch..a.shape.len() - 1].iter().product::<usize>();
    let mut out = Vec::with_capacity(shape.iter().product());
    let columns = b.shape.get(batch + 1).copied();
    for batch in 0..batches {
        let x = &x[batch * rows * k..][..rows * k];
        let y = &y[batch * k * columns.unwrap_or(1)..][..k * columns.unwrap_or(1)];
        for row in 0..rows {
            let x = &x[row * k..][..k];
            let Some(n) = columns else {
                let (plus, first) = start.unwrap_or((0, 0));
                let plus = plus.min(k);
                let mut sum = LaneSum::default();
                sum.add_products(0, &x[..plus], &y[..plus]);
                sum.add_products(plus + first, &x[plus..], &y[plus..]);
                out.push(sum.total());
                continue;
            };
            let from = out.len();
            out.resize(from + n, 0.0f32);
            for (&x, y) in x.iter().zip(y.chunks_exact(n.max(1))) {
                for (sum, &y) in out[from..].iter_mut().zip(y) {
                    *sum += x * y;
                }
            }
        }
    }
    Ok(Tensor::f32(shape, out))
}

pub(super) fn linear(module: &Module, x: &Tensor, w: &Slot, shape: &[usize]) -> Result<Tensor, Fault> {
    match w {
        Slot::Weight { id, value: WeightValue::Coded(coded) } => match module.weight(*id).encoding.input() {
            InputQuant::None => {
                let signs = module.weight(*id).encoding.elem() == Elem::Sign;
                linear_codes(x, coded, signs, shape)
            }
            quant @ InputQuant::Int8 { block, .. } => {
                let mut blocks = x.shape.clone();
                if let Some(n) = blocks.last_mut() {
                    *n = block.map_or(1, |b| n.div_ceil(b.max(1)));
                }
                let (q, a) = quantize(x, quant, &blocks)?;
                linear_int8(&q, &a, w, quant, shape)
            }
        },
        Slot::Weight { value, .. } => linear_dense(x, &value.dense(), shape),
        Slot::Tensor(w) => linear_dense(x, w, shape),
    }
}

/// The rows of x, each as long as those of the weight.
fn vectors<'a, T>(x: &'a [T], w: &[usize]) -> Result<std::slice::ChunksExact<'a, T>, Fault> {
    match w {
        [_, k] if *k > 0 && x.len().is_multiple_of(*k) => Ok(x.chunks_exact(*k)),
        _ => Err(Fault::Shape(format!("a linear layer with a weight {w:?}"))),
    }
}

fn linear_dense(x: &Tensor, w: &Tensor, shape: &[usize]) -> Result<Tensor, Fault> {
    let weights = w.floats("linear")?;
    let mut out = Vec::with_capacity(shape.iter().product());
    for x in vectors(x.floats("linear")?, &w.shape)? {
        out.extend(weights.chunks_exact(x.len()).map(|w| lane_dot(w, x)));
    }
    Ok(Tensor::f32(shape, out))
}

/// Per group the lane-axis sum of code * x, for signs from the elements with +1, then its scale; groups ascending, the
/// first as it is.
fn linear_codes(x: &Tensor, w: &CodedWeight, signs: bool, shape: &[usize]) -> Result<Tensor, Fault> {
    let mut out = Vec::with_capacity(shape.iter().product());
    for x in vectors(x.floats("linear")?, &w.shape)? {
        // Of each group of inputs, the same for all rows.
        let sums: Option<Vec<f32>> = signs.then(|| x.chunks(w.scale_inputs()).map(lane_sum).collect());
        for row in 0..w.shape[0] {
            let (size, scales) = w.row_scales(row);
            let groups = w.row(row).chunks(size).zip(x.chunks(size)).enumerate();
            let product = |(group, (codes, x)): (usize, (&[i8], &[f32]))| match &sums {
                Some(sums) => lane_signs(codes.iter().map(|&c| c > 0), x, sums[group]),
                None => lane_dot_codes(codes, x),
            };
            let terms = groups.map(product).zip(scales).map(|(product, scale)| product * scale);
            out.push(terms.reduce(|sum, term| sum + term).unwrap_or(0.0));
        }
    }
    Ok(Tensor::f32(shape, out))
}

/// The int8 codes of x and the maxima of its blocks, in the shape `maxima`.
pub(super) fn quantize(x: &Tensor, quant: InputQuant, maxima: &[usize]) -> Result<(Tensor, Tensor), Fault> {
    let InputQuant::Int8 { block, floor, .. } = quant else {
        return Err(Fault::Shape("there is no quantisation of the input".into()));
    };
    let v = x.floats("the quantiser")?;
    let n = x.shape.last().copied().unwrap_or(1).max(1);
    let block = block.unwrap_or(n).max(1);
    let mut codes = Vec::with_capacity(v.len());
    let mut a = Vec::with_capacity(maxima.iter().product());
    for x in v.chunks(n) {
        for x in x.chunks(block) {
            let most = quantise::block_maximum(x, floor);
            let s = quantise::factor(&mut Scalar, most);
            codes.extend(x.iter().map(|&x| quantise::int8(&mut Scalar, x, s) as i8));
            a.push(most);
        }
    }
    Ok((Tensor::new(&x.shape, Data::I8(codes)), Tensor::f32(maxima, a)))
}

/// The exact sum of products of codes.
fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).fold(0i32, |sum, (&a, &b)| sum.wrapping_add(i32::from(a) * i32::from(b)))
}

pub(super) fn linear_int8(
    q: &Tensor,
    a: &Tensor,
    w: &Slot,
    quant: InputQuant,
    shape: &[usize],
) -> Result<Tensor, Fault> {
    let (Data::I8(codes), maxima) = (&*q.data, a.floats("linear")?) else {
        return Err(q.wrong("an int8 product"));
    };
    let InputQuant::Int8 { block, undo, .. } = quant else {
        return Err(Fault::Shape("there is no quantisation of the input".into()));
    };
    let Slot::Weight { value: WeightValue::Coded(w), .. } = w else {
        return Err(Fault::Shape("an int8 product with a weight without codes".into()));
    };
    let vectors = vectors(codes, &w.shape)?;
    let blocks = maxima.len().checked_div(vectors.len()).unwrap_or(1).max(1);
    let mut out = Vec::with_capacity(shape.iter().product());
    for (q, a) in vectors.zip(maxima.chunks(blocks)) {
        let block = block.unwrap_or(q.len()).max(1);
        for row in 0..w.shape[0] {
            let (size, scales) = w.row_scales(row);
            let codes = w.row(row);
            if let ([a], [scale]) = (a, scales) {
                let factor = quantise::undo_factor(&mut Scalar, undo, *scale, *a);
                out.push(dot(codes, q) as f32 * factor);
                continue;
            }
            let mut total = None;
            let mut from = 0;
            while from < q.len() {
                let to = ((from / block + 1) * block).min((from / size + 1) * size).min(q.len());
                let acc = dot(&codes[from..to], &q[from..to]) as f32;
                let term = undo_block(undo, acc, scales[from / size], a[from / block]);
                total = Some(total.map_or(term, |sum: f32| sum + term));
                from = to;
            }
            out.push(total.unwrap_or(0.0));
        }
    }
    Ok(Tensor::f32(shape, out))
}

/// One of several terms: an integer sum over places that share a block of the input and a scale of the weight.
fn undo_block(undo: Undo, acc: f32, scale: f32, a: f32) -> f32 {
    match undo {
        Undo::Multiply => acc * (a / 127.0) * scale,
        Undo::Divide => acc * (scale / (127.0 / a)),
    }
}
