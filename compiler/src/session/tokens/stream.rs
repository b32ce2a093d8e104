//! Tokens as text while they come: what is given out piece by piece is, in the end, the text of all tokens at once.

use super::Tokenizer;
use super::stages::{Piece, Stage};

/// Turns tokens into text as soon as no later token can change it.
#[derive(Clone)]
pub struct TokenStream<'t> {
    tokenizer: &'t Tokenizer,
    stages: Vec<Stage>,
    /// What is known already and will not be given out again.
    known: String,
}

impl<'t> TokenStream<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, stages: Vec<Stage>) -> TokenStream<'t> {
        TokenStream { tokenizer, stages, known: String::new() }
    }

    /// Takes a token and gives the text that is now certain. A token without text gives none.
    pub fn push(&mut self, token: u32) -> String {
        let text = match self.tokenizer.token(token) {
            Some(text) => self.pass(vec![Piece::Text(text), Piece::End], false),
            None => String::new(),
        };
        self.unknown(text)
    }

    /// What is left at the end, after which nothing can be pushed.
    pub fn finish(mut self) -> String {
        let text = self.pass(Vec::new(), true);
        self.unknown(text)
    }

    /// Takes the tokens of a prompt, whose text its reader knows: what comes from now on is what the whole text has
    /// after that of the prompt alone. A word keeps its space, and a character may begin in the prompt.
    pub fn prompt(&mut self, tokens: &[u32]) {
        let known = self.tokenizer.decode(tokens);
        let certain: String = tokens.iter().map(|&token| self.push(token)).collect();
        let rest = known.strip_prefix(&certain).map(str::to_owned);
        self.known = rest.unwrap_or_default();
    }

    /// Without what is known; where the text goes another way than what is known, from there on.
    fn unknown(&mut self, text: String) -> String {
        let same = text.chars().zip(self.known.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum();
        self.known.drain(..same);
        if same < text.len() {
            self.known.clear();
        }
        text[same..].to_owned()
    }

    fn pass(&mut self, mut pieces: Vec<Piece>, last: bool) -> String {
        for stage in &mut self.stages {
            let mut out = Vec::new();
            pieces.into_iter().for_each(|piece| stage.take(piece, &mut out));
            if last {
                stage.finish(&mut out);
            }
            pieces = out;
        }
        let texts = pieces.into_iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text),
            Piece::End => None,
        });
        texts.collect()
    }
}
