//! The patterns of a tokenizer file: where a text is cut, and what is replaced in it.
//!
//! Patterns that look around or refer back are searched by going back over the text, which may take longer than anybody
//! waits, and the library takes a search that was given up for one that found nothing: the rest of the text stays in
//! one piece. Here such a search is an error that names the pattern. The parts that search are therefore made here, of
//! those that the library reads; all others stay the library's.

use std::cell::RefCell;
use std::sync::Arc;

use fancy_regex::{Regex, RegexBuilder};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tokenizers::pattern::{Invert, Pattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{
    NormalizedString, Normalizer, NormalizerWrapper, Offsets, PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
    SplitDelimiterBehavior,
};

use super::watch::Search;

/// How often a search may go back: so often in any text, and so often for each byte of a long one. Each place where
/// nothing is found counts once, so a long text needs more.
const RETURNS: usize = 1_000_000;
const RETURNS_PER_BYTE: usize = 16;

/// How GPT-2 cuts words; the library has it, but shows it nowhere.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

thread_local! {
    /// Why the last search of this thread that was given up was.
    static GIVEN_UP: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Why a search of this thread was given up since this was asked last. The library drops the errors of normalizers.
pub(super) fn given_up() -> Option<String> {
    GIVEN_UP.take()
}

/// A pattern whose search ends.
#[derive(Debug)]
pub(super) struct Bounded {
    pattern: String,
    /// In which part of the file it stands, and how it begins.
    name: Arc<str>,
    regex: Regex,
    watched: bool,
}

impl Bounded {
    fn new(part: &'static str, pattern: &str, watched: bool) -> Result<Bounded, String> {
        let name: Arc<str> = format!("{part}: the pattern `{}`", short(pattern)).into();
        let regex = build(pattern, RETURNS).map_err(|e| format!("{name}: {e}"))?;
        Ok(Bounded { pattern: pattern.to_owned(), name, regex, watched })
    }
}

fn build(pattern: &str, returns: usize) -> Result<Regex, Box<fancy_regex::Error>> {
    RegexBuilder::new(pattern).backtrack_limit(returns).build().map_err(Box::new)
}

fn short(pattern: &str) -> String {
    const MOST: usize = 80;
    let shown: String = pattern.chars().take(MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if pattern.chars().nth(MOST).is_some() { shown + "…" } else { shown }
}

impl Pattern for &Bounded {
    fn find_matches(&self, inside: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        if inside.is_empty() {
            return Ok(vec![((0, 0), false)]);
        }
        let returns = inside.len().saturating_mul(RETURNS_PER_BYTE);
        let for_long = if returns > RETURNS { Some(build(&self.pattern, returns)?) } else { None };
        let search = self.watched.then(|| Search::begin(self.name.clone()));
        let given_up = |why: &str| {
            let why = format!("{} is given up{why}", self.name);
            GIVEN_UP.set(Some(why.clone()));
            why
        };
        let (mut pieces, mut end) = (Vec::new(), 0);
        for found in for_long.as_ref().unwrap_or(&self.regex).find_iter(inside) {
            let found = found.map_err(|error| given_up(&format!(": {error}")))?;
            if search.as_ref().is_some_and(|search| !search.goes_on()) {
                return Err(given_up("").into());
            }
            if end != found.start() {
                pieces.push(((end, found.start()), false));
            }
            pieces.push(((found.start(), found.end()), true));
            end = found.end();
        }
        if end != inside.len() {
            pieces.push(((end, inside.len()), false));
        }
        Ok(pieces)
    }
}

/// What cuts a text into words.
#[derive(Debug)]
pub(super) enum Cutter {
    Pattern {
        pattern: Bounded,
        behavior: SplitDelimiterBehavior,
        invert: bool,
    },
    /// Words of GPT-2, and a character for each byte.
    Words {
        pattern: Bounded,
        leading_space: bool,
    },
    Sequence(Vec<Cutter>),
    Other(PreTokenizerWrapper),
}

impl Cutter {
    /// Whether a pattern of the file is searched.
    pub fn is_watched(&self) -> bool {
        match self {
            Cutter::Pattern { pattern, .. } => pattern.watched,
            Cutter::Sequence(parts) => parts.iter().any(Cutter::is_watched),
            Cutter::Words { .. } | Cutter::Other(_) => false,
        }
    }
}

impl TryFrom<PreTokenizerWrapper> for Cutter {
    type Error = String;

    fn try_from(part: PreTokenizerWrapper) -> Result<Cutter, String> {
        Ok(match part {
            PreTokenizerWrapper::Split(split) if matches!(split.pattern, SplitPattern::Regex(_)) => {
                let (SplitPattern::Regex(pattern) | SplitPattern::String(pattern)) = &split.pattern;
                let pattern = Bounded::new("pre_tokenizer", pattern, true)?;
                Cutter::Pattern { pattern, behavior: split.behavior, invert: split.invert }
            }
            PreTokenizerWrapper::ByteLevel(bytes) if bytes.use_regex => {
                let pattern = Bounded::new("pre_tokenizer", WORDS, false)?;
                Cutter::Words { pattern, leading_space: bytes.add_prefix_space }
            }
            PreTokenizerWrapper::Sequence(parts) => {
                Cutter::Sequence(parts.into_iter().map(Cutter::try_from).collect::<Result<_, _>>()?)
            }
            other => Cutter::Other(other),
        })
    }
}

impl<'de> Deserialize<'de> for Cutter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Cutter, D::Error> {
        Cutter::try_from(PreTokenizerWrapper::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl PreTokenizer for Cutter {
    fn pre_tokenize(&self, text: &mut PreTokenizedString) -> tokenizers::Result<()> {
        match self {
            Cutter::Pattern { pattern, behavior, invert: true } => {
                text.split(|_, piece| piece.split(Invert(pattern), *behavior))
            }
            Cutter::Pattern { pattern, behavior, invert: false } => {
                text.split(|_, piece| piece.split(pattern, *behavior))
            }
            Cutter::Words { pattern, leading_space } => {
                text.split(|_, mut piece| {
                    if *leading_space && !piece.get().starts_with(' ') {
                        piece.prepend(" ");
                    }
                    piece.split(pattern, SplitDelimiterBehavior::Isolated)
                })?;
                ByteLevel::new(false, true, false).pre_tokenize(text)
            }
            Cutter::Sequence(parts) => parts.iter().try_for_each(|part| part.pre_tokenize(text)),
            Cutter::Other(part) => part.pre_tokenize(text),
        }
    }
}

/// What a text goes through before it is cut.
#[derive(Debug)]
pub(super) enum Rewriter {
    Pattern { pattern: Bounded, content: String },
    Sequence(Vec<Rewriter>),
    Other(NormalizerWrapper),
}

impl Rewriter {
    /// Whether a pattern of the file is searched.
    pub fn is_watched(&self) -> bool {
        match self {
            Rewriter::Pattern { pattern, .. } => pattern.watched,
            Rewriter::Sequence(parts) => parts.iter().any(Rewriter::is_watched),
            Rewriter::Other(_) => false,
        }
    }
}

impl TryFrom<NormalizerWrapper> for Rewriter {
    type Error = String;

    fn try_from(part: NormalizerWrapper) -> Result<Rewriter, String> {
        Ok(match part {
            NormalizerWrapper::Replace(replace) => match expression(&replace) {
                Some(pattern) => {
                    let pattern = Bounded::new("normalizer", &pattern, true)?;
                    Rewriter::Pattern { pattern, content: replace.content }
                }
                None => Rewriter::Other(NormalizerWrapper::Replace(replace)),
            },
            NormalizerWrapper::Sequence(parts) => {
                Rewriter::Sequence(parts.into_iter().map(Rewriter::try_from).collect::<Result<_, _>>()?)
            }
            other => Rewriter::Other(other),
        })
    }
}

/// The regular expression that is replaced, if it is none but a text. The library shows it in no other way.
pub(super) fn expression(replace: &tokenizers::normalizers::Replace) -> Option<String> {
    let shown = serde_json::to_value(replace).unwrap_or_default();
    shown["pattern"]["Regex"].as_str().map(str::to_owned)
}

impl<'de> Deserialize<'de> for Rewriter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rewriter, D::Error> {
        Rewriter::try_from(NormalizerWrapper::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Normalizer for Rewriter {
    fn normalize(&self, text: &mut NormalizedString) -> tokenizers::Result<()> {
        match self {
            Rewriter::Pattern { pattern, content } => text.replace(pattern, content),
            Rewriter::Sequence(parts) => parts.iter().try_for_each(|part| part.normalize(text)),
            Rewriter::Other(part) => part.normalize(text),
        }
    }
}
