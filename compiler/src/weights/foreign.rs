//! Files that people give as checkpoints and that are none which is read here: what they are, and what to do instead.
//! Only what an error says is decided here; what is read is decided by the readers.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{WeightsError, bit2, safetensors, strict_json, torch};
use crate::input_file;

/// What a file is, and what to do instead of giving it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// What it is, with an article.
    pub what: &'static str,
    /// What to do instead.
    pub instead: &'static str,
}

const UNPACK: &str = "unpack it and give the file inside";
const CONVERTED: &str = "give the checkpoint that it was made from: a torch .pt file, safetensors or .bit2";
const SAVE: &str =
    "load it where it was written, and save a dictionary of its tensors with torch.save or as safetensors";
const AGAIN: &str = "fetch the file again, from the address of the file itself";

const PACKAGE: &str = "a .sterna package";

/// Beginnings of files.
const BEGINNINGS: &[(&[u8], &str, &str)] = &[
    (b"GGUF", "a GGUF file", CONVERTED),
    (b"lmgg", "a GGML file", CONVERTED),
    (b"tjgg", "a GGML file", CONVERTED),
    (b"STERNA\r\n", PACKAGE, "it has its own weights: give it in place of the config, without --weights"),
    (b"version https://git-lfs.github.com/spec/", "a pointer of git-lfs, not the file itself", "run `git lfs pull`"),
    (b"\x1f\x8b", "packed with gzip", UNPACK),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", UNPACK),
    (b"\xfd7zXZ\0", "packed with xz", UNPACK),
    (b"BZh", "packed with bzip2", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (b"PK\x05\x06", "an empty ZIP archive", AGAIN),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them", SAVE),
    (b"\x93NUMPY", "a NumPy array", SAVE),
    (b"%PDF", "a PDF document", AGAIN),
    (b"\x89PNG", "a picture", AGAIN),
    (b"\x7fELF", "a program", AGAIN),
];

/// Where a tar archive says that it is one.
const TAR: std::ops::Range<usize> = 257..262;

/// What a file of no known format is, if that can be told.
pub fn named(bytes: &[u8]) -> Option<Foreign> {
    if bytes.is_empty() {
        return Some(Foreign { what: "empty", instead: AGAIN });
    }
    begun(bytes).or_else(|| text(bytes))
}

/// What a file is by its first bytes, if it is no text.
fn begun(bytes: &[u8]) -> Option<Foreign> {
    let begins = BEGINNINGS.iter().find(|(beginning, ..)| bytes.starts_with(beginning));
    if let Some(&(_, what, instead)) = begins {
        return Some(Foreign { what, instead });
    }
    if bytes.get(TAR) == Some(b"ustar") {
        return Some(Foreign { what: "a tar archive", instead: UNPACK });
    }
    if bytes.get(4..8) == Some(b"TFL3") {
        return Some(Foreign { what: "a TensorFlow Lite model", instead: CONVERTED });
    }
    // A protocol buffer whose first field is the version of the format, and whose second is a text or a graph.
    if let [0x08, 1..=32, 0x12 | 0x1a | 0x22 | 0x3a | 0x42, ..] = bytes {
        return Some(Foreign { what: "an ONNX model", instead: CONVERTED });
    }
    if let [0x80, 2..=5, ..] = bytes {
        return Some(Foreign { what: "a pickle that torch.save did not write", instead: SAVE });
    }
    None
}

/// Refuses a file of weights, or a packed one, that is given as a config. What cannot be read is left to whoever reads
/// it.
///
/// # Errors
/// What the file is, and where it goes.
pub fn is_no_config(path: &Path) -> Result<(), WeightsError> {
    let mut front = Vec::new();
    // A pipe would lose what is read of it.
    if path.is_file() {
        let _ = File::open(path).and_then(|file| file.take(512).read_to_end(&mut front));
    }
    let torch = front.starts_with(b"PK\x03\x04") || torch::is_legacy(&front);
    let known = torch || front.starts_with(bit2::MAGIC) || safetensors::looks_like(&front);
    if front.trim_ascii_start().starts_with(b"{") {
        return Ok(());
    }
    let what = match begun(&front) {
        _ if known => Some(("a checkpoint", "give it to --weights (-w)")),
        Some(Foreign { what, .. }) if what == PACKAGE => Some((what, "its name must end with .sterna")),
        other => other.map(|foreign| (foreign.what, foreign.instead)),
    };
    let Some((what, instead)) = what else { return Ok(()) };
    let source = Box::new(WeightsError::NoConfig { what, instead });
    Err(WeightsError::InFile { path: path.to_owned(), source })
}

/// What a text is.
fn text(bytes: &[u8]) -> Option<Foreign> {
    const LOOKED_AT: usize = 4096;
    let bytes = input_file::unmarked(bytes);
    let front = &bytes[..bytes.len().min(LOOKED_AT)];
    let front = std::str::from_utf8(front).or_else(|e| std::str::from_utf8(&front[..e.valid_up_to()])).ok()?;
    let lower = front.trim_start().to_ascii_lowercase();
    if ["<!doctype", "<html", "<?xml", "<head", "<error"].iter().any(|tag| lower.starts_with(tag)) {
        return Some(Foreign { what: "a web page", instead: AGAIN });
    }
    if lower.starts_with(['{', '[']) {
        let value = strict_json::parse(bytes).ok();
        return Some(match value.as_ref().and_then(|value| value.get("weight_map")) {
            Some(_) => Foreign {
                what: "the index of a checkpoint in several files",
                instead: "its name must end with .index.json, and the files must lie beside it",
            },
            None => Foreign {
                what: "JSON",
                instead: "a config is given without an option: sterna COMMAND CONFIG.json --weights CHECKPOINT",
            },
        });
    }
    let begins =
        |word: &str| front.lines().any(|line| line.strip_prefix(word).is_some_and(|rest| rest.starts_with(' ')));
    if begins("model") || begins("library") {
        return Some(Foreign { what: "a graph", instead: "graph files are found in the folder that --graphs names" });
    }
    None
}

/// What a ZIP archive is in which there is no value of torch, by the name of its first member.
pub fn zip_named(bytes: &[u8]) -> Option<Foreign> {
    const NAME: usize = 30;
    let length = u16::from_le_bytes(bytes.get(26..28)?.try_into().ok()?);
    let name = std::str::from_utf8(bytes.get(NAME..NAME + usize::from(length))?).ok()?;
    if name.ends_with(".npy") {
        return Some(Foreign { what: "an archive of NumPy arrays (.npz)", instead: SAVE });
    }
    if matches!(name, "metadata.json" | "config.json" | "model.weights.h5") {
        return Some(Foreign { what: "a Keras model", instead: SAVE });
    }
    if name.ends_with("data.pkl") || name.ends_with(".data/serialization_id") {
        return Some(Foreign {
            what: "a torch archive that was packed anew",
            instead: "torch writes its members as they are: unpack it and pack it with `zip -0`, or save it with torch.save",
        });
    }
    let inner = [".pt", ".pth", ".bin", ".safetensors", ".bit2"].iter().any(|ending| name.ends_with(ending));
    Some(Foreign { what: "a ZIP archive that torch.save did not write", instead: if inner { UNPACK } else { SAVE } })
}
