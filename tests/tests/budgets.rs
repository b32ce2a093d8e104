//! Graphs that cost too much: each ends soon and with little memory, in an error that names the place or in a result.
//! The command runs with bounded address space; the sizes are such that a cost that is not near linear would not end in
//! time.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use sterna_compiler::diagnostics::SourceFiles;
use sterna_compiler::ir::{self, Module};
use sterna_compiler::kernel::lower::{self, lower};
use sterna_compiler::lang::{Library, Options};
use sterna_compiler::limits::Limits;
use sterna_compiler::passes;
use sterna_tests::{sterna, text};

/// Address space of the command, in KiB: the elaborator's own thread has half a GiB of stack.
const SPACE: usize = 6 << 20;

/// Runs the command on a graph and a config, within bounded memory.
fn run(command: &str, graph: &str, config: &str) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("m.graph"), graph).expect("a file");
    fs::write(folder.path().join("c.json"), config).expect("a file");
    run_in(folder.path(), command)
}

fn run_in(folder: &Path, command: &str) -> Output {
    let program = sterna().get_program().to_owned();
    let config = folder.join("c.json");
    let begun = Instant::now();
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -v {SPACE}; exec \"$@\""), "sh"])
        .arg(program)
        .args([command, text(&config), "--graphs", text(folder), "--model", "m"])
        .args(match command {
            "verify" => &["--elements", "3"][..],
            "inspect" => &["--list"],
            _ => &[],
        })
        .output()
        .expect("a shell");
    assert!(begun.elapsed() < Duration::from_secs(240), "{command} took {:?}", begun.elapsed());
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The command must refuse the graph with this code of a diagnostic, at a place of the graph.
#[track_caller]
fn refused(command: &str, graph: &str, code: &str) {
    let output = run(command, graph, "{}");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(code) && said.contains("m.graph:"), "{said}");
}

/// Compiled code and interpreter must agree, whatever it takes.
#[track_caller]
fn agrees(graph: &str) {
    let output = run("verify", graph, "{}");
    assert!(output.status.success(), "{}", said(&output));
}

/// A model of one entry with these statements, which must give `x`, a vector of 64.
fn model(items: &str, body: &str) -> String {
    format!(
        "model m \"t\"\n{items}\nentry step(token: u32 in 0..64) {{\nt = f32(token)\nx = [t for i in 0..64]\n\
         {body}\noutput logits = x\n}}\n"
    )
}

#[test]
fn shared_expressions_are_no_trees() {
    agrees(&model("", "for i in 0..60 { x = x + x }"));
    let output = run("check", &model("", "for i in 0..20000 { x = x + i * x }"), "{}");
    assert!(output.status.success(), "{}", said(&output));
    agrees(&model("", "a = sin(x)\nb = cos(x)\nfor i in 0..40 { c = a + b\na = b\nb = c }\nx = b"));
    let state = "block b(x: f32[64]) -> f32[64] {\nstate h: f32[64] = 0\nfor i in 0..50 { h = h * 0.5 + h }\n\
                 h = h + x\nreturn h }\npart p: b";
    agrees(&model(state, "x = p(x)"));
}

#[test]
fn long_chains_end() {
    agrees(&model("", "for i in 0..3000 { x = sin(x) }"));
    let state = "block b(x: f32[64]) -> f32[64] {\nstate h: f32[64] = 0\nfor i in 0..1000 { h = sin(h) + x }\n\
                 return h }\npart p: b";
    agrees(&model(state, "x = p(x)"));
    // Views of views are copied into what reads them, and this is bounded.
    let views = "for i in 0..3000 { x = x[1..64]\nx = concat(x, [t]) }";
    let output = run("verify", &model("", views), "{}");
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", said(&output));
}

#[test]
fn weights_computed_from_computed_weights_are_made_once() {
    // Each value is read by the step and by the next value, so that each is a weight of its own.
    let items = "weight w: f32[64]";
    agrees(&model(items, "v = sigmoid(w)\nfor i in 0..400 { v = sin(v) + w\nx = x + v }"));
}

