//! Models of sign weights and pointers against the reference: latent and packed checkpoints, changed configs, both
//! backends and both modes, greedy continuation and bits per token.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use sterna_tests::{failure, file, largest_difference, run, stdout, text};

#[derive(Deserialize)]
struct Golden {
    runs: Vec<Run>,
    probes: Map<String, Value>,
    tolerance: Tolerance,
}

#[derive(Deserialize)]
struct Run {
    name: String,
    weights: String,
    overrides: Map<String, Value>,
    tokens: Vec<u32>,
    logits: Vec<Vec<f64>>,
    survivors: Survivors,
    greedy: Option<Greedy>,
    val_bpc: Option<f64>,
}

#[derive(Deserialize)]
struct Greedy {
    tokens: Vec<u32>,
}

#[derive(Deserialize)]
struct Tolerance {
    logits_abs: f64,
    val_bpc: f64,
    probe_ipmr: f64,
    probe_hdr: f64,
    probe_m4: f64,
}

/// By layer, head and position, best first.
type Survivors = Vec<Vec<Vec<Vec<i32>>>>;

#[derive(Deserialize)]
struct Printed {
    logits: Vec<Vec<f64>>,
    survivors: Option<Survivors>,
}

/// One run of a case, with its config and tokens as files.
struct Case {
    scratch: tempfile::TempDir,
    config: PathBuf,
    weights: PathBuf,
}

impl Case {
    fn new(folder: &Path, run: &Run) -> Case {
        let scratch = tempfile::tempdir().unwrap();
        let mut config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
        for (key, value) in &run.overrides {
            config[key] = value.clone();
        }
        let path = scratch.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        Case { config: path, weights: folder.join(&run.weights), scratch }
    }

    fn tokens(&self, ids: &[u32]) -> PathBuf {
        let path = self.scratch.path().join("ids.json");
        std::fs::write(&path, serde_json::to_string(ids).unwrap()).unwrap();
        path
    }

    fn run(&self, command: &str, options: &[&str]) -> String {
        let mut arguments = vec![command, text(&self.config), "--weights", text(&self.weights)];
        arguments.extend(options);
        stdout(&arguments)
    }
}

fn golden(case: &str) -> (PathBuf, Golden) {
    let folder = file(&format!("goldens/v76/{case}"));
    let golden = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    (folder, golden)
}

fn check_logits(case: &str) {
    let (folder, golden) = golden(case);
    assert_eq!(golden.runs.len(), 7);
    for run in &golden.runs {
        let case = Case::new(&folder, run);
        let tokens = case.tokens(&run.tokens);
        let mut all: Option<String> = None;
        // 24 tokens at 7 rows a call are three whole chunks and a part of one.
        for options in [
            ["--backend", "interp", "--mode", "step"],
            ["--backend", "jit", "--mode", "step"],
            ["--backend", "jit", "--mode", "batch"],
            ["--rows", "7", "--threads", "2"],
        ] {
            let mut arguments = vec!["--pointers", "--tokens", text(&tokens)];
            arguments.extend(options);
            let printed = case.run("logits", &arguments);
            match &all {
                Some(all) => assert!(*all == printed, "{}: other bits with {options:?}", run.name),
                None => {
                    let read: Printed = serde_json::from_str(&printed).expect("JSON");
                    let worst = largest_difference(&read.logits, &run.logits);
                    assert!(worst <= golden.tolerance.logits_abs, "{} {options:?}: {worst}", run.name);
                    assert!(read.survivors.as_ref() == Some(&run.survivors), "{}: other survivors", run.name);
                    all = Some(printed);
                }
            }
        }
    }
}

fn check_greedy(case: &str) {
    let (folder, golden) = golden(case);
    let mut checked = 0;
    for run in &golden.runs {
        let Some(greedy) = &run.greedy else { continue };
        let case = Case::new(&folder, run);
        let all: Vec<u32> = run.tokens.iter().chain(&greedy.tokens).copied().collect();
        let tokens = case.tokens(&all);
        let read: Printed = serde_json::from_str(&case.run("logits", &["--tokens", text(&tokens)])).expect("JSON");
        for (place, &expected) in greedy.tokens.iter().enumerate() {
            let row = &read.logits[run.tokens.len() - 1 + place];
            let best = (0..row.len()).fold(0, |best, id| if row[id] > row[best] { id } else { best });
            assert_eq!(best as u32, expected, "{}: greedy token {place}", run.name);
        }
        checked += 1;
    }
    assert_eq!(checked, 2);
}

