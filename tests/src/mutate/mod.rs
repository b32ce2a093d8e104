//! Hostile inputs, and what is done with them: whatever is read of one, an error is fine, and so is a model that runs
//! with the bits of the interpreter. A panic, a signal, an answer that takes too long and memory beyond the limit are
//! faults.
//!
//! A mutant is an input that works ([`corpus`]) with a few edits, all drawn from one seed. Edits know the form of what
//! they change ([`words`], [`json`], [`pickle`], [`archive`], [`bytes`]), and checksums are made right behind them, so
//! that many mutants pass the first readers. There is one file per kind of input ([`package`], [`printed`], [`graph`],
//! [`config`], [`checkpoint`], [`tokenizer`]). A process of its own tries them ([`worker`], [`drive`]) while another
//! watches ([`supervise`]); [`search`] does so with many, and undoes the edits that a fault does not need.

pub mod archive;
pub mod bytes;
pub mod checkpoint;
pub mod config;
pub mod corpus;
pub mod drive;
pub mod graph;
pub mod json;
pub mod outcome;
pub mod package;
pub mod pickle;
pub mod printed;
pub mod search;
pub mod supervise;
pub mod tokenizer;
pub mod words;
pub mod worker;

use serde::{Deserialize, Serialize};

use crate::programs::dice::Dice;

/// Files by name.
pub type Files = Vec<(String, Vec<u8>)>;

/// A kind of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
pub enum Kind {
    /// A package.
    Package,
    /// The printed graph of a package.
    Printed,
    /// A graph file.
    Graph,
    /// A config.
    Config,
    /// A checkpoint.
    Checkpoint,
    /// A tokenizer file.
    Tokenizer,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 6] =
        [Kind::Package, Kind::Printed, Kind::Graph, Kind::Config, Kind::Checkpoint, Kind::Tokenizer];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Package => "package",
            Kind::Printed => "printed",
            Kind::Graph => "graph",
            Kind::Config => "config",
            Kind::Checkpoint => "checkpoint",
            Kind::Tokenizer => "tokenizer",
        }
    }
}

/// How a mutant is taken.
#[derive(Clone, Debug)]
pub enum Load {
    /// As the package `p.sterna`.
    Package,
    /// As the graph `m.ir`, around which a package is made.
    Printed {
        /// Of its weights.
        seed: u64,
    },
    /// As the config `c.json`.
    Config {
        /// The graph that is named.
        model: Option<String>,
        /// Whether graph files lie beside it.
        graphs: bool,
        /// The checkpoint; random weights without one.
        weights: Option<String>,
        /// The one of [`corpus::checkpoints`] whose config it is, if nothing but the weights is another.
        base: Option<usize>,
        /// Whether there is a map of names, `r.json`.
        rename: bool,
    },
    /// As `tokenizer.json`.
    Tokenizer,
}

/// An input to try.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// All files.
    pub files: Files,
    /// What is done with them.
    pub load: Load,
}

/// An input under edits.
pub trait Subject {
    /// Changes something.
    fn edit(&mut self, dice: &mut Dice);
    /// The files.
    fn finish(self: Box<Self>) -> Mutant;
}

/// Edits of one mutant at most.
pub const EDITS: u32 = 6;

/// The mutant of a seed, without the edits whose bits are set in `undone`; and how many edits there were.
pub fn make(kind: Kind, seed: u64, undone: u64) -> (Mutant, u32) {
    let mut dice = Dice::new(seed);
    let mut subject: Box<dyn Subject> = match kind {
        Kind::Package => Box::new(package::Package::pick(&mut dice)),
        Kind::Printed => Box::new(printed::Printed::pick(&mut dice)),
        Kind::Graph => Box::new(graph::Graph::pick(&mut dice)),
        Kind::Config => Box::new(config::Config::pick(&mut dice)),
        Kind::Checkpoint => Box::new(checkpoint::Checkpoint::pick(seed, &mut dice)),
        Kind::Tokenizer => Box::new(tokenizer::Tokenizer::pick(&mut dice)),
    };
    let mut edits = 1;
    while edits < EDITS && dice.chance(45) {
        edits += 1;
    }
    for edit in 0..edits {
        let mut own = Dice::new(dice.bits());
        if undone >> edit & 1 == 0 {
            subject.edit(&mut own);
        }
    }
    (subject.finish(), edits)
}
