//! Blocks and calls of them: parts, mapped calls, arrays of experts of which the step chooses, blocks without parts.

use super::scope::{Generator, Scope};
use super::tree::{Block, CALL, Decl, Elem, Expr, Stmt, Type};

/// How often one block may run in a step: each run has its own states.
const MOST_RUNS: usize = 72;

/// What a block is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Called as it is.
    Plain,
    /// Called with more leading axes than it declares.
    Mapped,
    /// One of several that a step chooses.
    Expert,
    /// One layer of the trunk.
    Layer,
}

impl Generator {
    /// A new block with these parameters and results; gives its name.
    pub fn block(&mut self, role: Role, params: &[Type], results: &[Type]) -> String {
        let name = self.name("blk");
        let mut scope = Scope { mapped: role == Role::Mapped, stateless: role == Role::Expert, ..Scope::default() };
        let params: Vec<(String, Type)> = params.iter().map(|ty| (self.name("x"), ty.clone())).collect();
        params.iter().for_each(|(name, ty)| scope.declare(name, ty, true, false));
        if role != Role::Expert {
            for _ in 0..self.dice.below(3) {
                self.state(&mut scope);
            }
            if self.features.caches && self.dice.chance(50) {
                self.cache(&mut scope);
            }
        }
        let count = match role {
            Role::Layer => 2 + self.dice.below(9),
            Role::Expert => 1 + self.dice.below(3),
            _ => 1 + self.dice.below(5),
        };
        let mut body = self.statements(&mut scope, count);
        for _ in 0..3 {
            if !scope.groups.iter().all(|g| g.pushed) {
                body.extend(self.push(&mut scope));
            }
        }
        for at in 0..scope.groups.len() {
            if scope.groups[at].pushed && self.dice.chance(80) {
                body.extend(self.read_group(&mut scope, at));
            }
        }
        for _ in 0..2 {
            if self.dice.chance(60) {
                body.extend(self.advance(&mut scope));
            }
        }
        let mut values = Vec::new();
        for ty in results {
            values.push(self.expr(&mut scope, ty, 3));
        }
        let others = self.unread(&mut scope, 0);
        if results[0].elem == Elem::F32 {
            let value = self.with_all(values[0].clone(), others);
            let calm = if self.dice.chance(70) { "tanh(#)" } else { "#" };
            values[0] = Expr::new(&results[0], calm, vec![value]);
        }
        body.push(Stmt::Return(values));
        let block = Block {
            name: name.clone(),
            statics: String::new(),
            params,
            results: results.to_vec(),
            decls: scope.decls,
            body,
        };
        self.program.blocks.push(block);
        name
    }

    /// A call that gives floats of this shape, of a block made for it.
    pub fn call(&mut self, scope: &mut Scope, ty: &Type, depth: usize) -> Option<Expr> {
        if self.budget < 3 || scope.stateless {
            return None;
        }
        let shape = ty.fixed()?;
        let mapped = self.features.mapping && !shape.is_empty() && self.dice.chance(55);
        let leads = if mapped { 1 + self.dice.below(shape.len().min(2)) } else { 0 };
        let (front, own) = shape.split_at(leads);
        let runs = self.instances * front.iter().product::<usize>();
        if runs > MOST_RUNS {
            return None;
        }
        let result = Type::f32(own);
        let mut params = vec![Type::f32(&[self.width().min(33)])];
        if self.dice.chance(50) {
            params.push(self.any_type());
        }
        let role = if mapped || scope.mapped { Role::Mapped } else { Role::Plain };
        let around = std::mem::replace(&mut self.instances, runs);
        let block = self.block(role, &params, std::slice::from_ref(&result));
        self.instances = around;
        let part = self.part(scope, block);
        let mut parts = vec![Expr::word(part)];
        for (place, param) in params.iter().enumerate() {
            // The first argument has the mapped axes, the others may be passed whole.
            let own = param.fixed().unwrap_or_default();
            let shape = if place == 0 || self.dice.chance(50) { [front, &own].concat() } else { own };
            let argument = Type::of(param.elem, &shape);
            parts.push(self.expr(scope, &argument, depth.min(2)));
        }
        Some(Expr::new(ty, CALL, parts))
    }

    /// A block with two results.
    pub fn call_statement(&mut self, scope: &mut Scope) -> Vec<Stmt> {
        if self.budget < 3 || scope.stateless {
            return Vec::new();
        }
        let params = [Type::f32(&[self.width()]), self.any_type()];
        let results = [Type::f32(&[self.width()]), self.any_type()];
        let role = if scope.mapped { Role::Mapped } else { Role::Plain };
        let block = self.block(role, &params, &results);
        let part = self.part(scope, block);
        let mut parts = vec![Expr::word(part)];
        for param in &params {
            parts.push(self.expr(scope, param, 2));
        }
        let names: Vec<(String, Type)> = results.iter().map(|ty| (self.name("v"), ty.clone())).collect();
        names.iter().for_each(|(name, ty)| scope.declare(name, ty, true, false));
        vec![Stmt::Assign { names, value: Expr::tuple(CALL, parts) }]
    }

    /// Experts of which a step chooses the best, weighed; or one of them always.
    pub fn routed(&mut self, scope: &mut Scope) -> Vec<Stmt> {
        if self.budget < 4 || scope.stateless {
            return Vec::new();
        }
        let (n, m) = (self.width(), self.width());
        let count = 1 + self.dice.below(5);
        let block = self.block(Role::Expert, &[Type::f32(&[n])], &[Type::f32(&[m])]);
        let part = self.name("ex");
        scope.decls.push(Decl::Part { name: part.clone(), count: Some(count), of: block });
        let x = self.expr(scope, &Type::f32(&[n]), 2);
        let k = (1 + self.dice.below(3)).min(count);
        let scores = self.expr(scope, &Type::f32(&[count]), 2);
        let (weights, chosen) = (self.name("v"), self.name("i"));
        let (floats, places) = (Type::f32(&[k]), Type::of(Elem::I32, &[k]));
        let top = Stmt::Assign {
            names: vec![(weights.clone(), floats.clone()), (chosen.clone(), places.clone())],
            value: Expr::tuple(format!("top_k(sigmoid(#), {k})"), vec![scores]),
        };
        let result = Type::f32(&[m]);
        let callee = Expr::new(&Type::f32(&[k, m]), format!("{part}[#]"), vec![Expr::leaf(&places, chosen.clone())]);
        let callee = Expr { ty: None, ..callee };
        let all = Expr::new(&Type::f32(&[k, m]), CALL, vec![callee, x]);
        let value = if self.dice.chance(70) {
            Expr::new(&result, "$ @ $", vec![Expr::leaf(&floats, weights.clone()), all])
        } else {
            Expr::new(&result, "sum(#, axis: 0)", vec![all])
        };
        scope.declare(&weights, &floats, true, false);
        scope.declare(&chosen, &places, false, false);
        let name = self.name("v");
        scope.declare(&name, &result, true, false);
        vec![top, Stmt::Assign { names: vec![(name, result)], value }]
    }
}
