//! Launches that differ only in which weights, states and memory their kernels are given. Layers and experts are mostly
//! alike, so that a kernel is made once for all of them.
//!
//! What a kernel is made from is written down as a row of numbers in which weights, states, axes and places stand by
//! the order of their first use, each with all that a kernel may know of it. Equal rows give equal kernels, and the
//! arguments of one launch are those of the other with what stands at the same place of that order. A kernel that
//! reports a failure knows the number of its message, so that one is made anew. No kernel is made here.

use rustc_hash::FxHashMap;

use super::driver::Maker;
use super::graph::{Act, Body, V};
use super::kernels::{Context, Form, Place, Spec};
use super::plan::is_slot;
use super::weights::is_packed;
use crate::ir::key::OpKey;
use crate::ir::{AxisCapacity, AxisId, Dim, Module, Op, StateId, Type, WeightId};
use crate::kernel::program::{Arg, Base, Count, KernelId, RowsId};

/// Constants of more elements are not compared, and what reads them has kernels of its own.
const MOST_ELEMENTS: usize = 256;
/// Kernels that are given more are made anew: to find all that would take as long.
const MOST_SOURCES: usize = 256;

/// Numbers for weights: equal where kernels cannot tell them apart but by what they hold.
pub fn classes(context: &Context<'_>) -> Vec<u32> {
    let mut known: FxHashMap<&[usize], Vec<(WeightId, u32)>> = FxHashMap::default();
    let mut next = 0;
    let weights = context.module.weights.iter().zip(0..);
    let class = weights.map(|(weight, number)| {
        let id = WeightId(number);
        let alike = known.entry(&weight.shape).or_default();
        let same = |other: WeightId| {
            context.module.weight(other).encoding == weight.encoding
                && context.weights.layout(other) == context.weights.layout(id)
        };
        if let Some(&(_, class)) = alike.iter().find(|(other, _)| same(*other)) {
            return class;
        }
        next += 1;
        alike.push((id, next));
        next
    });
    class.collect()
}

/// What a launch is made from.
pub struct Described {
    /// Equal for launches that need the same kernels.
    pub key: Vec<u64>,
    /// What its kernels may be given, in the order of the key.
    pub sources: Vec<Arg>,
    /// Whether a kernel of it reports a failure.
    pub reports: bool,
}

/// The kernels of a launch, to launch them again.
pub struct Alike {
    /// Bytes of the counts between pushes and reads, where there are both. Where these lie comes after all other
    /// sources.
    pub count_bytes: Option<u64>,
    /// In order; none for one that must be made anew.
    pub kernels: Vec<Option<Made>>,
}

/// A kernel with what it takes to launch it.
pub struct Made {
    pub kernel: KernelId,
    pub args: Vec<Given>,
    pub scratch: (usize, usize),
    pub scratch_bytes: u64,
    pub form: Form,
}

/// An argument.
pub enum Given {
    /// The n-th source.
    Source(usize),
    /// The number of rows of the launch.
    Rows,
    /// The same in each launch.
    Same(Arg),
}

impl Made {
    /// The arguments of a launch as another may have them; none if one is neither a source nor the same for all.
    pub fn given(args: &[Arg], sources: &[Arg], rows: RowsId, weights_end: u64) -> Option<Vec<Given>> {
        let given = |arg: &Arg| match arg {
            Arg::Count(Count::Rows(n)) if *n == RowsId::CONTEXT => Some(Given::Same(arg.clone())),
            Arg::Count(Count::Rows(n)) => (*n == rows).then_some(Given::Rows),
            Arg::Count(_) => Some(Given::Same(arg.clone())),
            Arg::Pointer { base, offset, .. } => match sources.iter().position(|source| source == arg) {
                Some(at) => Some(Given::Source(at)),
                // Constants lie behind the weights, and what is no slot in front of all slots.
                None if *base == Base::Weights && *offset >= weights_end => Some(Given::Same(arg.clone())),
                None if *base == Base::Scratch && !is_slot(*offset) => Some(Given::Same(arg.clone())),
                None => None,
            },
        };
        args.iter().map(given).collect()
    }

    /// The arguments for another launch.
    pub fn args_for(&self, sources: &[Arg], rows: RowsId) -> Vec<Arg> {
        let arg = |given: &Given| match given {
            Given::Source(at) => sources[*at].clone(),
            Given::Rows => Arg::Count(Count::Rows(rows)),
            Given::Same(arg) => arg.clone(),
        };
        self.args.iter().map(arg).collect()
    }
}

