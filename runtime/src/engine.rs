//! The one interface between streams and whatever computes an entry: compiled code, or an interpreter.

use crate::error::Result;
use crate::memory::Buffer;
use crate::model::ModelTable;

/// Which time axis the rows of a call lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// Row after row is one more step of the first state block.
    Steps,
    /// Every row is one step of its own state block.
    Streams,
}

/// Computes entries. Rows of inputs and outputs lie at the strides that the model's table gives.
pub trait Engine {
    /// State blocks of one group, as many as asked for.
    type States;

    /// The model's table.
    fn table(&self) -> &ModelTable;

    /// New state blocks of a group, reset.
    fn new_states(&self, group: usize, blocks: usize) -> Result<Self::States>;

    /// Makes the first `blocks` blocks new again.
    fn reset(&self, group: usize, states: &mut Self::States, blocks: usize) -> Result<()>;

    /// Runs an entry over `positions.len()` rows, at most `max_rows`. `inputs` and `outputs` follow the entry's
    /// table and hold at least so many rows; position ports are filled from `positions`, and their buffer is ignored.
    fn run(
        &mut self,
        entry: usize,
        states: &mut Self::States,
        rows: Rows,
        positions: &[i32],
        inputs: &[Buffer],
        outputs: &mut [Buffer],
    ) -> Result<()>;
}
