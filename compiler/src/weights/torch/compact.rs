//! Layout `compact_2bit` version 1: under `state`, each name has either a bf16 tensor or a dictionary of
//! `packed` (u8 [rows, ceil(columns / 4)]), `scale` (bf16 [1]) and `shape` [rows, columns].

use super::value::{Node, NodeId};
use super::{LayoutError, Pairs, TorchFile};
use crate::weights::{Contents, Element, Format, Stored, TensorEntry, WeightsError};

/// The entries of a dictionary of this layout.
///
/// # Errors
/// It is one of another version.
pub(super) fn recognised(file: &TorchFile, top: NodeId) -> Result<Option<Vec<(NodeId, NodeId)>>, LayoutError> {
    let pairs = file.pairs(top);
    let format = file.arena.get(&pairs, "format").and_then(|id| file.arena.text(id));
    // other files may have a format of their own beside their weights
    let Some(format) = format.filter(|format| format.starts_with("compact_")) else { return Ok(None) };
    let version = file.arena.get(&pairs, "version").map(|id| file.arena.node(id));
    if format != "compact_2bit" || version != Some(&Node::Int(1)) {
        let version = version.map_or("no version".to_owned(), |v| match v {
            Node::Int(v) => format!("version {v}"),
            other => format!("{} as its version", other.kind()),
        });
        let format: String = format.chars().take(64).collect();
        return Err(LayoutError::UnknownFormat { found: format!("`{format}`, {version}") });
    }
    Ok(Some(pairs))
}

pub(super) fn read(file: &mut TorchFile, pairs: &Pairs) -> Result<Contents, WeightsError> {
    let mut contents = Contents::new(Format::TorchCompact);
    let state = file.arena.get(pairs, "state").filter(|&id| matches!(file.arena.node(id), Node::Dict(_)));
    let state = state.ok_or(LayoutError::Key { key: "state", expected: "dictionary" })?;
    let state = file.pairs(state);
    contents.tensors =
        file.named(&state)?.into_iter().map(|(name, &id)| entry(file, name, id)).collect::<Result<_, _>>()?;
    contents.config = file.config(pairs, &mut contents.unread)?;
    file.beside(pairs, &["format", "version", "config", "state"], &mut contents);
    Ok(contents)
}

fn entry(file: &mut TorchFile, name: String, id: NodeId) -> Result<TensorEntry, WeightsError> {
    let Node::Dict(parts) = file.arena.node(id) else {
        return file.tensor(name, id);
    };
    // three keys are needed; a longer dictionary shared by many names would cost its length for each
    if parts.len() > 16 {
        return Err(LayoutError::Tensor { name, what: format!("a packed entry has {} keys", parts.len()) }.into());
    }
    let parts = parts.clone();
    let wrong = |what: String| WeightsError::from(LayoutError::Tensor { name: name.clone(), what });
    let mut part = |key: &str, element: Element| {
        let id = file.arena.get(&parts, key).ok_or_else(|| wrong(format!("no `{key}`")))?;
        let view = file.view(&name, id)?;
        if view.element == element {
            Ok(view)
        } else {
            Err(wrong(format!("`{key}` is {}, expected {}", view.element.name(), element.name())))
        }
    };
    let codes = part("packed", Element::U8)?;
    let scale = part("scale", Element::Bf16)?;
    let shape = file.arena.get(&parts, "shape").and_then(|id| match file.arena.node(id) {
        Node::List(items) => Some(items.as_slice()),
        Node::Tuple(items) => Some(&**items),
        _ => None,
    });
    let shape: Option<Vec<usize>> = shape.filter(|items| items.len() == 2).and_then(|items| {
        let natural = |&id: &NodeId| match *file.arena.node(id) {
            Node::Int(value) => usize::try_from(value).ok(),
            _ => None,
        };
        items.iter().map(natural).collect()
    });
    let shape = shape.ok_or_else(|| wrong("`shape` is not a list of two integers".to_owned()))?;
    let expected = [shape[0], shape[1].div_ceil(4)];
    if codes.shape != expected {
        return Err(wrong(format!("`packed` has shape {:?}, but weights {shape:?} need {expected:?}", codes.shape)));
    }
    if scale.shape.iter().product::<usize>() != 1 {
        return Err(wrong(format!("`scale` has shape {:?}, expected one element", scale.shape)));
    }
    Ok(TensorEntry { name, shape, stored: Stored::Ternary { codes, scale } })
}
