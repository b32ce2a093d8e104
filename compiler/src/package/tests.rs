//! Packages written, read back, and damaged.

use std::io::Cursor;

use serde_json::json;
use sterna_runtime::native::Weights;
use sterna_runtime::package::{FormatError, Mapping, PackageError as ReadError, WeightsMemory};

use super::*;
use crate::interp::WeightStore;
use crate::ir::{Encoding, Group, InputQuant, Keep, OriginId, ScaleFormat, WeightDecl, WeightSource};
use crate::weights::{ValueSource, random_value};

fn module() -> Module {
    let input = InputQuant::None;
    let (floor, scale, keep) = (1e-5, ScaleFormat::Bf16, Keep::Nearest);
    let encodings = [
        ("embed.weight", vec![20, 300], Encoding::Ternary { group: Group::Tensor, floor, scale, keep, input }),
        ("layers.0.w.weight", vec![40, 130], Encoding::Ternary { group: Group::Inputs(64), floor, scale, keep, input }),
        ("layers.0.s.weight", vec![7, 70], Encoding::Sign { group: Group::Row, scale, input }),
        ("layers.0.norm.weight", vec![20], Encoding::Bf16),
        ("bias", vec![], Encoding::F32),
    ];
    let mut module = Module { name: "small".to_owned(), ..Module::default() };
    let origin = module.add_origin(crate::ir::Origin::default());
    assert_eq!(origin, OriginId(0));
    for (path, shape, encoding) in encodings {
        let (path, source) = (path.to_owned(), WeightSource::Checkpoint);
        module.add_weight(WeightDecl { path, shape, encoding, source, origin });
    }
    module
}

fn random() -> Values<'static> {
    ValueSource::Random { seed: 5 }.into()
}

fn written() -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    write(&mut out, &module(), &json!({"d": 20, "name": "small"}), &random(), |_| {}).unwrap();
    out.into_inner()
}

fn opened(bytes: &[u8]) -> Result<Package, ReadError> {
    let package = Package::from_mapping(Mapping::copy_of(bytes).unwrap())?;
    package.check_weights()?;
    Ok(package)
}

#[test]
fn a_package_gives_back_module_and_weights() {
    let bytes = written();
    let package = opened(&bytes).unwrap();
    assert_eq!(package.header().config["d"], 20);
    let (read, section) = module_of(&package).unwrap();
    assert_eq!(read.weights.len(), module().weights.len());
    let packed = Values::Packed { section: &section, bytes: package.weights() };
    for (index, weight) in module().weights.iter().enumerate() {
        assert_eq!(read.weights[index].path, weight.path);
        assert_eq!(packed.value(&read, WeightId(index as u32)).unwrap(), random_value(5, weight));
    }
    assert_eq!(package.bytes().as_ptr() as usize % 64, 0);
    assert_eq!(package.bytes().len(), package.weights().len() + 64);
}

/// Kernels read what is stored, so the interpreter does: a package may come from anywhere, and must mean one thing.
#[test]
fn what_a_package_stores_of_computed_weights_is_what_the_interpreter_reads() {
    let text = r#"module "m" ""
weight w0 "a" f32[2]
weight w1 "b" f32[2] computed {
  body() {
    %0 = weight(w0) : f32[2]
    %1 = exp %0 : f32[2]
    yield %1
  }
}
"#;
    let module = ir::read::read_module(text).unwrap();
    let mut out = Cursor::new(Vec::new());
    write(&mut out, &module, &json!({}), &random(), |_| {}).unwrap();
    let package = opened(&out.into_inner()).unwrap();
    let (module, section) = module_of(&package).unwrap();
    let mut bytes = package.weights().to_vec();
    let at = section.offsets[1];
    bytes[at..at + 4].copy_from_slice(&3.5f32.to_le_bytes());
    let packed = Values::Packed { section: &section, bytes: &bytes };
    let weights = memory_weights(&module, &packed).unwrap();
    assert_eq!(weights.weight(WeightId(1)).unwrap().dense().as_f32().unwrap()[0], 3.5);
}

#[test]
fn packages_are_reproducible_and_equal_the_image_in_memory() {
    let bytes = written();
    assert_eq!(bytes, written());
    let module = module();
    let section = Section::of(&module.weights);
    let image = weight_image(&module, &section, section.bytes, &random()).unwrap();
    assert_eq!(opened(&bytes).unwrap().weights(), &image[..]);
}

#[test]
fn weights_in_huge_pages_are_the_same() {
    let bytes = written();
    let mapped = opened(&bytes).unwrap();
    let huge = opened(&bytes).unwrap().with_weights_in(WeightsMemory::Huge).unwrap();
    assert_eq!(huge.weights_memory(), WeightsMemory::Huge);
    assert_eq!(mapped.weights_memory(), WeightsMemory::Mmap);
    assert_eq!(huge.bytes(), mapped.bytes());
    let auto = opened(&bytes).unwrap().with_weights_in(WeightsMemory::Auto).unwrap();
    assert_eq!(auto.weights_memory(), WeightsMemory::Mmap);
}

#[test]
fn every_truncation_and_every_flipped_bit_is_refused() {
    let bytes = written();
    for length in 0..bytes.len() {
        // the mapping is copied each time: the weights' end is checked at a coarser step
        if length < 4096 || length % 97 == 0 {
            assert!(opened(&bytes[..length]).is_err(), "truncated to {length}");
        }
    }
    let mut damaged = bytes.clone();
    for at in (0..bytes.len()).filter(|at| *at < 4096 || at % 31 == 0 || at + 128 >= bytes.len()) {
        for bit in 0..8 {
            damaged[at] ^= 1 << bit;
            assert!(opened(&damaged).is_err(), "bit {bit} of byte {at}");
            damaged[at] ^= 1 << bit;
        }
    }
}

