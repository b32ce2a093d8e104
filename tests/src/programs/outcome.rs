//! What became of one program.

use serde::{Deserialize, Serialize};

/// In how many ways compiled code is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Thorough {
    /// On all processor levels that this machine can run, each time in the kernel interpreter too.
    #[default]
    Whole,
    /// On the best level and one of the others, in turn; one program of eight in the kernel interpreter.
    Quick,
}

/// A program to check.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The graph file.
    pub graph: String,
    /// The config.
    pub config: String,
    /// Decides weights, elements, inputs and which ways are taken.
    pub seed: u64,
    pub thorough: Thorough,
}

/// What became of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// So many ways gave the same bits, in so many elements of outputs, probes and states.
    Equal { ways: usize, values: usize },
    /// The program was refused, with the code or the first line, and all that was said.
    Refused { reason: String, text: String },
    /// Some way gave other bits, or failed where the interpreter did not.
    Differs { text: String },
    /// A panic, with its place.
    Panicked { text: String },
    /// The process died of a signal.
    Died { signal: i32 },
    /// There was no answer in time.
    Hung,
}

impl Outcome {
    /// Whether the program shows a fault: what is refused is none.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Outcome::Equal { .. } | Outcome::Refused { .. })
    }

    /// One word for each kind, with what tells faults of a kind apart: a shrunk program must keep both.
    pub fn kind(&self) -> String {
        match self {
            Outcome::Equal { .. } => "equal".into(),
            Outcome::Refused { reason, .. } => format!("refused: {reason}"),
            Outcome::Differs { text } if text.contains("fails") => "fails".into(),
            Outcome::Differs { .. } => "differs".into(),
            Outcome::Panicked { text } => format!("panics at {}", text.lines().next().unwrap_or_default()),
            Outcome::Died { signal } => format!("dies of signal {signal}"),
            Outcome::Hung => "hangs".into(),
        }
    }

    /// All that was said.
    pub fn text(&self) -> String {
        match self {
            Outcome::Equal { ways, values } => format!("{values} values in {ways} ways"),
            Outcome::Refused { text, .. } | Outcome::Differs { text } | Outcome::Panicked { text } => text.clone(),
            Outcome::Died { signal } => format!("signal {signal}"),
            Outcome::Hung => "no answer in time".into(),
        }
    }
}

/// Words with digits that are the same in every program.
const TYPES: [&str; 10] = ["f32", "i32", "u32", "u64", "i8", "u8", "f16", "bf16", "int8", "x86-64-v1"];

/// The part of an error that does not depend on the program: its code, or its first line without names and numbers.
pub fn reason(text: &str) -> String {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let mut out = String::new();
    let mut quoted = false;
    for word in first.split_inclusive([' ', ',', ')', ']']) {
        let digits = word.chars().any(|c| c.is_ascii_digit());
        let code = word.starts_with("error[") || TYPES.iter().any(|name| word.trim_matches([' ', ',']) == *name);
        match (quoted, word.matches('`').count() % 2 == 1) {
            (false, false) if word.contains('`') => out.push_str("`_` "),
            (false, false) if digits && !code => out.push_str("n "),
            (false, false) => out.push_str(word),
            (false, true) => {
                out.push_str("`_` ");
                quoted = true;
            }
            (true, closes) => quoted = !closes,
        }
    }
    out.trim().chars().take(140).collect()
}
