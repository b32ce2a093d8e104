//! Hostile files: every truncation and every flipped bit of small ones, and random damage of real ones behind
//! correct checksums. A reader may refuse or accept, but never panics, and never lists or returns more than
//! the file's own size allows. `STERNA_FUZZ` multiplies the random cases.

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::tests::{COMPACT, SIGN_ROWS, TRAINING, open};
use super::torch::testing::{Pickle, archive, legacy_file, members_of, torch_file};
use super::*;
use sterna_runtime::package::Mapping;

/// Opens a file and reads all there is; gives whether it was accepted.
fn consume(bytes: &[u8]) -> bool {
    let options = OpenOptions { verify_checksums: false };
    let Ok(file) = Checkpoint::from_mapping(Mapping::copy_of(bytes).unwrap(), options) else { return false };
    for entry in file.tensors() {
        if let Stored::Other { .. } = entry.stored {
            assert!(file.read_f32(entry).is_err() && entry.spare().is_some());
            continue;
        }
        let elements: usize = entry.shape.iter().product();
        // what repeats its values may be larger, and is bounded otherwise
        if let Stored::Dense(view) = &entry.stored
            && view.strides.contains(&0)
            && elements > bytes.len()
        {
            assert!(elements <= 1 << 26, "{} claims {elements} weights", entry.name);
            continue;
        }
        // one bit per weight is the tightest form; 64 columns may share 8 bytes that hold nothing else
        assert!(elements <= 8 * bytes.len(), "{} claims {elements} weights", entry.name);
        if let Ok(values) = file.read_finite(entry) {
            assert_eq!(values.len(), elements, "{}", entry.name);
        }
    }
    true
}

fn rounds(base: usize) -> usize {
    base * std::env::var("STERNA_FUZZ").ok().and_then(|text| text.parse::<usize>().ok()).unwrap_or(1)
}

/// Every truncation and every bit of a small file; gives the number of cases.
fn exhaust(bytes: &[u8]) -> usize {
    let mut damaged = bytes.to_vec();
    for at in 0..bytes.len() {
        consume(&bytes[..at]);
        for bit in 0..8 {
            damaged[at] ^= 1 << bit;
            consume(&damaged);
            damaged[at] ^= 1 << bit;
        }
    }
    9 * bytes.len()
}

/// A few bytes changed, removed, doubled or moved.
fn damage(rng: &mut Xoshiro256PlusPlus, bytes: &mut Vec<u8>) {
    for _ in 0..1 + rng.next_u64() % 2 {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len();
        let mut pick = || rng.next_u64() as usize % length;
        let (at, from) = (pick(), pick());
        let run = pick().min(16).min(length - at);
        match rng.next_u64() % 6 {
            0 => bytes[at] ^= 1 << (rng.next_u64() % 8),
            1 => bytes[at] = rng.next_u64() as u8,
            2 => bytes.truncate(length - run),
            3 => drop(bytes.drain(at..at + run)),
            4 => {
                let copy: Vec<u8> = bytes[at..at + run].to_vec();
                bytes.splice(from..from, copy);
            }
            _ => bytes[at..at + run].fill([0, 0x7f, 0xff][rng.next_u64() as usize % 3]),
        }
    }
}

fn small_torch() -> Vec<u8> {
    let pickle = Pickle::new().raw(b"}(").text("model").raw(b"}(");
    let pickle = pickle.text("w").tensor("FloatStorage", 0, 6, 0, &[2, 3], &[3, 1]);
    let pickle = pickle.text("v").tensor("BFloat16Storage", 1, 4, 1, &[3], &[1]).raw(b"u");
    let pickle = pickle.text("step").int(3).text("config").raw(b"}").text("d").int(2).raw(b"su").stop();
    torch_file(pickle, &[vec![0x3f; 24], vec![0x3f; 8]])
}