/// Products meet whatever lies behind a row of activations with the padding of the weights.
#[test]
fn padding_that_is_not_zero_is_refused() {
    let bytes = written();
    let package = opened(&bytes).unwrap();
    let (_, section) = module_of(&package).unwrap();
    let start = bytes.len() - 128 - section.bytes;
    for (weight, row, column) in [(0, 3, 310), (0, 19, 511), (0, 21, 0), (1, 8, 130), (2, 6, 71), (3, 0, 20)] {
        let (byte, bit) = section.layouts[weight].field(row, column);
        let mut spoilt = bytes.clone();
        spoilt[start + section.offsets[weight] + byte] |= 1 << bit;
        let mut preamble = Preamble::read(&spoilt).unwrap();
        preamble.weights_crc = crc32fast::hash(&spoilt[start..start + section.bytes]);
        spoilt[..PREAMBLE].copy_from_slice(&preamble.to_bytes());
        let said = module_of(&opened(&spoilt).unwrap()).unwrap_err().to_string();
        assert!(said.contains("the padding of row") && said.contains(&module().weights[weight].path), "{said}");
    }
}

/// A package around a header of any text, with right lengths and checksums.
fn forged(header: &str, weights: usize) -> Vec<u8> {
    let weights_offset = (PREAMBLE + header.len()).next_multiple_of(ALIGNMENT);
    let preamble = Preamble {
        header_bytes: header.len(),
        weights_offset,
        weights_bytes: weights,
        header_crc: crc32fast::hash(header.as_bytes()),
        weights_crc: crc32fast::hash(&vec![0; weights]),
    };
    let mut bytes = preamble.to_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(weights_offset + weights + TAIL, 0);
    bytes
}

#[test]
fn headers_with_right_checksums_and_wrong_tables_are_refused() {
    let row = |offset: &str, bytes: &str, path: &str| {
        format!(r#"{{"path":"{path}","shape":[2],"encoding":"f32","layout":"rows","offset":{offset},"bytes":{bytes}}}"#)
    };
    let header = |rows: &[String]| format!(r#"{{"name":"m","config":{{}},"graph":"","weights":[{}]}}"#, rows.join(","));
    assert!(opened(&forged(&header(&[row("0", "64", "a"), row("64", "64", "b")]), 128)).is_ok());
    for (rows, weights) in [
        (vec![row("0", "64", "a"), row("64", "64", "a")], 128),
        (vec![row("0", "64", "a"), row("0", "64", "b")], 128),
        (vec![row("0", "64", "a"), row("128", "64", "b")], 192),
        (vec![row("0", "65", "a")], 128),
        (vec![row("0", "128", "a")], 64),
        (vec![row("0", "64", "a")], 128),
        (vec![row("18446744073709551552", "128", "a")], 64),
        (vec![row("0", "18446744073709551552", "a")], 64),
    ] {
        let error = opened(&forged(&header(&rows), weights)).unwrap_err();
        assert!(matches!(error, ReadError::Weight { .. }), "{error}");
    }
    for text in ["", "{}", "[]", r#"{"name":"m","config":{},"graph":"","weights":[],"more":1}"#] {
        assert!(matches!(opened(&forged(text, 0)), Err(ReadError::Header(_))), "{text}");
    }
    assert!(matches!(opened(b"STERNA\n\0"), Err(ReadError::Format(FormatError::TooShort(8)))));
}

#[test]
fn a_table_that_differs_from_the_graph_is_refused() {
    let bytes = written();
    let header = opened(&bytes).unwrap().header().clone();
    let change = |change: &dyn Fn(&mut Header)| {
        let mut header = header.clone();
        change(&mut header);
        let weights = header.weights.iter().map(|row| row.bytes).sum();
        let package = opened(&forged(&serde_json::to_string(&header).unwrap(), weights)).unwrap();
        module_of(&package).map(|_| ()).unwrap_err()
    };
    for error in [
        change(&|header| header.weights[1].layout = "rows".to_owned()),
        change(&|header| header.weights[0].shape = vec![20, 301]),
        change(&|header| {
            header.weights.pop();
        }),
        change(&|header| header.graph = header.graph.replace("[20, 300]", "[20, 3000000000]")),
    ] {
        assert!(matches!(error, PackageError::Table { .. }), "{error}");
    }
    let misspelt = change(&|header| header.graph = header.graph.replace("weight w0", "weigth w0"));
    assert!(matches!(misspelt, PackageError::Graph(_)), "{misspelt}");
    let huge = change(&|header| header.graph = header.graph.replace("[20, 300]", "[20, 4611686018427387904]"));
    assert!(matches!(huge, PackageError::Invalid(_)), "{huge}");
}

#[test]
fn a_file_appears_only_when_it_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.sterna");
    let mut heard = 0;
    write_file(&path, &module(), &json!({}), &random(), |bytes| heard = bytes).unwrap();
    let package = Package::open(&path).unwrap();
    assert_eq!(heard, package.weights().len());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

    let missing = folder.path().join("nowhere").join("small.sterna");
    let error = write_file(&missing, &module(), &json!({}), &random(), |_| {}).unwrap_err().to_string();
    assert!(error.contains("nowhere"), "{error}");
}
