//! The graph of one kernel: a region, or one node of it with the views it reads through, in step form.
//!
//! Values are numbered across all nested bodies, `Fused` regions are spliced in, and the time axis of lifted
//! operations is taken off again, since a kernel works row by row. Nothing here knows of memory.

use rustc_hash::FxHashMap;

use super::NotCompiled;
use crate::ir::{Module, NodeId, Op, OriginId, Region, StateId, Type, Value};

/// A value of a kernel graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct V(pub u32);

impl V {
    /// Its place in [`Graph::types`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A step of a [`Graph`].
pub type StepId = usize;

/// What a step does.
// Nearly all steps are operations: a box around each would cost more than the room it saves in the few others.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum Act {
    /// An operation without regions, in step form.
    Op(Op),
    /// (c) -> results: one of two bodies.
    If { then: Body, otherwise: Body },
    /// (count, carried...) -> carried...; the body's parameters are the round and the carried values.
    Repeat { first: i64, max: usize, body: Body },
    /// (index) -> results stacked; the body that each place chose.
    Experts { bodies: Vec<Body> },
}

/// An operation with its operands and results.
#[derive(Clone, Debug)]
pub struct Step {
    pub act: Act,
    pub inputs: Vec<V>,
    pub results: Vec<V>,
    pub origin: OriginId,
}

/// Steps in order, with the values that come from outside at each run and those handed back.
#[derive(Clone, Debug, Default)]
pub struct Body {
    pub params: Vec<V>,
    pub steps: Vec<StepId>,
    pub results: Vec<V>,
}

/// All values and steps of one kernel.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub types: Vec<Type>,
    /// The step and result that define a value; none for parameters.
    pub defs: Vec<Option<(StepId, usize)>>,
    pub steps: Vec<Step>,
}

impl Graph {
    /// A value that comes from outside.
    pub fn param(&mut self, ty: Type) -> V {
        self.types.push(ty);
        self.defs.push(None);
        V(self.types.len() as u32 - 1)
    }

    /// The step form type of a value.
    pub fn ty(&self, v: V) -> &Type {
        &self.types[v.index()]
    }

    /// The step that defines a value.
    pub fn def(&self, v: V) -> Option<&Step> {
        self.defs[v.index()].map(|(step, _)| &self.steps[step])
    }

    /// Appends a step.
    pub fn add(&mut self, act: Act, inputs: Vec<V>, types: Vec<Type>, origin: OriginId) -> StepId {
        let id = self.steps.len();
        let results = types
            .into_iter()
            .enumerate()
            .map(|(i, ty)| {
                self.types.push(ty);
                self.defs.push(Some((id, i)));
                V(self.types.len() as u32 - 1)
            })
            .collect();
        self.steps.push(Step { act, inputs, results, origin });
        id
    }

    /// Converts a whole region; `env` gives its parameters. Steps go to `steps`; gives the region's results.
    pub fn region(
        &mut self,
        region: &Region,
        mut env: FxHashMap<Value, V>,
        steps: &mut Vec<StepId>,
    ) -> Result<Vec<V>, NotCompiled> {
        for id in region.nodes() {
            self.node(region, id, &mut env, steps)?;
        }
        Ok(region.results().iter().map(|v| env[v]).collect())
    }

    /// Converts one node, whose operands are all in `env`, and adds its results to `env`.
    pub fn node(
        &mut self,
        region: &Region,
        id: NodeId,
        env: &mut FxHashMap<Value, V>,
        steps: &mut Vec<StepId>,
    ) -> Result<(), NotCompiled> {
        let node = region.node(id);
        let inputs: Vec<V> = node.inputs.iter().map(|v| env[v]).collect();
        let types: Vec<Type> = node.results.iter().map(|&v| region.ty(v).step()).collect();
        let act = match &node.op {
            Op::Fused { body, .. } | Op::Scan { body } => {
                let inner = body.params().iter().copied().zip(inputs).collect();
                let results = self.region(body, inner, steps)?;
                env.extend(node.results.iter().copied().zip(results));
                return Ok(());
            }
            Op::If { then, otherwise } => Act::If {
                then: self.body(then, &[], &inputs[1..])?,
                otherwise: self.body(otherwise, &[], &inputs[1..])?,
            },
            Op::Repeat { first, max, carried, body } => {
                let params: Vec<Type> = body.params()[..1 + carried].iter().map(|&p| body.ty(p).step()).collect();
                Act::Repeat { first: *first, max: *max, body: self.body(body, &params, &inputs[1 + carried..])? }
            }
            Op::Experts { regions } => Act::Experts {
                bodies: regions.iter().map(|r| self.body(r, &[], &inputs[1..])).collect::<Result<_, _>>()?,
            },
            op => Act::Op(step_form(op, region, id)),
        };
        let kept = match &act {
            Act::Repeat { body, .. } => body.params.len(),
            Act::If { .. } | Act::Experts { .. } => 1,
            Act::Op(_) => inputs.len(),
        };
        let step = self.add(act, inputs[..kept].to_vec(), types, node.origin);
        steps.push(step);
        let results = self.steps[step].results.clone();
        env.extend(node.results.iter().copied().zip(results));
        Ok(())
    }

