//! What a tokenizer file may ask for. The library that reads it allocates and recurses as the file says, so what no
//! process could bear is refused here, before the library sees it; and what belongs to training is noted, since it
//! never acts.

use std::collections::HashSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Bytes of one token: one level of a tree each.
const MAX_TOKEN: usize = 4096;
/// How many times as long a text may become before it is cut into tokens, and a token before it is shown. Real files stay below 10,000: their bounds
/// for compatibility forms (11), tables of characters (33) and marks of words (4) multiply, though no text is at all of
/// them.
const MAX_GROWTH: f64 = 65536.0;
/// Parts within parts.
const MAX_DEPTH: usize = 16;
/// Tokens to which a text may be cut or filled up.
const MAX_LENGTH: u64 = 1 << 32;
/// Characters of a word that is matched with pieces, each against all of its ends.
const MAX_WORD: u64 = 1000;
/// Characters that a decoder takes from either end of a token.
const MAX_STRIP: u64 = 16;

/// The parts of a file that matter here; a part that occurs twice is an error.
#[derive(Deserialize)]
struct File {
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    truncation: Option<Value>,
    padding: Option<Value>,
    model: Model,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    max_input_chars_per_word: Option<u64>,
    #[serde(default, rename = "vocab")]
    longest: Longest,
}

/// Bytes of the longest token of a vocabulary.
#[derive(Default)]
struct Longest(usize);

impl<'de> Deserialize<'de> for Longest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Longest, D::Error> {
        struct Vocabulary;
        impl<'de> Visitor<'de> for Vocabulary {
            type Value = Longest;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("tokens with ids or scores")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Longest, A::Error> {
                let (mut longest, mut tokens, mut ids) = (0, HashSet::new(), HashSet::new());
                while let Some((token, id)) = map.next_entry::<String, u32>()? {
                    longest = longest.max(token.len());
                    // Which of two would be read is left to chance.
                    if !ids.insert(id) {
                        return Err(A::Error::custom(format!("two tokens have the id {id}")));
                    }
                    if let Some(token) = tokens.replace(token) {
                        return Err(A::Error::custom(format!("the token {token:?} stands twice")));
                    }
                }
                Ok(Longest(longest))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut tokens: A) -> Result<Longest, A::Error> {
                let mut longest = 0;
                while let Some((token, _)) = tokens.next_element::<(String, IgnoredAny)>()? {
                    longest = longest.max(token.len());
                }
                Ok(Longest(longest))
            }
        }
        deserializer.deserialize_any(Vocabulary)
    }
}

/// What a file was found to be.
#[derive(Debug)]
pub(super) struct Checked {
    /// What it saves for training: none of that acts here.
    pub saved: Vec<&'static str>,
    /// How many times as long a text may become before it is cut into tokens.
    pub growth: f64,
}

/// Checks a file.
///
/// # Errors
/// A part that no process could bear, or that has no meaning, by its place in the file.
pub(super) fn check(bytes: &[u8]) -> Result<Checked, String> {
    let file: File = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if file.model.longest.0 > MAX_TOKEN {
        return Err(format!("model.vocab: a token has {} bytes, at most {MAX_TOKEN} are read", file.model.longest.0));
    }
    if let Some(word) = file.model.max_input_chars_per_word.filter(|&word| word > MAX_WORD) {
        return Err(format!("model: words of {word} characters, at most {MAX_WORD} are matched"));
    }
    let growth = product("normalizer", &file.normalizer)? * product("pre_tokenizer", &file.pre_tokenizer)?;
    if growth > MAX_GROWTH {
        return Err(format!(
            "normalizer: a text may become {growth} times as long as it is, at most {MAX_GROWTH} times is read"
        ));
    }
    let written = product("decoder", &file.decoder)?;
    if written > MAX_GROWTH {
        return Err(format!(
            "decoder: a token may become {written} times as long as it is, at most {MAX_GROWTH} times is written"
        ));
    }
    each(file.post_processor.as_ref(), "post_processor", 0, &mut template)?;
    each(file.decoder.as_ref(), "decoder", 0, &mut strip)?;
    truncation(&file.truncation)?;
    padding(&file.padding)?;
    let saved = [
        ("truncation", given(&file.truncation)),
        ("padding", given(&file.padding)),
        ("dropout", file.model.dropout.is_some_and(|p| p != 0.0)),
    ];
    let saved = saved.into_iter().filter_map(|(name, is)| is.then_some(name)).collect();
    Ok(Checked { saved, growth })
}

fn given(part: &Option<Value>) -> bool {
    part.as_ref().is_some_and(|part| !part.is_null())
}

fn kind(part: &Value) -> &str {
    part["type"].as_str().unwrap_or_default()
}

