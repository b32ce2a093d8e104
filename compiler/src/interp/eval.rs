//! Evaluation of regions: the order of nodes, the shapes of results, and which file computes what.

use std::collections::HashMap;

use super::error::{Fault, InterpError};
use super::tensor::{Growth, Tensor};
use super::weights::{WeightStore, WeightValue};
use super::{Host, Probes, StreamState};
use crate::ir::extents::Extents;
use crate::ir::{Dim, Module, Node, Op, Region, StateId, Type, Value, WeightId};

/// A value of a region while it is evaluated.
#[derive(Clone, Debug)]
pub(super) enum Slot {
    Tensor(Tensor),
    /// A weight as stored; operations that know its encoding use the codes, the others its decoded values.
    Weight {
        id: WeightId,
        value: WeightValue,
    },
}

/// One call of an entry, or of a region without entry.
pub(super) struct Evaluator<'a> {
    pub module: &'a Module,
    pub weights: &'a dyn WeightStore,
    pub host: Option<&'a dyn Host>,
    pub stream: StreamState,
    /// Round of each repeat entered, outermost first, from 0.
    pub rounds: Vec<usize>,
    /// What this step has pushed so far.
    pub pushed: HashMap<(StateId, usize), Tensor>,
    /// What this step has written; takes effect after it.
    pub written: HashMap<(StateId, usize), Tensor>,
    /// Of regions that repeat something along a growing axis, by address.
    pub extents: HashMap<usize, Extents<Value>>,
    pub probes: Option<Probes>,
}

/// The operands of a node with their types.
pub(super) struct Operands<'r> {
    pub region: &'r Region,
    pub node: &'r Node,
    pub slots: Vec<Slot>,
    /// Length of the time axis here.
    pub rows: usize,
    /// What the region has computed and still needs, the operands' last uses apart.
    pub values: &'r HashMap<Value, Slot>,
}

impl Operands<'_> {
    pub fn ty(&self, n: usize) -> &Type {
        self.region.ty(self.node.inputs[n])
    }

    pub fn tensor(&self, n: usize) -> Result<Tensor, Fault> {
        match self.slots.get(n) {
            Some(slot) => Ok(Evaluator::tensor(slot)),
            None => Err(Fault::Shape(format!("operand {n} is absent"))),
        }
    }

    /// Fixed places before the entries of an operand's last axis, and pushes before its first entry, if it grows.
    pub fn lane_start(&self, n: usize, t: &Tensor) -> Option<(usize, usize)> {
        match self.ty(n).shape.last() {
            Some(Dim::Grow { plus, .. }) => Some((*plus, t.growth.as_ref().map_or(0, |g| g.first))),
            _ => None,
        }
    }
}

