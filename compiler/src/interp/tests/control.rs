//! Choices, repeats, experts, hosts and inner entries, in step form and lifted.

use super::*;
use proptest::prelude::*;

/// Runs two entries over the same steps and gives the output of the first if outputs and streams agree.
fn same(module: &Module, x: &[f32], host: Option<&dyn Host>) -> Vec<f32> {
    let weights = no_weights(module);
    let mut results = Vec::new();
    for entry in &module.entries {
        let mut interpreter = Interpreter::new(module, &weights);
        if let Some(host) = host {
            interpreter = interpreter.with_host(host);
        }
        let mut stream = StreamState::new(module);
        let arguments = Arguments::new().with("x", Tensor::f32(&[x.len()], x));
        let mut y = interpreter.run(entry, &mut stream, x.len(), &arguments).expect("evaluates");
        results.push((y.remove("y").expect("y"), stream));
    }
    assert!(results[0].0.same_bits(&results[1].0) && results[0].1.same_bits(&results[1].1));
    results[0].0.as_f32().expect("f32").to_vec()
}

const SCALAR: &str = "in \"x\" value : f32 out \"y\" : f32";
const LIFTED: &str = "in \"x\" value : f32[T] out \"y\" : f32[T]";

proptest! {
    /// Only positive inputs are summed up; the others pass by and leave the sum.
    #[test]
    fn choices_run_on_the_steps_that_take_them(x in prop::collection::vec(-2f32..2.0, 1..20)) {
        let add = "%1 = state_read(s0) : f32 %2 = add %1, %0 : f32 state_write(s0) %2 yield %2";
        let module = module(&format!("module \"m\" \"\" state s0 \"sum\" f32 fill(0.0)
            entry e0 \"one\" {{ {SCALAR} body(%0: f32) {{
              %1 = constant(f32 0.0) : f32 %2 = gt %0, %1 : bool
              %3 = if %2, %0 : f32 {{ then(%0: f32) {{ {add} }} else(%0: f32) {{ yield %0 }} }} yield %3 }} }}
            entry e1 \"many\" lifted {{ {LIFTED} body(%0: f32[T]) {{
              %1 = constant(f32 0.0) : f32 %4 = broadcast() %1 : f32[T] %2 = gt %0, %4 : bool[T]
              %3 = if %2, %0 : f32[T] {{
                then(%0: f32[T]) {{ %1 = scan %0 : f32[T] {{ body(%0: f32) {{ {add} }} }} yield %1 }}
                else(%0: f32[T]) {{ yield %0 }} }} yield %3 }} }}"));
        let mut sum = 0f32;
        let expected: Vec<f32> = x.iter().map(|&v| if v > 0.0 { sum += v; sum } else { v }).collect();
        prop_assert_eq!(same(&module, &x, None), expected);
    }

    /// Each round has its own counter, and steps leave once their value passes a bound.
    #[test]
    fn repeats_leave_step_by_step_and_have_a_state_per_round(x in prop::collection::vec(0f32..3.0, 1..12)) {
        let count = "%2 = state_read(s0) : f32 %3 = add %2, %1 : f32 state_write(s0) %3
                     %4 = constant(f32 4.0) : f32 %5 = gt %3, %4 : bool yield %5, %3";
        let module = module(&format!("module \"m\" \"\" state s0 \"c\" f32 fill(0.0) instances[3]
            entry e0 \"one\" {{ {SCALAR} body(%0: f32) {{ %1 = constant(i32 3) : i32
              %2 = repeat(1, 3, 1) %1, %0 : f32 {{ body(%0: i32, %1: f32) {{ {count} }} }} yield %2 }} }}
            entry e1 \"many\" lifted {{ {LIFTED} body(%0: f32[T]) {{ %1 = constant(i32 3) : i32
              %2 = repeat(1, 3, 1) %1, %0 : f32[T] {{ body(%0: i32, %1: f32[T]) {{
                %2, %3 = scan %1 : bool[T], f32[T] {{ body(%1: f32) {{ {count} }} }} yield %2, %3 }} }} yield %2 }} }}"));
        let mut counters = [0f32; 3];
        let expected: Vec<f32> = x.iter().map(|&v| {
            let mut v = v;
            for c in &mut counters {
                *c += v;
                v = *c;
                if v > 4.0 { break; }
            }
            v
        }).collect();
        prop_assert_eq!(same(&module, &x, None), expected);
    }

    /// The count may differ between steps; a round number reaches the body.
    #[test]
    fn counts_may_differ_between_steps(x in prop::collection::vec(-1f32..6.0, 1..12)) {
        let module = module(&format!("module \"m\" \"\"
            entry e0 \"one\" {{ {SCALAR} body(%0: f32) {{ %1 = convert(i32) %0 : i32
              %2 = repeat(10, 4, 1) %1, %0 : f32 {{ body(%0: i32, %1: f32) {{
                %2 = convert(f32) %0 : f32 %3 = add %1, %2 : f32 %4 = constant(bool false) : bool yield %4, %3 }} }}
              yield %2 }} }}
            entry e1 \"many\" lifted {{ {LIFTED} body(%0: f32[T]) {{ %1 = convert(i32) %0 : i32[T]
              %2 = repeat(10, 4, 1) %1, %0 : f32[T] {{ body(%0: i32, %1: f32[T]) {{
                %2 = convert(f32) %0 : f32 %5 = broadcast() %2 : f32[T] %3 = add %1, %5 : f32[T]
                %4 = constant(bool false) : bool yield %4, %3 }} }}
              yield %2 }} }}"));
        let expected: Vec<f32> = x.iter().map(|&v| {
            let n = (v as i32).clamp(0, 4);
            (0..n).fold(v, |sum, r| sum + (10 + r) as f32)
        }).collect();
        prop_assert_eq!(same(&module, &x, None), expected);
    }

    #[test]
    fn experts_run_where_they_were_chosen(x in prop::collection::vec(-1.4f32..1.9, 1..12)) {
        let expert = |ty: &str| format!("
            expert(%0: {ty}) {{ %1 = neg %0 : {ty} yield %1 }}
            expert(%0: {ty}) {{ %1 = exp %0 : {ty} yield %1 }}");
        let module = module(&format!("module \"m\" \"\"
            entry e0 \"one\" {{ {SCALAR} body(%0: f32) {{
              %1 = convert(i32) %0 : i32 %2 = reshape %1 : i32[1] %3 = constant(i32[1] 1) : i32[1]
              %4 = concat(0) %2, %3 : i32[2]
              %5 = experts %4, %0 : f32[2] {{ {} }} %6 = reduce_sum(0) %5 : f32 yield %6 }} }}
            entry e1 \"many\" lifted {{ {LIFTED} body(%0: f32[T]) {{
              %1 = convert(i32) %0 : i32[T] %2 = reshape %1 : i32[T, 1] %7 = constant(i32 1) : i32
              %3 = broadcast() %7 : i32[T, 1] %4 = concat(1) %2, %3 : i32[T, 2]
              %5 = experts %4, %0 : f32[T, 2] {{ {} }} %6 = reduce_sum(1) %5 : f32[T] yield %6 }} }}",
            expert("f32"), expert("f32[T]")));
        let expected: Vec<f32> = x.iter().map(|&v| {
            let e = crate::numerics::functions::exp(&mut crate::numerics::Scalar, v);
            let first = match v as i32 { 0 => -v, 1 => e, _ => 0.0 };
            first + e
        }).collect();
        prop_assert_eq!(same(&module, &x, None), expected);
    }
}

