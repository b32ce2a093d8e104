//! What an expression can be while a model is elaborated: a static value, a thing that has a name
//! (block, part, weight, host function) or a tensor of the graph being built. No evaluation here.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;

use crate::diagnostics::Span;
use crate::ir::{AxisCapacity, Dim, Elem, Encoding, HostId, InputQuant, StateId, Value, WeightId};
use crate::lang::ast;

/// The error that stands for a diagnostic already collected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported;

/// A result whose error has been reported.
pub(super) type R<T> = Result<T, Reported>;

/// The value of an expression.
#[derive(Clone)]
pub(super) enum Val<'a> {
    Int(i128),
    Float(f64),
    Bool(bool),
    Text(Arc<str>),
    Null,
    List(Rc<List<'a>>),
    /// A `map of ...` of the config.
    Map(Rc<Vec<(Arc<str>, Val<'a>)>>),
    /// An object of the config, an index of the schema's nodes.
    Object(usize),
    Encoding(Rc<Encoding>),
    /// An input quantiser: `int8(...)`.
    Input(InputQuant),
    Elem(Elem),
    /// A growing axis that a state may declare: `cache`, `cache(n)`, `ring(n)`.
    Axis(AxisCapacity),
    /// The length of an existing growing axis.
    Grow(Dim),
    Block(Rc<Bound<'a>>),
    Part(Rc<Part<'a>>),
    Parts(Rc<PartArray<'a>>),
    /// Parts chosen by an index vector of the step.
    Chosen(Rc<PartArray<'a>>, Rc<Tensor>),
    Weight(WeightId),
    /// An optional weight that the checkpoint does not have.
    Absent(Arc<str>),
    /// An operation or static function of the language.
    Op(&'static str),
    Host(HostId),
    /// An outer entry, whose outputs are its members.
    Entry(usize),
    Tensor(Rc<Tensor>),
    Optional(Rc<Optional>),
    Tuple(Rc<Vec<Val<'a>>>),
    /// Stands for something already reported.
    Poison,
}

/// A list, with what would need a walk over all that is in it: lists in lists may share, so that the walk would be
/// long.
pub(super) struct List<'a> {
    values: Vec<Val<'a>>,
    /// Elements that are no lists, those of inner lists included; lists without any count as one.
    pub leaves: usize,
    /// Lists inside one another.
    pub depth: usize,
    is_static: bool,
    in_graph: bool,
    /// The element of the first value that has one.
    pub elem: Option<Elem>,
}

impl<'a> List<'a> {
    fn new(values: Vec<Val<'a>>) -> List<'a> {
        let (mut leaves, mut depth) = (0usize, 0);
        for value in &values {
            let (n, d) = match value {
                Val::List(list) => (list.leaves, list.depth),
                _ => (1, 0),
            };
            (leaves, depth) = (leaves.saturating_add(n), depth.max(d));
        }
        List {
            leaves: leaves.max(1),
            depth: depth + 1,
            is_static: values.iter().all(Val::is_static),
            in_graph: values.iter().any(Val::in_graph),
            elem: values.iter().find_map(super::build::known_elem),
            values,
        }
    }
}

impl<'a> std::ops::Deref for List<'a> {
    type Target = [Val<'a>];

    fn deref(&self) -> &[Val<'a>] {
        &self.values
    }
}

/// A value of the graph. Its full shape is the axes of `leads` (ascending), then `shape`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    /// The region builder that defines it.
    pub region: usize,
    pub value: Value,
    pub elem: Elem,
    /// Mapped calls whose axes it carries.
    pub leads: Vec<usize>,
    /// As the text sees it.
    pub shape: Vec<Dim>,
    /// The growing state whose entries it is.
    pub state: Option<StateId>,
    /// Whether it is a choice among integer literals, which is one itself: i32 until it meets f32.
    pub literal: bool,
}

/// A tensor that may be absent.
#[derive(Debug)]
pub(super) struct Optional {
    pub id: usize,
    pub name: String,
    pub declared: Span,
    pub value: Tensor,
    pub given: Tensor,
}

/// A block with the static arguments that were written behind it.
pub(super) struct Bound<'a> {
    pub block: &'a ast::Block,
    /// Where the block is declared: an index of the namespaces.
    pub home: usize,
    /// One per static parameter.
    pub statics: Vec<Option<Val<'a>>>,
}

/// An instance of a block, which owns what its body declares.
pub(super) struct Part<'a> {
    pub id: usize,
    pub name: Arc<str>,
    /// Path in the checkpoint.
    pub path: String,
    pub bound: Rc<Bound<'a>>,
    /// Its name in the declaration.
    pub declared: Span,
    /// The block expression of the declaration.
    pub block_span: Span,
    pub used: Cell<bool>,
    pub parts: RefCell<HashMap<Arc<str>, Val<'a>>>,
    pub weights: RefCell<HashMap<Arc<str>, Val<'a>>>,
    pub states: RefCell<HashMap<Arc<str>, StateId>>,
}

/// An array of parts with the static values that index it.
pub(super) struct PartArray<'a> {
    pub name: Arc<str>,
    pub declared: Span,
    pub elements: Vec<(Val<'a>, Rc<Part<'a>>)>,
}

impl<'a> Val<'a> {
    pub fn text(text: &str) -> Val<'a> {
        Val::Text(text.into())
    }

    pub fn list(values: Vec<Val<'a>>) -> Val<'a> {
        Val::List(Rc::new(List::new(values)))
    }

    pub fn tensor(tensor: Tensor) -> Val<'a> {
        Val::Tensor(Rc::new(tensor))
    }

    /// Whether it is known before running and has no tensor inside.
    pub fn is_static(&self) -> bool {
        match self {
            Val::Tensor(_) | Val::Optional(_) | Val::Weight(_) | Val::Chosen(..) => false,
            Val::List(list) => list.is_static,
            Val::Tuple(values) => values.iter().all(Val::is_static),
            _ => true,
        }
    }

    /// Whether a tensor of the graph is inside, so that the value belongs to one region.
    pub fn in_graph(&self) -> bool {
        match self {
            Val::Tensor(_) | Val::Optional(_) | Val::Chosen(..) => true,
            Val::List(list) => list.in_graph,
            Val::Tuple(values) => values.iter().any(Val::in_graph),
            _ => false,
        }
    }

    /// Whether it is a number, boolean or list of such.
    pub fn is_number(&self) -> bool {
        matches!(self, Val::Int(_) | Val::Float(_) | Val::Bool(_))
    }

    /// As a double, if it is a number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Val::Int(n) => Some(*n as f64),
            Val::Float(x) => Some(*x),
            _ => None,
        }
    }

    /// Equality of static values; numbers by value.
    pub fn same(&self, other: &Val<'a>) -> bool {
        match (self, other) {
            (Val::Int(a), Val::Int(b)) => a == b,
            (Val::Int(a), Val::Float(b)) | (Val::Float(b), Val::Int(a)) => *a as f64 == *b,
            (Val::Float(a), Val::Float(b)) => a == b,
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::Text(a), Val::Text(b)) => a == b,
            (Val::Null, Val::Null) => true,
            (Val::List(a), Val::List(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(x, y)| x.same(y)),
            (Val::Elem(a), Val::Elem(b)) => a == b,
            (Val::Encoding(a), Val::Encoding(b)) => a == b,
            (Val::Input(a), Val::Input(b)) => a == b,
            (Val::Axis(a), Val::Axis(b)) => a == b,
            (Val::Grow(a), Val::Grow(b)) => a == b,
            (Val::Tensor(a), Val::Tensor(b)) => a == b,
            (Val::Weight(a), Val::Weight(b)) => a == b,
            (Val::Part(a), Val::Part(b)) => a.id == b.id,
            _ => false,
        }
    }

    /// What kind of thing it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Val::Int(_) => "an integer",
            Val::Float(_) => "a number",
            Val::Bool(_) => "a boolean",
            Val::Text(_) => "a text",
            Val::Null => "null",
            Val::List(_) => "a list",
            Val::Map(_) | Val::Object(_) => "an object",
            Val::Encoding(_) => "an encoding",
            Val::Input(_) => "an input quantiser",
            Val::Elem(_) => "an element type",
            Val::Axis(_) | Val::Grow(_) => "a growing axis",
            Val::Block(_) => "a block",
            Val::Part(_) => "a part",
            Val::Parts(_) => "an array of parts",
            Val::Chosen(..) => "a choice of parts",
            Val::Weight(_) => "a weight",
            Val::Absent(_) => "an absent weight",
            Val::Op(_) => "an operation",
            Val::Host(_) => "a host function",
            Val::Entry(_) => "an entry",
            Val::Tensor(_) => "a tensor of the step",
            Val::Optional(_) => "a value that may be absent",
            Val::Tuple(_) => "several values",
            Val::Poison => "nothing",
        }
    }

    /// As text in messages and paths.
    pub fn show(&self) -> String {
        match self {
            Val::Int(n) => n.to_string(),
            Val::Float(x) => show_float(*x),
            Val::Bool(b) => b.to_string(),
            Val::Text(text) => text.to_string(),
            Val::Null => "null".into(),
            Val::List(values) => {
                let mut out = String::from("[");
                for (i, value) in values.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    if out.len() > 200 {
                        out.push_str("...");
                        break;
                    }
                    out.push_str(&value.show());
                }
                out.push(']');
                out
            }
            Val::Elem(elem) => elem.name().into(),
            Val::Encoding(encoding) => encoding.elem().name().into(),
            Val::Block(bound) => bound.label(),
            Val::Part(part) => part.name.to_string(),
            Val::Tensor(tensor) => show_type(tensor.elem, &tensor.shape),
            Val::Axis(AxisCapacity::Unbounded) => "cache".into(),
            Val::Axis(AxisCapacity::Max(n)) => format!("cache({n})"),
            Val::Axis(AxisCapacity::Ring(n)) => format!("ring({n})"),
            other => other.kind().into(),
        }
    }
}