#[test]
fn lists_do_not_double_without_bounds() {
    let doubled = |first: &str, next: &str| {
        let mut text = format!("model m \"t\"\na0 = {first}\n");
        for i in 0..60 {
            let _ = writeln!(text, "a{} = {}", i + 1, next.replace('a', &format!("a{i}")).replace("conca0t", "concat"));
        }
        text + "entry step(token: u32 in 0..64) { output logits = [f32(token) + len(a60) for i in 0..64] }\n"
    };
    refused("check", &doubled("[1]", "[a, a]"), "E0415");
    let mut concat = "model m \"t\"\na0 = [1]\n".to_owned();
    for i in 0..60 {
        let _ = writeln!(concat, "a{} = concat(a{i}, a{i})", i + 1);
    }
    concat += "entry step(token: u32 in 0..64) { output logits = [f32(token) + len(a60) for i in 0..64] }\n";
    refused("check", &concat, "E0415");
    let mut texts = "model m \"t\"\na0 = \"ab\"\n".to_owned();
    for i in 0..60 {
        let _ = writeln!(texts, "a{} = join(a{i}, a{i})", i + 1);
    }
    texts += "entry step(token: u32 in 0..64) { output logits = [f32(token) + len(a60) for i in 0..64] }\n";
    refused("check", &texts, "E0415");
}

#[test]
fn parts_and_calls_do_not_double_without_bounds() {
    let mut parts = "model m \"t\"\n".to_owned();
    for i in 0..40 {
        let _ = writeln!(parts, "block b{i}(x: f32[4]) -> f32[4] {{\npart p, q: b{}\nreturn q(p(x)) }}", i + 1);
    }
    parts += "block b40(x: f32[4]) -> f32[4] { weight w: f32[4]\nreturn x * w }\npart root: b0\n\
              entry step(token: u32 in 0..64) { y = root([f32(token) for i in 0..4])\noutput logits = [y[0] for i in 0..64] }\n";
    refused("check", &parts, "E0415");
    let mut calls = "model m \"t\"\nblock b0(x: f32[4]) -> f32[4] { return sin(x) }\n".to_owned();
    for i in 0..40 {
        let _ = writeln!(calls, "block b{}(x: f32[4]) -> f32[4] {{ return b{i}(b{i}(x)) }}", i + 1);
    }
    calls += "entry step(token: u32 in 0..64) { y = b40([f32(token) for i in 0..4])\noutput logits = [y[0] for i in 0..64] }\n";
    refused("check", &calls, "E0415");
}

#[test]
fn long_texts_are_read_in_time() {
    let quotes = format!("model m \"t\"\n{}\n", "\"".repeat(900_000));
    assert_eq!(run("check", &quotes, "{}").status.code(), Some(1));
    let mut statements = "model m \"t\"\n".to_owned();
    for i in 0..90_000 {
        let _ = writeln!(statements, "a{i}=1");
    }
    statements += "entry step(token: u32 in 0..64) { output logits = [f32(token) for i in 0..64] }\n";
    // They are read by nothing, which is said of the first of them.
    refused("check", &statements, "E0306");
    let many = format!("model m \"t\"\n{}", "a=1\n".repeat(120_000));
    refused("check", &many, "E0415");
    // One line with many places.
    let line = format!("x = x{}", " + x".repeat(200));
    let line = model("", &vec![line; 100].join("; "));
    assert!(run("check", &line, "{}").status.success());
}

#[test]
fn branches_are_bounded_in_depth_and_linear_in_number() {
    let arms = "if token == 1 { 1.0 } else ".repeat(1000);
    refused("check", &model("", &format!("y = {arms}{{ 2.0 }}\nx = x + y")), "E0415");
    let mut body = String::new();
    for i in 0..4000 {
        let _ = writeln!(body, "a{i} = t + {i}.0");
    }
    for i in 0..1000 {
        let _ = writeln!(body, "if token == {} {{ t = t + a{i} }}", i % 64);
    }
    let sum: Vec<String> = (0..4000).map(|i| format!("a{i}")).collect();
    let _ = writeln!(body, "x = x + t + sum([{}])", sum.join(", "));
    let output = run("check", &model("", &body), "{}");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn absurd_sizes_are_refused_where_they_are_written() {
    for body in [
        "z = zeros(2**31)\nx = x + z[0]",
        "z = iota(2147483647)\nx = x + f32(sum(z))",
        "z = zeros(2**20, 2**21)\nx = x + z[0, 0]",
        "z = [zeros(2**24) for i in 0..200]\nx = x + z[0][0]",
        "repeat r in 1..=1000000 { x = x + 1 }",
        "v, i = top_k(f32(iota(100000)) + t, 50000)\nx = x + v[0]",
        "z = zeros(8192, 8192) + t\nx = x + (z @ z)[0][0]",
    ] {
        refused("check", &model("", body), "E0415");
    }
    for items in [
        "weight w: f32[2**20, 2**20]\nblock b(x: f32[64]) -> f32[64] { return x + w[0][0] }",
        "block b(x: f32[64]) -> f32[64] {\nstate k: f32[cache(2**30), 2**20]\nk = push(k, zeros(2**20))\nreturn x + k[0][0] }",
    ] {
        let part = if items.contains("state") { "part p: b\n" } else { "" };
        let call = if items.contains("state") { "x = p(x)" } else { "x = b(x)" };
        refused("check", &model(&format!("{items}\n{part}"), call), "E0415");
    }
    // What a config alone makes large is made of random numbers only within bounds.
    let large = "import std\npart a: linear[100000, 64, bf16]\npart b: linear[100000, 100000, bf16]\npart c: linear[64, 100000, bf16]";
    let output = run("verify", &model(large, "x = c(b(a(x)))"), "{}");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("b.weight") && said.contains("m.graph:"), "{said}");
}

