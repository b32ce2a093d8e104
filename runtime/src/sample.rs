//! Choosing the next element from logits. Deterministic: the same logits, options and seed give the same element on
//! every machine, so the exponential is a portable one in f64 and ties go to the lower index.

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256StarStar;

use crate::error::{Error, Result};

/// How the next element is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// 0: the largest logit.
    pub temperature: f64,
    /// Keep the so many most probable; 0: all.
    pub top_k: usize,
    /// Keep the shortest list of most probable elements that reaches this sum; 1: all.
    pub top_p: f64,
    /// Logits of elements seen lately are divided by this if positive, else multiplied; 1: off.
    pub repetition_penalty: f64,
    /// How many elements count as lately.
    pub repetition_window: usize,
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { temperature: 0.0, top_k: 0, top_p: 1.0, repetition_penalty: 1.0, repetition_window: 4096, seed: 0 }
    }
}

/// A sampler with its generator and the elements seen lately.
#[derive(Clone, Debug)]
pub struct Sampler {
    options: Options,
    generator: Xoshiro256StarStar,
    recent: std::collections::VecDeque<u32>,
    order: Vec<(f64, u32)>,
    penalised: Vec<f32>,
    /// By element: whether it may be chosen; of those behind the end any may.
    allowed: Vec<bool>,
}

impl Sampler {
    /// A sampler, or an error if the options mean nothing.
    pub fn new(options: Options) -> Result<Sampler> {
        let say = |text: &str| Err(Error::Options(text.into()));
        if !(options.temperature >= 0.0 && options.temperature.is_finite()) {
            return say("temperature must be 0 or more");
        }
        if !(options.top_p > 0.0 && options.top_p <= 1.0) {
            return say("top-p must lie above 0 and at most at 1");
        }
        if !(options.repetition_penalty > 0.0 && options.repetition_penalty.is_finite()) {
            return say("the repetition penalty must be above 0");
        }
        let generator = Xoshiro256StarStar::seed_from_u64(options.seed);
        Ok(Sampler {
            options,
            generator,
            recent: Default::default(),
            order: Vec::new(),
            penalised: Vec::new(),
            allowed: Vec::new(),
        })
    }

    /// The same sampler, which never chooses the elements for which `allowed` says so; any behind its end may be
    /// chosen.
    pub fn only(mut self, allowed: &[bool]) -> Sampler {
        self.allowed = if allowed.contains(&false) { allowed.to_vec() } else { Vec::new() };
        self
    }

    /// Counts an element as seen; prompts are seen too.
    pub fn see(&mut self, element: u32) {
        if self.options.repetition_penalty != 1.0 && self.options.repetition_window > 0 {
            if self.recent.len() == self.options.repetition_window {
                self.recent.pop_front();
            }
            self.recent.push_back(element);
        }
    }

    /// Whether an element may be chosen at all.
    pub fn may_choose(&self, element: u32) -> bool {
        self.allowed.get(element as usize).copied().unwrap_or(true)
    }

    /// The next element. Draws one number per call unless the temperature is 0.
    pub fn choose(&mut self, logits: &[f32]) -> u32 {
        let mut logits = logits;
        if self.options.repetition_penalty != 1.0 || !self.allowed.is_empty() {
            self.penalised.clear();
            self.penalised.extend_from_slice(logits);
            for (logit, _) in self.penalised.iter_mut().zip(&self.allowed).filter(|(_, allowed)| !**allowed) {
                *logit = f32::NEG_INFINITY;
            }
            let mut seen: Vec<u32> = self.recent.iter().copied().collect();
            seen.sort_unstable();
            seen.dedup();
            let penalty = self.options.repetition_penalty as f32;
            for element in seen {
                if let Some(logit) = self.penalised.get_mut(element as usize) {
                    *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
                }
            }
            logits = &self.penalised;
        }
        if self.options.temperature == 0.0 {
            return largest(logits);
        }
        let most = f64::from(logits[largest(logits) as usize]);
        self.order.clear();
        let temperature = self.options.temperature;
        self.order.extend(logits.iter().zip(0..).map(|(&l, i)| (libm::exp((f64::from(l) - most) / temperature), i)));
        let total: f64 = self.order.iter().map(|p| p.0).sum();
        self.order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        if self.options.top_k > 0 {
            self.order.truncate(self.options.top_k);
        }
        let mut kept = 0.0;
        let mut count = 0;
        for (weight, _) in &self.order {
            kept += weight;
            count += 1;
            if kept >= self.options.top_p * total {
                break;
            }
        }
        let draw = (self.generator.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64) * kept;
        let mut sum = 0.0;
        for (weight, element) in &self.order[..count] {
            sum += weight;
            if sum > draw {
                return *element;
            }
        }
        self.order[count - 1].1
    }
}

