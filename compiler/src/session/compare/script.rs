//! What a model is run on when ways of running it are compared, and how its steps become calls.

use sterna_runtime::model::{Element, ModelTable};
use sterna_runtime::{Decoder, Engine, Mode};

use super::record::Recorder;
use super::snapshots::Snapshots;
use crate::session::Result;

/// One way to cut the steps of a script into calls.
#[derive(Clone, Debug)]
pub struct Calls {
    /// What differences say.
    pub name: String,
    /// Most rows of one call of the main entry.
    pub rows: usize,
    /// Whether the kernel interpreter, where it runs, makes these calls too.
    pub kernels: bool,
}

/// What a model is run on: its streams and inputs.
pub trait Script {
    /// The ways to cut it into calls. The first is what the reference does: a step of a stream in each call.
    fn calls(&self) -> Vec<Calls>;

    /// Runs all of it through an engine whose results are noted, in calls of this way.
    ///
    /// # Errors
    /// What the engine says: it ends the recording.
    fn run<E: Snapshots>(&self, engine: &mut Recorder<'_, E>, calls: usize) -> sterna_runtime::Result<()>;
}

/// One stream of elements, read as a prompt is: in steps, and in batches of at most so many.
#[derive(Clone, Debug)]
pub struct Elements {
    /// The elements, see [`draw`].
    pub elements: Vec<u32>,
    /// Most steps of one call, for each way to run in batches; a call never has more rows than the model was compiled
    /// for.
    pub batches: Vec<usize>,
}

impl Script for Elements {
    fn calls(&self) -> Vec<Calls> {
        let mut all = vec![Calls { name: "step".into(), rows: 1, kernels: true }];
        for &rows in &self.batches {
            let name = if self.batches.len() == 1 { "batch".into() } else { format!("batches of {rows}") };
            all.push(Calls { name, rows, kernels: true });
        }
        all
    }

    fn run<E: Snapshots>(&self, engine: &mut Recorder<'_, E>, calls: usize) -> sterna_runtime::Result<()> {
        let mut table = engine.table().clone();
        let mode = match calls.checked_sub(1) {
            None => Mode::Step,
            Some(batch) => {
                table.max_rows = self.batches[batch].clamp(1, table.max_rows);
                Mode::Batch
            }
        };
        Decoder::new(&table)?.all_logits(engine, &self.elements, mode, |_| Ok(()))
    }
}

/// Elements that look random, the same for each seed, from the range that the stream declares, or from those that can
/// be predicted if it declares none.
///
/// # Errors
/// The model has no stream with logits.
pub fn draw(table: &ModelTable, seed: u64, count: usize) -> Result<Vec<u32>> {
    let decoder = Decoder::new(table)?;
    let port = table.main().and_then(|main| table.entries[main].stream());
    let most = match port.map(|p| p.element) {
        Some(Element::U8) => f64::from(u8::MAX),
        _ => f64::from(u32::MAX),
    };
    let (low, high) = port.and_then(|p| p.range).unwrap_or((0.0, decoder.vocabulary() as f64 - 1.0));
    let (low, high) = (low.ceil().clamp(0.0, most) as u64, high.floor().clamp(0.0, most) as u64);
    let choices = high.saturating_sub(low) + 1;
    let mut state = seed;
    let draw = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (low + (state >> 33) % choices) as u32
    };
    Ok((0..count).map(draw).collect())
}
