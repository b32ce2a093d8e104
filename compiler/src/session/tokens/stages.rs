//! Decoders of tokenizers, piece by piece: what each may give out before the tokens that follow are known.
//!
//! A decoder of the library maps all tokens of a text at once. Here a token comes in pieces, and a stage passes on what
//! no later piece can change: a decoder that joins all tokens makes one token of them that ends with the text, and
//! those behind it work on a token that grows. Where a decoder needs a whole token its stage collects it, and asks the
//! library.

use regex::{NoExpand, Regex};
use sterna_runtime::text::Utf8Stream;
use tokenizers::Decoder;
use tokenizers::decoders::DecoderWrapper;
use tokenizers::normalizers::Replace;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;

use super::guard::guarded;
use super::patterns::expression;

/// A part of a token, or its end.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    End,
}

/// One decoder with what it has seen.
#[derive(Clone)]
pub(super) enum Stage {
    /// No decoder: spaces between tokens.
    Spaced { between: bool },
    /// All tokens are one.
    Fused,
    /// Tokens spell bytes, which are one text.
    Bytes { token: String, text: Utf8Stream },
    /// Tokens such as `<0x0A>` are bytes; a run of them is a text, or each is no character.
    Fallback { token: String, whole: bool, run: Vec<u8> },
    /// A text in place of another.
    Replaced { from: String, to: String, held: String },
    /// A text in place of whatever a pattern finds in a token.
    Matched { from: Regex, to: String, token: String },
    /// Some characters are taken from both ends of a token.
    Stripped { content: char, start: usize, stop: usize, taken: usize, held: usize },
    /// A mark stands for a space; none in the first token, unless `spaces`.
    Marked { mark: char, spaces: bool, first: bool },
    /// A suffix is a space, but nothing at the end of the text.
    Suffixed { suffix: String, held: String, ended: bool },
    /// Whole tokens, through the library. It is told whether a token is the first.
    Whole { decoder: Box<DecoderWrapper>, token: String, first: bool },
    /// The same where a token like the one before counts once.
    Distinct { decoder: Box<DecoderWrapper>, token: String, before: Option<String> },
}

/// The stages of a decoder, in order; of none too.
///
/// # Errors
/// A pattern that would be searched by going back over a token.
pub(super) fn stages(decoder: Option<&DecoderWrapper>) -> Result<Vec<Stage>, String> {
    let mut stages = Vec::new();
    match decoder {
        Some(decoder) => add(decoder, &mut stages)?,
        None => stages.push(Stage::Spaced { between: false }),
    }
    Ok(stages)
}

fn add(decoder: &DecoderWrapper, stages: &mut Vec<Stage>) -> Result<(), String> {
    let token = String::new();
    stages.push(match decoder {
        DecoderWrapper::Sequence(sequence) => {
            return sequence.get_decoders().iter().try_for_each(|decoder| add(decoder, stages));
        }
        DecoderWrapper::Fuse(_) => Stage::Fused,
        DecoderWrapper::ByteLevel(_) => Stage::Bytes { token, text: Utf8Stream::default() },
        DecoderWrapper::ByteFallback(_) => Stage::Fallback { token, whole: false, run: Vec::new() },
        DecoderWrapper::Replace(replace) => replaced(replace)?,
        DecoderWrapper::Strip(strip) => {
            let (content, start, stop) = (strip.content, strip.start, strip.stop);
            Stage::Stripped { content, start, stop, taken: 0, held: 0 }
        }
        DecoderWrapper::Metaspace(marks) => Stage::Marked {
            mark: marks.get_replacement(),
            spaces: marks.get_prepend_scheme() == PrependScheme::Never,
            first: true,
        },
        DecoderWrapper::BPE(bpe) => Stage::Suffixed { suffix: bpe.suffix.clone(), held: token, ended: false },
        DecoderWrapper::WordPiece(_) => Stage::Whole { decoder: Box::new(decoder.clone()), token, first: true },
        DecoderWrapper::CTC(_) => Stage::Distinct { decoder: Box::new(decoder.clone()), token, before: None },
    });
    Ok(())
}

