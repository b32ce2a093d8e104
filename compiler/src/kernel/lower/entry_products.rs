//! Products of the entries of a cache with vectors of several rows: the dot product of each entry with a row's vector
//! (scores), and the sum of the entries weighted by a row's numbers (a mixture). Rows that see the same entries share
//! each load of one.
//!
//! Orders of summation are those of `matmul` (spec/numerics.md): 16 partials by lane for a dot product, entries
//! ascending for a mixture. Entries are counted absolutely here; a row's numbers lie where the dense places of
//! [`super::cache`] say.

use super::NotCompiled;
use super::access::{Buffer, mem};
use super::emit::{Emit, Loc};
use super::graph::{Act, Graph, StepId, V};
use super::heads::Heads;
use super::index::Ix;
use crate::ir::{AxisId, Dim, Elem, Module, Op, StateId};
use crate::kernel::build::Builder;
use crate::kernel::ir::{LANES, Mem, Value};

/// Strips of a vector that are multiplied without a loop.
const UNROLLED: usize = 8;

/// What is computed of entries and a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The dot product of each entry with the vector.
    Scores,
    /// The sum of the entries, weighted by the vector.
    Mixture,
}

/// A product of a state's entries with a vector of each row.
#[derive(Clone, Debug)]
pub struct Product {
    pub kind: Kind,
    pub state: StateId,
    pub axis: AxisId,
    /// Whether the entry of the row itself is among them.
    pub pushed: bool,
    pub vector: V,
    pub result: V,
    /// Elements of an entry.
    pub width: usize,
}

/// The product that a step is, if it is one.
pub fn product(graph: &Graph, id: StepId, module: &Module, heads: Option<&Heads>) -> Option<Product> {
    let step = &graph.steps[id];
    let Act::Op(Op::MatMul { batch: 0 }) = step.act else { return None };
    let (x, y) = (step.inputs[0], step.inputs[1]);
    let (kind, table, vector) = match (graph.ty(x).rank(), graph.ty(y).rank()) {
        (2, 1) => (Kind::Scores, x, y),
        (1, 2) => (Kind::Mixture, y, x),
        _ => return None,
    };
    let [Dim::Grow { axis, plus: 0 }, Dim::Const(width)] = graph.ty(table).shape[..] else { return None };
    let vector_grows = matches!(graph.ty(vector).shape[..], [Dim::Grow { axis: a, plus: 0 }] if a == axis);
    if width == 0 || graph.ty(vector).elem != Elem::F32 || vector_grows != (kind == Kind::Mixture) {
        return None;
    }
    let (state, pushed) = match graph.def(table)?.act {
        Act::Op(Op::Push { state }) => (state, true),
        Act::Op(Op::StateRead(state)) => (state, false),
        _ => return None,
    };
    let sliced = heads.is_some_and(|h| h.states.contains(&state));
    let (at, own) = module.state(state).growing()?;
    (own == axis && at == usize::from(sliced)).then_some(Product {
        kind,
        state,
        axis,
        pushed,
        vector,
        result: step.results[0],
        width,
    })
}

/// The vectors and results of a product for the rows of a tile.
pub struct Table {
    vectors: Buffer,
    results: Buffer,
}

/// A row's part in a product.
#[derive(Clone, Copy)]
struct Query {
    vector: Value,
    result: Value,
    /// Absolute numbers of the first entry and of the one after the last.
    begin: Value,
    end: Value,
    /// What absolute numbers are above dense places.
    gap: Option<Value>,
}

impl Table {
    /// Memory for so many rows.
    pub fn new(emit: &mut Emit<'_>, b: &mut Builder, product: &Product, queries: usize) -> Table {
        let entries = emit.most(Dim::Grow { axis: product.axis, plus: 0 });
        let width = product.width.next_multiple_of(LANES);
        let (from, to) = match product.kind {
            Kind::Scores => (width, entries),
            Kind::Mixture => (entries, width),
        };
        let vectors = emit.allocate_shape(b, Elem::F32, &[queries, from]);
        let results = emit.allocate_shape(b, Elem::F32, &[queries, to]);
        Table { vectors, results }
    }

    /// The vector of a row.
    pub fn vector(&self, query: &Ix) -> Buffer {
        self.vectors.place_of_first(query)
    }

