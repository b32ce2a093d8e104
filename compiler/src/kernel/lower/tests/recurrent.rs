//! States: recurrences, matrix states, caches, rings and delays.

use super::*;

fn entry(declarations: &str, n: usize, output: &str, body: &str) -> String {
    format!(
        "module \"m\" \"\" {declarations}
         entry e0 \"e\" {{ in \"x\" value : f32[{n}] in \"position\" position : i32 out \"y\" : {output}
           body(%0: f32[{n}], %1: i32) {{ {body} }} }}"
    )
}

#[test]
fn a_gated_recurrence() {
    for n in [3, 16, 40] {
        check(&entry(
            &format!("state s0 \"h\" f32[{n}] fill(0.5)"),
            n,
            &format!("f32[{n}]"),
            &format!(
                "%2 = state_read(s0) : f32[{n}]
                 %3 = sigmoid %0 : f32[{n}]
                 %4 = mul %3, %2 : f32[{n}]
                 %5 = tanh %0 : f32[{n}]
                 %6 = add %4, %5 : f32[{n}]
                 state_write(s0) %6
                 %7 = mul %6, %3 : f32[{n}]
                 yield %7"
            ),
        ));
    }
}

#[test]
fn states_that_read_each_other() {
    check(&entry(
        "state s0 \"a\" f32[20] fill(0.5) state s1 \"b\" f32[20] fill(1)",
        20,
        "f32[20]",
        "%2 = state_read(s0) : f32[20]
         %3 = state_read(s1) : f32[20]
         %4 = add %3, %0 : f32[20]
         %5 = slice(0, 0, 10) %2 : f32[10]
         %6 = slice(0, 10, 10) %2 : f32[10]
         %7 = concat(0) %6, %5 : f32[20]
         state_write(s0) %4
         state_write(s1) %7
         %8 = sub %2, %3 : f32[20]
         yield %8",
    ));
}

#[test]
fn a_delta_rule() {
    check(&entry(
        "state s0 \"S\" f32[2, 20, 8] fill(0)",
        56,
        "f32[2, 8]",
        "%2 = slice(0, 0, 40) %0 : f32[40]
         %3 = reshape %2 : f32[2, 20]
         %4 = slice(0, 40, 16) %0 : f32[16]
         %5 = reshape %4 : f32[2, 8]
         %6 = state_read(s0) : f32[2, 20, 8]
         %7 = constant(f32 0.75) : f32
         %8 = broadcast() %7 : f32[2, 20, 8]
         %9 = mul %6, %8 : f32[2, 20, 8]
         %10 = matmul(1) %3, %9 : f32[2, 8]
         %11 = sub %5, %10 : f32[2, 8]
         %12 = broadcast(0, 1) %3 : f32[2, 20, 8]
         %13 = broadcast(0, 2) %11 : f32[2, 20, 8]
         %14 = mul %12, %13 : f32[2, 20, 8]
         %15 = add %9, %14 : f32[2, 20, 8]
         state_write(s0) %15
         %16 = matmul(1) %3, %15 : f32[2, 8]
         yield %16",
    ));
}

