//! Declarations around the graphs: a module with its weights, states, entries and where each came from.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::graph::Region;
use super::types::{Elem, Encoding, Literal, Type};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// The position in the module's table.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id!(
    /// A weight of [`Module::weights`].
    WeightId
);
id!(
    /// A state of [`Module::states`].
    StateId
);
id!(
    /// A growing axis of [`Module::axes`].
    AxisId
);
id!(
    /// A host function of [`Module::hosts`].
    HostId
);
id!(
    /// A place in the model's text, of [`Module::origins`].
    OriginId
);

/// A whole model for one config: what the language elaborates to and the passes transform.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// The name after `model`.
    pub name: String,
    /// The text after it.
    pub title: String,
    pub weights: Vec<WeightDecl>,
    pub states: Vec<StateDecl>,
    pub axes: Vec<Axis>,
    pub hosts: Vec<HostDecl>,
    pub entries: Vec<Entry>,
    /// Shared by copies of the module.
    pub origins: Arc<Vec<Origin>>,
    /// What became of each config key, in the config's order.
    pub config: Vec<ConfigUse>,
    /// What to do with tensors the graph does not read.
    pub checkpoint: Vec<CheckpointRule>,
}

/// A tensor of the checkpoint, or one computed from such tensors once, at load.
#[derive(Clone, Debug)]
pub struct WeightDecl {
    /// Its checkpoint name, e.g. `layers.3.mixer.w_f.weight`.
    pub path: String,
    /// As in the checkpoint: `[out, in]` for a linear layer.
    pub shape: Vec<usize>,
    pub encoding: Encoding,
    pub source: WeightSource,
    pub origin: OriginId,
}

impl WeightDecl {
    /// Its type in the graph.
    pub fn ty(&self) -> Type {
        Type::of(self.encoding.elem(), &self.shape)
    }

    /// Number of weights.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Where a weight's values come from.
#[derive(Clone, Debug)]
pub enum WeightSource {
    /// The tensor of this name; an optional one that is absent is not declared at all.
    Checkpoint,
    /// Evaluated at load by a region without parameters that reads other weights; one result.
    Computed(Arc<Region>),
}

/// A variable that survives the step.
#[derive(Clone, Debug)]
pub struct StateDecl {
    /// Dotted path, e.g. `layers.3.mixer.h`.
    pub path: String,
    /// Mapped axes first; one axis may be `Dim::Grow`. The value a `state_read` of one instance has.
    pub ty: Type,
    pub initial: Initial,
    /// Bounds of the repeats around it, outermost first: each iteration has its own instance.
    pub instances: Vec<usize>,
    /// Written by the host between steps, never by the graph.
    pub held: bool,
    /// How its elements lie in memory: as its type says, or, where it grows and its type is f32, as bf16. Then entries
    /// are rounded to nearest even when they are pushed, and are f32 again when they are read.
    pub stored: Elem,
    pub origin: OriginId,
}

/// What a state holds before the first step. A growing state starts empty.
#[derive(Clone, Debug)]
pub enum Initial {
    /// Every element (given as f64; exact for all elements but u64).
    Fill(f64),
    /// The values of a float weight of the state's shape.
    Weight(WeightId),
    Empty,
}

/// A growing axis; states that share it are pushed at the same places of a step.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Path of the first state that has it.
    pub path: String,
    pub capacity: AxisCapacity,
}

/// A bound on entries of a growing axis, so that counters and offsets fit their types.
pub const MAX_ENTRIES: usize = 1 << 30;

/// How many entries a growing axis keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AxisCapacity {
    /// All of them.
    Unbounded,
    /// At most this many; one more is an error.
    Max(usize),
    /// The last so many.
    Ring(usize),
}

/// A function of the embedding program that a step may ask.
#[derive(Clone, Debug)]
pub struct HostDecl {
    pub name: String,
    pub params: Vec<(String, Type)>,
    pub result: Type,
}

/// One way to run the model: a region of one time step, or, once lifted, of all steps of a call.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: String,
    /// The entry this one runs inside of, for each of whose steps its states and position start anew.
    pub within: Option<usize>,
    pub start: Option<Start>,
    /// One per parameter of `body`, in order.
    pub params: Vec<Param>,
    /// One per result of `body`, in order.
    pub outputs: Vec<OutputDecl>,
    pub body: Region,
    /// Whether `time_lift` has run: per-step parameters and results have a time axis.
    pub lifted: bool,
}

