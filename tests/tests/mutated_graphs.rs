//! Graph files with words exchanged, left out or put in: elaboration ends in a module that verifies or in
//! diagnostics that can be drawn, never in a panic. `PROPTEST_CASES` sets how many.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use sterna_compiler::diagnostics::{SourceFiles, Style, render};
use sterna_compiler::ir;
use sterna_compiler::lang::{Library, Options, presets};
use sterna_compiler::limits::Limits;

/// The ranges of names, numbers, texts and single signs.
fn words(text: &str) -> Vec<(usize, usize)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let mut out = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        let mut end = start + c.len_utf8();
        if is_word(c) {
            while let Some((at, _)) = chars.next_if(|(_, c)| is_word(*c)) {
                end = at + 1;
            }
        } else if c == '#' {
            while chars.next_if(|(_, c)| *c != '\n').is_some() {}
            continue;
        } else if c == '"' {
            for (at, c) in chars.by_ref() {
                end = at + c.len_utf8();
                if c == '"' || c == '\n' {
                    break;
                }
            }
        } else if c.is_whitespace() {
            continue;
        }
        out.push((start, end));
    }
    out
}

fn kind(text: &str) -> u8 {
    match text.chars().next() {
        Some(c) if c.is_ascii_digit() => 0,
        Some(c) if c.is_ascii_alphabetic() || c == '_' => 1,
        Some('"') => 2,
        _ => 3,
    }
}

/// One edit: mostly a word replaced by another of its kind, so that many results still parse.
fn edit(text: &mut String, at: usize, with: usize, how: u8) {
    let words = words(text);
    let (start, end) = words[at % words.len()];
    let alike: Vec<(usize, usize)> =
        words.iter().copied().filter(|&(a, b)| kind(&text[a..b]) == kind(&text[start..end])).collect();
    let (a, b) = alike[with % alike.len()];
    let other = match how {
        0 => String::new(),
        1 => "0".to_string(),
        2 => "99999999999".to_string(),
        3 => "-1".to_string(),
        _ => text[a..b].to_string(),
    };
    text.replace_range(start..end, &other);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_edit_of_a_graph_makes_elaboration_panic(
        preset in any::<prop::sample::Index>(),
        library in any::<bool>(),
        edits in prop::collection::vec((any::<usize>(), any::<usize>(), 0u8..20), 1..4),
    ) {
        let all = presets();
        let name = &all[preset.index(all.len())];
        let model = name.split('/').next().unwrap_or_default();
        let target = if library { "std" } else { model };
        let graphs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../graphs");
        let file = format!("{target}.graph");
        let mut text = fs::read_to_string(graphs.join(&file)).expect("an embedded graph has a file");
        for (at, with, how) in edits {
            edit(&mut text, at, with, how);
        }
        let mut graphs = Library::embedded();
        graphs.add(file, text);
        let limits = Limits { nodes: 100_000, evaluations: 1_000_000, ..Limits::default() };
        let options = Options { limits, ..Options::default() };
        let mut files = SourceFiles::new();
        match graphs.compile_preset(&mut files, name, &options) {
            Ok(compiled) => {
                let verified = ir::verify::verify(&compiled.module);
                prop_assert!(verified.is_ok(), "{}", verified.unwrap_err());
            }
            Err(errors) => {
                prop_assert!(errors.has_errors());
                prop_assert!(!render(&errors, &files, Style::Plain).is_empty());
            }
        }
    }
}