#[test]
fn rows_too_wide_for_exact_totals_are_refused() {
    let coded = "T = ternary(group: \"tensor\", floor: 1e-5, input: int8(block: \"token\", floor: 1e-5, undo: \"divide\"))\n\
                 block b(x: f32) -> f32 {\nweight w: T[1, 600000]\ny = zeros(600000) + x\nreturn w(y)[0] }\npart p: b";
    refused("check", &model(coded, "x = x + p(t)"), "E0415");
    let fits = coded.replace("600000", "524288");
    let output = run("check", &model(&fits, "x = x + p(t)"), "{}");
    assert!(output.status.success(), "{}", said(&output));
    let text = "module \"m\" \"t\"\nweight w0 \"w\" ternary(tensor, floor 1e-5, scale f32, nearest, input int8(token, floor \
                1e-5, divide))[1, 600000]\nentry e0 \"step\" {\n  in \"x\" stream : u8[1]\n  out \"logits\" : f32[1]\n  \
                body(%0: u8[1]) {\n %1 = convert(f32) %0 : f32[1]\n %2 = reshape %1 : f32\n %3 = broadcast() %2 : \
                f32[600000]\n %4 = weight(w0) : ternary[1, 600000]\n %5 = linear %3, %4 : f32[1]\n yield %5\n }\n}\n";
    let error = ir::verify::verify(&ir::read::read_module(text).expect("a graph")).expect_err("too wide");
    assert!(error.to_string().contains("600000 codes"), "{error}");
}

/// The text of a module whose entry has these nodes after `%0: u8[1]` and `%1: f32[1]`, the last one `%last`.
fn graph(nodes: &str, last: usize) -> String {
    format!(
        "module \"m\" \"t\"\nentry e0 \"step\" {{\n  in \"x\" stream : u8[1]\n  out \"logits\" : f32[1]\n  \
         body(%0: u8[1]) {{\n %1 = convert(f32) %0 : f32[1]\n{nodes} yield %{last}\n }}\n}}\n"
    )
}

fn over_budget(text: &str, what: &str) {
    let found = match ir::read::read_module(text) {
        Ok(module) => ir::verify::budget::within(&module, &Limits::DEFAULT).expect_err("over budget").to_string(),
        Err(error) => error.to_string(),
    };
    assert!(found.contains(what), "{found}");
}

#[test]
fn graphs_of_packages_have_the_same_limits() {
    over_budget(
        &graph(" %2 = iota(2147483647) : i32[2147483647]\n %3 = convert(f32) %2 : f32[2147483647]\n", 1),
        "a value of 2147483647 elements",
    );
    let mut nodes = String::new();
    for i in 2..Limits::DEFAULT.nodes + 3 {
        let _ = writeln!(nodes, " %{i} = sin %{} : f32[1]", i - 1);
    }
    over_budget(&graph(&nodes, Limits::DEFAULT.nodes + 2), "nodes");
    let deep = 80;
    let mut nodes = String::new();
    let _ = writeln!(nodes, " %2 = constant(true) : bool");
    for _ in 0..deep {
        nodes += " %9 = if %2, %1 : f32[1] then(%1: f32[1]) {\n %2 = constant(true) : bool\n";
    }
    over_budget(&graph(&nodes, 1), "");
    let mut nodes = String::new();
    for i in 0..20 {
        let _ = writeln!(nodes, " %{} = broadcast(0) %1 : f32[1, 67108864]", i + 2);
    }
    over_budget(&graph(&nodes, 1), "elements computed in a step");
}

/// The module of a model whose config has these numbers.
fn compiled(graph: &str, config: &str) -> Module {
    let mut library = Library::embedded();
    library.add("m.graph".to_owned(), graph.to_owned());
    let mut files = SourceFiles::new();
    let file = files.add("c.json", config);
    let compiled = library.compile_config(&mut files, Some("m"), file, &Options::default());
    compiled.unwrap_or_else(|errors| panic!("{:?}", errors.iter().next())).module
}

/// The shortest of a few runs.
fn time(mut work: impl FnMut()) -> Duration {
    let once = |work: &mut dyn FnMut()| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    (0..3).map(|_| once(&mut work)).min().unwrap_or_default()
}

