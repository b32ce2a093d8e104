//! What programs are run on: streams with random elements and a random value for every input. They run alone, in single
//! steps and in calls of several, and side by side.

use sterna_compiler::session::compare::{Calls, Recorder, Script, Snapshots};
use sterna_runtime::model::{Element, EntryTable, ModelTable, Port, Source};
use sterna_runtime::{Buffer, Engine, Rows};

use super::dice::Dice;

/// Values of all inputs of all steps of a few streams.
pub struct Streams {
    steps: usize,
    /// Names of the inputs of the main entry, and of the inner one: passes may add some and take some away.
    names: [Vec<String>; 2],
    outer: usize,
    inner: Option<usize>,
    patch: usize,
    /// By stream, step and place in the step: 0 for the main entry, then those of the inner one.
    inputs: Vec<Vec<Vec<Vec<Vec<u8>>>>>,
}

impl Streams {
    /// So many streams of so many steps.
    pub fn new(table: &ModelTable, dice: &mut Dice, streams: usize, steps: usize) -> Streams {
        let outer = table.main().unwrap_or(0);
        let inner = table.inner(outer);
        let patch = table.entries[outer].patch().max(1);
        let mut draw = |entry: usize, first: bool| -> Vec<Vec<u8>> {
            table.entries[entry].inputs.iter().map(|port| value(port, dice, first)).collect()
        };
        let inputs = (0..streams)
            .map(|_| {
                let places = (0..steps).map(|_| {
                    let mut places = vec![draw(outer, false)];
                    places.extend(
                        inner.iter().flat_map(|&i| (0..patch).map(move |p| (i, p))).map(|(i, p)| draw(i, p == 0)),
                    );
                    places
                });
                places.collect()
            })
            .collect();
        let named = |entry: usize| table.entries[entry].inputs.iter().map(|port| port.name.clone()).collect();
        let names = [named(outer), inner.map_or_else(Vec::new, named)];
        Streams { steps, names, outer, inner, patch, inputs }
    }

    /// The value of an input at a place of a step; nothing for one that came later, which is none of a stream's.
    fn input(&self, (stream, step, place): (usize, usize, usize), port: &Port) -> Vec<u8> {
        let names = &self.names[usize::from(place > 0)];
        let at = names.iter().position(|name| *name == port.name);
        at.map_or_else(Vec::new, |at| self.inputs[stream][step][place][at].clone())
    }

    /// Stream after stream, in calls of so many steps, the rest one by one.
    fn alone<E: Snapshots>(&self, engine: &mut Recorder<'_, E>, sizes: &[usize]) -> sterna_runtime::Result<()> {
        for stream in 0..self.inputs.len() {
            self.one(engine, stream, sizes)?;
        }
        Ok(())
    }

    fn one<E: Snapshots>(
        &self,
        engine: &mut Recorder<'_, E>,
        stream: usize,
        sizes: &[usize],
    ) -> sterna_runtime::Result<()> {
        let mut states = engine.new_states(engine.table().entries[self.outer].group, 1)?;
        let mut first = 0;
        for size in sizes.iter().copied().chain(std::iter::repeat_n(1, self.steps)) {
            let size = size.min(engine.table().max_rows).min(self.steps - first);
            if size > 0 {
                let rows: Vec<(usize, usize)> = (first..first + size).map(|step| (stream, step)).collect();
                self.call(engine, &mut states, Rows::Steps, &rows)?;
                first += size;
            }
        }
        Ok(())
    }

    /// One step of all streams in each call; those for which there is no row run alone.
    fn together<E: Snapshots>(&self, engine: &mut Recorder<'_, E>) -> sterna_runtime::Result<()> {
        let together = self.inputs.len().min(engine.table().max_rows);
        let mut states = engine.new_states(engine.table().entries[self.outer].group, together)?;
        for step in 0..self.steps {
            let rows: Vec<(usize, usize)> = (0..together).map(|stream| (stream, step)).collect();
            self.call(engine, &mut states, Rows::Streams, &rows)?;
        }
        for stream in together..self.inputs.len() {
            self.one(engine, stream, &[])?;
        }
        Ok(())
    }

