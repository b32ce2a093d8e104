//! Random valid modules in step form, with a weight store for them: what the properties of passes are tried on.

use std::collections::HashMap;
use std::sync::Arc;

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

mod states;

use super::rewrite::append;
use crate::interp::{CodedWeight, Tensor, WeightValue};
use crate::ir::*;

/// Width of most vectors.
const D: usize = 8;

/// Weights by path.
pub(super) type Weights = HashMap<String, WeightValue>;

/// A module with one entry `step(token, position, x)` and its weights.
pub(super) fn module(seed: u64, size: usize) -> (Module, Weights) {
    let mut made = Generator {
        rng: Xoshiro256PlusPlus::seed_from_u64(seed),
        module: Module {
            name: "random".into(),
            origins: std::sync::Arc::new(vec![Origin::default()]),
            ..Module::default()
        },
        weights: HashMap::new(),
        repeats: Vec::new(),
    };
    let vector = Type::of(Elem::F32, &[D]);
    let mut body = Region::new();
    let token = body.add_param(Type::scalar(Elem::U32));
    let position = body.add_param(Type::scalar(Elem::I32));
    let x = body.add_param(vector.clone());
    let embed = made.float_weight(&[6, D]);
    let table = made.op(&mut body, Op::Weight(embed), &[], None);
    let start = made.op(&mut body, Op::Gather { batch: 0 }, &[table, token], None);
    let mut pool = vec![start, x, position];
    made.nodes(&mut body, &mut pool, size, 0);
    let outputs: Vec<Value> = vec![made.pick(&body, &pool, &vector), made.pick(&body, &pool, &vector)];
    body.set_results(outputs);
    let param = |name: &str, ty: Type, kind| Param { name: name.into(), ty, kind, range: None };
    let entry = Entry {
        name: "step".into(),
        within: None,
        start: None,
        params: vec![
            param("token", Type::scalar(Elem::U32), ParamKind::Stream),
            param("position", Type::scalar(Elem::I32), ParamKind::Position),
            param("x", vector.clone(), ParamKind::Value),
        ],
        outputs: ["a", "b"].map(|name| OutputDecl { name: name.into(), ty: vector.clone() }).to_vec(),
        body,
        lifted: false,
    };
    made.module.entries.push(entry);
    (made.module, made.weights)
}

/// Small random numbers, most of them ordinary.
pub(super) fn floats(rng: &mut Xoshiro256PlusPlus, n: usize) -> Vec<f32> {
    (0..n)
        .map(|_| match rng.next_u32() % 16 {
            0 => 0.0,
            1 => -0.0,
            2 => 1e-3,
            _ => (rng.next_u32() % 4001) as f32 / 1000.0 - 2.0,
        })
        .collect()
}

struct Generator {
    rng: Xoshiro256PlusPlus,
    module: Module,
    weights: Weights,
    repeats: Vec<usize>,
}

impl Generator {
    fn below(&mut self, n: usize) -> usize {
        self.rng.next_u32() as usize % n
    }

    fn op(&mut self, r: &mut Region, op: Op, inputs: &[Value], declared: Option<Type>) -> Value {
        let made = append(&self.module, r, op, inputs, declared, OriginId(0));
        made.unwrap_or_else(|e| panic!("{e}")).first().copied().unwrap_or(Value(u32::MAX))
    }

    fn path(&self) -> String {
        format!("p{}", self.module.weights.len() + self.module.states.len())
    }

    fn float_weight(&mut self, shape: &[usize]) -> WeightId {
        let path = self.path();
        let values = floats(&mut self.rng, shape.iter().product());
        let value = WeightValue::Dense(Tensor::f32(shape, values));
        self.weights.insert(path.clone(), value);
        self.declare(path, shape, Encoding::F32)
    }

    fn declare(&mut self, path: String, shape: &[usize], encoding: Encoding) -> WeightId {
        self.module.add_weight(WeightDecl {
            path,
            shape: shape.to_vec(),
            encoding,
            source: WeightSource::Checkpoint,
            origin: OriginId(0),
        })
    }