impl Bound<'_> {
    /// The block with its static arguments: `swiglu[1376, 512, true]`.
    pub fn label(&self) -> String {
        let mut out = self.block.name.to_string_lossless();
        let given: Vec<String> = self.statics.iter().flatten().map(Val::show).collect();
        if !given.is_empty() {
            let _ = write!(out, "[{}]", given.join(", "));
        }
        out
    }
}

impl ast::Name {
    fn to_string_lossless(&self) -> String {
        self.text.to_string()
    }
}

/// A float with a point, so that it reads as one.
pub(super) fn show_float(x: f64) -> String {
    if x.is_finite() && x == x.trunc() && x.abs() < 1e15 { format!("{x:.1}") } else { format!("{x}") }
}

/// `f32[40, 64]`; a growing axis is shown as `entries`.
pub(super) fn show_type(elem: Elem, shape: &[Dim]) -> String {
    let mut out = elem.name().to_string();
    if !shape.is_empty() {
        let axes: Vec<String> = shape.iter().map(show_dim).collect();
        let _ = write!(out, "[{}]", axes.join(", "));
    }
    out
}

/// One axis as text.
pub(super) fn show_dim(dim: &Dim) -> String {
    match dim {
        Dim::Const(n) => n.to_string(),
        Dim::Time => "T".into(),
        Dim::Grow { plus: 0, .. } => "entries".into(),
        Dim::Grow { plus, .. } => format!("{plus} + entries"),
    }
}
