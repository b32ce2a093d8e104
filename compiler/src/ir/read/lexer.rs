//! Cuts printed IR into tokens.

use std::fmt::{self, Display};

use super::ReadError;

/// A token of printed IR.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Word(&'a str),
    /// With its sign.
    Number(&'a str),
    Text(String),
    /// `%n`
    Value(u32),
    /// `@n`
    Origin(u32),
    Arrow,
    Symbol(char),
    End,
}

impl Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Word(word) => write!(f, "'{word}'"),
            Token::Number(digits) => write!(f, "'{digits}'"),
            Token::Text(_) => write!(f, "a text"),
            Token::Value(n) => write!(f, "'%{n}'"),
            Token::Origin(n) => write!(f, "'@{n}'"),
            Token::Arrow => write!(f, "'->'"),
            Token::Symbol(c) => write!(f, "'{c}'"),
            Token::End => write!(f, "the end"),
        }
    }
}

pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Lexer<'a> {
        Lexer { text, at: 0 }
    }

    /// An error at a byte offset.
    pub(super) fn error(&self, at: usize, message: impl Into<String>) -> ReadError {
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        ReadError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }

    /// The next token and where it starts.
    pub(super) fn token(&mut self) -> Result<(usize, Token<'a>), ReadError> {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start();
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with('#') {
                break;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
        let start = self.at;
        let rest = &self.text[start..];
        let Some(c) = rest.chars().next() else {
            return Ok((start, Token::End));
        };
        let token = match c {
            'a'..='z' | 'A'..='Z' | '_' => Token::Word(self.take(|c| c.is_ascii_alphanumeric() || c == '_')),
            '-' if rest.starts_with("->") => {
                self.at += 2;
                Token::Arrow
            }
            '-' if rest.starts_with("-inf") => {
                self.at += 4;
                Token::Number("-inf")
            }
            '0'..='9' | '-' => Token::Number(self.digits()),
            '%' | '@' => {
                self.at += 1;
                let digits = self.take(|c| c.is_ascii_digit());
                match (digits.parse(), c) {
                    (Ok(n), '%') => Token::Value(n),
                    (Ok(n), _) => Token::Origin(n),
                    _ => return Err(self.error(start, format!("expected a number after '{c}'"))),
                }
            }
            '"' => Token::Text(self.quoted(start)?),
            c => {
                self.at += c.len_utf8();
                Token::Symbol(c)
            }
        };
        Ok((start, token))
    }

    fn take(&mut self, mut belongs: impl FnMut(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn digits(&mut self) -> &'a str {
        let mut before = ' ';
        self.take(|c| {
            let sign = c == '-' && (before == ' ' || before == 'e');
            let belongs = c.is_ascii_alphanumeric() || c == '.' || sign;
            before = c;
            belongs
        })
    }

    fn quoted(&mut self, start: usize) -> Result<String, ReadError> {
        let mut text = String::new();
        let mut chars = self.text[start + 1..].char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at = start + 1 + i + 1;
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => text.push(c),
                    Some((_, 'u')) => {
                        let mut code = 0u32;
                        let mut closed = false;
                        for (_, c) in chars.by_ref().take(9) {
                            match (c, c.to_digit(16)) {
                                ('{', _) => {}
                                ('}', _) => {
                                    closed = true;
                                    break;
                                }
                                (_, Some(digit)) if code < 1 << 24 => code = code * 16 + digit,
                                _ => break,
                            }
                        }
                        match char::from_u32(code) {
                            Some(c) if closed => text.push(c),
                            _ => return Err(self.error(start, "a text with a broken \\u{..}")),
                        }
                    }
                    _ => return Err(self.error(start, "a text with an unknown escape")),
                },
                c if c.is_control() => break,
                c => text.push(c),
            }
        }
        Err(self.error(start, "a text without its closing quote"))
    }
}
