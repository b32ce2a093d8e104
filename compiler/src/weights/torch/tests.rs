//! What the container, the pickle machine and the layouts accept and refuse.

use std::io::Write;

use proptest::prelude::*;

use super::pickle::{self, PickleProblem};
use super::testing::{Pickle, archive, storage_type, torch_file};
use super::zip::Archive;
use super::*;
use crate::weights::tests::{COMPACT, TRAINING, open as open_file};
use crate::weights::{Checkpoint, Format};

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A state dictionary with one tensor `w`.
fn one(tensor: impl FnOnce(Pickle) -> Pickle, storages: &[Vec<u8>]) -> Vec<u8> {
    let open = Pickle::new().global("collections", "OrderedDict").raw(b")R").text("w");
    torch_file(tensor(open).raw(b"s").stop(), storages)
}

fn read_w(file: &Checkpoint) -> Vec<f32> {
    file.read_f32(file.tensor("w").unwrap()).unwrap()
}

#[test]
fn views_honour_offset_and_strides() {
    let storage = [floats(&[0., 1., 2., 3., 4., 5., 6., 7.])];
    let view = |first, shape: &[i64], strides: &[i64]| {
        let bytes = one(|pickle| pickle.tensor("FloatStorage", 0, 8, first, shape, strides), &storage);
        read_w(&open_file(&bytes).unwrap())
    };
    assert_eq!(view(0, &[2, 4], &[4, 1]), [0., 1., 2., 3., 4., 5., 6., 7.]);
    assert_eq!(view(0, &[4, 2], &[1, 4]), [0., 4., 1., 5., 2., 6., 3., 7.]);
    assert_eq!(view(5, &[3], &[1]), [5., 6., 7.]);
    assert_eq!(view(1, &[2, 2, 2], &[4, 1, 1]), [1., 2., 2., 3., 5., 6., 6., 7.]);
    assert_eq!(view(7, &[], &[]), [7.]);
    assert_eq!(view(0, &[0, 3], &[3, 1]), [0.; 0]);
    assert_eq!(view(3, &[4], &[0]), [3.; 4]);
}

#[test]
fn every_element_type_is_widened() {
    for (element, bytes, expected) in [
        (Element::F64, 1.5f64.to_le_bytes().to_vec(), 1.5),
        (Element::F16, half::f16::from_f32(-0.25).to_le_bytes().to_vec(), -0.25),
        (Element::Bf16, half::bf16::from_f32(3.0).to_le_bytes().to_vec(), 3.0),
        (Element::I64, (-7i64).to_le_bytes().to_vec(), -7.0),
        (Element::I32, 9i32.to_le_bytes().to_vec(), 9.0),
        (Element::I16, (-300i16).to_le_bytes().to_vec(), -300.0),
        (Element::I8, (-3i8).to_le_bytes().to_vec(), -3.0),
        (Element::U8, vec![200], 200.0),
        (Element::Bool, vec![1], 1.0),
    ] {
        let bytes = one(|pickle| pickle.tensor(storage_type(element), 0, 1, 0, &[1], &[1]), &[bytes]);
        assert_eq!(read_w(&open_file(&bytes).unwrap()), [expected], "{}", element.name());
    }
    let large = one(|p| p.tensor("LongStorage", 0, 1, 0, &[1], &[1]), &[(1i64 << 40 | 1).to_le_bytes().to_vec()]);
    let file = open_file(&large).unwrap();
    assert!(file.read_f32(&file.tensors()[0]).unwrap_err().to_string().contains("1099511627777"));
}

#[test]
fn values_that_are_not_finite_are_counted() {
    let storage = [floats(&[1., f32::NAN, f32::INFINITY, 2.])];
    let bytes = one(|pickle| pickle.tensor("FloatStorage", 0, 4, 0, &[4], &[1]), &storage);
    let file = open_file(&bytes).unwrap();
    let error = file.read_finite(&file.tensors()[0]).unwrap_err().to_string();
    assert!(error.contains("`w`") && error.contains("2 of 4") && error.contains("element 1"), "{error}");
}

