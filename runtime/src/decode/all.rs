//! All predictions along a text whose elements are known beforehand: of many steps in one call, or step by step.

use super::{Decoder, Mode, Stream, floats};
use crate::engine::{Engine, Rows};
use crate::error::Result;

impl Decoder {
    /// Evaluates all predictions along a prompt and hands each row of logits to `sink`, in order. With a start
    /// element row i predicts element i, and one more row predicts what follows; without, the first row predicts
    /// element 1.
    pub fn all_logits<E: Engine>(
        &self,
        engine: &mut E,
        elements: &[u32],
        mode: Mode,
        mut sink: impl FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        self.check(elements)?;
        let mut stream = self.stream(engine)?;
        self.begin(engine, &mut stream, elements.is_empty())?;
        match mode {
            Mode::Step => {
                if stream.steps > 0 {
                    sink(self.logits(engine, &mut stream)?)?;
                }
                for &element in elements {
                    self.feed(engine, &mut stream, &[element])?;
                    if stream.steps > 0 {
                        sink(self.logits(engine, &mut stream)?)?;
                    }
                }
                Ok(())
            }
            Mode::Batch => {
                // Rows of outputs now held: those of the start step, if there was one.
                let mut held = stream.steps.min(1);
                let mut rest = elements;
                loop {
                    if held > 0 {
                        self.spread(engine, &mut stream, held, rest, &mut sink)?;
                    }
                    held = (rest.len() / self.patch).min(self.max_rows);
                    if held == 0 {
                        return Ok(());
                    }
                    let (now, later) = rest.split_at(held * self.patch);
                    self.outer_rows(engine, &mut stream, now, held)?;
                    self.keep(&mut stream, now);
                    rest = later;
                }
            }
        }
    }

    /// Remembers the elements of the rows just run: all but the first row's are what the rows before predict.
    fn keep<S>(&self, stream: &mut Stream<S>, now: &[u32]) {
        stream.pending.clear();
        stream.pending.extend_from_slice(&now[self.patch.min(now.len())..]);
    }

    /// Emits the predictions of the `rows` outer steps whose outputs are held; `rest` are the elements that follow.
    fn spread<E: Engine>(
        &self,
        engine: &mut E,
        stream: &mut Stream<E::States>,
        rows: usize,
        rest: &[u32],
        sink: &mut impl FnMut(&[f32]) -> Result<()>,
    ) -> Result<()> {
        let mut ahead = std::mem::take(&mut stream.pending);
        let known_last = rest.len().min(self.patch);
        ahead.extend_from_slice(&rest[..known_last]);
        let places = |row: usize| {
            if row + 1 < rows { self.patch } else { (known_last + 1).min(self.patch) }
        };
        let Some(inner) = self.inner else {
            let port = &self.tables[self.outer].outputs[self.logits];
            for row in 0..rows {
                for place in 0..places(row) {
                    let offset = row * port.stride + place * self.vocabulary * 4;
                    floats(&stream.outer_ports.outputs[self.logits][offset..], &mut stream.logits);
                    sink(&stream.logits)?;
                }
            }
            return Ok(());
        };
        let mut states = match stream.inner_batch.take() {
            Some(states) => states,
            None => engine.new_states(self.groups.1, self.max_rows)?,
        };
        engine.reset(self.groups.1, &mut states, rows)?;
        let mut collected = vec![0f32; rows * self.patch * self.vocabulary];
        let table = &self.tables[inner];
        let stride = table.outputs[self.logits].stride;
        for place in 0..self.patch {
            let active = (0..rows).take_while(|&row| place < places(row)).count();
            for row in 0..active {
                let previous = if place == 0 { 0 } else { ahead[row * self.patch + place - 1] };
                self.fill_inner(stream, row, row, previous);
                stream.positions[row] = place as i32;
            }
            if active == 0 {
                break;
            }
            let positions = &stream.positions[..active];
            let ports = &mut stream.inner_ports;
            engine.run(inner, &mut states, Rows::Streams, positions, &ports.inputs, &mut ports.outputs)?;
            for row in 0..active {
                let at = (row * self.patch + place) * self.vocabulary;
                let bytes = &stream.inner_ports.outputs[self.logits][row * stride..];
                floats(bytes, &mut collected[at..at + self.vocabulary]);
            }
        }
        stream.inner_batch = Some(states);
        for row in 0..rows {
            for place in 0..places(row) {
                let at = (row * self.patch + place) * self.vocabulary;
                sink(&collected[at..at + self.vocabulary])?;
            }
        }
        Ok(())
    }
}
