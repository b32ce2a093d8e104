//! Scans over caches, such as attention: first every row of a call pushes its entries, one after the other, then any
//! thread reads them for any row and head, each row with the number of entries that was there after its own push.
//!
//! [`split`] finds what can be taken apart so. The kernel of the pushes is an ordinary one that also notes the
//! counts; the kernel of the reads works on one head and on [`QUERIES`] rows of a stream at a time: products of all of
//! them with the entries ([`super::entry_products`]) read each entry once, and what lies between the products, a
//! softmax for instance, is emitted row by row like any other graph. How rows and heads are grouped never changes a
//! sum's order.

use rustc_hash::FxHashSet;

use super::NotCompiled;
use super::access::Buffer;
use super::emit::{Emit, Head, Loc, Sink};
use super::entry_products::{Product, Table, product};
use super::graph::{Act, Body, Graph, StepId, V};
use super::heads::{Heads, per_head};
use super::index::Ix;
use super::kernels::{Built, Context, Form, Frame, Place, Spec, open, row_buffer};
use crate::ir::{AxisId, Module, Op, StateId};
use crate::kernel::build::Builder;
use crate::kernel::ir::Value;
use crate::kernel::program::{Arg, Base};

/// Rows that read an entry together.
pub const QUERIES: usize = 4;
/// Chunks that one launch of reads is cut into at most; each has scratch of its own.
pub const PIECES: u32 = 64;

/// A scan taken apart.
pub struct Split {
    /// The pushes, without outputs.
    pushes: Spec,
    /// The whole graph, pushes standing for the entries they leave; body and outputs are those of the reads.
    reads: Spec,
    /// Axes that grow by one entry in each row.
    axes: Vec<AxisId>,
    /// The reads' graph is that of one head, if there are heads.
    heads: Option<Heads>,
}

/// Takes a scan apart, if its pushes do not depend on what it reads and entries are read in earnest.
pub fn split(spec: &Spec, context: &Context<'_>) -> Option<Split> {
    let (graph, module) = (&spec.graph, context.module);
    let mut axes: Vec<AxisId> = Vec::new();
    let mut used: Vec<AxisId> = Vec::new();
    let mut pushes: Vec<StepId> = Vec::new();
    let mut looks = false;
    for &id in &spec.body.steps {
        let Act::Op(op) = &graph.steps[id].act else { return None };
        let axis = |state: &StateId| module.state(*state).growing().map(|(_, axis)| axis);
        match op {
            Op::StateRead(state) | Op::StateWrite(state) | Op::Recent { state, .. } => used.push(axis(state)?),
            Op::Positions { state } => {
                used.push(axis(state)?);
                looks = true;
            }
            Op::Push { state } => {
                let axis = axis(state)?;
                used.push(axis);
                if !axes.contains(&axis) {
                    axes.push(axis);
                }
                pushes.push(id);
            }
            Op::Check { .. } | Op::Probe { .. } | Op::Host(_) | Op::QuantizeInput { .. } => return None,
            _ => looks |= graph.steps[id].inputs.iter().any(|&v| graph.ty(v).grows()),
        }
    }
    if !looks
        || spec.outputs.is_empty()
        || used.iter().any(|axis| !axes.contains(axis))
        || spec.outputs.iter().any(|(_, place)| place.row_stride == 0 || place.code_sum)
    {
        return None;
    }
    // What is pushed.
    let sources: Vec<V> = pushes.iter().flat_map(|&id| graph.steps[id].inputs[1..].to_vec()).collect();
    let making = needed(graph, &spec.body, &sources, &FxHashSet::default(), false);
    let reading = |id: &StepId| {
        matches!(
            graph.steps[*id].act,
            Act::Op(Op::StateRead(_) | Op::Push { .. } | Op::Positions { .. } | Op::Recent { .. })
        )
    };
    if making.iter().any(reading) {
        return None;
    }
    let before: Vec<V> = pushes.iter().map(|&id| graph.steps[id].inputs[0]).collect();
    if before.iter().any(|&v| !matches!(graph.def(v).map(|s| &s.act), Some(Act::Op(Op::StateRead(_))))) {
        return None;
    }
    let mut wanted: FxHashSet<StepId> = making.into_iter().chain(pushes.iter().copied()).collect();
    wanted.extend(before.iter().filter_map(|v| graph.defs[v.index()].map(|(id, _)| id)));
    let in_order = |wanted: &FxHashSet<StepId>| -> Vec<StepId> {
        spec.body.steps.iter().copied().filter(|id| wanted.contains(id)).collect()
    };
    let outputs: Vec<V> = spec.outputs.iter().map(|(v, _)| *v).collect();
    let reads = needed(graph, &spec.body, &outputs, &FxHashSet::default(), true);
    // A constant that is repeated along the entries has their number and reads none of them.
    if !reads.iter().any(reading) {
        return None;
    }
    let part = |name: &str, steps: Vec<StepId>, outputs: Vec<(V, Place)>| {
        let used: FxHashSet<V> = steps.iter().flat_map(|&id| graph.steps[id].inputs.iter().copied()).collect();
        let yielded: FxHashSet<V> = outputs.iter().map(|(v, _)| *v).collect();
        Spec {
            name: name.to_string(),
            graph: graph.clone(),
            body: Body { params: Vec::new(), results: outputs.iter().map(|(v, _)| *v).collect(), steps },
            inputs: spec.inputs.iter().filter(|(v, _)| used.contains(v) || yielded.contains(v)).cloned().collect(),
            outputs,
            ..spec.clone()
        }
    };
    let pushes = part("push", in_order(&wanted), Vec::new());
    let mut reads = part("read", reads, spec.outputs.clone());
    let heads = per_head(graph, &reads.body, &outputs, module);
    reads.frozen = true;
    if let Some(heads) = &heads {
        reads.graph = heads.graph.clone();
    }
    Some(Split { pushes, reads, axes, heads })
}

