//! One kernel for one launch: every operation once or more, with what is known of each integer and pointer, and a
//! judgement of each access.

use rustc_hash::FxHashMap;

use super::arithmetic::{binary, shift};
use super::number::{Linear, Number, RowRanges};
use crate::kernel::ir::{Block, Inst, Kernel, LANES, Mem, Op, Reduce, STRIP_BYTES, Shift, Type, Value};
use crate::kernel::print::op_name;
use crate::kernel::typing::nested;
use crate::kernel::verify::{Root, roots};

/// Operations that are looked at for one launch, repetitions of loop bodies included. The largest kernels take a few
/// ten thousand.
const MOST_STEPS: u64 = 4_000_000;
/// A multiple of 64 is what a pointer to a strip of bytes must be.
const STRIP_POWER: u32 = STRIP_BYTES.trailing_zeros();
/// Failures of one kernel that are told.
const MOST_FAILURES: usize = 16;

/// What a launch gives for a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Given {
    Pointer(Window),
    /// A count between two numbers, both included.
    Count(i64, i64),
    /// One of the launch's row counts.
    Rows(usize),
    /// The distance of state blocks.
    Stride,
}

/// Where accesses through a pointer may lie, in bytes from where it points.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Window {
    pub start: i128,
    /// One past the last byte that may be read.
    pub reads: Linear,
    /// One past the last byte that may be written.
    pub writes: Linear,
    /// The pointer is a multiple of two to this power.
    pub power: u32,
    /// The last state block that it may be moved to; none if it points to no state.
    pub last_block: Option<Linear>,
}

/// What a kernel is analysed for: all of a launch that matters for its accesses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Setting {
    pub given: Vec<Given>,
    /// Work units, at most.
    pub units: Linear,
    pub ranges: RowRanges,
}

/// An access that could not be shown to stay inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub operation: String,
    /// None of a stack buffer.
    pub parameter: Option<usize>,
    pub reason: String,
}

/// What an analysis found.
#[derive(Clone, Debug, Default)]
pub(super) struct Judgement {
    /// Accesses that were judged.
    pub accesses: usize,
    pub failures: Vec<Failure>,
}

/// What every analysis of a kernel needs of it.
pub(super) struct Facts<'k> {
    pub kernel: &'k Kernel,
    /// The operation that defines a value; none of loop indices and carried values.
    pub definitions: Vec<Option<&'k Inst>>,
    roots: Vec<Option<Root>>,
}

impl<'k> Facts<'k> {
    /// The facts of a verified kernel.
    pub fn new(kernel: &'k Kernel) -> Facts<'k> {
        fn collect<'k>(block: &'k Block, definitions: &mut Vec<Option<&'k Inst>>) {
            for inst in &block.insts {
                for result in &inst.results {
                    definitions[result.index()] = Some(inst);
                }
                for inner in nested(&inst.op) {
                    collect(inner, definitions);
                }
            }
        }
        let mut definitions = vec![None; kernel.values.len()];
        collect(&kernel.body, &mut definitions);
        Facts { kernel, definitions, roots: roots(kernel).expect("the kernel was verified") }
    }
}

/// An analysis under way.
pub(super) struct Analysis<'k> {
    pub facts: &'k Facts<'k>,
    pub setting: &'k Setting,
    numbers: Vec<Number>,
    /// Whether a value is what exact arithmetic gives, because nothing wrapped.
    exact: Vec<bool>,
    /// Start, end and step of the loop that an index belongs to.
    pub indices: FxHashMap<Value, (Value, Value, i128)>,
    /// What a loop adds to a carried value in all its rounds.
    pub advances: FxHashMap<Value, (i128, i128)>,
    /// Whether accesses count: bodies of loops are also run to learn what a round changes.
    pub recording: bool,
    judgement: Judgement,
    steps: u64,
}

