//! Prompts of awkward lengths and bytes: none at all, those that do not fill a patch, and output that is no UTF-8.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sterna_compiler::session::{CompileOptions, LoadOptions, ModelSource, Session, WeightsSource};
use sterna_runtime::{Decoder, Engine, Mode, Pool};
use sterna_tests::{file, stdout, sterna, text};

/// A folder of the goldens, with its config and its first checkpoint.
fn golden(folder: &str) -> (PathBuf, PathBuf) {
    let folder = file("goldens").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let weights = files.into_iter().find(|path| path.extension().is_some_and(|e| e == "pt")).unwrap();
    (folder.join("config.json"), weights)
}

/// The models of the goldens: bytes that one step predicts at once, bytes one by one, the same with skipped layers,
/// tokens.
const MODELS: [&str; 4] = ["cpu1/run_02a", "cpu1/run_04", "cpu1/run_07", "cpu1/run_01"];

fn rows(engine: &mut impl Engine, elements: &[u32], mode: Mode) -> Vec<Vec<u32>> {
    let decoder = Decoder::new(engine.table()).unwrap();
    let mut rows = Vec::new();
    decoder
        .all_logits(engine, elements, mode, |row| {
            rows.push(row.iter().map(|v| v.to_bits()).collect());
            Ok(())
        })
        .unwrap();
    rows
}

#[test]
fn prompts_of_every_short_length_step_by_step_and_at_once() {
    for folder in MODELS {
        let (config, weights) = golden(folder);
        let load = LoadOptions { weights: WeightsSource::File(weights), ..LoadOptions::default() };
        let session = Session::load(&ModelSource::File(config), &load).unwrap();
        let options = CompileOptions { max_rows: 2, ..CompileOptions::default() };
        let mut native = session.native(&options, Arc::new(Pool::new(1, false))).unwrap();
        let elements: Vec<u32> = (0..9).map(|i| (i * 83 + 65) % 250).collect();
        let all = rows(&mut native, &elements, Mode::Step);
        let mut interpreted = session.interpreter(&options, Mode::Step).unwrap();
        assert_eq!(all, rows(&mut interpreted, &elements, Mode::Step), "{folder}");
        let before = all.len() - elements.len();
        for length in 1..=elements.len() {
            // What follows a prompt changes none of its predictions.
            let expected = &all[..before + length];
            for mode in [Mode::Step, Mode::Batch] {
                let found = rows(&mut native, &elements[..length], mode);
                assert!(found == expected, "{folder}: {length} elements, {mode:?}");
            }
            // A prompt that comes in two pieces, cut anywhere, is one prompt.
            let decoder = Decoder::new(native.table()).unwrap();
            let mut stream = decoder.stream(&native).unwrap();
            decoder.prompt(&mut native, &mut stream, &elements[..length]).unwrap();
            decoder.feed(&mut native, &mut stream, &elements[length..]).unwrap();
            let last: Vec<u32> =
                decoder.logits(&mut native, &mut stream).unwrap().iter().map(|v| v.to_bits()).collect();
            assert!(all.last() == Some(&last), "{folder}: cut after {length}");
        }
    }
}

fn logits(config: &Path, weights: &Path, ids: &str, more: &[&str]) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("ids.json");
    std::fs::write(&path, ids).unwrap();
    let arguments = ["logits", text(config), "--weights", text(weights), "--tokens", text(&path)];
    stdout(&[&arguments[..], more].concat())
}

#[test]
fn nothing_is_a_prompt() {
    for folder in MODELS {
        let (config, weights) = golden(folder);
        let nothing = logits(&config, &weights, "[]", &[]);
        for more in [["--mode", "step"], ["--backend", "interp"]] {
            assert!(logits(&config, &weights, "[]", &more) == nothing, "{folder} {more:?}");
        }
        let rows: Value = serde_json::from_str(&nothing).unwrap();
        let row: Vec<f64> = serde_json::from_value(rows["logits"][0].clone()).unwrap();
        assert_eq!(rows["logits"].as_array().unwrap().len(), 1, "{folder}");
        let model = ["run", text(&config), "--weights", text(&weights)];
        let run = |more: &[&str]| -> Value {
            serde_json::from_str(&stdout(&[&model[..], &["-t", "0", "-n", "9", "--json"], more].concat())).unwrap()
        };
        // Without a prompt the most probable first element comes first.
        let generated = run(&["--prompt", if row.len() == 256 { "" } else { "[]" }]);
        let best = (0..row.len()).fold(0, |best, j| if row[j] > row[best] { j } else { best });
        assert_eq!(generated["elements"][0], best, "{folder}");
        if row.len() == 256 {
            // The start patch is always there, so the first row of any prompt is this one.
            let longer: Value = serde_json::from_str(&logits(&config, &weights, "[72, 105]", &[])).unwrap();
            assert_eq!(longer["logits"][0], rows["logits"][0], "{folder}");
        } else {
            // Token 0 stands in for the prompt.
            assert_eq!(logits(&config, &weights, "[0]", &[]), nothing, "{folder}");
            assert_eq!(run(&["--prompt", "[0]"])["elements"], generated["elements"], "{folder}");
        }
    }
}

#[test]
fn output_that_is_no_utf8_is_replaced() {
    let mut replaced = 0;
    for folder in &MODELS[..3] {
        let (config, weights) = golden(folder);
        let model = ["run", text(&config), "--weights", text(&weights), "-t", "0", "-n", "40", "--prompt", "Une fée"];
        let report: Value = serde_json::from_str(&stdout(&[&model[..], &["--json"]].concat())).unwrap();
        let bytes: Vec<u8> = serde_json::from_value(report["elements"].clone()).unwrap();
        assert_eq!(bytes.len(), 40);
        let expected = String::from_utf8_lossy(&bytes);
        assert_eq!(report["text"], *expected);
        replaced += expected.matches(char::REPLACEMENT_CHARACTER).count();
        let shown = sterna().args(model).output().unwrap();
        assert!(shown.status.success());
        assert_eq!(String::from_utf8(shown.stdout).unwrap(), format!("Une fée{expected}\n"), "{folder}");
    }
    assert!(replaced > 10, "{replaced}");
}
