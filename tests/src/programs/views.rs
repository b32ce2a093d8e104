//! Views and reductions: a value of the wanted type from values of other shapes, whatever their elements are.

use super::render::list;
use super::scope::{Generator, Scope};
use super::tree::{Elem, Expr, Type};

/// The most elements of a value that is only made to be cut down.
const LARGEST: usize = 1500;

impl Generator {
    /// A value of this fixed shape by way of another shape, if one of them is at hand.
    pub fn view(&mut self, scope: &mut Scope, ty: &Type, depth: usize) -> Option<Expr> {
        let shape = ty.fixed()?;
        let elements: usize = shape.iter().product();
        if elements > LARGEST {
            return None;
        }
        match shape.as_slice() {
            [] => Some(self.reduced(scope, ty, depth)),
            _ if self.dice.chance(20) => Some(self.reduced_axis(scope, ty, &shape, depth)),
            [n] => self.vector(scope, ty, *n, depth),
            [a, b] => self.matrix(scope, ty, *a, *b, depth),
            _ => self.many_axes(scope, ty, &shape, depth),
        }
    }

    /// One value of a vector or of more.
    fn reduced(&mut self, scope: &mut Scope, ty: &Type, depth: usize) -> Expr {
        let n = self.width();
        let vector = Type::of(ty.elem, &[n]);
        if self.dice.chance(35) {
            let x = self.expr(scope, &vector, depth);
            if self.dice.chance(40) {
                let (at, scalar) = (self.index(scope, n, depth), Type::scalar(ty.elem));
                return Expr::new(&scalar, "$[#]", vec![x, at]);
            }
            return Expr::new(ty, format!("$[{}]", self.dice.below(n)), vec![x.solid()]);
        }
        match ty.elem {
            Elem::F32 => {
                let x = self.expr(scope, &vector, depth);
                match self.dice.below(7) {
                    0 => {
                        let y = self.expr(scope, &vector, depth);
                        Expr::new(ty, "$ @ $", vec![x, y])
                    }
                    1 => Expr::new(ty, "rms(#)", vec![x]),
                    2 => Expr::new(ty, "mean(#)", vec![x]),
                    3 => Expr::new(ty, "min(#)", vec![x]),
                    4 => Expr::new(ty, "max(#)", vec![x]),
                    5 => {
                        let a = 1 + self.dice.below(3);
                        let m = self.expr(scope, &Type::f32(&[a, n]), depth);
                        let inner = self.dice.pick(&["sum(sum(#))", "max(sum(#, axis: 0))", "sum(flatten(#))"]);
                        Expr::new(ty, inner, vec![m])
                    }
                    _ => Expr::new(ty, "sum(#)", vec![x]),
                }
            }
            Elem::Bool => {
                let x = self.expr(scope, &vector, depth);
                Expr::new(ty, "any(#)", vec![x])
            }
            Elem::I32 if self.dice.chance(60) => {
                let from = if self.dice.chance(50) { Elem::F32 } else { Elem::Bool };
                let x = self.expr(scope, &Type::of(from, &[n]), depth);
                Expr::new(ty, if from == Elem::F32 { "argmax(#)" } else { "count(#)" }, vec![x])
            }
            _ => {
                let x = self.expr(scope, &vector, depth);
                Expr::new(ty, self.dice.pick(&["sum(#)", "max(#)", "min(#)"]), vec![x])
            }
        }
    }

    /// Takes one more axis away than there is.
    fn reduced_axis(&mut self, scope: &mut Scope, ty: &Type, shape: &[usize], depth: usize) -> Expr {
        let axis = self.dice.below(shape.len() + 1);
        let mut larger = shape.to_vec();
        larger.insert(axis, 1 + self.dice.below(5));
        let named = if axis == shape.len() && self.dice.chance(50) { String::new() } else { format!(", axis: {axis}") };
        let (from, name) = match ty.elem {
            Elem::Bool => (Elem::Bool, "any"),
            Elem::I32 if self.dice.chance(50) => {
                let last = axis == shape.len() && named.is_empty();
                if last && self.dice.chance(50) { (Elem::Bool, "count") } else { (Elem::F32, "argmax") }
            }
            elem => (elem, self.dice.pick(&["sum", "max", "min", "sum"])),
        };
        let x = self.expr(scope, &Type::of(from, &larger), depth);
        Expr::new(ty, format!("{name}(#{named})"), vec![x])
    }

