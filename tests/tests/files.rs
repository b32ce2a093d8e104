//! Files that commands read and write: outputs appear whole and replace nothing but regular files, inputs have limits,
//! checkpoints may lie in several files, and a file that shrinks while it is mapped ends the command with a sentence.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use sterna_compiler::weights::Checkpoint;
use sterna_tests::{failure, file, root, run, stdout, sterna, text};

fn folder() -> PathBuf {
    file("goldens/cpu1/run_04")
}

/// A config and its checkpoint, copied where they may be lost.
fn copies(scratch: &Path) -> (PathBuf, PathBuf) {
    let (config, weights) = (scratch.join("small.json"), scratch.join("weights.pt"));
    std::fs::copy(folder().join("config.json"), &config).unwrap();
    std::fs::copy(folder().join("checkpoint_run_04_final.pt"), &weights).unwrap();
    (config, weights)
}

#[cfg(unix)]
#[test]
fn outputs_replace_regular_files_only() {
    use std::os::unix::fs::symlink;
    let scratch = tempfile::tempdir().unwrap();
    let (config, weights) = copies(scratch.path());
    let before = (std::fs::read(&config).unwrap(), std::fs::read(&weights).unwrap());
    let at = |name: &str| scratch.path().join(name);
    let said = |output: &Path| failure(&["compile", text(&config), "--weights", text(&weights), "-o", text(output)], 1);
    std::fs::write(at("somebody"), "mine").unwrap();
    symlink(at("somebody"), at("link.sterna")).unwrap();
    symlink(at("nowhere"), at("lost.sterna")).unwrap();
    symlink(&weights, at("to-input.sterna")).unwrap();
    std::fs::hard_link(&weights, at("same.sterna")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(at("pipe.sterna")).status().unwrap().success());
    for (output, expected) in [
        (at("link.sterna"), "it is a link"),
        (at("lost.sterna"), "it is a link"),
        (at("to-input.sterna"), "it is a link"),
        (at("same.sterna"), "this command reads it"),
        (weights.clone(), "this command reads it"),
        (scratch.path().join("./small.json"), "this command reads it"),
        (at("pipe.sterna"), "it is a pipe"),
        (PathBuf::from("/dev/null"), "it is a device"),
        (PathBuf::from("/dev/stdout"), "name a regular file"),
        (scratch.path().to_owned(), "it is a folder"),
        (PathBuf::from("/"), "no name of a file"),
        (at("missing/p.sterna"), "cannot write"),
    ] {
        let said = said(&output);
        assert!(said.contains(expected) && said.contains(text(&output)), "{}: {said}", output.display());
    }
    assert_eq!(std::fs::read_to_string(at("somebody")).unwrap(), "mine");
    assert!(!at("nowhere").exists());
    // Whatever stands under names that a draft might have stays what it is.
    let output = at("p.sterna");
    for name in ["p.sterna.part", ".p.sterna.part", "p.sterna.tmp"] {
        symlink(at("somebody"), at(name)).unwrap();
    }
    let compile = ["compile", text(&config), "--weights", text(&weights), "-o", text(&output)];
    stdout(&compile);
    let whole = std::fs::read(&output).unwrap();
    // A file of the name is replaced, and a package may not be made over itself.
    std::fs::write(&output, "old").unwrap();
    stdout(&compile);
    assert_eq!(std::fs::read(&output).unwrap(), whole);
    assert_eq!(std::fs::read_to_string(at("somebody")).unwrap(), "mine");
    failure(&["export", text(&output), "--format", "bit2", "-o", text(&output)], 1);
    failure(&["import", text(&weights), "--config", text(&config), "-o", text(&config)], 1);
    assert_eq!(std::fs::read(&output).unwrap(), whole);
    assert_eq!((std::fs::read(&config).unwrap(), std::fs::read(&weights).unwrap()), before);
    let drafts = std::fs::read_dir(scratch.path()).unwrap();
    let drafts = drafts.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".part"));
    assert_eq!(drafts.count(), 2);
}

