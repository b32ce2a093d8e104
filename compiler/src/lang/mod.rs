//! The graph language: grammar, syntax tree, names, and elaboration into the IR.

pub mod ast;
mod parse;

pub use parse::parse;
