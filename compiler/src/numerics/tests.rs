//! Measured error bounds against f64, over strided sweeps of all floats, and the edges of each function.

use super::functions as f;
use super::*;
use proptest::prelude::*;

/// Every `stride`-th float of both signs with a magnitude in `low..=high`.
fn sweep(low: f32, high: f32, stride: usize) -> impl Iterator<Item = f32> {
    (low.to_bits()..=high.to_bits()).step_by(stride).flat_map(|b| [f32::from_bits(b), -f32::from_bits(b)])
}

/// The distance from the true value in units of the result's last place.
fn ulp(got: f32, exact: f64) -> f64 {
    let nearest = exact as f32;
    if got.to_bits() == nearest.to_bits() && got.is_infinite() {
        return 0.0;
    }
    let exponent = ((nearest.to_bits() >> 23) & 0xff).max(1) as i32 - 127 - 23;
    (f64::from(got) - exact).abs() / 2f64.powi(exponent)
}

fn worst(inputs: impl Iterator<Item = f32>, got: fn(&mut Scalar, f32) -> f32, exact: fn(f64) -> f64) -> f64 {
    let mut most = 0.0;
    for x in inputs {
        let e = ulp(got(&mut Scalar, x), exact(f64::from(x)));
        assert!(!e.is_nan(), "at {x:e}");
        if e > most {
            most = e;
        }
    }
    most
}

#[test]
fn errors_stay_within_the_stated_bounds() {
    let tiny = f32::from_bits(0x2f80_0000);
    let s = 499;
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let table = [
        ("exp", worst(sweep(tiny, 87.33654, s), f::exp, f64::exp), 1.0),
        ("expm1", worst(sweep(tiny, 88.7, s), f::expm1, f64::exp_m1), 1.6),
        ("sigmoid", worst(sweep(tiny, 87.0, s), f::sigmoid, sigmoid), 2.5),
        ("tanh", worst(sweep(tiny, 100.0, s), f::tanh, f64::tanh), 1.6),
        ("ln", worst(sweep(f32::from_bits(1), f32::MAX, s).filter(|x| *x > 0.0), f::ln, f64::ln), 1.0),
        ("log1p", worst(sweep(tiny, 3e38, s).filter(|x| *x > -1.0), f::log1p, f64::ln_1p), 2.0),
    ];
    for (name, error, bound) in table {
        println!("{name}: {error:.3} ulp");
        assert!(error <= bound, "{name}: {error} ulp, bound {bound}");
    }
}

#[test]
fn sine_and_cosine_stay_within_the_stated_bounds() {
    let exact: [fn(f64) -> f64; 2] = [f64::sin, f64::cos];
    let got: [fn(&mut Scalar, f32) -> f32; 2] = [f::sin, f::cos];
    for (got, exact) in got.into_iter().zip(exact) {
        let mut most = 0f64;
        for x in sweep(f32::from_bits(0x2f80_0000), 1e5, 997) {
            let y = got(&mut Scalar, x);
            assert!(y.abs() <= 1.0, "at {x:e}");
            most = most.max((f64::from(y) - exact(f64::from(x))).abs());
        }
        println!("absolute error {:.3} * 2^-24", most * 2f64.powi(24));
        assert!(most <= 2f64.powi(-23), "{most:e}");
        assert!(got(&mut Scalar, 4_194_304.0).is_nan());
        assert!(got(&mut Scalar, f32::INFINITY).is_nan());
        assert!(got(&mut Scalar, f32::NAN).is_nan());
    }
    assert_eq!((f::sin(&mut Scalar, 0.0), f::cos(&mut Scalar, 0.0)), (0.0, 1.0));
}

