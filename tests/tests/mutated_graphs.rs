//! Graph files with words exchanged, left out or put in: elaboration ends in a module that verifies or in
//! diagnostics that can be drawn, never in a panic. `PROPTEST_CASES` sets how many.

use std::fs;
use std::ops::Range;
use std::path::Path;

use proptest::prelude::*;
use sterna_compiler::diagnostics::{SourceFiles, Style, render};
use sterna_compiler::ir;
use sterna_compiler::lang::{Library, Options, presets};
use sterna_compiler::limits::Limits;
use sterna_tests::mutate::words::{kind, words};

/// One edit: mostly a word replaced by another of its kind, so that many results still parse.
fn edit(text: &mut String, at: usize, with: usize, how: u8) {
    let words = words(text);
    let at = words[at % words.len()].clone();
    let alike: Vec<&Range<usize>> =
        words.iter().filter(|other| kind(&text[(*other).clone()]) == kind(&text[at.clone()])).collect();
    let with = alike[with % alike.len()].clone();
    let other = match how {
        0 => String::new(),
        1 => "0".to_string(),
        2 => "99999999999".to_string(),
        3 => "-1".to_string(),
        _ => text[with].to_string(),
    };
    text.replace_range(at, &other);
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
