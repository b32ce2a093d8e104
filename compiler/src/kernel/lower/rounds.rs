//! Repeats over many rows: round by round, on the rows that still go.

use super::NotCompiled;
use super::control::Chosen;
use super::driver::{Bound, Maker, Stored};
use crate::ir::{Elem, NodeId, Region, Type};
use crate::kernel::build::Builder;
use crate::kernel::ir::Mem;
use crate::kernel::program::{Arg, Count, LoopVar, Step, Work};

impl<'m> Maker<'m> {
    /// Round by round over the rows that reach it.
    pub fn lifted_repeat(
        &mut self,
        scope: usize,
        region: &'m Region,
        id: NodeId,
        (first, max, carried): (i64, usize, usize),
        body: &'m Region,
    ) -> Result<(), NotCompiled> {
        let node = region.node(id);
        let count = self.stored(scope, node.inputs[0])?;
        // Carried values live in rows of the scope and are replaced round by round.
        let mut current = Vec::new();
        for &init in &node.inputs[1..=carried] {
            let ty = region.ty(init).step();
            let target = self.slot(&ty, true)?;
            self.copy_value(scope, init, target.place.clone())?;
            current.push(target);
        }
        let mut captured = Vec::new();
        for &capture in &node.inputs[1 + carried..] {
            if region.ty(capture).is_lifted() {
                let stored = self.stored(scope, capture)?;
                captured.push((capture, stored));
            }
        }
        for (value, stored) in captured {
            // A view is computed once, before the rounds.
            self.scopes[scope].bound.insert(value, Bound::Stored(stored));
        }
        let left = self.slot(&Type::scalar(Elem::I32), true)?;
        let going = self.slot(&Type::scalar(Elem::I32), true)?;
        let number = self.slot(&Type::scalar(Elem::I32), false)?;
        let var = LoopVar(self.loop_vars);
        self.loop_vars += 1;
        self.start_rounds(scope, &count, &left)?;
        let before = self.plan.now();
        self.loops.push(var);
        self.steps.push(Vec::new());
        self.next_round(scope, &left, &going, &number, first)?;
        let chosen = self.choose(scope, &going, 0, going.place.row_stride, &[1])?.remove(0);
        self.steps.push(Vec::new());
        let mut params = vec![number.clone()];
        for value in &current {
            params.push(self.gathered(scope, value, &chosen)?);
        }
        let captures = &node.inputs[1 + carried..];
        let results = self.inner(scope, body, params, captures, &chosen)?;
        let targets: Vec<Option<Stored>> = current.iter().cloned().map(Some).collect();
        self.scatter(scope, &results[1..], &targets, &chosen)?;
        self.leave(scope, &results[0], &left, &chosen)?;
        let inner = self.steps.pop().expect("the round's list");
        self.push_step(Step::IfRows { rows: chosen.rows, body: inner });
        let steps = self.steps.pop().expect("the loop's list");
        self.loops.pop();
        self.plan.end_loop(before);
        self.push_step(Step::Loop { var, first: 0, end: max as i32, rows: None, body: steps });
        for (&result, stored) in node.results.iter().zip(current) {
            self.scopes[scope].bound.insert(result, Bound::Stored(stored));
        }
        Ok(())
    }

    /// `left` = rounds that each row still has to go.
    fn start_rounds(&mut self, scope: usize, count: &Stored, left: &Stored) -> Result<(), NotCompiled> {
        let mut b = Builder::new("start_rounds");
        let (from, to) = (b.ro("count"), b.rw("left"));
        let (rows, zero) = (b.count("rows"), b.const_n(0));
        b.for_each(zero, rows, |b, row| {
            let at = b.index(from, row, count.place.row_stride);
            let n = b.load_n(at, 0);
            let at = b.index(to, row, left.place.row_stride);
            b.store_n(at, 0, n);
        });
        let kernel = self.kernel(b.finish());
        let rows = Arg::Count(Count::Rows(self.scopes[scope].rows));
        let args = vec![count.place.arg.clone(), left.place.arg.clone(), rows];
        self.push_launch(kernel, args, Work::once());
        Ok(())
    }

    /// `going` = whether a row has this round to go; counts it down. `number` = the round's number.
    fn next_round(
        &mut self,
        scope: usize,
        left: &Stored,
        going: &Stored,
        number: &Stored,
        first: i64,
    ) -> Result<(), NotCompiled> {
        let mut b = Builder::new("next_round");
        let (left_pointer, going_pointer) = (b.rw("left"), b.rw("going"));
        let number_pointer = b.rw("number");
        let (round, rows) = (b.count("round"), b.count("rows"));
        let (zero, one, start) = (b.const_n(0), b.const_n(1), b.const_n(first as i32));
        let shown = b.add(round, start);
        b.store_n(number_pointer, 0, shown);
        b.for_each(zero, rows, |b, row| {
            let at = b.index(left_pointer, row, left.place.row_stride);
            let n = b.load_n(at, 0);
            let goes = b.lt(zero, n);
            let fewer = b.sub(n, one);
            b.store_n(at, 0, fewer);
            let goes = b.and(goes, one);
            let at = b.index(going_pointer, row, going.place.row_stride);
            b.store_n(at, 0, goes);
        });
        let kernel = self.kernel(b.finish());
        let var = *self.loops.last().expect("a loop is open");
        let args = vec![
            left.place.arg.clone(),
            going.place.arg.clone(),
            number.place.arg.clone(),
            Arg::Count(Count::LoopVar(var)),
            Arg::Count(Count::Rows(self.scopes[scope].rows)),
        ];
        self.push_launch(kernel, args, Work::once());
        Ok(())
    }

    /// Rows whose exit is true have no rounds left.
    fn leave(&mut self, scope: usize, exit: &Stored, left: &Stored, chosen: &Chosen) -> Result<(), NotCompiled> {
        let mut b = Builder::new("leave_rounds");
        let (exit_pointer, left_pointer) = (b.ro("exit"), b.rw("left"));
        let list = b.ro("list");
        let (rows, outer, zero) = (b.count("rows"), b.count("outer_rows"), b.const_n(0));
        b.for_each(zero, rows, |b, row| {
            let at = b.index(exit_pointer, row, exit.place.row_stride);
            let exits = b.load(Mem::U8, at, 0);
            b.if_then(exits, |b| {
                let at = b.index(list, row, 4);
                let other = b.load_n(at, 0);
                let other = b.clamp_row(other, outer);
                let at = b.index(left_pointer, other, left.place.row_stride);
                let none = b.const_n(0);
                b.store_n(at, 0, none);
            });
        });
        let kernel = self.kernel(b.finish());
        let args = vec![
            exit.place.arg.clone(),
            left.place.arg.clone(),
            chosen.list.arg.clone(),
            Arg::Count(Count::Rows(chosen.rows)),
            Arg::Count(Count::Rows(self.scopes[scope].rows)),
        ];
        self.push_launch(kernel, args, Work::once());
        Ok(())
    }
}
