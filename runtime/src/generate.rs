//! Generation: choose, emit, feed, repeat.

use crate::decode::{Decoder, Stream};
use crate::engine::Engine;
use crate::error::Result;
use crate::sample::{Sampler, finite};

/// How far generation may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Elements to generate.
    pub elements: usize,
    /// Steps of the main entry for which the model has room, those of the prompt included; none: any number.
    pub steps: Option<usize>,
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All elements that were asked for are there.
    Length,
    /// The model has no room for the step that the next element needs.
    Context,
    /// Nobody takes any more.
    Closed,
}

/// Continues a stream that has been given its prompt, handing each element to `emit` as soon as it is known, until a
/// limit is reached or `emit` gives false.
///
/// # Errors
/// Logits that are not finite, and those of the engine.
pub fn generate<E: Engine>(
    decoder: &Decoder,
    engine: &mut E,
    stream: &mut Stream<E::States>,
    sampler: &mut Sampler,
    limits: Limits,
    mut emit: impl FnMut(u32) -> bool,
) -> Result<End> {
    for count in 0..limits.elements {
        let step = stream.steps().saturating_sub(1);
        let logits = decoder.logits(engine, stream)?;
        finite(step, logits)?;
        let element = sampler.choose(logits);
        sampler.see(element);
        if !emit(element) {
            return Ok(End::Closed);
        }
        if count + 1 < limits.elements {
            let steps = stream.steps() + (stream.pending().len() + 1) / decoder.patch();
            if limits.steps.is_some_and(|room| steps > room) {
                return Ok(End::Context);
            }
            decoder.feed(engine, stream, &[element])?;
        }
    }
    Ok(End::Length)
}
