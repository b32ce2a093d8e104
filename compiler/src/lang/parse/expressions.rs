//! Expressions: literals, operators with their precedence, calls and indexing, and the templates
//! inside messages and paths.

use super::layout::{MAX_NESTING, trim};
use super::tree::{Builder, Children, Grammar, Rule, unquoted};
use crate::diagnostics::{Code, Span};
use crate::lang::ast::*;
use pest::Parser;
use pest::iterators::{Pair, Pairs};
use std::iter::Peekable;

/// How tightly the prefix operators bind, on the scale of [`BinaryOp::level`].
const NEGATE_LEVEL: u8 = 9;
const NOT_LEVEL: u8 = 3;

/// The pairs of one `expr`.
type Flat<'i> = Peekable<Pairs<'i, Rule>>;

/// An expression with the depth of its tree.
struct Deep {
    expr: Expr,
    depth: usize,
}

impl Builder<'_> {
    /// An `expr` pair.
    pub fn expr(&mut self, pair: Pair<'_, Rule>) -> Expr {
        self.deep(pair).expr
    }

    /// A `domain` pair.
    pub fn domain(&mut self, pair: Pair<'_, Rule>) -> Domain {
        self.deep_domain(pair).0
    }

    /// Every `expr` among the children.
    pub fn exprs(&mut self, children: Children<'_>) -> Vec<Expr> {
        children.rest().map(|pair| self.expr(pair)).collect()
    }

    fn deep(&mut self, pair: Pair<'_, Rule>) -> Deep {
        let mut pairs = pair.into_inner().peekable();
        self.climb(&mut pairs, 0)
    }

    /// Precedence climbing over `prefix* primary postfix* (infix prefix* primary postfix*)*`.
    fn climb<'i>(&mut self, pairs: &mut Flat<'i>, least: u8) -> Deep {
        self.recursion += 1;
        let mut left = self.operand(pairs);
        let mut compared = false;
        while let Some(pair) = pairs.peek() {
            let op = binary_op(pair.as_str());
            if op.level() < least {
                break;
            }
            let op_span = self.span(pair);
            pairs.next();
            let compares = op.level() == BinaryOp::Less.level();
            if compares && compared {
                let help = "join two comparisons: `a < b and b < c`; parentheses compare conditions";
                self.report(Code::Syntax, op_span, "comparisons are not chained", "compares a condition", help);
            }
            compared = compares;
            // `**` associates to the right, all others to the left.
            let next = if op == BinaryOp::Power { op.level() } else { op.level() + 1 };
            let right = self.climb(pairs, next);
            let depth = left.depth.max(right.depth);
            let span = left.expr.span.to(right.expr.span);
            let (left_side, right_side) = (Box::new(left.expr), Box::new(right.expr));
            let kind = ExprKind::Binary { op, op_span, left: left_side, right: right_side };
            left = self.grown(kind, span, depth);
        }
        self.recursion -= 1;
        left
    }

    fn operand<'i>(&mut self, pairs: &mut Flat<'i>) -> Deep {
        let Some(sign) = pairs.next_if(|pair| pair.as_rule() == Rule::prefix) else {
            return self.suffixed(pairs);
        };
        let op_span = self.span(&sign);
        if self.recursion > MAX_DEPTH {
            pairs.for_each(drop);
            return self.too_deep(op_span);
        }
        let (op, level) = match sign.as_str().starts_with('-') {
            true => (UnaryOp::Negate, NEGATE_LEVEL),
            false => (UnaryOp::Not, NOT_LEVEL),
        };
        let operand = self.climb(pairs, level);
        let span = op_span.to(operand.expr.span);
        let kind = ExprKind::Unary { op, op_span, operand: Box::new(operand.expr) };
        self.grown(kind, span, operand.depth)
    }

    fn suffixed<'i>(&mut self, pairs: &mut Flat<'i>) -> Deep {
        let primary = pairs.next().expect("grammar.pest and the tree builder agree");
        if self.recursion > MAX_DEPTH {
            pairs.for_each(drop);
            let span = self.span(&primary);
            return self.too_deep(span);
        }
        let mut base = self.primary(primary);
        while let Some(pair) = pairs.next_if(|pair| pair.as_rule() == Rule::postfix) {
            base = self.postfix(base, pair);
        }
        base
    }

    fn postfix(&mut self, base: Deep, pair: Pair<'_, Rule>) -> Deep {
        let form = Children::of(pair).next();
        let here = self.span(&form);
        let span = base.expr.span.to(here);
        let mut depth = base.depth;
        let callee = Box::new(base.expr);
        let rule = form.as_rule();
        let mut children = Children::of(form);
        if rule == Rule::member {
            let member = self.word_or_text(&children.next());
            return self.grown(ExprKind::Member { base: callee, member }, span, depth);
        }
        let mut args = Vec::new();
        for arg in children.take(Rule::args).into_iter().flat_map(|all| Children::of(all).rest()) {
            let (arg, below) = self.arg(arg);
            depth = depth.max(below);
            args.push(arg);
        }
        let kind = if rule == Rule::call {
            ExprKind::Call { callee, args, parens: here }
        } else {
            ExprKind::Index { base: callee, args, brackets: here }
        };
        self.grown(kind, span, depth)
    }

    fn arg(&mut self, pair: Pair<'_, Rule>) -> (Arg, usize) {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let name = children.take(Rule::arg_name).map(|word| self.name(&word));
        let (value, depth) = self.deep_domain(children.next());
        (Arg { name, value, span }, depth)
    }

    fn deep_domain(&mut self, pair: Pair<'_, Rule>) -> (Domain, usize) {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let start = self.deep(children.next());
        let Some(range) = children.take(Rule::range_op) else {
            return (Domain::Value(start.expr), start.depth);
        };
        let inclusive = range.as_str() == "..=";
        let end = self.deep(children.next());
        let depth = start.depth.max(end.depth);
        (Domain::Range { start: start.expr, end: end.expr, inclusive, span }, depth)
    }

    fn primary(&mut self, pair: Pair<'_, Rule>) -> Deep {
        let outer = self.span(&pair);
        let inner = Children::of(pair).next();
        match inner.as_rule() {
            Rule::literal => {
                let literal = self.literal(inner);
                Deep { expr: Expr { kind: ExprKind::Literal(literal.value), span: outer }, depth: 1 }
            }
            Rule::name => {
                let kind = ExprKind::Name(self.name(&inner).text);
                Deep { expr: Expr { kind, span: outer }, depth: 1 }
            }
            Rule::list => self.list(inner, outer),
            Rule::choice => self.choice(inner, outer),
            // In parentheses: the same expression, underlined with them.
            _ => {
                let mut deep = self.deep(inner);
                deep.expr.span = outer;
                deep
            }
        }
    }

    fn list(&mut self, pair: Pair<'_, Rule>, span: Span) -> Deep {
        let mut depth = 0;
        let mut elements = Vec::new();
        for pair in Children::of(pair).rest() {
            if pair.as_rule() == Rule::comprehension {
                let mut children = Children::of(pair);
                let variable = self.name(&children.next());
                let (domain, below) = self.deep_domain(children.next());
                depth = depth.max(below);
                let element = elements.pop().expect("an element stands before `for`");
                let (element, domain) = (Box::new(element), Box::new(domain));
                let kind = ExprKind::Comprehension { element, variable, domain };
                return self.grown(kind, span, depth);
            }
            let element = self.deep(pair);
            depth = depth.max(element.depth);
            elements.push(element.expr);
        }
        self.grown(ExprKind::List(elements), span, depth)
    }

    fn choice(&mut self, pair: Pair<'_, Rule>, span: Span) -> Deep {
        let mut children = Children::of(pair);
        let mut arms = Vec::new();
        let mut depth = 0;
        loop {
            let pair = children.next();
            if pair.as_rule() == Rule::choice_value {
                let last = self.deep(Children::of(pair).next());
                depth = depth.max(last.depth);
                let kind = ExprKind::If { arms, otherwise: Box::new(last.expr) };
                return self.grown(kind, span, depth);
            }
            let condition = self.deep(pair);
            let value = self.deep(Children::of(children.next()).next());
            depth = depth.max(condition.depth).max(value.depth);
            arms.push((condition.expr, value.expr));
        }
    }

    /// An expression one deeper than its deepest operand; too deep ones are reported and cut off.
    fn grown(&mut self, kind: ExprKind, span: Span, depth: usize) -> Deep {
        if depth < MAX_DEPTH {
            return Deep { expr: Expr { kind, span }, depth: depth + 1 };
        }
        self.too_deep(span)
    }

    /// What stands for an expression that is too deep; one statement says so once.
    fn too_deep(&mut self, span: Span) -> Deep {
        if !self.refused {
            let text = format!("more than {MAX_DEPTH} operations inside one another");
            let help = "name a part of it and use the name";
            self.report(Code::TooDeep, span, "this expression is too long", &text, help);
            self.refused = true;
        }
        let kind = ExprKind::Literal(Value::Null);
        Deep { expr: Expr { kind, span }, depth: 1 }
    }

    /// A `literal` or `signed_literal` pair.
    pub fn literal(&mut self, pair: Pair<'_, Rule>) -> Literal {
        let span = self.span(&pair);
        let inner = Children::of(pair).next();
        let value = match inner.as_rule() {
            Rule::text => Value::Text(unquoted(&inner).into()),
            Rule::word_literal => match inner.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "inf" => Value::Inf,
                _ => Value::Null,
            },
            _ => number(inner.as_str()).unwrap_or_else(|| {
                let title = "this number is too large";
                let text = "not below 2^127, or beyond the range of a double";
                self.report(Code::Number, span, title, text, "write a smaller number, or `inf`");
                Value::Int(0)
            }),
        };
        Literal { value, span }
    }

    /// A text with `{expr}` to be filled in.
    pub fn template(&mut self, pair: &Pair<'_, Rule>) -> Template {
        let span = self.span(pair);
        let text = unquoted(pair);
        let content = span.start as usize + 1;
        let mut pieces = Vec::new();
        let mut at = 0;
        while let Some(open) = text[at..].find('{').map(|found| found + at) {
            if open > at {
                pieces.push(Piece::Text(text[at..open].into()));
            }
            let Some(close) = matching(text, open) else {
                self.bad_template(content + open..content + text.len(), "no `}` for this `{`");
                at = text.len();
                break;
            };
            pieces.extend(self.template_expr(text, open + 1..close, content));
            at = close + 1;
        }
        if at < text.len() {
            pieces.push(Piece::Text(text[at..].into()));
        }
        Template { pieces, span }
    }

    fn template_expr(&mut self, text: &str, range: std::ops::Range<usize>, content: usize) -> Option<Piece> {
        let range = trim(text, range);
        let Ok(pairs) = Grammar::parse(Rule::expr_only, &text[range.clone()]) else {
            self.bad_template(content + range.start..content + range.end, "not an expression");
            return None;
        };
        let offset = content + range.start;
        let mut builder = Builder::new(self.file, offset, self.diagnostics);
        let whole = Children::among(pairs).next();
        Some(Piece::Expr(builder.expr(Children::of(whole).next())))
    }

    fn bad_template(&mut self, range: std::ops::Range<usize>, text: &str) {
        let title = "a message or path fills in `{expression}`";
        let help = "write `{name}`; a brace of its own cannot stand here";
        self.report(Code::Template, Span::new(self.file, range), title, text, help);
    }
}

/// The `}` that closes the `{` at `open`, if brackets between are not nested too deep.
fn matching(text: &str, open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth > MAX_NESTING {
            return None;
        }
        if depth == 0 {
            return (byte == b'}').then_some(at);
        }
    }
    None
}

/// A number as written, or nothing if it is too large.
pub fn number(text: &str) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let sign = |value: i128| if negative { -value } else { value };
    if let Some(hex) = digits.strip_prefix("0x") {
        return i128::from_str_radix(hex, 16).ok().map(|value| Value::Int(sign(value)));
    }
    if digits.contains(['.', 'e', 'E']) {
        let value: f64 = text.parse().ok()?;
        return value.is_finite().then_some(Value::Float(value));
    }
    digits.parse().ok().map(|value| Value::Int(sign(value)))
}

fn binary_op(text: &str) -> BinaryOp {
    let found = BinaryOp::ALL.iter().find(|op| op.symbol() == text);
    *found.expect("grammar.pest and the table of operators agree")
}
