//! The syntax tree of a graph file. Every name, expression, type and statement has its span; nothing
//! here knows what a name means. The tree follows `grammar.pest`, with three liberties: precedence is
//! resolved, `else if` chains are lists (so that no chain makes deep recursion), and messages and
//! paths are already split into text and expressions. Expressions are at most [`MAX_DEPTH`] deep.

mod config;
mod expressions;
mod statements;
mod types;

pub use config::*;
pub use expressions::*;
pub use statements::*;
pub use types::*;

use crate::diagnostics::{FileId, Span};
use crate::limits::Limits;
use std::sync::Arc;

/// The depth that the parser grants an expression tree, so that walking it by recursion is safe.
pub const MAX_DEPTH: usize = Limits::DEFAULT.expression;

/// A name where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// The name; for a quoted key or path segment the text between the quotes.
    pub text: Arc<str>,
    /// Where it stands (with the quotes, if quoted).
    pub span: Span,
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// A text literal where it is written; `span` includes the quotes.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// Between the quotes.
    pub value: Arc<str>,
    /// With the quotes.
    pub span: Span,
}

/// A message or path with `{expr}` to be filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Text and expressions in order; empty texts are left out.
    pub pieces: Vec<Piece>,
    /// The whole literal with its quotes.
    pub span: Span,
}

impl Template {
    /// The text, if nothing has to be filled in.
    pub fn as_plain(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }
}

/// One piece of a [`Template`].
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Verbatim.
    Text(Arc<str>),
    /// The expression between `{` and `}`.
    Expr(Expr),
}

/// A whole file: one model or one library.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Which text it was read from.
    pub file: FileId,
    /// `model` or `library`.
    pub kind: FileKind,
    /// Its name.
    pub name: Name,
    /// What it is, in one line.
    pub title: Option<Text>,
    /// Everything below the header, in order.
    pub items: Vec<Item>,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Has a config and entries.
    Model,
    /// Has blocks only, and sees no config.
    Library,
}

/// What stands at model level.
// A box at every match would cost more than the room it saves: these lists are short.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// `import std`
    Import(Import),
    /// `config { ... }`
    Config(Config),
    /// `preset a, b from base { ... }`
    Preset(Preset),
    /// `checkpoint { ... }`
    Checkpoint(Checkpoint),
    /// `block name[...](...) -> ... { ... }`
    Block(Block),
    /// Any statement: names, parts, weights, inputs, hosts, entries, checks, `if`, `match`, `for`.
    Stmt(Stmt),
}

/// `import library`.
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    /// Whose blocks are imported.
    pub library: Name,
    /// The whole statement.
    pub span: Span,
}
