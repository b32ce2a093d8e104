//! Files that are read whole: texts, token ids, maps, configs. How much of each may be read is decided here, so that a
//! device that never ends, or a file of another kind, is an error and no allocation. What is mapped is not read this
//! way.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;

/// Most bytes of a text to evaluate, or of token ids: a corpus.
pub const TEXT: u64 = 1 << 30;
/// Most bytes of a tokenizer.
pub const TOKENIZER: u64 = 1 << 28;
/// Most bytes of a config, of a rename map and of a sweep's results.
pub const JSON: u64 = 1 << 26;
/// Most bytes of a device: none has an end of its own.
const DEVICE: u64 = 1 << 20;

/// The bytes of a file, a pipe or a terminal, if there are no more than `most` of them.
///
/// # Errors
/// It cannot be read, or is longer; never more than the limit is read to find out.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let most = if is_device(&metadata) && !file.is_terminal() { most.min(DEVICE) } else { most };
    let too_long = || {
        let what = if is_device(&metadata) { "a device that gives" } else { "it has" };
        io::Error::new(io::ErrorKind::FileTooLarge, format!("{what} more than {most} bytes, the most that is read"))
    };
    if metadata.is_file() && metadata.len() > most {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_long()) } else { Ok(bytes) }
}

/// JSON without the byte order mark that some editors put in front.
pub fn unmarked(json: &[u8]) -> &[u8] {
    json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json)
}

/// What stdin gives until it ends, if that is no more than `most` bytes.
///
/// # Errors
/// As [`read`].
pub fn read_stdin(most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let why = format!("stdin gives more than {most} bytes, the most that is read");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// As [`read`], for a file that must be UTF-8.
///
/// # Errors
/// Those of [`read`]; other bytes, with their place.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        io::Error::new(io::ErrorKind::InvalidData, format!("it is not UTF-8 at byte {at}"))
    })
}

#[cfg(unix)]
fn is_device(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_char_device() || metadata.file_type().is_block_device()
}

#[cfg(not(unix))]
fn is_device(_: &std::fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert!(read(&path, 4).unwrap_err().to_string().contains("more than 4 bytes"));
        assert!(read(folder.path(), 4).is_err());
        std::fs::write(&path, b"ab\xff").unwrap();
        assert!(read_text(&path, 9).unwrap_err().to_string().contains("byte 2"));
    }

    #[test]
    #[cfg(unix)]
    fn devices_are_not_read_for_ever() {
        assert!(read(Path::new("/dev/zero"), TEXT).unwrap_err().to_string().contains("a device"));
        assert_eq!(read(Path::new("/dev/null"), TEXT).unwrap(), b"");
    }
}
