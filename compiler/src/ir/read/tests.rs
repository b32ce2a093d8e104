use super::read_module;
use crate::ir::print::{print_module, print_module_with_origins};
use crate::ir::verify::verify;

/// A module with every kind of declaration and most operations.
pub(crate) const SAMPLE: &str = r#"module "sample" "every kind of line"
config "d" "8" used
config "old" "1" ignored "has \"no\" effect"
checkpoint ignore "aux.*" "training only"
checkpoint ignore "aux.w" "training only" tensor bf16[4, 8]
checkpoint rename "a.*" "b.*"
checkpoint choose "key" "both fit the weights"
axis cache0 "attn.keys" ring(16)
host h0 "lookup" ("key": f32[8]) -> f32[8]
weight w0 "embed" ternary(tensor, floor 1e-5, scale bf16, nearest, input int8(token, floor 1e-5, divide))[16, 8]
weight w1 "norm" bf16[8]
weight w2 "norm.exp" f32[8] computed {
  body() {
    %0 = weight(w1) : bf16[8]
    %1 = convert(f32) %0 : f32[8]
    %2 = exp %1 : f32[8]
    yield %2
  }
}
state s0 "h" f32[8] fill(0.0)
state s1 "attn.keys" f32[cache0, 8] empty
state s2 "loop.c" i32 fill(0.0) instances[3]
entry e0 "step" start(0) if_empty {
  in "token" stream range(0.0, 15.0) : u32
  in "position" position : i32
  in "bias" input(f32[8] 0.5) : f32[8]
  out "logits" : f32[16]
  body(%0: u32, %1: i32, %2: f32[8]) {
    %3 = weight(w0) : ternary[16, 8]
    %4 = gather(0) %3, %0 : f32[8]
    %5 = add %4, %2 : f32[8]
    %6 = state_read(s0) : f32[8]
    %7 = mul %6, %5 : f32[8]
    state_write(s0) %7
    %8 = state_read(s1) : f32[cache0, 8]
    %9 = push(s1) %8, %7, %1 : f32[cache0, 8]
    state_write(s1) %9
    %10 = matmul(0) %9, %7 : f32[cache0]
    %11 = reduce_max(0) %10 : f32
    %12 = constant(f32 nan(0x7fc00001)) : f32
    %13 = gt %11, %12 : bool
    %14 = if %13, %7 : f32[8] {
      then(%0: f32[8]) {
        %1 = neg %0 : f32[8]
        yield %1
      }
      else(%0: f32[8]) {
        yield %0
      }
    }
    %15 = constant(i32 3) : i32
    %16 = repeat(1, 3, 1) %15, %14 : f32[8] {
      body(%0: i32, %1: f32[8]) {
        %2 = state_read(s2) : i32
        %3 = add %2, %0 : i32
        state_write(s2) %3
        %4 = constant(bool false) : bool
        yield %4, %1
      }
    }
    %17 = weight(w0) : ternary[16, 8]
    %18 = linear %16, %17 : f32[16]
    %19, %20 = top_k(2) %18 : f32[2], i32[2]
    %21, %22 = host(h0) %16 : f32[8], bool
    check("the host must know") %22
    probe("seen") %21
    yield %18
  }
}
"#;

#[test]
fn the_sample_reads_verifies_and_prints_back() {
    let module = read_module(SAMPLE).unwrap_or_else(|e| panic!("{e}"));
    verify(&module).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(print_module(&module), SAMPLE);
    let all = print_module_with_origins(&module);
    assert_eq!(print_module_with_origins(&read_module(&all).unwrap()), all);
}

#[test]
fn errors_have_their_place() {
    let text = SAMPLE.replace("%7 = mul %6", "%7 = mul %66");
    let error = read_module(&text).unwrap_err();
    assert_eq!((error.line, error.column), (33, 14));
    assert_eq!(error.message, "%66 is not defined before this");
    let text = SAMPLE.replace("= mul", "= mull");
    assert_eq!(read_module(&text).unwrap_err().message, "'mull' is no operation");
}

#[test]
fn hostile_sizes_and_depths_are_refused() {
    let huge = "module \"\" \"\" entry e0 \"a\" { body() { %0 = constant(f32[99999999999] 0.0) : f32 yield } }";
    assert!(read_module(huge).is_err());
    let deep = "scan { body() { ".repeat(100_000);
    let text = format!("module \"\" \"\" entry e0 \"a\" {{ body() {{ {deep}");
    assert!(read_module(&text).unwrap_err().message.contains("too deep"));
}