#[test]
fn views_outside_their_storage_are_refused() {
    let storage = [floats(&[0.; 8])];
    for (elements, first, shape, strides) in [
        (8, 1, &[8][..], &[1][..]),
        (8, 0, &[2, 2], &[7, 1]),
        (8, 0, &[9], &[1]),
        (8, 0, &[1 << 62, 1 << 62], &[1, 1]),
        (8, 0, &[2, 9], &[0, 1]),
        (8, i64::MAX, &[1], &[1]),
        (8, 0, &[2], &[i64::MAX]),
        (9, 0, &[8], &[1]),
        (i64::MAX, 0, &[8], &[1]),
    ] {
        let bytes = one(|pickle| pickle.tensor("FloatStorage", 0, elements, first, shape, strides), &storage);
        let error = open_file(&bytes).unwrap_err().to_string();
        assert!(error.contains("tensor `w`"), "{error}");
    }
    let missing = one(|pickle| pickle.tensor("FloatStorage", 3, 8, 0, &[8], &[1]), &storage);
    assert!(open_file(&missing).unwrap_err().to_string().contains("t/data/3"));
}

fn problem(pickle: Vec<u8>) -> PickleProblem {
    pickle::read(&pickle).map(|_| ()).unwrap_err().problem
}

#[test]
fn names_outside_the_closed_list_are_not_called() {
    for (module, name) in [
        ("os", "system"),
        ("builtins", "eval"),
        ("torch", "load"),
        ("collections", "OrderedDict.fromkeys"),
        ("torch.storage", "_load_from_bytes"),
    ] {
        let bytes = Pickle::new().global(module, name).text("true").raw(b"\x85R").stop();
        let (arena, top) = pickle::read(&bytes).unwrap();
        assert!(matches!(arena.node(top), Node::Object(_)));
        assert_eq!(arena.describe(top), format!("an object of `{module}.{name}`"));
        assert_eq!(arena.json(top), Err(JsonError::Unsupported("an object")));
    }
}

#[test]
fn opcodes_outside_the_closed_list_are_refused() {
    let known = b"\x80\x95.(N\x88\x89JKM\x8a\x8bGXUTBC\x8c\x8d\x8e\x96}])t\x85\x86\x87\x8f\x90\x91suaeqrhj\x94012cQR\x81\x92\x93b";
    for opcode in (0..=255).filter(|opcode| !known.contains(opcode)) {
        let expected = match opcode {
            0x97 | 0x98 => PickleProblem::OutOfBand,
            _ => PickleProblem::Opcode(opcode),
        };
        assert_eq!(problem(Pickle::new().raw(&[opcode]).stop()), expected);
    }
}