#[test]
fn edges_of_the_functions() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let s = &mut Scalar;
    for (got, want) in [
        (f::exp(s, -inf), 0.0),
        (f::exp(s, -87.4), 0.0),
        (f::exp(s, inf), inf),
        (f::exp(s, 0.0), 1.0),
        (f::expm1(s, -inf), -1.0),
        (f::expm1(s, inf), inf),
        (f::expm1(s, -0.0), -0.0),
        (f::sigmoid(s, -inf), 0.0),
        (f::sigmoid(s, inf), 1.0),
        (f::sigmoid(s, -0.0), 0.5),
        (f::tanh(s, -inf), -1.0),
        (f::tanh(s, -0.0), -0.0),
        (f::ln(s, 0.0), -inf),
        (f::ln(s, -0.0), -inf),
        (f::ln(s, inf), inf),
        (f::ln(s, 1.0), 0.0),
        (f::log1p(s, -1.0), -inf),
        (f::log1p(s, inf), inf),
        (f::log1p(s, -0.0), -0.0),
        (f::neg(s, 0.0), -0.0),
        (f::abs(s, -0.0), 0.0),
    ] {
        assert_eq!(got.to_bits(), want.to_bits(), "{got} {want}");
    }
    let functions: [fn(&mut Scalar, f32) -> f32; 8] =
        [f::exp, f::expm1, f::sigmoid, f::tanh, f::ln, f::log1p, f::round, f::floor];
    for function in functions {
        assert!(function(s, nan).is_nan());
    }
    assert!(f::ln(s, -1.0).is_nan() && f::ln(s, -inf).is_nan() && f::log1p(s, -1.5).is_nan());
}

#[test]
fn integers_from_floats_agree_with_the_language() {
    let all = (0..=u32::MAX).step_by(30_011).map(f32::from_bits);
    let edges = [
        0.5,
        1.5,
        2.5,
        4_194_303.5,
        4_194_304.5,
        8_388_607.5,
        8_388_608.0,
        2_147_483_520.0,
        2_147_483_648.0,
        4_294_967_040.0,
        4_294_967_296.0,
        0.49999997,
        127.9,
        128.0,
        255.9,
    ];
    for x in all.chain(edges).chain(edges.map(|x: f32| -x)) {
        let s = &mut Scalar;
        assert_eq!(f::to_i32(s, x), x as i32, "{x:e}");
        assert_eq!(f::to_u32(s, x) as u32, x as u32, "{x:e}");
        assert_eq!(f::to_i8(s, x), i32::from(x as i8), "{x:e}");
        assert_eq!(f::to_u8(s, x), i32::from(x as u8), "{x:e}");
        if !x.is_nan() {
            let (r, d) = (x.round_ties_even(), x.floor());
            assert_eq!(f::round(s, x).to_bits(), r.to_bits(), "{x:e}");
            assert_eq!(f::floor(s, x).to_bits(), d.to_bits(), "{x:e}");
        }
    }
}

#[test]
fn the_quantiser_rounds_ties_to_even_and_clamps() {
    let q = |x: f32, s: f32| quantise::int8(&mut Scalar, x, s);
    assert_eq!([q(0.5, 1.0), q(1.5, 1.0), q(-2.5, 1.0)], [0, 2, -2]);
    assert_eq!([q(1e30, 1.0), q(-1e30, 1.0), q(f32::NAN, 1.0)], [127, -127, -127]);
    assert_eq!(quantise::block_maximum(&[-3.0, 2.0], 1e-5), 3.0);
    assert_eq!(quantise::block_maximum(&[0.0], 1e-5), 1e-5);
    assert!(quantise::block_maximum(&[f32::NAN, f32::INFINITY], 1e-5).is_nan());
}

proptest! {
    #[test]
    fn a_reduction_does_not_depend_on_how_it_is_cut(
        x in prop::collection::vec(-1e3f32..1e3, 0..70), cut in 0usize..70, start in 0usize..40,
    ) {
        let cut = cut.min(x.len());
        let mut parts = reduce::LaneSum::default();
        parts.add(start, &x[..cut]);
        parts.add(start + cut, &x[cut..]);
        prop_assert_eq!(parts.total().to_bits(), reduce::lane_sum_from(start, &x).to_bits());
        let ones = vec![1.0; x.len()];
        prop_assert_eq!(reduce::lane_dot_from(start, &x, &ones).to_bits(), parts.total().to_bits());
        let padded: Vec<f32> = std::iter::repeat_n(0.0, start).chain(x.iter().copied()).collect();
        prop_assert_eq!(reduce::lane_sum(&padded).to_bits(), parts.total().to_bits());
    }
}
