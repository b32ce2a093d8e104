//! Draws diagnostics as text: the title, each place with its line and underline, notes and help.

use super::{Diagnostic, Diagnostics, Footer, Label, Severity, SourceFiles};
use std::fmt::Write;
use unicode_width::UnicodeWidthChar;

/// Whether to use terminal colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// No escape sequences.
    Plain,
    /// ANSI colours.
    Coloured,
}

/// Source lines are cut to about this many columns around the underline.
const WIDEST: usize = 160;
/// Columns kept before the underline when a line is cut.
const BEFORE: usize = 40;

struct Paint {
    coloured: bool,
}

impl Paint {
    fn wrap(&self, code: &str, text: &str) -> String {
        if self.coloured && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    fn severity(&self, severity: Severity, text: &str) -> String {
        let code = match severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
        };
        self.wrap(code, text)
    }

    fn frame(&self, text: &str) -> String {
        self.wrap("1;34", text)
    }

    fn bold(&self, text: &str) -> String {
        self.wrap("1", text)
    }
}

/// All diagnostics, an empty line between them, each ending with a line break; those that occurred
/// several times say how often.
pub fn render(diagnostics: &Diagnostics, files: &SourceFiles, style: Style) -> String {
    let mut out = String::new();
    for (diagnostic, count) in diagnostics.counted() {
        if !out.is_empty() {
            out.push('\n');
        }
        render_one(&mut out, diagnostic, count, files, style);
    }
    if diagnostics.not_kept() > 0 {
        let _ = writeln!(out, "\n{} more are not shown", diagnostics.not_kept());
    }
    out
}

fn render_one(out: &mut String, diagnostic: &Diagnostic, count: usize, files: &SourceFiles, style: Style) {
    let paint = Paint { coloured: style == Style::Coloured };
    let head = format!("{}[{}]", diagnostic.severity.word(), diagnostic.code_text());
    let head = paint.severity(diagnostic.severity, &head);
    let title = paint.bold(&format!(": {}", printable(&diagnostic.title)));
    let _ = writeln!(out, "{head}{title}");

    let labels: Vec<&Label> = diagnostic.primary.iter().chain(&diagnostic.secondary).collect();
    let gutter = labels.iter().map(|label| files.position(label.span).line.to_string().len()).max().unwrap_or(1);
    for (index, label) in labels.iter().enumerate() {
        let primary = index == 0 && diagnostic.primary.is_some();
        place(out, label, primary, index == 0, gutter, diagnostic.severity, files, &paint);
    }
    for footer in &diagnostic.footers {
        let (word, text) = match footer {
            Footer::Note(text) => ("note", text),
            Footer::Help(text) => ("help", text),
        };
        footer_line(out, gutter, word, text, &paint);
    }
    if count > 1 {
        let again = format!("found {count} times, shown once");
        footer_line(out, gutter, "note", &again, &paint);
    }
}

fn footer_line(out: &mut String, gutter: usize, word: &str, text: &str, paint: &Paint) {
    let (bar, word) = (paint.frame("="), paint.bold(&format!("{word}:")));
    let _ = writeln!(out, "{:gutter$} {bar} {word} {}", "", printable(text));
}

#[allow(clippy::too_many_arguments)]
fn place(
    out: &mut String,
    label: &Label,
    primary: bool,
    first: bool,
    gutter: usize,
    severity: Severity,
    files: &SourceFiles,
    paint: &Paint,
) {
    let file = files.get(label.span.file);
    let at = files.position(label.span);
    let arrow = paint.frame(if first { "-->" } else { ":::" });
    let bar = paint.frame("|");
    let name = printable(file.name());
    let _ = writeln!(out, "{:gutter$}{arrow} {name}:{}:{}", "", at.line, at.column);
    let _ = writeln!(out, "{:gutter$} {bar}", "");

    let range = file.line_range(at.line);
    let line = &file.text()[range.clone()];
    let start = file.clip(label.span.start as usize).clamp(range.start, range.end) - range.start;
    let end = file.clip(label.span.end as usize).clamp(range.start, range.end) - range.start;
    let shown = cut(line, start, end.max(start));
    let number = paint.frame(&format!("{:>gutter$}", at.line));
    let _ = writeln!(out, "{number} {bar} {}", shown.text.trim_end());

    let mark = if primary { "^" } else { "-" }.repeat(shown.underline.max(1));
    let text = printable(&label.text);
    let mut tail = format!("{mark} {text}").trim_end().to_string();
    tail = if primary { paint.severity(severity, &tail) } else { paint.frame(&tail) };
    let _ = writeln!(out, "{:gutter$} {bar} {:2$}{tail}", "", "", shown.before);
}

