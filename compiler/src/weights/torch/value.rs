//! What a pickle describes, as an arena of nodes: containers refer to their parts by index, so shared parts are
//! never copied and a cycle is only an index. Nothing here is recursive except the conversion to JSON, which is
//! bounded in depth and in the number of values.

use serde_json::{Map, Number, Value};

use crate::weights::Element;

/// Index of a node in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(pub(super) u32);

/// The elements of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementType {
    /// The usual short name.
    pub name: &'static str,
    /// Bytes of an element; of a storage without a type, 1.
    pub size: usize,
    /// Nothing for types that are not computed with.
    pub element: Option<Element>,
}

impl ElementType {
    const fn other(name: &'static str, size: usize) -> Self {
        Self { name, size, element: None }
    }
}

impl From<Element> for ElementType {
    fn from(element: Element) -> Self {
        Self { name: element.name(), size: element.size(), element: Some(element) }
    }
}

/// What a pickle may name. Nothing is ever called: a few names stand for nodes that are built, all others are opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Global {
    /// A dictionary: `collections.OrderedDict`, `collections.defaultdict`.
    Dictionary,
    /// `torch.Size`: its argument, a tuple.
    Size,
    /// `torch._utils._rebuild_tensor_v2`, and the first version with fewer arguments.
    RebuildTensor,
    /// `torch._utils._rebuild_tensor_v3`: on a storage without a type, which follows.
    RebuildTypedTensor,
    /// `torch._utils._rebuild_parameter`, also with the attributes that somebody gave the parameter.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2`: a call with the attributes of its result.
    RebuildFromType,
    /// `torch.FloatStorage` and its like.
    Storage(ElementType),
    /// `torch.float32` and its like.
    Dtype(ElementType),
    /// Any other name; its module and itself, as texts of the pickle.
    Foreign(TextRange, TextRange),
}

/// Start and length of a text in the pickle, known to be UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextRange(pub(super) u32, pub(super) u32);

impl Global {
    /// What a name stands for; none for one that means nothing here.
    pub(super) fn known(module: &str, name: &str) -> Option<Self> {
        match (module, name) {
            ("collections", "OrderedDict" | "defaultdict") => Some(Self::Dictionary),
            ("torch", "Size") => Some(Self::Size),
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Self::RebuildTypedTensor),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Some(Self::RebuildParameter),
            ("torch._tensor", "_rebuild_from_type_v2") => Some(Self::RebuildFromType),
            ("torch.storage", "UntypedStorage") => Some(Self::Storage(ElementType::other("bytes", 1))),
            ("torch" | "torch.cuda", storage) if storage.ends_with("Storage") => {
                storage_type(storage).map(Self::Storage)
            }
            ("torch", dtype) => element_type(dtype).map(Self::Dtype),
            _ => None,
        }
    }
}

/// The elements of a storage class.
fn storage_type(class: &str) -> Option<ElementType> {
    Some(match class {
        "DoubleStorage" => Element::F64.into(),
        "FloatStorage" => Element::F32.into(),
        "HalfStorage" => Element::F16.into(),
        "BFloat16Storage" => Element::Bf16.into(),
        "LongStorage" => Element::I64.into(),
        "IntStorage" => Element::I32.into(),
        "ShortStorage" => Element::I16.into(),
        "CharStorage" => Element::I8.into(),
        "ByteStorage" => Element::U8.into(),
        "BoolStorage" => Element::Bool.into(),
        "ComplexFloatStorage" => ElementType::other("complex64", 8),
        "ComplexDoubleStorage" => ElementType::other("complex128", 16),
        "QInt8Storage" => ElementType::other("qint8", 1),
        "QUInt8Storage" => ElementType::other("quint8", 1),
        "QInt32Storage" => ElementType::other("qint32", 4),
        "QUInt4x2Storage" => ElementType::other("quint4x2", 1),
        "QUInt2x4Storage" => ElementType::other("quint2x4", 1),
        "UntypedStorage" => ElementType::other("bytes", 1),
        _ => return None,
    })
}

