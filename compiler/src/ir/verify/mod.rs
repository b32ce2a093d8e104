//! The verifier: says of a module whether it means something. It runs after elaboration and after every pass, in
//! release builds too.
//!
//! What holds of every verified module (spec/ir.md repeats this list):
//!
//! 1. Every id (weight, state, axis, host, entry, origin) is declared. Names of entries and paths of weights and
//!    states are unique.
//! 2. A value is defined before it is used, in the region that uses it; regions are isolated.
//! 3. Time is the first axis of a type or absent, and occurs only in lifted entries; a type has at most one growing
//!    axis, and never both. Stored elements (f16, bf16, ternary, sign) occur only in the types of whole weights.
//!    Known axes hold at least 1 and a value at most 2^40 elements.
//! 4. Results have the types that `infer` gives.
//! 5. A computed weight is f32, has a region without parameters, and reads only weights declared before it; it
//!    contains no state, host function or effect.
//! 6. A state has no time axis; it starts empty exactly if it grows; if it starts from a weight it is f32 and ends with
//!    the weight's axes. All instances with full axes have at most 2^40 elements. A held state neither grows nor has
//!    instances.
//! 7. An entry's parameters and outputs are those of its body, in number and type; if it is lifted all of them have
//!    time. The position is i32, the stream u32 or u8\[P\], and both occur at most once; outer parameters name an
//!    output of the entry it is within, of its type per step. A start is one step of the stream.
//! 8. A state is written and pushed at most once on any way through a step; it is read and written inside exactly
//!    the repeats that its `instances` name (held states: anywhere). What is pushed to, looked back in, asked for
//!    positions or left in a growing state is that state's newest entries, and growing values that meet have one length
//!    ([`super::lengths`]). What is pushed is written. A state is not read after an inner region has changed it;
//!    regions of experts have none. `recent` looks back among the entries kept.
//! 9. In a lifted entry states are used, and types grow, only inside `scan`. A scan is not inside a scan, and no type
//!    inside it has time.
//! 10. States on one growing axis are those of one group of entries, have the same instances, and are pushed together,
//!     at one position. Entries from before a push and from after it do not meet in one operation.
//! 11. An integer product takes codes and maxima of one quantiser of its kind.
//! 12. A fused group contains no fused group, and no control flow but scans; a linear epilogue has exactly one linear
//!     operation, a norm_quant a quantiser.

pub mod budget;
mod declarations;
mod region;
mod states;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::graph::Region;
use super::groups::states_of;
use super::infer::TypeError;
use super::lengths::LengthFault;
use super::module::{Module, StateId, WeightSource};
use super::print::{Place, Printer, RegionPath, Root};

/// What is wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// An operation does not take its operands.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A node declares other result types than its operation gives.
    #[error("gives {expected}, not {found}")]
    Results { expected: String, found: String },
    /// A value that nothing before defines.
    #[error("%?{0} is not defined before this")]
    Undefined(u32),
    /// A type that is none.
    #[error("{ty} is no type here: {why}")]
    IllFormed { ty: String, why: &'static str },
    /// A declaration that contradicts itself or another.
    #[error("{0}")]
    Declaration(String),
    /// States or control flow where they must not be.
    #[error("{0}")]
    Structure(String),
    /// Growing values that are not of one length.
    #[error(transparent)]
    Length(#[from] LengthFault),
    /// More than a graph may cost.
    #[error("{0}")]
    Budget(String),
}

/// A fault with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    pub place: Place,
    pub fault: Fault,
}

/// All that the verifier found. As text it is the first fault with its place in the model's text.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the graph is not valid: {}{at}", violations[0].fault)]
pub struct VerifyError {
    pub violations: Vec<Violation>,
    at: String,
    /// The printed lines around each fault, for those who work on the compiler.
    pub shown: String,
}

/// More violations than this are not collected.
const MAX_VIOLATIONS: usize = 50;

