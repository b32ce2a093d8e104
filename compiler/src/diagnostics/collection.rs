//! Collects what a stage finds wrong: everything once, repetitions counted.

use super::{Code, Diagnostic, Severity, Span};
use std::collections::HashMap;

/// Diagnostics kept at most; beyond, they are only counted.
const KEPT: usize = 200;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    Place(Severity, Code, Span),
    Title(Severity, Code, String),
}

/// The mistakes of one or more stages, in the order in which they were found.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    list: Vec<(Diagnostic, usize)>,
    seen: HashMap<Identity, usize>,
    errors: usize,
    beyond: usize,
}

impl Diagnostics {
    /// Nothing wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one. Of several with one code at one place (the same line seen for twelve layers) the
    /// first is kept and the rest are counted.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let Diagnostic { severity, code, .. } = diagnostic;
        let identity = match &diagnostic.primary {
            Some(label) => Identity::Place(severity, code, label.span),
            None => Identity::Title(severity, code, diagnostic.title.clone()),
        };
        if let Some(&at) = self.seen.get(&identity) {
            self.list[at].1 += 1;
            return;
        }
        self.errors += usize::from(severity == Severity::Error);
        if self.list.len() == KEPT {
            self.beyond += 1;
            return;
        }
        self.seen.insert(identity, self.list.len());
        self.list.push((diagnostic, 1));
    }

    /// Adds all of another collection.
    pub fn append(&mut self, other: Diagnostics) {
        self.beyond += other.beyond;
        self.errors += other.beyond;
        for (diagnostic, count) in other.list {
            for _ in 0..count {
                self.push(diagnostic.clone());
            }
        }
    }

    /// Whether at least one is an error.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Different errors found.
    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// Different warnings found.
    pub fn warning_count(&self) -> usize {
        self.iter().filter(|d| d.severity == Severity::Warning).count()
    }

    /// Whether so many errors were found that further ones are only counted.
    pub fn is_full(&self) -> bool {
        self.errors >= KEPT
    }

    /// How many were found but not kept, because there were too many.
    pub fn not_kept(&self) -> usize {
        self.beyond
    }

    /// Each kept diagnostic once, in the order found.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter().map(|(diagnostic, _)| diagnostic)
    }

    /// Each kept diagnostic with how often it occurred.
    pub fn counted(&self) -> impl Iterator<Item = (&Diagnostic, usize)> {
        self.list.iter().map(|(diagnostic, count)| (diagnostic, *count))
    }

    /// The value and the warnings if there are no errors, else everything found.
    pub fn into_result<T>(self, value: T) -> Result<(T, Diagnostics), Diagnostics> {
        if self.has_errors() { Err(self) } else { Ok((value, self)) }
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(diagnostic: Diagnostic) -> Self {
        let mut all = Diagnostics::new();
        all.push(diagnostic);
        all
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<I: IntoIterator<Item = Diagnostic>>(&mut self, iter: I) {
        iter.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }
}
