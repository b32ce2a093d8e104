//! A region: nodes and the values between them, on a petgraph that stays inside this file.
//!
//! Values are numbered per region and have one definition each: a parameter or a result of a node. Nodes are
//! kept in an order in which every value is defined before its uses; edges of the petgraph repeat the uses, for
//! walks from definitions to users. All mutation goes through the methods here, which keep the two in step.

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use super::module::OriginId;
use super::op::Op;
use super::types::Type;

/// A value of a region, printed `%n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub u32);

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// A node of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(NodeIndex);

/// An operation with its operands and results.
#[derive(Clone, Debug)]
pub struct Node {
    pub op: Op,
    pub inputs: Vec<Value>,
    pub results: Vec<Value>,
    pub origin: OriginId,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueDef {
    /// The n-th parameter of the region.
    Param(usize),
    /// The n-th result of a node.
    Result(NodeId, usize),
}

#[derive(Clone, Debug)]
struct ValueData {
    ty: Type,
    def: ValueDef,
}

/// A dataflow graph with parameters and results.
#[derive(Clone, Debug, Default)]
pub struct Region {
    graph: StableDiGraph<Node, usize>,
    order: Vec<NodeId>,
    values: Vec<Option<ValueData>>,
    params: Vec<Value>,
    results: Vec<Value>,
}

impl Region {
    /// An empty region.
    pub fn new() -> Region {
        Region::default()
    }

    fn new_value(&mut self, ty: Type, def: ValueDef) -> Value {
        self.values.push(Some(ValueData { ty, def }));
        Value(self.values.len() as u32 - 1)
    }

    /// Adds a parameter.
    pub fn add_param(&mut self, ty: Type) -> Value {
        let value = self.new_value(ty, ValueDef::Param(self.params.len()));
        self.params.push(value);
        value
    }

    /// Removes the n-th parameter, which must have no users.
    pub fn remove_param(&mut self, n: usize) {
        let value = self.params.remove(n);
        debug_assert!(!self.is_used(value));
        self.values[value.0 as usize] = None;
        for (i, &p) in self.params.iter().enumerate() {
            if let Some(data) = &mut self.values[p.0 as usize] {
                data.def = ValueDef::Param(i);
            }
        }
    }

    /// Appends a node after all others.
    pub fn push(&mut self, op: Op, inputs: &[Value], types: Vec<Type>, origin: OriginId) -> NodeId {
        self.insert(self.order.len(), op, inputs, types, origin)
    }

    /// Appends a node with one result and gives that.
    pub fn push1(&mut self, op: Op, inputs: &[Value], ty: Type, origin: OriginId) -> Value {
        let node = self.push(op, inputs, vec![ty], origin);
        self.node(node).results[0]
    }

    /// Puts a node at `place` in the order. Its operands must be defined before that.
    pub fn insert(&mut self, place: usize, op: Op, inputs: &[Value], types: Vec<Type>, origin: OriginId) -> NodeId {
        let index = self.graph.add_node(Node { op, inputs: inputs.to_vec(), results: Vec::new(), origin });
        let id = NodeId(index);
        let results =
            types.into_iter().enumerate().map(|(i, ty)| self.new_value(ty, ValueDef::Result(id, i))).collect();
        self.graph[index].results = results;
        self.link(id);
        self.order.insert(place, id);
        id
    }

    fn link(&mut self, id: NodeId) {
        for (i, value) in self.graph[id.0].inputs.clone().into_iter().enumerate() {
            if let ValueDef::Result(source, _) = self.def(value) {
                self.graph.add_edge(source.0, id.0, i);
            }
        }
    }

    fn unlink(&mut self, id: NodeId) {
        let edges: Vec<_> = self.graph.edges_directed(id.0, Direction::Incoming).map(|e| e.id()).collect();
        for edge in edges {
            self.graph.remove_edge(edge);
        }
    }

    /// Removes a node whose results have no users.
    pub fn remove(&mut self, id: NodeId) {
        if let Some(node) = self.graph.remove_node(id.0) {
            for value in node.results {
                self.values[value.0 as usize] = None;
            }
            self.order.retain(|&n| n != id);
        }
    }

    /// Removes all nodes for which `keep` is false; their results must have no users that stay.
    pub fn retain(&mut self, mut keep: impl FnMut(NodeId) -> bool) {
        let gone: Vec<NodeId> = self.order.iter().copied().filter(|&n| !keep(n)).collect();
        self.order.retain(|n| !gone.contains(n));
        for id in gone {
            if let Some(node) = self.graph.remove_node(id.0) {
                for value in node.results {
                    self.values[value.0 as usize] = None;
                }
            }
        }
    }

    /// Sets the operands of a node.
    pub fn set_inputs(&mut self, id: NodeId, inputs: Vec<Value>) {
        self.unlink(id);
        self.graph[id.0].inputs = inputs;
        self.link(id);
    }

