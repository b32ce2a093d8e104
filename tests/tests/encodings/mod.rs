//! Every encoding in every use: small graphs that are made here, one for each encoding and pair of widths, in which
//! each block uses weights of that encoding in one way. Interpreted and compiled they must give equal bits.

use sterna_tests::{failure, stdout, text};

/// The blocks, each `f32[n] -> f32[n]`. `E` is the encoding, `n` and `m` are widths, `h` is half of `n`.
const USES: &[(&str, &str)] = &[
    (
        "layers",
        "part p, r: linear[m, n, E]
         part q: linear[n, m, E]
         y = unit_rms(x, 1e-6)
         return q(unit_rms(silu(p(y)) * r(y), 1e-6))",
    ),
    (
        "sides",
        "weight w: E[m, n]
         weight t: E[n, m]
         weight v: E[n]
         part q: linear[n, m]
         rows = outer([1, 2, 0.5], x)
         return q(w @ x + x @ t + sum(rows @ t, axis: 0) + sum(w @ transpose(rows))) + x * (x @ v) + (v @ x) * v",
    ),
    (
        "places",
        "weight w: E[m, n]
         weight c: E[3, m, n]
         i = position % m
         j = position % n
         a = w[i] * w[m - 1][n - 1] + w[i][j] + sum(w[[i, m - 1]], axis: 0) + transpose(w)[j][i]
         b = concat(w[0][0..h], w[m - 1][h..n]) + flatten(w)[m * n - n..m * n] + reshape(w, n, m)[j][0]
         return x + a + b + c[1][i] + c[position % 3][0] + sum(sum(c, axis: 0), axis: 0)",
    ),
    (
        "numbers",
        "weight w: E[n]
         weight v: E[m, n]
         found, chosen = top_k(w * x, 2)
         return w * x + abs(w - x) + sum(v * 2, axis: 0) + found[0] * w[chosen[1]] + x * sum(v[position % m]) + v[argmax(v @ x)]",
    ),
    (
        "starts",
        "weight w: E[n]
         weight v: E[2, n]
         state s: f32[n] = w
         state k: f32[2, n] = v
         s = 0.5 * s + x
         k = k + outer([1, -1], x)
         return s + k[0] * k[1]",
    ),
    (
        "heads",
        "part head: each[h]
         return flatten(head(reshape(x, 2, h)))",
    ),
    (
        "choices",
        "weight w, v: E[n, n]
         part e[i in 0..3]: expert[n]
         weight r: E[3, n]
         y = x
         if position % 2 == 0 { y = v(x) + w[position % n] + v @ x } else { y = x @ v }
         one = if position % 3 == 0 { w } else { v }
         repeat round in 0..2 max 2 { y = tanh(w(y) + x @ w + w[round]) }
         best, chosen = top_k(r(x), 2)
         return y + one @ x + best @ e[chosen](x) + sum([w, v], axis: 0)[position % 2]",
    ),
    (
        "entries",
        "state keys: f32[ring(3), n]
         weight w: E[m, n]
         weight t: E[n, m]
         part q: linear[n, m]
         keys = push(keys, x)
         y = w(keys)
         z = keys @ t
         score = softmax(y @ w(x) + z @ w(x))
         return q(score @ y + score @ z)",
    ),
];

const OTHERS: &str = "
block each[k](x: f32[k]) -> f32[k] {
  weight w: E[k, k]
  weight v: E[k]
  state s: f32[k] = v
  s = 0.5 * s + x
  return w(x) + w @ x + x @ w + (v @ x) * w[position % k] + x * (x @ v) + s
}
block expert[k](x: f32[k]) -> f32[k] {
  weight w: E[k, k]
  weight v: E[k]
  return w(x) + w[0] + (x @ w) * v
}
";

fn graph(encoding: &str, n: usize, m: usize) -> String {
    let mut graph =
        format!("model m \"one encoding\"\nimport std\nE = {encoding}\nn, m, h = {n}, {m}, {}\n{OTHERS}", n / 2);
    let mut step = String::new();
    for (name, body) in USES {
        graph.push_str(&format!("block {name}_(x: f32[n]) -> f32[n] {{\n{body}\n}}\npart {name}: {name}_\n"));
        step.push_str(&format!("  x = tanh({name}(x))\n"));
    }
    graph.push_str("weight embed: E[16, n]\nentry step(token: u32 in 0..16) {\n  x = embed[token]\n");
    graph + &step + "  output logits = embed(x)\n}\n"
}

fn verify(graph: &str, options: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("c.json");
    std::fs::write(&config, "{}").expect("a file");
    std::fs::write(folder.path().join("m.graph"), graph).expect("a file");
    let mut arguments =
        vec!["verify", text(&config), "--graphs", text(folder.path()), "--model", "m", "--elements", "9"];
    arguments.extend(options);
    assert!(stdout(&arguments).starts_with("equal bits"), "{graph}");
}

