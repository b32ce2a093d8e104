//! The printed form of a module (spec/ir.md): complete, deterministic, and read back by `read` to the same graph.
//!
//! Values are renumbered in order of definition, so that two graphs that differ in one node differ in few lines.
//! Anything can be printed, broken graphs too: the verifier shows what it found through [`Printer::note`].

use std::fmt::{self, Display, Write};

use rustc_hash::FxHashMap;

use super::graph::{NodeId, Region, Value};
use super::module::*;
use super::op::Op;

/// Literals of at most this many elements are printed as one value when all are equal.
pub const MAX_SPLAT: usize = 1 << 16;

/// A way from the root of an entry or weight to a nested region: nodes, and which of their regions.
pub type RegionPath = Vec<(NodeId, usize)>;

/// Which tree of regions a place lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Root {
    /// The body of this entry.
    Entry(usize),
    /// The computation of this weight.
    Weight(usize),
}

/// A line of the printed form that something can be said about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The module as a whole.
    Module,
    /// A declaration, by its printed name (`w3`, `s0`, `cache1`, `h0`, `e0`).
    Declaration(String),
    /// A region's parameters.
    Params(Root, RegionPath),
    /// A node.
    Node(Root, RegionPath, NodeId),
    /// A region's results.
    Yield(Root, RegionPath),
}

/// Prints modules.
#[derive(Default)]
pub struct Printer {
    /// Whether origins are printed (the table, and `@n` after nodes and declarations).
    pub origins: bool,
    notes: FxHashMap<Place, Vec<String>>,
    out: String,
    indent: usize,
    place: Option<(Root, RegionPath)>,
}

/// A module without origins.
pub fn print_module(module: &Module) -> String {
    Printer::default().module(module)
}

/// A module with its origins: the form that loses nothing.
pub fn print_module_with_origins(module: &Module) -> String {
    Printer { origins: true, ..Printer::default() }.module(module)
}

/// One region, as the body of an entry.
pub fn print_region(region: &Region) -> String {
    let mut printer = Printer::default();
    printer.region(region, "region");
    printer.out
}

/// An operation with its attributes as printed: equal texts mean equal operations (nested regions aside).
pub fn op_text(op: &Op) -> String {
    let mut text = op.name().to_string();
    attributes(op, &mut text);
    text
}

impl Printer {
    /// Has `text` printed under the line of `place`.
    pub fn note(&mut self, place: Place, text: String) {
        self.notes.entry(place).or_default().push(text);
    }

    /// Prints everything.
    pub fn module(mut self, module: &Module) -> String {
        self.line(format_args!("module {} {}", quoted(&module.name), quoted(&module.title)));
        self.say(&Place::Module);
        if self.origins {
            for (i, o) in module.origins.iter().enumerate() {
                self.line(format_args!(
                    "origin @{i} {} {} {} {} {}",
                    quoted(&o.file),
                    o.line,
                    o.column,
                    quoted(&o.path),
                    quoted(&o.chain)
                ));
            }
        }
        for c in &module.config {
            let (name, why) = match &c.treatment {
                Treatment::Used => ("used", None),
                Treatment::Default => ("default", None),
                Treatment::Ignored(why) => ("ignored", Some(why)),
                Treatment::Runtime(who) => ("runtime", Some(who)),
                Treatment::Warned(why) => ("warned", Some(why)),
            };
            let why = why.map(|w| format!(" {}", quoted(w))).unwrap_or_default();
            self.line(format_args!("config {} {} {name}{why}", quoted(&c.key), quoted(&c.value)));
        }
        for rule in &module.checkpoint {
            let (name, a, b) = match rule {
                CheckpointRule::Ignore { glob, why, .. } => ("ignore", glob, Some(why)),
                CheckpointRule::Strip { prefix } => ("strip", prefix, None),
                CheckpointRule::Rename { from, to } => ("rename", from, Some(to)),
                CheckpointRule::Choose { key, why } => ("choose", key, Some(why)),
            };
            let b = b.map(|b| format!(" {}", quoted(b))).unwrap_or_default();
            let (tensor, copy) = match rule {
                CheckpointRule::Ignore { tensor, copy_of, .. } => (tensor.as_ref(), copy_of.as_ref()),
                _ => (None, None),
            };
            let tensor = tensor.map(|t| format!(" tensor {}{}", t.encoding, Shape(&t.shape))).unwrap_or_default();
            let copy = copy.map(|path| format!(" copy {}", quoted(path))).unwrap_or_default();
            self.line(format_args!("checkpoint {name} {}{b}{tensor}{copy}", quoted(a)));
        }
        for (i, axis) in module.axes.iter().enumerate() {
            let capacity = match axis.capacity {
                AxisCapacity::Unbounded => "unbounded".to_string(),
                AxisCapacity::Max(n) => format!("max({n})"),
                AxisCapacity::Ring(n) => format!("ring({n})"),
            };
            self.line(format_args!("axis cache{i} {} {capacity}", quoted(&axis.path)));
            self.say(&Place::Declaration(format!("cache{i}")));
        }
        for (i, host) in module.hosts.iter().enumerate() {
            let params: Vec<String> = host.params.iter().map(|(name, ty)| format!("{}: {ty}", quoted(name))).collect();
            self.line(format_args!("host h{i} {} ({}) -> {}", quoted(&host.name), params.join(", "), host.result));
            self.say(&Place::Declaration(format!("h{i}")));
        }
        for (i, weight) in module.weights.iter().enumerate() {
            let origin = self.origin(weight.origin);
            let shape = Shape(&weight.shape);
            let head = format!("weight w{i} {} {}{shape}", quoted(&weight.path), weight.encoding);
            match &weight.source {
                WeightSource::Checkpoint => {
                    self.line(format_args!("{head}{origin}"));
                    self.say(&Place::Declaration(format!("w{i}")));
                }
                WeightSource::Computed(region) => {
                    self.line(format_args!("{head} computed{origin} {{"));
                    self.say(&Place::Declaration(format!("w{i}")));
                    self.place = Some((Root::Weight(i), Vec::new()));
                    self.indent += 1;
                    self.region(region, "body");
                    self.indent -= 1;
                    self.place = None;
                    self.line(format_args!("}}"));
                }
            }
        }
        for (i, state) in module.states.iter().enumerate() {
            let mut line = format!("state s{i} {} {}", quoted(&state.path), state.ty);
            let _ = match &state.initial {
                Initial::Fill(v) => write!(line, " fill({v:?})"),
                Initial::Weight(w) => write!(line, " weight(w{})", w.0),
                Initial::Empty => write!(line, " empty"),
            };
            if !state.instances.is_empty() {
                let _ = write!(line, " instances{}", Shape(&state.instances));
            }
            if state.held {
                line.push_str(" held");
            }
            if state.stored != state.ty.elem {
                let _ = write!(line, " stored({})", state.stored.name());
            }
            line.push_str(&self.origin(state.origin));
            self.line(format_args!("{line}"));
            self.say(&Place::Declaration(format!("s{i}")));
        }
        for (i, entry) in module.entries.iter().enumerate() {
            self.entry(i, entry);
        }
        self.out
    }

