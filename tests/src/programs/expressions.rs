//! Expressions for a type that is wanted: names in sight, elementwise work, choices; what depends on shapes is in other
//! files. A depth bounds the tree.

use super::scope::{Generator, Scope, growing};
use super::tree::{Elem, Expr, Type};

/// Functions of one float that are defined everywhere.
const FUNCTIONS: [&str; 22] = [
    "tanh(#)",
    "sigmoid(#)",
    "exp(-abs(#))",
    "exp(min(#, 2))",
    "expm1(min(#, 1.5))",
    "ln(abs(#) + 0.1)",
    "log1p(abs(#))",
    "sqrt(abs(#))",
    "sin(#)",
    "cos(#)",
    "floor(#)",
    "round(#)",
    "round(# * 3)",
    "abs(#)",
    "-$",
    "silu(#)",
    "softplus(#)",
    "log_sigmoid(#)",
    "gelu_tanh(#)",
    "clamp(#, -1.5, 0.75)",
    "max(#, -1)",
    "min(0.5, #)",
];

/// Ways to join two floats.
const PAIRS: [&str; 9] =
    ["$ + $", "$ - $", "$ * $", "$ + $", "$ - $", "min(#, #)", "max(#, #)", "$ / (abs(#) + 0.5)", "$ * sigmoid(#)"];

impl Generator {
    /// An expression of this type.
    pub fn expr(&mut self, scope: &mut Scope, ty: &Type, depth: usize) -> Expr {
        if (depth == 0 || self.dice.chance(25))
            && let Some(name) = self.known(scope, ty, false)
        {
            return name;
        }
        if depth == 0 {
            return self.leaf(scope, ty);
        }
        if self.features.control && self.dice.chance(4) {
            return self.choice(scope, ty, depth - 1);
        }
        if self.dice.chance(4) {
            return self.selection(scope, ty, depth - 1);
        }
        if let Some((place, axis)) = growing(ty) {
            return self.growing_expr(scope, ty, place, axis, depth - 1);
        }
        let shaped = if ty.shape.is_empty() { 45 } else { 30 };
        if self.dice.chance(shaped)
            && let Some(view) = self.view(scope, ty, depth - 1)
        {
            return view;
        }
        match ty.elem {
            Elem::F32 => self.floats(scope, ty, depth - 1),
            Elem::Bool => self.truths(scope, ty, depth - 1),
            _ => self.integers(scope, ty, depth - 1),
        }
    }

    /// Floats of any fixed shape.
    fn floats(&mut self, scope: &mut Scope, ty: &Type, depth: usize) -> Expr {
        match self.dice.below(20) {
            0..=3 => self.elementwise(scope, ty, depth),
            4..=6 => {
                let x = self.expr(scope, ty, depth);
                Expr::new(ty, self.dice.pick(&FUNCTIONS), vec![x])
            }
            7..=12 => match self.product(scope, ty, depth) {
                Some(product) => product,
                None => self.elementwise(scope, ty, depth),
            },
            13 | 14 => match self.norm(scope, ty, depth) {
                Some(norm) => norm,
                None => self.elementwise(scope, ty, depth),
            },
            15 => {
                let from = if self.features.integers {
                    self.dice.pick(&[Elem::I32, Elem::Bool, Elem::U8, Elem::I8, Elem::U64, Elem::U32])
                } else {
                    self.dice.pick(&[Elem::I32, Elem::Bool])
                };
                let x = self.expr(scope, &ty.with(from), depth);
                let form = match from {
                    Elem::I32 => "f32($ % 7)",
                    Elem::U32 | Elem::U64 => "f32($ % 9)",
                    _ => "f32(#)",
                };
                Expr::new(ty, form, vec![x])
            }
            16 => self.of_weights(scope, ty, depth),
            17 if !scope.stateless && scope.depth == 0 && !scope.entry => self.delayed(scope, ty),
            _ => self.call(scope, ty, depth).unwrap_or_else(|| self.leaf(scope, ty)),
        }
    }

    /// Two operands of one shape, or one of them a scalar.
    pub fn elementwise(&mut self, scope: &mut Scope, ty: &Type, depth: usize) -> Expr {
        let x = self.expr(scope, ty, depth);
        if self.dice.chance(30) {
            let scalar = if self.dice.chance(50) {
                Expr::leaf(&Type::scalar(Elem::F32), self.literal())
            } else {
                self.expr(scope, &Type::scalar(Elem::F32), depth.min(1))
            };
            let form = self.dice.pick(&["$ * $", "$ + $", "$ - $", "$ / (abs(#) + 0.5)", "max(#, #)", "min(#, #)"]);
            return Expr::new(ty, form, vec![x, scalar]);
        }
        let y = self.expr(scope, ty, depth);
        Expr::new(ty, self.dice.pick(&PAIRS), vec![x, y])
    }

