//! A checkpoint's tensors against the weights of a module: names by the rules of the graph, shapes,
//! what is missing and what is left over, said with proposals where shapes leave one choice.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::wrappers;
use crate::diagnostics::{Code, Diagnostic, Diagnostics, SourceFiles, Span};
use crate::ir::{CheckpointRule, Module, Origin, WeightDecl, WeightSource};
use crate::weights::Binding;

/// A tensor of a checkpoint, as far as binding needs to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name in the file.
    pub name: String,
    pub shape: Vec<usize>,
    /// What else can be said about it in a message, e.g. `bf16, 2048 bytes at offset 41216`; may be empty.
    pub detail: String,
    /// What it is, if no weight can be read from it.
    pub unusable: Option<String>,
    /// Why it is not needed where nothing reads it, if that can be told from itself.
    pub spare: Option<String>,
}

/// How the names of a file are names of a graph.
pub struct Names<'m> {
    module: &'m Module,
    declared: HashSet<&'m str>,
}

impl<'m> Names<'m> {
    /// By the rules of this graph.
    pub fn new(module: &'m Module) -> Names<'m> {
        let weights = module.weights.iter().filter(|w| matches!(w.source, WeightSource::Checkpoint));
        Names { module, declared: weights.map(|w| w.path.as_str()).collect() }
    }

    /// A tensor's name as the graph knows it. Parts of wrappers count only where the graph knows the name with them.
    pub fn of(&self, name: &str) -> String {
        let [own, bare] = graph_names(&self.module.checkpoint, name);
        let declared = |name: &str| self.declared.contains(name);
        let known = declared(&own) || !declared(&bare) && self.ignored(&own) && !self.ignored(&bare);
        if known { own } else { bare }
    }

    /// Whether the graph ignores tensors of a name.
    pub fn ignored(&self, name: &str) -> bool {
        ignoring(self.module, name).is_some()
    }
}

/// The rule that ignores a name.
fn ignoring<'m>(module: &'m Module, name: &str) -> Option<&'m CheckpointRule> {
    let applies =
        |rule: &&CheckpointRule| matches!(rule, CheckpointRule::Ignore { glob, .. } if matches_glob(glob, name));
    module.checkpoint.iter().find(applies)
}

/// The names that a tensor may have in a graph: by its rules alone, and without the parts of wrappers.
pub fn graph_names(rules: &[CheckpointRule], name: &str) -> [String; 2] {
    [graph_name(rules, name), graph_name(rules, &wrappers::unwrapped(name))]
}

/// Prefixes stripped, then the first rename that matches.
fn graph_name(rules: &[CheckpointRule], name: &str) -> String {
    let mut rest = name;
    while let Some(shorter) = rules.iter().find_map(|rule| match rule {
        CheckpointRule::Strip { prefix } if !prefix.is_empty() => rest.strip_prefix(&**prefix),
        _ => None,
    }) {
        rest = shorter;
    }
    rules
        .iter()
        .find_map(|rule| match rule {
            CheckpointRule::Rename { from, to } => renamed(from, to, rest),
            _ => None,
        })
        .unwrap_or_else(|| rest.to_string())
}

/// Whether a name matches a glob; `*` stands for any run of characters.
pub fn matches_glob(glob: &str, name: &str) -> bool {
    stars(glob, name).is_some()
}

/// What the stars of a glob stand for in a name, each as short as the rest allows.
pub(super) fn stars<'n>(glob: &str, name: &'n str) -> Option<Vec<&'n str>> {
    let mut pieces = glob.split('*');
    let first = pieces.next().unwrap_or_default();
    let mut rest = name.strip_prefix(first)?;
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else {
        return rest.is_empty().then(Vec::new);
    };
    let mut runs = Vec::new();
    for piece in middle {
        let at = rest.find(piece)?;
        runs.push(&rest[..at]);
        rest = &rest[at + piece.len()..];
    }
    let run = rest.strip_suffix(last)?;
    runs.push(run);
    Some(runs)
}

