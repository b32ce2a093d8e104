//! Streams: feeding elements to a model and reading what it predicts, one step at a time or many at once.
//!
//! A stream consumes elements (bytes or tokens). The main entry takes `patch` of them per step; an inner entry, if
//! there is one, runs for each element inside a step and starts anew with the next. Elements that do not fill a
//! patch yet are pending: they are the known prefix of the patch being predicted. Nothing is ever padded.
//! Which elements a stream takes is in `elements`, reading all predictions along a text in `all`.

mod all;
mod elements;
#[cfg(test)]
mod tests;

use crate::engine::{Engine, Rows};
use crate::error::{Error, Result};
use crate::memory::Buffer;
use crate::model::{Element, EntryTable, ModelTable, Port, Source, Start};

/// Whether many steps are evaluated in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As decoding does: one step, one call.
    Step,
    /// As a prompt is read: up to `max_rows` steps in one call.
    Batch,
}

/// How to drive a model's entries as a stream of elements.
#[derive(Clone, Debug)]
pub struct Decoder {
    outer: usize,
    inner: Option<usize>,
    patch: usize,
    vocabulary: usize,
    logits: usize,
    start: Option<Start>,
    max_rows: usize,
    tables: Vec<EntryTable>,
    groups: (usize, usize),
}

/// Buffers for the ports of one entry at the largest number of rows.
#[derive(Debug, Default)]
struct Ports {
    inputs: Vec<Buffer>,
    outputs: Vec<Buffer>,
}

impl Ports {
    fn new(table: &EntryTable, rows: usize) -> Result<Ports> {
        let buffer = |p: &Port| match p.source {
            Some(Source::Position) => Buffer::zeroed(0),
            _ => Buffer::zeroed(p.stride * rows),
        };
        let mut ports = Ports {
            inputs: table.inputs.iter().map(buffer).collect::<Result<_>>()?,
            outputs: table.outputs.iter().map(buffer).collect::<Result<_>>()?,
        };
        for (port, bytes) in table.inputs.iter().zip(&mut ports.inputs) {
            if let Some(Source::Input(neutral)) = &port.source {
                for row in bytes.chunks_mut(port.stride.max(1)) {
                    row[..neutral.len()].copy_from_slice(neutral);
                }
            }
        }
        Ok(ports)
    }
}

/// One stream of elements with its own state. Streams of one model share its weights.
#[derive(Debug)]
pub struct Stream<S> {
    outer: S,
    inner: Option<S>,
    /// State blocks for the inner entry over many outer steps, made when first needed.
    inner_batch: Option<S>,
    outer_ports: Ports,
    inner_ports: Ports,
    positions: Vec<i32>,
    /// Outer steps done.
    steps: usize,
    pending: Vec<u32>,
    /// Inner steps done in the current outer step.
    inner_steps: usize,
    /// Row of `outer_ports` that holds the outputs of the last step.
    last_row: usize,
    logits: Vec<f32>,
}

impl<S> Stream<S> {
    /// Outer steps done so far.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Elements of the patch being predicted that are known already.
    pub fn pending(&self) -> &[u32] {
        &self.pending
    }
}

