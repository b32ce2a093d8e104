//! The engine of compiled code: entry functions of the ABI over mapped weights.

use std::any::Any;
use std::ffi::c_void;
use std::sync::Arc;

use crate::abi::{Context, EntryFn, KernelFn};
use crate::engine::{Engine, Rows};
use crate::error::{Error, Result};
use crate::float_control::DefaultFloats;
use crate::guard;
use crate::memory::Buffer;
use crate::model::{Fill, ModelTable, Port, Source};
use crate::pool::Pool;

/// Bytes that stay where they are for as long as the value lives, aligned to 64 and readable one vector past the end.
///
/// # Safety
/// `bytes` must give the same slice each time, also after the owner has moved, with that alignment and padding.
pub unsafe trait Weights: Send + Sync {
    /// The weight section.
    fn bytes(&self) -> &[u8];

    /// How many of them are pages of a file, which nothing copied and which processes share.
    fn mapped(&self) -> usize {
        0
    }
}

// SAFETY: the map stays where it is when the buffer moves; it starts on a page and is padded.
unsafe impl Weights for Buffer {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Compiled entries with what they need to live.
#[derive(Clone)]
pub struct Code {
    /// One per entry of the table.
    entries: Vec<EntryFn>,
    /// Keeps the pages of the functions mapped.
    _owner: Arc<dyn Any + Send + Sync>,
}

impl Code {
    /// Wraps entry functions together with the owner of their pages.
    ///
    /// # Safety
    /// Each function must be an entry of the ABI, compiled for the model table and weight layout that the engine is
    /// later given, for this processor, and must stay callable while `owner` lives.
    pub unsafe fn new(entries: Vec<EntryFn>, owner: Arc<dyn Any + Send + Sync>) -> Code {
        Code { entries, _owner: owner }
    }
}

/// An engine of compiled code. Cheap to make: several, one per thread, may share code, weights and pool.
pub struct NativeEngine {
    table: Arc<ModelTable>,
    code: Code,
    weights: Arc<dyn Weights>,
    pool: Arc<Pool>,
    scratch: Buffer,
    positions: Buffer,
    /// Per entry and choice, how many steps took each branch.
    taken: Vec<Vec<[u64; 2]>>,
}

/// State blocks of one group, one after the other.
#[derive(Debug)]
pub struct StateBlocks {
    buffer: Buffer,
    bytes: usize,
}

impl StateBlocks {
    /// All blocks, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// All blocks, one after the other.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    /// The bytes of one block, to save and to put back.
    pub fn block(&self, index: usize) -> &[u8] {
        &self.buffer[index * self.bytes..][..self.bytes]
    }

    /// The bytes of one block.
    pub fn block_mut(&mut self, index: usize) -> &mut [u8] {
        &mut self.buffer[index * self.bytes..][..self.bytes]
    }
}

impl NativeEngine {
    /// An engine; fails if code or weights are not of the table's size.
    pub fn new(table: Arc<ModelTable>, code: Code, weights: Arc<dyn Weights>, pool: Arc<Pool>) -> Result<NativeEngine> {
        let found = weights.bytes().len();
        if found < table.weight_bytes {
            return Err(Error::Size { name: "the weight section".into(), expected: table.weight_bytes, found });
        }
        if code.entries.len() != table.entries.len() {
            return Err(Error::Missing("code for each of its entries".into()));
        }
        if table.entries.iter().flat_map(|e| &e.choices).any(|c| c.tallies + 8 > table.scratch_bytes) {
            return Err(Error::Missing("room for its tallies".into()));
        }
        let weights: Arc<dyn Weights> =
            if guard::is_on() { Arc::new(Buffer::copy_of(weights.bytes())?) } else { weights };
        Ok(NativeEngine {
            scratch: Buffer::zeroed(table.scratch_bytes)?,
            positions: Buffer::zeroed(4 * table.max_rows)?,
            taken: table.entries.iter().map(|e| vec![[0; 2]; e.choices.len()]).collect(),
            table,
            code,
            weights,
            pool,
        })
    }

    /// How many bytes of the weights are pages of a file.
    pub fn mapped_weight_bytes(&self) -> usize {
        self.weights.mapped()
    }

    /// The pool its launches run on.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The weights it reads.
    pub fn weights(&self) -> &Arc<dyn Weights> {
        &self.weights
    }

