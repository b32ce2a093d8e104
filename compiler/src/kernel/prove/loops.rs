//! Loops: the range of the index, and of carried values by what a round adds to them times the number of rounds.
//!
//! What a round adds is read off the body, which is first looked at with nothing known of the carried values. A
//! carried value that has no such step is widened until it holds.

use super::analysis::Analysis;
use super::number::{Linear, Number, limits};
use crate::kernel::ir::{Binary, Block, Inst, Op, Type, Value};

/// Operations between a carried value and what a round yields for it.
const DEPTH: usize = 24;
/// Rounds of widening; from the third on what still grows is any number.
const ROUNDS: usize = 4;
/// What a round adds, at least and at most.
type Step = (i128, i128);

/// How often a loop runs.
struct Trips {
    most: i128,
    /// In the row counts, where there is a bound that is never negative.
    above: Option<Linear>,
}

impl<'k> Analysis<'k> {
    pub fn loop_over(&mut self, inst: &'k Inst, step: i128, body: &'k Block) {
        let (start, end) = (self.number(inst.args[0]), self.number(inst.args[1]));
        let inits: Vec<Number> = inst.args[2..].iter().map(|&value| self.number(value)).collect();
        let params = &body.params[1..];
        if end.hi <= start.lo {
            for (&result, &init) in inst.results.iter().zip(&inits) {
                self.set(result, init);
                self.advances.insert(result, (0, 0));
            }
            return;
        }
        for &param in params {
            self.set(param, Number::any(self.ty(param)));
        }
        let Some(index) = index(&start, &end, step) else {
            // The index may wrap, and the loop goes on.
            self.indices.remove(&body.params[0]);
            self.set(body.params[0], Number::any(Type::N));
            self.block(body);
            for &result in &inst.results {
                self.advances.remove(&result);
                self.set(result, Number::any(self.ty(result)));
            }
            return;
        };
        self.indices.insert(body.params[0], (inst.args[0], inst.args[1], step));
        self.set(body.params[0], index);
        let ranges = self.setting.ranges;
        let trips = Trips {
            most: (end.hi - start.lo + step - 1) / step,
            above: end.above.filter(|above| start.known() == Some(0) && step == 1 && ranges.least(*above) >= 0),
        };
        let is_number = |ty: Type| matches!(ty, Type::N | Type::L | Type::P | Type::I);
        let tracked: Vec<usize> = (0..params.len()).filter(|&i| is_number(self.ty(params[i]))).collect();
        let mut steps: Vec<Option<Step>> = vec![None; params.len()];
        if !tracked.is_empty() {
            let recording = std::mem::replace(&mut self.recording, false);
            self.block(body);
            for &i in &tracked {
                steps[i] = self.step(body.yields[i], params[i], 0);
            }
            for &i in &tracked {
                if let Some(step) = steps[i] {
                    let before = Trips { most: trips.most - 1, above: trips.above.map(|above| above.add(-1)) };
                    self.set(params[i], inits[i].plus(added(step, &before)));
                }
            }
            let open: Vec<usize> = tracked.iter().copied().filter(|&i| steps[i].is_none()).collect();
            self.widen(body, &open, &inits);
            self.recording = recording;
        }
        self.block(body);
        for (i, &result) in inst.results.iter().enumerate() {
            match steps[i] {
                Some(step) => {
                    self.set(result, inits[i].plus(added(step, &trips)));
                    self.advances.insert(result, ((step.0 * trips.most).min(0), (step.1 * trips.most).max(0)));
                }
                None => {
                    let last = self.number(body.yields[i]);
                    self.advances.remove(&result);
                    self.set(result, inits[i].join(last, &ranges));
                }
            }
        }
    }

    /// Finds what holds in every round of carried values whose step is not known.
    fn widen(&mut self, body: &'k Block, open: &[usize], inits: &[Number]) {
        let params = &body.params[1..];
        for &i in open {
            self.set(params[i], inits[i]);
        }
        for round in 0..ROUNDS {
            if open.is_empty() {
                return;
            }
            self.block(body);
            let mut settled = true;
            for &i in open {
                let (ty, old) = (self.ty(params[i]), self.number(params[i]));
                let new = old.join(self.number(body.yields[i]), &self.setting.ranges);
                if new != old {
                    settled = false;
                    self.set(params[i], if round < 2 { new } else { Number::any(ty) });
                }
            }
            if settled {
                return;
            }
        }
        for &i in open {
            self.set(params[i], Number::any(self.ty(params[i])));
        }
    }

    /// What a round adds to a carried value, if `value` is that value and something with bounds of its own.
    fn step(&self, value: Value, carried: Value, depth: usize) -> Option<Step> {
        if value == carried {
            return Some((0, 0));
        }
        if depth > DEPTH {
            return None;
        }
        let inst = self.facts.definitions[value.index()]?;
        let own = |number: Number| (!number.has_strides()).then_some((number.lo, number.hi));
        let arg = |i: usize| self.number(inst.args[i]);
        let base = |i: usize| self.step(inst.args[i], carried, depth + 1);
        let plus = |a: Step, b: Step| Some((a.0 + b.0, a.1 + b.1));
        let either = |a: Step, b: Step| Some((a.0.min(b.0), a.1.max(b.1)));
        let step = match &inst.op {
            Op::Offset(bytes) => plus(base(0)?, (i128::from(*bytes), i128::from(*bytes))),
            Op::Index(scale) => plus(base(0)?, own(arg(1).times(i128::from(*scale)))?),
            Op::Binary(Binary::Add) => match base(0) {
                Some(step) => plus(step, own(arg(1))?),
                None => plus(base(1)?, own(arg(0))?),
            },
            Op::Binary(Binary::Sub) => plus(base(0)?, own(arg(1).times(-1))?),
            Op::Select => either(base(1)?, base(2)?),
            Op::If { then, otherwise } => {
                let at = inst.results.iter().position(|result| *result == value)?;
                let side = |block: &Block| self.step(block.yields[at], carried, depth + 1);
                either(side(then)?, side(otherwise)?)
            }
            Op::Loop { .. } => {
                let at = inst.results.iter().position(|result| *result == value)?;
                plus(base(2 + at)?, *self.advances.get(&value)?)
            }
            _ => None,
        }?;
        // More than any number of a type is no step; times a number of rounds it still has room in 128 bits.
        (step.0 >= limits(Type::L).0 && step.1 <= limits(Type::L).1).then_some(step)
    }
}

/// The index of a loop where its body runs; none if it may wrap.
fn index(start: &Number, end: &Number, step: i128) -> Option<Number> {
    let power = start.power.min(step.trailing_zeros());
    let index = Number::range(start.lo, end.hi - 1).congruent(power, start.residue);
    let shared = power.min(end.power);
    // An index that agrees with the end in its last bits is a whole power below it.
    let below = if index.is_congruent(shared, end.residue) { 1 << shared } else { 1 };
    let hi = end.hi - below;
    let above = end.above.map(|above| above.add(-below));
    let fits = hi + step <= limits(Type::N).1;
    fits.then_some(Number { hi: hi.max(start.lo), below: start.below, above, ..index }.tightened())
}

/// What so many rounds add at most.
fn added(step: Step, trips: &Trips) -> Number {
    let most = trips.most.max(0);
    let sum = Number::range((step.0 * most).min(0), (step.1 * most).max(0));
    let sum = Number { above: trips.above.filter(|_| step.1 >= 0).map(|above| above.times(step.1)), ..sum };
    match step {
        (0, 0) => sum,
        (a, b) if a == b => sum.congruent(a.trailing_zeros(), 0),
        _ => sum.congruent(0, 0),
    }
}
