//! Packing and unpacking are inverse, and the bytes are where the documentation says.

use proptest::prelude::*;

use super::layout::*;
use super::value::{MatrixShape, WeightValue, group_of};
use crate::ir::{Encoding, Group, InputQuant, Keep, ScaleFormat, Undo};
use crate::kernel::ir::Packing;

fn ternary(group: Group) -> Encoding {
    let (scale, keep, input) = (ScaleFormat::F32, Keep::Nearest, InputQuant::None);
    Encoding::Ternary { group, floor: 1e-5, scale, keep, input }
}

fn sign(group: Group, int8: bool) -> Encoding {
    let int8_input = InputQuant::Int8 { block: None, floor: 1e-5, undo: Undo::Divide };
    let input = if int8 { int8_input } else { InputQuant::None };
    Encoding::Sign { group, scale: ScaleFormat::F32, input }
}

fn packed(value: &WeightValue, layout: Layout) -> Vec<u8> {
    let mut bytes = vec![0xee; layout.bytes()];
    pack(value, layout, &mut bytes);
    bytes
}

/// Every arrangement of four codes at the start, the middle and the end of a row comes back.
#[test]
fn all_small_groups_of_codes_come_back() {
    for start in [0, 62, 254, 296] {
        for arrangement in 0..81 {
            let mut codes = vec![0i8; 3 * 300];
            for place in 0..4 {
                codes[300 + start + place] = (arrangement / 3i32.pow(place as u32) % 3 - 1) as i8;
            }
            let value = WeightValue::Codes { codes, scales: vec![0.5] };
            let layout = Layout::of(&ternary(Group::Tensor), &[3, 300]);
            assert_eq!(unpack(&packed(&value, layout), layout), value);
        }
    }
}

/// The documented place of each field, written out independently of `field`.
#[test]
fn codes_lie_where_the_documentation_says() {
    let layout = Layout::of(&ternary(Group::Tensor), &[21, 600]);
    let (rows, blocks) = (32, 3);
    assert_eq!(layout.bytes(), rows * blocks * 64 + 64);
    let codes: Vec<i8> = (0..21 * 600).map(|i| (i * 7 % 3) as i8 - 1).collect();
    let bytes = packed(&WeightValue::Codes { codes: codes.clone(), scales: vec![2.0] }, layout);
    for row in 0..rows {
        for block in 0..blocks {
            for byte in 0..64 {
                let stored = bytes[((row / 4 * blocks + block) * 4 + row % 4) * 64 + byte];
                for field in 0..4 {
                    let column = 256 * block + 64 * field + byte;
                    // padding holds 0, which is no code
                    let stored_code = if row < 21 && column < 600 { (codes[row * 600 + column] + 1) as u8 } else { 0 };
                    assert_eq!(stored >> (2 * field) & 3, stored_code, "row {row}, column {column}");
                }
            }
        }
    }
    assert_eq!(bytes[rows * blocks * 64..][..4], 2.0f32.to_le_bytes());
    assert!(bytes[rows * blocks * 64 + 4..].iter().all(|&byte| byte == 0));
}

