//! The format that `torch.save` wrote before its archives (and writes still with
//! `_use_new_zipfile_serialization=False`): five pickles one after the other, which are a magic number, a version, the
//! writer's machine, the value and the keys of its storages, and then the storages, each behind its number of elements.

use std::collections::HashMap;

use super::pickle::{self, PickleError};
use super::value::{Arena, Node, NodeId};
use crate::weights::Extent;

/// What the first pickle says: an integer of ten bytes.
const MAGIC: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
const VERSION: i64 = 1001;
/// Bytes of the number of elements before a storage.
const COUNT: usize = 8;

/// Why a legacy file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LegacyError {
    /// Something that contradicts the format.
    #[error(
        "byte {offset}: {what}; this is torch's format from before its archives: load it with torch and save it anew"
    )]
    Broken {
        /// Where in the file.
        offset: usize,
        /// What is wrong.
        what: String,
    },
    /// One of its pickles is damaged.
    #[error(transparent)]
    Pickle(#[from] PickleError),
}

/// A legacy file, taken apart.
pub struct Legacy<'a> {
    /// The values of the fourth pickle.
    pub arena: Arena<'a>,
    /// The value itself.
    pub top: NodeId,
    /// Where the storage of each key lies.
    pub storages: HashMap<String, Extent>,
}

/// Bytes of the first pickle, if that is the one of this format: of protocol 2 and later, from 4 on in a frame.
pub fn front(bytes: &[u8]) -> Option<usize> {
    let &[b'\x80', protocol @ 2..=5, ref rest @ ..] = bytes else { return None };
    let framed = [b"\x95", &(MAGIC.len() as u64).to_le_bytes()[..]].concat();
    let rest = if protocol < 4 { rest } else { rest.strip_prefix(&framed[..])? };
    rest.starts_with(MAGIC).then_some(bytes.len() - rest.len() + MAGIC.len())
}

/// Takes a file apart that begins as [`front`] says.
///
/// # Errors
/// Anything that torch would not have written.
pub fn read(bytes: &[u8]) -> Result<Legacy<'_>, LegacyError> {
    let mut at = front(bytes).ok_or(LegacyError::Broken { offset: 0, what: "no magic number".to_owned() })?;
    let next = |at: &mut usize| {
        let read = pickle::read_front(&bytes[*at..]);
        let (arena, top, length) = read.map_err(|(offset, problem)| PickleError {
            within: "torch's old format,",
            offset: *at + offset,
            problem,
        })?;
        let start = std::mem::replace(at, *at + length);
        Ok::<_, PickleError>((arena, top, start))
    };
    let broken = |offset: usize, what: &str| LegacyError::Broken { offset, what: what.to_owned() };

    let (arena, version, start) = next(&mut at)?;
    if arena.node(version) != &Node::Int(VERSION) {
        return Err(broken(start, "its version is not 1001"));
    }
    let (arena, machine, start) = next(&mut at)?;
    let order = match arena.node(machine) {
        Node::Dict(pairs) => arena.get(pairs, "little_endian"),
        _ => None,
    };
    if order.map(|id| arena.node(id)) != Some(&Node::Bool(true)) {
        return Err(broken(start, "its storages are not known to be little-endian"));
    }
    let (arena, top, _) = next(&mut at)?;
    let (names, keys, start) = next(&mut at)?;
    let Node::List(keys) = names.node(keys) else {
        return Err(broken(start, "the keys of its storages are no list"));
    };
    let sizes = sizes(&arena).map_err(|what| LegacyError::Broken { offset: start, what })?;
    let mut storages = HashMap::with_capacity(keys.len().min(bytes.len() / COUNT));
    for &key in keys {
        let Some(key) = names.text(key) else {
            return Err(broken(start, "a key of a storage is no string"));
        };
        let Some(&(size, elements)) = sizes.get(key) else {
            return Err(LegacyError::Broken {
                offset: start,
                what: format!("nothing refers to storage `{}`", short(key)),
            });
        };
        let offset = at + COUNT;
        let count = bytes.get(at..offset).ok_or_else(|| broken(at, "the file is cut off before a storage"))?;
        let count = u64::from_le_bytes(count.try_into().expect("eight bytes"));
        let length = count.checked_mul(size as u64).and_then(|length| usize::try_from(length).ok());
        let Some(length) = length.filter(|&length| length <= bytes.len() - offset) else {
            let what = format!("storage `{}` of {count} elements reaches beyond the file", short(key));
            return Err(LegacyError::Broken { offset: at, what });
        };
        if count != elements {
            let what = format!("storage `{}` has {count} elements, the value says {elements}", short(key));
            return Err(LegacyError::Broken { offset: at, what });
        }
        if storages.insert(key.to_owned(), Extent::new(offset, length)).is_some() {
            return Err(LegacyError::Broken { offset: at, what: format!("storage `{}` occurs twice", short(key)) });
        }
        at = offset + length;
    }
    if at != bytes.len() {
        return Err(broken(at, "something follows the last storage"));
    }
    Ok(Legacy { arena, top, storages })
}

/// Bytes of an element and elements of each storage that the value refers to.
fn sizes<'a>(arena: &Arena<'a>) -> Result<HashMap<&'a str, (usize, u64)>, String> {
    let mut sizes = HashMap::new();
    for node in arena.nodes() {
        let Node::Storage(storage) = node else { continue };
        let key = arena.text(storage.key).expect("the pickle machine checks that keys are strings");
        let found = (storage.elements_are.size, storage.elements);
        if *sizes.entry(key).or_insert(found) != found {
            return Err(format!("storage `{}` is described in two ways", short(key)));
        }
    }
    Ok(sizes)
}

fn short(key: &str) -> String {
    key.chars().take(32).flat_map(char::escape_debug).collect()
}
