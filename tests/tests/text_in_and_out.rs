//! Text in and out through the command: tokenizers of every kind, prompts from files, the end of the context, and
//! numbers that are none. Most models here play a fixed sequence of tokens, so that what must be shown is known.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Map, Value, json};
use sterna_tests::{failure, file, run, stdout, sterna, text};
use tempfile::TempDir;

/// A safetensors file.
fn save(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape, values) in tensors {
        let begin = data.len();
        values.iter().for_each(|value| data.extend(value.to_le_bytes()));
        header.insert((*name).into(), json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()] }));
    }
    let mut header = Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    std::fs::write(path, bytes).unwrap();
}

/// A model that plays a sequence of tokens, whatever it is given: position i predicts token i of the sequence.
struct Script {
    folder: TempDir,
}

impl Script {
    fn new(vocab: usize, sequence: &[usize]) -> Script {
        Script::with(vocab, sequence, "", "  output logits = seq[position % length] + zero[token]")
    }

    /// The same with other lines in its step, and with a declaration.
    fn with(vocab: usize, sequence: &[usize], declaration: &str, step: &str) -> Script {
        let script = Script { folder: tempfile::tempdir().unwrap() };
        let graph = format!(
            "model script \"plays a fixed sequence of tokens\"\nimport std\n\n\
             config {{\n  vocab: int in 1..\n  length: int in 1..\n}}\n\n\
             weight seq: f32[length, vocab] at \"seq\"\nweight zero: f32[vocab, vocab] at \"zero\"\n\
             {declaration}\n\nentry step(token: u32 in 0..vocab) start 0 if empty {{\n{step}\n}}\n"
        );
        std::fs::write(script.path("script.graph"), graph).unwrap();
        let config = json!({ "vocab": vocab, "length": sequence.len() }).to_string();
        std::fs::write(script.path("config.json"), config).unwrap();
        let mut seq = vec![0.0; sequence.len() * vocab];
        sequence.iter().enumerate().for_each(|(i, &token)| seq[i * vocab + token] = 10.0);
        let zero = vec![0.0; vocab * vocab];
        save(
            &script.path("w.safetensors"),
            &[("seq", &[sequence.len(), vocab], &seq), ("zero", &[vocab, vocab], &zero)],
        );
        script
    }

    /// The model of these tokens that plays some of them, with this tokenizer file.
    fn speaking(tokens: &[&str], sequence: &[&str], file: impl Fn(Value) -> Value) -> Script {
        let id = |token: &&str| tokens.iter().position(|t| t == token).unwrap();
        let vocab: Map<String, Value> = tokens.iter().map(|token| ((*token).to_owned(), id(token).into())).collect();
        let script = Script::new(tokens.len(), &sequence.iter().map(id).collect::<Vec<_>>());
        std::fs::write(script.path("tokenizer.json"), file(Value::Object(vocab)).to_string()).unwrap();
        script
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The arguments of a command of this model.
    fn arguments(&self, command: &str, more: &[&str]) -> Vec<String> {
        let (config, graphs, weights) = (self.path("config.json"), self.folder.path(), self.path("w.safetensors"));
        let model = [command, text(&config), "--graphs", text(graphs), "-w", text(&weights)];
        model.iter().chain(more).map(|&word| word.to_owned()).collect()
    }

    fn run(&self, command: &str, more: &[&str]) -> Output {
        sterna().args(self.arguments(command, more)).output().unwrap()
    }

    /// What the command prints; it must succeed.
    fn stdout(&self, command: &str, more: &[&str]) -> String {
        let arguments = self.arguments(command, more);
        stdout(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What the command says; it must fail with code 1 and without panic.
    fn failure(&self, command: &str, more: &[&str]) -> String {
        let arguments = self.arguments(command, more);
        failure(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), 1)
    }

    /// The text that is shown, which must be the one that `--json` has behind that of the prompt.
    fn shown(&self, prompt: &str, count: usize) -> String {
        let count = count.to_string();
        let arguments = ["-t", "0", "-n", &count, "-p", prompt];
        let shown = self.stdout("run", &arguments);
        let report = self.stdout("run", &[&arguments[..], &["--json"]].concat());
        let report: Value = serde_json::from_str(&report).unwrap();
        assert_eq!(shown, format!("{prompt}{}\n", report["text"].as_str().unwrap()));
        assert_eq!(report["end"], "length");
        shown
    }
}

fn words(vocab: Value, parts: Value) -> Value {
    let mut file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<unk>" },
    });
    for (key, part) in parts.as_object().unwrap() {
        file[key] = part.clone();
    }
    file
}