struct Shown {
    text: String,
    /// Columns before the underline, and its length.
    before: usize,
    underline: usize,
}

/// The part of a line that is drawn, with the underline's place in it. Long lines (a config on one
/// line) are cut; control characters become visible ones, so that no file can steer the terminal.
fn cut(line: &str, start: usize, end: usize) -> Shown {
    let width = |text: &str| text.chars().map(columns).sum::<usize>();
    let total = if line.len() > 4 * WIDEST { WIDEST + 1 } else { width(line) };
    if total <= WIDEST {
        let (before, underline) = (width(&line[..start]), width(&line[start..end]));
        return Shown { text: printable(line), before, underline };
    }
    let from = if start > BEFORE { boundary(line, start - BEFORE) } else { 0 };
    let to = boundary(line, (from + WIDEST).min(line.len())).max(from);
    let (lead, trail) = (if from > 0 { "..." } else { "" }, if to < line.len() { "..." } else { "" });
    let end = end.min(to).max(start);
    Shown {
        text: format!("{lead}{}{trail}", printable(&line[from..to])),
        before: lead.len() + width(&line[from..start]),
        underline: width(&line[start..end]),
    }
}

fn boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn visible(character: char) -> char {
    match character {
        '\t' => ' ',
        // Bidirectional overrides could make a line read otherwise than it is.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

fn columns(character: char) -> usize {
    visible(character).width().unwrap_or(0)
}

fn printable(text: &str) -> String {
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Code, FileId, Span};
    use super::*;

    struct Texts(SourceFiles);

    impl Texts {
        /// A file with one line at the given number, and where `part` stands in it.
        fn line(&mut self, name: &str, number: usize, line: &str, part: &str) -> Span {
            let text = format!("{}{line}\n", "\n".repeat(number - 1));
            let start = text.find(part).expect("the part is in the line");
            Span::new(self.0.add(name, text), start..start + part.len())
        }

        fn shown(&self, diagnostic: Diagnostic) -> String {
            render(&diagnostic.into(), &self.0, Style::Plain)
        }
    }

    #[test]
    fn a_place_with_help() {
        let mut texts = Texts(SourceFiles::new());
        let span = texts.line("cpu1.graph", 71, "  state h: f32[d_modle] = 0", "d_modle");
        let error = Diagnostic::error(Code::UnknownName, "unknown name `d_modle`")
            .at(span, "not found here, in cpu1 or in std")
            .help("nearest name: `d_model` (config key, line 5)");
        let expected = "\
error[E0301]: unknown name `d_modle`
  --> cpu1.graph:71:16
   |
71 |   state h: f32[d_modle] = 0
   |                ^^^^^^^ not found here, in cpu1 or in std
   = help: nearest name: `d_model` (config key, line 5)
";
        assert_eq!(texts.shown(error), expected);
    }

    #[test]
    fn several_places_and_footers() {
        let mut texts = Texts(SourceFiles::new());
        let first = texts.line("cpu1.graph", 211, "  weight pos: F[P, l]", "F[P, l]");
        let key = "  patch_size:  int in 1.. = if bytes { 4 } else { 1 }";
        let second = texts.line("cpu1.graph", 8, key, "patch_size");
        let title = "lbd.pos is [8, 128] in the checkpoint, the graph needs [4, 128]";
        let error = Diagnostic::error(Code::TensorShape, title)
            .at(first, "[P, l] = [4, 128]")
            .and_at(second, "P = patch_size = 4, by default")
            .note("checkpoint_run_07_final.pt, tensor lbd.pos, bf16, 2048 bytes at offset 41216")
            .help("if the model was trained with patches of 8, say `\"patch_size\": 8` in the config");
        let expected = "\
error[E0702]: lbd.pos is [8, 128] in the checkpoint, the graph needs [4, 128]
   --> cpu1.graph:211:15
    |
211 |   weight pos: F[P, l]
    |               ^^^^^^^ [P, l] = [4, 128]
   ::: cpu1.graph:8:3
    |
  8 |   patch_size:  int in 1.. = if bytes { 4 } else { 1 }
    |   ---------- P = patch_size = 4, by default
    = note: checkpoint_run_07_final.pt, tensor lbd.pos, bf16, 2048 bytes at offset 41216
    = help: if the model was trained with patches of 8, say `\"patch_size\": 8` in the config
";
        assert_eq!(texts.shown(error), expected);
    }

    #[test]
    fn an_unknown_key() {
        let mut texts = Texts(SourceFiles::new());
        let line = "  \"fp_residual_rnk\": 4,";
        let span = texts.line("run_07.json", 14, line, "\"fp_residual_rnk\"");
        let value = crate::config::Json { kind: crate::config::JsonKind::Int(4), span };
        let property = crate::config::Property { key: "fp_residual_rnk".into(), key_span: span, value };
        let keys = ["d_model", "n_layers", "d_ff", "n_heads", "tokenizer", "fp_residual_rank"];
        let error = property.unknown("cpu1", &keys, |_| "int, 0 or more, default 0".to_string());
        let expected = "\
error[E0601]: `fp_residual_rnk` is not a key of cpu1
  --> run_07.json:14:3
   |
14 |   \"fp_residual_rnk\": 4,
   |   ^^^^^^^^^^^^^^^^^
   = help: nearest key: `fp_residual_rank` (int, 0 or more, default 0)
   = note: keys at this level: d_model, n_layers, d_ff, n_heads, tokenizer, ...
";
        assert_eq!(texts.shown(error), expected);
    }

    #[test]
    fn warnings_count_and_colours() {
        let mut texts = Texts(SourceFiles::new());
        let span = texts.line("a.json", 1, "[1]", "1");
        let warning = Diagnostic::warning(Code::Claim, "says 1").at(span, "counted: 2");
        let mut all = Diagnostics::new();
        all.extend([warning.clone(), warning]);
        assert!(!all.has_errors());
        let plain = render(&all, &texts.0, Style::Plain);
        assert!(plain.starts_with("warning[W0604]: says 1\n"), "{plain}");
        assert!(plain.ends_with("  = note: found 2 times, shown once\n"), "{plain}");
        let coloured = render(&all, &texts.0, Style::Coloured);
        assert!(coloured.contains("\x1b[1;33mwarning[W0604]\x1b[0m"));
        let json = all.to_json(&texts.0);
        assert_eq!(json[0]["code"], "W0604");
        assert_eq!(json[0]["places"][0]["column"], 2);
        assert_eq!(json[0]["count"], 2);
    }

    #[test]
    fn hostile_lines_are_cut_and_cleaned() {
        let mut texts = Texts(SourceFiles::new());
        let long = format!("{}\x1b[31mkey{}", "ä".repeat(5000), "z".repeat(5000));
        let span = texts.line("a.json", 1, &long, "key");
        let shown = texts.shown(Diagnostic::error(Code::Json, "t").at(span, ""));
        assert!(!shown.contains('\x1b'));
        assert!(shown.lines().all(|line| line.chars().count() < 220), "{shown}");
        let lines: Vec<Vec<char>> = shown.lines().map(|line| line.chars().collect()).collect();
        let under = lines[4].iter().position(|&c| c == '^').unwrap();
        assert_eq!(lines[3][under..under + 3].iter().collect::<String>(), "key");
    }

    #[test]
    fn any_span_is_drawn() {
        let mut files = SourceFiles::new();
        let file = files.add("a", "é\n\n\tb\r\n");
        for start in 0..12 {
            for end in 0..12 {
                let span = Span { file: FileId(file.0), start, end };
                let error = Diagnostic::error(Code::Syntax, "x").at(span, "y");
                assert!(render(&error.into(), &files, Style::Plain).contains("^ y"));
            }
        }
    }
}
