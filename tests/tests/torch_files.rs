//! What `torch.save` may write, and what it never would, through the command: the forms that are read give the logits
//! of the plain file, and everything else is an error that says what is wrong.

mod torch_writer;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sterna_compiler::weights::{self, TensorEntry};
use sterna_tests::{failure, file, stdout, text};
use torch_writer::{Checkpoint, Layout, Storage, Tensor};

fn folder() -> PathBuf {
    file("goldens/v76/v75_tiny")
}

/// The golden checkpoint, to be written again.
fn golden() -> Checkpoint {
    let opened = weights::Checkpoint::open(&folder().join("model.pt")).unwrap();
    let read = |t: &TensorEntry| Tensor {
        name: t.name.clone(),
        shape: t.shape.clone(),
        values: opened.read_f32(t).unwrap(),
        storage: Storage::Float,
        transposed: false,
        scale: None,
    };
    let tensors = opened.tensors().iter().map(read).collect();
    let beside = vec![("val_bpc".to_owned(), json!(5.5))];
    Checkpoint { layout: Layout::Training, tensors, beside, ..Checkpoint::default() }
}

struct Scratch {
    folder: tempfile::TempDir,
    config: PathBuf,
    ids: PathBuf,
}

impl Scratch {
    fn new(change: impl FnOnce(&mut Value)) -> Scratch {
        let scratch = tempfile::tempdir().unwrap();
        let mut value: Value = serde_json::from_slice(&std::fs::read(folder().join("config.json")).unwrap()).unwrap();
        change(&mut value);
        let (config, ids) = (scratch.path().join("small.json"), scratch.path().join("ids.json"));
        std::fs::write(&config, value.to_string()).unwrap();
        std::fs::write(&ids, "[3, 41, 59, 26, 53, 58, 3, 41]").unwrap();
        Scratch { folder: scratch, config, ids }
    }

    fn written(&self, checkpoint: &Checkpoint) -> PathBuf {
        let path = self.folder.path().join("model.pt");
        std::fs::write(&path, checkpoint.bytes()).unwrap();
        path
    }

    fn logits(&self, weights: &Path) -> String {
        stdout(&["logits", text(&self.config), "--weights", text(weights), "--tokens", text(&self.ids)])
    }

    fn refused(&self, checkpoint: &Checkpoint) -> String {
        let path = self.written(checkpoint);
        failure(&["logits", text(&self.config), "--weights", text(&path), "--tokens", text(&self.ids)], 1)
    }
}

#[test]
fn every_form_of_a_tensor_gives_the_same_logits() {
    let scratch = Scratch::new(|_| {});
    let expected = scratch.logits(&folder().join("model.pt"));
    assert_eq!(scratch.logits(&scratch.written(&golden())), expected);
    type Form<'a> = &'a dyn Fn(&mut Checkpoint);
    let forms: [(&str, Form); 6] = [
        ("transposed", &|c| c.tensors.iter_mut().for_each(|t| t.transposed = t.shape.len() == 2)),
        ("views of one storage", &|c| c.shared = true),
        ("doubles", &|c| c.tensors.iter_mut().for_each(|t| t.storage = Storage::Double)),
        ("ZIP64", &|c| c.zip64 = true),
        ("a bare state dictionary", &|c| c.layout = Layout::Bare),
        ("prefixes", &|c| {
            for (place, tensor) in c.tensors.iter_mut().enumerate() {
                let prefix = ["module.", "_orig_mod.", "module._orig_mod.module.", ""][place % 4];
                tensor.name.insert_str(0, prefix);
            }
        }),
    ];
    for (name, change) in forms {
        let mut checkpoint = golden();
        change(&mut checkpoint);
        assert_eq!(scratch.logits(&scratch.written(&checkpoint)), expected, "{name}");
    }
}

#[test]
fn half_precision_storages_are_widened() {
    let scratch = Scratch::new(|_| {});
    for storage in [Storage::Half, Storage::Bfloat16] {
        let (mut wide, mut narrow) = (golden(), golden());
        for (wide, narrow) in wide.tensors.iter_mut().zip(&mut narrow.tensors) {
            wide.values.iter_mut().for_each(|v| *v = storage.kept(*v));
            narrow.storage = storage;
        }
        let expected = scratch.logits(&scratch.written(&wide));
        assert_eq!(scratch.logits(&scratch.written(&narrow)), expected, "{storage:?}");
    }
}

#[test]
fn a_tied_head_ignores_its_own_tensor() {
    let tied = Scratch::new(|config| config["tie_head"] = json!(true));
    let mut without = golden();
    without.tensors.retain(|t| t.name != "lm_head.weight");
    let expected = tied.logits(&tied.written(&without));
    let with = tied.written(&golden());
    assert_eq!(tied.logits(&with), expected);
    let report = stdout(&["check", text(&tied.config), "--weights", text(&with)]);
    assert!(report.contains("lm_head.weight: the head reuses tok_emb.weight"), "{report}");
    // Its values are not looked at either; what nobody reads may hold anything.
    let mut broken = golden();
    broken.tensors.iter_mut().filter(|t| t.name == "lm_head.weight").for_each(|t| t.values[0] = f32::NAN);
    assert_eq!(tied.logits(&tied.written(&broken)), expected);
}

#[test]
fn nothing_is_executed() {
    let scratch = Scratch::new(|_| {});
    for (module, name) in [("os", "system"), ("builtins", "eval"), ("torch.storage", "_load_from_bytes")] {
        let said = scratch.refused(&Checkpoint { call: Some((module, name)), ..golden() });
        assert!(said.contains(&format!("`{module}.{name}`")) && said.contains("model.pt"), "{said}");
    }
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let scratch = Scratch::new(|_| {});
    let refused = |change: &dyn Fn(&mut Vec<Tensor>)| {
        let mut checkpoint = golden();
        change(&mut checkpoint.tensors);
        scratch.refused(&checkpoint)
    };
    let name = "layers.1.mlp.up_proj.weight";
    let said = refused(&|all| all.retain(|t| t.name != name));
    assert!(said.contains(&format!("the checkpoint lacks {name}, sign [112, 48]")), "{said}");
    let said = refused(&|all| {
        let more = Tensor { name: "layers.1.mlp.gate_proj.weight".into(), ..all[0].clone() };
        all.push(more);
    });
    assert!(said.contains("nothing reads tensor layers.1.mlp.gate_proj.weight"), "{said}");
    let said = refused(&|all| {
        let tensor = all.iter_mut().find(|t| t.name == name).unwrap();
        tensor.shape.reverse();
    });
    assert!(said.contains(&format!("{name} is [48, 112] in the checkpoint, the graph needs [112, 48]")), "{said}");
    let said = refused(&|all| {
        let twice = Tensor { name: format!("module.{name}"), ..all[0].clone() };
        all.push(twice);
    });
    assert!(said.contains(&format!("both become {name}")), "{said}");
    for value in [f32::NAN, f32::INFINITY] {
        let said = refused(&|all| all.iter_mut().find(|t| t.name == name).unwrap().values[7] = value);
        assert!(said.contains(&format!("tensor `{name}`: 1 of 5376 weights are not finite")), "{said}");
    }
}

#[test]
fn views_that_leave_their_storage_are_refused() {
    let scratch = Scratch::new(|_| {});
    let mut checkpoint = golden();
    checkpoint.tensors[0].shape[0] += 1;
    let said = scratch.refused(&checkpoint);
    assert!(said.contains("tensor `tok_emb.weight`"), "{said}");
}