#[test]
fn malformed_pickles_are_refused_with_their_offset() {
    for (bytes, expected) in [
        (&b"\x80\x02"[..], PickleProblem::Truncated),
        (b"\x80\x06N.", PickleProblem::Protocol(6)),
        (b"\x80\x01N.", PickleProblem::Protocol(1)),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xffN.", PickleProblem::Truncated),
        (b"\x80\x04\x95\x09\0\0\0\0\0\0\0N.", PickleProblem::Truncated),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", PickleProblem::Truncated),
        (b"\x80\x02\x8b\xff\xff\xff\xff.", PickleProblem::Truncated),
        (b"\x80\x04NN\x93.", PickleProblem::Kind { expected: "a string", found: "None" }),
        (b"\x80\x04\x94.", PickleProblem::StackUnderflow),
        (b"\x80\x020.", PickleProblem::StackUnderflow),
        (b"\x80\x02X\xff\xff\xff\xff.", PickleProblem::Truncated),
        (b"\x80\x02c\xff\na\n.", PickleProblem::Utf8),
        (b"\x80\x02.", PickleProblem::Leftover(0)),
        (b"\x80\x02NN.", PickleProblem::Leftover(2)),
        (b"\x80\x02N.N", PickleProblem::Trailing(1)),
        (b"\x80\x02t.", PickleProblem::NoMark),
        (b"\x80\x02h\x05.", PickleProblem::Memo(5)),
        (b"\x80\x02\x85.", PickleProblem::StackUnderflow),
        (b"\x80\x02N(\x85.", PickleProblem::StackUnderflow),
        (b"\x80\x02}(Ns.", PickleProblem::StackUnderflow),
        (b"\x80\x02}(Nu.", PickleProblem::StackUnderflow),
        (b"\x80\x02NNNs.", PickleProblem::Kind { expected: "a dictionary", found: "None" }),
        (b"\x80\x02NN)R.", PickleProblem::Kind { expected: "a callable", found: "None" }),
    ] {
        assert_eq!(problem(bytes.to_vec()), expected, "{bytes:?}");
    }
    let error = pickle::read(b"\x80\x02N\xff").map(|_| ()).unwrap_err();
    assert_eq!(error.offset, 3);
    assert!(error.to_string().contains("byte 3"));
}

#[test]
fn a_memo_bomb_stays_small_and_has_no_json_form() {
    // each list holds the one before it twice: 2^60 values when written out; one tuple gathers them
    let mut bytes = b"\x80\x02(]q\0".to_vec();
    for level in 0..60 {
        bytes.extend([b']', b'q', level + 1, b'(', b'h', level, b'h', level, b'e']);
    }
    bytes.extend(b"t.");
    let (arena, top) = pickle::read(&bytes).unwrap();
    assert!(arena.nodes.len() < 100);
    assert_eq!(arena.json(top), Err(JsonError::TooLarge));
    // a list that holds itself
    let (arena, top) = pickle::read(b"\x80\x02]q\0h\0a.").unwrap();
    assert_eq!(arena.json(top), Err(JsonError::TooLarge));
    // nesting far deeper than any stack
    let mut deep = b"\x80\x02".to_vec();
    deep.extend(vec![b'('; 1 << 20]);
    deep.extend(vec![b't'; 1 << 20]);
    deep.push(b'.');
    let (arena, top) = pickle::read(&deep).unwrap();
    assert_eq!(arena.json(top), Err(JsonError::TooLarge));
}

#[test]
fn attributes_set_by_build_are_dropped() {
    let storage = [floats(&[2.0])];
    let metadata = |pickle: Pickle| {
        let dictionary = pickle.tensor("FloatStorage", 0, 1, 0, &[1], &[1]).raw(b"s");
        // what torch writes for state_dict()._metadata; the extra item keeps `one`'s SETITEM busy
        let built = dictionary.raw(b"}").text("_metadata").global("collections", "OrderedDict").raw(b")Rsb");
        built.text("v").tensor("FloatStorage", 0, 1, 0, &[1], &[1])
    };
    let file = open_file(&one(metadata, &storage)).unwrap();
    assert_eq!(file.tensors().len(), 2);
    assert_eq!(file.format(), Format::TorchStateDict);
}

/// What torch writes for elements that have no storage class of their own.
#[test]
fn storages_without_a_type_take_that_of_their_tensor() {
    let typed = |dtype: &str, bytes: Vec<u8>| {
        let length = bytes.len() as i64;
        let tensor = |pickle: Pickle| {
            let open = pickle.global("torch._utils", "_rebuild_tensor_v3").raw(b"((").text("storage");
            let open =
                open.global("torch.storage", "UntypedStorage").text("0").text("cpu").int(length).raw(b"tQ").int(0);
            let open = open.ints(&[1]).ints(&[1]).raw(b"\x89").global("collections", "OrderedDict").raw(b")R");
            open.global("torch", dtype).raw(b"tR")
        };
        open_file(&one(tensor, &[bytes])).unwrap()
    };
    assert_eq!(read_w(&typed("uint16", 65000u16.to_le_bytes().to_vec())), [65000.0]);
    assert_eq!(read_w(&typed("uint32", 7u32.to_le_bytes().to_vec())), [7.0]);
    assert_eq!(read_w(&typed("uint64", 7u64.to_le_bytes().to_vec())), [7.0]);
    let file = typed("float8_e4m3fn", vec![1]);
    assert_eq!(file.tensors()[0].unusable().as_deref(), Some("float8_e4m3fn"));
    assert!(file.read_f32(&file.tensors()[0]).unwrap_err().to_string().contains("float8_e4m3fn"));
}

