//! Reads of a cache head by head.

use super::*;
use crate::kernel::program::Step;

/// Queries as they come from a layer, heads one after the other, with a slope per head.
const FLAT: &str = "module \"m\" \"\" axis cache0 \"keys\" max(40)
    state s0 \"keys\" f32[3, cache0, 4] empty state s1 \"values\" f32[3, cache0, 4] empty weight w0 \"slope\" f32[3]
    entry e0 \"e\" { in \"x\" value : f32[12] in \"position\" position : i32 out \"y\" : f32[3, 4]
      body(%0: f32[12], %1: i32) {
        %2 = reshape %0 : f32[3, 4]
        %3 = state_read(s0) : f32[3, cache0, 4]
        %4 = tanh %2 : f32[3, 4]
        %5 = push(s0) %3, %4, %1 : f32[3, cache0, 4]
        state_write(s0) %5
        %6 = state_read(s1) : f32[3, cache0, 4]
        %7 = sin %2 : f32[3, 4]
        %8 = push(s1) %6, %7, %1 : f32[3, cache0, 4]
        state_write(s1) %8
        %9 = matmul(1) %5, %2 : f32[3, cache0]
        %10 = positions(s0) %5 : i32[cache0]
        %11 = convert(f32) %10 : f32[cache0]
        %12 = broadcast(1) %11 : f32[3, cache0]
        %13 = weight(w0) : f32[3]
        %14 = broadcast(0) %13 : f32[3, cache0]
        %15 = mul %12, %14 : f32[3, cache0]
        %16 = sub %9, %15 : f32[3, cache0]
        %17, %18 = top_k(1) %16 : f32[3, 1], i32[3, 1]
        %19 = gather(1) %8, %18 : f32[3, 1, 4]
        %20 = reshape %19 : f32[3, 4]
        yield %20
      } }";

#[test]
fn flat_queries_and_weights_of_heads_are_taken_apart() {
    check(FLAT);
    let mut module = read(FLAT);
    passes::run_pipeline(&mut module, None).unwrap();
    let lowered = lower(&module, &Options::default()).unwrap();
    let by_head = |step: &&Step| matches!(step, Step::Launch { work, .. } if work.pieces > 0 && work.per == 3);
    assert_eq!(lowered.program.entries[0].steps.iter().filter(by_head).count(), 1, "{:#?}", lowered.program.entries[0]);
}
