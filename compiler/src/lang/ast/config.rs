//! Trees of configs, presets and checkpoint rules.

use super::*;
use crate::diagnostics::Span;

/// The keys that JSON configs may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// In the order declared.
    pub keys: Vec<KeyDecl>,
    /// The whole block.
    pub span: Span,
}

/// One line of a config: one or several keys with one declaration.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyDecl {
    /// `any`: at any depth at and below this level.
    pub any_depth: bool,
    /// The keys, or `*`.
    pub keys: Vec<Key>,
    /// What they may hold, or what becomes of them.
    pub body: KeyBody,
    /// The whole declaration.
    pub span: Span,
}

/// A declared key.
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    /// This key; quoted ones too.
    Named(Name),
    /// `*`: every key that is not declared.
    Wildcard(Span),
}

impl Key {
    /// Where it is written.
    pub fn span(&self) -> Span {
        match self {
            Key::Named(name) => name.span,
            Key::Wildcard(span) => *span,
        }
    }
}

/// What is declared of a key.
// A box at every match would cost more than the room it saves: these lists are short.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq)]
pub enum KeyBody {
    /// `{ ... }`: an object with these keys.
    Object {
        /// The keys that it may have.
        keys: Vec<KeyDecl>,
        /// `{ ... }?`: null too, and null where it is absent.
        optional: bool,
    },
    /// `ignored("why")` and its like, for the whole subtree.
    Fate(Fate),
    /// A value with a type; required without a default.
    Value {
        /// Allowed types and values.
        ty: KeyType,
        /// What an absent key means.
        default: Option<Expr>,
    },
}

/// What becomes of a key that the graph does not read.
#[derive(Clone, Debug, PartialEq)]
pub struct Fate {
    /// Which of the three.
    pub kind: FateKind,
    /// The reason, or who validates it.
    pub reason: Text,
    /// The whole form.
    pub span: Span,
}

/// See [`Fate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FateKind {
    /// Legal, without effect.
    Ignored,
    /// Kept in the package for a part of the runtime.
    Runtime,
    /// Legal, reported.
    Warned,
}

/// `int in 1..`, `"a" | "b"`, `float[2]?`, ...
#[derive(Clone, Debug, PartialEq)]
pub struct KeyType {
    /// At least one.
    pub alternatives: Vec<KeyAlternative>,
    /// Range of the numbers, of each element for lists.
    pub limit: Option<Limit>,
    /// The whole type with its limit.
    pub span: Span,
}

/// One alternative of a [`KeyType`].
#[derive(Clone, Debug, PartialEq)]
pub struct KeyAlternative {
    /// What it allows.
    pub form: KeyForm,
    /// `?`: null too.
    pub optional: bool,
    /// Where it stands.
    pub span: Span,
}

/// The forms of a [`KeyAlternative`].
#[derive(Clone, Debug, PartialEq)]
pub enum KeyForm {
    /// Exactly this value.
    Literal(Literal),
    /// A list with exactly these elements.
    Tuple(Vec<KeyType>),
    /// `int`, `int[]`, `int[2]`.
    Scalar {
        /// Its element.
        scalar: Scalar,
        /// Absent: not a list.
        list: Option<ListOf>,
    },
    /// `map of int`: an object with free keys.
    Map {
        /// The element of its values.
        scalar: Scalar,
        /// Absent: the values are not lists.
        list: Option<ListOf>,
    },
}

/// `[]` or `[n]` behind a scalar.
#[derive(Clone, Debug, PartialEq)]
pub struct ListOf {
    /// The length, if fixed.
    pub length: Option<Expr>,
    /// The brackets.
    pub span: Span,
}

/// Scalars of configs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// Exact integer.
    Int,
    /// IEEE double.
    Float,
    /// `true` or `false`.
    Bool,
    /// Text.
    String,
}

/// `in low..high` or `in low..=high`; either end may be open.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// Least allowed value.
    pub low: Option<Expr>,
    /// Greatest allowed value, or one above it.
    pub high: Option<Expr>,
    /// `..=`.
    pub inclusive: bool,
    /// From `in` to the end.
    pub span: Span,
}

/// Complete configs with names.
#[derive(Clone, Debug, PartialEq)]
pub struct Preset {
    /// All of these are the same config.
    pub names: Vec<Name>,
    /// The preset whose settings come first.
    pub base: Option<Name>,
    /// What it sets.
    pub settings: Vec<Setting>,
    /// The whole preset.
    pub span: Span,
}

/// `a.b: value` in a preset.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The segments of the key.
    pub path: Vec<Name>,
    /// Its value.
    pub value: Expr,
    /// The whole setting.
    pub span: Span,
}

/// How names and tensors of a checkpoint meet.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// In order.
    pub rules: Vec<CheckpointRule>,
    /// The whole block.
    pub span: Span,
}

/// One rule of a [`Checkpoint`].
#[derive(Clone, Debug, PartialEq)]
pub enum CheckpointRule {
    /// `ignore "glob" as bf16[m, n] when cond: "why"`, `ignore "name" as copy of "weight": "why"`
    Ignore {
        /// Which tensors.
        glob: Text,
        /// What the one tensor of this name is, so that it counts as one of the model.
        stored: Option<ValueType>,
        /// The path of the weight of which the one tensor of this name is a copy.
        copy_of: Option<Text>,
        /// Only if this holds.
        when: Option<Expr>,
        /// Why they are not needed.
        reason: Text,
        /// The whole rule.
        span: Span,
    },
    /// `strip "prefix"`
    Strip {
        /// Removed repeatedly from the front of names.
        prefix: Text,
        /// The whole rule.
        span: Span,
    },
    /// `rename "a.*" -> "b.*"`
    Rename {
        /// Glob over the file's names.
        from: Text,
        /// What they become.
        to: Text,
        /// The whole rule.
        span: Span,
    },
    /// `choose "key": "why"`
    Choose {
        /// A config key in which the config given may differ from the one saved with the weights.
        key: Text,
        /// Why both make sense for the same weights.
        reason: Text,
        /// The whole rule.
        span: Span,
    },
}
