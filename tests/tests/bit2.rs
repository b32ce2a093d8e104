//! `.bit2` files through the command: what `export` writes, and every rule that a reader holds a file to.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sterna_tests::{failure, file, run, stdout, text};

fn folder(case: &str) -> PathBuf {
    file("goldens/v76").join(case)
}

struct Scratch {
    folder: tempfile::TempDir,
    ids: PathBuf,
}

impl Scratch {
    fn new() -> Scratch {
        let folder = tempfile::tempdir().unwrap();
        let ids = folder.path().join("ids.json");
        std::fs::write(&ids, "[3, 41, 59, 26, 53, 58, 3, 41, 59, 70, 7, 7]").unwrap();
        Scratch { folder, ids }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn export(&self, config: &str, weights: &Path, more: &[&str]) -> PathBuf {
        let path = self.path("exported.bit2");
        let mut arguments =
            vec!["export", config, "--weights", text(weights), "--format", "bit2", "--output", text(&path)];
        arguments.extend(more);
        stdout(&arguments);
        path
    }

    fn logits(&self, config: &str, weights: &Path) -> String {
        stdout(&["logits", config, "--weights", text(weights), "--tokens", text(&self.ids)])
    }
}

/// A file taken apart.
#[derive(Clone)]
struct Parts {
    preamble: [u8; 64],
    header: Value,
    data: Vec<u8>,
}

impl Parts {
    fn of(path: &Path) -> Parts {
        let bytes = std::fs::read(path).unwrap();
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        let header = serde_json::from_slice(&bytes[64..64 + long(16)]).unwrap();
        Parts { preamble: bytes[..64].try_into().unwrap(), header, data: bytes[long(24)..].to_vec() }
    }

    /// The file again, lengths and checksum as they must be for the header at hand.
    fn bytes(&self) -> Vec<u8> {
        self.with_text(&self.header.to_string())
    }

