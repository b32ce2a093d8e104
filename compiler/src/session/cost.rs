//! What a model costs: bytes of weights and state, and operations of one step.

use super::{CompileOptions, Result, Session, SessionError};
use crate::ir::{Module, Op, Region, ValueDef, WeightSource};
use crate::weights::Layout;

/// Costs of one stream and step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of the packed weights.
    pub weight_bytes: usize,
    /// Bytes of weights that the products of one step read, with an inner entry counted for each element of the step.
    pub weight_bytes_per_step: usize,
    /// Bytes of the packed weights that are computed at load from others.
    pub computed_bytes: usize,
    /// Choices among experts in the graph.
    pub experts: Vec<Experts>,
    /// Bytes of one stream's state, caches at their capacity.
    pub state_bytes: usize,
    /// Multiplications and additions of the products of one step with weights, counted likewise: of experts those that
    /// run, of dynamic branches both, of repeats the most rounds.
    pub operations: usize,
    /// What the back end cannot do, if there is something; then the state is counted from the graph.
    pub not_compiled: Option<String>,
}

/// A layer of experts: how many there are, and how many of them a step runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Experts {
    /// The part whose layer it is.
    pub path: String,
    /// How many there are.
    pub all: usize,
    /// How many run in a step, at most.
    pub chosen: usize,
}

impl Session {
    /// Counts.
    ///
    /// # Errors
    /// A pass fails.
    pub fn cost(&self, options: &CompileOptions) -> Result<Cost> {
        let module = &self.prepared;
        let (mut bytes, mut operations) = (0, 0);
        for entry in &module.entries {
            let times = entry.within.map_or(1, |outer| elements(module, outer));
            let (b, o) = products(module, &entry.body);
            bytes += times * b;
            operations += times * o;
        }
        let (state_bytes, not_compiled) = match self.lowered(options) {
            Ok(lowered) => (lowered.states.groups.iter().map(|g| g.bytes as usize).sum(), None),
            Err(SessionError::NotCompiled(why)) => (state_of_graph(module, options.max_context), Some(why)),
            Err(error) => return Err(error),
        };
        let computed = module.weights.iter().filter(|w| matches!(w.source, WeightSource::Computed(_)));
        let mut experts = Vec::new();
        module.entries.iter().for_each(|entry| find_experts(module, &entry.body, &mut experts));
        Ok(Cost {
            weight_bytes: self.section_bytes(),
            computed_bytes: computed.map(|w| Layout::of(&w.encoding, &w.shape).bytes()).sum(),
            experts,
            weight_bytes_per_step: bytes,
            state_bytes,
            operations,
            not_compiled,
        })
    }
}

/// Elements of the stream that a step of the entry takes.
fn elements(module: &Module, entry: usize) -> usize {
    let params = &module.entries[entry].params;
    let stream = params.iter().find(|p| p.kind == crate::ir::ParamKind::Stream);
    stream.and_then(|p| p.ty.elements()).unwrap_or(1)
}

/// Bytes of weights and operations of the products of a region, all branches and rounds included.
fn products(module: &Module, region: &Region) -> (usize, usize) {
    let mut sum = (0, 0);
    for id in region.nodes() {
        let node = region.node(id);
        for &input in &node.inputs {
            let product = matches!(node.op, Op::Linear | Op::LinearInt8 { .. } | Op::MatMul { .. });
            if let ValueDef::Result(source, _) = region.def(input)
                && let Op::Weight(weight) = region.node(source).op
                && product
            {
                let weight = module.weight(weight);
                sum.0 += Layout::of(&weight.encoding, &weight.shape).bytes();
                sum.1 += 2 * weight.elements();
            }
        }
        let times = if let Op::Repeat { max, .. } = node.op { max } else { 1 };
        let mut inner = (0, 0);
        for nested in Region::nested(&node.op) {
            let (bytes, operations) = products(module, nested);
            inner.0 += times * bytes;
            inner.1 += times * operations;
        }
        if let Op::Experts { regions } = &node.op {
            let chosen = chosen(region, node.inputs[0], regions.len());
            inner = (share(inner.0, chosen, regions.len()), share(inner.1, chosen, regions.len()));
        }
        sum.0 += inner.0;
        sum.1 += inner.1;
    }
    sum
}

/// What `chosen` of `all` experts cost, where all of them together cost `sum`.
fn share(sum: usize, chosen: usize, all: usize) -> usize {
    (sum as u128 * chosen as u128 / all.max(1) as u128) as usize
}

/// How many of `all` experts a step runs.
fn chosen(region: &Region, index: crate::ir::Value, all: usize) -> usize {
    region.ty(index).elements().unwrap_or(all).min(all)
}

fn find_experts(module: &Module, region: &Region, found: &mut Vec<Experts>) {
    for id in region.nodes() {
        let node = region.node(id);
        if let Op::Experts { regions } = &node.op {
            let path = module.origins.get(node.origin.index()).map_or_else(String::new, |o| o.path.to_string());
            let chosen = chosen(region, node.inputs[0], regions.len());
            found.push(Experts { path, all: regions.len(), chosen });
        }
        Region::nested(&node.op).into_iter().for_each(|nested| find_experts(module, nested, found));
    }
}

fn state_of_graph(module: &Module, max_context: usize) -> usize {
    use crate::ir::{AxisCapacity, Dim};
    let length = |dim: &Dim| match dim {
        Dim::Const(n) => *n,
        Dim::Time => 1,
        Dim::Grow { axis, .. } => match module.axis(*axis).capacity {
            AxisCapacity::Unbounded => max_context,
            AxisCapacity::Max(n) | AxisCapacity::Ring(n) => n,
        },
    };
    let states = module.states.iter().map(|s| {
        let elements: usize = s.ty.shape.iter().map(length).product();
        elements * s.ty.elem.bytes().unwrap_or(4) * s.instances.iter().product::<usize>()
    });
    states.sum()
}
