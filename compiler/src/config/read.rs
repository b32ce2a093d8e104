//! Reads JSON text into the value tree, with the place of every mistake: RFC 8259, a byte order mark in front, and the
//! three words for numbers that are not finite, since Python writes them.

use super::value::{Json, JsonKind, Object, Property};
use crate::diagnostics::{Code, Diagnostic, Diagnostics, FileId, SourceFiles, Span};
use crate::limits::Limits;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a config at most.
const LARGEST: usize = Limits::DEFAULT.file;
/// Lists and objects inside one another at most.
const DEEPEST: usize = Limits::DEFAULT.nesting;

/// Reads a config. Duplicate keys are all reported; the first mistake of syntax ends the reading.
pub fn read(files: &SourceFiles, file: FileId, diagnostics: &mut Diagnostics) -> Option<Json> {
    let source = files.get(file);
    if source.text().len() > LARGEST {
        let title = format!("{} is larger than {LARGEST} bytes", source.name());
        diagnostics.push(Diagnostic::error(Code::TooLarge, title));
        return None;
    }
    let mut reader = Reader { text: source.text(), at: 0, file, duplicates: Vec::new() };
    let found = reader.whole();
    let duplicates = std::mem::take(&mut reader.duplicates);
    let fine = duplicates.is_empty();
    diagnostics.extend(duplicates);
    match found {
        Ok(value) => fine.then_some(value),
        Err(error) => {
            diagnostics.push(*error);
            None
        }
    }
}

type Read<T> = Result<T, Box<Diagnostic>>;