/// The steps that values need, in order; those of `done` give nothing more to do. Where pushes are `made`, what was
/// pushed is not needed for the entries.
fn needed(graph: &Graph, body: &Body, values: &[V], done: &FxHashSet<StepId>, made: bool) -> Vec<StepId> {
    let mut wanted: FxHashSet<V> = values.iter().copied().collect();
    let mut steps = Vec::new();
    for &id in body.steps.iter().rev() {
        let step = &graph.steps[id];
        if done.contains(&id) || !step.results.iter().any(|v| wanted.contains(v)) {
            continue;
        }
        steps.push(id);
        match &step.act {
            Act::Op(Op::Push { .. } | Op::Positions { .. }) if made => {}
            Act::Op(Op::Recent { .. }) => drop(wanted.insert(step.inputs[0])),
            _ => wanted.extend(step.inputs.iter().copied()),
        }
    }
    steps.reverse();
    steps
}

impl Split {
    /// Bytes of the counts of so many rows.
    pub fn count_bytes(&self, rows: usize) -> u64 {
        (rows * self.axes.len() * 4) as u64 + 64
    }

    /// The kernel of the pushes; `counts` is where the numbers of entries go.
    pub fn pushes<'a>(
        &'a self,
        context: &Context<'a>,
        messages: &'a mut Vec<String>,
        counts: u64,
    ) -> Result<Built, NotCompiled> {
        let spec = &self.pushes;
        let mut b = Builder::new(spec.name.clone());
        let (mut emit, mut frame) = open(&mut b, spec, context, messages);
        emit.count_stages(&spec.body, &[]);
        let target = b.rw("counts");
        frame.args.push(Arg::at(Base::Scratch, counts));
        let start = b.const_n(0);
        emit.each(&mut b, start, frame.rows, &mut |emit, b, row| {
            emit.enter_row(b, spec, &frame, row)?;
            emit.body(b, &spec.body, &[])?;
            let (pointer, offset) = row.times(4 * self.axes.len() as i64).address(b, target);
            for (i, axis) in self.axes.iter().enumerate() {
                let count = emit.counts[axis];
                b.store_n(pointer, offset + 4 * i as i32, count);
            }
            Ok(())
        })?;
        let scratch_bytes = emit.scratch_used;
        let (args, scratch) = (frame.args, frame.scratch_args);
        Ok(Built { kernel: b.finish(), args, scratch, scratch_bytes, form: Form::Serial })
    }

    /// The kernel of the reads.
    pub fn reads<'a>(
        &'a self,
        context: &Context<'a>,
        messages: &'a mut Vec<String>,
        counts: u64,
    ) -> Result<Built, NotCompiled> {
        let spec = &self.reads;
        let mut b = Builder::new(spec.name.clone());
        let (mut emit, mut frame) = open(&mut b, spec, context, messages);
        emit.frozen = true;
        emit.count_stages(&spec.body, &spec.body.results);
        let source = b.ro("counts");
        frame.args.push(Arg::at(Base::Scratch, counts));
        let stride = frame.state_stride.expect("states are read");
        let plan = Plan::new(self, context.module);
        let heads = self.heads.as_ref().map_or(1, |heads| heads.count);

        let (begin, end, rows) = (b.begin(), b.end(), frame.rows);
        let count = b.const_n(heads as i32);
        let units = b.mul(rows, count);
        // The launch's own rule (`Work::chunk`), so that each chunk finds its scratch.
        let grain = grain(context, self);
        let up = b.const_n(PIECES as i32 - 1);
        let up = b.add(units, up);
        let pieces = b.const_n(PIECES as i32);
        let chunk = b.udiv(up, pieces);
        let least = b.const_n(grain as i32);
        let chunk = b.smax(chunk, least);
        let number = b.udiv(begin, chunk);
        let last_piece = b.const_n(PIECES as i32 - 1);
        let number = b.smin(number, last_piece);
        let number = b.extend(number);
        let bytes = b.mul(number, frame.scratch_stride);
        emit.scratch = b.offset_by(frame.scratch, bytes);

        let one = b.const_n(1);
        let first = b.udiv(begin, rows);
        let last = b.sub(end, one);
        let last = b.udiv(last, rows);
        let after = b.add(last, one);
        let no_rows = b.const_l(0);
        let one_stream = b.eq(stride, no_rows);
        let mut scratch = 0;
        emit.each(&mut b, first, after, &mut |emit, b, head| {
            let zero = b.const_n(0);
            let number = head.scalar(b);
            let past = b.mul(number, rows);
            let from = b.sub(begin, past);
            let from = b.smax(from, zero);
            let from = b.smin(from, rows);
            let to = b.sub(end, past);
            let to = b.smin(to, rows);
            // Rows of one stream are read by tiles, others one by one.
            let all = b.sub(to, from);
            let all = b.smax(all, zero);
            let tiles = b.const_n(-(QUERIES as i32));
            let tiles = b.and(all, tiles);
            let tiles = b.and(tiles, one_stream);
            let middle = b.add(from, tiles);
            emit.head = self.heads.as_ref().map(|heads| Head { number: head.clone(), heads });
            for (range, queries) in [((from, middle, QUERIES as i32), QUERIES), ((middle, to, 1), 1)] {
                if queries > context.max_rows {
                    continue;
                }
                emit.scratch_used = 0;
                emit.fold(b, range, &[], &mut |emit, b, row, _| {
                    let (locs, grows) = (emit.locs.clone(), emit.grows.clone());
                    let tile =
                        Tile { split: self, plan: &plan, frame: &frame, counts: source, row: row.clone(), queries };
                    let result = tile.emit(emit, b);
                    emit.locs = locs;
                    emit.grows = grows;
                    result.map(|()| Vec::new())
                })?;
                scratch = scratch.max(emit.scratch_used);
            }
            Ok(())
        })?;
        let form = Form::Heads { heads: heads as u32, grain };
        Ok(Built { kernel: b.finish(), args: frame.args, scratch: frame.scratch_args, scratch_bytes: scratch, form })
    }
}