/// Encodings with the widths that they are tried at: whole strips, odd ones, less than a strip, more than a block of
/// codes.
fn encodings() -> Vec<(String, usize, usize)> {
    let mut found: Vec<(String, usize, usize)> =
        ["f32", "bf16", "f16"].iter().flat_map(|e| [(e.to_string(), 12, 20), (e.to_string(), 40, 33)]).collect();
    let inputs = [
        "f32".to_owned(),
        "int8(block: \"token\", floor: 1e-5, undo: \"divide\")".to_owned(),
        "int8(block: 4, floor: 1e-5)".to_owned(),
        "int8(block: 8, floor: 1e-5, undo: \"divide\")".to_owned(),
        "int8(block: 24, floor: 1e-5)".to_owned(),
        "int8(block: 64, floor: 1e-5)".to_owned(),
    ];
    let widths = [(12, 20), (40, 33), (2, 1), (32, 48), (70, 18)];
    for (i, group) in ["\"tensor\"", "\"row\"", "1", "8", "16", "20", "32"].iter().enumerate() {
        for (j, input) in inputs.iter().enumerate().skip(i % 2).step_by(2) {
            let (n, m) = widths[(i + j) % widths.len()];
            let kind = if (i + j) % 2 == 0 { "ternary(floor: 1e-5, " } else { "sign(" };
            found.push((format!("{kind}group: {group}, scale: bf16, input: {input})"), n, m));
        }
    }
    found
}

#[test]
fn every_encoding_in_every_use() {
    for (encoding, n, m) in encodings() {
        verify(&graph(&encoding, n, m), &[]);
    }
    let encoding = "sign(group: 20, input: int8(block: 24))";
    verify(&graph(encoding, 70, 18), &["--all-levels", "--rows", "3"]);
    verify(&graph("ternary(group: 200, input: int8(block: 32))", 300, 5), &[]);
}

/// The logits of the tokens 0 to 15, in compiled code; interpreted they must be the same.
fn logits(graph: &str) -> Vec<Vec<f32>> {
    let folder = tempfile::tempdir().expect("a folder");
    let (config, tokens) = (folder.path().join("c.json"), folder.path().join("tokens.json"));
    std::fs::write(&config, "{}").expect("a file");
    std::fs::write(&tokens, serde_json::to_vec(&(0..16).collect::<Vec<u32>>()).expect("JSON")).expect("a file");
    std::fs::write(folder.path().join("m.graph"), graph).expect("a file");
    let model = [text(&config), "--graphs", text(folder.path()), "--model", "m", "--tokens", text(&tokens)];
    let [compiled, interpreted] = ["jit", "interp"].map(|backend| {
        let mut arguments = vec!["logits"];
        arguments.extend(model);
        arguments.extend(["--backend", backend]);
        stdout(&arguments)
    });
    assert_eq!(compiled, interpreted);
    let found: serde_json::Value = serde_json::from_str(&compiled).expect("JSON");
    serde_json::from_value(found["logits"].clone()).expect("rows of numbers")
}

#[test]
fn literals_take_the_element_that_they_meet_and_all_numbers_convert() {
    let graph = "model m \"numbers\"
        entry step(token: u32 in 0..16) {
          t = f32(token)
          big = u64(token) * 0x9E3779B97F4A7C15
          above = t > 7
          one = select(t >= 0, 1, 0) * f32(bool(token + 1))
          two = select([above, not above], [1, 0.5], 0)
          picked = if above { [1, t] } else { [0.25, 3] }
          output logits = [
            select(above, 0.5, 0), min(t, 1), clamp(t, 0, 2.5), (if above { 4 } else { 1 }) * 0.25 * one,
            two[0] - two[1], sum([t, 1, 0.5]), sum([1, 2] / [4, 8]) * t, picked[0] + picked[1],
            f32(big), f32(big >> 29), f32(u64(t * 3e18) >> 1), f32(i32(-1.5 * t)),
            f32(bool(token)) + f32(bool(t - 3)), f32(u64(above)) + f32(i8(above)), f32(i8(20 * token)), f32(u8(20 * t))
          ]
        }
        ";
    for (token, row) in logits(graph).iter().enumerate() {
        let (t, n) = (token as f32, token as u64);
        let big = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let above = token > 7;
        let one = |c: bool| f32::from(u8::from(c));
        let expected = [
            if above { 0.5 } else { 0.0 },
            t.min(1.0),
            t.clamp(0.0, 2.5),
            if above { 1.0 } else { 0.25 },
            if above { 1.0 } else { -0.5 },
            t + 1.5,
            0.5 * t,
            if above { 1.0 + t } else { 3.25 },
            big as f32,
            (big >> 29) as f32,
            ((t * 3e18) as u64 >> 1) as f32,
            (-1.5 * t) as i32 as f32,
            one(token != 0) + one(token != 3),
            2.0 * one(above),
            f32::from((20 * token) as i8),
            f32::from((20.0 * t) as u8),
        ];
        assert_eq!(row, &expected, "token {token}");
    }
}

#[test]
fn a_state_starts_from_a_weight_of_its_shape_only() {
    let graph = "model m \"a wrong start\"
        weight w: bf16[4]
        weight embed: f32[16, 8]
        block b(x: f32[8]) -> f32[8] {
          state s: f32[8] = w
          s = s + x
          return s
        }
        part p: b
        entry step(token: u32 in 0..16) { output logits = embed(p(embed[token])) }
        ";
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("c.json");
    std::fs::write(&config, "{}").expect("a file");
    std::fs::write(folder.path().join("m.graph"), graph).expect("a file");
    let said = failure(&["check", text(&config), "--graphs", text(folder.path()), "--model", "m"], 1);
    assert!(said.contains("E0414") && said.contains("m.graph:5:29") && said.contains("bf16[4]"), "{said}");
}
