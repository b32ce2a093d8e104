//! The `sterna` command from outside: what it prints, its exit codes, and what it says to bad input.

use std::process::Stdio;

use serde_json::Value;
use sterna_tests::{failure, file, root, run, stdout, sterna, text};

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(arguments)).expect("JSON on stdout")
}

#[test]
fn the_bundled_model_writes_the_same_text_for_the_same_seed() {
    let options = ["run", "--prompt", "The ", "-n", "80", "--seed", "5"];
    let first = stdout(&options);
    assert!(first.starts_with("The ") && first.len() > 60, "{first}");
    for threads in ["1", "2"] {
        let mut more = options.to_vec();
        more.extend(["--threads", threads]);
        assert_eq!(stdout(&more), first);
    }
    let other = stdout(&["run", "--prompt", "The ", "-n", "80", "--seed", "6"]);
    assert_ne!(other, first);
}

#[test]
fn the_bundled_model_writes_words() {
    let report = json(&["run", "--prompt", "This function ", "-n", "400", "--temperature", "0.6", "--json"]);
    let generated = report["text"].as_str().unwrap();
    assert_eq!(report["elements"].as_array().unwrap().len(), 400);
    let words =
        generated.split_whitespace().filter(|w| w.chars().all(|c| c.is_ascii_alphabetic() || ",.`'".contains(c)));
    assert!(words.count() > 40, "{generated}");
}

#[test]
fn the_bundled_model_is_worth_its_bits() {
    let held_out = root().join("examples/tiny/heldout.txt");
    let report = json(&["eval", "--text", text(&held_out), "--json"]);
    let stated: f64 = std::fs::read_to_string(root().join("examples/tiny/README.md"))
        .unwrap()
        .lines()
        .find_map(|l| l.strip_prefix("Held-out bits per byte, PyTorch: ")?.split_whitespace().next()?.parse().ok())
        .expect("the README of the model states them");
    let found = report["bits_per_byte"].as_f64().unwrap();
    assert!((found - stated).abs() < 1e-3, "{found} here, {stated} in training");
    assert_eq!(report["level"], "byte");
}

#[test]
fn verify_compares_real_alternatives() {
    let report = json(&["verify", "--elements", "30", "--all-levels", "--json"]);
    assert!(report["cases"].as_array().unwrap().len() >= 9, "{report}");
    assert_eq!(report["differences"].as_array().unwrap().len(), 0);
    // Logits, and the states after each step.
    assert!(report["values"].as_u64().unwrap() > 31 * 256, "{report}");
    assert!(report["of"]["states"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn check_accounts_for_keys_and_tensors() {
    let report = json(&["check", "cpu1/run_05", "--json"]);
    assert_eq!(report["parameters"], 38_999_808);
    assert!(report["weight_bytes"].as_u64().unwrap() > 9_000_000);
    assert!(report["state_bytes_per_stream"].as_u64().unwrap() >= 12 * 512 * 4);
    assert_eq!(report["config_keys"]["fp_residual_rank"]["treatment"], "used");
    assert_eq!(report["config_keys"]["byte_dim"]["treatment"], "default");
    let folder = file("goldens/cpu1/run_04");
    let (config, weights) = (folder.join("config.json"), folder.join("run_04_fp32.pt"));
    let report = json(&["check", text(&config), "--weights", text(&weights), "--json"]);
    assert!(report["tensors"]["read"].as_array().unwrap().len() > 20);
    assert_eq!(report["config_keys"]["run"]["treatment"], "ignored");
}

#[test]
fn parameter_counts_are_those_of_the_published_table() {
    for (preset, parameters) in [
        ("run_01", 54_735_360),
        ("run_02a", 38_500_864),
        ("run_02", 38_829_696),
        ("run_03", 38_829_696),
        ("run_04", 38_852_352),
        ("run_05", 38_999_808),
        ("run_05b", 35_847_936),
        ("run_06", 39_004_352),
        ("run_07", 39_037_249),
        ("run_08", 38_852_352),
        ("run_09", 39_430_465),
        ("run_10", 39_436_609),
        ("run_13", 12_538_425),
        ("run_14", 10_688_633),
        ("run_15", 10_729_593),
        ("run_16_r2", 10_688_633),
    ] {
        assert_eq!(json(&["check", preset, "--json"])["parameters"], parameters, "{preset}");
    }
}

#[test]
fn compile_and_import_make_packages_that_run() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = file("goldens/cpu1/run_04");
    let (config, weights) = (folder.join("config.json"), folder.join("checkpoint_run_04_final.pt"));
    let (one, two) = (scratch.path().join("one.sterna"), scratch.path().join("two.sterna"));
    stdout(&["compile", text(&config), "--weights", text(&weights), "-o", text(&one)]);
    stdout(&["import", text(&weights), "-o", text(&two)]);
    let ids = scratch.path().join("ids.json");
    std::fs::write(&ids, "[79, 110, 99, 101, 32, 117]").unwrap();
    let direct = stdout(&["logits", text(&config), "--weights", text(&weights), "--tokens", text(&ids)]);
    for package in [&one, &two] {
        assert_eq!(stdout(&["logits", text(package), "--tokens", text(&ids)]), direct);
        let verified = stdout(&["verify", text(package)]);
        assert!(verified.starts_with("equal bits"), "{verified}");
    }
    // Byte-reproducible.
    let again = scratch.path().join("again.sterna");
    stdout(&["compile", text(&config), "--weights", text(&weights), "-o", text(&again)]);
    assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&again).unwrap());
}

