//! A program: kernels and the drivers that launch them in order, with their arguments placed in memory.
//!
//! A driver is straight-line data too: launches, loops over iterations of the model's own `repeat`, and row
//! counts that a kernel wrote. It becomes one entry function `i32 entry(Context *)` of the ABI (spec/abi.md),
//! and [`super::run`] walks it without machine code.

use super::ir::{Kernel, ParamKind};

/// A kernel of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelId(pub u32);

/// A row count known only at run time. [`RowsId::CONTEXT`] is the context's `rows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowsId(pub u32);

impl RowsId {
    /// The number of rows of this call.
    pub const CONTEXT: RowsId = RowsId(0);
}

/// Where tallies begin in scratch: one u32 after the other, see [`Step::Tally`].
pub const TALLIES: u64 = 64;

/// The index of an enclosing [`Step::Loop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoopVar(pub u32);

/// Everything that runs: kernels, entries, and the memory they expect.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Program {
    /// The kernels; launches name them by place.
    pub kernels: Vec<Kernel>,
    /// The entries.
    pub entries: Vec<Driver>,
    /// Bytes of the weights image.
    pub weight_bytes: u64,
    /// Bytes of the scratch arena, for [`Program::max_rows`] rows.
    pub scratch_bytes: u64,
    /// The most rows of one call.
    pub max_rows: u32,
    /// How many [`RowsId`] there are, the context's included.
    pub row_counts: u32,
    /// How many [`LoopVar`] there are.
    pub loop_vars: u32,
    /// Scratch offset of the i32 that a kernel sets to a non-zero code on failure. Every entry clears it first
    /// and returns it.
    pub status_offset: Option<u64>,
}

/// One entry: what a call of it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Driver {
    /// The entry's name.
    pub name: String,
    /// Bytes of each input buffer for one row.
    pub input_bytes: Vec<u64>,
    /// Bytes of each output buffer for one row.
    pub output_bytes: Vec<u64>,
    /// Bytes of one stream's state block.
    pub state_bytes: u64,
    /// How many tallies its steps count in. The entry clears them first.
    pub tallies: u32,
    /// The steps in order.
    pub steps: Vec<Step>,
}

/// One step of a driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Runs a kernel.
    Launch {
        /// Which.
        kernel: KernelId,
        /// One per parameter of the kernel.
        args: Vec<Arg>,
        /// Its range of work units and how it may be split.
        work: Work,
    },
    /// Reads a row count, an i32 in scratch that an earlier kernel wrote. It is clamped to 0 .. `max_rows`.
    LoadRows {
        /// The count to set.
        into: RowsId,
        /// Scratch offset, 4-byte aligned.
        offset: u64,
    },
    /// Adds a row count to a tally, so that the host can see after the call how many rows took a branch.
    Tally {
        /// The count.
        rows: RowsId,
        /// Which of the entry's tallies.
        tally: u32,
    },
    /// Runs the body unless the count is 0.
    IfRows {
        /// The count.
        rows: RowsId,
        /// Steps.
        body: Vec<Step>,
    },
    /// Runs the body for `var` = first .. end, and stops early before an iteration when `rows` is 0.
    Loop {
        /// The index.
        var: LoopVar,
        /// First index.
        first: i32,
        /// One past the last index.
        end: i32,
        /// The count that stops the loop.
        rows: Option<RowsId>,
        /// Steps.
        body: Vec<Step>,
    },
}

/// Where a pointer argument starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// The weights image.
    Weights,
    /// The state of the first row's stream.
    State,
    /// The scratch arena.
    Scratch,
    /// An input buffer of the entry.
    Input(u32),
    /// An output buffer of the entry.
    Output(u32),
    /// The i32 position of each row.
    Position,
}

/// An allocation: bytes `start .. end` of a base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Its first byte.
    pub start: u64,
    /// One past its last byte.
    pub end: u64,
}

/// An argument of a launch.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// `base + offset + sum of index * stride`, in bytes.
    Pointer {
        /// Where it starts.
        base: Base,
        /// Constant offset.
        offset: u64,
        /// Enclosing loops' indices with their byte strides.
        scaled: Vec<(LoopVar, u64)>,
        /// The allocation that it points into and that [`super::prove`] keeps it in; none for the whole buffer.
        extent: Option<Extent>,
    },
    /// A count.
    Count(Count),
}