/// The index of the largest logit, the lowest of equals; NaN is never larger.
pub fn largest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, &logit) in logits.iter().enumerate() {
        if logit > logits[best] || (logits[best].is_nan() && !logit.is_nan()) {
            best = i;
        }
    }
    best as u32
}

/// Refuses logits by which nothing can be chosen or measured: all of them must be finite.
///
/// # Errors
/// One is not; the first is named, with the step that gave it.
pub fn finite(step: usize, logits: &[f32]) -> Result<()> {
    // Without branches, since this is asked at every step: an exponent of ones alone is no finite number.
    let largest = logits.iter().fold(0, |largest: u32, value| largest.max(value.to_bits() & 0x7fff_ffff));
    if largest < f32::INFINITY.to_bits() {
        return Ok(());
    }
    match logits.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(Error::NotFinite { step, index, value: logits[index] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(options: Options) -> Sampler {
        Sampler::new(options).unwrap()
    }

    #[test]
    fn logits_that_are_not_finite_are_named() {
        assert!(finite(0, &[]).is_ok());
        assert!(finite(0, &[f32::MAX, f32::MIN, 0.0, -0.0]).is_ok());
        for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let said = finite(7, &[1.0, 2.0, value, f32::NAN]).unwrap_err().to_string();
            assert!(said.contains("step 7") && said.contains("of 2 is"), "{said}");
        }
    }

    #[test]
    fn greedy_takes_the_lowest_of_equals() {
        assert_eq!(sampler(Options::default()).choose(&[0.0, 2.0, 2.0, 1.0]), 1);
        assert_eq!(largest(&[f32::NAN, -1.0]), 1);
    }

    #[test]
    fn a_tiny_top_p_and_a_top_k_of_one_are_greedy() {
        let logits = [0.1, 0.4, 0.3];
        for options in [
            Options { temperature: 1.0, top_p: 1e-9, ..Options::default() },
            Options { temperature: 1.0, top_k: 1, ..Options::default() },
        ] {
            let mut s = sampler(options);
            assert!((0..50).all(|_| s.choose(&logits) == 1));
        }
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.0f32, 3f32.ln()];
        let mut s = sampler(Options { temperature: 1.0, ..Options::default() });
        let ones: u32 = (0..4000).map(|_| s.choose(&logits)).sum();
        assert!((2850..3150).contains(&ones), "{ones}");
    }

    #[test]
    fn the_same_seed_gives_the_same_draws_and_another_seed_others() {
        let logits = [0.0; 64];
        let draw = |seed| {
            let mut s = sampler(Options { temperature: 1.0, seed, ..Options::default() });
            (0..32).map(|_| s.choose(&logits)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn the_penalty_lowers_both_signs() {
        let mut s = sampler(Options { repetition_penalty: 2.0, ..Options::default() });
        s.see(0);
        assert_eq!(s.choose(&[1.0, 0.6]), 1);
        assert_eq!(s.choose(&[-1.0, -1.5]), 1);
    }

    #[test]
    fn senseless_options_are_errors() {
        for options in [
            Options { temperature: f64::NAN, ..Options::default() },
            Options { top_p: 0.0, ..Options::default() },
            Options { repetition_penalty: 0.0, ..Options::default() },
        ] {
            assert!(Sampler::new(options).is_err());
        }
    }
}
