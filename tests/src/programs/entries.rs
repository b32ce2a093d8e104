//! Whole programs: the trunk, the entries, inputs, the config.

use super::blocks::Role;
use super::prune::prune;
use super::scope::{Generator, Scope};
use super::tree::{CALL, Decl, Elem, Entry, Expr, Program, Stmt, Type};

/// The program of a seed.
pub fn generate(seed: u64) -> Program {
    let mut made = Generator::new(seed);
    made.model();
    let mut program = made.program;
    prune(&mut program);
    program
}

impl Generator {
    fn model(&mut self) {
        let d = self.dice.pick(&self.widths.clone());
        let bytes = self.dice.chance(35);
        let inner = bytes && self.dice.chance(50);
        let patch = if bytes { 1 + self.dice.below(4) } else { 1 };
        let vocabulary = if bytes { 256 } else { 2 + self.dice.below(30) };
        if self.features.inputs && self.dice.chance(50) {
            let range = "f32 in -2..=2 = 0.5".to_owned();
            self.program.inputs.push(("pressure".into(), range));
        }
        if self.features.inputs && self.dice.chance(25) {
            self.program.inputs.push(("hint".into(), format!("f32[{d}]?")));
        }
        if self.features.inputs && self.dice.chance(25) {
            self.program.hosts.push(("recall".into(), format!("(question: f32[{d}]) -> f32[{d}]?")));
        }
        if self.dice.chance(30) {
            self.program.keys.push(("alpha".into(), "float in 0..=1 = 0.5".into(), "0.75".into()));
        }
        let embed = self.encoding();
        self.program.decls.push(Decl::Weight { name: "embed".into(), encoding: embed, shape: vec![vocabulary, d] });
        let layers = 1 + self.dice.below(2);
        let vector = Type::f32(&[d]);
        let layer = self.block(Role::Layer, std::slice::from_ref(&vector), std::slice::from_ref(&vector));
        self.program.decls.push(Decl::Part { name: "layers".into(), count: Some(layers), of: layer });
        let mut scope = Scope { entry: true, stateless: true, ..Scope::default() };
        let param = match (bytes, patch) {
            (false, _) => format!("token: u32 in 0..{vocabulary}"),
            (true, _) => format!("patch: u8[{patch}]"),
        };
        let mut body = Vec::new();
        let first = if bytes { self.embedded_patch(&vector, d, patch) } else { Expr::leaf(&vector, "embed[token]") };
        body.push(Stmt::Assign { names: vec![("x".into(), vector.clone())], value: first });
        self.use_inputs(&mut body, &vector);
        body.push(self.trunk(layers, &vector));
        scope.declare("x", &vector, true, false);
        scope.stateless = false;
        let more = self.dice.below(3);
        let made = self.entry_statements(&mut scope, more);
        body.extend(made);
        let start = match self.dice.below(4) {
            0 if bytes => format!(" start [{}]", vec!["0"; patch].join(", ")),
            1 if bytes => " start [7] if empty".replace('7', &vec!["0"; patch].join(", ")),
            0 => " start 0".to_owned(),
            1 => " start 0 if empty".to_owned(),
            _ => String::new(),
        };
        self.outputs(&mut scope, &mut body, d, vocabulary, patch, inner);
        self.program.entries.push(Entry { header: format!("step({param}){start}"), body });
        if inner {
            self.inner_entry(d, &vector);
        }
        self.program.decls.append(&mut scope.decls);
    }

    /// A vector from the rows of all bytes of a patch.
    fn embedded_patch(&mut self, vector: &Type, d: usize, patch: usize) -> Expr {
        match self.dice.below(3) {
            0 => Expr::leaf(vector, format!("embed[patch[{}]]", self.dice.below(patch))),
            1 => Expr::leaf(vector, "sum(embed[patch], axis: 0)"),
            _ => {
                self.program.decls.push(Decl::Part {
                    name: "merge".into(),
                    count: None,
                    of: format!("linear[{d}, {}, f32]", d * patch),
                });
                Expr::leaf(vector, "merge(flatten(embed[patch]))")
            }
        }
    }

