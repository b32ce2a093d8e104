//! Tokenizers and sweeps, through the command.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sterna_tests::{failure, file, run, stdout, text};

fn folder(run: &str) -> PathBuf {
    file("goldens/cpu1").join(run)
}

/// A byte-level BPE tokenizer: the 256 bytes, and merges of two up to `vocabulary` tokens.
fn tokenizer(vocabulary: usize) -> String {
    // Printable bytes stand for themselves, the others are moved behind the Latin letters.
    let printable = |b: u32| (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b);
    let mut moved = 256..;
    let symbols: Vec<String> = (0..256u32)
        .map(|b| char::from_u32(if printable(b) { b } else { moved.next().unwrap() }).unwrap().to_string())
        .collect();
    let mut vocab: Map<String, Value> = symbols.iter().enumerate().map(|(i, s)| (s.clone(), json!(i))).collect();
    let mut merges = Vec::new();
    for pair in 0..vocabulary - 256 {
        let (first, second) = (&symbols[97 + pair / 26 % 26], &symbols[97 + pair % 26]);
        vocab.insert(format!("{first}{second}"), json!(256 + pair));
        merges.push(format!("{first} {second}"));
    }
    let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": level, "post_processor": null, "decoder": level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    })
    .to_string()
}

/// A copy of the token model of 300 tokens, with its config.
fn token_model(scratch: &Path) -> (PathBuf, PathBuf) {
    let (config, weights) = (scratch.join("config.json"), scratch.join("checkpoint_run_01_final.pt"));
    std::fs::copy(folder("run_01").join("config.json"), &config).unwrap();
    std::fs::copy(folder("run_01").join("checkpoint_run_01_final.pt"), &weights).unwrap();
    (config, weights)
}

#[test]
fn a_tokenizer_gives_the_tokens_that_ids_name() {
    let scratch = tempfile::tempdir().unwrap();
    let (config, weights) = token_model(scratch.path());
    let model = [text(&config), "--weights", text(&weights)];
    let generate = |more: &[&str]| -> Value {
        let mut arguments = vec!["run"];
        arguments.extend(model);
        arguments.extend(["-n", "12", "--temperature", "0", "--json"]);
        arguments.extend(more);
        serde_json::from_str(&stdout(&arguments)).unwrap()
    };
    // "ab" is merge 1 and "ac" merge 2; the space and the c have no merge.
    let by_ids = generate(&["--prompt", "[257, 32, 99, 258]"]);
    assert!(by_ids.get("text").is_none());
    let file = scratch.path().join("other.json");
    std::fs::write(&file, tokenizer(300)).unwrap();
    let by_text = generate(&["--prompt", "ab cac", "--tokenizer", text(&file)]);
    assert_eq!(by_text["elements"], by_ids["elements"]);
    // The one beside the config is found.
    std::fs::write(scratch.path().join("tokenizer.json"), tokenizer(300)).unwrap();
    let found = generate(&["--prompt", "ab cac"]);
    assert_eq!(found["text"], by_text["text"]);
    let mut arguments = vec!["run"];
    arguments.extend(model);
    arguments.extend(["-n", "12", "--temperature", "0", "--prompt", "ab cac"]);
    let shown = run(&arguments).stdout;
    assert_eq!(String::from_utf8_lossy(&shown), format!("ab cac{}\n", found["text"].as_str().unwrap()));
    // A text's loss per byte is known too.
    let sample = scratch.path().join("sample.txt");
    std::fs::write(&sample, "abacus and cabbage, ab cac\n").unwrap();
    let mut arguments = vec!["eval"];
    arguments.extend(model);
    arguments.extend(["--text", text(&sample), "--json"]);
    let report: Value = serde_json::from_str(&stdout(&arguments)).unwrap();
    assert_eq!(report["level"], "token");
    let (per_token, per_byte) = (report["bits_per_token"].as_f64().unwrap(), report["bits_per_byte"].as_f64().unwrap());
    let predicted = report["predicted"].as_f64().unwrap();
    assert!(predicted < 27.0 && (per_byte * 27.0 - per_token * predicted).abs() < 1e-9, "{report}");
}

