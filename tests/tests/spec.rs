//! The whole files among the examples of spec/language.md are models: each of their presets compiles, and compiled code
//! gives the bits that the graph means. (That every example parses is a unit test of the parser.)

use sterna_tests::{root, stdout, text};

/// Blocks between fences of exactly this kind.
fn fenced(text: &str, kind: &str) -> Vec<String> {
    let open = format!("```{kind}\n");
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(&open) {
        let (block, after) = rest[at + open.len()..].split_once("\n```").expect("a closing fence");
        found.push(format!("{block}\n"));
        rest = after;
    }
    found
}

#[test]
fn whole_examples_are_models_that_run() {
    let spec = std::fs::read_to_string(root().join("spec/language.md")).unwrap();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let examples = [fenced(&spec, "graph"), fenced(&readme, "graph")].concat();
    assert!(examples.len() >= 4, "{}", examples.len());
    for example in examples {
        let name = example.strip_prefix("model ").expect("a model").split_whitespace().next().unwrap();
        let graphs = tempfile::tempdir().unwrap();
        std::fs::write(graphs.path().join(format!("{name}.graph")), &example).unwrap();
        let all = stdout(&["presets", "--graphs", text(graphs.path())]);
        let own: Vec<&str> = all.lines().filter(|line| line.starts_with(&format!("{name}/"))).collect();
        assert!(!own.is_empty(), "{name} has no preset");
        for preset in own.into_iter().filter(|p| !p.ends_with("/large")) {
            let said = stdout(&["verify", preset, "--graphs", text(graphs.path()), "--elements", "50"]);
            assert!(said.starts_with("equal bits"), "{preset}: {said}");
        }
    }
}

#[test]
fn a_tensor_that_nothing_reads_counts_and_must_fit() {
    let spec = std::fs::read_to_string(root().join("spec/language.md")).unwrap();
    let example = fenced(&spec, "graph").into_iter().find(|e| e.contains("\" as ")).expect("an example of it");
    let graphs = tempfile::tempdir().unwrap();
    std::fs::write(graphs.path().join("patches.graph"), example).unwrap();
    let check = |preset: &str| -> serde_json::Value {
        let printed = stdout(&["check", preset, "--graphs", text(graphs.path()), "--json"]);
        serde_json::from_str(&printed).unwrap()
    };
    let (without, with) = (check("patches/small"), check("patches/taught"));
    let (a, b) = (without["parameters"].as_u64().unwrap(), with["parameters"].as_u64().unwrap());
    assert_eq!(b - a, 48 * 32);
    assert_eq!(with["tensors"]["unread"][0]["shape"], serde_json::json!([48, 32]));
    assert_eq!(without["tensors"]["unread"], serde_json::json!([]));
}