impl Arg {
    /// A pointer at a constant offset, into the whole of its buffer.
    pub fn at(base: Base, offset: u64) -> Arg {
        Arg::Pointer { base, offset, scaled: Vec::new(), extent: None }
    }

    /// A pointer to the start of an allocation.
    pub fn to(base: Base, extent: Extent) -> Arg {
        Arg::Pointer { base, offset: extent.start, scaled: Vec::new(), extent: Some(extent) }
    }

    /// A constant count.
    pub fn constant(value: i64) -> Arg {
        Arg::Count(Count::Const(value))
    }
}

/// A number known when the launch happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// A constant.
    Const(i64),
    /// A row count.
    Rows(RowsId),
    /// The context's `state_stride`: bytes between the state blocks of the rows, 0 for one stream.
    StateStride,
    /// The index of an enclosing loop.
    LoopVar(LoopVar),
}

/// The work units of a launch: the kernel is called on subranges of `0 .. per * rows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Units, or units per row.
    pub per: u32,
    /// Multiplies `per` where given.
    pub rows: Option<RowsId>,
    /// Units of one chunk at least; 0 keeps the whole range in one call on the calling thread.
    pub grain: u32,
    /// The most chunks there may be, 0 for any number. Chunks grow with the units, so that `begin / chunk` numbers
    /// them.
    pub pieces: u32,
}

impl Work {
    /// One call with the range 0 .. 1.
    pub const fn once() -> Work {
        Work { per: 1, rows: None, grain: 0, pieces: 0 }
    }

    /// One call with the range 0 .. units.
    pub const fn serial(per: u32, rows: Option<RowsId>) -> Work {
        Work { per, rows, grain: 0, pieces: 0 }
    }

    /// Chunks of `grain` units, run by any threads in any order.
    pub const fn parallel(per: u32, rows: Option<RowsId>, grain: u32) -> Work {
        Work { per, rows, grain: if grain == 0 { 1 } else { grain }, pieces: 0 }
    }

    /// As [`Work::parallel`], in `pieces` chunks at most: each is of `max(grain, ceil(units / pieces))` units.
    pub const fn in_pieces(per: u32, rows: Option<RowsId>, grain: u32, pieces: u32) -> Work {
        Work { pieces, ..Work::parallel(per, rows, grain) }
    }

    /// Units of one chunk of a launch of so many units.
    pub const fn chunk(&self, units: u32) -> u32 {
        let least = if self.pieces == 0 { 0 } else { units.div_ceil(self.pieces) };
        if least > self.grain { least } else { self.grain }
    }
}

