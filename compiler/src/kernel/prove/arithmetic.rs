//! Integer operations on what is known of their operands.

use super::number::{Linear, Number, RowRanges, limits};
use crate::kernel::ir::{Binary, Shift, Type};

/// What is known of a two-operand operation's result, before it is brought [`Number::within`] its type.
pub(super) fn binary(op: Binary, x: Number, y: Number, ty: Type, ranges: &RowRanges) -> Number {
    let strided = x.has_strides() || y.has_strides();
    match op {
        Binary::Add => x.plus(y),
        Binary::Sub => x.minus(y),
        Binary::Mul => product(x, y, ty, ranges),
        _ if strided => Number::any(ty),
        Binary::SMin => extreme(x.times(-1), y.times(-1), ranges).times(-1),
        Binary::SMax => extreme(x, y, ranges),
        Binary::And => and(x, y, ty, ranges),
        Binary::Or | Binary::Xor => {
            if x.is_mask() && y.is_mask() {
                return Number::range(-1, 0);
            }
            let magnitude = |n: Number| n.hi.max(-n.lo - 1).max(0);
            let bits = 128 - magnitude(x).max(magnitude(y)).leading_zeros();
            let hi = (1 << bits) - 1;
            Number::range(if x.lo >= 0 && y.lo >= 0 { 0 } else { -hi - 1 }, hi)
        }
        Binary::UDiv => quotient(x, y, ty),
        Binary::URem => remainder(x, y, ty),
        _ => Number::any(ty),
    }
}

fn product(x: Number, y: Number, ty: Type, ranges: &RowRanges) -> Number {
    for (count, stride) in [(x, y), (y, x)] {
        if stride.strides == (1, 1) && (stride.lo, stride.hi) == (0, 0) && !count.has_strides() {
            let strides = (count.lo, count.hi);
            return Number { strides, strides_above: count.above, ..Number::exactly(0) };
        }
    }
    if x.has_strides() || y.has_strides() {
        return Number::any(ty);
    }
    for (x, y) in [(x, y), (y, x)] {
        if let Some(factor) = y.known() {
            return x.times(factor);
        }
    }
    let corners = [x.lo * y.lo, x.lo * y.hi, x.hi * y.lo, x.hi * y.hi];
    let lo = corners.into_iter().fold(i128::MAX, i128::min);
    let mut result = Number::range(lo, corners.into_iter().fold(i128::MIN, i128::max));
    for (x, y) in [(x, y), (y, x)] {
        // Something times a row count.
        if let (Some(below), Some(above)) = (y.below, y.above)
            && below == above
            && x.lo >= 0
            && ranges.least(below) >= 0
        {
            result.below = Some(below.times(x.lo));
            result.above = Some(above.times(x.hi));
        }
    }
    result
}

/// The larger of two.
fn extreme(x: Number, y: Number, ranges: &RowRanges) -> Number {
    let both = x.join(y, ranges);
    let below = x.below.or(y.below).map(|_| {
        // Both are lower bounds; the one that says more.
        let (a, b) = (x.lower(), y.lower());
        if ranges.dominates(a, b) || (!ranges.dominates(b, a) && x.below.is_some()) { a } else { b }
    });
    Number { lo: x.lo.max(y.lo), hi: x.hi.max(y.hi), below, ..both }
}

fn and(x: Number, y: Number, ty: Type, ranges: &RowRanges) -> Number {
    for (x, mask) in [(x, y), (y, x)] {
        if mask.is_mask() {
            return x.join(Number::exactly(0), ranges);
        }
        if let Some(mask) = mask.known()
            && mask < 0
            && (-mask).count_ones() == 1
        {
            let down = |n: i128| n & mask;
            let below = x.below.map(|bound| bound.add(mask + 1));
            let rounded = Number { lo: down(x.lo), hi: down(x.hi), below, ..x };
            return rounded.congruent((-mask).trailing_zeros(), 0);
        }
    }
    match (x.lo >= 0, y.lo >= 0) {
        (true, true) => Number::range(0, x.hi.min(y.hi)),
        (true, false) => Number::range(0, x.hi),
        (false, true) => Number::range(0, y.hi),
        _ => Number::any(ty),
    }
}

fn quotient(x: Number, y: Number, ty: Type) -> Number {
    if x.lo < 0 || y.lo < 0 {
        return Number::any(ty);
    }
    if let Some(divisor) = y.known().filter(|&divisor| divisor > 0) {
        let whole = |bound: Linear| {
            let divides = bound.factors.iter().all(|factor| factor % divisor == 0);
            divides.then(|| Linear {
                factors: bound.factors.map(|factor| factor / divisor),
                constant: bound.constant.div_euclid(divisor),
            })
        };
        let (below, above) = (x.below.and_then(whole), x.above.and_then(whole));
        return Number { below, above, ..Number::range(x.lo / divisor, x.hi / divisor) };
    }
    // By zero the quotient is the dividend.
    let mut hi = x.hi / y.lo.max(1);
    if let (Some(above), Some(below)) = (x.above, y.below)
        && y.lo >= 1
        && above.constant < 0
        && below.constant >= 0
    {
        // a * rows - something over c * rows, or more, is below a / c.
        let pairs: Vec<(i128, i128)> = above.factors.into_iter().zip(below.factors).filter(|p| *p != (0, 0)).collect();
        if let [(a, c)] = pairs[..]
            && c > 0
            && a % c == 0
        {
            hi = hi.min(a / c - 1);
        }
    }
    Number::range(x.lo / y.hi.max(1), hi)
}

fn remainder(x: Number, y: Number, ty: Type) -> Number {
    if y.lo < 0 {
        return Number::any(ty);
    }
    let below = (y.hi - 1).max(0);
    let hi = if x.lo >= 0 { below.min(x.hi) } else { below };
    let above = y.above.filter(|_| y.lo >= 1).map(|bound: Linear| bound.add(-1));
    Number { above, ..Number::range(0, hi) }
}

/// What is known of a shifted integer, before it is brought [`Number::within`] its type.
pub(super) fn shift(shift: Shift, x: Number, amount: u32, ty: Type) -> Number {
    if x.has_strides() {
        return Number::any(ty);
    }
    match shift {
        Shift::Left => x.times(1 << amount),
        Shift::RightS => Number::range(x.lo >> amount, x.hi >> amount),
        Shift::RightU if x.lo >= 0 => Number::range(x.lo >> amount, x.hi >> amount),
        Shift::RightU if amount == 0 => x,
        Shift::RightU => Number::range(0, (2 * limits(ty).1 + 1) >> amount),
    }
}