#[test]
fn bench_reports_the_contract() {
    let folder = file("goldens/cpu1/run_04");
    let report = json(&["bench", text(&folder.join("config.json")), "--steps", "8", "--rounds", "1", "--json"]);
    for key in ["decode_tokens_per_s", "prefill_tokens_per_s", "weight_gb_per_s", "memory_gb_per_s", "compile_ms"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
    assert!(report["threads"].as_u64().unwrap() >= 1);
}

#[test]
fn inspect_shows_every_form() {
    let config = file("goldens/cpu1/run_04/config.json");
    let config = text(&config);
    let plain = stdout(&["inspect", config]);
    assert!(plain.contains("linear_int8"), "{plain}");
    let early = stdout(&["inspect", config, "--after", "fold"]);
    assert!(early.contains(" linear ") && !early.contains("linear_int8"), "{early}");
    assert!(stdout(&["inspect", config, "--format", "dot"]).starts_with("digraph"));
    assert!(stdout(&["inspect", config, "--format", "summary"]).contains("layers.*.mixer.h"));
    let report: Value = serde_json::from_str(&stdout(&["inspect", config, "--format", "json"])).unwrap();
    assert!(report["entries"].as_array().unwrap().len() == 2);
    let list = stdout(&["inspect", config, "--list"]);
    assert!(list.contains("time_lift") && list.contains("launches stay inside"), "{list}");
    // The launches show what the proof is about: where in its buffer each pointer stays.
    let kernels = stdout(&["inspect", config, "--kernels"]);
    assert!(kernels.starts_with("program weights=") && kernels.contains("\nentry "), "{kernels}");
    let launch = kernels.lines().find(|line| line.contains(", weights+")).unwrap();
    assert!(launch.contains(" in ") && launch.contains(" units="), "{launch}");
    assert!(stdout(&["inspect", config, "--clif"]).contains("block0"));
    assert!(stdout(&["inspect", config, "--asm"]).contains("ret"));
}

#[test]
fn usage_mistakes_are_two_and_input_mistakes_one() {
    failure(&["frobnicate"], 2);
    failure(&["run", "--temperature", "-1"], 2);
    failure(&["inspect", "run_05", "--after", "nothing"], 2);
    let said = failure(&["check", "run_055"], 1);
    assert!(said.contains("run_05"), "{said}");
    failure(&["check", "missing.json"], 1);
    failure(&["logits", "run_05", "--tokens", "missing.json"], 1);
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    assert_eq!(run(&["--version"]).status.code(), Some(0));
}

#[test]
fn a_misspelt_key_is_underlined() {
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("config.json");
    std::fs::write(
        &config,
        "{\n  \"d_model\": 64, \"n_layers\": 2, \"d_ff\": 85, \"n_heads\": 4,\n  \"fp_residual_rnk\": 4\n}\n",
    )
    .unwrap();
    let said = failure(&["check", text(&config), "--model", "cpu1"], 1);
    assert!(said.contains("error[E0601]") && said.contains("config.json:3:3"), "{said}");
    assert!(said.contains("nearest key: `fp_residual_rank`"), "{said}");
}

#[test]
fn damaged_files_are_errors_with_a_place() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = file("goldens/cpu1/run_04");
    let config = folder.join("config.json");
    let good = std::fs::read(folder.join("checkpoint_run_04_final.pt")).unwrap();
    let bad = scratch.path().join("bad.pt");
    for cut in [0, 1, 100, good.len() / 2, good.len() - 1] {
        std::fs::write(&bad, &good[..cut]).unwrap();
        failure(&["check", text(&config), "--weights", text(&bad)], 1);
    }
    let package = scratch.path().join("bad.sterna");
    let good = std::fs::read(root().join("examples/tiny/tiny.sterna")).unwrap();
    for (place, bit) in [(0, 1), (9, 4), (20, 128), (70, 1), (good.len() / 2, 16)] {
        let mut damaged = good.clone();
        damaged[place] ^= bit;
        std::fs::write(&package, &damaged).unwrap();
        let said = failure(&["run", text(&package), "-n", "1"], 1);
        assert!(said.contains("bad.sterna"), "{said}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_mistake() {
    let config = file("goldens/cpu1/run_04/config.json");
    let scratch = tempfile::tempdir().unwrap();
    let ids = scratch.path().join("ids.json");
    std::fs::write(&ids, "[1, 2, 3]").unwrap();
    for arguments in [
        &["presets"][..],
        &["completions", "bash"],
        &["check", text(&config)],
        &["inspect", text(&config)],
        &["logits", text(&config), "--tokens", text(&ids)],
        &["run", "-n", "20"],
    ] {
        let mut child = sterna().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(0) && !said.contains("panicked"), "{arguments:?}: {said}");
    }
}

#[test]
fn presets_and_completions() {
    let presets = stdout(&["presets"]);
    assert!(presets.lines().any(|l| l == "cpu1/run_07") && presets.lines().any(|l| l == "v76/v76_300M"), "{presets}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&["completions", shell]).contains("sterna"));
    }
}

#[test]
fn a_mistaken_config_is_told_what_is_wrong_in_its_own_model() {
    let good: Value =
        serde_json::from_slice(&std::fs::read(file("goldens/v76/v76_tiny/config.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let says = |edit: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut config = good.as_object().unwrap().clone();
        edit(&mut config);
        std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
        failure(&["check", text(&path)], 1)
    };
    let missing = says(&|config| drop(config.remove("d_ff")));
    assert!(missing.contains("`d_ff`") && missing.contains("error[E06"), "{missing}");
    let unknown = says(&|config| drop(config.insert("d_fff".into(), 8.into())));
    assert!(unknown.contains("`d_fff` is not a key of"), "{unknown}");
    let renamed = says(&|config| drop(config.insert("arch".into(), "another".into())));
    assert!(renamed.contains("`arch` is \"another\"") && renamed.matches("error[").count() == 1, "{renamed}");
    let refused = says(&|config| drop(config.insert("d_model".into(), 97.into())));
    assert!(refused.contains("97 % 6 = 1") && refused.matches("error[").count() == 1, "{refused}");
    let stranger = says(&|config| {
        config.clear();
        config.insert("rows".into(), 3.into());
    });
    assert!(stranger.contains("no model has the keys of this config"), "{stranger}");
}
