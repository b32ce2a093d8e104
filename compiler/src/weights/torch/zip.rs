//! The ZIP container that torch writes: stored entries only, addressed by their place in the mapped file.
//!
//! Only what is needed to hand out byte ranges: the end records (ZIP64 too), the central directory and each
//! local header. Every entry's range is checked to lie inside the file, before the directory, and apart from
//! all others. General archive crates were not used because they merge entries of one name in silence and
//! give readers instead of ranges of the file.

use std::collections::HashMap;

use crate::weights::Extent;

const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const END_64_LOCATOR: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;

const END_LENGTH: usize = 22;
const END_64_LENGTH: usize = 56;
const LOCATOR_LENGTH: usize = 20;
const CENTRAL_LENGTH: usize = 46;
const LOCAL_LENGTH: usize = 30;
const MAX_COMMENT: usize = 65_535;
const EXTRA_ZIP64: u16 = 1;
const FLAG_ENCRYPTED: u16 = 1;

/// Why the container cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZipError {
    /// No end-of-directory record: not an archive, or its end is cut off.
    #[error("no end of central directory in the last {searched} bytes: the archive is truncated")]
    NoEnd {
        /// How far back was searched.
        searched: usize,
    },
    /// A record reaches beyond the end of what it must lie in.
    #[error("byte {offset}: the {record} ends beyond byte {limit}")]
    Truncated {
        /// Where the record starts.
        offset: usize,
        /// Which record.
        record: &'static str,
        /// Where it must have ended.
        limit: usize,
    },
    /// A record that does not start with its signature.
    #[error("byte {offset}: expected a {record}, found signature {found:08x}")]
    Signature {
        /// Where the record should start.
        offset: usize,
        /// Which record.
        record: &'static str,
        /// What is there.
        found: u32,
    },
    /// An archive spread over several files.
    #[error("byte {offset}: the archive is split over several volumes")]
    Split {
        /// Where it says so.
        offset: usize,
    },
    /// Sizes or counts that contradict each other or the file.
    #[error("byte {offset}: {what}")]
    Inconsistent {
        /// Where.
        offset: usize,
        /// What contradicts what.
        what: &'static str,
    },
    /// A name that is not UTF-8.
    #[error("byte {offset}: the name of a member is not UTF-8")]
    Name {
        /// Where the name starts.
        offset: usize,
    },
    /// Compressed or encrypted data.
    #[error("member `{member}` is {how}; torch writes its members stored")]
    NotStored {
        /// The member.
        member: String,
        /// What it is instead.
        how: &'static str,
    },
    /// One name twice.
    #[error("member `{member}` occurs twice")]
    Duplicate {
        /// The member.
        member: String,
    },
    /// Two members share bytes of the file.
    #[error("members `{first}` and `{second}` overlap at byte {offset}")]
    Overlap {
        /// The one that starts first.
        first: String,
        /// The one that starts before the first has ended.
        second: String,
        /// Where the second starts.
        offset: usize,
    },
    /// The bytes of a member differ from its checksum.
    #[error(
        "member `{member}` at byte {offset} has checksum {found:08x}, the directory says {expected:08x}: the file is damaged"
    )]
    Checksum {
        /// The member.
        member: String,
        /// Where its data starts.
        offset: usize,
        /// CRC-32 of the bytes.
        found: u32,
        /// CRC-32 in the directory.
        expected: u32,
    },
    /// A member that must exist does not.
    #[error("no member `{member}` in the archive")]
    Missing {
        /// Its name.
        member: String,
    },
}

/// One stored member.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its path inside the archive.
    pub name: String,
    /// Its data in the file.
    pub extent: Extent,
    /// CRC-32 of the data.
    pub crc32: u32,
}

/// The members of an archive, in the order of their data.
#[derive(Debug)]
pub struct Archive {
    members: Vec<Member>,
    by_name: HashMap<String, usize>,
}

impl Archive {
    /// Reads the directory of `bytes`, a whole file.
    ///
    /// # Errors
    /// Anything that is not a plain archive of stored, disjoint, uniquely named members.
    pub fn read(bytes: &[u8]) -> Result<Self, ZipError> {
        let directory = find_directory(bytes)?;
        let mut members = Vec::new();
        let mut starts = Vec::new();
        let mut at = directory.extent.offset;
        let end = at + directory.extent.length;
        while at < end {
            let (member, start, next) = read_entry(bytes, at, end, directory.extent.offset)?;
            starts.push((start, members.len()));
            members.push(member);
            at = next;
        }
        if members.len() as u64 != directory.entries {
            return Err(ZipError::Inconsistent {
                offset: directory.extent.offset,
                what: "the number of members differs from the end record's",
            });
        }
        starts.sort_unstable();
        for pair in starts.windows(2) {
            let (first, second) = (&members[pair[0].1], &members[pair[1].1]);
            if first.extent.offset + first.extent.length > pair[1].0 {
                return Err(ZipError::Overlap {
                    first: first.name.clone(),
                    second: second.name.clone(),
                    offset: pair[1].0,
                });
            }
        }
        let mut by_name = HashMap::with_capacity(members.len());
        for (index, member) in members.iter().enumerate() {
            if by_name.insert(member.name.clone(), index).is_some() {
                return Err(ZipError::Duplicate { member: member.name.clone() });
            }
        }
        Ok(Self { members, by_name })
    }

