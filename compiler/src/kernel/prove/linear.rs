//! Questions that intervals cannot answer: is a sum of related numbers at most so much?
//!
//! The sum is taken apart into `constant + sum of factor * value`, so that what cancels cancels. Then the value that
//! was defined last is replaced by what bounds it: its interval, the end of its loop, a side of a minimum, the number
//! that it was rounded down from, both sides of a selection. Sums are taken apart only where no operation wrapped.

use rustc_hash::FxHashMap;

use super::analysis::Analysis;
use super::number::{Linear, Number};
use crate::kernel::ir::{Binary, Inst, Op, Shift, Type, Value};

/// Replacements that one question may try.
const BUDGET: u32 = 2000;
/// Replacements that are tried to tell the sign of a difference.
const SMALL_BUDGET: u32 = 60;
/// Factors beyond this are no distances.
const LARGEST: i128 = 1 << 62;

/// A sum; terms are sorted by value, which is the order of definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Sum {
    terms: Vec<(Value, i128)>,
    /// What is known of it without its terms.
    fixed: Linear,
}

impl Sum {
    fn push(&mut self, value: Value, factor: i128) {
        match self.terms.binary_search_by_key(&value, |term| term.0) {
            Ok(at) => {
                self.terms[at].1 += factor;
                if self.terms[at].1 == 0 {
                    self.terms.remove(at);
                }
            }
            Err(at) => self.terms.insert(at, (value, factor)),
        }
    }

    fn negated(&self) -> Sum {
        Sum { terms: self.terms.iter().map(|&(value, factor)| (value, -factor)).collect(), fixed: self.fixed.times(-1) }
    }

    fn is_large(&self) -> bool {
        self.fixed.is_large() || self.terms.iter().any(|term| term.1.abs() > LARGEST)
    }
}

/// What selections on a condition were taken to be.
type Chosen = Vec<(Value, bool)>;

/// A question under way: whether a sum is at most 0.
struct Search {
    budget: u32,
    /// Sums that were asked before, with the best bound found.
    known: FxHashMap<(Sum, Chosen), i128>,
}

impl Search {
    fn new(budget: u32) -> Search {
        Search { budget, known: FxHashMap::default() }
    }
}

impl<'k> Analysis<'k> {
    /// Whether a pointer's distance from its root, and `offset`, are at most `last`.
    pub fn is_at_most(&self, pointer: Value, offset: i128, last: Linear) -> bool {
        let mut sum = Sum { terms: Vec::new(), fixed: Linear::constant(offset).plus(last.times(-1)) };
        self.expand(pointer, 1, &mut sum);
        self.is_not_positive(&sum)
    }

    /// Whether a pointer's distance from its root, and `offset`, are at least `first`.
    pub fn is_at_least(&self, pointer: Value, offset: i128, first: i128) -> bool {
        let mut sum = Sum { terms: Vec::new(), fixed: Linear::constant(offset - first) };
        self.expand(pointer, 1, &mut sum);
        self.is_not_positive(&sum.negated())
    }

    /// Whether a pointer is moved by `last` state blocks at most.
    pub fn blocks_are_at_most(&self, pointer: Value, last: Linear) -> bool {
        let mut sum = Sum { terms: Vec::new(), fixed: last.times(-1) };
        self.blocks(pointer, &mut sum).is_some() && self.is_not_positive(&sum)
    }

    /// Whether a pointer is moved by no negative number of state blocks.
    pub fn blocks_are_not_negative(&self, pointer: Value) -> bool {
        let mut sum = Sum::default();
        self.blocks(pointer, &mut sum).is_some() && self.is_not_positive(&sum.negated())
    }

    /// A difference of related numbers is known better than those of its operands are.
    pub fn sharpen(&mut self, inst: &Inst, value: Value) {
        let number = self.number(value);
        let straddles = number.lo < 0 && number.hi > 0;
        if inst.op == Op::Binary(Binary::Sub) && self.recording && straddles && self.is_exact(value) {
            let mut sum = Sum::default();
            self.expand(value, -1, &mut sum);
            let most = self.most(&sum, &Vec::new(), &mut Search::new(SMALL_BUDGET));
            let lo = number.lo.max(-most);
            self.set(value, Number { lo, ..number });
        }
    }

