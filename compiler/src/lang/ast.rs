//! The syntax tree of a graph file. Every name, expression, type and statement has its span; nothing
//! here knows what a name means. The tree follows `grammar.pest`, with three liberties: precedence is
//! resolved, `else if` chains are lists (so that no chain makes deep recursion), and messages and
//! paths are already split into text and expressions. Expressions are at most [`MAX_DEPTH`] deep.

use crate::diagnostics::{FileId, Span};
use std::sync::Arc;

/// The depth that the parser grants an expression tree, so that walking it by recursion is safe.
pub const MAX_DEPTH: usize = 256;

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

// ---- config -------------------------------------------------------------------------------------

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
#[derive(Clone, Debug, PartialEq)]
pub enum KeyBody {
    /// `{ ... }`: an object with these keys.
    Object(Vec<KeyDecl>),
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
    /// `ignore "glob" when cond: "why"`
    Ignore {
        /// Which tensors.
        glob: Text,
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
}

// ---- blocks and types ---------------------------------------------------------------------------

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

// ---- statements ---------------------------------------------------------------------------------

/// Statements between `{` and `}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Body {
    /// In order.
    pub stmts: Vec<Stmt>,
    /// With the braces; the statement itself for an arm `=> stmt`.
    pub span: Span,
}

/// A statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Stmt {
    /// What it says.
    pub kind: StmtKind,
    /// The keyword that begins it; the names for an assignment.
    pub keyword: Span,
    /// The whole statement.
    pub span: Span,
}

/// The kinds of statement.
#[derive(Clone, Debug, PartialEq)]
pub enum StmtKind {
    /// `part a, b[i in 0..n]: block[args] at "path"`
    Part {
        /// Names, each perhaps an array.
        names: Vec<PartName>,
        /// Which block with which statics: a name, an indexed name, or a choice between such.
        block: Expr,
        /// Replaces the last segment of the path.
        at: Option<Template>,
    },
    /// `weight w: T[m, n] at "path"`
    Weight {
        /// At least one.
        names: Vec<Name>,
        /// Encoding and shape.
        ty: ValueType,
        /// Replaces the last segment of the path.
        at: Option<Template>,
    },
    /// `held state s: f32[n] = 0`
    State {
        /// Written by the host between steps.
        held: bool,
        /// At least one.
        names: Vec<Name>,
        /// May have a growing axis.
        ty: ValueType,
        /// The value before the first step.
        init: Option<Expr>,
    },
    /// `a, b = f(x)` or `a, b = x, y`
    Assign {
        /// At least one.
        names: Vec<Name>,
        /// At least one.
        values: Vec<Expr>,
    },
    /// `if c { } else if d { } else { }`
    If {
        /// At least one.
        arms: Vec<IfArm>,
        /// The last `else`.
        otherwise: Option<Body>,
    },
    /// `match x { "a" | "b" => { }  _ => { } }`
    Match {
        /// What is compared.
        subject: Expr,
        /// At least one.
        arms: Vec<MatchArm>,
    },
    /// `for i in 0..n { }`
    For {
        /// Its name.
        variable: Name,
        /// A range or a list.
        domain: Domain,
        /// Once per round.
        body: Body,
    },
    /// `repeat r in 1..=n max m { }`
    Repeat {
        /// Its name.
        variable: Name,
        /// A range whose end may be known only in the step.
        domain: Domain,
        /// The bound of the end.
        most: Option<Expr>,
        /// Once per iteration.
        body: Body,
    },
    /// `exit when c`
    Exit {
        /// Leaves when this holds.
        condition: Expr,
    },
    /// `return a, b`
    Return {
        /// At least one.
        values: Vec<Expr>,
    },
    /// `output name = expr`; without a value, of the name's own.
    Output {
        /// Its name.
        name: Name,
        /// What is given out.
        value: Option<Expr>,
    },
    /// `probe name = expr`; without a value, of the name's own.
    Probe {
        /// Its name.
        name: Name,
        /// What is observed.
        value: Option<Expr>,
    },
    /// `check c, "message"` or `warn c, "message"`
    Check {
        /// `warn`: reported, but goes on.
        warn: bool,
        /// Must hold.
        condition: Expr,
        /// What is said if not.
        message: Template,
    },
    /// `input a, b: type = neutral`
    Input {
        /// Names, type and range.
        param: Param,
        /// What an absent input means.
        neutral: Option<Expr>,
    },
    /// `host f(x: type) -> type?`
    Host {
        /// Its name.
        name: Name,
        /// What it is asked with.
        params: Vec<Param>,
        /// Its answer.
        result: ValueType,
    },
    /// `entry name(params) within outer start x if empty { }`
    Entry(Entry),
}

/// A name of a `part` statement.
#[derive(Clone, Debug, PartialEq)]
pub struct PartName {
    /// Its name.
    pub name: Name,
    /// `[i in 0..n]`: an array.
    pub array: Option<(Name, Domain)>,
    /// With the brackets.
    pub span: Span,
}

/// One condition of an `if` with its body.
#[derive(Clone, Debug, PartialEq)]
pub struct IfArm {
    /// Between `if` and `{`.
    pub condition: Expr,
    /// What happens.
    pub body: Body,
}

/// One arm of a `match`.
#[derive(Clone, Debug, PartialEq)]
pub struct MatchArm {
    /// Which values it takes.
    pub pattern: Pattern,
    /// What happens.
    pub body: Body,
    /// The whole arm.
    pub span: Span,
}

/// See [`MatchArm`].
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// Any of these.
    Values(Vec<Literal>),
    /// `_`
    Otherwise(Span),
}