struct Doubler;

impl Host for Doubler {
    fn call(&self, name: &str, arguments: &[Tensor]) -> Option<Tensor> {
        assert_eq!(name, "double");
        let x = arguments[0].as_f32()?[0];
        (x > 0.0).then(|| Tensor::f32(&[], [2.0 * x]))
    }
}

#[test]
fn the_host_answers_step_by_step_or_not_at_all() {
    let ask = |t: &str, b: &str| {
        format!(
            "%1, %2 = host(h0) %0 : {t}, {b} %3 = convert(f32) %2 : {t} %4 = add %1, %3 : {t} probe(\"given\") %2 yield %4"
        )
    };
    let module = module(&format!(
        "module \"m\" \"\" host h0 \"double\" (\"x\": f32) -> f32
         entry e0 \"one\" {{ {SCALAR} body(%0: f32) {{ {} }} }}
         entry e1 \"many\" lifted {{ {LIFTED} body(%0: f32[T]) {{ {} }} }}",
        ask("f32", "bool"),
        ask("f32[T]", "bool[T]")
    ));
    assert_eq!(same(&module, &[1.0, -1.0, 3.0], Some(&Doubler)), [3.0, 0.0, 7.0]);
    assert_eq!(same(&module, &[1.0, -1.0, 3.0], None), [0.0; 3]);
    let weights = no_weights(&module);
    let mut stream = StreamState::new(&module);
    let x = Arguments::new().with("x", Tensor::f32(&[2], [1.0, -1.0]));
    let mut probes = Probes::only(&["given"]);
    Interpreter::new(&module, &weights)
        .with_host(&Doubler)
        .run_probed(&module.entries[1], &mut stream, 2, &x, Some(&mut probes))
        .expect("evaluates");
    assert_eq!(probes.seen["given"], [Tensor::bool(&[], [true]), Tensor::bool(&[], [false])]);
}

