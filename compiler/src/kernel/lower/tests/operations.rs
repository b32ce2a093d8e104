//! Operations without state.

use super::*;

fn unary(body: &str, input: &str, output: &str) -> String {
    format!(
        "module \"m\" \"\" entry e0 \"e\" {{ in \"x\" value : {input} out \"y\" : {output}
           body(%0: {input}) {{ {body} }} }}"
    )
}

#[test]
fn elementwise_functions() {
    for n in [1, 5, 16, 33] {
        for op in ["exp", "tanh", "sigmoid", "sin", "ln", "abs", "neg", "floor", "round", "log1p", "expm1"] {
            let body = format!("%1 = {op} %0 : f32[{n}] yield %1");
            check(&unary(&body, &format!("f32[{n}]"), &format!("f32[{n}]")));
        }
    }
}

#[test]
fn a_softmax_and_a_norm() {
    for n in [3, 16, 40] {
        let body = format!(
            "%1 = reduce_max(0) %0 : f32
             %2 = broadcast() %1 : f32[{n}]
             %3 = sub %0, %2 : f32[{n}]
             %4 = exp %3 : f32[{n}]
             %5 = reduce_sum(0) %4 : f32
             %6 = broadcast() %5 : f32[{n}]
             %7 = div %4, %6 : f32[{n}]
             %8 = mul %7, %7 : f32[{n}]
             %9 = reduce_sum(0) %8 : f32
             %10 = sqrt %9 : f32
             %11 = broadcast() %10 : f32[{n}]
             %12 = div %7, %11 : f32[{n}]
             yield %12"
        );
        check(&unary(&body, &format!("f32[{n}]"), &format!("f32[{n}]")));
    }
}

#[test]
fn shapes_move() {
    let body = "%1 = reshape %0 : f32[4, 6]
         %2 = permute(1, 0) %1 : f32[6, 4]
         %3 = slice(0, 1, 4) %2 : f32[4, 4]
         %4 = slice(1, 2, 2) %1 : f32[4, 2]
         %5 = exp %4 : f32[4, 2]
         %6 = concat(1) %3, %5 : f32[4, 6]
         %7 = reduce_sum(0) %6 : f32[6]
         %8 = reduce_max(1) %6 : f32[4]
         %9 = concat(0) %7, %8 : f32[10]
         %10 = reshape %9 : f32[5, 2]
         yield %10";
    check(&unary(body, "f32[24]", "f32[5, 2]"));
}

#[test]
fn integers_and_truths() {
    let body = "%1 = convert(i32) %0 : i32[20]
         %2 = iota(20) : i32[20]
         %3 = add %1, %2 : i32[20]
         %4 = constant(i32 3) : i32
         %5 = broadcast() %4 : i32[20]
         %6 = rem %3, %5 : i32[20]
         %7 = floor_div %3, %6 : i32[20]
         %8 = gt %7, %5 : bool[20]
         %9 = select %8, %7, %6 : i32[20]
         %10 = convert(u64) %9 : u64[20]
         %11 = mul %10, %10 : u64[20]
         %12 = convert(i32) %11 : i32[20]
         %13 = reduce_count(0) %8 : i32
         %14 = reduce_argmax(0) %0 : i32
         %15 = add %13, %14 : i32
         %16 = broadcast() %15 : i32[20]
         %17 = add %12, %16 : i32[20]
         yield %17";
    check(&unary(body, "f32[20]", "i32[20]"));
}

#[test]
fn numbers_of_64_bits_and_floats() {
    for scale in ["1.0", "3e9", "5e17", "-2e19"] {
        let body = format!(
            "%1 = constant(f32 {scale}) : f32
             %2 = broadcast() %1 : f32[20]
             %3 = mul %0, %2 : f32[20]
             %4 = convert(u64) %3 : u64[20]
             %5 = constant(u64 11400714819323198485) : u64
             %6 = broadcast() %5 : u64[20]
             %7 = mul %4, %6 : u64[20]
             %8 = convert(f32) %4 : f32[20]
             %9 = convert(f32) %7 : f32[20]
             %10 = concat(0) %8, %9 : f32[40]
             yield %10"
        );
        check(&unary(&body, "f32[20]", "f32[40]"));
    }
}

#[test]
fn top_k_and_gather() {
    let body = "%1, %2 = top_k(4) %0 : f32[4], i32[4]
         %3 = top_mask(3) %0 : bool[19]
         %4 = convert(f32) %3 : f32[19]
         %5 = add %4, %0 : f32[19]
         %6 = gather(0) %5, %2 : f32[4]
         %7 = add %6, %1 : f32[4]
         yield %7";
    check(&unary(body, "f32[19]", "f32[4]"));
}

