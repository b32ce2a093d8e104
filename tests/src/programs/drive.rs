//! Runs a program in all ways and says where one differs from the interpreter, step by step.
//!
//! Streams get random elements and every input a random value; they run alone, in single steps and in calls of several,
//! and side by side. Whatever outputs there are, of the main entry and of an inner one, must have the same bits.

use std::sync::Arc;

use sterna_compiler::session::{CompileOptions, LoadOptions, ModelSource, Session, SessionError, WeightsSource};
use sterna_compiler::target::cpu::Cpu;
use sterna_runtime::model::{Element, EntryTable, ModelTable, Port, Source};
use sterna_runtime::{Buffer, Engine, Mode, Pool, Rows};

use super::dice::Dice;
use super::outcome::{Job, Outcome, reason};

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
    let mut oracle = session.interpreter(&compile, Mode::Step)?;
    let script = Script::new(oracle.table(), &mut dice);
    let steps = Calls::Alone(vec![1; STEPS]);
    let expected = match script.run(&mut oracle, &steps) {
        Ok(found) => found,
        Err(error) => {
            let text = format!("the interpreter fails: {error}");
            return Ok(Outcome::Refused { reason: reason(&text), text });
        }
    };
    let mut wrong = Vec::new();
    let mut ways = 1;
    let mut note = |name: String, found: sterna_runtime::Result<Found>| {
        ways += 1;
        match found {
            Ok(found) => wrong.extend(expected.difference(&found).map(|text| format!("{name}: {text}"))),
            Err(error) => wrong.push(format!("{name}: fails: {error}")),
        }
    };
    let all = Calls::Alone(vec![STEPS.min(max_rows); STEPS.div_ceil(max_rows)]);
    let mixed = Calls::Alone(vec![1, 2, 1, 5.min(max_rows), 1, STEPS]);
    let mut passed = session.interpreter(&compile, Mode::Batch)?;
    note("interpreter after all passes, batch".into(), script.run(&mut passed, &all));
    note("interpreter after all passes, mixed".into(), script.run(&mut passed, &mixed));
    let levels: Vec<Cpu> = Cpu::NAMES.map(|(_, level)| level).into_iter().filter(|level| level.runs_here()).collect();
    let pools = [Arc::new(Pool::new(1, false)), Arc::new(Pool::new(3, false))];
    for (place, &cpu) in levels.iter().enumerate() {
        let options = CompileOptions { cpu, ..compile.clone() };
        let compiled = session.compile(&options)?;
        let threads = if place + 1 == levels.len() { &pools[..] } else { &pools[..1] };
        for pool in threads {
            let mut engine = session.engine(&compiled, pool.clone())?;
            let name = |how: &str| format!("{}, {} threads, {how}", cpu.name(), pool.threads());
            note(name("step"), script.run(&mut engine, &steps));
            note(name("batch"), script.run(&mut engine, &all));
            note(name("mixed"), script.run(&mut engine, &mixed));
            note(name("streams"), script.run(&mut engine, &Calls::Together));
        }
    }
    if wrong.is_empty() {
        return Ok(Outcome::Equal { ways, bytes: expected.0.iter().map(|f| f.bytes.len()).sum() });
    }
    Ok(Outcome::Differs { text: wrong.join("\n") })
}

/// How steps become calls.
enum Calls {
    /// Stream after stream, in calls of so many steps.
    Alone(Vec<usize>),
    /// One step of all streams in each call.
    Together,
}

/// Values of all inputs of all steps.
struct Script {
    outer: usize,
    inner: Option<usize>,
    patch: usize,
    /// By stream, step and place in the step: 0 for the main entry, then those of the inner one.
    inputs: Vec<Vec<Vec<Vec<Vec<u8>>>>>,
}

/// One output of one step.
#[derive(PartialEq)]
struct Seen {
    name: String,
    element: Element,
    bytes: Vec<u8>,
    /// Stream, step, place.
    at: (usize, usize, usize),
}

/// Outputs in one order for all ways.
struct Found(Vec<Seen>);

impl Found {
    fn difference(&self, other: &Found) -> Option<String> {
        if self.0.len() != other.0.len() {
            return Some(format!("{} outputs instead of {}", other.0.len(), self.0.len()));
        }
        let wrong = self.0.iter().zip(&other.0).filter(|(a, b)| a != b).count();
        let (a, b) = self.0.iter().zip(&other.0).find(|(a, b)| a != b)?;
        let size = a.element.bytes();
        let place = a.bytes.chunks(size).zip(b.bytes.chunks(size)).position(|(x, y)| x != y).unwrap_or(0);
        let value = |seen: &Seen| {
            let bytes = seen.bytes.get(place * size..(place + 1) * size).unwrap_or_default();
            match (seen.element, bytes) {
                (Element::F32, [a, b, c, d]) => format!("{:?}", f32::from_le_bytes([*a, *b, *c, *d])),
                _ => format!("{bytes:?}"),
            }
        };
        let (stream, step, inner) = a.at;
        Some(format!(
            "{wrong} outputs, first `{}` at stream {stream} step {step}.{inner} place {place}: {} instead of {}",
            a.name,
            value(b),
            value(a)
        ))
    }
}