#[test]
fn inner_entries_take_the_outer_step_and_absent_inputs_their_neutral_value() {
    let module = module(
        "module \"m\" \"\" entry e0 \"outer\" { out \"y\" : f32 body() { %0 = constant(f32 2.0) : f32 yield %0 } }
         entry e1 \"inner\" within e0 {
           in \"y\" outer(\"y\") : f32 in \"gain\" input(f32 10.0) : f32 in \"has\" given(\"gain\") : bool in \"at\" position : i32
           out \"z\" : f32
           body(%0: f32, %1: f32, %2: bool, %3: i32) {
             %4 = mul %0, %1 : f32 %5 = convert(f32) %2 : f32 %6 = add %4, %5 : f32
             %7 = convert(f32) %3 : f32 %8 = add %6, %7 : f32 yield %8 } }",
    );
    let weights = no_weights(&module);
    let interpreter = Interpreter::new(&module, &weights);
    let y =
        interpreter.run(&module.entries[0], &mut StreamState::new(&module), 1, &Arguments::new()).expect("evaluates");
    let given = Arguments::new().with_outer("y", y["y"].row(0));
    let run = |arguments: &Arguments| {
        let z = interpreter.run(&module.entries[1], &mut StreamState::new(&module), 2, arguments).expect("evaluates");
        z["z"].as_f32().expect("f32").to_vec()
    };
    assert_eq!(run(&given), [20.0, 21.0]);
    assert_eq!(run(&given.with("gain", Tensor::f32(&[], [1.0]))), [3.0, 4.0]);
    let missing = interpreter.run(&module.entries[1], &mut StreamState::new(&module), 1, &Arguments::new());
    assert_eq!(missing.expect_err("no y").fault, Fault::MissingArgument("y".into()));
}

#[test]
fn held_states_are_written_by_the_host() {
    let module = module(
        "module \"m\" \"\" state s0 \"memory\" f32[2] fill(1.0) held
         entry e0 \"e\" { out \"y\" : f32[2] body() { %0 = state_read(s0) : f32[2] yield %0 } }",
    );
    let weights = no_weights(&module);
    let interpreter = Interpreter::new(&module, &weights);
    let mut stream = StreamState::new(&module);
    let run = |stream: &mut StreamState| {
        let y = interpreter.run(&module.entries[0], stream, 1, &Arguments::new()).expect("evaluates");
        y["y"].as_f32().expect("f32").to_vec()
    };
    assert_eq!(run(&mut stream), [1.0, 1.0]);
    stream.set(&module, "memory", Tensor::f32(&[2], [3.0, 4.0])).expect("the shape fits");
    assert_eq!(run(&mut stream), [3.0, 4.0]);
    assert!(stream.set(&module, "memory", Tensor::f32(&[1], [3.0])).is_err());
    assert!(stream.set(&module, "other", Tensor::f32(&[2], [3.0, 4.0])).is_err());
}