/// Analyses a kernel for a launch.
pub(super) fn analyse(facts: &Facts<'_>, setting: &Setting) -> Judgement {
    let kernel = facts.kernel;
    let mut analysis = Analysis {
        facts,
        setting,
        numbers: kernel.values.iter().map(|&ty| Number::any(ty)).collect(),
        exact: vec![false; kernel.values.len()],
        indices: FxHashMap::default(),
        advances: FxHashMap::default(),
        recording: true,
        judgement: Judgement::default(),
        steps: 0,
    };
    analysis.block(&kernel.body);
    if analysis.steps >= MOST_STEPS {
        let reason = format!("the kernel takes more than {MOST_STEPS} steps to look at");
        analysis.judgement.failures.push(Failure { operation: "body".into(), parameter: None, reason });
    }
    analysis.judgement
}

impl<'k> Analysis<'k> {
    pub fn number(&self, value: Value) -> Number {
        self.numbers[value.index()]
    }

    /// Whether exact arithmetic on its operands gives the value.
    pub fn is_exact(&self, value: Value) -> bool {
        self.exact[value.index()]
    }

    pub fn ty(&self, value: Value) -> Type {
        self.facts.kernel.ty(value)
    }

    pub fn set(&mut self, value: Value, number: Number) {
        let (number, exact) = number.within(self.ty(value), &self.setting.ranges);
        self.numbers[value.index()] = number;
        self.exact[value.index()] = exact;
    }

    pub fn block(&mut self, block: &'k Block) {
        for inst in &block.insts {
            self.steps += 1;
            if self.steps >= MOST_STEPS {
                return;
            }
            self.inst(inst);
        }
    }

    fn inst(&mut self, inst: &'k Inst) {
        match &inst.op {
            Op::Loop { step, body } => self.loop_over(inst, i128::from(*step), body),
            Op::If { then, otherwise } => {
                self.block(then);
                self.block(otherwise);
                for (i, &result) in inst.results.iter().enumerate() {
                    let (a, b) = (self.number(then.yields[i]), self.number(otherwise.yields[i]));
                    self.set(result, a.join(b, &self.setting.ranges));
                }
            }
            _ => {
                self.accesses(inst);
                if let [result] = inst.results[..]
                    && matches!(self.ty(result), Type::N | Type::I | Type::L | Type::P)
                {
                    let number = self.result(inst, self.ty(result));
                    self.set(result, number);
                    self.sharpen(inst, result);
                } else {
                    for &result in &inst.results {
                        self.set(result, Number::any(self.ty(result)));
                    }
                }
            }
        }
    }

