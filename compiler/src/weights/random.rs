//! Random weights of a model's shape, for measurements and for `verify` without a checkpoint. A weight's value is a
//! function of seed, name, encoding and shape alone, the same on every machine.

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::encode::encode_latent;
use super::value::{MatrixShape, WeightValue};
use crate::ir::{Encoding, WeightDecl};
use crate::numerics::narrow;

/// A random value for a weight: codes uniform over their values, scales near 1 / sqrt(columns), matrices of floats
/// uniform with that deviation, and vectors near 1, as norms are.
#[must_use]
pub fn random_value(seed: u64, weight: &WeightDecl) -> WeightValue {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ fnv1a(weight.path.as_bytes()));
    let shape = MatrixShape::of(&weight.shape);
    let deviation = 1.0 / (shape.columns.max(1) as f32).sqrt();
    match weight.encoding {
        Encoding::Ternary { group, scale, .. } => {
            let codes = codes(&mut rng, shape.elements(), |word| (word % 3) as i8 - 1);
            let scales = scales(&mut rng, shape.scales(group), 1.22 * deviation, |value| narrow::scale(value, scale));
            WeightValue::Codes { codes, scales }
        }
        Encoding::Sign { group, scale, .. } => {
            let codes = codes(&mut rng, shape.elements(), |word| 2 * (word & 1) as i8 - 1);
            let scales = scales(&mut rng, shape.scales(group), deviation, |value| narrow::scale(value, scale));
            WeightValue::Codes { codes, scales }
        }
        Encoding::F32 | Encoding::F16 | Encoding::Bf16 => {
            let vector = weight.shape.len() < 2;
            let width = if vector { 0.1 } else { 1.732 * deviation };
            let centre = if vector { 1.0 } else { 0.0 };
            let values = (0..shape.elements()).map(|_| centre + width * symmetric(&mut rng)).collect();
            encode_latent(values, &weight.shape, &weight.encoding, |_| Ok::<(), std::convert::Infallible>(()))
                .unwrap_or_else(|never| match never {})
        }
    }
}

/// Bytes of random words, each turned into a code; the modulo's bias is below 1 in 80.
fn codes(rng: &mut Xoshiro256PlusPlus, count: usize, code: impl Fn(u8) -> i8) -> Vec<i8> {
    let mut codes = Vec::with_capacity(count + 7);
    while codes.len() < count {
        codes.extend(rng.next_u64().to_le_bytes().map(&code));
    }
    codes.truncate(count);
    codes
}

fn scales(rng: &mut Xoshiro256PlusPlus, count: usize, middle: f32, round: impl Fn(f32) -> f32) -> Vec<f32> {
    (0..count).map(|_| round(middle * (1.0 + 0.25 * symmetric(rng)))).collect()
}

/// Uniform in -1..1, a multiple of 2^-23.
fn symmetric(rng: &mut Xoshiro256PlusPlus) -> f32 {
    (rng.next_u64() >> 40) as f32 * (1.0 / (1 << 23) as f32) - 1.0
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Group, InputQuant, Keep, OriginId, ScaleFormat, WeightSource};

    fn weight(path: &str, encoding: Encoding) -> WeightDecl {
        WeightDecl {
            path: path.to_owned(),
            shape: vec![40, 100],
            encoding,
            source: WeightSource::Checkpoint,
            origin: OriginId(0),
        }
    }

    const TERNARY: Encoding = Encoding::Ternary {
        group: Group::Row,
        floor: 1e-5,
        scale: ScaleFormat::Bf16,
        keep: Keep::Nearest,
        input: InputQuant::None,
    };

    #[test]
    fn values_depend_on_seed_and_name_only() {
        let a = random_value(1, &weight("a", TERNARY));
        assert_eq!(a, random_value(1, &weight("a", TERNARY)));
        assert_ne!(a, random_value(2, &weight("a", TERNARY)));
        assert_ne!(a, random_value(1, &weight("b", TERNARY)));
    }

    #[test]
    fn all_codes_occur_and_scales_are_positive() {
        let WeightValue::Codes { codes, scales } = random_value(7, &weight("w", TERNARY)) else { panic!("codes") };
        for code in -1..=1 {
            let count = codes.iter().filter(|&&c| c == code).count();
            assert!((1100..1600).contains(&count), "{count} of 4000 are {code}");
        }
        assert_eq!(scales.len(), 40);
        assert!(scales.iter().all(|&s| s > 0.0 && narrow::bf16(s) == s));
    }

    #[test]
    fn floats_are_rounded_to_their_encoding() {
        let WeightValue::Dense(values) = random_value(7, &weight("w", Encoding::Bf16)) else { panic!("floats") };
        assert!(values.iter().all(|&v| narrow::bf16(v) == v && v.abs() < 0.2));
        assert!(values.iter().any(|&v| v < 0.0) && values.iter().any(|&v| v > 0.0));
    }
}