fn check_generation(case: &str) {
    let (folder, golden) = golden(case);
    let mut checked = 0;
    for run in &golden.runs {
        let Some(greedy) = &run.greedy else { continue };
        let case = Case::new(&folder, run);
        let joined = |ids: &[u32]| ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let (given, count) = (joined(&run.tokens), greedy.tokens.len().to_string());
        let printed = case.run("run", &["--tokens", &given, "--max-new", &count, "--temperature", "0"]);
        assert_eq!(printed.trim_end(), joined(&greedy.tokens), "{}", run.name);
        checked += 1;
    }
    assert_eq!(checked, 2);
}

fn check_bits_per_token(case: &str) {
    let (folder, golden) = golden(case);
    let mut checked = 0;
    for run in &golden.runs {
        let Some(expected) = run.val_bpc else { continue };
        let case = Case::new(&folder, run);
        let tokens = case.tokens(&run.tokens);
        let report: Value =
            serde_json::from_str(&case.run("eval", &["--text", text(&tokens), "--json"])).expect("JSON");
        let found = report["bits_per_token"].as_f64().expect("a number");
        assert!((found - expected).abs() <= golden.tolerance.val_bpc, "{}: {found}, expected {expected}", run.name);
        checked += 1;
    }
    assert_eq!(checked, 2);
}

