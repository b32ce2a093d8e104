//! Choices, repeats and experts, over many rows and inside recurrences.

use super::*;

fn entry(declarations: &str, n: usize, output: &str, body: &str) -> String {
    format!(
        "module \"m\" \"\" {declarations}
         entry e0 \"e\" {{ in \"x\" value : f32[{n}] in \"position\" position : i32 out \"y\" : {output}
           body(%0: f32[{n}], %1: i32) {{ {body} }} }}"
    )
}

#[test]
fn a_branch_with_a_state() {
    check(&entry(
        "state s0 \"sum\" f32[20] fill(0) weight w0 \"w\" f32[20, 20]",
        20,
        "f32[20]",
        "%2 = slice(0, 0, 1) %0 : f32[1]
         %3 = reshape %2 : f32
         %4 = constant(f32 0.0) : f32
         %5 = gt %3, %4 : bool
         %6 = exp %0 : f32[20]
         %7, %8 = if %5, %0, %6, %1 : f32[20], f32 {
           then(%0: f32[20], %1: f32[20], %2: i32) {
             %3 = state_read(s0) : f32[20]
             %4 = add %3, %0 : f32[20]
             state_write(s0) %4
             %5 = weight(w0) : f32[20, 20]
             %6 = linear %4, %5 : f32[20]
             %7 = convert(f32) %2 : f32
             yield %6, %7
           }
           else(%0: f32[20], %1: f32[20], %2: i32) {
             %3 = constant(f32 2.0) : f32
             yield %1, %3
           } }
         %9 = broadcast() %8 : f32[20]
         %10 = add %7, %9 : f32[20]
         yield %10",
    ));
}

#[test]
fn a_branch_inside_a_recurrence() {
    check(&entry(
        "state s0 \"a\" f32[5] fill(1)",
        5,
        "f32[5]",
        "%2 = state_read(s0) : f32[5]
         %3 = reduce_sum(0) %2 : f32
         %4 = reduce_sum(0) %0 : f32
         %5 = gt %3, %4 : bool
         %6 = if %5, %0, %2 : f32[5] {
           then(%0: f32[5], %1: f32[5]) { %2 = sub %1, %0 : f32[5] yield %2 }
           else(%0: f32[5], %1: f32[5]) { yield %1 } }
         %7 = add %6, %0 : f32[5]
         state_write(s0) %7
         yield %6",
    ));
}

#[test]
fn repeats_that_leave() {
    let body = "body(%0: i32, %1: f32[18]) {
             %2 = state_read(s0) : f32[18]
             %3 = add %2, %1 : f32[18]
             state_write(s0) %3
             %4 = reduce_max(0) %3 : f32
             %5 = constant(f32 30.0) : f32
             %6 = gt %4, %5 : bool
             %7 = convert(f32) %0 : f32
             %8 = broadcast() %7 : f32[18]
             %9 = sub %3, %8 : f32[18]
             yield %6, %9 }";
    check(&entry(
        "state s0 \"c\" f32[18] fill(0) instances[3]",
        18,
        "f32[18]",
        &format!(
            "%2 = slice(0, 0, 1) %0 : f32[1]
             %3 = reshape %2 : f32
             %4 = abs %3 : f32
             %5 = convert(i32) %4 : i32
             %6 = repeat(1, 3, 1) %5, %0 : f32[18] {{ {body} }}
             yield %6"
        ),
    ));
}

#[test]
fn a_repeat_inside_a_recurrence() {
    check(&entry(
        "state s0 \"a\" f32[18] fill(1)",
        18,
        "f32[18]",
        "%2 = state_read(s0) : f32[18]
         %3 = constant(i32 4) : i32
         %4 = repeat(0, 4, 1) %3, %2, %0 : f32[18] { body(%0: i32, %1: f32[18], %2: f32[18]) {
             %3 = tanh %1 : f32[18]
             %4 = add %3, %2 : f32[18]
             %5 = reduce_sum(0) %4 : f32
             %6 = constant(f32 3.0) : f32
             %7 = gt %5, %6 : bool
             yield %7, %4 } }
         state_write(s0) %4
         yield %4",
    ));
}

#[test]
fn experts_by_choice() {
    check(&entry(
        "weight w0 \"a\" f32[9, 9] weight w1 \"b\" f32[9, 9] weight w2 \"c\" f32[9, 9]",
        9,
        "f32[2, 9]",
        "%2 = slice(0, 0, 3) %0 : f32[3]
         %3, %4 = top_k(2) %2 : f32[2], i32[2]
         %5 = experts %4, %0 : f32[2, 9] {
           expert(%0: f32[9]) { %1 = weight(w0) : f32[9, 9] %2 = linear %0, %1 : f32[9] yield %2 }
           expert(%0: f32[9]) { %1 = weight(w1) : f32[9, 9] %2 = linear %0, %1 : f32[9] yield %2 }
           expert(%0: f32[9]) { %1 = weight(w2) : f32[9, 9] %2 = linear %0, %1 : f32[9] %3 = exp %2 : f32[9] yield %3 } }
         %6 = broadcast(0) %3 : f32[2, 9]
         %7 = mul %5, %6 : f32[2, 9]
         yield %7",
    ));
}
