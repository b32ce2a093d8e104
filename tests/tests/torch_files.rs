//! What `torch.save` may write, and what it never would, through the command: the forms that are read give the logits
//! of the plain file, and everything else is an error that says what is wrong.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sterna_compiler::weights::{self, TensorEntry};
use sterna_tests::torch_writer::{Checkpoint, Layout, Storage, Tensor};
use sterna_tests::{failure, file, stdout, text};

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
        expanded: false,
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
    let forms: [(&str, Form); 17] = [
        ("protocol 3", &|c| c.protocol = 3),
        ("protocol 4", &|c| c.protocol = 4),
        ("protocol 5", &|c| c.protocol = 5),
        ("the format before the archives", &|c| c.legacy = true),
        ("that format, bare", &|c| (c.legacy, c.layout) = (true, Layout::Bare)),
        ("that format, protocol 3", &|c| (c.legacy, c.protocol) = (true, 3)),
        ("that format, protocol 4", &|c| (c.legacy, c.protocol) = (true, 4)),
        ("that format, protocol 5", &|c| (c.legacy, c.protocol) = (true, 5)),
        ("folders within folders", &|c| c.root = Some("work/runs/some root/")),
        ("no folder", &|c| c.root = Some("")),
        ("wrappers within names", &|c| {
            for (place, tensor) in c.tensors.iter_mut().enumerate() {
                let wrapper = ["_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "module"][place % 4];
                let (part, rest) = tensor.name.split_once('.').unwrap();
                tensor.name = format!("module.{part}.{wrapper}.{rest}");
            }
        }),
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
    // That it differs is said.
    let said = String::from_utf8_lossy(&sterna_tests::run(&["check", text(&tied.config), "-w", text(&with)]).stderr)
        .into_owned();
    assert!(said.contains("lm_head.weight is left aside for tok_emb.weight") && said.contains("differs"), "{said}");
    let mut same = golden();
    let embedding = same.tensors.iter().find(|t| t.name == "tok_emb.weight").unwrap().values.clone();
    same.tensors.iter_mut().filter(|t| t.name == "lm_head.weight").for_each(|t| t.values.clone_from(&embedding));
    let same = tied.written(&same);
    let said = String::from_utf8_lossy(&sterna_tests::run(&["check", text(&tied.config), "-w", text(&same)]).stderr)
        .into_owned();
    assert!(!said.contains("differs"), "{said}");
    // What nobody reads may hold anything.
    let mut broken = golden();
    broken.tensors.iter_mut().filter(|t| t.name == "lm_head.weight").for_each(|t| t.values[0] = f32::NAN);
    assert_eq!(tied.logits(&tied.written(&broken)), expected);
}

#[test]
fn nothing_is_executed() {
    let scratch = Scratch::new(|_| {});
    let expected = scratch.logits(&folder().join("model.pt"));
    for (module, name) in [("os", "system"), ("builtins", "eval"), ("torch.storage", "_load_from_bytes")] {
        // Nothing needs what the call would give.
        let checkpoint = Checkpoint { call: Some((module, name)), ..golden() };
        assert_eq!(scratch.logits(&scratch.written(&checkpoint)), expected);
    }
    // A model saved as the object it is would need its own code.
    let whole = b"cnet\nModel\n)\x81}X\x01\0\0\0aK\x01sb".to_vec();
    let said = scratch.refused(&Checkpoint {
        key: Some("none"),
        opcodes: vec![("model", whole)],
        tensors: Vec::new(),
        ..golden()
    });
    assert!(said.contains("`net.Model`") && said.contains("state_dict()"), "{said}");
}

/// What may stand beside weights, as the opcodes that make it.
fn beside() -> Vec<(&'static str, Vec<u8>)> {
    let scalar = b"cnumpy._core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\0\0\0f8\x89\x88\x87R(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\
        c_codecs\nencode\nX\x02\0\0\0abX\x06\0\0\0latin1\x86R\x86R";
    let all: [(&str, &[u8]); 22] = [
        ("set", b"c__builtin__\nset\n](K\x01K\x02e\x85R"),
        ("set of protocol 4", b"\x8f(K\x01K\x02\x90"),
        ("frozenset", b"(K\x01K\x02\x91"),
        ("dtype", b"ctorch\nbfloat16\n"),
        ("defaultdict", b"ccollections\ndefaultdict\nc__builtin__\nlist\n\x85R(K\x01Nu"),
        ("size", b"ctorch\nSize\nK\x02K\x03\x86\x85R"),
        ("numpy scalar", scalar),
        ("bytes", b"C\x02\xff\xfe"),
        ("long bytes", b"B\x02\0\0\0\xff\xfe"),
        ("bytes of 64 bits", b"\x8e\x02\0\0\0\0\0\0\0\xff\xfe"),
        ("bytearray", b"\x96\x02\0\0\0\0\0\0\0\xff\xfe"),
        ("large integer", b"\x8a\x0a0123456789"),
        ("long large integer", b"\x8b\x0a\0\0\x000123456789"),
        ("namespace", b"cargparse\nNamespace\n)\x81}X\x02\0\0\0lrG?\xf0\0\0\0\0\0\0sb"),
        ("by name", b"cpathlib\nPath\nX\x01\0\0\0a\x85}\x92"),
        ("device", b"ctorch\ndevice\nX\x03\0\0\0cpu\x85R"),
        ("deque", b"ccollections\ndeque\n)R(K\x01K\x02e"),
        ("string of surrogates", b"X\x03\0\0\0\xed\xa0\x80"),
        ("string of Python 2", b"U\x02ab"),
        ("infinity", b"G\x7f\xf0\0\0\0\0\0\0"),
        ("doubled and dropped", b"K\x0120(K\x021(0"),
        ("a tensor that torch would not write", b"ctorch._utils\n_rebuild_tensor_v2\nN\x85R"),
    ];
    all.into_iter().map(|(name, opcodes)| (name, opcodes.to_vec())).collect()
}

#[test]
fn values_that_nothing_needs_are_skipped() {
    let scratch = Scratch::new(|_| {});
    let expected = scratch.logits(&folder().join("model.pt"));
    for (name, opcodes) in beside() {
        let value = vec![(name, opcodes)];
        let among = Checkpoint { opcodes_among: value.clone(), ..golden() };
        for checkpoint in [Checkpoint { opcodes: value, ..golden() }, among] {
            assert_eq!(scratch.logits(&scratch.written(&checkpoint)), expected, "{name}");
        }
    }
    let written = scratch.written(&Checkpoint { opcodes: beside(), ..golden() });
    let report = stdout(&["check", text(&scratch.config), "--weights", text(&written)]);
    assert!(report.contains("under `model`") && report.contains("not read: set, "), "{report}");
    // In the place of a weight it is an error that names it.
    let mut checkpoint = golden();
    checkpoint.tensors.retain(|t| t.name != "final_norm.weight");
    checkpoint.opcodes_among = vec![("final_norm.weight", b"ctorch\nbfloat16\n".to_vec())];
    let said = scratch.refused(&checkpoint);
    assert!(said.contains("final_norm.weight is a dtype in the checkpoint"), "{said}");
    let out_of_band = Checkpoint { opcodes: vec![("buffer", b"\x97".to_vec())], protocol: 5, ..golden() };
    assert!(scratch.refused(&out_of_band).contains("out-of-band"));
}

#[test]
fn tensors_that_no_weight_can_be_are_skipped() {
    let scratch = Scratch::new(|_| {});
    let expected = scratch.logits(&folder().join("model.pt"));
    let tensor = |class: &str, elements: u8, shape: &[u8], strides: &[u8]| {
        let mut opcodes = format!("ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\n{class}\n").into_bytes();
        opcodes.extend(b"U\x010U\x03cpu");
        opcodes.extend([b'K', elements, b't', b'Q', b'K', 0]);
        for axes in [shape, strides] {
            opcodes.push(b'(');
            axes.iter().for_each(|&n| opcodes.extend([b'K', n]));
            opcodes.push(b't');
        }
        opcodes.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        opcodes
    };
    // They refer to the first storage, of which they say something else or nothing.
    let refused =
        |opcodes: &[u8]| scratch.refused(&Checkpoint { opcodes_among: vec![("more", opcodes.to_vec())], ..golden() });
    for opcodes in [
        tensor("ComplexFloatStorage", 9, &[3], &[1]),
        tensor("QInt8Storage", 9, &[3, 3], &[3, 1]),
        tensor("UntypedStorage", 9, &[], &[]),
    ] {
        let checkpoint = Checkpoint { opcodes_among: vec![("more", opcodes)], ..golden() };
        assert_eq!(scratch.logits(&scratch.written(&checkpoint)), expected);
    }
    assert!(refused(&tensor("FloatStorage", 9, &[3], &[1])).contains("tensor `more`: its storage"));
    let add = |tensor: Tensor| {
        let mut checkpoint = golden();
        checkpoint.tensors.push(tensor);
        checkpoint
    };
    let more = Tensor { name: "more".into(), ..golden().tensors[0].clone() };
    for (name, shape, values) in
        [("empty", vec![0], vec![]), ("empty rows", vec![3, 0], vec![]), ("number", vec![], vec![2.5])]
    {
        let checkpoint = add(Tensor { shape, values, ..more.clone() });
        assert_eq!(scratch.logits(&scratch.written(&checkpoint)), expected, "{name}");
        let legacy = Checkpoint { legacy: true, ..checkpoint };
        assert_eq!(scratch.logits(&scratch.written(&legacy)), expected, "{name}");
    }
    // A number that nothing reads is said, since somebody may have trained it.
    let path = scratch.written(&add(Tensor { shape: vec![], values: vec![2.5], ..more.clone() }));
    let output = sterna_tests::run(&["check", text(&scratch.config), "--weights", text(&path)]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing reads more, a single number"));
    // A tensor of floats that differ is still an error.
    let said = scratch.refused(&add(Tensor { shape: vec![2], values: vec![1.0, 2.0], ..more }));
    assert!(said.contains("nothing reads tensor more"), "{said}");
}

#[test]
fn expanded_tensors_repeat_their_values() {
    let scratch = Scratch::new(|_| {});
    let mut written = golden();
    let norm = written.tensors.iter_mut().find(|t| t.name == "final_norm.weight").unwrap();
    norm.values.fill(0.75);
    let expected = scratch.logits(&scratch.written(&written));
    let norm = written.tensors.iter_mut().find(|t| t.name == "final_norm.weight").unwrap();
    norm.expanded = true;
    assert_eq!(scratch.logits(&scratch.written(&written)), expected);
    // One that is left over is no trained weight.
    let mut more = golden();
    more.tensors.push(Tensor { name: "mask".into(), ..written.tensors.iter().find(|t| t.expanded).unwrap().clone() });
    assert_eq!(scratch.logits(&scratch.written(&more)), scratch.logits(&folder().join("model.pt")));
}

#[test]
fn state_dictionaries_stand_under_the_usual_keys() {
    let scratch = Scratch::new(|_| {});
    let expected = scratch.logits(&folder().join("model.pt"));
    for key in
        ["model_state_dict", "state_dict", "module", "net", "weights", "params", "ema", "state.model", "model.module"]
    {
        let checkpoint = Checkpoint { key: Some(key), beside: vec![("epoch".into(), json!(3))], ..golden() };
        let path = scratch.written(&checkpoint);
        assert_eq!(scratch.logits(&path), expected, "{key}");
        let report = stdout(&["check", text(&scratch.config), "--weights", text(&path), "--json"]);
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(report["tensors"]["key"], key);
    }
    let said = scratch.refused(&Checkpoint { key: Some("backbone"), ..golden() });
    assert!(
        said.contains("`backbone` (a dictionary)") && said.contains("`model`, `state_dict`, `model_state_dict`"),
        "{said}"
    );
    // Of several, what was trained comes before its average, and that is said.
    let average = {
        let mut pickle = b"}X\x11\0\0\0tok_emb.weight.ab".to_vec();
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x08tQK\0K\x08\x85K\x01\x85\x89}tRs");
        pickle
    };
    let both = scratch.written(&Checkpoint { opcodes: vec![("ema", average)], ..golden() });
    assert_eq!(scratch.logits(&both), expected);
    let output = sterna_tests::run(&["check", text(&scratch.config), "--weights", text(&both)]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the weights are those under `model`; there are others under `ema`"), "{said}");
}

#[test]
fn damaged_files_of_the_old_format_are_refused() {
    let scratch = Scratch::new(|_| {});
    let good = Checkpoint { legacy: true, ..golden() }.bytes();
    let refused = |bytes: &[u8]| {
        let path = scratch.folder.path().join("old.pt");
        std::fs::write(&path, bytes).unwrap();
        failure(&["logits", text(&scratch.config), "--weights", text(&path), "--tokens", text(&scratch.ids)], 1)
    };
    let said = refused(&good[..good.len() - 1]);
    assert!(said.contains("reaches beyond the file") && said.contains("save it anew"), "{said}");
    let mut long = good.clone();
    long.push(0);
    assert!(refused(&long).contains("follows the last storage"));
    let mut version = good.clone();
    version[18] ^= 1;
    assert!(refused(&version).contains("version"));
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

#[test]
fn scores_that_are_not_finite_end_a_probe() {
    let scratch = Scratch::new(|_| {});
    let mut broken = golden();
    broken.tensors.iter_mut().filter(|t| t.name == "tok_emb.weight").for_each(|t| t.values.fill(f32::NAN));
    let path = scratch.written(&broken);
    let arguments =
        ["probe", text(&scratch.config), "--weights", text(&path), "--allow-nan", "--repeat", "4", "-o", "-"];
    let said = failure(&arguments, 1);
    assert!(said.contains("top4` are not finite: in step 3, counted from 0, one of head 0 is"), "{said}");
}
