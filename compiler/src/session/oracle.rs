//! The interpreter as an engine: the same streams, prompts and generation as compiled code, from the graph itself.

use std::sync::Arc;

use sterna_runtime::engine::{Engine, Rows};
use sterna_runtime::model::{EntryTable, ModelTable, Port, Source, StateTable};
use sterna_runtime::{Buffer, Error, Result};

use super::tables;
use crate::interp::{Arguments, Interpreter, MemoryWeights, StreamState, Tensor};
use crate::ir::{Data, Module, StateId};

/// Evaluates one graph with one set of weights. In step form every row is a step of its own; a lifted graph takes all
/// rows of a call at once. Both give the same bits.
pub struct InterpreterEngine {
    module: Arc<Module>,
    weights: Arc<MemoryWeights>,
    table: ModelTable,
}

impl InterpreterEngine {
    /// An engine that takes at most `max_rows` rows a call.
    ///
    /// # Errors
    /// A port that cannot cross the border.
    pub fn new(
        module: Arc<Module>,
        weights: Arc<MemoryWeights>,
        max_rows: usize,
    ) -> std::result::Result<InterpreterEngine, String> {
        let table = ModelTable {
            name: module.name.clone(),
            entries: tables::entries(&module)?,
            states: vec![StateTable::default()],
            max_rows,
            ..ModelTable::default()
        };
        Ok(InterpreterEngine { module, weights, table })
    }

    /// The graph.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// What one instance of a state of a stream holds.
    ///
    /// # Errors
    /// It starts as a weight that cannot be read.
    pub fn state(&self, stream: &StreamState, state: StateId, instance: usize) -> Result<Tensor> {
        let interpreter = Interpreter::new(&self.module, self.weights.as_ref());
        interpreter.state(stream, state, instance).map_err(|e| Error::Engine(e.to_string()))
    }

    fn arguments(&self, table: &EntryTable, rows: std::ops::Range<usize>, inputs: &[Buffer]) -> Arguments {
        let mut arguments = Arguments::new();
        for (port, buffer) in table.inputs.iter().zip(inputs) {
            let value = || rows_of(port, rows.clone(), buffer);
            arguments = match &port.source {
                Some(Source::Position) | None => arguments,
                Some(Source::Outer(output)) => arguments.with_outer(output, value()),
                // The interpreter calls an absent input absent by not being given it.
                Some(Source::Given(_)) => arguments,
                Some(Source::Input(_)) if self.is_optional(table, &port.name) => arguments,
                Some(Source::Stream | Source::Value | Source::Input(_)) => arguments.with(&port.name, value()),
            };
        }
        arguments
    }

    fn is_optional(&self, table: &EntryTable, name: &str) -> bool {
        table.inputs.iter().any(|p| p.source == Some(Source::Given(name.into())))
    }
}

fn rows_of(port: &Port, rows: std::ops::Range<usize>, buffer: &Buffer) -> Tensor {
    let mut bytes = Vec::with_capacity(rows.len() * port.bytes());
    for row in rows.clone() {
        bytes.extend_from_slice(&buffer[row * port.stride..][..port.bytes()]);
    }
    let mut shape = vec![rows.len()];
    shape.extend_from_slice(&port.shape);
    Tensor::new(&shape, tables::data_of(port.element, &bytes))
}

impl Engine for InterpreterEngine {
    type States = Vec<StreamState>;

    fn table(&self) -> &ModelTable {
        &self.table
    }

    fn new_states(&self, _group: usize, blocks: usize) -> Result<Vec<StreamState>> {
        Ok((0..blocks).map(|_| StreamState::new(&self.module)).collect())
    }

    fn reset(&self, _group: usize, states: &mut Vec<StreamState>, blocks: usize) -> Result<()> {
        states.iter_mut().take(blocks).for_each(|s| *s = StreamState::new(&self.module));
        Ok(())
    }

    fn run(
        &mut self,
        entry: usize,
        states: &mut Vec<StreamState>,
        rows: Rows,
        positions: &[i32],
        inputs: &[Buffer],
        outputs: &mut [Buffer],
    ) -> Result<()> {
        let interpreter = Interpreter::new(&self.module, self.weights.as_ref());
        let table = &self.table.entries[entry];
        let calls: Vec<std::ops::Range<usize>> = match rows {
            Rows::Steps => std::iter::once(0..positions.len()).collect(),
            Rows::Streams => (0..positions.len()).map(|row| row..row + 1).collect(),
        };
        for call in calls {
            let state = states
                .get_mut(if rows == Rows::Steps { 0 } else { call.start })
                .ok_or_else(|| Error::Missing("state block for each row".into()))?;
            state.position = positions[call.start];
            let arguments = self.arguments(table, call.clone(), inputs);
            let results = interpreter
                .run(&self.module.entries[entry], state, call.len(), &arguments)
                .map_err(|e| Error::Engine(e.to_string()))?;
            for (port, buffer) in table.outputs.iter().zip(outputs.iter_mut()) {
                let value = results.get(&port.name).ok_or_else(|| Error::Missing(format!("output `{}`", port.name)))?;
                store(port, &value.data, call.clone(), buffer);
            }
        }
        Ok(())
    }
}

fn store(port: &Port, data: &Data, rows: std::ops::Range<usize>, buffer: &mut Buffer) {
    let bytes = data.to_bytes();
    for (row, value) in rows.zip(bytes.chunks_exact(port.bytes().max(1))) {
        buffer[row * port.stride..][..value.len()].copy_from_slice(value);
    }
}
