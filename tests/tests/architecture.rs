//! The invariants of spec/architecture.md that can be read off the source text.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every file with this ending below a folder, with its text; build output is no source.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, ending, found);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), ending, &mut found);
    found.sort();
    assert!(!found.is_empty(), "{folder} has no {ending} files");
    let name = |path: &Path| path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
    found.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

fn sources() -> Vec<(String, String)> {
    ["compiler/src", "runtime/src"].into_iter().flat_map(|folder| files(folder, ".rs")).collect()
}

/// The text without its unit tests, which stand last in a file.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

#[test]
fn the_runtime_never_depends_on_the_compiler() {
    let manifest = std::fs::read_to_string(root().join("runtime/Cargo.toml")).unwrap();
    assert!(!manifest.contains("compiler"));
    for (name, text) in files("runtime/src", ".rs") {
        assert!(!text.contains("sterna_compiler"), "{name}");
    }
}

#[test]
fn no_rust_file_names_a_model() {
    let models: Vec<String> = files("graphs", ".graph")
        .iter()
        .filter_map(|(_, text)| text.lines().find_map(|l| l.strip_prefix("model ")).map(str::to_owned))
        .map(|rest| rest.split_whitespace().next().unwrap().to_owned())
        .collect();
    assert!(models.len() >= 3, "{models:?}");
    for (name, text) in sources() {
        // Examples of preset names in help texts are data for people.
        if name.starts_with("compiler/src/cli/") || name.contains("/tests") || name.ends_with("/fuzz.rs") {
            continue;
        }
        for line in product(&text).lines().filter(|l| !l.trim_start().starts_with("//")) {
            for model in &models {
                assert!(!line.contains(&format!("\"{model}\"")), "{name} names {model}: {line}");
            }
        }
    }
}

#[test]
fn petgraph_stays_where_graphs_are() {
    // Regions live in the first; the second has a graph of its own, of clusters.
    let allowed = ["compiler/src/ir/graph.rs", "compiler/src/passes/time_lift/cluster.rs"];
    for (name, text) in sources() {
        let uses = product(&text).lines().any(|l| l.contains("petgraph::") && !l.trim_start().starts_with("//"));
        assert!(!uses || allowed.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn arrows_point_one_way() {
    // Folder of `compiler/src` and the rooms it must not know.
    let forbidden = [
        (
            "diagnostics",
            &["config", "lang", "ir", "interp", "passes", "kernel", "target", "weights", "package", "cli"][..],
        ),
        ("ir", &["lang", "config", "interp", "passes", "kernel", "target", "weights", "package", "session", "cli"]),
        ("numerics", &["lang", "interp", "passes", "kernel", "target", "weights", "package", "session", "cli"]),
        ("lang", &["interp", "passes", "kernel", "target", "package", "session", "cli"]),
        ("interp", &["lang", "config", "passes", "kernel", "target", "package", "session", "cli"]),
        ("passes", &["lang", "config", "kernel", "target", "package", "session", "cli"]),
        ("kernel", &["lang", "config", "passes", "target", "package", "session", "cli"]),
        ("target", &["lang", "config", "passes", "interp", "weights", "package", "session", "cli"]),
        ("weights", &["lang", "passes", "target", "package", "session", "cli"]),
    ];
    for (room, others) in forbidden {
        for (name, text) in files(&format!("compiler/src/{room}"), ".rs") {
            if name.contains("/tests") {
                continue;
            }
            for other in others {
                assert!(!product(&text).contains(&format!("crate::{other}::")), "{name} knows {other}");
            }
        }
    }
}

#[test]
fn unsafe_stands_in_few_modules() {
    let allowed = [
        "runtime/src/abi.rs",
        "runtime/src/float_control.rs",
        "runtime/src/guard.rs",
        "runtime/src/native.rs",
        "runtime/src/package",
        "runtime/src/pool.rs",
        "runtime/src/system.rs",
        "compiler/src/target/",
        "compiler/src/weights/mod.rs",
        "compiler/src/session/",
    ];
    let mut blocks = 0;
    for (name, text) in sources() {
        let here = product(&text)
            .lines()
            .filter(|l| !l.trim_start().starts_with("//"))
            .filter(|l| l.contains("unsafe {") || l.contains("unsafe impl") || l.contains("unsafe fn"))
            .count();
        blocks += here;
        assert!(here == 0 || allowed.iter().any(|a| name.starts_with(a)), "{name} has unsafe code");
    }
    assert!(blocks < 60, "{blocks} unsafe blocks");
}
