//! The builder of kernels: one method per operation, closures for loops and conditionals.
//!
//! Type errors are broken invariants of the caller and panic at the place where the operation is made.

use super::ir::*;
use super::typing::result_types;

/// Builds one kernel.
///
/// ```
/// use sterna_compiler::kernel::{build::Builder, ir::Type};
/// // y[i] = x[i] * s for a number of 16-lane strips given by the work range.
/// let mut b = Builder::new("scale");
/// let (x, y) = (b.ro("x"), b.rw("y"));
/// let factor = b.const_s(0.5);
/// let factor = b.splat(factor);
/// let (begin, end) = (b.begin(), b.end());
/// b.for_each(begin, end, |b, strip| {
///     let (from, to) = (b.index(x, strip, 64), b.index(y, strip, 64));
///     let value = b.load_f(from, 0);
///     let value = b.mul(value, factor);
///     b.store_f(to, 0, value);
/// });
/// let kernel = b.finish();
/// assert!(sterna_compiler::kernel::verify::verify(&kernel).is_ok());
/// ```
#[derive(Debug)]
pub struct Builder {
    kernel: Kernel,
    open: Vec<Block>,
}

impl Builder {
    /// An empty kernel.
    pub fn new(name: impl Into<String>) -> Builder {
        let kernel = Kernel { name: name.into(), params: Vec::new(), values: Vec::new(), body: Block::default() };
        Builder { kernel, open: vec![Block::default()] }
    }