    fn entry(&mut self, i: usize, entry: &Entry) {
        let mut line = format!("entry e{i} {}", quoted(&entry.name));
        if let Some(outer) = entry.within {
            let _ = write!(line, " within e{outer}");
        }
        if let Some(start) = &entry.start {
            let elements: Vec<String> = start.elements.iter().map(|e| e.to_string()).collect();
            let _ = write!(line, " start({})", elements.join(", "));
            if start.only_if_empty {
                line.push_str(" if_empty");
            }
        }
        if entry.lifted {
            line.push_str(" lifted");
        }
        self.line(format_args!("{line} {{"));
        self.say(&Place::Declaration(format!("e{i}")));
        self.indent += 1;
        for param in &entry.params {
            let mut line = format!("in {} ", quoted(&param.name));
            let _ = match &param.kind {
                ParamKind::Stream => write!(line, "stream"),
                ParamKind::Value => write!(line, "value"),
                ParamKind::Position => write!(line, "position"),
                ParamKind::Outer { output } => write!(line, "outer({})", quoted(output)),
                ParamKind::Input { default: None } => write!(line, "input"),
                ParamKind::Input { default: Some(value) } => write!(line, "input({value})"),
                ParamKind::Given { input } => write!(line, "given({})", quoted(input)),
            };
            if let Some((low, high)) = param.range {
                let _ = write!(line, " range({low:?}, {high:?})");
            }
            self.line(format_args!("{line} : {}", param.ty));
        }
        for output in &entry.outputs {
            self.line(format_args!("out {} : {}", quoted(&output.name), output.ty));
        }
        self.place = Some((Root::Entry(i), Vec::new()));
        self.region(&entry.body, "body");
        self.place = None;
        self.indent -= 1;
        self.line(format_args!("}}"));
    }

