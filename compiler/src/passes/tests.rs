use proptest::prelude::*;
use rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::random::{Weights, floats, module};
use super::{PASSES, run_pass};
use crate::interp::{Arguments, Interpreter, MemoryWeights, Outputs, StreamState, Tensor};
use crate::ir::Module;
use crate::ir::print::print_module;
use crate::ir::read::read_module;
use crate::ir::verify::verify;

const STEPS: usize = 7;

/// How many cases to try: `PROPTEST_CASES`, or else so many.
fn cases(otherwise: usize) -> usize {
    std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

/// Outputs of calls of so many steps each, and the stream after them.
fn evaluate(module: &Module, weights: &Weights, calls: &[usize], seed: u64) -> (Vec<Outputs>, StreamState) {
    let store = MemoryWeights::new(module, weights.clone()).unwrap_or_else(|e| panic!("{e}"));
    let interpreter = Interpreter::new(module, &store);
    let mut stream = StreamState::new(module);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 1);
    let x = floats(&mut rng, STEPS * 8);
    let tokens: Vec<u32> = (0..STEPS as u32).map(|t| (t * 5 + seed as u32) % 6).collect();
    let mut at = 0;
    let mut outputs = Vec::new();
    for &steps in calls {
        let arguments = Arguments::new()
            .with("token", Tensor::u32(&[steps], &tokens[at..at + steps]))
            .with("x", Tensor::f32(&[steps, 8], &x[at * 8..(at + steps) * 8]));
        let out = interpreter.run(&module.entries[0], &mut stream, steps, &arguments);
        outputs.push(out.unwrap_or_else(|e| panic!("{e}\n{}", print_module(module))));
        at += steps;
    }
    (outputs, stream)
}

/// All rows of an output, over the calls.
fn rows(outputs: &[Outputs], name: &str) -> Vec<Tensor> {
    let rows = |o: &Outputs| {
        let t = o[name].clone();
        (0..t.shape[0]).map(move |i| t.row(i)).collect::<Vec<_>>()
    };
    outputs.iter().flat_map(rows).collect()
}

fn assert_same(a: &(Vec<Outputs>, StreamState), b: &(Vec<Outputs>, StreamState), what: &str) {
    for name in ["a", "b"] {
        let (x, y) = (rows(&a.0, name), rows(&b.0, name));
        for (t, (x, y)) in x.iter().zip(&y).enumerate() {
            assert!(x.same_bits(y), "{what}: {name} differs at step {t}: {x:?} {y:?}");
        }
    }
    assert!(a.1.same_bits(&b.1), "{what}: states differ");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(192) as u32))]

    /// Every pass keeps the bits, step by step, all at once and in two calls.
    #[test]
    fn passes_keep_the_bits(seed in any::<u64>(), size in 1usize..20) {
        let (mut module, weights) = module(seed, size);
        verify(&module).unwrap_or_else(|e| panic!("{e}"));
        let before = evaluate(&module, &weights, &[STEPS], seed);
        for pass in PASSES {
            run_pass(&mut module, pass.name).unwrap_or_else(|e| panic!("{e}"));
            for calls in [&[STEPS][..], &[3, 4]] {
                let after = evaluate(&module, &weights, calls, seed);
                assert_same(&before, &after, &format!("after {}, calls {calls:?}", pass.name));
            }
        }
    }

    /// The printed form of any module, at any stage, reads back to the same text.
    #[test]
    fn print_and_read_agree(seed in any::<u64>(), size in 1usize..30) {
        let (mut module, _) = module(seed, size);
        for pass in PASSES {
            let text = print_module(&module);
            let again = read_module(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
            prop_assert_eq!(print_module(&again), text);
            verify(&again).unwrap_or_else(|e| panic!("{e}"));
            run_pass(&mut module, pass.name).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}

/// Tokens of printed IR, with the text between them.
fn tokens(text: &str) -> Vec<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || "_.%@".contains(c);
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| word(c) != word(first)).unwrap_or(rest.len());
        out.push(&rest[..end]);
        rest = &rest[end..];
    }
    out
}

