//! What mutants are made of: small models of every kind in the project's own tests, as graph and config, as packages,
//! and as checkpoints in every format that is read. All of it is made once in a process, when it is first asked for.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Value, json};
use sterna_compiler::session::{LoadOptions, ModelSource, Session, WeightsSource, preset_names};
use sterna_compiler::weights::{self, ValueSource};
use sterna_compiler::{ir, package};

use crate::torch_writer::{Checkpoint, Layout, Storage, Tensor};
use crate::{file, root};

/// A model: its graph file, if it is none of the library, and its config.
#[derive(Clone, Debug)]
pub struct Model {
    /// The graph file's name without its ending.
    pub name: String,
    /// The graph file's text.
    pub graph: String,
    /// Whether it is of the library that comes with the compiler.
    pub library: bool,
    /// The config.
    pub config: String,
}

/// A file with what stands in it.
pub type File = (String, Vec<u8>);

/// A checkpoint of one or several files, with the config of its model.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The config.
    pub config: String,
    /// The files; the first is the one to open.
    pub files: Vec<File>,
}

/// The largest package or checkpoint that serves: each mutant is a copy.
const LARGEST: usize = 80_000;

fn text(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// What a folder holds, in one order on every machine.
fn listed(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    all.sort();
    all
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The folders with a config and checkpoints of a model of the library.
fn references() -> Vec<PathBuf> {
    let goldens = listed(&file("goldens")).into_iter().flat_map(|family| listed(&family));
    listed(&file("references"))
        .into_iter()
        .chain(goldens)
        .filter(|folder| folder.join("config.json").exists())
        .collect()
}

/// The library's graph that a config is for.
fn owner(config: &str) -> Option<String> {
    let source = ModelSource::Own { name: "config.json".into(), text: config.into() };
    Some(Session::load(&source, &LoadOptions::default()).ok()?.module().name.clone())
}

/// All models.
pub fn models() -> &'static [Model] {
    static ALL: OnceLock<Vec<Model>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = Vec::new();
        for path in listed(&file("sound")) {
            if path.extension().is_some_and(|ending| ending == "graph")
                && let Some(graph) = text(&path)
            {
                all.push(Model { name: stem(&path), graph, library: false, config: "{}".into() });
            }
        }
        let folder = file("run");
        for preset in preset_names(Some(&folder)).unwrap_or_default() {
            let Some(graph) =
                preset.split_once('/').and_then(|(model, _)| text(&folder.join(format!("{model}.graph"))))
            else {
                continue;
            };
            let options = LoadOptions { graphs: Some(folder.clone()), ..LoadOptions::default() };
            let Ok(session) = Session::load(&ModelSource::Preset(preset.clone()), &options) else { continue };
            if session.section_bytes() < LARGEST {
                let name = session.module().name.clone();
                all.push(Model { name, graph, library: false, config: session.config().to_string() });
            }
        }
        let configs = references().into_iter().map(|folder| folder.join("config.json"));
        for path in configs.chain([file("mutated/small_chimera.json")]) {
            let Some(config) = text(&path) else { continue };
            let Some(name) = owner(&config) else { continue };
            if let Some(graph) = text(&root().join("graphs").join(format!("{name}.graph"))) {
                all.push(Model { name, graph, library: true, config });
            }
        }
        all
    })
}

/// A package of a module with random weights.
///
/// # Errors
/// A weight that cannot be computed, in words.
pub fn packed(module: &ir::Module, config: &Value, seed: u64) -> Result<Vec<u8>, String> {
    let mut out = std::io::Cursor::new(Vec::new());
    let written = package::write(&mut out, module, config, &ValueSource::Random { seed }.into(), |_| ());
    written.map_err(|error| error.to_string())?;
    Ok(out.into_inner())
}

/// A model with random weights, if it loads.
pub fn loaded(model: &Model) -> Option<Session> {
    let folder = tempfile::tempdir().ok()?;
    std::fs::write(folder.path().join(format!("{}.graph", model.name)), &model.graph).ok()?;
    let options = LoadOptions {
        model: Some(model.name.clone()),
        graphs: (!model.library).then(|| folder.path().to_owned()),
        weights: WeightsSource::Random(1),
        ..LoadOptions::default()
    };
    Session::load(&ModelSource::Own { name: "c.json".into(), text: model.config.clone() }, &options).ok()
}

/// Packages of all models.
pub fn packages() -> &'static [Vec<u8>] {
    static ALL: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let folder = tempfile::tempdir().ok();
        let path = folder.as_ref().map(|folder| folder.path().join("p.sterna"));
        let made = models().iter().filter_map(|model| {
            let session = loaded(model)?;
            if session.section_bytes() > LARGEST {
                return None;
            }
            session.write_package(path.as_ref()?, |_| ()).ok()?;
            std::fs::read(path.as_ref()?).ok()
        });
        made.collect()
    })
}

/// Checkpoints of all formats.
pub fn checkpoints() -> &'static [Weights] {
    static ALL: OnceLock<Vec<Weights>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all = Vec::new();
        for folder in references() {
            let Some(config) = text(&folder.join("config.json")) else { continue };
            for path in listed(&folder) {
                let weights = path.extension().is_some_and(|ending| ending == "pt" || ending == "bit2");
                let Some(bytes) = std::fs::read(&path).ok().filter(|bytes| weights && bytes.len() < LARGEST) else {
                    continue;
                };
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                all.push(Weights { config: config.clone(), files: vec![(name, bytes)] });
                all.extend(rewritten(&config, &path));
            }
        }
        all
    })
}

