//! Reductions of one axis, and the choice of the largest.

use super::error::Fault;
use super::tensor::Tensor;
use crate::ir::{Data, ReduceOp};
use crate::numerics::reduce::{LaneSum, ascending_sum, lane_max, lane_min, lane_sum};
use crate::numerics::{Lanes, Scalar};

/// The extent of a reduction: for each of `outer` x `inner` results, `n` elements `inner` apart.
struct Extent {
    outer: usize,
    n: usize,
    inner: usize,
}

impl Extent {
    fn of(x: &Tensor, axis: usize) -> Extent {
        Extent {
            outer: x.shape[..axis].iter().product(),
            n: x.shape[axis],
            inner: x.shape[axis + 1..].iter().product(),
        }
    }

    /// One result per run of elements.
    fn each<T: Copy, R>(&self, v: &[T], f: impl Fn(&mut dyn Iterator<Item = T>) -> R) -> Vec<R> {
        let mut out = Vec::with_capacity(self.outer * self.inner);
        for o in 0..self.outer {
            for i in 0..self.inner {
                let base = o * self.n * self.inner + i;
                out.push(f(&mut (0..self.n).map(|k| v[base + k * self.inner])));
            }
        }
        out
    }
}

/// `start` is given if the axis is the last and grows: fixed places, then pushes before the first entry kept.
pub(super) fn reduce(
    op: ReduceOp,
    x: &Tensor,
    axis: usize,
    start: Option<(usize, usize)>,
    shape: &[usize],
) -> Result<Tensor, Fault> {
    let e = Extent::of(x, axis);
    let last = axis + 1 == x.shape.len();
    macro_rules! integers {
        ($v:expr, $variant:ident, $t:ty) => {
            Data::$variant(match op {
                ReduceOp::Sum => e.each($v, |r| r.fold(0, <$t>::wrapping_add)),
                ReduceOp::Max => e.each($v, |r| r.fold(<$t>::MIN, <$t>::max)),
                ReduceOp::Min => e.each($v, |r| r.fold(<$t>::MAX, <$t>::min)),
                _ => return Err(x.wrong("reduce")),
            })
        };
    }
    let data = match (op, &*x.data) {
        (ReduceOp::ArgMax, Data::F32(v)) => Data::I32(e.each(v, |r| argmax(r, f32::NEG_INFINITY))),
        (ReduceOp::ArgMax, Data::I32(v)) => Data::I32(e.each(v, |r| argmax(r, i32::MIN))),
        (ReduceOp::ArgMax, Data::U32(v)) => Data::I32(e.each(v, |r| argmax(r, u32::MIN))),
        (ReduceOp::ArgMax, Data::U64(v)) => Data::I32(e.each(v, |r| argmax(r, u64::MIN))),
        (ReduceOp::ArgMax, Data::I8(v)) => Data::I32(e.each(v, |r| argmax(r, i8::MIN))),
        (ReduceOp::ArgMax, Data::U8(v)) => Data::I32(e.each(v, |r| argmax(r, u8::MIN))),
        (ReduceOp::Any, Data::Bool(v)) => Data::Bool(e.each(v, |r| r.fold(false, |a, b| a | b))),
        (ReduceOp::Count, Data::Bool(v)) => Data::I32(e.each(v, |r| r.filter(|b| *b).count() as i32)),
        (ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min, Data::F32(v)) if last => {
            let (plus, first) = start.unwrap_or((0, 0));
            let runs = (0..e.outer).map(|o| v[o * e.n..][..e.n].split_at(plus.min(e.n)));
            Data::F32(runs.map(|(fixed, entries)| lanes(op, fixed, plus + first, entries)).collect())
        }
        (ReduceOp::Sum, Data::F32(v)) => Data::F32(e.each(v, |r| ascending_sum(r))),
        (ReduceOp::Max, Data::F32(v)) => Data::F32(e.each(v, |r| r.fold(f32::NEG_INFINITY, |a, b| Scalar.pmax(a, b)))),
        (ReduceOp::Min, Data::F32(v)) => Data::F32(e.each(v, |r| r.fold(f32::INFINITY, |a, b| Scalar.pmin(a, b)))),
        (_, Data::I32(v)) => integers!(v, I32, i32),
        (_, Data::U32(v)) => integers!(v, U32, u32),
        (_, Data::U64(v)) => integers!(v, U64, u64),
        (_, Data::I8(v)) => integers!(v, I8, i8),
        (_, Data::U8(v)) => integers!(v, U8, u8),
        _ => return Err(x.wrong("reduce")),
    };
    Ok(Tensor::new(shape, data))
}

/// A lane-axis reduction of fixed places and then entries whose first has the absolute place `start`.
fn lanes(op: ReduceOp, fixed: &[f32], start: usize, entries: &[f32]) -> f32 {
    let joined = |f: fn(usize, &[f32]) -> f32, identity: f32| {
        if fixed.is_empty() {
            return f(start, entries);
        }
        let mut all = fixed.to_vec();
        all.resize(fixed.len() + (start - fixed.len()) % 16, identity);
        all.extend_from_slice(entries);
        f(0, &all)
    };
    match op {
        ReduceOp::Max => joined(lane_max, f32::NEG_INFINITY),
        ReduceOp::Min => joined(lane_min, f32::INFINITY),
        _ if fixed.is_empty() && start == 0 => lane_sum(entries),
        _ => {
            let mut sum = LaneSum::default();
            sum.add(0, fixed);
            sum.add(start, entries);
            sum.total()
        }
    }
}

/// The lowest index of the largest; 0 if nothing is above `least`.
fn argmax<T: PartialOrd + Copy>(run: &mut dyn Iterator<Item = T>, least: T) -> i32 {
    let mut best = (0, least);
    for (i, v) in run.enumerate() {
        if best.1 < v {
            best = (i as i32, v);
        }
    }
    best.0
}

/// Indices of the k largest of a run, best first, ties to the lower index; -infinity and NaN are never chosen.
fn largest(run: &[f32], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..run.len()).filter(|&i| run[i] > f32::NEG_INFINITY).collect();
    order.sort_by(|&i, &j| {
        let descending = run[j].partial_cmp(&run[i]);
        descending.unwrap_or(std::cmp::Ordering::Equal).then(i.cmp(&j))
    });
    order.truncate(k);
    order
}

pub(super) fn top_k(x: &Tensor, k: usize, shape: &[usize]) -> Result<(Tensor, Tensor), Fault> {
    let v = x.floats("top_k")?;
    let n = x.shape.last().copied().unwrap_or(1);
    let count: usize = shape.iter().product();
    let (mut values, mut indices) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for r in 0..count.checked_div(k).unwrap_or(0) {
        let run = &v[r * n..][..n];
        let chosen = largest(run, k);
        values.extend(chosen.iter().map(|&i| run[i]));
        indices.extend(chosen.iter().map(|&i| i as i32));
        values.resize((r + 1) * k, f32::NEG_INFINITY);
        indices.resize((r + 1) * k, -1);
    }
    Ok((Tensor::f32(shape, values), Tensor::i32(shape, indices)))
}

pub(super) fn top_mask(x: &Tensor, k: usize) -> Result<Tensor, Fault> {
    let v = x.floats("top_mask")?;
    let n = x.shape.last().copied().unwrap_or(1).max(1);
    let mut mask = vec![false; v.len()];
    for (run, mask) in v.chunks(n).zip(mask.chunks_mut(n)) {
        for i in largest(run, k) {
            mask[i] = true;
        }
    }
    Ok(Tensor::bool(&x.shape, mask))
}
