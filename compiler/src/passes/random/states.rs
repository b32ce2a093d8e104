//! The parts of random modules that remember: recurrences, growing states, states of the host.

use super::{D, Generator, append};
use crate::ir::*;

impl Generator {
    pub(super) fn gated_state(&mut self, r: &mut Region, f: Value, c: Value) -> Value {
        let v = r.ty(f).clone();
        let s = self.state(v.clone(), Initial::Fill(0.5));
        let f = self.op(r, Op::Unary(UnaryOp::Sigmoid), &[f], None);
        let h = self.op(r, Op::StateRead(s), &[], None);
        let one = self.constant(r, 1.0);
        let one = self.fill(r, one, &v);
        let rest = self.op(r, Op::Binary(BinaryOp::Sub), &[one, f], None);
        let old = self.op(r, Op::Binary(BinaryOp::Mul), &[f, h], None);
        let fresh = self.op(r, Op::Binary(BinaryOp::Mul), &[rest, c], None);
        let h = self.op(r, Op::Binary(BinaryOp::Add), &[old, fresh], None);
        self.op(r, Op::StateWrite(s), &[h], None);
        h
    }

    pub(super) fn matrix_state(&mut self, r: &mut Region, k: Value, x: Value) -> Value {
        let square = Type::of(Elem::F32, &[D, D]);
        let s = self.state(square.clone(), Initial::Fill(0.0));
        let k = self.op(r, Op::Unary(UnaryOp::Tanh), &[k], None);
        let old = self.op(r, Op::StateRead(s), &[], None);
        let seen = self.op(r, Op::MatMul { batch: 0 }, &[old, k], None);
        let delta = self.op(r, Op::Binary(BinaryOp::Sub), &[x, seen], None);
        let rows = self.op(r, Op::Broadcast { axes: vec![0] }, &[delta], Some(square.clone()));
        let columns = self.op(r, Op::Broadcast { axes: vec![1] }, &[k], Some(square));
        let outer = self.op(r, Op::Binary(BinaryOp::Mul), &[rows, columns], None);
        let new = self.op(r, Op::Binary(BinaryOp::Add), &[old, outer], None);
        self.op(r, Op::StateWrite(s), &[new], None);
        self.op(r, Op::MatMul { batch: 0 }, &[new, k], None)
    }

    pub(super) fn delay(&mut self, r: &mut Region, x: Value) -> Value {
        let s = self.state(r.ty(x).clone(), Initial::Fill(0.0));
        let before = self.op(r, Op::StateRead(s), &[], None);
        self.op(r, Op::StateWrite(s), &[x], None);
        before
    }

    /// Two heads over one axis, masked by position: mapped axes in states, products and lookups.
    pub(super) fn heads(&mut self, r: &mut Region, pool: &[Value], q: Value, x: Value) -> Value {
        let path = self.path();
        let axis = self.module.add_axis(Axis { path, capacity: AxisCapacity::Ring(4) });
        let ty = Type::new(Elem::F32, vec![Dim::Const(2), Dim::Grow { axis, plus: 0 }, Dim::Const(4)]);
        let s = self.state(ty, Initial::Empty);
        let two = Type::of(Elem::F32, &[2, 4]);
        let q = self.op(r, Op::Reshape, &[q], Some(two.clone()));
        let x = self.op(r, Op::Reshape, &[x], Some(two));
        let position = self.position(r, pool);
        let old = self.op(r, Op::StateRead(s), &[], None);
        let keys = self.op(r, Op::Push { state: s }, &[old, x, position], None);
        self.op(r, Op::StateWrite(s), &[keys], None);
        let score = self.op(r, Op::MatMul { batch: 1 }, &[keys, q], None);
        let ty = r.ty(score).clone();
        let at = self.op(r, Op::Positions { state: s }, &[keys], None);
        let all = r.ty(at).clone();
        let now = self.fill(r, position, &all);
        let age = self.op(r, Op::Binary(BinaryOp::Sub), &[now, at], None);
        let three = self.op(r, Op::Constant(Literal::i32(3)), &[], None);
        let three = self.fill(r, three, &all);
        let near = self.op(r, Op::Compare(CompareOp::Lt), &[age, three], None);
        let near = self.op(r, Op::Broadcast { axes: vec![1] }, &[near], Some(ty.with_elem(Elem::Bool)));
        let none = self.constant(r, -3.0);
        let none = self.fill(r, none, &ty);
        let score = self.op(r, Op::Select, &[near, score, none], None);
        let seen = self.op(r, Op::MatMul { batch: 1 }, &[score, keys], None);
        let best = self.op(r, Op::Reduce { op: ReduceOp::ArgMax, axis: 1 }, &[seen], None);
        let best = self.op(r, Op::Gather { batch: 1 }, &[seen, best], None);
        let best = self.op(r, Op::Broadcast { axes: vec![0] }, &[best], Some(Type::of(Elem::F32, &[2, 4])));
        let sum = self.op(r, Op::Binary(BinaryOp::Add), &[seen, best], None);
        self.op(r, Op::Reshape, &[sum], Some(Type::of(Elem::F32, &[D])))
    }

