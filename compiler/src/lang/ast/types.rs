//! Trees of blocks, parameters and types.

use super::*;
use crate::diagnostics::Span;

/// A block: what happens to one vector in one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Its name.
    pub name: Name,
    /// Between the square brackets.
    pub statics: Vec<StaticParam>,
    /// Between the round ones.
    pub params: Vec<Param>,
    /// At least one.
    pub results: Vec<ValueType>,
    /// What it does.
    pub body: Body,
    /// From `block` to the last result type.
    pub header: Span,
    /// The whole block.
    pub span: Span,
}

/// A parameter known before running.
#[derive(Clone, Debug, PartialEq)]
pub struct StaticParam {
    /// Its name.
    pub name: Name,
    /// What it is; `int` unless written.
    pub kind: StaticKind,
    /// What it is when left out.
    pub default: Option<Expr>,
    /// The whole parameter.
    pub span: Span,
}

/// Kinds of static parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaticKind {
    /// Exact integer.
    Int,
    /// IEEE double.
    Float,
    /// `true` or `false`.
    Bool,
    /// Text.
    String,
    /// A static list.
    List,
    /// How a weight is stored.
    Encoding,
    /// The length of an axis: an integer, `cache`, `cache(n)` or `ring(n)`.
    Axis,
    /// A part of the caller.
    Part,
}

/// `a, b: f32[n] in low..high`.
#[derive(Clone, Debug, PartialEq)]
pub struct Param {
    /// At least one.
    pub names: Vec<Name>,
    /// The type of each.
    pub ty: ValueType,
    /// The range checked at the border.
    pub limit: Option<Limit>,
    /// The whole parameter.
    pub span: Span,
}

/// `element[axes]?`; the element may be the name of an encoding.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueType {
    /// `f32`, `T`, ...
    pub element: Name,
    /// Outermost first; empty for a scalar.
    pub axes: Vec<Expr>,
    /// `?`: may be absent.
    pub optional: bool,
    /// The whole type.
    pub span: Span,
}