impl Program {
    /// Checks that launches name existing kernels with fitting arguments, constant offsets lie inside their
    /// region, writable parameters never point into weights or inputs, counts and loop variables exist, and
    /// every kernel verifies. Collects all problems.
    pub fn verify(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        for kernel in &self.kernels {
            if let Err(list) = super::verify::verify(kernel) {
                problems.extend(list.into_iter().map(|problem| format!("kernel {}: {problem}", kernel.name)));
            }
        }
        if self.row_counts == 0 {
            problems.push("the context's row count is always there".into());
        }
        if self.status_offset.is_some_and(|offset| offset % 4 != 0 || offset + 4 > self.scratch_bytes) {
            problems.push("the status word is outside scratch".into());
        }
        for entry in &self.entries {
            if entry.tallies > 0 && TALLIES + 4 * u64::from(entry.tallies) > self.scratch_bytes {
                problems.push(format!("entry {}: its tallies are outside scratch", entry.name));
            }
            let mut check = Check { program: self, entry, loops: Vec::new(), problems: Vec::new() };
            check.steps(&entry.steps);
            problems.extend(check.problems.into_iter().map(|problem| format!("entry {}: {problem}", entry.name)));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

struct Check<'a> {
    program: &'a Program,
    entry: &'a Driver,
    loops: Vec<(LoopVar, i32)>,
    problems: Vec<String>,
}

impl Check<'_> {
    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Launch { kernel, args, work } => self.launch(*kernel, args, *work),
                Step::LoadRows { into, offset } => {
                    self.rows(*into);
                    if *into == RowsId::CONTEXT || offset % 4 != 0 || offset + 4 > self.program.scratch_bytes {
                        self.problems.push(format!("bad row count load into {into:?} from {offset}"));
                    }
                }
                Step::Tally { rows, tally } => {
                    self.rows(*rows);
                    if *tally >= self.entry.tallies {
                        self.problems.push(format!("tally {tally} does not exist"));
                    }
                }
                Step::IfRows { rows, body } => {
                    self.rows(*rows);
                    self.steps(body);
                }
                Step::Loop { var, first, end, rows, body } => {
                    if var.0 >= self.program.loop_vars || self.loops.iter().any(|(open, _)| open == var) || *first < 0 {
                        self.problems.push(format!("bad loop variable {var:?}"));
                    }
                    if let Some(rows) = rows {
                        self.rows(*rows);
                    }
                    self.loops.push((*var, (*end - 1).max(*first)));
                    self.steps(body);
                    self.loops.pop();
                }
            }
        }
    }

    fn rows(&mut self, rows: RowsId) {
        if rows.0 >= self.program.row_counts {
            self.problems.push(format!("{rows:?} does not exist"));
        }
    }

    fn launch(&mut self, id: KernelId, args: &[Arg], work: Work) {
        if let Some(rows) = work.rows {
            self.rows(rows);
        }
        let most = u64::from(work.per) * work.rows.map_or(1, |_| u64::from(self.program.max_rows));
        if most > i32::MAX as u64 || work.grain > i32::MAX as u32 {
            self.problems.push(format!("{most} work units in chunks of {}", work.grain));
        }
        let Some(kernel) = self.program.kernels.get(id.0 as usize) else {
            return self.problems.push(format!("{id:?} does not exist"));
        };
        if kernel.params.len() != args.len() {
            return self.problems.push(format!("kernel {} takes {} arguments", kernel.name, kernel.params.len()));
        }
        for (param, arg) in kernel.params.iter().zip(args) {
            let place = format!("argument {} of kernel {}", param.name, kernel.name);
            match arg {
                Arg::Count(count) => {
                    if param.kind != ParamKind::Count {
                        self.problems.push(format!("{place} is a pointer"));
                    }
                    match count {
                        Count::Rows(rows) => self.rows(*rows),
                        Count::LoopVar(var) if self.last(*var).is_none() => {
                            self.problems.push(format!("{place}: {var:?} is not open"));
                        }
                        _ => {}
                    }
                }
                Arg::Pointer { base, offset, scaled, .. } => self.pointer(&place, param.kind, *base, *offset, scaled),
            }
        }
    }

    fn last(&self, var: LoopVar) -> Option<i32> {
        self.loops.iter().find(|(open, _)| *open == var).map(|(_, last)| *last)
    }

    fn pointer(&mut self, place: &str, kind: ParamKind, base: Base, offset: u64, scaled: &[(LoopVar, u64)]) {
        let size = match base {
            Base::Weights => Some(self.program.weight_bytes),
            Base::State => Some(self.entry.state_bytes),
            Base::Scratch => Some(self.program.scratch_bytes),
            Base::Input(index) if (index as usize) < self.entry.input_bytes.len() => None,
            Base::Output(index) if (index as usize) < self.entry.output_bytes.len() => None,
            Base::Position => None,
            _ => {
                return self.problems.push(format!("{place}: {base:?} does not exist"));
            }
        };
        let constant = matches!(base, Base::Weights | Base::Input(_) | Base::Position);
        if kind == ParamKind::Count || (kind == ParamKind::Rw && constant) {
            self.problems.push(format!("{place}: {base:?} does not fit a {kind:?} parameter"));
        }
        let mut furthest = Some(offset);
        for (var, stride) in scaled {
            let Some(last) = self.last(*var) else {
                return self.problems.push(format!("{place}: {var:?} is not open"));
            };
            furthest = furthest.and_then(|at| at.checked_add(stride.checked_mul(last as u64)?));
        }
        match (furthest, size) {
            (Some(at), Some(size)) if at <= size => {}
            (Some(_), None) => {}
            _ => self.problems.push(format!("{place}: offset {offset} leaves {base:?}")),
        }
    }
}
