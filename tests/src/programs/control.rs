//! Choices of the step and loops of the step.

use super::scope::{Generator, Scope};
use super::tree::{Elem, Expr, Stmt, Type};

impl Generator {
    /// `if` over statements, with any of its forms.
    pub fn branch(&mut self, scope: &mut Scope) -> Vec<Stmt> {
        if scope.depth >= 3 || !self.features.control {
            return Vec::new();
        }
        // In a mapped call the condition may differ per index where the sides only compute.
        if scope.mapped && self.dice.chance(25) {
            return self.differing(scope);
        }
        let mut arms = Vec::new();
        for _ in 0..1 + usize::from(self.dice.chance(15)) {
            let condition = self.condition(scope, 2);
            let body = self.side(scope);
            arms.push((condition, body));
        }
        let otherwise = if self.dice.chance(45) { self.side(scope) } else { Vec::new() };
        vec![Stmt::If { arms, otherwise }]
    }

    /// The statements of a side. What it pushes counts as pushed for the other side too: a step pushes once.
    fn side(&mut self, scope: &mut Scope) -> Vec<Stmt> {
        let visible = scope.vars.len();
        scope.depth += 1;
        let count = 1 + self.dice.below(4);
        let mut body = self.statements(scope, count);
        body.extend(self.wire(scope, visible));
        scope.depth -= 1;
        self.leave(scope, visible);
        body
    }

    /// Forgets the names of a body that ends; states that it showed stay.
    fn leave(&mut self, scope: &mut Scope, visible: usize) {
        let inner = scope.vars.split_off(visible);
        let states = |name: &str| scope.groups.iter().any(|g| g.states.iter().any(|s| s.0 == name));
        let kept: Vec<_> = inner.into_iter().filter(|v| states(&v.name)).collect();
        scope.vars.extend(kept);
    }

    /// An assignment of a name of outside that reads what the body has made.
    fn wire(&mut self, scope: &mut Scope, visible: usize) -> Vec<Stmt> {
        let outside: Vec<usize> =
            (0..visible).filter(|&i| scope.vars[i].rebindable && scope.vars[i].ty.elem == Elem::F32).collect();
        if outside.is_empty() {
            return Vec::new();
        }
        let others = self.unread(scope, visible);
        let at = outside[self.dice.below(outside.len())];
        let (name, ty) = (scope.vars[at].name.clone(), scope.vars[at].ty.clone());
        scope.vars[at].uniform = false;
        let start = match self.dice.below(3) {
            0 => self.expr(scope, &ty, 2),
            1 => {
                let x = self.expr(scope, &ty, 2);
                Expr::new(&ty, "0.9 * $ + $", vec![Expr::leaf(&ty, name.clone()), x])
            }
            _ => Expr::leaf(&ty, name.clone()),
        };
        let value = self.with_all(start, others);
        vec![Stmt::Assign { names: vec![(name, ty)], value }]
    }

    /// A choice per mapped index: both sides are computed, so neither may have effects.
    fn differing(&mut self, scope: &mut Scope) -> Vec<Stmt> {
        let width = self.width();
        let stateless = std::mem::replace(&mut scope.stateless, true);
        let x = self.expr(scope, &Type::f32(&[width]), 1);
        let condition = Expr::new(&Type::scalar(Elem::Bool), "sum(#) > 0", vec![x]);
        let body: Vec<Stmt> = self.pure_rebind(scope).into_iter().collect();
        let otherwise = if self.dice.chance(50) { self.pure_rebind(scope).into_iter().collect() } else { Vec::new() };
        scope.stateless = stateless;
        if body.is_empty() && otherwise.is_empty() {
            return Vec::new();
        }
        vec![Stmt::If { arms: vec![(condition, body)], otherwise }]
    }

    fn pure_rebind(&mut self, scope: &mut Scope) -> Option<Stmt> {
        scope.depth += 1;
        let made = self.rebind(scope);
        scope.depth -= 1;
        made
    }

    /// `repeat`, with a count that is known or of the step, and perhaps an exit.
    pub fn rounds(&mut self, scope: &mut Scope) -> Vec<Stmt> {
        if scope.depth >= 2 || !self.features.control {
            return Vec::new();
        }
        let int = Type::scalar(Elem::I32);
        let most = 1 + self.dice.below(4);
        let count = match self.dice.below(4) {
            0 | 1 => Expr::leaf(&int, most.to_string()),
            2 => Expr::leaf(&int, format!("position % {}", most + 1)),
            _ if scope.mapped => Expr::leaf(&int, format!("(position + 1) % {}", most + 1)),
            _ => {
                let x = self.expr(scope, &int, 1);
                Expr::new(&int, format!("$ % {}", most + 1), vec![x])
            }
        };
        let variable = self.name("r");
        let visible = scope.vars.len();
        scope.depth += 1;
        scope.declare(&variable, &int, false, true);
        let inner = scope.vars.len();
        let n = 1 + self.dice.below(3);
        let mut body = self.statements(scope, n);
        if self.dice.chance(50) {
            let exit = self.exit(scope, &variable);
            body.push(exit);
            let more = self.dice.below(3);
            body.extend(self.statements(scope, more));
        }
        body.extend(self.wire(scope, inner));
        scope.depth -= 1;
        self.leave(scope, visible);
        vec![Stmt::Repeat { variable, first: 1, count, most, body }]
    }

    fn exit(&mut self, scope: &mut Scope, variable: &str) -> Stmt {
        let bool = Type::scalar(Elem::Bool);
        if scope.mapped || self.dice.chance(40) {
            return Stmt::Exit(Expr::leaf(&bool, format!("(position + {variable}) % 3 == 0")));
        }
        Stmt::Exit(self.condition(scope, 1))
    }
}
