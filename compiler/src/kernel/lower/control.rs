//! Control over many rows: the rows that take a branch, reach a round or choose an expert are gathered, the body
//! runs on them alone, and its results are scattered back.

use rustc_hash::FxHashMap;

use super::access::Buffer;
use super::driver::{Bound, Maker, Scope, Stored};
use super::emit::{Emit, Start};
use super::graph::Graph;
use super::import::Found;
use super::index::Ix;
use super::kernels::Place;
use super::{Choice, NotCompiled};
use crate::ir::{Elem, NodeId, OriginId, Region, Type, Value};
use crate::kernel::build::Builder;
use crate::kernel::ir::{Mem, Value as KernelValue};
use crate::kernel::program::{Arg, Base, Count, LoopVar, RowsId, Step, Work};

/// Rows chosen from those of a scope.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub rows: RowsId,
    /// i32 row of the scope for each chosen row.
    pub list: Place,
}

impl<'m> Maker<'m> {
    /// A fresh row count.
    fn row_count(&mut self) -> RowsId {
        self.row_counts += 1;
        RowsId(self.row_counts - 1)
    }

    /// The value in memory; computed there if it is a view.
    pub fn stored(&mut self, scope: usize, value: Value) -> Result<Stored, NotCompiled> {
        if let Found::Stored(stored) = self.find(scope, value) {
            return Ok(stored);
        }
        let ty = self.scopes[scope].region.ty(value).clone();
        let stored = self.slot(&ty.step(), ty.is_lifted())?;
        self.copy_value(scope, value, stored.place.clone())?;
        Ok(stored)
    }

    /// Lists of rows by a key per row: list `c` has the rows whose key is `c`. Keys of one row are `keys` apart.
    pub fn choose(
        &mut self,
        scope: usize,
        key: &Stored,
        offset: u64,
        keys: i64,
        cases: &[i32],
    ) -> Result<Vec<Chosen>, NotCompiled> {
        let max = self.context.max_rows as u64;
        let rows = self.scopes[scope].rows;
        let list = self.bytes(max * 4 * cases.len() as u64 + 64).offset();
        let counts = self.bytes(cases.len() as u64 * 4).offset();
        let form = if key.ty.elem == Elem::Bool { Mem::U8 } else { Mem::I32 };
        let mut b = Builder::new("choose_rows");
        let source = b.ro("key");
        let (target, totals) = (b.rw("lists"), b.rw("counts"));
        let rows_value = b.count("rows");
        if cases.iter().zip(0..).all(|(&case, n)| case == n) && form == Mem::I32 {
            by_number(&mut b, (source, keys), (target, totals), rows_value, (cases.len() as i32, max as i32));
        } else {
            one_by_one(&mut b, (source, keys, form), (target, totals), rows_value, (cases, max as i64));
        }
        let kernel = self.kernel(b.finish());
        let mut source = key.place.arg.clone();
        if let Arg::Pointer { offset: start, .. } = &mut source {
            *start += offset;
        }
        let args =
            vec![source, Arg::at(Base::Scratch, list), Arg::at(Base::Scratch, counts), Arg::Count(Count::Rows(rows))];
        self.push_launch(kernel, args, Work::once());
        let mut chosen = Vec::new();
        for c in 0..cases.len() as u64 {
            let rows = self.row_count();
            self.push_step(Step::LoadRows { into: rows, offset: counts + c * 4 });
            chosen.push(Chosen { rows, list: Place::at(Base::Scratch, list + c * max * 4, 4) });
        }
        Ok(chosen)
    }

