//! The emitter of one kernel's work on one row: steps in order, each inlined into its users or stored.
//!
//! Elementwise steps and views are evaluated where they are used, strip by strip ([`super::eval`]), unless
//! several stages use them and they cost something; then they get a place in memory, like every other result.
//! Results without axes stay in registers.

use std::cell::Cell;

use rustc_hash::{FxHashMap, FxHashSet};

use super::NotCompiled;
use super::access::Buffer;
use super::graph::{Act, Body, Graph, Step, StepId, V};
use super::growing::Grow;
use super::heads::Heads;
use super::index::Ix;
use super::state::StateLayout;
use super::weights::WeightLayout;
use crate::ir::extents::Extents;
use crate::ir::{AxisId, Dim, Elem, Literal, Module, Op, OriginId, StateId, WeightId};
use crate::kernel::build::Builder;
use crate::kernel::ir::{LANES, Value};

/// More steps than this are not evaluated inside one another: the innermost get a place in memory, so that neither the
/// emitter nor the code it makes has to be as deep as a graph is long.
const DEEPEST: u32 = 64;

/// Where a value is.
#[derive(Clone, Debug)]
pub enum Loc {
    /// A scalar in a register.
    Reg(Value),
    Buf(Buffer),
    /// A weight of codes and scales.
    Packed(WeightId),
}

/// A stored result of a body.
#[derive(Clone, Debug)]
pub struct Sink {
    pub value: V,
    pub buffer: Buffer,
    /// Whether places behind the last element may be overwritten.
    pub padded: bool,
}

/// One place of the axis that a graph had in front.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    pub number: Ix,
    pub heads: &'a Heads,
}

/// Elements of one evaluation: value, place, whether 16 of them.
type MemoKey = (V, Vec<Ix>, bool);

/// Emits the steps of one kernel.
pub struct Emit<'a> {
    pub module: &'a Module,
    pub graph: &'a Graph,
    pub weights: &'a WeightLayout,
    pub states: &'a StateLayout,
    pub locs: Vec<Option<Loc>>,
    /// Values that were found not to need one element at a time.
    pub plain: Vec<Cell<bool>>,
    /// Steps inside one another in the inline evaluation of a value.
    pub depths: Vec<u32>,
    pub grows: FxHashMap<V, Grow>,
    /// How many stages use a value.
    pub stages: Vec<usize>,
    /// Which pushes values along growing axes have seen.
    pub extents: Extents<V>,
    pub weight_pointers: FxHashMap<WeightId, Value>,
    /// The scales of packed weights.
    pub scale_pointers: FxHashMap<WeightId, Value>,
    pub literal_pointers: Vec<(Literal, Value)>,
    /// Of the current row, the first instance.
    pub state_pointers: FxHashMap<StateId, Value>,
    /// Of the current row, the first instance: counter and positions.
    pub axis_pointers: FxHashMap<AxisId, (Value, Option<Value>)>,
    /// Pushes so far of the axes pushed to in the current body.
    pub counts: FxHashMap<AxisId, Value>,
    /// How many repeats around the kernel are loops of the driver.
    pub driver_loops: usize,
    /// Rounds of the repeats inside the kernel, outermost first.
    pub rounds: Vec<Ix>,
    pub status: Option<Value>,
    /// Codes of failed checks by message.
    pub messages: &'a mut Vec<String>,
    pub scratch: Value,
    pub scratch_used: u64,
    /// States written in this kernel and read in another body than the one that writes them.
    pub copied: Vec<StateId>,
    pub max_context: usize,
    /// Lanes of the current strip that exist; what must be fetched one by one is fetched for these only.
    pub live_lanes: usize,
    /// Indices of loops over strips: multiples of 16.
    pub strip_starts: FxHashSet<Value>,
    /// The step being emitted.
    pub origin: OriginId,
    /// Outputs of the kernel, which results may be computed right into.
    pub direct: FxHashMap<V, Buffer>,
    /// The sum of the codes that belong to a block maximum.
    pub code_sums: FxHashMap<V, Value>,
    /// Whether pushes have been made by another kernel, and entries are only read.
    pub frozen: bool,
    /// The place of the leading axis that is computed, in a graph without it.
    pub head: Option<Head<'a>>,
    /// Values that are a growing state's entries, where they lie in the state.
    pub entries_of: FxHashMap<V, StateId>,
    memo: Vec<FxHashMap<MemoKey, Value>>,
}

/// What the emitter of a kernel starts from.
pub struct Start<'a> {
    pub module: &'a Module,
    pub graph: &'a Graph,
    pub weights: &'a WeightLayout,
    pub states: &'a StateLayout,
    pub messages: &'a mut Vec<String>,
    pub max_context: usize,
    pub scratch: Value,
}

