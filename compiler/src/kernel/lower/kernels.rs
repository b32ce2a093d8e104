//! Kernels of a graph: parameters for what it reads and writes, the loop over rows, and the arguments of a launch.

use rustc_hash::FxHashMap;

use super::NotCompiled;
use super::access::{Buffer, array_strides, row_major};
use super::emit::{Emit, Loc, Sink, Start};
use super::graph::{Act, Body, Graph, V};
use super::index::Ix;
use super::state::StateLayout;
use super::weights::{WeightLayout, is_packed, needs_memory};
use crate::ir::{AxisId, Elem, Literal, Module, Op, OriginId, StateId, WeightId};
use crate::kernel::build::Builder;
use crate::kernel::ir::{Kernel, Value};
use crate::kernel::program::{Arg, Base, Count, LoopVar, RowsId};

/// Where the rows of a value lie.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    pub arg: Arg,
    /// Bytes from one row to the next; 0 if all rows share one value.
    pub row_stride: i64,
    /// Whether each row, a block maximum, is followed by the i32 sum of its block's codes.
    pub code_sum: bool,
}

/// Where in a row the sum of codes stands.
pub const CODE_SUM: i32 = 4;

impl Place {
    /// At a constant offset.
    pub fn at(base: Base, offset: u64, row_stride: i64) -> Place {
        Place { arg: Arg::at(base, offset), row_stride, code_sum: false }
    }

    /// Bytes per index of each axis within a row: hosts have the rows of ports row-major (spec/abi.md), between
    /// kernels they lie as arrays do.
    pub fn strides(&self, elem: Elem, shape: &[usize]) -> Vec<i64> {
        match (&self.arg, elem.bytes()) {
            (Arg::Pointer { base: Base::Input(_) | Base::Output(_), .. }, Some(bytes)) => row_major(shape, bytes),
            _ => array_strides(elem, shape),
        }
    }
}

/// A graph with what surrounds it.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    pub name: String,
    pub graph: Graph,
    pub body: Body,
    pub inputs: Vec<(V, Place)>,
    pub outputs: Vec<(V, Place)>,
    /// The original row of each row, for the state blocks of rows that were gathered.
    pub row_index: Option<Place>,
    pub rows: RowsId,
    /// Loops of the driver around the launch, outermost first.
    pub loops: Vec<LoopVar>,
    /// Whether states are only read.
    pub frozen: bool,
}

impl Default for RowsId {
    fn default() -> RowsId {
        RowsId::CONTEXT
    }
}

/// What all kernels of a program are made with.
pub struct Context<'a> {
    pub module: &'a Module,
    pub weights: &'a WeightLayout,
    pub states: &'a StateLayout,
    pub max_context: usize,
    pub max_rows: usize,
}

/// A finished kernel with the arguments of its launch.
pub struct Built {
    pub kernel: Kernel,
    pub args: Vec<Arg>,
    /// Which arguments are the scratch pointer and its stride.
    pub scratch: (usize, usize),
    /// Bytes of scratch that one unit needs.
    pub scratch_bytes: u64,
    pub form: Form,
}

/// How a launch divides its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Row by row in order, in one call.
    Serial,
    /// Rows in any order.
    Rows,
    /// So many units over all rows, in any order.
    Units(u32),
    /// A unit per row and head, in any order, in chunks of `grain` at least. Units are counted head by head.
    Heads { heads: u32, grain: u32 },
}

/// What a graph uses beside its parameters, in order of first use.
#[derive(Default)]
pub struct Needs {
    pub weights: Vec<WeightId>,
    pub literals: Vec<Literal>,
    pub states: Vec<StateId>,
    pub axes: Vec<AxisId>,
    pub status: bool,
}

impl Needs {
    fn collect(&mut self, module: &Module, graph: &Graph, body: &Body) {
        for &id in &body.steps {
            match &graph.steps[id].act {
                Act::Op(op) => self.add(module, op),
                Act::If { then, otherwise } => {
                    self.collect(module, graph, then);
                    self.collect(module, graph, otherwise);
                }
                Act::Repeat { body, .. } => self.collect(module, graph, body),
                Act::Experts { bodies } => {
                    for body in bodies {
                        self.collect(module, graph, body);
                    }
                }
            }
        }
    }

    fn add(&mut self, module: &Module, op: &Op) {
        match op {
            Op::Weight(weight) => push(&mut self.weights, *weight),
            Op::Constant(literal) if needs_memory(literal) => {
                push(&mut self.literals, literal.clone());
            }
            Op::StateRead(state) | Op::StateWrite(state) => self.state(module, *state),
            Op::Positions { state } | Op::Recent { state, .. } => self.state(module, *state),
            Op::Push { state } => {
                self.state(module, *state);
                self.status = true;
            }
            Op::Check { .. } => self.status = true,
            _ => {}
        }
    }

