//! Mutants of tokenizer files.

use super::{Files, Load, Mutant, Subject, corpus, json};
use crate::programs::dice::Dice;

/// A tokenizer file.
pub struct Tokenizer {
    text: Vec<u8>,
    donor: &'static str,
}

impl Tokenizer {
    /// One of all kinds.
    pub fn pick(dice: &mut Dice) -> Tokenizer {
        let all = corpus::tokenizers();
        let text = all[dice.below(all.len())].clone().into_bytes();
        Tokenizer { text, donor: &all[dice.below(all.len())] }
    }
}

impl Subject for Tokenizer {
    fn edit(&mut self, dice: &mut Dice) {
        json::edit(&mut self.text, self.donor.as_bytes(), dice);
    }

    fn finish(self: Box<Self>) -> Mutant {
        Mutant { files: Files::from([("tokenizer.json".into(), self.text)]), load: Load::Tokenizer }
    }
}