/// Python writes these for tensors to which somebody gave attributes.
#[test]
fn tensors_with_attributes_are_their_tensors() {
    let storage = [floats(&[2.0])];
    let tensor = |pickle: Pickle| {
        let open = pickle.global("torch._tensor", "_rebuild_from_type_v2").raw(b"(");
        let open = open.global("torch._utils", "_rebuild_tensor_v2").global("torch", "Tensor").raw(b"(");
        let open = open.storage("FloatStorage", 0, 1).int(0).ints(&[1]).ints(&[1]).raw(b"\x89");
        open.global("collections", "OrderedDict").raw(b")Rt").raw(b"}").text("note").int(1).raw(b"stR")
    };
    assert_eq!(read_w(&open_file(&one(tensor, &storage)).unwrap()), [2.0]);
}

#[test]
fn a_config_keeps_what_has_a_json_form() {
    let pickle = Pickle::new().raw(b"}(").text("model").raw(b"}").text("w");
    let pickle = pickle.tensor("FloatStorage", 0, 1, 0, &[1], &[1]).raw(b"s").text("config").raw(b"}(");
    let pickle = pickle.text("d").int(2).text("dtype").global("torch", "bfloat16");
    let pickle = pickle.text("list").raw(b"](").global("torch", "bfloat16").raw(b"e").int(3).int(4);
    let pickle = pickle.raw(b"u").text("rng").raw(b"C\x01au").stop();
    let file = open_file(&torch_file(pickle, &[floats(&[1.0])])).unwrap();
    assert_eq!(file.config(), Some(&serde_json::json!({ "d": 2 })));
    assert_eq!(file.unread(), ["config.dtype", "config.list", "config.an integer", "rng"]);
    assert_eq!(file.key(), Some("model"));
}

/// A dictionary that holds itself under every key is looked at once.
#[test]
fn dictionaries_that_hold_themselves_are_no_state() {
    let mut pickle = Pickle::new().raw(b"}q\0(");
    for key in state::KEYS {
        pickle = pickle.text(key).raw(b"h\0");
    }
    let file = torch_file(pickle.raw(b"u").stop(), &[]);
    assert!(open_file(&file).unwrap_err().to_string().contains("`model` (a dictionary)"));
}

#[test]
fn parts_of_legacy_storages_are_read() {
    let pickle = Pickle::new().raw(b"}").text("w").global("torch._utils", "_rebuild_tensor").raw(b"((");
    let pickle = pickle.text("storage").global("torch", "FloatStorage").text("7").text("cpu").int(5);
    // elements 2 to 4 of the storage, and of them the last two
    let pickle = pickle.raw(b"(").text("8").int(2).int(3).raw(b"ttQ").int(1).ints(&[2]).ints(&[1]).raw(b"tRs").stop();
    let bytes = testing::legacy_file(pickle, &[("7", 5, floats(&[0., 1., 2., 3., 4.]))]);
    assert_eq!(read_w(&open_file(&bytes).unwrap()), [3.0, 4.0]);
}

