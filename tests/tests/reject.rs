//! Mistakes and what is said about them: each `tests/files/reject/*.case` puts one into a graph, a
//! config or a list of tensors, and `*.expected` holds the rendered diagnostics.
//!
//! The graphs are frozen copies beside the cases, so that work on the model library does not move the
//! lines that diagnostics name. `STERNA_BLESS=1` rewrites the expectations.
//!
//! A case has lines `config MODEL/PRESET` or `config FILE.json` (of `tests/files/configs`),
//! `edit FILE` followed by `-` and `+` lines (the text to find, once, and what stands there instead),
//! `tensor rename GLOB GLOB` and `tensor shape NAME N...`, which change the tensors the module asks
//! for before they are bound to it again. A case may instead write its own model: lines after `|` are
//! the text of `case.graph`, and the line after `json` is its config.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sterna_compiler::diagnostics::{Diagnostics, SourceFiles, Style, render};
use sterna_compiler::ir::{CheckpointRule, Module};
use sterna_compiler::lang::checkpoint::{TensorInfo, bind, graph_names};
use sterna_compiler::lang::{Compiled, Library, Options};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[derive(Default)]
struct Case {
    config: String,
    graph: String,
    json: String,
    edits: BTreeMap<String, Vec<(String, String)>>,
    tensors: Vec<Vec<String>>,
}

fn parse(text: &str) -> Case {
    let mut case = Case::default();
    let mut file = String::new();
    let mut open = false;
    for line in text.lines() {
        if let Some(text) = line.strip_prefix('|') {
            case.graph.push_str(text.strip_prefix(' ').unwrap_or(text));
            case.graph.push('\n');
        } else if let Some(json) = line.strip_prefix("json ") {
            case.json = json.to_string();
        } else if let Some(old) = line.strip_prefix('-') {
            let edits = case.edits.get_mut(&file).expect("an `edit` line comes first");
            edits.push((old.to_string(), String::new()));
            open = false;
        } else if let Some(new) = line.strip_prefix('+') {
            let edits = case.edits.get_mut(&file).expect("an `edit` line comes first");
            let (_, text) = edits.last_mut().expect("a `-` line comes first");
            if open {
                text.push('\n');
            }
            text.push_str(new);
            open = true;
        } else {
            let words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
            match words.first().map(String::as_str) {
                Some("config") => case.config = words[1].clone(),
                Some("edit") => {
                    file = words[1].clone();
                    case.edits.insert(file.clone(), Vec::new());
                }
                Some("tensor") => case.tensors.push(words[1..].to_vec()),
                _ => panic!("not understood: {line}"),
            }
        }
    }
    case
}

fn edited(case: &Case, name: &str, mut text: String) -> String {
    for (old, new) in case.edits.get(name).into_iter().flatten() {
        assert_eq!(text.matches(old.as_str()).count(), 1, "{name}: {old}");
        text = text.replace(old.as_str(), new);
    }
    text
}

fn compile(case: &Case, files: &mut SourceFiles) -> Result<Compiled, Diagnostics> {
    let graphs = root().join("files/reject/graphs");
    let mut library = Library::with_directory(&graphs).expect("the graphs are part of the project");
    for name in case.edits.keys().filter(|n| n.ends_with(".graph")) {
        let text = read(&graphs.join(name));
        library.add(name.clone(), edited(case, name, text));
    }
    if !case.graph.is_empty() {
        library.add("case.graph", case.graph.clone());
        let id = files.add("config.json", case.json.clone());
        return library.compile_config(files, Some("case"), id, &Options::default());
    }
    if !case.config.ends_with(".json") {
        return library.compile_preset(files, &case.config, &Options::default());
    }
    let text = read(&root().join("files/configs").join(&case.config));
    let text = edited(case, &case.config, text);
    let id = files.add(case.config.clone(), text);
    library.compile_config(files, None, id, &Options::default())
}

/// The tensors that a module asks for, changed as the case says.
fn tensors(case: &Case, module: &Module) -> Vec<TensorInfo> {
    let mut tensors: Vec<TensorInfo> = module
        .weights
        .iter()
        .map(|weight| TensorInfo { name: weight.path.clone(), shape: weight.shape.clone(), ..TensorInfo::default() })
        .collect();
    for change in &case.tensors {
        match change[0].as_str() {
            "rename" => {
                let rules = [CheckpointRule::Rename { from: change[1].clone(), to: change[2].clone() }];
                for tensor in &mut tensors {
                    let [_, bare] = graph_names(&rules, &tensor.name);
                    tensor.name = bare;
                }
            }
            "shape" => {
                let tensor = tensors.iter_mut().find(|t| t.name == change[1]);
                let tensor = tensor.expect("the module has this tensor");
                tensor.shape = change[2..].iter().map(|n| n.parse().unwrap()).collect();
                tensor.detail = "bf16, at offset 41216".into();
            }
            other => panic!("not understood: tensor {other}"),
        }
    }
    tensors
}

fn outcome(case: &Case) -> String {
    let mut files = SourceFiles::new();
    let diagnostics = match compile(case, &mut files) {
        Err(errors) => errors,
        Ok(compiled) if case.tensors.is_empty() => compiled.warnings,
        Ok(compiled) => {
            let tensors = tensors(case, &compiled.module);
            bind(&files, &compiled.module, &tensors).expect_err("the tensors do not fit")
        }
    };
    render(&diagnostics, &files, Style::Plain)
}

#[test]
fn mistakes_are_explained_as_expected() {
    let mut cases: Vec<PathBuf> = fs::read_dir(root().join("files/reject"))
        .expect("the cases are part of the project")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|e| e == "case"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 16, "the sixteen mistakes of the language");
    let bless = std::env::var_os("STERNA_BLESS").is_some();
    let mut wrong = Vec::new();
    for path in cases {
        let found = outcome(&parse(&read(&path)));
        let expected = path.with_extension("expected");
        if bless {
            fs::write(&expected, &found).expect("the folder is writable");
        }
        let wanted = fs::read_to_string(&expected).unwrap_or_default();
        if found != wanted || found.is_empty() {
            wrong.push(format!("{}\n--- expected\n{wanted}\n--- found\n{found}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