/// Visits a part and all within it, with their places.
fn each(
    part: Option<&Value>,
    place: &str,
    depth: usize,
    visit: &mut impl FnMut(&Value, &str) -> Result<(), String>,
) -> Result<(), String> {
    let Some(part) = part else { return Ok(()) };
    if depth > MAX_DEPTH {
        return Err(format!("{place}: more than {MAX_DEPTH} parts within parts"));
    }
    visit(part, place)?;
    for key in ["normalizers", "pretokenizers", "processors", "decoders"] {
        for (index, inner) in part[key].as_array().into_iter().flatten().enumerate() {
            each(Some(inner), &format!("{place}.{key}[{index}]"), depth + 1, visit)?;
        }
    }
    Ok(())
}

/// How many times as long a text is after a part and all within it, at most.
fn product(name: &str, part: &Option<Value>) -> Result<f64, String> {
    let mut growth = 1.0;
    each(part.as_ref(), name, 0, &mut |part, place| {
        growth *= grown(part, place)?;
        Ok(())
    })?;
    Ok(growth)
}

/// How many times as long a text is after a part, at most.
fn grown(part: &Value, place: &str) -> Result<f64, String> {
    let length = |key: &str| part[key].as_str().map_or(0, str::len) as f64;
    Ok(match kind(part) {
        "Prepend" => 1.0 + length("prepend"),
        // One that stands for nothing is found between any two characters.
        "Replace" => match part["pattern"]["String"].as_str() {
            Some(pattern) if !pattern.is_empty() => (length("content") / pattern.len() as f64).max(1.0),
            _ => 1.0 + length("content"),
        },
        "Precompiled" => charsmap(part, place)?,
        // U+FDFA, of 3 bytes, has a compatibility decomposition of 33.
        "NFKC" | "NFKD" => 11.0,
        "NFC" | "NFD" | "Bert" | "BertNormalizer" | "Metaspace" => 4.0,
        "Lowercase" | "ByteLevel" => 2.0,
        "FixedLength" if part["length"].as_u64() == Some(0) => {
            return Err(format!("{place}: pieces of length 0"));
        }
        _ => 1.0,
    })
}

/// The length of the longest text that a table of SentencePiece's layout puts in place of a character: the size of a
/// trie in bytes, the trie, and texts that end with a zero.
fn charsmap(part: &Value, place: &str) -> Result<f64, String> {
    let wrong = |what: &str| format!("{place}.precompiled_charsmap: {what}");
    let text = part["precompiled_charsmap"].as_str().ok_or_else(|| wrong("is no text"))?;
    let bytes = STANDARD.decode(text).map_err(|e| wrong(&e.to_string()))?;
    let (size, rest) = bytes.split_first_chunk().ok_or_else(|| wrong("it ends before the size of its trie"))?;
    let size = u32::from_le_bytes(*size) as usize;
    if size == 0 || !size.is_multiple_of(4) || size > rest.len() {
        let held = rest.len();
        return Err(wrong(&format!("its trie is said to have {size} bytes, the {held} that follow are no such trie")));
    }
    let texts = std::str::from_utf8(&rest[size..]).map_err(|e| wrong(&e.to_string()))?;
    Ok(texts.split('\0').map(str::len).max().unwrap_or(0).max(1) as f64)
}

/// A template for one text has no place for a second.
fn template(part: &Value, place: &str) -> Result<(), String> {
    let second = |piece: &Value| piece["Sequence"]["id"].as_str() == Some("B");
    let single = part["single"].as_array();
    match single.is_some_and(|pieces| pieces.iter().any(second)) {
        true => Err(format!("{place}.single: it asks for a second text (B)")),
        false => Ok(()),
    }
}

fn strip(part: &Value, place: &str) -> Result<(), String> {
    let most = ["start", "stop"].into_iter().filter_map(|key| part[key].as_u64()).max();
    match most.filter(|&most| kind(part) == "Strip" && most > MAX_STRIP) {
        Some(most) => Err(format!("{place}: it takes {most} characters from a token, at most {MAX_STRIP} can be")),
        None => Ok(()),
    }
}

/// Truncation never acts, but one that cannot be is the sign of a damaged file.
fn truncation(part: &Option<Value>) -> Result<(), String> {
    let Some(part) = part else { return Ok(()) };
    match (part["max_length"].as_u64(), part["stride"].as_u64()) {
        (Some(length), Some(stride)) if length > 0 && stride >= length => {
            Err(format!("truncation: a stride of {stride} in pieces of {length} tokens"))
        }
        _ => Ok(()),
    }
}

