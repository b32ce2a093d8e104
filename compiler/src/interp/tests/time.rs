//! States, and the agreement of one evaluation of many steps with many evaluations of one step.

use super::*;
use proptest::prelude::*;

/// A body in step form, as an entry of its own and inside a scan.
fn both(declarations: &str, output: &str, body: &str) -> Module {
    let lifted =
        format!("{}[T{}", &output[..3], &if output.len() > 3 { format!(", {}", &output[4..]) } else { "]".into() });
    module(&format!(
        "module \"m\" \"\" {declarations}
         entry e0 \"one\" {{ in \"x\" value : f32[3] in \"position\" position : i32 out \"y\" : {output}
           body(%0: f32[3], %1: i32) {{ {body} }} }}
         entry e1 \"many\" lifted {{ in \"x\" value : f32[T, 3] in \"position\" position : i32[T] out \"y\" : {lifted}
           body(%0: f32[T, 3], %1: i32[T]) {{
             %2 = scan %0, %1 : {lifted} {{ body(%0: f32[3], %1: i32) {{ {body} }} }}
             yield %2 }} }}"
    ))
}

/// Runs the steps at once, in two parts, and one by one; gives the outputs if all agree.
fn agreed(module: &Module, x: &[f32], cut: usize) -> Result<Tensor, TestCaseError> {
    let weights = no_weights(module);
    let interpreter = Interpreter::new(module, &weights);
    let steps = x.len() / 3;
    let run = |entry: usize, parts: &[usize]| {
        let mut stream = StreamState::new(module);
        let mut rows = Vec::new();
        let mut from = 0;
        for &n in parts {
            let arguments = Arguments::new().with("x", Tensor::f32(&[n, 3], &x[from * 3..][..n * 3]));
            let y = interpreter.run(&module.entries[entry], &mut stream, n, &arguments).expect("evaluates");
            rows.extend((0..n).map(|t| y["y"].row(t)));
            from += n;
        }
        (rows, stream)
    };
    let cut = cut.min(steps);
    let (expected, end) = run(0, &vec![1; steps]);
    let parts: Vec<usize> = [cut, steps - cut].into_iter().filter(|&n| n > 0).collect();
    for (entry, parts) in [(0, vec![steps]), (1, vec![steps]), (1, parts), (1, vec![1; steps])] {
        let (rows, stream) = run(entry, &parts);
        prop_assert!(rows.iter().zip(&expected).all(|(a, b)| a.same_bits(b)));
        prop_assert!(stream.same_bits(&end));
    }
    let shape = expected.first().map_or(vec![], |t| t.shape.clone());
    Ok(Tensor::stack(&expected, crate::ir::Elem::F32, &shape).expect("equal shapes"))
}

