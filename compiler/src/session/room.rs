//! How long a stream may be. A cache that keeps all entries has room for so many, by the graph or by the options, or
//! the graph checks that positions lie below a bound. A text that is longer is read in windows, and generation ends
//! there.

use rustc_hash::FxHashMap;
use sterna_runtime::Decoder;

use super::{CompileOptions, Result, Session, SessionError};
use crate::ir::{AxisCapacity, AxisId, CompareOp, Data, Entry, Module, Op, ParamKind, Region, StateId, Value};

/// The room of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Steps of the main entry.
    pub steps: usize,
    /// Whether [`CompileOptions::max_context`] says so, not the graph.
    pub by_options: bool,
}

impl Session {
    /// The room of a stream; none if it has no cache that keeps everything, and no check of its position.
    pub fn room(&self, options: &CompileOptions) -> Option<Room> {
        let entry = main(self.module())?;
        let checked = positions(entry).into_iter().map(|steps| Room { steps, by_options: false });
        let pushed = pushed(self.module(), entry);
        let rooms = pushed.into_iter().filter_map(|(axis, times)| match self.module().axis(axis).capacity {
            AxisCapacity::Unbounded => Some(Room { steps: options.max_context / times, by_options: true }),
            AxisCapacity::Max(entries) => Some(Room { steps: entries / times, by_options: false }),
            AxisCapacity::Ring(_) => None,
        });
        rooms.chain(checked).min_by_key(|room| room.steps)
    }
}

/// The main entry: the first outer one that consumes the stream.
fn main(module: &Module) -> Option<&Entry> {
    let streams = |kind: &ParamKind| matches!(kind, ParamKind::Stream);
    module.entries.iter().find(|e| e.within.is_none() && e.params.iter().any(|p| streams(&p.kind)))
}

/// The steps before the first whose position an entry's checks refuse, of checks such as `position < 2048`.
fn positions(entry: &Entry) -> Vec<usize> {
    let body = &entry.body;
    let params = body.params().iter().zip(&entry.params);
    let position: Vec<Value> = params.filter(|(_, p)| p.kind == ParamKind::Position).map(|(&v, _)| v).collect();
    let bound = |value: Value| match &body.node(body.producer(value)?).op {
        Op::Constant(literal) => match &*literal.data {
            Data::I32(values) => values.first().and_then(|&bound| usize::try_from(bound).ok()),
            _ => None,
        },
        _ => None,
    };
    let checked = body.nodes().map(|id| body.node(id)).filter(|node| matches!(node.op, Op::Check { .. }));
    let bounds = checked.filter_map(|node| {
        let compared = body.node(body.producer(*node.inputs.first()?)?);
        match (&compared.op, compared.inputs.as_slice()) {
            (Op::Compare(CompareOp::Lt), [p, n]) | (Op::Compare(CompareOp::Gt), [n, p]) if position.contains(p) => {
                bound(*n)
            }
            (Op::Compare(CompareOp::Le), [p, n]) | (Op::Compare(CompareOp::Ge), [n, p]) if position.contains(p) => {
                bound(*n)?.checked_add(1)
            }
            _ => None,
        }
    });
    bounds.collect()
}

/// The growing axes of an entry, each with how many entries a step pushes at most.
fn pushed(module: &Module, entry: &Entry) -> Vec<(AxisId, usize)> {
    fn collect(module: &Module, region: &Region, rounds: &mut Vec<usize>, times: &mut FxHashMap<StateId, usize>) {
        for node in region.nodes() {
            let op = &region.node(node).op;
            if let Op::Push { state } = op {
                // Repeats around the state itself give it an instance for each of their rounds.
                let inner = rounds.iter().skip(module.state(*state).instances.len());
                let pushed = times.entry(*state).or_default();
                *pushed = pushed.saturating_add(inner.fold(1, |product: usize, &max| product.saturating_mul(max)));
            }
            let max = if let Op::Repeat { max, .. } = op { Some(*max) } else { None };
            rounds.extend(max);
            Region::nested(op).into_iter().for_each(|inner| collect(module, inner, rounds, times));
            rounds.truncate(rounds.len() - usize::from(max.is_some()));
        }
    }
    let mut times = FxHashMap::default();
    collect(module, &entry.body, &mut Vec::new(), &mut times);
    let growing = times.into_iter().filter_map(|(state, times)| Some((module.state(state).growing()?.1, times.max(1))));
    growing.collect()
}

/// Steps that a stream of so many elements takes.
fn steps(decoder: &Decoder, elements: usize) -> usize {
    (elements / decoder.patch()).saturating_add(usize::from(decoder.predicts_first()))
}

