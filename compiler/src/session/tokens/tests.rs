//! Streams against the library's own decoding of all tokens at once, over every kind of decoder and awkward
//! vocabularies.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Tokens that begin, continue and end characters, runs of bytes, marks, suffixes and words.
const TOKENS: [&str; 40] = [
    "<unk>", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "<0xC3>", "<0xA9>", "<0x20>", "<0x+f>", "<0xé>", "<0x0>", "▁",
    "▁▁", "▁hello", "▁the", "lo▁", " ", "  ", "a", "é", "e", "ee", "##ing", "##", "do", "not", "n't", ".", "'", "</w>",
    "end</w>", "<", "/w>", "ĺ", "Ã", "©", "Ġhello", "Ċ", "ðŁĺ", "Ģ",
];

fn tokenizer(decoder: &Value) -> Tokenizer {
    let vocab: serde_json::Map<String, Value> =
        TOKENS.iter().enumerate().map(|(id, &token)| (token.to_owned(), id.into())).collect();
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null, "decoder": decoder,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<unk>" },
    });
    Tokenizer::read(file.to_string().as_bytes()).unwrap()
}

fn replace(pattern: Value, content: &str) -> Value {
    json!({ "type": "Replace", "pattern": pattern, "content": content })
}

fn decoders() -> Vec<Value> {
    let strip = |content: &str, start: usize, stop: usize| json!({ "type": "Strip", "content": content, "start": start, "stop": stop });
    let metaspace =
        |scheme: &str| json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true });
    let wordpiece = |cleanup: bool| json!({ "type": "WordPiece", "prefix": "##", "cleanup": cleanup });
    let bpe = |suffix: &str| json!({ "type": "BPEDecoder", "suffix": suffix });
    vec![
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
        json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true }),
        replace(json!({ "String": "▁" }), " "),
        replace(json!({ "String": "lo" }), "l-o"),
        replace(json!({ "String": "ee" }), "e"),
        replace(json!({ "String": "e" }), ""),
        replace(json!({ "String": "" }), "-"),
        replace(json!({ "Regex": " +" }), "_"),
        strip(" ", 1, 0),
        strip("e", 0, 1),
        strip("e", 1, 2),
        strip("▁", 2, 1),
        metaspace("always"),
        metaspace("never"),
        metaspace("first"),
        wordpiece(false),
        wordpiece(true),
        bpe("</w>"),
        bpe("e"),
        bpe(""),
        json!({ "type": "CTC", "pad_token": "<unk>", "word_delimiter_token": "▁", "cleanup": true }),
    ]
}

fn sequence(parts: &[Value]) -> Value {
    json!({ "type": "Sequence", "decoders": parts })
}

/// What the library makes of all tokens; none where it panics.
fn at_once(tokenizer: &Tokenizer, ids: &[u32]) -> Option<String> {
    guarded(|| tokenizer.inner.decode(ids, false)).ok()?.ok()
}

fn check(decoder: &Value, ids: &[u32], cut: usize) {
    let tokenizer = tokenizer(decoder);
    let text = tokenizer.decode(ids);
    if let Some(expected) = at_once(&tokenizer, ids) {
        assert_eq!(text, expected, "{decoder}\n{ids:?}");
    }
    // A prompt in front is left out, and nothing of what follows.
    let cut = cut.min(ids.len());
    let mut stream = tokenizer.stream();
    stream.prompt(&ids[..cut]);
    let mut rest: String = ids[cut..].iter().map(|&id| stream.push(id)).collect();
    rest.push_str(&stream.finish());
    let common =
        |a: &str, b: &str| a.chars().zip(b.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
    let known: usize = common(&tokenizer.decode(&ids[..cut]), &text);
    assert_eq!(rest, text[known..], "{decoder}\n{ids:?} after {cut}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn streams_give_the_text_of_all_tokens(
        parts in prop::collection::vec(prop::sample::select(decoders()), 1..5),
        ids in prop::collection::vec(0..42u32, 0..24),
        cut in 0..12usize,
    ) {
        // Some ids have no token.
        check(&sequence(&parts), &ids, cut);
        check(&parts[0], &ids, cut);
        check(&Value::Null, &ids, cut);
    }
}

/// The decoder of SentencePiece's byte-pair models.
fn llama() -> Value {
    let marks = replace(json!({ "String": "▁" }), " ");
    let strip = json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 });
    sequence(&[marks, json!({ "type": "ByteFallback" }), json!({ "type": "Fuse" }), strip])
}

