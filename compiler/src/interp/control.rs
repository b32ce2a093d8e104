//! Operations with regions, in step form and lifted over time, and the questions to the host.

use super::error::{Fault, InterpError};
use super::eval::{Evaluator, Operands, Slot};
use super::tensor::Tensor;
use crate::ir::{Elem, HostId, Region, Type, Value};

/// The rows of a value that has a time axis; others are the same for all rows.
fn gathered(ty: &Type, slot: &Slot, rows: &[usize]) -> Result<Slot, Fault> {
    match slot {
        Slot::Tensor(t) if ty.is_lifted() => {
            if rows.last().is_some_and(|&r| r >= t.shape[0]) {
                return Err(Fault::Shape("values of unequal numbers of steps meet".into()));
            }
            Ok(Slot::Tensor(t.rows(rows)))
        }
        _ => Ok(slot.clone()),
    }
}

impl Evaluator<'_> {
    /// Zeros of a result.
    fn blank(&mut self, v: Value, o: &Operands) -> Result<Tensor, InterpError> {
        let (shape, growth) = self.shape(v, o)?;
        let mut t = Tensor::zeros(o.region.ty(v).elem, &shape)?;
        t.growth = growth;
        Ok(t)
    }

    pub(super) fn choose(&mut self, o: &Operands, then: &Region, otherwise: &Region) -> Result<Vec<Slot>, InterpError> {
        let c = o.tensor(0)?;
        let c = c.bools("if")?;
        if !o.ty(0).is_lifted() {
            let taken = if c.first() == Some(&true) { then } else { otherwise };
            return self.region(taken, o.slots[1..].to_vec(), o.rows);
        }
        let mut results = Vec::with_capacity(o.node.results.len());
        for &r in &o.node.results {
            results.push(self.blank(r, o)?);
        }
        for (region, side) in [(then, true), (otherwise, false)] {
            let rows: Vec<usize> = (0..c.len()).filter(|&t| c[t] == side).collect();
            if rows.is_empty() {
                continue;
            }
            let mut arguments = Vec::with_capacity(o.slots.len() - 1);
            for (i, slot) in o.slots.iter().enumerate().skip(1) {
                arguments.push(gathered(o.ty(i), slot, &rows)?);
            }
            let values = self.region(region, arguments, rows.len())?;
            for (result, value) in results.iter_mut().zip(values) {
                result.scatter(&rows, &Self::tensor(&value))?;
            }
        }
        Ok(results.into_iter().map(Slot::Tensor).collect())
    }

    pub(super) fn repeat(
        &mut self,
        o: &Operands,
        first: i64,
        max: usize,
        carried: usize,
        body: &Region,
    ) -> Result<Vec<Slot>, InterpError> {
        let count = o.tensor(0)?;
        let counts = count.as_i32().ok_or_else(|| count.wrong("repeat"))?;
        let mut values: Vec<Slot> = o.slots[1..=carried].to_vec();
        let exit_is_lifted = body.results().first().is_some_and(|&v| body.ty(v).is_lifted());
        let per_step = o.ty(0).is_lifted() || exit_is_lifted;
        let reaches = |count: i32, round: usize| round < max && usize::try_from(count).is_ok_and(|n| round < n);
        let mut active: Vec<usize> = (0..o.rows).collect();
        self.rounds.push(0);
        for round in 0..max {
            if o.ty(0).is_lifted() {
                active.retain(|&t| counts.get(t).is_some_and(|&n| reaches(n, round)));
            } else if !counts.first().is_some_and(|&n| reaches(n, round)) {
                break;
            }
            if per_step && active.is_empty() {
                break;
            }
            let everyone = !per_step || active.len() == o.rows;
            if let Some(last) = self.rounds.last_mut() {
                *last = round;
            }
            let r = i32::try_from(first + round as i64).map_err(|_| Fault::Shape("a round beyond i32".into()))?;
            let mut arguments = vec![Slot::Tensor(Tensor::i32(&[], [r]))];
            for (i, slot) in values.iter().chain(&o.slots[carried + 1..]).enumerate() {
                arguments.push(if everyone { slot.clone() } else { gathered(o.ty(i + 1), slot, &active)? });
            }
            let rows = if everyone { o.rows } else { active.len() };
            let mut results = self.region(body, arguments, rows)?;
            let exit = Self::tensor(&results.remove(0));
            let exit = exit.bools("exit")?;
            if everyone {
                values = results;
            } else {
                for (value, result) in values.iter_mut().zip(results) {
                    let mut all = Self::tensor(value);
                    all.scatter(&active, &Self::tensor(&result))?;
                    *value = Slot::Tensor(all);
                }
            }
            if exit_is_lifted {
                let mut stays = exit.iter().map(|e| !e);
                active.retain(|_| stays.next().unwrap_or(false));
            } else if exit.first() == Some(&true) {
                break;
            }
        }
        self.rounds.pop();
        Ok(values)
    }

    pub(super) fn experts(&mut self, o: &Operands, regions: &[Region]) -> Result<Vec<Slot>, InterpError> {
        let index = o.tensor(0)?;
        let chosen = index.as_i32().ok_or_else(|| index.wrong("experts"))?;
        let mut results = Vec::with_capacity(o.node.results.len());
        for &r in &o.node.results {
            results.push(self.blank(r, o)?);
        }
        let lifted = o.ty(0).is_lifted();
        let k = index.shape.last().copied().unwrap_or(1).max(1);
        for (e, region) in regions.iter().enumerate() {
            let places: Vec<usize> = (0..chosen.len()).filter(|&p| chosen[p] == e as i32).collect();
            if places.is_empty() {
                continue;
            }
            let arguments = if lifted {
                let rows: Vec<usize> = places.iter().map(|p| p / k).collect();
                let captures = o.slots.iter().enumerate().skip(1);
                captures.map(|(i, slot)| gathered(o.ty(i), slot, &rows)).collect::<Result<Vec<_>, _>>()?
            } else {
                o.slots[1..].to_vec()
            };
            let rows = if lifted { places.len() } else { o.rows };
            let values = self.region(region, arguments, rows)?;
            for (result, value) in results.iter_mut().zip(values) {
                let value = Self::tensor(&value);
                let value = if lifted { value } else { value.repeated(places.len())? };
                scatter_places(result, &places, &value, if lifted { 2 } else { 1 })?;
            }
        }
        Ok(results.into_iter().map(Slot::Tensor).collect())
    }

    pub(super) fn scan(&mut self, o: &Operands, body: &Region) -> Result<Vec<Slot>, InterpError> {
        let mut steps: Vec<Vec<Tensor>> = vec![Vec::with_capacity(o.rows); body.results().len()];
        for t in 0..o.rows {
            let mut arguments = Vec::with_capacity(o.slots.len());
            for (i, slot) in o.slots.iter().enumerate() {
                arguments.push(match gathered(o.ty(i), slot, &[t])? {
                    Slot::Tensor(mut row) if o.ty(i).is_lifted() => {
                        row.shape.remove(0);
                        Slot::Tensor(row)
                    }
                    other => other,
                });
            }
            let values = self.region(body, arguments, 1)?;
            self.end_step();
            for (step, value) in steps.iter_mut().zip(&values) {
                step.push(Self::tensor(value));
            }
        }
        let types = body.results().iter().map(|&v| body.ty(v));
        steps
            .iter()
            .zip(types)
            .map(|(step, ty)| {
                let shape = ty.constant_shape().ok_or_else(|| Fault::Shape("a scan yields a growing value".into()))?;
                Ok(Slot::Tensor(Tensor::stack(step, ty.elem, &shape)?))
            })
            .collect()
    }

    /// One question per row; without a host, or without an answer, zeros and false.
    pub(super) fn ask_host(&mut self, o: &Operands, host: HostId) -> Result<Vec<Slot>, InterpError> {
        let decl = &self.module.hosts[host.index()];
        let shape = decl.result.constant_shape().unwrap_or_default();
        let lifted = o.node.results.first().is_some_and(|&r| o.region.ty(r).is_lifted());
        let rows = if lifted { o.rows } else { 1 };
        let (mut answers, mut given) = (Vec::new(), Vec::new());
        for row in 0..rows {
            let mut arguments = Vec::with_capacity(o.slots.len());
            for i in 0..o.slots.len() {
                let t = o.tensor(i)?;
                arguments.push(if o.ty(i).is_lifted() { t.row(row) } else { t });
            }
            let answer = self.host.and_then(|h| h.call(&decl.name, &arguments));
            given.push(answer.is_some());
            let answer = match answer {
                Some(a) if a.shape == shape && a.elem() == decl.result.elem => a,
                Some(a) => {
                    return Err(Fault::BadArgument {
                        name: decl.name.clone(),
                        expected: format!("{}{shape:?}", decl.result.elem.name()),
                        got: format!("{}{:?}", a.elem().name(), a.shape),
                    }
                    .into());
                }
                None => Tensor::zeros(decl.result.elem, &shape)?,
            };
            answers.push(answer);
        }
        let answer = Tensor::stack(&answers, decl.result.elem, &shape)?;
        let given = Tensor::stack(&given.iter().map(|&g| Tensor::bool(&[], [g])).collect::<Vec<_>>(), Elem::Bool, &[])?;
        let unstacked = |t: Tensor| Slot::Tensor(if lifted { t } else { t.row(0) });
        Ok(vec![unstacked(answer), unstacked(given)])
    }
}

/// Writes values, one per place, into a result whose first `axes` axes together number the places.
fn scatter_places(result: &mut Tensor, places: &[usize], values: &Tensor, axes: usize) -> Result<(), Fault> {
    let shape = std::mem::take(&mut result.shape);
    let mut flat = vec![shape[..axes].iter().product()];
    flat.extend(&shape[axes..]);
    result.shape = flat;
    let done = result.scatter(places, values);
    result.shape = shape;
    done
}
