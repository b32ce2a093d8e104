//! Values that a training wrote beside its weights: for keys that a graph leaves open they say with what the weights
//! were saved, after a config given for the run and before all else.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sterna_tests::torch_writer::{Checkpoint, Layout, Storage, Tensor};
use sterna_tests::{failure, stdout, text};

const GRAPH: &str = r#"
model annealed
config {
  width: int in 2..
  mix: float in 0..=1 = 1.0
}
checkpoint { choose "mix": "it grows during the training" }
weight w: f32[width, width] at "w"
entry step(token: u32 in 0..width) start 0 if empty { output logits = w[token] * mix }
"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("annealed.graph"), GRAPH).unwrap();
        std::fs::write(folder.path().join("ids.json"), "[0]").unwrap();
        Place(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn config(&self, config: &Value) -> PathBuf {
        std::fs::write(self.path("given.json"), config.to_string()).unwrap();
        self.path("given.json")
    }

    /// A checkpoint whose first weight is four.
    fn checkpoint(&self, name: &str, beside: &[(&str, Value)]) -> PathBuf {
        let tensor = Tensor {
            name: "w".into(),
            shape: vec![2, 2],
            values: vec![4.0, 1.0, 1.0, 1.0],
            storage: Storage::Float,
            transposed: false,
            expanded: false,
            scale: None,
        };
        let beside = beside.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
        let file = Checkpoint { layout: Layout::Training, tensors: vec![tensor], beside, ..Checkpoint::default() };
        std::fs::write(self.path(name), file.bytes()).unwrap();
        self.path(name)
    }

    fn arguments<'a>(&'a self, folder: &'a Path, config: Option<&'a Path>, weights: &'a Path) -> Vec<&'a str> {
        let mut all: Vec<&str> = config.map(text).into_iter().collect();
        all.extend(["--graphs", text(folder), "--weights", text(weights)]);
        all
    }

    /// The first logit: four times the mix.
    fn logit(&self, config: Option<&Path>, weights: &Path) -> f64 {
        let ids = self.path("ids.json");
        let model = self.arguments(self.0.path(), config, weights);
        let printed = stdout(&[&["logits", "--tokens", text(&ids)], &model[..]].concat());
        let printed: Value = serde_json::from_str(&printed).unwrap();
        printed["logits"][0][0].as_f64().unwrap()
    }
}

#[test]
fn the_config_given_comes_first_then_what_stands_beside_the_weights_then_the_config_saved() {
    let place = Place::new();
    let own = ("config", json!({"width": 2, "mix": 0.75}));
    let silent = place.config(&json!({"width": 2}));
    let both = place.checkpoint("both.pt", &[own.clone(), ("mix", json!(0.25)), ("step", json!(7))]);
    assert_eq!(place.logit(None, &both), 1.0);
    assert_eq!(place.logit(Some(&silent), &both), 1.0);
    let only_config = place.checkpoint("config.pt", &[own]);
    assert_eq!(place.logit(None, &only_config), 3.0);
    assert_eq!(place.logit(Some(&silent), &only_config), 3.0);
    let neither = place.checkpoint("neither.pt", &[("config", json!({"width": 2})), ("mix", Value::Null)]);
    assert_eq!(place.logit(None, &neither), 4.0);
    assert_eq!(place.logit(Some(&silent), &neither), 4.0);
    let given = place.config(&json!({"width": 2, "mix": 0.5}));
    for weights in [&both, &only_config, &neither] {
        assert_eq!(place.logit(Some(&given), weights), 2.0);
    }
}

#[test]
fn the_config_beside_a_file_is_not_given_for_the_run() {
    let place = Place::new();
    let weights = place.checkpoint("bare.pt", &[("mix", json!(0.25))]);
    std::fs::write(place.path("config.json"), r#"{"width": 2, "mix": 0.5}"#).unwrap();
    assert_eq!(place.logit(None, &weights), 1.0);
    assert_eq!(place.logit(Some(&place.path("config.json")), &weights), 2.0);
}

#[test]
fn what_a_graph_does_not_leave_open_is_not_taken_from_beside_the_weights() {
    let place = Place::new();
    let own = ("config", json!({"width": 2}));
    let weights = place.checkpoint("m.pt", &[own, ("width", json!(3))]);
    assert_eq!(place.logit(None, &weights), 4.0);
}

#[test]
fn a_saved_value_that_is_not_allowed_is_shown_where_it_comes_from() {
    let place = Place::new();
    let weights = place.checkpoint("m.pt", &[("config", json!({"width": 2})), ("mix", json!(1.5))]);
    let ids = place.path("ids.json");
    let model = place.arguments(place.0.path(), None, &weights);
    let said = failure(&[&["logits", "--tokens", text(&ids)], &model[..]].concat(), 1);
    assert!(said.contains("`mix` is 1.5") && said.contains("saved in m.pt"), "{said}");
}

#[test]
fn a_sweep_follows_the_values_of_each_file() {
    let place = Place::new();
    let own = || ("config", json!({"width": 2}));
    for (name, mix) in [("a_step1.pt", 0.25), ("a_step2.pt", 0.5), ("a_step3.pt", 0.25)] {
        place.checkpoint(name, &[own(), ("mix", json!(mix))]);
    }
    std::fs::write(place.path("text.json"), "[0, 1, 0, 0, 1]").unwrap();
    let out = place.path("out");
    let files = ["a_step1.pt", "a_step2.pt", "a_step3.pt"].map(|name| place.path(name));
    let mut arguments = vec!["sweep"];
    arguments.extend(files.iter().map(|f| text(f)));
    let (sample, out) = (place.path("text.json"), text(&out).to_owned());
    arguments.extend(["--graphs", text(place.0.path()), "--text", text(&sample), "-o", &out]);
    stdout(&arguments);
    let losses: Vec<f64> = files
        .iter()
        .map(|file| {
            let model = place.arguments(place.0.path(), None, file);
            let one = stdout(&[&["eval", "--json", "--text", text(&sample)], &model[..]].concat());
            serde_json::from_str::<Value>(&one).unwrap()["loss"].as_f64().unwrap()
        })
        .collect();
    assert!(losses[0] != losses[1] && losses[0] == losses[2]);
    let results = std::fs::read_to_string(Path::new(&out).join("results.jsonl")).unwrap();
    let records = results.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let found: Vec<_> = records.map(|r| (r["step"].as_u64().unwrap(), r["loss"].as_f64().unwrap())).collect();
    assert_eq!(found, vec![(1, losses[0]), (2, losses[1]), (3, losses[2])]);
}
