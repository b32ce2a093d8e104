//! Walks a [`Program`] with the kernel interpreter, so that a program can be checked without machine code.

use super::interp::memory::{Memory, Pointer, Region, Trap};
use super::interp::race::Watch;
use super::interp::{self, Slot};
use super::program::{Arg, Base, Count, Driver, LoopVar, Program, RowsId, Step, TALLIES, Work};
use super::prove::Proven;

/// The buffers of one call, as slices. Sizes include the padding that the ABI asks for.
#[derive(Debug)]
pub struct Buffers<'a> {
    /// The weights image.
    pub weights: &'a [u8],
    /// The state blocks.
    pub state: &'a mut [u8],
    /// Bytes between the state blocks of the rows, or 0 for one stream.
    pub state_stride: u64,
    /// The scratch arena.
    pub scratch: &'a mut [u8],
    /// Inputs of the entry.
    pub inputs: Vec<&'a [u8]>,
    /// Outputs of the entry.
    pub outputs: Vec<&'a mut [u8]>,
    /// Positions of the rows.
    pub position: &'a [u8],
    /// Rows of the call.
    pub rows: u32,
}

/// How the walk splits and orders parallel work; results must not depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Each launch is one call.
    #[default]
    Whole,
    /// Parallel launches run chunk by chunk, the last chunk first.
    ReversedChunks,
    /// As `ReversedChunks`, and a launch whose result depends on its splitting or that changes what it reads as
    /// constant is an error. Slow.
    Watched,
}

/// Runs an entry. Gives the status code that a compiled entry would return.
///
/// # Errors
/// A [`Trap`] with the kernel's name where an access leaves its buffer or a kernel is not what it should be.
pub fn run(program: Proven<'_>, entry: &Driver, buffers: Buffers<'_>, order: Order) -> Result<i32, Trap> {
    let inputs = buffers.inputs.len();
    let mut regions = vec![
        Region::Ro(buffers.weights),
        Region::Rw(buffers.state),
        Region::Rw(buffers.scratch),
        Region::Ro(buffers.position),
    ];
    regions.extend(buffers.inputs.into_iter().map(Region::Ro));
    regions.extend(buffers.outputs.into_iter().map(Region::Rw));
    let mut rows = vec![0; program.row_counts.max(1) as usize];
    rows[0] = i64::from(buffers.rows);
    let mut walk = Walk {
        program: &program,
        memory: Memory { regions, watch: None },
        inputs,
        state_stride: buffers.state_stride,
        rows,
        vars: vec![0; program.loop_vars as usize],
        order,
    };
    if let Some(offset) = program.status_offset {
        walk.scratch(offset)?.copy_from_slice(&[0; 4]);
    }
    for tally in 0..entry.tallies {
        walk.scratch(TALLIES + 4 * u64::from(tally))?.fill(0);
    }
    walk.steps(&entry.steps)?;
    match program.status_offset {
        Some(offset) => walk.scratch(offset).map(word),
        None => Ok(0),
    }
}

fn word(bytes: &mut [u8]) -> i32 {
    i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

const FIRST_INPUT: usize = 4;

struct Walk<'p, 'a> {
    program: &'p Program,
    memory: Memory<'a>,
    inputs: usize,
    state_stride: u64,
    rows: Vec<i64>,
    vars: Vec<i64>,
    order: Order,
}

impl Walk<'_, '_> {
    fn scratch(&mut self, offset: u64) -> Result<&mut [u8], Trap> {
        self.memory.write(Pointer { region: 2, offset: offset as i64 }, 0, 4)
    }

    fn rows(&self, rows: RowsId) -> i64 {
        self.rows[rows.0 as usize]
    }

    fn var(&self, var: LoopVar) -> i64 {
        self.vars[var.0 as usize]
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), Trap> {
        for step in steps {
            match step {
                Step::Launch { kernel, args, work } => {
                    self.launch(kernel.0 as usize, args, *work)?;
                }
                Step::LoadRows { into, offset } => {
                    let count = i64::from(word(self.scratch(*offset)?));
                    self.rows[into.0 as usize] = count.clamp(0, i64::from(self.program.max_rows));
                }
                Step::Tally { rows, tally } => {
                    let rows = self.rows(*rows) as i32;
                    let cell = self.scratch(TALLIES + 4 * u64::from(*tally))?;
                    let sum = word(cell).wrapping_add(rows);
                    cell.copy_from_slice(&sum.to_le_bytes());
                }
                Step::IfRows { rows, body } => {
                    if self.rows(*rows) != 0 {
                        self.steps(body)?;
                    }
                }
                Step::Loop { var, first, end, rows, body } => {
                    for index in *first..*end {
                        if rows.is_some_and(|rows| self.rows(rows) == 0) {
                            break;
                        }
                        self.vars[var.0 as usize] = i64::from(index);
                        self.steps(body)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn launch(&mut self, kernel: usize, args: &[Arg], work: Work) -> Result<(), Trap> {
        let kernel = &self.program.kernels[kernel];
        let slots: Vec<Slot> = args.iter().map(|arg| self.slot(arg)).collect();
        let units = i64::from(work.per) * work.rows.map_or(1, |rows| self.rows(rows));
        let units =
            i32::try_from(units).map_err(|_| Trap::Invalid(format!("kernel {}: too many units", kernel.name)))?;
        let grain = match self.order {
            Order::ReversedChunks | Order::Watched if work.grain > 0 => work.chunk(units.max(0) as u32) as i32,
            _ => units.max(1),
        };
        let mut starts: Vec<i32> = (0..units).step_by(grain as usize).collect();
        starts.reverse();
        self.memory.watch = (self.order == Order::Watched).then(Watch::default);
        for begin in starts {
            let end = begin.saturating_add(grain).min(units);
            if let Some(watch) = &mut self.memory.watch {
                watch.chunk = begin as u32;
            }
            interp::run(kernel, &mut self.memory, &slots, begin, end)
                .map_err(|trap| Trap::Invalid(format!("kernel {} ({begin}..{end}): {trap}", kernel.name)))?;
        }
        match self.memory.watch.take().map_or(Ok(()), Watch::finish) {
            Ok(()) => Ok(()),
            Err(conflict) => Err(Trap::Invalid(format!("kernel {}: {conflict}", kernel.name))),
        }
    }

    fn slot(&self, arg: &Arg) -> Slot {
        match arg {
            Arg::Count(Count::Const(value)) => Slot::Count(*value),
            Arg::Count(Count::Rows(rows)) => Slot::Count(self.rows(*rows)),
            Arg::Count(Count::StateStride) => Slot::Count(self.state_stride as i64),
            Arg::Count(Count::LoopVar(var)) => Slot::Count(self.var(*var)),
            Arg::Pointer { base, offset, scaled, .. } => {
                let region = match base {
                    Base::Weights => 0,
                    Base::State => 1,
                    Base::Scratch => 2,
                    Base::Position => 3,
                    Base::Input(index) => FIRST_INPUT + *index as usize,
                    Base::Output(index) => FIRST_INPUT + self.inputs + *index as usize,
                };
                let moved: i64 = scaled.iter().map(|(var, stride)| self.var(*var) * *stride as i64).sum();
                Slot::Pointer(Pointer { region, offset: *offset as i64 + moved })
            }
        }
    }
}
