//! The graph language: grammar, syntax tree, names, and elaboration into the IR.
//!
//! [`Library`] is the way in: it finds graph files and makes a [`crate::ir::Module`] of a model with a
//! preset or a JSON config. [`checkpoint`] matches the tensors of a file with the weights of a module.

pub mod ast;
pub mod checkpoint;
mod elaborate;
mod foreign;
mod library;
mod parse;
pub mod rename;
mod saved;
mod wrappers;

pub use elaborate::Options;
pub use library::{Compiled, Graph, Library};
pub use parse::parse;
pub use saved::Saved;

use crate::diagnostics::SourceFiles;

/// All presets of the models that come with the program, as `model/preset`.
///
/// # Panics
/// If an embedded graph file does not parse, which its tests exclude.
pub fn presets() -> Vec<String> {
    match Library::embedded().presets(&mut SourceFiles::new()) {
        Ok(presets) => presets,
        Err(_) => panic!("the embedded graph files parse"),
    }
}