    fn use_inputs(&mut self, body: &mut Vec<Stmt>, vector: &Type) {
        let this = || Expr::leaf(vector, "x");
        let mut before = Vec::new();
        let mut set = |value: Expr| before.push(Stmt::Assign { names: vec![("x".into(), vector.clone())], value });
        if self.program.inputs.iter().any(|(name, _)| name == "pressure") {
            set(Expr::new(vector, "$ * (1 + pressure)", vec![this()]));
        }
        if self.program.inputs.iter().any(|(name, _)| name == "hint") {
            set(Expr::new(vector, "if given(hint) { # + hint } else { # }", vec![this(), this()]));
        }
        if !self.program.keys.is_empty() {
            set(Expr::new(vector, "$ * alpha", vec![this()]));
        }
        body.extend(before);
        if !self.program.hosts.is_empty() {
            let asked = Expr::new(vector, "recall(#)", vec![this()]);
            let set = vec![("x".to_owned(), vector.clone())];
            let sum = Expr::new(vector, "$ + found", vec![this()]);
            body.push(Stmt::Assign { names: vec![("found".into(), vector.clone())], value: asked });
            body.push(Stmt::If {
                arms: vec![(
                    Expr::leaf(&Type::scalar(Elem::Bool), "given(found)"),
                    vec![Stmt::Assign { names: set, value: sum }],
                )],
                otherwise: Vec::new(),
            });
        }
    }

    /// The layers in a row.
    fn trunk(&mut self, layers: usize, vector: &Type) -> Stmt {
        let variable = self.name("j");
        let callee = Expr::word(format!("layers[{variable}]"));
        let x = Expr::leaf(vector, "x");
        let call = Expr::new(vector, CALL, vec![callee, x.clone()]);
        let value = if self.dice.chance(60) { Expr::new(vector, "$ + $", vec![x, call]) } else { call };
        let body = vec![Stmt::Assign { names: vec![("x".into(), vector.clone())], value }];
        Stmt::For { variable, rounds: layers, body }
    }

    /// Statements of an entry: everything but states.
    fn entry_statements(&mut self, scope: &mut Scope, count: usize) -> Vec<Stmt> {
        self.budget = self.budget.max(count);
        self.statements(scope, count)
    }

    fn outputs(
        &mut self,
        scope: &mut Scope,
        body: &mut Vec<Stmt>,
        d: usize,
        vocabulary: usize,
        patch: usize,
        inner: bool,
    ) {
        let x = Expr::leaf(&Type::f32(&[d]), "x");
        let others = self.unread(scope, 1);
        let x = self.with_all(x, others);
        if inner {
            body.push(Stmt::Output("y".into(), x));
        } else if patch == 1 && self.dice.chance(60) {
            let logits = Expr::new(&Type::f32(&[vocabulary]), CALL, vec![Expr::word("embed"), x]);
            body.push(Stmt::Output("logits".into(), logits));
        } else {
            // Small heads: what a head is made of is tried elsewhere.
            let of = self.encoding();
            self.program.decls.push(Decl::Part {
                name: "heads".into(),
                count: Some(patch),
                of: format!("linear[{vocabulary}, {d}, {of}]"),
            });
            let names: Vec<String> = (0..patch).map(|j| format!("heads[{j}](#)")).collect();
            let form = if patch == 1 { names[0].clone() } else { format!("[{}]", names.join(", ")) };
            body.push(Stmt::Output("logits".into(), Expr::new(&Type::f32(&[patch, vocabulary]), form, vec![x; patch])));
        }
        if self.dice.chance(35) {
            let ty = self.any_type();
            let value = self.expr(scope, &ty, 2);
            body.push(Stmt::Output("more".into(), value));
        }
    }

    /// An entry that runs for the bytes inside of one step.
    fn inner_entry(&mut self, d: usize, vector: &Type) {
        self.budget = self.budget.max(6);
        let block = self.block(Role::Plain, std::slice::from_ref(vector), std::slice::from_ref(vector));
        self.program.decls.push(Decl::Part { name: "decoder".into(), count: None, of: block });
        let z = |form: &str, parts| Expr::new(vector, form, parts);
        let read = Expr::leaf(vector, "z");
        let mut body =
            vec![Stmt::Assign { names: vec![("z".into(), vector.clone())], value: Expr::leaf(vector, "step.y") }];
        let previous = Expr::leaf(vector, "embed[prev]");
        if self.dice.chance(50) {
            let condition = Expr::leaf(&Type::scalar(Elem::Bool), "position > 0");
            let inner = Stmt::Assign {
                names: vec![("z".into(), vector.clone())],
                value: z("$ + $", vec![read.clone(), previous]),
            };
            body.push(Stmt::If { arms: vec![(condition, vec![inner])], otherwise: Vec::new() });
        } else {
            body.push(Stmt::Assign {
                names: vec![("z".into(), vector.clone())],
                value: z("$ + $", vec![read.clone(), previous]),
            });
        }
        let decoded = Expr::new(vector, CALL, vec![Expr::word("decoder"), read.clone()]);
        let head = self.encoding();
        self.program.decls.push(Decl::Weight { name: "last".into(), encoding: head, shape: vec![256, d] });
        let logits = Expr::new(&Type::f32(&[256]), CALL, vec![Expr::word("last"), decoded]);
        body.push(Stmt::Output("logits".into(), logits));
        self.program.entries.push(Entry { header: "byte(prev: u8) within step".into(), body });
    }
}
