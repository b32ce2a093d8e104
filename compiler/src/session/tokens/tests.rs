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
