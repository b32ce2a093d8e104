//! An entry's steps to the ABI's entry function: arguments are written into a table on the stack, and each
//! launch goes through one shared function that splits it over the pool when there is one.

use std::collections::HashMap;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::types::{I32, I64};
use cranelift_codegen::ir::{
    AbiParam, FuncRef, Function, InstBuilder, MemFlagsData, Signature, StackSlot, StackSlotData, StackSlotKind,
    Value as Clif,
};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use sterna_runtime::abi::offsets;

use super::emit::kernel_signature;
use crate::kernel::program::{Arg, Base, Count, Driver, KernelId, Program, RowsId, Step, TALLIES, Work};

/// The signature of an entry: `i32 (Context *)`.
pub fn entry_signature(convention: CallConv) -> Signature {
    let mut signature = Signature::new(convention);
    signature.params.push(AbiParam::new(I64));
    signature.returns.push(AbiParam::new(I32));
    signature
}

/// The signature of the launch function: `(context, kernel, args, units, grain)`.
pub fn launch_signature(convention: CallConv) -> Signature {
    let mut signature = Signature::new(convention);
    signature.params.extend([I64, I64, I64, I32, I32].map(AbiParam::new));
    signature
}

/// Emits the launch function: calls the context's `parallel_for`, or the kernel itself where there is none or
/// one chunk holds all units.
pub fn emit_launch(frontend: TargetFrontendConfig, function: &mut Function, context: &mut FunctionBuilderContext) {
    let convention = function.signature.call_conv;
    let mut b = FunctionBuilder::new(function, context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let params = b.block_params(entry).to_vec();
    let (host, kernel, args, units, grain) = (params[0], params[1], params[2], params[3], params[4]);
    let flags = MemFlagsData::trusted();
    let (split, several, whole) = (b.create_block(), b.create_block(), b.create_block());
    let parallel = b.ins().load(I64, flags, host, offsets::PARALLEL_FOR);
    b.ins().brif(parallel, several, &[], whole, &[]);

    b.switch_to_block(several);
    let more = b.ins().icmp(IntCC::SignedGreaterThan, units, grain);
    b.ins().brif(more, split, &[], whole, &[]);

    b.switch_to_block(split);
    let pool = b.ins().load(I64, flags, host, offsets::POOL);
    let mut signature = Signature::new(convention);
    signature.params.extend([I64, I64, I64, I32, I32].map(AbiParam::new));
    let signature = b.import_signature(signature);
    b.ins().call_indirect(signature, parallel, &[pool, kernel, args, units, grain]);
    b.ins().return_(&[]);

    b.switch_to_block(whole);
    let signature = b.import_signature(kernel_signature(convention));
    let zero = b.ins().iconst(I32, 0);
    b.ins().call_indirect(signature, kernel, &[args, zero, units]);
    b.ins().return_(&[]);
    b.seal_all_blocks();
    b.finalize(frontend);
}

/// Emits an entry of a verified program. `kernels` are the functions that it may call.
pub fn emit_entry(
    program: &Program,
    driver: &Driver,
    kernels: &HashMap<KernelId, FuncRef>,
    launch: FuncRef,
    frontend: TargetFrontendConfig,
    function: &mut Function,
    context: &mut FunctionBuilderContext,
) {
    let mut b = FunctionBuilder::new(function, context);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let host = b.block_params(entry)[0];
    let slots = most_args(&driver.steps).max(1) as u32;
    let table = b.create_sized_stack_slot(StackSlotData::new(StackSlotKind::ExplicitSlot, slots * 8, 4));
    let zero = b.ins().iconst(I64, 0);
    let rows: Vec<Variable> = (0..program.row_counts).map(|_| b.declare_var(I64)).collect();
    let vars: Vec<Variable> = (0..program.loop_vars).map(|_| b.declare_var(I64)).collect();
    for &variable in rows.iter().chain(&vars) {
        b.def_var(variable, zero);
    }
    let mut emitter = Entry { b, program, kernels, split: launch, host, table, rows, vars };
    let count = emitter.field(offsets::ROWS);
    emitter.b.def_var(emitter.rows[0], count);
    if let Some(offset) = program.status_offset {
        let at = emitter.scratch(offset);
        let clear = emitter.b.ins().iconst(I32, 0);
        emitter.b.ins().store(MemFlagsData::trusted(), clear, at, 0);
    }
    if driver.tallies > 0 {
        let at = emitter.scratch(TALLIES);
        let clear = emitter.b.ins().iconst(I32, 0);
        for tally in 0..driver.tallies {
            emitter.b.ins().store(MemFlagsData::trusted(), clear, at, 4 * tally as i32);
        }
    }
    emitter.steps(&driver.steps);
    let status = match program.status_offset {
        Some(offset) => {
            let at = emitter.scratch(offset);
            emitter.b.ins().load(I32, MemFlagsData::trusted(), at, 0)
        }
        None => emitter.b.ins().iconst(I32, 0),
    };
    emitter.b.ins().return_(&[status]);
    emitter.b.seal_all_blocks();
    emitter.b.finalize(frontend);
}

fn most_args(steps: &[Step]) -> usize {
    let args = |step: &Step| match step {
        Step::Launch { args, .. } => args.len(),
        Step::LoadRows { .. } | Step::Tally { .. } => 0,
        Step::IfRows { body, .. } | Step::Loop { body, .. } => most_args(body),
    };
    steps.iter().map(args).max().unwrap_or(0)
}

struct Entry<'f, 'p> {
    b: FunctionBuilder<'f>,
    program: &'p Program,
    kernels: &'p HashMap<KernelId, FuncRef>,
    split: FuncRef,
    host: Clif,
    table: StackSlot,
    rows: Vec<Variable>,
    vars: Vec<Variable>,
}

impl Entry<'_, '_> {
    fn field(&mut self, offset: i32) -> Clif {
        let flags = MemFlagsData::trusted().with_readonly();
        self.b.ins().load(I64, flags, self.host, offset)
    }

    fn scratch(&mut self, offset: u64) -> Clif {
        let base = self.field(offsets::SCRATCH);
        self.b.ins().iadd_imm_s(base, offset as i64)
    }

    fn count_of(&mut self, rows: RowsId) -> Clif {
        self.b.use_var(self.rows[rows.0 as usize])
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Launch { kernel, args, work } => self.launch(*kernel, args, *work),
                Step::LoadRows { into, offset } => self.load_rows(*into, *offset),
                Step::Tally { rows, tally } => {
                    let count = self.count_of(*rows);
                    let count = self.b.ins().ireduce(I32, count);
                    let at = self.scratch(TALLIES + 4 * u64::from(*tally));
                    let before = self.b.ins().load(I32, MemFlagsData::trusted(), at, 0);
                    let after = self.b.ins().iadd(before, count);
                    self.b.ins().store(MemFlagsData::trusted(), after, at, 0);
                }
                Step::IfRows { rows, body } => {
                    let count = self.count_of(*rows);
                    let (yes, after) = (self.b.create_block(), self.b.create_block());
                    self.b.ins().brif(count, yes, &[], after, &[]);
                    self.b.switch_to_block(yes);
                    self.steps(body);
                    self.b.ins().jump(after, &[]);
                    self.b.switch_to_block(after);
                }
                Step::Loop { var, first, end, rows, body } => {
                    let variable = self.vars[var.0 as usize];
                    let start = self.b.ins().iconst(I64, i64::from(*first));
                    self.b.def_var(variable, start);
                    let (head, inside, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
                    self.b.ins().jump(head, &[]);
                    self.b.switch_to_block(head);
                    let index = self.b.use_var(variable);
                    let mut go = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, index, i64::from(*end));
                    if let Some(rows) = rows {
                        let count = self.count_of(*rows);
                        let some = self.b.ins().icmp_imm_s(IntCC::NotEqual, count, 0);
                        go = self.b.ins().band(go, some);
                    }
                    self.b.ins().brif(go, inside, &[], after, &[]);
                    self.b.switch_to_block(inside);
                    self.steps(body);
                    let index = self.b.use_var(variable);
                    let next = self.b.ins().iadd_imm_s(index, 1);
                    self.b.def_var(variable, next);
                    self.b.ins().jump(head, &[]);
                    self.b.switch_to_block(after);
                }
            }
        }
    }

    /// The count comes from a kernel; clamping keeps a wrong one inside the buffers.
    fn load_rows(&mut self, into: RowsId, offset: u64) {
        let at = self.scratch(offset);
        let count = self.b.ins().load(I32, MemFlagsData::trusted(), at, 0);
        let count = self.b.ins().sextend(I64, count);
        let zero = self.b.ins().iconst(I64, 0);
        let most = self.b.ins().iconst(I64, i64::from(self.program.max_rows));
        let negative = self.b.ins().icmp(IntCC::SignedLessThan, count, zero);
        let count = self.b.ins().select(negative, zero, count);
        let over = self.b.ins().icmp(IntCC::SignedGreaterThan, count, most);
        let count = self.b.ins().select(over, most, count);
        self.b.def_var(self.rows[into.0 as usize], count);
    }

    fn launch(&mut self, kernel: KernelId, args: &[Arg], work: Work) {
        for (index, arg) in args.iter().enumerate() {
            let value = self.arg(arg);
            self.b.ins().stack_store(I64, value, self.table, 8 * index as i32);
        }
        let table = self.b.ins().stack_addr(I64, self.table, 0);
        let per = self.b.ins().iconst(I64, i64::from(work.per));
        let units = match work.rows {
            Some(rows) => {
                let count = self.count_of(rows);
                self.b.ins().imul(count, per)
            }
            None => per,
        };
        let units = self.b.ins().ireduce(I32, units);
        let function = self.kernels[&kernel];
        if work.grain == 0 {
            let zero = self.b.ins().iconst(I32, 0);
            self.b.ins().call(function, &[table, zero, units]);
        } else {
            let mut grain = self.b.ins().iconst(I32, i64::from(work.grain));
            if work.pieces > 0 {
                let pieces = self.b.ins().iconst(I32, i64::from(work.pieces));
                let up = self.b.ins().iadd_imm_s(units, i64::from(work.pieces) - 1);
                let least = self.b.ins().udiv(up, pieces);
                grain = self.b.ins().smax(grain, least);
            }
            let address = self.b.ins().func_addr(I64, function);
            self.b.ins().call(self.split, &[self.host, address, table, units, grain]);
        }
    }

    fn arg(&mut self, arg: &Arg) -> Clif {
        match arg {
            Arg::Count(Count::Const(value)) => self.b.ins().iconst(I64, *value),
            Arg::Count(Count::Rows(rows)) => self.count_of(*rows),
            Arg::Count(Count::StateStride) => self.field(offsets::STATE_STRIDE),
            Arg::Count(Count::LoopVar(var)) => self.b.use_var(self.vars[var.0 as usize]),
            Arg::Pointer { base, offset, scaled, .. } => {
                let mut address = self.base(*base);
                for (var, stride) in scaled {
                    let index = self.b.use_var(self.vars[var.0 as usize]);
                    let bytes = self.b.ins().imul_imm_s(index, *stride as i64);
                    address = self.b.ins().iadd(address, bytes);
                }
                self.b.ins().iadd_imm_s(address, *offset as i64)
            }
        }
    }

    fn base(&mut self, base: Base) -> Clif {
        let listed = |emitter: &mut Self, field: i32, index: u32| {
            let list = emitter.field(field);
            let flags = MemFlagsData::trusted().with_readonly();
            emitter.b.ins().load(I64, flags, list, 8 * index as i32)
        };
        match base {
            Base::Weights => self.field(offsets::WEIGHTS),
            Base::State => self.field(offsets::STATE),
            Base::Scratch => self.field(offsets::SCRATCH),
            Base::Position => self.field(offsets::POSITION),
            Base::Input(index) => listed(self, offsets::INPUTS, index),
            Base::Output(index) => listed(self, offsets::OUTPUTS, index),
        }
    }
}
