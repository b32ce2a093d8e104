//! The readers on real files, and hostile copies of them.

use serde_json::Value;
use sterna_runtime::package::Mapping;

use super::*;
use crate::ir::{Encoding, Group, InputQuant, Keep, OriginId, ScaleFormat, WeightDecl, WeightSource};
use crate::numerics::narrow;

/// The same ternary model, packed and as it was trained.
pub(super) const COMPACT: &[u8] = include_bytes!("../../../tests/files/goldens/cpu1/run_04/checkpoint_run_04_final.pt");
pub(super) const TRAINING: &[u8] =
    include_bytes!("../../../tests/files/goldens/cpu1/run_04/checkpoint_run_04_step640.pt");
pub(super) const SIGN_ROWS: &[u8] = include_bytes!("../../../tests/files/goldens/v76/v75_tiny/model.bit2");
const VECTORS: &str = include_str!("../../../tests/files/ternary_codes.json");

pub(super) fn open(bytes: &[u8]) -> Result<Checkpoint, WeightsError> {
    Checkpoint::from_mapping(Mapping::copy_of(bytes).unwrap(), OpenOptions::default())
}

fn declare(entry: &TensorEntry, encoding: Encoding) -> WeightDecl {
    WeightDecl {
        path: entry.name.clone(),
        shape: entry.shape.clone(),
        encoding,
        source: WeightSource::Checkpoint,
        origin: OriginId(0),
    }
}

const TERNARY: Encoding = Encoding::Ternary {
    group: Group::Tensor,
    floor: 1e-5,
    scale: ScaleFormat::Bf16,
    keep: Keep::Nearest,
    input: InputQuant::None,
};

const SIGN: Encoding = Encoding::Sign { group: Group::Row, scale: ScaleFormat::F16, input: InputQuant::None };

#[test]
fn the_layouts_of_one_model_give_the_same_values() {
    let (compact, training) = (open(COMPACT).unwrap(), open(TRAINING).unwrap());
    assert_eq!(compact.format(), Format::TorchCompact);
    assert_eq!(training.format(), Format::TorchTraining);
    let mut ternary = 0;
    for entry in compact.tensors() {
        let latent = training.tensor(&entry.name).unwrap();
        let encoding = match entry.stored {
            Stored::Ternary { .. } => TERNARY,
            _ => Encoding::Bf16,
        };
        ternary += usize::from(encoding == TERNARY);
        let weight = declare(entry, encoding);
        assert_eq!(
            compact.encode(entry, &weight, false).unwrap(),
            training.encode(latent, &weight, false).unwrap(),
            "{}",
            entry.name
        );
    }
    assert_eq!(compact.tensors().len(), training.tensors().len());
    assert!(ternary > 20, "only {ternary} ternary tensors");
}

#[test]
fn dequantised_floats_are_not_quantised_again() {
    let compact = open(COMPACT).unwrap();
    for entry in compact.tensors().iter().filter(|entry| matches!(entry.stored, Stored::Ternary { .. })) {
        let packed = compact.encode(entry, &declare(entry, TERNARY), false).unwrap();
        let floats = compact.read_f32(entry).unwrap();
        let again = encode_latent(floats, &entry.shape, &TERNARY, |_| Ok::<(), ()>(())).unwrap();
        assert_eq!(packed, again, "{}", entry.name);
    }
}

#[test]
fn what_stands_beside_the_weights_is_reported() {
    let training = open(TRAINING).unwrap();
    assert!(training.config().and_then(|config| config.get("d_model")).is_some_and(Value::is_u64));
    assert!(training.metadata().get("step").is_some_and(Value::is_u64), "{:?}", training.metadata());
    assert_eq!(training.unread(), ["optimizer"]);
    let compact = open(COMPACT).unwrap();
    assert_eq!(compact.config(), training.config());
    assert!(compact.unread().is_empty());
}

