//! Checks of a graph on the values of weights alone, evaluated without running a step.
//!
//! In a step such a check is an operation like any other, and the first step fails by it. Here it is known before: its
//! condition is cut out of the entry and evaluated by the interpreter.

use super::{Held, Result, Session, SessionError};
use crate::interp::{InterpError, Interpreter, StreamState};
use crate::ir::{Module, NodeId, Op, OriginId, Region, Value, ValueDef};
use crate::package::ImageError;
use crate::passes::rewrite::Copy;

impl Session {
    /// The checks on the weights' values that do not hold, each drawn with its place; nothing where the weights are
    /// random.
    ///
    /// # Errors
    /// The weights cannot be read, or a condition cannot be evaluated.
    pub fn failed_weight_checks(&self) -> Result<Vec<String>> {
        let module = &*self.prepared;
        let checks: Vec<Check> = module.entries.iter().flat_map(|entry| checks(&entry.body)).collect();
        if checks.is_empty() || matches!(self.held, Held::Random(_)) {
            return Ok(Vec::new());
        }
        let weights = self.memory_weights()?;
        let interpreter = Interpreter::new(module, &*weights);
        let mut failed = Vec::new();
        let mut stream = StreamState::stateless();
        for check in checks {
            let found = interpreter.evaluate(&check.condition, &[], 1, &mut stream).map_err(|e| at_load(module, e))?;
            if found.first().and_then(|value| value.as_bool()).is_some_and(|holds| holds.contains(&false)) {
                failed.push(drawn(module, &check));
            }
        }
        Ok(failed)
    }
}

struct Check {
    condition: Region,
    message: String,
    origin: OriginId,
}

/// The checks of a body whose conditions need nothing but weights.
fn checks(body: &Region) -> Vec<Check> {
    let mut found = Vec::new();
    for id in body.nodes() {
        let node = body.node(id);
        let Op::Check { message } = &node.op else { continue };
        let mut copy = Copy::of_few(body);
        if node.inputs.iter().all(|&input| copied(&mut copy, input)) {
            let condition = copy.values(&node.inputs);
            let mut region = copy.to;
            region.set_results(condition);
            found.push(Check { condition: region, message: message.clone(), origin: node.origin });
        }
    }
    found
}

/// Copies what a value is computed from; says whether that is possible without parameters and states.
fn copied(copy: &mut Copy<'_>, value: Value) -> bool {
    let mut open: Vec<(NodeId, bool)> = Vec::new();
    let producer = |copy: &Copy<'_>, value: Value| match copy.from.def(value) {
        ValueDef::Result(id, _) => Some(id),
        ValueDef::Param(_) => None,
    };
    let Some(first) = producer(copy, value) else { return false };
    open.push((first, false));
    while let Some((id, operands_done)) = open.pop() {
        let node = copy.from.node(id);
        if node.results.iter().all(|&result| copy.has(result)) {
            continue;
        }
        if operands_done {
            copy.node(id);
            continue;
        }
        if !node.op.is_plain() {
            return false;
        }
        open.push((id, true));
        for &input in &node.inputs {
            match producer(copy, input) {
                Some(id) => open.push((id, false)),
                None => return false,
            }
        }
    }
    true
}

fn drawn(module: &Module, check: &Check) -> String {
    format!("error[E0706]: {}{}", check.message, module.place(check.origin))
}

fn at_load(module: &Module, source: InterpError) -> SessionError {
    SessionError::Image(ImageError::Computed { path: module.name.clone(), source: Box::new(source) })
}