/// What stands beside weights, as protocol 5 writes it.
fn small_protocol_5() -> Vec<u8> {
    let short = |text: &str| [&[b'\x8c', text.len() as u8][..], text.as_bytes(), b"\x94"].concat();
    let name = |module: &str, name: &str| [&short(module)[..], &short(name), b"\x93\x94"].concat();
    let mut body = [&b"}\x94("[..], &short("state_dict"), b"}\x94", &short("w")].concat();
    body.extend(name("torch._utils", "_rebuild_tensor_v2"));
    body.extend([&b"(("[..], &short("storage"), &name("torch", "FloatStorage"), &short("0"), &short("cpu")].concat());
    body.extend([&b"K\x06tQK\0K\x02K\x03\x86K\x03K\x01\x86\x89"[..], &name("collections", "OrderedDict")].concat());
    body.extend([&b")RtRs"[..], &short("set"), b"\x8f\x94(K\x01K\x02\x90", &short("bytes")].concat());
    body.extend(b"\x96\x02\0\0\0\0\0\0\0ab\x94");
    body.extend([&short("object")[..], &name("argparse", "Namespace"), b")\x81}", &short("lr"), b"K\x01sb"].concat());
    body.extend([&short("size")[..], &name("torch", "Size"), b"K\x02\x85\x85Ru."].concat());
    let frame = (body.len() as u64).to_le_bytes();
    torch_file([&b"\x80\x05\x95"[..], &frame, &body].concat(), &[vec![0x3f; 24]])
}

fn small_legacy() -> Vec<u8> {
    let pickle = Pickle::new().raw(b"}").text("w").tensor("FloatStorage", 0, 6, 0, &[2, 3], &[3, 1]).raw(b"s").stop();
    legacy_file(pickle, &[("0", 6, vec![0x3f; 24])])
}

fn small_safetensors() -> Vec<u8> {
    let header = r#"{"__metadata__":{"step":"3"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"v":{"dtype":"BF16","shape":[3],"data_offsets":[24,30]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0x3f; 30]].concat()
}

fn small_bit2() -> Vec<u8> {
    let header = br#"{"format":"bit2","version":1,"config":{"d":2},"meta":{},"tensors":[{"kind":"dense","name":"v","dtype":"f16","shape":[3],"offset":0,"nbytes":6},{"kind":"bit1","name":"w","shape":[2,5],"row_stride":8,"offset":64,"nbytes":16,"alpha_dtype":"f32","alpha_offset":128,"alpha_nbytes":8}]}"#;
    bit2_file(header, 192)
}

/// A `.bit2` file of this header and so many zero bytes of data.
fn bit2_file(header: &[u8], data: usize) -> Vec<u8> {
    let offset = (64 + header.len()).next_multiple_of(64);
    let mut bytes = bit2::MAGIC.to_vec();
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend((offset as u64).to_le_bytes());
    bytes.extend(((offset + data) as u64).to_le_bytes());
    bytes.extend(crc32fast::hash(header).to_le_bytes());
    bytes.resize(64, 0);
    bytes.extend(header);
    bytes.resize(offset + data, 0);
    bytes
}

#[test]
fn small_files_survive_every_truncation_and_flipped_bit() {
    let mut cases = 0;
    for bytes in [small_torch(), small_protocol_5(), small_legacy(), small_safetensors(), small_bit2()] {
        assert!(consume(&bytes));
        cases += exhaust(&bytes);
    }
    println!("{cases} exhaustive cases");
}

#[test]
fn damaged_pickles_behind_right_checksums_are_survived() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut accepted = 0;
    let cases = rounds(400);
    for (bytes, share) in [(COMPACT, 1), (TRAINING, 1), (&small_torch()[..], 10), (&small_protocol_5()[..], 10)] {
        let members = members_of(bytes);
        assert!(consume(&archive(&members)));
        for _ in 0..cases * share {
            let mut members = members.clone();
            let pickle = members.iter_mut().find(|(name, _)| name.ends_with("/data.pkl")).unwrap();
            damage(&mut rng, &mut pickle.1);
            accepted += usize::from(consume(&archive(&members)));
        }
    }
    println!("{} cases, {accepted} accepted", cases * 22);
}

#[test]
fn damaged_containers_and_headers_are_survived() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2);
    let cases = rounds(1000);
    for bytes in [small_torch(), small_legacy(), small_safetensors(), small_bit2()] {
        for _ in 0..cases {
            let mut damaged = bytes.clone();
            damage(&mut rng, &mut damaged);
            consume(&damaged);
        }
    }
    // the header of `.bit2` behind a right checksum
    let header = SIGN_ROWS[16..24].try_into().map(u64::from_le_bytes).unwrap() as usize;
    let data = SIGN_ROWS.len() - (64 + header).next_multiple_of(64);
    for _ in 0..cases {
        let mut text = SIGN_ROWS[64..64 + header].to_vec();
        damage(&mut rng, &mut text);
        consume(&bit2_file(&text, data));
    }
    println!("{} cases", 5 * cases);
}

