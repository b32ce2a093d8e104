//! From the graph of one step to the graph of all steps of a call (spec/language.md, "Time lifting").
//!
//! What depends on the step gets a leading time axis; what does not stays as it is. Recurrences (`cluster` finds them)
//! become `scan` nodes whose bodies stay in step form. `If`, `repeat` and `experts` keep their form with lifted bodies,
//! unless they are part of a recurrence. Each operation's own rule is in `lift`.

mod cluster;
mod lift;

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::rewrite::{Copy, compose_broadcasts, extract};
use super::units::Units;
use super::{Context, PassError, Report};
use crate::ir::{Module, NodeId, Op, OriginId, Region, Value};
use cluster::Resources;
use lift::lift_node;

/// What was done, for the report.
#[derive(Default)]
struct Counts {
    lifted: usize,
    scans: usize,
    scanned: usize,
}

/// Lifts every entry that is in step form.
pub fn run(module: &mut Module, _: &mut Context) -> Result<Report, PassError> {
    let mut counts = Counts::default();
    let mut entries = std::mem::take(&mut module.entries);
    let mut result = Ok(());
    for entry in entries.iter_mut().filter(|e| !e.lifted) {
        let steps = vec![true; entry.params.len()];
        let results = vec![true; entry.outputs.len()];
        match lift_region(module, &entry.body, &steps, &results, &mut counts) {
            Ok(body) => entry.body = body,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
        entry.lifted = true;
        for param in &mut entry.params {
            param.ty = param.ty.lifted();
        }
        for output in &mut entry.outputs {
            output.ty = output.ty.lifted();
        }
    }
    module.entries = entries;
    result?;
    Ok(Report::new(format!(
        "lifted {} nodes over time, {} of a recurrence into {} scans",
        counts.lifted, counts.scanned, counts.scans
    )))
}

/// A region on its way to the lifted form.
struct Lifting<'a> {
    module: &'a Module,
    copy: Copy<'a>,
    /// Values of the new region that have time.
    per_step: FxHashSet<Value>,
    counts: &'a mut Counts,
}

/// Lifts a region. `steps` says which parameters have time, `results` which results must have it (the others may).
fn lift_region(
    module: &Module,
    region: &Region,
    steps: &[bool],
    results: &[bool],
    counts: &mut Counts,
) -> Result<Region, PassError> {
    let mut copy = Copy::without_params(region);
    let mut per_step = FxHashSet::default();
    for (&p, &step) in region.params().iter().zip(steps) {
        let ty = region.ty(p);
        let new = copy.to.add_param(if step { ty.lifted() } else { ty.clone() });
        copy.set(p, new);
        if step {
            per_step.insert(new);
        }
    }
    let mut units = Units::new(region);
    let scans = cluster::recurrences(module, region, &mut units);
    let mut lifting = Lifting { module, copy, per_step, counts };
    for (unit, members) in units.ordered() {
        if scans.contains(&unit) {
            lifting.scan(&members, &|n| !scans.contains(&units.unit(n)));
            continue;
        }
        for id in members {
            lift_node(&mut lifting, id)?;
        }
    }
    let mut yields = Vec::with_capacity(results.len());
    for (&v, &step) in region.results().iter().zip(results) {
        yields.push(if step { lifting.with_time(v, OriginId(0))? } else { lifting.copy.value(v) });
    }
    let mut lifted = lifting.copy.to;
    lifted.set_results(yields);
    compose_broadcasts(&mut lifted);
    super::cse::region(&mut lifted);
    super::dce::sweep(&mut lifted);
    Ok(lifted)
}

impl Lifting<'_> {
    /// Whether what stands for a value of the old region has time.
    fn is_per_step(&self, old: Value) -> bool {
        self.per_step.contains(&self.copy.value(old))
    }

    /// What stands for a value of the old region, repeated over time if it has none.
    fn with_time(&mut self, old: Value, origin: OriginId) -> Result<Value, PassError> {
        let new = self.copy.value(old);
        self.repeated(new, origin)
    }

    fn repeated(&mut self, new: Value, origin: OriginId) -> Result<Value, PassError> {
        if self.per_step.contains(&new) {
            return Ok(new);
        }
        let mut new = new;
        let mut ty = self.copy.to.ty(new).clone();
        let read = crate::ir::infer::decoded(ty.elem);
        if read != ty.elem {
            // A stored weight is read before its values are repeated.
            ty = ty.with_elem(read);
            new = self.copy.to.push1(Op::Convert(read), &[new], ty.clone(), origin);
        }
        let axes = (1..=ty.rank()).collect();
        let op = Op::Broadcast { axes };
        let value = self.copy.to.push1(op, &[new], ty.lifted(), origin);
        self.per_step.insert(value);
        Ok(value)
    }

    /// Makes the members one scan over time.
    fn scan(&mut self, members: &[NodeId], loose: &dyn Fn(NodeId) -> bool) {
        let group = extract(self.copy.from, members, loose);
        self.counts.scans += 1;
        self.counts.scanned += members.len();
        let inputs = self.copy.values(&group.captures);
        let types = group.results.iter().map(|&r| self.copy.from.ty(r).lifted());
        let op = Op::Scan { body: Arc::new(group.body) };
        let id = self.copy.to.push(op, &inputs, types, group.origin);
        let results = self.copy.to.node(id).results.clone();
        for (old, new) in group.results.into_iter().zip(results) {
            self.per_step.insert(new);
            self.copy.set(old, new);
        }
    }
}

/// Whether an operation gives something else at each step even for the same operands.
fn varies(op: &Op) -> bool {
    matches!(op, Op::Host(_)) || !Resources::of(op).is_empty() || {
        let nested = Region::nested(op);
        nested.into_iter().any(|r| r.nodes().any(|n| varies(&r.node(n).op)))
    }
}
