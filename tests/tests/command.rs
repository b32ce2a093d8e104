//! The `sterna` command from outside: what it prints, its exit codes, and what it says to bad input.

use std::process::Stdio;

use serde_json::{Value, json};
use sterna_tests::{failure, file, root, run, stdout, sterna, text};

fn printed(arguments: &[&str]) -> Value {
    serde_json::from_str(&stdout(arguments)).expect("JSON on stdout")
}

#[test]
fn the_bundled_model_writes_the_same_text_for_the_same_seed() {
    let options = ["run", "--prompt", "The ", "-n", "80", "--seed", "5"];
    let first = stdout(&options);
    assert!(first.starts_with("The ") && first.len() > 60, "{first}");
    for threads in ["1", "2"] {
        let mut more = options.to_vec();
        more.extend(["--threads", threads]);
        assert_eq!(stdout(&more), first);
    }
    let other = stdout(&["run", "--prompt", "The ", "-n", "80", "--seed", "6"]);
    assert_ne!(other, first);
}

#[test]
fn the_bundled_model_writes_words() {
    let report = printed(&["run", "--prompt", "This function ", "-n", "400", "--temperature", "0.6", "--json"]);
    let generated = report["text"].as_str().unwrap();
    assert_eq!(report["elements"].as_array().unwrap().len(), 400);
    let words =
        generated.split_whitespace().filter(|w| w.chars().all(|c| c.is_ascii_alphabetic() || ",.`'".contains(c)));
    assert!(words.count() > 40, "{generated}");
}

#[test]
fn the_bundled_model_is_worth_its_bits() {
    let held_out = root().join("examples/tiny/heldout.txt");
    let report = printed(&["eval", "--text", text(&held_out), "--json"]);
    let stated: f64 = std::fs::read_to_string(root().join("examples/tiny/README.md"))
        .unwrap()
        .lines()
        .find_map(|l| l.strip_prefix("Held-out bits per byte, PyTorch: ")?.split_whitespace().next()?.parse().ok())
        .expect("the README of the model states them");
    let found = report["bits_per_byte"].as_f64().unwrap();
    assert!((found - stated).abs() < 1e-3, "{found} here, {stated} in training");
    assert_eq!(report["level"], "byte");
}

#[test]
fn verify_compares_real_alternatives() {
    let report = printed(&["verify", "--elements", "30", "--all-levels", "--json"]);
    assert!(report["cases"].as_array().unwrap().len() >= 9, "{report}");
    assert_eq!(report["differences"].as_array().unwrap().len(), 0);
    // Logits, and the states after each step.
    assert!(report["values"].as_u64().unwrap() > 31 * 256, "{report}");
    assert!(report["of"]["states"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn check_accounts_for_keys_and_tensors() {
    let report = printed(&["check", "cpu1/run_05", "--json"]);
    assert_eq!(report["parameters"], 38_999_808);
    assert!(report["weight_bytes"].as_u64().unwrap() > 9_000_000);
    assert!(report["state_bytes_per_stream"].as_u64().unwrap() >= 12 * 512 * 4);
    assert_eq!(report["config_keys"]["fp_residual_rank"]["treatment"], "used");
    assert_eq!(report["config_keys"]["byte_dim"]["treatment"], "default");
    let folder = file("goldens/cpu1/run_04");
    let (config, weights) = (folder.join("config.json"), folder.join("run_04_fp32.pt"));
    let report = printed(&["check", text(&config), "--weights", text(&weights), "--json"]);
    assert!(report["tensors"]["read"].as_array().unwrap().len() > 20);
    assert_eq!(report["config_keys"]["run"]["treatment"], "ignored");
}

#[test]
fn parameter_counts_are_those_of_the_published_table() {
    for (preset, parameters) in [
        ("run_01", 54_735_360),
        ("run_02a", 38_500_864),
        ("run_02", 38_829_696),
        ("run_03", 38_829_696),
        ("run_04", 38_852_352),
        ("run_05", 38_999_808),
        ("run_05b", 35_847_936),
        ("run_06", 39_004_352),
        ("run_07", 39_037_249),
        ("run_08", 38_852_352),
        ("run_09", 39_430_465),
        ("run_10", 39_436_609),
        ("run_13", 12_538_425),
        ("run_14", 10_688_633),
        ("run_15", 10_729_593),
        ("run_16_r2", 10_688_633),
    ] {
        assert_eq!(printed(&["check", preset, "--json"])["parameters"], parameters, "{preset}");
    }
}

#[test]
fn compile_and_import_make_packages_that_run() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = file("goldens/cpu1/run_04");
    let (config, weights) = (folder.join("config.json"), folder.join("checkpoint_run_04_final.pt"));
    let (one, two) = (scratch.path().join("one.sterna"), scratch.path().join("two.sterna"));
    stdout(&["compile", text(&config), "--weights", text(&weights), "-o", text(&one)]);
    stdout(&["import", text(&weights), "-o", text(&two)]);
    let ids = scratch.path().join("ids.json");
    std::fs::write(&ids, "[79, 110, 99, 101, 32, 117]").unwrap();
    let direct = stdout(&["logits", text(&config), "--weights", text(&weights), "--tokens", text(&ids)]);
    for package in [&one, &two] {
        assert_eq!(stdout(&["logits", text(package), "--tokens", text(&ids)]), direct);
        let verified = stdout(&["verify", text(package)]);
        assert!(verified.starts_with("equal bits"), "{verified}");
    }
    // Byte-reproducible.
    let again = scratch.path().join("again.sterna");
    stdout(&["compile", text(&config), "--weights", text(&weights), "-o", text(&again)]);
    assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&again).unwrap());
}

