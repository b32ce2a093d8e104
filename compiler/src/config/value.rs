//! The value tree that JSON configs and presets both become: exact integers, ordered objects, and a
//! span on every key and value.

use crate::diagnostics::{Code, Diagnostic, Span, nearest};
use std::fmt;
use std::sync::Arc;

/// A config value where it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Json {
    /// What it is.
    pub kind: JsonKind,
    /// Where it stands: in the JSON text, or in the graph file for presets.
    pub span: Span,
}

/// The kinds of value.
#[derive(Clone, Debug, PartialEq)]
pub enum JsonKind {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number without point and exponent, exact.
    Int(i128),
    /// Any other number. `NaN`, `Infinity` and `-Infinity`, which Python writes, are read so that they may stand where
    /// nothing needs them; no typed key takes them. The text is as written, for messages.
    Float {
        /// Nearest double.
        value: f64,
        /// As written.
        text: Arc<str>,
    },
    /// Escapes resolved.
    String(Arc<str>),
    /// `[...]`
    List(Vec<Json>),
    /// `{...}`
    Object(Object),
}

/// An object: its properties in the order written, no key twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    /// In the order written.
    pub properties: Vec<Property>,
}

/// One key of an object with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Property {
    /// The key, escapes resolved.
    pub key: Arc<str>,
    /// Where it stands, with the quotes.
    pub key_span: Span,
    /// Its value.
    pub value: Json,
}

impl Object {
    /// The property of a key.
    pub fn get(&self, key: &str) -> Option<&Property> {
        self.properties.iter().find(|property| &*property.key == key)
    }

    /// The keys in the order written.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.properties.iter().map(|property| &*property.key)
    }
}

impl Json {
    /// The same value without places; integers beyond 64 bits become the nearest doubles.
    pub fn to_value(&self) -> serde_json::Value {
        use serde_json::Value;
        match &self.kind {
            JsonKind::Null => Value::Null,
            JsonKind::Bool(value) => Value::from(*value),
            JsonKind::Int(value) => i64::try_from(*value).map_or_else(|_| Value::from(*value as f64), Value::from),
            // JSON has no number for it: what nothing needs is kept as written.
            JsonKind::Float { value, text } if !value.is_finite() => Value::from(&**text),
            JsonKind::Float { value, .. } => Value::from(*value),
            JsonKind::String(text) => Value::from(&**text),
            JsonKind::List(values) => values.iter().map(Json::to_value).collect(),
            JsonKind::Object(object) => {
                object.properties.iter().map(|p| (p.key.to_string(), p.value.to_value())).collect()
            }
        }
    }

