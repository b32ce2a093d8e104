//! Files that commands write. One appears under its name only when it is complete: it is written under a name of its
//! own in the same folder, and takes the name at the end. What it replaces is a regular file; a link, a pipe or a
//! device is left as it is, and so is every file that the command reads.

mod drafts;

use std::fs::{File, Metadata};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use drafts::Draft;
pub use drafts::heed_signals;

/// Why a file may not be written.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it is a link, and links are not followed; name the file itself")]
    Link,
    #[error("it is {0}; name a regular file")]
    Special(&'static str),
    #[error("this command reads it")]
    Input,
    #[error("that is no name of a file")]
    NoName,
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, refused)
    }
}

/// Whether a file may be written under this name by a command that reads `inputs`: asked before the work begins.
///
/// # Errors
/// There is something else than a regular file, or one of the inputs; or the name has no file in it.
pub fn may_write(path: &Path, inputs: &[PathBuf]) -> io::Result<()> {
    let Some(found) = replaced(path)? else { return Ok(()) };
    let same = |input: &PathBuf| std::fs::metadata(input).is_ok_and(|input| same_file(&found, &input));
    let named = |input: &PathBuf| {
        let both = (std::fs::canonicalize(path), std::fs::canonicalize(input));
        matches!(both, (Ok(a), Ok(b)) if a == b)
    };
    if inputs.iter().any(|input| same(input) || named(input)) { Err(Refused::Input.into()) } else { Ok(()) }
}

/// The regular file that a new one would replace, if there is one.
fn replaced(path: &Path) -> io::Result<Option<Metadata>> {
    if path.file_name().is_none() {
        return Err(Refused::NoName.into());
    }
    // Said in its own words before the work begins: there is no such folder.
    std::fs::metadata(folder_of(path))?;
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Where a link leads to something that is no file at all, that is the better reason.
    let kind =
        if found.is_symlink() { std::fs::metadata(path).ok().and_then(|led| special(&led)) } else { special(&found) };
    match kind {
        Some(kind) => Err(Refused::Special(kind).into()),
        None if found.is_symlink() => Err(Refused::Link.into()),
        None => Ok(Some(found)),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// What is no regular file, in words.
fn special(found: &Metadata) -> Option<&'static str> {
    if found.is_file() {
        return None;
    }
    if found.is_dir() {
        return Some("a folder");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = found.file_type();
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
    }
    Some("a device")
}

/// Two names of one file. Neither is opened: a pipe among the inputs would lose what was read.
#[cfg(unix)]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn same_file(_: &Metadata, _: &Metadata) -> bool {
    false
}

/// Writes a file under a name of its own that takes its name at the end, and is removed if `write` fails.
///
/// # Errors
/// Those of `write`, whatever the file system says, and a name under which there is no regular file.
pub fn write_whole<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T, E>,
) -> Result<T, E> {
    let before = replaced(path)?;
    let (file, draft) = Draft::new(folder_of(path))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let result = write(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    if let Some(before) = before {
        file.set_permissions(before.permissions())?;
    }
    file.sync_all()?;
    // Whoever has put something else there meanwhile keeps it.
    replaced(path)?;
    draft.persist(path)?;
    Ok(result)
}

/// [`write_whole`] for a text.
///
/// # Errors
/// As there.
pub fn write_text(path: &Path, text: &str) -> io::Result<()> {
    write_whole(path, |out| io::Write::write_all(out, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_leaves_nothing_and_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_text(&path, "one").unwrap();
        let failed: io::Result<()> = write_whole(&path, |_| Err(io::ErrorKind::Other.into()));
        assert!(failed.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        write_text(&path, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn inputs_and_folders_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        assert!(may_write(&path, std::slice::from_ref(&path)).is_ok());
        write_text(&path, "one").unwrap();
        let error = may_write(&path, &[folder.path().join(".").join("a")]).unwrap_err().to_string();
        assert!(error.contains("reads it"), "{error}");
        assert!(may_write(&path, &[folder.path().join("b")]).is_ok());
        assert!(may_write(folder.path(), &[]).unwrap_err().to_string().contains("a folder"));
        assert!(may_write(Path::new("/"), &[]).is_err() && may_write(Path::new(".."), &[]).is_err());
    }

    #[test]
    #[cfg(unix)]
    fn links_and_devices_are_not_followed() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        write_text(&file, "one").unwrap();
        symlink(&file, &link).unwrap();
        assert!(write_text(&link, "two").unwrap_err().to_string().contains("a link"));
        assert!(write_text(Path::new("/dev/null"), "two").unwrap_err().to_string().contains("a device"));
        let lost = folder.path().join("lost");
        symlink(folder.path().join("nowhere"), &lost).unwrap();
        assert!(write_text(&lost, "two").unwrap_err().to_string().contains("a link"));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one");
        // The mode of what is replaced stays.
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        write_text(&file, "three").unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