fn fallback(vocab: Value) -> Value {
    let decoders = json!([
        { "type": "Replace", "pattern": { "String": "▁" }, "content": " " }, { "type": "ByteFallback" },
        { "type": "Fuse" }, { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
    ]);
    let model = json!({ "type": "BPE", "unk_token": "<unk>", "byte_fallback": true, "vocab": vocab, "merges": [] });
    words(json!({}), json!({ "model": model, "decoder": { "type": "Sequence", "decoders": decoders } }))
}

#[test]
fn characters_of_several_tokens_are_shown_whole() {
    let tokens = ["<unk>", "<0x80>", "<0x98>", "<0x9F>", "<0xF0>", "▁", "▁hello", "▁the"];
    let emoji = ["<0xF0>", "<0x9F>", "<0x98>", "<0x80>"];
    let sequence = [&["▁hello", "▁"][..], &emoji, &emoji, &["▁the"], &emoji[..2]].concat();
    let script = Script::speaking(&tokens, &sequence, fallback);
    assert_eq!(script.shown("", 11), "hello 😀😀 the\n");
    // What is no character to its end is shown as all tokens at once show it: a run of bytes is one or none.
    assert_eq!(script.shown("", 4), "hello \u{fffd}\u{fffd}\n");
    assert_eq!(script.shown("", 12), "hello 😀😀 the\u{fffd}\n");
    let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let bytes = |vocab: Value| {
        let model = json!({ "type": "BPE", "vocab": vocab, "merges": [] });
        words(json!({}), json!({ "model": model, "decoder": level, "pre_tokenizer": level }))
    };
    let tokens = ["ĺ", "Ã", "©", "Ġhello"];
    let script = Script::speaking(&tokens, &["Ġhello", "ĺ", "Ġhello", "Ã", "©", "Ã", "Ġhello", "Ã"], bytes);
    assert_eq!(script.shown("", 7), " hello\u{fffd} helloé\u{fffd} hello\n");
    assert_eq!(script.shown("", 8), " hello\u{fffd} helloé\u{fffd} hello\u{fffd}\n");
}

#[test]
fn the_first_word_after_a_prompt_keeps_its_space() {
    let marks = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
    let file = |vocab| words(vocab, json!({ "pre_tokenizer": marks, "decoder": marks }));
    let script = Script::speaking(&["▁a", "▁the", "▁cat", "<unk>"], &["▁the", "▁cat"], file);
    assert_eq!(script.shown("a", 2), "a the cat\n");
    assert_eq!(script.shown("", 2), "the cat\n");
    let pieces = |vocab| words(vocab, json!({ "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true } }));
    let script = Script::speaking(&["a", "cat", "##s", ".", "<unk>"], &["cat", "##s", "."], pieces);
    assert_eq!(script.shown("a", 3), "a cats.\n");
    let script = Script::speaking(&["a", "cat", "<unk>"], &["cat", "a"], |vocab| words(vocab, json!({})));
    assert_eq!(script.shown("a", 2), "a cat a\n");
}

#[test]
fn what_a_tokenizer_saves_for_training_does_not_act() {
    let tokens = ["<unk>", "a", "b", "c"];
    let sample = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&sample, "a b c ".repeat(5)).unwrap();
    let eval = |parts: Value| {
        let script = Script::speaking(&tokens, &["a", "b", "c"], |vocab| words(vocab, parts.clone()));
        let report = script.run("eval", &["--text", text(sample.path()), "--json"]);
        let noted = String::from_utf8_lossy(&report.stderr).into_owned();
        (serde_json::from_slice::<Value>(&report.stdout).unwrap(), noted)
    };
    let (plain, noted) = eval(json!({}));
    assert_eq!((&plain["predicted"], noted.as_str()), (&14.into(), ""));
    let cut = json!({ "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0 });
    let filled = json!({
        "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<unk>",
    });
    for (key, part) in [("truncation", cut), ("padding", filled)] {
        let (found, noted) = eval(json!({ key: part }));
        assert_eq!(found, plain, "{key}");
        assert!(noted.contains(key), "{noted}");
    }
    // With dropout the same prompt would be cut into other tokens each time.
    let letters = ["a", "b", "ab", "abab"];
    let dropout = |vocab: Value| {
        let model = json!({ "type": "BPE", "dropout": 0.5, "vocab": vocab, "merges": ["a b", "ab ab"] });
        words(json!({}), json!({ "model": model, "pre_tokenizer": null }))
    };
    let script = Script::speaking(&letters, &["a", "b", "ab"], dropout);
    let ids = |_| script.stdout("run", &["-t", "0", "-n", "1", "-p", "abababababababab", "--json"]);
    let elements = |report: String| serde_json::from_str::<Value>(&report).unwrap()["elements"].clone();
    let all: Vec<Value> = (0..6).map(ids).map(elements).collect();
    // Four tokens are read, so the fourth row predicts.
    assert!(all.iter().all(|found| *found == json!([0])), "{all:?}");
}

/// A change of a tokenizer file that nobody could use.
type Change = (&'static str, Value);

#[test]
fn hostile_tokenizers_are_errors() {
    let replace = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aaaaaaaaaa" });
    let charsmap = |text: &str| json!({ "type": "Precompiled", "precompiled_charsmap": text });
    let template = json!([{ "Sequence": { "id": "B", "type_id": 0 } }]);
    let padding = |strategy: Value, multiple: Value| {
        json!({
            "strategy": strategy, "direction": "Right", "pad_to_multiple_of": multiple, "pad_id": 0, "pad_type_id": 0,
            "pad_token": "a",
        })
    };
    let mut prefixed = json!({ "type": "BPE", "continuing_subword_prefix": "##", "merges": ["a b"] });
    prefixed["vocab"] = json!({ "a": 0, "b": 1, "ab": 2 });
    let deep = (0..120).fold(json!({ "type": "Fuse" }), |inner, _| json!({ "type": "Sequence", "decoders": [inner] }));
    let long =
        json!({ "type": "Unigram", "unk_id": 0, "vocab": [["a".repeat(1 << 20), -1.0], ["b", -1.0], ["c", -1.0]] });
    let changes: Vec<Change> = vec![
        ("normalizer", charsmap("AAAA")),
        ("normalizer", charsmap("/////w==")),
        // A trie that leads outside of itself.
        ("normalizer", charsmap("BAAAAP////8=")),
        ("normalizer", json!({ "type": "Sequence", "normalizers": vec![replace; 9] })),
        ("normalizer", json!({ "type": "Replace", "pattern": { "Regex": "(a{1000}){1000}" }, "content": "" })),
        ("pre_tokenizer", json!({ "type": "FixedLength", "length": 0 })),
        (
            "post_processor",
            json!({ "type": "TemplateProcessing", "single": template, "pair": [], "special_tokens": {} }),
        ),
        ("decoder", json!({ "type": "Strip", "content": "e", "start": 0, "stop": 99 })),
        ("decoder", deep),
        ("padding", padding(json!({ "Fixed": 1_000_000_000_000u64 }), Value::Null)),
        ("padding", padding(json!("BatchLongest"), json!(1u64 << 63))),
        ("truncation", json!({ "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 5 })),
        ("model", prefixed),
        ("model", long),
        ("model", json!({ "type": "Unigram", "unk_id": 9, "vocab": [["a", -1.0], ["b", -1.0], ["c", -1.0]] })),
        ("model", json!({ "type": "WordLevel", "vocab": { "a": 0, "b": 1, "c": 2 }, "unk_token": "d" })),
        ("model", json!({ "type": "BPE", "vocab": { "a": 0, "b": 1, "c": 2 }, "merges": ["a b"] })),
        ("model", json!(null)),
        ("added_tokens", json!([{ "id": 4294967295u32, "content": "" }])),
        ("version", json!("7")),
    ];
    for (key, part) in changes {
        let shown = part.to_string();
        let script = Script::speaking(&["a", "b", "c"], &["a", "b", "c"], |vocab| words(vocab, json!({ key: part })));
        let begin = std::time::Instant::now();
        let said = script.failure("run", &["-n", "3", "-p", "zebra"]);
        assert!(said.contains("tokenizer"), "{key} {:.200}: {said}", shown);
        assert!(begin.elapsed().as_secs() < 10, "{key} {:.200}", shown);
    }
}

#[test]
fn prompts_come_from_files_and_pipes() {
    let folder = file("goldens/cpu1/run_04");
    let (config, weights) = (folder.join("config.json"), folder.join("checkpoint_run_04_final.pt"));
    let model = ["run", text(&config), "-w", text(&weights), "-t", "0", "-n", "20"];
    let prompt = "Une fée\n";
    let expected = stdout(&[&model[..], &["-p", prompt]].concat());
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&path, prompt).unwrap();
    assert_eq!(stdout(&[&model[..], &["--prompt-file", text(path.path())]].concat()), expected);
    let piped = |more: &[&str], bytes: &[u8]| {
        let mut command = sterna();
        let mut child = command
            .args(model)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        child.wait_with_output().unwrap()
    };
    for more in [&["-p", "-"][..], &["--prompt-file", "-"]] {
        assert_eq!(String::from_utf8(piped(more, prompt.as_bytes()).stdout).unwrap(), expected);
    }
    // Any bytes are a prompt of a byte model, also half a character, which what follows may complete.
    let cut = piped(&["-p", "-", "--json"], "fé".as_bytes().split_last().unwrap().1);
    let report: Value = serde_json::from_slice(&cut.stdout).unwrap();
    let bytes: Vec<u8> = serde_json::from_value(report["elements"].clone()).unwrap();
    let whole = String::from_utf8_lossy(&[b"f\xc3", &bytes[..]].concat()).into_owned();
    assert_eq!(report["text"], whole["f".len()..]);
    let said = failure(&[&model[..], &["--prompt-file", "/nowhere/prompt"]].concat(), 1);
    assert!(said.contains("/nowhere/prompt"), "{said}");
    let said = failure(&[&model[..], &["--prompt-file", "/dev/zero"]].concat(), 1);
    assert!(said.contains("/dev/zero"), "{said}");
    failure(&[&model[..], &["--prompt-file", text(path.path()), "-p", "b"]].concat(), 2);
    failure(&[&model[..], &["--prompt-file", text(path.path()), "--tokens", "1"]].concat(), 2);
}

#[test]
fn generation_ends_well_at_the_end_of_the_context() {
    let ends = |arguments: &[&str], count: usize, words: &str| {
        let shown = run(arguments);
        let said = String::from_utf8_lossy(&shown.stderr);
        assert!(shown.status.success() && said.contains("context is full") && said.contains(words), "{said}");
        let report: Value = serde_json::from_str(&stdout(&[arguments, &["--json", "--stats"]].concat())).unwrap();
        assert_eq!(
            (&report["end"], report["elements"].as_array().unwrap().len()),
            (&"context".into(), count),
            "{report}"
        );
    };
    // Patches of 4 bytes after one of zeros: 9 patches are fed, and the last step predicts 4 bytes more.
    let folder = file("goldens/cpu1/run_02a");
    let weights = folder.join("checkpoint_run_02a_byte_only_heads_final.pt");
    let config = folder.join("config.json");
    let model = ["run", text(&config), "-w", text(&weights), "-t", "0", "-n", "100", "--context", "10"];
    ends(&model, 40, "10 steps, by --context");
    let more = [&model[..], &["-p", "four"]].concat();
    ends(&more, 36, "36 of 100 bytes");
    let enough = stdout(&["run", text(&config), "-w", text(&weights), "-n", "40", "--context", "10", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&enough).unwrap()["end"], "length");
    // The bound of the model's own caches.
    let folder = file("goldens/v76/v76_tiny");
    let (config, weights) = (folder.join("config.json"), folder.join("model.pt"));
    ends(&["run", text(&config), "-w", text(&weights), "--tokens", "1,2,3", "-n", "300"], 126, "128 steps: 126 of 300");
    // A check of positions is a bound too.
    let step =
        "  check position < length, \"the stream is too long\"\n  output logits = seq[position % length] + zero[token]";
    let script = Script::with(4, &[1, 2, 3, 1, 2], "", step);
    let arguments = script.arguments("run", &["--tokens", "", "-t", "0", "-n", "9"]);
    ends(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), 5, "5 steps: 5 of 9");
    let report: Value =
        serde_json::from_str(&script.stdout("run", &["--tokens", "", "-t", "0", "-n", "5", "--json"])).unwrap();
    assert_eq!((&report["end"], &report["elements"]), (&"length".into(), &json!([1, 2, 3, 1, 2])));
}

#[test]
fn logits_that_are_not_finite_end_a_command_with_their_step() {
    // 1e20, then 1e40, which is none.
    let scale = "block grow() -> f32 {\n  state s: f32 = 1\n  s = s * 1e20\n  return s\n}\npart scale: grow";
    let step = "  output logits = seq[position % length] * scale() + zero[token]";
    let script = Script::with(4, &[1, 2, 3], scale, step);
    let ids = script.path("ids.json");
    std::fs::write(&ids, "[1, 2, 3, 1, 2, 3]").unwrap();
    let place = |said: &str, step: usize| {
        assert!(said.contains(&format!("not finite: in step {step},")), "{said}");
        assert!(said.contains("in step 1, from `mul`") && said.contains("script.graph:13:"), "{said}");
    };
    place(&script.failure("run", &["--tokens", "", "-t", "0", "-n", "4"]), 1);
    place(&script.failure("run", &["--tokens", "", "-n", "4", "--json"]), 1);
    place(&script.failure("run", &["--tokens", "1,2", "-n", "4"]), 1);
    // A prompt is read before anything is asked of its logits.
    place(&script.failure("bench", &["--steps", "4", "--rounds", "1"]), 3);
    for more in [&[][..], &["--json"], &["--backend", "interp"]] {
        place(&script.failure("eval", &[&["--text", text(&ids)], more].concat()), 1);
    }
    place(&script.failure("eval", &["--text", text(&ids), "--window", "3"]), 1);
    // What nothing asks for does not count: one step of it is finite.
    assert!(script.run("run", &["--tokens", "", "-n", "1"]).status.success());
    // Infinities that the graph writes itself are no cause, but nothing can be chosen by them either.
    let written = "  output logits = seq[position % length] + (if position > 0 { -inf } else { 0.0 }) + zero[token]";
    let script = Script::with(4, &[1, 2, 3], "", written);
    let said = script.failure("run", &["--tokens", "", "-n", "4"]);
    assert!(said.contains("in step 1,") && !said.contains("first value"), "{said}");
}

#[test]
fn a_perplexity_that_is_none_is_an_error() {
    let script = Script::new(3, &[1, 2]);
    // Finite logits of which one is as good as impossible.
    let zero = vec![0.0; 9];
    let seq = [0.0, 3e38, 0.0, 0.0, 0.0, 3e38];
    save(&script.path("w.safetensors"), &[("seq", &[2, 3], &seq), ("zero", &[3, 3], &zero)]);
    std::fs::write(script.path("ids.txt"), "[0, 1, 0, 1]").unwrap();
    let ids = script.path("ids.txt");
    for more in [&[][..], &["--json"]] {
        let output = script.run("eval", &[&["--text", text(&ids)], more].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
        assert!(said.contains("the perplexity is not finite") && said.contains("step 1 gives element 2"), "{said}");
    }
}

#[test]
fn a_tokenizer_may_begin_with_a_byte_order_mark() {
    let script = Script::speaking(&["<unk>", "a"], &["a"], |vocab| words(vocab, json!({})));
    let plain = std::fs::read_to_string(script.path("tokenizer.json")).unwrap();
    std::fs::write(script.path("tokenizer.json"), format!("\u{feff}{plain}")).unwrap();
    assert_eq!(script.stdout("run", &["-n", "1", "-p", "a"]), "a a\n");
    // Ids in place of a text.
    std::fs::remove_file(script.path("tokenizer.json")).unwrap();
    std::fs::write(script.path("ids.txt"), "\u{feff}[1]").unwrap();
    assert_eq!(script.stdout("run", &["-n", "1", "--prompt-file", text(&script.path("ids.txt"))]), "1\n");
}

#[test]
fn a_pattern_that_goes_back_for_ever_is_named() {
    let with = |pattern: &str| {
        let split =
            json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
        let file = move |vocab: Value| words(vocab, json!({ "pre_tokenizer": split }));
        let script = Script::speaking(&["<unk>", "a"], &["a"], file);
        std::fs::write(script.path("prompt.txt"), "a".repeat(100_000)).unwrap();
        script
    };
    let prompt = |script: &Script| text(&script.path("prompt.txt")).to_owned();
    // Each takes the square of the text, or two to its power.
    for pattern in [r"(?=(a+))\1*c", "(a|aa)+(?!a)c"] {
        let script = with(pattern);
        let begin = std::time::Instant::now();
        let said = script.failure("run", &["-n", "1", "--prompt-file", &prompt(&script)]);
        assert!(said.contains("pre_tokenizer") && said.contains(&format!("`{pattern}`")), "{said}");
        assert!(begin.elapsed().as_secs() < 60, "{pattern}");
    }
    let script = with("(a+)+$");
    script.stdout("run", &["-n", "1", "--prompt-file", &prompt(&script)]);
}