    /// What an operation with one integer or pointer as its result gives.
    fn result(&self, inst: &Inst, ty: Type) -> Number {
        let arg = |i: usize| self.number(inst.args[i]);
        let ranges = &self.setting.ranges;
        match &inst.op {
            Op::Param(index) => match &self.setting.given[*index as usize] {
                Given::Pointer(window) => Number::exactly(0).congruent(window.power, 0),
                _ => Number::any(ty),
            },
            Op::Stack(_) => Number::exactly(0).congruent(STRIP_POWER, 0),
            Op::Count(index) | Op::CountL(index) => match self.setting.given[*index as usize] {
                Given::Count(lo, hi) => Number::range(i128::from(lo), i128::from(hi)),
                Given::Rows(symbol) => Number::rows(symbol, ranges),
                Given::Stride if ty == Type::L => Number::stride(),
                _ => Number::any(ty),
            },
            Op::Begin | Op::End => self.unit(inst.op == Op::Begin),
            Op::ConstI(value) | Op::ConstN(value) => Number::exactly(i128::from(*value)),
            Op::ConstL(value) => Number::exactly(i128::from(*value)),
            Op::Iota => Number::range(0, LANES as i128 - 1),
            Op::LaneMask | Op::MaskBits | Op::Compare(_) => Number::range(-1, 0),
            Op::Load { mem, .. } => match mem {
                Mem::I8 | Mem::I8x16 => Number::range(-128, 127),
                Mem::U8 | Mem::U8x16 => Number::range(0, 255),
                Mem::U16 | Mem::U16x16 => Number::range(0, 65535),
                _ => Number::any(ty),
            },
            Op::Offset(bytes) => arg(0).plus(Number::exactly(i128::from(*bytes))),
            Op::Index(scale) => arg(0).plus(arg(1).times(i128::from(*scale))),
            Op::OffsetBy => arg(0).plus(arg(1)),
            Op::Binary(op) => binary(*op, arg(0), arg(1), ty, ranges),
            Op::Shift(op, amount) => shift(*op, arg(0), u32::from(*amount), ty),
            Op::ShiftBy(op) => {
                let width = if ty == Type::L { 64 } else { 32 };
                match (arg(1).known(), op, arg(0)) {
                    (Some(amount), op, x) => shift(*op, x, amount.rem_euclid(width) as u32, ty),
                    (None, Shift::RightS | Shift::RightU, x) if x.lo >= 0 && !x.has_strides() => Number::range(0, x.hi),
                    _ => Number::any(ty),
                }
            }
            Op::Select => match (arg(0), arg(1), arg(2)) {
                (condition, _, _) if ty == Type::I && !condition.is_mask() => Number::any(ty),
                (condition, x, y) => match condition.known() {
                    Some(0) => y,
                    Some(_) => x,
                    None => x.join(y, ranges),
                },
            },
            Op::Extend(signed) if *signed || arg(0).lo >= 0 => arg(0),
            Op::Extend(_) => Number::range(0, i128::from(u32::MAX)),
            Op::Truncate if arg(0).has_strides() => Number::any(ty),
            Op::Truncate => arg(0).within(ty, ranges).0,
            Op::Splat => arg(0),
            Op::Reduce(Reduce::IMin | Reduce::IMax) => arg(0),
            Op::Reduce(Reduce::IAdd) => arg(0).times(LANES as i128).interval(),
            _ => Number::any(ty),
        }
    }

    /// The first work unit of a call, or one past its last.
    fn unit(&self, first: bool) -> Number {
        let ranges = &self.setting.ranges;
        let units = self.setting.units;
        // A call without units begins and ends at 0; no other call has an empty range.
        let some = ranges.least(units) >= 1;
        if !first {
            return Number { above: Some(units), ..Number::range(i128::from(some), ranges.most(units)) };
        }
        let last = units.add(-1);
        let above = some.then_some(last);
        Number { above, ..Number::range(0, ranges.most(last).max(0)) }
    }

    /// Judges the accesses of an operation.
    fn accesses(&mut self, inst: &Inst) {
        if !self.recording {
            return;
        }
        let power = |mem: &Mem| if *mem == Mem::Bytes64 { STRIP_POWER } else { 0 };
        let access = |argument: usize, offset: i128, bytes: i128, writes: bool, power: u32| Access {
            pointer: inst.args[argument],
            offset,
            bytes,
            writes,
            power,
        };
        let strip = STRIP_BYTES as i128;
        let list = match &inst.op {
            Op::Load { mem, offset } => {
                vec![access(0, i128::from(*offset), mem.bytes() as i128, false, power(mem))]
            }
            Op::Store { mem, offset } => {
                vec![access(0, i128::from(*offset), mem.bytes() as i128, true, power(mem))]
            }
            Op::StoreFirst { mem, offset } => {
                let most = self.number(inst.args[2]).hi.clamp(0, LANES as i128);
                vec![access(0, i128::from(*offset), most * mem.element_bytes() as i128, true, 0)]
            }
            Op::DotRows(dot) => {
                let blocks = i128::from(dot.blocks);
                let row = blocks * dot.packing.fields() as i128 * strip;
                let vectors = i128::from(dot.tokens - 1) * i128::from(dot.stride) + row;
                vec![
                    access(0, 0, LANES as i128 * strip * blocks, false, STRIP_POWER),
                    access(1, 0, vectors, false, STRIP_POWER),
                ]
            }
            Op::FloatRows(rows) => {
                let strips =
                    i128::from(rows.columns).div_euclid(LANES as i128) + i128::from(rows.columns % LANES as u32 > 0);
                let row = strips * rows.element.strip_bytes() as i128;
                let weights = (LANES as i128 - 1) * i128::from(rows.row_stride) + row;
                let vectors = i128::from(rows.tokens - 1) * i128::from(rows.stride) + strips * strip;
                vec![access(0, 0, weights, false, 0), access(1, 0, vectors, false, 0)]
            }
            _ => return,
        };
        for access in list {
            self.judgement.accesses += 1;
            if let Err(reason) = self.judge(&access)
                && self.judgement.failures.len() < MOST_FAILURES
            {
                let operation = match inst.results.first() {
                    Some(result) => format!("{result} = {} {}", op_name(&inst.op), access.pointer),
                    None => format!("{} {}", op_name(&inst.op), access.pointer),
                };
                let parameter = match self.facts.roots[access.pointer.index()] {
                    Some(Root::Param(index)) => Some(index as usize),
                    _ => None,
                };
                self.judgement.failures.push(Failure { operation, parameter, reason });
            }
        }
    }

