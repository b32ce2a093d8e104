//! What the verifier refuses, in graphs that elaboration would never make.

use super::verify;
use crate::ir::read::read_module;

/// The faults of a module with these declarations and this body of an entry `(%0: u8[1]) -> f32[1, 4]`.
fn faults(declarations: &str, body: &str) -> String {
    let text = format!(
        "module \"m\" \"t\" {declarations}
         entry e0 \"step\" {{ in \"x\" stream : u8[1] out \"logits\" : f32[1, 4] body(%0: u8[1]) {{ {body} yield %99 }} }}"
    );
    faults_of(&text)
}

fn faults_of(text: &str) -> String {
    let module = read_module(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    match verify(&module) {
        Ok(()) => String::new(),
        Err(error) => error.violations.iter().map(|v| v.fault.to_string()).collect::<Vec<_>>().join("\n"),
    }
}

const OUT: &str = "%98 = constant(f32 0.5) : f32 %99 = broadcast() %98 : f32[1, 4]";
const CACHE: &str = "axis cache0 \"c\" max(16) state s0 \"s\" f32[cache0] empty";
const PUSH: &str = "%1 = state_read(s0) : f32[cache0] %2 = constant(f32 0.5) : f32 %3 = constant(i32 0) : i32
    %4 = push(s0) %1, %2, %3 : f32[cache0] state_write(s0) %4";

#[test]
fn the_recent_entry_lies_among_those_kept() {
    let with = |back: &str| faults(CACHE, &format!("{PUSH} %5 = recent(s0, {back}) %4 : f32 {OUT}"));
    assert_eq!(with("15"), "");
    for back in ["16", "2147483648", "4294967296", "4294867296", "18446744073709551615"] {
        assert!(with(back).contains("s keeps 16 entries"), "{back}: {}", with(back));
    }
    let unbounded = "axis cache0 \"c\" unbounded state s0 \"s\" f32[cache0] empty";
    let far = faults(unbounded, &format!("{PUSH} %5 = recent(s0, 1073741824) %4 : f32 {OUT}"));
    assert!(far.contains("s keeps"), "{far}");
}

#[test]
fn an_axis_belongs_to_one_group_of_entries() {
    let push = |state: &str| PUSH.replace("s0", state);
    let text = |inner: &str| {
        format!(
            "module \"m\" \"t\" axis cache0 \"c\" max(4096) axis cache1 \"d\" max(4096)
             state s0 \"a\" f32[cache0] empty state s1 \"b\" f32[{inner}] empty
             entry e0 \"step\" {{ in \"x\" stream : u8[4] out \"h\" : f32 body(%0: u8[4]) {{ {} yield %2 }} }}
             entry e1 \"inner\" within e0 {{ in \"x\" stream : u8[1] out \"logits\" : f32[4] body(%0: u8[1]) {{
               {} %5 = broadcast() %2 : f32[4] yield %5 }} }}",
            push("s0"),
            push("s1").replace("cache0", inner)
        )
    };
    assert_eq!(faults_of(&text("cache1")), "");
    assert!(faults_of(&text("cache0")).contains("entries that share no state push to states along it"));
}

#[test]
fn states_on_one_axis_are_pushed_together() {
    let two = format!("{CACHE} state s1 \"t\" f32[cache0] empty");
    let other = |position: &str| {
        format!(
            "%11 = state_read(s1) : f32[cache0] %13 = constant(i32 1) : i32
             %14 = push(s1) %11, %2, {position} : f32[cache0] state_write(s1) %14"
        )
    };
    assert_eq!(faults(&two, &format!("{PUSH} {} {OUT}", other("%3"))), "");
    assert!(faults(&two, &format!("{PUSH} {} {OUT}", other("%13"))).contains("pushed together, at one position"));
    let read = "%11 = state_read(s1) : f32[cache0] %12 = reduce_sum(0) %11 : f32";
    assert!(faults(&two, &format!("{PUSH} {read} {OUT}")).contains("pushed together"));
    // One that nothing uses does not count.
    assert_eq!(faults(&two, &format!("{PUSH} {OUT}")), "");
}

#[test]
fn what_is_pushed_is_written() {
    let push = PUSH.replace("state_write(s0) %4", "");
    assert!(faults(CACHE, &format!("{push} {OUT}")).contains("s is not written with it"));
    assert!(faults(CACHE, &format!("{push} state_write(s0) %1 {OUT}")).contains("s is not written with it"));
    let other = CACHE.replace("s0 \"s\"", "s0 \"s\" ");
    assert_eq!(faults(&other, &format!("{PUSH} {OUT}")), "");
}