    fn with_text(&self, header: &str) -> Vec<u8> {
        let offset = (64 + header.len()).next_multiple_of(64);
        let mut bytes = self.preamble.to_vec();
        bytes[16..24].copy_from_slice(&(header.len() as u64).to_le_bytes());
        bytes[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
        bytes[32..40].copy_from_slice(&((offset + self.data.len()) as u64).to_le_bytes());
        bytes[40..44].copy_from_slice(&crc32fast::hash(header.as_bytes()).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.resize(offset, 0);
        bytes.extend(&self.data);
        bytes
    }

    fn tensor(&mut self, name: &str) -> &mut Value {
        let all = self.header["tensors"].as_array_mut().unwrap();
        all.iter_mut().find(|t| t["name"] == name).unwrap()
    }
}

#[test]
fn an_export_is_the_reference_file() {
    let scratch = Scratch::new();
    for case in ["v76_tiny", "v75_tiny"] {
        let (folder, config) = (folder(case), folder(case).join("config.json"));
        let exported = scratch.export(text(&config), &folder.join("model.pt"), &[]);
        let (found, expected) = (Parts::of(&exported), Parts::of(&folder.join("model.bit2")));
        assert_eq!(found.header["config"], expected.header["config"], "{case}");
        assert_eq!(found.header["tensors"], expected.header["tensors"], "{case}");
        assert_eq!(found.header["meta"], json!({ "step": 1000, "val_bpc": 5.5 }), "{case}");
        assert!(found.data == expected.data, "{case}: other data");
        assert_eq!(
            scratch.logits(text(&config), &exported),
            scratch.logits(text(&config), &folder.join("model.bit2")),
            "{case}"
        );
    }
}

#[test]
fn a_file_carries_all_that_running_it_takes() {
    let scratch = Scratch::new();
    let folder = folder("v76_tiny");
    let config = folder.join("config.json");
    let exported = scratch.export(text(&config), &folder.join("model.pt"), &[]);
    let again = scratch.path("again.bit2");
    // No config given: the one inside serves.
    let arguments = ["export", "--weights", text(&exported), "--format", "bit2", "--output", text(&again)];
    stdout(&arguments);
    assert!(std::fs::read(&exported).unwrap() == std::fs::read(&again).unwrap(), "a second export differs");
    let package = scratch.path("model.sterna");
    stdout(&["import", text(&exported), "--output", text(&package)]);
    let expected = scratch.logits(text(&config), &exported);
    assert_eq!(stdout(&["logits", text(&package), "--tokens", text(&scratch.ids)]), expected);
    // From the package too, less what it does not keep.
    stdout(&["export", text(&package), "--format", "bit2", "--output", text(&again)]);
    let (found, first) = (Parts::of(&again), Parts::of(&exported));
    assert!(found.data == first.data && found.header["tensors"] == first.header["tensors"]);
}

#[test]
fn single_precision_loses_nothing() {
    let scratch = Scratch::new();
    for case in ["v76_tiny", "v75_tiny"] {
        let (latent, config) = (folder(case).join("model.pt"), folder(case).join("config.json"));
        let exported = scratch.export(text(&config), &latent, &["--alphas", "f32", "--dense", "f32"]);
        assert_eq!(scratch.logits(text(&config), &exported), scratch.logits(text(&config), &latent), "{case}");
    }
}

#[test]
fn bits_are_used_where_the_file_has_them() {
    let folder = folder("v76_tiny");
    let packed = folder.join("model.bit2");
    let length = std::fs::metadata(&packed).unwrap().len();
    let bench = |weights: &Path, more: &[&str]| -> Value {
        let mut arguments = vec!["bench", "--weights", text(weights), "--json", "--steps", "4", "--rounds", "1"];
        arguments.extend(more);
        serde_json::from_str(&stdout(&arguments)).unwrap()
    };
    let mapped = bench(&packed, &[]);
    assert_eq!(mapped["mapped_weight_bytes"], length);
    assert!(mapped["weight_bytes"].as_u64().unwrap() > length);
    assert!(mapped["start_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(bench(&packed, &["--weights-memory", "huge"])["mapped_weight_bytes"], 0);
    assert_eq!(bench(&folder.join("model.pt"), &[])["mapped_weight_bytes"], 0);
    // Copied or not, the same logits; and int8 inputs, whose kernels read another layout.
    let scratch = Scratch::new();
    let mut config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    for quantised in ["none", "int8"] {
        config["act_quant"] = json!(quantised);
        let path = scratch.path("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let arguments = ["logits", text(&path), "--weights", text(&packed), "--tokens", text(&scratch.ids)];
        let expected = stdout(&arguments);
        let with = |more: [&'static str; 2]| stdout(&[&arguments[..], &more].concat());
        assert_eq!(with(["--weights-memory", "huge"]), expected, "{quantised}");
        assert_eq!(with(["--backend", "interp"]), expected, "{quantised}");
    }
}

#[test]
fn the_large_preset_has_the_published_size() {
    let scratch = Scratch::new();
    let path = scratch.path("large.bit2");
    stdout(&["export", "v76_300M", "--random", "--format", "bit2", "--output", text(&path)]);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 44_932_480);
}

#[test]
fn what_the_format_cannot_hold_is_not_exported() {
    let scratch = Scratch::new();
    let (path, folder) = (scratch.path("never.bit2"), folder("v76_tiny"));
    let refused = |config: &Path, weights: &Path, more: &[&str]| {
        let (config, weights) = (text(config), text(weights));
        let mut arguments = vec!["export", config, "--weights", weights, "--format", "bit2", "--output", text(&path)];
        arguments.extend(more);
        let said = failure(&arguments, 1);
        assert!(!path.exists() && std::fs::read_dir(scratch.folder.path()).unwrap().count() <= 3, "{said}");
        said
    };
    let mut config: Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap();
    config["quant_mix"] = json!(0.5);
    let mixed = scratch.path("mixed.json");
    std::fs::write(&mixed, config.to_string()).unwrap();
    let said = refused(&mixed, &folder.join("model.pt"), &[]);
    assert!(said.contains("no weight of the model is a sign weight with this config"), "{said}");
    let ternary = file("goldens/cpu1/run_04");
    let said = refused(&ternary.join("config.json"), &ternary.join("run_04_fp32_latent.pt"), &[]);
    assert!(said.contains("has no form in .bit2") && said.contains("ternary"), "{said}");
    // Too large for half precision, though finite.
    let mut parts =
        Parts::of(&scratch.export(text(&folder.join("config.json")), &folder.join("model.pt"), &["--dense", "f32"]));
    std::fs::remove_file(scratch.path("exported.bit2")).unwrap();
    parts.data[4..8].copy_from_slice(&1e30f32.to_le_bytes());
    let large = scratch.path("large.bit2");
    std::fs::write(&large, parts.bytes()).unwrap();
    let said = refused(&folder.join("config.json"), &large, &[]);
    assert!(said.contains("weight `tok_emb.weight`: element 1 is 1e30, which f16 cannot hold"), "{said}");
    parts.data[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&large, parts.bytes()).unwrap();
    let said = refused(&folder.join("config.json"), &large, &["--dense", "f32"]);
    assert!(said.contains("`tok_emb.weight`: 1 of 9216 weights are not finite"), "{said}");
    let said = refused(&folder.join("config.json"), &large, &["--dense", "f32", "--allow-nan"]);
    assert!(said.contains("`tok_emb.weight`"), "{said}");
    failure(&["export", "v76_tiny", "--format", "bit2", "--output", text(&path)], 2);
    failure(&["export", "v76_tiny", "--random", "--format", "bit3", "--output", text(&path)], 2);
    let nowhere = scratch.path("nowhere").join("x.bit2");
    let said = failure(&["export", "v76_tiny", "--random", "--format", "bit2", "--output", text(&nowhere)], 1);
    assert!(said.contains("nowhere"), "{said}");
}

/// What the command says to a file.
fn said_to(scratch: &Scratch, bytes: &[u8]) -> String {
    let (path, config) = (scratch.path("hostile.bit2"), folder("v76_tiny").join("config.json"));
    std::fs::write(&path, bytes).unwrap();
    failure(&["logits", text(&config), "--weights", text(&path), "--tokens", text(&scratch.ids)], 1)
}

#[test]
fn preambles_that_break_a_rule_are_refused() {
    let scratch = Scratch::new();
    let parts = Parts::of(&folder("v76_tiny").join("model.bit2"));
    let good = parts.bytes();
    let data = good.len() - parts.data.len();
    let length = parts.header.to_string().len();
    let mut changes: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut change = |expected: &'static str, at: usize, bytes: &[u8]| {
        let mut changed = good.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changes.push((expected, changed));
    };
    change("not a checkpoint of a known format", 0, b"BIT3");
    change("byte 8: the version is 2, expected 1", 8, &[2]);
    change("byte 8: the version is 0, expected 1", 8, &[0]);
    change("byte 12: the flags is 1, expected 0", 12, &[1]);
    change("byte 15", 15, &[1]);
    change("the header length", 16, &u64::MAX.to_le_bytes());
    change("the data offset", 24, &((data + 64) as u64).to_le_bytes());
    change("the data offset", 24, &((data + 1) as u64).to_le_bytes());
    change("byte 32: the file size", 32, &((good.len() - 64) as u64).to_le_bytes());
    change("the header's CRC-32", 40, &[good[40] ^ 1]);
    change("the header's CRC-32", 64 + 40, b"#");
    for at in [44, 47, 52, 63] {
        change("a reserved byte is 7, expected 0", at, &[7]);
    }
    change("padding is not zero", 64 + length, &[1]);
    changes.push(("byte 32: the file size", good[..good.len() - 64].to_vec()));
    changes.push(("byte 32: the file size", [&good[..], &[0; 64]].concat()));
    changes.push(("fewer than the preamble", good[..40].to_vec()));
    let mut odd = good.clone();
    odd.push(0);
    odd[32..40].copy_from_slice(&(good.len() as u64 + 1).to_le_bytes());
    changes.push(("the file size modulo 64", odd));
    assert_ne!(length % 64, 0, "the header is followed by padding");
    for (expected, bytes) in changes {
        let said = said_to(&scratch, &bytes);
        // The flags are one field of four bytes.
        let expected = if expected == "byte 15" { "the flags is 16777216, expected 0" } else { expected };
        assert!(said.contains(expected), "{expected}: {said}");
    }
    // The file as it was is fine.
    let path = scratch.path("hostile.bit2");
    std::fs::write(&path, &good).unwrap();
    scratch.logits(text(&folder("v76_tiny").join("config.json")), &path);
}

#[test]
fn tables_that_break_a_rule_are_refused() {
    let scratch = Scratch::new();
    let good = Parts::of(&folder("v76_tiny").join("model.bit2"));
    let first = "tok_emb.weight";
    let sign = "layers.0.attn.q_proj.weight";
    let offset = good.clone().tensor(sign)["offset"].as_u64().unwrap();
    type Change<'a> = &'a dyn Fn(&mut Parts);
    let changes: [(&str, Change); 21] = [
        ("offset 65", &|p| p.tensor(first)["offset"] = json!(65)),
        ("offset 32", &|p| p.tensor(first)["offset"] = json!(32)),
        ("expected", &|p| p.tensor(sign)["offset"] = json!(offset + 64)),
        ("expected", &|p| p.tensor(sign)["offset"] = json!(offset - 64)),
        ("expected", &|p| p.tensor(sign)["offset"] = json!(1u64 << 62)),
        ("expected", &|p| p.tensor(sign)["alpha_offset"] = json!(u64::MAX - 63)),
        ("beyond the end of the file", &|p| {
            p.data.truncate(64);
        }),
        ("row_stride is 24, 96 columns need 16", &|p| p.tensor(sign)["row_stride"] = json!(24)),
        ("row_stride is 12", &|p| p.tensor(sign)["row_stride"] = json!(12)),
        ("nbytes is 1600, not 96 rows of 16 bytes", &|p| p.tensor(sign)["nbytes"] = json!(1600)),
        ("does not fill", &|p| p.tensor(sign)["alpha_nbytes"] = json!(256)),
        ("does not fill", &|p| p.tensor(sign)["alpha_dtype"] = json!("f32")),
        ("does not fill", &|p| p.tensor(first)["dtype"] = json!("f32")),
        ("does not fill", &|p| p.tensor(first)["nbytes"] = json!(18496)),
        ("header", &|p| p.tensor(first)["dtype"] = json!("f64")),
        ("header", &|p| p.tensor(first)["kind"] = json!("bit2")),
        ("header", &|p| p.tensor(first)["more"] = json!(1)),
        ("header", &|p| p.header["version"] = json!(2)),
        ("header", &|p| p.header["format"] = json!("bit3")),
        ("header", &|p| drop(p.header.as_object_mut().unwrap().remove("config"))),
        ("end at byte", &|p| p.data.extend([0; 64])),
    ];
    for (expected, change) in changes {
        let mut parts = good.clone();
        change(&mut parts);
        let said = said_to(&scratch, &parts.bytes());
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let twice = good.header.to_string().replacen("\"meta\":", "\"meta\":{},\"meta\":", 1);
    assert!(said_to(&scratch, &good.with_text(&twice)).contains("header"));
    assert!(said_to(&scratch, &good.with_text("{")).contains("header"));
}

#[test]
fn data_that_break_a_rule_are_refused() {
    let scratch = Scratch::new();
    let good = Parts::of(&folder("v76_tiny").join("model.bit2"));
    let sign = "layers.0.attn.q_proj.weight";
    let place = |key: &str| good.clone().tensor(sign)[key].as_u64().unwrap() as usize;
    let (bits, alphas) = (place("offset"), place("alpha_offset"));
    let norm = good.clone().tensor("final_norm.weight")["offset"].as_u64().unwrap() as usize;
    let half = |value: u16| value.to_le_bytes();
    for (expected, at, bytes) in [
        // The 97th bit of row 5, and the last of row 95.
        ("row 5 has non-zero padding bits", bits + 5 * 16 + 12, &[1u8][..]),
        ("row 95 has non-zero padding bits", bits + 95 * 16 + 15, &[0x80]),
        ("padding is not zero", good.data.len() - 1, &[1]),
        ("scale 3 is NaN", alphas + 6, &half(0x7e00)),
        ("scale 3 is inf", alphas + 6, &half(0x7c00)),
        ("scale 0 is -1", alphas, &half(0xbc00)),
        ("1 of 96 weights are not finite", norm, &half(0x7e00)),
    ] {
        let mut parts = good.clone();
        // The last blob has 192 bytes, which are no padding; it is made shorter by a row of padding behind it.
        if expected == "padding is not zero" {
            let norm = parts.tensor("final_norm.weight");
            norm["shape"] = json!([95]);
            norm["nbytes"] = json!(190);
        }
        parts.data[at..at + bytes.len()].copy_from_slice(bytes);
        let said = said_to(&scratch, &parts.bytes());
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn tensor_sets_of_another_model_are_refused() {
    let scratch = Scratch::new();
    let good = Parts::of(&folder("v76_tiny").join("model.bit2"));
    let renamed = |from: &str, to: &str| {
        let mut parts = good.clone();
        parts.tensor(from)["name"] = json!(to);
        said_to(&scratch, &parts.bytes())
    };
    let said = renamed("final_norm.weight", "last_norm.weight");
    assert!(said.contains("the checkpoint lacks final_norm.weight"), "{said}");
    let said = renamed("layers.1.attn.k_proj.weight", "layers.2.attn.k_proj.weight");
    assert!(said.contains("the checkpoint lacks layers.1.attn.k_proj.weight"), "{said}");
    let said = renamed("final_norm.weight", "tok_emb.weight");
    assert!(said.contains("occurs twice"), "{said}");
    // One more: the last blob once again.
    let mut parts = good.clone();
    let (length, mut last) = (parts.data.len(), parts.tensor("final_norm.weight").clone());
    last["name"] = json!("more.weight");
    last["offset"] = json!(length);
    parts.header["tensors"].as_array_mut().unwrap().push(last);
    parts.data.extend_from_within(length - 192..);
    let said = said_to(&scratch, &parts.bytes());
    assert!(said.contains("nothing reads tensor more.weight"), "{said}");
    // One fewer.
    let mut parts = good.clone();
    parts.header["tensors"].as_array_mut().unwrap().pop();
    parts.data.truncate(length - 192);
    let said = said_to(&scratch, &parts.bytes());
    assert!(said.contains("the checkpoint lacks final_norm.weight"), "{said}");
    // Another shape of as many bytes.
    let mut parts = good.clone();
    parts.tensor("tok_emb.weight")["shape"] = json!([48, 192]);
    let said = said_to(&scratch, &parts.bytes());
    assert!(said.contains("tok_emb.weight is [48, 192]") && said.contains("[96, 96]"), "{said}");
    // Bits where floats belong: the bytes serve either way.
    let mut parts = good.clone();
    *parts.tensor("tok_emb.weight") = json!({
        "name": "tok_emb.weight", "kind": "bit1", "shape": [96, 96], "row_stride": 16, "offset": 0, "nbytes": 1536,
        "alpha_dtype": "f16", "alpha_offset": 1536, "alpha_nbytes": 192,
    });
    let rest = parts.data.split_off(18432);
    parts.data.truncate(1728);
    parts.data.extend(rest);
    let moved = 18432 - 1728;
    for tensor in parts.header["tensors"].as_array_mut().unwrap().iter_mut().skip(1) {
        for key in ["offset", "alpha_offset"] {
            if let Some(offset) = tensor[key].as_u64() {
                tensor[key] = json!(offset - moved);
            }
        }
    }
    let said = said_to(&scratch, &parts.bytes());
    assert!(said.contains("tensor `tok_emb.weight`"), "{said}");
    // The config inside says something else about a thing that matters.
    let mut parts = good.clone();
    parts.header["config"]["norm_eps"] = json!(1e-6);
    let said = said_to(&scratch, &parts.bytes());
    assert!(said.contains("`norm_eps` is 0.00001, in the checkpoint 1e-6"), "{said}");
    // Packed weights cannot be mixed with latent ones.
    let (path, mixed) = (scratch.path("good.bit2"), scratch.path("mixed.json"));
    std::fs::write(&path, good.bytes()).unwrap();
    let mut config = good.header["config"].clone();
    config["quant_mix"] = json!(0.5);
    std::fs::write(&mixed, config.to_string()).unwrap();
    let said = failure(&["logits", text(&mixed), "--weights", text(&path), "--tokens", text(&scratch.ids)], 1);
    assert!(said.contains("sign rows") && said.contains("latent"), "{said}");
}

#[test]
fn every_truncation_is_an_error() {
    let scratch = Scratch::new();
    let good = std::fs::read(folder("v75_tiny").join("model.bit2")).unwrap();
    let path = scratch.path("short.bit2");
    for length in [0, 7, 8, 63, 64, 200, 4543, 4544, good.len() - 64, good.len() - 1] {
        std::fs::write(&path, &good[..length]).unwrap();
        let output = run(&["check", "v75_tiny", "--weights", text(&path)]);
        assert_eq!(output.status.code(), Some(1), "{length} bytes");
    }
}
