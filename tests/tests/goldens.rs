//! Real checkpoints against the logits of the reference: every file layout, both backends, both modes, one and two
//! threads, which must all give the same bits.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sterna_tests::{file, largest_difference, stdout, text};

#[derive(Deserialize)]
struct Golden {
    prompt: Vec<u32>,
    greedy: Vec<u32>,
    greedy_margin: Vec<f64>,
    tolerance_abs: f64,
    tolerance_row_rel_l2: f64,
    noquant_tolerance_abs: f64,
    greedy_excuse_margin: f64,
    logits: Vec<Vec<f64>>,
    logits_noquant: Option<Vec<Vec<f64>>>,
    greedy_noquant: Option<Vec<u32>>,
}

#[derive(Deserialize)]
struct Printed {
    logits: Vec<Vec<f64>>,
}

fn logits(config: &Path, weights: &Path, tokens: &Path, options: &[&str]) -> (String, Vec<Vec<f64>>) {
    let mut arguments = vec!["logits", text(config), "--weights", text(weights), "--tokens", text(tokens)];
    arguments.extend(options);
    let printed = stdout(&arguments);
    let read: Printed = serde_json::from_str(&printed).expect("the contract's JSON");
    (printed, read.logits)
}

fn largest_row_error(found: &[Vec<f64>], expected: &[Vec<f64>]) -> f64 {
    let norm = |row: &mut dyn Iterator<Item = f64>| row.map(|x| x * x).sum::<f64>().sqrt();
    let rows = found.iter().zip(expected);
    rows.map(|(a, b)| norm(&mut a.iter().zip(b).map(|(x, y)| x - y)) / norm(&mut b.iter().copied())).fold(0.0, f64::max)
}

/// Greedy continuation read off the rows that predict it; stops at an excused difference.
fn check_greedy(rows: &[Vec<f64>], prompt: usize, greedy: &[u32], margins: Option<&[f64]>, excuse: f64, first: usize) {
    for (i, &expected) in greedy.iter().enumerate() {
        let row = &rows[prompt + i - first];
        let best = (0..row.len()).fold(0, |best, j| if row[j] > row[best] { j } else { best });
        if best as u32 != expected {
            let margin = margins.map_or(f64::INFINITY, |m| m[i]);
            assert!(margin < excuse, "greedy element {i} is {best}, expected {expected}, margin {margin}");
            return;
        }
    }
}

fn check(run: &str) {
    let folder = file(&format!("goldens/cpu1/{run}"));
    let golden: Golden = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let elements: Vec<u32> = golden.prompt.iter().chain(&golden.greedy).copied().collect();
    let tokens = scratch.path().join("ids.json");
    std::fs::write(&tokens, serde_json::to_string(&elements).unwrap()).unwrap();
    let other = scratch.path().join("others.json");
    let config = folder.join("config.json");
    let quiet = scratch.path().join("config.json");
    let mut changed: serde_json::Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    changed["act_quant"] = false.into();
    std::fs::write(&quiet, changed.to_string()).unwrap();
    // Rows begin at element 0 where something is always fed first, else at element 1.
    let first = usize::from(golden.logits.len() == elements.len());

    let mut checkpoints: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "pt"))
        .collect();
    checkpoints.sort();
    assert!(!checkpoints.is_empty());
    let mut all: Option<String> = None;
    for checkpoint in &checkpoints {
        for backend in ["interp", "jit"] {
            for mode in ["step", "batch"] {
                for threads in ["1", "2"] {
                    let options = ["--backend", backend, "--mode", mode, "--threads", threads];
                    let (printed, rows) = logits(&config, checkpoint, &tokens, &options);
                    let name = format!("{} {options:?}", checkpoint.display());
                    match &all {
                        // All file layouts hold one model, so they too give the same bits.
                        Some(all) => assert!(*all == printed, "other bits: {name}"),
                        None => {
                            if golden.logits_noquant.is_some() {
                                let worst = largest_row_error(&rows, &golden.logits);
                                assert!(worst <= golden.tolerance_row_rel_l2, "{name}: {worst}");
                            } else {
                                let worst = largest_difference(&rows, &golden.logits);
                                assert!(worst <= golden.tolerance_abs, "{name}: {worst}");
                            }
                            let excuse = golden.greedy_excuse_margin;
                            let margins = Some(golden.greedy_margin.as_slice());
                            check_greedy(&rows, golden.prompt.len(), &golden.greedy, margins, excuse, first);
                            all = Some(printed);
                        }
                    }
                }
            }
        }
        if let (Some(expected), Some(greedy)) = (&golden.logits_noquant, &golden.greedy_noquant) {
            let elements: Vec<u32> = golden.prompt.iter().chain(&golden.greedy).copied().collect();
            assert_eq!(elements.len() + 1, expected.len());
            for backend in ["interp", "jit"] {
                let (_, rows) = logits(&quiet, checkpoint, &tokens, &["--backend", backend]);
                let worst = largest_difference(&rows, expected);
                assert!(worst <= golden.noquant_tolerance_abs, "{} {backend}: {worst}", checkpoint.display());
                let rows = if *greedy == golden.greedy {
                    rows
                } else {
                    let elements: Vec<u32> = golden.prompt.iter().chain(greedy).copied().collect();
                    std::fs::write(&other, serde_json::to_string(&elements).unwrap()).unwrap();
                    logits(&quiet, checkpoint, &other, &["--backend", backend]).1
                };
                check_greedy(&rows, golden.prompt.len(), greedy, None, 0.0, first);
            }
        }
    }
}

#[test]
fn run_01() {
    check("run_01");
}

#[test]
fn run_02a() {
    check("run_02a");
}

#[test]
fn run_03() {
    check("run_03");
}

#[test]
fn run_04() {
    check("run_04");
}

#[test]
fn run_07() {
    check("run_07");
}
