//! Parsing as a whole: the shapes of trees, the wording of mistakes, and hostile texts.

use super::*;
use crate::diagnostics::{Style, render};
use crate::lang::ast::*;

pub fn run(text: &str) -> (Option<File>, Diagnostics, SourceFiles) {
    let mut files = SourceFiles::new();
    let file = files.add("test.graph", text);
    let mut diagnostics = Diagnostics::new();
    let tree = parse(&files, file, &mut diagnostics);
    (tree, diagnostics, files)
}

pub fn tree(text: &str) -> File {
    let (tree, diagnostics, files) = run(text);
    tree.unwrap_or_else(|| panic!("{}", render(&diagnostics, &files, Style::Plain)))
}

pub fn errors(text: &str) -> String {
    let (tree, diagnostics, files) = run(text);
    assert!(tree.is_none());
    render(&diagnostics, &files, Style::Plain)
}

/// An expression with all its brackets written.
fn show(expr: &Expr) -> String {
    match &expr.kind {
        ExprKind::Name(name) => name.to_string(),
        ExprKind::Literal(Value::Int(value)) => value.to_string(),
        ExprKind::Unary { op, operand, .. } => format!("({} {})", op.symbol(), show(operand)),
        ExprKind::Binary { op, left, right, .. } => {
            format!("({} {} {})", show(left), op.symbol(), show(right))
        }
        ExprKind::Member { base, member } => format!("{}.{}", show(base), member.text),
        ExprKind::Call { callee, args, .. } => format!("{}({})", show(callee), args.len()),
        ExprKind::Index { base, args, .. } => format!("{}[{}]", show(base), args.len()),
        other => format!("{other:?}"),
    }
}

fn value(text: &str) -> String {
    let file = tree(&format!("library t\nx = {text}"));
    match &file.items[0] {
        Item::Stmt(Stmt { kind: StmtKind::Assign { values, .. }, .. }) => show(&values[0]),
        other => panic!("{other:?}"),
    }
}

#[test]
fn precedence() {
    assert_eq!(value("a + b * c ** d ** e"), "(a + (b * (c ** (d ** e))))");
    assert_eq!(value("-a ** b * c"), "((- (a ** b)) * c)");
    assert_eq!(value("a ** -2 * b"), "((a ** (- 2)) * b)");
    assert_eq!(value("a - b - c"), "((a - b) - c)");
    assert_eq!(value("not a == b and c or d"), "(((not (a == b)) and c) or d)");
    assert_eq!(value("a ^ b >> 2 + c"), "(a ^ (b >> (2 + c)))");
    assert_eq!(value("a in b and not - c < d"), "((a in b) and (not ((- c) < d)))");
    assert_eq!(value("f[n](x).y[0] @ g"), "(f[1](1).y[1] @ g)");
}

#[test]
fn a_statement_that_does_not_end() {
    let text = "library t\nblock f(x: f32) -> f32 {\n  y = rows[taps - 1] * x rows[0]\n  return y\n}";
    let expected = "error[E0101]: this statement does not end
 --> test.graph:3:26
  |
3 |   y = rows[taps - 1] * x rows[0]
  |                          ^^^^^^^ expected an operator, `;` or the end of the line
  = help: a long expression goes on after an operator: end the line with `+`
";
    assert_eq!(errors(text), expected);
}