#[test]
fn two_writers_never_mix() {
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("p.sterna");
    let graphs = file("run");
    let preset = |seed: &str| {
        let arguments = ["compile", "readme/small", "--graphs", text(&graphs), "--random", "--weight-seed", seed];
        sterna().args(arguments).arg("-o").arg(&output).stderr(Stdio::null()).spawn().unwrap()
    };
    let whole: Vec<Vec<u8>> = ["1", "2"]
        .map(|seed| {
            assert!(preset(seed).wait().unwrap().success());
            std::fs::read(&output).unwrap()
        })
        .into();
    for _ in 0..3 {
        let all = ["1", "2", "1", "2"].map(preset);
        all.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
        assert!(whole.contains(&std::fs::read(&output).unwrap()));
    }
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn devices_without_an_end_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (config, weights) = copies(scratch.path());
    let ids = scratch.path().join("ids.json");
    std::fs::write(&ids, "[1]").unwrap();
    let pointers = file("goldens/v76/v75_tiny/config.json");
    let pointers = text(&pointers);
    let (config, weights, ids, out) = (text(&config), text(&weights), text(&ids), text(scratch.path()));
    for arguments in [
        &["logits", config, "--weights", weights, "--tokens", "/dev/zero"][..],
        &["logits", config, "--weights", weights, "--tokens", ids, "--rename", "/dev/zero"],
        &["eval", config, "--weights", weights, "--text", "/dev/zero"],
        &["sweep", weights, "--config", config, "--text", "/dev/zero", "-o", out],
        &["run", "/dev/zero", "-n", "1"],
        &["run", pointers, "--tokenizer", "/dev/zero", "-n", "1"],
        &["run", config, "--weights", "/dev/zero", "-n", "1"],
        &["probe", pointers, "--text", "/dev/zero"],
    ] {
        let said = failure(arguments, 1);
        assert!(said.len() < 2000, "{arguments:?}: {}", said.len());
    }
    let said = failure(&["eval", config, "--weights", weights, "--text", "/dev/zero"], 1);
    assert!(said.contains("a device that gives more than"), "{said}");
}

/// A package and a file of signs are cut as soon as the command has mapped them.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_shrinks_ends_the_command_with_a_sentence() {
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let golden = file("goldens/v76/v75_tiny");
    std::fs::copy(root().join("examples/tiny/tiny.sterna"), at("tiny.sterna")).unwrap();
    std::fs::copy(golden.join("config.json"), at("config.json")).unwrap();
    std::fs::copy(golden.join("model.bit2"), at("model.bit2")).unwrap();
    let (package, config, signs) = (at("tiny.sterna"), at("config.json"), at("model.bit2"));
    for (name, arguments) in [
        ("tiny.sterna", &["run", text(&package), "-n", "100000000", "--json"][..]),
        ("model.bit2", &["bench", text(&config), "-w", text(&signs), "--rounds", "1000000"]),
    ] {
        let mut command = sterna();
        command.args(arguments).args(["--weights-memory", "mmap"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let maps = format!("/proc/{}/maps", child.id());
        let mapped = || std::fs::read_to_string(&maps).is_ok_and(|maps| maps.contains(text(&at(name))));
        while !mapped() {
            assert!(child.try_wait().unwrap().is_none(), "{name} ended before it was read");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::fs::File::options().write(true).open(at(name)).unwrap().set_len(0).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(name) && said.contains("was truncated while it was in use"), "{said}");
    }
}

/// A safetensors file of these tensors.
fn safetensors(tensors: &[(&str, &[usize], &[f32])]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        header.insert((*name).into(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()] }));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

#[test]
fn checkpoints_in_several_files_are_read_by_their_index() {
    let scratch = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(&folder().join("run_04_fp32_latent.pt")).unwrap();
    let entries = checkpoint.tensors().iter();
    let all: Vec<_> = entries.map(|t| (t.name.as_str(), t.shape.as_slice(), checkpoint.read_f32(t).unwrap())).collect();
    let (whole, parts) = (scratch.path().join("whole.safetensors"), scratch.path().join("parts"));
    std::fs::create_dir(&parts).unwrap();
    let write = |path: &Path, range: std::ops::Range<usize>| {
        let tensors: Vec<_> =
            all[range].iter().map(|(name, shape, values)| (*name, *shape, values.as_slice())).collect();
        std::fs::write(path, safetensors(&tensors)).unwrap();
    };
    let half = all.len() / 2;
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    write(&whole, 0..all.len());
    write(&parts.join(names[0]), 0..half);
    write(&parts.join(names[1]), half..all.len());
    std::fs::copy(folder().join("config.json"), parts.join("config.json")).unwrap();
    let index = parts.join("model.safetensors.index.json");
    let map = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let place =
            |(at, (name, _, _)): (usize, &(&str, _, _))| ((*name).to_owned(), json!(names[usize::from(at >= half)]));
        let mut map: serde_json::Map<String, Value> = all.iter().enumerate().map(place).collect();
        change(&mut map);
        std::fs::write(&index, json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string()).unwrap();
    };
    map(&|_| {});
    let (config, ids) = (folder().join("config.json"), scratch.path().join("ids.json"));
    std::fs::write(&ids, "[79, 110, 99, 101, 32]").unwrap();
    let logits = |more: &[&str]| stdout(&[&["logits", "--tokens", text(&ids)], more].concat());
    let expected = logits(&[text(&config), "--weights", text(&whole)]);
    for weights in [&index, &parts] {
        assert_eq!(logits(&[text(&config), "--weights", text(weights)]), expected);
        // The config beside them is theirs.
        assert_eq!(logits(&["--weights", text(weights)]), expected);
    }
    // A sweep counts them as one.
    let (sample, out) = (scratch.path().join("sample.txt"), scratch.path().join("out"));
    std::fs::write(&sample, "A short text.").unwrap();
    stdout(&["sweep", text(&parts), "--text", text(&sample), "-o", text(&out)]);
    assert_eq!(std::fs::read_to_string(out.join("results.jsonl")).unwrap().lines().count(), 1);
    let package = scratch.path().join("p.sterna");
    let over = parts.join(names[1]);
    assert!(failure(&["import", text(&parts), "-o", text(&over)], 1).contains("this command reads it"));
    stdout(&["import", text(&parts), "-o", text(&package)]);

    let said = || failure(&["check", text(&config), "--weights", text(&index)], 1);
    let first = all[0].0;
    map(&|map| drop(map.insert(first.to_owned(), json!("../whole.safetensors"))));
    assert!(said().contains("does not lie beside the index"), "{}", said());
    map(&|map| drop(map.insert(first.to_owned(), json!(names[1]))));
    assert!(said().contains(first), "{}", said());
    map(&|map| drop(map.insert("absent".to_owned(), json!(names[1]))));
    assert!(said().contains("has no tensor `absent`"), "{}", said());
    map(&|map| drop(map.insert("absent".to_owned(), json!("model-00003-of-00002.safetensors"))));
    assert!(said().contains("00003"), "{}", said());
    map(&|map| drop(map.insert("absent".to_owned(), json!(3))));
    assert!(said().contains("no string"), "{}", said());
    std::fs::write(&index, "{}").unwrap();
    assert!(said().contains("weight_map"), "{}", said());
    map(&|_| {});
    write(&parts.join(names[1]), half - 1..all.len());
    assert!(said().contains(&format!("tensor `{}` is in", all[half - 1].0)), "{}", said());
}