    fn judge(&self, access: &Access) -> Result<(), String> {
        let window = match self.facts.roots[access.pointer.index()] {
            Some(Root::Param(index)) => match &self.setting.given[index as usize] {
                Given::Pointer(window) => window.clone(),
                _ => return Err("its argument is no pointer".into()),
            },
            Some(Root::Stack(buffer)) => {
                let bytes = match self.facts.definitions[buffer.index()].map(|inst| &inst.op) {
                    Some(Op::Stack(bytes)) => Linear::constant(i128::from(*bytes)),
                    _ => return Err("its stack buffer is unknown".into()),
                };
                Window { start: 0, reads: bytes, writes: bytes, power: STRIP_POWER, last_block: None }
            }
            None => return Err("its pointer has no root".into()),
        };
        if access.bytes == 0 {
            return Ok(());
        }
        let ranges = &self.setting.ranges;
        let at = self.number(access.pointer).plus(Number::exactly(access.offset));
        if !at.is_congruent(access.power, 0) {
            return Err(format!("its distance may be no multiple of {}", 1 << access.power));
        }
        let end = if access.writes { window.writes } else { window.reads };
        let last = end.add(-access.bytes);
        let fits = at.hi <= ranges.least(last) || at.above.is_some_and(|above| ranges.dominates(last, above));
        if !fits && !self.is_at_most(access.pointer, access.offset, last) {
            return Err(format!("it may reach byte {} of {}", at.hi + access.bytes, ranges.least(end)));
        }
        if at.lo < window.start && !self.is_at_least(access.pointer, access.offset, window.start) {
            return Err(format!("it may begin at byte {}, before {}", at.lo, window.start));
        }
        match window.last_block {
            None if !at.has_strides() => Ok(()),
            None => Err("it moves by state blocks where there are none".into()),
            Some(last) => self.judge_blocks(access.pointer, &at, last),
        }
    }

    fn judge_blocks(&self, pointer: Value, at: &Number, last: Linear) -> Result<(), String> {
        let ranges = &self.setting.ranges;
        let (first, most) = at.strides;
        let fits = most <= ranges.least(last) || at.strides_above.is_some_and(|above| ranges.dominates(last, above));
        if (fits || self.blocks_are_at_most(pointer, last)) && (first >= 0 || self.blocks_are_not_negative(pointer)) {
            return Ok(());
        }
        Err(format!("it may lie in state block {first} to {most}"))
    }
}

/// An access that an operation makes.
struct Access {
    pointer: Value,
    offset: i128,
    bytes: i128,
    writes: bool,
    /// The address must be a multiple of two to this power.
    power: u32,
}