    /// Copies rows: those of a list to the front (`gather`), or from the front to those of a list. The list names rows
    /// of the scope.
    fn move_rows(
        &mut self,
        scope: usize,
        ty: &Type,
        from: &Place,
        to: &Place,
        chosen: &Chosen,
        gather: bool,
    ) -> Result<(), NotCompiled> {
        let Some(shape) = ty.constant_shape() else {
            return Err(NotCompiled { origin: OriginId(0), what: "growing values in control over rows".into() });
        };
        let mut b = Builder::new(if gather { "gather_rows" } else { "scatter_rows" });
        let (source, target, list) = (b.ro("from"), b.rw("to"), b.ro("list"));
        let rows = b.count("rows");
        let mut messages = Vec::new();
        let graph = Graph::default();
        let mut emit = self.mover(&graph, &mut messages, target);
        let (begin, end) = (b.begin(), b.end());
        emit.each(&mut b, begin, end, &mut |emit, b, row| {
            let (at, offset) = row.times(4).address(b, list);
            let other = b.load_n(at, offset);
            let other = Ix::value(b.clamp_row(other, rows));
            let (from_row, to_row) = if gather { (&other, row) } else { (row, &other) };
            let array = |pointer: KernelValue, place: &Place, row: &Ix| Buffer {
                pointer,
                elem: ty.elem,
                base: row.times(place.row_stride),
                strides: place.strides(ty.elem, &shape),
                ring: None,
            };
            let (from, to) = (array(source, from, from_row), array(target, to, to_row));
            emit.copy(b, &from, &to, &shape)
        })?;
        let kernel = self.kernel(b.finish());
        let rows = Arg::Count(Count::Rows(self.scopes[scope].rows));
        let args = vec![from.arg.clone(), to.arg.clone(), chosen.list.arg.clone(), rows];
        self.push_launch(kernel, args, Work::parallel(1, Some(chosen.rows), 8));
        Ok(())
    }

