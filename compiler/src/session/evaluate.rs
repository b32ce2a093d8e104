//! How well a model predicts a text: the loss of every element after those before it.

use sterna_runtime::{Decoder, Engine, Error, Mode};

use super::{Result, SessionError};

/// The loss of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Elements that were predicted.
    pub predicted: usize,
    /// Sum of -ln p over them, in nats.
    pub loss: f64,
    /// Whether elements are bytes.
    pub bytes: bool,
    /// The largest of the losses.
    pub worst: Worst,
}

/// The loss of one element.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Worst {
    /// -ln p, in nats.
    pub loss: f64,
    /// The element of the text, counted from 0.
    pub element: usize,
    /// The step that predicted it, counted from 0 in its stream.
    pub step: usize,
}

impl Evaluation {
    /// Nats per element; NaN if none was predicted.
    pub fn mean(&self) -> f64 {
        self.loss / self.predicted as f64
    }

    /// e to the mean.
    ///
    /// # Errors
    /// That is not finite.
    pub fn perplexity(&self) -> Result<f64> {
        let (mean, perplexity) = (self.mean(), self.mean().exp());
        match perplexity.is_finite() {
            true => Ok(perplexity),
            false => Err(SessionError::Perplexity { mean, worst: self.worst }),
        }
    }

    /// What an element is called.
    pub fn unit(&self) -> &'static str {
        if self.bytes { "byte" } else { "token" }
    }
}

/// Evaluates windows of `window` elements, each a stream of its own (0: the whole text is one; see [`super::window`]),
/// and tells `progress` of every predicted element. `check` is asked about all logits that count, with the step that
/// gave them.
///
/// # Errors
/// An element outside of the vocabulary, a text longer than the caches, a failing check of the graph, and what `check`
/// refuses.
pub fn evaluate(
    engine: &mut impl Engine,
    elements: &[u32],
    window: usize,
    check: impl Fn(usize, &[f32]) -> sterna_runtime::Result<()>,
    mut progress: impl FnMut(),
) -> Result<Evaluation> {
    let decoder = Decoder::new(engine.table())?;
    let window = if window == 0 { elements.len().max(1) } else { window };
    let mut sum = Evaluation { predicted: 0, loss: 0.0, bytes: decoder.is_bytes(), worst: Worst::default() };
    for (place, window) in elements.chunks(window).enumerate().map(|(index, chunk)| (index * window, chunk)) {
        let mut next = if decoder.predicts_first() { 0 } else { decoder.patch() };
        let (mut rows, per_step) = (0, decoder.patch());
        let vocabulary = decoder.vocabulary();
        let unpredicted = window.iter().enumerate().skip(next).find(|(_, element)| **element as usize >= vocabulary);
        if let Some((at, &element)) = unpredicted {
            return Err(SessionError::Unpredicted { element, at: place + at, vocabulary });
        }
        let read = decoder.all_logits(engine, window, Mode::Batch, |row| {
            if let Some(&element) = window.get(next) {
                check(rows / per_step, row)?;
                let loss = surprise(row, element);
                sum.loss += loss;
                if loss > sum.worst.loss {
                    sum.worst = Worst { loss, element: place + next, step: rows / per_step };
                }
                sum.predicted += 1;
                progress();
            }
            next += 1;
            rows += 1;
            Ok(())
        });
        read.map_err(|error| match error {
            Error::NotFinite { .. } => {
                let elements = window[..next.min(window.len())].to_vec();
                SessionError::NotFinite { source: error, within: place, elements, prompted: true, first: None }
            }
            other => other.into(),
        })?;
    }
    Ok(sum)
}

/// -ln of the probability that the logits give an element.
fn surprise(logits: &[f32], element: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // In f64, where no difference of two f32 overflows.
    let below = |logit: f32| f64::from(logit) - f64::from(most);
    let sum: f64 = logits.iter().map(|&logit| below(logit).exp()).sum();
    sum.ln() - below(logits[element as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprise_is_that_of_the_softmax() {
        assert!((surprise(&[0.0, 0.0], 1) - std::f64::consts::LN_2).abs() < 1e-12);
        assert!((surprise(&[1000.0, 0.0], 1) - 1000.0).abs() < 1e-9);
        assert_eq!(surprise(&[f32::MAX, f32::MIN], 1), 2.0 * f64::from(f32::MAX));
    }
}
