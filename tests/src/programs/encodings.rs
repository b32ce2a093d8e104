//! Encodings of weights, with the quantisation of their inputs.

use super::scope::{Generator, Scope};
use super::tree::{Elem, Expr, Type};

impl Generator {
    /// The name of a float encoding.
    pub fn float_encoding(&mut self) -> &'static str {
        if self.features.narrow { self.dice.pick(&["f32", "f32", "f32", "bf16", "f16"]) } else { "f32" }
    }

    /// The name of any encoding.
    pub fn encoding(&mut self) -> String {
        if !self.features.codes || self.dice.chance(55) {
            return self.float_encoding().to_owned();
        }
        let known: Vec<String> =
            self.program.names.iter().map(|(name, _)| name.clone()).filter(|name| name.starts_with('T')).collect();
        if !known.is_empty() && self.dice.chance(50) {
            return known[self.dice.below(known.len())].clone();
        }
        let input = self.input();
        let scale = self.dice.pick(&["f32", "bf16", "f16"]);
        let sign = self.dice.chance(30);
        let group = match self.dice.below(10) {
            0..=2 => "\"row\"".to_owned(),
            3..=5 if !sign => "\"tensor\"".to_owned(),
            6..=9 if !sign && self.features.groups => self.group_size(),
            _ => "\"row\"".to_owned(),
        };
        let floor = self.dice.pick(&["1e-5", "1e-2", "0.5"]);
        let keep = if self.dice.chance(20) { ", keep: \"three_of_four\"" } else { "" };
        let name = self.name("T");
        let text = if sign {
            format!("sign(group: {group}, scale: {scale}{input})")
        } else {
            format!("ternary(group: {group}, floor: {floor}, scale: {scale}{keep}{input})")
        };
        self.program.names.push((name.clone(), text));
        name
    }

    /// The encoding of a weight whose numbers are used as they are, a coded one in so many of a hundred cases.
    fn value_encoding(&mut self, percent: usize) -> String {
        let coded = self.features.code_values && self.dice.chance(percent);
        if coded { self.encoding() } else { self.float_encoding().to_owned() }
    }

    /// The quantisation of the input of a coded weight.
    fn input(&mut self) -> String {
        let text = match self.dice.below(10) {
            0..=2 => return String::new(),
            3 => return ", input: f32".to_owned(),
            4 | 5 => "int8(block: \"token\", floor: 1e-5, undo: \"divide\")".to_owned(),
            6 | 7 => "int8(block: \"token\", floor: 1e-2, undo: \"multiply\")".to_owned(),
            _ if !self.features.blocks => return String::new(),
            _ => format!("int8(block: {}, floor: 1e-5, undo: \"multiply\")", self.group_size()),
        };
        let known = self.program.names.iter().find(|(_, value)| *value == text).map(|(name, _)| name.clone());
        let name = match known {
            Some(name) => name,
            None => {
                let name = self.name("A");
                self.program.names.push((name.clone(), text));
                name
            }
        };
        format!(", input: {name}")
    }

    /// Elements of a group or block.
    fn group_size(&mut self) -> String {
        self.dice.pick(&[4, 8, 16, 32, 64, 128, 1, 2, 3, 5, 12, 24, 48]).to_string()
    }

    /// A weight of this shape by itself, or a row, rows or a slice of a larger one.
    pub fn plain_weight(&mut self, scope: &mut Scope, ty: &Type) -> Expr {
        let shape = ty.fixed().unwrap_or_default();
        let encoding = self.value_encoding(25);
        match self.dice.below(6) {
            0 => {
                let rows = 1 + self.dice.below(4);
                let larger = [&[rows][..], &shape].concat();
                let name = self.weight(scope, &encoding, &larger);
                Expr::leaf(ty, format!("{name}[{}]", self.dice.below(rows)))
            }
            1 => {
                let rows = 1 + self.dice.below(4);
                let larger = [&[rows][..], &shape].concat();
                let name = self.weight(scope, &encoding, &larger);
                let int = Type::scalar(Elem::I32);
                let at = Expr::leaf(&int, format!("position % {rows}"));
                Expr::new(ty, format!("{name}[#]"), vec![at])
            }
            2 => {
                let name = self.weight(scope, &encoding, &shape);
                let scalar = self.expr(scope, &Type::scalar(Elem::F32), 0);
                Expr::new(ty, format!("{name} * $"), vec![scalar])
            }
            _ => {
                let name = self.weight(scope, &encoding, &shape);
                Expr::leaf(ty, name)
            }
        }
    }

    /// Work on weights alone, which is done once at load.
    pub fn of_weights(&mut self, scope: &mut Scope, ty: &Type, depth: usize) -> Expr {
        let shape = ty.fixed().unwrap_or_default();
        if shape.is_empty() {
            let n = self.width();
            let name = self.weight(scope, "f32", &[n]);
            return Expr::leaf(ty, format!("{}({name})", self.dice.pick(&["sum", "max", "mean"])));
        }
        let encoding = self.value_encoding(20);
        let name = self.weight(scope, &encoding, &shape);
        let one = Expr::leaf(ty, name);
        let form =
            self.dice.pick(&["exp($)", "tanh(# * 2)", "$ * $", "1 - $", "$ + $ * $", "sigmoid(#)", "round(# * 3)"]);
        let parts = form.matches(['$', '#']).map(|_| one.clone()).collect();
        let made = Expr::new(ty, form, parts);
        if shape.len() == 2 && self.dice.chance(30) {
            let k = self.width();
            let (a, b) = (self.weight(scope, "f32", &[shape[0], k]), self.weight(scope, "f32", &[k, shape[1]]));
            return Expr::leaf(ty, format!("{a} @ {b}"));
        }
        if depth > 0 && self.dice.chance(40) {
            let x = self.expr(scope, ty, depth - 1);
            return Expr::new(ty, "$ * $", vec![made, x]);
        }
        made
    }
}