    /// A weight of codes or floats for a linear layer.
    fn linear_weight(&mut self, m: usize) -> WeightId {
        let input = match self.below(3) {
            0 => InputQuant::None,
            1 => InputQuant::Int8 { block: None, floor: 1e-5, undo: Undo::Divide },
            _ => InputQuant::Int8 { block: Some(4), floor: 1e-5, undo: Undo::Multiply },
        };
        let (encoding, group) = match self.below(4) {
            0 => return self.float_weight(&[m, D]),
            1 => {
                let group = Group::Row;
                (Encoding::Sign { group, scale: ScaleFormat::F32, input }, group)
            }
            kind => {
                let group = if kind == 2 { Group::Tensor } else { Group::Inputs(4) };
                let encoding =
                    Encoding::Ternary { group, floor: 1e-5, scale: ScaleFormat::F32, keep: Keep::Nearest, input };
                (encoding, group)
            }
        };
        let codes: Vec<i8> = (0..m * D)
            .map(|_| match encoding {
                Encoding::Sign { .. } => self.below(2) as i8 * 2 - 1,
                _ => self.below(3) as i8 - 1,
            })
            .collect();
        let scales = match group {
            Group::Tensor => 1,
            Group::Row => m,
            Group::Inputs(n) => m * D.div_ceil(n),
        };
        let scales = (0..scales).map(|_| 0.1 + self.below(10) as f32 * 0.07).collect();
        let path = self.path();
        let coded = CodedWeight::new(&[m, D], codes, scales, group).unwrap_or_else(|e| panic!("{e}"));
        self.weights.insert(path.clone(), WeightValue::Coded(Arc::new(coded)));
        self.declare(path, &[m, D], encoding)
    }

    fn state(&mut self, ty: Type, initial: Initial) -> StateId {
        let path = self.path();
        let instances = self.repeats.clone();
        self.module.add_state(StateDecl {
            stored: ty.elem,
            path,
            ty,
            initial,
            instances,
            held: false,
            origin: OriginId(0),
        })
    }

    /// A value of the type from the pool, preferably a late one; a constant if there is none.
    fn pick(&mut self, r: &Region, pool: &[Value], ty: &Type) -> Value {
        let fitting: Vec<Value> = pool.iter().copied().filter(|&v| r.ty(v) == ty).collect();
        assert!(!fitting.is_empty(), "no {ty}");
        let back = self.below(fitting.len()).min(self.below(fitting.len()));
        fitting[fitting.len() - 1 - back]
    }

    fn nodes(&mut self, r: &mut Region, pool: &mut Vec<Value>, n: usize, depth: usize) {
        for _ in 0..n {
            self.node(r, pool, depth);
        }
    }

    fn fill(&mut self, r: &mut Region, scalar: Value, ty: &Type) -> Value {
        self.op(r, Op::Broadcast { axes: vec![] }, &[scalar], Some(ty.clone()))
    }

    fn constant(&mut self, r: &mut Region, value: f32) -> Value {
        self.op(r, Op::Constant(Literal::f32(value)), &[], None)
    }

