//! Launches: the kernels of a graph, made for it or found among those that were made before, and their place in the
//! list of steps. Which launches are alike is `alike`'s to say.

use std::rc::Rc;

use super::NotCompiled;
use super::alike::{Alike, Described, Made};
use super::caches::Split;
use super::driver::Maker;
use super::graph::{Act, Body, V};
use super::import::Import;
use super::kernels::{self, Built, Form, Place, Spec};
use crate::ir::Op;
use crate::kernel::ir::Kernel;
use crate::kernel::program::{Arg, Base, KernelId, RowsId, Step, Work};
use crate::limits::Limits;

impl Maker<'_> {
    /// Launches the kernel of a graph.
    pub fn launch(
        &mut self,
        scope: usize,
        name: &str,
        import: Import,
        outputs: Vec<(V, Place)>,
    ) -> Result<(), NotCompiled> {
        let effects = import.steps.iter().any(|&id| {
            matches!(
                import.graph.steps[id].act,
                Act::Op(Op::StateWrite(_) | Op::Push { .. } | Op::Check { .. })
                    | Act::If { .. }
                    | Act::Repeat { .. }
                    | Act::Experts { .. }
            )
        });
        if outputs.is_empty() && !effects {
            return Ok(());
        }
        self.kernel_fits(import.graph.steps.len(), Limits::DEFAULT.steps, "steps")?;
        let spec = Spec {
            name: name.to_string(),
            graph: import.graph,
            body: Body { params: Vec::new(), steps: import.steps, results: outputs.iter().map(|(v, _)| *v).collect() },
            inputs: import.inputs,
            outputs,
            row_index: self.scopes[scope].row_index.clone(),
            rows: self.scopes[scope].rows,
            loops: self.loops.clone(),
            frozen: false,
        };
        let described = self.describe(&spec);
        if let Some(like) = described.as_ref().and_then(|described| self.alike.get(&described.key)) {
            let like = like.clone();
            return self.launch_like(&spec, &like, described.map_or_else(Vec::new, |described| described.sources));
        }
        self.made += 1;
        let split = super::caches::split(&spec, &self.context);
        let count_bytes = split.as_ref().map(|split| split.count_bytes(self.context.max_rows));
        let counts = count_bytes.map_or(0, |bytes| self.plan.slot(bytes).offset());
        let builts = self.build(&spec, split.as_ref(), counts)?;
        let Some(Described { key, mut sources, reports }) = described else {
            builts.into_iter().for_each(|built| drop(self.push_built(built, spec.rows, &[])));
            return Ok(());
        };
        sources.push(Arg::at(Base::Scratch, counts));
        let made = builts.into_iter().map(|built| self.push_built(built, spec.rows, &sources));
        let mut kernels: Vec<Option<Made>> = made.collect();
        // Pushes come first, and only they report a failure.
        kernels[0] = kernels[0].take().filter(|_| !reports);
        if kernels.iter().any(|made| made.is_some()) {
            self.alike.insert(key, Rc::new(Alike { count_bytes, kernels }));
        }
        Ok(())
    }

    /// The kernels of a launch; `counts` is where those of a split have their numbers of entries.
    fn build(&mut self, spec: &Spec, split: Option<&Split>, counts: u64) -> Result<Vec<Built>, NotCompiled> {
        if let Some(split) = split {
            let pushes = split.pushes(&self.context, &mut self.messages, counts)?;
            return Ok(vec![pushes, split.reads(&self.context, &mut self.messages, counts)?]);
        }
        let built = match super::linear::build(spec, &self.context, &mut self.messages)? {
            Some(built) => built,
            None => kernels::build(spec, &self.context, &mut self.messages)?,
        };
        self.kernel_fits(built.kernel.values.len(), Limits::DEFAULT.instructions, "instructions")?;
        Ok(vec![built])
    }

    /// A launch whose kernels were made before, but for those that must be made anew.
    fn launch_like(&mut self, spec: &Spec, like: &Alike, mut sources: Vec<Arg>) -> Result<(), NotCompiled> {
        let counts = like.count_bytes.map_or(0, |bytes| self.plan.slot(bytes).offset());
        sources.push(Arg::at(Base::Scratch, counts));
        if cfg!(debug_assertions) {
            self.is_like(spec, like, &sources, counts)?;
        }
        for made in &like.kernels {
            match made {
                Some(made) => {
                    let args = made.args_for(&sources, spec.rows);
                    self.push_made(made.kernel, args, (made.scratch, made.scratch_bytes), made.form, spec.rows);
                }
                // What is not alone and reports a failure are pushes.
                None => {
                    if let Some(split) = super::caches::split(spec, &self.context) {
                        let pushes = split.pushes(&self.context, &mut self.messages, counts)?;
                        self.push_built(pushes, spec.rows, &sources);
                    }
                }
            }
        }
        Ok(())
    }

    /// Asserts that a launch needs no other kernels and arguments than those that were made before.
    fn is_like(&mut self, spec: &Spec, like: &Alike, sources: &[Arg], counts: u64) -> Result<(), NotCompiled> {
        let messages = self.messages.clone();
        let split = super::caches::split(spec, &self.context);
        let builts = self.build(spec, split.as_ref(), counts)?;
        self.messages = messages;
        for (mut built, made) in builts.into_iter().zip(&like.kernels) {
            let Some(made) = made else { continue };
            built.kernel.name.clear();
            assert_eq!(self.known.get(&built.kernel), Some(&made.kernel), "{}", spec.name);
            assert_eq!(built.args, made.args_for(sources, spec.rows), "{}", spec.name);
            assert_eq!((built.scratch_bytes, built.form), (made.scratch_bytes, made.form), "{}", spec.name);
        }
        Ok(())
    }

    /// Adds a kernel, or finds one that is the same.
    pub fn kernel(&mut self, mut kernel: Kernel) -> KernelId {
        let name = std::mem::take(&mut kernel.name);
        if let Some(id) = self.known.get(&kernel) {
            return *id;
        }
        let id = KernelId(self.kernels.len() as u32);
        self.known.insert(kernel.clone(), id);
        kernel.name = format!("k{}_{name}", id.0);
        self.kernels.push(kernel);
        id
    }

    /// Appends the launch of a finished kernel; gives what it takes to launch it again with other sources.
    fn push_built(&mut self, built: Built, rows: RowsId, sources: &[Arg]) -> Option<Made> {
        let Built { kernel, args, scratch, scratch_bytes, form } = built;
        let kernel = self.kernel(kernel);
        let weights_end = self.context.weights.section.bytes as u64;
        let args_of = Made::given(&args, sources, rows, weights_end);
        self.push_made(kernel, args, (scratch, scratch_bytes), form, rows);
        Some(Made { kernel, args: args_of?, scratch, scratch_bytes, form })
    }

    /// Appends the launch of a kernel, with memory of its own if it needs any.
    fn push_made(
        &mut self,
        kernel: KernelId,
        mut args: Vec<Arg>,
        (scratch, scratch_bytes): ((usize, usize), u64),
        form: Form,
        rows: RowsId,
    ) {
        let (work, units) = match form {
            Form::Heads { heads, grain } => {
                let pieces = super::caches::PIECES;
                (Work::in_pieces(heads, Some(rows), grain, pieces), pieces as usize)
            }
            Form::Serial => (Work::once(), 1),
            Form::Rows => (Work::parallel(1, Some(rows), 4), self.context.max_rows),
            // Four pieces for each of two threads, if there are so many groups.
            Form::Units(n) => (Work::parallel(n, None, n.div_ceil(8).max(1)), 1),
        };
        if scratch_bytes > 0 {
            let size = scratch_bytes.next_multiple_of(64);
            let slot = self.plan.slot(size * units as u64 + 64);
            args[scratch.0] = Arg::at(Base::Scratch, slot.offset());
            args[scratch.1] = Arg::constant(size as i64);
        }
        self.push_launch(kernel, args, work);
    }

    /// Appends a launch.
    pub fn push_launch(&mut self, kernel: KernelId, args: Vec<Arg>, work: Work) {
        self.plan.launch(&args);
        self.push_step(Step::Launch { kernel, args, work });
    }

    /// Appends a step to the innermost list.
    pub fn push_step(&mut self, step: Step) {
        if let Step::LoadRows { offset, .. } = &step {
            self.plan.touch(*offset);
        }
        self.steps.last_mut().expect("a list is open").push(step);
    }

    /// Refuses kernels whose compilation would take too long.
    fn kernel_fits(&self, size: usize, most: usize, of: &str) -> Result<(), NotCompiled> {
        if size <= most {
            return Ok(());
        }
        Err(NotCompiled { origin: self.origin, what: format!("a kernel of {size} {of}, at most {most}") })
    }
}
