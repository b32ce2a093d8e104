//! Whole programs: drivers with loops, row counts, states of several streams, and a pool that splits work.

use std::ffi::c_void;

use sterna_runtime::abi::{Context, KernelFn};

use super::{Buffer, Image};
use crate::kernel::build::Builder;
use crate::kernel::interp::memory::Trap;
use crate::kernel::program::{Arg, Base, Count, Driver, KernelId, LoopVar, Program, RowsId, Step, TALLIES, Work};
use crate::kernel::prove::{NotProven, prove};
use crate::kernel::run::{Buffers, Order, run};
use crate::target::clif::CompileError;
use crate::target::clif::jit::Jit;
use crate::target::cpu::Cpu;

const ROWS: u64 = 5;
const STRIPS: i64 = 3;

/// state += weights[layer] * input per row and layer; a kernel then halves the row count until nothing is left,
/// and counts the rounds in the output.
fn program() -> Program {
    let mut b = Builder::new("accumulate");
    let (w, x, state) = (b.ro("w"), b.ro("x"), b.rw("state"));
    let (stride, layer) = (b.count_l("stride"), b.count("layer"));
    let (begin, end) = (b.begin(), b.end());
    let layers = b.convert(layer);
    let layers = b.splat(layers);
    b.for_each(begin, end, |b, unit| {
        let strips = b.const_n(STRIPS as i32);
        let (row, strip) = (b.udiv(unit, strips), b.urem(unit, strips));
        let (w, x) = (b.index(w, strip, 64), b.index(x, unit, 64));
        let row = b.extend(row);
        let bytes = b.mul(row, stride);
        let state = b.offset_by(state, bytes);
        let state = b.index(state, strip, 64);
        let (w, x, before) = (b.load_f(w, 0), b.load_f(x, 0), b.load_f(state, 0));
        let term = b.mul(w, x);
        let sum = b.add(before, term);
        let sum = b.add(sum, layers);
        b.store_f(state, 0, sum);
    });
    let accumulate = b.finish();

    let mut b = Builder::new("halve");
    let (count, out, status, rows, round) =
        (b.rw("count"), b.rw("out"), b.rw("status"), b.count("rows"), b.count("round"));
    let half = b.shr_u(rows, 1);
    b.store_n(count, 0, half);
    let at = b.index(out, round, 4);
    b.store_n(at, 0, rows);
    let two = b.const_n(2);
    let is_two = b.eq(rows, two);
    b.if_then(is_two, |b| {
        let code = b.const_n(42);
        b.store_n(status, 0, code);
    });
    let halve = b.finish();
    let mut twin = halve.clone();
    twin.name = "start".into();

    let (layer, round) = (LoopVar(0), LoopVar(1));
    let active = RowsId(1);
    let halve_step = |rows: RowsId, kernel: u32, round: Count| Step::Launch {
        kernel: KernelId(kernel),
        args: vec![
            Arg::at(Base::Scratch, 64),
            Arg::at(Base::Output(0), 0),
            Arg::at(Base::Scratch, 0),
            Arg::Count(Count::Rows(rows)),
            Arg::Count(round),
        ],
        work: Work::once(),
    };
    let steps = vec![
        Step::Loop {
            var: layer,
            first: 0,
            end: 2,
            rows: None,
            body: vec![Step::Launch {
                kernel: KernelId(0),
                args: vec![
                    Arg::Pointer {
                        base: Base::Weights,
                        offset: 0,
                        scaled: vec![(layer, 64 * STRIPS as u64)],
                        extent: None,
                    },
                    Arg::at(Base::Input(0), 0),
                    Arg::at(Base::State, 64),
                    Arg::Count(Count::StateStride),
                    Arg::Count(Count::LoopVar(layer)),
                ],
                work: Work::parallel(STRIPS as u32, Some(RowsId::CONTEXT), 2),
            }],
        },
        halve_step(RowsId::CONTEXT, 2, Count::Const(0)),
        Step::LoadRows { into: active, offset: 64 },
        Step::Loop {
            var: round,
            first: 1,
            end: 16,
            rows: Some(active),
            body: vec![
                Step::Tally { rows: active, tally: TALLY },
                Step::IfRows { rows: active, body: vec![halve_step(active, 1, Count::LoopVar(round))] },
                Step::LoadRows { into: active, offset: 64 },
            ],
        },
    ];
    Program {
        kernels: vec![accumulate, halve, twin],
        entries: vec![Driver {
            name: "step".into(),
            input_bytes: vec![192],
            output_bytes: vec![64],
            state_bytes: 64 + 64 * STRIPS as u64,
            tallies: TALLY + 1,
            steps,
        }],
        weight_bytes: 2 * 64 * STRIPS as u64,
        scratch_bytes: 192,
        max_rows: 8,
        row_counts: 2,
        loop_vars: 2,
        status_offset: Some(0),
    }
}

