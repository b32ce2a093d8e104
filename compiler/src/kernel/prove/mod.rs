//! The prover: before any code is made of a program, it shows that every load and store of every launch stays inside
//! the allocation that its parameter points into.
//!
//! An abstract interpretation of each kernel ([`analysis`]) with what its launch gives it ([`launch`]): every
//! integer, and every pointer's distance from its root, has an interval, bounds that are linear in the launch's row
//! counts, and a congruence ([`number`], [`arithmetic`]); loops are closed by their trip counts ([`loops`]); what
//! intervals cannot tell is asked as a question about a sum ([`linear`]). Numbers that come from memory are any
//! numbers, so the lowering clamps each index that it loads. What cannot be shown is an error, whether it is so or
//! not. What is shown and what is trusted is in spec/abi.md.

mod analysis;
mod arithmetic;
mod launch;
mod linear;
mod loops;
mod number;

#[cfg(test)]
mod tests;

use std::ops::Deref;

use analysis::{Facts, Failure, Judgement, Setting, analyse};
use launch::launches;
use rustc_hash::FxHashMap;

use super::program::Program;

/// A program whose accesses are shown to stay inside their buffers.
#[derive(Clone, Copy, Debug)]
pub struct Proven<'p> {
    program: &'p Program,
    /// Launches that can happen.
    pub launches: usize,
    /// Their loads and stores.
    pub accesses: usize,
}

impl Deref for Proven<'_> {
    type Target = Program;

    fn deref(&self) -> &Program {
        self.program
    }
}

/// An access that could not be shown to stay inside the allocation that its parameter points into.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {entry}, kernel {kernel}: `{operation}` through {parameter} is not shown to stay inside: {reason}")]
pub struct Unproven {
    /// The entry that launches the kernel.
    pub entry: String,
    pub kernel: String,
    /// The operation as printed.
    pub operation: String,
    /// The parameter's name, with its place among the parameters; or a stack buffer.
    pub parameter: String,
    pub reason: String,
}

/// Why a program is not made into code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotProven {
    /// The program is not well formed.
    #[error("the program does not verify: {}", .0.join("; "))]
    Invalid(Vec<String>),
    /// Accesses that may leave their allocations; at least one.
    #[error("{}{}", .0[0], others(.0.len()))]
    Accesses(Vec<Unproven>),
}

fn others(count: usize) -> String {
    if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() }
}

/// Shows that a program stays inside its buffers for every call that the ABI allows.
///
/// # Errors
/// When the program does not verify, and each access that could not be shown to stay inside.
pub fn prove(program: &Program) -> Result<Proven<'_>, NotProven> {
    program.verify().map_err(NotProven::Invalid)?;
    let facts: Vec<Facts<'_>> = program.kernels.iter().map(Facts::new).collect();
    let mut known: FxHashMap<(u32, Setting), Judgement> = FxHashMap::default();
    let mut unproven = Vec::new();
    let (mut count, mut accesses) = (0, 0);
    for launch in launches(program) {
        count += 1;
        let kernel = &program.kernels[launch.kernel.0 as usize];
        let tell = |failure: &Failure| Unproven {
            entry: launch.entry.name.clone(),
            kernel: kernel.name.clone(),
            operation: failure.operation.clone(),
            parameter: match failure.parameter {
                Some(index) => format!("parameter {index} ({})", kernel.params[index].name),
                None => "the stack".into(),
            },
            reason: failure.reason.clone(),
        };
        match launch.setting(program) {
            Err((parameter, reason)) => {
                unproven.push(tell(&Failure { operation: "launch".into(), parameter: Some(parameter), reason }));
            }
            Ok(setting) => {
                let analysed = known
                    .entry((launch.kernel.0, setting))
                    .or_insert_with_key(|(kernel, setting)| analyse(&facts[*kernel as usize], setting));
                accesses += analysed.accesses;
                unproven.extend(analysed.failures.iter().map(tell));
            }
        }
    }
    if unproven.is_empty() {
        Ok(Proven { program, launches: count, accesses })
    } else {
        Err(NotProven::Accesses(unproven))
    }
}
