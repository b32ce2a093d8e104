use super::{LengthFault, lengths};
use crate::ir::read::read_module;

/// The faults of a step over two states of one axis. The body is given x: f32[2], position: i32 and a condition, and
/// the states as found, `%3` and `%4`.
fn faults(body: &str) -> Vec<LengthFault> {
    let text = format!(
        "module \"t\" \"\"
         axis cache0 \"keys\" unbounded
         state s0 \"keys\" f32[cache0, 2] empty
         state s1 \"values\" f32[cache0, 2] empty
         entry e0 \"step\" {{
           in \"x\" value : f32[2]
           in \"position\" position : i32
           in \"c\" value : bool
           out \"y\" : f32[2]
           body(%0: f32[2], %1: i32, %2: bool) {{
             %3 = state_read(s0) : f32[cache0, 2]
             %4 = state_read(s1) : f32[cache0, 2]
             {body}
             yield %0
           }}
         }}"
    );
    let module = read_module(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    lengths(&module).violations.into_iter().map(|v| v.fault).collect()
}

/// Pushes to both states on one side of a choice, or to the first alone.
fn choice(second: &str) -> String {
    format!(
        "%5, %6 = if %2, %3, %4, %0, %1 : f32[cache0, 2], f32[cache0, 2] {{
           then(%0: f32[cache0, 2], %1: f32[cache0, 2], %2: f32[2], %3: i32) {{
             %4 = push(s0) %0, %2, %3 : f32[cache0, 2]
             {second}
           }}
           else(%0: f32[cache0, 2], %1: f32[cache0, 2], %2: f32[2], %3: i32) {{ yield %0, %1 }}
         }}"
    )
}

const BOTH: &str = "%5 = push(s1) %1, %2, %3 : f32[cache0, 2]
                    yield %4, %5";
const KEPT: &str = "state_write(s0) %5
                    state_write(s1) %6";

#[test]
fn what_is_pushed_together_meets() {
    let both = "%5 = push(s0) %3, %0, %1 : f32[cache0, 2]
                %6 = push(s1) %4, %0, %1 : f32[cache0, 2]";
    let product = "%7 = add %5, %6 : f32[cache0, 2]
                   %8 = add %3, %4 : f32[cache0, 2]";
    assert_eq!(faults(&format!("{both}\n{KEPT}\n{product}")), []);
    assert_eq!(faults(&format!("{}\n{KEPT}\n{product}", choice(BOTH))), []);
}

#[test]
fn entries_of_two_moments_do_not_meet() {
    let late = "%5 = push(s0) %3, %0, %1 : f32[cache0, 2]
                state_write(s0) %5
                %7 = add %5, %3 : f32[cache0, 2]";
    assert!(matches!(faults(late)[..], [LengthFault::Meet(..)]), "{:?}", faults(late));
    let after = format!("{}\n{KEPT}\n%7 = add %5, %3 : f32[cache0, 2]", choice(BOTH));
    assert!(matches!(faults(&after)[..], [LengthFault::Meet(..)]), "{:?}", faults(&after));
    let one_sided = format!("{}\n{KEPT}\n%7 = add %5, %6 : f32[cache0, 2]", choice("yield %4, %1"));
    assert!(matches!(faults(&one_sided)[..], [LengthFault::Meet(..)]), "{:?}", faults(&one_sided));
}

#[test]
fn a_state_is_left_with_what_was_pushed() {
    let push = "%5 = push(s0) %3, %0, %1 : f32[cache0, 2]";
    let state = || "keys".to_string();
    assert_eq!(faults(push), [LengthFault::Lost(state())]);
    let stale = format!("{push}\nstate_write(s0) %3");
    assert_eq!(faults(&stale), [LengthFault::Stale(state())]);
    let other = format!("{push}\nstate_write(s0) %4");
    assert!(faults(&other).contains(&LengthFault::Foreign(state())));
    let twice = format!("{push}\n%6 = push(s0) %5, %0, %1 : f32[cache0, 2]\nstate_write(s0) %6");
    assert_eq!(faults(&twice), [LengthFault::Twice(state())]);
    // On one side of a choice it is lost as well.
    assert_eq!(faults(&choice("yield %4, %1")), [LengthFault::Lost(state())]);
}

#[test]
fn positions_are_those_of_entries() {
    let computed = "%5 = add %3, %3 : f32[cache0, 2]
                    %6 = positions(s0) %5 : i32[cache0]";
    assert_eq!(faults(computed), [LengthFault::Foreign("keys".into())]);
}

#[test]
fn how_many_a_repeated_number_makes_is_told_by_what_is_computed_with_it() {
    let repeated = "%5 = constant(f32 2.0) : f32
                    %6 = broadcast() %5 : f32[cache0]
                    %7 = matmul(0) %3, %0 : f32[cache0]
                    %8 = mul %6, %7 : f32[cache0]";
    assert_eq!(faults(&format!("{repeated}\n%9 = reduce_sum(0) %8 : f32")), []);
    // That it meets entries elsewhere would be forgotten with what nobody reads.
    assert_eq!(faults(&format!("{repeated}\n%9 = reduce_sum(0) %6 : f32")), [LengthFault::Unknown]);
}
