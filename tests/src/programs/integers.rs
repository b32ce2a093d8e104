//! Integers and bools: bit operations, shifts, floored division, conversions, comparisons, counts.

use super::scope::{Generator, Scope};
use super::tree::{Elem, Expr, Type};

/// Joins of two integers of one element.
const PAIRS: [&str; 9] =
    ["$ + $", "$ - $", "$ * $", "$ ^ $", "min(#, #)", "max(#, #)", "$ // ($ % 5 + 6)", "$ % ($ % 3 + 4)", "$ + $"];

impl Generator {
    /// Integers of a fixed shape.
    pub fn integers(&mut self, scope: &mut Scope, ty: &Type, depth: usize) -> Expr {
        match self.dice.below(12) {
            0..=3 => {
                let (x, y) = (self.expr(scope, ty, depth), self.expr(scope, ty, depth));
                Expr::new(ty, self.dice.pick(&PAIRS), vec![x, y])
            }
            4 | 5 => {
                let x = self.expr(scope, ty, depth);
                let n = 1 + self.dice.below(6);
                let form = self.dice.pick(&["$ >> N", "$ << N", "$ // N", "$ % N", "$ + N", "N - $", "clamp(#, 1, 9)"]);
                Expr::new(ty, form.replace('N', &n.to_string()), vec![x])
            }
            6 | 7 => {
                let scale = self.dice.pick(&[3, 10, 100, 40]);
                let x = self.expr(scope, &ty.with(Elem::F32), depth);
                Expr::new(ty, format!("{}($ * {scale})", ty.elem.name()), vec![x])
            }
            8 => {
                let from = if self.features.integers {
                    self.dice.pick(&[Elem::Bool, Elem::I32, Elem::U64, Elem::U8, Elem::I8, Elem::U32])
                } else {
                    self.dice.pick(&[Elem::Bool, Elem::I32])
                };
                let x = self.expr(scope, &ty.with(from), depth);
                if from == ty.elem { x } else { Expr::new(ty, format!("{}(#)", ty.elem.name()), vec![x]) }
            }
            9 if matches!(ty.elem, Elem::I32 | Elem::I8) => {
                let x = self.expr(scope, ty, depth);
                Expr::new(ty, self.dice.pick(&["abs(#)", "-$"]), vec![x])
            }
            _ => self.plain_integer(scope, ty),
        }
    }

    /// A constant or something of the position.
    pub fn plain_integer(&mut self, scope: &mut Scope, ty: &Type) -> Expr {
        let name = ty.elem.name();
        let shape = ty.fixed().unwrap_or_default();
        match shape.as_slice() {
            [] => match self.dice.below(4) {
                0 if ty.elem == Elem::I32 => Expr::leaf(ty, "position"),
                1 => Expr::leaf(ty, format!("{name}(position)")),
                2 => Expr::leaf(ty, format!("{name}({})", self.dice.pick(&["3", "0", "7", "50", "1"]))),
                _ => {
                    let n = self.width();
                    let w = self.weight(scope, "f32", &[n]);
                    Expr::leaf(ty, format!("{name}({w}[{}] * 9)", self.dice.below(n)))
                }
            },
            [n] => match self.dice.below(4) {
                0 if ty.elem == Elem::I32 => Expr::leaf(ty, format!("iota({n})")),
                1 => Expr::leaf(ty, format!("{name}((iota({n}) + position) % 7)")),
                2 if *n <= 4 => {
                    let parts = vec![format!("{name}(position)"); *n].join(", ");
                    Expr::leaf(ty, format!("[{parts}]"))
                }
                _ => {
                    let x = self.leaf(scope, &ty.with(Elem::F32));
                    Expr::new(ty, format!("{name}($ * 5)"), vec![x])
                }
            },
            _ => {
                let x = self.leaf(scope, &ty.with(Elem::F32));
                Expr::new(ty, format!("{name}($ * 5)"), vec![x])
            }
        }
    }

    /// Bools of a fixed shape.
    pub fn truths(&mut self, scope: &mut Scope, ty: &Type, depth: usize) -> Expr {
        match self.dice.below(10) {
            0..=3 => {
                let compared = ty.with(Elem::F32);
                let x = self.expr(scope, &compared, depth);
                let sign = self.dice.pick(&["<", ">", ">=", "<=", "==", "!="]);
                if self.dice.chance(50) {
                    return Expr::new(ty, format!("$ {sign} {}", self.literal()), vec![x]);
                }
                let y = self.expr(scope, &compared, depth);
                Expr::new(ty, format!("$ {sign} $"), vec![x, y])
            }
            4 | 5 => {
                let others = self.dice.pick(&[Elem::I32, Elem::U64, Elem::U8, Elem::I8]);
                let compared = ty.with(if self.features.integers { others } else { Elem::I32 });
                let (x, y) = (self.expr(scope, &compared, depth), self.expr(scope, &compared, depth));
                Expr::new(ty, self.dice.pick(&["$ < $", "$ >= $", "$ == $", "$ != $"]), vec![x, y])
            }
            6 => {
                let (x, y) = (self.expr(scope, ty, depth), self.expr(scope, ty, depth));
                Expr::new(ty, self.dice.pick(&["$ and $", "$ or $", "$ ^ $", "$ == $", "$ != $"]), vec![x, y])
            }
            7 => {
                let x = self.expr(scope, ty, depth);
                Expr::new(ty, "(not $)", vec![x])
            }
            8 if !ty.shape.is_empty() => {
                let n = 1 + self.dice.below(4);
                let x = self.expr(scope, &ty.with(Elem::F32), depth);
                Expr::new(ty, format!("top_mask(#, {n})"), vec![x])
            }
            9 => self.bits(scope, ty, depth),
            _ => self.plain_truth(scope, ty),
        }
    }

    /// The bits of words.
    fn bits(&mut self, scope: &mut Scope, ty: &Type, depth: usize) -> Expr {
        match ty.fixed().as_deref() {
            Some([n]) if *n > 1 && self.features.integers => {
                let words = n.div_ceil(64);
                let x = self.expr(scope, &Type::of(Elem::U64, &[words]), depth);
                Expr::new(ty, format!("bits(#)[0..{n}]"), vec![x])
            }
            _ => self.plain_truth(scope, ty),
        }
    }

    /// A comparison of something that is always at hand.
    pub fn plain_truth(&mut self, scope: &mut Scope, ty: &Type) -> Expr {
        match ty.fixed().as_deref() {
            Some([]) => Expr::leaf(ty, format!("(position % {} == 0)", 2 + self.dice.below(3))),
            Some([n]) if self.dice.chance(50) => Expr::leaf(ty, format!("(iota({n}) < position)")),
            _ => {
                let x = self.leaf(scope, &ty.with(Elem::F32));
                Expr::new(ty, "($ >= 0.9)", vec![x])
            }
        }
    }
}
