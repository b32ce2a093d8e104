//! Reads the printed form of a module (spec/ir.md) back to the same graph.
//!
//! The text may come from anywhere: nesting and the sizes of constants are bounded, errors have a line and a column,
//! and what is read is still to be verified. `lexer` cuts the text, `declaration` and `region` follow the grammar,
//! `operation` has the attributes of each operation and `value` types and literals.

mod declaration;
mod lexer;
mod operation;
mod region;
#[cfg(test)]
mod tests;
mod value;

use lexer::{Lexer, Token};

use super::module::Module;
use crate::limits::Limits;

/// Regions nest at most this deep: those of the text, and the scans and groups that passes make of them.
const DEEPEST: usize = Limits::DEFAULT.regions + 4;

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ReadError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
}

/// Reads a module. The result is well-formed as a text; [`super::verify::verify`] says whether it means anything.
pub fn read_module(text: &str) -> Result<Module> {
    let mut reader = Reader::new(text)?;
    let mut module = Module::default();
    reader.module(&mut module)?;
    Ok(module)
}

struct Reader<'a> {
    lexer: Lexer<'a>,
    /// The token that comes next.
    next: Token<'a>,
    /// Where it starts.
    at: usize,
    depth: usize,
    splat: usize,
    nodes: usize,
}

type Result<T> = std::result::Result<T, ReadError>;

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Result<Reader<'a>> {
        let mut lexer = Lexer::new(text);
        let (at, next) = lexer.token()?;
        Ok(Reader { lexer, next, at, depth: 0, splat: 0, nodes: 0 })
    }

    fn advance(&mut self) -> Result<Token<'a>> {
        let (at, next) = self.lexer.token()?;
        self.at = at;
        Ok(std::mem::replace(&mut self.next, next))
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(self.lexer.error(self.at, message))
    }

    fn expected<T>(&self, what: &str) -> Result<T> {
        self.fail(format!("expected {what}, found {}", self.next))
    }

    fn is(&self, symbol: char) -> bool {
        self.next == Token::Symbol(symbol)
    }

    fn accept(&mut self, symbol: char) -> Result<bool> {
        let found = self.is(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, symbol: char) -> Result<()> {
        if self.accept(symbol)? {
            return Ok(());
        }
        self.expected(&format!("'{symbol}'"))
    }

    fn is_word(&self, word: &str) -> bool {
        self.next == Token::Word(word)
    }

    fn accept_word(&mut self, word: &str) -> Result<bool> {
        let found = self.is_word(word);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.accept_word(word)? {
            return Ok(());
        }
        self.expected(&format!("'{word}'"))
    }

    fn word(&mut self, what: &str) -> Result<&'a str> {
        match self.next {
            Token::Word(word) => {
                self.advance()?;
                Ok(word)
            }
            _ => self.expected(what),
        }
    }

    fn text(&mut self) -> Result<String> {
        match &self.next {
            Token::Text(text) => {
                let text = text.clone();
                self.advance()?;
                Ok(text)
            }
            _ => self.expected("a text in quotes"),
        }
    }

    /// A number in any Rust integer or float type, as its `FromStr` takes it.
    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T> {
        let digits = match self.next {
            Token::Number(digits) | Token::Word(digits @ ("inf" | "NaN")) => digits,
            _ => return self.expected(what),
        };
        match digits.parse() {
            Ok(value) => {
                self.advance()?;
                Ok(value)
            }
            Err(_) => self.expected(what),
        }
    }

    fn size(&mut self) -> Result<usize> {
        self.number("a size")
    }

    /// Numbers between a bracket and its counterpart.
    fn sizes(&mut self, open: char, close: char) -> Result<Vec<usize>> {
        self.expect(open)?;
        let mut sizes = Vec::new();
        while !self.is(close) {
            sizes.push(self.size()?);
            if !self.accept(',')? {
                break;
            }
        }
        self.expect(close)?;
        Ok(sizes)
    }

    /// A name made of a prefix and a number, such as `w3`.
    fn id(&mut self, prefix: &str) -> Result<u32> {
        if let Token::Word(word) = self.next
            && let Some(digits) = word.strip_prefix(prefix)
            && let Ok(id) = digits.parse()
        {
            self.advance()?;
            return Ok(id);
        }
        self.expected(&format!("{prefix} and a number"))
    }

    /// The id of a declaration, which must be the next one.
    fn next_id(&mut self, prefix: &str, declared: usize) -> Result<()> {
        if self.is_word(&format!("{prefix}{declared}")) {
            self.advance()?;
            return Ok(());
        }
        self.expected(&format!("{prefix}{declared}"))
    }
}
