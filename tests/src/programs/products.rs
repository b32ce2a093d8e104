//! Products: `a @ b` of all ranks and operands, `w(x)`, layers of std; norms, which are quotients by a root.

use super::scope::{Generator, Scope};
use super::tree::{CALL, Decl, Elem, Expr, Type};

impl Generator {
    /// A product that gives this type.
    pub fn product(&mut self, scope: &mut Scope, ty: &Type, depth: usize) -> Option<Expr> {
        let shape = ty.fixed()?;
        match shape.as_slice() {
            [] => {
                let k = self.width();
                let (a, b) = (self.factor(scope, &[k], depth), self.factor(scope, &[k], depth));
                Some(self.contraction(ty, a, b))
            }
            [n] if self.dice.chance(45) => {
                let k = self.width();
                let matrix_first = self.dice.chance(70);
                let (left, right) = if matrix_first { (vec![*n, k], vec![k]) } else { (vec![k], vec![k, *n]) };
                let (a, b) = (self.factor(scope, &left, depth), self.factor(scope, &right, depth));
                Some(self.contraction(ty, a, b))
            }
            [a, b] if self.dice.chance(60) => {
                let k = self.width().min(33);
                if self.dice.chance(25) {
                    let (x, y) = (self.factor(scope, &[*a], depth), self.factor(scope, &[*b], depth));
                    return Some(Expr::new(ty, "outer(#, #)", vec![x, y]));
                }
                let (x, y) = (self.factor(scope, &[*a, k], depth), self.factor(scope, &[k, *b], depth));
                Some(self.contraction(ty, x, y))
            }
            [front @ .., n] => Some(self.linear(scope, ty, front, *n, depth)),
        }
    }

    fn contraction(&mut self, ty: &Type, a: Expr, b: Expr) -> Expr {
        // A weight on both sides is a product of constants.
        Expr::new(ty, "$ @ $", vec![a, b])
    }

    /// An operand of a product: a weight of any encoding, or a value.
    fn factor(&mut self, scope: &mut Scope, shape: &[usize], depth: usize) -> Expr {
        let ty = Type::f32(shape);
        if self.dice.chance(45) {
            let encoding = if shape.len() == 2 && self.features.code_values {
                self.encoding()
            } else {
                self.float_encoding().to_owned()
            };
            let name = self.weight(scope, &encoding, shape);
            return Expr::leaf(&ty, name);
        }
        self.expr(scope, &ty, depth)
    }

    /// A linear layer over the last axis: a weight, or a block of std.
    fn linear(&mut self, scope: &mut Scope, ty: &Type, front: &[usize], n: usize, depth: usize) -> Expr {
        let k = self.width();
        let input = Type::f32(&[front, &[k]].concat());
        let x = self.expr(scope, &input, depth);
        let encoding = self.encoding();
        if self.dice.chance(40) {
            let name = self.weight(scope, &encoding, &[n, k]);
            return Expr::new(ty, CALL, vec![Expr::word(name), x]);
        }
        let affine = encoding.starts_with(['f', 'b']) && self.dice.chance(30);
        let block = if affine { "affine" } else { "linear" };
        let name = self.part(scope, format!("{block}[{n}, {k}, {encoding}]"));
        Expr::new(ty, CALL, vec![Expr::word(name), x])
    }

    /// A part of a block of std.
    pub fn part(&mut self, scope: &mut Scope, of: String) -> String {
        let name = self.name("p");
        scope.decls.push(Decl::Part { name: name.clone(), count: None, of });
        name
    }

    /// A norm, a softmax or another block of std over the last axis.
    pub fn norm(&mut self, scope: &mut Scope, ty: &Type, depth: usize) -> Option<Expr> {
        let shape = ty.fixed()?;
        let n = *shape.last()?;
        let x = self.expr(scope, ty, depth);
        Some(match self.dice.below(9) {
            0 | 1 => Expr::new(ty, "unit_rms(#, 1e-5)", vec![x]),
            2 => Expr::new(ty, "l2(#)", vec![x]),
            3 | 4 => Expr::new(ty, "softmax(#)", vec![x]),
            5 => {
                let store = self.float_encoding();
                let part = self.part(scope, format!("rms_norm[{n}, 1e-6, {store}]"));
                Expr::new(ty, CALL, vec![Expr::word(part), x])
            }
            6 => {
                let part = self.part(scope, format!("layer_norm[{n}, 1e-5]"));
                Expr::new(ty, CALL, vec![Expr::word(part), x])
            }
            7 if n % 2 == 0 => {
                let at = self.expr(scope, &Type::scalar(Elem::I32), 0);
                Expr::new(ty, "rope[base: 1e4](#, # % 50)", vec![x, at])
            }
            8 if !scope.stateless && scope.depth == 0 && !scope.entry => {
                let taps = 1 + self.dice.below(4);
                let part = self.part(scope, format!("short_conv[{n}, {taps}]"));
                Expr::new(ty, CALL, vec![Expr::word(part), x])
            }
            _ => {
                let y = self.plain(scope, ty);
                Expr::new(ty, "$ / sqrt(mean(flatten(#)) * mean(flatten(#)) + 1e-3)", vec![x, y.clone(), y])
            }
        })
    }
}
