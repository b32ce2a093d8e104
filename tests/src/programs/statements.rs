//! Bodies: assignments of new names and of names in sight, values taken apart, probes, the wiring of what nothing read.

use super::scope::{Generator, Scope};
use super::tree::{Elem, Expr, Stmt, Type, WIRED};

impl Generator {
    /// So many statements, and those that they need.
    pub fn statements(&mut self, scope: &mut Scope, count: usize) -> Vec<Stmt> {
        let mut body = Vec::new();
        for _ in 0..count {
            if self.budget == 0 {
                break;
            }
            self.budget -= 1;
            let made = self.statement(scope);
            body.extend(made);
        }
        body
    }

    fn statement(&mut self, scope: &mut Scope) -> Vec<Stmt> {
        match self.dice.below(30) {
            0..=4 => match self.dice.below(4) {
                0 => self.several(scope),
                _ => vec![self.new_name(scope)],
            },
            5 | 6 => vec![self.new_name(scope)],
            7..=11 => self.rebind(scope).into_iter().collect(),
            12..=15 => self.advance(scope).into_iter().collect(),
            16..=18 => self.branch(scope),
            19 => self.rounds(scope),
            20 if !scope.mapped || !scope.stateless => self.probe(scope).into_iter().collect(),
            21..=23 => self.grow(scope),
            24 => self.unrolled(scope),
            25 | 26 => self.call_statement(scope),
            27 if !scope.mapped => self.routed(scope),
            _ => vec![self.new_name(scope)],
        }
    }

    /// A new name for a value of any type.
    fn new_name(&mut self, scope: &mut Scope) -> Stmt {
        let ty = self.any_type();
        let value = self.expr(scope, &ty, 4).read();
        let name = self.name("v");
        scope.declare(&name, &ty, true, false);
        Stmt::Assign { names: vec![(name, ty)], value }
    }

    /// A name in sight gets another value of its type.
    pub fn rebind(&mut self, scope: &mut Scope) -> Option<Stmt> {
        let found: Vec<usize> = (0..scope.vars.len()).filter(|&i| scope.vars[i].rebindable).collect();
        if found.is_empty() {
            return None;
        }
        let at = found[self.dice.below(found.len())];
        let (name, ty) = (scope.vars[at].name.clone(), scope.vars[at].ty.clone());
        let value = self.expr(scope, &ty, 3).read();
        scope.vars[at].uniform = false;
        Some(Stmt::Assign { names: vec![(name, ty)], value })
    }

    /// Several names from one value.
    fn several(&mut self, scope: &mut Scope) -> Vec<Stmt> {
        let (names, value) = match self.dice.below(3) {
            0 => {
                let (pieces, n) = (2 + self.dice.below(3), 1 + self.dice.below(9));
                let front: Vec<usize> = if self.dice.chance(30) { vec![1 + self.dice.below(3)] } else { Vec::new() };
                let elem = if self.dice.chance(80) { Elem::F32 } else { Elem::I32 };
                let whole = [&front[..], &[pieces * n]].concat();
                let x = self.expr(scope, &Type::of(elem, &whole), 2);
                let piece = Type::of(elem, &[&front[..], &[n]].concat());
                (vec![piece; pieces], Expr::tuple(format!("split(#, {pieces})"), vec![x]))
            }
            1 => {
                let n = self.width();
                let k = (1 + self.dice.below(4)).min(n + 1);
                let front: Vec<usize> = if self.dice.chance(25) { vec![1 + self.dice.below(3)] } else { Vec::new() };
                let of = |elem, last| Type::of(elem, &[&front[..], &[last]].concat());
                let x = self.expr(scope, &of(Elem::F32, n), 3);
                (vec![of(Elem::F32, k), of(Elem::I32, k)], Expr::tuple(format!("top_k(#, {k})"), vec![x]))
            }
            _ => {
                let (ty, other) = (self.any_type(), self.any_type());
                let (a, b) = (self.expr(scope, &ty, 2), self.expr(scope, &other, 2));
                (vec![ty, other], Expr::tuple("#, #", vec![a, b]))
            }
        };
        let names: Vec<(String, Type)> = names.into_iter().map(|ty| (self.name("v"), ty)).collect();
        names.iter().for_each(|(name, ty)| scope.declare(name, ty, true, false));
        vec![Stmt::Assign { names, value }]
    }

    fn probe(&mut self, scope: &mut Scope) -> Option<Stmt> {
        if scope.stateless {
            return None;
        }
        let ty = self.any_type();
        let value = match self.known(scope, &ty, false) {
            Some(known) => known,
            None => self.expr(scope, &ty, 2),
        };
        Some(Stmt::Probe(self.name("probe"), value))
    }

    /// Something with a cache: a push, or a read.
    fn grow(&mut self, scope: &mut Scope) -> Vec<Stmt> {
        if scope.groups.is_empty() {
            return self.rebind(scope).into_iter().collect();
        }
        let at = self.dice.below(scope.groups.len());
        if !scope.groups[at].pushed && !scope.stateless && self.may_push(scope) {
            return self.push(scope);
        }
        if !scope.groups[at].pushed && !self.features.early_reads {
            return self.rebind(scope).into_iter().collect();
        }
        self.show(scope, at);
        self.read_group(scope, at)
    }

    fn may_push(&mut self, scope: &Scope) -> bool {
        self.dice.chance(match (scope.depth, self.features.mixed_caches) {
            (0, _) => 85,
            (_, true) => 25,
            (_, false) => 0,
        })
    }

    /// A loop over static numbers.
    fn unrolled(&mut self, scope: &mut Scope) -> Vec<Stmt> {
        let found: Vec<usize> =
            (0..scope.vars.len()).filter(|&i| scope.vars[i].rebindable && scope.vars[i].ty.elem == Elem::F32).collect();
        if found.is_empty() {
            return Vec::new();
        }
        let at = found[self.dice.below(found.len())];
        let (name, ty) = (scope.vars[at].name.clone(), scope.vars[at].ty.clone());
        let variable = self.name("j");
        let stateless = std::mem::replace(&mut scope.stateless, true);
        let more = self.expr(scope, &ty, 2);
        scope.stateless = stateless;
        let this = Expr::leaf(&ty, name.clone());
        let value = Expr::new(&ty, format!("$ * 0.5 + $ * ({variable} + 1)"), vec![this, more]);
        let body = vec![Stmt::Assign { names: vec![(name, ty)], value }];
        vec![Stmt::For { variable, rounds: 1 + self.dice.below(3), body }]
    }

    /// Reads of all names made since `from` that nothing has read, most of the time.
    pub fn unread(&mut self, scope: &mut Scope, from: usize) -> Vec<Expr> {
        let mut found = Vec::new();
        for at in from..scope.vars.len() {
            if scope.vars[at].read || self.dice.chance(10) {
                continue;
            }
            scope.vars[at].read = true;
            let var = scope.vars[at].clone();
            found.push(Expr::leaf(&var.ty, var.name).as_scalar());
        }
        found
    }

    /// `x` with a little of each of these.
    pub fn with_all(&mut self, x: Expr, others: Vec<Expr>) -> Expr {
        let Some(ty) = x.ty.clone() else { return x };
        others.into_iter().fold(x, |sum, other| Expr::new(&ty, WIRED, vec![sum, other]))
    }
}
