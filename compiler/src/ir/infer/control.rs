//! Operations with nested regions.

use super::{TypeError, Typing};
use crate::ir::graph::Region;
use crate::ir::op::Op;
use crate::ir::types::{Dim, Elem, Type};

impl Typing<'_> {
    pub(super) fn control(&self) -> Result<Vec<Type>, TypeError> {
        match self.op {
            Op::If { then, otherwise } => self.choice(then, otherwise),
            Op::Repeat { first, max, carried, body } => self.repeat(*first, *max, *carried, body),
            Op::Experts { regions } => self.experts(regions),
            Op::Scan { body } => {
                let steps: Vec<Type> = self.operands.iter().map(|ty| ty.step()).collect();
                self.params(body, &steps.iter().collect::<Vec<_>>(), &"body")?;
                let results = yields(body);
                if results.iter().any(|ty| ty.is_lifted()) {
                    return self.region("the body yields values of one step");
                }
                Ok(results.iter().map(|ty| ty.lifted()).collect())
            }
            Op::Fused { body, .. } => {
                self.params(body, self.operands, &"body")?;
                Ok(yields(body))
            }
            _ => unreachable!("not a control operation"),
        }
    }

    fn choice(&self, then: &Region, otherwise: &Region) -> Result<Vec<Type>, TypeError> {
        self.at_least(1)?;
        if self.operands[0].step() != Type::scalar(Elem::Bool) {
            return self.operand(0, "bool");
        }
        self.params(then, &self.operands[1..], &"then")?;
        self.params(otherwise, &self.operands[1..], &"else")?;
        let results = yields(then);
        if !results.iter().eq(yielded(otherwise)) {
            return self.region("the two sides yield different types");
        }
        if self.operands[0].is_lifted() && results.iter().any(|ty| !ty.is_lifted()) {
            return self.region("a choice per step yields values per step");
        }
        Ok(results)
    }

    fn repeat(&self, first: i64, max: usize, carried: usize, body: &Region) -> Result<Vec<Type>, TypeError> {
        match carried.checked_add(1) {
            Some(n) => self.at_least(n)?,
            None => return self.attribute("too many carried values"),
        }
        if self.operands[0].step() != Type::scalar(Elem::I32) {
            return self.operand(0, "i32");
        }
        let rounds =
            i32::try_from(first).is_ok() && i32::try_from(max).is_ok() && i32::try_from(first + max as i64).is_ok();
        if max == 0 || !rounds {
            return self.attribute(format!("{max} rounds from {first} on"));
        }
        let round = Type::scalar(Elem::I32);
        let mut params = vec![&round];
        params.extend_from_slice(&self.operands[1..]);
        self.params(body, &params, &"body")?;
        let results = yields(body);
        let Some((exit, values)) = results.split_first() else {
            return self.region("the body yields whether to leave, then the carried values");
        };
        if exit.step() != Type::scalar(Elem::Bool) {
            return self.region("the body yields whether to leave, a bool, first");
        }
        if !values.iter().eq(self.operands[1..=carried].iter().copied()) {
            return self.region("the body yields the carried values in their types");
        }
        let per_step = exit.is_lifted() || self.operands[0].is_lifted();
        if per_step && values.iter().any(|ty| !ty.is_lifted()) {
            return self.region("rounds per step carry values per step");
        }
        Ok(values.to_vec())
    }

    fn experts(&self, regions: &[Region]) -> Result<Vec<Type>, TypeError> {
        self.at_least(1)?;
        let index = self.operands[0];
        let Type { elem: Elem::I32, shape } = index.step() else {
            return self.operand(0, "i32[k]");
        };
        let [place @ Dim::Const(_)] = shape[..] else {
            return self.operand(0, "i32[k]");
        };
        let Some(first) = regions.first() else {
            return self.region("there are no experts");
        };
        for (i, region) in regions.iter().enumerate() {
            self.params(region, &self.operands[1..], &format_args!("expert {i}"))?;
            if !yielded(region).eq(yielded(first)) {
                return self.region(format!("expert {i} yields other types than the first"));
            }
        }
        let mut results = yields(first);
        for ty in &mut results {
            if index.is_lifted() && !ty.is_lifted() {
                return self.region("experts chosen per step yield values per step");
            }
            ty.shape.insert(usize::from(index.is_lifted()), place);
        }
        Ok(results)
    }

    fn params(&self, region: &Region, expected: &[&Type], which: &dyn std::fmt::Display) -> Result<(), TypeError> {
        let found = region.params();
        if found.len() != expected.len() {
            return self.region(format!("{which} takes {} values and is given {}", found.len(), expected.len()));
        }
        for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            let found = region.ty(found);
            if found != expected {
                return self.region(format!("parameter {} of {which} is {found} and is given {expected}", i + 1));
            }
        }
        Ok(())
    }
}

/// Types of what a region yields; values it does not have are left out (the verifier reports them).
fn yielded(region: &Region) -> impl Iterator<Item = &Type> {
    region.results().iter().filter(|&&v| region.has_value(v)).map(|&v| region.ty(v))
}

/// The same as a list.
fn yields(region: &Region) -> Vec<Type> {
    yielded(region).cloned().collect()
}
