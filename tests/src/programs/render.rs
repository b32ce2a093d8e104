//! Programs as text: the graph file and its config.

use std::fmt::Write;

use super::tree::{Block, CALL, Decl, Expr, Program, Stmt, Type};

/// `[a, b]`, or nothing for a scalar.
pub fn axes(lengths: &[usize]) -> String {
    if lengths.is_empty() {
        return String::new();
    }
    format!("[{}]", list(lengths))
}

/// `a, b`.
pub fn list(lengths: &[usize]) -> String {
    lengths.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// The expression as text.
pub fn expression(expr: &Expr) -> String {
    if expr.form == CALL {
        let parts: Vec<String> = expr.parts.iter().map(expression).collect();
        let (callee, arguments) = parts.split_first().map_or(("", &[][..]), |(c, a)| (c.as_str(), a));
        return format!("{callee}({})", arguments.join(", "));
    }
    let mut parts = expr.parts.iter();
    let mut out = String::new();
    for sign in expr.form.chars() {
        match sign {
            '#' | '$' => {
                let Some(part) = parts.next() else { continue };
                let text = expression(part);
                if sign == '$' && !is_primary(part) {
                    let _ = write!(out, "({text})");
                } else {
                    out.push_str(&text);
                }
            }
            other => out.push(other),
        }
    }
    out
}

/// Whether the expression needs no brackets as an operand.
fn is_primary(expr: &Expr) -> bool {
    if expr.form == CALL {
        return true;
    }
    if expr.form == "#" {
        return expr.parts.first().is_some_and(is_primary);
    }
    let mut depth = 0usize;
    let mut first = true;
    for sign in expr.form.chars() {
        match sign {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            ' ' if depth == 0 => return false,
            '-' if first => return false,
            _ => {}
        }
        first = false;
    }
    true
}

/// The graph file.
pub fn graph(program: &Program) -> String {
    let mut out = String::from("model m \"random\"\nimport std\n");
    if !program.keys.is_empty() {
        let keys: Vec<String> = program.keys.iter().map(|(name, ty, _)| format!("{name}: {ty}")).collect();
        let _ = writeln!(out, "config {{ {} }}", keys.join("; "));
    }
    for (name, value) in &program.names {
        let _ = writeln!(out, "{name} = {value}");
    }
    for (name, ty) in &program.inputs {
        let _ = writeln!(out, "input {name}: {ty}");
    }
    for (name, ty) in &program.hosts {
        let _ = writeln!(out, "host {name}{ty}");
    }
    program.decls.iter().for_each(|decl| declaration(&mut out, decl, ""));
    program.blocks.iter().for_each(|b| block(&mut out, b));
    for entry in &program.entries {
        let _ = writeln!(out, "entry {} {{", entry.header);
        body(&mut out, &entry.body, 1);
        out.push_str("}\n");
    }
    out
}

/// The config as JSON.
pub fn config(program: &Program) -> String {
    let keys: Vec<String> = program.keys.iter().map(|(name, _, value)| format!("\"{name}\": {value}")).collect();
    format!("{{{}}}", keys.join(", "))
}

fn declaration(out: &mut String, decl: &Decl, indent: &str) {
    let _ = match decl {
        Decl::Weight { name, encoding, shape } => writeln!(out, "{indent}weight {name}: {encoding}{}", axes(shape)),
        Decl::State { names, ty, initial } => {
            let initial = initial.as_ref().map_or_else(String::new, |text| format!(" = {text}"));
            writeln!(out, "{indent}state {}: {ty}{initial}", names.join(", "))
        }
        Decl::Part { name, count: None, of } => writeln!(out, "{indent}part {name}: {of}"),
        Decl::Part { name, count: Some(n), of } => writeln!(out, "{indent}part {name}[j in 0..{n}]: {of}"),
    };
}

fn block(out: &mut String, block: &Block) {
    let params: Vec<String> = block.params.iter().map(|(name, ty)| format!("{name}: {}", ty.text())).collect();
    let results: Vec<String> = block.results.iter().map(Type::text).collect();
    let (name, statics) = (&block.name, &block.statics);
    let _ = writeln!(out, "block {name}{statics}({}) -> {} {{", params.join(", "), results.join(", "));
    block.decls.iter().for_each(|decl| declaration(out, decl, "  "));
    body(out, &block.body, 1);
    out.push_str("}\n");
}

fn body(out: &mut String, stmts: &[Stmt], depth: usize) {
    let indent = "  ".repeat(depth);
    for stmt in stmts {
        match stmt {
            Stmt::Assign { names, value } => {
                let names: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
                let _ = writeln!(out, "{indent}{} = {}", names.join(", "), expression(value));
            }
            Stmt::If { arms, otherwise } => {
                for (place, (condition, inner)) in arms.iter().enumerate() {
                    let word = if place == 0 { "if" } else { "} else if" };
                    let _ = writeln!(out, "{indent}{word} {} {{", expression(condition));
                    body(out, inner, depth + 1);
                }
                if !otherwise.is_empty() {
                    let _ = writeln!(out, "{indent}}} else {{");
                    body(out, otherwise, depth + 1);
                }
                let _ = writeln!(out, "{indent}}}");
            }
            Stmt::Repeat { variable, first, count, most, body: inner } => {
                let end = expression(count);
                let most = if end.parse::<usize>().is_ok() { String::new() } else { format!(" max {most}") };
                let _ = writeln!(out, "{indent}repeat {variable} in {first}..={end}{most} {{");
                body(out, inner, depth + 1);
                let _ = writeln!(out, "{indent}}}");
            }
            Stmt::For { variable, rounds, body: inner } => {
                let _ = writeln!(out, "{indent}for {variable} in 0..{rounds} {{");
                body(out, inner, depth + 1);
                let _ = writeln!(out, "{indent}}}");
            }
            Stmt::Exit(condition) => {
                let _ = writeln!(out, "{indent}exit when {}", expression(condition));
            }
            Stmt::Probe(name, value) => {
                let _ = writeln!(out, "{indent}probe {name} = {}", expression(value));
            }
            Stmt::Output(name, value) => {
                let _ = writeln!(out, "{indent}output {name} = {}", expression(value));
            }
            Stmt::Return(values) => {
                let values: Vec<String> = values.iter().map(expression).collect();
                let _ = writeln!(out, "{indent}return {}", values.join(", "));
            }
        }
    }
}