    fn mover<'a>(&'a self, graph: &'a Graph, messages: &'a mut Vec<String>, scratch: KernelValue) -> Emit<'a> {
        Emit::new(Start {
            module: self.module,
            graph,
            weights: self.context.weights,
            states: self.context.states,
            messages,
            max_context: self.context.max_context,
            scratch,
        })
    }

    /// The chosen rows of a value in memory of their own.
    pub fn gathered(&mut self, scope: usize, stored: &Stored, chosen: &Chosen) -> Result<Stored, NotCompiled> {
        let target = self.slot(&stored.ty, true)?;
        self.move_rows(scope, &stored.ty, &stored.place, &target.place, chosen, true)?;
        Ok(target)
    }

    /// The original rows of chosen rows.
    fn origin_rows(&mut self, scope: usize, chosen: &Chosen) -> Result<Place, NotCompiled> {
        match self.scopes[scope].row_index.clone() {
            None => Ok(chosen.list.clone()),
            Some(place) => {
                let stored = Stored { place, ty: Type::scalar(Elem::I32) };
                let slot = self.bytes(self.context.max_rows as u64 * 4 + 64).offset();
                let target = Place::at(Base::Scratch, slot, 4);
                self.move_rows(scope, &stored.ty, &stored.place, &target, chosen, true)?;
                Ok(target)
            }
        }
    }

    /// Runs a region on chosen rows. `params` binds the first parameters; captures bind the rest. Gives the
    /// stored results, one row per chosen row.
    pub fn inner(
        &mut self,
        scope: usize,
        region: &'m Region,
        params: Vec<Stored>,
        captures: &[Value],
        chosen: &Chosen,
    ) -> Result<Vec<Stored>, NotCompiled> {
        let mut bound = FxHashMap::default();
        let given = params.len();
        for (&param, stored) in region.params().iter().zip(params) {
            bound.insert(param, Bound::Stored(stored));
        }
        for (&param, &capture) in region.params()[given..].iter().zip(captures) {
            let outer = self.scopes[scope].region;
            if !outer.ty(capture).is_lifted() {
                bound.insert(param, Bound::Alias(scope, capture));
            } else if region.is_used(param) {
                let stored = self.stored(scope, capture)?;
                let stored = self.gathered(scope, &stored, chosen)?;
                bound.insert(param, Bound::Stored(stored));
            }
        }
        let row_index = Some(self.origin_rows(scope, chosen)?);
        self.scopes.push(Scope { region, bound, rows: chosen.rows, row_index });
        let inner = self.scopes.len() - 1;
        self.region(inner)?;
        let mut results = Vec::new();
        for &result in region.results() {
            results.push(self.stored(inner, result)?);
        }
        self.scopes.pop();
        Ok(results)
    }

    /// A slot for each used result of a node of control.
    fn result_slots(
        &mut self,
        scope: usize,
        region: &'m Region,
        id: NodeId,
    ) -> Result<Vec<Option<Stored>>, NotCompiled> {
        let mut slots = Vec::new();
        for &result in &region.node(id).results {
            slots.push(if region.is_used(result) {
                let mut ty = region.ty(result).clone();
                if !ty.is_lifted() {
                    ty = ty.lifted();
                }
                let stored = self.result(scope, result, &ty)?;
                let bound = Bound::Stored(stored.clone());
                self.scopes[scope].bound.insert(result, bound);
                Some(stored)
            } else {
                None
            });
        }
        Ok(slots)
    }

    pub fn scatter(
        &mut self,
        scope: usize,
        results: &[Stored],
        targets: &[Option<Stored>],
        chosen: &Chosen,
    ) -> Result<(), NotCompiled> {
        for (from, to) in results.iter().zip(targets) {
            if let Some(to) = to {
                self.move_rows(scope, &from.ty, &from.place, &to.place, chosen, false)?;
            }
        }
        Ok(())
    }

    /// Each region on the rows that take it.
    pub fn lifted_if(
        &mut self,
        scope: usize,
        region: &'m Region,
        id: NodeId,
        then: &'m Region,
        otherwise: &'m Region,
    ) -> Result<(), NotCompiled> {
        let node = region.node(id);
        let condition = self.stored(scope, node.inputs[0])?;
        let stride = condition.place.row_stride;
        let sides = self.choose(scope, &condition, 0, stride, &[1, 0])?;
        let targets = self.result_slots(scope, region, id)?;
        let tally = 2 * self.choices.len() as u32;
        self.choices.push(Choice { origin: node.origin, works: [then.works(), otherwise.works()] });
        for (chosen, tally) in sides.iter().zip(tally..) {
            self.push_step(Step::Tally { rows: chosen.rows, tally });
        }
        for (chosen, side) in sides.iter().zip([then, otherwise]) {
            self.steps.push(Vec::new());
            let results = self.inner(scope, side, Vec::new(), &node.inputs[1..], chosen)?;
            self.scatter(scope, &results, &targets, chosen)?;
            let body = self.steps.pop().expect("the branch's list");
            self.push_step(Step::IfRows { rows: chosen.rows, body });
        }
        Ok(())
    }

    /// Each expert on the rows that chose it, place by place.
    pub fn lifted_experts(
        &mut self,
        scope: usize,
        region: &'m Region,
        id: NodeId,
        experts: &'m [Region],
    ) -> Result<(), NotCompiled> {
        let node = region.node(id);
        let index = self.stored(scope, node.inputs[0])?;
        let places = index.ty.shape.first().and_then(|d| d.constant()).unwrap_or(1);
        let targets = self.result_slots(scope, region, id)?;
        for target in targets.iter().flatten() {
            self.clear_rows(scope, target)?;
        }
        let cases: Vec<i32> = (0..experts.len() as i32).collect();
        // The driver goes over the places, so that each expert is launched in one place of its code.
        let var = LoopVar(self.loop_vars);
        self.loop_vars += 1;
        let before = self.plan.now();
        self.steps.push(Vec::new());
        let mut key = index.clone();
        key.place.arg = scaled(&index.place.arg, var, 4);
        let lists = self.choose(scope, &key, 0, index.place.row_stride, &cases)?;
        let part = |target: &Stored| {
            let ty = &target.ty;
            let shape = ty.constant_shape().unwrap_or_default();
            let mut part = target.clone();
            part.place.arg = scaled(&target.place.arg, var, target.place.strides(ty.elem, &shape)[0] as u64);
            part
        };
        let parts: Vec<Option<Stored>> = targets.iter().map(|target| target.as_ref().map(part)).collect();
        for (chosen, expert) in lists.iter().zip(experts) {
            self.steps.push(Vec::new());
            let results = self.inner(scope, expert, Vec::new(), &node.inputs[1..], chosen)?;
            self.scatter(scope, &results, &parts, chosen)?;
            let body = self.steps.pop().expect("the expert's list");
            self.push_step(Step::IfRows { rows: chosen.rows, body });
        }
        let body = self.steps.pop().expect("the loop's list");
        self.plan.end_loop(before);
        self.push_step(Step::Loop { var, first: 0, end: places as i32, rows: None, body });
        Ok(())
    }

    /// Sets all rows of a value to zeros.
    fn clear_rows(&mut self, scope: usize, target: &Stored) -> Result<(), NotCompiled> {
        let shape = target.ty.constant_shape().unwrap_or_default();
        let mut b = Builder::new("clear_rows");
        let pointer = b.rw("to");
        let graph = Graph::default();
        let mut messages = Vec::new();
        let mut emit = self.mover(&graph, &mut messages, pointer);
        let (begin, end) = (b.begin(), b.end());
        emit.each(&mut b, begin, end, &mut |emit, b, row| {
            let to = Buffer {
                pointer,
                elem: target.ty.elem,
                base: row.times(target.place.row_stride),
                strides: target.place.strides(target.ty.elem, &shape),
                ring: None,
            };
            emit.clear(b, &to, &shape)
        })?;
        let kernel = self.kernel(b.finish());
        let rows = self.scopes[scope].rows;
        let args = vec![target.place.arg.clone()];
        self.push_launch(kernel, args, Work::parallel(1, Some(rows), 8));
        Ok(())
    }
}