#[test]
fn sign_rows_are_bits_in_natural_order() {
    let layout = Layout::of(&sign(Group::Row, false), &[2, 70]);
    assert_eq!(layout, Layout::SignRows { shape: MatrixShape { rows: 2, columns: 70 }, group: Group::Row });
    let mut codes = vec![-1i8; 140];
    codes[70 + 69] = 1;
    let bytes = packed(&WeightValue::Codes { codes, scales: vec![0.5, 0.25] }, layout);
    assert_eq!(bytes.len(), 64 + 64);
    assert_eq!(bytes[16 + 8], 1 << 5);
    assert_eq!(bytes[..64].iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    assert_eq!(bytes[64..72], [0.5f32.to_le_bytes(), 0.25f32.to_le_bytes()].concat());
}

#[test]
fn group_scales_are_vectors_of_sixteen_rows() {
    let layout = Layout::of(&ternary(Group::Inputs(128)), &[18, 300]);
    let scales: Vec<f32> = (0..18 * 3).map(|i| i as f32 + 1.0).collect();
    let bytes = packed(&WeightValue::Codes { codes: vec![0; 18 * 300], scales }, layout);
    let section = &bytes[layout.scales()];
    assert_eq!(section.len(), 32 * 3 * 4);
    let float = |index: usize| f32::from_le_bytes(section[4 * index..][..4].try_into().unwrap());
    // group 2 of row 17: second vector group, third vector, lane 1
    assert_eq!(float((3 + 2) * 16 + 1), (17 * 3 + 2) as f32 + 1.0);
    assert_eq!(float((3 + 2) * 16 + 2), 0.0);
}

#[test]
fn dense_rows_are_padded_to_64_bytes() {
    let layout = Layout::of(&Encoding::Bf16, &[2, 3, 40]);
    assert_eq!(layout.bytes(), 6 * 128);
    let values: Vec<f32> = (0..240).map(|i| i as f32).collect();
    let bytes = packed(&WeightValue::Dense(values), layout);
    assert_eq!(bytes[5 * 128 + 2 * 39..][..2], half::bf16::from_f32(239.0).to_le_bytes());
    assert!(bytes[5 * 128 + 80..].iter().all(|&byte| byte == 0));
}

#[test]
fn a_scalar_and_an_empty_weight_have_layouts() {
    let scalar = Layout::of(&Encoding::F32, &[]);
    assert_eq!(unpack(&packed(&WeightValue::Dense(vec![3.0]), scalar), scalar), WeightValue::Dense(vec![3.0]));
    for encoding in [Encoding::F32, ternary(Group::Row), sign(Group::Row, false)] {
        for shape in [[0, 5], [5, 0]] {
            let layout = Layout::of(&encoding, &shape);
            assert_eq!(layout.bytes() % ALIGNMENT, 0);
            let scales = group_of(&encoding).map_or(0, |group| MatrixShape::of(&shape).scales(group));
            let value = match encoding {
                Encoding::F32 => WeightValue::Dense(vec![]),
                _ => WeightValue::Codes { codes: vec![], scales: vec![1.0; scales] },
            };
            assert_eq!(unpack(&packed(&value, layout), layout), value);
        }
    }
}

fn cases() -> impl Strategy<Value = (Encoding, usize, usize, u64)> {
    let group = prop_oneof![Just(Group::Tensor), Just(Group::Row), (1usize..200).prop_map(Group::Inputs)];
    let encoding = prop_oneof![
        Just(Encoding::F32),
        Just(Encoding::F16),
        Just(Encoding::Bf16),
        group.clone().prop_map(ternary),
        (group, any::<bool>()).prop_map(|(group, int8)| sign(group, int8)),
    ];
    (encoding, 1usize..40, 1usize..700, any::<u64>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn unpack_inverts_pack((encoding, rows, columns, seed) in cases()) {
        let weight = crate::ir::WeightDecl {
            path: "w".into(),
            shape: vec![rows, columns],
            encoding: encoding.clone(),
            source: crate::ir::WeightSource::Checkpoint,
            origin: crate::ir::OriginId(0),
        };
        let value = super::random_value(seed, &weight);
        prop_assert!(fits(&value, &encoding, &weight.shape));
        let layout = Layout::of(&encoding, &weight.shape);
        let bytes = packed(&value, layout);
        prop_assert_eq!(bytes.len() % ALIGNMENT, 0);
        prop_assert_eq!(unpack(&bytes, layout), value);
        if let Layout::Blocks { packing: Packing::Codes2, .. } = layout {
            for byte in &bytes[..layout.code_bytes()] {
                prop_assert!((0..4).all(|field| byte >> (2 * field) & 3 != 3));
            }
        }
    }
}
