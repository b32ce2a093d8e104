//! Caches stored as bf16: the same bits on every back end, remembered by packages, and their cost stated by `eval`.

use serde_json::Value;
use sterna_tests::{file, stdout, text};

#[test]
fn rounded_caches_have_equal_bits_everywhere() {
    let graphs = file("run");
    for preset in ["window/small", "window/wide", "pointer/small", "v76_tiny"] {
        let mut arguments = vec!["verify", preset, "--cache", "bf16", "--elements", "60", "--all-levels"];
        if preset != "v76_tiny" {
            arguments.extend(["--graphs", text(&graphs)]);
        }
        assert!(stdout(&arguments).starts_with("equal bits"), "{preset}");
    }
}

#[test]
fn eval_states_what_rounding_costs_and_saves() {
    let graphs = file("run");
    let folder = tempfile::tempdir().unwrap();
    let ids = folder.path().join("ids.json");
    let elements: Vec<u32> = (0..70).map(|i| i * 37 % 80).collect();
    std::fs::write(&ids, serde_json::to_string(&elements).unwrap()).unwrap();
    let eval = |cache: &str, backend: &str| -> Value {
        let said = stdout(&[
            "eval",
            "window/wide",
            "--graphs",
            text(&graphs),
            "--text",
            text(&ids),
            "--cache",
            cache,
            "--backend",
            backend,
            "--json",
        ]);
        serde_json::from_str(&said).unwrap()
    };
    let (exact, rounded) = (eval("f32", "jit"), eval("bf16", "jit"));
    assert!(exact.get("cache").is_none());
    let effect = &rounded["cache"];
    assert_eq!(effect["loss_with_f32"], exact["loss"]);
    assert_ne!(rounded["loss"], exact["loss"]);
    assert!(effect["difference_in_bits"].as_f64().unwrap().abs() < 0.05);
    assert!(effect["state_bytes_saved"].as_u64().unwrap() > 0);
    assert_eq!(eval("bf16", "interp")["loss"], rounded["loss"]);
}

#[test]
fn a_package_remembers_how_its_caches_are_stored() {
    let graphs = file("run");
    let folder = tempfile::tempdir().unwrap();
    let state_bytes = |name: &str, cache: &[&str], then: &[&str]| -> u64 {
        let package = folder.path().join(name);
        let mut compile = vec!["compile", "window/wide", "--graphs", text(&graphs), "--random", "-o", text(&package)];
        compile.extend(cache);
        stdout(&compile);
        let mut bench = vec!["bench", text(&package), "--steps", "2", "--rounds", "1", "--threads", "1", "--json"];
        bench.extend(then);
        let report: Value = serde_json::from_str(&stdout(&bench)).unwrap();
        report["state_bytes_per_stream"].as_u64().unwrap()
    };
    let exact = state_bytes("exact.sterna", &[], &[]);
    let rounded = state_bytes("rounded.sterna", &["--cache", "bf16"], &[]);
    assert!(rounded < exact);
    assert_eq!(state_bytes("again.sterna", &["--cache", "bf16"], &["--cache", "f32"]), exact);
    assert_eq!(state_bytes("late.sterna", &[], &["--cache", "bf16"]), rounded);
}