fn renamed(from: &str, to: &str, name: &str) -> Option<String> {
    let runs = stars(from, name)?;
    let mut runs = runs.into_iter();
    let mut out = String::new();
    for (i, piece) in to.split('*').enumerate() {
        if i > 0 {
            out.push_str(runs.next().unwrap_or_default());
        }
        out.push_str(piece);
    }
    Some(out)
}

/// Finds a tensor for every weight and a reason for every other tensor.
///
/// # Errors
/// Weights without a tensor, tensors of another shape, tensors left over, and tensors that the rules
/// give one name: all together, those of one kind (`layers.{i}`) as one.
pub fn bind(files: &SourceFiles, module: &Module, tensors: &[TensorInfo]) -> Result<Binding, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let mut by_name: HashMap<String, usize> = HashMap::new();
    let names = Names::new(module);
    for (i, tensor) in tensors.iter().enumerate() {
        let name = names.of(&tensor.name);
        if let Some(other) = by_name.insert(name.clone(), i) {
            diagnostics.push(Diagnostic::error(
                Code::TensorClash,
                format!("{} and {} both become {name} in the graph", tensors[other].name, tensor.name),
            ));
        }
    }
    let mut binding = Binding { tensors: vec![None; module.weights.len()], ..Binding::default() };
    let mut missing: Vec<&WeightDecl> = Vec::new();
    for (i, weight) in module.weights.iter().enumerate() {
        if !matches!(weight.source, WeightSource::Checkpoint) {
            continue;
        }
        match by_name.remove(&weight.path) {
            None => missing.push(weight),
            Some(at) => {
                if let Some(what) = &tensors[at].unusable {
                    let (name, wanted) = (&tensors[at].name, weight.encoding.elem().name());
                    let title =
                        format!("{name} is {what} in the checkpoint, the graph needs {wanted} {:?}", weight.shape);
                    diagnostics.push(Diagnostic::error(Code::TensorShape, title));
                } else if tensors[at].shape != weight.shape {
                    diagnostics.push(other_shape(files, module, weight, &tensors[at]));
                }
                binding.tensors[i] = Some(at);
            }
        }
    }
    let mut left: Vec<(String, usize)> = Vec::new();
    let mut rest: Vec<(String, usize)> = by_name.into_iter().collect();
    rest.sort_by_key(|(_, at)| *at);
    for (name, at) in rest {
        let ignored = match ignoring(module, &name) {
            Some(CheckpointRule::Ignore { why, copy_of, .. }) => Some((why.clone(), copy_of.as_deref())),
            _ => None,
        };
        let spare = || wrappers::added(&name).map(str::to_owned).or_else(|| tensors[at].spare.clone());
        match ignored.or_else(|| Some((spare()?, None))) {
            Some((why, copy_of)) => {
                let declared = module.unread().find(|(path, _, _)| *path == name);
                if let Some((_, tensor, _)) = declared.filter(|(_, t, _)| t.shape != tensors[at].shape) {
                    let (found, shape) = (&tensors[at], &tensor.shape);
                    diagnostics.push(Diagnostic::error(
                        Code::TensorShape,
                        format!("{} is {:?} in the checkpoint, the graph declares {shape:?}", found.name, found.shape),
                    ));
                }
                let original = copy_of.and_then(|path| module.weights.iter().position(|w| w.path == path));
                if let Some(original) = original.and_then(|weight| binding.tensors[weight]) {
                    binding.copies.push((at, original));
                }
                binding.ignored.push((at, why));
            }
            None => left.push((name, at)),
        }
    }
    missing_and_left(files, module, tensors, &missing, &left, &mut diagnostics);
    diagnostics.into_result(binding).map(|(binding, _)| binding)
}

