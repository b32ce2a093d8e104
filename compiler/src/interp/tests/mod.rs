//! Graphs in printed form, evaluated and compared with what their operations say.

mod control;
mod operations;
mod quantised;
mod time;

use std::collections::HashMap;

use super::*;
use crate::ir::read::read_module;
use crate::ir::verify::verify;

/// Reads and verifies.
fn module(text: &str) -> Module {
    let module = read_module(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    verify(&module).unwrap_or_else(|e| panic!("{e}"));
    module
}

fn no_weights(module: &Module) -> MemoryWeights {
    MemoryWeights::new(module, HashMap::new()).expect("no weights are needed")
}

/// Runs the only entry of a module without weights for one step and gives its outputs in order.
fn outputs(text: &str, arguments: Arguments) -> Result<Vec<Tensor>, InterpError> {
    let module = module(text);
    let weights = no_weights(&module);
    let entry = &module.entries[0];
    let mut stream = StreamState::new(&module);
    let mut found = Interpreter::new(&module, &weights).run(entry, &mut stream, 1, &arguments)?;
    Ok(entry.outputs.iter().map(|o| found.remove(&o.name).expect("every output is there").row(0)).collect())
}

/// One output of an entry without parameters, whose body is given with that output's type.
fn constant_output(ty: &str, body: &str) -> Result<Tensor, InterpError> {
    let text = format!("module \"m\" \"\" entry e0 \"e\" {{ out \"y\" : {ty} body() {{ {body} }} }}");
    Ok(outputs(&text, Arguments::new())?.remove(0))
}