impl Evaluator<'_> {
    /// Evaluates a region whose time axes have length `rows`.
    pub(super) fn region(
        &mut self,
        region: &Region,
        arguments: Vec<Slot>,
        rows: usize,
    ) -> Result<Vec<Slot>, InterpError> {
        let mut values: HashMap<Value, Slot> = HashMap::new();
        if arguments.len() != region.params().len() {
            return Err(Fault::Shape("a region is given too few values".into()).into());
        }
        values.extend(region.params().iter().copied().zip(arguments));
        let mut uses: HashMap<Value, usize> = HashMap::new();
        for id in region.nodes() {
            for v in &region.node(id).inputs {
                *uses.entry(*v).or_default() += 1;
            }
        }
        for v in region.results() {
            *uses.entry(*v).or_default() += 1;
        }
        for id in region.nodes() {
            let node = region.node(id);
            let mut slots = Vec::with_capacity(node.inputs.len());
            for v in &node.inputs {
                let slot =
                    values.get(v).cloned().ok_or_else(|| Fault::Shape(format!("{v} is used before it is defined")))?;
                slots.push(slot);
                let left = uses.entry(*v).or_insert(1);
                *left -= 1;
                if *left == 0 {
                    values.remove(v);
                }
            }
            let operands = Operands { region, node, slots, rows, values: &values };
            let origin = self.module.origins.get(node.origin.index());
            let results = self.node(&operands).map_err(|e| e.at(origin))?;
            for (v, slot) in node.results.iter().zip(results) {
                if uses.get(v).is_some_and(|&n| n > 0) {
                    values.insert(*v, slot);
                }
            }
        }
        region
            .results()
            .iter()
            .map(|v| {
                values.get(v).cloned().ok_or_else(|| Fault::Shape(format!("{v} is yielded but not defined")).into())
            })
            .collect()
    }

    /// The shape that a result has here, and where its growing axis stands.
    pub(super) fn shape(&mut self, v: Value, o: &Operands) -> Result<(Vec<usize>, Option<Growth>), InterpError> {
        let ty = o.region.ty(v);
        let mut growth = None;
        let mut shape = Vec::with_capacity(ty.shape.len());
        // The places of a gather are those of its index.
        let first = usize::from(matches!(o.node.op, Op::Gather { .. }));
        for dim in &ty.shape {
            shape.push(match *dim {
                Dim::Const(n) => n,
                Dim::Time => o.rows,
                Dim::Grow { axis, plus } => {
                    let operands = o.slots.iter().enumerate();
                    let known = operands.clone().skip(first).chain(operands.take(first)).find_map(|(i, slot)| {
                        let Slot::Tensor(t) = slot else { return None };
                        let grows = |d: &Dim| matches!(d, Dim::Grow { axis: a, .. } if *a == axis);
                        o.ty(i).shape.iter().any(grows).then(|| t.growth.clone())?
                    });
                    let g = match known {
                        Some(g) => g,
                        None => self.axis_growth(o, v, axis)?,
                    };
                    let n = g.positions.len() + plus;
                    growth = Some(g);
                    n
                }
            });
        }
        super::tensor::elements(&shape)?;
        Ok((shape, growth))
    }

    fn node(&mut self, o: &Operands) -> Result<Vec<Slot>, InterpError> {
        let node = o.node;
        let one = |t: Tensor| Ok(vec![Slot::Tensor(t)]);
        match &node.op {
            Op::Weight(id) => {
                let value = self.weights.weight(*id)?;
                return Ok(vec![Slot::Weight { id: *id, value }]);
            }
            Op::StateRead(state) => return one(self.state_value(*state)?),
            Op::StateWrite(state) => {
                let value = o.tensor(0)?;
                self.state_write(*state, value);
                return Ok(Vec::new());
            }
            Op::Push { state } => {
                let (s, x, at) = (o.tensor(0)?, o.tensor(1)?, o.tensor(2)?);
                let position = at.as_i32().and_then(|v| v.first()).copied();
                let position = position.ok_or_else(|| at.wrong("push"))?;
                return one(self.push(*state, &s, &x, position)?);
            }
            Op::Positions { state } => return one(self.positions(*state)?),
            Op::If { then, otherwise } => return self.choose(o, then, otherwise),
            Op::Repeat { first, max, carried, body } => return self.repeat(o, *first, *max, *carried, body),
            Op::Experts { regions } => return self.experts(o, regions),
            Op::Scan { body } => return self.scan(o, body),
            Op::Fused { body, .. } => return self.region(body, o.slots.clone(), o.rows),
            Op::Host(host) => return self.ask_host(o, *host),
            Op::Check { message } => {
                if o.tensor(0)?.bools("check")?.contains(&false) {
                    return Err(Fault::Check(message.clone()).into());
                }
                return Ok(Vec::new());
            }
            Op::Probe { path } => {
                if let Some(probes) = &mut self.probes
                    && probes.wants(path)
                {
                    let value = o.tensor(0)?;
                    if o.ty(0).is_lifted() {
                        for row in 0..value.shape[0] {
                            probes.record(path, value.row(row));
                        }
                    } else {
                        probes.record(path, value);
                    }
                }
                return Ok(Vec::new());
            }
            _ => {}
        }
        let mut shapes = Vec::with_capacity(node.results.len());
        let mut growth = None;
        for &r in &node.results {
            let (shape, g) = self.shape(r, o)?;
            growth = growth.or(g);
            shapes.push(shape);
        }
        let Some(shape) = shapes.first() else {
            return Err(Fault::Shape("an operation without result".into()).into());
        };
        if let Op::Recent { back, state } = &node.op {
            return one(self.recent(*state, &o.tensor(0)?, *back, shape)?);
        }
        let results = self.compute(o, &shapes)?;
        Ok(results
            .into_iter()
            .zip(&node.results)
            .map(|(mut t, &v)| {
                t.growth = if o.region.ty(v).grows() { growth.clone() } else { None };
                Slot::Tensor(t)
            })
            .collect())
    }

    /// Operations without effect: results of the given shapes from the operands alone.
    fn compute(&self, o: &Operands, shapes: &[Vec<usize>]) -> Result<Vec<Tensor>, InterpError> {
        use super::{elementwise as e, product, reduce, shape as s};
        let shape = &shapes[0];
        let result = match &o.node.op {
            Op::Constant(literal) => Tensor::literal(literal),
            Op::Iota(n) => Tensor::i32(&[*n], (0..*n as i32).collect::<Vec<_>>()),
            Op::Unary(op) => e::unary(*op, &o.tensor(0)?)?,
            Op::Binary(op) => e::binary(*op, &o.tensor(0)?, &o.tensor(1)?)?,
            Op::Compare(op) => e::compare(*op, &o.tensor(0)?, &o.tensor(1)?)?,
            Op::Select => e::select(&o.tensor(0)?, &o.tensor(1)?, &o.tensor(2)?)?,
            Op::Convert(elem) => e::convert(&o.tensor(0)?, *elem)?,
            Op::Bits => e::bits(&o.tensor(0)?, shape)?,
            Op::Broadcast { axes } => s::broadcast(&o.tensor(0)?, axes, shape)?,
            Op::Reshape => o.tensor(0)?.reshaped(shape)?,
            Op::Permute { axes } => s::permute(&o.tensor(0)?, axes, shape)?,
            Op::Slice { axis, start, len } => s::slice(&o.tensor(0)?, *axis, *start, *len)?,
            Op::Concat { axis } => {
                let parts: Vec<Tensor> = (0..o.slots.len()).map(|i| o.tensor(i)).collect::<Result<_, _>>()?;
                s::concat(&parts, *axis, shape)?
            }
            Op::Gather { batch } => s::gather(&o.slots[0], &o.tensor(1)?, *batch, shape)?,
            Op::Reduce { op, axis } => {
                let x = o.tensor(0)?;
                let start = o.lane_start(0, &x);
                reduce::reduce(*op, &x, *axis, start, shape)?
            }
            Op::TopK { k } => {
                let (values, indices) = reduce::top_k(&o.tensor(0)?, *k, shape)?;
                return Ok(vec![values, indices]);
            }
            Op::TopMask { k } => reduce::top_mask(&o.tensor(0)?, *k)?,
            Op::MatMul { batch } => {
                let a = o.tensor(0)?;
                let start = o.lane_start(0, &a);
                product::matmul(&a, &o.tensor(1)?, *batch, start, shape)?
            }
            Op::Linear => {
                let x = o.tensor(0)?;
                return o.slots[1..]
                    .iter()
                    .zip(shapes)
                    .map(|(w, shape)| Ok(product::linear(self.module, &x, w, shape)?))
                    .collect();
            }
            Op::QuantizeInput { quant } => {
                let (q, a) = product::quantize(&o.tensor(0)?, *quant, &shapes[1])?;
                return Ok(vec![q, a]);
            }
            Op::LinearInt8 { quant } => {
                let (q, a) = (o.tensor(0)?, o.tensor(1)?);
                return o.slots[2..]
                    .iter()
                    .zip(shapes)
                    .map(|(w, shape)| Ok(product::linear_int8(&q, &a, w, *quant, shape)?))
                    .collect();
            }
            _ => return Err(Fault::Shape("not a pure operation".into()).into()),
        };
        if result.shape != *shape {
            return Err(Fault::Shape(format!("a value of shape {:?} where {shape:?} is declared", result.shape)).into());
        }
        Ok(vec![result])
    }
}
