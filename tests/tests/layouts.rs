//! Every architecture of the model library that packed files can hold, in every layout of a torch checkpoint: one
//! model is written as packed codes, as latent bf16 weights with an optimizer, and as plain floats, latent and
//! dequantised, and each file must give the same logits, bit for bit.
//!
//! Names of models, presets and tensors are those that the command prints; `files/layouts/small.json` has the least
//! sizes, by config key, to which the presets are cut.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sterna_tests::torch_writer::{Checkpoint, Layout, Storage, Tensor};
use sterna_tests::{file, stdout, text};

fn printed(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(arguments)).expect("JSON on stdout")
}

/// The configs of all architectures that need no other than dense and ternary weights, each once, with a preset's name.
fn architectures() -> Vec<(String, Value)> {
    let small: Value = serde_json::from_slice(&std::fs::read(file("layouts/small.json")).unwrap()).unwrap();
    let mut models: Vec<String> = Vec::new();
    for preset in stdout(&["presets"]).lines() {
        let model = preset.split_once('/').expect("MODEL/PRESET").0;
        if models.last().is_none_or(|last| last != model) {
            models.push(model.to_owned());
        }
    }
    let mut found: Vec<(String, Value)> = Vec::new();
    for model in models {
        for row in printed(&["check", "--all", &model, "--json"])["sizes"].as_array().unwrap() {
            let preset = format!("{model}/{}", row["presets"][0].as_str().unwrap());
            let report = printed(&["check", &preset, "--json"]);
            let mut declared = report["tensors"]["declared"].as_array().unwrap().iter();
            let fits = declared.all(|t| t["encoding"] == "ternary" || t["encoding"] == "bf16");
            let config = cut(&report, &small);
            if fits && found.iter().all(|(_, known)| *known != config) {
                found.push((preset, config));
            }
        }
    }
    found
}

/// The whole config of a preset, defaults included, with no value above that of `small`.
fn cut(report: &Value, small: &Value) -> Value {
    let keys = report["config_keys"].as_object().unwrap().iter();
    let config: Map<String, Value> = keys
        .map(|(key, used)| {
            let least = small.get(key).filter(|least| used["value"].as_i64() > least.as_i64());
            (key.clone(), least.unwrap_or(&used["value"]).clone())
        })
        .collect();
    config.into()
}

/// Numbers that look random, in -1..1.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A tensor in all its forms. Latent values are bf16 numbers.
struct Drawn {
    latent: Tensor,
    /// Codes with their scale, for a ternary one.
    packed: Option<Tensor>,
}

impl Drawn {
    fn new(name: &str, shape: Vec<usize>, ternary: bool, draw: &mut Draw) -> Drawn {
        let inputs = shape.last().copied().unwrap_or(1) as f32;
        let value = |x: f32| if shape.len() == 1 { 1.0 + x / 8.0 } else { 2.0 * x / inputs.sqrt() };
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| Storage::Bfloat16.kept(value(draw.next()))).collect();
        let latent = Tensor {
            name: name.into(),
            shape,
            values,
            storage: Storage::Bfloat16,
            transposed: false,
            expanded: false,
            scale: None,
        };
        let packed = ternary.then(|| {
            // Sums of bf16 numbers of like size are exact in f64.
            let sum: f64 = latent.values.iter().map(|v| f64::from(v.abs())).sum();
            let mean = (sum / latent.values.len() as f64) as f32;
            let codes = latent.values.iter().map(|v| (v / mean).round_ties_even().clamp(-1.0, 1.0)).collect();
            Tensor { values: codes, scale: Some(nearest_bf16(mean)), ..latent.clone() }
        });
        Drawn { latent, packed }
    }

    fn dequantised(&self) -> Tensor {
        self.packed.as_ref().map_or_else(
            || self.latent.clone(),
            |packed| {
                let values = packed.values.iter().map(|code| code * packed.scale.unwrap()).collect();
                Tensor { values, scale: None, ..packed.clone() }
            },
        )
    }
}

/// To nearest, ties to even.
fn nearest_bf16(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}

fn floats(mut tensor: Tensor) -> Tensor {
    tensor.storage = Storage::Float;
    tensor
}

