//! What is known of an integer: an interval, bounds that are linear in the launch's row counts, a congruence, and how
//! many state strides are in it.
//!
//! The arithmetic is exact in 128 bits: numbers of kernels have at most 64 bits and factors at most [`LARGEST`], so
//! no sum or product of two of them overflows. Whether a result fits its type is asked afterwards, by
//! [`Number::within`].

use crate::kernel::ir::Type;

/// Row counts that one launch may name.
pub(super) const SYMBOLS: usize = 2;
/// Powers of two that are told apart by a congruence.
const POWER: u32 = 32;
/// Linear bounds with a larger part are forgotten.
const LARGEST: i128 = 1 << 62;

/// `constant + sum of factor * row count`. What is too large stays at the largest number, and [`Linear::is_large`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Linear {
    pub factors: [i128; SYMBOLS],
    pub constant: i128,
}

impl Linear {
    pub fn constant(constant: i128) -> Linear {
        Linear { constant, ..Linear::default() }
    }

    /// `factor` times one of the row counts.
    pub fn rows(symbol: usize, factor: i128) -> Linear {
        let mut linear = Linear::default();
        linear.factors[symbol] = factor;
        linear
    }

    pub fn plus(self, other: Linear) -> Linear {
        Linear {
            factors: std::array::from_fn(|i| self.factors[i].saturating_add(other.factors[i])),
            constant: self.constant.saturating_add(other.constant),
        }
    }

    pub fn add(self, constant: i128) -> Linear {
        Linear { constant: self.constant.saturating_add(constant), ..self }
    }

    pub fn times(self, factor: i128) -> Linear {
        let constant = self.constant.saturating_mul(factor);
        Linear { factors: self.factors.map(|f| f.saturating_mul(factor)), constant }
    }

    pub fn is_constant(self) -> bool {
        self.factors == [0; SYMBOLS]
    }

    /// Whether it is no distance in memory; a bound that says so little is none.
    pub fn is_large(self) -> bool {
        self.constant.abs() > LARGEST || self.factors.iter().any(|f| f.abs() > LARGEST)
    }
}

/// The ranges of the row counts of a launch, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct RowRanges(pub [(i128, i128); SYMBOLS]);

impl RowRanges {
    /// The largest value that a linear bound has for any row counts.
    pub fn most(&self, linear: Linear) -> i128 {
        let parts = linear.factors.iter().zip(self.0).map(|(&f, (lo, hi))| (f * lo).max(f * hi));
        linear.constant + parts.sum::<i128>()
    }

    /// The smallest value that a linear bound has for any row counts.
    pub fn least(&self, linear: Linear) -> i128 {
        -self.most(linear.times(-1))
    }

    /// Whether `a >= b` for all row counts.
    pub fn dominates(&self, a: Linear, b: Linear) -> bool {
        self.least(a.plus(b.times(-1))) >= 0
    }
}

/// What is known of an integer, of each lane of a vector of integers, or of a pointer's distance from its root.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Number {
    pub lo: i128,
    pub hi: i128,
    /// A lower bound in the row counts.
    pub below: Option<Linear>,
    /// An upper bound in the row counts.
    pub above: Option<Linear>,
    /// State strides that come on top of all this: at least and at most so many.
    pub strides: (i128, i128),
    /// An upper bound of the number of state strides.
    pub strides_above: Option<Linear>,
    /// The number is `residue` modulo two to the power of `power`.
    pub power: u32,
    pub residue: i128,
}

/// The integers of a type.
pub(super) fn limits(ty: Type) -> (i128, i128) {
    match ty {
        Type::N | Type::I => (i128::from(i32::MIN), i128::from(i32::MAX)),
        _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
    }
}

fn modulo(value: i128, power: u32) -> i128 {
    value & ((1 << power) - 1)
}

impl Number {
    pub fn range(lo: i128, hi: i128) -> Number {
        let (power, residue) = if lo == hi { (POWER, modulo(lo, POWER)) } else { (0, 0) };
        Number { lo, hi, below: None, above: None, strides: (0, 0), strides_above: None, power, residue }
    }

    pub fn exactly(value: i128) -> Number {
        Number::range(value, value)
    }

    /// Any integer of a type.
    pub fn any(ty: Type) -> Number {
        let (lo, hi) = limits(ty);
        Number::range(lo, hi)
    }

    /// A row count.
    pub fn rows(symbol: usize, ranges: &RowRanges) -> Number {
        let (lo, hi) = ranges.0[symbol];
        let itself = Some(Linear::rows(symbol, 1));
        Number { below: itself, above: itself, ..Number::range(lo, hi) }
    }

    /// One state stride.
    pub fn stride() -> Number {
        Number { strides: (1, 1), strides_above: Some(Linear::constant(1)), ..Number::exactly(0) }
    }

    /// The value, where there is one only.
    pub fn known(&self) -> Option<i128> {
        (self.lo == self.hi && self.strides == (0, 0)).then_some(self.lo)
    }

    pub fn has_strides(&self) -> bool {
        self.strides != (0, 0)
    }