#[test]
fn parameters_are_their_tensors() {
    let storage = [floats(&[2.0])];
    let parameter = |pickle: Pickle| {
        let open = pickle.global("torch._utils", "_rebuild_parameter").raw(b"(");
        open.tensor("FloatStorage", 0, 1, 0, &[1], &[1]).raw(b"\x89").global("collections", "OrderedDict").raw(b")RtR")
    };
    assert_eq!(read_w(&open_file(&one(parameter, &storage)).unwrap()), [2.0]);
}

#[test]
fn an_optimizer_may_name_storages_that_do_not_exist() {
    let model = |p: Pickle| p.text("w").tensor("FloatStorage", 0, 1, 0, &[1], &[1]);
    let pickle = model(Pickle::new().raw(b"}(").text("model").raw(b"}")).raw(b"s");
    let pickle = pickle.text("optimizer").tensor("FloatStorage", 99, 1 << 40, 0, &[1 << 40], &[1]).raw(b"u").stop();
    let file = open_file(&torch_file(pickle, &[floats(&[4.0])])).unwrap();
    assert_eq!(file.format(), Format::TorchTraining);
    assert_eq!(file.unread(), ["optimizer"]);
    assert_eq!(read_w(&file), [4.0]);
}

#[test]
fn duplicate_tensors_and_other_values_are_refused() {
    let storage = [floats(&[2.0])];
    let twice = |p: Pickle| {
        p.tensor("FloatStorage", 0, 1, 0, &[1], &[1]).raw(b"s").text("w").tensor("FloatStorage", 0, 1, 0, &[1], &[1])
    };
    assert!(open_file(&one(twice, &storage)).unwrap_err().to_string().contains("`w` occurs twice"));
    let number = one(|p| p.int(3), &storage);
    assert!(open_file(&number).unwrap_err().to_string().contains("`w` (an integer)"));
    let list = torch_file(b"\x80\x02].".to_vec(), &[]);
    assert!(open_file(&list).unwrap_err().to_string().contains("holds a list"));
}

#[test]
fn what_stands_under_a_key_that_is_no_string_is_not_needed() {
    let storage = [floats(&[2.0])];
    let tensor = |p: Pickle| p.tensor("FloatStorage", 0, 1, 0, &[1], &[1]).raw(b"s");
    let odd = |p: Pickle| tensor(tensor(p).int(3)).raw(b"N").text("x");
    let file = open_file(&one(odd, &storage)).unwrap();
    assert_eq!(read_w(&file), [2.0]);
    let names: Vec<&str> = file.tensors().iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["w", "(key 1: an integer)", "(key 2: None)"]);
}

/// A compact file with one packed tensor of 2 x 5.
fn packed(codes: [u8; 4], scale: f32, shape: [i64; 2]) -> Vec<u8> {
    let pickle = Pickle::new().raw(b"}(").text("format").text("compact_2bit").text("version").int(1).text("state");
    let pickle = pickle.raw(b"}").text("w").raw(b"}(").text("packed");
    let pickle = pickle.tensor("ByteStorage", 0, 4, 0, &[2, 2], &[2, 1]).text("scale");
    let pickle = pickle.tensor("BFloat16Storage", 1, 1, 0, &[1], &[1]).text("shape");
    let pickle = pickle.raw(b"](").int(shape[0]).int(shape[1]).raw(b"eusu").stop();
    torch_file(pickle, &[codes.to_vec(), half::bf16::from_f32(scale).to_le_bytes().to_vec()])
}

#[test]
fn packed_codes_are_checked_when_they_are_read() {
    let read = |bytes: &[u8]| {
        let file = open_file(bytes)?;
        file.read_f32(&file.tensors()[0])
    };
    let good = read(&packed([0b10_01_00_01, 0b01, 0, 0b10], 0.5, [2, 5])).unwrap();
    assert_eq!(good, [0.5, 0.0, 0.5, -0.5, 0.5, 0.0, 0.0, 0.0, 0.0, -0.5]);
    for (bytes, expected) in [
        (packed([0, 0, 0b1100, 0], 0.5, [2, 5]), "row 1, column 1"),
        (packed([0, 0b0100, 0, 0], 0.5, [2, 5]), "row 0"),
        (packed([0; 4], f32::NAN, [2, 5]), "scale 0"),
        (packed([0; 4], -1.0, [2, 5]), "scale 0"),
        (packed([0; 4], 0.5, [2, 9]), "[2, 9]"),
        (packed([0; 4], 0.5, [i64::MAX, 5]), "`packed`"),
        (packed([0; 4], 0.5, [-2, 5]), "`shape`"),
    ] {
        let error = read(&bytes).unwrap_err().to_string();
        assert!(error.contains("`w`") && error.contains(expected), "{error}");
    }
}

