//! Holds `spec/language.md` to its word: every example parses as the text says, or is refused with the
//! code it names, and the table of codes is complete.

use std::collections::BTreeMap;

use pest::Parser;
use pest::iterators::Pair;

use super::layout;
use super::tests::{errors, tree};
use super::tree::{Grammar, Rule};
use crate::diagnostics::{Code, Diagnostics, SourceFiles};
use crate::lang::elaborate::OPERATIONS;

fn spec() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../spec/language.md");
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The fenced blocks: what stands behind the opening fence, and the text.
fn fences(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(kind), None) => open = Some((kind.to_string(), String::new())),
            (Some(_), Some(block)) => found.push(block),
            (None, Some((kind, block))) => open = Some((kind, block + line + "\n")),
            (None, None) => {}
        }
    }
    found
}

#[test]
fn every_example_parses() {
    let mut seen = std::collections::BTreeMap::new();
    for (kind, text) in fences(&spec()) {
        let Some(kind) = kind.strip_prefix("graph") else { continue };
        match kind.trim() {
            "" => drop(tree(&text)),
            "items" => drop(tree(&format!("model example\n{text}"))),
            "body" => {
                drop(tree(&format!("model example\nblock b(x: f32) -> f32 {{\n{text}\n}}")));
            }
            "expressions" => {
                for line in text.lines() {
                    tree(&format!("model example\nx = {line}"));
                }
            }
            other => {
                let code = other.strip_prefix("wrong ").expect("a kind that the text explains");
                let shown = errors(&text);
                assert!(shown.starts_with(&format!("error[{code}]")), "{text}\n{shown}");
            }
        }
        *seen.entry(kind.split(' ').nth(1).unwrap_or("file").to_string()).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 5, "all kinds of example are found: {seen:?}");
    assert!(seen.values().sum::<i32>() >= 16, "{seen:?}");
}

#[test]
fn every_code_is_listed() {
    let text = spec();
    for code in Code::ALL {
        let row = format!("| {:04} | {} |", code.number(), code.meaning());
        assert!(text.contains(&row), "spec/language.md lacks the row\n{row}");
    }
}

/// What a file is made of: a rule of the grammar within another, an operator, a function of the language; each with a
/// place where it occurs. The header is not counted.
fn constructs(text: &str) -> BTreeMap<String, String> {
    fn collect(pair: Pair<'_, Rule>, found: &mut BTreeMap<String, String>) {
        let (rule, own) = (pair.as_rule(), pair.as_str());
        let mut note = |what: String| {
            found.entry(what).or_insert_with(|| own.to_owned());
        };
        match rule {
            Rule::infix | Rule::prefix | Rule::scalar | Rule::kind | Rule::range_op => note(format!("{rule:?} {own}")),
            Rule::name if OPERATIONS.contains(&own) => note(format!("function {own}")),
            _ => {}
        }
        for inner in pair.into_inner() {
            let within = format!("{:?} in {rule:?}", inner.as_rule());
            found.entry(within).or_insert_with(|| inner.as_str().to_owned());
            collect(inner, found);
        }
    }
    let mut files = SourceFiles::new();
    let file = files.add("test.graph", text);
    let laid = layout::layout(text, file, &mut Diagnostics::new()).expect("brackets that fit");
    let mut found = BTreeMap::new();
    for statement in &laid.statements[1..] {
        let pairs = Grammar::parse(Rule::item_only, &laid.text[statement.clone()]).expect("a statement");
        pairs.for_each(|pair| collect(pair, &mut found));
    }
    found
}

/// Whole examples are compiled by `tests/tests/spec.rs`. A model without presets waits for more of the language.
#[test]
fn what_the_library_uses_is_in_a_whole_example() {
    let spec = spec();
    let examples = fences(&spec).into_iter().filter(|(kind, _)| kind == "graph");
    let shown: BTreeMap<String, String> = examples.flat_map(|(_, text)| constructs(&text)).collect();
    let graphs = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../graphs")).unwrap();
    let (mut compared, mut missing) = (0, Vec::new());
    for path in graphs.map(|entry| entry.unwrap().path()) {
        let text = std::fs::read_to_string(&path).unwrap();
        let is_library = text.lines().any(|line| line.starts_with("library "));
        let has_presets = text.lines().any(|line| line.starts_with("preset "));
        if !is_library && !has_presets {
            continue;
        }
        compared += 1;
        let used = constructs(&text).into_iter().filter(|(what, _)| !shown.contains_key(what));
        missing.extend(used.map(|(what, place)| format!("{}: {what}: {place}", path.display())));
    }
    assert!(compared >= 3, "{compared}");
    assert!(missing.is_empty(), "no whole example of spec/language.md has\n{}", missing.join("\n"));
}
