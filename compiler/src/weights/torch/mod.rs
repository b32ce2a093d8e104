//! Files that `torch.save` writes: a ZIP archive with a pickle and raw storages, or, from before, all of it in a row.
//!
//! `zip` and `legacy` give the storages as ranges of the mapped file, `pickle` reads the value into plain nodes without
//! executing anything, and one file per layout (`compact`, `state`) makes a tensor table of them. Storages are looked
//! up only for tensors that the layout lists: an optimizer's are never touched.

mod compact;
mod legacy;
mod pickle;
mod saved;
mod state;
mod tensors;
mod value;
mod zip;

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use super::{Checksum, Contents, Element, Extent, Stored, TensorEntry, View, WeightsError, foreign};
use value::{Arena, JsonError, Node, NodeId};
use zip::Archive;

pub use legacy::LegacyError;
pub use pickle::{PickleError, PickleProblem};
pub use saved::{ArchiveBytes, CompactFile, CompactTensor, PackedRows};
pub use zip::ZipError;

/// Why the values in a torch file make no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// No state dictionary.
    #[error("it holds {found}; expected a state dictionary, or one under {}", keys())]
    NoLayout {
        /// What it holds.
        found: String,
    },
    /// A model that was saved as the object it is.
    #[error(
        "{} is {found}: a whole model, which only its own code can read; save its state dictionary instead, with torch.save(model.state_dict(), FILE)",
        key.as_ref().map_or_else(|| "it".to_owned(), |key| format!("`{key}`"))
    )]
    WholeModel {
        /// What it is.
        found: String,
        /// The key under which it stands.
        key: Option<String>,
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
    /// An archive without exactly one outermost `data.pkl`.
    #[error("the archive holds {count} members `data.pkl` in its outermost folder, expected one")]
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

/// The keys of state dictionaries, for messages.
fn keys() -> String {
    state::KEYS.map(|key| format!("`{key}`")).join(", ")
}

/// Whether a file is one from before the archives.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    legacy::front(bytes).is_some()
}

/// Reads the table of a torch archive.
pub(super) fn open(bytes: &[u8]) -> Result<Contents, WeightsError> {
    let foreign = |error: WeightsError| foreign::zip_named(bytes).map_or(error, WeightsError::Foreign);
    let archive = match Archive::read(bytes) {
        Err(error @ ZipError::NotStored { .. }) => return Err(foreign(error.into())),
        read => read?,
    };
    let root = match root(&archive) {
        Err(error @ LayoutError::Root { count: 0 }) => return Err(foreign(error.into())),
        root => root?,
    };
    if let Ok(order) = archive.member(&format!("{root}byteorder")) {
        let order = order.verified(bytes)?;
        if order != b"little" {
            let found = String::from_utf8_lossy(&order[..order.len().min(16)]).into_owned();
            return Err(LayoutError::ByteOrder { found }.into());
        }
    }
    let (arena, top) = pickle::read(archive.member(&format!("{root}{VALUE}"))?.verified(bytes)?)?;
    contents(arena, top, Storages::Archive { archive: &archive, root })
}

/// The member that holds the value.
const VALUE: &str = "data.pkl";

/// What stands before the names of an archive's members: the outermost folder with a value. Torch makes one folder, of
/// the file's name; who packs the members anew may leave it out, or put others around it.
fn root(archive: &Archive) -> Result<&str, LayoutError> {
    let folders = archive.members().iter().filter_map(|member| member.name.strip_suffix(VALUE));
    let mut roots: Vec<&str> = folders.filter(|folder| folder.is_empty() || folder.ends_with('/')).collect();
    let depth = |root: &&str| root.matches('/').count();
    let least = roots.iter().map(depth).min();
    roots.retain(|root| Some(depth(root)) == least);
    match roots[..] {
        [root] => Ok(root),
        _ => Err(LayoutError::Root { count: roots.len() }),
    }
}

