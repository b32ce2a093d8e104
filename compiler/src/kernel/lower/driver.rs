//! The driver of each entry: one launch per node that computes, in the order of the region. What a launch needs is in
//! `launch`.
//!
//! Views, constants and weights launch nothing: they are copied into the graphs of the kernels that read them.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::access::array_bytes;
use super::alike::{self, Alike};
use super::graph::{Act, Graph, V};
use super::import::{Found, Import, is_virtual};
use super::kernels::{self, Context, Place};
use super::plan::{self, Plan, Slot};
use super::state::StateLayout;
use super::weights::WeightLayout;
use super::{Choice, Lowered, NotCompiled, Options, Port};
use crate::ir::{Elem, Entry, Module, NodeId, Op, OriginId, ParamKind, Region, Type, Value};
use crate::kernel::ir::Kernel;
use crate::kernel::program::{Base, Driver, KernelId, LoopVar, Program, RowsId, Step, TALLIES};
use crate::limits::Limits;
use crate::weights::Section;
use sterna_runtime::abi::row_stride;

/// A value in memory.
#[derive(Clone, Debug)]
pub struct Stored {
    pub place: Place,
    /// Of one row.
    pub ty: Type,
}

/// What a value of a region is bound to.
#[derive(Clone, Debug)]
pub enum Bound {
    Stored(Stored),
    /// The value of another region.
    Alias(usize, Value),
}

/// A region that is being lowered.
pub struct Scope<'m> {
    pub region: &'m Region,
    pub bound: FxHashMap<Value, Bound>,
    pub rows: RowsId,
    pub row_index: Option<Place>,
}

/// Makes the program.
pub struct Maker<'m> {
    pub module: &'m Module,
    pub context: Context<'m>,
    pub messages: Vec<String>,
    pub kernels: Vec<Kernel>,
    pub known: FxHashMap<Kernel, KernelId>,
    /// For each weight, what it is to a kernel.
    pub classes: Vec<u32>,
    /// Launches whose kernels were made for them.
    pub made: usize,
    /// The kernels of launches by what these were made from.
    pub alike: FxHashMap<Vec<u64>, Rc<Alike>>,
    pub row_counts: u32,
    pub loop_vars: u32,
    pub loops: Vec<LoopVar>,
    pub scopes: Vec<Scope<'m>>,
    pub plan: Plan,
    /// Open lists of steps, the innermost last.
    pub steps: Vec<Vec<Step>>,
    /// The choices of the entry so far; each has two tallies.
    pub choices: Vec<Choice>,
    /// The node that is being lowered.
    pub origin: OriginId,
    /// The largest piece of the arena, with the node that wants it.
    largest: (u64, OriginId),
    /// Results of the entry's region that may be computed right into an output.
    direct: FxHashMap<Value, u32>,
}

/// Lowers all entries.
pub fn lower(module: &Module, options: &Options, section: Section) -> Result<Lowered, NotCompiled> {
    let weights = WeightLayout::new(module, section);
    let states = StateLayout::new(module, &weights, options)?;
    let context = Context {
        module,
        weights: &weights,
        states: &states,
        max_context: options.max_context,
        max_rows: options.max_rows,
    };
    let mut maker = Maker {
        module,
        classes: alike::classes(&context),
        made: 0,
        alike: FxHashMap::default(),
        context,
        messages: Vec::new(),
        kernels: Vec::new(),
        known: FxHashMap::default(),
        row_counts: 1,
        loop_vars: 0,
        loops: Vec::new(),
        scopes: Vec::new(),
        plan: Plan::default(),
        steps: Vec::new(),
        choices: Vec::new(),
        origin: OriginId(0),
        largest: (0, OriginId(0)),
        direct: FxHashMap::default(),
    };
    let mut lowered = Lowered::default();
    let mut scratch_bytes = 0;
    let mut entries = Vec::new();
    for (entry, &group) in module.entries.iter().zip(&states.entry_group) {
        let (inputs, outputs) = ports(entry)?;
        let mut steps = maker.entry(entry, &inputs, &outputs)?;
        let choices = std::mem::take(&mut maker.choices);
        let tallies = 2 * choices.len() as u32;
        let (slots, end) = maker.plan.place((TALLIES + 4 * u64::from(tallies)).next_multiple_of(64).max(128));
        maker.arena_fits(end)?;
        plan::resolve(&mut steps, &slots);
        scratch_bytes = scratch_bytes.max(end);
        entries.push(Driver {
            name: entry.name.clone(),
            input_bytes: inputs.iter().map(|p| p.stride).collect(),
            output_bytes: outputs.iter().map(|p| p.stride).collect(),
            state_bytes: states.groups[group].bytes,
            tallies,
            steps,
        });
        lowered.choices.push(choices);
        lowered.inputs.push(inputs);
        lowered.outputs.push(outputs);
    }
    lowered.program = Program {
        kernels: maker.kernels,
        entries,
        weight_bytes: weights.bytes,
        scratch_bytes: scratch_bytes + 512,
        max_rows: options.max_rows as u32,
        row_counts: maker.row_counts,
        loop_vars: maker.loop_vars,
        status_offset: Some(0),
    };
    lowered.messages = maker.messages;
    lowered.made = maker.made;
    lowered.states = states;
    lowered.weights = weights;
    Ok(lowered)
}

