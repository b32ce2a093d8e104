//! The builder, the printer, the verifier and the interpreter by themselves.

use super::build::Builder;
use super::interp::memory::{Memory, Pointer, Region, Trap};
use super::interp::{Slot, run};
use super::ir::*;
use super::verify::verify;

/// out[0..16] = sum over n strips of x, doubled where the sum is negative.
fn sample() -> Kernel {
    let mut b = Builder::new("sample");
    let (x, out, n) = (b.ro("x"), b.rw("out"), b.count("n"));
    let (start, zero) = (b.const_n(0), b.const_f(0.0));
    let sum = b.loop_carried((start, n, 1), &[zero], |b, strip, sum| {
        let at = b.index(x, strip, 64);
        let value = b.load_f(at, 0);
        vec![b.add(sum[0], value)]
    })[0];
    let total = b.red_add(sum);
    let none = b.const_s(0.0);
    let negative = b.lt(total, none);
    let result = b.if_else(negative, |b| vec![b.add(sum, sum)], |_| vec![sum])[0];
    b.store_f(out, 0, result);
    b.finish()
}

#[test]
fn kernels_print_as_documented() {
    let expected = "\
kernel sample(ro x, rw out, count n) {
  v0:P = param 0
  v1:P = param 1
  v2:N = count 2
  v3:N = const.n 0
  v4:F = const.f 0x00000000
  v10:F = loop v5 = v3 .. v2 step 1 [v6:F = v4] {
    v7:P = index 64 v0, v5
    v8:F = load.f32x16+0 v7
    v9:F = add v6, v8
    yield v9
  }
  v11:S = reduce.add v10
  v12:S = const.s 0x00000000
  v13:N = cmp.lt v11, v12
  v15:F = if v13 {
    v14:F = add v10, v10
    yield v14
  } else {
    yield v10
  }
  store.f32x16+0 v1, v15
}
";
    assert_eq!(sample().to_string(), expected);
}

#[test]
fn the_interpreter_runs_it() {
    let strips: Vec<u8> = (0..32).flat_map(|i| (-(i as f32)).to_le_bytes()).collect();
    let mut out = vec![0u8; 64];
    let mut memory = Memory { regions: vec![Region::Ro(&strips), Region::Rw(&mut out)], watch: None };
    let pointer = |region| Slot::Pointer(Pointer { region, offset: 0 });
    let args = [pointer(0), pointer(1), Slot::Count(2)];
    run(&sample(), &mut memory, &args, 0, 1).unwrap();
    let lanes: Vec<f32> = out.chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();
    let expected: Vec<f32> = (0..16).map(|i| -2.0 * (2 * i + 16) as f32).collect();
    assert_eq!(lanes, expected);
}

#[test]
fn leaving_a_buffer_is_a_trap() {
    let strips = vec![0u8; 128];
    let mut out = vec![0u8; 64];
    let pointer = |region, offset| Slot::Pointer(Pointer { region, offset });
    for (args, wanted) in [
        ([pointer(0, 0), pointer(1, 0), Slot::Count(3)], "leaves region 0"),
        ([pointer(0, -64), pointer(1, 0), Slot::Count(1)], "leaves region 0"),
        ([pointer(0, 0), pointer(1, 4), Slot::Count(1)], "leaves region 1"),
        ([pointer(0, 0), pointer(0, 0), Slot::Count(1)], "read-only region 0"),
        ([pointer(0, 0), Slot::Count(1), Slot::Count(1)], "wrong arguments"),
    ] {
        let mut memory = Memory { regions: vec![Region::Ro(&strips), Region::Rw(&mut out)], watch: None };
        let trap = run(&sample(), &mut memory, &args, 0, 1).unwrap_err();
        assert!(trap.to_string().contains(wanted), "{trap}");
    }
}