impl Decoder {
    /// Finds the entries that make a stream: the main one, and the inner one if it has no logits itself.
    pub fn new(table: &ModelTable) -> Result<Decoder> {
        let outer = table.main().ok_or_else(|| Error::Missing("entry that consumes a stream".into()))?;
        let inner = if table.entries[outer].output("logits").is_some() { None } else { table.inner(outer) };
        let speaking = inner.unwrap_or(outer);
        let entry = &table.entries[speaking];
        let logits = entry.output("logits").ok_or_else(|| Error::Missing("output named logits".into()))?;
        let port = &entry.outputs[logits];
        let patch = table.entries[outer].patch();
        let fits = match (inner, port.shape.as_slice()) {
            (Some(_), [_]) => entry.patch() == 1,
            (None, [_]) => patch == 1,
            (None, [rows, _]) => *rows == patch,
            _ => false,
        };
        let vocabulary = port.shape.last().copied().unwrap_or(0);
        if !fits || patch == 0 || vocabulary == 0 || port.element != Element::F32 {
            return Err(Error::Missing("logits of the shape that its stream needs".into()));
        }
        for entry in [Some(outer), inner].into_iter().flatten().map(|i| &table.entries[i]) {
            if let Some(port) = entry.inputs.iter().find(|p| p.source == Some(Source::Value)) {
                return Err(Error::Missing(format!("way to fill the input `{}` from a stream", port.name)));
            }
        }
        Ok(Decoder {
            outer,
            inner,
            patch,
            vocabulary,
            logits,
            start: table.entries[outer].start.clone(),
            max_rows: table.max_rows.max(1),
            groups: (table.entries[outer].group, inner.map_or(0, |i| table.entries[i].group)),
            tables: table.entries.clone(),
        })
    }

    /// Elements one step of the main entry consumes.
    pub fn patch(&self) -> usize {
        self.patch
    }

    /// Number of different elements that can be predicted.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Whether predictions begin with the first element, because something is always fed before it.
    pub fn predicts_first(&self) -> bool {
        self.start.as_ref().is_some_and(|s| !s.only_if_empty)
    }

    /// Whether elements are bytes.
    pub fn is_bytes(&self) -> bool {
        self.tables[self.outer].stream().is_some_and(|p| p.element == Element::U8)
    }

    /// A new stream, to which nothing has been fed.
    pub fn stream<E: Engine>(&self, engine: &E) -> Result<Stream<E::States>> {
        let inner = self.inner.map(|_| engine.new_states(self.groups.1, 1)).transpose()?;
        Ok(Stream {
            outer: engine.new_states(self.groups.0, 1)?,
            inner,
            inner_batch: None,
            outer_ports: Ports::new(&self.tables[self.outer], self.max_rows)?,
            inner_ports: self
                .inner
                .map(|i| Ports::new(&self.tables[i], self.max_rows))
                .transpose()?
                .unwrap_or_default(),
            positions: vec![0; self.max_rows],
            steps: 0,
            pending: Vec::with_capacity(self.patch),
            inner_steps: 0,
            last_row: 0,
            logits: vec![0.0; self.vocabulary],
        })
    }

    /// Feeds a prompt to a new stream, after the model's start elements if it has them.
    pub fn prompt<E: Engine>(&self, engine: &mut E, stream: &mut Stream<E::States>, elements: &[u32]) -> Result<()> {
        self.begin(engine, stream, elements.is_empty())?;
        self.feed(engine, stream, elements)
    }

    /// Feeds the start elements that a prompt needs.
    fn begin<E: Engine>(&self, engine: &mut E, stream: &mut Stream<E::States>, empty: bool) -> Result<()> {
        match &self.start {
            Some(start) if empty || !start.only_if_empty => self.feed(engine, stream, &start.elements),
            _ => Ok(()),
        }
    }

    /// Feeds elements; whole patches advance the state, the rest stays pending.
    pub fn feed<E: Engine>(&self, engine: &mut E, stream: &mut Stream<E::States>, elements: &[u32]) -> Result<()> {
        self.check(elements)?;
        let mut rest = elements;
        while stream.pending.len() + rest.len() >= self.patch {
            let rows = ((stream.pending.len() + rest.len()) / self.patch).min(self.max_rows);
            let taken = rows * self.patch - stream.pending.len();
            self.outer_rows(engine, stream, &rest[..taken], rows)?;
            rest = &rest[taken..];
        }
        stream.pending.extend_from_slice(rest);
        Ok(())
    }