#[test]
fn a_checkpoint_that_fails_alike_has_one_line() {
    let scratch = tempfile::tempdir().unwrap();
    let (config, weights) = copies(scratch.path());
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() - 9]).unwrap();
    let (sample, out) = (scratch.path().join("sample.txt"), scratch.path().join("out"));
    std::fs::write(&sample, "A short text.").unwrap();
    let sweep = ["sweep", text(&weights), "--config", text(&config), "--text", text(&sample), "-o", text(&out)];
    let lines = || std::fs::read_to_string(out.join("results.jsonl")).unwrap().lines().count();
    for _ in 0..3 {
        failure(&sweep, 1);
        assert_eq!(lines(), 1);
    }
    std::fs::write(&weights, &bytes).unwrap();
    stdout(&sweep);
    assert_eq!(lines(), 2);
    stdout(&sweep);
    assert_eq!(lines(), 2);
    // A sweep does not write over what it reads.
    let table = out.join("table.md");
    let over = ["sweep", text(&weights), "--config", text(&config), "--text", text(&table), "-o", text(&out)];
    assert!(failure(&over, 1).contains("this command reads it"));
}

#[test]
fn scales_that_no_quantiser_writes_are_refused_in_packages() {
    let scratch = tempfile::tempdir().unwrap();
    let good = std::fs::read(root().join("examples/tiny/tiny.sterna")).unwrap();
    let word = |at: usize| u64::from_le_bytes(good[at..at + 8].try_into().unwrap()) as usize;
    let (header, weights, length) = (word(16), word(24), word(32));
    let header: Value = serde_json::from_slice(&good[64..64 + header]).unwrap();
    let rows = header["weights"].as_array().unwrap();
    let row = rows.iter().find(|row| row["layout"] == "codes2-blocks").expect("a ternary weight");
    // The scale of a whole tensor stands in its last 64 bytes.
    let at = weights + row["offset"].as_u64().unwrap() as usize + row["bytes"].as_u64().unwrap() as usize - 64;
    let scale = f32::from_le_bytes(good[at..at + 4].try_into().unwrap());
    assert!(scale > 0.0 && scale.is_finite());
    let path = scratch.path().join("p.sterna");
    for value in [f32::NAN, f32::INFINITY, -scale] {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let sum = crc32fast::hash(&bytes[weights..weights + length]);
        bytes[52..56].copy_from_slice(&sum.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..56]);
        bytes[56..60].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        for command in [&["run", text(&path), "-n", "1"][..], &["verify", text(&path)], &["inspect", text(&path)]] {
            let said = failure(command, 1);
            assert!(said.contains(row["path"].as_str().unwrap()) && said.contains("scale 0 is"), "{said}");
        }
    }
    // The last one is negative: it means something, if somebody wants it.
    stdout(&["run", text(&path), "-n", "1", "--allow-nan"]);
    assert!(run(&["run", text(&path), "-n", "1"]).stdout.is_empty());
}