#[test]
fn an_overflowing_dot_is_a_trap() {
    let mut b = Builder::new("overflow");
    let (w, x) = (b.ro("w"), b.ro("x"));
    let zero = b.acc_zero();
    b.fold_n(4000, &[zero], |b, _, acc| {
        let (w, x) = (b.load_b(w, 0), b.load_b(x, 0));
        vec![b.dot(acc[0], w, 0xc0, x)]
    });
    let (w, x) = ([0xff; 64], [127; 64]);
    let mut memory = Memory { regions: vec![Region::Ro(&w), Region::Ro(&x)], watch: None };
    let args = [0, 1].map(|region| Slot::Pointer(Pointer { region, offset: 0 }));
    assert_eq!(run(&b.finish(), &mut memory, &args, 0, 1), Err(Trap::DotOverflow));
}

fn refused(kernel: &Kernel, wanted: &str) {
    let problems = verify(kernel).expect_err("the kernel is wrong");
    assert!(problems.iter().any(|problem| problem.contains(wanted)), "{problems:?}");
}

#[test]
fn the_verifier_refuses_each_broken_rule() {
    assert_eq!(verify(&sample()), Ok(()));
    let spoilt = |spoil: &dyn Fn(&mut Kernel)| {
        let mut kernel = sample();
        spoil(&mut kernel);
        kernel
    };
    refused(&spoilt(&|k| k.params[1].kind = ParamKind::Ro), "read-only parameter out");
    refused(&spoilt(&|k| k.params[0].kind = ParamKind::Count), "not a pointer");
    refused(&spoilt(&|k| k.body.insts.swap(0, 5)), "not defined there");
    refused(&spoilt(&|k| k.body.yields.push(Value(4))), "yields nothing");
    refused(&spoilt(&|k| k.body.insts[3].results[0] = Value(2)), "defined twice");
    refused(&spoilt(&|k| k.body.insts[3].results[0] = Value(99)), "has no type");
    refused(&spoilt(&|k| k.values[11] = Type::N), "gives");
    refused(&spoilt(&|k| k.body.insts[6].args[0] = Value(0)), "takes [F]");
    // The value of a loop's body is not seen after it, nor one branch's in the other.
    refused(&spoilt(&|k| k.body.insts[6].args[0] = Value(9)), "not defined there");
    let branch = |k: &mut Kernel| {
        if let Op::If { otherwise, .. } = &mut k.body.insts[9].op {
            otherwise.yields[0] = Value(14);
        }
    };
    refused(&spoilt(&branch), "not defined there");
    let body = |spoil: &dyn Fn(&mut Block, &mut i32)| {
        let mut kernel = sample();
        if let Op::Loop { step, body } = &mut kernel.body.insts[5].op {
            spoil(body, step);
        }
        kernel
    };
    refused(&body(&|_, step| *step = 0), "positive");
    refused(&body(&|block, _| block.yields.clear()), "yields the carried");
    refused(&body(&|block, _| block.yields[0] = Value(5)), "yields the carried");
    refused(&body(&|block, _| block.params.truncate(1)), "not defined there");
}

#[test]
fn a_pointer_has_one_origin() {
    let mut b = Builder::new("two");
    let (x, y, n) = (b.ro("x"), b.rw("y"), b.count("n"));
    let chosen = b.select(n, x, y);
    b.load_s(chosen, 0);
    refused(&b.finish(), "two buffers");

    let mut b = Builder::new("carried");
    let (x, y) = (b.rw("x"), b.rw("y"));
    b.fold_n(3, &[x, y], |_, _, carried| vec![carried[1], carried[0]]);
    refused(&b.finish(), "two buffers");
}

#[test]
fn dot_rows_are_bounded() {
    let attempt = |packing, blocks| {
        std::panic::catch_unwind(|| {
            let mut b = Builder::new("rows");
            let (w, x) = (b.ro("w"), b.ro("x"));
            b.dot_rows(DotRows { packing, blocks, tokens: 1, stride: 64 }, w, x);
        })
    };
    assert!(attempt(Packing::Codes2, 2048).is_ok());
    assert!(attempt(Packing::Codes2, 2049).is_err());
    assert!(attempt(Packing::Bytes8, 2049).is_err());
}
