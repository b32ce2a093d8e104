//! Every case of tests/files/references against the logits of an independent implementation: both backends, both modes,
//! one and two threads, which must all give the same bits.

use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Trial};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sterna_tests::{file, stdout, text};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    elements: Vec<u32>,
    /// Those of the vocabulary whose logits are given.
    columns: Vec<usize>,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Run {
    overrides: Map<String, Value>,
    tolerance: Tolerance,
    logits: Vec<Vec<f64>>,
    /// Over the whole vocabulary.
    #[serde(default)]
    log_sum_exp: Vec<f64>,
    /// By layer, head and position, best first.
    survivors: Option<Value>,
    /// Positions that go through all layers.
    kept: Option<Vec<usize>>,
    greedy: Option<Vec<u32>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Tolerance {
    /// Of each logit.
    Absolute(f64),
    /// The relative L2 error of a row.
    Row(f64),
}

#[derive(Deserialize)]
struct Printed {
    logits: Vec<Vec<f64>>,
    survivors: Option<Value>,
    #[serde(default)]
    probes: Map<String, Value>,
}

fn case_folders() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(file("references")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.join("expected.json").is_file()).collect();
    folders.sort();
    folders
}

fn checkpoint(folder: &Path) -> PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found = files.filter(|path| path.file_stem().is_some_and(|stem| stem == "checkpoint"));
    let one = found.next().expect("a checkpoint");
    assert!(found.next().is_none(), "{} has two", folder.display());
    one
}

fn norm(row: impl Iterator<Item = f64>) -> f64 {
    row.map(|x| x * x).sum::<f64>().sqrt()
}

fn log_sum_exp(row: &[f64]) -> f64 {
    let largest = row.iter().copied().fold(f64::MIN, f64::max);
    largest + row.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
}

fn compare_logits(name: &str, found: &[Vec<f64>], columns: &[usize], run: &Run) {
    assert_eq!(found.len(), run.logits.len(), "{name}: rows");
    for (index, (row, expected)) in found.iter().zip(&run.logits).enumerate() {
        assert_eq!(expected.len(), columns.len());
        let differences: Vec<f64> = columns.iter().zip(expected).map(|(&c, e)| row[c] - e).collect();
        match run.tolerance {
            Tolerance::Absolute(limit) => {
                let mut worst = differences.iter().fold(0.0f64, |worst, d| worst.max(d.abs()));
                if let Some(sum) = run.log_sum_exp.get(index) {
                    worst = worst.max((log_sum_exp(row) - sum).abs());
                }
                assert!(worst <= limit, "{name}: row {index} is {worst} off");
            }
            Tolerance::Row(limit) => {
                let worst = norm(differences.into_iter()) / norm(expected.iter().copied());
                assert!(worst <= limit, "{name}: row {index} is {worst} off, relatively");
            }
        }
    }
}

fn check_run(folder: &Path, expected: &Expected, run: &Run) {
    let scratch = tempfile::tempdir().unwrap();
    let mut config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    for (key, value) in &run.overrides {
        config[key] = value.clone();
    }
    let (given, weights) = (scratch.path().join("config.json"), checkpoint(folder));
    std::fs::write(&given, config.to_string()).unwrap();
    let ids = scratch.path().join("ids.json");
    let print = |elements: &[u32], options: &[&str]| -> String {
        std::fs::write(&ids, json!(elements).to_string()).unwrap();
        let model = ["logits", text(&given), "--weights", text(&weights), "--tokens", text(&ids)];
        stdout(&[&model[..], options].concat())
    };
    let name = format!("{} {}", folder.display(), json!(run.overrides));
    let mut observe = vec!["--rows", "5"];
    if run.survivors.is_some() {
        observe.push("--pointers");
    }
    if run.kept.is_some() {
        observe.extend(["--probe", "gate_logit"]);
    }
    let mut first: Option<String> = None;
    for backend in ["interp", "jit"] {
        // The interpreter has no threads.
        let threads: &[&str] = if backend == "jit" { &["1", "2"] } else { &["1"] };
        for mode in ["step", "batch"] {
            for threads in threads {
                let engine = ["--backend", backend, "--mode", mode, "--threads", threads];
                let printed = print(&expected.elements, &[&observe[..], &engine].concat());
                let same = first.get_or_insert_with(|| printed.clone());
                assert!(*same == printed, "{name}: other bits with {engine:?}");
            }
        }
    }
    let printed: Printed = serde_json::from_str(&first.unwrap()).unwrap();
    compare_logits(&name, &printed.logits, &expected.columns, run);
    assert_eq!(printed.survivors, run.survivors, "{name}");
    if let Some(kept) = &run.kept {
        let gates = printed.probes["gate_logit"].as_array().unwrap();
        let open = gates.iter().enumerate().filter(|(_, z)| z.as_f64().unwrap() > 0.0).map(|(i, _)| i);
        assert_eq!(open.collect::<Vec<_>>(), *kept, "{name}");
    }

    // Nothing that follows changes a row. Where a row comes before the first element, that goes for no elements too.
    let shortest = usize::from(printed.logits.len() == expected.elements.len());
    for length in [shortest, expected.elements.len() / 2] {
        let rows: Printed = serde_json::from_str(&print(&expected.elements[..length], &[])).unwrap();
        assert_eq!(rows.logits, printed.logits[..rows.logits.len()], "{name}: {length} elements");
    }

    if let Some(greedy) = &run.greedy {
        let ids: Vec<String> = expected.elements.iter().map(u32::to_string).collect();
        let count = greedy.len().to_string();
        let model = ["run", text(&given), "--weights", text(&weights), "--tokens", &ids.join(",")];
        let printed = stdout(&[&model[..], &["--max-new", &count, "--temperature", "0", "--json"]].concat());
        let printed: Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(printed["elements"], json!(greedy), "{name}");
    }
}

fn check(folder: &Path) {
    let expected: Expected = serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    assert!(!expected.runs.is_empty());
    for run in &expected.runs {
        check_run(folder, &expected, run);
    }
}

fn main() {
    let folders = case_folders();
    assert!(folders.len() >= 15, "{folders:?}");
    let trial = |folder: PathBuf| {
        let name = folder.file_name().expect("a case").to_string_lossy().into_owned();
        Trial::test(name, move || {
            check(&folder);
            Ok(())
        })
    };
    libtest_mimic::run(&Arguments::from_args(), folders.into_iter().map(trial).collect()).exit();
}
