//! What the prover accepts and what it refuses, on small kernels and on programs that were changed at random.

mod mutated;

use super::{NotProven, prove};
use crate::kernel::build::Builder;
use crate::kernel::ir::{Kernel, Mem, Value};
use crate::kernel::program::{Arg, Base, Count, Driver, Extent, KernelId, LoopVar, Program, RowsId, Step, Work};

const ROWS: u32 = 8;

/// A launch of a kernel whose first parameters are `x`, 256 bytes of scratch, and `y`, 64 bytes per row of an output.
fn program(kernel: Kernel, more: Vec<Arg>, work: Work) -> Program {
    let mut args = vec![Arg::to(Base::Scratch, Extent { start: 128, end: 384 }), Arg::at(Base::Output(0), 0)];
    args.extend(more);
    Program {
        kernels: vec![kernel],
        entries: vec![Driver {
            name: "step".into(),
            output_bytes: vec![64],
            state_bytes: 192,
            steps: vec![Step::Launch { kernel: KernelId(0), args, work }],
            ..Driver::default()
        }],
        scratch_bytes: 1024,
        max_rows: ROWS,
        row_counts: 1,
        ..Program::default()
    }
}

/// Why a kernel of two pointers and a count of rows is refused; nothing if it is accepted.
fn refused(body: impl FnOnce(&mut Builder, Value, Value, Value)) -> Option<String> {
    let mut b = Builder::new("kernel");
    let (x, y, rows) = (b.rw("x"), b.rw("y"), b.count("rows"));
    body(&mut b, x, y, rows);
    let rows = Arg::Count(Count::Rows(RowsId::CONTEXT));
    let program = program(b.finish(), vec![rows], Work::parallel(4, Some(RowsId::CONTEXT), 1));
    match prove(&program) {
        Ok(_) => None,
        Err(NotProven::Accesses(list)) => Some(list[0].to_string()),
        Err(problem) => panic!("{problem}"),
    }
}

#[track_caller]
fn accepts(body: impl FnOnce(&mut Builder, Value, Value, Value)) {
    assert_eq!(refused(body), None);
}

#[track_caller]
fn refuses(said: &str, body: impl FnOnce(&mut Builder, Value, Value, Value)) {
    let found = refused(body).expect("it is refused");
    assert!(found.contains(said), "{found}");
}

#[test]
fn strips_end_with_their_allocation() {
    for (strips, stores, fits) in [(4, true, true), (5, true, false), (5, false, true), (6, false, false)] {
        let found = refused(|b, x, y, _| {
            b.for_n(strips, |b, strip| {
                let at = b.index(x, strip, 64);
                let value = b.load_f(if stores { y } else { at }, 0);
                b.store_f(if stores { at } else { y }, 0, value);
            });
        });
        assert_eq!(found.is_none(), fits, "{strips} {found:?}");
    }
}

#[test]
fn extents_are_printed() {
    let mut b = Builder::new("kernel");
    let (x, _) = (b.rw("x"), b.rw("y"));
    let rows = b.count("rows");
    b.store_n(x, 0, rows);
    let shown = program(b.finish(), vec![Arg::Count(Count::Rows(RowsId::CONTEXT))], Work::once()).to_string();
    let launch = "  kernel(scratch+128 in 128..384, output0+0, rows) units=1\n";
    assert!(shown.contains(launch) && shown.contains("entry step in=[] out=[64] state=192 {"), "{shown}");
}

#[test]
fn what_is_refused_is_named() {
    refuses("entry step, kernel kernel: `store.i32+256 v0` through parameter 0 (x)", |b, x, _, rows| {
        b.store_n(x, 256, rows);
    });
    refuses("before 0", |b, x, _, rows| {
        let below = b.offset(x, -4);
        b.store_n(below, 0, rows);
    });
    refuses("the stack", |b, _, _, rows| {
        let buffer = b.stack(64);
        b.store_n(buffer, 64, rows);
    });
    refuses("no multiple of 64", |b, x, _, _| {
        let value = b.load_b(x, 0);
        b.store(Mem::Bytes64, x, 32, value);
    });
}

