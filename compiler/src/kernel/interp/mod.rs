//! The meaning of kernels: an interpreter over bounds-checked buffers, the oracle of every target.

mod dot;
mod lanes;
pub mod memory;
pub mod race;
mod rows;

use super::ir::*;
use super::verify::Root;
use memory::{Memory, Pointer, Region, Trap};

/// A slot of the argument table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A pointer.
    Pointer(Pointer),
    /// A count.
    Count(i64),
}

/// Runs the work units `begin .. end` of a verified kernel.
///
/// # Errors
/// A [`Trap`] where the kernel leaves its buffers, stores into read-only memory, overflows a dot product, or
/// does not fit its arguments. The buffers then hold what was written so far.
pub fn run(kernel: &Kernel, memory: &mut Memory<'_>, args: &[Slot], begin: i32, end: i32) -> Result<(), Trap> {
    let fits = |(param, slot): (&Param, &Slot)| (param.kind == ParamKind::Count) == matches!(slot, Slot::Count(_));
    if args.len() != kernel.params.len() || !kernel.params.iter().zip(args).all(fits) {
        return Err(Trap::Invalid(format!("kernel {}: wrong arguments", kernel.name)));
    }
    let own = memory.regions.len();
    let cells = vec![Cell::N(0); kernel.values.len()];
    let roots = match memory.watch {
        Some(_) => super::verify::roots(kernel).map_err(Trap::Invalid)?,
        None => Vec::new(),
    };
    let mut machine = Machine { memory, args, begin, end, cells, kernel, roots };
    let result = machine.block(&kernel.body);
    memory.regions.truncate(own);
    result
}

/// What a value holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell {
    F([f32; LANES]),
    I([i32; LANES]),
    B([u8; STRIP_BYTES]),
    A(i32),
    S(f32),
    N(i32),
    L(i64),
    P(Pointer),
}

struct Machine<'m, 'a> {
    memory: &'m mut Memory<'a>,
    args: &'m [Slot],
    begin: i32,
    end: i32,
    cells: Vec<Cell>,
    kernel: &'m Kernel,
    /// Where pointers come from; only while accesses are watched.
    roots: Vec<Option<Root>>,
}

macro_rules! getters {
    ($($name:ident: $variant:ident -> $ty:ty;)*) => {
        impl Machine<'_, '_> {
            $(fn $name(&self, value: Value) -> Result<$ty, Trap> {
                match self.cells[value.index()] {
                    Cell::$variant(content) => Ok(content),
                    _ => Err(Trap::Invalid(format!("{value} has another type"))),
                }
            })*
        }
    };
}

getters! {
    b: B -> [u8; STRIP_BYTES];
    a: A -> i32;
    n: N -> i32;
    l: L -> i64;
    p: P -> Pointer;
}

impl Machine<'_, '_> {
    fn block(&mut self, block: &Block) -> Result<(), Trap> {
        block.insts.iter().try_for_each(|inst| self.inst(inst))
    }

