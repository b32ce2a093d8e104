//! The config against its declaration: types, ranges, defaults, fates; every key accounted for.

use std::fmt::Write as _;
use std::sync::Arc;

use indexmap::IndexMap;

use super::Elaborator;
use super::globals::Lazy;
use super::schema_types::{describe, json_text, quoted, range_text, value_of};
use super::value::{R, Reported, Val};
use crate::config::{Json, Object, Property};
use crate::diagnostics::{Code, Diagnostic, Span, nearest};
use crate::ir::{ConfigUse, Treatment};
use crate::lang::ast::{self, FateKind, Key, KeyBody, KeyDecl, KeyForm, KeyType};

/// The declared keys with what the config gives them.
#[derive(Default)]
pub(super) struct Schema<'a> {
    pub nodes: Vec<Node<'a>>,
    uses: Vec<ConfigUse>,
}

/// One object of the config.
pub(super) struct Node<'a> {
    pub path: String,
    pub keys: IndexMap<Arc<str>, Slot<'a>>,
}

/// One declared key.
pub(super) struct Slot<'a> {
    pub name: &'a ast::Name,
    pub decl: &'a KeyDecl,
    pub content: Content<'a>,
    /// The key and the value in the config.
    pub given: Option<(Span, Span)>,
}

/// What a key holds.
pub(super) enum Content<'a> {
    Object(usize),
    /// An object `{ ... }?` that is null or absent.
    Null,
    Fate,
    Value {
        /// The config's value, not yet checked.
        raw: Option<Val<'a>>,
        state: Lazy<'a>,
    },
}

impl<'a> Schema<'a> {
    /// The keys of the outermost object with their declarations.
    pub fn top_keys(&self) -> Vec<(Arc<str>, Span)> {
        let Some(node) = self.nodes.first() else {
            return Vec::new();
        };
        node.keys.iter().map(|(key, slot)| (key.clone(), slot.name.span)).collect()
    }
}

impl<'a> Elaborator<'a> {
    /// Reads the whole config; wrong values are reported together.
    pub(super) fn read_config(&mut self, config: &Json) {
        let file = self.namespaces[0].file;
        let decls: &'a [KeyDecl] = file
            .items
            .iter()
            .find_map(|item| match item {
                ast::Item::Config(config) => Some(config.keys.as_slice()),
                _ => None,
            })
            .unwrap_or(&[]);
        let empty = Object::default();
        let object = match config.as_object() {
            Some(object) => object,
            None => {
                self.diagnostics.push(config.not_allowed("the config", "an object"));
                &empty
            }
        };
        let missing_at = Span { end: config.span.start.saturating_add(1), ..config.span };
        self.read_object(object, decls, "", &mut Vec::new(), missing_at);
        for node in 0..self.schema.nodes.len() {
            for key in 0..self.schema.nodes[node].keys.len() {
                if self.schema.nodes[node].keys[key].given.is_some() {
                    let _ = self.force_key(node, key);
                }
            }
        }
    }

    fn read_object(
        &mut self,
        object: &Object,
        decls: &'a [KeyDecl],
        path: &str,
        above: &mut Vec<&'a [KeyDecl]>,
        missing_at: Span,
    ) -> usize {
        let at = self.schema.nodes.len();
        self.schema.nodes.push(Node { path: path.to_string(), keys: IndexMap::new() });
        for decl in decls.iter().filter(|d| !d.any_depth) {
            for key in &decl.keys {
                let Key::Named(name) = key else { continue };
                let slot = Slot {
                    name,
                    decl,
                    content: match decl.body {
                        KeyBody::Object { .. } => Content::Null,
                        KeyBody::Fate(_) => Content::Fate,
                        KeyBody::Value { .. } => Content::Value { raw: None, state: Lazy::Waiting },
                    },
                    given: None,
                };
                let before = self.schema.nodes[at].keys.insert(name.text.clone(), slot);
                if let Some(before) = before {
                    self.duplicate(name.as_str(), name.span, before.name.span);
                }
            }
        }
        above.push(decls);
        for property in &object.properties {
            self.read_property(property, at, path, above);
        }
        for key in 0..self.schema.nodes[at].keys.len() {
            let slot = &self.schema.nodes[at].keys[key];
            if slot.given.is_some() {
                continue;
            }
            let (name, decl) = (slot.name, slot.decl);
            match &decl.body {
                KeyBody::Object { optional: true, .. } => {}
                KeyBody::Object { keys: inner, optional: false } => {
                    let inner_path = join(path, name.as_str());
                    let empty = Object::default();
                    let node = self.read_object(&empty, inner, &inner_path, above, missing_at);
                    self.schema.nodes[at].keys[key].content = Content::Object(node);
                }
                KeyBody::Value { ty, default: None } => {
                    let expected = describe(self, ty);
                    self.diagnostics.push(
                        Diagnostic::error(
                            Code::MissingKey,
                            format!("the config lacks `{}`", join(path, name.as_str())),
                        )
                        .at(missing_at, format!("expected {expected}"))
                        .and_at(name.span, "declared here"),
                    );
                }
                _ => {}
            }
        }
        above.pop();
        at
    }

