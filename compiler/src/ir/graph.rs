//! A region: nodes and the values between them, on a petgraph that stays inside this file.
//!
//! Values are numbered per region and have one definition each: a parameter or a result of a node. Nodes are
//! kept in an order in which every value is defined before its uses; edges of the petgraph repeat the uses, for
//! walks from definitions to users. All mutation goes through the methods here, which keep the two in step.
//! Edits of many nodes have methods of their own (`rewire`, `replace_all`, `retain`, `remove_params`), which cost what
//! the region has: an edge is found by a walk over the other uses of its value.

use std::sync::Arc;

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;
use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

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

/// Something about each of some nodes of one region, in a table.
#[derive(Clone, Debug, Default)]
pub struct NodeMap<T>(Vec<Option<T>>);

impl<T> NodeMap<T> {
    /// Says something of a node.
    pub fn insert(&mut self, id: NodeId, value: T) {
        let at = id.0.index();
        if at >= self.0.len() {
            self.0.resize_with(at + 1, || None);
        }
        self.0[at] = Some(value);
    }

    /// What was said of a node.
    pub fn get(&self, id: NodeId) -> Option<&T> {
        self.0.get(id.0.index())?.as_ref()
    }
}

/// Operands of a node, in the node itself where they are few.
pub type Inputs = SmallVec<[Value; 4]>;
/// Results of a node.
pub type Results = SmallVec<[Value; 2]>;

/// An operation with its operands and results.
#[derive(Clone, Debug)]
pub struct Node {
    pub op: Op,
    pub inputs: Inputs,
    pub results: Results,
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

/// Between the places of nodes that are appended, so that others fit in.
const GAP: u64 = 1 << 24;

/// A dataflow graph with parameters and results.
#[derive(Clone, Debug, Default)]
pub struct Region {
    graph: StableDiGraph<Node, usize>,
    order: Vec<NodeId>,
    /// A number for each node, by petgraph's index, that ascends along `order`.
    places: Vec<u64>,
    values: Vec<Option<ValueData>>,
    params: Vec<Value>,
    /// Per parameter: the operands of nodes that are it or once were, in no order. The uses of results are edges.
    uses: Vec<Vec<(NodeId, usize)>>,
    results: Vec<Value>,
}

impl Region {
    /// An empty region.
    pub fn new() -> Region {
        Region::default()
    }

    /// An empty region with room for as much as another one has, so that a copy of that does not move as it grows.
    pub fn with_room_for(other: &Region) -> Region {
        // A pass may add some.
        let (nodes, more) = (other.order.len(), other.order.len() / 8);
        Region {
            graph: StableDiGraph::with_capacity(nodes + more, other.graph.edge_count() + more),
            order: Vec::with_capacity(nodes + more),
            places: Vec::with_capacity(nodes + more),
            values: Vec::with_capacity(other.values.len() + more),
            params: Vec::new(),
            uses: Vec::new(),
            results: Vec::new(),
        }
    }

    fn new_value(&mut self, ty: Type, def: ValueDef) -> Value {
        self.values.push(Some(ValueData { ty, def }));
        Value(self.values.len() as u32 - 1)
    }

    /// Adds a parameter.
    pub fn add_param(&mut self, ty: Type) -> Value {
        let value = self.new_value(ty, ValueDef::Param(self.params.len()));
        self.params.push(value);
        self.uses.push(Vec::new());
        value
    }

    /// Removes the n-th parameter, which must have no users.
    pub fn remove_param(&mut self, n: usize) {
        self.remove_params(|i| i == n);
    }

    /// Removes the parameters for which `gone` is true, by their positions; they must have no users.
    pub fn remove_params(&mut self, mut gone: impl FnMut(usize) -> bool) {
        debug_assert!((0..self.params.len()).all(|i| !gone(i) || !self.is_used(self.params[i])));
        let params = std::mem::take(&mut self.params);
        let uses = std::mem::take(&mut self.uses);
        for (i, (value, uses)) in params.into_iter().zip(uses).enumerate() {
            if gone(i) {
                self.values[value.0 as usize] = None;
                continue;
            }
            if let Some(data) = &mut self.values[value.0 as usize] {
                data.def = ValueDef::Param(self.params.len());
            }
            self.params.push(value);
            self.uses.push(uses);
        }
    }