fn replaced(replace: &Replace) -> Result<Stage, String> {
    let (to, token) = (replace.content.clone(), String::new());
    if let Some(pattern) = expression(replace) {
        let unfit = |e| format!("decoder: a pattern that is searched without going back is needed: {e}");
        return Ok(Stage::Matched { from: Regex::new(&pattern).map_err(unfit)?, to, token });
    }
    // The library shows what it replaces in no other way.
    let shown = serde_json::to_value(replace).unwrap_or_default();
    Ok(match shown["pattern"]["String"].as_str() {
        Some(from) if !from.is_empty() => Stage::Replaced { from: from.to_owned(), to, held: token },
        _ => Stage::Whole { decoder: Box::new(DecoderWrapper::Replace(replace.clone())), token, first: true },
    })
}

/// What has been passed on, in order.
type Pieces = Vec<Piece>;

fn say(text: impl Into<String>, pieces: &mut Pieces) {
    let text = text.into();
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
}

impl Stage {
    /// Takes a piece and passes on what is certain.
    pub(super) fn take(&mut self, piece: Piece, out: &mut Pieces) {
        match piece {
            Piece::Text(text) => self.text(text, out),
            Piece::End => self.end(out),
        }
    }

    fn text(&mut self, text: String, out: &mut Pieces) {
        match self {
            Stage::Spaced { between } => {
                if std::mem::take(between) {
                    say(" ", out);
                }
                say(text, out);
            }
            Stage::Fused => say(text, out),
            Stage::Bytes { token, .. }
            | Stage::Matched { token, .. }
            | Stage::Whole { token, .. }
            | Stage::Distinct { token, .. } => {
                token.push_str(&text);
            }
            Stage::Fallback { token, whole, run } => {
                token.push_str(&text);
                // No byte is written with so much.
                if *whole || token.len() > BYTE.len() {
                    characters(run, out);
                    *whole = true;
                    say(std::mem::take(token), out);
                }
            }
            Stage::Replaced { from, to, held } => {
                held.push_str(&text);
                let mut new = String::new();
                while let Some(place) = held.find(from.as_str()) {
                    new.push_str(&held[..place]);
                    new.push_str(to);
                    held.drain(..place + from.len());
                }
                let certain = held.len() - begun(held, from);
                new.extend(held.drain(..certain));
                say(new, out);
            }
            Stage::Stripped { content, start, stop, taken, held } => {
                let mut new = String::new();
                for c in text.chars() {
                    if c != *content {
                        new.extend(std::iter::repeat_n(*content, std::mem::take(held)));
                        new.push(c);
                        *taken = *start;
                    } else if *taken < *start {
                        *taken += 1;
                    } else {
                        *held += 1;
                        // Only the last ones may be taken.
                        if *held > *stop {
                            new.push(c);
                            *held -= 1;
                        }
                    }
                }
                say(new, out);
            }
            Stage::Marked { mark, spaces, first } => {
                let gap = if *first && !*spaces { "" } else { " " };
                say(text.replace(*mark, gap), out);
            }
            Stage::Suffixed { suffix, held, ended } => {
                if std::mem::take(ended) {
                    say(std::mem::take(held).replace(suffix.as_str(), " "), out);
                    out.push(Piece::End);
                }
                held.push_str(&text);
                let certain = match held.find(suffix.as_str()) {
                    Some(place) => place,
                    None => held.len() - begun(held, suffix),
                };
                say(held.drain(..certain).collect::<String>(), out);
            }
        }
    }