impl Script {
    fn new(table: &ModelTable, dice: &mut Dice) -> Script {
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
        Script { outer, inner, patch, inputs }
    }

    /// All outputs, sorted by stream and step.
    fn run<E: Engine>(&self, engine: &mut E, calls: &Calls) -> sterna_runtime::Result<Found> {
        let mut found = Found(Vec::new());
        let table = engine.table().clone();
        let group = table.entries[self.outer].group;
        match calls {
            Calls::Alone(sizes) => {
                for stream in 0..STREAMS {
                    let mut states = engine.new_states(group, 1)?;
                    let mut first = 0;
                    for &size in sizes {
                        let rows: Vec<(usize, usize)> =
                            (first..STEPS).take(size.min(table.max_rows)).map(|step| (stream, step)).collect();
                        if rows.is_empty() {
                            break;
                        }
                        first += rows.len();
                        self.call(engine, &table, &mut states, Rows::Steps, &rows, &mut found)?;
                    }
                    while first < STEPS {
                        self.call(engine, &table, &mut states, Rows::Steps, &[(stream, first)], &mut found)?;
                        first += 1;
                    }
                }
            }
            Calls::Together => {
                let together = STREAMS.min(table.max_rows);
                let mut states = engine.new_states(group, together)?;
                for step in 0..STEPS {
                    let rows: Vec<(usize, usize)> = (0..together).map(|stream| (stream, step)).collect();
                    self.call(engine, &table, &mut states, Rows::Streams, &rows, &mut found)?;
                }
                // Streams for which there was no row.
                for stream in together..STREAMS {
                    let mut states = engine.new_states(group, 1)?;
                    for step in 0..STEPS {
                        self.call(engine, &table, &mut states, Rows::Steps, &[(stream, step)], &mut found)?;
                    }
                }
            }
        }
        found.0.sort_by(|a, b| (a.at, &a.name).cmp(&(b.at, &b.name)));
        Ok(found)
    }

    fn call<E: Engine>(
        &self,
        engine: &mut E,
        table: &ModelTable,
        states: &mut E::States,
        kind: Rows,
        rows: &[(usize, usize)],
        found: &mut Found,
    ) -> sterna_runtime::Result<()> {
        let entry = &table.entries[self.outer];
        let positions: Vec<i32> = rows.iter().map(|&(_, step)| step as i32).collect();
        let inputs = buffers(entry, rows.len(), |row, port| {
            let (stream, step) = rows[row];
            self.inputs[stream][step][0][port].clone()
        })?;
        let mut outputs = blank(entry, rows.len())?;
        engine.run(self.outer, states, kind, &positions, &inputs, &mut outputs)?;
        for (row, &(stream, step)) in rows.iter().enumerate() {
            see(entry, &outputs, row, (stream, step, 0), found);
        }
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
            for (row, &(stream, step)) in rows.iter().enumerate() {
                see(inner_entry, &made, row, (stream, step, 1 + place), found);
            }
        }
        Ok(())
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

/// Buffers of outputs that hold what nobody would take for a result.
fn blank(entry: &EntryTable, rows: usize) -> sterna_runtime::Result<Vec<Buffer>> {
    let filled = |port: &Port| {
        let mut buffer = Buffer::zeroed(port.stride * rows)?;
        buffer.fill(0xee);
        Ok(buffer)
    };
    entry.outputs.iter().map(filled).collect()
}

fn see(entry: &EntryTable, outputs: &[Buffer], row: usize, at: (usize, usize, usize), found: &mut Found) {
    for (port, buffer) in entry.outputs.iter().zip(outputs) {
        let mut bytes = buffer[row * port.stride..][..port.bytes()].to_vec();
        if port.element == Element::F32 {
            for word in bytes.chunks_exact_mut(4) {
                if f32::from_le_bytes([word[0], word[1], word[2], word[3]]).is_nan() {
                    word.copy_from_slice(&f32::NAN.to_le_bytes());
                }
            }
        }
        found.0.push(Seen { name: port.name.clone(), element: port.element, bytes, at });
    }
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
