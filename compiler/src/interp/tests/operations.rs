//! Operations without state: values, edges and errors.

use super::*;
use proptest::prelude::*;

fn f32s(t: &Tensor) -> Vec<f32> {
    t.as_f32().expect("f32").to_vec()
}

fn i32s(t: &Tensor) -> Vec<i32> {
    t.as_i32().expect("i32").to_vec()
}

#[test]
fn integers_wrap_and_floor() {
    let of = |op: &str, a: i32, b: i32| {
        let body = format!("%0 = constant(i32 {a}) : i32 %1 = constant(i32 {b}) : i32 %2 = {op} %0, %1 : i32 yield %2");
        i32s(&constant_output("i32", &body).expect("evaluates"))[0]
    };
    assert_eq!([of("floor_div", -7, 2), of("floor_div", 7, -2), of("floor_div", 7, 0)], [-4, -4, 0]);
    assert_eq!([of("rem", -7, 2), of("rem", 7, -2), of("rem", 7, 0)], [1, -1, 0]);
    assert_eq!(of("floor_div", i32::MIN, -1), i32::MIN);
    assert_eq!(of("add", i32::MAX, 1), i32::MIN);
    assert_eq!([of("shl", 1, 33), of("shr", -8, 1)], [2, -4]);
}

#[test]
fn shapes_move_elements() {
    let iota = "%0 = iota(6) : i32[6] %1 = reshape %0 : i32[2, 3]";
    let of = |ty: &str, rest: &str| i32s(&constant_output(ty, &format!("{iota} {rest}")).expect("evaluates"));
    assert_eq!(of("i32[3, 2]", "%2 = permute(1, 0) %1 : i32[3, 2] yield %2"), [0, 3, 1, 4, 2, 5]);
    assert_eq!(of("i32[2, 2]", "%2 = slice(1, 1, 2) %1 : i32[2, 2] yield %2"), [1, 2, 4, 5]);
    assert_eq!(
        of("i32[2, 4]", "%2 = slice(1, 0, 1) %1 : i32[2, 1] %3 = concat(1) %2, %1 : i32[2, 4] yield %3"),
        [0, 0, 1, 2, 3, 3, 4, 5]
    );
    assert_eq!(
        of("i32[2, 2, 3]", "%2 = broadcast(0, 2) %1 : i32[2, 2, 3] yield %2"),
        [0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]
    );
}

#[test]
fn gather_gives_zeros_outside_of_its_table() {
    let of = |index: &str| {
        constant_output(
            "i32[2]",
            &format!("%0 = iota(5) : i32[5] %1 = constant({index}) : i32[2] %2 = gather(0) %0, %1 : i32[2] yield %2"),
        )
    };
    assert_eq!(i32s(&of("i32[2] [4, -1]").expect("evaluates")), [4, 0]);
    assert_eq!(i32s(&of("i32[2] [3, 5]").expect("evaluates")), [3, 0]);
    assert_eq!(i32s(&of("i32[2] [-2147483648, 2]").expect("evaluates")), [0, 2]);
}

#[test]
fn top_k_takes_lower_indices_first_and_marks_missing_places() {
    let body = "%0 = constant(f32[5] [1.0, 3.0, -inf, 3.0, 1.0]) : f32[5]
                %1, %2 = top_k(3) %0 : f32[3], i32[3]
                %3 = top_mask(3) %0 : bool[5]
                %4 = convert(i32) %3 : i32[5]
                %5 = concat(0) %2, %4 : i32[8] yield %5";
    assert_eq!(i32s(&constant_output("i32[8]", body).expect("evaluates")), [1, 3, 0, 1, 1, 0, 1, 0]);
    let body =
        "%0 = constant(f32[3] [nan(0x7fc00000), -inf, 2.0]) : f32[3] %1, %2 = top_k(2) %0 : f32[2], i32[2] yield %1";
    assert_eq!(f32s(&constant_output("f32[2]", body).expect("evaluates")), [2.0, f32::NEG_INFINITY]);
    let body =
        "%0 = constant(f32[4] [nan(0x7fc00000), 1.0, 2.0, 2.0]) : f32[4] %1 = reduce_argmax(0) %0 : i32 yield %1";
    assert_eq!(i32s(&constant_output("i32", body).expect("evaluates")), [2]);
}

#[test]
fn bits_come_lowest_first() {
    let body = "%0 = constant(u64[2] [5, 9223372036854775808]) : u64[2] %1 = bits %0 : bool[128]
                %2 = reduce_count(0) %1 : i32 %3 = slice(0, 0, 3) %1 : bool[3] %4 = convert(i32) %3 : i32[3]
                %5 = reshape %2 : i32[1] %6 = concat(0) %5, %4 : i32[4] yield %6";
    assert_eq!(i32s(&constant_output("i32[4]", body).expect("evaluates")), [3, 1, 0, 1]);
}

#[test]
fn a_failing_check_names_its_message() {
    let body = "%0 = constant(bool false) : bool check(\"too far\") %0 yield %0";
    let error = constant_output("bool", body).expect_err("the check fails");
    assert_eq!(error.fault, Fault::Check("too far".into()));
}

#[test]
fn absurd_sizes_are_refused() {
    let body = "%0 = constant(f32 1.0) : f32 %1 = broadcast() %0 : f32[1000000, 1000000]
                %2 = reduce_sum(1) %1 : f32[1000000] %3 = reduce_sum(0) %2 : f32 yield %3";
    assert!(matches!(constant_output("f32", body), Err(InterpError { fault: Fault::TooLarge(_), .. })));
}

proptest! {
    /// A product with columns is ascending in k; without, and in a linear layer, it is the lane tree.
    #[test]
    fn products_sum_in_the_stated_order(a in prop::collection::vec(-9f32..9.0, 40), b in prop::collection::vec(-9f32..9.0, 40)) {
        let text = "module \"m\" \"\" entry e0 \"e\" {
          in \"a\" value : f32[2, 20] in \"b\" value : f32[20, 2]
          out \"y\" : f32[2, 2] out \"z\" : f32[2]
          body(%0: f32[2, 20], %1: f32[20, 2]) {
            %2 = matmul(0) %0, %1 : f32[2, 2]
            %3 = permute(1, 0) %1 : f32[2, 20]
            %4 = matmul(1) %0, %3 : f32[2]
            yield %2, %4
          } }";
        let arguments = Arguments::new().with("a", Tensor::f32(&[2, 20], a.clone())).with("b", Tensor::f32(&[20, 2], b.clone()));
        let y = outputs(text, arguments).expect("evaluates");
        for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let column: Vec<f32> = (0..20).map(|k| b[k * 2 + j]).collect();
            let row = &a[i * 20..][..20];
            let ascending = row.iter().zip(&column).fold(0f32, |s, (x, y)| s + x * y);
            prop_assert_eq!(f32s(&y[0])[i * 2 + j].to_bits(), ascending.to_bits());
            if i == j {
                let mut partials = [0f32; 16];
                for k in 0..20 { partials[k % 16] += row[k] * column[k]; }
                for width in [8, 4, 2, 1] { for l in 0..width { partials[l] += partials[l + width]; } }
                prop_assert_eq!(f32s(&y[1])[i].to_bits(), partials[0].to_bits());
            }
        }
    }
}
