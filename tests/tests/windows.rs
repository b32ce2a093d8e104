//! Texts that are longer than the caches of a model: they are read in windows, or refused before anything runs.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sterna_tests::{failure, file, stdout, sterna, text};

/// The arguments of a model of the goldens, by its folder: a config and a checkpoint of it.
fn model(folder: &str) -> [String; 3] {
    let folder = file("goldens").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let weights = files.iter().find(|path| path.extension().is_some_and(|e| e == "pt")).unwrap();
    [text(&folder.join("config.json")).to_owned(), "--weights".to_owned(), text(weights).to_owned()]
}

fn eval<'a>(model: &'a [String; 3], sample: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["eval", &model[0], &model[1], &model[2], "--text", text(sample)];
    arguments.extend(more);
    arguments
}

fn report(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(&[arguments, &["--json"]].concat())).unwrap()
}

#[test]
fn a_text_longer_than_the_caches_is_read_in_windows() {
    let scratch = tempfile::tempdir().unwrap();
    let sample = scratch.path().join("sample.txt");
    std::fs::write(&sample, "Once upon a time there was a text, and it was longer than a cache.\n").unwrap();
    // Attention over all steps, in patches of 4 bytes after one of zeros: 10 steps are 36 bytes and the start.
    let bytes = model("cpu1/run_02a");
    let cut = report(&eval(&bytes, &sample, &["--context", "10"]));
    assert_eq!((&cut["window"], &cut["predicted"]), (&36.into(), &67.into()));
    assert_eq!(cut["loss"], report(&eval(&bytes, &sample, &["--window", "36"]))["loss"]);
    assert_eq!(cut["loss"], report(&eval(&bytes, &sample, &["--context", "10", "--backend", "interp"]))["loss"]);
    let said = stdout(&eval(&bytes, &sample, &["--context", "10"]));
    assert!(said.contains("in windows of     36 bytes") && said.contains("10 steps (--context)"), "{said}");
    // What has room stays whole.
    let whole = report(&eval(&bytes, &sample, &[]));
    assert_eq!(whole["window"], 0);
    assert_ne!(whole["loss"], cut["loss"]);
    assert_eq!(report(&eval(&bytes, &sample, &["--context", "17"]))["loss"], whole["loss"]);
    assert!(!stdout(&eval(&bytes, &sample, &[])).contains("windows"));
    // A model without such caches has no bound.
    let recurrent = model("cpu1/run_03");
    assert_eq!(report(&eval(&recurrent, &sample, &["--context", "2"]))["window"], 0);
    // The sweep does and says the same.
    let out = scratch.path().join("out");
    stdout(&["sweep", &bytes[2], "--text", text(&sample), "-o", text(&out), "--context", "10"]);
    let line: Value = serde_json::from_str(&std::fs::read_to_string(out.join("results.jsonl")).unwrap()).unwrap();
    assert_eq!((&line["cut_to"], &line["loss"]), (&36.into(), &cut["loss"]));
}

#[test]
fn windows_for_which_there_is_no_room_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let sample = scratch.path().join("sample.json");
    let ids: Vec<usize> = (0..90).map(|i| i * 7 % 30).collect();
    std::fs::write(&sample, serde_json::to_string(&ids).unwrap()).unwrap();
    let tokens = model("cpu1/run_01");
    let said = failure(&eval(&tokens, &sample, &["--context", "10", "--window", "11"]), 1);
    assert!(said.contains("11 elements takes 11 steps") && said.contains("room for 10;"), "{said}");
    assert!(said.contains("--window") && said.contains("--context"), "{said}");
    assert_eq!(report(&eval(&tokens, &sample, &["--context", "10", "--window", "10"]))["predicted"], 81);
    // A bound of the config, which no option moves.
    let graphs = file("run");
    let bounded = ["eval", "pointer/small", "--graphs", text(&graphs), "--text", text(&sample)];
    let said = failure(&[&bounded[..], &["--window", "81"]].concat(), 1);
    assert!(said.contains("80 by the config") && !said.contains("--context"), "{said}");
    assert_eq!(report(&bounded)["window"], 80);
    // Elsewhere a full cache is an error that names the option.
    let mut logits = vec!["logits", &tokens[0], &tokens[1], &tokens[2], "--tokens", text(&sample)];
    logits.extend(["--context", "16"]);
    let said = failure(&logits, 1);
    assert!(said.contains("at most 16 entries") && said.contains("--context"), "{said}");
}

/// A model of eight tokens whose cache keeps `room` entries, and whose stream takes `tokens` of them.
fn small(scratch: &Path, room: usize, tokens: usize) -> [String; 3] {
    let graph = format!(
        "model small\nimport std\nweight w: f32[8, 8]\n\
         block attend(x: f32[8]) -> f32[8] {{\n  state seen: f32[cache({room}), 8]\n  seen = push(seen, x)\n  \
         return softmax(seen @ x) @ seen\n}}\npart attention: attend\n\
         entry step(token: u32 in 0..{tokens}) {{\n  x = w[token]\n  output logits = attention(x) + x @ w\n}}\n"
    );
    std::fs::write(scratch.join("small.graph"), graph).unwrap();
    std::fs::write(scratch.join("small.json"), "{}").unwrap();
    let config = scratch.join("small.json");
    [text(&config), "--graphs", text(scratch)].map(str::to_owned)
}

