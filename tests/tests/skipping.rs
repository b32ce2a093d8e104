//! Steps that skip layers: prompts run the kept steps alone, with the bits of single steps; the counts are those of the
//! reference; and the model that time is measured against skips nothing and is otherwise the same.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use sterna_compiler::session::{CompileOptions, LoadOptions, ModelSource, Session, WeightsSource};
use sterna_runtime::{Decoder, Engine, Mode, Pool};
use sterna_tests::{file, stdout, text};

fn golden(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

#[test]
fn the_kept_steps_are_those_of_the_reference() {
    let folder = file("goldens/cpu1/run_07");
    let golden = golden(&folder);
    let (config, weights) = (folder.join("config.json"), folder.join("checkpoint_run_07_final.pt"));
    let scratch = tempfile::tempdir().unwrap();
    let (ids, quiet) = (scratch.path().join("ids.json"), scratch.path().join("config.json"));
    let elements: Vec<Value> =
        ["prompt", "greedy"].into_iter().flat_map(|key| golden[key].as_array().unwrap().clone()).collect();
    std::fs::write(&ids, Value::from(elements).to_string()).unwrap();
    let mut changed: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    changed["act_quant"] = false.into();
    std::fs::write(&quiet, changed.to_string()).unwrap();
    for (config, expected) in [(&config, &golden["kept"]), (&quiet, &golden["kept_noquant"])] {
        let mut printed: Option<String> = None;
        for options in [["--backend", "interp"], ["--mode", "step"], ["--mode", "batch"], ["--threads", "2"]] {
            let arguments =
                ["logits", text(config), "--weights", text(&weights), "--tokens", text(&ids), "--probe", "gate_logit"];
            let found = stdout(&[&arguments[..], &options].concat());
            assert!(printed.as_ref().is_none_or(|p| *p == found), "other bits with {options:?}");
            let report: Value = serde_json::from_str(&found).unwrap();
            printed = Some(found);
            let gates = floats(&report["probes"]["gate_logit"]);
            let kept: Vec<usize> = (0..gates.len()).filter(|&i| gates[i] > 0.0).collect();
            assert_eq!(serde_json::json!(kept), *expected);
            assert!(kept.len() > 1 && kept.len() < gates.len() - 1, "both ways are taken");
            if std::ptr::eq(expected, &golden["kept"]) {
                let wanted = floats(&golden["gate_logits"]);
                let tolerance = golden["gate_tolerance_abs"].as_f64().unwrap();
                assert_eq!(gates.len(), wanted.len());
                assert!(gates.iter().zip(&wanted).all(|(a, b)| (a - b).abs() <= tolerance), "{gates:?} {wanted:?}");
            }
        }
    }
}

#[test]
fn run_and_bench_count_what_was_kept() {
    let folder = file("goldens/cpu1/run_07");
    let (config, weights) = (folder.join("config.json"), folder.join("checkpoint_run_07_final.pt"));
    let model = [text(&config), "--weights", text(&weights)];
    let prompt = "Once upon a time there was a gate, and few steps went through it.";
    let options = ["--prompt", prompt, "-n", "30", "--stats", "--json", "--seed", "3"];
    let report: Value = serde_json::from_str(&stdout(&[&["run"], &model[..], &options].concat())).unwrap();
    let [kept] = &report["kept"].as_array().unwrap()[..] else { panic!("{report}") };
    assert!(kept["place"].as_str().unwrap().starts_with("cpu1.graph:"), "{report}");
    // The gate's own values along the same bytes.
    let generated = report["elements"].as_array().unwrap().iter().map(|e| e.as_u64().unwrap() as u8);
    let all: Vec<u8> = prompt.bytes().chain(generated).collect();
    let scratch = tempfile::tempdir().unwrap();
    let ids = scratch.path().join("ids.json");
    std::fs::write(&ids, serde_json::json!(all).to_string()).unwrap();
    let options = ["--tokens", text(&ids), "--probe", "gate_logit"];
    let printed: Value = serde_json::from_str(&stdout(&[&["logits"], &model[..], &options].concat())).unwrap();
    let gates = floats(&printed["probes"]["gate_logit"]);
    let (of_prompt, of_rest) = gates.split_at(1 + prompt.len() / 4);
    for (name, gates) in [("prompt", of_prompt), ("decode", of_rest)] {
        assert_eq!(kept[name]["steps"], gates.len(), "{name}");
        let open = gates.iter().filter(|&&z| z > 0.0).count();
        assert_eq!(kept[name]["kept"], open, "{name}");
        assert!((kept[name]["share"].as_f64().unwrap() - open as f64 / gates.len() as f64).abs() < 1e-12);
        let saved = &report["time_saved"][name];
        assert!(saved["unskipped_seconds"].as_f64().unwrap() > 0.0 && saved["seconds"].is_f64(), "{report}");
    }
    let shown = sterna_tests::run(&[&["run"], &model[..], &["--prompt", prompt, "-n", "8", "--stats"]].concat());
    let said = String::from_utf8_lossy(&shown.stderr);
    assert!(said.contains("kept: prompt") && said.contains("time saved: prompt"), "{said}");
    let options = ["--steps", "20", "--rounds", "1", "--json"];
    let report: Value = serde_json::from_str(&stdout(&[&["bench"], &model[..], &options].concat())).unwrap();
    assert_eq!(
        (&report["kept"][0]["prompt"]["steps"], &report["kept"][0]["decode"]["steps"]),
        (&21.into(), &20.into())
    );
    assert!(report["time_saved"]["decode"]["unskipped_seconds"].as_f64().unwrap() > 0.0);
    // A model that skips nothing has nothing to say.
    let report: Value = serde_json::from_str(&stdout(&["run", "-n", "4", "--stats", "--json"])).unwrap();
    assert!(report.get("kept").is_none() && report.get("time_saved").is_none(), "{report}");
}

/// The bits of all logits along some tokens.
fn bits(session: &Session, unskipped: bool, mode: Mode) -> Vec<u32> {
    let options = CompileOptions { unskipped, ..CompileOptions::default() };
    let mut engine = session.native(&options, Arc::new(Pool::new(1, false))).unwrap();
    let tokens: Vec<u32> = (0..90).map(|i| (i * 31 + 7) % 80).collect();
    let mut all = Vec::new();
    let decoder = Decoder::new(engine.table()).unwrap();
    decoder
        .all_logits(&mut engine, &tokens, mode, |row| {
            all.extend(row.iter().map(|v| v.to_bits()));
            Ok(())
        })
        .unwrap();
    all
}

#[test]
fn nothing_skipped_is_the_model_without_the_condition() {
    let graphs = tempfile::tempdir().unwrap();
    let graph = std::fs::read_to_string(file("run/window.graph")).unwrap();
    assert_eq!(graph.matches("if z > 0 {").count(), 1);
    let always = graph.replace("if z > 0 {", "if 1 > 0 {").replace("model window", "model always");
    std::fs::write(graphs.path().join("window.graph"), &graph).unwrap();
    std::fs::write(graphs.path().join("always.graph"), always).unwrap();
    let load = |preset: &str| {
        let options = LoadOptions {
            graphs: Some(graphs.path().into()),
            weights: WeightsSource::Random(5),
            ..LoadOptions::default()
        };
        Session::load(&ModelSource::Preset(preset.into()), &options).unwrap()
    };
    let (window, always) = (load("window/small"), load("always/small"));
    for mode in [Mode::Step, Mode::Batch] {
        let expected = bits(&always, false, mode);
        assert_eq!(bits(&window, true, mode), expected);
        assert_eq!(bits(&always, true, mode), expected);
        assert_ne!(bits(&window, false, mode), expected);
    }
}
