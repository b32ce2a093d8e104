//! Diagnostics for machines: the form that `--json` prints.

use super::{Diagnostic, Diagnostics, Footer, Label, SourceFiles};
use serde_json::{Value, json};

impl Diagnostics {
    /// A JSON array, one object per diagnostic: `severity`, `code`, `title`, `count`, `places` (the
    /// guilty one first, with `file`, `line`, `column`, `end_line`, `end_column`, `start`, `end`,
    /// `text`, `primary`), `notes` and `helps`.
    pub fn to_json(&self, files: &SourceFiles) -> Value {
        self.counted().map(|(diagnostic, count)| to_json(diagnostic, count, files)).collect()
    }
}

fn to_json(diagnostic: &Diagnostic, count: usize, files: &SourceFiles) -> Value {
    let primary = diagnostic.primary.iter().map(|label| place(label, true, files));
    let secondary = diagnostic.secondary.iter().map(|label| place(label, false, files));
    let notes = diagnostic.footers.iter().filter_map(|footer| match footer {
        Footer::Note(text) => Some(text.as_str()),
        Footer::Help(_) => None,
    });
    let helps = diagnostic.footers.iter().filter_map(|footer| match footer {
        Footer::Help(text) => Some(text.as_str()),
        Footer::Note(_) => None,
    });
    json!({
        "severity": diagnostic.severity.word(),
        "code": diagnostic.code_text(),
        "title": diagnostic.title,
        "count": count,
        "places": primary.chain(secondary).collect::<Vec<_>>(),
        "notes": notes.collect::<Vec<_>>(),
        "helps": helps.collect::<Vec<_>>(),
    })
}

fn place(label: &Label, primary: bool, files: &SourceFiles) -> Value {
    let file = files.get(label.span.file);
    let start = file.position(label.span.start as usize);
    let end = file.position(label.span.end as usize);
    json!({
        "file": **file.name(),
        "line": start.line,
        "column": start.column,
        "end_line": end.line,
        "end_column": end.column,
        "start": label.span.start,
        "end": label.span.end,
        "text": label.text,
        "primary": primary,
    })
}
