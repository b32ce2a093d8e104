//! Every preset of the model library elaborates to a module that verifies and prints to text that
//! reads back; the weights are those of `tests/files/tensors`.
//!
//! A `.tensors` file has `config MODEL/PRESET` (or a JSON file of `tests/files/configs`), `parameters N`
//! and lines `NAME [SHAPE] ELEMENT`, in whose names `{a,b}` and `{0..3}` stand for each alternative.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sterna_compiler::diagnostics::{SourceFiles, Style, render};
use sterna_compiler::ir::{self, Module, Treatment};
use sterna_compiler::lang::{Compiled, Library, Options};

fn files(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("files").join(folder)
}

fn compiled(name: &str) -> Compiled {
    let mut sources = SourceFiles::new();
    let library = Library::embedded();
    let options = Options::default();
    let result = if name.ends_with(".json") {
        let text = fs::read_to_string(files("configs").join(name)).expect("the config exists");
        let id = sources.add(name, text);
        library.compile_config(&mut sources, None, id, &options)
    } else {
        library.compile_preset(&mut sources, name, &options)
    };
    match result {
        Ok(compiled) => compiled,
        Err(errors) => panic!("{name}:\n{}", render(&errors, &sources, Style::Plain)),
    }
}

#[test]
fn every_preset_elaborates_and_verifies() {
    let presets = sterna_compiler::lang::presets();
    assert!(!presets.is_empty());
    for name in presets {
        let mut module = compiled(&name).module;
        if let Err(problem) = ir::verify::verify(&module) {
            panic!("{name}: {problem}");
        }
        if let Err(problem) = sterna_compiler::passes::run_pipeline(&mut module, None) {
            panic!("{name}: {problem}");
        }
    }
}

/// All names that a pattern with `{a,b}` and `{0..3}` stands for.
fn expand(pattern: &str) -> Vec<String> {
    let Some(open) = pattern.find('{') else {
        return vec![pattern.to_string()];
    };
    let close = open + pattern[open..].find('}').expect("braces come in pairs");
    let inside = &pattern[open + 1..close];
    let alternatives: Vec<String> = match inside.split_once("..") {
        Some((low, high)) => {
            let (low, high): (usize, usize) = (low.parse().unwrap(), high.parse().unwrap());
            (low..=high).map(|n| n.to_string()).collect()
        }
        None => inside.split(',').map(str::to_string).collect(),
    };
    let mut out = Vec::new();
    for alternative in alternatives {
        for rest in expand(&pattern[close + 1..]) {
            out.push(format!("{}{alternative}{rest}", &pattern[..open]));
        }
    }
    out
}

fn weights(module: &Module) -> BTreeMap<String, String> {
    let describe = |(path, encoding, shape): (&str, &ir::Encoding, &[usize])| {
        let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
        (path.to_string(), format!("[{}] {}", shape.join(","), encoding.elem().name()))
    };
    module.stored().map(describe).collect()
}

#[test]
fn weights_are_those_of_the_tables() {
    let mut tables = 0;
    for entry in fs::read_dir(files("tensors")).expect("the tables are part of the project") {
        let path = entry.expect("a readable folder").path();
        let text = fs::read_to_string(&path).expect("a readable table");
        let mut lines = text.lines();
        let config = lines.next().and_then(|l| l.strip_prefix("config ")).expect("a config line");
        let count = lines.next().and_then(|l| l.strip_prefix("parameters ")).expect("a count");
        let mut wanted = BTreeMap::new();
        for line in lines {
            let (name, kind) = line.split_once(' ').expect("a name and a type");
            for name in expand(name) {
                assert!(wanted.insert(name, kind.to_string()).is_none(), "{path:?}: {line}");
            }
        }
        let module = compiled(config).module;
        let found = weights(&module);
        for (name, kind) in &wanted {
            assert_eq!(found.get(name), Some(kind), "{config}: {name}");
        }
        for name in found.keys() {
            assert!(wanted.contains_key(name), "{config}: {name} is in no table");
        }
        assert_eq!(module.parameters().to_string(), count, "{config}");
        if let Err(problem) = ir::verify::verify(&module) {
            panic!("{config}: {problem}");
        }
        tables += 1;
    }
    assert!(tables > 0);
}

#[test]
fn every_config_key_is_accounted_for() {
    for entry in fs::read_dir(files("configs")).expect("the configs are part of the project") {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a readable config");
        let json: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
        let uses = compiled(&name).module.config;
        let given: Vec<&str> =
            uses.iter().filter(|u| u.treatment != Treatment::Default).map(|u| u.key.as_str()).collect();
        for key in json.as_object().expect("an object").keys() {
            let inside = format!("{key}.");
            assert!(given.iter().any(|g| *g == key || g.starts_with(&inside)), "{name}: {key} is not accounted for");
        }
    }
}
