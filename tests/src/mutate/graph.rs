//! Mutants of graph files: of the library, of the project's tests, and of random programs, each with a config for it.

use super::{Files, Load, Mutant, Subject, bytes, corpus, words};
use crate::programs::dice::Dice;
use crate::programs::{generate, render};

/// A graph file.
pub struct Graph {
    name: String,
    text: String,
    donor: String,
    config: String,
    /// Edits of its bytes, done last.
    raw: Vec<u64>,
}

impl Graph {
    /// A written graph, or a random program.
    pub fn pick(dice: &mut Dice) -> Graph {
        let all = corpus::models();
        let (model, donor) = (&all[dice.below(all.len())], &all[dice.below(all.len())]);
        let raw = Vec::new();
        if dice.chance(60) {
            let program = generate(dice.bits());
            let (text, config) = (render::graph(&program), render::config(&program));
            return Graph { name: "m".into(), text, donor: donor.graph.clone(), config, raw };
        }
        // Where the standard library is what changes, the model that uses it stays.
        let std =
            dice.chance(10).then(|| std::fs::read_to_string(crate::root().join("graphs/std.graph")).ok()).flatten();
        let (name, text) = std.map_or_else(|| (model.name.clone(), model.graph.clone()), |text| ("std".into(), text));
        Graph { name, text, donor: donor.graph.clone(), config: model.config.clone(), raw }
    }
}

impl Subject for Graph {
    fn edit(&mut self, dice: &mut Dice) {
        if dice.chance(3) {
            return self.raw.push(dice.bits());
        }
        words::edit(&mut self.text, &self.donor, dice);
    }

    fn finish(self: Box<Self>) -> Mutant {
        let mut text = self.text.into_bytes();
        for seed in &self.raw {
            bytes::edit(&mut text, self.donor.as_bytes(), &mut Dice::new(*seed));
        }
        let model = (self.name != "std").then(|| self.name.clone());
        let files = [(format!("{}.graph", self.name), text), ("c.json".into(), self.config.into_bytes())];
        Mutant {
            files: Files::from(files),
            load: Load::Config { model, graphs: true, weights: None, base: None, rename: false },
        }
    }
}
