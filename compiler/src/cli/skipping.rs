//! How `run --stats` and `bench` say what steps skip: the share of those that did not, and the time the others saved.

use serde_json::{Value, json};

use crate::session::{Kept, Saving};

/// The counts of one stream.
pub struct Skipping {
    /// Of the prompt, start elements included.
    pub prompt: Vec<Kept>,
    /// Of what followed, choice by choice in the same order.
    pub decode: Vec<Kept>,
    /// The times.
    pub saving: Saving,
}

/// Part of a whole in percent, where there is a whole.
fn percent(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| 100.0 * part / whole)
}

impl Skipping {
    /// Lines for people: one for each choice, and one on time.
    pub fn lines(&self) -> Vec<String> {
        let share = |kept: &Kept| match percent(kept.kept as f64, kept.steps as f64) {
            Some(percent) => format!("{percent:.1} % of {} steps", kept.steps),
            None => "no steps".into(),
        };
        let mut lines: Vec<String> = (self.prompt.iter().zip(&self.decode))
            .map(|(prompt, decode)| {
                let part = if prompt.path.is_empty() { String::new() } else { format!(", {}", prompt.path) };
                format!("kept: prompt {}, decoding {} ({}{part})", share(prompt), share(decode), prompt.place)
            })
            .collect();
        let saved = |now: f64, unskipped: f64| match percent(unskipped - now, unskipped) {
            Some(percent) => format!("{:.2} of {:.2} ms ({percent:.1} %)", (unskipped - now) * 1e3, unskipped * 1e3),
            None => "nothing".into(),
        };
        let Saving { skipping, unskipped } = self.saving;
        lines.push(format!(
            "time saved: prompt {}, decoding {}, measured against the same elements with nothing skipped",
            saved(skipping.prompt, unskipped.prompt),
            saved(skipping.decode, unskipped.decode),
        ));
        lines
    }

    /// The same as members `kept` and `time_saved` of a report.
    pub fn add_to(&self, report: &mut Value) {
        let count = |kept: &Kept| {
            let share = Some(kept.share()).filter(|s| s.is_finite());
            json!({ "steps": kept.steps, "kept": kept.kept, "share": share })
        };
        let choice = |(prompt, decode): (&Kept, &Kept)| {
            json!({
                "entry": prompt.entry, "place": prompt.place, "path": prompt.path,
                "prompt": count(prompt), "decode": count(decode),
            })
        };
        report["kept"] = self.prompt.iter().zip(&self.decode).map(choice).collect();
        let time = |now: f64, unskipped: f64| {
            let share = percent(unskipped - now, unskipped).map(|p| p / 100.0);
            json!({ "seconds": unskipped - now, "unskipped_seconds": unskipped, "share": share })
        };
        let Saving { skipping, unskipped } = self.saving;
        report["time_saved"] = json!({
            "prompt": time(skipping.prompt, unskipped.prompt),
            "decode": time(skipping.decode, unskipped.decode),
        });
    }
}