/// Bytes from one row of a port to the next.
fn port_stride(elem: Elem, shape: &[usize]) -> u64 {
    row_stride(shape.iter().product::<usize>() * elem.bytes().unwrap_or(0)) as u64
}

/// The inputs and outputs of an entry.
fn ports(entry: &Entry) -> Result<(Vec<Port>, Vec<Port>), NotCompiled> {
    let port = |ty: &Type| {
        let ty = ty.step();
        let shape = ty.constant_shape();
        match (shape, ty.elem.bytes()) {
            (Some(shape), Some(_)) => Ok(Port { stride: port_stride(ty.elem, &shape), elem: ty.elem, shape }),
            _ => Err(NotCompiled {
                origin: OriginId(0),
                what: format!("an input or output of entry {} that grows", entry.name),
            }),
        }
    };
    let inputs: Result<Vec<Port>, _> = entry.params.iter().map(|p| port(&p.ty)).collect();
    let outputs: Result<Vec<Port>, _> = entry.outputs.iter().map(|o| port(&o.ty)).collect();
    let mut inputs = inputs?;
    for (input, param) in inputs.iter_mut().zip(&entry.params) {
        if param.kind == ParamKind::Position {
            input.stride = 4;
        }
    }
    Ok((inputs, outputs?))
}

impl<'m> Maker<'m> {
    fn entry(&mut self, entry: &'m Entry, inputs: &[Port], outputs: &[Port]) -> Result<Vec<Step>, NotCompiled> {
        let region = &entry.body;
        if !entry.lifted {
            let origin = region.nodes().next().map_or(OriginId(0), |id| region.node(id).origin);
            return Err(NotCompiled { origin, what: format!("entry {}, which was not lifted over time", entry.name) });
        }
        self.plan = Plan::default();
        self.largest = (0, OriginId(0));
        self.steps = vec![Vec::new()];
        let mut bound = FxHashMap::default();
        for (i, (&value, param)) in region.params().iter().zip(&entry.params).enumerate() {
            let base = if param.kind == ParamKind::Position { Base::Position } else { Base::Input(i as u32) };
            let stored = Stored { place: Place::at(base, 0, inputs[i].stride as i64), ty: region.ty(value).step() };
            bound.insert(value, Bound::Stored(stored));
        }
        self.direct = FxHashMap::default();
        let mut times: FxHashMap<Value, usize> = FxHashMap::default();
        region.results().iter().for_each(|&v| *times.entry(v).or_default() += 1);
        for (i, &value) in region.results().iter().enumerate() {
            if times[&value] == 1 && region.ty(value).is_lifted() {
                self.direct.insert(value, i as u32);
            }
        }
        self.scopes = vec![Scope { region, bound, rows: RowsId::CONTEXT, row_index: None }];
        self.region(0)?;
        for (i, &value) in region.results().iter().enumerate() {
            let target = Place::at(Base::Output(i as u32), 0, outputs[i].stride as i64);
            let done = matches!(self.find(0, value), Found::Stored(s) if s.place == target);
            if !done {
                self.copy_value(0, value, target)?;
            }
        }
        self.scopes.clear();
        Ok(self.steps.pop().expect("the entry's own list"))
    }

    /// Lowers the nodes of a scope's region.
    pub fn region(&mut self, scope: usize) -> Result<(), NotCompiled> {
        let region = self.scopes[scope].region;
        for id in region.nodes() {
            self.node(scope, region, id)?;
        }
        Ok(())
    }

    fn node(&mut self, scope: usize, region: &'m Region, id: NodeId) -> Result<(), NotCompiled> {
        let node = region.node(id);
        self.origin = node.origin;
        if is_virtual(region, id) {
            return Ok(());
        }
        match &node.op {
            Op::If { then, otherwise } => self.lifted_if(scope, region, id, then, otherwise),
            Op::Repeat { first, max, carried, body } => {
                self.lifted_repeat(scope, region, id, (*first, *max, *carried), body)
            }
            Op::Experts { regions } => self.lifted_experts(scope, region, id, regions),
            Op::Probe { .. } => Ok(()),
            Op::Host(host) => Err(NotCompiled {
                origin: node.origin,
                what: format!("the host function {}", self.module.hosts[host.index()].name),
            }),
            _ => self.compute(scope, region, id),
        }
    }

