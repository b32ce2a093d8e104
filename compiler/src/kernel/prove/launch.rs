//! The launches of a program with what surrounds each: loops of the driver, row counts that are known to be positive,
//! and the allocations that arguments point into.

use super::analysis::{Given, Setting, Window};
use super::number::{Linear, RowRanges, SYMBOLS};
use crate::kernel::ir::STRIP_BYTES;
use crate::kernel::program::{Arg, Base, Count, Driver, Extent, KernelId, LoopVar, Program, RowsId, Step, Work};

/// Bytes behind a buffer that may be loaded, though never used (spec/abi.md).
const PADDING: i128 = STRIP_BYTES as i128;

/// A launch with what surrounds it.
pub(super) struct Launch<'p> {
    pub entry: &'p Driver,
    pub kernel: KernelId,
    args: &'p [Arg],
    work: Work,
    /// The loops around it: first and last index.
    loops: Vec<(LoopVar, i32, i32)>,
    /// Row counts that are not 0 here.
    positive: Vec<RowsId>,
}

/// All launches that can happen, in order of the steps.
pub(super) fn launches(program: &Program) -> Vec<Launch<'_>> {
    let mut all = Vec::new();
    for entry in &program.entries {
        let mut walk = Walk { entry, loops: Vec::new(), positive: vec![RowsId::CONTEXT], all: &mut all };
        walk.steps(&entry.steps);
    }
    all
}

struct Walk<'p, 'a> {
    entry: &'p Driver,
    loops: Vec<(LoopVar, i32, i32)>,
    positive: Vec<RowsId>,
    all: &'a mut Vec<Launch<'p>>,
}

impl<'p> Walk<'p, '_> {
    fn steps(&mut self, steps: &'p [Step]) {
        for step in steps {
            match step {
                Step::Launch { kernel, args, work } => self.all.push(Launch {
                    entry: self.entry,
                    kernel: *kernel,
                    args,
                    work: *work,
                    loops: self.loops.clone(),
                    positive: self.positive.clone(),
                }),
                Step::LoadRows { into, .. } => self.positive.retain(|rows| rows != into),
                Step::Tally { .. } => {}
                Step::IfRows { rows, body } => self.inside(Some(*rows), body),
                Step::Loop { var, first, end, rows, body } if end > first => {
                    self.loops.push((*var, *first, *end - 1));
                    // A count that the body loads is not what it was when the loop began.
                    self.positive.retain(|rows| !loads(body, *rows));
                    self.inside(*rows, body);
                    self.loops.pop();
                }
                Step::Loop { .. } => {}
            }
        }
    }

    fn inside(&mut self, rows: Option<RowsId>, body: &'p [Step]) {
        let mut before = self.positive.clone();
        self.positive.extend(rows);
        self.steps(body);
        before.retain(|rows| !loads(body, *rows));
        self.positive = before;
    }
}

/// Whether steps set a row count.
fn loads(steps: &[Step], rows: RowsId) -> bool {
    steps.iter().any(|step| match step {
        Step::LoadRows { into, .. } => *into == rows,
        Step::IfRows { body, .. } | Step::Loop { body, .. } => loads(body, rows),
        Step::Launch { .. } | Step::Tally { .. } => false,
    })
}