/// The files of one model, by name.
fn files(config: &Value, drawn: &[Drawn]) -> Vec<(&'static str, Checkpoint)> {
    let of = |form: &dyn Fn(&Drawn) -> Tensor| drawn.iter().map(form).collect::<Vec<Tensor>>();
    let compact = of(&|t| t.packed.as_ref().unwrap_or(&t.latent).clone());
    let (latent, dequantised) = (of(&|t| t.latent.clone()), of(&Drawn::dequantised));
    let beside =
        vec![("step".to_owned(), json!(640)), ("phase".to_owned(), json!(2)), ("config".to_owned(), config.clone())];
    let bare = |tensors: Vec<Tensor>| {
        let tensors = tensors.into_iter().map(floats).collect();
        Checkpoint { tensors, ..Checkpoint::default() }
    };
    let training = |tensors: Vec<Tensor>| Checkpoint {
        layout: Layout::Training,
        tensors,
        beside: beside.clone(),
        optimizer: true,
        ..Checkpoint::default()
    };
    let mut files = vec![
        (
            "compact",
            Checkpoint { layout: Layout::Compact, tensors: compact, beside: beside.clone(), ..Checkpoint::default() },
        ),
        ("training", training(latent.clone())),
        ("latent", bare(latent)),
    ];
    if drawn.iter().any(|t| t.packed.is_some()) {
        // Which of the two a tensor is, each tells for itself.
        let mixed = drawn.iter().enumerate().map(|(i, t)| if i % 2 == 0 { t.dequantised() } else { t.latent.clone() });
        files.extend([("mixed", bare(mixed.collect())), ("dequantised training", training(dequantised.clone()))]);
        files.push(("dequantised", bare(dequantised)));
    }
    files
}

/// Writes all files of an architecture and compares what they give.
fn check(preset: &str, config: &Value, folder: &Path) {
    let given = folder.join("given.json");
    std::fs::write(&given, config.to_string()).unwrap();
    let report = printed(&["check", text(&given), "--json"]);
    let mut draw = Draw(report["parameters"].as_u64().unwrap());
    let declared = report["tensors"]["declared"].as_array().unwrap().iter();
    // What nothing reads may be there or not.
    let unread = report["tensors"]["unread"].as_array().unwrap().iter();
    let tensors: Vec<Drawn> = declared
        .chain(unread)
        .map(|tensor| {
            let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone()).unwrap();
            Drawn::new(tensor["name"].as_str().unwrap(), shape, tensor["encoding"] == "ternary", &mut draw)
        })
        .collect();
    let ids = folder.join("ids.json");
    std::fs::write(&ids, json!((0..27).map(|i| (i * i * 7 + 3) % 256).collect::<Vec<u32>>()).to_string()).unwrap();
    let mut expected: Option<String> = None;
    for (name, checkpoint) in files(config, &tensors) {
        let place: PathBuf = folder.join(name);
        std::fs::create_dir(&place).unwrap();
        let weights = place.join("model.pt");
        std::fs::write(&weights, checkpoint.bytes()).unwrap();
        let mut arguments = vec!["logits", "--weights", text(&weights), "--tokens", text(&ids)];
        match checkpoint.layout {
            // The config is in the file.
            Layout::Compact | Layout::Training => {}
            Layout::Bare if name == "latent" => arguments.insert(1, text(&given)),
            Layout::Bare => std::fs::write(place.join("config.json"), config.to_string()).unwrap(),
        }
        // The interpreter reads files its own way.
        if name.contains("mixed") || name.contains("training") {
            arguments.extend(["--backend", "interp"]);
        }
        let found = stdout(&arguments);
        match &expected {
            Some(expected) => assert!(*expected == found, "{preset}: {name} gives other bits"),
            None => {
                let rows: Value = serde_json::from_str(&found).unwrap();
                let rows = rows["logits"].as_array().unwrap();
                assert!(rows.len() >= 27 && rows[3] != rows[9], "{preset}: {found}");
                assert!(!found.contains("null"), "{preset}: {found}");
                expected = Some(found);
            }
        }
    }
}

#[test]
fn every_layout_of_every_architecture_gives_the_same_bits() {
    let all = architectures();
    assert!(all.len() >= 14, "{all:?}");
    let (first, second) = all.split_at(all.len() / 2);
    std::thread::scope(|scope| {
        for half in [first, second] {
            scope.spawn(move || {
                for (preset, config) in half {
                    let scratch = tempfile::tempdir().unwrap();
                    check(preset, config, scratch.path());
                }
            });
        }
    });
}
