//! Where a recording differs from the reference.

use std::collections::BTreeSet;
use std::fmt;

use super::record::{Key, Recording, Seen, What};
use crate::interp::Tensor;
use crate::ir::Data;

/// The first place at which a way of running finds something else than the reference, for one output or state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The way.
    pub way: String,
    /// Output, probe or state; empty where the way fails as a whole.
    pub of: String,
    /// What differs, and at which step.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { way, of, what } = self;
        if of.is_empty() { write!(f, "{way}: {what}") } else { write!(f, "{way}: {of}: {what}") }
    }
}

/// All differences of a recording made in calls of at most `rows` steps.
pub fn differences(way: &str, reference: &Recording, found: &Recording, rows: usize) -> Vec<Difference> {
    let difference = |of: String, what: String| Difference { way: way.to_owned(), of, what };
    let mut all = Vec::new();
    match (&reference.error, &found.error) {
        (None, Some(error)) => all.push(difference(String::new(), format!("fails at step {}: {error}", found.begun))),
        (Some(error), None) => {
            let what = format!("goes on where the reference stops at step {}: {error}", reference.begun);
            all.push(difference(String::new(), what));
        }
        (Some(_), Some(error)) if found.begun < reference.begun || found.begun >= reference.begun + rows => {
            let what = format!("fails at step {} instead of {}: {error}", found.begun, reference.begun);
            all.push(difference(String::new(), what));
        }
        _ => {}
    }
    let known = reference.names();
    let mut told: BTreeSet<(usize, &What)> = BTreeSet::new();
    for (key, seen) in &found.values {
        let wrong = match reference.values.get(key) {
            Some(expected) if expected.same(seen) => continue,
            Some(expected) => unequal(expected, seen),
            // Positions that the reference would have are always there; a step that it did not reach is said above.
            None if reference.error.is_some() => continue,
            // What passes hand from one entry to another beside what the graph does is nobody's output.
            None if matches!(key.what, What::Output(_)) && !known.contains(&(key.entry, &key.what)) => continue,
            None => "is not in the reference".to_owned(),
        };
        if told.insert((key.entry, &key.what)) {
            all.push(difference(name(key), format!("{}{wrong}", at(key))));
        }
    }
    if found.error.is_some() {
        return all;
    }
    // A way finds every output. What else it finds at all it must find at every step; states of calls of many rows only
    // after the last of them.
    let names = found.names();
    for key in reference.values.keys() {
        let every = rows == 1 || matches!(key.what, What::Output(_));
        let kept = key.what.is_output() || names.contains(&(key.entry, &key.what));
        if every && kept && !found.values.contains_key(key) && told.insert((key.entry, &key.what)) {
            all.push(difference(name(key), format!("{}is missing", at(key))));
        }
    }
    all
}

fn name(key: &Key) -> String {
    match &key.what {
        What::Output(name) => match name.strip_prefix(crate::passes::probes::OUTPUT) {
            Some(path) => format!("probe {path}"),
            None => format!("output {name}"),
        },
        What::State(path, instance) => format!("state {path}{}", numbered(*instance)),
        What::Positions(path, instance) => format!("positions of {path}{}", numbered(*instance)),
    }
}

fn numbered(instance: usize) -> String {
    if instance == 0 { String::new() } else { format!(", instance {instance}") }
}

fn at(key: &Key) -> String {
    let stream = if key.stream == 0 { String::new() } else { format!("stream {}, ", key.stream) };
    let place = if key.place == 0 { String::new() } else { format!(", element {}", key.place) };
    format!("{stream}step {}{place} ", key.step)
}

fn unequal(expected: &Seen, found: &Seen) -> String {
    let (a, b) = (expected.shape(), found.shape());
    if a != b {
        return format!("has shape {:?} after {} dropped entries instead of {:?} after {}", b.0, b.1, a.0, a.1);
    }
    let (Seen::Whole { value: x, .. }, Seen::Whole { value: y, .. }) = (expected, found) else {
        return "has other bits".to_owned();
    };
    let differs = |&i: &usize| bits(x, i) != bits(y, i);
    let places: Vec<usize> = (0..x.len().min(y.len())).filter(differs).collect();
    match places.first() {
        Some(&place) => {
            let (x, y, n) = (element(x, place), element(y, place), places.len());
            format!("place {place}: {y} instead of {x}, {n} elements in all")
        }
        None => "has other elements".to_owned(),
    }
}

fn bits(value: &Tensor, place: usize) -> u64 {
    match &*value.data {
        Data::F32(v) => u64::from(v[place].to_bits()),
        Data::I32(v) => v[place] as u64,
        Data::U32(v) => u64::from(v[place]),
        Data::U64(v) => v[place],
        Data::I8(v) => v[place] as u64,
        Data::U8(v) => u64::from(v[place]),
        Data::Bool(v) => u64::from(v[place]),
    }
}

fn element(value: &Tensor, place: usize) -> String {
    match &*value.data {
        Data::F32(v) => format!("{:?}", v[place]),
        Data::I32(v) => v[place].to_string(),
        Data::U32(v) => v[place].to_string(),
        Data::U64(v) => v[place].to_string(),
        Data::I8(v) => v[place].to_string(),
        Data::U8(v) => v[place].to_string(),
        Data::Bool(v) => v[place].to_string(),
    }
}