/// Reads the table of a file from before the archives.
pub(super) fn open_legacy(bytes: &[u8]) -> Result<Contents, WeightsError> {
    let legacy::Legacy { arena, top, storages } = legacy::read(bytes)?;
    contents(arena, top, Storages::Legacy(storages))
}

fn contents(arena: Arena, top: NodeId, storages: Storages) -> Result<Contents, WeightsError> {
    let mut file = TorchFile { arena, storages, checksums: Vec::new(), checked: HashMap::new() };
    let mut contents = match compact::recognised(&file, top)? {
        Some(pairs) => compact::read(&mut file, &pairs)?,
        None => state::read(&mut file, top)?,
    };
    contents.checksums = file.checksums;
    Ok(contents)
}

type Pairs = [(NodeId, NodeId)];

/// Where the storages of a file lie.
enum Storages<'a> {
    /// Members of an archive.
    Archive { archive: &'a Archive, root: &'a str },
    /// By key.
    Legacy(HashMap<String, Extent>),
}

/// An opened file with its value, as the layouts see it.
struct TorchFile<'a> {
    arena: Arena<'a>,
    storages: Storages<'a>,
    checksums: Vec<Checksum>,
    checked: HashMap<usize, usize>,
}

impl TorchFile<'_> {
    /// The entries of a dictionary; none of anything else.
    fn pairs(&self, id: NodeId) -> Vec<(NodeId, NodeId)> {
        match self.arena.node(id) {
            Node::Dict(pairs) => pairs.clone(),
            _ => Vec::new(),
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

    /// The entry of a tensor node.
    fn tensor(&mut self, name: String, id: NodeId) -> Result<TensorEntry, WeightsError> {
        let Node::Tensor(tensor) = self.arena.node(id) else {
            return Err(LayoutError::Tensor {
                name,
                what: format!("expected a tensor, found {}", self.arena.describe(id)),
            }
            .into());
        };
        let what = match tensor.elements_are.element {
            None => Some(tensor.elements_are.name.to_owned()),
            Some(_) => View::too_expanded(&tensor.shape, &tensor.strides),
        };
        if let Some(what) = what {
            // nothing is computed with it, so that its storage may be anything
            let shape = tensor.shape.iter().map(|&n| usize::try_from(n).unwrap_or(usize::MAX)).collect();
            return Ok(TensorEntry { name, shape, stored: Stored::Other { what } });
        }
        let view = self.view(&name, id)?;
        Ok(TensorEntry { name, shape: view.shape.clone(), stored: Stored::Dense(view) })
    }

    /// The view that a tensor node describes, checked against its storage.
    fn view(&mut self, name: &str, id: NodeId) -> Result<View, WeightsError> {
        let wrong = |what: String| WeightsError::from(LayoutError::Tensor { name: name.to_owned(), what });
        let Node::Tensor(tensor) = self.arena.node(id) else {
            return Err(wrong(format!("expected a tensor, found {}", self.arena.describe(id))));
        };
        let Node::Storage(storage) = self.arena.node(tensor.storage) else {
            unreachable!("the pickle machine builds tensors on storages only");
        };
        let Some(element) = tensor.elements_are.element else {
            return Err(wrong(format!("its elements are {}, which are not computed with", tensor.elements_are.name)));
        };
        let key = self.arena.text(storage.key).expect("the pickle machine checks that keys are strings");
        let (extent, crc32) = self.storages.get(key).map_err(|error| match error {
            Some(missing) => WeightsError::from(missing),
            None => wrong(format!("there is no storage `{}`", key.chars().take(32).collect::<String>())),
        })?;
        let size = storage.elements_are.size;
        if storage.elements.checked_mul(size as u64) != Some(extent.length as u64) {
            return Err(wrong(format!(
                "its storage `{key}` has {} elements of {}, but {} bytes in the file",
                storage.elements, storage.elements_are.name, extent.length
            )));
        }
        let part = match storage.part {
            None => Some(extent),
            Some((first, elements)) => extent.part(first, elements, size),
        };
        let part = part.ok_or_else(|| wrong("its part of a storage lies outside the storage".to_owned()))?;
        let mut view = View::checked(element, part, tensor.first, &tensor.shape, &tensor.strides).map_err(wrong)?;
        if let Some(expected) = crc32 {
            let checksums = &mut self.checksums;
            let index = *self.checked.entry(extent.offset).or_insert_with(|| {
                checksums.push(Checksum { extent, expected, found: Default::default() });
                checksums.len() - 1
            });
            view.checksum = Some(index);
        }
        Ok(view)
    }

    /// The config under `config`, if there is one; what of it has no JSON form stays unread.
    fn config(&self, pairs: &Pairs, unread: &mut Vec<String>) -> Result<Option<serde_json::Value>, LayoutError> {
        const KEY: &str = "config";
        let Some(id) = self.arena.get(pairs, KEY) else { return Ok(None) };
        match self.arena.node(id) {
            Node::None => return Ok(None),
            Node::Dict(_) => {}
            _ => {
                unread.push(KEY.to_owned());
                return Ok(None);
            }
        }
        match self.arena.json(id) {
            Ok((config, left_out)) => {
                unread.extend(left_out.iter().map(|path| format!("{KEY}.{path}")));
                Ok(Some(config))
            }
            Err(JsonError::Unsupported(_)) => Ok(None),
            Err(source) => Err(LayoutError::Json { key: KEY, source }),
        }
    }

    /// Splits what stands beside the weights: plain values are metadata, everything else stays unread.
    fn beside(&self, pairs: &Pairs, except: &[&str], contents: &mut Contents) {
        for &(key, value) in pairs {
            let Some(key) = self.arena.text(key) else {
                contents.unread.push(self.arena.describe(key));
                continue;
            };
            if except.contains(&key) {
                continue;
            }
            let plain = match self.arena.node(value) {
                Node::None | Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Text(_) => {
                    self.arena.json(value).ok()
                }
                _ => None,
            };
            match plain {
                Some((json, _)) => {
                    contents.metadata.insert(key.to_owned(), json);
                }
                None => contents.unread.push(key.to_owned()),
            }
        }
    }
}

impl Storages<'_> {
    /// Where a storage lies, with the checksum that the container has for it.
    ///
    /// # Errors
    /// There is none of this key; an archive says which member is missing.
    fn get(&self, key: &str) -> Result<(Extent, Option<u32>), Option<ZipError>> {
        match self {
            Self::Archive { archive, root } => {
                let member = archive.member(&format!("{root}data/{key}"))?;
                Ok((member.extent, Some(member.crc32)))
            }
            Self::Legacy(storages) => storages.get(key).map(|&extent| (extent, None)).ok_or(None),
        }
    }
}

impl Extent {
    /// So many elements of `size` bytes from the `first` on.
    fn part(self, first: u64, elements: u64, size: usize) -> Option<Extent> {
        let bytes = |n: u64| usize::try_from(n).ok()?.checked_mul(size);
        let (skip, length) = (bytes(first)?, bytes(elements)?);
        (skip.checked_add(length)? <= self.length).then_some(Extent {
            file: self.file,
            offset: self.offset + skip,
            length,
        })
    }
}

/// Most elements of an expanded view, which repeats those of its storage.
const MAX_EXPANDED: u64 = 1 << 26;

impl View {
    /// What to call an expanded view of more elements than anybody reads.
    fn too_expanded(shape: &[u64], strides: &[u64]) -> Option<String> {
        let elements = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
        let large = strides.contains(&0) && elements.is_none_or(|n| n > MAX_EXPANDED) && !shape.contains(&0);
        large.then(|| "a few values, expanded to more than are read".to_owned())
    }

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
        if elements > capacity && !strides.contains(&0) {
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
