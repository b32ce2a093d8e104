//! What a model costs: bytes of weights and state, and operations of one step.

use super::{CompileOptions, Result, Session, SessionError};
use crate::ir::{Module, Op, Region, ValueDef};
use crate::weights::Layout;

/// Costs of one stream and step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Bytes of the packed weights.
    pub weight_bytes: usize,
    /// Bytes of weights that the products of one step read, with an inner entry counted for each element of the step.
    pub weight_bytes_per_step: usize,
    /// Bytes of one stream's state, caches at their capacity.
    pub state_bytes: usize,
    /// Multiplications and additions of the products of one step, counted likewise.
    pub operations: usize,
    /// What the back end cannot do, if there is something; then the state is counted from the graph.
    pub not_compiled: Option<String>,
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
        Ok(Cost {
            weight_bytes: self.section_bytes(),
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
        for nested in Region::nested(&node.op) {
            let (bytes, operations) = products(module, nested);
            sum.0 += times * bytes;
            sum.1 += times * operations;
        }
    }
    sum
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