    /// The finished kernel.
    pub fn finish(mut self) -> Kernel {
        assert_eq!(self.open.len(), 1, "a loop or conditional is still open");
        self.kernel.body = self.open.remove(0);
        self.kernel
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> Type {
        self.kernel.ty(value)
    }

    fn value(&mut self, ty: Type) -> Value {
        self.kernel.values.push(ty);
        Value(self.kernel.values.len() as u32 - 1)
    }

    fn push(&mut self, op: Op, args: Vec<Value>) -> Vec<Value> {
        let types = match result_types(&self.kernel, &op, &args) {
            Ok(types) => types,
            Err(problem) => panic!("kernel {}: {op:?} {problem}", self.kernel.name),
        };
        let results: Vec<Value> = types.into_iter().map(|ty| self.value(ty)).collect();
        let block = self.open.last_mut().expect("the body is open");
        block.insts.push(Inst { op, args, results: results.clone() });
        results
    }

    fn one(&mut self, op: Op, args: &[Value]) -> Value {
        self.push(op, args.to_vec())[0]
    }

    fn param(&mut self, name: &str, kind: ParamKind) -> u32 {
        self.kernel.params.push(Param { name: name.to_string(), kind });
        self.kernel.params.len() as u32 - 1
    }

    // Parameters and the work range.

    /// A new read-only pointer parameter: nothing writes its memory while the kernel runs.
    pub fn ro(&mut self, name: &str) -> Value {
        let index = self.param(name, ParamKind::Ro);
        self.one(Op::Param(index), &[])
    }

    /// A new writable pointer parameter, aliased by no other.
    pub fn rw(&mut self, name: &str) -> Value {
        let index = self.param(name, ParamKind::Rw);
        self.one(Op::Param(index), &[])
    }

    /// A new count parameter, as an i32.
    pub fn count(&mut self, name: &str) -> Value {
        let index = self.param(name, ParamKind::Count);
        self.one(Op::Count(index), &[])
    }

    /// A new count parameter, as an i64 (byte strides).
    pub fn count_l(&mut self, name: &str) -> Value {
        let index = self.param(name, ParamKind::Count);
        self.one(Op::CountL(index), &[])
    }

    /// The first work unit of this call.
    pub fn begin(&mut self) -> Value {
        self.one(Op::Begin, &[])
    }

    /// One past the last work unit of this call.
    pub fn end(&mut self) -> Value {
        self.one(Op::End, &[])
    }

    // Constants.

    /// 16 equal lanes.
    pub fn const_f(&mut self, value: f32) -> Value {
        self.const_f_bits(value.to_bits())
    }

    /// 16 equal lanes, by bits.
    pub fn const_f_bits(&mut self, bits: u32) -> Value {
        self.one(Op::ConstF(bits), &[])
    }

    /// 16 equal lanes.
    pub fn const_i(&mut self, value: i32) -> Value {
        self.one(Op::ConstI(value), &[])
    }

    /// A scalar float.
    pub fn const_s(&mut self, value: f32) -> Value {
        self.const_s_bits(value.to_bits())
    }

    /// A scalar float, by bits.
    pub fn const_s_bits(&mut self, bits: u32) -> Value {
        self.one(Op::ConstS(bits), &[])
    }

    /// A scalar i32.
    pub fn const_n(&mut self, value: i32) -> Value {
        self.one(Op::ConstN(value), &[])
    }

    /// A scalar i64.
    pub fn const_l(&mut self, value: i64) -> Value {
        self.one(Op::ConstL(value), &[])
    }

    /// Lanes 0 to 15.
    pub fn iota(&mut self) -> Value {
        self.one(Op::Iota, &[])
    }

    /// The mask of the lanes below `n`.
    pub fn lane_mask(&mut self, n: Value) -> Value {
        self.one(Op::LaneMask, &[n])
    }

    /// The mask whose lane i is bit i of `bits`.
    pub fn mask_bits(&mut self, bits: Value) -> Value {
        self.one(Op::MaskBits, &[bits])
    }

    /// A 64-byte-aligned buffer on the stack, its content unspecified.
    pub fn stack(&mut self, bytes: u32) -> Value {
        self.one(Op::Stack(bytes), &[])
    }

    // Memory.

    /// A load of the given form.
    pub fn load(&mut self, mem: Mem, pointer: Value, offset: i32) -> Value {
        self.one(Op::Load { mem, offset }, &[pointer])
    }

    /// A store of the given form.
    pub fn store(&mut self, mem: Mem, pointer: Value, offset: i32, value: Value) {
        self.push(Op::Store { mem, offset }, vec![pointer, value]);
    }

    /// Stores only the first `n` of 16 elements.
    pub fn store_first(&mut self, mem: Mem, pointer: Value, offset: i32, value: Value, n: Value) {
        self.push(Op::StoreFirst { mem, offset }, vec![pointer, value, n]);
    }

    /// 16 f32.
    pub fn load_f(&mut self, pointer: Value, offset: i32) -> Value {
        self.load(Mem::F32x16, pointer, offset)
    }

    /// 16 i32.
    pub fn load_i(&mut self, pointer: Value, offset: i32) -> Value {
        self.load(Mem::I32x16, pointer, offset)
    }

    /// 64 bytes, 64-byte aligned.
    pub fn load_b(&mut self, pointer: Value, offset: i32) -> Value {
        self.load(Mem::Bytes64, pointer, offset)
    }

    /// One f32.
    pub fn load_s(&mut self, pointer: Value, offset: i32) -> Value {
        self.load(Mem::F32, pointer, offset)
    }

    /// One i32.
    pub fn load_n(&mut self, pointer: Value, offset: i32) -> Value {
        self.load(Mem::I32, pointer, offset)
    }

    /// 16 f32.
    pub fn store_f(&mut self, pointer: Value, offset: i32, value: Value) {
        self.store(Mem::F32x16, pointer, offset, value);
    }

    /// The first `n` of 16 f32.
    pub fn store_f_n(&mut self, pointer: Value, offset: i32, value: Value, n: Value) {
        self.store_first(Mem::F32x16, pointer, offset, value, n);
    }

    /// 16 i32.
    pub fn store_i(&mut self, pointer: Value, offset: i32, value: Value) {
        self.store(Mem::I32x16, pointer, offset, value);
    }

    /// One f32.
    pub fn store_s(&mut self, pointer: Value, offset: i32, value: Value) {
        self.store(Mem::F32, pointer, offset, value);
    }

    /// One i32.
    pub fn store_n(&mut self, pointer: Value, offset: i32, value: Value) {
        self.store(Mem::I32, pointer, offset, value);
    }

    /// `pointer + bytes`.
    pub fn offset(&mut self, pointer: Value, bytes: i64) -> Value {
        if bytes == 0 { pointer } else { self.one(Op::Offset(bytes), &[pointer]) }
    }

    /// `pointer + bytes * n`.
    pub fn index(&mut self, pointer: Value, n: Value, bytes: i64) -> Value {
        self.one(Op::Index(bytes), &[pointer, n])
    }

    /// `pointer + l` bytes.
    pub fn offset_by(&mut self, pointer: Value, l: Value) -> Value {
        self.one(Op::OffsetBy, &[pointer, l])
    }

    // Arithmetic.

    /// Any two-operand operation.
    pub fn binary(&mut self, op: Binary, a: Value, b: Value) -> Value {
        self.one(Op::Binary(op), &[a, b])
    }

    /// Square root (F, S).
    pub fn sqrt(&mut self, a: Value) -> Value {
        self.one(Op::Sqrt, &[a])
    }

    /// Shift by a constant (I, N, L).
    pub fn shift(&mut self, op: Shift, a: Value, amount: u8) -> Value {
        self.one(Op::Shift(op, amount), &[a])
    }

    /// Shift by an N, modulo the width (I, N, L).
    pub fn shift_by(&mut self, op: Shift, a: Value, amount: Value) -> Value {
        self.one(Op::ShiftBy(op), &[a, amount])
    }

    /// Comparison; true is -1.
    pub fn compare(&mut self, op: Compare, a: Value, b: Value) -> Value {
        self.one(Op::Compare(op), &[a, b])
    }

    /// `mask ? a : b`.
    pub fn select(&mut self, mask: Value, a: Value, b: Value) -> Value {
        self.one(Op::Select, &[mask, a, b])
    }

    /// The same bits as the other type of the pair F, I or S, N.
    pub fn cast(&mut self, a: Value) -> Value {
        self.one(Op::Cast, &[a])
    }

    /// Signed integer to float, to nearest even (I to F, N to S).
    pub fn convert(&mut self, a: Value) -> Value {
        self.one(Op::Convert, &[a])
    }

    /// N to L, signed.
    pub fn extend(&mut self, a: Value) -> Value {
        self.one(Op::Extend(true), &[a])
    }

    /// N to L, unsigned.
    pub fn extend_u(&mut self, a: Value) -> Value {
        self.one(Op::Extend(false), &[a])
    }

    /// L to N.
    pub fn truncate(&mut self, a: Value) -> Value {
        self.one(Op::Truncate, &[a])
    }

    /// A scalar to all lanes (S to F, N to I).
    pub fn splat(&mut self, a: Value) -> Value {
        self.one(Op::Splat, &[a])
    }

    /// Reduction over the lanes.
    pub fn reduce(&mut self, op: Reduce, a: Value) -> Value {
        self.one(Op::Reduce(op), &[a])
    }

    // Dot products.

    /// A zero accumulator.
    pub fn acc_zero(&mut self) -> Value {
        self.one(Op::AccZero, &[])
    }

    /// `acc + (w & mask) . x`, w unsigned and x signed.
    pub fn dot(&mut self, acc: Value, w: Value, mask: u8, x: Value) -> Value {
        self.one(Op::Dot(mask), &[acc, w, x])
    }

    /// `acc + w . x`, both signed.
    pub fn dot_signed(&mut self, acc: Value, w: Value, x: Value) -> Value {
        self.one(Op::DotSigned, &[acc, w, x])
    }

    /// The sum of the totals, each shifted right by its amount.
    pub fn acc_fold(&mut self, accs: &[Value], shifts: &[u8]) -> Value {
        self.one(Op::AccFold(shifts.to_vec()), accs)
    }

    /// The exact dot products of a 16-row group with each token: one I per token.
    pub fn dot_rows(&mut self, dot: DotRows, weights: Value, activations: Value) -> Vec<Value> {
        self.push(Op::DotRows(dot), vec![weights, activations])
    }

    /// The float products of a 16-row group with each token: one F per token.
    pub fn float_rows(&mut self, rows: FloatRows, weights: Value, activations: Value) -> Vec<Value> {
        self.push(Op::FloatRows(rows), vec![weights, activations])
    }

    // Control.

    /// A loop over `start, start + step, .. < end` that carries values; `body` gives the next ones.
    pub fn loop_carried(
        &mut self,
        (start, end, step): (Value, Value, i32),
        inits: &[Value],
        body: impl FnOnce(&mut Builder, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let index = self.value(Type::N);
        let mut params = vec![index];
        for &init in inits {
            let ty = self.ty(init);
            params.push(self.value(ty));
        }
        self.open.push(Block { params: params.clone(), ..Block::default() });
        let yields = body(self, index, &params[1..]);
        let mut block = self.open.pop().expect("the body is open");
        block.yields = yields;
        let mut args = vec![start, end];
        args.extend_from_slice(inits);
        self.push(Op::Loop { step, body: block }, args)
    }

    /// A scalar i32 brought into a range, both ends included; `least` where the range is empty.
    pub fn clamp(&mut self, n: Value, least: i32, most: i32) -> Value {
        let (least, most) = (self.const_n(least), self.const_n(most));
        let n = self.smin(n, most);
        self.smax(n, least)
    }

    /// The number of a row as one of so many, at least one.
    pub fn clamp_row(&mut self, row: Value, rows: Value) -> Value {
        let (zero, one) = (self.const_n(0), self.const_n(1));
        let last = self.sub(rows, one);
        let row = self.smin(row, last);
        self.smax(row, zero)
    }

    /// A loop with step 1 that carries nothing.
    pub fn for_each(&mut self, start: Value, end: Value, body: impl FnOnce(&mut Builder, Value)) {
        self.loop_carried((start, end, 1), &[], |b, index, _| {
            body(b, index);
            Vec::new()
        });
    }

    /// A loop over 0 .. `n` that carries nothing.
    pub fn for_n(&mut self, n: i32, body: impl FnOnce(&mut Builder, Value)) {
        let (start, end) = (self.const_n(0), self.const_n(n));
        self.for_each(start, end, body);
    }

    /// A loop over 0 .. `n` that carries values.
    pub fn fold_n(
        &mut self,
        n: i32,
        inits: &[Value],
        body: impl FnOnce(&mut Builder, Value, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let (start, end) = (self.const_n(0), self.const_n(n));
        self.loop_carried((start, end, 1), inits, body)
    }

    /// A conditional that gives values.
    pub fn if_else(
        &mut self,
        condition: Value,
        then: impl FnOnce(&mut Builder) -> Vec<Value>,
        otherwise: impl FnOnce(&mut Builder) -> Vec<Value>,
    ) -> Vec<Value> {
        let then = self.branch(then);
        let otherwise = self.branch(otherwise);
        self.push(Op::If { then, otherwise }, vec![condition])
    }

    /// A conditional without values.
    pub fn if_then(&mut self, condition: Value, then: impl FnOnce(&mut Builder)) {
        let then = |b: &mut Builder| {
            then(b);
            Vec::new()
        };
        self.if_else(condition, then, |_| Vec::new());
    }

    fn branch(&mut self, body: impl FnOnce(&mut Builder) -> Vec<Value>) -> Block {
        self.open.push(Block::default());
        let yields = body(self);
        let mut block = self.open.pop().expect("the branch is open");
        block.yields = yields;
        block
    }
}
