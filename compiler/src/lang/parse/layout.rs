//! What comes before the grammar: brackets are matched, comments and free line breaks become blanks
//! (byte for byte, so that every offset stays true), and the text is cut into the statements of
//! model level. After it, nesting is known to be limited, so the recursive parser is safe.

use crate::diagnostics::{Code, Diagnostic, Diagnostics, FileId, Span};
use crate::limits::Limits;
use std::ops::Range;

/// Brackets that may stand inside one another.
pub const MAX_NESTING: usize = Limits::DEFAULT.nesting;

/// A text ready for the grammar.
pub struct Layout {
    /// As long as the original; comments and free line breaks are spaces.
    pub text: String,
    /// The statements of model level, trimmed, none empty.
    pub statements: Vec<Range<usize>>,
}

#[derive(Clone, Copy)]
struct Open {
    bracket: u8,
    at: usize,
}

/// Lays a text out, or reports what is wrong with its brackets and texts.
pub fn layout(text: &str, file: FileId, diagnostics: &mut Diagnostics) -> Option<Layout> {
    let mut pass = Pass {
        input: text.as_bytes(),
        output: text.as_bytes().to_vec(),
        file,
        open: Vec::new(),
        margin: None,
        wrong: false,
    };
    pass.run(diagnostics);
    if pass.wrong {
        return None;
    }
    // Only whole characters inside comments were replaced, each byte by a space.
    let text = String::from_utf8(pass.output).expect("blanks keep UTF-8 valid");
    let statements = statements(&text);
    Some(Layout { text, statements })
}

struct Pass<'a> {
    input: &'a [u8],
    output: Vec<u8>,
    file: FileId,
    open: Vec<Open>,
    /// The first line that begins an item at the left margin inside some bracket.
    margin: Option<Range<usize>>,
    wrong: bool,
}

impl Pass<'_> {
    fn run(&mut self, diagnostics: &mut Diagnostics) {
        let mut at = 0;
        if self.input.starts_with(b"\xef\xbb\xbf") {
            self.output[..3].fill(b' ');
            at = 3;
        }
        // Whether the last sign was one after which a line break is free.
        let mut goes_on = false;
        while at < self.input.len() {
            let from = at;
            match self.input[at] {
                b' ' | b'\t' | b'\r' => at += 1,
                b'\n' => {
                    let inside = self.open.last().is_some_and(|open| open.bracket != b'{');
                    if inside || goes_on {
                        self.output[at] = b' ';
                    }
                    at += 1;
                }
                b'#' => {
                    at = self.end_of_line(at);
                    self.output[from..at].fill(b' ');
                }
                b'"' => {
                    at = self.text_literal(at, diagnostics);
                    goes_on = false;
                }
                bracket @ (b'(' | b'[' | b'{') => {
                    self.open.push(Open { bracket, at });
                    if self.open.len() > MAX_NESTING {
                        self.too_deep(at, diagnostics);
                        return;
                    }
                    goes_on = false;
                    at += 1;
                }
                b')' | b']' | b'}' => {
                    self.close(at, diagnostics);
                    goes_on = false;
                    at += 1;
                }
                b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {
                    while at < self.input.len() && is_word(self.input[at]) {
                        at += 1;
                    }
                    goes_on = self.word(from..at);
                }
                sign => {
                    if self.input[at..].starts_with(b"->") {
                        self.join_before(at);
                    }
                    goes_on = b"+-*/%@<>=^,|".contains(&sign);
                    at += 1;
                }
            }
        }
        self.unclosed(diagnostics);
    }

    fn end_of_line(&self, at: usize) -> usize {
        let rest = &self.input[at..];
        at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len())
    }

    fn text_literal(&mut self, at: usize, diagnostics: &mut Diagnostics) -> usize {
        let rest = &self.input[at + 1..];
        let end = at + 1 + rest.iter().position(|&byte| matches!(byte, b'"' | b'\n')).unwrap_or(rest.len());
        match self.input.get(end) {
            Some(b'"') => end + 1,
            _ => {
                let title = "this text does not end on its line";
                let error = Diagnostic::error(Code::OpenText, title)
                    .at(Span::new(self.file, at..end), "expected a closing `\"`");
                self.report(error, diagnostics);
                end
            }
        }
    }

    /// A word; says whether the line goes on after it.
    fn word(&mut self, range: Range<usize>) -> bool {
        let word = &self.input[range.clone()];
        if word == b"else" {
            // `else` on its own line belongs to the statement before it.
            self.join_before(range.start);
        }
        let item: [&[u8]; 6] = [b"block", b"preset", b"config", b"checkpoint", b"entry", b"import"];
        let at_margin = range.start == 0 || self.input[range.start - 1] == b'\n';
        if at_margin && !self.open.is_empty() && self.margin.is_none() && item.contains(&word) {
            self.margin = Some(range.clone());
        }
        matches!(word, b"and" | b"or" | b"not" | b"in")
    }

    /// Frees the line breaks before what can only go on a statement.
    fn join_before(&mut self, at: usize) {
        let blanks = self.output[..at].iter_mut().rev();
        blanks.take_while(|byte| matches!(**byte, b' ' | b'\t' | b'\r' | b'\n')).for_each(|byte| *byte = b' ');
    }

    fn close(&mut self, at: usize, diagnostics: &mut Diagnostics) {
        let closing = self.input[at];
        let here = Span::new(self.file, at..at + 1);
        let Some(last) = self.open.pop() else {
            let title = format!("this `{}` closes nothing", closing as char);
            let error = Diagnostic::error(Code::Bracket, title).at(here, "no bracket is open here");
            return self.report(error, diagnostics);
        };
        if closes(last.bracket) == closing {
            return;
        }
        let wanted = closes(last.bracket) as char;
        let title = format!("`{}` is closed by `{}`", last.bracket as char, closing as char);
        let error = Diagnostic::error(Code::Bracket, title)
            .at(here, format!("expected `{wanted}`"))
            .and_at(Span::new(self.file, last.at..last.at + 1), "opened here");
        self.report(error, diagnostics);
        // A forgotten closing bracket: what was opened before may be what is closed here.
        if let Some(depth) = self.open.iter().rposition(|open| closes(open.bracket) == closing) {
            self.open.truncate(depth);
        } else {
            self.open.push(last);
        }
    }

    fn too_deep(&mut self, at: usize, diagnostics: &mut Diagnostics) {
        let title = format!("more than {MAX_NESTING} brackets inside one another");
        let error = Diagnostic::error(Code::TooDeep, title)
            .at(Span::new(self.file, at..at + 1), format!("bracket {}", MAX_NESTING + 1))
            .help("name an inner part of the expression and use the name");
        self.report(error, diagnostics);
    }

    fn unclosed(&mut self, diagnostics: &mut Diagnostics) {
        if self.wrong {
            return;
        }
        let Some(open) = self.open.first().copied() else {
            return;
        };
        let title = format!("this `{}` is never closed", open.bracket as char);
        let wanted = closes(open.bracket) as char;
        let mut error = Diagnostic::error(Code::Bracket, title)
            .at(Span::new(self.file, open.at..open.at + 1), format!("expected a `{wanted}`"));
        if let Some(margin) = self.margin.clone() {
            let text = "begins at the margin, so it is missing before this line";
            error = error.and_at(Span::new(self.file, margin), text);
        }
        self.report(error, diagnostics);
    }

    fn report(&mut self, error: Diagnostic, diagnostics: &mut Diagnostics) {
        self.wrong = true;
        diagnostics.push(error);
    }
}

