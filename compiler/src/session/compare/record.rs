//! Noting what a way of running a model finds: an engine around another one that remembers all outputs and, after each
//! call, the states.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use sterna_runtime::Buffer;
use sterna_runtime::engine::{Engine, Rows};
use sterna_runtime::model::ModelTable;

use super::script::Script;
use super::snapshots::Snapshots;
use crate::interp::Tensor;
use crate::session::{Result, SessionError, tables};

/// Values of more bytes than this are remembered as a digest.
const WHOLE: usize = 1 << 16;

/// What outputs hold before a call: as f32 3.4e38, as i32 2139062143.
const POISON: u8 = 0x7f;

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum What {
    /// An output, by name.
    Output(Arc<str>),
    /// A state by path, and which instance.
    State(Arc<str>, usize),
    /// Where the entries of a growing state were pushed.
    Positions(Arc<str>, usize),
}

impl What {
    /// Whether it is an output of the graph's own, which probes are not.
    pub fn is_output(&self) -> bool {
        matches!(self, What::Output(name) if !name.starts_with(crate::passes::probes::OUTPUT))
    }
}

/// Which value of which step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub stream: usize,
    /// Step of the main entry, the start element's included.
    pub step: usize,
    /// The entry's index.
    pub entry: usize,
    /// Step of an inner entry within that of the main one.
    pub place: usize,
    pub what: What,
}

/// A value: all of it, or of a large one a digest.
#[derive(Clone, Debug)]
pub(super) enum Seen {
    Whole { shape: Vec<usize>, first: usize, value: Tensor },
    Digest { shape: Vec<usize>, first: usize, digest: u64 },
}

impl Seen {
    fn new(value: Tensor) -> Seen {
        let (shape, first) = (value.shape.clone(), value.growth.as_ref().map_or(0, |g| g.first));
        // Positions are noted apart.
        let value = Tensor { growth: None, ..value.canonical() };
        let bytes = value.data.to_bytes();
        if bytes.len() <= WHOLE {
            return Seen::Whole { shape, first, value };
        }
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Seen::Digest { shape, first, digest: hasher.finish() }
    }

    /// Whether both have the same shape and the same bits, any two NaN counting as equal.
    pub fn same(&self, other: &Seen) -> bool {
        self.shape() == other.shape()
            && match (self, other) {
                (Seen::Whole { value: a, .. }, Seen::Whole { value: b, .. }) => a.same_bits(b),
                (Seen::Digest { digest: a, .. }, Seen::Digest { digest: b, .. }) => a == b,
                _ => false,
            }
    }

    /// Its shape, and how many entries came before the first that is kept.
    pub fn shape(&self) -> (&[usize], usize) {
        match self {
            Seen::Whole { shape, first, .. } | Seen::Digest { shape, first, .. } => (shape, *first),
        }
    }
}

/// All that one way of running found.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    pub(super) values: BTreeMap<Key, Seen>,
    /// The last step whose call was begun.
    pub(super) begun: usize,
    pub(super) error: Option<String>,
}

impl Recording {
    /// Why it stopped before the end.
    pub fn stopped(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Elements of all values.
    pub fn elements(&self) -> usize {
        self.values.values().map(|seen| seen.shape().0.iter().product::<usize>()).sum()
    }

    /// Numbers of different outputs, of probes among them, and of states.
    pub fn counts(&self) -> (usize, usize, usize) {
        let names = self.names();
        let count = |wanted: fn(&What) -> bool| names.iter().filter(|(_, what)| wanted(what)).count();
        let outputs = count(What::is_output);
        let probes = count(|what| matches!(what, What::Output(_))) - outputs;
        (outputs, probes, count(|what| matches!(what, What::State(..))))
    }

    /// Entries with what was seen of them.
    pub(super) fn names(&self) -> BTreeSet<(usize, &What)> {
        self.values.keys().map(|key| (key.entry, &key.what)).collect()
    }
}

/// Runs a script through an engine, cut into calls in one of its ways. What fails on the way ends the recording.
///
/// # Errors
/// The model has no main entry.
pub(super) fn record<E: Snapshots>(engine: &mut E, script: &impl Script, calls: usize) -> Result<Recording> {
    let table = engine.table();
    let outer = table.main().ok_or(SessionError::Incomplete)?;
    let names = table.entries.iter().map(|e| e.outputs.iter().map(|p| p.name.as_str().into()).collect()).collect();
    let mut recorder =
        Recorder { engine, outer, names, streams: vec![0], steps: Vec::new(), recording: Recording::default() };
    let result = script.run(&mut recorder, calls);
    let mut recording = recorder.recording;
    recording.error = result.err().map(|error| error.to_string());
    Ok(recording)
}

/// An engine around another one that remembers what the other one finds.
pub struct Recorder<'e, E> {
    engine: &'e mut E,
    /// The main entry.
    outer: usize,
    /// Names of outputs by entry.
    names: Vec<Vec<Arc<str>>>,
    /// The streams of the rows of the next calls: that of all rows, or one for each.
    pub streams: Vec<usize>,
    /// The stream and the step of each row of the main entry whose outputs are held.
    steps: Vec<(usize, usize)>,
    recording: Recording,
}