#[test]
fn other_formats_are_named() {
    let pickle = Pickle::new().raw(b"}(").text("format").text("compact_3bit").text("version").int(7).raw(b"u").stop();
    let error = open_file(&torch_file(pickle, &[])).unwrap_err().to_string();
    assert!(error.contains("`compact_3bit`, version 7"), "{error}");
}

mod container {
    use super::*;

    fn two() -> Vec<u8> {
        archive(&[("a".into(), vec![1; 40]), ("b".into(), vec![2; 8])])
    }

    #[test]
    fn members_are_ranges_of_the_file() {
        let bytes = two();
        let read = Archive::read(&bytes).unwrap();
        assert_eq!(read.member("a").unwrap().verified(&bytes).unwrap(), [1; 40]);
        assert_eq!(read.member("b").unwrap().verified(&bytes).unwrap(), [2; 8]);
    }

    #[test]
    fn duplicates_and_overlaps_are_refused() {
        let duplicate = archive(&[("a".into(), vec![1]), ("a".into(), vec![2])]);
        assert_eq!(Archive::read(&duplicate).unwrap_err(), ZipError::Duplicate { member: "a".into() });
        // the second entry's local header is moved into the first one's data
        let mut data = vec![1; 4];
        data.extend(&archive(&[("b".into(), vec![])])[..31]);
        let mut overlap = archive(&[("a".into(), data), ("b".into(), vec![])]);
        let second = overlap.len() - 22 - 47;
        overlap[second + 42..second + 46].copy_from_slice(&35u32.to_le_bytes());
        assert!(matches!(Archive::read(&overlap).unwrap_err(), ZipError::Overlap { offset: 35, .. }));
    }

    #[test]
    fn compressed_members_are_refused() {
        let mut bytes = two();
        let directory = bytes.len() - 22 - 2 * 47;
        bytes[directory + 10] = 8;
        let how = "compressed";
        assert_eq!(Archive::read(&bytes).unwrap_err(), ZipError::NotStored { member: "a".into(), how });
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// An independent writer's archives, with and without ZIP64 fields, give back its members.
        #[test]
        fn archives_of_another_writer_are_read(
            members in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), any::<bool>()), 0..6),
        ) {
            let mut writer = ::zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
            for (index, (data, large)) in members.iter().enumerate() {
                let options = ::zip::write::SimpleFileOptions::default()
                    .compression_method(::zip::CompressionMethod::Stored)
                    .large_file(*large)
                    .with_alignment(64);
                writer.start_file(format!("m/{index}"), options).unwrap();
                writer.write_all(data).unwrap();
            }
            let bytes = writer.finish().unwrap().into_inner();
            let read = Archive::read(&bytes).unwrap();
            prop_assert_eq!(read.members().len(), members.len());
            for (index, (data, _)) in members.iter().enumerate() {
                prop_assert_eq!(read.member(&format!("m/{index}")).unwrap().verified(&bytes).unwrap(), &data[..]);
            }
        }
    }
}

#[test]
fn members_of_real_files_are_aligned_and_disjoint() {
    for bytes in [COMPACT, TRAINING] {
        let read = Archive::read(bytes).unwrap();
        assert!(read.members().len() > 50);
        assert!(read.members().iter().all(|member| member.verified(bytes).is_ok()));
    }
}