/// One character of a module's text is replaced, added or lost: the reader or the verifier notices, or it means the
/// same. What they cannot notice is another valid module: a different number in a constant, a different operation of
/// the same types.
#[test]
fn broken_text_is_noticed() {
    use rand_core::Rng;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
    let (mut noticed, mut all) = (0, 0);
    for seed in 0..cases(40) as u64 {
        let (mut module, _) = module(seed, 12);
        if seed % 2 == 0 {
            super::run_pipeline(&mut module, None).unwrap_or_else(|e| panic!("{e}"));
        }
        let text = print_module(&module);
        let symbols: Vec<char> = text.chars().collect();
        let parts = tokens(&text);
        for case in 0..200 {
            let mut pick = |n: usize| rng.next_u32() as usize % n;
            let broken: String = if case % 2 == 0 {
                // A token becomes another one of the text.
                let mut parts = parts.clone();
                let at = pick(parts.len());
                parts[at] = parts[pick(parts.len())];
                parts.concat()
            } else {
                let mut symbols = symbols.clone();
                let (at, other) = (pick(symbols.len()), symbols[pick(symbols.len())]);
                match pick(3) {
                    0 => symbols[at] = other,
                    1 => symbols.insert(at, other),
                    _ => drop(symbols.remove(at)),
                }
                symbols.into_iter().collect()
            };
            let accepted = read_module(&broken).ok().filter(|m| verify(m).is_ok());
            all += 1;
            noticed += usize::from(accepted.is_none_or(|m| print_module(&m) == text));
        }
    }
    println!("{noticed} of {all} noticed");
    assert!(noticed * 100 >= all * 97, "{noticed} of {all}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(2000) as u32))]

    /// The reader takes any text without panic.
    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9%@(){}\\[\\]:,=\"\\\\.\n -]{0,200}") {
        let _ = read_module(&format!("module \"\" \"\" {text}"));
        let _ = read_module(&format!("module \"\" \"\" entry e0 \"a\" {{ body() {{ {text}"));
    }
}

/// A large graph goes through all passes; were one of them quadratic, this would be the slowest test by far.
#[test]
fn large_graphs_go_through_all_passes() {
    let (mut module, _) = module(3, 1500);
    let nodes = module.entries[0].body.nodes().len();
    assert!(nodes > 5_000, "{nodes}");
    super::run_pipeline(&mut module, None).unwrap_or_else(|e| panic!("{e}"));
}

/// An inner entry gives the same bits once part of it is computed by the outer one.
#[test]
fn hoisting_to_the_outer_entry_keeps_the_bits() {
    let text = r#"module "t" ""
weight w0 "proj" f32[8, 4]
entry e0 "step" {
  in "x" value : f32[4]
  out "y" : f32[4]
  body(%0: f32[4]) {
    %1 = exp %0 : f32[4]
    yield %1
  }
}
entry e1 "byte" within e0 {
  in "y" outer("y") : f32[4]
  in "position" position : i32
  out "z" : f32[4]
  body(%0: f32[4], %1: i32) {
    %2 = weight(w0) : f32[8, 4]
    %3 = linear %0, %2 : f32[8]
    %4 = reshape %3 : f32[2, 4]
    %5 = gather(0) %4, %1 : f32[4]
    yield %5
  }
}
"#;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(9);
    let proj = Tensor::f32(&[8, 4], floats(&mut rng, 32));
    let x = Tensor::f32(&[1, 4], floats(&mut rng, 4));
    let weights = Weights::from([("proj".to_string(), crate::interp::WeightValue::Dense(proj))]);
    let inner = |module: &Module| -> Tensor {
        let store = MemoryWeights::new(module, weights.clone()).unwrap_or_else(|e| panic!("{e}"));
        let interpreter = Interpreter::new(module, &store);
        let mut stream = StreamState::new(module);
        let outer = interpreter.run(&module.entries[0], &mut stream, 1, &Arguments::new().with("x", x.clone()));
        let outer = outer.unwrap_or_else(|e| panic!("{e}"));
        let mut arguments = Arguments::new();
        for (name, value) in outer {
            arguments = arguments.with_outer(&name, value.row(0));
        }
        let mut stream = StreamState::new(module);
        let out = interpreter.run(&module.entries[1], &mut stream, 2, &arguments);
        out.unwrap_or_else(|e| panic!("{e}"))["z"].clone()
    };
    let mut module = read_module(text).unwrap_or_else(|e| panic!("{e}"));
    let before = inner(&module);
    super::run_pipeline(&mut module, None).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(module.entries[0].outputs.len(), 2, "nothing was hoisted");
    assert!(inner(&module).same_bits(&before));
}