#[test]
fn loaded_numbers_must_be_clamped() {
    refuses("parameter 0 (x)", |b, x, _, rows| {
        let n = b.load_n(x, 0);
        let at = b.index(x, n, 4);
        b.store_n(at, 0, rows);
    });
    accepts(|b, x, _, rows| {
        let n = b.load_n(x, 0);
        let n = b.clamp(n, 0, 63);
        let at = b.index(x, n, 4);
        b.store_n(at, 0, rows);
    });
    refuses("parameter 0 (x)", |b, x, _, rows| {
        let n = b.load_n(x, 0);
        let n = b.clamp(n, 0, 64);
        let at = b.index(x, n, 4);
        b.store_n(at, 0, rows);
    });
    refuses("parameter 0 (x)", |b, x, _, rows| {
        let n = b.load_n(x, 0);
        let n = b.clamp(n, -1, 63);
        let at = b.index(x, n, 4);
        b.store_n(at, 0, rows);
    });
}

#[test]
fn rows_reach_to_the_end_of_the_calls_buffers() {
    accepts(|b, _, y, rows| {
        let zero = b.const_n(0);
        b.for_each(zero, rows, |b, row| {
            let at = b.index(y, row, 64);
            b.store_n(at, 60, row);
        });
    });
    refuses("parameter 1 (y)", |b, _, y, rows| {
        let zero = b.const_n(0);
        b.for_each(zero, rows, |b, row| {
            let at = b.index(y, row, 64);
            b.store_n(at, 64, row);
        });
    });
    // Rows that a list in memory names.
    accepts(|b, x, y, rows| {
        let row = b.load_n(x, 0);
        let row = b.clamp_row(row, rows);
        let at = b.index(y, row, 64);
        b.store_n(at, 60, row);
    });
    refuses("parameter 1 (y)", |b, x, y, _| {
        let row = b.load_n(x, 0);
        let row = b.clamp(row, 0, ROWS as i32 - 1);
        let at = b.index(y, row, 64);
        b.store_n(at, 60, row);
    });
    // Units are counted head by head.
    for (heads, fits) in [(4, true), (3, false)] {
        let found = refused(|b, x, _, rows| {
            let (begin, end) = (b.begin(), b.end());
            b.for_each(begin, end, |b, unit| {
                let head = b.udiv(unit, rows);
                let at = b.index(x, head, 256 / heads / 4 * 4);
                b.store_n(at, 256 - 256 / 4 * 3 - 4, unit);
            });
        });
        assert_eq!(found.is_none(), fits, "{found:?}");
    }
}

#[test]
fn tiles_and_rests_of_a_range() {
    let tiles = |over: i32| {
        refused(move |b, x, _, rows| {
            let (zero, mask) = (b.const_n(0), b.const_n(-4));
            let n = b.load_n(x, 0);
            let from = b.smax(n, zero);
            let from = b.smin(from, rows);
            let all = b.sub(rows, from);
            let tiles = b.and(all, mask);
            let middle = b.add(from, tiles);
            b.loop_carried((from, middle, 4), &[], |b, row, _| {
                let at = b.index(x, row, 32);
                b.store_n(at, 3 * 32 + 28 + over, row);
                Vec::new()
            });
            b.for_each(middle, rows, |b, row| {
                let at = b.index(x, row, 32);
                b.store_n(at, 28 + over, row);
            });
        })
    };
    assert_eq!(tiles(0), None);
    assert!(tiles(4).is_some());
}

