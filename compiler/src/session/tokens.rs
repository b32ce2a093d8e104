//! From text to the elements of a stream and back: bytes are themselves, tokens come from a `tokenizer.json` of Hugging
//! Face's layout, or from ids that somebody else has made.

use std::path::{Path, PathBuf};

use super::{Result, SessionError};

/// The name under which a tokenizer lies beside a config or a checkpoint.
const FILE: &str = "tokenizer.json";

/// A tokenizer with as many tokens as the model knows.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
}

impl Tokenizer {
    /// Reads a tokenizer for a model of `vocabulary` tokens.
    ///
    /// # Errors
    /// The file cannot be read, is no tokenizer, or has another number of tokens.
    pub fn open(path: &Path, vocabulary: usize) -> Result<Tokenizer> {
        let bytes = std::fs::read(path).map_err(|source| SessionError::Read { path: path.into(), source })?;
        let wrong = |what: String| SessionError::Tokenizer { path: path.into(), what };
        let inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| wrong(e.to_string()))?;
        let found = inner.get_vocab_size(true);
        if found != vocabulary {
            return Err(wrong(format!("it has {found} tokens, the model {vocabulary}")));
        }
        Ok(Tokenizer { inner })
    }

    /// The tokens of a text, nothing added in front or behind.
    ///
    /// # Errors
    /// The tokenizer cannot read the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode(text, false).map_err(|e| SessionError::Text(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens; unknown ones and parts of characters are replaced.
    pub fn decode(&self, tokens: &[u32]) -> String {
        self.inner.decode(tokens, false).unwrap_or_else(|_| char::REPLACEMENT_CHARACTER.to_string())
    }

    /// Passes tokens on as text as soon as their characters are whole.
    pub fn stream(&self) -> TokenStream<'_> {
        TokenStream { tokenizer: self, held: Vec::new(), shown: 0 }
    }
}

/// Collects tokens until they are characters.
pub struct TokenStream<'t> {
    tokenizer: &'t Tokenizer,
    held: Vec<u32>,
    /// Bytes of the held tokens' text that have been given out.
    shown: usize,
}

impl TokenStream<'_> {
    /// Takes a token and gives the text that is now certain.
    pub fn push(&mut self, token: u32) -> String {
        self.held.push(token);
        let text = self.tokenizer.decode(&self.held);
        // A character may still be under way; four tokens are the most that one can take.
        let whole = if text.ends_with(char::REPLACEMENT_CHARACTER) && !self.stuck() { self.shown } else { text.len() };
        let new = text.get(self.shown..whole).unwrap_or_default().to_owned();
        self.shown = whole.max(self.shown);
        // What came before the last token matters to decoders only as its left neighbour.
        if self.shown == text.len() && self.held.len() > 64 {
            self.held.drain(..self.held.len() - 1);
            self.shown = self.tokenizer.decode(&self.held).len();
        }
        new
    }

    /// Whether the last tokens are no character, however one goes on.
    fn stuck(&self) -> bool {
        let tail = &self.held[self.held.len().saturating_sub(4)..];
        tail.len() == 4 && self.tokenizer.decode(tail).chars().all(|c| c == char::REPLACEMENT_CHARACTER)
    }

    /// What is left at the end.
    pub fn finish(&mut self) -> String {
        let text = self.tokenizer.decode(&self.held);
        let rest = text.get(self.shown..).unwrap_or_default().to_owned();
        self.held.clear();
        self.shown = 0;
        rest
    }
}

/// The tokenizer asked for, else the one beside any of these files.
pub fn find_tokenizer<'a>(asked: Option<&Path>, files: impl IntoIterator<Item = &'a Path>) -> Option<PathBuf> {
    let beside = || files.into_iter().map(|file| file.with_file_name(FILE)).find(|path| path.is_file());
    asked.map(Path::to_owned).or_else(beside)
}

/// The elements of a text for a model: its bytes, or tokens.
///
/// # Errors
/// A token model and neither a tokenizer nor a JSON array of ids; text for a tokenizer that is no UTF-8.
pub fn elements(text: &[u8], bytes: bool, tokenizer: Option<&Tokenizer>) -> Result<Vec<u32>> {
    match tokenizer {
        _ if bytes => Ok(text.iter().map(|&b| u32::from(b)).collect()),
        Some(tokenizer) => match std::str::from_utf8(text) {
            Ok(text) => tokenizer.encode(text),
            Err(error) => Err(SessionError::Text(error.to_string())),
        },
        None if text.trim_ascii().is_empty() => Ok(Vec::new()),
        None => serde_json::from_slice(text).map_err(|e| {
            SessionError::Text(format!(
                "this model takes tokens; without a tokenizer the text must be a JSON array of their ids: {e}"
            ))
        }),
    }
}
