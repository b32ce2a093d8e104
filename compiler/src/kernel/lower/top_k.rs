//! The k largest of an axis, ties by the lower index.
//!
//! A few are found in one sweep: a strip none of whose elements is above the k-th so far is passed over, others are
//! inserted one by one. Many are found one after the other.

use super::NotCompiled;
use super::emit::{Emit, Loc};
use super::graph::{Step, V};
use super::index::Ix;
use super::loops::Len;
use crate::ir::{Dim, Elem};
use crate::kernel::build::Builder;
use crate::kernel::ir::{LANES, Reduce, Value};

/// The most that one sweep finds; it carries all of them in registers.
const FEW: usize = 8;

impl<'a> Emit<'a> {
    /// The k largest with their indices.
    pub fn top_k(&mut self, b: &mut Builder, step: &Step, k: usize) -> Result<(), NotCompiled> {
        let (values, indices) = (step.results[0], step.results[1]);
        let value_buffer = self.allocate(b, values);
        let index_buffer = self.allocate(b, indices);
        self.search(b, step, k, &mut |emit, b, at, j, value, index, _| {
            let mut place = at.to_vec();
            place.push(j.clone());
            emit.store(b, &value_buffer, &place, value, None);
            emit.store(b, &index_buffer, &place, index, None);
            Ok(())
        })?;
        self.locs[values.index()] = Some(Loc::Buf(value_buffer));
        self.locs[indices.index()] = Some(Loc::Buf(index_buffer));
        Ok(())
    }

    /// True at the places of the k largest.
    pub fn top_mask(&mut self, b: &mut Builder, step: &Step, k: usize) -> Result<(), NotCompiled> {
        let v = step.results[0];
        let mask = self.allocate(b, v);
        let shape = self.graph.ty(v).shape.clone();
        let grow = self.extent(b, v);
        let lens = self.lens(&shape, grow.as_ref())?;
        self.nest(b, &lens, &[], &mut |emit, b, at| {
            let no = b.const_n(0);
            emit.store(b, &mask, at, no, None);
            Ok(())
        })?;
        self.search(b, step, k, &mut |emit, b, at, _, _, index, place| {
            let zero = b.const_n(0);
            let there = b.le(zero, index);
            let mut target = at.to_vec();
            let place = b.smax(place, zero);
            target.push(Ix::value(place));
            let old = emit.load(b, &mask, &target, false);
            let value = b.or(old, there);
            emit.store(b, &mask, &target, value, None);
            Ok(())
        })?;
        self.locs[v.index()] = Some(Loc::Buf(mask));
        Ok(())
    }

