//! The kernel interpreter as an engine. States are those of compiled code; each call copies them into memory that is
//! checked, and fills scratch and outputs with numbers that nobody would take for results.

use sterna_runtime::engine::{Engine, Rows};
use sterna_runtime::model::{ModelTable, Source};
use sterna_runtime::{Buffer, Error, Result, StateBlocks};

use super::snapshots::{Held, Native, Snapshots};
use crate::kernel::prove::{Proven, prove};
use crate::kernel::run::{Buffers, Order, run};
use crate::target::clif::CompileError;

/// What scratch and outputs hold before a call.
const POISON: u8 = 0x7f;
/// Bytes behind a buffer that may be read (spec/abi.md).
const PAD: usize = 64;

/// Runs a lowered program kernel by kernel.
pub(super) struct KernelEngine<'a> {
    native: Native<'a>,
    program: Proven<'a>,
    weights: Vec<u8>,
}

impl<'a> KernelEngine<'a> {
    /// Over the weights and the tables of an engine of compiled code.
    ///
    /// # Errors
    /// An access of the program is not proven.
    pub fn new(native: Native<'a>) -> std::result::Result<KernelEngine<'a>, CompileError> {
        let weights = padded(native.engine.weights().bytes(), 0);
        let program = prove(&native.lowered.program)?;
        Ok(KernelEngine { native, program, weights })
    }
}

/// A copy with room behind its end.
fn padded(bytes: &[u8], fill: u8) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    copy.resize(bytes.len().next_multiple_of(PAD) + PAD, fill);
    copy
}

impl Engine for KernelEngine<'_> {
    type States = StateBlocks;

    fn table(&self) -> &ModelTable {
        self.native.table()
    }

    fn new_states(&self, group: usize, blocks: usize) -> Result<StateBlocks> {
        self.native.new_states(group, blocks)
    }

    fn reset(&self, group: usize, states: &mut StateBlocks, blocks: usize) -> Result<()> {
        self.native.reset(group, states, blocks)
    }

    fn run(
        &mut self,
        entry: usize,
        states: &mut StateBlocks,
        rows: Rows,
        positions: &[i32],
        inputs: &[Buffer],
        outputs: &mut [Buffer],
    ) -> Result<()> {
        let table = &self.native.table().entries[entry];
        let program = self.program;
        let positions_memory: Vec<u8> = positions.iter().flat_map(|p| p.to_le_bytes()).collect();
        let position = padded(&positions_memory, POISON);
        let inputs: Vec<Vec<u8>> = (table.inputs.iter().zip(inputs))
            .map(|(port, buffer)| match port.source {
                Some(Source::Position) => position.clone(),
                _ => padded(buffer, POISON),
            })
            .collect();
        let mut results: Vec<Vec<u8>> = outputs.iter().map(|buffer| vec![POISON; padded(buffer, 0).len()]).collect();
        let mut state = padded(states.bytes(), POISON);
        let mut scratch = vec![POISON; program.scratch_bytes as usize + PAD];
        let stride = if rows == Rows::Steps { 0 } else { self.native.table().states[table.group].bytes as u64 };
        let buffers = Buffers {
            weights: &self.weights,
            state: &mut state,
            state_stride: stride,
            scratch: &mut scratch,
            inputs: inputs.iter().map(Vec::as_slice).collect(),
            outputs: results.iter_mut().map(Vec::as_mut_slice).collect(),
            position: &position,
            rows: positions.len() as u32,
        };
        let code = run(program, &program.entries[entry], buffers, Order::Watched)
            .map_err(|trap| Error::Engine(trap.to_string()))?;
        if code != 0 {
            return Err(match self.native.table().messages.get((code as usize).wrapping_sub(1)) {
                Some(message) => Error::Check(message.clone()),
                None => Error::Code { entry: table.name.clone(), code },
            });
        }
        let bytes = states.bytes().len();
        states.bytes_mut().copy_from_slice(&state[..bytes]);
        for (buffer, result) in outputs.iter_mut().zip(&results) {
            let bytes = buffer.len();
            buffer.copy_from_slice(&result[..bytes]);
        }
        Ok(())
    }
}

impl Snapshots for KernelEngine<'_> {
    fn states_of(&self, entry: usize, states: &StateBlocks, block: usize) -> Result<Vec<Held>> {
        self.native.states_of(entry, states, block)
    }
}