    fn is_not_positive(&self, sum: &Sum) -> bool {
        self.most(sum, &Vec::new(), &mut Search::new(BUDGET)) <= 0
    }

    /// Adds the numbers of state strides in a pointer, if they can be told.
    fn blocks(&self, pointer: Value, sum: &mut Sum) -> Option<()> {
        let inst = self.facts.definitions[pointer.index()]?;
        match &inst.op {
            Op::Param(_) => Some(()),
            Op::Offset(_) | Op::Index(_) => self.blocks(inst.args[0], sum),
            Op::OffsetBy => {
                let by = inst.args[1];
                if self.number(by).has_strides() {
                    let product = self.facts.definitions[by.index()]?;
                    let is_stride = |value: Value| self.number(value).strides == (1, 1);
                    if product.op != Op::Binary(Binary::Mul) || !is_stride(product.args[1]) {
                        return None;
                    }
                    self.expand(product.args[0], 1, sum);
                }
                self.blocks(inst.args[0], sum)
            }
            _ => None,
        }
    }

    /// Adds `factor * value` with what is linear in it taken apart.
    fn expand(&self, value: Value, factor: i128, sum: &mut Sum) {
        let number = self.number(value);
        if factor == 0 {
            return;
        }
        if factor.abs() > LARGEST {
            return sum.push(value, factor.clamp(-2 * LARGEST, 2 * LARGEST));
        }
        if number.lo == number.hi {
            sum.fixed = sum.fixed.add(factor * number.lo);
            return;
        }
        if let (Some(below), Some(above)) = (number.below, number.above)
            && below == above
        {
            sum.fixed = sum.fixed.plus(above.times(factor));
            return;
        }
        let Some(inst) = self.facts.definitions[value.index()].filter(|_| self.is_exact(value)) else {
            return sum.push(value, factor);
        };
        let args = &inst.args;
        let known = |i: usize| self.number(args[i]).known();
        match &inst.op {
            Op::Offset(bytes) => {
                sum.fixed = sum.fixed.add(factor * i128::from(*bytes));
                self.expand(args[0], factor, sum);
            }
            Op::Index(scale) => {
                self.expand(args[0], factor, sum);
                self.expand(args[1], factor * i128::from(*scale), sum);
            }
            Op::OffsetBy | Op::Binary(Binary::Add) => {
                self.expand(args[0], factor, sum);
                self.expand(args[1], factor, sum);
            }
            Op::Binary(Binary::Sub) => {
                self.expand(args[0], factor, sum);
                self.expand(args[1], -factor, sum);
            }
            Op::Binary(Binary::Mul) => match (known(0), known(1)) {
                (_, Some(by)) => self.expand(args[0], factor * by, sum),
                (Some(by), _) => self.expand(args[1], factor * by, sum),
                _ => sum.push(value, factor),
            },
            Op::Shift(Shift::Left, amount) => self.expand(args[0], factor << amount, sum),
            Op::Extend(signed) if *signed || self.number(args[0]).lo >= 0 => self.expand(args[0], factor, sum),
            Op::Truncate if self.number(args[0]).within(Type::N, &self.setting.ranges).1 => {
                self.expand(args[0], factor, sum);
            }
            _ => sum.push(value, factor),
        }
    }

    /// An upper bound of a sum; no search goes on once it is at most 0.
    fn most(&self, sum: &Sum, chosen: &Chosen, search: &mut Search) -> i128 {
        if sum.is_large() {
            return i128::MAX;
        }
        let mut best = self.plain_most(sum);
        let Some(&(value, factor)) = sum.terms.last() else { return best };
        if best <= 0 || search.budget == 0 {
            return best;
        }
        let key = (sum.clone(), chosen.clone());
        if let Some(&known) = search.known.get(&key) {
            return known;
        }
        search.budget -= 1;
        let mut rest = sum.clone();
        rest.terms.pop();
        for parts in self.replacements(value, factor, chosen) {
            let mut worst = i128::MIN;
            for (by, offset, more) in parts {
                let mut part = rest.clone();
                part.fixed = part.fixed.add(factor * offset);
                if let Some(by) = by {
                    self.expand(by, factor, &mut part);
                }
                let chosen: Chosen = chosen.iter().copied().chain(more).collect();
                worst = worst.max(self.most(&part, &chosen, search));
                if worst > 0 && worst >= best {
                    break;
                }
            }
            best = best.min(worst);
            if best <= 0 {
                break;
            }
        }
        if best > 0 {
            let number = self.number(value);
            rest.fixed = rest.fixed.add(factor * if factor > 0 { number.hi } else { number.lo });
            best = best.min(self.most(&rest, chosen, search));
        }
        search.known.insert(key, best);
        best
    }