struct Reader<'a> {
    text: &'a str,
    at: usize,
    file: FileId,
    duplicates: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn whole(&mut self) -> Read<Json> {
        if self.text.starts_with('\u{feff}') {
            self.at = '\u{feff}'.len_utf8();
        }
        let value = self.value(0)?;
        self.blanks();
        if self.at < self.text.len() {
            return Err(self.unexpected("the end of the file", None));
        }
        Ok(value)
    }

    fn span(&self, range: Range<usize>) -> Span {
        Span::new(self.file, range)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// What stands here is not what JSON needs.
    fn unexpected(&self, expected: &str, help: Option<String>) -> Box<Diagnostic> {
        let rest = &self.text[self.at..];
        let word = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        let length = match rest.chars().next() {
            Some(first) => word.max(first.len_utf8()),
            None => 0,
        };
        let title = match length {
            0 => "the config ends too early".to_string(),
            _ => format!("`{}` is not JSON here", rest[..length].escape_debug()),
        };
        Box::new(
            Diagnostic::error(Code::Json, title)
                .at(self.span(self.at..self.at + length), format!("expected {expected}"))
                .help_if(help),
        )
    }

    fn wrong(&self, range: Range<usize>, title: &str, text: &str) -> Box<Diagnostic> {
        Box::new(Diagnostic::error(Code::Json, title).at(self.span(range), text))
    }

    fn value(&mut self, depth: usize) -> Read<Json> {
        self.blanks();
        let start = self.at;
        let kind = match self.peek() {
            Some(b'{') => self.object(depth + 1)?,
            Some(b'[') => self.list(depth + 1)?,
            Some(b'"') => JsonKind::String(self.string()?),
            Some(b'-') if self.text[self.at + 1..].starts_with("Infinity") => self.not_finite("-Infinity"),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Json { kind, span: self.span(start..self.at) })
    }

    fn word(&mut self) -> Read<JsonKind> {
        let rest = &self.text[self.at..];
        let length = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let kind = match &rest[..length] {
            "null" => JsonKind::Null,
            "true" => JsonKind::Bool(true),
            "false" => JsonKind::Bool(false),
            "NaN" => return Ok(self.not_finite("NaN")),
            "Infinity" => return Ok(self.not_finite("Infinity")),
            "inf" | "nan" => {
                return Err(self.unexpected("a finite number", None));
            }
            "True" | "False" | "None" => {
                let help = "JSON writes `true`, `false` and `null`".to_string();
                return Err(self.unexpected("a value", Some(help)));
            }
            _ if rest.starts_with("//") || rest.starts_with('#') => {
                let help = "JSON has no comments".to_string();
                return Err(self.unexpected("a value", Some(help)));
            }
            _ => return Err(self.unexpected("a value", None)),
        };
        self.at += length;
        Ok(kind)
    }

    /// One of Python's words for numbers that JSON does not have.
    fn not_finite(&mut self, word: &str) -> JsonKind {
        self.at += word.len();
        let value = match word {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            _ => f64::NEG_INFINITY,
        };
        JsonKind::Float { value, text: word.into() }
    }

    fn enter(&self, depth: usize) -> Read<()> {
        if depth > DEEPEST {
            let title = format!("more than {DEEPEST} lists and objects inside one another");
            return Err(self.wrong(self.at..self.at + 1, &title, ""));
        }
        Ok(())
    }

    fn list(&mut self, depth: usize) -> Read<JsonKind> {
        self.enter(depth)?;
        self.at += 1;
        let mut elements = Vec::new();
        self.blanks();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(JsonKind::List(elements));
        }
        loop {
            elements.push(self.value(depth)?);
            self.blanks();
            match self.peek() {
                Some(b',') => self.comma(b']')?,
                Some(b']') => break,
                _ => return Err(self.unexpected("`,` or `]`", None)),
            }
        }
        self.at += 1;
        Ok(JsonKind::List(elements))
    }

    /// A comma that something must follow.
    fn comma(&mut self, closing: u8) -> Read<()> {
        let comma = self.at;
        self.at += 1;
        self.blanks();
        if self.peek() == Some(closing) {
            let title = "JSON has no comma after the last element";
            return Err(self.wrong(comma..comma + 1, title, "remove it"));
        }
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Read<JsonKind> {
        self.enter(depth)?;
        self.at += 1;
        let mut object = Object::default();
        let mut seen: HashMap<Arc<str>, Span> = HashMap::new();
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(JsonKind::Object(object));
        }
        loop {
            self.blanks();
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key between `\"`", None));
            }
            let key = self.string()?;
            let key_span = self.span(start..self.at);
            self.blanks();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("`:`", None));
            }
            self.at += 1;
            let value = self.value(depth)?;
            match seen.get(&key) {
                Some(&first) => self.duplicates.push(
                    Diagnostic::error(Code::DuplicateKey, format!("key `{key}` occurs twice"))
                        .at(key_span, "again here")
                        .and_at(first, "first here"),
                ),
                None => {
                    seen.insert(key.clone(), key_span);
                    object.properties.push(Property { key, key_span, value });
                }
            }
            self.blanks();
            match self.peek() {
                Some(b',') => self.comma(b'}')?,
                Some(b'}') => break,
                _ => return Err(self.unexpected("`,` or `}`", None)),
            }
        }
        self.at += 1;
        Ok(JsonKind::Object(object))
    }

    fn number(&mut self) -> Read<JsonKind> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let digits = |mut at: usize| {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let first = start + usize::from(bytes[start] == b'-');
        let mut end = digits(first);
        let whole = end;
        let mut valid = whole > first && (bytes[first] != b'0' || whole == first + 1);
        if bytes.get(end) == Some(&b'.') {
            let fraction = end + 1;
            end = digits(fraction);
            valid &= end > fraction;
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = end + 1 + sign;
            end = digits(exponent);
            valid &= end > exponent;
        }
        let trailing = bytes[end..].iter().take_while(|b| b.is_ascii_alphanumeric()).count();
        if !valid || trailing > 0 {
            let range = start..end + trailing;
            return Err(self.wrong(range, "this is not a number of JSON", "expected a number"));
        }
        self.at = end;
        let text = &self.text[start..end];
        if end == whole {
            if let Ok(value) = text.parse() {
                return Ok(JsonKind::Int(value));
            }
            let title = "this number is too large";
            return Err(self.wrong(start..end, title, "not below 2^127"));
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(JsonKind::Float { value, text: text.into() }),
            _ => {
                let title = "this number is too large";
                Err(self.wrong(start..end, title, "beyond the range of a double"))
            }
        }
    }

    /// A string at its opening quote.
    fn string(&mut self) -> Read<Arc<str>> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut out = String::new();
        let mut at = start + 1;
        let mut plain = at;
        loop {
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    out.push_str(&self.text[plain..at]);
                    at = self.escape(at, &mut out)?;
                    plain = at;
                }
                Some(0x20..) => at += 1,
                Some(_) | None => {
                    let title = "this string does not end on its line";
                    return Err(self.wrong(start..at, title, "expected a closing `\"`"));
                }
            }
        }
        out.push_str(&self.text[plain..at]);
        self.at = at + 1;
        Ok(out.into())
    }

    /// The escape at a backslash; gives the offset behind it.
    fn escape(&self, at: usize, out: &mut String) -> Read<usize> {
        let plain = match self.text.as_bytes().get(at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(at, out),
            _ => {
                let title = "this escape is not one of JSON";
                let text = r#"expected one of \" \\ \/ \b \f \n \r \t \u"#;
                return Err(self.wrong(at..at + 1, title, text));
            }
        };
        out.push(plain);
        Ok(at + 2)
    }

    fn unicode(&self, at: usize, out: &mut String) -> Read<usize> {
        let unit = |at: usize| {
            let digits = self.text.as_bytes().get(at..at + 6)?;
            let hex = std::str::from_utf8(digits.strip_prefix(b"\\u")?).ok()?;
            let all = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
            all.then(|| u32::from_str_radix(hex, 16).ok()).flatten()
        };
        let wrong = || self.wrong(at..at + 2, "this escape names no character", "");
        let first = unit(at).ok_or_else(wrong)?;
        if let Some(character) = char::from_u32(first) {
            out.push(character);
            return Ok(at + 6);
        }
        // Characters beyond the first plane are two halves.
        let second = unit(at + 6).filter(|half| (0xdc00..0xe000).contains(half));
        let second = second.filter(|_| (0xd800..0xdc00).contains(&first)).ok_or_else(wrong)?;
        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        out.push(char::from_u32(code).ok_or_else(wrong)?);
        Ok(at + 12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(text: &str) -> Result<Json, Vec<String>> {
        let mut files = SourceFiles::new();
        let file = files.add("config.json", text);
        let mut diagnostics = Diagnostics::new();
        match read(&files, file, &mut diagnostics) {
            Some(value) => Ok(value),
            None => Err(diagnostics.iter().map(|d| format!("{} {}", d.code_text(), d.title)).collect()),
        }
    }

    #[test]
    fn values_keep_their_places() {
        let text = r#"{"a": [1, -2.50, true], "b": {"c": "x\u00e9\ud83d\ude00\n"}}"#;
        let value = run(text).unwrap();
        let c = value.lookup("b.c").unwrap();
        assert_eq!(c.value.as_str(), Some("xé😀\n"));
        assert_eq!(&text[c.key_span.range()], "\"c\"");
        let list = value.lookup("a").unwrap().value.as_list().unwrap();
        assert_eq!(list[0].as_int(), Some(1));
        assert_eq!(list[1].as_float(), Some(-2.5));
        assert_eq!(&text[list[1].span.range()], "-2.50");
        assert_eq!(list[1].to_string(), "-2.50");
    }

    #[test]
    fn what_python_writes_is_read_but_is_no_number() {
        let value = run("\u{feff}{\"a\": [NaN, Infinity, -Infinity]}").unwrap();
        let list = value.lookup("a").unwrap().value.as_list().unwrap();
        assert_eq!(list.iter().map(Json::as_float).collect::<Vec<_>>(), [None; 3]);
        assert_eq!(list.iter().map(Json::to_string).collect::<Vec<_>>(), ["NaN", "Infinity", "-Infinity"]);
        assert_eq!(value.to_value()["a"][2], "-Infinity");
    }

    #[test]
    fn integers_are_exact() {
        let value = run("18446744073709551615").unwrap();
        assert_eq!(value.as_int(), Some(u64::MAX.into()));
        assert_eq!(value.as_float(), None, "no double holds it");
        assert_eq!(run("3.0").unwrap().as_int(), None);
    }

    #[test]
    fn mistakes() {
        let deep = "[".repeat(65);
        let cases = [
            ("{\"a\": 1, \"a\": 2}", "E0607 key `a` occurs twice"),
            ("[1,]", "E0608 JSON has no comma after the last element"),
            ("[nan]", "E0608 `nan` is not JSON here"),
            ("1e999", "E0608 this number is too large"),
            ("01", "E0608 this is not a number of JSON"),
            ("\"a\nb\"", "E0608 this string does not end on its line"),
            ("\"\\ud800\"", "E0608 this escape names no character"),
            ("{\"a\" 1}", "E0608 `1` is not JSON here"),
            ("[1", "E0608 the config ends too early"),
            ("1 2", "E0608 `2` is not JSON here"),
            (&deep, "E0608 more than 64 lists and objects inside one another"),
        ];
        for (text, wanted) in cases {
            assert_eq!(run(text).unwrap_err(), [wanted], "{text}");
        }
    }

    proptest! {
        /// The reader and serde_json accept the same texts (numbers beyond ours aside).
        #[test]
        fn agrees_with_serde(text in r#"[\[\]{},: \n0-9.eE+\-"\\uab]{0,24}"#) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            let ours = run(&text);
            if theirs.is_err() {
                prop_assert!(ours.is_err());
            } else if let Err(errors) = ours {
                let known = errors.iter().all(|e| e.contains("too large") || e.contains("twice"));
                prop_assert!(known, "{errors:?}");
            }
        }

        /// Cutting, flipping and doubling bytes of a config never panics.
        #[test]
        fn mutations_are_survived(at in 0usize..60, byte in any::<u8>(), kind in 0..3) {
            let text = r#"{"d_model": 512, "a": [1.5e3, null, "x\n"], "m": {"k": false}}"#;
            let mut bytes = text.as_bytes().to_vec();
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.truncate(at),
                _ => bytes.insert(at, byte),
            }
            let _ = run(&String::from_utf8_lossy(&bytes));
        }
    }
}