struct Data {
    weights: Buffer,
    state: Buffer,
    scratch: Buffer,
    input: Buffer,
    output: Buffer,
    position: Buffer,
}

const STATE_STRIDE: u64 = 256;

/// A tally behind the words that the kernels use themselves.
const TALLY: u32 = 16;

/// What the tally of a call counted.
fn tallied(data: &Data) -> Option<u32> {
    data.scratch.words().nth((TALLIES / 4) as usize + TALLY as usize)
}

fn data() -> Data {
    Data {
        weights: Buffer::of_floats(&Image::Normal.floats(2 * 16 * STRIPS as usize, 1)),
        state: Buffer::of_floats(&Image::Normal.floats(64 * ROWS as usize, 2)),
        scratch: Buffer::new(&[0xff; 192]),
        input: Buffer::of_floats(&Image::Normal.floats(48 * ROWS as usize, 3)),
        output: Buffer::new(&[0; 64 * ROWS as usize]),
        position: Buffer::new(&[0; 64]),
    }
}

fn interpret(order: Order) -> (i32, Data) {
    let program = program();
    let mut data = data();
    let buffers = Buffers {
        weights: data.weights.bytes(),
        state: data.state.bytes_mut(),
        state_stride: STATE_STRIDE,
        scratch: data.scratch.bytes_mut(),
        inputs: vec![data.input.bytes()],
        outputs: vec![data.output.bytes_mut()],
        position: data.position.bytes(),
        rows: ROWS as u32,
    };
    let status = run(prove(&program).unwrap(), &program.entries[0], buffers, order).unwrap();
    (status, data)
}

/// A pool that runs the chunks on several threads, last first, and checks the call.
unsafe extern "C" fn parallel(pool: *mut c_void, kernel: KernelFn, args: *const u64, units: i32, grain: i32) {
    assert_eq!(pool as usize, 77);
    assert!(units > grain && grain == 2);
    let address = args as usize;
    std::thread::scope(|scope| {
        for begin in (0..units).step_by(grain as usize).rev() {
            scope.spawn(move || {
                // SAFETY: the caller's table outlives the scope, and chunks of a launch are independent.
                unsafe { kernel(address as *const u64, begin, (begin + grain).min(units)) };
            });
        }
    });
}

#[test]
fn a_program_runs_the_same_everywhere() {
    let (status, expected) = interpret(Order::Whole);
    assert_eq!(status, 42);
    let rounds: Vec<u32> = expected.output.words().take(4).collect();
    assert_eq!(rounds, [5, 2, 1, 0]);
    assert_eq!(tallied(&expected), Some(2 + 1));
    for order in [Order::ReversedChunks, Order::Watched] {
        let (_, other) = interpret(order);
        assert_eq!(other.state.bytes(), expected.state.bytes());
    }
    let program = program();
    for cpu in Cpu::here() {
        let jit = Jit::new(&program, cpu).unwrap();
        assert_eq!(jit.report.distinct_kernels, 2, "the twins share their code");
        let entry = jit.entry("step").unwrap();
        for pool in [false, true] {
            let mut data = data();
            let inputs = [data.input.bytes().as_ptr()];
            let outputs = [data.output.bytes_mut().as_mut_ptr()];
            let mut context = Context {
                weights: data.weights.bytes().as_ptr(),
                state: data.state.bytes_mut().as_mut_ptr(),
                state_stride: STATE_STRIDE,
                scratch: data.scratch.bytes_mut().as_mut_ptr(),
                inputs: inputs.as_ptr(),
                outputs: outputs.as_ptr(),
                position: data.position.bytes().as_ptr().cast(),
                rows: ROWS,
                parallel_for: pool.then_some(parallel),
                pool: 77 as *mut c_void,
            };
            // SAFETY: every buffer is as large as the program says, and lives here.
            let status = unsafe { entry(&raw mut context) };
            assert_eq!(status, 42);
            assert_eq!(data.state.bytes(), expected.state.bytes(), "{}", cpu.name());
            assert_eq!(data.output.bytes(), expected.output.bytes(), "{}", cpu.name());
            assert_eq!(tallied(&data), Some(3), "{}", cpu.name());
        }
    }
}