    fn read_property(&mut self, property: &Property, at: usize, path: &str, above: &mut Vec<&'a [KeyDecl]>) {
        let full = join(path, &property.key);
        if let Some(key) = self.schema.nodes[at].keys.get_index_of(&*property.key) {
            let slot = &mut self.schema.nodes[at].keys[key];
            slot.given = Some((property.key_span, property.value.span));
            let decl = slot.decl;
            match &decl.body {
                KeyBody::Object { optional: true, .. } if property.value.is_null() => {
                    self.schema.uses.push(ConfigUse {
                        key: full,
                        value: json_text(&property.value),
                        treatment: Treatment::Used,
                    });
                }
                KeyBody::Object { keys: inner, optional } => {
                    let expected = if *optional { "an object or null" } else { "an object" };
                    let empty = Object::default();
                    let object = property.value.as_object().unwrap_or_else(|| {
                        let error = property.value.not_allowed(&full, expected);
                        self.diagnostics.push(error);
                        &empty
                    });
                    let missing_at = property.key_span;
                    let node = self.read_object(object, inner, &full, above, missing_at);
                    self.schema.nodes[at].keys[key].content = Content::Object(node);
                }
                KeyBody::Fate(fate) => self.settle(property, &full, fate),
                KeyBody::Value { .. } => {
                    slot.content = Content::Value { raw: Some(value_of(&property.value)), state: Lazy::Waiting };
                    self.schema.uses.push(ConfigUse {
                        key: full,
                        value: json_text(&property.value),
                        treatment: Treatment::Used,
                    });
                }
            }
            return;
        }
        if let Some(decl) = any_rule(above, &property.key)
            && let KeyBody::Fate(fate) = &decl.body
        {
            return self.settle(property, &full, fate);
        }
        let owner = join(&self.module.name, path);
        let node = &self.schema.nodes[at];
        // After many mistakes the next ones are only counted.
        let few = !self.diagnostics.is_full();
        let known: Vec<&str> = node.keys.keys().filter(|_| few).map(|key| &**key).collect();
        let error = property.unknown(&owner, &known, |near| {
            node.keys.get(near).map_or_else(String::new, |slot| self.describe_key(slot))
        });
        self.diagnostics.push(error);
    }

    fn settle(&mut self, property: &Property, path: &str, fate: &ast::Fate) {
        let why = fate.reason.value.to_string();
        if fate.kind == FateKind::Warned {
            self.diagnostics.push(
                Diagnostic::warning(Code::WarnedKey, format!("`{path}`: {why}")).at(property.key_span, "has no effect"),
            );
        }
        self.schema.uses.push(ConfigUse {
            key: path.to_string(),
            value: json_text(&property.value),
            treatment: match fate.kind {
                FateKind::Ignored => Treatment::Ignored(why),
                FateKind::Runtime => Treatment::Runtime(why),
                FateKind::Warned => Treatment::Warned(why),
            },
        });
    }

