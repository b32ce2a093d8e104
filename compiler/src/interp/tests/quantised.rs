//! Quantised products against exact vectors, and the forms that have several scales.

use std::sync::Arc;

use super::*;
use crate::ir::{Data, Group};
use crate::numerics::narrow;
use crate::numerics::reduce::{lane_dot, lane_sum};
use serde_json::Value as Json;

fn numbers(json: &Json) -> Vec<f64> {
    match json {
        Json::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

fn vectors() -> Json {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/files/bitlinear.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("the file is there")).expect("it is JSON")
}

fn coded(shape: &[usize], codes: Vec<i8>, scales: Vec<f32>, group: Group) -> WeightValue {
    WeightValue::Coded(Arc::new(CodedWeight::new(shape, codes, scales, group).expect("the counts agree")))
}

/// Linear, and quantize_input with linear_int8, for one weight of this encoding.
fn layer(encoding: &str, quant: &str, m: usize, k: usize, blocks: usize) -> String {
    format!(
        "module \"m\" \"\" weight w0 \"w\" {encoding}[{m}, {k}]
         entry e0 \"e\" {{ in \"x\" value : f32[{k}]
           out \"y\" : f32[{m}] out \"z\" : f32[{m}] out \"q\" : i8[{k}]
           body(%0: f32[{k}]) {{
             %1 = weight(w0) : {elem}[{m}, {k}]
             %2 = linear %0, %1 : f32[{m}]
             %3, %4 = quantize_input({quant}) %0 : i8[{k}], f32[{blocks}]
             %5 = linear_int8({quant}) %3, %4, %1 : f32[{m}]
             yield %2, %5, %3
           }} }}",
        elem = encoding.split('(').next().expect("a name"),
    )
}

fn run(text: &str, weight: WeightValue, x: &[f32]) -> Outputs {
    let module = module(text);
    let weights = MemoryWeights::new(&module, HashMap::from([("w".to_string(), weight)])).expect("one weight");
    let arguments = Arguments::new().with("x", Tensor::f32(&[x.len()], x));
    let mut stream = StreamState::new(&module);
    Interpreter::new(&module, &weights).run(&module.entries[0], &mut stream, 1, &arguments).expect("evaluates")
}

#[test]
fn bitlinear_vectors_are_met_exactly() {
    for case in vectors()["bitlinear"].as_array().expect("cases") {
        let (m, k) = (case["rows"].as_u64().expect("rows") as usize, case["cols"].as_u64().expect("cols") as usize);
        let codes: Vec<i8> = numbers(&case["codes"]).iter().map(|&c| c as i8).collect();
        let scale = case["scale"].as_f64().expect("a scale") as f32;
        let quant = "int8(token, floor 1e-5, divide)";
        let text = layer(&format!("ternary(tensor, floor 1e-5, scale bf16, nearest, input {quant})"), quant, m, k, 1);
        let inputs = case["x"].as_array().expect("inputs");
        for (i, x) in inputs.iter().enumerate() {
            let x: Vec<f32> = numbers(x).iter().map(|&v| v as f32).collect();
            let y = run(&text, coded(&[m, k], codes.clone(), vec![scale], Group::Tensor), &x);
            let q: Vec<i8> = numbers(&case["x_int8"][i]).iter().map(|&v| v as i8).collect();
            assert_eq!(*y["q"].data, Data::I8(q));
            let expected: Vec<f32> = numbers(&case["y"][i]).iter().map(|&v| v as f32).collect();
            assert_eq!(y["z"].as_f32(), Some(&expected[..]));
            assert!(y["y"].same_bits(&y["z"]));
        }
    }
}

#[test]
fn zeros_are_quantised_to_zeros() {
    let quant = "int8(token, floor 1e-5, divide)";
    let text = layer(&format!("ternary(tensor, floor 1e-5, scale bf16, nearest, input {quant})"), quant, 1, 4, 1);
    let y = run(&text, coded(&[1, 4], vec![1; 4], vec![0.5], Group::Tensor), &[0.0; 4]);
    assert_eq!((&*y["q"].data, y["z"].as_f32()), (&Data::I8(vec![0; 4]), Some(&[0.0f32][..])));
}

#[test]
fn rounding_to_bf16_meets_the_vectors() {
    for pair in vectors()["bf16_round"].as_array().expect("pairs") {
        let pair = numbers(pair);
        assert_eq!(narrow::bf16(pair[0] as f32), pair[1] as f32);
    }
}

