//! Maps from a file's tensor names to those of a graph: reading and applying one, and proposing one where shapes
//! leave a single choice. The rules that a graph itself has are `checkpoint`'s; a map comes before them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use regex::Regex;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use super::checkpoint::{self, Names, TensorInfo, pattern, stars};
use crate::diagnostics::SourceFiles;
use crate::ir::{Module, WeightSource};

/// Regular expressions over file names with their replacements, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct RenameMap {
    rules: Vec<(Regex, String)>,
}

/// Why a text is no rename map.
#[derive(Debug, thiserror::Error)]
pub enum RenameError {
    /// Not a JSON object of strings.
    #[error("not a JSON object of regular expressions with their replacements: {0}")]
    Json(#[from] serde_json::Error),
    /// A key that is no regular expression.
    #[error("`{pattern}` is no regular expression: {source}")]
    Pattern {
        /// The key.
        pattern: String,
        /// What is wrong with it.
        source: Box<regex::Error>,
    },
    /// A replacement names a group that its expression does not have.
    #[error("`{replacement}` has a group that `{pattern}` lacks; write ${{1}}x for group 1 followed by x")]
    Group {
        /// The key.
        pattern: String,
        /// The value.
        replacement: String,
    },
}

/// An object's members in their order.
struct Members(Vec<(String, String)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members: Vec<(String, String)> = Vec::new();
                let mut keys = HashSet::new();
                while let Some(member) = map.next_entry::<String, String>()? {
                    if !keys.insert(member.0.clone()) {
                        return Err(A::Error::custom(format_args!("key `{}` occurs twice", member.0)));
                    }
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl RenameMap {
    /// Reads a map. An expression must match a whole name; `$1` in the replacement is its first group.
    ///
    /// # Errors
    /// No JSON object of strings, a malformed expression, or a group that does not exist.
    pub fn parse(text: &str) -> Result<RenameMap, RenameError> {
        let Members(members) = serde_json::from_str(text)?;
        let rules = members.into_iter().map(|(pattern, replacement)| {
            let regex = Regex::new(&format!("^(?:{pattern})$"))
                .map_err(|source| RenameError::Pattern { pattern: pattern.clone(), source: Box::new(source) })?;
            let unknown = groups(&replacement).any(|group| match group.parse::<usize>() {
                Ok(number) => number >= regex.captures_len(),
                Err(_) => !regex.capture_names().flatten().any(|name| name == group),
            });
            if unknown { Err(RenameError::Group { pattern, replacement }) } else { Ok((regex, replacement)) }
        });
        Ok(RenameMap { rules: rules.collect::<Result<_, _>>()? })
    }

    /// The name that the first matching rule gives; a name that none matches stays.
    pub fn apply(&self, name: &str) -> String {
        let rule = self.rules.iter().find(|(regex, _)| regex.is_match(name));
        rule.map_or_else(|| name.to_owned(), |(regex, to)| regex.replace(name, to.as_str()).into_owned())
    }
}

/// The groups that a replacement names, as the regular expressions read it: `$name`, `${name}`; `$$` is a dollar.
fn groups(replacement: &str) -> impl Iterator<Item = &str> {
    let mut rest = replacement;
    std::iter::from_fn(move || {
        loop {
            let after = &rest[rest.find('$')? + 1..];
            if let Some(dollar) = after.strip_prefix('$') {
                rest = dollar;
                continue;
            }
            let (name, end) = match after.strip_prefix('{') {
                Some(braced) => {
                    let length = braced.find('}').unwrap_or(braced.len());
                    (&braced[..length], &braced[length..])
                }
                None => {
                    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    let length = after.find(|c| !word(c)).unwrap_or(after.len());
                    after.split_at(length)
                }
            };
            rest = end;
            if !name.is_empty() {
                return Some(name);
            }
        }
    })
}

/// Names that differ in their numbers only.
struct Kind<'a> {
    glob: String,
    /// What the stars stand for, with the shape, one for each name: equal kinds have equal members.
    members: Vec<(Vec<&'a str>, &'a [usize])>,
}

impl Kind<'_> {
    /// Segments at the end that two kinds have in common.
    fn common_ending(&self, other: &Kind) -> usize {
        self.glob.rsplit('.').zip(other.glob.rsplit('.')).take_while(|(a, b)| a == b).count()
    }

    fn rule(&self, to: &Kind) -> (String, String) {
        let from = self.glob.split('*').map(regex::escape).collect::<Vec<_>>().join(r"(\d+)");
        let mut replacement = String::new();
        for (i, piece) in to.glob.split('*').enumerate() {
            if i > 0 {
                replacement.push_str(&format!("${{{i}}}"));
            }
            replacement.push_str(piece);
        }
        (from, replacement)
    }
}

/// The numbers in a tensor's name, and its shape.
type Member<'a> = (Vec<&'a str>, &'a [usize]);

fn kinds<'a>(names: impl Iterator<Item = (&'a str, &'a [usize])>) -> Vec<Kind<'a>> {
    let mut kinds: BTreeMap<String, Vec<Member<'_>>> = BTreeMap::new();
    for (name, shape) in names {
        let glob = pattern(name);
        let numbers = stars(&glob, name).unwrap_or_default();
        kinds.entry(glob).or_default().push((numbers, shape));
    }
    let sorted = |(glob, mut members): (String, Vec<_>)| {
        members.sort();
        Kind { glob, members }
    };
    kinds.into_iter().map(sorted).collect()
}

/// A map for all tensors that the graph does not know, as expressions with replacements: where the shapes and
/// numbers of a kind of tensor leave one choice, and else where the ends of the names do. Nothing unless it makes the
/// whole checkpoint fit. `tensors` have the names of the file.
pub fn propose(module: &Module, tensors: &[TensorInfo]) -> Option<Vec<(String, String)>> {
    let names = Names::new(module);
    let known: Vec<String> = tensors.iter().map(|t| names.of(&t.name)).collect();
    let declared = || module.weights.iter().filter(|w| matches!(w.source, WeightSource::Checkpoint));
    let missing = declared().filter(|w| !known.contains(&w.path)).map(|w| (w.path.as_str(), w.shape.as_slice()));
    let mut missing = kinds(missing);
    let left = tensors
        .iter()
        .zip(&known)
        .filter(|(t, name)| t.spare.is_none() && !declared().any(|w| w.path == **name) && !names.ignored(name));
    let mut left = kinds(left.map(|(t, _)| (t.name.as_str(), t.shape.as_slice())));
    let mut rules = Vec::new();
    while let Some((file, graph)) = pair(&left, &missing, only).or_else(|| pair(&left, &missing, nearest_ending)) {
        rules.push(left.remove(file).rule(&missing.remove(graph)));
    }
    if !left.is_empty() || !missing.is_empty() || rules.is_empty() {
        return None;
    }
    // The graph's own rules see the new names too: only a map that works is worth saying.
    let text = serde_json::to_string(&rules.iter().cloned().collect::<BTreeMap<_, _>>()).ok()?;
    let map = RenameMap::parse(&text).ok()?;
    let renamed: Vec<TensorInfo> =
        tensors.iter().map(|t| TensorInfo { name: map.apply(&t.name), ..t.clone() }).collect();
    checkpoint::bind(&SourceFiles::new(), module, &renamed).is_ok().then_some(rules)
}

/// Two kinds that choose each other.
fn pair(left: &[Kind], missing: &[Kind], choose: fn(&Kind, &[Kind]) -> Option<usize>) -> Option<(usize, usize)> {
    left.iter().enumerate().find_map(|(file, kind)| {
        let graph = choose(kind, missing)?;
        (choose(&missing[graph], left) == Some(file)).then_some((file, graph))
    })
}

/// The only kind with the same shapes and numbers.
fn only(kind: &Kind, others: &[Kind]) -> Option<usize> {
    let mut same = others.iter().enumerate().filter(|(_, other)| other.members == kind.members);
    let (index, _) = same.next()?;
    same.next().is_none().then_some(index)
}

/// Of those with the same shapes and numbers, the one whose name ends most alike; none if two do, or none at all.
fn nearest_ending(kind: &Kind, others: &[Kind]) -> Option<usize> {
    let same = others.iter().enumerate().filter(|(_, other)| other.members == kind.members);
    let mut scored: Vec<(usize, usize)> = same.map(|(index, other)| (kind.common_ending(other), index)).collect();
    scored.sort_unstable_by_key(|(score, _)| std::cmp::Reverse(*score));
    match scored.as_slice() {
        [(best, index), rest @ ..] if *best > 0 && rest.first().is_none_or(|(next, _)| next < best) => Some(*index),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_whole_match_renames() {
        let map = RenameMap::parse(
            r#"{"model\\.(.*)": "$1", "h\\.(\\d+)\\.(?<rest>.*)": "layers.${1}.${rest}", "h.*": "no"}"#,
        );
        let map = map.unwrap();
        assert_eq!(map.apply("model.norm"), "norm");
        assert_eq!(map.apply("h.3.w"), "layers.3.w");
        assert_eq!(map.apply("a.model.norm"), "a.model.norm");
    }

    #[test]
    fn mistakes_of_maps() {
        let said = |text: &str| RenameMap::parse(text).unwrap_err().to_string();
        assert!(said("[]").contains("JSON object"));
        assert!(said(r#"{"a": 1}"#).contains("JSON object"));
        assert!(said(r#"{"a": "b", "a": "c"}"#).contains("`a` occurs twice"));
        assert!(said(r#"{"(a": "b"}"#).contains("no regular expression"));
        assert!(said(r#"{"(a)": "$1x"}"#).contains("${1}x"));
        assert!(RenameMap::parse(r#"{"(a)": "$$1x"}"#).is_ok());
    }

    #[test]
    fn kinds_pair_by_shape_and_then_by_ending() {
        let names = |names: &'static [(&'static str, &'static [usize])]| kinds(names.iter().copied());
        let file = names(&[("h.0.attn.q", &[2, 2]), ("h.1.attn.q", &[2, 2]), ("h.0.b", &[3]), ("h.1.b", &[3])]);
        let graph = names(&[
            ("l.0.w.q", &[2, 2]),
            ("l.1.w.q", &[2, 2]),
            ("l.0.v.k", &[2, 2]),
            ("l.1.v.k", &[2, 2]),
            ("l.0.c", &[3]),
            ("l.1.c", &[3]),
        ]);
        let at = |kinds: &[Kind], glob: &str| kinds.iter().position(|k| k.glob == glob).unwrap();
        assert_eq!(pair(&file, &graph, only), Some((at(&file, "h.*.b"), at(&graph, "l.*.c"))));
        assert_eq!(nearest_ending(&file[at(&file, "h.*.attn.q")], &graph), Some(at(&graph, "l.*.w.q")));
        assert_eq!(file[0].rule(&graph[at(&graph, "l.*.w.q")]), (r"h\.(\d+)\.attn\.q".into(), "l.${1}.w.q".into()));
    }
}