#[cfg(unix)]
#[test]
fn a_signal_leaves_no_draft() {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    let scratch = tempfile::tempdir().unwrap();
    let output = scratch.path().join("large.sterna");
    let there = || std::fs::read_dir(scratch.path()).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    let compile = |before: &str| {
        let program = sterna().get_program().to_owned();
        let script = format!("{before} exec \"$0\" compile v76/v75_75M --random -o \"$1\"");
        let mut child = Command::new("bash");
        child.args(["-c", &script]).arg(program).arg(&output).stderr(Stdio::piped()).spawn().unwrap()
    };
    let written = |child: &mut std::process::Child| {
        while there().is_empty() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it wrote");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    };
    let send = |child: &std::process::Child, signal: &str| {
        assert!(
            Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap().success()
        );
    };
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1), ("QUIT", 3)] {
        let mut child = compile("");
        written(&mut child);
        send(&child, signal);
        let status = child.wait().unwrap();
        // It may have been done by then: then all of it is there.
        match status.signal() {
            Some(ended) => assert_eq!((ended, there().len()), (number, 0), "{signal}: {:?}", there()),
            None => assert!(status.success() && there() == ["large.sterna"], "{signal}: {status} {:?}", there()),
        }
        let _ = std::fs::remove_file(&output);
    }
    // What `nohup` has made it ignore it goes on to ignore.
    let mut child = compile("trap '' HUP;");
    written(&mut child);
    send(&child, "HUP");
    assert!(child.wait().unwrap().success());
    assert_eq!(there(), ["large.sterna"]);
    std::fs::remove_file(&output).unwrap();
    // More than the process may write is an error like a full disk.
    let ended = compile("ulimit -f 64;").wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), there().len()), (Some(1), 0), "{said}");
    assert!(said.contains("large.sterna") && said.contains("too large"), "{said}");
}

#[test]
fn names_may_be_as_long_as_the_file_system_has_them() {
    let scratch = tempfile::tempdir().unwrap();
    let (config, weights) = copies(scratch.path());
    for length in [245, 255] {
        let output = scratch.path().join("n".repeat(length - 7) + ".sterna");
        stdout(&["compile", text(&config), "--weights", text(&weights), "-o", text(&output)]);
        assert!(output.is_file());
    }
}

#[test]
fn what_is_no_config_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let (config, weights) = copies(scratch.path());
    let write = |name: &str, bytes: &[u8]| {
        let path = scratch.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        text(&path).to_owned()
    };
    let checkpoint = "it is a checkpoint; give it to --weights";
    let package = std::fs::read(root().join("examples/tiny/tiny.sterna")).unwrap();
    for (given, expected) in [
        (text(&weights).to_owned(), checkpoint),
        (write("w.safetensors", b"\x10\0\0\0\0\0\0\0{}              "), checkpoint),
        (write("w.bit2", b"BIT2PACK"), checkpoint),
        (write("packed", &package), "its name must end with .sterna"),
        (write("model.gguf", b"GGUF\x03\0\0\0\xff"), "it is a GGUF file"),
        (text(scratch.path()).to_owned(), "is a folder: give a config in it"),
        ("v76_tiny --model cpu1".to_owned(), "--model cpu1: it has no preset `v76_tiny`, there is v76/v76_tiny"),
        (write("empty.json", b"{}"), "a config without keys tells no model"),
        (write("list.json", b"[]"), "a config is an object"),
        (write("one.json", b"{\"d_modle\": 64}"), "nearest key: `d_model` of "),
        (write("none.json", b"{\"wholly_unlike\": 64}"), "--model NAME says which one is meant"),
    ] {
        let arguments: Vec<&str> = std::iter::once("check").chain(given.split(' ')).collect();
        let said = failure(&arguments, 1);
        assert!(said.contains(expected), "{given}: {said}");
    }
    let said = failure(&["check", text(&config), "-w", text(&root())], 1);
    assert!(said.contains("is a folder with none of model.safetensors.index.json"), "{said}");
    // What needs no weights takes random ones, and says so where that matters.
    let ids = write("some.txt", b"some text");
    for arguments in [&["run", text(&config), "-n", "1"][..], &["eval", text(&config), "--text", &ids]] {
        let output = run(arguments);
        assert!(String::from_utf8_lossy(&output.stderr).contains("without --weights (-w)"), "{arguments:?}");
        let output = run(&[arguments, &["-w", text(&weights)]].concat());
        assert!(!String::from_utf8_lossy(&output.stderr).contains("without"), "{arguments:?}");
    }
    let said = failure(&["check", text(&config), text(&weights)], 2);
    assert!(
        said.contains(&format!("help: a checkpoint is given with --weights (-w): `-w {}`", text(&weights))),
        "{said}"
    );
}