    /// Appends a node after all others.
    pub fn push(
        &mut self,
        op: Op,
        inputs: &[Value],
        types: impl IntoIterator<Item = Type>,
        origin: OriginId,
    ) -> NodeId {
        self.insert(self.order.len(), op, inputs, types, origin)
    }

    /// Appends a node with one result and gives that.
    pub fn push1(&mut self, op: Op, inputs: &[Value], ty: Type, origin: OriginId) -> Value {
        let node = self.push(op, inputs, [ty], origin);
        self.node(node).results[0]
    }

    /// Puts a node at `place` in the order. Its operands must be defined before that.
    pub fn insert(
        &mut self,
        place: usize,
        op: Op,
        inputs: &[Value],
        types: impl IntoIterator<Item = Type>,
        origin: OriginId,
    ) -> NodeId {
        let index = self.graph.add_node(Node { op, inputs: inputs.into(), results: Results::new(), origin });
        let id = NodeId(index);
        let results =
            types.into_iter().enumerate().map(|(i, ty)| self.new_value(ty, ValueDef::Result(id, i))).collect();
        self.graph[index].results = results;
        self.link(id);
        self.places.resize(self.places.len().max(index.index() + 1), 0);
        self.order.insert(place, id);
        self.number(place);
        id
    }

    /// Puts nodes without operands, of one result each, before all others, and gives their results.
    pub fn prepend(&mut self, leaves: Vec<(Op, Type, OriginId)>) -> Vec<Value> {
        let rest = std::mem::take(&mut self.order);
        let values = leaves.into_iter().map(|(op, ty, origin)| self.push1(op, &[], ty, origin)).collect();
        self.order.extend(rest);
        self.number_all();
        values
    }

    /// Gives the node at a position of the order a number between its neighbours', all of them new ones if none is
    /// left.
    fn number(&mut self, at: usize) {
        let of = |n: &NodeId| self.places[n.0.index()];
        let before = at.checked_sub(1).map_or(0, |i| of(&self.order[i]));
        let place = match self.order.get(at + 1) {
            Some(next) => before + (of(next) - before) / 2,
            None => before + GAP,
        };
        if place == before {
            self.number_all();
        } else {
            self.places[self.order[at].0.index()] = place;
        }
    }

    fn number_all(&mut self) {
        for (i, id) in self.order.iter().enumerate() {
            self.places[id.0.index()] = (i as u64 + 1) * GAP;
        }
    }

    fn link(&mut self, id: NodeId) {
        for i in 0..self.graph[id.0].inputs.len() {
            let value = self.graph[id.0].inputs[i];
            match self.def(value) {
                ValueDef::Result(source, _) => drop(self.graph.add_edge(source.0, id.0, i)),
                ValueDef::Param(n) => self.uses[n].push((id, i)),
            }
        }
    }

    fn unlink(&mut self, id: NodeId) {
        let edges: Vec<_> = self.graph.edges_directed(id.0, Direction::Incoming).map(|e| e.id()).collect();
        for edge in edges {
            self.graph.remove_edge(edge);
        }
    }

    /// Makes all uses anew from the operands.
    fn link_all(&mut self) {
        self.graph.clear_edges();
        self.uses.iter_mut().for_each(Vec::clear);
        for i in 0..self.order.len() {
            self.link(self.order[i]);
        }
    }

    /// Removes a node whose results have no users.
    pub fn remove(&mut self, id: NodeId) {
        let place = self.places[id.0.index()];
        if let Ok(at) = self.order.binary_search_by_key(&place, |n| self.places[n.0.index()]) {
            self.order.remove(at);
            self.forget(id);
        }
    }

    /// Removes all nodes for which `keep` is false; their results must have no users that stay.
    pub fn retain(&mut self, mut keep: impl FnMut(NodeId) -> bool) {
        let (kept, gone): (Vec<NodeId>, Vec<NodeId>) = self.order.iter().partition(|&&n| keep(n));
        if gone.is_empty() {
            return;
        }
        self.order = kept;
        // Without edges a node is removed at once, however many users or operands it has.
        self.graph.clear_edges();
        for id in gone {
            self.forget(id);
        }
        self.link_all();
    }

    fn forget(&mut self, id: NodeId) {
        if let Some(node) = self.graph.remove_node(id.0) {
            for value in node.results {
                self.values[value.0 as usize] = None;
            }
        }
    }