#[test]
fn tokenizers_of_other_models_are_errors() {
    let scratch = tempfile::tempdir().unwrap();
    let (config, weights) = token_model(scratch.path());
    let file = scratch.path().join("other.json");
    let said = |bytes: &str| {
        std::fs::write(&file, bytes).unwrap();
        let tokenizer = ["--tokenizer", text(&file), "--prompt", "ab"];
        failure(&[&["run", text(&config), "--weights", text(&weights)], &tokenizer[..]].concat(), 1)
    };
    let text_of_size = said(&tokenizer(301));
    assert!(text_of_size.contains("301 tokens") && text_of_size.contains("300"), "{text_of_size}");
    assert!(said(&tokenizer(302)).contains("302 tokens, the model 300"));
    assert!(said("{}").contains("other.json"));
    assert!(said("").contains("other.json"));
    let bytes = folder("run_04").join("config.json");
    failure(&["run", text(&bytes), "--tokenizer", text(&file)], 2);
    let said = failure(&["run", text(&config), "--weights", text(&weights), "--prompt", "ab"], 1);
    assert!(said.contains("JSON array"), "{said}");
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_sweep_goes_on_where_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let (archive, out) = (scratch.path().join("archive"), scratch.path().join("out"));
    for (run, file) in [
        ("run_04", "checkpoint_run_04_final.pt"),
        ("run_04", "checkpoint_run_04_step640.pt"),
        ("run_03", "checkpoint_run_03_step640.pt"),
    ] {
        let to = archive.join(run);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::copy(folder(run).join(file), to.join(file)).unwrap();
    }
    // The step that the file itself states counts more than its name.
    let step = archive.join("run_04/checkpoint_run_04_step640.pt");
    std::fs::copy(&step, archive.join("run_04/checkpoint_run_04_step700.pt")).unwrap();
    std::fs::write(archive.join("run_03/broken.pt"), b"PK\x03\x04 and no more").unwrap();
    let sample = scratch.path().join("sample.txt");
    std::fs::write(&sample, "Once upon a time there was a text, and it was short.\n").unwrap();
    let arguments = ["sweep", text(&archive), "--text", text(&sample), "--output", text(&out)];
    let said = failure(&arguments, 1);
    assert!(said.contains("broken.pt") && said.contains("4 evaluated") && said.contains("1 failed"), "{said}");
    let results = out.join("results.jsonl");
    let records = lines(&results);
    assert_eq!(records.len(), 5);
    // What the sweep says of a checkpoint is what eval says.
    let config = folder("run_04").join("config.json");
    let report = stdout(&["eval", text(&config), "--weights", text(&step), "--text", text(&sample), "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let record = records.iter().find(|r| r["checkpoint"] == text(&step)).unwrap();
    assert_eq!(record["loss"], report["loss"]);
    assert_eq!((&record["run"], &record["level"]), (&json!("run_04"), &json!("byte")));
    // An interruption in the middle of a line costs that checkpoint only.
    std::fs::remove_file(archive.join("run_03/broken.pt")).unwrap();
    let whole = std::fs::read_to_string(&results).unwrap();
    let last = whole.trim_end().rfind('\n').unwrap();
    std::fs::write(&results, &whole[..last + 20]).unwrap();
    let output = run(&arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("1 evaluated") && said.contains("3 done before"), "{said}");
    assert_eq!(lines(&results).len(), 5);
    let table = std::fs::read_to_string(out.join("table.md")).unwrap();
    assert_eq!(table.matches("| run_04 | 640 |").count(), 3, "{table}");
    let chart = std::fs::read_to_string(out.join("chart.svg")).unwrap();
    assert_eq!(chart.matches("<polyline").count(), 2, "{chart}");
    // Results of another text do not compare.
    std::fs::write(&sample, "Another text.\n").unwrap();
    assert!(failure(&arguments, 1).contains("another text"));
}

#[test]
fn results_that_cannot_be_written_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let (out, sample) = (scratch.path().join("out"), scratch.path().join("sample.txt"));
    std::fs::write(&sample, "A short text.\n").unwrap();
    let weights = folder("run_03").join("checkpoint_run_03_step640.pt");
    let said = |out: &Path| failure(&["sweep", text(&weights), "--text", text(&sample), "-o", text(out)], 1);
    let wording = |path: &Path| format!("error: cannot write {}: ", path.display());
    // The folder is a file.
    assert!(said(&sample).starts_with(&wording(&sample)));
    let below = sample.join("below");
    assert!(said(&below).starts_with(&wording(&below)));
    // A file is a folder: that is said before anything is evaluated, and nothing half written lies about.
    std::fs::create_dir_all(out.join("table.md")).unwrap();
    assert!(said(&out).starts_with(&wording(&out.join("table.md"))));
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
    let other = scratch.path().join("other");
    std::fs::create_dir_all(other.join("results.jsonl")).unwrap();
    assert!(said(&other).starts_with(&wording(&other.join("results.jsonl"))));
}

#[test]
fn shards_share_the_work() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let sample = scratch.path().join("sample.txt");
    std::fs::write(&sample, "A short text.\n").unwrap();
    let glob = format!("{}/run_0[37]/*.pt", text(&file("goldens/cpu1")));
    let base = ["sweep", &glob, "--text", text(&sample), "--output", text(&out), "--shard"];
    for shard in ["0/2", "1/2"] {
        stdout(&[&base[..], &[shard]].concat());
    }
    for index in 0..2 {
        assert_eq!(lines(&out.join(format!("results-{index}-of-2.jsonl"))).len(), 1);
    }
    let table = std::fs::read_to_string(out.join("table.md")).unwrap();
    assert!(table.contains("run_03") && table.contains("run_07"), "{table}");
    failure(&[&base[..], &["2/2"]].concat(), 2);
    let nothing = scratch.path().join("*.pt");
    failure(&["sweep", text(&nothing), "--text", text(&sample), "--output", text(&out)], 1);
}
