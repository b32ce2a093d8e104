//! What a kernel reads: values in memory become its parameters; views, constants, weights and narrow layers are
//! copied into its graph.

use rustc_hash::FxHashMap;

use super::NotCompiled;
use super::driver::{Bound, Maker, Stored};
use super::graph::{Graph, StepId, V};
use super::kernels::Place;
use crate::ir::{FusedKind, NodeId, Op, Region, Value};
use crate::limits::Limits;

impl<'m> Maker<'m> {
    /// Where a value comes from.
    pub fn find(&self, scope: usize, value: Value) -> Found<'m> {
        match self.scopes[scope].bound.get(&value) {
            Some(Bound::Stored(stored)) => Found::Stored(stored.clone()),
            Some(Bound::Alias(outer, value)) => self.find(*outer, *value),
            None => {
                let region = self.scopes[scope].region;
                let node = region.producer(value).expect("a parameter is bound");
                Found::Node(scope, region, node, value)
            }
        }
    }

    /// A value in the graph of a kernel: a parameter, or a copy of the views and leaves that make it.
    pub fn import(&mut self, import: &mut Import, scope: usize, value: Value) -> Result<V, NotCompiled> {
        match self.find(scope, value) {
            Found::Stored(stored) => {
                let known =
                    import.inputs.iter().find(|(v, place)| *place == stored.place && *import.graph.ty(*v) == stored.ty);
                if let Some((v, _)) = known {
                    return Ok(*v);
                }
                let v = import.graph.param(stored.ty);
                import.inputs.push((v, stored.place));
                Ok(v)
            }
            Found::Node(scope, region, id, value) => {
                let node = region.node(id);
                let at = node.results.iter().position(|&r| r == value).expect("a node gives its results");
                let key = (scope, node.results[0]);
                if let Some(results) = import.known.get(&key) {
                    return Ok(results[at]);
                }
                let mut env = FxHashMap::default();
                let most = Limits::DEFAULT.chain;
                if import.depth == most {
                    let what = format!("more than {most} views or fixed values that read one another");
                    return Err(NotCompiled { origin: node.origin, what });
                }
                import.depth += 1;
                for &input in &node.inputs {
                    let v = self.import(import, scope, input)?;
                    env.insert(input, v);
                }
                import.depth -= 1;
                import.graph.node(region, id, &mut env, &mut import.steps)?;
                let results: Vec<V> = node.results.iter().map(|r| env[r]).collect();
                let v = results[at];
                import.known.insert(key, results);
                Ok(v)
            }
        }
    }

    /// Computes a value, through the views it is, into a place.
    pub fn copy_value(&mut self, scope: usize, value: Value, target: Place) -> Result<(), NotCompiled> {
        let mut import = Import::default();
        let v = self.import(&mut import, scope, value)?;
        self.launch(scope, "copy", import, vec![(v, target)])
    }
}

/// What [`Maker::find`] found.
pub enum Found<'m> {
    Stored(Stored),
    /// A node that is copied into the graphs of its readers, with its result as the node's own scope and region have
    /// it.
    Node(usize, &'m Region, NodeId, Value),
}

/// The graph of a kernel in the making.
#[derive(Default)]
pub struct Import {
    pub graph: Graph,
    pub steps: Vec<StepId>,
    pub inputs: Vec<(V, Place)>,
    known: FxHashMap<(usize, Value), Vec<V>>,
    /// Nodes being copied inside one another.
    depth: usize,
}

/// Whether a node launches nothing of its own.
pub fn is_virtual(region: &Region, id: NodeId) -> bool {
    let node = region.node(id);
    let lifted = node.results.iter().any(|&v| region.ty(v).is_lifted());
    match &node.op {
        Op::Constant(_) | Op::Weight(_) | Op::Iota(_) | Op::StateRead(_) => true,
        Op::Broadcast { .. } | Op::Reshape | Op::Permute { .. } | Op::Slice { .. } => true,
        Op::If { .. }
        | Op::Repeat { .. }
        | Op::Experts { .. }
        | Op::Scan { .. }
        | Op::Fused { .. }
        | Op::StateWrite(_)
        | Op::Push { .. }
        | Op::Host(_)
        | Op::Check { .. }
        | Op::Probe { .. } => false,
        // A narrow layer is cheaper to compute in the epilogue that adds it than to launch.
        Op::Linear => !lifted || joins_epilogue(region, id),
        _ => !lifted && !node.results.is_empty(),
    }
}

/// Whether a linear layer of few inputs is used once, by a kernel of linear layers with as many rows.
fn joins_epilogue(region: &Region, id: NodeId) -> bool {
    let node = region.node(id);
    let &[x, w] = &node.inputs[..] else {
        return false;
    };
    let narrow = region.ty(w).shape.last().and_then(|d| d.constant());
    let from_memory = region.producer(x).is_none_or(|source| !is_virtual(region, source));
    let is_weight = region.producer(w).is_some_and(|source| matches!(region.node(source).op, Op::Weight(_)));
    let dense = !super::weights::is_packed(region.ty(w).elem);
    let result = node.results[0];
    let users = region.users(result);
    let &[user] = &users[..] else {
        return false;
    };
    let user = region.node(user);
    let epilogue = matches!(&user.op, Op::Fused { kind: FusedKind::LinearEpilogue, .. });
    let same = user.results.iter().all(|&r| region.ty(r) == region.ty(result));
    narrow.is_some_and(|k| k <= super::float_rows::NARROW)
        && from_memory
        && is_weight
        && dense
        && epilogue
        && same
        && region.ty(result).rank() == 2
        && !region.results().contains(&result)
}
