//! Files that `torch.save` writes: a ZIP archive with a pickle and raw storages.
//!
//! `zip` gives the members as ranges of the mapped file, `pickle` reads `data.pkl` into plain nodes without
//! executing anything, and one file per layout (`compact`, `training`, `state_dict`) makes a tensor table of
//! them. Storages are looked up only for tensors that the layout lists: an optimizer's are never touched.

mod compact;
mod pickle;
mod saved;
mod state_dict;
mod training;
mod value;
mod zip;

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use super::{Checksum, Contents, Element, Extent, View, WeightsError};
use value::{Arena, JsonError, Node, NodeId};
use zip::Archive;

pub use pickle::{PickleError, PickleProblem};
pub use saved::{ArchiveBytes, CompactFile, CompactTensor, PackedRows};
pub use zip::ZipError;

/// Why the values in a torch file make no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Neither of the known dictionaries.
    #[error("data.pkl holds {found}; expected a state dictionary, or a dictionary with `model` or `format`")]
    NoLayout {
        /// What it holds.
        found: String,
    },
    /// A `format` that is not read.
    #[error("data.pkl: format {found}, expected `compact_2bit` version 1")]
    UnknownFormat {
        /// The format and version found.
        found: String,
    },
    /// A key that the layout needs.
    #[error("data.pkl: no {expected} under `{key}`")]
    Key {
        /// The key.
        key: &'static str,
        /// What should be there.
        expected: &'static str,
    },
    /// A tensor name that is not a string, or that occurs twice.
    #[error("data.pkl: {what}")]
    Names {
        /// What is wrong.
        what: String,
    },
    /// A tensor that contradicts itself or its storage.
    #[error("tensor `{name}`: {what}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A config that JSON cannot hold.
    #[error("data.pkl: `{key}`: {source}")]
    Json {
        /// Its key.
        key: &'static str,
        /// Why.
        source: JsonError,
    },
    /// An archive without exactly one `data.pkl`.
    #[error("the archive holds {count} members `<name>/data.pkl`, expected one")]
    Root {
        /// How many there are.
        count: usize,
    },
    /// Storages of another byte order.
    #[error("the storages are in `{found}` byte order; only little-endian ones are read")]
    ByteOrder {
        /// The order named in the archive.
        found: String,
    },
}

/// Reads the table of a torch file.
pub(super) fn open(bytes: &[u8]) -> Result<Contents, WeightsError> {
    let archive = Archive::read(bytes)?;
    let mut pickles = archive
        .members()
        .iter()
        .filter_map(|member| member.name.strip_suffix("/data.pkl"))
        .filter(|root| !root.contains('/'));
    let (Some(root), None) = (pickles.next(), pickles.next()) else {
        let count = archive.members().iter().filter(|member| member.name.ends_with("/data.pkl")).count();
        return Err(LayoutError::Root { count }.into());
    };
    if let Ok(order) = archive.member(&format!("{root}/byteorder")) {
        let order = order.verified(bytes)?;
        if order != b"little" {
            let found = String::from_utf8_lossy(&order[..order.len().min(16)]).into_owned();
            return Err(LayoutError::ByteOrder { found }.into());
        }
    }
    let (arena, top) = pickle::read(archive.member(&format!("{root}/data.pkl"))?.verified(bytes)?)?;
    let mut file = TorchFile { arena, archive: &archive, root, checksums: Vec::new(), checked: Default::default() };
    let Node::Dict(pairs) = file.arena.node(top) else {
        return Err(LayoutError::NoLayout { found: file.arena.node(top).kind().to_owned() }.into());
    };
    let pairs = pairs.clone();
    let mut contents = if file.arena.get(&pairs, "format").is_some() {
        compact::read(&mut file, &pairs)?
    } else if let Some(model) = file.dictionary(&pairs, "model") {
        training::read(&mut file, &pairs, &model)?
    } else {
        state_dict::read(&mut file, &pairs)?
    };
    contents.checksums = file.checksums;
    Ok(contents)
}

type Pairs = [(NodeId, NodeId)];

/// An opened archive with its pickle, as the layouts see it.
struct TorchFile<'a> {
    arena: Arena<'a>,
    archive: &'a Archive,
    root: &'a str,
    checksums: Vec<Checksum>,
    checked: std::collections::HashMap<usize, usize>,
}