const LAYERS: &str = "model m \"layers\"
import std
config { n: int in 1..; layers: int in 1.. }
A = int8(block: \"token\", floor: 1e-5, undo: \"divide\")
T = ternary(group: \"tensor\", floor: 1e-5, scale: bf16, input: A)
block layer(x: f32[n]) -> f32[n] {
  part norm: rms_norm[n, 1e-6]
  part w_f, w_c, w_o: linear[n, n, T]
  state h: f32[n] = 0
  y = norm(x)
  f = sigmoid(w_f(y))
  h = f * h + (1 - f) * silu(w_c(y))
  return x + w_o(h)
}
weight e: bf16[64, n]
part layers_of[i in 0..layers]: layer
entry step(token: u32 in 0..64) {
  x = e[token]
  for i in 0..layers { x = layers_of[i](x) }
  output logits = e(x)
}
";

const EXPERTS: &str = "model m \"experts\"
import std
config { n: int = 64; experts: int in 1.. }
weight e: f32[64, n]
block mlp(x: f32[n]) -> f32[n] {
  part gate, up, down: linear[n, n]
  return down(silu(gate(x)) * up(x))
}
part router: linear[experts, n]
part expert[i in 0..experts]: mlp
entry step(token: u32 in 0..64) {
  x = e[token]
  p, chosen = top_k(softmax(router(x)), 4)
  output logits = p @ expert[chosen](x)
}
";

#[test]
fn layers_and_experts_cost_in_proportion() {
    let cost = |graph: &str, config: String| {
        time(|| {
            let mut module = compiled(graph, &config);
            passes::run_pipeline(&mut module, None).expect("passes");
        })
    };
    for (graph, few, many) in [
        (LAYERS, "{\"n\": 64, \"layers\": 40}", "{\"n\": 64, \"layers\": 640}"),
        (EXPERTS, "{\"experts\": 64}", "{\"experts\": 1024}"),
    ] {
        let (few, many) = (cost(graph, few.to_owned()), cost(graph, many.to_owned()));
        // 16 times as much takes about 16 times as long; with a square of it, it would be 256 times.
        assert!(many < few * 64, "{few:?} for few, {many:?} for many");
    }
}

const CACHES: &str = "model m \"caches\"
import std
config { n: int in 1..; layers: int in 1.. }
block look[m](q, k, v: f32[m]) -> f32[m] {
  state keys, values: f32[ring(16), m]
  keys = push(keys, k)
  values = push(values, v)
  return softmax(keys @ q / sqrt(m)) @ values
}
block layer(x: f32[n]) -> f32[n] {
  part norm: rms_norm[n, 1e-6]
  part w_q, w_k, w_v, w_o: linear[n, n]
  part head: look
  y = norm(x)
  return x + w_o(head(w_q(y), w_k(y), w_v(y)))
}
weight e: f32[64, n]
part layers_of[i in 0..layers]: layer
entry step(token: u32 in 0..64) {
  x = e[token]
  for i in 0..layers { x = layers_of[i](x) }
  output logits = e @ x
}
";

/// For how many launches of a module the lowering made kernels of their own, and how many launches there are.
fn made(graph: &str, config: &str) -> (usize, usize) {
    let mut module = compiled(graph, config);
    passes::run_pipeline(&mut module, None).expect("passes");
    let lowered = lower(&module, &lower::Options::default()).expect("a program");
    (lowered.made, lowered.program.entries.iter().map(|entry| entry.steps.len()).sum())
}

#[test]
fn kernels_of_layers_that_are_alike_are_made_once() {
    for graph in [LAYERS, CACHES] {
        let [few, many] = [4, 64].map(|layers| made(graph, &format!("{{\"n\": 64, \"layers\": {layers}}}")));
        assert!(many.1 > 10 * few.1, "{few:?} for few, {many:?} for many");
        assert!(many.0 < 2 * few.0, "{few:?} for few, {many:?} for many");
    }
}

#[test]
fn experts_share_kernels() {
    let kernels = |experts: usize| {
        let output = run("inspect", EXPERTS, &format!("{{\"experts\": {experts}}}"));
        let shown = String::from_utf8_lossy(&output.stdout).into_owned() + &said(&output);
        let line = shown.lines().find(|l| l.contains(" kernels")).unwrap_or_else(|| panic!("{shown}")).to_owned();
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|w| *w == "kernels").expect("the word");
        words[at - 1].parse::<usize>().expect("a number")
    };
    assert_eq!(kernels(8), kernels(32));
    let output = run("verify", EXPERTS, "{\"experts\": 8}");
    assert!(output.status.success(), "{}", said(&output));
}
