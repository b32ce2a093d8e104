//! The pest parser and the small tools by which the rest of this module reads its pairs.

use super::layout::trim;
use crate::diagnostics::{Code, Diagnostic, Diagnostics, FileId, Span};
use crate::lang::ast::{Name, Text};
use pest::iterators::{Pair, Pairs};
use std::iter::Peekable;

/// Generated from `grammar.pest`.
#[derive(pest_derive::Parser)]
#[grammar = "lang/grammar.pest"]
pub struct Grammar;

/// A piece of the file being turned into syntax trees.
pub struct Builder<'a> {
    /// Which text.
    pub file: FileId,
    /// Where in the text the parsed piece begins.
    pub offset: usize,
    /// Where mistakes found on the way go.
    pub diagnostics: &'a mut Diagnostics,
    /// How deep the recursion of precedence climbing is.
    pub recursion: usize,
    /// Whether an expression was already found too deep.
    pub refused: bool,
}

impl<'a> Builder<'a> {
    /// For the piece of `file` that begins at `offset`.
    pub fn new(file: FileId, offset: usize, diagnostics: &'a mut Diagnostics) -> Self {
        Self { file, offset, diagnostics, recursion: 0, refused: false }
    }

    /// Where a pair stands, without the blanks that pest counts in.
    pub fn span(&self, pair: &Pair<'_, Rule>) -> Span {
        let span = pair.as_span();
        let range = trim(span.get_input(), span.start()..span.end());
        Span::new(self.file, range.start + self.offset..range.end + self.offset)
    }

    /// A name or word.
    pub fn name(&self, pair: &Pair<'_, Rule>) -> Name {
        Name { text: pair.as_str().trim_end().into(), span: self.span(pair) }
    }

    /// The names of a `names` pair.
    pub fn names(&self, pair: Pair<'_, Rule>) -> Vec<Name> {
        Children::of(pair).rest().map(|name| self.name(&name)).collect()
    }

    /// A text literal.
    pub fn text(&self, pair: &Pair<'_, Rule>) -> Text {
        Text { value: unquoted(pair).into(), span: self.span(pair) }
    }

    /// A word, or a text that serves as one (a quoted key).
    pub fn word_or_text(&self, pair: &Pair<'_, Rule>) -> Name {
        match pair.as_rule() {
            Rule::text => Name { text: unquoted(pair).into(), span: self.span(pair) },
            _ => self.name(pair),
        }
    }

    /// Reports a mistake that the grammar alone does not see.
    pub fn report(&mut self, code: Code, span: Span, title: &str, text: &str, help: &str) {
        self.diagnostics.push(Diagnostic::error(code, title).at(span, text).help(help));
    }
}

/// The text of a literal without its quotes.
pub fn unquoted<'i>(pair: &Pair<'i, Rule>) -> &'i str {
    pair.as_str().trim_end().trim_matches('"')
}

/// The meaningful pairs inside a pair: brackets, commas and plain keywords are left out.
pub struct Children<'i> {
    pairs: Peekable<Box<dyn Iterator<Item = Pair<'i, Rule>> + 'i>>,
}

impl<'i> Children<'i> {
    /// The children of a pair.
    pub fn of(pair: Pair<'i, Rule>) -> Self {
        Self::among(pair.into_inner())
    }

    /// The meaningful ones of these pairs.
    pub fn among(pairs: Pairs<'i, Rule>) -> Self {
        let kept: Box<dyn Iterator<Item = _>> = Box::new(pairs.filter(|p| !is_mark(p.as_rule())));
        Self { pairs: kept.peekable() }
    }

    /// The next child, which the grammar says must be there.
    pub fn next(&mut self) -> Pair<'i, Rule> {
        self.pairs.next().expect("grammar.pest and the tree builder agree")
    }

    /// The next child if it is of this rule.
    pub fn take(&mut self, rule: Rule) -> Option<Pair<'i, Rule>> {
        self.pairs.next_if(|pair| pair.as_rule() == rule)
    }

    /// The next child, if any.
    pub fn any(&mut self) -> Option<Pair<'i, Rule>> {
        self.pairs.next()
    }

    /// Everything that is left.
    pub fn rest(self) -> impl Iterator<Item = Pair<'i, Rule>> {
        self.pairs
    }
}

/// Pairs that carry no information beyond their place in the grammar.
fn is_mark(rule: Rule) -> bool {
    use Rule::*;
    matches!(
        rule,
        EOI | sep
            | open_brace
            | close_brace
            | open_paren
            | close_paren
            | open_bracket
            | close_bracket
            | comma
            | colon
            | dot
            | bar
            | equals
            | arrow
            | fat_arrow
            | k_and
            | k_at
            | k_block
            | k_config
            | k_checkpoint
            | k_else
            | k_entry
            | k_exit
            | k_for
            | k_host
            | k_if
            | k_import
            | k_in
            | k_input
            | k_match
            | k_or
            | k_output
            | k_part
            | k_preset
            | k_probe
            | k_repeat
            | k_return
            | k_state
            | k_weight
            | k_when
            | k_most
            | k_from
            | k_within
            | k_start
            | k_map
            | k_of
            | k_ignore
            | k_strip
            | k_rename
            | k_choose
            | k_as
            | k_copy
    )
}