#[test]
fn bench_reports_the_contract() {
    let folder = file("goldens/cpu1/run_04");
    let report = printed(&["bench", text(&folder.join("config.json")), "--steps", "8", "--rounds", "1", "--json"]);
    for key in ["decode_tokens_per_s", "prefill_tokens_per_s", "weight_gb_per_s", "memory_gb_per_s", "compile_ms"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
    assert!(report["threads"].as_u64().unwrap() >= 1);
}

#[test]
fn inspect_shows_every_form() {
    let config = file("goldens/cpu1/run_04/config.json");
    let config = text(&config);
    let plain = stdout(&["inspect", config]);
    assert!(plain.contains("linear_int8"), "{plain}");
    let early = stdout(&["inspect", config, "--after", "fold"]);
    assert!(early.contains(" linear ") && !early.contains("linear_int8"), "{early}");
    assert!(stdout(&["inspect", config, "--format", "dot"]).starts_with("digraph"));
    assert!(stdout(&["inspect", config, "--format", "summary"]).contains("layers.*.mixer.h"));
    let report: Value = serde_json::from_str(&stdout(&["inspect", config, "--format", "json"])).unwrap();
    assert!(report["entries"].as_array().unwrap().len() == 2);
    let list = stdout(&["inspect", config, "--list"]);
    assert!(list.contains("time_lift") && list.contains("launches stay inside"), "{list}");
    // The launches show what the proof is about: where in its buffer each pointer stays.
    let kernels = stdout(&["inspect", config, "--kernels"]);
    assert!(kernels.starts_with("program weights=") && kernels.contains("\nentry "), "{kernels}");
    let launch = kernels.lines().find(|line| line.contains(", weights+")).unwrap();
    assert!(launch.contains(" in ") && launch.contains(" units="), "{launch}");
    assert!(stdout(&["inspect", config, "--clif"]).contains("block0"));
    assert!(stdout(&["inspect", config, "--asm"]).contains("ret"));
}

#[test]
fn usage_mistakes_are_two_and_input_mistakes_one() {
    failure(&["frobnicate"], 2);
    failure(&["run", "--temperature", "-1"], 2);
    failure(&["inspect", "run_05", "--after", "nothing"], 2);
    let said = failure(&["check", "run_055"], 1);
    assert!(said.contains("run_05"), "{said}");
    failure(&["check", "missing.json"], 1);
    failure(&["logits", "run_05", "--tokens", "missing.json"], 1);
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    assert_eq!(run(&["--version"]).status.code(), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn messages_that_nobody_can_read_change_nothing() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let code = |arguments: &[&str]| sterna().args(arguments).stderr(full()).output().unwrap().status.code();
    assert_eq!(code(&["check", "missing.json"]), Some(1));
    assert_eq!(code(&["run", "-n", "2", "--stats"]), Some(0));
}

#[test]
fn prompts_may_begin_with_a_hyphen() {
    for prompt in ["- item", "-x", "--"] {
        let shown = stdout(&["run", "-n", "4", "-p", prompt]);
        assert!(shown.starts_with(prompt), "{shown}");
    }
}

#[test]
fn a_misspelt_key_is_underlined() {
    let scratch = tempfile::tempdir().unwrap();
    let config = scratch.path().join("config.json");
    std::fs::write(
        &config,
        "{\n  \"d_model\": 64, \"n_layers\": 2, \"d_ff\": 85, \"n_heads\": 4,\n  \"fp_residual_rnk\": 4\n}\n",
    )
    .unwrap();
    let said = failure(&["check", text(&config), "--model", "cpu1"], 1);
    assert!(said.contains("error[E0601]") && said.contains("config.json:3:3"), "{said}");
    assert!(said.contains("nearest key: `fp_residual_rank`"), "{said}");
}

#[test]
fn damaged_files_are_errors_with_a_place() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = file("goldens/cpu1/run_04");
    let config = folder.join("config.json");
    let good = std::fs::read(folder.join("checkpoint_run_04_final.pt")).unwrap();
    let bad = scratch.path().join("bad.pt");
    for cut in [0, 1, 100, good.len() / 2, good.len() - 1] {
        std::fs::write(&bad, &good[..cut]).unwrap();
        failure(&["check", text(&config), "--weights", text(&bad)], 1);
    }
    let package = scratch.path().join("bad.sterna");
    let good = std::fs::read(root().join("examples/tiny/tiny.sterna")).unwrap();
    for (place, bit) in [(0, 1), (9, 4), (20, 128), (70, 1), (good.len() / 2, 16)] {
        let mut damaged = good.clone();
        damaged[place] ^= bit;
        std::fs::write(&package, &damaged).unwrap();
        let said = failure(&["run", text(&package), "-n", "1"], 1);
        assert!(said.contains("bad.sterna"), "{said}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_mistake() {
    let config = file("goldens/cpu1/run_04/config.json");
    let scratch = tempfile::tempdir().unwrap();
    let ids = scratch.path().join("ids.json");
    std::fs::write(&ids, "[1, 2, 3]").unwrap();
    for arguments in [
        &["presets"][..],
        &["completions", "bash"],
        &["check", text(&config)],
        &["inspect", text(&config)],
        &["logits", text(&config), "--tokens", text(&ids)],
        &["run", "-n", "20"],
    ] {
        let mut child = sterna().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(0) && !said.contains("panicked"), "{arguments:?}: {said}");
    }
}

/// A folder with a graph of one key, and configs for it.
fn one_key() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let key = "a_key_with_a_name_that_no_column_was_made_for";
    let graph = format!(
        "model m\nconfig {{ {key}: int = 4; note: ignored(\"a remark\"); rope {{ base: float }}? }}\n\
         weight embed: f32[8, {key}]\nweight decay: f32[2]\ncheck {key} > 1, \"too small\"\n\
         entry step(token: u32 in 0..8) {{\n  check max(decay) <= 1, \"decay above one\"\n  x = embed[token]\n  \
         if rope != null {{ x = x * rope.base }}\n  output logits = embed(x)\n}}\n"
    );
    std::fs::write(folder.path().join("m.graph"), graph).unwrap();
    std::fs::write(folder.path().join("c.json"), format!("\u{feff}{{\"{key}\": 5, \"note\": -Infinity}}")).unwrap();
    std::fs::write(folder.path().join("w.safetensors"), decays([0.5, 1.0])).unwrap();
    folder
}

/// Weights for [`one_key`] with these decays.
fn decays(values: [f32; 2]) -> Vec<u8> {
    let tensor =
        |shape: &[usize], from: usize, to: usize| json!({"dtype": "F32", "shape": shape, "data_offsets": [from, to]});
    let header = json!({"decay": tensor(&[2], 0, 8), "embed": tensor(&[8, 5], 8, 168)}).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    bytes.extend([0u8; 160]);
    bytes
}

#[test]
fn configs_as_people_have_them() {
    let folder = one_key();
    let graphs = text(folder.path());
    let config = folder.path().join("c.json");
    let said = stdout(&["check", text(&config), "--graphs", graphs]);
    let values: Vec<usize> = said
        .lines()
        .skip_while(|line| *line != "config keys")
        .skip(1)
        .take(2)
        .map(|line| line.find(['5', '-']).unwrap_or_else(|| panic!("{said}")))
        .collect();
    assert_eq!(values[0], values[1], "the columns stand under one another\n{said}");
    // Numbers that are not finite under an ignored key go into a package.
    let (package, weights) = (folder.path().join("m.sterna"), folder.path().join("w.safetensors"));
    stdout(&["compile", text(&config), "--graphs", graphs, "-w", text(&weights), "-o", text(&package)]);
    let said = failure(&["check", text(&package), "--model", "other"], 1);
    assert!(said.contains("a graph of its own, m"), "{said}");
    let output = run(&["check", text(&package), "--graphs", graphs]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("note: --graphs"));
    // A graph beside it that cannot be read is the first thing to say, unless the graph meant is named.
    std::fs::write(folder.path().join("broken.graph"), "model broken\nconfig { a: itn }\n").unwrap();
    let said = failure(&["check", text(&config), "--graphs", graphs], 1);
    assert!(said.contains("broken.graph:2:") && said.contains("nearest word: `int`"), "{said}");
    stdout(&["check", text(&config), "--graphs", graphs, "--model", "m"]);
    for arguments in [&["presets", "--graphs", graphs], &["verify", "m/small", "--graphs", graphs][..]] {
        let said = failure(arguments, 1);
        assert!(said.contains("broken.graph:2:"), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn configs_from_pipes_and_under_any_name() {
    use std::os::unix::ffi::OsStrExt;
    let folder = one_key();
    let name = folder.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9.json"));
    std::fs::copy(folder.path().join("c.json"), &name).unwrap();
    let output = sterna_tests::sterna().arg("check").arg(&name).arg("--graphs").arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut command = sterna_tests::sterna();
    command.args(["check", "/dev/stdin", "--model", "m", "--graphs"]).arg(folder.path());
    command.stdin(std::fs::File::open(folder.path().join("c.json")).unwrap());
    assert!(command.output().unwrap().status.success());
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut command = sterna_tests::sterna();
    command.args(["check", "/dev/stdin", "--model", "m", "--graphs"]).arg(folder.path()).stdin(reader);
    std::io::Write::write_all(&mut writer, b"{}").unwrap();
    drop(writer);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn negative_values_are_said_of_their_option() {
    for option in ["--threads", "--rows", "--context"] {
        let said = failure(&["verify", "cpu1/run_04", option, "-3"], 2);
        assert!(said.contains(option) && said.contains("-3") && !said.contains("unexpected"), "{said}");
    }
}

#[test]
fn check_evaluates_what_is_asked_of_the_weights() {
    let folder = one_key();
    let weights = folder.path().join("w.safetensors");
    let config = folder.path().join("c.json");
    let arguments = ["check", text(&config), "--graphs", text(folder.path()), "-w", text(&weights)];
    stdout(&arguments);
    std::fs::write(&weights, decays([0.5, 2.0])).unwrap();
    let said = failure(&arguments, 1);
    assert!(said.contains("error[E0706]: decay above one") && said.contains("m.graph:7:"), "{said}");
}

#[test]
fn presets_and_completions() {
    let presets = stdout(&["presets"]);
    assert!(presets.lines().any(|l| l == "cpu1/run_07") && presets.lines().any(|l| l == "v76/v76_300M"), "{presets}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&["completions", shell]).contains("sterna"));
    }
}

#[test]
fn a_mistaken_config_is_told_what_is_wrong_in_its_own_model() {
    let good: Value =
        serde_json::from_slice(&std::fs::read(file("goldens/v76/v76_tiny/config.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let says = |edit: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut config = good.as_object().unwrap().clone();
        edit(&mut config);
        std::fs::write(&path, serde_json::to_vec(&config).unwrap()).unwrap();
        failure(&["check", text(&path)], 1)
    };
    let missing = says(&|config| drop(config.remove("d_ff")));
    assert!(missing.contains("`d_ff`") && missing.contains("error[E06"), "{missing}");
    let unknown = says(&|config| drop(config.insert("d_fff".into(), 8.into())));
    assert!(unknown.contains("`d_fff` is not a key of"), "{unknown}");
    let renamed = says(&|config| drop(config.insert("arch".into(), "another".into())));
    assert!(renamed.contains("`arch` is \"another\"") && renamed.matches("error[").count() == 1, "{renamed}");
    let refused = says(&|config| drop(config.insert("d_model".into(), 97.into())));
    assert!(refused.contains("97 % 6 = 1") && refused.matches("error[").count() == 1, "{refused}");
    let stranger = says(&|config| {
        config.clear();
        config.insert("rows".into(), 3.into());
    });
    assert!(stranger.contains("no model has the keys of this config"), "{stranger}");
}

#[test]
fn threads_beyond_sense_are_refused_with_the_bound() {
    for command in ["run", "verify", "bench"] {
        for threads in ["0", "1025", "2147483648", "18446744073709551615"] {
            let said = failure(&[command, "--threads", threads], 2);
            assert!(said.contains("1..=1024"), "{command} --threads {threads}: {said}");
        }
    }
}

/// This program under a limit of the shell's.
#[cfg(unix)]
fn limited(program: &std::path::Path, limit: &str, arguments: &[&str]) -> std::process::Command {
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\""), text(program)]).args(arguments);
    shell
}

#[test]
#[cfg(unix)]
fn without_more_threads_one_does_the_work() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let arguments = ["run", "-p", "The ", "-n", "20", "-t", "0", "--threads", "4"];
    let expected = stdout(&arguments);
    // Nothing limits the threads of root, and others may not read its folders.
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let own = folder.path().join("sterna");
    std::fs::copy(sterna().get_program(), &own).unwrap();
    let is_root = folder.path().metadata().unwrap().uid() == 0;
    let output = |arguments: &[&str]| {
        let mut command = limited(&own, "-u 1", arguments);
        if is_root {
            command.uid(65534).current_dir("/");
        }
        command.output().unwrap()
    };
    let found = output(&arguments);
    assert_eq!(String::from_utf8_lossy(&found.stdout), expected, "{}", String::from_utf8_lossy(&found.stderr));
    let report = output(&["bench", "--steps", "2", "--rounds", "1", "--threads", "4", "--json"]);
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["threads"], 1);
    // Elaboration needs no thread either.
    let checked = output(&["check", "cpu1/run_04"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
#[cfg(unix)]
fn a_narrow_address_space_is_named() {
    let command = sterna();
    let program = std::path::Path::new(command.get_program());
    // The bundled model is a package; a preset is elaborated, which needs a stack.
    for model in [&["run", "-n", "3", "--threads", "2"][..], &["run", "cpu1/run_04", "-n", "3", "--threads", "2"]] {
        let mut refused = 0;
        let limits = [150, 300, 350, 400, 550, 600, 620, 800, 850, 900, 2000, 8000];
        for mebibytes in limits {
            let found = limited(program, &format!("-v {}", mebibytes * 1024), model).output().unwrap();
            let said = String::from_utf8_lossy(&found.stderr);
            let named = said.contains(&format!("limited to {mebibytes} MiB (ulimit -v)"));
            match found.status.code() {
                Some(0) => {}
                Some(1) if named => refused += 1,
                code => panic!("{mebibytes} MiB: {code:?} {said}"),
            }
        }
        assert!((2..limits.len()).contains(&refused), "{refused} of {}", limits.len());
    }
}