fn id(token: &str) -> u32 {
    TOKENS.iter().position(|&t| t == token).unwrap() as u32
}

#[test]
fn text_comes_as_soon_as_it_is_certain() {
    let pushes = |decoder: &Value, tokens: &[&str]| {
        let tokenizer = tokenizer(decoder);
        let mut stream = tokenizer.stream();
        let mut texts: Vec<String> = tokens.iter().map(|token| stream.push(id(token))).collect();
        texts.push(stream.finish());
        texts
    };
    let emoji = ["▁hello", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "▁the", "<0xF0>"];
    assert_eq!(pushes(&llama(), &emoji), ["hello", "", "", "", "", "😀 the", "", "\u{fffd}"]);
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true });
    assert_eq!(pushes(&bytes, &["Ã", "©", "Ġhello", "ðŁĺ", "Ġhello"]), ["", "é", " hello", "", "\u{fffd} hello", ""]);
    let marks = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
    assert_eq!(pushes(&marks, &["▁hello", "▁the"]), ["hello", " the", ""]);
    let words = json!({ "type": "WordPiece", "prefix": "##", "cleanup": true });
    assert_eq!(pushes(&words, &["do", "##ing", "."]), ["do", "ing", ".", ""]);
    let suffix = json!({ "type": "BPEDecoder", "suffix": "</w>" });
    assert_eq!(pushes(&suffix, &["a", "end</w>", "a"]), ["a", "end", " a", ""]);
    assert_eq!(pushes(&Value::Null, &["a", "do"]), ["a", " do", ""]);
}

#[test]
fn a_word_after_a_prompt_keeps_its_space() {
    let marks = json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true });
    for decoder in [llama(), marks] {
        let tokenizer = tokenizer(&decoder);
        let mut stream = tokenizer.stream();
        stream.prompt(&[id("▁hello")]);
        assert_eq!(stream.push(id("▁the")) + &stream.finish(), " the", "{decoder}");
    }
}

#[test]
fn a_long_text_is_measured_before_it_grows() {
    let file = json!({
        "version": "1.0", "added_tokens": [], "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "normalizer": replace(json!({ "Regex": "a" }), &"b".repeat(60000)),
        "model": { "type": "WordLevel", "vocab": { "b": 0 }, "unk_token": "b" },
    });
    let tokenizer = Tokenizer::read(file.to_string().as_bytes()).unwrap();
    assert_eq!(tokenizer.encode("c").unwrap(), [0]);
    let said = tokenizer.encode(&"ca".repeat(5000)).unwrap_err().to_string();
    assert!(said.contains("more than 8 times as long"), "{said}");
}

/// What the library finds with searches of its own, in texts that no search gives up; none where it panics.
fn library(file: &Value, text: &str) -> Option<Vec<u32>> {
    let read: tokenizers::Tokenizer = serde_json::from_value(file.clone()).unwrap();
    guarded(|| read.encode_fast(text, false).unwrap().get_ids().to_vec()).ok()
}

/// A tokenizer of bytes, so that nothing that is cut or replaced can stay unseen.
fn cutting(normalizer: Value, cutter: Value) -> Value {
    let level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    let mut letters: Vec<String> =
        tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().into_iter().map(String::from).collect();
    letters.sort();
    // Words whose halves are cut apart are seen.
    letters.extend(["ab", "aa", "ĠĠ", "Ġa", "a1"].map(str::to_owned));
    let vocab: serde_json::Map<String, Value> =
        letters.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let merges = json!([["a", "b"], ["a", "a"], ["Ġ", "Ġ"], ["Ġ", "a"], ["a", "1"]]);
    json!({
        "version": "1.0", "added_tokens": [], "normalizer": normalizer, "post_processor": null, "decoder": null,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [cutter, level] },
        "model": { "type": "BPE", "vocab": vocab, "merges": merges },
    })
}