    fn state(&mut self, module: &Module, state: StateId) {
        push(&mut self.states, state);
        if let Some((_, axis)) = module.state(state).growing() {
            push(&mut self.axes, axis);
        }
    }
}

fn push<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// Pointers of a kernel's parameters, and the arguments that go with them.
pub struct Frame {
    pub args: Vec<Arg>,
    pub inputs: Vec<Value>,
    pub outputs: Vec<Value>,
    pub states: Vec<(StateId, Value)>,
    pub axes: Vec<(AxisId, Value, Option<Value>)>,
    /// The list of original rows, and how many of these there are.
    pub row_index: Option<(Value, Value)>,
    pub state_stride: Option<Value>,
    pub rows: Value,
    pub scratch: Value,
    pub scratch_stride: Value,
    pub scratch_args: (usize, usize),
    pub needs: Needs,
}

/// Makes an emitter with the parameters of a spec.
pub fn open<'a>(
    b: &mut Builder,
    spec: &'a Spec,
    context: &Context<'a>,
    messages: &'a mut Vec<String>,
) -> (Emit<'a>, Frame) {
    let mut needs = Needs::default();
    needs.collect(context.module, &spec.graph, &spec.body);
    let mut args = Vec::new();
    let mut inputs = Vec::new();
    let mut outputs = Vec::new();
    for (_, place) in &spec.inputs {
        inputs.push(b.ro("x"));
        args.push(place.arg.clone());
    }
    for (_, place) in &spec.outputs {
        outputs.push(b.rw("y"));
        args.push(place.arg.clone());
    }
    let (mut weight_pointers, mut scale_pointers) = (FxHashMap::default(), FxHashMap::default());
    for &weight in &needs.weights {
        weight_pointers.insert(weight, b.ro("w"));
        args.push(Arg::to(Base::Weights, context.weights.extent(weight)));
        if is_packed(context.module.weight(weight).encoding.elem()) {
            scale_pointers.insert(weight, b.ro("scales"));
            args.push(Arg::to(Base::Weights, context.weights.scales_extent(weight)));
        }
    }
    let mut literal_pointers = Vec::new();
    for literal in &needs.literals {
        let extent = context.weights.literal_extent(literal).expect("a constant that was laid out");
        literal_pointers.push((literal.clone(), b.ro("c")));
        args.push(Arg::to(Base::Weights, extent));
    }
    let mut states = Vec::new();
    for &state in &needs.states {
        let place = &context.states.states[&state];
        states.push((state, if spec.frozen { b.ro("state") } else { b.rw("state") }));
        args.push(place.arg(&spec.loops));
    }
    let mut axes = Vec::new();
    for &axis in &needs.axes {
        let place = &context.states.axes[&axis];
        let counter = if spec.frozen { b.ro("pushes") } else { b.rw("pushes") };
        let (of_counter, of_positions) = place.args(&spec.loops);
        args.push(of_counter);
        let positions = of_positions.map(|arg| {
            args.push(arg);
            if spec.frozen { b.ro("positions") } else { b.rw("positions") }
        });
        axes.push((axis, counter, positions));
    }
    let state_stride = (!needs.states.is_empty()).then(|| {
        args.push(Arg::Count(Count::StateStride));
        b.count_l("state_stride")
    });
    let row_index = match &spec.row_index {
        Some(place) if state_stride.is_some() => {
            args.push(place.arg.clone());
            args.push(Arg::Count(Count::Rows(RowsId::CONTEXT)));
            Some((b.ro("row_index"), b.count("all_rows")))
        }
        _ => None,
    };
    let status = (needs.status && !spec.frozen).then(|| {
        args.push(Arg::at(Base::Scratch, 0));
        b.rw("status")
    });
    args.push(Arg::Count(Count::Rows(spec.rows)));
    let rows = b.count("rows");
    let scratch_args = (args.len(), args.len() + 1);
    args.push(Arg::at(Base::Scratch, 64));
    let scratch = b.rw("scratch");
    args.push(Arg::constant(0));
    let scratch_stride = b.count_l("scratch_stride");
    let mut emit = Emit::new(Start {
        module: context.module,
        graph: &spec.graph,
        weights: context.weights,
        states: context.states,
        messages,
        max_context: context.max_context,
        scratch,
    });
    emit.weight_pointers = weight_pointers;
    emit.scale_pointers = scale_pointers;
    emit.literal_pointers = literal_pointers;
    emit.status = status;
    emit.entries_of = spec.graph.entries(&spec.body, context.module);
    emit.driver_loops = spec.loops.len();
    let frame = Frame {
        args,
        inputs,
        outputs,
        states,
        axes,
        row_index,
        state_stride,
        rows,
        scratch,
        scratch_stride,
        scratch_args,
        needs,
    };
    (emit, frame)
}