#[test]
fn damaged_indexes_are_survived_and_stay_beside() {
    let text = br#"{"metadata":{"total_size":3},"weight_map":{"w":"a-1.safetensors","v":"a-2.safetensors"}}"#;
    assert_eq!(shards::files(text).unwrap().len(), 2);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    for _ in 0..rounds(2000) {
        let mut damaged = text.to_vec();
        damage(&mut rng, &mut damaged);
        for name in shards::files(&damaged).unwrap_or_default().keys() {
            assert_eq!(std::path::Path::new("x").join(name).parent(), Some(std::path::Path::new("x")), "{name}");
        }
    }
}

/// The rejections that the `.bit2` format lists, one by one.
#[test]
fn bit2_files_that_break_a_rule_are_refused() {
    let good = small_bit2();
    assert!(open(&good).is_ok());
    let data = good.len() - 192;
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    for (at, expected) in [
        (8, "version"),
        (12, "flags"),
        (16, "CRC-32"),
        (17, "data offset"),
        (24, "data offset"),
        (32, "file size"),
        (40, "CRC-32"),
        (44, "reserved"),
        (63, "reserved"),
        (70, "CRC-32"),
        (data + 6, "padding"),
        (data + 191, "padding"),
    ] {
        let error = open(&flipped(at)).unwrap_err().to_string();
        assert!(error.contains(expected), "{at}: {error}");
    }
    // bit 5 of the first row is beyond its 5 columns
    let mut bytes = good.clone();
    bytes[data + 64] = 1 << 5;
    let file = open(&bytes).unwrap();
    let error = file.read_f32(file.tensor("w").unwrap()).unwrap_err().to_string();
    assert!(error.contains("`w`") && error.contains("row 0"), "{error}");

    let text = String::from_utf8(good[64..].iter().copied().take_while(|&byte| byte != 0).collect()).unwrap();
    for (from, to) in [
        (r#""row_stride":8"#, r#""row_stride":16"#),
        (r#""nbytes":16"#, r#""nbytes":24"#),
        (r#""nbytes":6"#, r#""nbytes":8"#),
        (r#""offset":64"#, r#""offset":65"#),
        (r#""offset":64"#, r#""offset":128"#),
        (r#""alpha_nbytes":8"#, r#""alpha_nbytes":4"#),
        (r#""alpha_offset":128"#, r#""alpha_offset":18446744073709551488"#),
        (r#""name":"w""#, r#""name":"v""#),
        (r#""version":1"#, r#""version":2"#),
        (r#""format":"bit2""#, r#""format":"bit3""#),
        (r#""meta":{}"#, r#""meta":{},"meta":{}"#),
        (r#""meta":{}"#, r#""more":{}"#),
        (r#""shape":[2,5]"#, r#""shape":[4611686018427387904,5]"#),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        assert!(open(&bit2_file(changed.as_bytes(), 192)).is_err(), "{to}");
    }
    let trailing = bit2_file(text.as_bytes(), 256);
    assert!(open(&trailing).unwrap_err().to_string().contains("end at byte"));
}

#[test]
fn safetensors_files_that_break_a_rule_are_refused() {
    let file = |header: &str, data: usize| {
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
    };
    let row = |name: &str, shape: &str, start: u64, end: u64| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let good = file(&format!("{{{}}}", row("w", "[2]", 0, 8)), 8);
    assert_eq!(open(&good).unwrap().tensors()[0].shape, [2]);
    for (rows, data, expected) in [
        ([row("w", "[2]", 0, 8), row("w", "[2]", 0, 8)], 8, "occurs twice"),
        ([row("w", "[2]", 0, 8), row("v", "[2]", 4, 12)], 12, "header"),
        ([row("w", "[2]", 0, 8), row("v", "[2]", 8, 17)], 17, "header"),
        ([row("w", "[2]", 0, 8), row("v", "[2]", 8, 16)], 12, "`v`"),
        ([row("w", "[2]", 0, 8), row("v", "[0]", u64::MAX, u64::MAX)], 8, "`v`"),
        ([row("w", "[2]", 0, 8), row("v", "[9223372036854775808,2]", 8, 8)], 8, "header"),
    ] {
        let error = open(&file(&format!("{{{}}}", rows.join(",")), data)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let unaligned =
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}"#;
    // Nothing asks where data begins.
    let read = open(&file(unaligned, 5)).unwrap();
    assert_eq!(read.read_f32(read.tensor("w").unwrap()).unwrap().len(), 1);
    let mut long = good.clone();
    long[6] = 1;
    assert!(matches!(open(&long), Err(WeightsError::Safetensors(SafetensorsError::HeaderLength { .. }))));
}