/// Where a value is found: stream, step of the main entry, place within the step.
type Place = (usize, usize, usize);

impl<E: Snapshots> Recorder<'_, E> {
    fn place(&self, entry: usize, rows: Rows, row: usize, position: i32) -> Place {
        let position = usize::try_from(position).unwrap_or(0);
        let of = match rows {
            _ if entry == self.outer => self.steps.get(row),
            Rows::Steps => self.steps.last(),
            Rows::Streams => self.steps.get(row),
        };
        let (stream, step) = of.copied().unwrap_or((0, 0));
        (stream, step, if entry == self.outer { 0 } else { position })
    }

    fn note(&mut self, entry: usize, (stream, step, place): Place, what: What, value: Tensor) {
        self.recording.values.insert(Key { stream, step, entry, place, what }, Seen::new(value));
    }
}

impl<E: Snapshots> Engine for Recorder<'_, E> {
    type States = E::States;

    fn table(&self) -> &ModelTable {
        self.engine.table()
    }

    fn new_states(&self, group: usize, blocks: usize) -> sterna_runtime::Result<E::States> {
        self.engine.new_states(group, blocks)
    }

    fn reset(&self, group: usize, states: &mut E::States, blocks: usize) -> sterna_runtime::Result<()> {
        self.engine.reset(group, states, blocks)
    }

    fn run(
        &mut self,
        entry: usize,
        states: &mut E::States,
        rows: Rows,
        positions: &[i32],
        inputs: &[Buffer],
        outputs: &mut [Buffer],
    ) -> sterna_runtime::Result<()> {
        outputs.iter_mut().for_each(|buffer| buffer.fill(POISON));
        if entry == self.outer {
            let stream = |row| match rows {
                Rows::Steps => self.streams[0],
                Rows::Streams => self.streams.get(row).copied().unwrap_or(row),
            };
            let steps = positions.iter().map(|&p| usize::try_from(p).unwrap_or(0));
            self.steps = steps.enumerate().map(|(row, step)| (stream(row), step)).collect();
            self.recording.begun = self.steps.last().map_or(0, |&(_, step)| step);
        }
        self.engine.run(entry, states, rows, positions, inputs, outputs)?;
        let places: Vec<Place> =
            positions.iter().enumerate().map(|(row, &position)| self.place(entry, rows, row, position)).collect();
        let ports = self.engine.table().entries[entry].outputs.clone();
        for ((number, port), buffer) in ports.iter().enumerate().zip(outputs.iter()) {
            let name = self.names[entry][number].clone();
            for (row, &place) in places.iter().enumerate() {
                let bytes = &buffer[row * port.stride..][..port.bytes()];
                let value = Tensor::new(&port.shape, tables::data_of(port.element, bytes));
                self.note(entry, place, What::Output(name.clone()), value);
            }
        }
        // Rows of one stream have one block.
        let blocks = match rows {
            Rows::Steps => vec![(0, places.len() - 1)],
            Rows::Streams => (0..places.len()).map(|row| (row, row)).collect(),
        };
        for (block, row) in blocks {
            for state in self.engine.states_of(entry, states, block)? {
                let path: Arc<str> = state.path.into();
                if let Some(positions) = state.positions {
                    let what = What::Positions(path.clone(), state.instance);
                    self.note(entry, places[row], what, positions);
                }
                self.note(entry, places[row], What::State(path, state.instance), state.value);
            }
        }
        Ok(())
    }
}