/// Checks every invariant.
pub fn verify(module: &Module) -> Result<(), VerifyError> {
    let mut checker = Checker::new(module);
    checker.declarations();
    checker.axes();
    checker.regions();
    if checker.violations.is_empty() {
        let found = super::lengths::lengths(module).violations;
        let faults = found.into_iter().map(|v| Violation { place: v.place, fault: Fault::Length(v.fault) });
        checker.violations.extend(faults);
    }
    checker.finish()
}

/// A place in the model's text, or what is known of it.
fn place(module: &Module, place: &Place) -> String {
    let region = |root: &Root, path: &RegionPath| {
        let whole = match root {
            Root::Entry(i) => Some(&module.entries.get(*i)?.body),
            Root::Weight(i) => match &module.weights.get(*i)?.source {
                WeightSource::Computed(region) => Some(&**region),
                WeightSource::Checkpoint => None,
            },
        };
        path.iter()
            .try_fold(whole?, |region, &(node, nested)| Region::nested(&region.node(node).op).get(nested).copied())
    };
    let declared = |name: &str| {
        let number = || name[1..].parse::<usize>().ok();
        match name.as_bytes().first()? {
            b'w' => Some(module.weights.get(number()?)?.origin),
            b's' => Some(module.states.get(number()?)?.origin),
            _ => None,
        }
    };
    let (origin, name) = match place {
        Place::Module => (None, module.name.clone()),
        Place::Declaration(name) => (declared(name), name.clone()),
        Place::Node(root, path, node) => (region(root, path).map(|r| r.node(*node).origin), format!("{root:?}")),
        Place::Params(root, _) | Place::Yield(root, _) => (None, format!("{root:?}")),
    };
    let at = origin.map_or_else(String::new, |origin| module.place(origin));
    if at.is_empty() { format!(" ({name})") } else { at }
}

/// Lines marked by the printer, with a few before each and the lines that open the regions around.
fn around_notes(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut keep = vec![false; lines.len()];
    let indent = |line: &str| line.len() - line.trim_start().len();
    for i in 0..lines.len() {
        if !lines[i].trim_start().starts_with('^') {
            continue;
        }
        for k in &mut keep[i.saturating_sub(4)..=i] {
            *k = true;
        }
        let mut depth = indent(lines[i]);
        for j in (0..i).rev() {
            if indent(lines[j]) < depth {
                depth = indent(lines[j]);
                keep[j] = true;
            }
            if depth == 0 {
                break;
            }
        }
    }
    let mut out = String::new();
    let mut gap = false;
    for (line, keep) in lines.iter().zip(keep) {
        if keep {
            if gap {
                out.push_str("  ...\n");
            }
            out.push_str(line);
            out.push('\n');
        }
        gap = !keep;
    }
    out
}

struct Checker<'a> {
    module: &'a Module,
    /// The states that each entry uses, until [`Checker::axes`] has looked at them.
    uses: Vec<BTreeSet<StateId>>,
    /// The states that entries use on each growing axis.
    on_axis: states::OnAxis,
    violations: Vec<Violation>,
}

impl<'a> Checker<'a> {
    fn new(module: &'a Module) -> Checker<'a> {
        let uses: Vec<BTreeSet<StateId>> = module.entries.iter().map(|entry| states_of(&entry.body)).collect();
        let on_axis = states::on_axis(module, &uses);
        Checker { module, uses, on_axis, violations: Vec::new() }
    }

    fn finish(self) -> Result<(), VerifyError> {
        let mut violations = self.violations;
        if violations.is_empty() {
            return Ok(());
        }
        violations.truncate(MAX_VIOLATIONS);
        let mut printer = Printer::default();
        for violation in &violations {
            printer.note(violation.place.clone(), violation.fault.to_string());
        }
        let shown = around_notes(&printer.module(self.module));
        let at = place(self.module, &violations[0].place);
        Err(VerifyError { violations, at, shown })
    }

    fn fault(&mut self, place: Place, fault: Fault) {
        if self.violations.len() <= MAX_VIOLATIONS {
            self.violations.push(Violation { place, fault });
        }
    }

    fn declaration(&mut self, name: &str, what: impl Into<String>) {
        self.fault(Place::Declaration(name.to_string()), Fault::Declaration(what.into()));
    }
}