    /// All members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The member of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn member(&self, name: &str) -> Result<&Member, ZipError> {
        self.by_name
            .get(name)
            .map(|&index| &self.members[index])
            .ok_or_else(|| ZipError::Missing { member: name.to_owned() })
    }
}

impl Member {
    /// The member's bytes, compared with their checksum.
    ///
    /// # Errors
    /// The checksum differs.
    pub fn verified<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], ZipError> {
        let data = &bytes[self.extent.offset..self.extent.offset + self.extent.length];
        let found = crc32fast::hash(data);
        if found == self.crc32 {
            Ok(data)
        } else {
            Err(ZipError::Checksum {
                member: self.name.clone(),
                offset: self.extent.offset,
                found,
                expected: self.crc32,
            })
        }
    }
}

struct Directory {
    extent: Extent,
    entries: u64,
}

fn find_directory(bytes: &[u8]) -> Result<Directory, ZipError> {
    let searched = bytes.len().min(END_LENGTH + MAX_COMMENT);
    let floor = bytes.len() - searched;
    let end = (floor..=bytes.len().saturating_sub(END_LENGTH))
        .rev()
        .find(|&at| {
            // the comment must reach exactly to the end of the file, or the signature is part of something else
            u32_at(bytes, at) == Some(END)
                && u16_at(bytes, at + 20).is_some_and(|comment| at + END_LENGTH + usize::from(comment) == bytes.len())
        })
        .ok_or(ZipError::NoEnd { searched })?;

    let locator = end.checked_sub(LOCATOR_LENGTH).filter(|&at| u32_at(bytes, at) == Some(END_64_LOCATOR));
    let (disks, entries_here, entries, length, offset, limit) = if let Some(locator) = locator {
        let record = field_u64(bytes, locator + 8, "ZIP64 locator")?;
        let record = usize::try_from(record)
            .ok()
            .filter(|&at| at.checked_add(END_64_LENGTH).is_some_and(|stop| stop <= locator))
            .ok_or(ZipError::Inconsistent { offset: locator, what: "the ZIP64 end record lies outside the file" })?;
        signature(bytes, record, END_64, "ZIP64 end record")?;
        let disks =
            field_u32(bytes, record + 16, "ZIP64 end record")? | field_u32(bytes, record + 20, "ZIP64 end record")?;
        let numbers = [24, 32, 40, 48].map(|field| field_u64(bytes, record + field, "ZIP64 end record"));
        let [here, all, length, offset] = numbers;
        (disks, here?, all?, length?, offset?, record)
    } else {
        let word = |field| field_u16(bytes, end + field, "end record");
        let long = |field| field_u32(bytes, end + field, "end record").map(u64::from);
        (u32::from(word(4)? | word(6)?), u64::from(word(8)?), u64::from(word(10)?), long(12)?, long(16)?, end)
    };
    if disks != 0 || entries_here != entries {
        return Err(ZipError::Split { offset: limit });
    }
    let outside = ZipError::Inconsistent { offset: limit, what: "the central directory lies outside the file" };
    let (Ok(offset), Ok(length)) = (usize::try_from(offset), usize::try_from(length)) else {
        return Err(outside);
    };
    match offset.checked_add(length) {
        // bytes between directory and end record would be bytes that nothing accounts for
        Some(stop) if stop == limit => Ok(Directory { extent: Extent::new(offset, length), entries }),
        Some(stop) if stop < limit => {
            Err(ZipError::Inconsistent { offset: stop, what: "unexplained bytes after the central directory" })
        }
        _ => Err(outside),
    }
}

