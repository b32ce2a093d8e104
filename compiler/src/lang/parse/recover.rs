//! Parses one statement of model level. After a mistake the innermost statement that holds it is
//! blanked out and the rest is parsed again, so that several mistakes in one block are all reported.

use super::expected;
use super::layout::{Layout, trim};
use super::tree::{Builder, Children, Grammar, Rule};
use crate::diagnostics::{Diagnostics, FileId};
use pest::Parser;
use pest::error::InputLocation;
use pest::iterators::Pair;
use std::ops::Range;

/// Mistakes looked for in one statement of model level; each costs one more parse of it.
const MOST: usize = 16;

/// What is needed to go on after a mistake.
pub struct Recover<'a> {
    /// The text; wrong statements are blanked out in it.
    pub laid: &'a mut Layout,
    /// Which text.
    pub file: FileId,
    /// Where mistakes go.
    pub diagnostics: &'a mut Diagnostics,
}

impl Recover<'_> {
    /// Parses `range` by `rule` and hands the one pair inside to `build`, or reports what is wrong.
    pub fn statement(&mut self, rule: Rule, range: Range<usize>, build: impl FnOnce(Pair<'_, Rule>, &mut Builder<'_>)) {
        // The first place where a further mistake is believed to be one of its own.
        let mut believed = range.start;
        for _ in 0..MOST {
            let error = match Grammar::parse(rule, &self.laid.text[range.clone()]) {
                Ok(pairs) => {
                    let mut builder = Builder::new(self.file, range.start, self.diagnostics);
                    let whole = Children::among(pairs).next();
                    return build(Children::of(whole).next(), &mut builder);
                }
                Err(error) => error,
            };
            let at = range.start
                + match error.location {
                    InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
                };
            if at < believed {
                return;
            }
            let context = expected::Context {
                text: &self.laid.text,
                statement: inner_statement(&self.laid.text, &range, at),
                file: self.file,
            };
            self.diagnostics.push(expected::describe(&error, at, &context));
            let wrong = context.statement;
            if wrong.is_empty() || wrong.start <= range.start {
                return;
            }
            believed = blank(&mut self.laid.text, &wrong, range.end);
        }
    }
}

/// The innermost statement around `at`: from the last separator or `{` before it to the next
/// separator or closing bracket of the same level.
fn inner_statement(text: &str, range: &Range<usize>, at: usize) -> Range<usize> {
    let mut starts = vec![range.start];
    let mut in_text = false;
    for (offset, byte) in text.as_bytes()[range.start..at].iter().enumerate() {
        let next = range.start + offset + 1;
        match byte {
            b'"' => in_text = !in_text,
            _ if in_text => {}
            // Only braces hold statements; the start of the statement outside is kept for the others.
            b'{' => starts.push(next),
            b'(' | b'[' => starts.push(*starts.last().unwrap_or(&next)),
            b'}' | b')' | b']' if starts.len() > 1 => drop(starts.pop()),
            b'\n' | b';' => *starts.last_mut().expect("never empty") = next,
            _ => {}
        }
    }
    let start = *starts.last().expect("never empty");
    let mut depth = 0usize;
    // Brackets opened between the start of the statement and the mistake close inside of it.
    let mut open = open_between(&text.as_bytes()[start..at]);
    let mut end = range.end;
    for (offset, byte) in text.as_bytes()[at..range.end].iter().enumerate() {
        match byte {
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' if depth > 0 => depth -= 1,
            b'}' | b')' | b']' if open > 0 => open -= 1,
            b'}' | b')' | b']' => {
                end = at + offset;
                break;
            }
            b'\n' | b';' if depth == 0 && open == 0 => {
                end = at + offset;
                break;
            }
            _ => {}
        }
    }
    trim(text, start..end.max(start))
}

fn open_between(bytes: &[u8]) -> usize {
    let mut open = 0usize;
    let mut in_text = false;
    for byte in bytes {
        match byte {
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'(' | b'[' => open += 1,
            b'}' | b')' | b']' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    open
}

/// Replaces a range by spaces and says where the next mistake may be believed: behind whatever
/// follows the range at once, since that may miss what was blanked out.
fn blank(text: &mut String, range: &Range<usize>, limit: usize) -> usize {
    text.replace_range(range.clone(), &" ".repeat(range.len()));
    let rest = &text[range.end..limit];
    range.end + (rest.len() - rest.trim_start().len()) + 1
}
