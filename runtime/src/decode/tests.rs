//! Streams over a toy engine whose logits digest everything they may depend on.

use super::*;
use crate::model::StateTable;

/// A model whose logits are a digest of everything they may depend on, so that any misalignment shows.
struct Digest(ModelTable);

fn mix(a: u64, b: u64) -> u64 {
    (a ^ b.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(29)
}

fn port(name: &str, element: Element, shape: &[usize], source: Option<Source>) -> Port {
    let bytes = shape.iter().product::<usize>() * element.bytes();
    Port { name: name.into(), element, shape: shape.into(), stride: bytes.next_multiple_of(64), source, range: None }
}

/// `patch` bytes a step; with `inner`, an inner entry predicts byte by byte, else the step predicts all at once.
fn model(patch: usize, inner: bool, start: Option<Start>) -> Digest {
    let stream = port("patch", Element::U8, &[patch], Some(Source::Stream));
    let position = port("position", Element::I32, &[], Some(Source::Position));
    let logits = |shape: &[usize]| port("logits", Element::F32, shape, None);
    let entry = |name: &str, inputs, outputs, within, group| EntryTable {
        name: name.into(),
        within,
        start: None,
        inputs,
        outputs,
        group,
        choices: Vec::new(),
    };
    let mut entries = if inner {
        let y = port("y", Element::U64, &[], None);
        let outer_y = port("y", Element::U64, &[], Some(Source::Outer("y".into())));
        let byte = port("prev", Element::U8, &[], Some(Source::Stream));
        vec![
            entry("step", vec![stream, position.clone()], vec![y], None, 0),
            entry("byte", vec![byte, outer_y, position], vec![logits(&[3])], Some(0), 1),
        ]
    } else {
        vec![entry("step", vec![stream, position], vec![logits(&[patch, 3])], None, 0)]
    };
    entries[0].start = start;
    Digest(ModelTable {
        entries,
        states: vec![StateTable { bytes: 64, resets: vec![] }; 2],
        max_rows: 5,
        ..ModelTable::default()
    })
}

impl Engine for Digest {
    type States = Vec<u64>;

    fn table(&self) -> &ModelTable {
        &self.0
    }

    fn new_states(&self, _: usize, blocks: usize) -> Result<Vec<u64>> {
        Ok(vec![1; blocks])
    }

    fn reset(&self, _: usize, states: &mut Vec<u64>, blocks: usize) -> Result<()> {
        states[..blocks].fill(1);
        Ok(())
    }

    fn run(
        &mut self,
        entry: usize,
        states: &mut Vec<u64>,
        rows: Rows,
        positions: &[i32],
        inputs: &[Buffer],
        outputs: &mut [Buffer],
    ) -> Result<()> {
        let table = &self.0.entries[entry];
        for (row, &position) in positions.iter().enumerate() {
            let state = &mut states[if rows == Rows::Steps { 0 } else { row }];
            *state = mix(*state, position as u64);
            for (port, bytes) in table.inputs.iter().zip(inputs) {
                if port.source != Some(Source::Position) {
                    for &byte in &bytes[row * port.stride..row * port.stride + port.bytes()] {
                        *state = mix(*state, u64::from(byte));
                    }
                }
            }
            let port = &table.outputs[0];
            for (i, chunk) in outputs[0][row * port.stride..][..port.bytes()].chunks_mut(4).enumerate() {
                let value = (mix(*state, i as u64) >> 40) as f32;
                chunk.copy_from_slice(&value.to_le_bytes());
            }
        }
        Ok(())
    }
}

fn rows(engine: &mut Digest, elements: &[u32], mode: Mode) -> Vec<Vec<f32>> {
    let decoder = Decoder::new(&engine.0).unwrap();
    let mut all = Vec::new();
    decoder
        .all_logits(engine, elements, mode, |row| {
            all.push(row.to_vec());
            Ok(())
        })
        .unwrap();
    all
}

#[test]
fn many_at_once_equals_one_by_one() {
    let always = |patch| Some(Start { elements: vec![0; patch], only_if_empty: false });
    for patch in [1, 3, 4] {
        for inner in [false, true] {
            for start in [None, always(patch)] {
                let started = start.is_some();
                let mut engine = model(patch, inner, start);
                for n in [0, 1, 2, 3, 4, 5, 11, 12, 13, 40, 61, 80] {
                    let elements: Vec<u32> = (0..n).map(|i| i * 7 % 251).collect();
                    let batch = rows(&mut engine, &elements, Mode::Batch);
                    let count = if started { n as usize + 1 } else { (n as usize + 1).saturating_sub(patch) };
                    assert_eq!(batch.len(), count, "patch {patch} inner {inner} n {n}");
                    assert_eq!(batch, rows(&mut engine, &elements, Mode::Step), "patch {patch} inner {inner} n {n}");
                }
            }
        }
    }
}

#[test]
fn a_start_for_empty_prompts_only() {
    let mut engine = model(1, false, Some(Start { elements: vec![0], only_if_empty: true }));
    assert_eq!(rows(&mut engine, &[], Mode::Batch), rows(&mut engine, &[0], Mode::Batch));
    assert_eq!(rows(&mut engine, &[5, 6], Mode::Step).len(), 2);
}

#[test]
fn nothing_fed_predicts_nothing() {
    let mut engine = model(1, false, None);
    let decoder = Decoder::new(&engine.0).unwrap();
    let mut stream = decoder.stream(&engine).unwrap();
    assert!(matches!(decoder.logits(&mut engine, &mut stream), Err(Error::EmptyPrompt)));
    assert!(matches!(decoder.feed(&mut engine, &mut stream, &[256]), Err(Error::Range { .. })));
}
