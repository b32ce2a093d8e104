//! What a body that is being made knows: the names in sight, what it may declare, and which rules of its place hold.

use super::dice::Dice;
use super::tree::{Decl, Dim, Elem, Expr, Program, Type};

/// A name in sight.
#[derive(Clone, Debug)]
pub struct Var {
    pub name: String,
    pub ty: Type,
    /// It may be assigned.
    pub rebindable: bool,
    /// It is the same for all indices of a mapped call.
    pub uniform: bool,
    /// Something reads it already.
    pub read: bool,
}

/// States that grow together.
#[derive(Clone, Debug)]
pub struct Group {
    /// The number of their axis.
    pub axis: usize,
    /// Names with the type of an entry, and the place of the growing axis in the state.
    pub states: Vec<(String, Type, usize)>,
    /// Whether something has been pushed for certain.
    pub pushed: bool,
}

/// A body that is being made.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub vars: Vec<Var>,
    pub decls: Vec<Decl>,
    pub groups: Vec<Group>,
    /// The block is called with more leading axes than it declares.
    pub mapped: bool,
    /// It may not own states, nor call what does: it is an expert, or a branch that differs per mapped index.
    pub stateless: bool,
    /// Branches and rounds around the place.
    pub depth: usize,
    /// It is the body of an entry, which looks back at nothing.
    pub entry: bool,
}

/// What a program may use. Each program has some of these and not others, so that a rare refusal or fault does not hide
/// all that stands beside it.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Ternary and sign weights.
    pub codes: bool,
    /// Coded weights beyond layers and lookups: as operands and element by element.
    pub code_values: bool,
    /// Groups of so many inputs.
    pub groups: bool,
    /// Activations quantised in blocks.
    pub blocks: bool,
    /// Weights stored as bf16 and f16.
    pub narrow: bool,
    /// States that start as a weight.
    pub initial_weights: bool,
    /// Integers other than i32.
    pub integers: bool,
    /// States that grow.
    pub caches: bool,
    /// States of different entries that grow together, and pushes inside of choices and loops.
    pub mixed_caches: bool,
    /// Reads of caches before the push of the step.
    pub early_reads: bool,
    /// Optional inputs, inputs.
    pub inputs: bool,
    /// Blocks called with more axes than they declare.
    pub mapping: bool,
    /// Choices and loops of the step.
    pub control: bool,
}

impl Features {
    fn new(dice: &mut Dice) -> Features {
        let plain = dice.chance(25);
        let mut some = |percent: usize| dice.chance(if plain { percent / 4 } else { percent });
        Features {
            codes: some(60),
            code_values: some(40),
            groups: some(40),
            blocks: some(40),
            narrow: some(60),
            initial_weights: some(45),
            integers: some(50),
            caches: some(70),
            mixed_caches: some(40),
            early_reads: some(40),
            inputs: some(50),
            mapping: some(75),
            control: some(90),
        }
    }
}

/// Makes programs.
pub struct Generator {
    pub features: Features,
    pub dice: Dice,
    pub program: Program,
    /// Lengths of most axes.
    pub widths: Vec<usize>,
    /// Names given so far.
    pub names: usize,
    /// Axes of growing states so far.
    pub axes: usize,
    /// Statements that may still be made.
    pub budget: usize,
    /// How often the block that is being made runs in a step, for the mapped calls around it.
    pub instances: usize,
}

/// Lengths that vectors of 4, 8, 16 and 64 divide, and others.
const LENGTHS: [usize; 23] = [257, 1, 2, 3, 4, 5, 7, 8, 8, 12, 15, 16, 17, 24, 31, 32, 33, 48, 61, 64, 65, 96, 130];

impl Generator {
    /// A generator for a seed.
    pub fn new(seed: u64) -> Generator {
        let mut dice = Dice::new(seed);
        let features = Features::new(&mut dice);
        let count = 2 + dice.below(3);
        let widths = (0..count).map(|_| dice.pick(&LENGTHS)).collect();
        let budget = 4 + dice.below(28);
        let program = Program {
            keys: Vec::new(),
            names: Vec::new(),
            inputs: Vec::new(),
            hosts: Vec::new(),
            decls: Vec::new(),
            blocks: Vec::new(),
            entries: Vec::new(),
        };
        Generator { features, dice, program, widths, names: 0, axes: 0, budget, instances: 1 }
    }

    /// A name that nothing has.
    pub fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// A length of the program's, sometimes a small one.
    pub fn width(&mut self) -> usize {
        if self.dice.chance(20) { 1 + self.dice.below(4) } else { self.dice.pick(&self.widths.clone()) }
    }

    /// The shape of most values.
    pub fn shape(&mut self) -> Vec<usize> {
        match self.dice.below(20) {
            0..=10 => vec![self.width()],
            11..=14 => {
                let (a, b) = (1 + self.dice.below(5), self.width());
                if self.dice.chance(30) && b < 20 { vec![b, a] } else { vec![a, b] }
            }
            15 => {
                let (a, b, c) = (1 + self.dice.below(3), 1 + self.dice.below(4), self.width());
                vec![a, b, c.min(33)]
            }
            _ => Vec::new(),
        }
    }

    /// The type of most values: floats, or others less often.
    pub fn any_type(&mut self) -> Type {
        let elem = match self.dice.below(24) {
            0..=2 => Elem::I32,
            3 | 4 => Elem::Bool,
            5 if self.features.integers => Elem::U64,
            6 if self.features.integers => self.dice.pick(&[Elem::U32, Elem::U8, Elem::I8]),
            _ => Elem::F32,
        };
        let shape = self.shape();
        Type::of(elem, &shape)
    }

    /// A declared weight of this shape.
    pub fn weight(&mut self, scope: &mut Scope, encoding: &str, shape: &[usize]) -> String {
        let name = self.name("w");
        scope.decls.push(Decl::Weight { name: name.clone(), encoding: encoding.into(), shape: shape.to_vec() });
        name
    }

    /// A name in sight of this type, late ones and unread ones first.
    pub fn known(&mut self, scope: &mut Scope, ty: &Type, uniform: bool) -> Option<Expr> {
        let fits = |v: &Var| v.ty == *ty && (v.uniform || !uniform);
        let found: Vec<usize> = (0..scope.vars.len()).filter(|&i| fits(&scope.vars[i])).collect();
        if found.is_empty() {
            return None;
        }
        let unread: Vec<usize> = found.iter().copied().filter(|&i| !scope.vars[i].read).collect();
        let from = if !unread.is_empty() && self.dice.chance(60) { &unread } else { &found };
        let back = self.dice.below(from.len()).min(self.dice.below(from.len()));
        let var = &mut scope.vars[from[from.len() - 1 - back]];
        var.read = true;
        Some(Expr::leaf(ty, var.name.clone()))
    }
}

impl Scope {
    /// Makes a name visible.
    pub fn declare(&mut self, name: &str, ty: &Type, rebindable: bool, uniform: bool) {
        self.vars.push(Var { name: name.into(), ty: ty.clone(), rebindable, uniform, read: false });
    }

    /// Whether growing values of this axis can be made here.
    pub fn group(&self, axis: usize) -> Option<&Group> {
        self.groups.iter().find(|g| g.axis == axis)
    }
}

/// The axis of a type that grows, with its place.
pub fn growing(ty: &Type) -> Option<(usize, usize)> {
    ty.shape.iter().enumerate().find_map(|(place, dim)| match dim {
        Dim::Grows(axis) => Some((place, *axis)),
        Dim::Fixed(_) => None,
    })
}
