//! Cranelift: kernels and drivers to CLIF and, in memory, to machine code.
//!
//! [`emit`] turns one kernel into one function, with `lanes`, `memory`, `dot` and `rows` holding the op families;
//! [`driver`] turns an entry's steps into the ABI's entry function; [`define`] puts a program into a module, and
//! [`jit`] into memory; [`text`] shows CLIF and disassembly. A vector of 16 lanes is four 128-bit values.

pub mod define;
mod dot;
pub mod driver;
pub mod emit;
pub mod isa;
pub mod jit;
mod lanes;
mod memory;
mod perf_map;
mod rows;
#[cfg(test)]
mod tests;
pub mod text;

use thiserror::Error;

use crate::kernel::prove::NotProven;

/// Why a program could not be compiled.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CompileError {
    /// The processor level cannot be targeted.
    #[error("cannot target this processor level: {0}")]
    Target(String),
    /// The system reserves no addresses for code.
    #[error("no memory for code: {0}")]
    Memory(String),
    /// The level's code does not run on this machine.
    #[error("this machine does not run {0} code")]
    NotHere(&'static str),
    /// The program does not verify or is not shown to stay inside its buffers: a bug of the stage that made it.
    #[error("the kernel program is not shown to be sound: {0}")]
    Unsound(#[from] NotProven),
    /// Cranelift refused a function: a bug of the emitter.
    #[error("code generation failed in {name}: {problem}")]
    Backend {
        /// The function.
        name: String,
        /// What Cranelift said.
        problem: String,
    },
}
