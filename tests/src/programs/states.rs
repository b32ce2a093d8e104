//! States that are read and set, and delays.

use super::scope::{Generator, Scope, growing};
use super::tree::{Decl, Elem, Expr, Stmt, Type};

impl Generator {
    /// Declares a state of a block and makes its name visible.
    pub fn state(&mut self, scope: &mut Scope) {
        let name = self.name("s");
        let (elem, shape) = (self.state_elem(), self.shape());
        let ty = Type::of(elem, &shape);
        let initial = match elem {
            Elem::F32 if !shape.is_empty() && self.features.initial_weights && self.dice.chance(40) => {
                let encoding = self.float_encoding();
                self.weight(scope, encoding, &shape)
            }
            Elem::F32 => self.dice.pick(&["0", "0", "0.5", "-inf", "-1.25", "3"]).to_owned(),
            Elem::Bool => self.dice.pick(&["false", "true"]).to_owned(),
            Elem::I8 | Elem::I32 => self.dice.pick(&["0", "7", "-3"]).to_owned(),
            _ => self.dice.pick(&["0", "7"]).to_owned(),
        };
        scope.decls.push(Decl::State { names: vec![name.clone()], ty: ty.text(), initial: Some(initial) });
        scope.declare(&name, &ty, true, false);
    }

    fn state_elem(&mut self) -> Elem {
        match self.dice.below(12) {
            0 => Elem::I32,
            1 => Elem::Bool,
            2 if self.features.integers => self.dice.pick(&[Elem::U64, Elem::U8, Elem::I8, Elem::U32]),
            _ => Elem::F32,
        }
    }

    /// One of the common recurrences of a state in sight, or any value.
    pub fn advance(&mut self, scope: &mut Scope) -> Option<Stmt> {
        let states: Vec<(String, Type)> = scope
            .vars
            .iter()
            .filter(|v| v.name.starts_with('s') && v.rebindable)
            .map(|v| (v.name.clone(), v.ty.clone()))
            .collect();
        if states.is_empty() {
            return None;
        }
        let (name, ty) = states[self.dice.below(states.len())].clone();
        let this = Expr::leaf(&ty, name.clone());
        if let Some(var) = scope.vars.iter_mut().find(|v| v.name == name) {
            var.read = true;
        }
        let shape = ty.fixed()?;
        let value = match (ty.elem, shape.as_slice()) {
            (Elem::F32, [a, b]) if self.dice.chance(60) => {
                let (v, k) = (self.expr(scope, &Type::f32(&[*a]), 1), self.plain(scope, &Type::f32(&[*b])));
                match self.dice.below(4) {
                    0 => Expr::new(&ty, "0.5 * $ + outer(#, #)", vec![this, v, k]),
                    1 => Expr::new(&ty, "$ + 0.5 * outer($ - $ @ $, #)", vec![this.clone(), v, this, k.clone(), k]),
                    2 => {
                        let rows = self.indices(scope, &[*a], *a, 0);
                        Expr::new(&ty, "$[#] * 0.5 + outer(#, #)", vec![this, rows, v, k])
                    }
                    _ => Expr::new(&ty, "sigmoid(sum(#)) * $ + outer(#, #)", vec![k.clone(), this, v, k]),
                }
            }
            (Elem::F32, _) => {
                let (a, b) = (self.plain(scope, &ty), self.expr(scope, &ty, 1));
                match self.dice.below(6) {
                    0 => Expr::new(&ty, "sigmoid(#) * $ + (1 - sigmoid(#)) * $", vec![a.clone(), this, a, b]),
                    1 => Expr::new(&ty, "max($ - 0.5, #)", vec![this, a]),
                    2 => Expr::new(&ty, "0.9 * $ + $", vec![this, a]),
                    3 => Expr::new(&ty, "tanh($ + $)", vec![this, a]),
                    4 => a,
                    _ => self.expr(scope, &ty, 2),
                }
            }
            _ => self.expr(scope, &ty, 2),
        };
        Some(Stmt::Assign { names: vec![(name, ty)], value })
    }

    /// A name of this type a few steps ago, or the sum of two such; the name keeps its value from here on.
    pub fn delayed(&mut self, scope: &mut Scope, ty: &Type) -> Expr {
        let fits = |v: &&mut super::scope::Var| v.ty == *ty && growing(&v.ty).is_none() && !v.name.starts_with('s');
        let found = scope.vars.iter_mut().rev().find(fits);
        let Some(var) = found else { return self.leaf(scope, ty) };
        (var.rebindable, var.read) = (false, true);
        let name = var.name.clone();
        let back = 1 + self.dice.below(3);
        if ty.elem == Elem::F32 && self.dice.chance(40) {
            let more = back + 1 + self.dice.below(3);
            return Expr::leaf(ty, format!("(delay({name}, {back}) * 0.5 + delay({name}, {more}))"));
        }
        Expr::leaf(ty, format!("delay({name}, {back})"))
    }
}