/// A program of one kernel that reads at `from` what each of 4 units writes at `to`, both in scratch.
fn copying(from: (u64, i64), to: (u64, i64)) -> Result<i32, Trap> {
    let mut b = Builder::new("copy");
    let (x, y) = (b.ro("x"), b.rw("y"));
    let (begin, end) = (b.begin(), b.end());
    b.for_each(begin, end, |b, unit| {
        let (x, y) = (b.index(x, unit, from.1), b.index(y, unit, to.1));
        let value = b.load_f(x, 0);
        b.store_f(y, 0, value);
    });
    let args = vec![Arg::at(Base::Scratch, from.0), Arg::at(Base::Scratch, to.0)];
    let steps = vec![Step::Launch { kernel: KernelId(0), args, work: Work::parallel(4, None, 1) }];
    let program = Program {
        kernels: vec![b.finish()],
        entries: vec![Driver { name: "copy".into(), steps, ..Driver::default() }],
        scratch_bytes: 512,
        row_counts: 1,
        ..Program::default()
    };
    let mut scratch = vec![0; 576];
    let buffers = Buffers {
        weights: &[],
        state: &mut [],
        state_stride: 0,
        scratch: &mut scratch,
        inputs: Vec::new(),
        outputs: Vec::new(),
        position: &[],
        rows: 1,
    };
    run(prove(&program).unwrap(), &program.entries[0], buffers, Order::Watched)
}

#[test]
fn races_and_broken_promises_are_found() {
    assert_eq!(copying((0, 64), (256, 64)), Ok(0));
    // A tail strip that loads into the next row's memory is no race.
    assert_eq!(copying((192, 0), (196, 64)), Ok(0));
    let message = |result: Result<i32, Trap>| result.unwrap_err().to_string();
    assert!(message(copying((0, 64), (256, 32))).contains("two chunks write"));
    assert!(message(copying((0, 64), (64, 64))).contains("read as constant and written"));
}

#[test]
fn wrong_programs_are_refused() {
    let spoil: [fn(&mut Program); 9] = [
        |program| program.weight_bytes = 64,
        |program| program.row_counts = 1,
        |program| program.loop_vars = 1,
        |program| program.status_offset = Some(190),
        |program| program.entries[0].tallies = TALLY,
        |program| program.entries[0].tallies = 1000,
        |program| program.entries[0].input_bytes.clear(),
        |program| {
            program.kernels.pop();
        },
        |program| program.kernels.swap(0, 1),
    ];
    for spoil in spoil {
        let mut program = program();
        spoil(&mut program);
        assert!(matches!(Jit::new(&program, Cpu::Native), Err(CompileError::Unsound(NotProven::Invalid(_)))));
    }
    assert!(program().verify().is_ok());
}

#[test]
fn clif_and_assembly_are_shown() {
    let program = program();
    let clif = super::super::text::clif(&program.kernels[0], Cpu::X86V1).unwrap();
    assert!(clif.contains("fadd"));
    let assembly = super::super::text::assembly(&program.kernels[0], Cpu::X86V3).unwrap();
    assert!(assembly.contains("vaddps") && assembly.contains("ret"));
    assert!(program.to_string().contains("loop i0 = 0 .. 2 {"));
}
