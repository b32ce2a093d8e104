//! What made logits that are not finite: the stream once more in the interpreter, which sees every value.

use sterna_runtime::{Decoder, Engine, Mode};

use super::{CompileOptions, Result, Session, SessionError};
use crate::interp::NotFinite;

/// Multiplications of weights that a search may take: seconds of the interpreter.
const MOST: u128 = 500_000_000;

impl Session {
    /// An error with the first value that was not finite, if it is about such logits and the search takes seconds.
    pub fn explained(&self, error: SessionError, options: &CompileOptions) -> SessionError {
        match error {
            SessionError::NotFinite { source, within, elements, prompted, .. } => {
                // Where the search fails too, the error is still what it was.
                let first = self.first_not_finite(options, &elements, prompted).ok().flatten();
                SessionError::NotFinite { source, within, elements, prompted, first: first.map(Box::new) }
            }
            other => other,
        }
    }

    /// The first value of a stream of these elements that is not finite although all that it was made from was.
    fn first_not_finite(
        &self,
        options: &CompileOptions,
        elements: &[u32],
        prompted: bool,
    ) -> Result<Option<NotFinite>> {
        let weights: u128 = self.module().weights.iter().map(|w| w.elements() as u128).sum();
        if weights.saturating_mul(elements.len() as u128 + 1) > MOST {
            return Ok(None);
        }
        let mut engine = self.interpreter(options, Mode::Step)?;
        engine.watch();
        let decoder = Decoder::new(engine.table())?;
        let mut stream = decoder.stream(&engine)?;
        let (first, rest) = elements.split_at(elements.len().min(usize::from(prompted)));
        decoder.prompt(&mut engine, &mut stream, first)?;
        for &element in rest {
            if engine.not_finite().is_some() {
                break;
            }
            decoder.feed(&mut engine, &mut stream, &[element])?;
        }
        if engine.not_finite().is_none() {
            decoder.logits(&mut engine, &mut stream)?;
        }
        Ok(engine.not_finite())
    }
}