    /// Runs `rows` outer steps over the pending elements followed by `elements`.
    fn outer_rows<E: Engine>(
        &self,
        engine: &mut E,
        stream: &mut Stream<E::States>,
        elements: &[u32],
        rows: usize,
    ) -> Result<()> {
        let table = &self.tables[self.outer];
        let mut source = stream.pending.iter().chain(elements).copied();
        for (port, bytes) in table.inputs.iter().zip(&mut stream.outer_ports.inputs) {
            if port.source == Some(Source::Stream) {
                for row in 0..rows {
                    for place in 0..self.patch {
                        put(port.element, &mut bytes[row * port.stride..], place, source.next().unwrap_or(0));
                    }
                }
            }
        }
        for row in 0..rows {
            stream.positions[row] = position(stream.steps + row)?;
        }
        let (positions, ports) = (&stream.positions[..rows], &mut stream.outer_ports);
        engine.run(self.outer, &mut stream.outer, Rows::Steps, positions, &ports.inputs, &mut ports.outputs)?;
        stream.steps += rows;
        stream.pending.clear();
        stream.inner_steps = 0;
        stream.last_row = rows - 1;
        Ok(())
    }

    /// The logits of the next element.
    pub fn logits<'s, E: Engine>(&self, engine: &mut E, stream: &'s mut Stream<E::States>) -> Result<&'s [f32]> {
        if stream.steps == 0 {
            return Err(Error::EmptyPrompt);
        }
        match self.inner {
            None => {
                let port = &self.tables[self.outer].outputs[self.logits];
                let place = if port.shape.len() == 2 { stream.pending.len() } else { 0 };
                let offset = stream.last_row * port.stride + place * self.vocabulary * 4;
                floats(&stream.outer_ports.outputs[self.logits][offset..], &mut stream.logits);
            }
            Some(inner) => {
                if stream.inner_steps == 0
                    && let Some(states) = &mut stream.inner
                {
                    engine.reset(self.groups.1, states, 1)?;
                }
                while stream.inner_steps <= stream.pending.len() {
                    let place = stream.inner_steps;
                    let previous = if place == 0 { 0 } else { stream.pending[place - 1] };
                    self.fill_inner(stream, 0, stream.last_row, previous);
                    stream.positions[0] = place as i32;
                    let Some(states) = &mut stream.inner else {
                        break;
                    };
                    let (positions, ports) = (&stream.positions[..1], &mut stream.inner_ports);
                    engine.run(inner, states, Rows::Steps, positions, &ports.inputs, &mut ports.outputs)?;
                    stream.inner_steps += 1;
                }
                floats(&stream.inner_ports.outputs[self.logits], &mut stream.logits);
            }
        }
        Ok(&stream.logits)
    }

    /// Prepares row `row` of the inner inputs for the outer step in row `from`, after `previous`.
    fn fill_inner<S>(&self, stream: &mut Stream<S>, row: usize, from: usize, previous: u32) {
        let Some(inner) = self.inner else { return };
        let outer = &self.tables[self.outer];
        for (port, bytes) in self.tables[inner].inputs.iter().zip(&mut stream.inner_ports.inputs) {
            let at = (row * port.stride).min(bytes.len());
            let bytes = &mut bytes[at..];
            match &port.source {
                Some(Source::Stream) => put(port.element, bytes, 0, previous),
                Some(Source::Outer(name)) => {
                    if let Some(i) = outer.output(name) {
                        let offset = from * outer.outputs[i].stride;
                        let n = port.bytes();
                        bytes[..n].copy_from_slice(&stream.outer_ports.outputs[i][offset..offset + n]);
                    }
                }
                _ => {}
            }
        }
    }
}

fn position(step: usize) -> Result<i32> {
    i32::try_from(step).map_err(|_| Error::Limit { what: "steps of a stream", value: step, limit: i32::MAX as usize })
}

/// Writes an element of the stream; range checks have been made.
fn put(element: Element, row: &mut [u8], place: usize, value: u32) {
    match element {
        Element::U8 => row[place] = value as u8,
        _ => row[4 * place..4 * place + 4].copy_from_slice(&value.to_le_bytes()),
    }
}

fn floats(bytes: &[u8], out: &mut [f32]) {
    for (value, chunk) in out.iter_mut().zip(bytes.chunks_exact(4)) {
        *value = f32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
    }
}