    /// Sets the operands of a node.
    pub fn set_inputs(&mut self, id: NodeId, inputs: impl Into<Inputs>) {
        let inputs = inputs.into();
        if self.graph[id.0].inputs == inputs {
            return;
        }
        self.unlink(id);
        self.graph[id.0].inputs = inputs;
        self.link(id);
    }

    /// Sets the operands of many nodes.
    pub fn rewire(&mut self, changed: impl IntoIterator<Item = (NodeId, impl Into<Inputs>)>) {
        let mut any = false;
        for (id, inputs) in changed {
            self.graph[id.0].inputs = inputs.into();
            any = true;
        }
        if any {
            self.link_all();
        }
    }

    /// Replaces every use of a value, results of the region included.
    pub fn replace_uses(&mut self, old: Value, new: Value) {
        self.replace_all(&FxHashMap::from_iter([(old, new)]));
    }

    /// Replaces every use of the values that are keys, results of the region included. What replaces a value is not
    /// itself replaced.
    pub fn replace_all(&mut self, replaced: &FxHashMap<Value, Value>) {
        if replaced.is_empty() {
            return;
        }
        let new = |v: &Value| *replaced.get(v).unwrap_or(v);
        let users: FxHashSet<NodeId> = replaced.keys().flat_map(|&old| self.user_nodes(old)).collect();
        let changed: Vec<(NodeId, Inputs)> =
            users.into_iter().map(|id| (id, self.node(id).inputs.iter().map(new).collect())).collect();
        self.rewire(changed);
        self.results = self.results.iter().map(new).collect();
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
        self.number_all();
    }

    /// The nodes, definitions before uses.
    pub fn nodes(&self) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator + '_ {
        self.order.iter().copied()
    }

    /// Nodes in order of the region.
    pub fn in_order(&self, nodes: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = nodes.into_iter().collect();
        nodes.sort_unstable_by_key(|n| self.places[n.0.index()]);
        nodes
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
        let mut found: Vec<NodeId> = self.user_nodes(value).collect();
        found.sort_unstable_by_key(|n| self.places[n.0.index()]);
        found.dedup();
        found
    }

    /// The nodes that use a value, in no order, some more than once.
    fn user_nodes(&self, value: Value) -> impl Iterator<Item = NodeId> + '_ {
        let (edges, uses) = match self.def(value) {
            ValueDef::Result(node, _) => (Some(self.graph.edges_directed(node.0, Direction::Outgoing)), &[][..]),
            ValueDef::Param(n) => (None, &self.uses[n][..]),
        };
        let of_result = edges.into_iter().flatten();
        let of_result = of_result.filter(move |e| self.graph[e.target()].inputs[*e.weight()] == value);
        // Nodes that are gone or read something else by now are still listed.
        let reads = move |n: NodeId, i: usize| {
            let node = self.graph.node_weight(n.0);
            node.is_some_and(|n| n.inputs.get(i) == Some(&value))
        };
        let of_param = uses.iter().filter(move |(n, i)| reads(*n, *i)).map(|(n, _)| *n);
        of_result.map(|e| NodeId(e.target())).chain(of_param)
    }

    /// Whether a node or the region's results use a value.
    pub fn is_used(&self, value: Value) -> bool {
        self.user_nodes(value).next().is_some() || self.results.contains(&value)
    }

    /// One more than the largest number of a value.
    pub fn value_numbers(&self) -> usize {
        self.values.len()
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
            Op::If { then, otherwise } => vec![&**then, &**otherwise],
            Op::Repeat { body, .. } | Op::Scan { body } | Op::Fused { body, .. } => vec![&**body],
            Op::Experts { regions } => regions.iter().collect(),
            _ => Vec::new(),
        }
    }

    /// The regions nested directly in a node, to change.
    pub fn nested_mut(op: &mut Op) -> Vec<&mut Region> {
        match op {
            Op::If { then, otherwise } => vec![Arc::make_mut(then), Arc::make_mut(otherwise)],
            Op::Repeat { body, .. } | Op::Scan { body } | Op::Fused { body, .. } => vec![Arc::make_mut(body)],
            Op::Experts { regions } => regions.iter_mut().collect(),
            _ => Vec::new(),
        }
    }
}
