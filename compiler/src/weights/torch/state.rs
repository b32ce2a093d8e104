//! Layout: a state dictionary, names to tensors. It is the whole value, or stands under one of the usual keys with a
//! config, plain values and an optimizer beside it. Nothing of what stands beside it is read, not even the places of
//! its storages.

use std::collections::HashSet;

use super::value::{Arena, Node, NodeId};
use super::{LayoutError, Pairs, TorchFile};
use crate::weights::{Contents, Format, Stored, TensorEntry, WeightsError};

/// Keys under which a state dictionary is looked for, in the order in which they are taken where several have one:
/// what was trained before its averages.
pub(super) const KEYS: [&str; 16] = [
    "model",
    "state_dict",
    "model_state_dict",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "parameters",
    "state",
    "ema",
    "ema_model",
    "model_ema",
    "ema_state_dict",
    "params_ema",
    "averaged_model",
];
/// How many of them may stand within one another.
const MAX_NESTED: usize = 4;

/// A state dictionary and the keys that lead to it.
struct Candidate {
    path: Vec<&'static str>,
    dictionary: NodeId,
}

pub(super) fn read(file: &mut TorchFile, top: NodeId) -> Result<Contents, WeightsError> {
    let mut found = Vec::new();
    find(file, top, &mut Vec::new(), &mut HashSet::new(), &mut found);
    let mut found = found.into_iter();
    let Some(Candidate { path, dictionary }) = found.next() else {
        return Err(nothing(file, top).into());
    };
    let mut contents = Contents::new(if path.is_empty() { Format::TorchStateDict } else { Format::TorchTraining });
    contents.others = found.map(|other| other.path.join(".")).collect();
    let mut id = top;
    for (depth, key) in path.iter().enumerate() {
        let pairs = file.pairs(id);
        if depth == 0 {
            contents.config = file.config(&pairs, &mut contents.unread)?;
            file.beside(&pairs, &[key, "config"], &mut contents);
        } else {
            let others = pairs.iter().filter_map(|(key, _)| file.arena.text(*key)).filter(|other| other != key);
            contents.unread.extend(others.map(|other| format!("{}.{other}", path[..depth].join("."))));
        }
        id = file.arena.get(&pairs, key).expect("the path that was found");
    }
    contents.tensors = tensors(file, &file.pairs(dictionary))?;
    contents.key = (!path.is_empty()).then(|| path.join("."));
    Ok(contents)
}

/// Looks for state dictionaries below a value; each dictionary is looked at once.
fn find(
    file: &TorchFile,
    id: NodeId,
    path: &mut Vec<&'static str>,
    seen: &mut HashSet<NodeId>,
    found: &mut Vec<Candidate>,
) {
    let Node::Dict(pairs) = file.arena.node(id) else { return };
    if !seen.insert(id) {
        return;
    }
    let before = found.len();
    if path.len() < MAX_NESTED {
        for key in KEYS {
            if let Some(inner) = file.arena.get(pairs, key) {
                path.push(key);
                find(file, inner, path, seen, found);
                path.pop();
            }
        }
    }
    let tensor = |&(key, value): &(NodeId, NodeId)| {
        file.arena.text(key).is_some() && matches!(file.arena.node(value), Node::Tensor(_))
    };
    if found.len() == before && pairs.iter().any(tensor) {
        found.push(Candidate { path: path.clone(), dictionary: id });
    }
}

/// What to say where there is no state dictionary.
fn nothing(file: &TorchFile, top: NodeId) -> LayoutError {
    let arena = &file.arena;
    let whole = |id: NodeId, key: Option<&str>| match arena.node(id) {
        Node::Object(_) => Some(LayoutError::WholeModel { found: arena.describe(id), key: key.map(str::to_owned) }),
        _ => None,
    };
    if let Some(error) = whole(top, None) {
        return error;
    }
    let Node::Dict(pairs) = arena.node(top) else {
        return LayoutError::NoLayout { found: arena.describe(top) };
    };
    let keyed = KEYS.iter().find_map(|key| whole(arena.get(pairs, key)?, Some(key)));
    keyed.unwrap_or_else(|| LayoutError::NoLayout { found: summary(file, pairs) })
}

/// A dictionary's keys with what stands under them.
fn summary(file: &TorchFile, pairs: &Pairs) -> String {
    const SHOWN: usize = 8;
    let arena = &file.arena;
    let shown = pairs.iter().take(SHOWN).map(|&(key, value)| {
        let key = arena.text(key).map_or_else(|| arena.describe(key), |text| text.chars().take(64).collect());
        format!("`{}` ({})", key.escape_debug(), arena.describe(value))
    });
    match (pairs.len(), shown.collect::<Vec<_>>().join(", ")) {
        (0, _) => "an empty dictionary".to_owned(),
        (n, list) if n > SHOWN => format!("a dictionary of {list} and {} more", n - SHOWN),
        (_, list) => format!("a dictionary of {list}"),
    }
}

/// The table of a state dictionary. Names are unique strings; values that are no tensors are listed as such, and so is
/// what stands under a key that is no string, since no weight has it for a name.
pub(super) fn tensors(file: &mut TorchFile, pairs: &Pairs) -> Result<Vec<TensorEntry>, WeightsError> {
    let (texts, others) = pairs.iter().copied().partition::<Vec<_>, _>(|&(key, _)| file.arena.text(key).is_some());
    let other = |arena: &Arena, name, id| TensorEntry {
        name,
        shape: Vec::new(),
        stored: Stored::Other { what: arena.describe(id) },
    };
    let mut table = Vec::new();
    for (name, &id) in file.named(&texts)? {
        table.push(match file.arena.node(id) {
            Node::Tensor(_) => file.tensor(name, id)?,
            _ => other(&file.arena, name, id),
        });
    }
    let arena = &file.arena;
    table.extend(
        others.into_iter().enumerate().map(|(number, (key, value))| {
            other(arena, format!("(key {}: {})", number + 1, arena.describe(key)), value)
        }),
    );
    Ok(table)
}