#[test]
fn wording() {
    let cases = [
        ("model m\nconfig { a: itn }", "nearest word: `int`"),
        ("library t\nblok f(x: f32) -> f32 { return x }", "nearest keyword: `block`"),
        ("library t\nblock f(x f32) -> f32 { return x }", "expected `,` or `:`"),
        ("library t\nblock f(x: f32) f32 { return x }", "expected `->`"),
        ("library t\nx = a && b", "`and` joins conditions"),
        ("library t\nx = (a + )", "expected an expression"),
        ("library t\nx = f(a b)", "expected an operator, `,` or `)`"),
        ("model m\nentry s() strat 0 { y = 1 }", "nearest word: `start`"),
        ("model m\nblock b() -> f32 { if a { x = 1 } esle { } }", "nearest word: `else`"),
        ("model m\ncheckpoint { ignroe \"x\": \"y\" }", "expected `ignore`, `strip`, `rename` or `choose`"),
        ("library t\nx = a\n + b", "put the operator at the end of the line before"),
        ("library t\nx = f(a, )", "no comma stands before `)`"),
        ("model m\nconfig {\n a: int = 1,\n b: int }", "end with the line or with `;`"),
        ("library t\nx = state", "`state` is a reserved word"),
        ("library t\nβ = 3", "names are ASCII"),
        ("library t\nx = 1.5e", "expected an expression"),
        ("library t\nx = y[0:4]", "a slice is written with two dots"),
        ("library t\nx = y[:4]", "a slice is written with two dots"),
        ("library t\nx = y[f(a[1], 2):n]", "a slice is written with two dots"),
        ("library t\ns[0] = x", "a name is assigned whole"),
        ("library t\nx = a if c else b", "a choice is written `if c { a } else { b }`"),
        ("library t\nx = (a if c else b)", "a choice is written `if c { a } else { b }`"),
        ("library t\nx = f(a if c else b, 1)", "a choice is written `if c { a } else { b }`"),
        ("library t\nx = c ? a : b", "a choice is written `if c { a } else { b }`"),
        ("library t\nx = a & b", "`and` joins conditions"),
        ("library t\nx = a | b", "`or` joins conditions"),
        ("library t\nx = a || b", "`or` joins conditions"),
        ("library t\nx = ~a", "`not` negates"),
        ("library t\nx += 1", "`x = x + ...`"),
        ("library t\nx //= 2", "`x = x // ...`"),
        ("library t\nblock f(x: f32) -> f32 { while x { } return x }", "`exit when c` loops in a step"),
        ("modle t", "expected `model` or `library` and a name"),
        ("", "this file is empty"),
        ("library t\nx = 99999999999999999999999999999999999999999", "this number is too large"),
        ("library t\nx = 1e999", "this number is too large"),
        ("model t\ncheck x, \"bad {x\"", "no `}` for this `{`"),
        ("model t\ncheck x, \"bad {x +}\"", "not an expression"),
        ("model t\nreturn 3", "`return` cannot stand here"),
        ("library t\nconfig { }", "`config` cannot stand here"),
    ];
    for (text, wanted) in cases {
        let shown = errors(text);
        assert!(shown.contains(wanted), "{text}\nwanted {wanted}\n{shown}");
    }
}

pub fn library(name: &str) -> String {
    let path = format!("{}/../graphs/{name}.graph", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_model_library_parses() {
    for (name, blocks) in [("std", 20), ("cpu1", 16), ("v76", 8), ("chimera", 24)] {
        let file = tree(&library(name));
        assert_eq!(file.name.as_str(), name);
        let found = file.items.iter().filter(|item| matches!(item, Item::Block(_))).count();
        assert_eq!(found, blocks, "blocks of {name}");
    }
}

/// Every name's span underlines the name itself.
#[test]
fn spans_underline_names() {
    let text = library("cpu1");
    let file = tree(&text);
    for item in &file.items {
        match item {
            Item::Block(block) => {
                assert_eq!(&text[block.name.span.range()], block.name.as_str());
                assert!(text[block.span.range()].ends_with('}'));
                for stmt in &block.body.stmts {
                    let source = &text[stmt.span.range()];
                    assert_eq!(source, source.trim());
                }
            }
            Item::Config(config) => {
                for key in config.keys.iter().flat_map(|decl| &decl.keys) {
                    let Key::Named(name) = key else { panic!("no wildcard there") };
                    assert_eq!(&text[name.span.range()], name.as_str());
                }
            }
            _ => {}
        }
    }
}

#[test]
fn several_mistakes_are_reported_together() {
    let text = "library t
block f(x: f32) -> f32 {
  y = x x
  for i on 0..3 { z = 1 }
  if x > 0 { y = (1 + ) }
  return y
}
block g(x) -> f32 { return x }
x = )";
    let (tree, diagnostics, _) = run(text);
    assert!(tree.is_none());
    assert_eq!(diagnostics.error_count(), 1, "a bracket that closes nothing stops the rest");
    let (_, diagnostics, files) = run(&text.replace("x = )", "x = 1 +"));
    let lines: Vec<usize> = diagnostics.iter().map(|d| files.position(d.primary.as_ref().unwrap().span).line).collect();
    assert_eq!(lines, [3, 4, 5, 8, 9]);
}

#[test]
fn long_chains_are_refused_without_recursion() {
    for text in [
        format!("library t\nx = {}1", "-".repeat(100_000)),
        format!("library t\nx = {}1", "not ".repeat(100_000)),
        format!("library t\nx = 1{}", " ** 1".repeat(100_000)),
        format!("library t\nx = 1{}", " + 1".repeat(100_000)),
        format!("library t\nx = a{}", ".b".repeat(100_000)),
        format!("library t\nx = {}1", format!("{}(", "1 ** ".repeat(50)).repeat(64)),
    ] {
        let shown = errors(&(text.clone() + &")".repeat(64 * usize::from(text.contains('(')))));
        assert_eq!(shown.matches("E0104").count(), 1, "{shown}");
    }
    let elses = "else if b { y = 1 } ".repeat(20_000);
    tree(&format!("library t\nblock f() -> f32 {{ if a {{ y = 1 }} {elses} }}"));
    let deep = format!("library t\nx = {}1{}", "[(".repeat(32), ")]".repeat(32));
    tree(&deep);
}
