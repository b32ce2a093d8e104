//! The parts of a file that speak about configs and checkpoints: keys, presets, checkpoint rules.

use super::tree::{Builder, Children, Rule};
use crate::lang::ast::*;
use pest::iterators::Pair;

impl Builder<'_> {
    /// A `config` pair.
    pub fn config(&mut self, pair: Pair<'_, Rule>) -> Config {
        let span = self.span(&pair);
        let keys = Children::of(pair).next();
        Config { keys: self.keys(keys), span }
    }

    fn keys(&mut self, pair: Pair<'_, Rule>) -> Vec<KeyDecl> {
        Children::of(pair).rest().map(|decl| self.key_decl(decl)).collect()
    }

    fn key_decl(&mut self, pair: Pair<'_, Rule>) -> KeyDecl {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let any_depth = children.take(Rule::any_depth).is_some();
        let mut keys = Vec::new();
        while let Some(key) = children.take(Rule::key) {
            let inner = Children::of(key).next();
            keys.push(match inner.as_rule() {
                Rule::wildcard => Key::Wildcard(self.span(&inner)),
                _ => Key::Named(self.word_or_text(&inner)),
            });
        }
        let what = children.next();
        let body = match what.as_rule() {
            Rule::keys => KeyBody::Object { keys: self.keys(what), optional: children.take(Rule::optional).is_some() },
            Rule::fate => KeyBody::Fate(self.fate(what)),
            _ => KeyBody::Value {
                ty: self.key_type(what),
                default: children.take(Rule::default).map(|pair| self.default(pair)),
            },
        };
        KeyDecl { any_depth, keys, body, span }
    }

    fn fate(&mut self, pair: Pair<'_, Rule>) -> Fate {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let kind = match children.next().as_rule() {
            Rule::k_ignored => FateKind::Ignored,
            Rule::k_runtime => FateKind::Runtime,
            _ => FateKind::Warned,
        };
        Fate { kind, reason: self.text(&children.next()), span }
    }

    fn key_type(&mut self, pair: Pair<'_, Rule>) -> KeyType {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let mut alternatives = Vec::new();
        while let Some(alternative) = children.take(Rule::key_alt) {
            alternatives.push(self.key_alternative(alternative));
        }
        let limit = children.take(Rule::limit).map(|pair| self.limit(pair));
        KeyType { alternatives, limit, span }
    }

    fn key_alternative(&mut self, pair: Pair<'_, Rule>) -> KeyAlternative {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let map = children.take(Rule::map).is_some();
        let first = children.next();
        let form = match first.as_rule() {
            Rule::signed_literal => KeyForm::Literal(self.literal(first)),
            Rule::tuple => KeyForm::Tuple(Children::of(first).rest().map(|pair| self.key_type(pair)).collect()),
            _ => {
                let scalar = match first.as_str() {
                    "int" => Scalar::Int,
                    "float" => Scalar::Float,
                    "bool" => Scalar::Bool,
                    _ => Scalar::String,
                };
                let list = children.take(Rule::list_of).map(|pair| self.list_of(pair));
                if map { KeyForm::Map { scalar, list } } else { KeyForm::Scalar { scalar, list } }
            }
        };
        KeyAlternative { form, optional: children.take(Rule::optional).is_some(), span }
    }

    fn list_of(&mut self, pair: Pair<'_, Rule>) -> ListOf {
        let span = self.span(&pair);
        ListOf { length: Children::of(pair).any().map(|length| self.expr(length)), span }
    }

    /// A `limit` pair.
    pub fn limit(&mut self, pair: Pair<'_, Rule>) -> Limit {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let low = children.take(Rule::expr).map(|pair| self.expr(pair));
        let inclusive = children.next().as_str() == "..=";
        let high = children.take(Rule::expr).map(|pair| self.expr(pair));
        Limit { low, high, inclusive, span }
    }

    /// A `default` pair.
    pub fn default(&mut self, pair: Pair<'_, Rule>) -> Expr {
        let value = Children::of(pair).next();
        self.expr(value)
    }

    /// A `preset` pair.
    pub fn preset(&mut self, pair: Pair<'_, Rule>) -> Preset {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let names = self.names(children.next());
        let base = children.take(Rule::name).map(|name| self.name(&name));
        let settings = children.rest().map(|pair| self.setting(pair)).collect();
        Preset { names, base, settings, span }
    }

    fn setting(&mut self, pair: Pair<'_, Rule>) -> Setting {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let segments = Children::of(children.next()).rest();
        let path = segments.map(|pair| self.word_or_text(&Children::of(pair).next())).collect();
        Setting { path, value: self.expr(children.next()), span }
    }

    /// A `checkpoint` pair.
    pub fn checkpoint(&mut self, pair: Pair<'_, Rule>) -> Checkpoint {
        let span = self.span(&pair);
        let rules = Children::of(pair).rest().map(|rule| self.rule(Children::of(rule).next()));
        Checkpoint { rules: rules.collect(), span }
    }

    fn rule(&mut self, pair: Pair<'_, Rule>) -> CheckpointRule {
        let span = self.span(&pair);
        let rule = pair.as_rule();
        let mut children = Children::of(pair);
        let first = self.text(&children.next());
        match rule {
            Rule::ignore => {
                let stored = children.take(Rule::stored).map(|pair| self.value_type(pair));
                let copy_of = children.take(Rule::copy_of).map(|pair| self.text(&Children::of(pair).next()));
                let when = children.take(Rule::expr).map(|pair| self.expr(pair));
                let reason = self.text(&children.next());
                CheckpointRule::Ignore { glob: first, stored, copy_of, when, reason, span }
            }
            Rule::strip => CheckpointRule::Strip { prefix: first, span },
            Rule::choose => CheckpointRule::Choose { key: first, reason: self.text(&children.next()), span },
            _ => CheckpointRule::Rename { from: first, to: self.text(&children.next()), span },
        }
    }
}