#[test]
fn attention_over_caches_and_rings() {
    for capacity in ["unbounded", "max(40)", "ring(5)", "ring(16)", "ring(21)"] {
        check(&entry(
            &format!(
                "axis cache0 \"keys\" {capacity} state s0 \"keys\" f32[2, cache0, 6] empty state s1 \"values\" f32[2, cache0, 6] empty"
            ),
            12,
            "f32[12]",
            "%2 = reshape %0 : f32[2, 6]
             %3 = state_read(s0) : f32[2, cache0, 6]
             %4 = push(s0) %3, %2, %1 : f32[2, cache0, 6]
             state_write(s0) %4
             %5 = tanh %2 : f32[2, 6]
             %6 = state_read(s1) : f32[2, cache0, 6]
             %7 = push(s1) %6, %5, %1 : f32[2, cache0, 6]
             state_write(s1) %7
             %8 = matmul(1) %4, %2 : f32[2, cache0]
             %9 = positions(s0) %4 : i32[cache0]
             %10 = broadcast() %1 : i32[cache0]
             %11 = sub %10, %9 : i32[cache0]
             %12 = convert(f32) %11 : f32[cache0]
             %13 = broadcast(1) %12 : f32[2, cache0]
             %14 = sub %8, %13 : f32[2, cache0]
             %20 = reduce_max(1) %14 : f32[2]
             %21 = broadcast(0) %20 : f32[2, cache0]
             %22 = sub %14, %21 : f32[2, cache0]
             %23 = exp %22 : f32[2, cache0]
             %24 = reduce_sum(1) %23 : f32[2]
             %25 = broadcast(0) %24 : f32[2, cache0]
             %26 = div %23, %25 : f32[2, cache0]
             %27 = matmul(1) %26, %7 : f32[2, 6]
             %28 = reshape %27 : f32[12]
             yield %28",
        ));
    }
}

#[test]
fn fixed_places_before_a_ring() {
    for capacity in ["unbounded", "ring(5)", "ring(20)"] {
        for fixed in [3, 16, 21] {
            check(&entry(
                &format!(
                    "axis cache0 \"keys\" {capacity} state s0 \"keys\" f32[cache0, 4] empty weight w0 \"m\" f32[{fixed}, 4]"
                ),
                4,
                "f32[4]",
                &format!(
                    "%2 = state_read(s0) : f32[cache0, 4]
                     %3 = push(s0) %2, %0, %1 : f32[cache0, 4]
                     state_write(s0) %3
                     %4 = weight(w0) : f32[{fixed}, 4]
                     %5 = concat(0) %4, %3 : f32[cache0 + {fixed}, 4]
                     %6 = matmul(0) %5, %0 : f32[cache0 + {fixed}]
                     %7 = reduce_sum(0) %6 : f32
                     %8 = reduce_max(0) %6 : f32
                     %9 = matmul(0) %6, %5 : f32[4]
                     %10 = add %7, %8 : f32
                     %11 = broadcast() %10 : f32[4]
                     %12 = add %9, %11 : f32[4]
                     %13, %14 = top_k(3) %6 : f32[3], i32[3]
                     %15 = gather(0) %5, %14 : f32[3, 4]
                     %16 = reduce_sum(0) %15 : f32[4]
                     %17 = reduce_argmax(0) %6 : i32
                     %18 = convert(f32) %17 : f32
                     %19 = broadcast() %18 : f32[4]
                     %20 = add %12, %16 : f32[4]
                     %21 = add %20, %19 : f32[4]
                     yield %21"
                ),
            ));
        }
    }
}

#[test]
fn delays() {
    check(&entry(
        "axis cache0 \"d\" ring(3) state s0 \"d\" f32[cache0, 20] empty",
        20,
        "f32[20]",
        "%2 = state_read(s0) : f32[cache0, 20]
         %3 = push(s0) %2, %0, %1 : f32[cache0, 20]
         state_write(s0) %3
         %4 = recent(s0, 2) %3 : f32[20]
         %5 = recent(s0, 0) %2 : f32[20]
         %6 = add %4, %5 : f32[20]
         yield %6",
    ));
}

#[test]
fn states_that_start_as_weights() {
    for shape in ["5, 7", "20, 16", "32, 3"] {
        let n: usize = shape.split(", ").map(|n| n.parse::<usize>().expect("a number")).product();
        check(&entry(
            &format!("weight w0 \"w\" f32[{shape}] state s0 \"m\" f32[{shape}] weight(w0)"),
            n,
            &format!("f32[{shape}]"),
            &format!(
                "%2 = state_read(s0) : f32[{shape}]
                 %3 = reshape %0 : f32[{shape}]
                 %4 = add %2, %3 : f32[{shape}]
                 state_write(s0) %4
                 yield %4"
            ),
        ));
    }
}