    /// How many steps took each branch of the entry's choices, in all calls since the engine was made or the counts
    /// were last taken.
    pub fn take_counts(&mut self, entry: usize) -> Vec<[u64; 2]> {
        self.taken.get_mut(entry).map_or_else(Vec::new, |taken| {
            let none = vec![[0; 2]; taken.len()];
            std::mem::replace(taken, none)
        })
    }

    /// Adds what the call just made has tallied.
    fn count(&mut self, entry: usize) {
        for (choice, sum) in self.table.entries[entry].choices.iter().zip(&mut self.taken[entry]) {
            let words = self.scratch[choice.tallies..].chunks_exact(4);
            for (sum, word) in sum.iter_mut().zip(words) {
                *sum += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            }
        }
    }

    fn fill(&self, group: usize, block: &mut [u8], fresh: bool) -> Result<()> {
        for reset in &self.table.states[group].resets {
            let range = reset.offset..reset.offset + reset.bytes;
            let target = block.get_mut(range).ok_or_else(|| Error::Missing("room for its state".into()))?;
            match &reset.fill {
                Fill::Zero if fresh => {}
                Fill::Zero => target.fill(0),
                Fill::Pattern(pattern) => {
                    for chunk in target.chunks_exact_mut(pattern.len().max(1)) {
                        chunk.copy_from_slice(pattern);
                    }
                }
                Fill::Weights(offset) => {
                    let source = self.weights.bytes().get(*offset..*offset + reset.bytes);
                    target.copy_from_slice(source.ok_or_else(|| Error::Missing("initial state".into()))?);
                }
            }
        }
        Ok(())
    }
}

fn fits(port: &Port, rows: usize, buffer: &Buffer) -> Result<()> {
    if port.source != Some(Source::Position) && buffer.len() < rows * port.stride {
        return Err(Error::Size { name: port.name.clone(), expected: rows * port.stride, found: buffer.len() });
    }
    Ok(())
}

impl Engine for NativeEngine {
    type States = StateBlocks;

    fn table(&self) -> &ModelTable {
        &self.table
    }

    fn new_states(&self, group: usize, blocks: usize) -> Result<StateBlocks> {
        let bytes = self.table.states[group].bytes;
        let mut states = StateBlocks { buffer: Buffer::zeroed(bytes * blocks)?, bytes };
        if guard::is_on() {
            states.buffer.fill(guard::UNWRITTEN);
        }
        for block in states.buffer.chunks_exact_mut(bytes.max(1)) {
            self.fill(group, block, !guard::is_on())?;
        }
        Ok(states)
    }

    fn reset(&self, group: usize, states: &mut StateBlocks, blocks: usize) -> Result<()> {
        for block in states.buffer.chunks_exact_mut(states.bytes.max(1)).take(blocks) {
            self.fill(group, block, false)?;
        }
        Ok(())
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
        let table = &self.table.entries[entry];
        let count = positions.len();
        if count == 0 {
            return Ok(());
        }
        if count > self.table.max_rows {
            return Err(Error::Limit { what: "rows of a call", value: count, limit: self.table.max_rows });
        }
        let blocks = if rows == Rows::Steps { 1 } else { count };
        let bytes = self.table.states[table.group].bytes;
        if states.bytes != bytes || states.buffer.len() < bytes * blocks {
            let (expected, found) = (bytes * blocks, states.buffer.len());
            return Err(Error::Size { name: "the state".into(), expected, found });
        }
        if inputs.len() != table.inputs.len() || outputs.len() != table.outputs.len() {
            return Err(Error::Missing("buffer for each of its ports".into()));
        }
        for (port, buffer) in table.inputs.iter().zip(inputs).chain(table.outputs.iter().zip(outputs.iter())) {
            fits(port, count, buffer)?;
        }
        for (slot, position) in self.positions.chunks_exact_mut(4).zip(positions) {
            slot.copy_from_slice(&position.to_ne_bytes());
        }
        if guard::is_on() {
            return self.call_guarded(entry, states, rows, count, inputs, outputs);
        }
        self.call(entry, states, rows, count, inputs, outputs)
    }
}

impl NativeEngine {
    /// As [`NativeEngine::call`], on buffers of just so many rows, and on scratch and outputs that nobody wrote.
    fn call_guarded(
        &mut self,
        entry: usize,
        states: &mut StateBlocks,
        rows: Rows,
        count: usize,
        inputs: &[Buffer],
        outputs: &mut [Buffer],
    ) -> Result<()> {
        let table = self.table.clone();
        let table = &table.entries[entry];
        let blocks = if rows == Rows::Steps { 1 } else { count };
        let bytes = states.bytes;
        let tight = |(buffer, port): (&Buffer, &Port)| match port.source {
            Some(Source::Position) => Buffer::zeroed(0),
            _ => Buffer::copy_of(&buffer[..count * port.stride]),
        };
        let own_inputs: Vec<Buffer> = inputs.iter().zip(&table.inputs).map(tight).collect::<Result<_>>()?;
        let mut own_outputs = Vec::new();
        for port in &table.outputs {
            let mut buffer = Buffer::zeroed(count * port.stride)?;
            buffer.fill(guard::UNWRITTEN);
            own_outputs.push(buffer);
        }
        let mut own_states = StateBlocks { buffer: Buffer::copy_of(&states.buffer[..blocks * bytes])?, bytes };
        let positions = Buffer::copy_of(&self.positions[..4 * count])?;
        let all_positions = std::mem::replace(&mut self.positions, positions);
        self.scratch.fill(guard::UNWRITTEN);
        let result = self.call(entry, &mut own_states, rows, count, &own_inputs, &mut own_outputs);
        self.positions = all_positions;
        states.buffer[..blocks * bytes].copy_from_slice(&own_states.buffer);
        for (all, own) in outputs.iter_mut().zip(&own_outputs) {
            all[..own.len()].copy_from_slice(own);
        }
        result
    }