/// Units of a chunk at least: heads over short caches are little work.
fn grain(context: &Context<'_>, split: &Split) -> u32 {
    let longest = split.axes.iter().map(|&axis| super::state::reach(context.module, axis, context.max_context)).max();
    if longest.unwrap_or(0) <= 64 { 16 } else { 1 }
}

/// The products of a graph in levels: a product of level n needs products below n only.
struct Plan {
    /// Per level, from 1, its products with what their vectors need.
    levels: Vec<Vec<Product>>,
    /// Per level, from 0, the outputs that can be stored once its products are there.
    stores: Vec<Vec<usize>>,
    products: FxHashSet<StepId>,
}

impl Plan {
    fn new(split: &Split, module: &Module) -> Plan {
        let spec = &split.reads;
        let graph = &spec.graph;
        let mut plan = Plan { levels: Vec::new(), stores: Vec::new(), products: FxHashSet::default() };
        let mut level_of = vec![0; graph.types.len()];
        for &id in &spec.body.steps {
            let step = &graph.steps[id];
            let below = step.inputs.iter().map(|v| level_of[v.index()]).max().unwrap_or(0);
            let entries = matches!(step.act, Act::Op(Op::Push { .. } | Op::StateRead(_) | Op::Positions { .. }));
            let mut level = if entries { 0 } else { below };
            if let Some(product) = product(graph, id, module, split.heads.as_ref()) {
                level += 1;
                plan.products.insert(id);
                while plan.levels.len() < level {
                    plan.levels.push(Vec::new());
                }
                plan.levels[level - 1].push(product);
            }
            for v in &step.results {
                level_of[v.index()] = level;
            }
        }
        plan.stores = vec![Vec::new(); plan.levels.len() + 1];
        for (i, (v, _)) in spec.outputs.iter().enumerate() {
            plan.stores[level_of[v.index()]].push(i);
        }
        plan
    }
}