/// The elements of a torch dtype.
fn element_type(dtype: &str) -> Option<ElementType> {
    Some(match dtype {
        "float64" => Element::F64.into(),
        "float32" => Element::F32.into(),
        "float16" => Element::F16.into(),
        "bfloat16" => Element::Bf16.into(),
        "int64" => Element::I64.into(),
        "int32" => Element::I32.into(),
        "int16" => Element::I16.into(),
        "int8" => Element::I8.into(),
        "uint8" => Element::U8.into(),
        "uint16" => Element::U16.into(),
        "uint32" => Element::U32.into(),
        "uint64" => Element::U64.into(),
        "bool" => Element::Bool.into(),
        "complex32" => ElementType::other("complex32", 4),
        "complex64" => ElementType::other("complex64", 8),
        "complex128" => ElementType::other("complex128", 16),
        "float8_e4m3fn" => ElementType::other("float8_e4m3fn", 1),
        "float8_e4m3fnuz" => ElementType::other("float8_e4m3fnuz", 1),
        "float8_e5m2" => ElementType::other("float8_e5m2", 1),
        "float8_e5m2fnuz" => ElementType::other("float8_e5m2fnuz", 1),
        "float8_e8m0fnu" => ElementType::other("float8_e8m0fnu", 1),
        _ => return None,
    })
}

/// A storage by its key: the member `data/<key>` of an archive, or a storage of a legacy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageRef {
    /// Element type.
    pub elements_are: ElementType,
    /// The key, a string of the pickle.
    pub key: NodeId,
    /// Elements that the storage of this key holds.
    pub elements: u64,
    /// First element and length, where only a part of it is meant.
    pub part: Option<(u64, u64)>,
}