fn other_shape(files: &SourceFiles, module: &Module, weight: &WeightDecl, tensor: &TensorInfo) -> Diagnostic {
    let origin = &module.origins[weight.origin.index()];
    let mut diagnostic = Diagnostic::error(
        Code::TensorShape,
        format!("{} is {:?} in the checkpoint, the graph needs {:?}", tensor.name, tensor.shape, weight.shape),
    );
    if let Some(span) = place(files, origin) {
        let (span, text) = match declared_axes(files, span, weight.shape.len()) {
            Some((span, axes)) => (span, format!("{axes} = {:?}", weight.shape)),
            None => (span, format!("{:?}", weight.shape)),
        };
        diagnostic = diagnostic.at(span, text);
    }
    if !tensor.detail.is_empty() {
        diagnostic = diagnostic.note(format!("tensor {}, {}", tensor.name, tensor.detail));
    }
    diagnostic.help("if the model was trained with other sizes, say so in the config")
}

/// The type that a weight's declaration writes behind its name, with the axes as written.
fn declared_axes(files: &SourceFiles, name: Span, rank: usize) -> Option<(Span, String)> {
    let text = files.get(name.file).text();
    let rest = text.get(name.range().end..)?.lines().next()?;
    let colon = rest.find(": ")?;
    let open = rest.find('[')?;
    let close = rest.find(']')?;
    let axes = rest.get(open..=close)?;
    if rest[..colon].contains(':') || axes.split(',').count() != rank {
        return None;
    }
    let start = name.range().end;
    let span = Span::new(name.file, start + colon + 2..start + close + 1);
    Some((span, axes.to_string()))
}

/// One diagnostic per kind of missing tensor, with what is left over where it may be the same.
fn missing_and_left(
    files: &SourceFiles,
    module: &Module,
    tensors: &[TensorInfo],
    missing: &[&WeightDecl],
    left: &[(String, usize)],
    diagnostics: &mut Diagnostics,
) {
    let mut kinds: BTreeMap<(String, Vec<usize>), Vec<&WeightDecl>> = BTreeMap::new();
    for weight in missing {
        let key = (pattern(&weight.path), weight.shape.clone());
        kinds.entry(key).or_default().push(weight);
    }
    let mut extra: BTreeMap<(String, Vec<usize>), Vec<&str>> = BTreeMap::new();
    for (name, at) in left {
        let key = (pattern(name), tensors[*at].shape.clone());
        extra.entry(key).or_default().push(name);
    }
    // In the order of the graph, not of the names.
    let mut order: Vec<_> = kinds.iter().collect();
    order.sort_by_key(|(_, weights)| module.weights.iter().position(|w| w.path == weights[0].path));
    let mut explained: Vec<&(String, Vec<usize>)> = Vec::new();
    for (key, weights) in order {
        let (glob, shape) = key;
        let first = weights[0];
        let origin = &module.origins[first.origin.index()];
        let mut diagnostic = Diagnostic::error(
            Code::MissingTensor,
            format!("the checkpoint lacks {}, {} {shape:?}", first.path, first.encoding.elem().name()),
        );
        if let Some(span) = place(files, origin) {
            diagnostic = diagnostic.at(span, "read here");
        }
        if weights.len() > 1 {
            let block = origin.chain.rsplit(" > ").next().unwrap_or_default();
            diagnostic = diagnostic.note(format!(
                "in {} ({block}), {} tensors of this kind are missing: {}",
                origin.path,
                weights.len(),
                ranged(glob, &weights.iter().map(|w| w.path.as_str()).collect::<Vec<_>>())
            ));
        }
        let same: Vec<_> = extra.iter().filter(|((_, s), names)| s == shape && names.len() == weights.len()).collect();
        let rivals = kinds.iter().filter(|((_, s), w)| s == shape && w.len() == weights.len()).count();
        // The nearest of those left over that could be it; a proposal only if nothing else could.
        let nearest = same.iter().min_by_key(|((other, _), _)| strsim::damerau_levenshtein(glob, other));
        if let Some((other, names)) = nearest {
            diagnostic = diagnostic.note(format!(
                "{} left over: {}, {}{shape:?}",
                if names.len() > 1 { format!("{} tensors are", names.len()) } else { "1 tensor is".to_string() },
                ranged(&other.0, names),
                if names.len() > 1 { "all " } else { "" }
            ));
            let close = strsim::damerau_levenshtein(glob, &other.0) <= glob.len() / 3;
            if same.len() == 1 && rivals == 1 || close {
                explained.push(other);
                diagnostic = diagnostic.help(format!("add `checkpoint {{ rename \"{}\" -> \"{glob}\" }}`", other.0));
            }
        }
        diagnostics.push(diagnostic);
    }
    for (key, names) in &extra {
        if explained.contains(&key) {
            continue;
        }
        let mut diagnostic =
            Diagnostic::error(Code::LeftOver, format!("nothing reads tensor {}, {:?}", names[0], key.1));
        if names.len() > 1 {
            diagnostic = diagnostic.note(format!(
                "{} tensors of this kind are left over: {}",
                names.len(),
                ranged(&key.0, names)
            ));
        }
        diagnostics.push(
            diagnostic.help(format!("if it is not needed, add `checkpoint {{ ignore \"{}\": \"why\" }}`", key.0)),
        );
    }
}

