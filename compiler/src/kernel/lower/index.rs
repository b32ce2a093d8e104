//! Index arithmetic: affine expressions over kernel scalars, kept symbolic so that equal indices are seen as
//! equal and constant parts end up in the offsets of loads.

use crate::kernel::build::Builder;
use crate::kernel::ir::Value;

/// `constant + sum of factor * value`; an index in elements or a distance in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ix {
    pub constant: i64,
    /// Sorted by value, factors not zero.
    pub terms: Vec<(Value, i64)>,
}

impl Ix {
    /// A constant.
    pub fn constant(constant: i64) -> Ix {
        Ix { constant, terms: Vec::new() }
    }

    /// A scalar i32.
    pub fn value(value: Value) -> Ix {
        Ix { constant: 0, terms: vec![(value, 1)] }
    }

    /// The value if it is known now.
    pub fn known(&self) -> Option<i64> {
        self.terms.is_empty().then_some(self.constant)
    }

    /// `self + other * factor`.
    pub fn add_scaled(&self, other: &Ix, factor: i64) -> Ix {
        let mut sum = self.clone();
        sum.constant += other.constant * factor;
        if factor == 0 {
            return sum;
        }
        for &(value, f) in &other.terms {
            match sum.terms.binary_search_by_key(&value, |t| t.0) {
                Ok(at) => sum.terms[at].1 += f * factor,
                Err(at) => sum.terms.insert(at, (value, f * factor)),
            }
        }
        sum.terms.retain(|t| t.1 != 0);
        sum
    }

    /// `self + other`.
    pub fn plus(&self, other: &Ix) -> Ix {
        self.add_scaled(other, 1)
    }

    /// `self + constant`.
    pub fn offset(&self, constant: i64) -> Ix {
        Ix { constant: self.constant + constant, terms: self.terms.clone() }
    }

    /// `self * factor`.
    pub fn times(&self, factor: i64) -> Ix {
        Ix::default().add_scaled(self, factor)
    }

    /// The value as a scalar i32.
    pub fn scalar(&self, b: &mut Builder) -> Value {
        let mut sum = None;
        for &(value, factor) in &self.terms {
            let term = if factor == 1 {
                value
            } else {
                let factor = b.const_n(factor as i32);
                b.mul(value, factor)
            };
            sum = Some(match sum {
                None => term,
                Some(sum) => b.add(sum, term),
            });
        }
        match sum {
            None => b.const_n(self.constant as i32),
            Some(sum) if self.constant == 0 => sum,
            Some(sum) => {
                let constant = b.const_n(self.constant as i32);
                b.add(sum, constant)
            }
        }
    }

    /// `pointer + self` bytes, all but the constant, which fits a load's or store's offset and is given back.
    pub fn address(&self, b: &mut Builder, pointer: Value) -> (Value, i32) {
        let mut pointer = pointer;
        for &(value, factor) in &self.terms {
            pointer = b.index(pointer, value, factor);
        }
        if (0..1 << 30).contains(&self.constant) {
            (pointer, self.constant as i32)
        } else {
            (b.offset(pointer, self.constant), 0)
        }
    }
}