/// What is fed before anything else.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// The elements of the first step.
    pub elements: Vec<u32>,
    /// Only when the prompt is empty.
    pub only_if_empty: bool,
}

/// A parameter of an entry's region.
#[derive(Clone, Debug)]
pub struct Param {
    pub name: String,
    pub ty: Type,
    pub kind: ParamKind,
    /// Inclusive bounds that the runtime checks at the border, in the parameter's own type.
    pub range: Option<(f64, f64)>,
}

/// Where a parameter's value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum ParamKind {
    /// The next elements of the stream: u8\[P\] or u32.
    Stream,
    /// A tensor that the caller gives at each step.
    Value,
    /// The index of the step on the entry's time axis, i32.
    Position,
    /// This output of the outer entry's current step.
    Outer { output: String },
    /// A model-level `input` with its neutral value, or none if the input may be absent (then zeros).
    Input { default: Option<Literal> },
    /// Whether the optional input of this name came; bool.
    Given { input: String },
}

/// A result of an entry.
#[derive(Clone, Debug)]
pub struct OutputDecl {
    pub name: String,
    pub ty: Type,
}

/// A place in the model's text, with the way that led there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    pub file: Arc<str>,
    /// From 1; 0: unknown.
    pub line: u32,
    pub column: u32,
    /// Path of the innermost part, e.g. `layers.3.mixer`.
    pub path: Arc<str>,
    /// Chain of blocks called, outermost first, e.g. `trunk > layer > mlgru`.
    pub chain: Arc<str>,
}

/// What became of a config key.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigUse {
    /// Dotted path.
    pub key: String,
    /// The value as JSON text.
    pub value: String,
    pub treatment: Treatment,
}

/// The treatment of a config key.
#[derive(Clone, Debug, PartialEq)]
pub enum Treatment {
    /// Read by the graph.
    Used,
    /// Not given; the default was taken (and read).
    Default,
    Ignored(String),
    Runtime(String),
    Warned(String),
}

/// A rule of the `checkpoint` section, with its condition already decided.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckpointRule {
    /// Tensors whose names match the glob are not needed, with the reason. With a tensor the glob is the name of just
    /// that one, which belongs to the model: it counts as parameters, and where a checkpoint has it, it has this shape.
    /// With a path it is said where the one tensor of the name differs from that weight, of which it should be a copy.
    Ignore { glob: String, why: String, tensor: Option<UnreadTensor>, copy_of: Option<String> },
    /// Removed from the front of names, repeatedly.
    Strip { prefix: String },
    /// From the names in the file to those of the graph; `*` stands for one run of characters.
    Rename { from: String, to: String },
    /// The config given may differ in this key from the one saved with the weights.
    Choose { key: String, why: String },
}

/// A tensor that belongs to a model and that its graph does not read.
#[derive(Clone, Debug, PartialEq)]
pub struct UnreadTensor {
    pub encoding: Encoding,
    pub shape: Vec<usize>,
}

impl Module {
    /// Declares a weight.
    pub fn add_weight(&mut self, weight: WeightDecl) -> WeightId {
        self.weights.push(weight);
        WeightId(self.weights.len() as u32 - 1)
    }

    /// Declares a state.
    pub fn add_state(&mut self, state: StateDecl) -> StateId {
        self.states.push(state);
        StateId(self.states.len() as u32 - 1)
    }

    /// Declares a growing axis.
    pub fn add_axis(&mut self, axis: Axis) -> AxisId {
        self.axes.push(axis);
        AxisId(self.axes.len() as u32 - 1)
    }

    /// Declares a host function.
    pub fn add_host(&mut self, host: HostDecl) -> HostId {
        self.hosts.push(host);
        HostId(self.hosts.len() as u32 - 1)
    }

    /// A place in the model's text as the last line of an error; nothing if the module does not know it.
    pub fn place(&self, origin: OriginId) -> String {
        // A package has no text, so its nodes may have no place.
        let known = self.origins.get(origin.index()).filter(|o| o.line > 0);
        known.map_or_else(String::new, |o| {
            let within = if o.chain.is_empty() { String::new() } else { format!(", in {} ({})", o.path, o.chain) };
            format!("\n  --> {}:{}:{}{within}", o.file, o.line, o.column)
        })
    }

