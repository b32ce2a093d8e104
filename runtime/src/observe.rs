//! An engine that remembers some outputs of what another engine computes: how probes are read along a prompt.

use std::ops::Range;

use crate::engine::{Engine, Rows};
use crate::error::Result;
use crate::memory::Buffer;
use crate::model::ModelTable;

/// Passes all calls on, and keeps the rows of the chosen outputs of one entry, in order.
#[derive(Debug)]
pub struct Observer<'e, E> {
    engine: &'e mut E,
    entry: usize,
    outputs: Vec<usize>,
    seen: Vec<Vec<u8>>,
}

impl<'e, E: Engine> Observer<'e, E> {
    /// Watches outputs of an entry, by index.
    pub fn new(engine: &'e mut E, entry: usize, outputs: Vec<usize>) -> Observer<'e, E> {
        let seen = vec![Vec::new(); outputs.len()];
        Observer { engine, entry, outputs, seen }
    }

    /// For each output the bytes of all rows since the last call, one row after the other without padding.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        self.seen.iter_mut().map(std::mem::take).collect()
    }

    fn keep(&mut self, rows: Range<usize>, buffers: &[Buffer]) {
        let ports = &self.engine.table().entries[self.entry].outputs;
        for (seen, &output) in self.seen.iter_mut().zip(&self.outputs) {
            let port = &ports[output];
            for row in rows.clone() {
                seen.extend_from_slice(&buffers[output][row * port.stride..][..port.bytes()]);
            }
        }
    }
}

impl<E: Engine> Engine for Observer<'_, E> {
    type States = E::States;

    fn table(&self) -> &ModelTable {
        self.engine.table()
    }

    fn new_states(&self, group: usize, blocks: usize) -> Result<E::States> {
        self.engine.new_states(group, blocks)
    }

    fn reset(&self, group: usize, states: &mut E::States, blocks: usize) -> Result<()> {
        self.engine.reset(group, states, blocks)
    }

    fn run(
        &mut self,
        entry: usize,
        states: &mut E::States,
        rows: Rows,
        positions: &[i32],
        inputs: &[Buffer],
        outputs: &mut [Buffer],
    ) -> Result<()> {
        self.engine.run(entry, states, rows, positions, inputs, outputs)?;
        if entry == self.entry {
            self.keep(0..positions.len(), outputs);
        }
        Ok(())
    }
}
