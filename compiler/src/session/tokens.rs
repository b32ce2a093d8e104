//! From text to the elements of a stream and back: bytes are themselves, tokens come from a `tokenizer.json` of Hugging
//! Face's layout, or from ids that somebody else has made.

mod file;
mod guard;
mod stages;
mod stream;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use tokenizers::models::ModelWrapper;
use tokenizers::{NormalizedString, Normalizer, PostProcessorWrapper};

use super::{Result, SessionError};
use crate::input_file;
use crate::weights::index_of;
use guard::guarded;
use stages::Stage;
pub use stream::TokenStream;

/// The name under which a tokenizer lies beside a config or a checkpoint.
pub(super) const TOKENIZER_FILE: &str = "tokenizer.json";

/// Bytes that a text may have before anything is measured.
const SURE: f64 = 256e6;
/// Bytes of a text that are measured at once.
const PIECE: usize = 256;
/// How many times as long as it is a long text may become.
const MAX_GROWTH: usize = 8;

/// A tokenizer of no more tokens than the model knows.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// By id: whether it stands for a text. Models have more rows than tokens where the number is rounded up.
    with_text: Vec<bool>,
    stages: Vec<Stage>,
    saved: Vec<&'static str>,
    growth: f64,
}

impl Tokenizer {
    /// Reads a tokenizer for a model of `vocabulary` tokens. What the file saves for training does not act: neither
    /// truncation, nor padding, nor dropout, nor what is added in front and behind.
    ///
    /// # Errors
    /// The file cannot be read, is no tokenizer, or has tokens that the model does not know.
    pub fn open(path: &Path, vocabulary: usize) -> Result<Tokenizer> {
        let bytes = input_file::read(path, input_file::TOKENIZER)
            .map_err(|source| SessionError::Read { path: path.into(), source })?;
        let wrong = |what: String| SessionError::Tokenizer { path: path.into(), what };
        let mut tokenizer = Tokenizer::read(&bytes).map_err(wrong)?;
        let ids = tokenizer.inner.get_vocab(true);
        if ids.len() > vocabulary {
            return Err(wrong(format!("it has {} tokens, the model {vocabulary}", ids.len())));
        }
        if let Some((token, id)) = ids.iter().find(|&(_, &id)| id as usize >= vocabulary) {
            return Err(wrong(format!("token `{token}` is number {id}, the model has {vocabulary}")));
        }
        tokenizer.with_text = vec![false; vocabulary];
        ids.values().for_each(|&id| tokenizer.with_text[id as usize] = true);
        Ok(tokenizer)
    }

    fn read(bytes: &[u8]) -> std::result::Result<Tokenizer, String> {
        let file::Checked { saved, growth } = file::check(bytes)?;
        let unfit = |words: String| format!("its parts do not fit together: {words}");
        guarded(|| {
            let mut inner = tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| e.to_string())?;
            inner.with_truncation(None).map_err(|e| e.to_string())?;
            inner.with_padding(None);
            inner.with_post_processor(None::<PostProcessorWrapper>);
            if let ModelWrapper::BPE(bpe) = inner.get_model()
                && bpe.dropout.is_some()
            {
                let mut bpe = bpe.clone();
                bpe.dropout = None;
                inner.with_model(bpe);
            }
            let stages = stages::stages(&inner);
            Ok(Tokenizer { inner, with_text: Vec::new(), stages, saved, growth })
        })
        .map_err(unfit)?
    }

    /// By id of the model: whether it stands for a text. The others are nothing that could be shown.
    pub fn with_text(&self) -> &[bool] {
        &self.with_text
    }

    /// What the file saves for training and what therefore does not act.
    pub fn saved(&self) -> &[&'static str] {
        &self.saved
    }

    /// The tokens of a text, nothing added in front or behind.
    ///
    /// # Errors
    /// The tokenizer cannot read the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let unreadable = |what: String| SessionError::Text(format!("the tokenizer cannot read the text: {what}"));
        if text.len() as f64 * self.growth > SURE {
            self.measure(text).map_err(unreadable)?;
        }
        let encoding = guarded(|| self.inner.encode_fast(text, false)).map_err(unreadable)?;
        Ok(encoding.map_err(|e| unreadable(e.to_string()))?.get_ids().to_vec())
    }

    /// Refuses a text that would fill the memory before it is cut into tokens; measured piece by piece.
    fn measure(&self, text: &str) -> std::result::Result<(), String> {
        let Some(normalizer) = self.inner.get_normalizer() else { return Ok(()) };
        let (mut rest, mut length) = (text, 0);
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.floor_char_boundary(PIECE));
            rest = later;
            length += guarded(|| {
                let mut piece = NormalizedString::from(piece);
                normalizer.normalize(&mut piece).map_err(|e| e.to_string())?;
                Ok::<usize, String>(piece.len())
            })??;
            if length > text.len().saturating_mul(MAX_GROWTH) {
                return Err(format!("its normalizer makes it more than {MAX_GROWTH} times as long"));
            }
        }
        Ok(())
    }

    /// The text of a token as the vocabulary has it.
    fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The text of tokens. What is no character is replaced, and tokens without text give none.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut stream = self.stream();
        let mut text: String = tokens.iter().map(|&token| stream.push(token)).collect();
        text.push_str(&stream.finish());
        text
    }

    /// Passes tokens on as text as soon as it is certain.
    pub fn stream(&self) -> TokenStream<'_> {
        TokenStream::new(self, self.stages.clone())
    }
}

/// The tokenizer asked for, else the one beside any of these files.
pub fn find_tokenizer<'a>(asked: Option<&Path>, files: impl IntoIterator<Item = &'a Path>) -> Option<PathBuf> {
    let beside =
        || files.into_iter().map(|file| index_of(file).with_file_name(TOKENIZER_FILE)).find(|path| path.is_file());
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