    /// The values of a body that are a growing state's own entries: as read, pushed, or handed on by control flow.
    pub fn entries(&self, body: &Body, module: &Module) -> FxHashMap<V, StateId> {
        let mut entries = FxHashMap::default();
        self.add_entries(body, module, &mut entries);
        entries
    }

    fn add_entries(&self, body: &Body, module: &Module, entries: &mut FxHashMap<V, StateId>) {
        for &id in &body.steps {
            let step = &self.steps[id];
            match &step.act {
                Act::Op(Op::StateRead(state) | Op::Push { state }) if module.state(*state).growing().is_some() => {
                    entries.insert(step.results[0], *state);
                }
                Act::Op(_) => {}
                Act::If { then, otherwise } => {
                    self.add_entries(then, module, entries);
                    self.add_entries(otherwise, module, entries);
                    for (i, &v) in step.results.iter().enumerate() {
                        let sides = (entries.get(&then.results[i]), entries.get(&otherwise.results[i]));
                        if let (Some(&a), Some(&b)) = sides
                            && a == b
                        {
                            entries.insert(v, a);
                        }
                    }
                }
                Act::Repeat { body, .. } => {
                    for (i, init) in step.inputs[1..].iter().enumerate() {
                        if let Some(&state) = entries.get(init) {
                            entries.insert(body.params[1 + i], state);
                            entries.insert(step.results[i], state);
                        }
                    }
                    self.add_entries(body, module, entries);
                }
                Act::Experts { bodies } => bodies.iter().for_each(|body| self.add_entries(body, module, entries)),
            }
        }
    }

    fn body(&mut self, region: &Region, params: &[Type], captures: &[V]) -> Result<Body, NotCompiled> {
        let params: Vec<V> = params.iter().map(|ty| self.param(ty.clone())).collect();
        let given = params.iter().chain(captures).copied();
        let env = region.params().iter().copied().zip(given).collect();
        let mut steps = Vec::new();
        let results = self.region(region, env, &mut steps)?;
        Ok(Body { params, steps, results })
    }
}

/// The operation without the time axis of its operands and result.
fn step_form(op: &Op, region: &Region, id: NodeId) -> Op {
    let node = region.node(id);
    let lifted = |n: usize| node.inputs.get(n).is_some_and(|&v| region.ty(v).is_lifted());
    let result_lifted = node.results.first().is_some_and(|&v| region.ty(v).is_lifted());
    if !result_lifted && !lifted(0) {
        return op.clone();
    }
    match op {
        Op::Broadcast { axes } => {
            Op::Broadcast { axes: axes[usize::from(lifted(0))..].iter().map(|a| a - 1).collect() }
        }
        Op::Permute { axes } => Op::Permute { axes: axes[1..].iter().map(|a| a - 1).collect() },
        Op::Slice { axis, start, len } => Op::Slice { axis: axis - 1, start: *start, len: *len },
        Op::Concat { axis } => Op::Concat { axis: axis - 1 },
        Op::Reduce { op, axis } => Op::Reduce { op: *op, axis: axis - 1 },
        Op::Gather { batch } => Op::Gather { batch: batch - usize::from(lifted(0)) },
        Op::MatMul { batch } => Op::MatMul { batch: batch - usize::from(lifted(0) && lifted(1)) },
        other => other.clone(),
    }
}
