//! Checkpoints from outside, through the command: names that differ, tables of sizes, and what is said to files that
//! are damaged or of another model. The files are copies of real ones with one thing changed.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sterna_compiler::weights::Checkpoint;
use sterna_tests::{failure, file, run, stdout, text};

/// A tensor that may be changed before it is written again.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

fn folder(run: &str) -> PathBuf {
    file("goldens/cpu1").join(run)
}

/// All tensors of a run's checkpoint of floats.
fn tensors() -> Vec<Tensor> {
    let checkpoint = Checkpoint::open(&folder("run_04").join("run_04_fp32_latent.pt")).unwrap();
    let read = |t: &sterna_compiler::weights::TensorEntry| Tensor {
        name: t.name.clone(),
        shape: t.shape.clone(),
        values: checkpoint.read_f32(t).unwrap(),
    };
    checkpoint.tensors().iter().map(read).collect()
}

fn write(path: &Path, tensors: &[Tensor]) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for tensor in tensors {
        let begin = data.len();
        data.extend(tensor.values.iter().flat_map(|v| v.to_le_bytes()));
        let entry = json!({ "dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, data.len()] });
        header.insert(tensor.name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header);
    file.extend(data);
    std::fs::write(path, file).unwrap();
}

/// Writes the checkpoint after a change and gives its path.
fn changed(scratch: &tempfile::TempDir, change: impl FnOnce(&mut Vec<Tensor>)) -> PathBuf {
    let mut all = tensors();
    change(&mut all);
    let path = scratch.path().join("changed.safetensors");
    write(&path, &all);
    path
}

fn config() -> PathBuf {
    folder("run_04").join("config.json")
}

fn logits(config: &Path, weights: &Path, ids: &Path, more: &[&str]) -> String {
    let mut arguments = vec!["logits", text(config), "--weights", text(weights), "--tokens", text(ids)];
    arguments.extend(more);
    stdout(&arguments)
}

#[test]
fn a_proposed_map_makes_other_names_fit() {
    let scratch = tempfile::tempdir().unwrap();
    let ids = scratch.path().join("ids.json");
    std::fs::write(&ids, "[79, 110, 99, 101, 32]").unwrap();
    let same = changed(&scratch, |_| {});
    let expected = logits(&config(), &same, &ids, &[]);
    // Other blocks' names throughout, and one kind of tensor that only its shape tells.
    let other = changed(&scratch, |all| {
        for tensor in all {
            tensor.name = format!("net.{}", tensor.name.replace("layers.", "blk."));
            tensor.name = tensor.name.replace("ffn.down_norm.weight", "ffn.middle.scale");
        }
    });
    let (config, other) = (config(), text(&other).to_owned());
    let output = run(&["check", text(&config), "--weights", &other, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the checkpoint lacks") && !said.contains("panicked"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        report["rename"][r"net\.blk\.(\d+)\.ffn\.middle\.scale"], "layers.${1}.ffn.down_norm.weight",
        "{report}"
    );
    assert!(failure(&["check", text(&config), "--weights", &other], 1).contains("--rename"));
    let map = scratch.path().join("map.json");
    std::fs::write(&map, report["rename"].to_string()).unwrap();
    assert_eq!(logits(&config, Path::new(&other), &ids, &["--rename", text(&map)]), expected);
    // One rule with a group does the same for the prefix; what it does not reach is said.
    std::fs::write(&map, r#"{"net\\.(.*)blk\\.(.*)": "${1}layers.$2", "net\\.(.*)": "$1"}"#).unwrap();
    let said = failure(&["check", text(&config), "--weights", &other, "--rename", text(&map)], 1);
    assert!(said.contains("layers.0.ffn.down_norm.weight") && !said.contains("lacks layers.0.ffn.w_gate"), "{said}");
    std::fs::write(&map, r#"{"(": "x"}"#).unwrap();
    assert!(failure(&["check", text(&config), "--weights", &other, "--rename", text(&map)], 1).contains("map.json"));
    std::fs::write(&map, r#"{"a": "b", "a": "c"}"#).unwrap();
    let said = failure(&["check", text(&config), "--weights", &other, "--rename", text(&map)], 1);
    assert!(said.contains("map.json") && said.contains("`a` occurs twice"), "{said}");
    failure(&["check", text(&config), "--rename", text(&map)], 2);
}

#[test]
fn equal_shapes_propose_no_map() {
    let scratch = tempfile::tempdir().unwrap();
    let other = changed(&scratch, |all| {
        for tensor in all {
            tensor.name = tensor.name.replace("w_f.weight", "first").replace("w_c.weight", "second");
        }
    });
    let config = config();
    let output = run(&["check", text(&config), "--weights", text(&other), "--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["rename"], json!({}));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("--rename"));
}

#[test]
fn sizes_are_those_of_the_published_table() {
    let report: Value = serde_json::from_str(&stdout(&["check", "--all", "cpu1", "--json"])).unwrap();
    let table = stdout(&["check", "--all", "cpu1"]);
    let rows = report["sizes"].as_array().unwrap();
    let mut larger = Vec::new();
    // The MiB of the members, and of the files that were published, which have a directory too.
    for (preset, parameters, megabytes, mib, published) in [
        ("run_01", 54_735_360, "218.941", "104.43", 104.4),
        ("run_02a", 38_500_864, "154.003", "73.46", 73.5),
        ("run_02", 38_829_696, "155.319", "74.09", 74.1),
        ("run_03", 38_829_696, "155.319", "74.09", 74.1),
        ("run_04", 38_852_352, "155.409", "9.38", 9.4),
        ("run_05", 38_999_808, "155.999", "9.67", 9.7),
        ("run_05b", 35_847_936, "143.392", "8.90", 8.9),
        ("run_06", 39_004_352, "156.017", "9.67", 9.7),
        ("run_07", 39_037_249, "156.149", "9.74", 9.8),
        ("run_08", 38_852_352, "155.409", "9.38", 9.4),
        ("run_09", 39_430_465, "157.722", "9.84", 9.9),
        ("run_10", 39_436_609, "157.746", "9.86", 9.9),
        ("run_13", 12_538_425, "50.154", "3.18", 3.2),
        ("run_14", 10_688_633, "42.755", "2.75", 2.8),
        ("run_15", 10_729_593, "42.918", "2.83", 2.9),
        ("run_16", 10_688_633, "42.755", "2.75", 2.8),
    ] {
        let named = |row: &&Value| row["presets"].as_array().unwrap().contains(&json!(preset));
        let row = rows.iter().find(named).unwrap_or_else(|| panic!("{preset}"));
        assert_eq!(row["parameters"], parameters, "{preset}");
        let line = table.lines().find(|line| line.split([' ', ',']).any(|word| word == preset)).unwrap();
        assert!(line.contains(&format!(" {megabytes} MB")), "{preset}: {line}");
        assert!(line.contains(&format!(" {mib} MiB")), "{preset}: {line}");
        let found = row["compact_file_bytes"].as_f64().unwrap() / 1048576.0;
        if (found - published).abs() > 0.05 {
            larger.push((preset, published - 0.05 - found));
        }
    }
    // One decimal was published. Of one file some 7 KB are not accounted for.
    assert!(larger.len() == 1 && larger[0].1 > 0.0 && larger[0].1 < 0.01, "{larger:?}");
    assert!(failure(&["check", "--all", "cpu2"], 1).contains("cpu1"));
}

#[test]
fn weights_that_are_not_finite_are_counted() {
    let scratch = tempfile::tempdir().unwrap();
    let bad = changed(&scratch, |all| {
        let tensor = all.iter_mut().find(|t| t.name == "layers.1.ffn_norm.weight").unwrap();
        tensor.values[3] = f32::NAN;
        tensor.values[5] = f32::INFINITY;
    });
    let (config, ids) = (config(), scratch.path().join("ids.json"));
    std::fs::write(&ids, "[79]").unwrap();
    let arguments = ["logits", text(&config), "--weights", text(&bad), "--tokens", text(&ids)];
    let said = failure(&arguments, 1);
    assert!(said.contains("layers.1.ffn_norm.weight") && said.contains("2 of 64"), "{said}");
    let mut allowed = arguments.to_vec();
    allowed.push("--allow-nan");
    assert!(stdout(&allowed).contains("null"));
    // A sweep goes on, and its record says why there is no result.
    let (sample, out) = (scratch.path().join("sample.txt"), scratch.path().join("out"));
    std::fs::write(&sample, "A short text.").unwrap();
    let sweep = ["sweep", text(&bad), "--config", text(&config), "--text", text(&sample), "-o", text(&out)];
    let record = || -> Value {
        let lines = std::fs::read_to_string(out.join("results.jsonl")).unwrap();
        serde_json::from_str(lines.lines().last().unwrap()).unwrap()
    };
    assert!(failure(&sweep, 1).contains("1 failed"));
    assert!(record()["error"].as_str().unwrap().contains("layers.1.ffn_norm.weight"), "{}", record());
    assert!(failure(&[&sweep[..], &["--allow-nan"]].concat(), 1).contains("1 failed"));
    assert!(record()["error"].as_str().unwrap().contains("not finite: in step 0,"), "{}", record());
    let eval = ["eval", text(&config), "--weights", text(&bad), "--text", text(&sample), "--allow-nan", "--json"];
    let said = failure(&eval, 1);
    assert!(said.contains("not finite: in step 0,") && said.contains("the weight layers.1.ffn_norm.weight"), "{said}");
}

#[test]
fn wrong_missing_and_unknown_tensors_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let config = config();
    let said = |path: &Path| failure(&["check", text(&config), "--weights", text(path)], 1);
    let text = said(&changed(&scratch, |all| {
        let tensor = all.iter_mut().find(|t| t.name == "norm.weight").unwrap();
        tensor.shape = vec![32];
        tensor.values.truncate(32);
    }));
    assert!(text.contains("norm.weight is [32]") && text.contains("[64]"), "{text}");
    let text = said(&changed(&scratch, |all| all.retain(|t| t.name != "norm.weight")));
    assert!(text.contains("the checkpoint lacks norm.weight"), "{text}");
    let text = said(&changed(&scratch, |all| {
        all.push(Tensor { name: "extra.weight".into(), shape: vec![2], values: vec![0.0; 2] });
    }));
    assert!(text.contains("nothing reads tensor extra.weight"), "{text}");
}

#[test]
fn a_tensor_for_training_only_may_be_there() {
    let scratch = tempfile::tempdir().unwrap();
    let mut with: Value = serde_json::from_slice(&std::fs::read(config()).unwrap()).unwrap();
    with["aligner_dim"] = json!(8);
    let config = scratch.path().join("with.json");
    std::fs::write(&config, with.to_string()).unwrap();
    let aligner = |shape: &[usize]| {
        let values = vec![0.5; shape.iter().product()];
        let shape = shape.to_vec();
        changed(&scratch, |all| all.push(Tensor { name: "aligner.proj.weight".into(), shape, values }))
    };
    let check = |path: &Path| -> Value {
        serde_json::from_str(&stdout(&["check", text(&config), "--weights", text(path), "--json"])).unwrap()
    };
    let there = check(&aligner(&[8, 64]));
    let why = there["tensors"]["ignored"]["aligner.proj.weight"].as_str().unwrap();
    assert!(why.contains("training"), "{there}");
    let absent = check(&changed(&scratch, |_| {}));
    assert_eq!(there["parameters"], absent["parameters"]);
    let without = stdout(&["check", text(&folder("run_04").join("config.json")), "--json"]);
    let without: Value = serde_json::from_str(&without).unwrap();
    assert_eq!(there["parameters"].as_u64().unwrap() - without["parameters"].as_u64().unwrap(), 8 * 64);
    let said = failure(&["check", text(&config), "--weights", text(&aligner(&[8, 32]))], 1);
    assert!(said.contains("aligner.proj.weight is [8, 32]") && said.contains("[8, 64]"), "{said}");
}

#[test]
fn an_own_config_that_disagrees_is_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let weights = folder("run_04").join("checkpoint_run_04_final.pt");
    let mut other: Value = serde_json::from_slice(&std::fs::read(config()).unwrap()).unwrap();
    other["norm_eps"] = json!(1e-5);
    let given = scratch.path().join("given.json");
    std::fs::write(&given, other.to_string()).unwrap();
    // The default of a key that the config leaves out is read too.
    let mut silent = other.clone();
    silent.as_object_mut().unwrap().remove("norm_eps");
    silent["rope_base"] = json!(500.0);
    let left_out = scratch.path().join("left_out.json");
    std::fs::write(&left_out, silent.to_string()).unwrap();
    // The good config is given, and a bad one lies beside the checkpoint.
    let copy = scratch.path().join("checkpoint_run_04_final.pt");
    std::fs::copy(&weights, &copy).unwrap();
    std::fs::write(scratch.path().join("config.json"), other.to_string()).unwrap();
    let (ids, sample) = (scratch.path().join("ids.json"), scratch.path().join("sample.txt"));
    std::fs::write(&ids, "[1, 2]").unwrap();
    std::fs::write(&sample, "text").unwrap();
    let (good, package, out) = (config(), scratch.path().join("p.sterna"), scratch.path().join("out"));
    for (config, weights, key) in
        [(&given, &weights, "norm_eps"), (&left_out, &weights, "rope_base"), (&good, &copy, "norm_eps")]
    {
        let model = [text(config), "--weights", text(weights)];
        let (ids, sample, package) = (text(&ids), text(&sample), text(&package));
        for (command, more) in [
            ("run", &["-n", "1"][..]),
            ("compile", &["-o", package]),
            ("check", &[]),
            ("verify", &[]),
            ("logits", &["--tokens", ids]),
            ("eval", &["--text", sample]),
            ("bench", &["--steps", "1", "--rounds", "1"]),
        ] {
            let said = failure(&[&[command], &model[..], more].concat(), 1);
            assert!(said.contains("another config") && said.contains(key), "{command}: {said}");
        }
        let sweep = ["sweep", text(weights), "--config", text(config), "--text", sample, "-o", text(&out)];
        assert!(failure(&sweep, 1).contains(key));
        assert!(failure(&["import", text(weights), "--config", text(config), "-o", package], 1).contains(key));
    }
    // Without a config given, its own counts, and that beside it must say the same.
    assert!(failure(&["import", text(&copy), "--output", text(&package)], 1).contains("norm_eps"));
    let sweep = ["sweep", text(&copy), "--text", text(&sample), "-o", text(&out)];
    assert!(failure(&sweep, 1).contains("norm_eps"));
    // A key that the graph leaves open is the choice of whoever runs it.
    other["norm_eps"] = json!(1e-6);
    other["act_quant"] = json!(false);
    std::fs::write(&given, other.to_string()).unwrap();
    std::fs::write(scratch.path().join("config.json"), other.to_string()).unwrap();
    stdout(&["logits", text(&given), "--weights", text(&copy), "--tokens", text(&ids)]);
}

#[test]
fn the_code_that_means_nothing_is_found() {
    let scratch = tempfile::tempdir().unwrap();
    let good = std::fs::File::open(folder("run_04").join("checkpoint_run_04_final.pt")).unwrap();
    let mut archive = zip::ZipArchive::new(good).unwrap();
    let bad = scratch.path().join("bad.pt");
    let mut out = zip::ZipWriter::new(std::fs::File::create(&bad).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut members: Vec<(String, Vec<u8>)> = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).unwrap();
        members.push((member.name().unwrap().into_owned(), bytes));
    }
    // The largest storage holds packed codes.
    let largest = members.iter_mut().filter(|(name, _)| name.contains("/data/")).max_by_key(|(_, b)| b.len()).unwrap();
    largest.1[0] = 0b0000_1100;
    for (name, bytes) in &members {
        out.start_file(name.as_str(), stored).unwrap();
        out.write_all(bytes).unwrap();
    }
    out.finish().unwrap();
    let config = config();
    let ids = scratch.path().join("ids.json");
    std::fs::write(&ids, "[79]").unwrap();
    let out = scratch.path().join("p.sterna");
    let model = [text(&config), "--weights", text(&bad)];
    // It is no number either, which may be looked at; it means nothing.
    for more in [
        &["verify"][..],
        &["run", "-n", "1"],
        &["compile", "-o", text(&out)],
        &["logits", "--backend", "interp", "--tokens", text(&ids)],
        &["logits", "--allow-nan", "--tokens", text(&ids)],
    ] {
        let said = failure(&[&more[..1], &model[..], &more[1..]].concat(), 1);
        assert!(said.contains("invalid ternary code 11 at row 0, column 1"), "{more:?}: {said}");
    }
}

#[test]
fn other_files_are_named_as_what_they_are() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("weights");
    let stored = |members: &[&str]| {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for name in members {
            let options = zip::write::SimpleFileOptions::default();
            let options = options.compression_method(zip::CompressionMethod::Stored);
            archive.start_file(*name, options).unwrap();
            std::io::Write::write_all(&mut archive, b"some bytes, some bytes").unwrap();
        }
        archive.finish().unwrap().into_inner()
    };
    let tar = [&[b'a'; 257][..], b"ustar\x0000", &[0; 512]].concat();
    let package = std::fs::read(sterna_tests::root().join("examples/tiny/tiny.sterna")).unwrap();
    let graph = std::fs::read(sterna_tests::root().join("graphs/cpu1.graph")).unwrap();
    for (bytes, what, instead) in [
        (&b""[..], "it is empty", "fetch"),
        (b"GGUF\x03\0\0\0\x01", "a GGUF file", "safetensors"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "git-lfs", "git lfs pull"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip", "unpack"),
        (&tar, "a tar archive", "unpack"),
        (b"\n <!DOCTYPE html>\n<html>", "a web page", "fetch"),
        (&package, "a .sterna package", "in place of the config"),
        (&graph, "a graph", "--graphs"),
        (b"{\"d_model\": 64}", "JSON", "CONFIG.json --weights"),
        (b"\xef\xbb\xbf{\"weight_map\": {}}", "the index of a checkpoint", ".index.json"),
        (&stored(&["notes.txt"]), "a ZIP archive that torch.save did not write", "torch.save"),
        (&stored(&["model.pt"]), "a ZIP archive that torch.save did not write", "unpack"),
        (&stored(&["arr_0.npy"]), "NumPy arrays", "safetensors"),
        (&stored(&["metadata.json", "model.weights.h5"]), "a Keras model", "safetensors"),
        (b"\x93NUMPY\x01\0", "a NumPy array", "safetensors"),
        (b"\x89HDF\r\n\x1a\n\0", "an HDF5 file", "safetensors"),
        (b"\x08\x07\x12\x07pytorch", "an ONNX model", "safetensors"),
        (b"\x80\x04}.", "a pickle that torch.save did not write", "torch.save"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let said = failure(&["check", text(&config()), "--weights", text(&path)], 1);
        let named = said.contains(what) && said.contains(instead) && said.contains(text(&path));
        assert!(named && !said.contains("0x") && !said.contains(", 0"), "{what}: {said}");
    }
    // What has no name of ours is shown.
    std::fs::write(&path, b"BIT3PACK").unwrap();
    assert!(failure(&["check", text(&config()), "-w", text(&path)], 1).contains("[42, 49, 54, 33"));
}

#[test]
fn one_of_several_files_asks_for_its_index() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = changed(&scratch, |_| {});
    let shard = scratch.path().join("model-00001-of-00003.safetensors");
    std::fs::copy(&whole, &shard).unwrap();
    let check = |path: &Path| failure(&["check", text(&config()), "--weights", text(path)], 1);
    let said = check(&shard);
    assert!(said.contains("one of 3 files") && said.contains("does not lie beside it"), "{said}");
    std::fs::write(scratch.path().join("model.safetensors.index.json"), "{}").unwrap();
    let said = check(&shard);
    assert!(said.contains("give its index, `model.safetensors.index.json`"), "{said}");
    // The only one of one is whole.
    let only = scratch.path().join("model-00001-of-00001.safetensors");
    std::fs::copy(&whole, &only).unwrap();
    stdout(&["check", text(&config()), "--weights", text(&only)]);
}

#[test]
fn data_may_begin_anywhere() {
    let scratch = tempfile::tempdir().unwrap();
    let ids = scratch.path().join("ids.json");
    std::fs::write(&ids, "[79, 110, 99, 101, 32]").unwrap();
    let plain = changed(&scratch, |_| {});
    let expected = logits(&config(), &plain, &ids, &[]);
    let bytes = std::fs::read(&plain).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    // A byte in front, which moves all others to odd places, and a tensor without any there.
    for (_, row) in header.as_object_mut().unwrap().iter_mut().filter(|(name, _)| *name != "__metadata__") {
        let moved = |at: &Value| json!(at.as_u64().unwrap() + 1);
        row["data_offsets"] = row["data_offsets"].as_array().unwrap().iter().map(moved).collect();
    }
    header["a_flag"] = json!({ "dtype": "U8", "shape": [1], "data_offsets": [0, 1] });
    header["nothing"] = json!({ "dtype": "F32", "shape": [0], "data_offsets": [1, 1] });
    let header = header.to_string();
    let moved = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[7], &bytes[8 + length..]].concat();
    let path = scratch.path().join("moved.safetensors");
    std::fs::write(&path, moved).unwrap();
    assert_eq!(logits(&config(), &path, &ids, &[]), expected);
}

#[test]
fn a_byte_order_mark_is_no_part_of_json() {
    let scratch = tempfile::tempdir().unwrap();
    let marked = |name: &str, text: &str| {
        let path = scratch.path().join(name);
        std::fs::write(&path, format!("\u{feff}{text}")).unwrap();
        path
    };
    let weights = changed(&scratch, |_| {});
    let ids = marked("ids.json", "[79, 110, 99]");
    let expected = logits(&config(), &weights, &ids, &[]);
    let map = marked("map.json", r#"{"never": "never"}"#);
    assert_eq!(logits(&config(), &weights, &ids, &["--rename", text(&map)]), expected);
    let names = tensors().into_iter().map(|tensor| (tensor.name, json!(weights.file_name().unwrap().to_str())));
    let names: serde_json::Map<String, Value> = names.collect();
    let index = marked("model.safetensors.index.json", &json!({ "weight_map": names }).to_string());
    assert_eq!(logits(&config(), &index, &ids, &[]), expected);
}