    /// Adds one operation, or a few that belong together.
    fn node(&mut self, r: &mut Region, pool: &mut Vec<Value>, depth: usize) {
        let v = Type::of(Elem::F32, &[D]);
        let a = self.pick(r, pool, &v);
        let b = self.pick(r, pool, &v);
        let new = match self.below(if depth < 2 { 25 } else { 20 }) {
            0 => {
                let ops = [UnaryOp::Neg, UnaryOp::Abs, UnaryOp::Tanh, UnaryOp::Sigmoid, UnaryOp::Exp];
                let op = ops[self.below(5)];
                self.op(r, Op::Unary(op), &[a], None)
            }
            1..=3 => {
                let ops = [BinaryOp::Add, BinaryOp::Sub, BinaryOp::Mul, BinaryOp::Max, BinaryOp::Div];
                let op = ops[self.below(5)];
                self.op(r, Op::Binary(op), &[a, b], None)
            }
            4 => {
                let c = self.op(r, Op::Compare(CompareOp::Gt), &[a, b], None);
                self.op(r, Op::Select, &[c, b, a], None)
            }
            5 | 6 => {
                let m = [D, D, 4][self.below(3)];
                let w = self.linear_weight(m);
                let w = self.op(r, Op::Weight(w), &[], None);
                let y = self.op(r, Op::Linear, &[a, w], None);
                if m == D { y } else { self.op(r, Op::Concat { axis: 0 }, &[y, y], None) }
            }
            7 => self.norm(r, a),
            8 => {
                let w = self.float_weight(&[2, D]);
                let w = self.op(r, Op::Weight(w), &[], None);
                let w = self.op(r, Op::Unary(UnaryOp::Exp), &[w], None);
                let row = self.op(r, Op::Slice { axis: 0, start: 1, len: 1 }, &[w], None);
                let bias = self.op(r, Op::Reshape, &[row], Some(v.clone()));
                self.op(r, Op::Binary(BinaryOp::Add), &[a, bias], None)
            }
            9 => {
                let m = self.op(r, Op::Reshape, &[a], Some(Type::of(Elem::F32, &[2, 4])));
                let t = self.op(r, Op::Permute { axes: vec![1, 0] }, &[m], None);
                let k = self.op(r, Op::Slice { axis: 0, start: 2, len: 4 }, &[b], None);
                let short = self.op(r, Op::MatMul { batch: 0 }, &[m, k], None);
                let long = self.op(r, Op::MatMul { batch: 0 }, &[short, m], None);
                pool.push(self.op(r, Op::Reshape, &[t], Some(v.clone())));
                self.op(r, Op::Concat { axis: 0 }, &[long, k], None)
            }
            10 => {
                let w = self.float_weight(&[D, D]);
                let w = self.op(r, Op::Weight(w), &[], None);
                let (x, y) = if self.below(2) == 0 { (a, w) } else { (w, a) };
                self.op(r, Op::MatMul { batch: 0 }, &[x, y], None)
            }
            11 => self.gated_state(r, a, b),
            12 => self.matrix_state(r, a, b),
            13 => self.delay(r, a),
            14 => self.attention(r, pool, a, b),
            15 => {
                let path = self.path();
                self.op(r, Op::Probe { path }, &[a], None);
                let s = self.op(r, Op::Reduce { op: ReduceOp::Max, axis: 0 }, &[a], None);
                let two = self.constant(r, 2.0);
                let s = self.op(r, Op::Binary(BinaryOp::Mul), &[s, two], None);
                pool.push(s);
                self.fill(r, s, &v)
            }
            16 => {
                let k = 2;
                let made = append(&self.module, r, Op::TopK { k }, &[a], None, OriginId(0));
                let made = made.unwrap_or_else(|e| panic!("{e}"));
                let picked = self.op(r, Op::Gather { batch: 0 }, &[b, made[1]], None);
                let first = self.op(r, Op::Slice { axis: 0, start: 0, len: 6 }, &[a], None);
                self.op(r, Op::Concat { axis: 0 }, &[picked, first], None)
            }
            17 => self.heads(r, pool, a, b),
            18 => self.held(r, a),
            19 => self.host(r, a),
            20 | 21 => {
                let c = self.condition(r, a, b);
                let then = self.body(&[v.clone(), v.clone()], depth, |_, _, _| Vec::new());
                let otherwise = self.body(&[v.clone(), v.clone()], depth, |_, _, _| Vec::new());
                self.op(r, Op::If { then: Arc::new(then), otherwise: Arc::new(otherwise) }, &[c, a, b], None)
            }
            22 | 23 => {
                let max = 1 + self.below(3);
                let count = self.count(r, a, max);
                self.repeats.push(max);
                let params = [Type::scalar(Elem::I32), v.clone(), v.clone()];
                let body = self.body(&params, depth, |g, r, pool| {
                    let (x, y) = (g.pick(r, pool, &v), g.pick(r, pool, &v));
                    vec![g.condition(r, x, y)]
                });
                self.repeats.pop();
                let op = Op::Repeat { first: 1, max, carried: 1, body: Arc::new(body) };
                self.op(r, op, &[count, a, b], None)
            }
            _ => {
                let scores = self.op(r, Op::Slice { axis: 0, start: 0, len: 3 }, &[b], None);
                let k = 2;
                let made = append(&self.module, r, Op::TopK { k }, &[scores], None, OriginId(0));
                let index = made.unwrap_or_else(|e| panic!("{e}"))[1];
                let regions = (0..3).map(|_| self.stateless(&v)).collect();
                let stacked = self.op(r, Op::Experts { regions }, &[index, a], None);
                self.op(r, Op::Reduce { op: ReduceOp::Sum, axis: 0 }, &[stacked], None)
            }
        };
        pool.push(new);
    }