    fn vector(&mut self, scope: &mut Scope, ty: &Type, n: usize, depth: usize) -> Option<Expr> {
        let elem = ty.elem;
        Some(match self.dice.below(8) {
            0 => {
                let (a, b) = self.factors(n);
                let x = self.expr(scope, &Type::of(elem, &[a, b]), depth);
                Expr::new(ty, "flatten(#)", vec![x])
            }
            1 | 2 => {
                let more = n + 1 + self.dice.below(9);
                let from = if self.dice.chance(40) { self.longer(n) } else { more };
                let start = self.dice.below(from - n + 1);
                let x = self.expr(scope, &Type::of(elem, &[from]), depth);
                Expr::new(ty, format!("$[{start}..{}]", start + n), vec![x.solid()])
            }
            3 if n > 1 => {
                let cut = 1 + self.dice.below(n - 1);
                let x = self.expr(scope, &Type::of(elem, &[cut]), depth);
                let y = self.expr(scope, &Type::of(elem, &[n - cut]), depth);
                Expr::new(ty, "concat(#, #)", vec![x, y])
            }
            4 => {
                let rows = 1 + self.dice.below(4);
                let x = self.expr(scope, &Type::of(elem, &[rows, n]), depth);
                if self.dice.chance(50) {
                    let at = self.index(scope, rows, depth);
                    Expr::new(ty, "$[#]", vec![x, at])
                } else {
                    Expr::new(ty, format!("$[{}]", self.dice.below(rows)), vec![x.solid()])
                }
            }
            5 => {
                let from = self.width();
                let x = self.expr(scope, &Type::of(elem, &[from]), depth);
                let at = self.indices(scope, &[n], from, depth);
                Expr::new(ty, "$[#]", vec![x, at])
            }
            6 if n <= 4 => {
                let parts = (0..n).map(|_| self.expr(scope, &Type::scalar(elem), depth.min(1))).collect();
                let holes = vec!["#"; n].join(", ");
                Expr::new(ty, format!("[{holes}]"), parts)
            }
            _ if elem == Elem::F32 && n > 1 => {
                // The values of the best, in order.
                let more = n + self.dice.below(4);
                let x = self.plain(scope, &Type::f32(&[more]));
                let mask = format!("select(top_mask(#, {n}), #, -0.5)[0..{n}]");
                Expr::new(ty, mask, vec![x.clone(), x])
            }
            _ => return None,
        })
    }

    fn matrix(&mut self, scope: &mut Scope, ty: &Type, a: usize, b: usize, depth: usize) -> Option<Expr> {
        let elem = ty.elem;
        Some(match self.dice.below(9) {
            0 | 1 => {
                let x = self.expr(scope, &Type::of(elem, &[a * b]), depth);
                Expr::new(ty, format!("reshape(#, {})", list(&[a, b])), vec![x])
            }
            2 => {
                let x = self.expr(scope, &Type::of(elem, &[b, a]), depth);
                Expr::new(ty, self.dice.pick(&["transpose(#)", "permute(#, 1, 0)"]), vec![x])
            }
            3 if a <= 4 => {
                let row = Type::of(elem, &[b]);
                let parts = (0..a).map(|_| self.expr(scope, &row, depth.min(1))).collect();
                let holes = vec!["#"; a].join(", ");
                Expr::new(ty, format!("[{holes}]"), parts)
            }
            4 if a > 1 => {
                let cut = 1 + self.dice.below(a - 1);
                let x = self.expr(scope, &Type::of(elem, &[cut, b]), depth);
                let y = self.expr(scope, &Type::of(elem, &[a - cut, b]), depth);
                Expr::new(ty, "concat(#, #)", vec![x, y])
            }
            5 if b > 1 => {
                let cut = 1 + self.dice.below(b - 1);
                let x = self.expr(scope, &Type::of(elem, &[a, cut]), depth);
                let y = self.expr(scope, &Type::of(elem, &[a, b - cut]), depth);
                Expr::new(ty, "concat(#, #, axis: 1)", vec![x, y])
            }
            6 => {
                let rows = 1 + self.dice.below(5);
                let x = self.expr(scope, &Type::of(elem, &[rows, b]), depth);
                let at = self.indices(scope, &[a], rows, depth);
                Expr::new(ty, "$[#]", vec![x, at])
            }
            7 => {
                let rows = a + 1 + self.dice.below(3);
                let x = self.expr(scope, &Type::of(elem, &[rows, b]), depth);
                let start = self.dice.below(rows - a + 1);
                Expr::new(ty, format!("$[{start}..{}]", start + a), vec![x.solid()])
            }
            _ => {
                let outer = 1 + self.dice.below(3);
                let x = self.expr(scope, &Type::of(elem, &[outer, a, b]), depth);
                Expr::new(ty, format!("$[{}]", self.dice.below(outer)), vec![x.solid()])
            }
        })
    }

