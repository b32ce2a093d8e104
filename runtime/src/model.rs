//! What the runtime knows of a model: tables of entries, their ports, and the layout of the state.
//!
//! Everything here is plain data made by the compiler. The runtime knows a few conventions (spec/abi.md) and nothing
//! of what a model computes: an entry takes rows of inputs, advances a state and gives rows of outputs.

/// Element types that cross the border of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Element {
    F32,
    I32,
    U32,
    U64,
    I8,
    U8,
    Bool,
}

impl Element {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 | Element::I32 | Element::U32 => 4,
            Element::U64 => 8,
            Element::I8 | Element::U8 | Element::Bool => 1,
        }
    }
}

/// Where an input's value comes from.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The next elements of the stream.
    Stream,
    /// A tensor the caller gives at each step.
    Value,
    /// The index of the step on the entry's time axis.
    Position,
    /// An output of the outer entry's current step.
    Outer(String),
    /// A model-level input; the bytes are its neutral value (zeros if it may be absent).
    Input(Vec<u8>),
    /// Whether the optional input of this name came.
    Given(String),
}

/// An input or output of an entry, for one row.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Port {
    pub name: String,
    pub element: Element,
    pub shape: Vec<usize>,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Only for inputs.
    pub source: Option<Source>,
    /// Inclusive bounds checked before the call.
    pub range: Option<(f64, f64)>,
}

impl Port {
    /// Elements of one row.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of one row without padding.
    pub fn bytes(&self) -> usize {
        self.elements() * self.element.bytes()
    }
}

/// What is fed to a stream before anything else.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Start {
    /// The elements of the first step.
    pub elements: Vec<u32>,
    /// Only to an empty prompt.
    pub only_if_empty: bool,
}

/// A choice between two branches that each step makes for itself. A branch runs on the steps that take it, gathered.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Choice {
    /// Where the model's text makes it, `file:line:column`.
    pub place: String,
    /// Path of the part that it belongs to.
    pub path: String,
    /// Whether the branches do work of their own, the one for a true condition first.
    pub works: [bool; 2],
    /// Scratch offset of two u32: after a call, how many of its steps took each branch.
    pub tallies: usize,
}

impl Choice {
    /// The branch that steps may skip: the only one of the two with work of its own.
    pub fn skipped(&self) -> Option<usize> {
        match self.works {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }
}

/// One entry: its ports and the state it advances.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EntryTable {
    pub name: String,
    /// Index of the entry inside of whose steps this one runs.
    pub within: Option<usize>,
    pub start: Option<Start>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Index into [`ModelTable::states`]: entries that share a state block share a time axis.
    pub group: usize,
    /// Choices that compiled code counts.
    pub choices: Vec<Choice>,
}

impl EntryTable {
    /// The stream parameter, if the entry has one.
    pub fn stream(&self) -> Option<&Port> {
        self.inputs.iter().find(|p| p.source == Some(Source::Stream))
    }

    /// Elements of the stream that one step consumes; 0 for an entry without a stream parameter.
    pub fn patch(&self) -> usize {
        self.stream().map_or(0, Port::elements)
    }

    /// Index of an output by name.
    pub fn output(&self, name: &str) -> Option<usize> {
        self.outputs.iter().position(|p| p.name == name)
    }
}

/// How a range of a state block is made new.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Reset {
    /// Byte offset in the block.
    pub offset: usize,
    pub bytes: usize,
    pub fill: Fill,
}

/// The initial content of a state range.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fill {
    Zero,
    /// A repeated pattern of one element.
    Pattern(Vec<u8>),
    /// A copy from this byte offset of the weights.
    Weights(usize),
}

/// The state block of one time axis.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct StateTable {
    /// Bytes of one block, a multiple of 64. Fresh memory is zero.
    pub bytes: usize,
    /// What must be written to make a used block new; ranges not named need no reset.
    pub resets: Vec<Reset>,
}

/// All that the runtime needs to know of a compiled model.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ModelTable {
    pub name: String,
    pub entries: Vec<EntryTable>,
    pub states: Vec<StateTable>,
    /// Bytes of scratch that a call needs.
    pub scratch_bytes: usize,
    /// Largest number of rows of one call.
    pub max_rows: usize,
    /// Bytes of the weight section.
    pub weight_bytes: usize,
    /// Messages of run-time checks; a call that fails returns 1 + the index.
    pub messages: Vec<String>,
}

impl ModelTable {
    /// The index of an entry.
    pub fn entry(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|e| e.name == name)
    }

    /// The main entry: the first outer one that consumes the stream.
    pub fn main(&self) -> Option<usize> {
        self.entries.iter().position(|e| e.within.is_none() && e.stream().is_some())
    }

    /// The entry that runs inside of another's steps and consumes the stream.
    pub fn inner(&self, outer: usize) -> Option<usize> {
        self.entries.iter().position(|e| e.within == Some(outer) && e.stream().is_some())
    }
}