#[test]
fn entries_from_before_a_push_do_not_meet_those_from_after_it() {
    let add = |a: &str, b: &str| faults(CACHE, &format!("{PUSH} %5 = add {a}, {b} : f32[cache0] {OUT}"));
    assert_eq!(add("%4", "%4"), "");
    assert!(add("%1", "%4").contains("entries of c from before a push meet those from after it"));
    let through = "%6 = broadcast() %2 : f32[cache0] %7 = mul %6, %1 : f32[cache0] %8 = add %6, %4 : f32[cache0]";
    assert!(faults(CACHE, &format!("{PUSH} {through} {OUT}")).contains("from before a push"));
}

#[test]
fn states_have_a_size_that_no_sum_wraps() {
    for (axis, shape) in [("max(1073741824)", "cache0, 65536, 65536"), ("ring(1073741824)", "cache0, 2048, 1024")] {
        let declarations = format!("axis cache0 \"c\" {axis} state s0 \"s\" f32[{shape}] empty");
        let said = faults(&declarations, OUT);
        assert!(said.contains("more than 2^40 elements"), "{said}");
    }
    let instances = "state s0 \"s\" f32[1048576] fill(0.0) instances[1048576, 4]";
    assert!(faults(instances, OUT).contains("more than 2^40 elements"));
}

#[test]
fn what_the_host_writes_is_one_and_does_not_grow() {
    let said = faults("state s0 \"s\" f32[4] fill(0.0) instances[3] held", OUT);
    assert!(said.contains("what the host writes"), "{said}");
    assert!(faults(&format!("{CACHE} held"), OUT).contains("what the host writes"));
    assert_eq!(faults("state s0 \"s\" f32[4] fill(0.0) held", OUT), "");
}

#[test]
fn integer_products_take_the_codes_of_their_own_quantiser() {
    let weight =
        "weight w0 \"w\" ternary(tensor, floor 1e-5, scale bf16, nearest, input int8(token, floor 1e-5, divide))[4, 8]";
    let kind = "int8(token, floor 1e-5, divide)";
    let product = |codes: &str, maxima: &str, quant: &str| {
        let body = format!(
            "%1 = constant(f32[8] 0.5) : f32[8] %2 = weight(w0) : ternary[4, 8]
             %3, %4 = quantize_input({kind}) %1 : i8[8], f32[1] %5, %6 = quantize_input({kind}) %1 : i8[8], f32[1]
             %7 = constant(i8[8] -128) : i8[8] %8 = linear_int8({quant}) {codes}, {maxima}, %2 : f32[4]
             %99 = reshape %8 : f32[1, 4]"
        );
        faults(weight, &body)
    };
    assert_eq!(product("%3", "%4", kind), "");
    for said in
        [product("%7", "%4", kind), product("%3", "%6", kind), product("%3", "%4", "int8(token, floor 1e-4, divide)")]
    {
        assert!(said.contains("codes and maxima of one quantiser"), "{said}");
    }
}

#[test]
fn a_state_is_not_read_after_an_inner_region_has_changed_it() {
    let state = "state s0 \"s\" f32[4] fill(0.0)";
    let inside = "%1 = constant(bool true) : bool %2 = constant(f32[4] 1.0) : f32[4]
        if %1, %2 { then(%0: f32[4]) { state_write(s0) %0 yield } else(%0: f32[4]) { yield } }";
    let read = "%5 = state_read(s0) : f32[4] %99 = reshape %5 : f32[1, 4]";
    assert_eq!(faults(state, &format!("{read} {inside}")), "");
    assert!(faults(state, &format!("{inside} {read}")).contains("s is read after a branch or round"));
}

#[test]
fn a_neutral_value_lies_in_the_range_of_its_input() {
    let with = |range: &str| {
        faults_of(&format!(
            "module \"m\" \"t\" entry e0 \"step\" {{ in \"x\" input(f32[2] [0.5, 3]) {range} : f32[2] out \"y\" : f32[2]
             body(%0: f32[2]) {{ yield %0 }} }}"
        ))
    };
    assert_eq!(with("range(-2, 3)"), "");
    assert_eq!(with(""), "");
    assert!(with("range(-2, 2)").contains("the neutral value 3 of x is outside its range"));
}

#[test]
fn a_start_is_one_step_of_its_stream() {
    let with = |start: &str, stream: &str| {
        faults_of(&format!(
            "module \"m\" \"t\" entry e0 \"step\" start({start}) {{ in \"x\" {stream} out \"logits\" : f32[2, 4]
             body(%0: u8[2]) {{ %98 = constant(f32 0.5) : f32 %99 = broadcast() %98 : f32[2, 4] yield %99 }} }}"
        ))
    };
    assert_eq!(with("0, 255", "stream : u8[2]"), "");
    assert!(with("0", "stream : u8[2]").contains("its start is 1 elements, a step takes 2"));
    assert!(with("0, 256", "stream : u8[2]").contains("starts with 256"));
    assert!(with("0, 9", "stream range(0, 8) : u8[2]").contains("starts with 9"));
    assert!(with("0, 0", "value : u8[2]").contains("no stream"));
}