    /// Gives the value of the product its place for a row.
    pub fn give_result(&self, emit: &mut Emit<'_>, b: &mut Builder, product: &Product, query: &Ix) {
        emit.locs[product.result.index()] = Some(Loc::Buf(self.results.place_of_first(query)));
        if product.kind == Kind::Scores {
            let count = emit.frozen_count(b, product.axis, product.pushed);
            let grow = emit.grow(b, product.axis, count, 0);
            emit.grows.insert(product.result, grow);
        }
    }

    /// Computes the product for rows that know of so many entries.
    pub fn run(
        &self,
        emit: &mut Emit<'_>,
        b: &mut Builder,
        product: &Product,
        counts: &[Value],
    ) -> Result<(), NotCompiled> {
        let mut queries = Vec::new();
        let mut entries = None;
        for (i, &count) in counts.iter().enumerate() {
            let Some((buffer, _, grow)) = emit.entries(b, product.state, count) else { continue };
            entries = Some(buffer);
            let zero = b.const_n(0);
            let begin = match (grow.low, grow.gap) {
                (Some(low), Some(gap)) => b.add(low, gap),
                _ => zero,
            };
            queries.push(Query {
                vector: pointer_of(b, &self.vectors.place_of_first(&Ix::constant(i as i64))),
                result: pointer_of(b, &self.results.place_of_first(&Ix::constant(i as i64))),
                begin,
                end: count,
                gap: grow.gap,
            });
        }
        let Some(buffer) = entries else { return Ok(()) };
        let ring = &emit.states.axes[&product.axis];
        let entries = Entries {
            pointer: pointer_of(b, &buffer),
            stride: buffer.strides[0],
            mem: mem(buffer.elem, true),
            width: product.width,
            ring: ring.ring,
            slots: ring.slots as i32,
            reach: super::state::reach(emit.module, product.axis, emit.max_context) as i32,
            places: emit.most(Dim::Grow { axis: product.axis, plus: 0 }) as i32,
        };
        if product.kind == Kind::Mixture {
            let zero = b.const_f(0.0);
            for query in &queries {
                for strip in 0..product.width.div_ceil(LANES) {
                    b.store_f(query.result, (strip * LANES * 4) as i32, zero);
                }
            }
        }
        if let [query] = queries[..] {
            entries.segment(b, product.kind, (query.begin, query.end), &queries);
            return Ok(());
        }
        let fold = |b: &mut Builder, of: fn(&Query) -> Value, max: bool| {
            let mut all = queries.iter().map(of);
            let first = all.next().expect("a tile has rows");
            all.fold(first, |a, c| if max { b.smax(a, c) } else { b.smin(a, c) })
        };
        // What all rows see, and for each row what lies before and behind.
        let from = fold(b, |q| q.begin, true);
        let to = fold(b, |q| q.end, false);
        let to = b.smax(from, to);
        if entries.ring {
            self.each(b, &queries, &mut |b, query| {
                let end = b.smin(from, query.end);
                entries.segment(b, product.kind, (query.begin, end), &[query]);
            });
        }
        entries.segment(b, product.kind, (from, to), &queries);
        self.each(b, &queries, &mut |b, query| entries.segment(b, product.kind, (to, query.end), &[query]));
        Ok(())
    }

    /// Runs `body` for each row, in a loop so that its code is there once.
    fn each(&self, b: &mut Builder, queries: &[Query], body: &mut dyn FnMut(&mut Builder, Query)) {
        let table = b.stack(64 * queries.len() as u32);
        for (i, query) in queries.iter().enumerate() {
            b.store_n(table, 64 * i as i32, query.begin);
            b.store_n(table, 64 * i as i32 + 4, query.end);
            if let Some(gap) = query.gap {
                b.store_n(table, 64 * i as i32 + 8, gap);
            }
        }
        b.for_n(queries.len() as i32, |b, i| {
            let row = b.index(table, i, 64);
            let vector = self.vectors.place_of_first(&Ix::value(i));
            let result = self.results.place_of_first(&Ix::value(i));
            let query = Query {
                vector: pointer_of(b, &vector),
                result: pointer_of(b, &result),
                begin: b.load_n(row, 0),
                end: b.load_n(row, 4),
                gap: queries[0].gap.map(|_| b.load_n(row, 8)),
            };
            body(b, query);
        });
    }
}