impl<'a> Emit<'a> {
    /// An emitter that knows no location yet.
    pub fn new(start: Start<'a>) -> Emit<'a> {
        let values = start.graph.types.len();
        Emit {
            module: start.module,
            graph: start.graph,
            weights: start.weights,
            states: start.states,
            locs: vec![None; values],
            plain: vec![Cell::new(false); values],
            depths: vec![0; values],
            grows: FxHashMap::default(),
            stages: vec![0; values],
            extents: Extents::default(),
            weight_pointers: FxHashMap::default(),
            scale_pointers: FxHashMap::default(),
            literal_pointers: Vec::new(),
            state_pointers: FxHashMap::default(),
            axis_pointers: FxHashMap::default(),
            counts: FxHashMap::default(),
            driver_loops: 0,
            rounds: Vec::new(),
            status: None,
            messages: start.messages,
            scratch: start.scratch,
            scratch_used: 0,
            copied: Vec::new(),
            max_context: start.max_context,
            live_lanes: LANES,
            strip_starts: FxHashSet::default(),
            origin: OriginId(0),
            direct: FxHashMap::default(),
            code_sums: FxHashMap::default(),
            frozen: false,
            head: None,
            entries_of: FxHashMap::default(),
            memo: vec![FxHashMap::default()],
        }
    }

    /// Opens a scope of evaluated elements, for a loop or a branch.
    pub fn open(&mut self) {
        self.memo.push(FxHashMap::default());
    }

    /// Forgets what was evaluated since [`Emit::open`].
    pub fn close(&mut self) {
        self.memo.pop();
    }

    /// An element that is already evaluated and still visible.
    pub fn recall(&self, v: V, at: &[Ix], wide: bool) -> Option<Value> {
        let key = (v, at.to_vec(), wide);
        self.memo.iter().rev().find_map(|scope| scope.get(&key).copied())
    }

    /// Remembers an evaluated element.
    pub fn remember(&mut self, v: V, at: &[Ix], wide: bool, value: Value) {
        let scope = self.memo.last_mut().expect("a scope is open");
        scope.insert((v, at.to_vec(), wide), value);
    }

    /// The error for something that has no kernel form.
    pub fn fail<T>(&self, origin: OriginId, what: impl Into<String>) -> Result<T, NotCompiled> {
        Err(NotCompiled { origin, what: what.into() })
    }

    /// The shape of a value that does not grow.
    pub fn shape(&self, v: V) -> Vec<usize> {
        self.graph.ty(v).constant_shape().expect("a shape without growing axes")
    }

    /// Memory for an array of the type of `v`, on the stack if small.
    pub fn allocate(&mut self, b: &mut Builder, v: V) -> Buffer {
        if let Some(output) = self.direct.get(&v) {
            return output.clone();
        }
        let ty = self.graph.ty(v).clone();
        let shape: Vec<usize> = ty.shape.iter().map(|dim| self.most(*dim)).collect();
        self.allocate_shape(b, ty.elem, &shape)
    }

    /// The largest extent of an axis inside a kernel.
    pub fn most(&self, dim: Dim) -> usize {
        match dim {
            Dim::Const(n) => n,
            Dim::Grow { axis, plus } => {
                let reach = super::state::reach(self.module, axis, self.max_context);
                (plus + reach).next_multiple_of(LANES) + LANES
            }
            Dim::Time => 1,
        }
    }

    /// Memory for an array of this shape.
    pub fn allocate_shape(&mut self, b: &mut Builder, elem: Elem, shape: &[usize]) -> Buffer {
        // Room for a whole vector behind the last element, and for a block of codes at int8 vectors.
        let size =
            super::access::array_bytes(elem, shape).next_multiple_of(64) + if elem == Elem::I8 { 512 } else { 64 };
        Buffer::array(self.room(b, size), elem, shape)
    }

    /// Memory for so many bytes, on the stack if few.
    pub fn room(&mut self, b: &mut Builder, size: usize) -> Value {
        if size <= 4096 {
            return b.stack(size as u32);
        }
        let at = self.scratch_used;
        self.scratch_used += size as u64;
        b.offset(self.scratch, at as i64)
    }

    /// Emits a body: its steps, then the stores of `sinks`, the states it writes and the numbers of pushes.
    pub fn body(&mut self, b: &mut Builder, body: &Body, sinks: &[Sink]) -> Result<(), NotCompiled> {
        for &id in &body.steps {
            self.single(b, id)?;
        }
        self.finish(b, body, sinks)?;
        self.finish_pushes(b, body)
    }

    /// Emits a round or an expert: what it leaves in registers or memory is forgotten, the steps' effects stay.
    pub fn inner_body(&mut self, b: &mut Builder, body: &Body, sinks: &[Sink]) -> Result<(), NotCompiled> {
        self.forgetting(b, |emit, b| emit.body(b, body, sinks))
    }

    /// Runs `work` and forgets what it leaves in registers and memory.
    pub fn forgetting<T>(&mut self, b: &mut Builder, work: impl FnOnce(&mut Self, &mut Builder) -> T) -> T {
        let (locs, grows) = (self.locs.clone(), self.grows.clone());
        let counts = self.counts.clone();
        self.open();
        let result = work(self, b);
        self.close();
        self.locs = locs;
        self.grows = grows;
        self.counts = counts;
        result
    }

    /// Emits one step.
    pub fn single(&mut self, b: &mut Builder, id: StepId) -> Result<(), NotCompiled> {
        let graph = self.graph;
        let step = &graph.steps[id];
        self.origin = step.origin;
        self.extents(b, step)?;
        let op = match &step.act {
            Act::Op(op) => op,
            Act::If { then, otherwise } => return self.branch(b, step, then, otherwise),
            Act::Repeat { first, max, body } => return self.repeat(b, step, *first, *max, body),
            Act::Experts { bodies } => return self.experts(b, step, bodies),
        };
        match op {
            Op::Constant(literal) => self.literal(step, literal),
            Op::Weight(weight) => self.weight(step, *weight),
            Op::Iota(_) => Ok(()),
            Op::Unary(_)
            | Op::Binary(_)
            | Op::Compare(_)
            | Op::Select
            | Op::Convert(_)
            | Op::Broadcast { .. }
            | Op::Reshape
            | Op::Permute { .. }
            | Op::Slice { .. }
            | Op::Gather { .. }
            | Op::Recent { .. } => self.inline(b, step),
            Op::Bits => self.bits(b, step),
            Op::Concat { axis } => self.concat(b, step, *axis),
            Op::Reduce { op, axis } => self.reduce(b, step, *op, *axis),
            Op::TopK { k } => self.top_k(b, step, *k),
            Op::TopMask { k } => self.top_mask(b, step, *k),
            Op::MatMul { batch } => self.mat_mul(b, step, *batch),
            Op::Linear => self.linear(b, step),
            Op::QuantizeInput { quant } => self.quantize(b, step, *quant),
            Op::LinearInt8 { quant } => self.linear_int8(b, step, *quant),
            Op::StateRead(state) => self.state_read(b, step, *state),
            Op::StateWrite(_) => Ok(()),
            Op::Push { state } => self.push_entry(b, step, *state),
            Op::Positions { state } => self.positions(b, step, *state),
            Op::Check { message } => self.check(b, step, message),
            Op::Probe { .. } => Ok(()),
            Op::Host(host) => {
                let name = &self.module.hosts[host.index()].name;
                self.fail(step.origin, format!("the host function {name}"))
            }
            Op::If { .. } | Op::Repeat { .. } | Op::Experts { .. } | Op::Scan { .. } | Op::Fused { .. } => {
                unreachable!("regions are bodies here")
            }
        }
    }

    /// An elementwise step or a view: evaluated now if it has no axes or is worth storing.
    fn inline(&mut self, b: &mut Builder, step: &Step) -> Result<(), NotCompiled> {
        let v = step.results[0];
        if self.graph.ty(v).rank() == 0 {
            self.prepare(b, v)?;
            let value = self.eval(b, v, &[], false)?;
            self.locs[v.index()] = Some(Loc::Reg(value));
            return Ok(());
        }
        let elementwise = !matches!(
            step.act,
            Act::Op(Op::Broadcast { .. } | Op::Reshape | Op::Permute { .. } | Op::Slice { .. } | Op::Recent { .. })
        );
        let heavy = self.stages[v.index()] > 1 && self.cost(v) > 4;
        let depth = self.inline_depth(step);
        self.depths[v.index()] = depth;
        let scalar = self.scalar_only(v);
        if elementwise && (heavy || scalar) || depth > DEEPEST {
            self.ensure_buffer(b, v)?;
        }
        Ok(())
    }

    fn literal(&mut self, step: &Step, literal: &Literal) -> Result<(), NotCompiled> {
        if let Some((_, pointer)) = self.literal_pointers.iter().find(|(l, _)| l == literal) {
            let elem = literal.data.elem();
            let bytes = elem.bytes().unwrap_or(4);
            let buffer = Buffer::dense(*pointer, elem, bytes, &literal.shape);
            self.locs[step.results[0].index()] = Some(Loc::Buf(self.of_head(step.results[0], buffer)));
        }
        Ok(())
    }

    /// The array of a value that lies in memory; of one that has heads, the part of the head that is being emitted.
    pub fn of_head(&self, v: V, buffer: Buffer) -> Buffer {
        match &self.head {
            Some(head) => head.heads.part(v, &head.number, buffer),
            None => buffer,
        }
    }

    fn weight(&mut self, step: &Step, weight: WeightId) -> Result<(), NotCompiled> {
        let decl = self.module.weight(weight);
        let loc = match decl.encoding.elem() {
            Elem::Ternary | Elem::Sign => Loc::Packed(weight),
            elem => {
                // Rows, or columns, are padded.
                let layout = self.weights.layout(weight);
                let row = layout.row_bytes() as i64;
                let bytes = elem.bytes().unwrap_or(4);
                let pointer = self.weight_pointers[&weight];
                let mut buffer = Buffer::dense(pointer, elem, bytes, &decl.shape);
                let mut next = row;
                if let Some((_, leading)) = decl.shape.split_last() {
                    for (axis, &n) in leading.iter().enumerate().rev() {
                        buffer.strides[axis] = next;
                        next *= n as i64;
                    }
                    buffer.strides[leading.len()] = layout.column_bytes() as i64;
                }
                Loc::Buf(self.of_head(step.results[0], buffer))
            }
        };
        self.locs[step.results[0].index()] = Some(loc);
        Ok(())
    }
}