    /// The value of a key of a config object; nothing if the object does not declare it.
    pub(super) fn config_key(&mut self, node: usize, name: &str, span: Span) -> R<Option<Val<'a>>> {
        let Some(object) = self.schema.nodes.get(node) else {
            return Ok(None);
        };
        let Some(key) = object.keys.get_index_of(name) else {
            return Ok(None);
        };
        match &object.keys[key].content {
            Content::Object(node) => Ok(Some(Val::Object(*node))),
            Content::Null => Ok(Some(Val::Null)),
            Content::Fate => {
                let declared = object.keys[key].decl.span;
                self.fail(
                    Diagnostic::error(
                        Code::UnknownName,
                        format!("config key `{name}` is declared to have no effect here"),
                    )
                    .at(span, "read here")
                    .and_at(declared, "declared here")
                    .help("give it a type to read it"),
                )
            }
            Content::Value { .. } => self.force_key(node, key).map(Some),
        }
    }

    fn force_key(&mut self, node: usize, key: usize) -> R<Val<'a>> {
        let slot = &mut self.schema.nodes[node].keys[key];
        let (name, decl, given) = (slot.name, slot.decl, slot.given);
        let KeyBody::Value { ty, default } = &decl.body else {
            return Err(Reported);
        };
        let Content::Value { raw, state } = &mut slot.content else {
            return Err(Reported);
        };
        match state {
            Lazy::Ready(value) => return Ok(value.clone()),
            Lazy::Failed => return Err(Reported),
            Lazy::Busy => {
                return self.fail(
                    Diagnostic::error(Code::Cycle, format!("the default of `{}` needs itself", name.as_str()))
                        .at(name.span, "declared here"),
                );
            }
            Lazy::Waiting => {}
        }
        *state = Lazy::Busy;
        let raw = raw.clone();
        let path = join(&self.schema.nodes[node].path, name.as_str());
        let result =
            match (raw, default) {
                (Some(raw), _) => self.checked_value(raw, ty, &path, given, name),
                (None, Some(default)) => self
                    .in_model_frame(0, default.span, |this| this.eval(default, None))
                    .and_then(|value| match self.fit(&value, ty)? {
                        Some(value) => Ok(value),
                        None => {
                            let expected = describe(self, ty);
                            self.fail(
                                Diagnostic::error(
                                    Code::ValueNotAllowed,
                                    format!("the default of `{path}` is {}", quoted(&value)),
                                )
                                .at(default.span, format!("expected {expected}")),
                            )
                        }
                    }),
                (None, None) => Err(Reported),
            };
        if let Content::Value { state, .. } = &mut self.schema.nodes[node].keys[key].content {
            *state = match &result {
                Ok(value) => Lazy::Ready(value.clone()),
                Err(Reported) => Lazy::Failed,
            };
        }
        result
    }

    fn checked_value(
        &mut self,
        raw: Val<'a>,
        ty: &'a KeyType,
        path: &str,
        given: Option<(Span, Span)>,
        name: &'a ast::Name,
    ) -> R<Val<'a>> {
        if finite(&raw)
            && let Some(value) = self.fit(&raw, ty)?
        {
            return Ok(value);
        }
        let expected = describe(self, ty);
        let words: Vec<&str> = ty
            .alternatives
            .iter()
            .filter_map(|alternative| match &alternative.form {
                KeyForm::Literal(ast::Literal { value: ast::Value::Text(text), .. }) => Some(&**text),
                _ => None,
            })
            .collect();
        let near = match &raw {
            Val::Text(text) => nearest(text, words).map(|near| format!("nearest value: \"{near}\"")),
            _ => None,
        };
        self.fail(
            Diagnostic::error(Code::ValueNotAllowed, format!("`{path}` is {}", quoted(&raw)))
                .at(given.map_or(name.span, |g| g.1), format!("expected {expected}"))
                .and_at(ty.span, "declared here")
                .help_if(near),
        )
    }

    /// `int, 0 or more, default 0`
    fn describe_key(&self, slot: &Slot<'a>) -> String {
        let KeyBody::Value { ty, default } = &slot.decl.body else {
            return String::new();
        };
        let mut text = self.files.slice(ty.span).to_string();
        if let Some(limit) = &ty.limit {
            let range = range_text(self, limit);
            text = format!("{}, {range}", text.split(" in ").next().unwrap_or_default().trim());
        }
        if let Some(default) = default {
            let _ = write!(text, ", default {}", self.files.slice(default.span));
        }
        text
    }

    /// Completes the account of config keys with the defaults taken.
    pub(super) fn config_uses(&mut self, _config: &Json) {
        let mut uses = std::mem::take(&mut self.schema.uses);
        for node in 0..self.schema.nodes.len() {
            for key in 0..self.schema.nodes[node].keys.len() {
                let slot = &self.schema.nodes[node].keys[key];
                if slot.given.is_some() || !matches!(slot.content, Content::Value { .. }) {
                    continue;
                }
                let path = join(&self.schema.nodes[node].path, slot.name.as_str());
                if let Ok(value) = self.force_key(node, key) {
                    uses.push(ConfigUse { key: path, value: quoted(&value), treatment: Treatment::Default });
                }
            }
        }
        self.module.config = uses;
    }
}

/// Whether all numbers of a value are finite.
fn finite(value: &Val<'_>) -> bool {
    match value {
        Val::Float(x) => x.is_finite(),
        Val::List(values) => values.iter().all(finite),
        Val::Map(entries) => entries.iter().all(|(_, value)| finite(value)),
        _ => true,
    }
}

/// The rule for an undeclared key: `any` rules by name, then this object's wildcard, then `any *`.
fn any_rule<'a>(above: &[&'a [KeyDecl]], name: &str) -> Option<&'a KeyDecl> {
    let named = |decl: &&KeyDecl| {
        decl.any_depth && decl.keys.iter().any(|key| matches!(key, Key::Named(n) if n.as_str() == name))
    };
    let wild = |decl: &KeyDecl| decl.keys.iter().any(|key| matches!(key, Key::Wildcard(_)));
    let levels = || above.iter().rev().copied();
    levels()
        .find_map(|level| level.iter().find(named))
        .or_else(|| above.last()?.iter().find(|d| !d.any_depth && wild(d)))
        .or_else(|| levels().find_map(|level| level.iter().find(|d| d.any_depth && wild(d))))
}

fn join(path: &str, name: &str) -> String {
    match (path, name) {
        ("", name) => name.to_string(),
        (path, "") => path.to_string(),
        _ => format!("{path}.{name}"),
    }
}
