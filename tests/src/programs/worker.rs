//! The process in which programs are checked.

use super::drive::check;
use super::outcome::{Job, Outcome};
use crate::workers::{self, guarded};

/// Answers jobs until the input ends.
///
/// # Errors
/// The pipes to the other process.
pub fn serve() -> std::io::Result<()> {
    workers::serve(|job: &Job, answer| answer(guarded(|| check(job)).unwrap_or_else(|text| Outcome::Panicked { text })))
}
