//! ZIP archives as torch writes them, taken apart and put together, so that what is changed inside has right checksums
//! and places; and edits of the fields that say where members lie.

use std::io::Read;

use super::bytes;
use crate::programs::dice::Dice;

/// A member's name and bytes.
pub type Member = (String, Vec<u8>);

/// The members of an archive.
pub fn members(archive: &[u8]) -> Vec<Member> {
    let Ok(mut archive) = zip::ZipArchive::new(std::io::Cursor::new(archive)) else { return Vec::new() };
    let mut all = Vec::new();
    for at in 0..archive.len() {
        let Ok(mut member) = archive.by_index(at) else { continue };
        let Ok(name) = member.name().map(std::borrow::Cow::into_owned) else { continue };
        let mut bytes = Vec::new();
        if member.read_to_end(&mut bytes).is_ok() {
            all.push((name, bytes));
        }
    }
    all
}

/// A stored archive of these members.
pub fn archive(members: &[Member]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in members {
        let start = out.len() as u32;
        let common = |bytes: &mut Vec<u8>| {
            // version, flags, method, time, date
            bytes.extend([0u8; 10]);
            bytes.extend(crc32fast::hash(data).to_le_bytes());
            bytes.extend([data.len() as u32; 2].map(u32::to_le_bytes).concat());
            bytes.extend((name.len() as u16).to_le_bytes());
            bytes.extend([0, 0]);
        };
        out.extend(b"PK\x03\x04");
        common(&mut out);
        out.extend(name.as_bytes());
        out.extend(data);
        directory.extend(b"PK\x01\x02\0\0");
        common(&mut directory);
        // comment length, disk, attributes
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (offset, length, count) = (out.len() as u32, directory.len() as u32, members.len() as u16);
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count; 2].map(u16::to_le_bytes).concat());
    out.extend([length, offset].map(u32::to_le_bytes).concat());
    out.extend([0, 0]);
    out
}

/// Where the fields of a record start, and how long they are.
type Fields = &'static [(usize, usize)];

/// The fields of records, by their signatures.
const RECORDS: [(&[u8], Fields); 5] = [
    (b"PK\x03\x04", &[(4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)]),
    (b"PK\x01\x02", &[(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (42, 4)]),
    (b"PK\x05\x06", &[(8, 2), (10, 2), (12, 4), (16, 4), (20, 2)]),
    (b"PK\x06\x06", &[(4, 8), (24, 8), (32, 8), (40, 8), (48, 8)]),
    (b"PK\x06\x07", &[(4, 4), (8, 8), (16, 4)]),
];

/// A number in the place of a field of some record.
pub fn edit_field(archive: &mut [u8], dice: &mut Dice) {
    let records: Vec<(usize, Fields)> = (0..archive.len().saturating_sub(3))
        .filter_map(|at| {
            let (_, fields) = RECORDS.iter().find(|(signature, _)| archive[at..].starts_with(signature))?;
            Some((at, *fields))
        })
        .collect();
    if records.is_empty() {
        return;
    }
    // The last records are the end of the directory: rare, and what all else hangs on.
    let (at, fields) = if dice.chance(40) { records[records.len() - 1] } else { records[dice.below(records.len())] };
    let (field, size) = dice.pick(fields);
    bytes::replace_number(archive, at + field, size, dice);
}