    fn end(&mut self, out: &mut Pieces) {
        match self {
            Stage::Fused => return,
            Stage::Spaced { between } => {
                // An empty token has a place between spaces too.
                if std::mem::replace(between, true) {
                    say(" ", out);
                }
            }
            Stage::Bytes { token, text } => {
                let new: String = bytes_of(&std::mem::take(token)).into_iter().map(|byte| text.push(byte)).collect();
                return say(new, out);
            }
            Stage::Fallback { token, whole, run } => {
                let token = std::mem::take(token);
                if !std::mem::take(whole) {
                    if let Some(byte) = byte_of(&token) {
                        return run.push(byte);
                    }
                    characters(run, out);
                    say(token, out);
                }
            }
            Stage::Replaced { held, .. } => say(std::mem::take(held), out),
            Stage::Matched { from, to, token } => {
                say(from.replace_all(&std::mem::take(token), NoExpand(to)), out);
            }
            Stage::Stripped { taken, held, .. } => (*taken, *held) = (0, 0),
            Stage::Marked { first, .. } => *first = false,
            Stage::Suffixed { suffix, held, ended } => {
                if std::mem::replace(ended, true) {
                    say(std::mem::take(held).replace(suffix.as_str(), " "), out);
                    out.push(Piece::End);
                }
                return;
            }
            Stage::Whole { decoder, token, first } => {
                let token = std::mem::take(token);
                let given = if std::mem::take(first) { vec![token] } else { vec![String::new(), token] };
                let text = guarded(|| decoder.decode_chain(given)).ok().and_then(Result::ok);
                let last = text.and_then(|mut tokens| tokens.pop());
                say(last.unwrap_or_else(|| char::REPLACEMENT_CHARACTER.into()), out);
            }
            Stage::Distinct { decoder, token, before } => {
                let token = std::mem::take(token);
                if before.as_ref() == Some(&token) {
                    return;
                }
                *before = Some(token.clone());
                let tokens = guarded(|| decoder.decode_chain(vec![token])).ok().and_then(Result::ok);
                for text in tokens.into_iter().flatten() {
                    say(text, out);
                    out.push(Piece::End);
                }
                return;
            }
        }
        out.push(Piece::End);
    }

    /// What is left when nothing more comes.
    pub(super) fn finish(&mut self, out: &mut Pieces) {
        match self {
            Stage::Fused => out.push(Piece::End),
            Stage::Bytes { text, .. } => {
                say(text.finish(), out);
                out.push(Piece::End);
            }
            Stage::Fallback { run, .. } => characters(run, out),
            Stage::Suffixed { suffix, held, ended } if *ended => {
                say(std::mem::take(held).replace(suffix.as_str(), ""), out);
                out.push(Piece::End);
            }
            // Every token has ended.
            _ => {}
        }
    }
}

/// How many bytes at the end of a text may be the beginning of `sought`.
fn begun(text: &str, sought: &str) -> usize {
    let most = text.len().min(sought.len().saturating_sub(1));
    (1..=most).rev().find(|&n| sought.as_bytes().starts_with(&text.as_bytes()[text.len() - n..])).unwrap_or(0)
}

/// A token that stands for a byte.
const BYTE: &str = "<0x00>";

fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if token.len() == BYTE.len() { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// A run of bytes as a token: its characters, or as many that are none.
fn characters(run: &mut Vec<u8>, out: &mut Pieces) {
    if run.is_empty() {
        return;
    }
    match String::from_utf8(std::mem::take(run)) {
        Ok(text) => {
            say(text, out);
            out.push(Piece::End);
        }
        Err(error) => {
            for _ in error.as_bytes() {
                say(char::REPLACEMENT_CHARACTER, out);
                out.push(Piece::End);
            }
        }
    }
}

/// The bytes that a token of a byte-level vocabulary spells; one with other characters is taken as it is. Printable
/// bytes of Latin-1 stand for themselves, the others for the characters from U+0100 on, in order (`bytes_to_unicode` of
/// GPT-2).
fn bytes_of(token: &str) -> Vec<u8> {
    let byte = |c: char| match u32::from(c) {
        code @ (0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) => Some(code as u8),
        code @ 0x100..=0x120 => Some((code - 0x100) as u8),
        code @ 0x121..=0x142 => Some((code - 0x121 + 0x7f) as u8),
        0x143 => Some(0xad),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = token.chars().map(byte).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}