#[test]
fn products() {
    let body = "%1 = reshape %0 : f32[5, 7]
         %2 = permute(1, 0) %1 : f32[7, 5]
         %3 = matmul(0) %1, %2 : f32[5, 5]
         %4 = slice(0, 0, 5) %0 : f32[5]
         %5 = matmul(0) %3, %4 : f32[5]
         %6 = matmul(0) %5, %3 : f32[5]
         %7 = matmul(0) %6, %5 : f32
         %8 = broadcast() %7 : f32[5]
         %9 = add %8, %6 : f32[5]
         yield %9";
    check(&unary(body, "f32[35]", "f32[5]"));
}

#[test]
fn linears_of_every_encoding() {
    let int8 = "int8(token, floor 1e-5, divide)";
    let times = "int8(token, floor 1e-5, multiply)";
    let blocks = "int8(block 32, floor 1e-5, multiply)";
    let encodings = [
        "f32".to_string(),
        "bf16".into(),
        "f16".into(),
        format!("ternary(tensor, floor 1e-5, scale bf16, nearest, input {int8})"),
        format!("ternary(row, floor 1e-5, scale f32, nearest, input {times})"),
        format!("ternary(inputs 64, floor 1e-5, scale f32, nearest, input {blocks})"),
        "ternary(tensor, floor 1e-5, scale bf16, nearest, input none)".into(),
        "ternary(inputs 32, floor 1e-5, scale bf16, nearest, input none)".into(),
        format!("sign(row, scale bf16, input {int8})"),
        "sign(row, scale bf16, input none)".into(),
        // Groups and blocks that are no strips, that do not fit each other, and as many as there are inputs.
        "ternary(inputs 5, floor 1e-5, scale bf16, nearest, input none)".into(),
        "sign(inputs 1, scale bf16, input none)".into(),
        "sign(inputs 24, scale f32, input int8(block 8, floor 1e-5, divide))".into(),
        "ternary(inputs 24, floor 0.0, scale f32, nearest, input int8(block 20, floor 1e-5, multiply))".into(),
        "ternary(row, floor 0.0, scale f32, nearest, input int8(block 1, floor 1e-5, multiply))".into(),
        format!("sign(inputs 7, scale f32, input {times})"),
    ];
    for encoding in &encodings {
        let elem = encoding.split('(').next().expect("a name");
        for (m, k) in [(16, 64), (37, 300)] {
            let text = format!(
                "module \"m\" \"\" weight w0 \"w\" {encoding}[{m}, {k}] weight w1 \"v\" {encoding}[{m}, {k}]
                 entry e0 \"e\" {{ in \"x\" value : f32[{k}] in \"z\" value : f32[{m}] out \"y\" : f32[{m}]
                   body(%0: f32[{k}], %1: f32[{m}]) {{
                     %2 = weight(w0) : {elem}[{m}, {k}]
                     %3 = weight(w1) : {elem}[{m}, {k}]
                     %4 = linear %0, %2 : f32[{m}]
                     %5 = linear %0, %3 : f32[{m}]
                     %6 = sigmoid %4 : f32[{m}]
                     %7 = mul %6, %5 : f32[{m}]
                     %8 = add %7, %1 : f32[{m}]
                     yield %8 }} }}"
            );
            check(&text);
        }
    }
}

#[test]
fn rows_of_tables() {
    let int8 = "int8(token, floor 1e-5, divide)";
    for encoding in [
        "f32".to_string(),
        "bf16".into(),
        format!("ternary(tensor, floor 1e-5, scale bf16, nearest, input {int8})"),
        "ternary(inputs 16, floor 1e-5, scale bf16, nearest, input none)".into(),
        "sign(row, scale bf16, input none)".into(),
        format!("sign(row, scale bf16, input {int8})"),
        "ternary(inputs 3, floor 1e-5, scale bf16, nearest, input none)".into(),
        "sign(inputs 9, scale bf16, input none)".into(),
    ] {
        let elem = encoding.split('(').next().expect("a name");
        let text = format!(
            "module \"m\" \"\" weight w0 \"w\" {encoding}[256, 40]
             entry e0 \"e\" {{ in \"x\" stream : u8[4] out \"y\" : f32[160]
               body(%0: u8[4]) {{
                 %1 = weight(w0) : {elem}[256, 40]
                 %2 = gather(0) %1, %0 : f32[4, 40]
                 %3 = reshape %2 : f32[160]
                 yield %3 }} }}"
        );
        check_with(&text, 20, &mut Noise(7), |noise, _, n| {
            Tensor::u8(&[n], (0..n).map(|_| noise.bits() as u8).collect::<Vec<u8>>())
        });
    }
}