/// Largest differences of floats, by the first key of their place; everything else must be equal.
fn compare(found: &Value, expected: &Value, place: &str, worst: &mut Map<String, Value>) {
    match (found, expected) {
        (Value::Object(a), Value::Object(b)) => {
            assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{place}");
            // The reference leaves out what the checkpoint says of its own validation.
            for (key, b) in b.iter().filter(|(key, _)| *key != "val_bpc") {
                compare(&a[key], b, &if place.is_empty() { key.clone() } else { format!("{place}.{key}") }, worst);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{place}");
            a.iter().zip(b).for_each(|(a, b)| compare(a, b, place, worst));
        }
        (Value::Number(a), Value::Number(b)) => {
            let difference = (a.as_f64().unwrap() - b.as_f64().unwrap()).abs();
            let section = place.split('.').next().unwrap_or_default().to_owned();
            let before = worst.get(&section).and_then(Value::as_f64).unwrap_or(0.0);
            worst.insert(section, before.max(difference).into());
        }
        _ => assert_eq!(found, expected, "{place}"),
    }
}

fn check_health(case: &str) {
    let (folder, golden) = golden(case);
    assert_eq!(golden.probes.len(), 3);
    for (name, expected) in &golden.probes {
        let run = &golden.runs[1];
        let case = Case { weights: folder.join(expected["checkpoint"].as_str().unwrap()), ..Case::new(&folder, run) };
        let picture = case.scratch.path().join("pointers.svg");
        let file = case.scratch.path().join("tokens.u16");
        let bytes: Vec<u8> = run.tokens.iter().flat_map(|&t| (t as u16).to_le_bytes()).collect();
        std::fs::write(&file, bytes).unwrap();
        let probe = &expected["probe"];
        let (sequences, length) = (probe["n_sequences"].to_string(), probe["seq_len"].to_string());
        let (block, seed) = (probe["block"].to_string(), probe["seed"].to_string());
        let mut options = vec!["--sequences", &sequences, "--output", "-", "--svg", text(&picture)];
        match probe["kind"].as_str() {
            Some("text") => options.extend(["--text", text(&file), "--length", &length]),
            _ => options.extend(["--repeat", &block, "--seed", &seed]),
        }
        let found: Value = serde_json::from_str(&case.run("probe", &options)).expect("JSON");
        let mut worst = Map::new();
        compare(&found, expected, "", &mut worst);
        let tolerance = &golden.tolerance;
        for (section, worst) in &worst {
            let limit = match section.as_str() {
                "ipmr" => tolerance.probe_ipmr,
                "hdr" => tolerance.probe_hdr,
                "m4" => tolerance.probe_m4,
                _ => 0.0,
            };
            assert!(worst.as_f64().unwrap() <= limit, "{name}: {section} differs by {worst}");
        }
        let drawn = std::fs::read_to_string(&picture).unwrap();
        let framed = drawn.matches("stroke-width").count() as u64;
        assert_eq!(Some(framed), expected["ipmr"]["specialists"].as_u64(), "{name}");
    }
}

#[test]
fn pointer_health() {
    check_health("v76_tiny");
    check_health("v75_tiny");
}

/// The document has the config's name, also where that is left out and so is empty.
#[test]
fn pointer_health_of_a_model_without_a_name() {
    let (folder, golden) = golden("v75_tiny");
    let case = Case::new(&folder, &golden.runs[0]);
    let mut config: Value = serde_json::from_slice(&std::fs::read(&case.config).unwrap()).unwrap();
    for name in [Some("a name"), Some(""), None] {
        match name {
            Some(name) => config["name"] = name.into(),
            None => drop(config.as_object_mut().unwrap().remove("name")),
        }
        std::fs::write(&case.config, config.to_string()).unwrap();
        let found: Value = serde_json::from_str(&case.run("probe", &["--repeat", "4", "--output", "-"])).unwrap();
        assert_eq!(found["model"], name.unwrap_or_default());
    }
}

/// The picture of examples/gallery is what its command draws.
#[test]
fn picture_of_the_gallery() {
    let folder = golden("v76_tiny").0;
    let scratch = tempfile::tempdir().unwrap();
    let picture = scratch.path().join("pointers.svg");
    let (config, weights) = (folder.join("config.json"), folder.join("model.pt"));
    let arguments = ["probe", text(&config), "--weights", text(&weights), "--repeat", "24", "--output", "-"];
    stdout(&[&arguments[..], &["--svg", text(&picture)]].concat());
    let drawn = std::fs::read_to_string(&picture).unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/gallery/pointers.svg");
    assert_eq!(drawn, std::fs::read_to_string(kept).unwrap());
}

/// Two probes for each of many layers are that many outputs of one entry.
#[test]
fn pointers_of_many_layers() {
    let scratch = tempfile::tempdir().unwrap();
    let mut config: Value =
        serde_json::from_str(&std::fs::read_to_string(golden("v76_tiny").0.join("config.json")).unwrap()).unwrap();
    config["n_layers"] = 20.into();
    let path = scratch.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let arguments = ["probe", text(&path), "--repeat", "4", "--sequences", "2", "--output", "-"];
    let report: Value = serde_json::from_str(&stdout(&arguments)).expect("JSON");
    assert_eq!(report["ipmr"]["matrix"].as_array().map(Vec::len), Some(20));
}

#[test]
fn unknown_probes_and_models_without_pointers_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let tokens = scratch.path().join("ids.json");
    std::fs::write(&tokens, "[1, 2]").unwrap();
    let arguments = ["logits", "v76_tiny", "--tokens", text(&tokens), "--probe", "*.nowhere"];
    assert!(failure(&arguments, 1).contains("nowhere"));
    assert!(failure(&["probe", "--repeat", "4"], 1).contains("survivors"));
    assert!(failure(&["probe", "v76_tiny", "--repeat", "97"], 1).contains("97"));
    failure(&["probe", "v76_tiny"], 2);
}

#[test]
fn soft_pointers_logits() {
    check_logits("v76_tiny");
}

#[test]
fn hard_pointers_logits() {
    check_logits("v75_tiny");
}

#[test]
fn greedy_tokens() {
    check_greedy("v76_tiny");
    check_greedy("v75_tiny");
}

#[test]
fn ids_in_ids_out() {
    check_generation("v76_tiny");
    check_generation("v75_tiny");
}

