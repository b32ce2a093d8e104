//! The three measures, added up over sequences: how often a pointer lands just after an earlier occurrence of the
//! current token (induction), how different the pointers of a layer's heads are, and by how much the best score leads.

use super::{HealthError, score_layers, survivor_layers};
use crate::interp::Tensor;

/// Sums over the sequences seen so far. Matrices are layers by heads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measure {
    /// Pointers that landed on an induction target.
    pub matches: Vec<Vec<u64>>,
    /// Positions that have an induction target.
    pub eligible: u64,
    chance: f64,
    /// Per layer: sum of the shares of distinct pointers.
    diversity: Vec<f64>,
    diversity_positions: u64,
    margins: Vec<Vec<f64>>,
    margin_positions: u64,
}

impl Measure {
    /// Adds a sequence of tokens with the probes seen along it.
    ///
    /// # Errors
    /// The probes are not those of pointers.
    pub fn add(&mut self, tokens: &[u32], seen: &[(String, Tensor)]) -> Result<(), HealthError> {
        let (pointers, scores) = (survivor_layers(seen)?, score_layers(seen)?);
        if pointers.len() != scores.len() {
            return Err(HealthError::Pairs { survivors: pointers.len(), top4: scores.len() });
        }
        let heads = pointers.first().map_or(0, |layer| layer.heads);
        if pointers.iter().any(|l| l.heads != heads) || scores.iter().any(|l| l.heads != heads) {
            return Err(HealthError::Heads);
        }
        if self.matches.is_empty() {
            self.matches = vec![vec![0; heads]; pointers.len()];
            self.margins = vec![vec![0.0; heads]; pointers.len()];
            self.diversity = vec![0.0; pointers.len()];
        }
        for t in 0..tokens.len() {
            let targets: Vec<usize> = (1..t).filter(|&j| tokens[j - 1] == tokens[t]).collect();
            if !targets.is_empty() {
                self.eligible += 1;
                self.chance += targets.len() as f64 / (t + 1) as f64;
            }
            self.diversity_positions += u64::from(t >= 1);
            self.margin_positions += u64::from(t >= 3);
            for (l, (pointers, scores)) in pointers.iter().zip(&scores).enumerate() {
                let mut distinct: Vec<i32> = (0..heads).map(|h| pointers.row(t, h)[0]).collect();
                for (h, &pointer) in distinct.iter().enumerate() {
                    let hit = usize::try_from(pointer).is_ok_and(|p| targets.binary_search(&p).is_ok());
                    self.matches[l][h] += u64::from(hit);
                }
                if t >= 1 {
                    distinct.sort_unstable();
                    distinct.dedup();
                    self.diversity[l] += distinct.len() as f64 / heads.min(t + 1) as f64;
                }
                if t >= 3 {
                    for h in 0..heads {
                        let s: Vec<f64> = scores.row(t, h).iter().map(|&s| f64::from(s)).collect();
                        if let Some(&value) = s.iter().find(|score| !score.is_finite()) {
                            let path = scores.path.to_owned();
                            return Err(HealthError::NotFinite { path, step: t, head: h, value });
                        }
                        self.margins[l][h] += s[0] - (s[1] + s[2] + s[3]) / 3.0;
                    }
                }
            }
        }
        Ok(())
    }

    /// Share of eligible positions whose pointer matches; 0 if none is eligible.
    pub fn match_rates(&self) -> Vec<Vec<f64>> {
        let rate = |&n: &u64| ratio(n as f64, self.eligible);
        self.matches.iter().map(|row| row.iter().map(rate).collect()).collect()
    }

    /// The match rate of a pointer that lands anywhere.
    pub fn chance(&self) -> f64 {
        ratio(self.chance, self.eligible)
    }

    /// Mean share of distinct pointers per layer.
    pub fn diversity(&self) -> Vec<f64> {
        self.diversity.iter().map(|&sum| ratio(sum, self.diversity_positions)).collect()
    }

    /// Mean lead of the best score over the mean of the next three.
    pub fn margins(&self) -> Vec<Vec<f64>> {
        let mean = |&sum: &f64| ratio(sum, self.margin_positions);
        self.margins.iter().map(|row| row.iter().map(mean).collect()).collect()
    }
}

fn ratio(sum: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { sum / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One layer, two heads: the first points at the target, the second at itself.
    #[test]
    fn measures_of_a_small_case() {
        let tokens = [7, 8, 7, 8];
        let pointers: Vec<i32> = vec![0, 0, 0, 1, 1, 2, 2, 3];
        let scores: Vec<f32> = (0..8).flat_map(|_| [4.0, 1.0, 2.0, 0.0]).collect();
        let seen = [
            ("a.survivors".to_owned(), Tensor::i32(&[4, 2, 1], pointers)),
            ("a.top4".to_owned(), Tensor::f32(&[4, 2, 4], scores)),
        ];
        let mut measure = Measure::default();
        measure.add(&tokens, &seen).unwrap();
        assert_eq!(measure.eligible, 2);
        assert_eq!(measure.match_rates(), [[1.0, 0.0]]);
        assert_eq!(measure.diversity(), [1.0]);
        assert_eq!(measure.margins(), [[3.0, 3.0]]);
        assert!((measure.chance() - (1.0 / 3.0 + 1.0 / 4.0) / 2.0).abs() < 1e-12);
        let mut broken = seen.clone();
        broken[1].1 = Tensor::f32(&[4, 2, 4], [&[f32::NEG_INFINITY; 28][..], &[4.0, f32::NAN, 0.0, 0.0]].concat());
        let error = measure.add(&tokens, &broken).unwrap_err().to_string();
        assert_eq!(error, "the scores of `a.top4` are not finite: in step 3, counted from 0, one of head 0 is -inf");
        assert!(matches!(measure.add(&tokens, &seen[..1]), Err(HealthError::Pairs { survivors: 1, top4: 0 })));
    }
}