    /// A state that only the host writes; declared once whatever repeats around it.
    pub(super) fn held(&mut self, r: &mut Region, x: Value) -> Value {
        let s = self.state(r.ty(x).clone(), Initial::Fill(0.25));
        let state = &mut self.module.states[s.index()];
        state.held = true;
        state.instances.clear();
        let held = self.op(r, Op::StateRead(s), &[], None);
        self.op(r, Op::Binary(BinaryOp::Mul), &[x, held], None)
    }

    /// A question to the host, which has no answer here.
    pub(super) fn host(&mut self, r: &mut Region, x: Value) -> Value {
        let v = r.ty(x).clone();
        let params = if self.below(2) == 0 { Vec::new() } else { vec![("x".to_string(), v.clone())] };
        let inputs = if params.is_empty() { Vec::new() } else { vec![x] };
        let name = format!("ask{}", self.module.hosts.len());
        let id = self.module.add_host(HostDecl { name, params, result: v.clone() });
        let made = append(&self.module, r, Op::Host(id), &inputs, None, OriginId(0));
        let made = made.unwrap_or_else(|e| panic!("{e}"));
        let given = self.fill(r, made[1], &v.with_elem(Elem::Bool));
        self.op(r, Op::Select, &[given, made[0], x], None)
    }

    pub(super) fn position(&mut self, r: &mut Region, pool: &[Value]) -> Value {
        let ty = Type::scalar(Elem::I32);
        if pool.iter().any(|&p| *r.ty(p) == ty) {
            self.pick(r, pool, &ty)
        } else {
            self.op(r, Op::Constant(Literal::i32(7)), &[], None)
        }
    }

    pub(super) fn attention(&mut self, r: &mut Region, pool: &[Value], q: Value, x: Value) -> Value {
        let path = self.path();
        let capacity = match self.below(3) {
            0 => AxisCapacity::Unbounded,
            1 => AxisCapacity::Max(64),
            _ => AxisCapacity::Ring(3),
        };
        let axis = self.module.add_axis(Axis { path, capacity });
        let grow = Dim::Grow { axis, plus: 0 };
        let s = self.state(Type::new(Elem::F32, vec![grow, Dim::Const(D)]), Initial::Empty);
        let position = self.position(r, pool);
        let old = self.op(r, Op::StateRead(s), &[], None);
        let keys = self.op(r, Op::Push { state: s }, &[old, x, position], None);
        self.op(r, Op::StateWrite(s), &[keys], None);
        let score = self.op(r, Op::MatMul { batch: 0 }, &[keys, q], None);
        let ty = r.ty(score).clone();
        let most = self.op(r, Op::Reduce { op: ReduceOp::Max, axis: 0 }, &[score], None);
        let most = self.fill(r, most, &ty);
        let shifted = self.op(r, Op::Binary(BinaryOp::Sub), &[score, most], None);
        let e = self.op(r, Op::Unary(UnaryOp::Exp), &[shifted], None);
        let sum = self.op(r, Op::Reduce { op: ReduceOp::Sum, axis: 0 }, &[e], None);
        let sum = self.fill(r, sum, &ty);
        let p = self.op(r, Op::Binary(BinaryOp::Div), &[e, sum], None);
        let seen = self.op(r, Op::MatMul { batch: 0 }, &[p, keys], None);
        let last = self.op(r, Op::Recent { back: 1, state: s }, &[keys], None);
        self.op(r, Op::Binary(BinaryOp::Add), &[seen, last], None)
    }
}