fn pointer_of(b: &mut Builder, buffer: &Buffer) -> Value {
    let (pointer, offset) = buffer.base.address(b, buffer.pointer);
    b.offset(pointer, i64::from(offset))
}

/// The entries of one head.
struct Entries {
    pointer: Value,
    /// Bytes from one entry to the next.
    stride: i64,
    mem: Mem,
    width: usize,
    /// Whether older entries are overwritten.
    ring: bool,
    /// Entries there is room for.
    slots: i32,
    /// Entries that one row sees at most, and the places of its numbers for them.
    reach: i32,
    places: i32,
}

/// Where a run of entries meets a row: the vector and the results, each at the run's first entry if it has one number
/// per entry.
type Meeting = (Value, Value);

impl Entries {
    /// The product of the entries `from..to`, none if there are none, with the vectors of rows that all see them.
    /// Segments come from a table in memory; clamps say again what holds of them.
    fn segment(&self, b: &mut Builder, kind: Kind, (from, to): (Value, Value), queries: &[Query]) {
        let all = b.sub(to, from);
        let all = b.clamp(all, 0, self.reach);
        let slots = b.const_n(self.slots);
        if !self.ring {
            let zero = b.const_n(0);
            let last = b.sub(slots, all);
            let from = b.smin(from, last);
            let from = b.smax(from, zero);
            let rows = b.index(self.pointer, from, self.stride);
            return self.run(b, kind, (rows, from, all), queries);
        }
        // Up to the end of the ring, and from its start on.
        let slot = b.urem(from, slots);
        let room = b.sub(slots, slot);
        let first = b.smin(all, room);
        b.for_n(2, |b, part| {
            let (second, zero) = (b.sub(all, first), b.const_n(0));
            let slot = b.select(part, zero, slot);
            let begin = b.add(from, first);
            let begin = b.select(part, begin, from);
            let count = b.select(part, second, first);
            let rows = b.index(self.pointer, slot, self.stride);
            self.run(b, kind, (rows, begin, count), queries);
        });
    }

    /// The product of `count` entries that lie behind each other, the first of them with this absolute number.
    fn run(&self, b: &mut Builder, kind: Kind, (rows, begin, count): (Value, Value, Value), queries: &[Query]) {
        let meetings: Vec<Meeting> = queries
            .iter()
            .map(|query| {
                let place = match query.gap {
                    Some(gap) => {
                        let (place, places) = (b.sub(begin, gap), b.const_n(self.places));
                        let (last, zero) = (b.sub(places, count), b.const_n(0));
                        let place = b.smin(place, last);
                        b.smax(place, zero)
                    }
                    None => begin,
                };
                match kind {
                    Kind::Scores => (query.vector, b.index(query.result, place, 4)),
                    Kind::Mixture => (b.index(query.vector, place, 4), query.result),
                }
            })
            .collect();
        match kind {
            Kind::Scores => self.scores(b, rows, count, &meetings),
            Kind::Mixture => self.mixture(b, rows, count, &meetings),
        }
    }

    /// Dot products: two sums at a time, of two rows with one entry or of one row with two.
    fn scores(&self, b: &mut Builder, rows: Value, count: Value, meetings: &[Meeting]) {
        let zero = b.const_n(0);
        let one = |entries: &Entries, b: &mut Builder, k: Value| {
            let entry = b.index(rows, k, entries.stride);
            for pair in meetings.chunks(2) {
                let vectors: Vec<Value> = pair.iter().map(|m| m.0).collect();
                let sums = entries.dots(b, &[entry], &vectors);
                for (sum, meeting) in sums.into_iter().zip(pair) {
                    let target = b.index(meeting.1, k, 4);
                    b.store_s(target, 0, sum);
                }
            }
        };
        if let [(vector, result)] = *meetings {
            let even = b.const_n(-2);
            let even = b.and(count, even);
            b.loop_carried((zero, even, 2), &[], |b, k, _| {
                let first = b.index(rows, k, self.stride);
                let second = b.offset(first, self.stride);
                let sums = self.dots(b, &[first, second], &[vector]);
                let target = b.index(result, k, 4);
                b.store_s(target, 0, sums[0]);
                b.store_s(target, 4, sums[1]);
                Vec::new()
            });
            b.for_each(even, count, |b, k| one(self, b, k));
        } else {
            b.for_each(zero, count, |b, k| one(self, b, k));
        }
    }

