//! One kernel to one CLIF function: control flow, scalars, and the dispatch to the op families.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::immediates::Ieee32;
use cranelift_codegen::ir::types::{F32, F32X4, I8X16, I32, I32X4, I64};
use cranelift_codegen::ir::{
    AbiParam, BlockArg, ConstantData, FuncRef, Function, InstBuilder, MemFlagsData, Signature, StackSlotData,
    StackSlotKind, Type as ClifType, Value as Clif,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use smallvec::SmallVec;

use super::isa::DotForm;
use crate::kernel::ir::{Block, Inst, Kernel, Op, Rows, Shift, Type, Value};
use crate::kernel::verify::{Root, roots};

/// The CLIF values of one kernel value: 1 of a scalar, 2 of an accumulator, 4 of a vector.
pub(super) type Parts = SmallVec<[Clif; 4]>;
/// A pointer with what is known of the memory behind it.
pub(super) type Buffer = (Clif, MemFlagsData);

/// 128-bit registers of an accumulator: two shorten the latency chain, four would spill.
pub(super) const ACC_PARTS: usize = 2;

/// What the emitter needs to know of the target.
#[derive(Clone, Copy)]
pub struct Target {
    /// The dot-product form.
    pub dot: DotForm,
    /// Whether memory operands of vector instructions may lie at any address.
    pub any_alignment: bool,
    /// Pointer width and calling convention.
    pub frontend: TargetFrontendConfig,
}

/// Imports an assembled function for a row group into a CLIF function, or says that there is none.
pub type Wide<'w> = dyn FnMut(&mut Function, Rows) -> Option<FuncRef> + 'w;

/// The signature of the assembled row groups: `(weights, activations, totals)`.
pub fn wide_signature() -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend([I64; 3].map(AbiParam::new));
    signature
}

/// The signature of every kernel: `(args, begin, end)`.
pub fn kernel_signature(convention: CallConv) -> Signature {
    let mut signature = Signature::new(convention);
    signature.params.extend([I64, I32, I32].map(AbiParam::new));
    signature
}

/// Emits the body of a verified kernel into `function`, whose signature is [`kernel_signature`].
///
/// `wide` gives the function that computes a row group in a better form than Cranelift can emit, where there is one.
pub fn emit(
    kernel: &Kernel,
    target: Target,
    wide: &mut Wide<'_>,
    function: &mut Function,
    context: &mut FunctionBuilderContext,
) {
    let roots = roots(kernel).expect("the kernel was verified");
    let mut builder = FunctionBuilder::new(function, context);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    let params = builder.block_params(entry).to_vec();
    let mut emitter = Emitter {
        b: builder,
        kernel,
        target,
        wide,
        roots,
        values: vec![Parts::new(); kernel.values.len()],
        known: vec![None; kernel.values.len()],
        table: params[0],
        range: (params[1], params[2]),
        conditionals: 0,
    };
    emitter.block(&kernel.body);
    emitter.b.ins().return_(&[]);
    emitter.b.seal_all_blocks();
    emitter.b.finalize(target.frontend);
}

pub(super) struct Emitter<'f, 'k, 'w> {
    pub(super) b: FunctionBuilder<'f>,
    kernel: &'k Kernel,
    pub(super) target: Target,
    wide: &'k mut Wide<'w>,
    roots: Vec<Option<Root>>,
    values: Vec<Parts>,
    /// Constants of type N, to shape loops.
    known: Vec<Option<i32>>,
    table: Clif,
    range: (Clif, Clif),
    conditionals: u32,
}

/// The CLIF types of a kernel type's parts.
fn clif_types(ty: Type) -> (ClifType, usize) {
    match ty {
        Type::F => (F32X4, 4),
        Type::I => (I32X4, 4),
        Type::B => (I8X16, 4),
        Type::A => (I32X4, ACC_PARTS),
        Type::S => (F32, 1),
        Type::N => (I32, 1),
        Type::L | Type::P => (I64, 1),
    }
}