    fn many_axes(&mut self, scope: &mut Scope, ty: &Type, shape: &[usize], depth: usize) -> Option<Expr> {
        let elements: usize = shape.iter().product();
        Some(match self.dice.below(4) {
            0 => {
                let (last, front) = shape.split_last()?;
                let rows: usize = front.iter().product();
                let x = self.expr(scope, &Type::of(ty.elem, &[rows, *last]), depth);
                Expr::new(ty, format!("reshape(#, {})", list(shape)), vec![x])
            }
            1 => {
                let x = self.expr(scope, &Type::of(ty.elem, &[elements]), depth);
                Expr::new(ty, format!("reshape(#, {})", list(shape)), vec![x])
            }
            2 => {
                let mut order: Vec<usize> = (0..shape.len()).collect();
                for i in (1..order.len()).rev() {
                    order.swap(i, self.dice.below(i + 1));
                }
                // permute(x, order): axis i of the result is axis order[i] of x.
                let mut from = vec![0; shape.len()];
                order.iter().zip(shape).for_each(|(&at, &n)| from[at] = n);
                let x = self.expr(scope, &Type::of(ty.elem, &from), depth);
                Expr::new(ty, format!("permute(#, {})", list(&order)), vec![x])
            }
            _ if shape[0] <= 3 => {
                let inner = Type::of(ty.elem, &shape[1..]);
                let parts = (0..shape[0]).map(|_| self.expr(scope, &inner, depth.min(1))).collect();
                let holes = vec!["#"; shape[0]].join(", ");
                Expr::new(ty, format!("[{holes}]"), parts)
            }
            _ => return None,
        })
    }

    /// Two factors of a number.
    fn factors(&mut self, n: usize) -> (usize, usize) {
        let found: Vec<usize> = (1..=n).filter(|a| n.is_multiple_of(*a)).collect();
        let a = self.dice.pick(&found);
        (a, n / a)
    }

    /// A length of the program's above `n`, or a little more than `n`.
    fn longer(&mut self, n: usize) -> usize {
        let found: Vec<usize> = self.widths.iter().copied().filter(|&w| w > n).collect();
        if found.is_empty() { n + 1 } else { self.dice.pick(&found) }
    }

    /// A place on an axis of `n`; sometimes one behind its end or -1, which read as the last and as zeros.
    pub fn index(&mut self, scope: &mut Scope, n: usize, depth: usize) -> Expr {
        let int = Type::scalar(Elem::I32);
        match self.dice.below(5) {
            0 => Expr::leaf(&int, format!("position % {n}")),
            1 => {
                let x = self.expr(scope, &Type::f32(&[n]), depth.min(1));
                Expr::new(&int, "argmax(#)", vec![x])
            }
            2 => Expr::leaf(&int, format!("min(position, {})", n - 1)),
            _ => {
                let x = self.expr(scope, &int, depth.min(1));
                Expr::new(&int, format!("$ % {n}"), vec![x])
            }
        }
    }

    /// Places on an axis of `n`.
    pub fn indices(&mut self, scope: &mut Scope, shape: &[usize], n: usize, depth: usize) -> Expr {
        let ty = Type::of(Elem::I32, shape);
        if let [count] = shape
            && self.dice.chance(40)
        {
            let text = match self.dice.below(3) {
                0 => format!("(iota({count}) + position) % {n}"),
                1 => format!("({n} - 1 - iota({count})) % {n}"),
                _ => format!("iota({count}) % {n}"),
            };
            return Expr::leaf(&ty, text);
        }
        let x = self.expr(scope, &ty, depth.min(1));
        Expr::new(&ty, format!("$ % {n}"), vec![x])
    }
}