/// The byte that closes a bracket.
fn closes(open: u8) -> u8 {
    match open {
        b'(' => b')',
        b'[' => b']',
        _ => b'}',
    }
}

/// Whether a byte may stand inside a name.
pub fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// Cuts at line breaks and `;` outside of all brackets.
fn statements(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut depth = 0usize;
    let mut in_text = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'\n' | b';' if depth == 0 => {
                found.push(start..at);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(start..text.len());
    found.iter().map(|range| trim(text, range.clone())).filter(|range| !range.is_empty()).collect()
}

/// The range without the blanks at its ends.
pub fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];
    let slice = &text[range.clone()];
    let end = range.start + slice.trim_end_matches(BLANK).len();
    let start = range.end - slice.trim_start_matches(BLANK).len();
    start.min(end)..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::SourceFiles;

    fn run(text: &str) -> (Option<Layout>, Vec<Code>) {
        let mut files = SourceFiles::new();
        let file = files.add("test.graph", text);
        let mut diagnostics = Diagnostics::new();
        let laid = layout(text, file, &mut diagnostics);
        (laid, diagnostics.iter().map(|d| d.code).collect())
    }

    fn cut(text: &str) -> Vec<String> {
        let laid = run(text).0.expect("brackets match");
        laid.statements.iter().map(|range| laid.text[range.clone()].to_string()).collect()
    }

    #[test]
    fn free_line_breaks_join() {
        assert_eq!(cut("a = b +\n c\nd = f(1,\n2) # (\n"), ["a = b +  c", "d = f(1, 2)"]);
        assert_eq!(cut("if a { x }\nelse { y }; z = 1"), ["if a { x } else { y }", "z = 1"]);
        assert_eq!(cut("a = \"#;(\" in\n b"), ["a = \"#;(\" in  b"]);
    }

    #[test]
    fn brackets_are_checked() {
        assert_eq!(run("f(a]\ng)").1, [Code::Bracket]);
        assert_eq!(run("f(a]\ng))\n{").1, [Code::Bracket, Code::Bracket]);
        assert_eq!(run("block a {\n").1, [Code::Bracket]);
        assert_eq!(run("a = \"open\n").1, [Code::OpenText]);
        assert_eq!(run(&"(".repeat(65)).1, [Code::TooDeep]);
        let deep = format!("x = {}1{}", "(".repeat(64), ")".repeat(64));
        assert_eq!(run(&deep).1, []);
    }
}