#[test]
fn groups_of_inputs_and_blocks_of_the_token_meet_where_either_ends() {
    let x: Vec<f32> = (0..10).map(|i| (i as f32 - 4.3) * 1.7).collect();
    let codes: Vec<i8> = (0..20).map(|i| [1, -1, 0, 1][i % 4]).collect();
    let scales = vec![0.5, 0.25, 2.0, 1.5, 3.0, 0.125];
    let quant = "int8(block 5, floor 1e-5, multiply)";
    let text = layer(&format!("ternary(inputs 4, floor 1e-5, scale f32, nearest, input {quant})"), quant, 2, 10, 2);
    let y = run(&text, coded(&[2, 10], codes.clone(), scales.clone(), Group::Inputs(4)), &x);
    let a: Vec<f32> = x.chunks(5).map(|b| b.iter().fold(0f32, |m, v| m.max(v.abs()))).collect();
    let Data::I8(q) = &*y["q"].data else { panic!("codes are i8") };
    for row in 0..2 {
        let mut total = 0f32;
        for (n, (from, to)) in [(0, 4), (4, 5), (5, 8), (8, 10)].into_iter().enumerate() {
            let acc: i32 = (from..to).map(|i| i32::from(q[i]) * i32::from(codes[row * 10 + i])).sum();
            let term = acc as f32 * (a[from / 5] / 127.0) * scales[row * 3 + from / 4];
            total = if n == 0 { term } else { total + term };
        }
        assert_eq!(y["z"].as_f32().expect("f32")[row].to_bits(), total.to_bits());
    }
}

#[test]
fn a_float_input_is_summed_per_group_before_its_scale() {
    let x: Vec<f32> = (0..20).map(|i| 1.0 / (i as f32 + 0.7)).collect();
    let codes: Vec<i8> = (0..20).map(|i| if i % 3 == 0 { -1 } else { 1 }).collect();
    let quant = "int8(token, floor 1e-5, divide)";
    let text = layer("sign(row, scale f32, input none)", quant, 1, 20, 1);
    let y = run(&text, coded(&[1, 20], codes.clone(), vec![0.3], Group::Row), &x);
    let chosen: Vec<f32> = codes.iter().zip(&x).map(|(&c, &x)| if c > 0 { x } else { 0.0 }).collect();
    let plus = lane_sum(&chosen);
    assert_eq!(y["y"].as_f32(), Some(&[((plus + plus) - lane_sum(&x)) * 0.3][..]));
    let text = layer("ternary(row, floor 1e-5, scale f32, nearest, input none)", quant, 1, 20, 1);
    let y = run(&text, coded(&[1, 20], codes.clone(), vec![0.3], Group::Row), &x);
    let floats: Vec<f32> = codes.iter().map(|&c| f32::from(c)).collect();
    assert_eq!(y["y"].as_f32(), Some(&[lane_dot(&floats, &x) * 0.3][..]));
}

#[test]
fn encoded_tables_and_computed_weights_are_decoded() {
    let text = "module \"m\" \"\" weight w0 \"w\" ternary(row, floor 1e-5, scale bf16, nearest, input none)[2, 2]
      weight w1 \"v\" f32[2, 2] computed { body() { %0 = weight(w0) : ternary[2, 2] %1 = convert(f32) %0 : f32[2, 2]
        %2 = neg %1 : f32[2, 2] yield %2 } }
      entry e0 \"e\" { in \"x\" value range(0.0, 1.0) : u32 out \"y\" : f32[2] out \"z\" : f32[2]
        body(%0: u32) { %1 = weight(w0) : ternary[2, 2] %2 = gather(0) %1, %0 : f32[2]
          %3 = weight(w1) : f32[2, 2] %4 = gather(0) %3, %0 : f32[2] yield %2, %4 } }";
    let module = module(text);
    let w = coded(&[2, 2], vec![1, 0, -1, 1], vec![2.0, 3.0], Group::Row);
    let weights = MemoryWeights::new(&module, HashMap::from([("w".to_string(), w)])).expect("one weight");
    let interpreter = Interpreter::new(&module, &weights);
    let mut stream = StreamState::new(&module);
    let arguments = Arguments::new().with("x", Tensor::u32(&[], [1]));
    let y = interpreter.run(&module.entries[0], &mut stream, 1, &arguments).expect("evaluates");
    assert_eq!(y["y"].as_f32(), Some(&[-3.0, 3.0][..]));
    assert_eq!(y["z"].as_f32(), Some(&[3.0, -3.0][..]));
    let arguments = Arguments::new().with("x", Tensor::u32(&[], [2]));
    let error = interpreter.run(&module.entries[0], &mut stream, 1, &arguments).expect_err("2 is out of range");
    assert!(matches!(error.fault, Fault::OutOfRange { .. }), "{error}");
}