    fn set(&mut self, inst: &Inst, cell: Cell) {
        self.cells[inst.results[0].index()] = cell;
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), Trap> {
        let args = &inst.args;
        let cell = |machine: &Self, index: usize| machine.cells[args[index].index()];
        match &inst.op {
            Op::Param(index) | Op::Count(index) | Op::CountL(index) => {
                let slot = match (self.args[*index as usize], &inst.op) {
                    (Slot::Pointer(pointer), _) => Cell::P(pointer),
                    (Slot::Count(count), Op::Count(_)) => Cell::N(count as i32),
                    (Slot::Count(count), _) => Cell::L(count),
                };
                self.set(inst, slot);
            }
            Op::Begin => self.set(inst, Cell::N(self.begin)),
            Op::End => self.set(inst, Cell::N(self.end)),
            Op::ConstF(bits) => self.set(inst, Cell::F([f32::from_bits(*bits); LANES])),
            Op::ConstI(value) => self.set(inst, Cell::I([*value; LANES])),
            Op::ConstS(bits) => self.set(inst, Cell::S(f32::from_bits(*bits))),
            Op::ConstN(value) => self.set(inst, Cell::N(*value)),
            Op::ConstL(value) => self.set(inst, Cell::L(*value)),
            Op::Iota => self.set(inst, Cell::I(std::array::from_fn(|lane| lane as i32))),
            Op::LaneMask => {
                let n = self.n(args[0])?;
                let mask = std::array::from_fn(|lane| -i32::from((lane as i32) < n));
                self.set(inst, Cell::I(mask));
            }
            Op::MaskBits => {
                let bits = self.n(args[0])?;
                self.set(inst, Cell::I(std::array::from_fn(|lane| -(bits >> lane & 1))));
            }
            Op::Stack(bytes) => self.stack(inst, *bytes),
            Op::Load { mem, offset } => {
                let pointer = self.p(args[0])?;
                if *mem == Mem::Bytes64 && (pointer.offset + i64::from(*offset)) % 64 != 0 {
                    return Err(Trap::Misaligned(pointer.region, pointer.offset));
                }
                self.note(args[0], pointer, *offset, mem.element_bytes(), false);
                let cell = lanes::decode(*mem, self.memory.read(pointer, *offset, mem.bytes())?);
                self.set(inst, cell);
            }
            Op::Store { mem, offset } => {
                let bytes = lanes::encode(*mem, &cell(self, 1));
                let pointer = self.p(args[0])?;
                if *mem == Mem::Bytes64 && (pointer.offset + i64::from(*offset)) % 64 != 0 {
                    return Err(Trap::Misaligned(pointer.region, pointer.offset));
                }
                self.note(args[0], pointer, *offset, bytes.len(), true);
                self.memory.write(pointer, *offset, bytes.len())?.copy_from_slice(&bytes);
            }
            Op::StoreFirst { mem, offset } => {
                let count = self.n(args[2])?.clamp(0, LANES as i32) as usize;
                let bytes = lanes::encode(*mem, &cell(self, 1));
                let bytes = &bytes[..count * mem.element_bytes()];
                let pointer = self.p(args[0])?;
                self.note(args[0], pointer, *offset, bytes.len(), true);
                self.memory.write(pointer, *offset, bytes.len())?.copy_from_slice(bytes);
            }
            Op::Offset(bytes) => self.moved(inst, *bytes)?,
            Op::Index(scale) => {
                let bytes = scale.wrapping_mul(i64::from(self.n(args[1])?));
                self.moved(inst, bytes)?;
            }
            Op::OffsetBy => {
                let bytes = self.l(args[1])?;
                self.moved(inst, bytes)?;
            }
            Op::Sqrt => self.set(inst, lanes::sqrt(&cell(self, 0))),
            Op::Binary(op) => self.set(inst, lanes::binary(*op, &cell(self, 0), &cell(self, 1))),
            Op::Shift(op, amount) => {
                self.set(inst, lanes::shift(*op, &cell(self, 0), u32::from(*amount)));
            }
            Op::ShiftBy(op) => {
                let amount = self.n(args[1])? as u32;
                self.set(inst, lanes::shift(*op, &cell(self, 0), amount));
            }
            Op::Compare(op) => self.set(inst, lanes::compare(*op, &cell(self, 0), &cell(self, 1))),
            Op::Select => {
                let chosen = lanes::select(&cell(self, 0), &cell(self, 1), &cell(self, 2));
                self.set(inst, chosen);
            }
            Op::Cast | Op::Convert | Op::Extend(_) | Op::Truncate | Op::Splat => {
                self.set(inst, lanes::convert(&inst.op, &cell(self, 0)));
            }
            Op::Reduce(op) => self.set(inst, lanes::reduce(*op, &cell(self, 0))),
            Op::AccZero => self.set(inst, Cell::A(0)),
            Op::Dot(mask) => {
                let (acc, w, x) = (self.a(args[0])?, self.b(args[1])?, self.b(args[2])?);
                self.set(inst, Cell::A(dot::masked(acc, &w, *mask, &x)?));
            }
            Op::DotSigned => {
                let (acc, w, x) = (self.a(args[0])?, self.b(args[1])?, self.b(args[2])?);
                self.set(inst, Cell::A(dot::signed(acc, &w, &x)?));
            }
            Op::AccFold(shifts) => {
                let mut total = 0i32;
                for (&acc, &shift) in args.iter().zip(shifts) {
                    let part = self.a(acc)? >> shift;
                    total = total.checked_add(part).ok_or(Trap::DotOverflow)?;
                }
                self.set(inst, Cell::N(total));
            }
            Op::DotRows(attributes) => {
                let (weights, activations) = (self.p(args[0])?, self.p(args[1])?);
                let fields = attributes.packing.fields();
                let row = attributes.blocks as usize * STRIP_BYTES;
                self.note(args[0], weights, 0, LANES * row, false);
                for token in 0..attributes.tokens {
                    self.note(args[1], activations, (token * attributes.stride) as i32, row * fields, false);
                    let totals = dot::rows(self.memory, attributes, weights, activations, token)?;
                    self.cells[inst.results[token as usize].index()] = Cell::I(totals);
                }
            }
            Op::FloatRows(attributes) => {
                let (weights, activations) = (self.p(args[0])?, self.p(args[1])?);
                for row in 0..LANES as u32 {
                    let at = (row * attributes.row_stride) as i32;
                    self.note(args[0], weights, at, attributes.row_bytes(), false);
                }
                for token in 0..attributes.tokens {
                    let at = (token * attributes.stride) as i32;
                    self.note(args[1], activations, at, 4 * attributes.columns as usize, false);
                    let sums = rows::sums(self.memory, attributes, weights, activations, at)?;
                    self.cells[inst.results[token as usize].index()] = Cell::F(sums);
                }
            }
            Op::Loop { step, body } => self.iterate(inst, *step, body)?,
            Op::If { then, otherwise } => {
                let branch = if self.n(args[0])? != 0 { then } else { otherwise };
                self.block(branch)?;
                for (result, value) in inst.results.iter().zip(&branch.yields) {
                    self.cells[result.index()] = self.cells[value.index()];
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, value: Value, pointer: Pointer, offset: i32, bytes: usize, write: bool) {
        let Some(watch) = &mut self.memory.watch else { return };
        let Some(Root::Param(index)) = self.roots[value.index()] else { return };
        let start = pointer.offset.wrapping_add(i64::from(offset));
        if write {
            watch.write(pointer.region, start, bytes);
        } else {
            let constant = self.kernel.params[index as usize].kind == ParamKind::Ro;
            watch.read(pointer.region, start, bytes, constant);
        }
    }

    fn iterate(&mut self, inst: &Inst, step: i32, body: &Block) -> Result<(), Trap> {
        let (mut index, end) = (self.n(inst.args[0])?, self.n(inst.args[1])?);
        let mut carried: Vec<Cell> = inst.args[2..].iter().map(|value| self.cells[value.index()]).collect();
        while index < end {
            self.cells[body.params[0].index()] = Cell::N(index);
            for (param, cell) in body.params[1..].iter().zip(&carried) {
                self.cells[param.index()] = *cell;
            }
            self.block(body)?;
            for (cell, value) in carried.iter_mut().zip(&body.yields) {
                *cell = self.cells[value.index()];
            }
            index = index.wrapping_add(step);
        }
        for (result, cell) in inst.results.iter().zip(carried) {
            self.cells[result.index()] = cell;
        }
        Ok(())
    }

    fn moved(&mut self, inst: &Inst, bytes: i64) -> Result<(), Trap> {
        let from = self.p(inst.args[0])?;
        let to = Pointer { region: from.region, offset: from.offset.wrapping_add(bytes) };
        self.set(inst, Cell::P(to));
        Ok(())
    }

    /// A stack buffer is one place per operation, however often it runs; its bytes start as NaNs so that a
    /// kernel that reads what it never wrote is seen.
    fn stack(&mut self, inst: &Inst, bytes: u32) {
        if matches!(self.cells[inst.results[0].index()], Cell::P(_)) {
            return;
        }
        let region = self.memory.regions.len();
        let size = (bytes as usize).next_multiple_of(64) + 64;
        self.memory.regions.push(Region::Own(vec![0xff; size]));
        self.set(inst, Cell::P(Pointer { region, offset: 0 }));
    }
}