    /// The dot products of each entry with each vector, entry by entry.
    fn dots(&self, b: &mut Builder, entries: &[Value], vectors: &[Value]) -> Vec<Value> {
        let bytes = self.mem.element_bytes();
        let zero = b.const_f(0.0);
        let mut sums = vec![zero; entries.len() * vectors.len()];
        let (whole, tail) = (self.width / LANES, self.width % LANES);
        let multiply = |b: &mut Builder, sums: &[Value], entry: &[Value], vector: &[Value], at: usize, mask| {
            let entry: Vec<Value> = entry.iter().map(|&e| b.load(self.mem, e, (at * bytes) as i32)).collect();
            let vector: Vec<Value> = vector.iter().map(|&v| b.load_f(v, (at * 4) as i32)).collect();
            let mut next = Vec::new();
            for (i, &e) in entry.iter().enumerate() {
                for (j, &v) in vector.iter().enumerate() {
                    let mut product = b.mul(e, v);
                    if let Some(mask) = mask {
                        product = b.select(mask, product, zero);
                    }
                    next.push(b.add(sums[i * vector.len() + j], product));
                }
            }
            next
        };
        if whole <= UNROLLED {
            for strip in 0..whole {
                sums = multiply(b, &sums, entries, vectors, strip * LANES, None);
            }
        } else {
            sums = b.fold_n(whole as i32, &sums, |b, strip, sums| {
                let entry: Vec<Value> = entries.iter().map(|&e| b.index(e, strip, (LANES * bytes) as i64)).collect();
                let vector: Vec<Value> = vectors.iter().map(|&v| b.index(v, strip, (LANES * 4) as i64)).collect();
                multiply(b, sums, &entry, &vector, 0, None)
            });
        }
        if tail > 0 {
            let n = b.const_n(tail as i32);
            let mask = b.lane_mask(n);
            sums = multiply(b, &sums, entries, vectors, whole * LANES, Some(mask));
        }
        sums.into_iter().map(|sum| b.red_add(sum)).collect()
    }

    /// Weighted sums: two strips of results stay in registers while all entries pass, of two rows or of one.
    fn mixture(&self, b: &mut Builder, rows: Value, count: Value, meetings: &[Meeting]) {
        let strips = self.width.div_ceil(LANES);
        let wide = if meetings.len() == 1 { 2 } else { 1 };
        let pass = |b: &mut Builder, strip: Value, wide: usize| {
            let column = b.index(rows, strip, (LANES * self.mem.element_bytes()) as i64);
            for pair in meetings.chunks(2) {
                let targets: Vec<Value> = pair.iter().map(|m| b.index(m.1, strip, (LANES * 4) as i64)).collect();
                let places: Vec<(Value, usize)> =
                    targets.iter().flat_map(|&t| (0..wide).map(move |w| (t, w))).collect();
                let sums: Vec<Value> = places.iter().map(|&(t, w)| b.load_f(t, (w * LANES * 4) as i32)).collect();
                let zero = b.const_n(0);
                let sums = b.loop_carried((zero, count, 1), &sums, |b, k, sums| {
                    let entry = b.index(column, k, self.stride);
                    let values: Vec<Value> = (0..wide)
                        .map(|w| b.load(self.mem, entry, (w * LANES * self.mem.element_bytes()) as i32))
                        .collect();
                    let mut next = Vec::new();
                    for (i, meeting) in pair.iter().enumerate() {
                        let weight = b.index(meeting.0, k, 4);
                        let weight = b.load_s(weight, 0);
                        let weight = b.splat(weight);
                        for (w, &value) in values.iter().enumerate() {
                            let product = b.mul(weight, value);
                            next.push(b.add(sums[i * wide + w], product));
                        }
                    }
                    next
                });
                for (&(t, w), sum) in places.iter().zip(sums) {
                    b.store_f(t, (w * LANES * 4) as i32, sum);
                }
            }
        };
        let pairs = strips / wide * wide;
        let (start, end) = (b.const_n(0), b.const_n(pairs as i32));
        b.loop_carried((start, end, wide as i32), &[], |b, strip, _| {
            pass(b, strip, wide);
            Vec::new()
        });
        if pairs < strips {
            let strip = b.const_n(pairs as i32);
            pass(b, strip, 1);
        }
    }
}