impl Launch<'_> {
    /// What the kernel is to be analysed for.
    ///
    /// # Errors
    /// The argument, and why it says nothing.
    pub fn setting(&self, program: &Program) -> Result<Setting, (usize, String)> {
        let counted = self.args.iter().filter_map(|arg| match arg {
            Arg::Count(Count::Rows(rows)) => Some(*rows),
            _ => None,
        });
        let mut symbols: Vec<RowsId> = Vec::new();
        for rows in counted.chain(self.work.rows) {
            if !symbols.contains(&rows) {
                symbols.push(rows);
            }
        }
        // Buffers of the call have the context's rows.
        symbols.sort_unstable();
        let most = i128::from(program.max_rows);
        let lowest = |rows: RowsId| i128::from(self.positive.contains(&rows)).min(most);
        let mut ranges = RowRanges([(0, 0); SYMBOLS]);
        for (range, &rows) in ranges.0.iter_mut().zip(&symbols) {
            *range = (lowest(rows), most);
        }
        let symbol = |rows: RowsId| symbols.iter().take(SYMBOLS).position(|&known| known == rows);
        let per = i128::from(self.work.per);
        let units = match self.work.rows {
            None => Linear::constant(per),
            Some(rows) => match symbol(rows) {
                Some(symbol) => Linear::rows(symbol, per),
                None => Linear::constant(per * most),
            },
        };
        let mut given = Vec::new();
        for (i, arg) in self.args.iter().enumerate() {
            given.push(match arg {
                Arg::Pointer { base, offset, scaled, extent } => {
                    let window = self.window(program, *base, *offset, scaled, *extent, symbol(RowsId::CONTEXT));
                    Given::Pointer(window.map_err(|reason| (i, reason))?)
                }
                Arg::Count(Count::Const(value)) => Given::Count(*value, *value),
                Arg::Count(Count::Rows(rows)) => match symbol(*rows) {
                    Some(symbol) => Given::Rows(symbol),
                    None => Given::Count(lowest(*rows) as i64, most as i64),
                },
                Arg::Count(Count::StateStride) => Given::Stride,
                Arg::Count(Count::LoopVar(var)) => {
                    let (first, last) = self.indices(*var).map_err(|reason| (i, reason))?;
                    Given::Count(first, last)
                }
            });
        }
        Ok(Setting { given, units, ranges })
    }

    fn indices(&self, var: LoopVar) -> Result<(i64, i64), String> {
        let found = self.loops.iter().find(|(open, ..)| *open == var);
        let (_, first, last) = found.ok_or("its loop is not open")?;
        Ok((i64::from(*first), i64::from(*last)))
    }

    /// What a pointer may reach. `context` is the context's row count among the launch's.
    fn window(
        &self,
        program: &Program,
        base: Base,
        offset: u64,
        scaled: &[(LoopVar, u64)],
        extent: Option<Extent>,
        context: Option<usize>,
    ) -> Result<Window, String> {
        let row = |bytes: u64| match context {
            Some(symbol) => Linear::rows(symbol, i128::from(bytes)),
            // There is at least one row.
            None => Linear::constant(i128::from(bytes)),
        };
        let port = |list: &[u64], index: u32| list.get(index as usize).copied().ok_or("its port does not exist");
        let size = match base {
            Base::Weights => Linear::constant(i128::from(program.weight_bytes)),
            Base::State => Linear::constant(i128::from(self.entry.state_bytes)),
            Base::Scratch => Linear::constant(i128::from(program.scratch_bytes)),
            Base::Input(index) => row(port(&self.entry.input_bytes, index)?),
            Base::Output(index) => row(port(&self.entry.output_bytes, index)?),
            Base::Position => row(4),
        };
        let mut first = i128::from(offset);
        let mut last = first;
        let mut power = (STRIP_BYTES as u64 | offset).trailing_zeros();
        for (var, stride) in scaled {
            let (lo, hi) = self.indices(*var)?;
            first += i128::from(lo) * i128::from(*stride);
            last += i128::from(hi) * i128::from(*stride);
            power = power.min((STRIP_BYTES as u64 | stride).trailing_zeros());
        }
        let (start, end) = match extent {
            None => (0, size),
            Some(Extent { start, end }) => {
                let inside = size.is_constant() && start <= end && i128::from(end) <= size.constant;
                if !inside {
                    return Err(format!("its extent {start}..{end} leaves its buffer"));
                }
                (i128::from(start), Linear::constant(i128::from(end)))
            }
        };
        let writable = !matches!(base, Base::Weights | Base::Input(_) | Base::Position);
        let end = end.add(-last);
        let last_block = match (base, context) {
            (Base::State, Some(symbol)) => Some(Linear::rows(symbol, 1).add(-1)),
            (Base::State, None) => Some(Linear::constant(0)),
            _ => None,
        };
        Ok(Window {
            start: start - first,
            reads: end.add(PADDING),
            writes: if writable { end } else { Linear::constant(0) },
            power,
            last_block,
        })
    }
}