impl TorchFile<'_> {
    /// The dictionary under a key.
    fn dictionary(&self, pairs: &Pairs, key: &str) -> Option<Vec<(NodeId, NodeId)>> {
        match self.arena.node(self.arena.get(pairs, key)?) {
            Node::Dict(inner) => Some(inner.clone()),
            _ => None,
        }
    }

    /// The names and values of a state dictionary; names are unique strings.
    fn named<'p>(&self, pairs: &'p Pairs) -> Result<Vec<(String, &'p NodeId)>, LayoutError> {
        let mut seen = std::collections::HashSet::with_capacity(pairs.len());
        pairs
            .iter()
            .map(|(key, value)| {
                let name = self.arena.text(*key).ok_or_else(|| LayoutError::Names {
                    what: format!("{} as a tensor's name", self.arena.node(*key).kind()),
                })?;
                if !seen.insert(name) {
                    return Err(LayoutError::Names { what: format!("tensor `{name}` occurs twice") });
                }
                Ok((name.to_owned(), value))
            })
            .collect()
    }

    /// The view that a tensor node describes, checked against its storage's member.
    fn view(&mut self, name: &str, id: NodeId) -> Result<View, WeightsError> {
        let wrong = |what: String| WeightsError::from(LayoutError::Tensor { name: name.to_owned(), what });
        let Node::Tensor(tensor) = self.arena.node(id) else {
            return Err(wrong(format!("expected a tensor, found {}", self.arena.node(id).kind())));
        };
        let Node::Storage(storage) = self.arena.node(tensor.storage) else {
            unreachable!("the pickle machine builds tensors on storages only");
        };
        let key = self.arena.text(storage.key).expect("the pickle machine checks that keys are strings");
        let member = self.archive.member(&format!("{}/data/{key}", self.root))?;
        let element = storage.element;
        if storage.elements.checked_mul(element.size() as u64) != Some(member.extent.length as u64) {
            return Err(wrong(format!(
                "its storage has {} elements of {}, but member `{}` has {} bytes",
                storage.elements,
                element.name(),
                member.name,
                member.extent.length
            )));
        }
        let mut view =
            View::checked(element, member.extent, tensor.first, &tensor.shape, &tensor.strides).map_err(wrong)?;
        let checksums = &mut self.checksums;
        let index = *self.checked.entry(member.extent.offset).or_insert_with(|| {
            checksums.push(Checksum { extent: member.extent, expected: member.crc32, found: Default::default() });
            checksums.len() - 1
        });
        view.checksum = Some(index);
        Ok(view)
    }

    /// The config under `config`, if there is one.
    fn config(&self, pairs: &Pairs) -> Result<Option<serde_json::Value>, LayoutError> {
        const KEY: &str = "config";
        match self.arena.get(pairs, KEY) {
            None => Ok(None),
            Some(id) => match self.arena.node(id) {
                Node::None => Ok(None),
                Node::Dict(_) => self.arena.json(id).map(Some).map_err(|source| LayoutError::Json { key: KEY, source }),
                _ => Err(LayoutError::Key { key: KEY, expected: "dictionary" }),
            },
        }
    }

    /// Splits what stands beside the weights: plain values are metadata, everything else stays unread.
    fn beside(&self, pairs: &Pairs, except: &[&str]) -> (serde_json::Map<String, serde_json::Value>, Vec<String>) {
        let (mut metadata, mut unread) = (serde_json::Map::new(), Vec::new());
        for &(key, value) in pairs {
            let Some(key) = self.arena.text(key) else {
                continue;
            };
            if except.contains(&key) {
                continue;
            }
            match self.arena.node(value) {
                Node::None | Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Text(..) => {
                    match self.arena.json(value) {
                        Ok(json) => {
                            metadata.insert(key.to_owned(), json);
                        }
                        Err(_) => unread.push(key.to_owned()),
                    }
                }
                _ => unread.push(key.to_owned()),
            }
        }
        (metadata, unread)
    }
}

impl View {
    /// A view of a storage, with every index checked to lie inside it.
    pub(super) fn checked(
        element: Element,
        storage: Extent,
        first: u64,
        shape: &[u64],
        strides: &[u64],
    ) -> Result<Self, String> {
        let capacity = (storage.length / element.size()) as u64;
        let elements = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
        let elements = elements.ok_or_else(|| format!("shape {shape:?} has too many elements"))?;
        if elements > capacity {
            return Err(format!("shape {shape:?} has {elements} elements, its storage only {capacity}"));
        }
        if elements > 0 {
            let last = shape
                .iter()
                .zip(strides)
                .try_fold(first, |at, (&n, &stride)| at.checked_add((n - 1).checked_mul(stride)?));
            if last.is_none_or(|last| last >= capacity) {
                return Err(format!(
                    "shape {shape:?} with strides {strides:?} from element {first} reaches beyond its storage of {capacity} elements"
                ));
            }
        }
        let narrow = |values: &[u64]| values.iter().map(|&v| usize::try_from(v)).collect::<Result<Vec<_>, _>>();
        // an empty view never uses its strides, so that those may hold anything
        let strides = if elements == 0 { vec![0; shape.len()] } else { narrow(strides).map_err(|e| e.to_string())? };
        let first = if elements == 0 { 0 } else { usize::try_from(first).map_err(|e| e.to_string())? };
        Ok(Self { element, storage, first, shape: narrow(shape).map_err(|e| e.to_string())?, strides, checksum: None })
    }
}