    /// An upper bound of a sum, each term by its interval, or by its bound in the row counts.
    fn plain_most(&self, sum: &Sum) -> i128 {
        let mut intervals = sum.fixed;
        let mut bounds = sum.fixed;
        for &(value, factor) in &sum.terms {
            let number = self.number(value);
            let (end, bound) = if factor > 0 { (number.hi, number.upper()) } else { (number.lo, number.lower()) };
            intervals = intervals.add(factor.saturating_mul(end));
            bounds = bounds.plus(bound.times(factor));
        }
        let most = |bound: Linear| if bound.is_large() { i128::MAX } else { self.setting.ranges.most(bound) };
        most(intervals).min(most(bounds))
    }

    /// What bounds a value from above, or from below if the factor is negative: alternatives, each the largest of
    /// some parts. A part is another value, if any, and a number, with a condition that holds there.
    fn replacements(&self, value: Value, factor: i128, chosen: &Chosen) -> Vec<Vec<Part>> {
        let up = factor > 0;
        let part = |value: Value, offset: i128| (Some(value), offset, None);
        if let Some(&(start, end, step)) = self.indices.get(&value) {
            if !up {
                return vec![vec![part(start, 0)]];
            }
            let below = if self.is_whole(start, end, step) { step } else { 1 };
            return vec![vec![part(end, -below)]];
        }
        let Some(inst) = self.facts.definitions[value.index()] else { return Vec::new() };
        let args = &inst.args;
        let each = || vec![vec![part(args[0], 0)], vec![part(args[1], 0)]];
        match &inst.op {
            Op::Binary(Binary::SMin) if up => each(),
            Op::Binary(Binary::SMax) if !up => each(),
            Op::Binary(Binary::SMin | Binary::SMax) => vec![vec![part(args[0], 0), part(args[1], 0)]],
            Op::Binary(Binary::And) => {
                let mut all = Vec::new();
                for (x, mask) in [(args[0], args[1]), (args[1], args[0])] {
                    let mask = self.number(mask);
                    match mask.known() {
                        Some(bits) if bits < 0 && (-bits).count_ones() == 1 => {
                            all.push(vec![part(x, if up { 0 } else { bits + 1 })]);
                        }
                        _ if mask.is_mask() => all.push(vec![part(x, 0), (None, 0, None)]),
                        _ => {}
                    }
                }
                all
            }
            Op::Select if self.ty(value) != Type::I => match chosen.iter().find(|(known, _)| *known == args[0]) {
                Some((_, true)) => vec![vec![part(args[1], 0)]],
                Some((_, false)) => vec![vec![part(args[2], 0)]],
                None => {
                    vec![vec![(Some(args[1]), 0, Some((args[0], true))), (Some(args[2]), 0, Some((args[0], false)))]]
                }
            },
            Op::Binary(Binary::URem) if up && self.number(args[1]).lo >= 1 => vec![vec![part(args[1], -1)]],
            Op::If { then, otherwise } => match inst.results.iter().position(|result| *result == value) {
                Some(at) => vec![vec![part(then.yields[at], 0), part(otherwise.yields[at], 0)]],
                None => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// Whether a loop's index ends a whole step before its end.
    fn is_whole(&self, start: Value, end: Value, step: i128) -> bool {
        if step.count_ones() != 1 {
            return false;
        }
        let power = step.trailing_zeros();
        let mut difference = Sum::default();
        self.expand(end, 1, &mut difference);
        self.expand(start, -1, &mut difference);
        let is_multiple = |value: Value, factor: i128| self.number(value).times(factor).is_congruent(power, 0);
        difference.fixed.is_constant()
            && Number::exactly(difference.fixed.constant).is_congruent(power, 0)
            && difference.terms.iter().all(|&(value, factor)| is_multiple(value, factor))
    }
}

/// A value, a number on top of it, and what is known of a condition there.
type Part = (Option<Value>, i128, Option<(Value, bool)>);