/// A tensor as the pickle describes it; nothing in it is checked against the archive yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorRef {
    /// Node of its storage.
    pub storage: NodeId,
    /// Element type: that of the storage, unless it has none.
    pub elements_are: ElementType,
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
    /// A string.
    Text(TextRange),
    /// A tuple.
    Tuple(Box<[NodeId]>),
    /// A list.
    List(Vec<NodeId>),
    /// A dictionary, ordered or not.
    Dict(Vec<(NodeId, NodeId)>),
    /// Something that was named.
    Global(Global),
    /// A value of no meaning here: a set, bytes, an integer of more than 64 bits.
    Opaque(&'static str),
    /// What a call or a class would have made, and what was called. Nothing was.
    Object(NodeId),
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
            Self::Text(_) => "a string",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Global(Global::Dtype(_)) => "a dtype",
            Self::Global(_) => "a name",
            Self::Opaque(what) => what,
            Self::Object(_) => "an object",
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
    /// A tensor, a name, an object, a float that is not finite.
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
/// Most paths that are kept of what was left out, and most characters of a key in them.
const MAX_LEFT_OUT: usize = 64;
const MAX_KEY: usize = 64;

/// A conversion to JSON under way.
struct Unfolding {
    /// Values that it may still make.
    left: usize,
    /// Keys on the way to the value.
    path: Vec<String>,
    left_out: Vec<String>,
}

impl<'a> Arena<'a> {
    /// The node of this id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// All nodes, in the order in which they were made.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The text of a string node.
    pub fn text(&self, id: NodeId) -> Option<&'a str> {
        match *self.node(id) {
            Node::Text(range) => Some(self.range(range)),
            _ => None,
        }
    }

    /// A value in a few words, as messages name it: `an object of numpy.dtype`.
    pub fn describe(&self, id: NodeId) -> String {
        let named = |id: NodeId| match self.node(id) {
            Node::Global(Global::Foreign(module, name)) => {
                let short = |range: &TextRange| self.range(*range).chars().take(64).collect::<String>();
                Some(format!("`{}.{}`", short(module).escape_default(), short(name).escape_default()))
            }
            _ => None,
        };
        match self.node(id) {
            Node::Global(_) => named(id).unwrap_or_else(|| self.node(id).kind().to_owned()),
            Node::Object(class) => {
                named(*class).map_or_else(|| "an object".to_owned(), |n| format!("an object of {n}"))
            }
            other => other.kind().to_owned(),
        }
    }

    pub(super) fn range(&self, TextRange(start, length): TextRange) -> &'a str {
        let bytes = &self.pickle[start as usize..][..length as usize];
        std::str::from_utf8(bytes).expect("checked when the range was made")
    }

    /// The value under a string key of a dictionary; the last one, as in Python, if the key was set twice.
    pub fn get(&self, dictionary: &[(NodeId, NodeId)], key: &str) -> Option<NodeId> {
        dictionary.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|&(_, value)| value)
    }

    /// The value as JSON, and the paths of what was left out: entries of dictionaries that have no JSON form. Tuples
    /// become lists.
    ///
    /// # Errors
    /// It is something that JSON has no form for, has one key twice, or is too large when shared parts are written out.
    pub fn json(&self, id: NodeId) -> Result<(Value, Vec<String>), JsonError> {
        let mut unfolding = Unfolding { left: MAX_VALUES, path: Vec::new(), left_out: Vec::new() };
        let value = self.json_within(id, MAX_DEPTH, &mut unfolding)?;
        Ok((value, unfolding.left_out))
    }

    fn json_within(&self, id: NodeId, depth: usize, unfolding: &mut Unfolding) -> Result<Value, JsonError> {
        unfolding.left = unfolding.left.checked_sub(1).ok_or(JsonError::TooLarge)?;
        let depth = depth.checked_sub(1).ok_or(JsonError::TooLarge)?;
        let list = |items: &[NodeId], unfolding: &mut Unfolding| {
            let items = items.iter().map(|&item| self.json_within(item, depth, unfolding));
            items.collect::<Result<_, _>>().map(Value::Array)
        };
        match self.node(id) {
            Node::None => Ok(Value::Null),
            Node::Bool(value) => Ok(Value::Bool(*value)),
            Node::Int(value) => Ok(Value::Number((*value).into())),
            Node::Float(value) => {
                Number::from_f64(*value).map(Value::Number).ok_or(JsonError::Unsupported("a float that is not finite"))
            }
            Node::Text(TextRange(_, length)) => {
                // long strings count by their length, or a shared one could unfold to any size
                unfolding.left = unfolding.left.checked_sub(*length as usize / 16).ok_or(JsonError::TooLarge)?;
                Ok(Value::String(self.text(id).expect("a string node").to_owned()))
            }
            Node::Tuple(items) => list(items, unfolding),
            Node::List(items) => list(items, unfolding),
            Node::Dict(pairs) => {
                let mut map = Map::new();
                for &(key, value) in pairs {
                    let text = self.text(key);
                    let short = text.map_or_else(|| self.describe(key), |text| text.chars().take(MAX_KEY).collect());
                    unfolding.path.push(short);
                    let converted = match text {
                        Some(_) => self.json_within(value, depth, unfolding),
                        None => Err(JsonError::Unsupported("a key that is not a string")),
                    };
                    match (text, converted) {
                        (Some(key), Ok(value)) => {
                            if map.insert(key.to_owned(), value).is_some() {
                                return Err(JsonError::Duplicate(key.to_owned()));
                            }
                        }
                        (_, Err(JsonError::Unsupported(_))) if unfolding.left_out.len() < MAX_LEFT_OUT => {
                            unfolding.left_out.push(unfolding.path.join("."));
                        }
                        (_, Err(JsonError::Unsupported(_))) => {}
                        (_, Err(error)) => return Err(error),
                        (None, Ok(_)) => unreachable!("only strings are looked at"),
                    }
                    unfolding.path.pop();
                }
                Ok(Value::Object(map))
            }
            other => Err(JsonError::Unsupported(other.kind())),
        }
    }
}
