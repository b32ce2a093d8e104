//! Trees of expressions, literals and the operators.

use super::*;
use crate::diagnostics::Span;

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