/// One entry of the directory: the member, where its local header starts, and where the next entry starts.
fn read_entry(bytes: &[u8], at: usize, end: usize, data_limit: usize) -> Result<(Member, usize, usize), ZipError> {
    const RECORD: &str = "directory entry";
    let truncated = ZipError::Truncated { offset: at, record: RECORD, limit: end };
    if end - at < CENTRAL_LENGTH {
        return Err(truncated);
    }
    signature(bytes, at, CENTRAL, RECORD)?;
    let word = |field| field_u16(bytes, at + field, RECORD);
    let long = |field| field_u32(bytes, at + field, RECORD);
    let (flags, method, crc32) = (word(8)?, word(10)?, long(16)?);
    let mut sizes = [u64::from(long(24)?), u64::from(long(20)?), u64::from(long(42)?)];
    let (name_length, extra_length, comment_length) =
        (usize::from(word(28)?), usize::from(word(30)?), usize::from(word(32)?));
    let next = at + CENTRAL_LENGTH + name_length + extra_length + comment_length;
    if next > end {
        return Err(truncated);
    }
    let name_at = at + CENTRAL_LENGTH;
    let name = std::str::from_utf8(&bytes[name_at..name_at + name_length])
        .map_err(|_| ZipError::Name { offset: name_at })?
        .to_owned();
    let extra_at = name_at + name_length;
    widen_zip64(&bytes[extra_at..extra_at + extra_length], extra_at, &mut sizes)?;
    let [uncompressed, compressed, local] = sizes;
    let how = match method {
        _ if flags & FLAG_ENCRYPTED != 0 => Some("encrypted"),
        0 if compressed != uncompressed => Some("of two different sizes"),
        0 => None,
        _ => Some("compressed"),
    };
    if let Some(how) = how {
        return Err(ZipError::NotStored { member: name, how });
    }
    let beyond = ZipError::Truncated { offset: at, record: "member of a directory entry", limit: data_limit };
    let local =
        usize::try_from(local).ok().filter(|&l| l.checked_add(LOCAL_LENGTH).is_some_and(|stop| stop <= data_limit));
    let Some(local) = local else {
        return Err(beyond);
    };
    signature(bytes, local, LOCAL, "local header")?;
    let local_name = usize::from(field_u16(bytes, local + 26, "local header")?);
    let local_extra = usize::from(field_u16(bytes, local + 28, "local header")?);
    let offset = local + LOCAL_LENGTH + local_name + local_extra;
    let length = usize::try_from(compressed)
        .ok()
        .filter(|&length| offset.checked_add(length).is_some_and(|stop| stop <= data_limit));
    let Some(length) = length else {
        return Err(beyond);
    };
    if bytes.get(local + LOCAL_LENGTH..local + LOCAL_LENGTH + local_name) != Some(name.as_bytes()) {
        return Err(ZipError::Inconsistent {
            offset: local,
            what: "the local header has another name than the directory",
        });
    }
    Ok((Member { name, extent: Extent::new(offset, length), crc32 }, local, next))
}

/// Replaces saturated 32-bit fields by those of the ZIP64 extra field, in its fixed order.
fn widen_zip64(extra: &[u8], offset: usize, sizes: &mut [u64; 3]) -> Result<(), ZipError> {
    let wrong = |what| ZipError::Inconsistent { offset, what };
    let mut rest = extra;
    while rest.len() >= 4 {
        let (kind, length) =
            (u16::from_le_bytes([rest[0], rest[1]]), usize::from(u16::from_le_bytes([rest[2], rest[3]])));
        let body = rest.get(4..4 + length).ok_or(wrong("an extra field is longer than the entry"))?;
        if kind == EXTRA_ZIP64 {
            let mut values = body.chunks_exact(8);
            for size in sizes.iter_mut().filter(|size| **size == u64::from(u32::MAX)) {
                let value = values.next().ok_or(wrong("the ZIP64 field lacks a value"))?;
                *size = u64::from_le_bytes(value.try_into().expect("chunks of eight"));
            }
            return Ok(());
        }
        rest = &rest[4 + length..];
    }
    if sizes.contains(&u64::from(u32::MAX)) {
        return Err(wrong("a ZIP64 field is missing"));
    }
    Ok(())
}

fn signature(bytes: &[u8], offset: usize, expected: u32, record: &'static str) -> Result<(), ZipError> {
    let found = field_u32(bytes, offset, record)?;
    if found == expected { Ok(()) } else { Err(ZipError::Signature { offset, record, found }) }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    take(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    take(bytes, at).map(u32::from_le_bytes)
}

fn field_u16(bytes: &[u8], at: usize, record: &'static str) -> Result<u16, ZipError> {
    u16_at(bytes, at).ok_or(ZipError::Truncated { offset: at, record, limit: bytes.len() })
}

fn field_u32(bytes: &[u8], at: usize, record: &'static str) -> Result<u32, ZipError> {
    u32_at(bytes, at).ok_or(ZipError::Truncated { offset: at, record, limit: bytes.len() })
}

fn field_u64(bytes: &[u8], at: usize, record: &'static str) -> Result<u64, ZipError> {
    take(bytes, at).map(u64::from_le_bytes).ok_or(ZipError::Truncated { offset: at, record, limit: bytes.len() })
}
