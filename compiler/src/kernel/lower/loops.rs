//! Loops over the places of an array: leading axes one by one, the last axis by strips of 16.

use super::NotCompiled;
use super::access::Tail;
use super::emit::Emit;
use super::growing::Grow;
use super::index::Ix;
use crate::ir::Dim;
use crate::kernel::build::Builder;
use crate::kernel::ir::{LANES, Value};

/// The extent of an axis.
#[derive(Clone, Debug)]
pub enum Len {
    Const(usize),
    Grow(Grow),
}

/// The body of a loop over places.
pub type PlaceFn<'f, 'a> = dyn FnMut(&mut Emit<'a>, &mut Builder, &[Ix]) -> Result<(), NotCompiled> + 'f;
/// The body of a loop over strips: place, lanes that count, carried values.
pub type StripFn<'f, 'a> =
    dyn FnMut(&mut Emit<'a>, &mut Builder, &Ix, Tail, &[Value]) -> Result<Vec<Value>, NotCompiled> + 'f;

impl<'a> Emit<'a> {
    /// The extents of a shape; growing axes have that of `grow`.
    pub fn lens(&self, shape: &[Dim], grow: Option<&Grow>) -> Result<Vec<Len>, NotCompiled> {
        shape
            .iter()
            .map(|dim| match (dim, grow) {
                (Dim::Const(n), _) => Ok(Len::Const(*n)),
                (_, Some(grow)) => Ok(Len::Grow(grow.clone())),
                _ => self.fail(self.origin, "a growing value that no state gives its length"),
            })
            .collect()
    }

    /// Runs `body` at every place of `lens`, row-major, with `at` in front.
    pub fn nest(
        &mut self,
        b: &mut Builder,
        lens: &[Len],
        at: &[Ix],
        body: &mut PlaceFn<'_, 'a>,
    ) -> Result<(), NotCompiled> {
        let Some((len, rest)) = lens.split_first() else {
            return body(self, b, at);
        };
        let mut place = at.to_vec();
        match len {
            Len::Const(0) => Ok(()),
            Len::Const(1) => {
                place.push(Ix::constant(0));
                self.nest(b, rest, &place, body)
            }
            Len::Const(n) => {
                let (start, end) = (b.const_n(0), b.const_n(*n as i32));
                self.each(b, start, end, &mut |emit, b, i| {
                    let mut place = place.clone();
                    place.push(i.clone());
                    emit.nest(b, rest, &place, body)
                })
            }
            Len::Grow(grow) => {
                let grow = grow.clone();
                self.each_entry(b, &grow, &mut |emit, b, i| {
                    let mut place = place.clone();
                    place.push(i.clone());
                    emit.nest(b, rest, &place, body)
                })
            }
        }
    }

    /// Runs `body` for each index.
    pub fn each(
        &mut self,
        b: &mut Builder,
        start: Value,
        end: Value,
        body: &mut dyn FnMut(&mut Emit<'a>, &mut Builder, &Ix) -> Result<(), NotCompiled>,
    ) -> Result<(), NotCompiled> {
        self.fold(b, (start, end, 1), &[], &mut |emit, b, i, _| {
            body(emit, b, i)?;
            Ok(Vec::new())
        })?;
        Ok(())
    }

    /// A loop that carries values.
    #[allow(clippy::type_complexity)]
    pub fn fold(
        &mut self,
        b: &mut Builder,
        range: (Value, Value, i32),
        inits: &[Value],
        body: &mut dyn FnMut(&mut Emit<'a>, &mut Builder, &Ix, &[Value]) -> Result<Vec<Value>, NotCompiled>,
    ) -> Result<Vec<Value>, NotCompiled> {
        let mut failure = None;
        let results = b.loop_carried(range, inits, |b, i, carried| {
            self.open();
            let result = body(self, b, &Ix::value(i), carried);
            self.close();
            result.unwrap_or_else(|problem| {
                failure = Some(problem);
                carried.to_vec()
            })
        });
        failure.map_or(Ok(results), Err)
    }

    /// Runs `body` for each strip of a last axis, carrying values.
    pub fn strips(
        &mut self,
        b: &mut Builder,
        len: &Len,
        inits: &[Value],
        body: &mut StripFn<'_, 'a>,
    ) -> Result<Vec<Value>, NotCompiled> {
        match len {
            Len::Const(n) => {
                let (whole, tail) = (n / LANES, n % LANES);
                let mut carried = inits.to_vec();
                if whole == 1 {
                    carried = body(self, b, &Ix::constant(0), Tail::All, &carried)?;
                } else if whole > 1 {
                    let range = (b.const_n(0), b.const_n((whole * LANES) as i32), LANES as i32);
                    carried = self.fold(b, range, &carried, &mut |emit, b, i, carried| {
                        emit.strip_starts.extend(i.terms.iter().map(|term| term.0));
                        body(emit, b, i, Tail::All, carried)
                    })?;
                }
                if tail > 0 {
                    let base = Ix::constant((whole * LANES) as i64);
                    let lanes = std::mem::replace(&mut self.live_lanes, tail);
                    let result = body(self, b, &base, Tail::First(tail), &carried);
                    self.live_lanes = lanes;
                    carried = result?;
                }
                Ok(carried)
            }
            Len::Grow(grow) => {
                let grow = grow.clone();
                let range = (b.const_n(0), grow.extent, LANES as i32);
                self.fold(b, range, inits, &mut |emit, b, i, carried| {
                    let mask = emit.entry_mask(b, &grow, i);
                    body(emit, b, i, Tail::Mask(mask), carried)
                })
            }
        }
    }

    /// Whether a place is known to be a multiple of 16, where a strip of an axis may start.
    pub fn starts_strip(&self, place: &Ix) -> bool {
        let lanes = LANES as i64;
        let whole = |&(value, factor): &(Value, i64)| factor % lanes == 0 || self.strip_starts.contains(&value);
        place.constant % lanes == 0 && place.terms.iter().all(whole)
    }

    /// The mask of a strip, none if all lanes count.
    pub fn mask(&mut self, b: &mut Builder, tail: Tail) -> Option<Value> {
        match tail {
            Tail::All => None,
            Tail::First(n) => {
                let n = b.const_n(n as i32);
                Some(b.lane_mask(n))
            }
            Tail::Mask(mask) => Some(mask),
        }
    }

    /// `value` where lanes count, else `neutral`.
    pub fn masked(&mut self, b: &mut Builder, tail: Tail, value: Value, neutral: Value) -> Value {
        match self.mask(b, tail) {
            Some(mask) => b.select(mask, value, neutral),
            None => value,
        }
    }
}