/// Some rows of one head.
struct Tile<'t> {
    split: &'t Split,
    plan: &'t Plan,
    frame: &'t Frame,
    counts: Value,
    row: Ix,
    queries: usize,
}

impl<'t> Tile<'t> {
    fn emit(&self, emit: &mut Emit<'t>, b: &mut Builder) -> Result<(), NotCompiled> {
        let mut tables: Vec<Vec<Table>> = Vec::new();
        for products in &self.plan.levels {
            tables.push(products.iter().map(|p| Table::new(emit, b, p, self.queries)).collect());
        }
        for level in 0..=self.plan.levels.len() {
            self.rows(emit, b, level, &tables)?;
            let Some(products) = self.plan.levels.get(level) else { break };
            emit.enter_states(b, self.frame, &self.row);
            for (product, table) in products.iter().zip(&tables[level]) {
                let mut counts = Vec::new();
                for query in 0..self.queries {
                    self.enter_counts(emit, b, &self.row.offset(query as i64));
                    counts.push(emit.frozen_count(b, product.axis, product.pushed));
                }
                table.run(emit, b, product, &counts)?;
            }
        }
        Ok(())
    }

    /// What lies above the products of one level: the vectors of the next one, and outputs.
    fn rows(
        &self,
        emit: &mut Emit<'t>,
        b: &mut Builder,
        level: usize,
        tables: &[Vec<Table>],
    ) -> Result<(), NotCompiled> {
        let spec = &self.split.reads;
        let vectors = self.plan.levels.get(level).map_or(&[][..], |p| p.as_slice());
        let stores = &self.plan.stores[level];
        if vectors.is_empty() && stores.is_empty() {
            return Ok(());
        }
        let outputs = stores.iter().map(|&i| spec.outputs[i].0);
        let wanted: Vec<V> = vectors.iter().map(|p| p.vector).chain(outputs).collect();
        let steps = needed(&spec.graph, &spec.body, &wanted, &self.plan.products, true);
        let (start, end) = (b.const_n(0), b.const_n(self.queries as i32));
        emit.each(b, start, end, &mut |emit, b, query| {
            let (locs, grows) = (emit.locs.clone(), emit.grows.clone());
            let row = self.row.plus(query);
            self.enter_counts(emit, b, &row);
            emit.enter_states(b, self.frame, &row);
            for ((v, place), &pointer) in spec.inputs.iter().zip(&self.frame.inputs) {
                let buffer = self.buffer(emit, *v, place, pointer, &row);
                emit.locs[v.index()] = Some(Loc::Buf(buffer));
            }
            for (products, tables) in self.plan.levels[..level].iter().zip(tables) {
                for (product, table) in products.iter().zip(tables) {
                    table.give_result(emit, b, product, query);
                }
            }
            for &id in &steps {
                emit.single(b, id)?;
            }
            let mut sinks: Vec<Sink> = Vec::new();
            for (i, product) in vectors.iter().enumerate() {
                let buffer = tables[level][i].vector(query);
                sinks.push(Sink { value: product.vector, buffer, padded: true });
            }
            for &i in stores {
                let (v, place) = &spec.outputs[i];
                let buffer = self.buffer(emit, *v, place, self.frame.outputs[i], &row);
                sinks.push(Sink { value: *v, buffer, padded: self.split.heads.is_none() });
            }
            for sink in sinks {
                emit.store_all(b, &[sink])?;
            }
            emit.locs = locs;
            emit.grows = grows;
            Ok(())
        })
    }

    fn enter_counts(&self, emit: &mut Emit<'t>, b: &mut Builder, row: &Ix) {
        let (pointer, offset) = row.times(4 * self.split.axes.len() as i64).address(b, self.counts);
        for (i, &axis) in self.split.axes.iter().enumerate() {
            let count = b.load_n(pointer, offset + 4 * i as i32);
            // The row has pushed an entry of its own.
            let count = emit.bounded_count(b, axis, count, 1);
            emit.counts.insert(axis, count);
        }
    }

    /// A row of an input or output; of one that has heads, the part of this head.
    fn buffer(&self, emit: &Emit<'_>, v: V, place: &Place, pointer: Value, row: &Ix) -> Buffer {
        let whole = row_buffer(&self.split.pushes.graph, v, pointer, place, row);
        emit.of_head(v, whole.expect("what lies between kernels does not grow"))
    }
}
