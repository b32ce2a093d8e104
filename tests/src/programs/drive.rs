//! Runs a program in all ways and says where one differs from the interpreter, step by step.
//!
//! Streams get random elements and every input a random value; they run alone, in single steps and in calls of several,
//! and side by side. What is compared, and over which engines, is the product's own [`compare`]: all outputs of all
//! entries, probes and states must have the same bits.

use sterna_compiler::session::compare::{
    Calls, Comparing, Difference, Level, Recorder, Script, Snapshots, against, reference,
};
use sterna_compiler::session::{CompileOptions, LoadOptions, ModelSource, Session, SessionError, WeightsSource};
use sterna_compiler::target::cpu::Cpu;
use sterna_runtime::model::{Element, EntryTable, ModelTable, Port, Source};
use sterna_runtime::{Buffer, Engine, Mode, Rows};

use super::dice::Dice;
use super::outcome::{Job, Outcome, Thorough, reason};

/// Steps of each stream.
const STEPS: usize = 11;
/// Streams side by side.
const STREAMS: usize = 3;

/// Checks one program in this process; it may panic or die.
pub fn check(job: &Job) -> Outcome {
    let folder = match tempfile::tempdir() {
        Ok(folder) => folder,
        Err(error) => return Outcome::Refused { reason: "no folder".into(), text: error.to_string() },
    };
    if let Err(error) = std::fs::write(folder.path().join("m.graph"), &job.graph) {
        return Outcome::Refused { reason: "no file".into(), text: error.to_string() };
    }
    match ways(job, folder.path()) {
        Ok(outcome) => outcome,
        Err(error) => {
            let text = error.to_string();
            Outcome::Refused { reason: reason(&text), text }
        }
    }
}

fn load(job: &Job, graphs: &std::path::Path, observe: bool) -> Result<Session, SessionError> {
    let source = ModelSource::Own { name: "c.json".into(), text: job.config.clone() };
    let options = LoadOptions {
        model: Some("m".into()),
        graphs: Some(graphs.into()),
        weights: WeightsSource::Random(job.seed),
        observe: if observe { vec!["*".into()] } else { Vec::new() },
        ..LoadOptions::default()
    };
    Session::load(&source, &options)
}

fn ways(job: &Job, graphs: &std::path::Path) -> Result<Outcome, SessionError> {
    let mut dice = Dice::new(job.seed ^ 0x5eed);
    let observe = dice.chance(65);
    let session = match load(job, graphs, observe) {
        Err(SessionError::NoProbe { .. }) => load(job, graphs, false)?,
        other => other?,
    };
    let max_rows = dice.pick(&[2, 3, 5, 16, 64]);
    let compile = CompileOptions { max_rows, max_context: 40, ..CompileOptions::default() };
    let script = Streams::new(session.interpreter(&compile, Mode::Step)?.table(), &mut dice);
    let expected = reference(&session, &compile, &script)?;
    if let Some(error) = expected.stopped() {
        let text = format!("the interpreter fails: {error}");
        return Ok(Outcome::Refused { reason: reason(&text), text });
    }
    let how = Comparing { compile, levels: levels(job), pin: false };
    let found = against(&session, &how, &script, &expected)?;
    if found.differences.is_empty() {
        return Ok(Outcome::Equal { ways: found.ways.len() + 1, values: found.values });
    }
    let texts: Vec<String> = found.differences.iter().map(Difference::to_string).collect();
    Ok(Outcome::Differs { text: texts.join("\n") })
}

/// The best level with one thread, with three and in the kernel interpreter; of the others one or all, now and then in
/// the kernel interpreter too, since they have kernels of their own.
fn levels(job: &Job) -> Vec<Level> {
    let mut found: Vec<Cpu> =
        Cpu::NAMES.map(|(_, level)| level).into_iter().filter(|level| level.runs_here()).collect();
    let quick = job.thorough == Thorough::Quick;
    let sometimes = job.seed.is_multiple_of(4);
    let best = found.pop().map(|cpu| Level { cpu, threads: vec![1, 3], kernels: sometimes || !quick });
    if quick && !found.is_empty() {
        found = vec![found[(job.seed / 4) as usize % found.len()]];
    }
    let other = |cpu| Level { cpu, threads: vec![1], kernels: sometimes };
    best.into_iter().chain(found.into_iter().map(other)).collect()
}

/// Values of all inputs of all steps.
struct Streams {
    outer: usize,
    inner: Option<usize>,
    patch: usize,
    /// By stream, step and place in the step: 0 for the main entry, then those of the inner one.
    inputs: Vec<Vec<Vec<Vec<Vec<u8>>>>>,
}

impl Streams {
    fn new(table: &ModelTable, dice: &mut Dice) -> Streams {
        let outer = table.main().unwrap_or(0);
        let inner = table.inner(outer);
        let patch = table.entries[outer].patch().max(1);
        let mut draw = |entry: usize, first: bool| -> Vec<Vec<u8>> {
            table.entries[entry].inputs.iter().map(|port| value(port, dice, first)).collect()
        };
        let inputs = (0..STREAMS)
            .map(|_| {
                let steps = (0..STEPS).map(|_| {
                    let mut places = vec![draw(outer, false)];
                    places.extend(
                        inner.iter().flat_map(|&i| (0..patch).map(move |p| (i, p))).map(|(i, p)| draw(i, p == 0)),
                    );
                    places
                });
                steps.collect()
            })
            .collect();
        Streams { outer, inner, patch, inputs }
    }

    /// Stream after stream, in calls of so many steps, the rest one by one.
    fn alone<E: Snapshots>(&self, engine: &mut Recorder<'_, E>, sizes: &[usize]) -> sterna_runtime::Result<()> {
        for stream in 0..STREAMS {
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
        for &size in sizes.iter().chain(&[1; STEPS]) {
            let size = size.min(engine.table().max_rows).min(STEPS - first);
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
        let together = STREAMS.min(engine.table().max_rows);
        let mut states = engine.new_states(engine.table().entries[self.outer].group, together)?;
        for step in 0..STEPS {
            let rows: Vec<(usize, usize)> = (0..together).map(|stream| (stream, step)).collect();
            self.call(engine, &mut states, Rows::Streams, &rows)?;
        }
        for stream in together..STREAMS {
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
            self.inputs[stream][step][0][port].clone()
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
                    _ => self.inputs[stream][step][1 + place][port].clone(),
                }
            })?;
            let mut made = blank(inner_entry, rows.len())?;
            engine.run(inner, &mut inner_states, Rows::Streams, &positions, &inputs, &mut made)?;
        }
        Ok(())
    }
}

/// Steps of the calls of streams that run alone; [`Streams::together`] is the way behind these.
const ALONE: [(&str, &[usize]); 3] =
    [("step", &[]), ("batch", &[STEPS, STEPS, STEPS, STEPS, STEPS, STEPS]), ("mixed", &[1, 2, 1, 5, 1, STEPS])];

impl Script for Streams {
    fn calls(&self) -> Vec<Calls> {
        let alone = ALONE.map(|(name, sizes)| Calls {
            name: name.into(),
            rows: sizes.iter().copied().max().unwrap_or(1),
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