impl Emitter<'_, '_, '_> {
    pub(super) fn parts(&self, value: Value) -> Parts {
        self.values[value.index()].clone()
    }

    pub(super) fn scalar(&self, value: Value) -> Clif {
        self.values[value.index()][0]
    }

    pub(super) fn ty(&self, value: Value) -> Type {
        self.kernel.ty(value)
    }

    /// Flags of an access through `pointer`. Loads from read-only parameters may sink to their use, and out of
    /// loops, but never above a condition that may guard their address.
    pub(super) fn flags(&self, pointer: Value) -> MemFlagsData {
        let flags = MemFlagsData::new().with_notrap();
        match self.roots[pointer.index()] {
            Some(Root::Param(index)) if self.kernel.params[index as usize].kind == crate::kernel::ir::ParamKind::Ro => {
                let flags = flags.with_readonly();
                if self.conditionals == 0 { flags.with_can_move() } else { flags }
            }
            _ => flags,
        }
    }

    fn block(&mut self, block: &Block) {
        for inst in &block.insts {
            self.inst(inst);
        }
    }

    fn set(&mut self, inst: &Inst, parts: Parts) {
        self.values[inst.results[0].index()] = parts;
    }

    fn set_scalar(&mut self, inst: &Inst, value: Clif) {
        self.set(inst, SmallVec::from_slice(&[value]));
    }

    /// A 128-bit constant of the given type.
    pub(super) fn vconst(&mut self, ty: ClifType, bytes: [u8; 16]) -> Clif {
        let constant = self.b.func.dfg.constants.insert(ConstantData::from(&bytes[..]));
        self.b.ins().vconst(ty, constant)
    }

    /// Four equal 32-bit lanes.
    pub(super) fn vconst_words(&mut self, ty: ClifType, words: [u32; 4]) -> Clif {
        let mut bytes = [0; 16];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        self.vconst(ty, bytes)
    }

    fn inst(&mut self, inst: &Inst) {
        let args = &inst.args;
        match &inst.op {
            Op::Param(index) | Op::CountL(index) | Op::Count(index) => {
                let flags = MemFlagsData::trusted().with_readonly().with_can_move();
                let ty = if matches!(inst.op, Op::Count(_)) { I32 } else { I64 };
                let offset = *index as i32 * 8;
                let slot = self.b.ins().load(ty, flags, self.table, offset);
                self.set_scalar(inst, slot);
            }
            Op::Begin => self.set_scalar(inst, self.range.0),
            Op::End => self.set_scalar(inst, self.range.1),
            Op::ConstF(bits) => {
                let part = self.vconst_words(F32X4, [*bits; 4]);
                self.set(inst, SmallVec::from_elem(part, 4));
            }
            Op::ConstI(value) => {
                let part = self.vconst_words(I32X4, [*value as u32; 4]);
                self.set(inst, SmallVec::from_elem(part, 4));
            }
            Op::ConstS(bits) => {
                let value = self.b.ins().f32const(Ieee32::with_bits(*bits));
                self.set_scalar(inst, value);
            }
            Op::ConstN(value) => {
                self.known[inst.results[0].index()] = Some(*value);
                let value = self.b.ins().iconst(I32, i64::from(*value as u32));
                self.set_scalar(inst, value);
            }
            Op::ConstL(value) => {
                let value = self.b.ins().iconst(I64, *value);
                self.set_scalar(inst, value);
            }
            Op::Iota => {
                let parts = self.iota();
                self.set(inst, parts);
            }
            Op::LaneMask | Op::MaskBits => {
                let n = self.scalar(args[0]);
                let parts = self.lane_set(&inst.op, n);
                self.set(inst, parts);
            }
            Op::Stack(bytes) => {
                let address = self.stack_buffer(*bytes);
                self.set_scalar(inst, address);
            }
            Op::Load { mem, offset } => {
                let (pointer, flags) = (self.scalar(args[0]), self.flags(args[0]));
                let parts = self.load(*mem, flags, pointer, *offset);
                self.set(inst, parts);
            }
            Op::Store { mem, offset } => {
                let (pointer, flags) = (self.scalar(args[0]), self.flags(args[0]));
                let parts = self.parts(args[1]);
                self.store(*mem, flags, pointer, *offset, &parts);
            }
            Op::StoreFirst { mem, offset } => {
                let (pointer, count) = (self.scalar(args[0]), self.scalar(args[2]));
                let parts = self.parts(args[1]);
                self.store_first(*mem, pointer, *offset, &parts, count);
            }
            Op::Offset(bytes) => {
                let p = self.scalar(args[0]);
                let moved = self.b.ins().iadd_imm_s(p, *bytes);
                self.set_scalar(inst, moved);
            }
            Op::Index(scale) => {
                let (p, n) = (self.scalar(args[0]), self.scalar(args[1]));
                let n = self.b.ins().sextend(I64, n);
                let bytes = if scale.count_ones() == 1 && *scale > 0 {
                    self.b.ins().ishl_imm_u(n, i64::from(scale.trailing_zeros()))
                } else {
                    self.b.ins().imul_imm_s(n, *scale)
                };
                let moved = self.b.ins().iadd(p, bytes);
                self.set_scalar(inst, moved);
            }
            Op::OffsetBy => {
                let (p, bytes) = (self.scalar(args[0]), self.scalar(args[1]));
                let moved = self.b.ins().iadd(p, bytes);
                self.set_scalar(inst, moved);
            }
            Op::Sqrt => {
                let parts = self.parts(args[0]).iter().map(|&part| self.b.ins().sqrt(part)).collect();
                self.set(inst, parts);
            }
            Op::Binary(op) => {
                let (a, b) = (self.parts(args[0]), self.parts(args[1]));
                let ty = self.ty(args[0]);
                let parts = a.iter().zip(&b).map(|(&a, &b)| self.binary(*op, ty, a, b)).collect();
                self.set(inst, parts);
            }
            Op::Shift(op, amount) => {
                let amount = self.b.ins().iconst(I32, i64::from(*amount));
                self.shift(inst, *op, amount);
            }
            Op::ShiftBy(op) => {
                let amount = self.scalar(args[1]);
                self.shift(inst, *op, amount);
            }
            Op::Compare(op) => {
                let (a, b) = (self.parts(args[0]), self.parts(args[1]));
                let ty = self.ty(args[0]);
                let parts = a.iter().zip(&b).map(|(&a, &b)| self.compare(*op, ty, a, b)).collect();
                self.set(inst, parts);
            }
            Op::Select => {
                let (mask, a, b) = (self.parts(args[0]), self.parts(args[1]), self.parts(args[2]));
                let ty = self.ty(args[1]);
                let parts = (0..a.len())
                    .map(|part| match ty {
                        Type::F | Type::I => self.blend(ty, mask[part], a[part], b[part]),
                        _ => self.b.ins().select(mask[0], a[part], b[part]),
                    })
                    .collect();
                self.set(inst, parts);
            }
            Op::Cast | Op::Convert | Op::Extend(_) | Op::Truncate | Op::Splat => {
                let a = self.parts(args[0]);
                let parts = self.convert(&inst.op, self.ty(args[0]), &a);
                self.set(inst, parts);
            }
            Op::Reduce(op) => {
                let parts = self.parts(args[0]);
                let value = self.reduce(*op, &parts);
                self.set_scalar(inst, value);
            }
            Op::AccZero => {
                let zero = self.vconst(I32X4, [0; 16]);
                self.set(inst, SmallVec::from_elem(zero, ACC_PARTS));
            }
            Op::Dot(mask) => {
                let (acc, w, x) = (self.parts(args[0]), self.parts(args[1]), self.parts(args[2]));
                let parts = self.dot_masked(acc, &w, *mask, &x);
                self.set(inst, parts);
            }
            Op::DotSigned => {
                let (acc, w, x) = (self.parts(args[0]), self.parts(args[1]), self.parts(args[2]));
                let parts = self.dot_signed(acc, &w, &x);
                self.set(inst, parts);
            }
            Op::AccFold(shifts) => {
                let accs: Vec<Parts> = args.iter().map(|&acc| self.parts(acc)).collect();
                let total = self.acc_fold(&accs, shifts);
                self.set_scalar(inst, total);
            }
            Op::DotRows(dot) => {
                let (weights, activations) = (self.scalar(args[0]), self.scalar(args[1]));
                let flags = (self.flags(args[0]), self.flags(args[1]));
                let totals = match (self.wide)(self.b.func, Rows::Dot(*dot)) {
                    Some(function) => self.wide_rows(function, I32X4, dot.tokens, weights, activations),
                    None => self.dot_rows(*dot, (weights, flags.0), (activations, flags.1)),
                };
                self.set_all(inst, totals);
            }
            Op::FloatRows(rows) => {
                let (weights, activations) = (self.scalar(args[0]), self.scalar(args[1]));
                let flags = (self.flags(args[0]), self.flags(args[1]));
                let totals = match (self.wide)(self.b.func, Rows::Float(*rows)) {
                    Some(function) => self.wide_rows(function, F32X4, rows.tokens, weights, activations),
                    None => self.float_rows(*rows, (weights, flags.0), (activations, flags.1)),
                };
                self.set_all(inst, totals);
            }
            Op::Loop { step, body } => self.emit_loop(inst, *step, body),
            Op::If { then, otherwise } => self.emit_if(inst, then, otherwise),
        }
    }

    fn set_all(&mut self, inst: &Inst, values: Vec<Parts>) {
        for (result, parts) in inst.results.iter().zip(values) {
            self.values[result.index()] = parts;
        }
    }

    fn shift(&mut self, inst: &Inst, op: Shift, amount: Clif) {
        let a = self.parts(inst.args[0]);
        let parts = a
            .iter()
            .map(|&a| match op {
                Shift::Left => self.b.ins().ishl(a, amount),
                Shift::RightS => self.b.ins().sshr(a, amount),
                Shift::RightU => self.b.ins().ushr(a, amount),
            })
            .collect();
        self.set(inst, parts);
    }

    /// The address of a fresh stack buffer. The frame itself is only 16-byte aligned.
    pub(super) fn stack_buffer(&mut self, bytes: u32) -> Clif {
        let data = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes.next_multiple_of(64) + 128, 4);
        let slot = self.b.create_sized_stack_slot(data);
        let address = self.b.ins().stack_addr(I64, slot, 0);
        let address = self.b.ins().iadd_imm_s(address, 63);
        self.b.ins().band_imm_s(address, -64)
    }

    fn flatten(&self, values: &[Value]) -> Vec<BlockArg> {
        values.iter().flat_map(|&value| self.parts(value)).map(BlockArg::from).collect()
    }

    /// Gives each value block parameters of its type.
    fn bind(&mut self, block: cranelift_codegen::ir::Block, values: &[Value]) {
        for &value in values {
            let (ty, count) = clif_types(self.ty(value));
            self.values[value.index()] = (0..count).map(|_| self.b.append_block_param(block, ty)).collect();
        }
    }

    fn emit_loop(&mut self, inst: &Inst, step: i32, body: &Block) {
        let (start, end) = (self.scalar(inst.args[0]), self.scalar(inst.args[1]));
        let inits = self.flatten(&inst.args[2..]);
        let (head, exit) = (self.b.create_block(), self.b.create_block());
        let mut entering = vec![BlockArg::from(start)];
        entering.extend_from_slice(&inits);
        let known = (self.known[inst.args[0].index()], self.known[inst.args[1].index()]);
        match known {
            (Some(start), Some(end)) if start < end => {
                self.b.ins().jump(head, &entering);
            }
            _ => {
                let runs = self.b.ins().icmp(IntCC::SignedLessThan, start, end);
                self.b.ins().brif(runs, head, &entering, exit, &inits);
            }
        }
        self.bind(head, &body.params);
        self.b.switch_to_block(head);
        self.block(body);
        let index = self.scalar(body.params[0]);
        let next = self.b.ins().iadd_imm_s(index, i64::from(step));
        let yields = self.flatten(&body.yields);
        let mut again = vec![BlockArg::from(next)];
        again.extend_from_slice(&yields);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, next, end);
        self.b.ins().brif(more, head, &again, exit, &yields);
        self.bind(exit, &inst.results);
        self.b.switch_to_block(exit);
    }

    fn emit_if(&mut self, inst: &Inst, then: &Block, otherwise: &Block) {
        let condition = self.scalar(inst.args[0]);
        let (yes, no, exit) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, yes, &[], no, &[]);
        self.conditionals += 1;
        for (block, branch) in [(yes, then), (no, otherwise)] {
            self.b.switch_to_block(block);
            self.block(branch);
            let yields = self.flatten(&branch.yields);
            self.b.ins().jump(exit, &yields);
        }
        self.conditionals -= 1;
        self.bind(exit, &inst.results);
        self.b.switch_to_block(exit);
    }

    /// Runs `body` a known number of times (at least once), carrying CLIF values.
    pub(super) fn repeat(
        &mut self,
        count: u32,
        carried: &[Clif],
        body: impl FnOnce(&mut Self, &[Clif]) -> Vec<Clif>,
    ) -> Vec<Clif> {
        if count == 0 {
            return carried.to_vec();
        }
        let (head, exit) = (self.b.create_block(), self.b.create_block());
        let left = self.b.ins().iconst(I32, i64::from(count));
        let mut args = vec![BlockArg::from(left)];
        args.extend(carried.iter().copied().map(BlockArg::from));
        self.b.ins().jump(head, &args);
        let left = self.b.append_block_param(head, I32);
        let mut inside = Vec::new();
        let mut outside = Vec::new();
        for &value in carried {
            let ty = self.b.func.dfg.value_type(value);
            inside.push(self.b.append_block_param(head, ty));
            outside.push(self.b.append_block_param(exit, ty));
        }
        self.b.switch_to_block(head);
        let next = body(self, &inside);
        let left = self.b.ins().iadd_imm_s(left, -1);
        let results: Vec<BlockArg> = next.iter().copied().map(BlockArg::from).collect();
        let mut again = vec![BlockArg::from(left)];
        again.extend_from_slice(&results);
        self.b.ins().brif(left, head, &again, exit, &results);
        self.b.switch_to_block(exit);
        outside
    }
}