/// The same tensors in other formats.
fn rewritten(config: &str, path: &Path) -> Vec<Weights> {
    let Ok(opened) = weights::Checkpoint::open(path) else { return Vec::new() };
    let read = |entry: &weights::TensorEntry| {
        let values = opened.read_f32(entry).ok()?;
        Some(Tensor {
            name: entry.name.clone(),
            shape: entry.shape.clone(),
            values,
            storage: Storage::Float,
            transposed: entry.shape.len() == 2,
            expanded: false,
            scale: None,
        })
    };
    let Some(tensors) = opened.tensors().iter().map(read).collect::<Option<Vec<Tensor>>>() else { return Vec::new() };
    if tensors.iter().map(|tensor| tensor.values.len()).sum::<usize>() > LARGEST / 8 {
        return Vec::new();
    }
    let beside = vec![("step".to_owned(), json!(3)), ("note".to_owned(), json!({ "loss": [0.5, null, "text"] }))];
    let bare = Checkpoint { tensors: tensors.clone(), ..Checkpoint::default() };
    let training = Checkpoint { layout: Layout::Training, beside, optimizer: true, ..bare.clone() };
    let one = |name: &str, bytes: Vec<u8>| Weights { config: config.into(), files: vec![(name.into(), bytes)] };
    let half = tensors.len() / 2;
    let parts = ["a-1.safetensors", "a-2.safetensors"];
    let place = |(at, tensor): (usize, &Tensor)| (tensor.name.clone(), json!(parts[usize::from(at >= half)]));
    let map: serde_json::Map<String, Value> = tensors.iter().enumerate().map(place).collect();
    let index = json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string().into_bytes();
    let sharded = vec![
        ("model.safetensors.index.json".to_owned(), index),
        (parts[0].to_owned(), safetensors(&tensors[..half])),
        (parts[1].to_owned(), safetensors(&tensors[half..])),
    ];
    vec![
        one("bare.pt", Checkpoint { shared: true, ..bare.clone() }.bytes()),
        one("protocol.pt", Checkpoint { protocol: 5, ..training.clone() }.bytes()),
        one("legacy.pt", Checkpoint { legacy: true, ..bare }.bytes()),
        one("zip64.pt", Checkpoint { zip64: true, ..training }.bytes()),
        one("m.safetensors", safetensors(&tensors)),
        Weights { config: config.into(), files: sharded },
    ]
}

/// A safetensors file of these tensors.
fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for Tensor { name, shape, values, .. } in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        header.insert(name.clone(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()] }));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// Tokenizer files of the kinds that are read.
pub fn tokenizers() -> &'static [String] {
    static ALL: OnceLock<Vec<String>> = OnceLock::new();
    ALL.get_or_init(|| {
        let vocab = |tokens: &[&str]| -> Value { tokens.iter().zip(0..).map(|(token, id)| ((*token).to_owned(), json!(id))).collect::<serde_json::Map<_, _>>().into() };
        let make = |model: Value, parts: Value| {
            let mut whole = json!({
                "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
                "pre_tokenizer": null, "post_processor": null, "decoder": null, "model": model,
            });
            for (key, part) in parts.as_object().into_iter().flatten() {
                whole[key] = part.clone();
            }
            whole.to_string()
        };
        let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
        let marks = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
        let decoders = json!({ "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " }, { "type": "ByteFallback" },
            { "type": "Fuse" }, { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ] });
        let normal = json!({ "type": "Sequence", "normalizers": [
            { "type": "NFKC" }, { "type": "Lowercase" }, { "type": "Prepend", "prepend": "▁" },
            { "type": "Replace", "pattern": { "Regex": " +" }, "content": "▁" },
            { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true },
        ] });
        let added = json!([{ "id": 5, "content": "<s>", "single_word": false, "lstrip": true, "rstrip": false, "normalized": false, "special": true }]);
        let cut = json!({ "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0 });
        let filled = json!({
            "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "<unk>",
        });
        let split = json!({ "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": "\\w+|\\s+" }, "behavior": "Isolated", "invert": false },
            { "type": "Digits", "individual_digits": true }, { "type": "Punctuation", "behavior": "Isolated" },
            { "type": "Whitespace" },
        ] });
        let letters = ["a", "b", "ab", "abab", "Ġ", "<s>", "c"];
        vec![
            make(json!({ "type": "BPE", "dropout": 0.5, "vocab": vocab(&letters), "merges": ["a b", "ab ab"] }), json!({ "decoder": level, "pre_tokenizer": level, "added_tokens": added })),
            make(json!({ "type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "vocab": vocab(&["<unk>", "<0x80>", "▁", "▁the", "t", "h", "th"]), "merges": [["t", "h"]] }), json!({ "decoder": decoders, "normalizer": normal })),
            make(json!({ "type": "WordLevel", "vocab": vocab(&["<unk>", "a", "b"]), "unk_token": "<unk>" }), json!({ "pre_tokenizer": split, "truncation": cut, "padding": filled })),
            make(json!({ "type": "WordPiece", "unk_token": "<unk>", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab(&["<unk>", "a", "##b", "cat", "##s"]) }), json!({ "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true }, "pre_tokenizer": { "type": "BertPreTokenizer" } })),
            make(json!({ "type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": [["<unk>", 0.0], ["▁a", -1.5], ["b", -2.0], ["ab", -2.5]] }), json!({ "decoder": marks, "pre_tokenizer": marks })),
        ]
    })
}
