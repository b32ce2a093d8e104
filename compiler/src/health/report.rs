//! The document that pointer health is written as: a sidecar of the checkpoint.

use serde::Serialize;

use super::measure::Measure;

/// A head whose match rate is at least this is a specialist.
pub const SPECIALIST: f64 = 0.05;
/// Heads listed by rank.
const LISTED: usize = 16;

/// The sequences measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probe {
    pub kind: &'static str,
    pub n_sequences: usize,
    pub seq_len: usize,
    pub seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reps: Option<usize>,
}

/// What is known of the model besides its pointers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subject {
    /// Name of the checkpoint's file, if there is one.
    pub checkpoint: Option<String>,
    pub model: String,
    pub step: Option<u64>,
    pub val_bpc: Option<f64>,
}

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    format: &'static str,
    version: u32,
    checkpoint: Option<String>,
    model: String,
    step: Option<u64>,
    val_bpc: Option<f64>,
    pub n_layers: usize,
    pub n_heads: usize,
    probe: Probe,
    pub ipmr: Induction,
    pub hdr: Diversity,
    pub m4: Margin,
}

/// Induction pointer match rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Induction {
    pub matrix: Vec<Vec<f64>>,
    matches: Vec<Vec<u64>>,
    pub eligible: u64,
    pub chance: f64,
    pub top: Vec<Head>,
    specialist_threshold: f64,
    pub specialists: usize,
}

/// One head with its match rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Head {
    pub layer: usize,
    pub head: usize,
    pub ipmr: f64,
}

/// Head diversity ratio.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diversity {
    per_layer: Vec<f64>,
    pub mean: f64,
}

/// Mean lead of the best score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Margin {
    matrix: Vec<Vec<f64>>,
    pub mean: f64,
}

impl Report {
    /// Writes up what was measured.
    pub fn new(subject: Subject, probe: Probe, measure: &Measure) -> Report {
        let rates = measure.match_rates();
        let by_head = |(layer, row): (usize, &Vec<f64>)| -> Vec<Head> {
            row.iter().enumerate().map(|(head, &ipmr)| Head { layer, head, ipmr }).collect()
        };
        let mut top: Vec<Head> = rates.iter().enumerate().flat_map(by_head).collect();
        // The sort is stable, so that heads of one rate stay in order.
        top.sort_by(|a, b| b.ipmr.total_cmp(&a.ipmr));
        let specialists = top.iter().filter(|h| h.ipmr >= SPECIALIST).count();
        top.truncate(LISTED);
        let (diversity, margins) = (measure.diversity(), measure.margins());
        Report {
            format: "pointer_health",
            version: 1,
            checkpoint: subject.checkpoint,
            model: subject.model,
            step: subject.step,
            val_bpc: subject.val_bpc,
            n_layers: rates.len(),
            n_heads: rates.first().map_or(0, Vec::len),
            probe,
            ipmr: Induction {
                matrix: rates,
                matches: measure.matches.clone(),
                eligible: measure.eligible,
                chance: measure.chance(),
                top,
                specialist_threshold: SPECIALIST,
                specialists,
            },
            hdr: Diversity { mean: mean(diversity.iter().copied()), per_layer: diversity },
            m4: Margin { mean: mean(margins.iter().flatten().copied()), matrix: margins },
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / f64::from(count) }
}