/// The array that a value's row is.
pub fn row_buffer(graph: &Graph, v: V, pointer: Value, place: &Place, row: &Ix) -> Result<Buffer, String> {
    let ty = graph.ty(v);
    let Some(shape) = ty.constant_shape() else {
        return Err("a growing value outside its kernel".into());
    };
    if ty.elem.bytes().is_none() {
        return Err("an encoded value that is no weight".into());
    }
    let strides = place.strides(ty.elem, &shape);
    Ok(Buffer { pointer, elem: ty.elem, base: row.times(place.row_stride), strides, ring: None })
}

impl Emit<'_> {
    /// Points inputs and states at a row; gives the stores of the outputs.
    pub fn enter_row(
        &mut self,
        b: &mut Builder,
        spec: &Spec,
        frame: &Frame,
        row: &Ix,
    ) -> Result<Vec<Sink>, NotCompiled> {
        let origin = spec.body.steps.first().map_or(OriginId(0), |&id| spec.graph.steps[id].origin);
        for ((v, place), &pointer) in spec.inputs.iter().zip(&frame.inputs) {
            let buffer = row_buffer(&spec.graph, *v, pointer, place, row).or_else(|what| self.fail(origin, what))?;
            self.locs[v.index()] = Some(Loc::Buf(buffer));
        }
        let mut sinks = Vec::new();
        for ((v, place), &pointer) in spec.outputs.iter().zip(&frame.outputs) {
            let buffer = row_buffer(&spec.graph, *v, pointer, place, row).or_else(|what| self.fail(origin, what))?;
            sinks.push(Sink { value: *v, buffer, padded: true });
        }
        self.enter_states(b, frame, row);
        Ok(sinks)
    }

    /// Points states at a row's block.
    pub fn enter_states(&mut self, b: &mut Builder, frame: &Frame, row: &Ix) {
        if let Some(stride) = frame.state_stride {
            let block = match frame.row_index {
                Some((index, rows)) => {
                    let (pointer, offset) = row.times(4).address(b, index);
                    let original = b.load_n(pointer, offset);
                    b.clamp_row(original, rows)
                }
                None => row.scalar(b),
            };
            let block = b.extend(block);
            let bytes = b.mul(block, stride);
            for &(state, pointer) in &frame.states {
                let pointer = b.offset_by(pointer, bytes);
                self.state_pointers.insert(state, pointer);
            }
            for &(axis, counter, positions) in &frame.axes {
                let counter = b.offset_by(counter, bytes);
                let positions = positions.map(|p| b.offset_by(p, bytes));
                self.axis_pointers.insert(axis, (counter, positions));
            }
        }
    }
}

/// The kernel that runs a whole graph row by row.
pub fn build(spec: &Spec, context: &Context<'_>, messages: &mut Vec<String>) -> Result<Built, NotCompiled> {
    let mut b = Builder::new(spec.name.clone());
    let (mut emit, frame) = open(&mut b, spec, context, messages);
    let sinks: Vec<V> = spec.outputs.iter().map(|(v, _)| *v).collect();
    emit.count_stages(&spec.body, &sinks);
    let shared = !spec.outputs.is_empty() && spec.outputs.iter().all(|(_, p)| p.row_stride == 0);
    let form = if frame.needs.states.is_empty() && !shared { Form::Rows } else { Form::Serial };
    let (start, end) = match form {
        Form::Rows => (b.begin(), b.end()),
        _ if shared => (b.const_n(0), b.const_n(1)),
        _ => (b.const_n(0), frame.rows),
    };
    emit.each(&mut b, start, end, &mut |emit, b, row| {
        if form == Form::Rows {
            let number = row.scalar(b);
            let number = b.extend(number);
            let bytes = b.mul(number, frame.scratch_stride);
            emit.scratch = b.offset_by(frame.scratch, bytes);
        }
        let sinks = emit.enter_row(b, spec, &frame, row)?;
        emit.direct.clear();
        for sink in &sinks {
            let times = sinks.iter().filter(|s| s.value == sink.value).count();
            // A value that is also an input has a place already.
            if times == 1 && emit.locs[sink.value.index()].is_none() {
                emit.direct.insert(sink.value, sink.buffer.clone());
            }
        }
        emit.body(b, &spec.body, &sinks)?;
        for ((_, place), sink) in spec.outputs.iter().zip(&sinks) {
            if place.code_sum {
                let sum = emit.code_sums[&sink.value];
                let (pointer, offset) = sink.buffer.base.address(b, sink.buffer.pointer);
                b.store_n(pointer, offset + CODE_SUM, sum);
            }
        }
        Ok(())
    })?;
    let scratch_bytes = emit.scratch_used;
    Ok(Built { kernel: b.finish(), args: frame.args, scratch: frame.scratch_args, scratch_bytes, form })
}

/// Whether a row of this element needs room behind it for blocks of integer products.
pub fn row_pad(elem: Elem) -> u64 {
    if elem == Elem::I8 { 512 } else { 128 }
}
