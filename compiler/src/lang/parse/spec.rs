//! Holds `spec/language.md` to its word: every example parses as the text says, or is refused with the
//! code it names, and the table of codes is complete.

use super::tests::{errors, tree};
use crate::diagnostics::Code;

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
