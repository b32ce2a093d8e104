//! From text to the elements of a stream and back: bytes are themselves, tokens come from a `tokenizer.json` of Hugging
//! Face's layout, or from ids that somebody else has made.

mod file;
mod guard;
mod patterns;
mod stages;
mod stream;
#[cfg(test)]
mod tests;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokenizers::models::ModelWrapper;
use tokenizers::{DecoderWrapper, NormalizedString, Normalizer, PostProcessorWrapper, TokenizerImpl};

use super::{Result, SessionError};
use crate::input_file;
use crate::weights::index_of;
use guard::guarded;
use patterns::{Cutter, Rewriter};
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

/// The library's tokenizer, with searches of our own.
type Library = TokenizerImpl<ModelWrapper, Rewriter, Cutter, PostProcessorWrapper, DecoderWrapper>;

/// A tokenizer of no more tokens than the model knows.
pub struct Tokenizer {
    inner: Arc<Library>,
    /// By id: whether it stands for a text. Models have more rows than tokens where the number is rounded up.
    with_text: Vec<bool>,
    stages: Vec<Stage>,
    saved: Vec<&'static str>,
    growth: f64,
    /// Whether patterns of the file are searched in texts.
    watched: bool,
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
        let mut tokenizer = Tokenizer::read(input_file::unmarked(&bytes)).map_err(wrong)?;
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
        // Its added tokens go through its normalizer already.
        let owned = bytes.to_vec();
        let read = watch::watched(bytes.len(), move || guarded(|| library(&owned)))?;
        let (inner, stages) = read.map_err(unfit)??;
        let watched = inner.get_normalizer().is_some_and(Rewriter::is_watched)
            || inner.get_pre_tokenizer().is_some_and(Cutter::is_watched);
        Ok(Tokenizer { inner: Arc::new(inner), with_text: Vec::new(), stages, saved, growth, watched })
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
        let ids = if self.watched {
            let (inner, growth, owned) = (self.inner.clone(), self.growth, text.to_owned());
            watch::watched(text.len(), move || cut(&inner, growth, &owned))
        } else {
            Ok(cut(&self.inner, self.growth, text))
        };
        ids.flatten().map_err(unreadable)
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

/// The library's tokenizer of a file without what acts in training only, and the stages of its decoder.
fn library(bytes: &[u8]) -> std::result::Result<(Library, Vec<Stage>), String> {
    let mut inner: Library = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
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
    let stages = stages::stages(inner.get_decoder())?;
    Ok((inner, stages))
}

/// The tokens of a text.
fn cut(inner: &Library, growth: f64, text: &str) -> std::result::Result<Vec<u32>, String> {
    if text.len() as f64 * growth > SURE {
        measure(inner, text)?;
    }
    patterns::given_up();
    let encoding = guarded(|| inner.encode_fast(text, false))?;
    if let Some(why) = patterns::given_up() {
        return Err(why);
    }
    Ok(encoding.map_err(|e| e.to_string())?.get_ids().to_vec())
}

/// Refuses a text that would fill the memory before it is cut into tokens; measured piece by piece.
fn measure(inner: &Library, text: &str) -> std::result::Result<(), String> {
    let Some(normalizer) = inner.get_normalizer() else { return Ok(()) };
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
        None if input_file::unmarked(text).trim_ascii().is_empty() => Ok(Vec::new()),
        None => serde_json::from_slice(input_file::unmarked(text)).map_err(|e| {
            SessionError::Text(format!(
                "this model takes tokens; without a tokenizer the text must be a JSON array of their ids: {e}"
            ))
        }),
    }
}