    /// A node that is a kernel.
    fn compute(&mut self, scope: usize, region: &'m Region, id: NodeId) -> Result<(), NotCompiled> {
        let node = region.node(id);
        let mut import = Import::default();
        let mut env = FxHashMap::default();
        for &input in &node.inputs {
            let v = self.import(&mut import, scope, input)?;
            env.insert(input, v);
        }
        import.graph.node(region, id, &mut env, &mut import.steps)?;
        let mut outputs = Vec::new();
        for &result in &node.results {
            if !region.is_used(result) {
                continue;
            }
            let ty = region.ty(result);
            let mut stored = self.result(scope, result, ty)?;
            stored.place.code_sum = has_code_sum(&import.graph, env[&result]) && stored.place.row_stride >= 64;
            outputs.push((env[&result], stored.place.clone()));
            self.scopes[scope].bound.insert(result, Bound::Stored(stored));
        }
        let name = name_of(&node.op);
        self.launch(scope, name, import, outputs)
    }

    /// Memory for a result: an output of the entry, or a slot.
    pub fn result(&mut self, scope: usize, value: Value, ty: &Type) -> Result<Stored, NotCompiled> {
        let step = ty.step();
        // Rows of codes have other places in memory than in a port.
        if scope == 0
            && ty.is_lifted()
            && ty.elem != Elem::I8
            && let (Some(&output), Some(shape)) = (self.direct.get(&value), step.constant_shape())
        {
            let stride = port_stride(step.elem, &shape);
            return Ok(Stored { place: Place::at(Base::Output(output), 0, stride as i64), ty: step });
        }
        self.slot(&step, ty.is_lifted())
    }

    fn row_bytes(&self, ty: &Type) -> Result<u64, NotCompiled> {
        match (ty.constant_shape(), ty.elem.bytes()) {
            (Some(shape), Some(_)) => Ok(array_bytes(ty.elem, &shape) as u64),
            _ => Err(NotCompiled { origin: OriginId(0), what: "a growing or encoded value between kernels".into() }),
        }
    }

    /// A slot for values of this type, one per row or one for all.
    pub fn slot(&mut self, ty: &Type, per_row: bool) -> Result<Stored, NotCompiled> {
        let row = self.row_bytes(ty)?.next_multiple_of(64);
        let rows = if per_row { self.context.max_rows as u64 } else { 1 };
        let bytes = row.saturating_mul(rows).saturating_add(kernels::row_pad(ty.elem));
        if bytes > self.largest.0 {
            self.largest = (bytes, self.origin);
            self.arena_fits(bytes)?;
        }
        let slot = self.plan.slot(bytes);
        Ok(Stored {
            place: Place::at(Base::Scratch, slot.offset(), if per_row { row as i64 } else { 0 }),
            ty: ty.clone(),
        })
    }

    /// Refuses an arena beyond the limit; what wants most of it is named.
    fn arena_fits(&self, bytes: u64) -> Result<(), NotCompiled> {
        let most = Limits::DEFAULT.scratch as u64;
        if bytes <= most {
            return Ok(());
        }
        let what = format!(
            "an arena of {bytes} bytes for {} rows, of which the values here take {}; at most {most}",
            self.context.max_rows, self.largest.0
        );
        Err(NotCompiled { origin: self.largest.1, what })
    }

    /// A slot of bytes.
    pub fn bytes(&mut self, bytes: u64) -> Slot {
        self.plan.slot(bytes)
    }
}

/// Whether a value is the maximum of one block of codes, in a kernel that works row by row.
fn has_code_sum(graph: &Graph, v: V) -> bool {
    let Some((step, 1)) = graph.defs[v.index()] else {
        return false;
    };
    let step = &graph.steps[step];
    matches!(step.act, Act::Op(Op::QuantizeInput { .. }))
        && graph.ty(v).elements() == Some(1)
        && graph.ty(v).rank() == 1
}

fn name_of(op: &Op) -> &'static str {
    match op {
        Op::Fused { kind, .. } => match kind {
            crate::ir::FusedKind::Elementwise => "elementwise",
            crate::ir::FusedKind::NormQuant => "norm_quant",
            crate::ir::FusedKind::LinearEpilogue => "linear_epilogue",
            crate::ir::FusedKind::Recurrence => "recurrence",
        },
        Op::Scan { .. } => "scan",
        Op::Linear | Op::LinearInt8 { .. } => "linear",
        Op::MatMul { .. } => "mat_mul",
        Op::QuantizeInput { .. } => "quantize",
        Op::Reduce { .. } => "reduce",
        Op::Gather { .. } => "gather",
        _ => "node",
    }
}