    /// Records a place, once.
    pub fn add_origin(&mut self, origin: Origin) -> OriginId {
        if let Some(i) = self.origins.iter().rposition(|o| *o == origin) {
            return OriginId(i as u32);
        }
        Arc::make_mut(&mut self.origins).push(origin);
        OriginId(self.origins.len() as u32 - 1)
    }

    /// The weight of this id.
    pub fn weight(&self, id: WeightId) -> &WeightDecl {
        &self.weights[id.index()]
    }

    /// The state of this id.
    pub fn state(&self, id: StateId) -> &StateDecl {
        &self.states[id.index()]
    }

    /// The axis of this id.
    pub fn axis(&self, id: AxisId) -> &Axis {
        &self.axes[id.index()]
    }

    /// The entry of this name with its index.
    pub fn entry(&self, name: &str) -> Option<(usize, &Entry)> {
        self.entries.iter().enumerate().find(|(_, e)| e.name == name)
    }

    /// All tensors that a complete checkpoint has: path, encoding and shape. The graph need not read them.
    pub fn stored(&self) -> impl Iterator<Item = (&str, &Encoding, &[usize])> {
        let read = self.weights.iter().filter(|w| matches!(w.source, WeightSource::Checkpoint));
        let read = read.map(|w| (w.path.as_str(), &w.encoding, w.shape.as_slice()));
        read.chain(self.unread().map(|(path, tensor, _)| (path, &tensor.encoding, tensor.shape.as_slice())))
    }

    /// Those of them that the graph does not read, with the reason.
    pub fn unread(&self) -> impl Iterator<Item = (&str, &UnreadTensor, &str)> {
        self.checkpoint.iter().filter_map(|rule| match rule {
            CheckpointRule::Ignore { glob, why, tensor: Some(tensor), .. } => {
                Some((glob.as_str(), tensor, why.as_str()))
            }
            _ => None,
        })
    }

    /// Number of weights that a complete checkpoint has.
    pub fn parameters(&self) -> usize {
        self.stored().map(|(_, _, shape)| shape.iter().product::<usize>()).sum()
    }
}

impl Module {
    /// Stores the caches whose entries are vectors of f32 as bf16, or as f32 again: keys, values and the like, which
    /// are read as a whole. What keeps scalars, or is read by `recent` only, is small or part of a recurrence and
    /// stays.
    pub fn store_caches(&mut self, elem: Elem) {
        let recent = self.looked_back_in();
        for (id, decl) in self.states.iter_mut().enumerate() {
            if decl.holds_vectors() && !recent.contains(&StateId(id as u32)) {
                decl.stored = elem;
            }
        }
    }

    /// Whether [`Module::store_caches`] is about a state.
    pub fn is_cache(&self, state: StateId) -> bool {
        self.state(state).holds_vectors() && !self.looked_back_in().contains(&state)
    }

    /// The states that `recent` looks into.
    fn looked_back_in(&self) -> BTreeSet<StateId> {
        let mut found = BTreeSet::new();
        self.entries.iter().for_each(|entry| recent(&entry.body, &mut found));
        found
    }
}

fn recent(region: &Region, found: &mut BTreeSet<StateId>) {
    for id in region.nodes() {
        let op = &region.node(id).op;
        if let super::op::Op::Recent { state, .. } = op {
            found.insert(*state);
        }
        Region::nested(op).into_iter().for_each(|inner| recent(inner, found));
    }
}

impl StateDecl {
    /// Whether its entries are vectors of f32.
    fn holds_vectors(&self) -> bool {
        self.ty.elem == Elem::F32 && self.growing().is_some_and(|(at, _)| at + 1 < self.ty.rank())
    }

    /// The growing axis, with its index in the shape.
    pub fn growing(&self) -> Option<(usize, AxisId)> {
        self.ty.shape.iter().enumerate().find_map(|(i, d)| match d {
            super::types::Dim::Grow { axis, .. } => Some((i, *axis)),
            _ => None,
        })
    }

    /// The element.
    pub fn elem(&self) -> Elem {
        self.ty.elem
    }
}