impl Maker<'_> {
    /// Describes a launch; none where it is like no other.
    pub fn describe(&self, spec: &Spec) -> Option<Described> {
        let mut writer = Writer {
            context: &self.context,
            classes: &self.classes,
            key: Vec::new(),
            places: Vec::new(),
            weights: FxHashMap::default(),
            states: FxHashMap::default(),
            axes: FxHashMap::default(),
            given: Vec::new(),
            reports: false,
        };
        writer.spec(spec)?;
        let Writer { key, mut places, given, reports, .. } = writer;
        places.extend(given);
        (places.len() <= MOST_SOURCES).then_some(Described { key, sources: places, reports })
    }
}

/// A description in the making.
struct Writer<'a> {
    context: &'a Context<'a>,
    classes: &'a [u32],
    key: Vec<u64>,
    /// Arguments for the values that are read and written, in order.
    places: Vec<Arg>,
    weights: FxHashMap<WeightId, u64>,
    states: FxHashMap<StateId, u64>,
    axes: FxHashMap<AxisId, u64>,
    /// Arguments for weights, states and axes, in order of first use.
    given: Vec<Arg>,
    reports: bool,
}

impl Writer<'_> {
    fn module(&self) -> &Module {
        self.context.module
    }

    fn spec(&mut self, spec: &Spec) -> Option<()> {
        self.key.push(u64::from(spec.rows == RowsId::CONTEXT));
        self.numbers(spec.loops.iter().map(|var| u64::from(var.0)));
        self.key.push(spec.graph.types.len() as u64);
        for ty in &spec.graph.types {
            self.ty(ty)?;
        }
        self.key.push(spec.graph.steps.len() as u64);
        for step in &spec.graph.steps {
            match &step.act {
                Act::Op(op) => self.op(op, spec)?,
                Act::If { then, otherwise } => {
                    self.key.push(10);
                    self.body(then);
                    self.body(otherwise);
                }
                Act::Repeat { first, max, body } => {
                    self.key.extend([11, *first as u64, *max as u64]);
                    self.body(body);
                }
                Act::Experts { bodies } => {
                    self.key.extend([12, bodies.len() as u64]);
                    bodies.iter().for_each(|body| self.body(body));
                }
            }
            self.values(&step.inputs);
            self.values(&step.results);
        }
        self.body(&spec.body);
        for list in [&spec.inputs, &spec.outputs] {
            self.key.push(list.len() as u64);
            for (v, place) in list {
                self.key.push(u64::from(v.0));
                self.place(place)?;
            }
        }
        match &spec.row_index {
            Some(place) => self.place(place)?,
            None => self.key.push(u64::MAX),
        }
        Some(())
    }

    fn numbers(&mut self, numbers: impl IntoIterator<Item = impl TryInto<u64>, IntoIter: ExactSizeIterator>) {
        let numbers = numbers.into_iter();
        self.key.push(numbers.len() as u64);
        self.key.extend(numbers.map(|n| n.try_into().unwrap_or(u64::MAX)));
    }

    fn values(&mut self, values: &[V]) {
        self.numbers(values.iter().map(|v| u64::from(v.0)));
    }

    fn body(&mut self, body: &Body) {
        self.values(&body.params);
        self.numbers(body.steps.iter().map(|&id| id as u64));
        self.values(&body.results);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.key.push(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.key.push(u64::from_le_bytes(word));
        }
    }

    fn ty(&mut self, ty: &Type) -> Option<()> {
        self.key.extend([ty.elem as u64, ty.shape.len() as u64]);
        for dim in &ty.shape {
            match dim {
                Dim::Const(n) => self.key.extend([0, *n as u64]),
                Dim::Time => self.key.push(1),
                Dim::Grow { axis, plus } => {
                    self.key.extend([2, *plus as u64]);
                    self.axis(*axis)?;
                }
            }
        }
        Some(())
    }

    fn place(&mut self, place: &Place) -> Option<()> {
        let Arg::Pointer { base, scaled, extent, .. } = &place.arg else { return None };
        let kind = match base {
            Base::Input(_) | Base::Output(_) => 0,
            Base::Position => 1,
            Base::Scratch => 2,
            Base::Weights | Base::State => return None,
        };
        let same = self.places.iter().position(|arg| *arg == place.arg).unwrap_or(self.places.len());
        let flags = u64::from(place.code_sum) | u64::from(extent.is_some()) << 1 | u64::from(scaled.is_empty()) << 2;
        self.key.extend([kind, place.row_stride as u64, flags, same as u64]);
        self.places.push(place.arg.clone());
        Some(())
    }

    fn op(&mut self, op: &Op, spec: &Spec) -> Option<()> {
        match op {
            Op::Check { .. } | Op::Host(_) | Op::Probe { .. } => return None,
            Op::Weight(weight) => self.weight(*weight),
            Op::Constant(literal) if literal.data.len() > MOST_ELEMENTS => return None,
            Op::Constant(literal) => {
                self.key.extend([1, literal.data.elem() as u64]);
                self.numbers(literal.shape.iter().map(|&n| n as u64));
                self.bytes(&literal.data.to_bytes());
            }
            Op::StateRead(state) => self.state(2, *state, spec)?,
            Op::StateWrite(state) => self.state(3, *state, spec)?,
            Op::Push { state } => {
                self.state(4, *state, spec)?;
                let (_, axis) = self.module().state(*state).growing()?;
                self.reports |= !matches!(self.module().axis(axis).capacity, AxisCapacity::Ring(_));
            }
            Op::Positions { state } => self.state(5, *state, spec)?,
            Op::Recent { back, state } => {
                self.state(6, *state, spec)?;
                self.key.push(*back as u64);
            }
            op => {
                self.key.push(7);
                self.key_of(op);
            }
        }
        Some(())
    }

    fn key_of(&mut self, op: &Op) {
        let key = OpKey::of(op);
        let (name, numbers): (&str, &[usize]) = match &key {
            OpKey::Numbers(name, numbers) => (name, numbers),
            OpKey::Axes(name, axes) => (name, axes),
            OpKey::Text(text) => (text, &[]),
            OpKey::Constant(_) => unreachable!("a constant has its elements in the key"),
        };
        self.bytes(name.as_bytes());
        self.key.push(numbers.len() as u64);
        self.key.extend(numbers.iter().map(|&n| n as u64));
    }

    fn weight(&mut self, weight: WeightId) {
        let next = self.weights.len() as u64;
        let number = *self.weights.entry(weight).or_insert(next);
        self.key.extend([0, number, u64::from(self.classes[weight.index()])]);
        if number < next {
            return;
        }
        let weights = self.context.weights;
        self.given.push(Arg::to(Base::Weights, weights.extent(weight)));
        if is_packed(self.module().weight(weight).encoding.elem()) {
            self.given.push(Arg::to(Base::Weights, weights.scales_extent(weight)));
        }
    }

    fn state(&mut self, kind: u64, state: StateId, spec: &Spec) -> Option<()> {
        let next = self.states.len() as u64;
        let number = *self.states.entry(state).or_insert(next);
        self.key.extend([kind, number]);
        if number < next {
            return Some(());
        }
        let decl = self.context.module.state(state);
        let place = self.context.states.states.get(&state)?;
        self.ty(&decl.ty)?;
        self.key.extend([decl.stored as u64, u64::from(decl.held), place.extent.end - place.extent.start]);
        self.numbers(decl.instances.iter().map(|&n| n as u64));
        self.numbers(place.instance_strides.iter().copied());
        self.numbers(place.strides.iter().map(|&n| n as u64));
        self.given.push(place.arg(&spec.loops));
        if let Some((_, axis)) = decl.growing() {
            let place = self.context.states.axes.get(&axis)?;
            let (counter, positions) = place.args(&spec.loops);
            self.given.push(counter);
            self.given.extend(positions);
        }
        Some(())
    }

    fn axis(&mut self, axis: AxisId) -> Option<()> {
        let next = self.axes.len() as u64;
        let number = *self.axes.entry(axis).or_insert(next);
        self.key.push(number);
        if number < next {
            return Some(());
        }
        let place = self.context.states.axes.get(&axis)?;
        let (kind, most) = match self.module().axis(axis).capacity {
            AxisCapacity::Unbounded => (0, 0),
            AxisCapacity::Max(n) => (1, n),
            AxisCapacity::Ring(n) => (2, n),
        };
        let flags = u64::from(place.ring) | u64::from(place.positions.is_some()) << 1;
        self.key.extend([kind, most as u64, place.slots as u64, flags]);
        self.numbers(place.counter_strides.iter().copied());
        self.numbers(place.position_strides.iter().copied());
        Some(())
    }
}
