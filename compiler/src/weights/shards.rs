//! Checkpoints in several files: an index says which file holds which tensor, as Hugging Face's `save_pretrained`
//! writes it beside the files.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::checkpoint::{Checkpoint, Contents};
use super::{Stored, WeightsError, strict_json};

/// How the name of an index ends.
const ENDING: &str = ".index.json";
/// The names that are looked for in a folder, in this order.
const NAMES: [&str; 4] =
    ["model.safetensors.index.json", "pytorch_model.bin.index.json", "model.safetensors", "pytorch_model.bin"];
/// Longest index accepted, in bytes.
const MAX_INDEX: u64 = 1 << 26;
/// Most files of one checkpoint.
const MAX_FILES: usize = 4096;

/// Why the files of an index make no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum ShardsError {
    /// Not JSON, or longer than any index is.
    #[error("not an index of a checkpoint: {0}")]
    Index(String),
    /// A file of the index that may lie elsewhere.
    #[error("file `{0}` does not lie beside the index")]
    Outside(String),
    /// The index promises what its file has not.
    #[error("file `{file}` has no tensor `{tensor}`")]
    Missing {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// Two files have it.
    #[error("tensor `{tensor}` is in `{first}` and in `{second}`")]
    Twice {
        /// The tensor.
        tensor: String,
        /// One file.
        first: String,
        /// The other.
        second: String,
    },
}

/// The file that stands for the checkpoint in a folder; any other path stands for itself.
#[must_use]
pub fn index_of(path: &Path) -> PathBuf {
    let inside = path.is_dir().then(|| NAMES.iter().map(|name| path.join(name)).find(|file| file.is_file()));
    inside.flatten().unwrap_or_else(|| path.to_owned())
}

/// All files of a checkpoint, the index among them; one that cannot be read stands for itself.
#[must_use]
pub fn files_of(path: &Path) -> Vec<PathBuf> {
    let index = index_of(path);
    let named = is_index(&index).then(|| crate::input_file::read(&index, MAX_INDEX).ok()).flatten();
    let named = named.and_then(|text| files(&text).ok()).unwrap_or_default();
    named.keys().map(|name| index.with_file_name(name)).chain([index.clone()]).collect()
}

/// Whether a name is that of an index.
pub(super) fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(ENDING.as_bytes()))
}

/// Refuses one of several files, since the others have the rest of the weights, and a folder that stands for none.
pub(super) fn is_whole(path: &Path) -> Result<(), WeightsError> {
    if path.is_dir() {
        let (path, names) = (path.display(), NAMES.join(", "));
        return Err(WeightsError::Shard(format!("`{path}` is a folder with none of {names}: name the file")));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((front, count, ending)) = numbered(&name).filter(|&(_, count, _)| count > 1) else { return Ok(()) };
    let index = format!("{front}{ending}{ENDING}");
    let there = path.with_file_name(&index).is_file();
    let advice = if there { "give its index" } else { "give its index, which does not lie beside it" };
    Err(WeightsError::Shard(format!("`{name}` is one of {count} files of a checkpoint: {advice}, `{index}`")))
}

/// The parts of a name such as `model-00001-of-00003.safetensors`: what stands before the numbers, how many files there
/// are, and the ending.
fn numbered(name: &str) -> Option<(&str, usize, &str)> {
    let dot = name.rfind('.')?;
    let (stem, count) = name[..dot].rsplit_once("-of-")?;
    let (front, place) = stem.rsplit_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let count = Some(count).filter(|count| digits(place) && digits(count))?.parse().ok()?;
    Some((front, count, &name[dot..]))
}

/// Opens all files of an index.
pub(super) fn open(index: &Path) -> Result<Checkpoint, WeightsError> {
    let within = |source: ShardsError| WeightsError::InFile {
        path: index.to_owned(),
        source: Box::new(WeightsError::Shards(source)),
    };
    let text = crate::input_file::read(index, MAX_INDEX)
        .map_err(|source| WeightsError::Io { path: index.to_owned(), source })?;
    let files = files(&text).map_err(within)?;
    let mut all: Option<Checkpoint> = None;
    let mut places: HashMap<String, &str> = HashMap::new();
    for (name, promised) in &files {
        let (mapping, contents) = Checkpoint::map(&index.with_file_name(name))?;
        for entry in &contents.tensors {
            if let Some(first) = places.insert(entry.name.clone(), name) {
                let (tensor, first, second) = (entry.name.clone(), first.to_owned(), name.clone());
                return Err(within(ShardsError::Twice { tensor, first, second }));
            }
        }
        if let Some(tensor) = promised.iter().find(|tensor| places.get(*tensor) != Some(&name.as_str())) {
            return Err(within(ShardsError::Missing { file: name.clone(), tensor: tensor.clone() }));
        }
        match &mut all {
            None => all = Some(Checkpoint { files: vec![mapping], contents }),
            Some(all) => {
                append(&mut all.contents, contents, all.files.len());
                all.files.push(mapping);
            }
        }
    }
    all.ok_or_else(|| within(ShardsError::Index("it names no file".to_owned())))
}

/// The files of an index with the tensors that it promises of each, sorted.
pub(super) fn files(text: &[u8]) -> Result<BTreeMap<String, Vec<String>>, ShardsError> {
    let value =
        strict_json::parse(crate::input_file::unmarked(text)).map_err(|error| ShardsError::Index(error.to_string()))?;
    let Some(Value::Object(map)) = value.get("weight_map") else {
        return Err(ShardsError::Index("it has no object `weight_map`".to_owned()));
    };
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (tensor, file) in map {
        let Some(file) = file.as_str() else {
            return Err(ShardsError::Index(format!("the file of `{tensor}` is no string")));
        };
        let mut parts = Path::new(file).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) || is_index(Path::new(file)) {
            return Err(ShardsError::Outside(file.to_owned()));
        }
        files.entry(file.to_owned()).or_default().push(tensor.clone());
    }
    if files.len() > MAX_FILES {
        return Err(ShardsError::Index(format!("it names {} files, the limit is {MAX_FILES}", files.len())));
    }
    Ok(files)
}

/// Adds what file number `file` holds to what the files before it hold.
fn append(all: &mut Contents, mut more: Contents, file: usize) {
    let before = all.checksums.len();
    for entry in &mut more.tensors {
        let views = match &mut entry.stored {
            Stored::Dense(view) => [Some(view), None],
            Stored::Ternary { codes, scale } => [Some(codes), Some(scale)],
            Stored::Sign { bits, alpha, .. } => {
                bits.file = file;
                [Some(alpha), None]
            }
            Stored::Other { .. } => [None, None],
        };
        for view in views.into_iter().flatten() {
            view.storage.file = file;
            view.checksum = view.checksum.map(|index| before + index);
        }
    }
    for checksum in &mut more.checksums {
        checksum.extent.file = file;
    }
    all.tensors.append(&mut more.tensors);
    all.checksums.append(&mut more.checksums);
    all.unread.append(&mut more.unread);
    all.metadata.append(&mut more.metadata);
    all.config = all.config.take().or(more.config);
}
