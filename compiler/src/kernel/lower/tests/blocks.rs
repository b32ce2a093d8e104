//! State blocks that cannot be had are refused by the layout itself, whatever was verified before.

use crate::ir::read::read_module;
use crate::kernel::lower::{Options, StateLayout, WeightLayout};
use crate::weights::Section;

fn refused(text: &str, options: &Options) -> Option<String> {
    let module = read_module(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let weights = WeightLayout::new(&module, Section::of(&module.weights));
    StateLayout::new(&module, &weights, options).err().map(|error| error.what)
}

/// An entry that reads one state of this declaration.
fn reading(axis: &str, state: &str, ty: &str) -> String {
    format!(
        r#"module "m" "t"
{axis}
state s0 "path" {state}
entry e0 "step" {{
  in "x" stream : u8[1]
  out "y" : f32[1]
  body(%0: u8[1]) {{
    %1 = state_read(s0) : {ty}
    %2 = constant(f32[1] 0.5) : f32[1]
    yield %2
  }}
}}
"#
    )
}

#[test]
fn sizes_that_wrap_or_are_absurd() {
    let growing = |capacity: &str, shape: &str| {
        let ty = format!("f32[cache0{shape}]");
        reading(&format!("axis cache0 \"c\" {capacity}"), &format!("{ty} empty"), &ty)
    };
    let said = |text: &str| refused(text, &Options::default()).expect("it is refused");
    assert!(said(&growing("max(1073741824)", ", 65536, 65536")).contains("path"));
    assert!(said(&growing("max(16)", ", 4194304, 4194304, 4194304")).contains("a state of more than"));
    assert!(said(&growing("max(268435456)", ", 1048576")).contains("a state of more than"));
    assert!(said(&growing("ring(1073741824)", "")).contains("a cache of more than"));
    let fixed = "f32[4194304, 4194304, 4194304]";
    assert!(said(&reading("", &format!("{fixed} fill(0.0)"), fixed)).contains("a state of more than"));
    let endless = Options { max_context: usize::MAX, ..Options::default() };
    assert!(refused(&growing("unbounded", ""), &endless).is_some_and(|what| what.contains("a cache of more than")));
    assert_eq!(refused(&growing("max(4096)", ", 64"), &Options::default()), None);
}

/// The counter of an axis lies in one block; entries with blocks of their own cannot both have it.
#[test]
fn an_axis_of_two_blocks() {
    let entry = |number: usize, state: usize| {
        format!(
            r#"entry e{number} "entry{number}" {{
  in "x" stream : u8[1]
  out "y" : f32
  body(%0: u8[1]) {{
    %1 = state_read(s{state}) : f32[cache0]
    %2 = constant(f32 0.5) : f32
    %3 = constant(i32 0) : i32
    %4 = push(s{state}) %1, %2, %3 : f32[cache0]
    %5 = reduce_sum(0) %4 : f32
    yield %5
  }}
}}
"#
        )
    };
    let head = r#"module "m" "t"
axis cache0 "the.axis" max(16)
state s0 "a" f32[cache0] empty
state s1 "b" f32[cache0] empty
"#;
    let two = [head, &entry(0, 0), &entry(1, 1)].concat();
    assert!(refused(&two, &Options::default()).is_some_and(|what| what.contains("the.axis")));
    let one = [head, &entry(0, 0), &entry(1, 0)].concat();
    assert_eq!(refused(&one, &Options::default()), None);
}
