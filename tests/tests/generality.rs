//! Small graphs in the same language, each with something that other families need: interpreted and compiled, step by
//! step and many at once, on one and two threads, with equal bits.

mod encodings;

use serde_json::Value;
use sterna_tests::{file, stdout, sterna, text};

fn verify(preset: &str) {
    let graphs = file("run");
    for seed in ["1", "2"] {
        let options = ["--graphs", text(&graphs), "--elements", "70", "--seed", seed, "--weight-seed", seed];
        let mut arguments = vec!["verify", preset];
        arguments.extend(options);
        assert!(stdout(&arguments).starts_with("equal bits"));
    }
    // Calls of few rows cut the same stream elsewhere.
    let said =
        stdout(&["verify", preset, "--graphs", text(&graphs), "--elements", "40", "--rows", "3", "--all-levels"]);
    assert!(said.starts_with("equal bits"));
    guarded(preset);
}

/// Every buffer ends at a page that cannot be touched, and what nobody wrote is no zero.
fn guarded(preset: &str) {
    let graphs = file("run");
    let arguments = ["verify", preset, "--graphs", text(&graphs), "--elements", "40", "--rows", "5", "--all-levels"];
    let output = sterna().env("STERNA_GUARD", "1").args(arguments).output().expect("the command starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout.starts_with(b"equal bits"), "{preset}: {} {said}", output.status);
}

#[test]
fn the_graph_of_the_readme() {
    verify("readme/small");
}

#[test]
fn delta_rule_with_short_convolutions() {
    verify("delta/small");
    verify("delta/odd");
}

#[test]
fn two_of_four_experts() {
    verify("experts/small");
}

#[test]
fn a_loop_with_early_exit_and_a_state_for_each_round() {
    verify("loop/small");
}

#[test]
fn attention_over_a_ring_and_skipped_layers() {
    verify("window/small");
    verify("window/wide");
    verify("window/one");
}

#[test]
fn pointers_with_a_tie_rule() {
    verify("pointer/small");
}

/// Small graphs that once gave other numbers compiled than interpreted, or none at all.
#[test]
fn graphs_that_went_wrong_once() {
    let graphs = file("sound");
    let config = graphs.join("none.json");
    let mut wrong = Vec::new();
    let mut models: Vec<String> = std::fs::read_dir(&graphs)
        .expect("a folder")
        .filter_map(|entry| Some(entry.ok()?.path().file_name()?.to_str()?.strip_suffix(".graph")?.to_owned()))
        .collect();
    models.sort();
    assert!(models.len() >= 20);
    for model in &models {
        for more in [&["--rows", "5"][..], &["--weight-seed", "3", "--seed", "5"]] {
            let mut arguments = vec!["verify", text(&config), "--graphs", text(&graphs), "--model", model];
            arguments.extend(["--elements", "24"].iter().chain(more));
            let output = sterna_tests::run(&arguments);
            if !output.status.success() {
                wrong.push(format!("{model}: {}", String::from_utf8_lossy(&output.stderr)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn slices_that_start_between_vectors() {
    verify("unaligned/small");
    verify("unaligned/odd");
}

#[test]
fn entries_that_differ_share_an_axis_where_they_are_pushed_together() {
    verify("entries/widths");
    verify("entries/widths_5");
}

#[test]
fn entries_from_before_a_push_and_from_after_it() {
    verify("entries/before");
    verify("entries/before_4");
}

#[test]
fn entries_are_pushed_where_the_branch_runs() {
    verify("entries/compressed");
    verify("entries/compressed_3");
    verify("entries/nested");
    verify("entries/nested_17");
    verify("entries/nested_1");
}

#[test]
fn growing_values_pass_through_control() {
    verify("entries/handed");
    verify("entries/handed_3");
    verify("entries/rounds");
    verify("entries/rounds_2");
}

#[test]
fn activations_powers_and_running_sums() {
    verify("functions/small");
    verify("functions/odd");
    let graphs = file("run");
    let tokens = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(tokens.path(), "[3]").unwrap();
    let said = stdout(&["logits", "functions/values", "--graphs", text(&graphs), "--tokens", text(tokens.path())]);
    let rows: Vec<Vec<f64>> =
        serde_json::from_value(serde_json::from_str::<Value>(&said).unwrap()["logits"].take()).unwrap();
    let gelu = [-5.9e-9, -0.00404951, -0.15865525, 0.0, 0.34573123, 2.99595049];
    let relu = [0.0, 0.0, 0.0, 0.0, 0.5, 3.0];
    let cubes = [-216.0, -27.0, -1.0, 0.0, 0.125, 27.0];
    let sums = [-6.0, -9.0, -10.0, -10.0, -9.5, -6.5];
    let expected = [gelu, relu, cubes, sums].concat();
    for (found, expected) in rows[0].iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
    }
}

#[test]
fn a_full_cache_is_an_error_with_its_place() {
    let graphs = file("run");
    let said = sterna_tests::failure(&["verify", "pointer/small", "--graphs", text(&graphs), "--elements", "81"], 1);
    assert!(said.contains("layers.0.point.keys") && said.contains("80"), "{said}");
}
