//! Why a session fails, each in words fit for a person.

use std::path::PathBuf;

use super::{Room, Worst};
use crate::interp::NotFinite;
use crate::ir::Module;
use crate::kernel::lower::NotCompiled;
use crate::lang::rename::RenameError;
use crate::package::{ImageError, PackageError};
use crate::passes::PassError;
use crate::target::clif::CompileError;
use crate::weights::{Bit2WriteError, WeightsError};

/// An error of a session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Weights that no file has would need too much memory.
    #[error(
        "random weights of this model need {needed} bytes, at most {most} are made up; the largest is `{largest}`{place}"
    )]
    TooLarge {
        /// Bytes.
        needed: usize,
        /// The limit.
        most: usize,
        /// The path of the largest weight.
        largest: String,
        /// Where the graph declares it, or nothing.
        place: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    /// Mistakes in a config or a graph, drawn with their places.
    #[error("{0}")]
    Diagnostics(String),
    /// A checkpoint's tensors are not those of the graph; with a rename map that would make them so, if one is certain.
    #[error("{text}{}", proposal(rename))]
    Tensors { text: String, rename: Vec<(String, String)> },
    /// A rename map cannot be read.
    #[error("{}: {source}", path.display())]
    Rename { path: PathBuf, source: RenameError },
    /// A tokenizer cannot be read, or is that of another model.
    #[error("{}: {what}", path.display())]
    Tokenizer { path: PathBuf, what: String },
    /// A text that the model cannot take.
    #[error("{0}")]
    Text(String),
    /// Logits by which nothing can be chosen or measured, of a stream of these elements that begins at element `within`
    /// of a text; with the first value that was not finite, where it was sought.
    #[error("{source}{}{}", beginning(*within), source_of(first.as_deref()))]
    NotFinite {
        source: sterna_runtime::Error,
        within: usize,
        elements: Vec<u32>,
        /// Whether the stream began with a prompt; what follows an empty one is another stream than the same as a
        /// prompt.
        prompted: bool,
        first: Option<Box<NotFinite>>,
    },
    /// An element of a text for which the model has no logit.
    #[error("element {at} of the text, counted from 0, is {element}: the model predicts {vocabulary} elements")]
    Unpredicted { element: u32, at: usize, vocabulary: usize },
    /// A loss of which nobody can take the exponential.
    #[error(
        "the perplexity is not finite: the loss is {mean} nats an element; step {} gives element {} of the text {} nats",
        worst.step, worst.element, worst.loss
    )]
    Perplexity { mean: f64, worst: Worst },
    /// A window of a text for which the caches have no room.
    #[error(
        "a stream of {elements} elements takes {needed} steps, and there is room for {}{}",
        room.steps, advice(room, option)
    )]
    NoRoom {
        elements: usize,
        needed: usize,
        room: Room,
        /// The option that asked for them.
        option: &'static str,
    },
    /// The name is neither a file nor a preset.
    #[error("{0}")]
    NoModel(String),
    /// A checkpoint cannot be opened.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The checkpoint's own config says something else.
    #[error("the checkpoint was saved with another config: {0}")]
    Disagreement(String),
    /// Keys of the checkpoint's own config whose values JSON has no form for.
    #[error("the checkpoint was saved with values of {0} that no config can say; give a config with others")]
    LeftOut(String),
    /// A probe that cannot be observed.
    #[error("no probe `{glob}`: {why}")]
    NoProbe { glob: String, why: String },
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Weights that cannot be exported.
    #[error("cannot export {}: {source}", path.display())]
    Export { path: PathBuf, source: Bit2WriteError<ImageError> },
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error(transparent)]
    PackageFile(#[from] sterna_runtime::package::PackageError),
    #[error(transparent)]
    Pass(#[from] PassError),
    #[error(transparent)]
    Verify(#[from] crate::ir::verify::VerifyError),
    /// Something in the graph that the back end cannot do yet.
    #[error("{0}")]
    NotCompiled(String),
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A port that cannot cross the border of an entry.
    #[error("{0}")]
    Border(String),
    /// The program lacks an entry: a mistake of the compiler.
    #[error("the compiled program lacks an entry")]
    Incomplete,
    #[error(transparent)]
    Runtime(#[from] sterna_runtime::Error),
}

/// Where a stream begins that is not the whole text.
fn beginning(within: usize) -> String {
    if within == 0 { String::new() } else { format!(", of the window that begins at element {within}") }
}

/// The first value that was not finite, with its place in the model's text.
fn source_of(found: Option<&NotFinite>) -> String {
    let Some(found) = found else { return String::new() };
    let place = found.origin.as_ref().map_or_else(String::new, |o| {
        let within = if o.path.is_empty() { String::new() } else { format!(", in {}", o.path) };
        format!("\n  --> {}:{}:{}{within}", o.file, o.line, o.column)
    });
    format!(
        "\nthe first value that is not finite: {} in step {}, from {}{place}",
        found.value, found.step, found.operation
    )
}

/// What to do where there is no room.
fn advice(room: &Room, option: &str) -> String {
    match room.by_options {
        true => format!("; give a smaller {option} or a larger --context"),
        false => format!(" by the config; give a smaller {option}"),
    }
}

/// A rename map as the file that `--rename` takes.
fn proposal(rules: &[(String, String)]) -> String {
    if rules.is_empty() {
        return String::new();
    }
    let rules: std::collections::BTreeMap<_, _> = rules.iter().cloned().collect();
    let text = serde_json::to_string_pretty(&rules).unwrap_or_default();
    format!("\nhelp: the shapes fit with this map; save it and give it to --rename\n{text}")
}

impl SessionError {
    /// With the place in the graph's text that wants what cannot be done.
    pub(super) fn not_compiled(module: &Module, error: &NotCompiled) -> SessionError {
        SessionError::NotCompiled(format!("{error}{}", module.place(error.origin)))
    }
}
