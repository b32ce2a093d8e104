//! What became of one mutant.

use serde::{Deserialize, Serialize};

use super::Kind;

/// A run of mutants to try: as many seeds as asked for, one after the other.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Job {
    /// Of all of them.
    pub kind: Kind,
    /// The first seed.
    pub seed: u64,
    /// How many.
    pub count: u64,
    /// The edits that are not done, see [`super::make`].
    pub undone: u64,
}

/// What became of a mutant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was refused; the reason without names and numbers.
    Refused(String),
    /// It was taken, lowered and proven, and not run, since it is large.
    Planned,
    /// It was taken and run, and what can be compared is equal.
    Ran,
    /// It gave other bits than it should.
    Differs(String),
    /// A panic, with its place.
    Panicked(String),
    /// The process died of a signal.
    Died(i32),
    /// There was no answer in time.
    Hung,
    /// It needed so many KiB of memory.
    Memory(u64),
}

/// An answer of a worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// Of which mutant.
    pub seed: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Milliseconds of processor time.
    pub time: u64,
    /// The most memory in KiB.
    pub memory: u64,
}

impl Outcome {
    /// Whether it is a fault.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Outcome::Refused(_) | Outcome::Planned | Outcome::Ran)
    }

    /// What tells faults apart: mutants of one kind have one cause, most likely.
    pub fn kind(&self) -> String {
        match self {
            Outcome::Refused(reason) => format!("refused: {reason}"),
            Outcome::Planned => "planned".into(),
            Outcome::Ran => "ran".into(),
            Outcome::Differs(text) if text.contains("fails") => "fails".into(),
            Outcome::Differs(_) => "differs".into(),
            Outcome::Panicked(text) => format!("panics at {}", text.lines().next().unwrap_or_default()),
            Outcome::Died(signal) => format!("dies of signal {signal}"),
            Outcome::Hung => "hangs".into(),
            Outcome::Memory(_) => "needs too much memory".into(),
        }
    }

    /// All that is known.
    pub fn text(&self) -> String {
        match self {
            Outcome::Differs(text) | Outcome::Panicked(text) => text.clone(),
            Outcome::Memory(size) => format!("{size} KiB"),
            other => other.kind(),
        }
    }
}