fn steps() -> impl Strategy<Value = Vec<f32>> {
    (1usize..40).prop_flat_map(|n| prop::collection::vec(-3f32..3.0, n * 3))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn recurrences_agree(x in steps(), cut in 0usize..40) {
        let module = both("state s0 \"h\" f32[3] fill(0.5)", "f32[3]", "
            %2 = state_read(s0) : f32[3]
            %3 = sigmoid %0 : f32[3]
            %4 = mul %3, %2 : f32[3]
            %5 = tanh %0 : f32[3]
            %6 = add %4, %5 : f32[3]
            state_write(s0) %6
            yield %6");
        let y = agreed(&module, &x, cut)?;
        let mut h = [0.5f32; 3];
        for (x, y) in x.chunks(3).zip(y.as_f32().expect("f32").chunks(3)) {
            for i in 0..3 {
                let l = &mut crate::numerics::Scalar;
                h[i] = crate::numerics::functions::sigmoid(l, x[i]) * h[i] + crate::numerics::functions::tanh(l, x[i]);
            }
            prop_assert_eq!(y, &h[..]);
        }
    }

    /// Attention over a cache, and over a ring of 5: the ring gives what a masked cache gives, bit for bit.
    #[test]
    fn caches_and_rings_agree(x in steps(), cut in 0usize..40) {
        let attention = |mask: &str, score: usize| format!("
            %2 = state_read(s0) : f32[cache0, 3]
            %3 = push(s0) %2, %0, %1 : f32[cache0, 3]
            state_write(s0) %3
            %4 = matmul(0) %3, %0 : f32[cache0]
            %5 = positions(s0) %3 : i32[cache0]
            {mask}
            %20 = reduce_max(0) %{score} : f32
            %21 = broadcast() %20 : f32[cache0]
            %22 = sub %{score}, %21 : f32[cache0]
            %23 = exp %22 : f32[cache0]
            %24 = reduce_sum(0) %23 : f32
            %25 = broadcast() %24 : f32[cache0]
            %26 = div %23, %25 : f32[cache0]
            %27 = matmul(0) %26, %3 : f32[3]
            yield %27");
        let mask = "
            %6 = broadcast() %1 : i32[cache0]
            %7 = sub %6, %5 : i32[cache0]
            %8 = constant(i32 5) : i32
            %9 = broadcast() %8 : i32[cache0]
            %10 = lt %7, %9 : bool[cache0]
            %11 = constant(f32 -inf) : f32
            %12 = broadcast() %11 : f32[cache0]
            %13 = select %10, %4, %12 : f32[cache0]";
        let state = "state s0 \"keys\" f32[cache0, 3] empty";
        let ring = both(&format!("axis cache0 \"keys\" ring(5) {state}"), "f32[3]", &attention("", 4));
        let cache = both(&format!("axis cache0 \"keys\" unbounded {state}"), "f32[3]", &attention(mask, 13));
        prop_assert!(agreed(&ring, &x, cut)?.same_bits(&agreed(&cache, &x, cut)?));
    }

    /// A delay by two steps, as a ring of three read from its newest end.
    #[test]
    fn delays_agree(x in steps(), cut in 0usize..40) {
        let module = both("axis cache0 \"d\" ring(3) state s0 \"d\" f32[cache0, 3] empty", "f32[3]", "
            %2 = state_read(s0) : f32[cache0, 3]
            %3 = push(s0) %2, %0, %1 : f32[cache0, 3]
            state_write(s0) %3
            %4 = recent(s0, 2) %3 : f32[3]
            yield %4");
        let y = agreed(&module, &x, cut)?;
        let mut delayed = vec![0.0; 6];
        delayed.extend_from_slice(&x);
        prop_assert_eq!(y.as_f32().expect("f32"), &delayed[..x.len()]);
    }

    /// Fixed places before the entries of a ring keep their lanes, and so do the entries.
    #[test]
    fn lanes_are_absolute_places(x in steps(), cut in 0usize..40) {
        let module = both("axis cache0 \"k\" ring(7) state s0 \"k\" f32[3, cache0] empty", "f32", "
            %2 = state_read(s0) : f32[3, cache0]
            %3 = push(s0) %2, %0, %1 : f32[3, cache0]
            state_write(s0) %3
            %4 = reshape %0 : f32[3, 1]
            %5 = concat(1) %4, %3 : f32[3, cache0+1]
            %6 = reduce_sum(1) %5 : f32[3]
            %7 = reduce_sum(0) %6 : f32
            yield %7");
        let y = agreed(&module, &x, cut)?;
        for (t, &y) in y.as_f32().expect("f32").iter().enumerate() {
            let mut sums = [0f32; 3];
            for (i, sum) in sums.iter_mut().enumerate() {
                let mut partials = [0f32; 16];
                partials[0] += x[t * 3 + i];
                for s in t.saturating_sub(6)..=t { partials[(1 + s) % 16] += x[s * 3 + i]; }
                for width in [8, 4, 2, 1] { for l in 0..width { partials[l] += partials[l + width]; } }
                *sum = partials[0];
            }
            let mut partials = [0f32; 16];
            partials[..3].copy_from_slice(&sums);
            for width in [8, 4, 2, 1] { for l in 0..width { partials[l] += partials[l + width]; } }
            prop_assert_eq!(y.to_bits(), partials[0].to_bits());
        }
    }
}

#[test]
fn a_full_cache_is_an_error_and_leaves_the_stream_as_it_was() {
    let body = "%2 = state_read(s0) : f32[cache0, 3]
                %3 = push(s0) %2, %0, %1 : f32[cache0, 3]
                state_write(s0) %3
                yield %0";
    let module = both("axis cache0 \"k\" max(2) state s0 \"k\" f32[cache0, 3] empty", "f32[3]", body);
    let weights = no_weights(&module);
    let interpreter = Interpreter::new(&module, &weights);
    let mut stream = StreamState::new(&module);
    let x = Arguments::new().with("x", Tensor::f32(&[3], [1.0; 3]));
    interpreter.run(&module.entries[0], &mut stream, 1, &x).expect("one fits");
    let snapshot = stream.clone();
    let error = interpreter.run(&module.entries[1], &mut stream, 2, &x).expect_err("three do not fit");
    assert_eq!(error.fault, Fault::Overflow { state: "k".into(), capacity: 2 });
    assert!(stream.same_bits(&snapshot));
    interpreter.run(&module.entries[1], &mut stream, 1, &x).expect("two fit");
    assert!(!stream.same_bits(&snapshot));
}

#[test]
fn nan_of_outputs_is_canonical() {
    let module = both("", "f32[3]", "%2 = neg %0 : f32[3] yield %2");
    let weights = no_weights(&module);
    let mut stream = StreamState::new(&module);
    let odd = f32::from_bits(0x7fc1_2345);
    let x = Arguments::new().with("x", Tensor::f32(&[3], [odd, 1.0, -odd]));
    let y = Interpreter::new(&module, &weights).run(&module.entries[1], &mut stream, 2, &x).expect("evaluates");
    let bits: Vec<u32> = y["y"].as_f32().expect("f32").iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits[..3], [0x7fc0_0000, (-1f32).to_bits(), 0x7fc0_0000]);
}

#[test]
fn a_read_gives_the_value_before_the_step_wherever_it_stands() {
    let body = "state_write(s0) %0 %2 = state_read(s0) : f32[3] yield %2";
    let module = both("state s0 \"s\" f32[3] fill(7.0)", "f32[3]", body);
    let y = agreed(&module, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 1).expect("evaluates");
    assert_eq!(y.as_f32(), Some(&[7.0, 7.0, 7.0, 1.0, 2.0, 3.0][..]));
}
