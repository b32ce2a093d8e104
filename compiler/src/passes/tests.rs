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
    #![proptest_config(ProptestConfig::with_cases(std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(192)))]

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
