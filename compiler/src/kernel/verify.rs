//! The kernel verifier.
//!
//! It checks that
//! - every value is defined exactly once and before its uses, in the same or an enclosing block;
//! - every operation has the operand and result types of [`super::typing`], which includes the bounds that keep
//!   i32 dot totals exact, loop steps positive, and loop and branch yields of the right types;
//! - every pointer comes from one parameter or one stack buffer whatever way it takes through loops, selections
//!   and branches, and no store reaches a read-only parameter;
//! - the body of the kernel has no parameters and yields nothing.

use super::ir::*;
use super::typing::{nested, result_types, stores};

/// Where a pointer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// A parameter.
    Param(u32),
    /// A stack buffer, by the value that made it.
    Stack(Value),
}

/// Checks a kernel and collects every problem found.
pub fn verify(kernel: &Kernel) -> Result<(), Vec<String>> {
    let mut state = State { kernel, visible: vec![false; kernel.values.len()], problems: Vec::new() };
    if !kernel.body.params.is_empty() || !kernel.body.yields.is_empty() {
        state.problems.push("the body has no parameters and yields nothing".into());
    }
    let mut defined = vec![false; kernel.values.len()];
    state.definitions(&kernel.body, &mut defined);
    if state.problems.is_empty() {
        state.block(&kernel.body);
    }
    if state.problems.is_empty() {
        match roots(kernel) {
            Ok(roots) => state.stores(&kernel.body, &roots),
            Err(problem) => state.problems.push(problem),
        }
    }
    if state.problems.is_empty() { Ok(()) } else { Err(state.problems) }
}

struct State<'a> {
    kernel: &'a Kernel,
    visible: Vec<bool>,
    problems: Vec<String>,
}

impl State<'_> {
    fn definitions(&mut self, block: &Block, defined: &mut [bool]) {
        let results = block.insts.iter().flat_map(|inst| inst.results.iter());
        for value in block.params.iter().chain(results) {
            match defined.get_mut(value.index()) {
                None => self.problems.push(format!("{value} has no type")),
                Some(true) => self.problems.push(format!("{value} is defined twice")),
                Some(seen) => *seen = true,
            }
        }
        for inst in &block.insts {
            for inner in nested(&inst.op) {
                self.definitions(inner, defined);
            }
        }
    }

    fn uses(&mut self, values: &[Value], what: &str) -> bool {
        let mut good = true;
        for value in values {
            if !self.visible.get(value.index()).copied().unwrap_or(false) {
                self.problems.push(format!("{what} uses {value}, which is not defined there"));
                good = false;
            }
        }
        good
    }

    fn block(&mut self, block: &Block) {
        let mut shown = block.params.clone();
        for param in &block.params {
            self.visible[param.index()] = true;
        }
        for inst in &block.insts {
            let what = super::print::op_name(&inst.op);
            let good = self.uses(&inst.args, &what);
            for inner in nested(&inst.op) {
                self.block(inner);
            }
            // The yields of nested blocks are typed by the operation, so they must have types by now.
            if good && self.problems.is_empty() {
                match result_types(self.kernel, &inst.op, &inst.args) {
                    Ok(types) => {
                        let given: Vec<Type> = inst.results.iter().map(|&value| self.kernel.ty(value)).collect();
                        if given != types {
                            self.problems.push(format!("{what} gives {types:?}, not {given:?}"));
                        }
                    }
                    Err(problem) => self.problems.push(format!("{what} {problem}")),
                }
            }
            for result in &inst.results {
                self.visible[result.index()] = true;
                shown.push(*result);
            }
        }
        self.uses(&block.yields, "yield");
        for value in shown {
            self.visible[value.index()] = false;
        }
    }

    fn stores(&mut self, block: &Block, roots: &[Option<Root>]) {
        for inst in &block.insts {
            if stores(&inst.op).is_some()
                && let Some(Root::Param(index)) = roots[inst.args[0].index()]
                && self.kernel.params[index as usize].kind != ParamKind::Rw
            {
                let name = &self.kernel.params[index as usize].name;
                self.problems.push(format!("a store reaches the read-only parameter {name}"));
            }
            for inner in nested(&inst.op) {
                self.stores(inner, roots);
            }
        }
    }
}

/// Where each pointer of a well-typed kernel comes from; `None` for values that are not pointers.
///
/// # Errors
/// When a pointer may come from two places.
pub fn roots(kernel: &Kernel) -> Result<Vec<Option<Root>>, String> {
    let mut roots = vec![None; kernel.values.len()];
    block_roots(&kernel.body, &mut roots)?;
    Ok(roots)
}

fn block_roots(block: &Block, roots: &mut Vec<Option<Root>>) -> Result<(), String> {
    for inst in &block.insts {
        let first = inst.args.first().copied();
        match &inst.op {
            Op::Param(index) => roots[inst.results[0].index()] = Some(Root::Param(*index)),
            Op::Stack(_) => roots[inst.results[0].index()] = Some(Root::Stack(inst.results[0])),
            Op::Offset(_) | Op::Index(_) | Op::OffsetBy => {
                roots[inst.results[0].index()] = first.and_then(|base| roots[base.index()]);
            }
            Op::Select => {
                let (a, b) = (roots[inst.args[1].index()], roots[inst.args[2].index()]);
                if a != b {
                    return Err(format!("{} may come from two buffers", inst.results[0]));
                }
                roots[inst.results[0].index()] = a;
            }
            Op::Loop { body, .. } => {
                for (param, init) in body.params[1..].iter().zip(&inst.args[2..]) {
                    roots[param.index()] = roots[init.index()];
                }
                block_roots(body, roots)?;
                for ((next, init), result) in body.yields.iter().zip(&inst.args[2..]).zip(&inst.results) {
                    if roots[next.index()] != roots[init.index()] {
                        return Err(format!("{result} may come from two buffers"));
                    }
                    roots[result.index()] = roots[init.index()];
                }
            }
            Op::If { then, otherwise } => {
                block_roots(then, roots)?;
                block_roots(otherwise, roots)?;
                for ((a, b), result) in then.yields.iter().zip(&otherwise.yields).zip(&inst.results) {
                    if roots[a.index()] != roots[b.index()] {
                        return Err(format!("{result} may come from two buffers"));
                    }
                    roots[result.index()] = roots[a.index()];
                }
            }
            _ => {}
        }
    }
    Ok(())
}
