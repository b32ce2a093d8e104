//! Generation: choose, emit, feed, repeat.

use crate::decode::{Decoder, Stream};
use crate::engine::Engine;
use crate::error::Result;
use crate::sample::Sampler;

/// Continues a stream that has been given its prompt by up to `most` elements, handing each to `emit` as soon as it
/// is known; generation ends early when `emit` gives false. Returns the number of elements emitted.
pub fn generate<E: Engine>(
    decoder: &Decoder,
    engine: &mut E,
    stream: &mut Stream<E::States>,
    sampler: &mut Sampler,
    most: usize,
    mut emit: impl FnMut(u32) -> bool,
) -> Result<usize> {
    for count in 0..most {
        let element = sampler.choose(decoder.logits(engine, stream)?);
        sampler.see(element);
        if !emit(element) {
            return Ok(count + 1);
        }
        if count + 1 < most {
            decoder.feed(engine, stream, &[element])?;
        }
    }
    Ok(most)
}
