//! Mutants of printed graphs, as packages have them. Where the text still reads and verifies, a package with the
//! weights that it now declares is made around it, so that more of them run than of packages whose table is left as it
//! was.

use std::sync::OnceLock;

use serde_json::json;
use sterna_compiler::ir;
use sterna_compiler::ir::read::read_module;
use sterna_compiler::ir::verify::{budget, verify};
use sterna_compiler::limits::Limits;

use super::{Files, Load, Mutant, Subject, corpus, words};
use crate::programs::dice::Dice;
use crate::programs::{generate, render};

/// A graph.
pub struct Printed {
    text: String,
    donor: &'static str,
    seed: u64,
}

/// All graphs as text.
fn texts() -> &'static [String] {
    static ALL: OnceLock<Vec<String>> = OnceLock::new();
    ALL.get_or_init(|| {
        let stored = |session: sterna_compiler::session::Session| {
            let (module, _) = session.optimised(Some("hoist_outer")).ok()?;
            let (made, found) = (ir::print::print_module(session.module()), ir::print::print_module(&module));
            Some(if made == found { vec![made] } else { vec![made, found] })
        };
        let mut all: Vec<String> =
            corpus::models().iter().filter_map(corpus::loaded).filter_map(stored).flatten().collect();
        // Models of random programs use what no written model does.
        all.extend((1..30).flat_map(|seed| {
            let program = generate(seed);
            let config = render::config(&program);
            let model = corpus::Model { name: "m".into(), graph: render::graph(&program), library: false, config };
            corpus::loaded(&model).and_then(stored).unwrap_or_default()
        }));
        all.retain(|text| text.len() < 60_000);
        all
    })
}

impl Printed {
    /// One of all graphs.
    pub fn pick(dice: &mut Dice) -> Printed {
        let all = texts();
        let text = all[dice.below(all.len())].clone();
        Printed { text, donor: &all[dice.below(all.len())], seed: dice.bits() }
    }
}

/// A line that gives one value: `  %2 = add %0, %1 : f32[4]`.
struct Node<'a> {
    result: &'a str,
    operation: &'a str,
    ty: &'a str,
}

impl Node<'_> {
    fn of(line: &str) -> Option<Node<'_>> {
        let (result, rest) = line.trim().strip_prefix('%')?.split_once(" = ")?;
        let (operation, ty) = rest.rsplit_once(" : ")?;
        Some(Node { result, operation, ty })
    }
}

/// Another value of the same type in the place of an operand.
fn operand(lines: &mut [String], nodes: &[usize], at: usize, dice: &mut Dice) {
    let Some(node) = Node::of(&lines[at]) else { return };
    let used: Vec<&str> = node.operation.split('%').skip(1).collect();
    if used.is_empty() {
        return;
    }
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let old = digits(dice.pick(&used));
    let indent = |line: &str| line.len() - line.trim_start().len();
    let before = nodes.iter().filter(|&&other| other < at && indent(&lines[other]) == indent(&lines[at]));
    let values: Vec<Node> = before.filter_map(|&other| Node::of(&lines[other])).collect();
    let ty = values.iter().rev().find(|value| value.result == old).map_or(node.ty, |value| value.ty);
    let same: Vec<&str> = values.iter().filter(|value| value.ty == ty).map(|value| value.result).collect();
    if same.is_empty() {
        return;
    }
    let operation = node.operation.replacen(&format!("%{old}"), &format!("%{}", dice.pick(&same)), 1);
    lines[at] = lines[at].replacen(node.operation, &operation, 1);
}

/// The operation of another line, with as many operands, on these ones.
fn operation(lines: &mut [String], nodes: &[usize], at: usize, dice: &mut Dice) {
    let Some(node) = Node::of(&lines[at]) else { return };
    let count = |operation: &str| operation.matches('%').count();
    let others: Vec<&str> = nodes
        .iter()
        .filter_map(|&other| Node::of(&lines[other]))
        .map(|other| other.operation)
        .filter(|other| count(other) == count(node.operation) && count(other) > 0)
        .collect();
    let (Some(from), false) = (node.operation.find('%'), others.is_empty()) else { return };
    let other = dice.pick(&others);
    let named = &other[..other.find('%').unwrap_or(0)];
    lines[at] = lines[at].replacen(node.operation, &format!("{named}{}", &node.operation[from..]), 1);
}

/// Another number or word in the brackets of an operation.
fn attribute(line: &mut String, dice: &mut Dice) {
    let (Some(open), Some(close)) = (line.find('('), line.find(')')) else { return };
    if open < close {
        let mut inside = line[open + 1..close].to_owned();
        words::edit(&mut inside, "0 1 2 f32 i32 u32 bf16 sum max nearest zero", dice);
        line.replace_range(open + 1..close, &inside);
    }
}

/// Weights that a test can afford.
const WEIGHTS: usize = 1 << 18;

/// The package of a graph text, if it is a graph.
pub fn package_of(text: &str, seed: u64) -> Result<Vec<u8>, String> {
    let module = read_module(text).map_err(|error| error.to_string())?;
    budget::within(&module, &Limits::DEFAULT).map_err(|error| error.to_string())?;
    verify(&module).map_err(|error| error.to_string())?;
    let printed = ir::print::print_module(&module);
    let again = read_module(&printed).map(|module| ir::print::print_module(&module));
    assert_eq!(again.ok().as_ref(), Some(&printed), "a printed graph reads back");
    let elements = module.weights.iter().map(|w| w.shape.iter().fold(1usize, |n, &axis| n.saturating_mul(axis.max(1))));
    if elements.fold(0, usize::saturating_add) > WEIGHTS {
        return Err("more weights than a test can afford".into());
    }
    corpus::packed(&module, &json!({}), seed)
}

impl Subject for Printed {
    fn edit(&mut self, dice: &mut Dice) {
        if dice.chance(35) {
            return words::edit(&mut self.text, self.donor, dice);
        }
        let mut lines: Vec<String> = self.text.lines().map(str::to_owned).collect();
        let nodes: Vec<usize> = (0..lines.len()).filter(|&at| Node::of(&lines[at]).is_some()).collect();
        if nodes.is_empty() {
            return;
        }
        let at = dice.pick(&nodes);
        match dice.below(4) {
            0 | 1 => operand(&mut lines, &nodes, at, dice),
            2 => operation(&mut lines, &nodes, at, dice),
            _ => attribute(&mut lines[at], dice),
        }
        self.text = lines.join("\n");
    }

    fn finish(self: Box<Self>) -> Mutant {
        let files = Files::from([("m.ir".into(), self.text.into_bytes())]);
        Mutant { files, load: Load::Printed { seed: self.seed } }
    }
}