    /// Finds the k largest one after the other; `found` gets place of the leading axes, rank, value, logical
    /// index and dense place, both -1 where there is none.
    #[allow(clippy::type_complexity)]
    fn search(
        &mut self,
        b: &mut Builder,
        step: &Step,
        k: usize,
        found: &mut dyn FnMut(&mut Emit<'a>, &mut Builder, &[Ix], &Ix, Value, Value, Value) -> Result<(), NotCompiled>,
    ) -> Result<(), NotCompiled> {
        let x = step.inputs[0];
        let ty = self.graph.ty(x).clone();
        if ty.elem != Elem::F32 {
            return self.fail(step.origin, format!("top_k of {}", ty.elem.name()));
        }
        self.ensure_buffer(b, x)?;
        let grow = self.extent(b, x);
        let lens = self.lens(&ty.shape, grow.as_ref())?;
        let (last, leading) = lens.split_last().expect("top_k has an axis");
        let most = match ty.shape.last() {
            Some(Dim::Const(n)) => *n,
            _ => {
                let one = ty.shape[ty.rank() - 1];
                self.most(one)
            }
        };
        if k <= FEW {
            return self.nest(b, leading, &[], &mut |emit, b, at| {
                let best = emit.few(b, x, last, at, k)?;
                for (rank, (value, place)) in best.into_iter().enumerate() {
                    let zero = b.const_n(0);
                    let index = emit.logical(b, last, &Ix::value(place));
                    let none = b.lt(place, zero);
                    let index = b.select(none, place, index);
                    found(emit, b, at, &Ix::constant(rank as i64), value, index, place)?;
                }
                Ok(())
            });
        }
        let taken = self.allocate_shape(b, Elem::U8, &[most]);
        self.nest(b, leading, &[], &mut |emit, b, at| {
            emit.ascending(b, last, &[], &mut |emit, b, i, _| {
                let no = b.const_n(0);
                emit.store(b, &taken, std::slice::from_ref(i), no, None);
                Ok(Vec::new())
            })?;
            let rounds = Len::Const(k);
            emit.ascending(b, &rounds, &[], &mut |emit, b, j, _| {
                let none = b.const_n(-1);
                let lowest = b.const_s(f32::NEG_INFINITY);
                let best = emit.ascending(b, last, &[lowest, none, none], &mut |emit, b, i, carried| {
                    let mut place = at.to_vec();
                    place.push(i.clone());
                    let value = emit.eval(b, x, &place, false)?;
                    let used = emit.load(b, &taken, std::slice::from_ref(i), false);
                    let zero = b.const_n(0);
                    let free = b.eq(used, zero);
                    // Neither -infinity nor NaN is ever above what was found.
                    let larger = b.lt(carried[0], value);
                    let take = b.and(larger, free);
                    let index = emit.logical(b, last, i);
                    let dense = i.scalar(b);
                    Ok(vec![
                        b.select(take, value, carried[0]),
                        b.select(take, index, carried[1]),
                        b.select(take, dense, carried[2]),
                    ])
                })?;
                let zero = b.const_n(0);
                let there = b.le(zero, best[2]);
                let mark = b.smax(best[2], zero);
                let old = emit.load(b, &taken, &[Ix::value(mark)], false);
                let new = b.or(old, there);
                emit.store(b, &taken, &[Ix::value(mark)], new, None);
                found(emit, b, at, j, best[0], best[1], best[2])?;
                Ok(Vec::new())
            })?;
            Ok(())
        })
    }

    /// The values and dense places of the k largest; -infinity and -1 where there is none.
    fn few(
        &mut self,
        b: &mut Builder,
        x: V,
        len: &Len,
        at: &[Ix],
        k: usize,
    ) -> Result<Vec<(Value, Value)>, NotCompiled> {
        let (lowest, none) = (b.const_s(f32::NEG_INFINITY), b.const_n(-1));
        let nothing = b.const_f(f32::NEG_INFINITY);
        let mut inits = vec![lowest; k];
        inits.extend(vec![none; k]);
        let strip_of = b.stack((LANES * 4) as u32);
        let best = self.strips(b, len, &inits, &mut |emit, b, base, tail, best| {
            let mut place = at.to_vec();
            place.push(base.clone());
            let strip = emit.eval(b, x, &place, true)?;
            let strip = emit.masked(b, tail, strip, nothing);
            let last = b.splat(best[k - 1]);
            // Neither -infinity nor NaN is ever above what was found.
            let above = b.lt(last, strip);
            let any = b.reduce(Reduce::IMin, above);
            let first = base.scalar(b);
            Ok(b.if_else(
                any,
                |b| {
                    b.store_f(strip_of, 0, strip);
                    b.fold_n(LANES as i32, best, |b, lane, best| {
                        let value = b.index(strip_of, lane, 4);
                        let value = b.load_s(value, 0);
                        let place = b.add(first, lane);
                        insert(b, best, value, place)
                    })
                },
                |_| best.to_vec(),
            ))
        })?;
        Ok((0..k).map(|i| (best[i], best[k + i])).collect())
    }
}

/// Values in falling order, then their places, with one more value: before all that are smaller, behind its equals.
fn insert(b: &mut Builder, best: &[Value], value: Value, place: Value) -> Vec<Value> {
    let k = best.len() / 2;
    let above: Vec<Value> = best[..k].iter().map(|&old| b.lt(old, value)).collect();
    let mut next = Vec::new();
    for (new, old) in [(value, &best[..k]), (place, &best[k..])] {
        for rank in 0..k {
            let here = if rank == 0 { new } else { b.select(above[rank - 1], old[rank - 1], new) };
            next.push(b.select(above[rank], here, old[rank]));
        }
    }
    next
}
