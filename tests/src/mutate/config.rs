//! Mutants of configs: of the library's models and of those of the project's tests.

use super::{Load, Mutant, Subject, corpus, json};
use crate::programs::dice::Dice;

/// A config with the model it was for.
pub struct Config {
    model: &'static corpus::Model,
    donor: &'static str,
    text: Vec<u8>,
    /// Whether the model is named, or found by the keys.
    named: bool,
}

impl Config {
    /// One of all configs.
    pub fn pick(dice: &mut Dice) -> Config {
        let all = corpus::models();
        // Models without keys are few mutants' worth.
        let keyed: Vec<&corpus::Model> = all.iter().filter(|model| model.config.len() > 4).collect();
        let model = dice.pick(&keyed);
        Config {
            model,
            donor: &dice.pick(&keyed).config,
            text: model.config.clone().into_bytes(),
            named: dice.chance(70),
        }
    }
}

impl Subject for Config {
    fn edit(&mut self, dice: &mut Dice) {
        json::edit(&mut self.text, self.donor.as_bytes(), dice);
    }

    fn finish(self: Box<Self>) -> Mutant {
        let mut files = vec![("c.json".to_owned(), self.text)];
        if !self.model.library {
            files.push((format!("{}.graph", self.model.name), self.model.graph.clone().into_bytes()));
        }
        let model = (self.named || !self.model.library).then(|| self.model.name.clone());
        Mutant {
            files,
            load: Load::Config { model, graphs: !self.model.library, weights: None, base: None, rename: false },
        }
    }
}