/// A pointer that is so many bytes further with each round of a loop.
fn scaled(arg: &Arg, var: LoopVar, bytes: u64) -> Arg {
    let mut arg = arg.clone();
    if let Arg::Pointer { scaled, .. } = &mut arg {
        scaled.push((var, bytes));
    }
    arg
}

/// One loop over the rows for each case.
fn one_by_one(
    b: &mut Builder,
    (source, keys, form): (KernelValue, i64, Mem),
    (target, totals): (KernelValue, KernelValue),
    rows: KernelValue,
    (cases, max): (&[i32], i64),
) {
    let (one, zero) = (b.const_n(1), b.const_n(0));
    for (c, &case) in cases.iter().enumerate() {
        let wanted = b.const_n(case);
        let list = b.offset(target, c as i64 * max * 4);
        let count = b.loop_carried((zero, rows, 1), &[zero], |b, row, carried| {
            let at = b.index(source, row, keys);
            let found = b.load(form, at, 0);
            let here = b.eq(found, wanted);
            let place = b.index(list, carried[0], 4);
            b.store_n(place, 0, row);
            let more = b.add(carried[0], one);
            vec![b.select(here, more, carried[0])]
        })[0];
        b.store_n(totals, c as i32 * 4, count);
    }
}

/// One loop over the rows for all cases, which are 0, 1, ..: each row goes to the end of the list that its key numbers.
fn by_number(
    b: &mut Builder,
    (source, keys): (KernelValue, i64),
    (target, totals): (KernelValue, KernelValue),
    rows: KernelValue,
    (cases, max): (i32, i32),
) {
    let (one, zero) = (b.const_n(1), b.const_n(0));
    let (all, last, end) = (b.const_n(cases), b.const_n(cases - 1), b.const_n(max - 1));
    b.for_each(zero, all, |b, case| {
        let at = b.index(totals, case, 4);
        b.store_n(at, 0, zero);
    });
    b.for_each(zero, rows, |b, row| {
        let at = b.index(source, row, keys);
        let key = b.load_n(at, 0);
        let low = b.smax(key, zero);
        let case = b.smin(low, last);
        let total = b.index(totals, case, 4);
        let count = b.load_n(total, 0);
        let count = b.smax(count, zero);
        let place = b.smin(count, end);
        let list = b.index(target, case, i64::from(max) * 4);
        let at = b.index(list, place, 4);
        b.store_n(at, 0, row);
        // A row without a case was put behind the end of some list, where it does not count.
        let here = b.eq(key, case);
        let more = b.add(count, one);
        let count = b.select(here, more, count);
        b.store_n(total, 0, count);
    });
}
