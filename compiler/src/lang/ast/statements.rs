//! Trees of statements.

use super::*;
use crate::diagnostics::Span;

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
