//! The lowering: from a module whose entries are lifted over time to a program of kernels.
//!
//! [`driver`] walks an entry and turns each node into a launch ([`launch`]), or into the compaction, gathering and
//! scattering that control over many rows needs ([`control`]). A kernel's graph is made in step form ([`graph`]) and
//! emitted row by row ([`kernels`], [`emit`], or for linear layers strip by strip, [`linear`]): elementwise steps and
//! views are evaluated where they are used ([`eval`], [`elementwise`]), the others each in their file. [`state`] and
//! [`weights`] say where things lie, [`plan`] reuses the arena by liveness. What has no kernel form yet is an error
//! with the node's origin, never a wrong result.

mod access;
mod alike;
mod branch;
mod cache;
mod caches;
mod control;
mod convert;
mod driver;
mod elementwise;
mod emit;
mod entry_products;
mod eval;
mod float_rows;
mod graph;
mod growing;
mod heads;
mod import;
mod index;
mod inline;
mod int8_blocks;
mod kernels;
mod launch;
mod linear;
mod loops;
mod plan;
mod product;
mod quantised;
mod reduce;
mod rounds;
mod stages;
pub mod state;
mod store;
mod top_k;
pub mod weights;

#[cfg(test)]
mod tests;

pub use elementwise::Math;
pub use state::StateLayout;
pub use weights::WeightLayout;

use crate::ir::{Elem, Module, OriginId};
use crate::kernel::program::Program;
use crate::weights::Section;

/// Something that has no compiled form yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not yet compiled: {what}")]
pub struct NotCompiled {
    /// The node that wants it.
    pub origin: OriginId,
    pub what: String,
}

/// What a program is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most rows of one call.
    pub max_rows: usize,
    /// Entries that a growing axis without a bound of its own has room for.
    pub max_context: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options { max_rows: 64, max_context: 4096 }
    }
}

/// An input or output of an entry in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub elem: Elem,
    pub shape: Vec<usize>,
    /// Bytes from one row to the next, a multiple of 64.
    pub stride: u64,
}

/// A choice that rows make: those that take a branch are gathered, and the branch runs on them alone. Its entry tallies
/// the rows that took the first branch, and right after them the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The node.
    pub origin: OriginId,
    /// Whether the branches do work of their own: products, or the advance of a state.
    pub works: [bool; 2],
}

/// A program with what surrounds it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lowered {
    pub program: Program,
    pub states: StateLayout,
    pub weights: WeightLayout,
    /// Per entry, its inputs in order.
    pub inputs: Vec<Vec<Port>>,
    /// Per entry, its outputs in order.
    pub outputs: Vec<Vec<Port>>,
    /// Per entry, the choices in order of their tallies.
    pub choices: Vec<Vec<Choice>>,
    /// Launches whose kernels were made for them. Others have those of a launch that is alike.
    pub made: usize,
    /// Messages of checks; an entry that returns n failed with message n - 1.
    pub messages: Vec<String>,
}

/// Lowers all entries of a module that the passes have lifted over time and fused.
pub fn lower(module: &Module, options: &Options) -> Result<Lowered, NotCompiled> {
    lower_over(module, options, Section::of(&module.weights))
}

/// As [`lower`], for weights that lie in a section of another order.
pub fn lower_over(module: &Module, options: &Options, section: Section) -> Result<Lowered, NotCompiled> {
    driver::lower(module, options, section)
}
