//! What a pickle describes, as an arena of nodes: containers refer to their parts by index, so shared parts are
//! never copied and a cycle is only an index. Nothing here is recursive except the conversion to JSON, which is
//! bounded in depth and in the number of values.

use serde_json::{Map, Number, Value};

use crate::weights::Element;

/// Index of a node in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId(pub(super) u32);

/// The callables that a pickle may name. None of them is ever called: each stands for a node that is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Global {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`.
    RebuildParameter,
    /// `torch.FloatStorage` and its like.
    Storage(Element),
}

impl Global {
    pub(super) fn named(module: &str, name: &str) -> Option<Self> {
        let storage = |element| Some(Self::Storage(element));
        match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", "DoubleStorage") => storage(Element::F64),
            ("torch", "FloatStorage") => storage(Element::F32),
            ("torch", "HalfStorage") => storage(Element::F16),
            ("torch", "BFloat16Storage") => storage(Element::Bf16),
            ("torch", "LongStorage") => storage(Element::I64),
            ("torch", "IntStorage") => storage(Element::I32),
            ("torch", "ByteStorage") => storage(Element::U8),
            ("torch", "BoolStorage") => storage(Element::Bool),
            _ => None,
        }
    }
}

/// A storage by its key: the member `data/<key>` of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageRef {
    /// Element type.
    pub element: Element,
    /// The key, a string of the pickle.
    pub key: NodeId,
    /// Elements it holds.
    pub elements: u64,
}

/// A tensor as the pickle describes it; nothing in it is checked against the archive yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorRef {
    /// Node of its storage.
    pub storage: NodeId,
    /// First element in the storage.
    pub first: u64,
    /// Shape.
    pub shape: Vec<u64>,
    /// Strides in elements.
    pub strides: Vec<u64>,
}

/// One value of a pickle.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `None`.
    None,
    /// A boolean.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string: start and length in the pickle, known to be UTF-8.
    Text(u32, u32),
    /// A tuple.
    Tuple(Box<[NodeId]>),
    /// A list.
    List(Vec<NodeId>),
    /// A dictionary, ordered or not.
    Dict(Vec<(NodeId, NodeId)>),
    /// A callable that was named.
    Global(Global),
    /// A persistent id.
    Storage(Box<StorageRef>),
    /// A rebuilt tensor.
    Tensor(Box<TensorRef>),
}

impl Node {
    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Text(..) => "a string",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Global(_) => "a callable",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

/// All values of one pickle.
#[derive(Debug)]
pub struct Arena<'a> {
    pub(super) pickle: &'a [u8],
    pub(super) nodes: Vec<Node>,
}

/// Why a value has no JSON form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// A tensor, a callable, a key that is not a string, a float that is not finite.
    #[error("it holds {0}, which has no JSON form")]
    Unsupported(&'static str),
    /// One key twice.
    #[error("key `{0}` occurs twice")]
    Duplicate(String),
    /// Nested too deep, or too many values once shared parts are written out.
    #[error("it nests deeper than {MAX_DEPTH} levels or unfolds to more than {MAX_VALUES} values")]
    TooLarge,
}

const MAX_DEPTH: usize = 32;
const MAX_VALUES: usize = 100_000;

impl<'a> Arena<'a> {
    /// The node of this id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The text of a string node.
    pub fn text(&self, id: NodeId) -> Option<&'a str> {
        match *self.node(id) {
            Node::Text(start, length) => {
                let bytes = &self.pickle[start as usize..][..length as usize];
                Some(std::str::from_utf8(bytes).expect("checked when the node was made"))
            }
            _ => None,
        }
    }

    /// The value under a string key of a dictionary; the last one, as in Python, if the key was set twice.
    pub fn get(&self, dictionary: &[(NodeId, NodeId)], key: &str) -> Option<NodeId> {
        dictionary.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|&(_, value)| value)
    }

    /// The value as JSON. Tuples become lists.
    ///
    /// # Errors
    /// It holds something JSON cannot, or is too large when shared parts are written out.
    pub fn json(&self, id: NodeId) -> Result<Value, JsonError> {
        self.json_within(id, MAX_DEPTH, &mut MAX_VALUES.clone())
    }

    fn json_within(&self, id: NodeId, depth: usize, left: &mut usize) -> Result<Value, JsonError> {
        *left = left.checked_sub(1).ok_or(JsonError::TooLarge)?;
        let depth = depth.checked_sub(1).ok_or(JsonError::TooLarge)?;
        let list = |items: &[NodeId], left: &mut usize| {
            items.iter().map(|&item| self.json_within(item, depth, left)).collect::<Result<_, _>>().map(Value::Array)
        };
        match self.node(id) {
            Node::None => Ok(Value::Null),
            Node::Bool(value) => Ok(Value::Bool(*value)),
            Node::Int(value) => Ok(Value::Number((*value).into())),
            Node::Float(value) => {
                Number::from_f64(*value).map(Value::Number).ok_or(JsonError::Unsupported("a float that is not finite"))
            }
            Node::Text(_, length) => {
                // long strings count by their length, or a shared one could unfold to any size
                *left = left.checked_sub(*length as usize / 16).ok_or(JsonError::TooLarge)?;
                Ok(Value::String(self.text(id).expect("a string node").to_owned()))
            }
            Node::Tuple(items) => list(items, left),
            Node::List(items) => list(items, left),
            Node::Dict(pairs) => {
                let mut map = Map::new();
                for &(key, value) in pairs {
                    let key = self.text(key).ok_or(JsonError::Unsupported("a key that is not a string"))?;
                    let value = self.json_within(value, depth, left)?;
                    if map.insert(key.to_owned(), value).is_some() {
                        return Err(JsonError::Duplicate(key.to_owned()));
                    }
                }
                Ok(Value::Object(map))
            }
            other => Err(JsonError::Unsupported(other.kind())),
        }
    }
}