#[test]
fn carried_pointers_and_numbers() {
    for (rounds, fits) in [(4, true), (5, false)] {
        let found = refused(|b, x, _, rows| {
            b.fold_n(rounds, &[x], |b, _, carried| {
                b.store_n(carried[0], 60, rows);
                vec![b.offset(carried[0], 64)]
            });
        });
        assert_eq!(found.is_none(), fits, "{found:?}");
    }
    // A count of what a condition lets through.
    accepts(|b, x, _, _| {
        let zero = b.const_n(0);
        b.fold_n(64, &[zero], |b, i, carried| {
            let at = b.index(x, carried[0], 4);
            b.store_n(at, 0, i);
            let one = b.const_n(1);
            let more = b.add(carried[0], one);
            let odd = b.and(i, one);
            vec![b.select(odd, more, carried[0])]
        });
    });
    // What doubles is any number.
    refuses("parameter 0 (x)", |b, x, _, _| {
        let one = b.const_n(1);
        b.fold_n(4, &[one], |b, i, carried| {
            let at = b.index(x, carried[0], 4);
            b.store_n(at, 0, i);
            vec![b.add(carried[0], carried[0])]
        });
    });
}

#[test]
fn what_wraps_is_no_sum() {
    refuses("parameter 0 (x)", |b, x, _, rows| {
        let n = b.load_n(x, 0);
        let large = b.const_n(i32::MAX);
        let sum = b.add(n, large);
        let back = b.sub(sum, large);
        let back = b.sub(back, n);
        let twice = b.add(back, back);
        let n = b.smax(n, twice);
        let at = b.index(x, n, 4);
        b.store_n(at, 0, rows);
    });
    // The index of this loop wraps and goes on below 0.
    refuses("parameter 0 (x)", |b, x, _, _| {
        let (start, end) = (b.const_n(i32::MAX - 40), b.const_n(i32::MAX));
        b.loop_carried((start, end, 32), &[], |b, index, _| {
            let down = b.const_n(i32::MAX - 40);
            let place = b.sub(index, down);
            let at = b.index(x, place, 4);
            b.store_n(at, 0, index);
            Vec::new()
        });
    });
}

#[test]
fn states_of_the_rows_own_streams() {
    let kernel = |offset: i32, clamped: bool| {
        let mut b = Builder::new("state");
        let (list, _, state) = (b.rw("list"), b.rw("y"), b.rw("state"));
        let (stride, rows) = (b.count_l("stride"), b.count("rows"));
        let row = b.load_n(list, 0);
        let block = if clamped { b.clamp_row(row, rows) } else { b.clamp(row, 0, ROWS as i32 - 1) };
        let block = b.extend(block);
        let bytes = b.mul(block, stride);
        let at = b.offset_by(state, bytes);
        b.store_n(at, offset, row);
        let extent = Some(Extent { start: 64, end: 128 });
        let more = vec![
            Arg::Pointer { base: Base::State, offset: 64, scaled: Vec::new(), extent },
            Arg::Count(Count::StateStride),
            Arg::Count(Count::Rows(RowsId::CONTEXT)),
        ];
        prove(&program(b.finish(), more, Work::once())).is_ok()
    };
    assert!(kernel(60, true));
    assert!(!kernel(64, true), "the next state's bytes");
    assert!(!kernel(60, false), "the call may have fewer rows than there can be");
}

#[test]
fn extents_and_loops_of_the_driver() {
    let layers = |end: i32, extent: Option<Extent>| {
        let mut b = Builder::new("layer");
        let (x, _, z) = (b.rw("x"), b.rw("y"), b.rw("z"));
        let value = b.load_n(x, 0);
        b.store_n(z, 60, value);
        let var = LoopVar(0);
        let z = Arg::Pointer { base: Base::Scratch, offset: 512, scaled: vec![(var, 64)], extent };
        let mut program = program(b.finish(), vec![z], Work::once());
        let body = std::mem::take(&mut program.entries[0].steps);
        program.entries[0].steps = vec![Step::Loop { var, first: 0, end, rows: None, body }];
        program.loop_vars = 1;
        prove(&program).map(|_| ()).map_err(|problem| problem.to_string())
    };
    let four = Some(Extent { start: 512, end: 768 });
    assert_eq!(layers(4, four), Ok(()));
    assert!(layers(5, four).is_err_and(|said| said.contains("parameter 2 (z)")));
    assert_eq!(layers(8, None), Ok(()));
    assert!(layers(4, Some(Extent { start: 512, end: 1028 })).is_err_and(|said| said.contains("leaves its buffer")));
}