    /// Replaces every use of a value, results of the region included.
    pub fn replace_uses(&mut self, old: Value, new: Value) {
        if old == new {
            return;
        }
        for id in self.users(old) {
            let inputs = self.node(id).inputs.iter().map(|&v| if v == old { new } else { v }).collect();
            self.set_inputs(id, inputs);
        }
        for r in &mut self.results {
            if *r == old {
                *r = new;
            }
        }
    }

    /// Sets what the region yields.
    pub fn set_results(&mut self, results: Vec<Value>) {
        self.results = results;
    }

    /// Changes the declared type of a value (a pass that lifts or narrows does this for whole regions).
    pub fn set_type(&mut self, value: Value, ty: Type) {
        if let Some(data) = &mut self.values[value.0 as usize] {
            data.ty = ty;
        }
    }

    /// Puts the nodes in another order, which must contain each once.
    pub fn set_order(&mut self, order: Vec<NodeId>) {
        debug_assert_eq!(order.len(), self.order.len());
        self.order = order;
    }

    /// The nodes, definitions before uses.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator + '_ {
        self.order.iter().copied()
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.graph[id.0]
    }

    /// A node's operation, to change in place (operands and results stay).
    pub fn op_mut(&mut self, id: NodeId) -> &mut Op {
        &mut self.graph[id.0].op
    }

    /// The parameters.
    pub fn params(&self) -> &[Value] {
        &self.params
    }

    /// What the region yields.
    pub fn results(&self) -> &[Value] {
        &self.results
    }

    /// A value's type.
    pub fn ty(&self, value: Value) -> &Type {
        &self.data(value).ty
    }

    /// A value's definition.
    pub fn def(&self, value: Value) -> ValueDef {
        self.data(value).def
    }

    /// The node that defines a value, if it is not a parameter.
    pub fn producer(&self, value: Value) -> Option<NodeId> {
        match self.def(value) {
            ValueDef::Result(node, _) => Some(node),
            ValueDef::Param(_) => None,
        }
    }

    /// The nodes that use a value, each once, in order of the region.
    pub fn users(&self, value: Value) -> Vec<NodeId> {
        match self.def(value) {
            ValueDef::Result(node, _) => {
                let mut found: Vec<NodeId> = self
                    .graph
                    .edges_directed(node.0, Direction::Outgoing)
                    .filter(|e| self.graph[e.target()].inputs[*e.weight()] == value)
                    .map(|e| NodeId(e.target()))
                    .collect();
                found.sort_unstable();
                found.dedup();
                if found.len() > 1 {
                    let places: std::collections::HashMap<NodeId, usize> =
                        self.order.iter().enumerate().map(|(i, &n)| (n, i)).collect();
                    found.sort_unstable_by_key(|n| places[n]);
                }
                found
            }
            ValueDef::Param(_) => {
                self.order.iter().copied().filter(|&n| self.graph[n.0].inputs.contains(&value)).collect()
            }
        }
    }

    /// Whether a node or the region's results use a value.
    pub fn is_used(&self, value: Value) -> bool {
        self.results.contains(&value) || !self.users(value).is_empty()
    }

    /// Whether a value of this number is defined here (for readers and verifiers of foreign text).
    pub fn has_value(&self, value: Value) -> bool {
        self.values.get(value.0 as usize).is_some_and(|v| v.is_some())
    }

    fn data(&self, value: Value) -> &ValueData {
        match self.values.get(value.0 as usize) {
            Some(Some(data)) => data,
            _ => panic!("{value} is not a value of this region"),
        }
    }

    /// Whether not running the region saves work worth counting: products, or the advance of a state.
    pub fn works(&self) -> bool {
        self.nodes().any(|id| {
            let op = &self.node(id).op;
            matches!(op, Op::Linear | Op::LinearInt8 { .. } | Op::MatMul { .. } | Op::StateWrite(_) | Op::Push { .. })
                || Region::nested(op).into_iter().any(Region::works)
        })
    }

    /// The regions nested directly in a node.
    pub fn nested(op: &Op) -> Vec<&Region> {
        match op {
            Op::If { then, otherwise } => vec![then, otherwise],
            Op::Repeat { body, .. } | Op::Scan { body } | Op::Fused { body, .. } => vec![body],
            Op::Experts { regions } => regions.iter().collect(),
            _ => Vec::new(),
        }
    }

    /// The regions nested directly in a node, to change.
    pub fn nested_mut(op: &mut Op) -> Vec<&mut Region> {
        match op {
            Op::If { then, otherwise } => vec![then, otherwise],
            Op::Repeat { body, .. } | Op::Scan { body } | Op::Fused { body, .. } => vec![body],
            Op::Experts { regions } => regions.iter_mut().collect(),
            _ => Vec::new(),
        }
    }
}