/// Where a step begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// What one step takes.
    pub params: Vec<Param>,
    /// The entry inside whose steps it runs.
    pub within: Option<Name>,
    /// What is fed before anything else.
    pub start: Option<Start>,
    /// What happens in one step.
    pub body: Body,
    /// From `entry` to before the body.
    pub header: Span,
}

/// `start x if empty`.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// What is fed.
    pub value: Expr,
    /// Only to an empty prompt.
    pub if_empty: bool,
    /// The whole clause.
    pub span: Span,
}

// ---- expressions --------------------------------------------------------------------------------

/// An expression; in parentheses, its span includes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// The whole expression.
    pub span: Span,
}

impl Expr {
    /// The name, if it is nothing else.
    pub fn as_name(&self) -> Option<&str> {
        match &self.kind {
            ExprKind::Name(name) => Some(name),
            _ => None,
        }
    }
}

/// The kinds of expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `1`, `0.5`, `"text"`, `true`, `inf`, `null`
    Literal(Value),
    /// A name of any kind: key, local, block, operation, element type.
    Name(Arc<str>),
    /// `[a, b]`
    List(Vec<Expr>),
    /// `[element for variable in domain]`
    Comprehension {
        /// For each round.
        element: Box<Expr>,
        /// Its name.
        variable: Name,
        /// A range or a list.
        domain: Box<Domain>,
    },
    /// `-x`, `not x`
    Unary {
        /// Which.
        op: UnaryOp,
        /// The sign or word.
        op_span: Span,
        /// To what.
        operand: Box<Expr>,
    },
    /// `a + b`
    Binary {
        /// Which.
        op: BinaryOp,
        /// The sign or word between the operands.
        op_span: Span,
        /// Before it.
        left: Box<Expr>,
        /// After it.
        right: Box<Expr>,
    },
    /// `f(a, axis: 1)`; `f[s](a)` is a call of an index.
    Call {
        /// What is called.
        callee: Box<Expr>,
        /// With what.
        args: Vec<Arg>,
        /// The parentheses and what is between.
        parens: Span,
    },
    /// `x[i]`, `x[a..b]`, `f32[d]`, `linear[m, n]`
    Index {
        /// What is indexed.
        base: Box<Expr>,
        /// With what.
        args: Vec<Arg>,
        /// The brackets and what is between.
        brackets: Span,
    },
    /// `a.b`
    Member {
        /// Before the dot.
        base: Box<Expr>,
        /// After it.
        member: Name,
    },
    /// `if c { a } else if d { b } else { e }`
    If {
        /// Conditions and values, at least one.
        arms: Vec<(Expr, Expr)>,
        /// The last `else`.
        otherwise: Box<Expr>,
    },
}

/// A literal where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Literal {
    /// Its value.
    pub value: Value,
    /// Where it stands.
    pub span: Span,
}

/// The value of a literal.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Decimal or `0x`.
    Int(i128),
    /// With a point or an exponent; finite.
    Float(f64),
    /// Between quotes.
    Text(Arc<str>),
    /// `true` or `false`
    Bool(bool),
    /// `inf`
    Inf,
    /// `null`
    Null,
}

/// An argument in round or square brackets.
#[derive(Clone, Debug, PartialEq)]
pub struct Arg {
    /// `name:` before it.
    pub name: Option<Name>,
    /// Its value.
    pub value: Domain,
    /// The whole argument.
    pub span: Span,
}

/// An expression or a range.
#[derive(Clone, Debug, PartialEq)]
pub enum Domain {
    /// One value (a list, in a `for`).
    Value(Expr),
    /// `start..end`, `start..=end`
    Range {
        /// First.
        start: Expr,
        /// Last, or one past it.
        end: Expr,
        /// `..=`
        inclusive: bool,
        /// The whole range.
        span: Span,
    },
}

impl Domain {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Domain::Value(expr) => expr.span,
            Domain::Range { span, .. } => *span,
        }
    }

    /// The expression, if it is no range.
    pub fn as_value(&self) -> Option<&Expr> {
        match self {
            Domain::Value(expr) => Some(expr),
            Domain::Range { .. } => None,
        }
    }
}

/// Operators before an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    /// `-`
    Negate,
    /// `not`
    Not,
}

impl UnaryOp {
    /// As written.
    pub fn symbol(self) -> &'static str {
        match self {
            UnaryOp::Negate => "-",
            UnaryOp::Not => "not",
        }
    }
}

macro_rules! binary_ops {
    ($($name:ident $symbol:literal $level:literal;)*) => {
        /// Operators between operands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum BinaryOp { $(#[doc = concat!("`", $symbol, "`")] $name,)* }

        impl BinaryOp {
            /// Every operator, the tightest first.
            pub const ALL: &[BinaryOp] = &[$(BinaryOp::$name),*];

            /// As written.
            pub fn symbol(self) -> &'static str {
                match self { $(BinaryOp::$name => $symbol,)* }
            }

            /// How tightly it binds; unary `-` stands at 9, `not` at 3.
            pub fn level(self) -> u8 {
                match self { $(BinaryOp::$name => $level,)* }
            }
        }
    };
}

binary_ops! {
    Power "**" 10;
    Multiply "*" 8;
    Divide "/" 8;
    FloorDivide "//" 8;
    Remainder "%" 8;
    Contract "@" 8;
    Add "+" 7;
    Subtract "-" 7;
    ShiftLeft "<<" 6;
    ShiftRight ">>" 6;
    Xor "^" 5;
    Less "<" 4;
    LessEqual "<=" 4;
    Greater ">" 4;
    GreaterEqual ">=" 4;
    Equal "==" 4;
    NotEqual "!=" 4;
    In "in" 4;
    And "and" 2;
    Or "or" 1;
}