    /// What kind of value it is, for messages: `an integer`, `a list`, ...
    pub fn kind_name(&self) -> &'static str {
        match &self.kind {
            JsonKind::Null => "null",
            JsonKind::Bool(_) => "a boolean",
            JsonKind::Int(_) => "an integer",
            JsonKind::Float { .. } => "a number",
            JsonKind::String(_) => "a string",
            JsonKind::List(_) => "a list",
            JsonKind::Object(_) => "an object",
        }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.kind == JsonKind::Null
    }

    /// The object, or nothing.
    pub fn as_object(&self) -> Option<&Object> {
        match &self.kind {
            JsonKind::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The elements, or nothing.
    pub fn as_list(&self) -> Option<&[Json]> {
        match &self.kind {
            JsonKind::List(list) => Some(list),
            _ => None,
        }
    }

    /// The integer, or nothing.
    pub fn as_int(&self) -> Option<i128> {
        match &self.kind {
            JsonKind::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The number as a double; integers too, if a double holds them exactly.
    pub fn as_float(&self) -> Option<f64> {
        match &self.kind {
            JsonKind::Int(value) => {
                let float = *value as f64;
                (float as i128 == *value).then_some(float)
            }
            JsonKind::Float { value, .. } if value.is_finite() => Some(*value),
            _ => None,
        }
    }

    /// The boolean, or nothing.
    pub fn as_bool(&self) -> Option<bool> {
        match &self.kind {
            JsonKind::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, or nothing.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            JsonKind::String(value) => Some(value),
            _ => None,
        }
    }

    /// Follows a dotted path through objects: `"backbone.moe.layers"`.
    pub fn lookup(&self, path: &str) -> Option<&Property> {
        let (head, rest) = match path.split_once('.') {
            Some((head, rest)) => (head, Some(rest)),
            None => (path, None),
        };
        let property = self.as_object()?.get(head)?;
        match rest {
            Some(rest) => property.value.lookup(rest),
            None => Some(property),
        }
    }

    /// The integer, or the diagnostic that says what stands there instead. `path` names the key.
    pub fn expect_int(&self, path: &str) -> Result<i128, Diagnostic> {
        self.as_int().ok_or_else(|| self.not_allowed(path, "an integer"))
    }

    /// The number, or a diagnostic.
    pub fn expect_float(&self, path: &str) -> Result<f64, Diagnostic> {
        self.as_float().ok_or_else(|| self.not_allowed(path, "a number"))
    }

    /// The boolean, or a diagnostic.
    pub fn expect_bool(&self, path: &str) -> Result<bool, Diagnostic> {
        self.as_bool().ok_or_else(|| self.not_allowed(path, "true or false"))
    }

    /// The text, or a diagnostic.
    pub fn expect_str(&self, path: &str) -> Result<&str, Diagnostic> {
        self.as_str().ok_or_else(|| self.not_allowed(path, "a string"))
    }

    /// The elements, or a diagnostic.
    pub fn expect_list(&self, path: &str) -> Result<&[Json], Diagnostic> {
        self.as_list().ok_or_else(|| self.not_allowed(path, "a list"))
    }

    /// The object, or a diagnostic.
    pub fn expect_object(&self, path: &str) -> Result<&Object, Diagnostic> {
        self.as_object().ok_or_else(|| self.not_allowed(path, "an object"))
    }

    /// `path` is this value, but `expected` was.
    pub fn not_allowed(&self, path: &str, expected: &str) -> Diagnostic {
        Diagnostic::error(Code::ValueNotAllowed, format!("`{path}` is {self}"))
            .at(self.span, format!("expected {expected}"))
    }
}

impl Property {
    /// This key is not declared. `owner` is the model (or `model.object`); `known` are the keys at
    /// this level; `describe` says more about the nearest one (`int, 0 or more, default 0`), or
    /// gives an empty text.
    pub fn unknown(&self, owner: &str, known: &[&str], describe: impl Fn(&str) -> String) -> Diagnostic {
        let mut error = Diagnostic::error(Code::UnknownKey, format!("`{}` is not a key of {owner}", self.key))
            .at(self.key_span, "");
        if let Some(near) = nearest(&self.key, known.iter().copied()) {
            let more = describe(near);
            let more = if more.is_empty() { more } else { format!(" ({more})") };
            error = error.help(format!("nearest key: `{near}`{more}"));
        }
        error.note(format!("keys at this level: {}", abbreviated(known, 5)))
    }
}

/// `a, b, c, ...`: at most `most` names.
pub fn abbreviated(names: &[&str], most: usize) -> String {
    let mut text = names.iter().take(most).copied().collect::<Vec<_>>().join(", ");
    if names.len() > most {
        text.push_str(", ...");
    }
    text
}

/// As JSON, shortened after some sixty characters.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        self.write(&mut text, 60);
        f.write_str(&text)
    }
}

impl Json {
    fn write(&self, out: &mut String, most: usize) {
        if out.len() > most {
            if !out.ends_with("...") {
                out.push_str("...");
            }
            return;
        }
        match &self.kind {
            JsonKind::Null => out.push_str("null"),
            JsonKind::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            JsonKind::Int(value) => out.push_str(&value.to_string()),
            JsonKind::Float { text, .. } => out.push_str(text),
            JsonKind::String(value) => {
                out.push('"');
                out.extend(value.chars().take(most));
                out.push_str(if value.chars().count() > most { "..." } else { "\"" });
            }
            JsonKind::List(list) => {
                out.push('[');
                for (index, element) in list.iter().enumerate() {
                    out.push_str(if index > 0 { ", " } else { "" });
                    element.write(out, most);
                    if out.len() > most {
                        break;
                    }
                }
                out.push(']');
            }
            JsonKind::Object(_) => out.push_str("{...}"),
        }
    }
}