    /// A number with a point.
    pub fn literal(&mut self) -> &'static str {
        self.dice.pick(&["0.5", "2.0", "0.25", "1.5", "-0.75", "1e-3", "0.0", "-1.0", "0.1", "3.0", "0x3", "1"])
    }

    /// The smallest thing of the type: a weight, a literal, a constant.
    pub fn leaf(&mut self, scope: &mut Scope, ty: &Type) -> Expr {
        if let Some((place, axis)) = growing(ty) {
            return self.growing_leaf(scope, ty, place, axis);
        }
        let shape = ty.fixed().unwrap_or_default();
        match ty.elem {
            Elem::F32 if shape.is_empty() => match self.dice.below(5) {
                0 if !scope.decls.is_empty() || self.dice.chance(60) => {
                    let width = self.width();
                    let name = self.weight(scope, "f32", &[width]);
                    let at = self.dice.below(width);
                    Expr::leaf(ty, format!("{name}[{at}]"))
                }
                1 => Expr::leaf(ty, "(f32(position) * 0.1)"),
                _ => match self.known_scalar(scope) {
                    Some(x) => x,
                    None => Expr::leaf(ty, format!("f32(position % {})", 2 + self.dice.below(4))),
                },
            },
            Elem::F32 => self.plain_weight(scope, ty),
            Elem::Bool => self.plain_truth(scope, ty),
            _ => self.plain_integer(scope, ty),
        }
    }

    /// Something of the type that may stand in several places: a call of a part with state may not.
    pub fn plain(&mut self, scope: &mut Scope, ty: &Type) -> Expr {
        self.known(scope, ty, false).unwrap_or_else(|| match (ty.elem, ty.fixed()) {
            (Elem::F32, Some(shape)) if !shape.is_empty() => {
                let name = self.weight(scope, "f32", &shape);
                Expr::leaf(ty, name)
            }
            _ => self.leaf(scope, ty),
        })
    }

    /// A sum or an element of a vector in sight.
    fn known_scalar(&mut self, scope: &mut Scope) -> Option<Expr> {
        let vectors: Vec<Type> = scope
            .vars
            .iter()
            .filter(|v| v.ty.elem == Elem::F32 && v.ty.shape.len() == 1 && growing(&v.ty).is_none())
            .map(|v| v.ty.clone())
            .collect();
        if vectors.is_empty() {
            return None;
        }
        let at = self.dice.below(vectors.len());
        let x = self.known(scope, &vectors[at], false)?;
        let width = vectors[at].fixed()?[0];
        let scalar = Type::scalar(Elem::F32);
        Some(match self.dice.below(4) {
            0 => Expr::new(&scalar, "sum(#)", vec![x]),
            1 => Expr::new(&scalar, "max(#)", vec![x]),
            2 => Expr::new(&scalar, "mean(#)", vec![x]),
            _ => Expr::new(&scalar, format!("$[{}]", self.dice.below(width)), vec![x]),
        })
    }

    /// `if c { a } else { b }` as a value.
    fn choice(&mut self, scope: &mut Scope, ty: &Type, depth: usize) -> Expr {
        let condition = self.condition(scope, depth.min(1));
        let mut sides = Vec::new();
        for _ in 0..2 {
            // A delay inside of a branch would skip steps, and states advance with their own rules.
            let effects = (scope.depth, scope.stateless);
            (scope.depth, scope.stateless) = (scope.depth + 1, true);
            sides.push(self.expr(scope, ty, depth));
            (scope.depth, scope.stateless) = effects;
        }
        let (a, b) = (sides.remove(0), sides.remove(0));
        Expr::new(ty, "(if # { # } else { # })", vec![condition, a, b])
    }

    fn selection(&mut self, scope: &mut Scope, ty: &Type, depth: usize) -> Expr {
        let mask = self.expr(scope, &ty.with(Elem::Bool), depth);
        let a = self.expr(scope, ty, depth);
        if ty.elem == Elem::F32 && self.dice.chance(40) {
            return Expr::new(ty, format!("select(#, #, {})", self.literal()), vec![mask, a]);
        }
        if ty.elem == Elem::F32 && self.dice.chance(10) {
            let literal = self.literal();
            return Expr::new(ty, format!("select(#, 0.5, {literal}) * 1.0"), vec![mask]);
        }
        let b = self.expr(scope, ty, depth);
        Expr::new(ty, "select(#, #, #)", vec![mask, a, b])
    }

    /// One bool of the step. In a mapped call it is the same for all indices.
    pub fn condition(&mut self, scope: &mut Scope, depth: usize) -> Expr {
        let bool = Type::scalar(Elem::Bool);
        if scope.mapped {
            let n = 2 + self.dice.below(3);
            let text = match self.dice.below(4) {
                0 => format!("position % {n} == 1"),
                1 => format!("position % {n} != 0"),
                2 => format!("position > {}", self.dice.below(6)),
                _ => format!("(position * 7 + 3) % 5 < {n}"),
            };
            return Expr::leaf(&bool, text);
        }
        match self.dice.below(8) {
            0..=3 => {
                let width = self.width();
                let vector = Type::f32(&[width]);
                if self.dice.chance(20) {
                    let x = self.plain(scope, &vector);
                    return Expr::new(&bool, "$ @ $ > 0.5", vec![x.clone(), x]);
                }
                let x = self.expr(scope, &vector, depth);
                let form = self.dice.pick(&["sum(#) > 0", "max(#) > 0.4", "mean(#) < 0.1", "$[0] < 0"]);
                Expr::new(&bool, form, vec![x.solid()])
            }
            4 | 5 => {
                let n = 2 + self.dice.below(3);
                Expr::leaf(&bool, format!("position % {n} == {}", self.dice.below(n)))
            }
            6 => {
                let x = self.expr(scope, &bool, depth);
                let y = self.condition(scope, depth.saturating_sub(1));
                Expr::new(&bool, self.dice.pick(&["$ and $", "$ or $"]), vec![x, y])
            }
            _ => {
                let x = self.expr(scope, &Type::scalar(Elem::F32), depth);
                Expr::new(&bool, "$ > 0.1", vec![x])
            }
        }
    }
}