/// An empty prompt can be given as ids too: it is what the model starts from.
#[test]
fn no_ids_are_an_empty_prompt() {
    let weights = file("goldens/cpu1/run_01/checkpoint_run_01_final.pt");
    let new = |prompt: &[&str]| -> Value {
        let options = ["--max-new", "6", "--temperature", "0", "--json", "--weights", text(&weights)];
        let printed = stdout(&[&["run"], prompt, &options].concat());
        serde_json::from_str::<Value>(&printed).unwrap()["elements"].clone()
    };
    let none = new(&["--tokens", ""]);
    assert_eq!(none.as_array().unwrap().len(), 6);
    assert_eq!(none, new(&["--prompt", ""]));
    assert_eq!(none, new(&["--tokens", "0"]));
}

#[test]
fn wrong_ids_and_prompts_are_refused() {
    let weights = file("goldens/v76/v76_tiny/model.bit2");
    let said = |more: &[&str], code: i32| {
        let mut arguments = vec!["run", "--weights", text(&weights)];
        arguments.extend(more);
        failure(&arguments, code)
    };
    assert!(said(&["--tokens", "1,96"], 1).contains("token is 96, it must lie in 0..=95"));
    assert!(said(&["--prompt", "[1, 96]"], 1).contains("0..=95"));
    assert!(said(&["--prompt", "words"], 1).contains("JSON array"));
    assert!(said(&[], 1).contains("the prompt is empty"));
    assert!(said(&["--tokens", ""], 1).contains("the prompt is empty"));
    said(&["--tokens", "1,-2"], 2);
    said(&["--tokens", "1", "--prompt", "[1]"], 2);
    // 128 entries are what the caches hold.
    let output = run(&["run", "--weights", text(&weights), "--tokens", "1", "--max-new", "129"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("the context is full after 128 steps"));
}

#[test]
fn a_tokenizer_gives_text_in_and_out() {
    let (folder, golden) = golden("v76_tiny");
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("words.json");
    let words = |count: u32| {
        let vocabulary: Map<String, Value> = (0..count).map(|id| (format!("w{id}"), id.into())).collect();
        let model = serde_json::json!({ "type": "WordLevel", "vocab": vocabulary, "unk_token": "w0" });
        let tokenizer = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null, "model": model,
        });
        std::fs::write(&path, tokenizer.to_string()).unwrap();
    };
    words(96);
    let run = golden.runs.iter().find(|run| run.name == "bit2").unwrap();
    let joined = |ids: &[u32]| ids.iter().map(|id| format!("w{id}")).collect::<Vec<_>>().join(" ");
    let (given, weights) = (joined(&run.tokens), folder.join(&run.weights));
    let new = &run.greedy.as_ref().unwrap().tokens[..5];
    let mut arguments = vec!["run", "--weights", text(&weights), "--tokenizer", text(&path), "--prompt", &given];
    arguments.extend(["--max-new", "5", "--temperature", "0", "--json"]);
    let report: Value = serde_json::from_str(&stdout(&arguments)).unwrap();
    assert_eq!(report["elements"], serde_json::json!(new));
    // What is generated goes on the prompt, so its first word keeps the space in front.
    assert_eq!(report["text"], format!(" {}", joined(new)));
    arguments.pop();
    let printed = stdout(&arguments);
    assert!(printed.starts_with(&given) && printed.trim_end().ends_with(&joined(new)), "{printed}");
    words(97);
    assert!(failure(&arguments, 1).contains("it has 97 tokens, the model 96"));
    // With fewer tokens than the model has rows, the rows behind them are never chosen.
    let few = 1 + new.iter().min().unwrap();
    words(few);
    for temperature in ["0", "5"] {
        let mut arguments = vec!["run", "--weights", text(&weights), "--tokenizer", text(&path), "--prompt", "w0 w1"];
        arguments.extend(["--max-new", "40", "--temperature", temperature, "--json"]);
        let report: Value = serde_json::from_str(&stdout(&arguments)).unwrap();
        let elements: Vec<u32> = serde_json::from_value(report["elements"].clone()).unwrap();
        assert!(elements.len() == 40 && elements.iter().all(|&id| id < few), "{report}");
        assert_eq!(report["text"], format!(" {}", joined(&elements)));
    }
    std::fs::write(&path, "{}").unwrap();
    assert!(failure(&arguments, 1).contains("words.json"));
}

#[test]
fn bits_per_token() {
    check_bits_per_token("v76_tiny");
    check_bits_per_token("v75_tiny");
}
