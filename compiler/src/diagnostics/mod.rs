//! Errors for people: codes, spans, help, and how they are drawn. Nothing else prints errors.
//!
//! A stage (reading a config, parsing, elaborating, matching a checkpoint) collects every mistake
//! it finds into [`Diagnostics`] and goes on; the caller draws them together. Every place is a
//! [`Span`] into one of the [`SourceFiles`]: graph files and JSON configs alike.

mod codes;
mod collection;
mod json;
mod nearest;
mod render;
mod source;

pub use codes::Code;
pub use collection::Diagnostics;
pub use nearest::nearest;
pub use render::{Style, render};
pub use source::{FileId, Position, SourceFile, SourceFiles, Span};

/// Whether a mistake stops the stage or is only reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The input is wrong; the stage gives no result.
    Error,
    /// Worth saying; the stage goes on.
    Warning,
}

impl Severity {
    /// The word and the letter of the code: `error` and `E`, `warning` and `W`.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A place with what is to be said about it; the text may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The text that is underlined.
    pub span: Span,
    /// What stands behind the underline.
    pub text: String,
}

/// A line below the places: `= note:` states a fact, `= help:` says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Footer {
    /// A fact that explains the mistake.
    Note(String),
    /// What the author can do about it.
    Help(String),
}

/// One mistake: a stable code, a title, the guilty place, the places that explain it, and advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The stable code, drawn as `E0301` or `W0604`.
    pub code: Code,
    /// One line, without a full stop.
    pub title: String,
    /// The guilty place, underlined with `^`. Absent when the mistake is in no text (a missing file).
    pub primary: Option<Label>,
    /// Places that explain it, underlined with `-`, drawn in this order.
    pub secondary: Vec<Label>,
    /// Notes and help, in the order in which they are drawn.
    pub footers: Vec<Footer>,
}

impl Diagnostic {
    /// An error without a place; add one with [`Diagnostic::at`].
    pub fn error(code: Code, title: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, title.into())
    }

    /// A warning without a place; add one with [`Diagnostic::at`].
    pub fn warning(code: Code, title: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, title.into())
    }

    fn new(severity: Severity, code: Code, title: String) -> Self {
        Self { severity, code, title, primary: None, secondary: Vec::new(), footers: Vec::new() }
    }

    /// The guilty place and what is said there (`""` for nothing).
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.primary = Some(Label { span, text: text.into() });
        self
    }

    /// A further place that explains the mistake.
    pub fn and_at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.secondary.push(Label { span, text: text.into() });
        self
    }

    /// A `= note:` line.
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.footers.push(Footer::Note(text.into()));
        self
    }

    /// A `= note:` line if there is something to say.
    pub fn note_if(self, text: Option<String>) -> Self {
        match text {
            Some(text) => self.note(text),
            None => self,
        }
    }

    /// A `= help:` line.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.footers.push(Footer::Help(text.into()));
        self
    }

    /// A `= help:` line if there is something to say.
    pub fn help_if(self, text: Option<String>) -> Self {
        match text {
            Some(text) => self.help(text),
            None => self,
        }
    }

    /// The code as it is drawn: `E0301`, `W0604`.
    pub fn code_text(&self) -> String {
        let letter = match self.severity {
            Severity::Error => 'E',
            Severity::Warning => 'W',
        };
        format!("{letter}{:04}", self.code.number())
    }
}