    /// Calls an entry on buffers that have been found to be large enough, with positions in their place.
    fn call(
        &mut self,
        entry: usize,
        states: &mut StateBlocks,
        rows: Rows,
        count: usize,
        inputs: &[Buffer],
        outputs: &mut [Buffer],
    ) -> Result<()> {
        let table = &self.table.entries[entry];
        let bytes = states.bytes;
        let input = |(buffer, port): (&Buffer, &Port)| match port.source {
            Some(Source::Position) => self.positions.as_ptr(),
            _ => buffer.as_ptr(),
        };
        let input_pointers: Vec<*const u8> = inputs.iter().zip(&table.inputs).map(input).collect();
        let output_pointers: Vec<*mut u8> = outputs.iter_mut().map(|buffer| buffer.as_mut_ptr()).collect();
        let mut context = Context {
            weights: self.weights.bytes().as_ptr(),
            state: states.buffer.as_mut_ptr(),
            state_stride: if rows == Rows::Steps { 0 } else { bytes as u64 },
            scratch: self.scratch.as_mut_ptr(),
            inputs: input_pointers.as_ptr(),
            outputs: output_pointers.as_ptr(),
            position: self.positions.as_ptr().cast(),
            rows: count as u64,
            parallel_for: (self.pool.threads() > 1).then_some(parallel_for as _),
            pool: Arc::as_ptr(&self.pool).cast_mut().cast(),
        };
        let _floats = DefaultFloats::set();
        // SAFETY: the function is an entry compiled for this table (the contract of `Code::new`); every buffer of the
        // context is aligned, padded and of the table's size for so many rows, as checked above, and outlives the call.
        let code = unsafe { self.code.entries[entry](&raw mut context) };
        match code {
            0 => {
                self.count(entry);
                Ok(())
            }
            code => Err(match self.table.messages.get((code as usize).wrapping_sub(1)) {
                Some(message) => Error::Check(message.clone()),
                None => Error::Code { entry: table.name.clone(), code },
            }),
        }
    }
}

/// What compiled entries call to share a launch between threads.
///
/// # Safety
/// `pool` is a live [`Pool`]; `kernel` may be called on disjoint ranges from several threads.
unsafe extern "C" fn parallel_for(pool: *mut c_void, kernel: KernelFn, args: *const u64, units: i32, grain: i32) {
    // SAFETY: the engine puts its own pool into the context and keeps it for the call.
    let pool = unsafe { &*pool.cast_const().cast::<Pool>() };
    let args = args as usize;
    pool.launch(units.max(0) as usize, grain.max(1) as usize, |begin, end| {
        // SAFETY: the caller's contract; the argument table lives until the launch ends.
        unsafe { kernel(args as *const u64, begin as i32, end as i32) }
    });
}