/// Elements of a stream when a text of `elements` is evaluated in windows of `wanted` (0: as long as there is room): 0
/// if the whole text is one stream.
///
/// # Errors
/// The caches have no room for a window of that many elements.
pub fn window(room: Option<Room>, decoder: &Decoder, wanted: usize, elements: usize) -> Result<usize> {
    let Some(room) = room else { return Ok(wanted) };
    let start = usize::from(decoder.predicts_first());
    let steps = |elements| steps(decoder, elements);
    match wanted {
        0 if steps(elements) <= room.steps => Ok(0),
        0 if room.steps > start => Ok((room.steps - start) * decoder.patch()),
        _ => {
            let stream = if wanted == 0 { decoder.patch() } else { wanted.min(elements) };
            let needed = steps(stream);
            if needed <= room.steps {
                Ok(wanted)
            } else {
                Err(SessionError::NoRoom { elements: stream, needed, room, option: "--window" })
            }
        }
    }
}

/// How much of a stream a measurement takes: so much as was asked for, or what is usual as far as there is room. The
/// room is what there surely is, where steps may push and may not; so what was asked for is tried.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// What was asked for.
    pub wanted: Option<usize>,
    /// What is taken otherwise.
    pub usual: usize,
    /// The option that asks.
    pub option: &'static str,
}

impl Bound {
    /// The measure to take; `elements` says how many elements of a stream one takes.
    ///
    /// # Errors
    /// Nothing was asked for, and there is room for none.
    pub fn within(self, room: Option<Room>, decoder: &Decoder, elements: impl Fn(usize) -> usize) -> Result<usize> {
        if let Some(wanted) = self.wanted {
            return Ok(wanted);
        }
        let Some(room) = room else { return Ok(self.usual) };
        let needed = |count| steps(decoder, elements(count));
        let found = (1..=self.usual).rev().find(|&count| needed(count) <= room.steps);
        let (elements, needed, option) = (elements(1), needed(1), self.option);
        found.ok_or(SessionError::NoRoom { elements, needed, room, option })
    }
}

#[cfg(test)]
mod tests {
    use sterna_runtime::model::{Element, EntryTable, ModelTable, Port, Source, Start};

    use super::*;

    /// A model that takes patches of 4 bytes, after a patch of zeros.
    fn decoder() -> Decoder {
        let port = |name: &str, element, shape: Vec<usize>, source| Port {
            name: name.into(),
            element,
            shape,
            stride: 4096,
            source,
            range: None,
        };
        let entry = EntryTable {
            name: "step".into(),
            within: None,
            start: Some(Start { elements: vec![0; 4], only_if_empty: false }),
            inputs: vec![port("patch", Element::U8, vec![4], Some(Source::Stream))],
            outputs: vec![port("logits", Element::F32, vec![4, 256], None)],
            group: 0,
            choices: Vec::new(),
        };
        let table = ModelTable {
            name: "patches".into(),
            entries: vec![entry],
            states: Vec::new(),
            scratch_bytes: 0,
            max_rows: 1,
            weight_bytes: 0,
            messages: Vec::new(),
        };
        Decoder::new(&table).unwrap()
    }

    #[test]
    fn windows_fill_the_room_and_never_exceed_it() {
        let decoder = decoder();
        let of = |steps, wanted, elements| window(Some(Room { steps, by_options: true }), &decoder, wanted, elements);
        assert_eq!(window(None, &decoder, 0, 1 << 40).unwrap(), 0);
        assert_eq!(window(None, &decoder, 7, 1 << 40).unwrap(), 7);
        // The patch of zeros takes a step, an incomplete one takes none.
        assert_eq!(of(3, 0, 11).unwrap(), 0);
        assert_eq!(of(3, 0, 12).unwrap(), 8);
        assert_eq!(of(3, 11, 100).unwrap(), 11);
        let error = of(3, 12, 100).unwrap_err().to_string();
        assert!(error.contains("12 elements") && error.contains("4 steps") && error.contains('3'), "{error}");
        assert_eq!(of(3, 1000, 11).unwrap(), 1000);
        assert!(of(1, 0, 4).is_err());
        assert_eq!(of(1, 0, 3).unwrap(), 0);
        let within = |steps, wanted| {
            let bound = Bound { wanted, usual: 10, option: "--steps" };
            bound.within(Some(Room { steps, by_options: true }), &decoder, |count| 8 * count)
        };
        assert_eq!(within(100, None).unwrap(), 10);
        assert_eq!(within(20, None).unwrap(), 9);
        assert_eq!(within(20, Some(10)).unwrap(), 10);
        let error = within(2, None).unwrap_err().to_string();
        assert!(error.contains("takes 3 steps") && error.contains("smaller --steps"), "{error}");
    }
}