    fn condition(&mut self, r: &mut Region, a: Value, b: Value) -> Value {
        let x = self.op(r, Op::Reduce { op: ReduceOp::Sum, axis: 0 }, &[a], None);
        let y = self.op(r, Op::Reduce { op: ReduceOp::Max, axis: 0 }, &[b], None);
        self.op(r, Op::Compare(CompareOp::Gt), &[x, y], None)
    }

    fn count(&mut self, r: &mut Region, a: Value, max: usize) -> Value {
        let most = self.op(r, Op::Constant(Literal::i32(max as i32)), &[], None);
        if self.below(2) == 0 {
            return most;
        }
        let n = self.op(r, Op::Reduce { op: ReduceOp::ArgMax, axis: 0 }, &[a], None);
        self.op(r, Op::Binary(BinaryOp::Min), &[n, most], None)
    }

    /// A region that yields what `first` makes, then a vector.
    fn body(
        &mut self,
        params: &[Type],
        depth: usize,
        first: impl FnOnce(&mut Self, &mut Region, &[Value]) -> Vec<Value>,
    ) -> Region {
        let mut r = Region::new();
        let mut pool: Vec<Value> = params.iter().map(|ty| r.add_param(ty.clone())).collect();
        let n = 1 + self.below(4);
        self.nodes(&mut r, &mut pool, n, depth + 1);
        let mut results = first(self, &mut r, &pool);
        results.push(self.pick(&r, &pool, &Type::of(Elem::F32, &[D])));
        r.set_results(results);
        r
    }

    fn stateless(&mut self, v: &Type) -> Region {
        let mut r = Region::new();
        let x = r.add_param(v.clone());
        let w = self.linear_weight(D);
        let w = self.op(&mut r, Op::Weight(w), &[], None);
        let y = self.op(&mut r, Op::Linear, &[x, w], None);
        let y = self.op(&mut r, Op::Unary(UnaryOp::Tanh), &[y], None);
        r.set_results(vec![y]);
        r
    }

    fn norm(&mut self, r: &mut Region, x: Value) -> Value {
        let v = r.ty(x).clone();
        let square = self.op(r, Op::Binary(BinaryOp::Mul), &[x, x], None);
        let sum = self.op(r, Op::Reduce { op: ReduceOp::Sum, axis: 0 }, &[square], None);
        let n = self.constant(r, D as f32);
        let mean = self.op(r, Op::Binary(BinaryOp::Div), &[sum, n], None);
        let eps = self.constant(r, 1e-6);
        let mean = self.op(r, Op::Binary(BinaryOp::Add), &[mean, eps], None);
        let root = self.op(r, Op::Unary(UnaryOp::Sqrt), &[mean], None);
        let root = self.fill(r, root, &v);
        let unit = self.op(r, Op::Binary(BinaryOp::Div), &[x, root], None);
        let w = self.float_weight(&[D]);
        let w = self.op(r, Op::Weight(w), &[], None);
        self.op(r, Op::Binary(BinaryOp::Mul), &[unit, w], None)
    }
}