fn split(pattern: &str, behavior: &str, invert: bool) -> Value {
    json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": behavior, "invert": invert })
}

/// The patterns of well-known tokenizers, and others that look around or refer back.
const PATTERNS: [&str; 8] = [
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"\d{1,3}(?=(?:\d{3})*\b)",
    r"(?<=a)(?=b)|\s",
    r"(a)\1+",
    r"",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn patterns_cut_as_those_of_the_library(
        pattern in prop::sample::select(PATTERNS.to_vec()),
        behavior in prop::sample::select(vec!["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]),
        invert: bool,
        text in "[aAb1é'sß \n\r\t.,-]{0,40}",
    ) {
        let words = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true });
        for cutter in [split(pattern, behavior, invert), words] {
            let replacing = replace(json!({ "Regex": pattern }), "ab");
            for normalizer in [Value::Null, json!({ "type": "Sequence", "normalizers": [replacing] })] {
                let file = cutting(normalizer, cutter.clone());
                let own = Tokenizer::read(file.to_string().as_bytes()).unwrap();
                prop_assert_eq!(own.encode(&text).ok(), library(&file, &text), "{}", file["pre_tokenizer"]);
            }
        }
    }
}

#[test]
fn a_search_that_is_given_up_is_an_error() {
    let read = |file: Value| Tokenizer::read(file.to_string().as_bytes()).unwrap();
    // The library takes a search that was given up for one that found nothing, and the rest for one piece.
    let rare = read(cutting(Value::Null, split("1(?!b)", "Removed", false)));
    let long = "b".repeat(1_200_000) + "1a";
    assert_eq!(rare.encode(&long).unwrap().len(), 1_200_001);
    let words = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let spaces = |count: usize| " ".repeat(count) + "a";
    let file = cutting(Value::Null, words);
    assert_eq!(read(file.clone()).encode(&spaces(400_000)).ok(), library(&file, &spaces(400_000)));
    let said = read(file).encode(&spaces(1_200_000)).unwrap_err().to_string();
    assert!(said.contains("pre_tokenizer: the pattern `'s|'t") && said.contains("given up"), "{said}");
    let hostile = replace(json!({ "Regex": "(a|aa)+(?!a)c" }), "b");
    let mut file = cutting(hostile, split("b", "Removed", false));
    let said = read(file.clone()).encode(&"a".repeat(5000)).unwrap_err().to_string();
    let expected = "normalizer: the pattern `(a|aa)+(?!a)c` is given up";
    assert!(said.contains(expected), "{said}");
    // Tokens of the file go through it already.
    file["added_tokens"] = json!([{
        "id": 300, "content": "a".repeat(4000), "special": false, "single_word": false, "lstrip": false,
        "rstrip": false, "normalized": true,
    }]);
    let said = Tokenizer::read(file.to_string().as_bytes()).err().unwrap();
    assert!(said.contains(expected), "{said}");
}

#[test]
fn patterns_of_decoders_never_go_back() {
    let file = |pattern: &str| {
        let mut file = cutting(Value::Null, split("b", "Removed", false));
        file["decoder"] = replace(json!({ "Regex": pattern }), "$0");
        Tokenizer::read(file.to_string().as_bytes())
    };
    let said = file("(?=(a+))\\1*c").err().unwrap();
    assert!(said.contains("decoder: a pattern that is searched without going back"), "{said}");
    let tokenizer = file("a|1").unwrap();
    let ids = tokenizer.encode("a1c").unwrap();
    // `a1` is one token.
    assert_eq!(tokenizer.decode(&ids), "$0$0c");
}
