//! How well a model predicts a text: the loss of every element after those before it.

use sterna_runtime::{Decoder, Engine, Mode};

use super::Result;

/// The loss of a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Elements that were predicted.
    pub predicted: usize,
    /// Sum of -ln p over them, in nats.
    pub loss: f64,
    /// Whether elements are bytes.
    pub bytes: bool,
}

impl Evaluation {
    /// Nats per element; NaN if none was predicted.
    pub fn mean(&self) -> f64 {
        self.loss / self.predicted as f64
    }

    /// What an element is called.
    pub fn unit(&self) -> &'static str {
        if self.bytes { "byte" } else { "token" }
    }
}

/// Evaluates windows of `window` elements, each a stream of its own (0: the whole text is one; see [`super::window`]), and
/// tells `progress` of every predicted element.
///
/// # Errors
/// An element outside of the vocabulary, a text longer than the caches, a failing check of the graph.
pub fn evaluate(
    engine: &mut impl Engine,
    elements: &[u32],
    window: usize,
    mut progress: impl FnMut(),
) -> Result<Evaluation> {
    let decoder = Decoder::new(engine.table())?;
    let window = if window == 0 { elements.len().max(1) } else { window };
    let mut sum = Evaluation { predicted: 0, loss: 0.0, bytes: decoder.is_bytes() };
    for window in elements.chunks(window) {
        let mut next = if decoder.predicts_first() { 0 } else { decoder.patch() };
        decoder.all_logits(engine, window, Mode::Batch, |row| {
            if let Some(&element) = window.get(next) {
                sum.loss += surprise(row, element);
                sum.predicted += 1;
                progress();
            }
            next += 1;
            Ok(())
        })?;
    }
    Ok(sum)
}

/// -ln of the probability that the logits give an element.
fn surprise(logits: &[f32], element: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - most).exp()).sum();
    sum.ln() - f64::from(logits[element as usize] - most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprise_is_that_of_the_softmax() {
        assert!((surprise(&[0.0, 0.0], 1) - std::f64::consts::LN_2).abs() < 1e-12);
        assert!((surprise(&[1000.0, 0.0], 1) - 1000.0).abs() < 1e-9);
        assert!(surprise(&[f32::NAN, 0.0], 0).is_nan());
    }
}