    fn call<E: Snapshots>(
        &self,
        engine: &mut Recorder<'_, E>,
        states: &mut E::States,
        kind: Rows,
        rows: &[(usize, usize)],
    ) -> sterna_runtime::Result<()> {
        let table = engine.table().clone();
        let entry = &table.entries[self.outer];
        let positions: Vec<i32> = rows.iter().map(|&(_, step)| step as i32).collect();
        let inputs = buffers(entry, rows.len(), |row, port| {
            let (stream, step) = rows[row];
            self.input((stream, step, 0), &entry.inputs[port])
        })?;
        let mut outputs = blank(entry, rows.len())?;
        engine.streams = rows.iter().map(|&(stream, _)| stream).collect();
        engine.run(self.outer, states, kind, &positions, &inputs, &mut outputs)?;
        let Some(inner) = self.inner else { return Ok(()) };
        let inner_entry = &table.entries[inner];
        let mut inner_states = engine.new_states(inner_entry.group, rows.len())?;
        for place in 0..self.patch {
            let positions = vec![place as i32; rows.len()];
            let inputs = buffers(inner_entry, rows.len(), |row, port| {
                let (stream, step) = rows[row];
                match &inner_entry.inputs[port].source {
                    Some(Source::Outer(name)) => {
                        let at = entry.output(name).unwrap_or(0);
                        let from = &entry.outputs[at];
                        outputs[at][row * from.stride..][..from.bytes()].to_vec()
                    }
                    _ => self.input((stream, step, 1 + place), &inner_entry.inputs[port]),
                }
            })?;
            let mut made = blank(inner_entry, rows.len())?;
            engine.run(inner, &mut inner_states, Rows::Streams, &positions, &inputs, &mut made)?;
        }
        Ok(())
    }
}

/// Steps of the calls of streams that run alone, the rest one by one; [`Streams::together`] is the way behind these.
const ALONE: [(&str, &[usize]); 3] =
    [("step", &[]), ("batch", &[usize::MAX; 6]), ("mixed", &[1, 2, 1, 5, 1, usize::MAX])];

/// How many ways there are to cut streams into calls.
pub const WAYS: usize = ALONE.len() + 1;

impl Script for Streams {
    fn calls(&self) -> Vec<Calls> {
        let alone = ALONE.map(|(name, sizes)| Calls {
            name: name.into(),
            rows: sizes.iter().map(|&size| size.min(self.steps)).max().unwrap_or(1),
            // The kernel interpreter is slow, and calls of several sizes have in them what the others have.
            kernels: name == "mixed",
        });
        alone.into_iter().chain([Calls { name: "streams".into(), rows: 1, kernels: true }]).collect()
    }

    fn run<E: Snapshots>(&self, engine: &mut Recorder<'_, E>, calls: usize) -> sterna_runtime::Result<()> {
        match ALONE.get(calls) {
            Some((_, sizes)) => self.alone(engine, sizes),
            None => self.together(engine),
        }
    }
}

/// Buffers of inputs with the bytes of each row.
fn buffers(
    entry: &EntryTable,
    rows: usize,
    bytes: impl Fn(usize, usize) -> Vec<u8>,
) -> sterna_runtime::Result<Vec<Buffer>> {
    let mut all = Vec::new();
    for (at, port) in entry.inputs.iter().enumerate() {
        let mut buffer = Buffer::zeroed(port.stride * rows)?;
        for row in 0..rows {
            let value = bytes(row, at);
            buffer[row * port.stride..][..value.len()].copy_from_slice(&value);
        }
        all.push(buffer);
    }
    Ok(all)
}

fn blank(entry: &EntryTable, rows: usize) -> sterna_runtime::Result<Vec<Buffer>> {
    entry.outputs.iter().map(|port| Buffer::zeroed(port.stride * rows)).collect()
}

/// A value of an input for one row.
fn value(port: &Port, dice: &mut Dice, first: bool) -> Vec<u8> {
    let n = port.elements();
    if let Some(Source::Input(neutral)) = &port.source
        && dice.chance(40)
    {
        return neutral.clone();
    }
    // At position 0 there is no element before the first.
    let zero = first && port.source == Some(Source::Stream);
    let (least, most) = port.range.unwrap_or(match port.element {
        Element::U8 => (0.0, 255.0),
        Element::Bool => (0.0, 1.0),
        _ => (-2.0, 2.0),
    });
    let mut bytes = Vec::new();
    for _ in 0..n {
        let share = dice.below(1001) as f64 / 1000.0;
        let number = if zero { 0.0 } else { least + share * (most - least) };
        match port.element {
            Element::F32 => bytes.extend((number as f32).to_le_bytes()),
            Element::I32 => bytes.extend((number.round() as i32).to_le_bytes()),
            Element::U32 => bytes.extend((number.round() as u32).to_le_bytes()),
            Element::U64 => bytes.extend((number.round() as u64).to_le_bytes()),
            Element::I8 => bytes.push(number.round() as i8 as u8),
            Element::U8 | Element::Bool => bytes.push(number.round() as u8),
        }
    }
    bytes
}