#[test]
fn defaults_keep_to_the_room_that_there_is() {
    let scratch = tempfile::tempdir().unwrap();
    let small = small(scratch.path(), 10, 8);
    let command = |command: &str, more: &[&str]| {
        let model = [command, &small[0], &small[1], &small[2], "--model", "small"];
        sterna().args(model).args(more).output().unwrap()
    };
    for (name, option, most) in [("verify", "--elements", "10"), ("bench", "--steps", "5")] {
        let quick: &[&str] = if name == "bench" { &["--rounds", "1"] } else { &[] };
        let usual = command(name, quick);
        let said = String::from_utf8_lossy(&usual.stderr);
        assert!(usual.status.success() && said.contains(&format!("note: {most} ")), "{name}: {said}");
        assert!(command(name, &[quick, &[option, most]].concat()).status.success());
        let more = (most.parse::<usize>().unwrap() + 1).to_string();
        let beyond = command(name, &[quick, &[option, &more]].concat());
        let said = String::from_utf8_lossy(&beyond.stderr);
        assert_eq!(beyond.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("10 entries"), "{said}");
    }
    // Of a cache that the options bound they say the option.
    let tokens = model("cpu1/run_01");
    let bounded = ["--context", "9", "--rounds", "1"];
    stdout(&[&["bench", &tokens[0], &tokens[1], &tokens[2]][..], &bounded].concat());
    let said = failure(&[&["bench", &tokens[0], &tokens[1], &tokens[2], "--steps", "5"][..], &bounded].concat(), 1);
    assert!(said.contains("at most 9 entries") && said.contains("--context"), "{said}");
}

#[test]
fn what_is_predicted_must_be_taken() {
    let scratch = tempfile::tempdir().unwrap();
    let small = small(scratch.path(), 1000, 6);
    let command = |command: &str, more: &[&str]| {
        let model = [command, &small[0], &small[1], &small[2], "--model", "small"];
        sterna().args(model).args(more).output().unwrap()
    };
    let refused = command("run", &["--tokens", "1", "-n", "2"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0), "{said}");
    assert!(said.contains("predicts 8 elements and its stream takes 0..=5: after 6"), "{said}");
    // Nothing follows the only one, and no other command goes on with what is predicted.
    for arguments in
        [&["run", "--tokens", "1", "-n", "1"][..], &["verify"], &["bench", "--rounds", "1", "--steps", "9"]]
    {
        let output = command(arguments[0], &arguments[1..]);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn an_element_without_a_logit_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let graph = "model m \"three logits\"\nweight embed: bf16[256, 8]\nweight head: bf16[3, 8]\n\
                 entry step(b: u8[1]) start [0] { output logits = [head(embed[b[0]])] }\npreset p {}\n";
    std::fs::write(scratch.path().join("m.graph"), graph).unwrap();
    let sample = scratch.path().join("sample.txt");
    std::fs::write(&sample, [1, 2, 0, 77, 1]).unwrap();
    for backend in ["jit", "interp"] {
        let arguments =
            ["eval", "m/p", "--graphs", text(scratch.path()), "--text", text(&sample), "--backend", backend];
        let said = failure(&arguments, 1);
        assert!(said.contains("element 3 of the text, counted from 0, is 77: the model predicts 3"), "{said}");
    }
}

#[test]
fn verify_compares_whole_steps() {
    let scratch = tempfile::tempdir().unwrap();
    let graph = "model m \"long steps\"\nimport std\nweight e: f32[256, 5]\nentry step(t: u8[30]) {\n\
                 x = sum(e[t], axis: 0)\noutput logits = [e(x) for i in 0..30] }\npreset p {}\n";
    std::fs::write(scratch.path().join("m.graph"), graph).unwrap();
    let arguments = ["verify", "m/p", "--graphs", text(scratch.path())];
    let said = stdout(&arguments);
    assert!(said.starts_with("equal bits") && !said.contains(" 0 values"), "{said}");
    let said = failure(&[&arguments[..], &["--elements", "29"]].concat(), 2);
    assert!(said.contains("make no step: one takes 30"), "{said}");
}

#[test]
fn numbers_that_no_memory_holds_are_refused() {
    for (arguments, option) in [
        (&["verify", "cpu1/run_04", "--elements"][..], "--elements"),
        (&["bench", "cpu1/run_04", "--rounds", "1", "--steps"], "--steps"),
        (&["probe", "v76/v76_tiny", "--repeat", "4", "--sequences"], "--sequences"),
    ] {
        for number in ["0", "9223372036854775808", "4611686018427387905"] {
            let said = failure(&[arguments, &[number]].concat(), 2);
            assert!(said.contains(option) && said.contains("must lie in 1..="), "{said}");
        }
    }
}
