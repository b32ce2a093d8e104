//! Work that steps skip: how many of them do it nevertheless, and what time the others save.
//!
//! The time is measured, not estimated: the same elements run through the same model compiled so that no step skips
//! anything. What that model computes means nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sterna_runtime::{Decoder, Engine, NativeEngine};

use super::{CompileOptions, Compiled, Result, Session, SessionError};

/// How many steps did what they might have skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where the model's text decides it, `file:line:column`.
    pub place: String,
    /// Path of the part that it belongs to; empty for the model itself.
    pub path: String,
    /// The entry.
    pub entry: String,
    /// Steps that came to the choice.
    pub steps: u64,
    /// Those of them that did the work.
    pub kept: u64,
}

impl Kept {
    /// `kept` of `steps`; NaN without steps.
    pub fn share(&self) -> f64 {
        self.kept as f64 / self.steps as f64
    }
}

/// Takes the counts of an engine, of all choices in which steps may skip work.
pub fn kept(engine: &mut NativeEngine) -> Vec<Kept> {
    let entries = engine.table().entries.len();
    let mut all = Vec::new();
    for index in 0..entries {
        let counts = engine.take_counts(index);
        let entry = &engine.table().entries[index];
        for (choice, counts) in entry.choices.iter().zip(counts) {
            if let Some(branch) = choice.skipped() {
                all.push(Kept {
                    place: choice.place.clone(),
                    path: choice.path.clone(),
                    entry: entry.name.clone(),
                    steps: counts[0] + counts[1],
                    kept: counts[branch],
                });
            }
        }
    }
    all
}

/// Seconds that a stream takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replay {
    /// For the prompt, all at once.
    pub prompt: f64,
    /// For what follows, element by element.
    pub decode: f64,
}

impl Replay {
    /// More than any stream takes.
    pub const SLOWEST: Replay = Replay { prompt: f64::INFINITY, decode: f64::INFINITY };

    /// The shorter time of each.
    pub fn best(self, other: Replay) -> Replay {
        Replay { prompt: self.prompt.min(other.prompt), decode: self.decode.min(other.decode) }
    }

    /// In all.
    pub fn total(self) -> f64 {
        self.prompt + self.decode
    }
}

/// Times a new stream over a prompt and `count` more elements, each of which `next` chooses from its place and logits;
/// `check` is asked before, with the step that gave them.
///
/// # Errors
/// Those of the check and of the engine.
pub fn replay(
    engine: &mut impl Engine,
    prompt: &[u32],
    count: usize,
    check: impl Fn(usize, &[f32]) -> sterna_runtime::Result<()>,
    mut next: impl FnMut(usize, &[f32]) -> u32,
) -> Result<Replay> {
    let decoder = Decoder::new(engine.table())?;
    let mut stream = decoder.stream(engine)?;
    let mut fed = Vec::with_capacity(prompt.len() + count);
    fed.extend_from_slice(prompt);
    let prompted = !prompt.is_empty();
    let begin = Instant::now();
    decoder.prompt(engine, &mut stream, prompt)?;
    let prompt = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    for place in 0..count {
        let step = stream.steps().saturating_sub(1);
        let logits = decoder.logits(engine, &mut stream)?;
        if let Err(source) = check(step, logits) {
            return Err(SessionError::NotFinite { source, within: 0, elements: fed, prompted, first: None });
        }
        let element = next(place, logits);
        fed.push(element);
        decoder.feed(engine, &mut stream, &[element])?;
    }
    Ok(Replay { prompt, decode: begin.elapsed().as_secs_f64() })
}

/// Accepts any logits: those of a model that skips nothing mean nothing.
pub fn unchecked(_: usize, _: &[f32]) -> sterna_runtime::Result<()> {
    Ok(())
}

/// The times of one stream with and without skipping.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Saving {
    /// As the model is.
    pub skipping: Replay,
    /// With nothing skipped.
    pub unskipped: Replay,
}

/// Measures both by turns, until half a second has passed; the best times count.
///
/// # Errors
/// Those of the engines.
pub fn saving(
    engine: &mut NativeEngine,
    unskipped: &mut NativeEngine,
    prompt: &[u32],
    generated: &[u32],
) -> Result<Saving> {
    let mut best = Saving { skipping: Replay::SLOWEST, unskipped: Replay::SLOWEST };
    let begin = Instant::now();
    loop {
        let next = |place: usize, _: &[f32]| generated[place];
        best.skipping = best.skipping.best(replay(engine, prompt, generated.len(), unchecked, next)?);
        best.unskipped = best.unskipped.best(replay(unskipped, prompt, generated.len(), unchecked, next)?);
        if begin.elapsed() >= Duration::from_millis(500) {
            return Ok(best);
        }
    }
}

impl Session {
    /// The same model compiled so that no step skips anything; none if no step of the compiled model may skip work. It
    /// shares the weights of `engine`, which was made from `compiled`.
    ///
    /// # Errors
    /// Those of compiling.
    pub fn unskipped(
        &self,
        options: &CompileOptions,
        compiled: &Compiled,
        engine: &NativeEngine,
    ) -> Result<Option<NativeEngine>> {
        let mut choices = compiled.table.entries.iter().flat_map(|e| &e.choices);
        if !choices.any(|c| c.skipped().is_some()) {
            return Ok(None);
        }
        let other = self.compile(&CompileOptions { unskipped: true, ..options.clone() })?;
        let pool = engine.pool().clone();
        if other.lowered.weights != compiled.lowered.weights {
            return Ok(Some(self.engine(&other, pool)?));
        }
        let weights = Arc::clone(engine.weights());
        Ok(Some(NativeEngine::new(other.table.clone(), other.code.clone(), weights, pool)?))
    }
}
