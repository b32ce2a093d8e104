//! Guard mode, for tests: every buffer ends at a page that no one may touch, and holds no zeros that nobody wrote.
//!
//! With `STERNA_GUARD=1` in the environment, a load or store of compiled code outside its buffers, beyond the padding
//! that spec/abi.md allows, ends the process with a signal; a store into padding is a panic; and what was never
//! written is no zero. Calls get buffers of just their rows. All of it is slow, and nothing else changes.

use std::sync::OnceLock;

use memmap2::MmapMut;

use crate::abi::PADDING;

/// What memory holds that nobody wrote: NaN as a float, large and negative as an integer.
pub const UNWRITTEN: u8 = 0xff;

/// Whether buffers are guarded.
pub fn is_on() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var_os("STERNA_GUARD").is_some_and(|value| !value.is_empty() && value != "0"))
}

/// Zeroed memory between two pages that cannot be touched, and where in it a buffer of so many bytes starts: its
/// padding ends with the last page.
///
/// # Errors
/// The system has no memory or no addresses left, or cannot protect a page.
pub fn map(bytes: usize) -> std::io::Result<(MmapMut, usize)> {
    let page = page_size();
    let readable = bytes.checked_next_multiple_of(PADDING).and_then(|bytes| bytes.checked_add(PADDING));
    let inner = readable.and_then(|readable| readable.checked_next_multiple_of(page));
    let all = inner.and_then(|inner| inner.checked_add(2 * page));
    let (Some(readable), Some(inner), Some(all)) = (readable, inner, all) else {
        return Err(std::io::ErrorKind::OutOfMemory.into());
    };
    let mut map = MmapMut::map_anon(all)?;
    let start = page + inner - readable;
    map[start + bytes..start + readable].fill(UNWRITTEN);
    protect(&mut map, 0, page)?;
    protect(&mut map, page + inner, page)?;
    Ok((map, start))
}

/// Panics if the padding behind a buffer that [`map`] made was written.
pub fn check(map: &MmapMut, start: usize, bytes: usize) {
    let padding = &map[start + bytes..start + bytes.next_multiple_of(PADDING) + PADDING];
    let spoilt = padding.iter().position(|&byte| byte != UNWRITTEN);
    assert!(spoilt.is_none() || std::thread::panicking(), "byte {spoilt:?} behind a buffer of {bytes} was written");
}

#[cfg(unix)]
fn page_size() -> usize {
    // SAFETY: a question without memory.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(1 << 16)
}

#[cfg(not(unix))]
fn page_size() -> usize {
    1 << 16
}

#[cfg(unix)]
fn protect(map: &mut MmapMut, start: usize, bytes: usize) -> std::io::Result<()> {
    let address = map[start..start + bytes].as_mut_ptr();
    // SAFETY: whole pages of a map that is this function's own; nobody has a reference into them, and none is made
    // later: slices of the map are of what lies between.
    match unsafe { libc::mprotect(address.cast(), bytes, libc::PROT_NONE) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(not(unix))]
fn protect(_: &mut MmapMut, _: usize, _: usize) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_ends_with_a_page_and_is_watched() {
        for bytes in [0, 1, 64, 100, 4096, 5000] {
            let (mut map, start) = map(bytes).unwrap();
            let end = start + bytes.next_multiple_of(PADDING) + PADDING;
            assert_eq!((map.as_ptr() as usize + start) % 64, 0);
            assert_eq!(end % page_size(), 0);
            assert!(map[start..start + bytes].iter().all(|&byte| byte == 0));
            check(&map, start, bytes);
            map[end - 1] = 0;
            let checked = std::panic::AssertUnwindSafe(|| check(&map, start, bytes));
            assert!(std::panic::catch_unwind(checked).is_err());
        }
    }
}