#[test]
fn sign_rows_are_signs_times_row_scales() {
    let file = open(SIGN_ROWS).unwrap();
    assert_eq!(file.format(), Format::Bit2);
    let mut matrices = 0;
    for entry in file.tensors() {
        let values = file.read_finite(entry).unwrap();
        assert_eq!(values.len(), entry.shape.iter().product::<usize>());
        if let Stored::Sign { .. } = entry.stored {
            matrices += 1;
            for row in values.chunks(entry.shape[1]) {
                assert!(row.iter().all(|value| value.abs() == row[0].abs() && *value != 0.0));
            }
            let value = file.encode(entry, &declare(entry, SIGN), false).unwrap();
            assert_eq!(value.dequantised(&SIGN, &entry.shape), values);
            let error = file.encode(entry, &declare(entry, TERNARY), false).unwrap_err().to_string();
            assert!(error.contains(&entry.name) && error.contains("sign rows"), "{error}");
        }
    }
    assert!(matrices >= 12);
}

#[test]
fn quantiser_vectors_are_met() {
    let vectors: Value = serde_json::from_str(VECTORS).unwrap();
    let list = |value: &Value| value.as_array().unwrap().clone();
    for case in list(&vectors["ternary"]) {
        let flat = |key: &str| list(&case[key]).iter().flat_map(list).collect::<Vec<_>>();
        let latent: Vec<f32> = flat("latent").iter().map(|v| v.as_f64().unwrap() as f32).collect();
        let expected: Vec<i8> = flat("codes").iter().map(|v| v.as_i64().unwrap() as i8).collect();
        let shape = [case["rows"].as_u64().unwrap() as usize, case["cols"].as_u64().unwrap() as usize];
        let value = encode_latent(latent, &shape, &TERNARY, |_| Ok::<(), ()>(())).unwrap();
        let scale = case["scale"].as_f64().unwrap() as f32;
        assert_eq!(value, WeightValue::Codes { codes: expected, scales: vec![scale] });
    }
    for pair in list(&vectors["bf16_round"]) {
        assert_eq!(narrow::bf16(pair[0].as_f64().unwrap() as f32), pair[1].as_f64().unwrap() as f32);
    }
}

#[test]
fn a_flipped_bit_in_a_storage_names_the_tensor() {
    let healthy = open(COMPACT).unwrap();
    let entry = healthy.tensors().last().unwrap();
    let at = match &entry.stored {
        Stored::Dense(view) => view.storage.offset,
        Stored::Ternary { codes, .. } => codes.storage.offset,
        Stored::Sign { bits, .. } => bits.offset,
        Stored::Other { what } => panic!("{what}"),
    };
    let mut damaged = COMPACT.to_vec();
    damaged[at] ^= 4;
    let file = open(&damaged).unwrap();
    let error = file.read_f32(file.tensor(&entry.name).unwrap()).unwrap_err().to_string();
    assert!(error.contains(&entry.name) && error.contains("checksum"), "{error}");
    let unchecked =
        Checkpoint::from_mapping(Mapping::copy_of(&damaged).unwrap(), OpenOptions { verify_checksums: false });
    assert!(unchecked.unwrap().read_f32(entry).is_ok());
}

#[test]
fn a_wrong_shape_is_reported_with_both_shapes() {
    let file = open(COMPACT).unwrap();
    let entry = &file.tensors()[0];
    let mut weight = declare(entry, TERNARY);
    weight.shape[0] += 1;
    let error = file.encode(entry, &weight, false).unwrap_err().to_string();
    assert!(error.contains(&entry.name) && error.contains(&format!("{:?}", weight.shape)), "{error}");
}

#[test]
fn other_files_are_not_taken_for_checkpoints() {
    for bytes in [&b"P"[..], b"#!/bin/sh\n"] {
        assert!(matches!(open(bytes), Err(WeightsError::UnknownFormat { .. })), "{bytes:?}");
    }
    for bytes in [&b""[..], b"GGUF\x03\0\0\0"] {
        assert!(matches!(open(bytes), Err(WeightsError::Foreign(_))), "{bytes:?}");
    }
}
