//! Rewriting of the IR: the list of passes, in their order, and the driver that runs them.
//!
//! Every pass takes a verified module to a verified module that means the same bits, and says in one line what it did.
//! The verifier runs after the last of a row, and after each where assertions are on. What the later stages may rely on
//! once all have run:
//!
//! - Leaves (constants, weights, iota) and broadcasts are repeated inside the bodies that use them, so a linear
//!   operation's weights are `weight` nodes of its own region.
//! - States, and anything with a growing axis, are inside `scan` bodies, in step form.
//! - `fused(linear_epilogue)`: one `linear_int8` or `linear` (possibly of several weights; its quantiser is outside),
//!   elementwise operations and broadcasts on rows `[T, m]` of the linear's results, and scans whose bodies are
//!   elementwise on `[m]`. Results of the linear that are combined have equal m; others may differ. Every other operand
//!   is a row `[T, m]` or a smaller value that a broadcast in the body fills it with.
//! - `fused(norm_quant)`: one `quantize_input` with the elementwise operations, broadcasts and reductions of the last
//!   axis before it; values in between may be results too.
//! - `fused(recurrence)`: one scan without growing axes or control flow, with elementwise neighbours.
//! - `fused(elementwise)`: elementwise operations, broadcasts and reductions of the last axis, over one shape
//!   `[T, .., n]` and `[T, ..]`.
//! - Groups are convex: nothing outside lies on a way between two nodes of a group.

mod cse;
mod dce;
mod fold;
mod fuse_elementwise;
mod fuse_epilogue;
mod fuse_norm_quant;
mod fuse_recurrence;
mod fuse_shared_input;
mod hoist_outer;
mod place_constants;
pub mod probes;
mod quantise;
#[cfg(test)]
mod random;
pub(crate) mod rewrite;
#[cfg(test)]
mod tests;
mod time_lift;
mod units;
pub mod unskip;

use crate::ir::Module;
use crate::ir::infer::TypeError;
use crate::ir::verify::{VerifyError, verify};

/// A rewriting of modules.
pub struct Pass {
    /// As `inspect --after` takes it.
    pub name: &'static str,
    /// One line on what it does.
    pub doc: &'static str,
    /// Does it.
    pub run: fn(&mut Module, &mut Context) -> Result<Report, PassError>,
}

/// The passes in order. Planning memory and scheduling follow in the lowering, on kernels.
pub const PASSES: &[Pass] = &[
    Pass { name: "fold", doc: "constants and what depends on weights only are computed once", run: fold::run },
    Pass { name: "cse", doc: "what is computed twice is computed once", run: cse::run },
    Pass { name: "dce", doc: "what nobody reads is not computed", run: dce::run },
    Pass {
        name: "hoist_outer",
        doc: "what an inner entry computes alike in all its steps moves to the outer entry",
        run: hoist_outer::run,
    },
    Pass {
        name: "place_constants",
        doc: "float constants with axes become computed weights, so that a package holds them",
        run: place_constants::run,
    },
    Pass { name: "drop_probes", doc: "probes that are no outputs, and what only they read, go", run: probes::drop },
    Pass {
        name: "time_lift",
        doc: "from one step to all steps of a call; recurrences become scans",
        run: time_lift::run,
    },
    Pass {
        name: "quantise",
        doc: "linears with int8 input get a quantiser, shared by all that read the same value",
        run: quantise::run,
    },
    Pass { name: "fuse_shared_input", doc: "linears that read the same input become one", run: fuse_shared_input::run },
    Pass {
        name: "fuse_norm_quant",
        doc: "a norm and the quantiser that reads it become one sweep",
        run: fuse_norm_quant::run,
    },
    Pass {
        name: "fuse_epilogue",
        doc: "elementwise operations on the rows of a linear join it",
        run: fuse_epilogue::run,
    },
    Pass {
        name: "fuse_recurrence",
        doc: "gates and a state update become one sweep, with the linear that feeds them if there is one",
        run: fuse_recurrence::run,
    },
    Pass {
        name: "fuse_elementwise",
        doc: "elementwise neighbours that are left become one sweep",
        run: fuse_elementwise::run,
    },
];

/// What passes may look up besides the module.
#[derive(Default)]
pub struct Context {}

/// What a pass did, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// For instance `fused 36 linears into 12`.
    pub text: String,
}

impl Report {
    fn new(text: impl Into<String>) -> Report {
        Report { text: text.into() }
    }
}

/// Why a pipeline stopped.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// No pass of this name.
    #[error("there is no pass '{name}'; passes are: {}", names().join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// A pass built something that does not type: a mistake of the pass.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// The module is not valid after a pass: a mistake of the pass.
    #[error("after {pass}: {error}")]
    Invalid { pass: &'static str, error: VerifyError },
    /// Something in the graph that the pass has no rule for.
    #[error("{pass}: {what}")]
    Unsupported { pass: &'static str, what: String },
}

/// The names of all passes.
pub fn names() -> Vec<&'static str> {
    PASSES.iter().map(|p| p.name).collect()
}

/// Runs one pass by name, and the verifier after it.
pub fn run_pass(module: &mut Module, name: &str) -> Result<Report, PassError> {
    let at = place(name)?;
    Ok(run(module, &PASSES[at..=at])?.remove(0).1)
}

/// Runs the passes in order, all of them or until the one named (which is run), and gives each one's report.
pub fn run_pipeline(module: &mut Module, until: Option<&str>) -> Result<Vec<(&'static str, Report)>, PassError> {
    match until {
        Some(name) => run(module, &PASSES[..=place(name)?]),
        None => run(module, PASSES),
    }
}

/// Runs the passes behind the one named.
pub fn run_after(module: &mut Module, name: &str) -> Result<Vec<(&'static str, Report)>, PassError> {
    run(module, &PASSES[place(name)? + 1..])
}

fn place(name: &str) -> Result<usize, PassError> {
    PASSES.iter().position(|p| p.name == name).ok_or_else(|| PassError::Unknown { name: name.to_string() })
}

/// Runs passes in a row. What the last one leaves is always verified; what each leaves where assertions are on, since a
/// seventh of the time of a large model would go into what can only be a mistake of ours.
fn run(module: &mut Module, passes: &[Pass]) -> Result<Vec<(&'static str, Report)>, PassError> {
    let mut context = Context::default();
    let mut reports = Vec::new();
    for (number, pass) in passes.iter().enumerate() {
        let report = (pass.run)(module, &mut context)?;
        if cfg!(debug_assertions) || number + 1 == passes.len() {
            verify(module).map_err(|error| PassError::Invalid { pass: pass.name, error })?;
        }
        reports.push((pass.name, report));
    }
    Ok(reports)
}