    fn region(&mut self, region: &Region, label: &str) {
        let mut numbers: FxHashMap<Value, usize> = FxHashMap::default();
        let number = |v: Value, numbers: &mut FxHashMap<Value, usize>| {
            let next = numbers.len();
            *numbers.entry(v).or_insert(next)
        };
        let mut head = format!("{label}(");
        for (i, &p) in region.params().iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            let n = number(p, &mut numbers);
            let _ = write!(head, "{comma}%{n}: {}", region.ty(p));
        }
        self.line(format_args!("{head}) {{"));
        if let Some((root, path)) = self.place.clone() {
            self.say(&Place::Params(root, path));
        }
        self.indent += 1;
        for id in region.nodes() {
            let node = region.node(id);
            let mut line = String::new();
            for (i, &r) in node.results.iter().enumerate() {
                let comma = if i > 0 { ", " } else { "" };
                let n = number(r, &mut numbers);
                let _ = write!(line, "{comma}%{n}");
            }
            if !node.results.is_empty() {
                line.push_str(" = ");
            }
            line.push_str(node.op.name());
            attributes(&node.op, &mut line);
            operands(&node.inputs, &numbers, &mut line);
            for (i, &r) in node.results.iter().enumerate() {
                let _ = write!(line, "{}{}", if i > 0 { ", " } else { " : " }, region.ty(r));
            }
            line.push_str(&self.origin(node.origin));
            let nested = Region::nested(&node.op);
            if nested.is_empty() {
                self.line(format_args!("{line}"));
                self.say_node(id);
                continue;
            }
            self.line(format_args!("{line} {{"));
            self.say_node(id);
            self.indent += 1;
            for (i, inner) in nested.into_iter().enumerate() {
                let label = match (&node.op, i) {
                    (Op::If { .. }, 0) => "then",
                    (Op::If { .. }, _) => "else",
                    (Op::Experts { .. }, _) => "expert",
                    _ => "body",
                };
                if let Some((_, path)) = &mut self.place {
                    path.push((id, i));
                }
                self.region(inner, label);
                if let Some((_, path)) = &mut self.place {
                    path.pop();
                }
            }
            self.indent -= 1;
            self.line(format_args!("}}"));
        }
        let mut line = String::from("yield");
        operands(region.results(), &numbers, &mut line);
        self.line(format_args!("{line}"));
        if let Some((root, path)) = self.place.clone() {
            self.say(&Place::Yield(root, path));
        }
        self.indent -= 1;
        self.line(format_args!("}}"));
    }

    fn line(&mut self, text: fmt::Arguments<'_>) {
        for _ in 0..self.indent {
            self.out.push_str("  ");
        }
        let _ = self.out.write_fmt(text);
        self.out.push('\n');
    }

    fn say_node(&mut self, id: NodeId) {
        if self.notes.is_empty() {
            return;
        }
        if let Some((root, path)) = self.place.clone() {
            self.say(&Place::Node(root, path, id));
        }
    }

    fn say(&mut self, place: &Place) {
        for text in self.notes.remove(place).unwrap_or_default() {
            let width = self.out.lines().last().map_or(1, |l| l.trim().len().max(1));
            self.line(format_args!("{} {text}", "^".repeat(width.min(60))));
        }
    }

    fn origin(&self, origin: OriginId) -> String {
        if self.origins { format!(" @{}", origin.0) } else { String::new() }
    }
}

fn operands(values: &[Value], numbers: &FxHashMap<Value, usize>, line: &mut String) {
    for (i, v) in values.iter().enumerate() {
        let _ = match numbers.get(v) {
            Some(n) => write!(line, "{}%{n}", if i > 0 { ", " } else { " " }),
            // Only in a broken graph: a value that nothing before this line defines.
            None => write!(line, "{}%?{}", if i > 0 { ", " } else { " " }, v.0),
        };
    }
}

fn attributes(op: &Op, line: &mut String) {
    let list = |axes: &[usize]| {
        let axes: Vec<String> = axes.iter().map(|a| a.to_string()).collect();
        axes.join(", ")
    };
    let _ = match op {
        Op::Constant(literal) => write!(line, "({literal})"),
        Op::Weight(w) => write!(line, "(w{})", w.0),
        Op::Iota(n) => write!(line, "({n})"),
        Op::Convert(elem) => write!(line, "({})", elem.name()),
        Op::Broadcast { axes } | Op::Permute { axes } => write!(line, "({})", list(axes)),
        Op::Slice { axis, start, len } => write!(line, "({axis}, {start}, {len})"),
        Op::Concat { axis } | Op::Reduce { axis, .. } => write!(line, "({axis})"),
        Op::Gather { batch } | Op::MatMul { batch } => write!(line, "({batch})"),
        Op::TopK { k } | Op::TopMask { k } => write!(line, "({k})"),
        Op::QuantizeInput { quant } | Op::LinearInt8 { quant } => write!(line, "({quant})"),
        Op::StateRead(s) | Op::StateWrite(s) => write!(line, "(s{})", s.0),
        Op::Push { state } | Op::Positions { state } => write!(line, "(s{})", state.0),
        Op::Recent { back, state } => write!(line, "(s{}, {back})", state.0),
        Op::Repeat { first, max, carried, .. } => write!(line, "({first}, {max}, {carried})"),
        Op::Fused { kind, .. } => write!(line, "({})", kind.name()),
        Op::Host(h) => write!(line, "(h{})", h.0),
        Op::Check { message } => write!(line, "({})", quoted(message)),
        Op::Probe { path } => write!(line, "({})", quoted(path)),
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Compare(_)
        | Op::Select
        | Op::Bits
        | Op::Reshape
        | Op::Linear
        | Op::If { .. }
        | Op::Experts { .. }
        | Op::Scan { .. } => Ok(()),
    };
}

struct Shape<'a>(&'a [usize]);

impl Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.0.iter().map(|n| n.to_string()).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}

/// A text in double quotes, with `\\`, `\"` and `\u{..}` for what would not survive on a line.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
