//! Files that appear under their name only when they are complete.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

/// Writes a file through a neighbour that takes its name at the end, and is removed if `write` fails.
///
/// # Errors
/// Those of `write`, and whatever the file system says.
pub fn write_whole<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T, E>,
) -> Result<T, E> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = File::create(&part).map_err(E::from).and_then(|file| {
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let result = write(&mut out)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&part, path)?;
        Ok(result)
    });
    if written.is_err() {
        // the error matters more than a part file that cannot be removed either
        let _ = std::fs::remove_file(&part);
    }
    written
}