    /// Whether it is 0 or -1: a condition, or a mask of all bits.
    pub fn is_mask(&self) -> bool {
        self.lo >= -1 && self.hi <= 0 && !self.has_strides()
    }

    /// An upper bound in the row counts, a constant if there is no better one.
    pub fn upper(&self) -> Linear {
        self.above.unwrap_or(Linear::constant(self.hi))
    }

    /// A lower bound in the row counts, a constant if there is no better one.
    pub fn lower(&self) -> Linear {
        self.below.unwrap_or(Linear::constant(self.lo))
    }

    /// Whether it is a multiple of two to the power, but for a residue.
    pub fn is_congruent(&self, power: u32, residue: i128) -> bool {
        self.power >= power && modulo(self.residue, power) == modulo(residue, power)
    }

    /// With nothing known but the interval.
    pub fn interval(&self) -> Number {
        Number::range(self.lo, self.hi)
    }

    /// The interval without the ends that the congruence excludes.
    pub fn tightened(mut self) -> Number {
        let lo = self.lo + modulo(self.residue - self.lo, self.power);
        let hi = self.hi - modulo(self.hi - self.residue, self.power);
        if lo <= hi {
            (self.lo, self.hi) = (lo, hi);
        }
        self
    }

    /// With this congruence.
    pub fn congruent(mut self, power: u32, residue: i128) -> Number {
        self.power = power.min(POWER);
        self.residue = modulo(residue, self.power);
        self
    }

    /// Tightens the interval by the linear bounds; any integer of the type if it may have wrapped. Says whether it
    /// fitted.
    pub fn within(mut self, ty: Type, ranges: &RowRanges) -> (Number, bool) {
        self.above = self.above.filter(|bound| !bound.is_large());
        self.below = self.below.filter(|bound| !bound.is_large());
        self.strides_above = self.strides_above.filter(|bound| !bound.is_large());
        if let Some(bound) = self.above {
            self.hi = self.hi.min(ranges.most(bound));
        }
        if let Some(bound) = self.below {
            self.lo = self.lo.max(ranges.least(bound));
        }
        let (lo, hi) = limits(ty);
        if self.lo < lo || self.hi > hi || self.strides.0 < -LARGEST || self.strides.1 > LARGEST {
            let any = Number::any(ty);
            // What wraps keeps its residue.
            return (if self.has_strides() { any } else { any.congruent(self.power, self.residue) }, false);
        }
        (self, true)
    }

    /// What holds of either.
    pub fn join(self, other: Number, ranges: &RowRanges) -> Number {
        let mut power = self.power.min(other.power);
        let differing = modulo(self.residue - other.residue, power);
        if differing != 0 {
            power = differing.trailing_zeros();
        }
        let larger = |a: Linear, b: Linear| match (ranges.dominates(a, b), ranges.dominates(b, a)) {
            (true, _) => Some(a),
            (_, true) => Some(b),
            _ => None,
        };
        let smaller = |a: Linear, b: Linear| larger(a.times(-1), b.times(-1)).map(|bound| bound.times(-1));
        Number {
            lo: self.lo.min(other.lo),
            hi: self.hi.max(other.hi),
            above: (self.above.or(other.above)).and_then(|_| larger(self.upper(), other.upper())),
            below: (self.below.or(other.below)).and_then(|_| smaller(self.lower(), other.lower())),
            strides: (self.strides.0.min(other.strides.0), self.strides.1.max(other.strides.1)),
            strides_above: self.strides_above.filter(|bound| Some(*bound) == other.strides_above),
            power,
            residue: modulo(self.residue, power),
        }
    }

    pub fn plus(self, other: Number) -> Number {
        let power = self.power.min(other.power);
        let strides_above = match (self.has_strides(), other.has_strides()) {
            (_, false) => self.strides_above,
            (false, _) => other.strides_above,
            _ => None,
        };
        Number {
            lo: self.lo + other.lo,
            hi: self.hi + other.hi,
            above: self.above.or(other.above).map(|_| self.upper().plus(other.upper())),
            below: self.below.or(other.below).map(|_| self.lower().plus(other.lower())),
            strides: (self.strides.0 + other.strides.0, self.strides.1 + other.strides.1),
            strides_above,
            power,
            residue: modulo(self.residue + other.residue, power),
        }
    }

    pub fn minus(self, other: Number) -> Number {
        self.plus(other.times(-1))
    }

    pub fn times(self, factor: i128) -> Number {
        if factor == 0 {
            return Number::exactly(0);
        }
        let power = (self.power + factor.trailing_zeros()).min(POWER);
        let (below, above) = if factor > 0 { (self.below, self.above) } else { (self.above, self.below) };
        let ordered = |a: i128, b: i128| ((a * factor).min(b * factor), (a * factor).max(b * factor));
        let (lo, hi) = ordered(self.lo, self.hi);
        Number {
            lo,
            hi,
            below: below.map(|bound| bound.times(factor)),
            above: above.map(|bound| bound.times(factor)),
            strides: ordered(self.strides.0, self.strides.1),
            strides_above: self.strides_above.filter(|_| factor > 0).map(|bound| bound.times(factor)),
            power,
            residue: modulo(modulo(self.residue, self.power) * factor, power),
        }
    }
}