/// The same for padding.
fn padding(part: &Option<Value>) -> Result<(), String> {
    let Some(part) = part else { return Ok(()) };
    let most = part["strategy"]["Fixed"].as_u64().max(part["pad_to_multiple_of"].as_u64());
    match most.filter(|&most| most > MAX_LENGTH) {
        Some(most) => Err(format!("padding: to {most} tokens, at most {MAX_LENGTH} can be")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(key: &str, part: Value) -> Result<Vec<&'static str>, String> {
        let mut file = json!({ "version": "1.0", "model": { "type": "BPE", "vocab": { "a": 0 }, "merges": [] } });
        file[key] = part;
        check(file.to_string().as_bytes()).map(|checked| checked.saved)
    }

    fn refused(key: &str, part: Value, words: &str) {
        let said = with(key, part).unwrap_err();
        assert!(said.contains(words), "{said}");
    }

    #[test]
    fn what_no_process_could_bear_is_refused_by_its_place() {
        let replace = |from: Value, to: &str| json!({ "type": "Replace", "pattern": from, "content": to });
        let tenfold = replace(json!({ "String": "a" }), "aaaaaaaaaa");
        let parts = |n: usize| json!({ "type": "Sequence", "normalizers": vec![tenfold.clone(); n] });
        assert!(with("normalizer", parts(4)).is_ok());
        refused("normalizer", parts(5), "100000 times");
        refused("normalizer", replace(json!({ "Regex": "" }), &"x".repeat(70000)), "70001 times");
        let mut deep = json!({ "type": "Lowercase" });
        for _ in 0..17 {
            deep = json!({ "type": "Sequence", "normalizers": [deep] });
        }
        refused("normalizer", deep, "within parts");
        let pieces = json!({ "type": "Sequence", "pretokenizers": [{ "type": "FixedLength", "length": 0 }] });
        refused("pre_tokenizer", pieces, "pre_tokenizer.pretokenizers[0]: pieces of length 0");
        let parts = |n: usize| json!({ "type": "Sequence", "decoders": vec![tenfold.clone(); n] });
        assert!(with("decoder", parts(4)).is_ok());
        refused("decoder", parts(5), "decoder: a token may become 100000 times");
        refused("decoder", json!({ "type": "Strip", "content": "e", "start": 0, "stop": 99 }), "99 characters");
        let second = json!({ "type": "TemplateProcessing", "single": [{ "Sequence": { "id": "B", "type_id": 0 } }] });
        refused("post_processor", second, "second text");
        refused("padding", json!({ "strategy": { "Fixed": 1u64 << 40 } }), "1099511627776 tokens");
        refused("padding", json!({ "strategy": "BatchLongest", "pad_to_multiple_of": 1u64 << 63 }), "tokens");
        refused("truncation", json!({ "max_length": 2, "stride": 5 }), "stride of 5");
        let long = json!({ "type": "Unigram", "vocab": [["a".repeat(5000), -1.0]] });
        refused("model", long, "5000 bytes");
        let ids = json!({ "type": "WordLevel", "vocab": { "a": 0, "b": 0 } });
        refused("model", ids, "two tokens have the id 0");
        let twice = r#"{ "model": { "type": "WordLevel", "vocab": { "a": 0, "a": 1 } } }"#;
        assert!(check(twice.as_bytes()).unwrap_err().contains("the token \"a\" stands twice"));
        let words = json!({ "type": "WordPiece", "vocab": {}, "max_input_chars_per_word": 1u64 << 40 });
        refused("model", words, "words of 1099511627776");
    }

    #[test]
    fn tables_of_characters_are_measured() {
        let table = |bytes: &[u8]| json!({ "type": "Precompiled", "precompiled_charsmap": STANDARD.encode(bytes) });
        for bytes in [&b""[..], b"\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\0abc", b"\x04\0\0\0abc", b"\x05\0\0\0abcde"] {
            refused("normalizer", table(bytes), "trie");
        }
        assert!(with("normalizer", table(b"\x04\0\0\0abcdtext\0")).is_ok());
        let long = [&b"\x04\0\0\0abcd"[..], &[b'x'; 70000]].concat();
        refused("normalizer", table(&long), "70000 times");
        refused("normalizer", table(b"\x04\0\0\0abcd\xff"), "utf-8");
    }

    #[test]
    fn what_is_for_training_is_noted() {
        assert_eq!(with("truncation", json!({ "max_length": 512, "stride": 0 })).unwrap(), ["truncation"]);
        assert_eq!(with("padding", json!({ "strategy": { "Fixed": 512 } })).unwrap(), ["padding"]);
        let model = |dropout: Value| json!({ "type": "BPE", "dropout": dropout, "vocab": {}, "merges": [] });
        assert_eq!(with("model", model(json!(0.1))).unwrap(), ["dropout"]);
        assert!(with("model", model(json!(0.0))).unwrap().is_empty());
        assert!(with("model", model(Value::Null)).unwrap().is_empty());
    }
}