/// A name with its numbers as `*`.
pub(super) fn pattern(name: &str) -> String {
    let segments = name.split('.').map(|segment| {
        let number = !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit());
        if number { "*" } else { segment }
    });
    segments.collect::<Vec<_>>().join(".")
}

/// `layers.{0..11}.mixer.w.weight`: all names of a kind with one number; else the first and how many more.
fn ranged(glob: &str, names: &[&str]) -> String {
    let single = glob.matches('*').count() == 1;
    let mut numbers: Vec<usize> = names.iter().filter_map(|name| stars(glob, name)?.first()?.parse().ok()).collect();
    numbers.sort_unstable();
    match (numbers.first(), numbers.last()) {
        (Some(low), Some(high)) if single && numbers.len() == names.len() && names.len() > 1 => {
            let text = if high - low + 1 == numbers.len() {
                format!("{{{low}..{high}}}")
            } else {
                let all: Vec<String> = numbers.iter().map(usize::to_string).collect();
                format!("{{{}}}", all.join(","))
            };
            glob.replacen('*', &text, 1)
        }
        _ if names.len() > 1 => format!("{} and {} more", names[0], names.len() - 1),
        _ => names.first().map_or_else(String::new, |n| n.to_string()),
    }
}

/// The span of an origin: the name that stands there.
fn place(files: &SourceFiles, origin: &Origin) -> Option<Span> {
    files.find_place(&origin.file, origin.line, origin.column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_strip_repeatedly_and_rename_once() {
        let rules = [
            CheckpointRule::Strip { prefix: "module.".into() },
            CheckpointRule::Strip { prefix: "_orig_mod.".into() },
            CheckpointRule::Rename { from: "layers.*.wf.*".into(), to: "layers.*.w_f.*".into() },
        ];
        let name = |n: &str| graph_name(&rules, n);
        assert_eq!(name("module._orig_mod.module.x"), "x");
        assert_eq!(name("module.layers.3.wf.weight"), "layers.3.w_f.weight");
        assert_eq!(name("layers.3.wg.weight"), "layers.3.wg.weight");
    }

    #[test]
    fn globs_anchor_both_ends() {
        assert!(matches_glob("layers.*.experts.*", "layers.3.mlp.experts.0.w"));
        assert!(matches_glob("*", "anything"));
        assert!(!matches_glob("a.*", "b.a.c"));
        assert!(!matches_glob("*.bias", "x.bias.y"));
        assert!(!matches_glob("aligner.*", "aligner"));
    }
}
