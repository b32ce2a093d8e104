//! The kernel of linear layers over 16-row groups: all layers that share an input, then the elementwise steps
//! that follow, 16 rows at a time, token by token in order.
//!
//! A group of rows is a unit of work that any thread may take; weights are read once for up to four tokens.

use super::NotCompiled;
use super::access::Tail;
use super::emit::{Emit, Loc, Sink};
use super::eval::uniform;
use super::graph::{Act, Step, V};
use super::index::Ix;
use super::kernels::{Built, Context, Form, Frame, Spec, open};
use crate::ir::{BinaryOp, Dim, Elem, Op, Type, WeightId};
use crate::kernel::build::Builder;
use crate::kernel::ir::{LANES, MAX_TOKENS, Value};

/// A linear layer of the kernel.
struct Layer {
    weight_value: V,
    result: V,
    input: V,
    /// Block maxima, for int8 products.
    maxima: Option<V>,
}

struct Plan {
    layers: Vec<Layer>,
    rows: usize,
}

/// The plan of a graph that has this form.
fn plan(spec: &Spec, context: &Context<'_>) -> Option<Plan> {
    let graph = &spec.graph;
    let is_input = |v: V| spec.inputs.iter().any(|(input, _)| *input == v);
    let mut layers = Vec::new();
    let mut rows = None;
    for &id in &spec.body.steps {
        let step = &graph.steps[id];
        let Act::Op(op) = &step.act else { return None };
        let found: Vec<Layer> = match op {
            Op::Linear => step.inputs[1..]
                .iter()
                .zip(&step.results)
                .map(|(&weight_value, &result)| Layer { weight_value, result, input: step.inputs[0], maxima: None })
                .collect(),
            Op::LinearInt8 { quant } => {
                let weights = step.inputs[2..].iter().zip(&step.results);
                let mut found = Vec::new();
                for (&w, &result) in weights {
                    let Some(Act::Op(Op::Weight(weight))) = graph.def(w).map(|s| &s.act) else {
                        return None;
                    };
                    if !super::product::one_block(context.weights.layout(*weight), *quant) {
                        return None;
                    }
                    found.push(Layer { weight_value: w, result, input: step.inputs[0], maxima: Some(step.inputs[1]) });
                }
                found
            }
            _ => continue,
        };
        for layer in found {
            let ty = graph.ty(layer.result);
            let n = (ty.rank() == 1).then(|| ty.shape[0].constant())??;
            if *rows.get_or_insert(n) != n
                || !is_input(layer.input)
                || layer.maxima.is_some_and(|a| !is_input(a))
                || graph.ty(layer.input).elem != Elem::F32 && layer.maxima.is_none()
            {
                return None;
            }
            layers.push(layer);
        }
    }
    let rows = rows?;
    let fits = |ty: &Type| ty.rank() == 0 || ty.shape == [Dim::Const(rows)];
    for &id in &spec.body.steps {
        let step = &graph.steps[id];
        let Act::Op(op) = &step.act else { return None };
        let allowed = match op {
            Op::Weight(_) | Op::Linear | Op::LinearInt8 { .. } => true,
            Op::Constant(literal) => literal.shape.is_empty() || uniform(&literal.data),
            Op::Binary(BinaryOp::FloorDiv | BinaryOp::Rem | BinaryOp::Shl | BinaryOp::Shr) => false,
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Convert(_) => {
                step.inputs.iter().chain(&step.results).all(|&v| fits(graph.ty(v)) && graph.ty(v).elem != Elem::U64)
            }
            Op::Broadcast { .. } => fits(graph.ty(step.inputs[0])) && fits(graph.ty(step.results[0])),
            Op::Slice { .. } | Op::Reshape => {
                let from = step.inputs[0];
                is_input(from) || derived_from_weight(spec, from)
            }
            Op::StateRead(state) | Op::StateWrite(state) => {
                let ty = &context.module.state(*state).ty;
                ty.shape == [Dim::Const(rows)]
            }
            _ => false,
        };
        if !allowed {
            return None;
        }
    }
    let outputs_fit =
        spec.outputs.iter().all(|(v, place)| graph.ty(*v).shape == [Dim::Const(rows)] && place.row_stride > 0);
    outputs_fit.then_some(Plan { layers, rows })
}

fn derived_from_weight(spec: &Spec, v: V) -> bool {
    let Some(step) = spec.graph.def(v) else {
        return false;
    };
    match &step.act {
        Act::Op(Op::Weight(_)) => true,
        Act::Op(Op::Slice { .. } | Op::Reshape) => derived_from_weight(spec, step.inputs[0]),
        _ => false,
    }
}

/// The kernel of a graph that is linear layers with an epilogue; none if it is something else.
pub fn build(spec: &Spec, context: &Context<'_>, messages: &mut Vec<String>) -> Result<Option<Built>, NotCompiled> {
    let Some(plan) = plan(spec, context) else {
        return Ok(None);
    };
    let mut b = Builder::new(spec.name.clone());
    let (mut emit, frame) = open(&mut b, spec, context, messages);
    let sums = b.stack((context.max_rows * 4).next_multiple_of(64) as u32);
    let zero = b.const_n(0);
    let codes = plan.layers.iter().find(|l| l.maxima.is_some());
    if let Some(layer) = codes {
        let same = plan.layers.iter().all(|l| l.maxima.is_none() || l.input == layer.input);
        if !same {
            return Ok(None);
        }
        let input = layer.input;
        let n = emit.shape(input)[0];
        emit.each(&mut b, zero, frame.rows, &mut |emit, b, row| {
            emit.enter_row(b, spec, &frame, row)?;
            let sum = emit.code_sum(b, input, &[], 0, n)?;
            let (pointer, offset) = row.times(4).address(b, sums);
            b.store_n(pointer, offset, sum);
            Ok(())
        })?;
    }
    let (begin, end) = (b.begin(), b.end());
    let tile = MAX_TOKENS as i32;
    let rest = b.const_n(!(tile - 1));
    let whole = b.and(frame.rows, rest);
    emit.each(&mut b, begin, end, &mut |emit, b, strip| {
        let tokens = |emit: &mut Emit<'_>, b: &mut Builder, row: &Ix, count: u32| {
            emit.tile(b, spec, &frame, &plan, strip, row, count, sums)
        };
        emit.fold(b, (zero, whole, tile), &[], &mut |emit, b, row, _| {
            tokens(emit, b, row, MAX_TOKENS)?;
            Ok(Vec::new())
        })?;
        emit.each(b, whole, frame.rows, &mut |emit, b, row| tokens(emit, b, row, 1))
    })?;
    let scratch_bytes = emit.scratch_used;
    let units = plan.rows.div_ceil(LANES) as u32;
    Ok(Some(Built {
        kernel: b.finish(),
        args: frame.args,
        scratch: frame.scratch_args,
        scratch_bytes,
        form: Form::Units(units),
    }))
}

impl Emit<'_> {
    /// One strip of rows for `count` tokens from `row`.
    #[allow(clippy::too_many_arguments)]
    fn tile(
        &mut self,
        b: &mut Builder,
        spec: &Spec,
        frame: &Frame,
        plan: &Plan,
        strip: &Ix,
        row: &Ix,
        count: u32,
        sums: Value,
    ) -> Result<(), NotCompiled> {
        let place = [strip.times(LANES as i64)];
        self.enter_row(b, spec, frame, row)?;
        let mut totals: Vec<Vec<Value>> = Vec::new();
        self.weights_of(b, spec)?;
        for layer in &plan.layers {
            let stride = spec.inputs.iter().find(|(v, _)| *v == layer.input).map_or(0, |(_, p)| p.row_stride);
            totals.push(match (layer.maxima, self.packed(layer.weight_value)) {
                (Some(_), Some(weight)) => self.totals(b, weight, layer.input, &[], strip, count, stride as u32)?,
                _ => self.float_rows(b, layer, plan.rows, strip, row, count, stride)?,
            });
        }
        for token in 0..count {
            let row = row.offset(i64::from(token));
            let locs = self.locs.clone();
            self.open();
            let result =
                self.epilogue(b, spec, frame, plan, strip, &row, &place, sums, |layer| totals[layer][token as usize]);
            self.close();
            self.locs = locs;
            result?;
        }
        Ok(())
    }

    /// Gives the weights of a linear kernel their places.
    fn weights_of(&mut self, b: &mut Builder, spec: &Spec) -> Result<(), NotCompiled> {
        for &id in &spec.body.steps {
            let step = &spec.graph.steps[id];
            match &step.act {
                Act::Op(Op::Weight(_)) => self.single(b, id)?,
                Act::Op(Op::Slice { .. } | Op::Reshape) if derived_from_weight(spec, step.inputs[0]) => {
                    self.prepare(b, step.results[0])?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn epilogue(
        &mut self,
        b: &mut Builder,
        spec: &Spec,
        frame: &Frame,
        plan: &Plan,
        strip: &Ix,
        row: &Ix,
        place: &[Ix],
        sums: Value,
        total: impl Fn(usize) -> Value,
    ) -> Result<(), NotCompiled> {
        let mut stores = self.enter_row(b, spec, frame, row)?;
        let mut layer = 0;
        for &id in &spec.body.steps {
            let step: &Step = &spec.graph.steps[id];
            let Act::Op(op) = &step.act else { continue };
            match op {
                Op::Linear => {
                    for &result in &step.results {
                        self.remember(result, place, true, total(layer));
                        layer += 1;
                    }
                }
                Op::LinearInt8 { quant } => {
                    for &result in &step.results {
                        let layer_plan = &plan.layers[layer];
                        let weight: WeightId =
                            self.packed(layer_plan.weight_value).expect("the plan looked at the weights");
                        let maxima = layer_plan.maxima.expect("an int8 product");
                        let factor = self.undo(b, weight, maxima, &[], strip, *quant)?;
                        let (pointer, offset) = row.times(4).address(b, sums);
                        let sum = b.load_n(pointer, offset);
                        let value = self.scaled(b, weight, total(layer), sum, factor);
                        self.remember(result, place, true, value);
                        layer += 1;
                    }
                }
                Op::StateRead(_) => self.single(b, id)?,
                Op::StateWrite(state) => {
                    if let Some(sink) = self.state_sink(*state, step)? {
                        stores.push(sink);
                    }
                }
                _ if self.graph.ty(step.results[0]).rank() == 0 => self.single(b, id)?,
                _ => {}
            }
        }
        for sink in &stores {
            self.prepare_around(b, sink)?;
        }
        let mut values = Vec::new();
        for sink in &stores {
            values.push(self.eval(b, sink.value, place, true)?);
        }
        for (sink, value) in stores.iter().zip(values) {
            self.store(b, &sink.buffer, place, value, Some(Tail::All));
        }
        Ok(())
    }

    /// Prepares the inline operands of a store; results of layers are remembered, not stored.
    fn prepare_around(&mut self, b: &mut Builder, sink: &Sink) -> Result<(), NotCompiled> {
        let mut open = vec![sink.value];
        while let Some(v) = open.pop() {
            let Some(step) = self.graph.def(v) else {
                continue;
            };
            match &step.act {
                Act::Op(Op::Linear | Op::LinearInt8 { .. }) => {}
                Act::Op(
                    Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Convert(_) | Op::Broadcast { .. },
                ) => open.extend(&step.inputs),
                _ => self.prepare(b, v)?,
            }
        }
        Ok(())
    }

    /// The float products of a strip of rows with some tokens.
    #[allow(clippy::too_many_arguments)]
    fn float_rows(
        &mut self,
        b: &mut Builder,
        layer: &Layer,
        rows: usize,
        strip: &Ix,
        _row: &Ix,
        count: u32,
        stride: i64,
    ) -> Result<Vec<Value>, NotCompiled> {
        let Some(Loc::Buf(input)) = self.locs[layer.input.index()].clone() else {
            unreachable!("inputs lie in memory");
        };
        let w = layer.weight_value;
        if self.packed(w).is_none() {
            self.prepare(b, w)?;
        }
        let temporary = b.stack(64 * count);
        let (zero, lanes) = (b.const_n(0), b.const_n(LANES as i32));
        self.each(b, zero, lanes, &mut |emit, b, lane| {
            let mut number = strip.times(LANES as i64).plus(lane);
            if rows % LANES != 0 {
                // Rows behind the last repeat it; their results lie in padding.
                let (value, last) = (number.scalar(b), b.const_n(rows as i32 - 1));
                number = Ix::value(b.smin(value, last));
            }
            let sums = emit.row_dots(b, layer, &input, &number, count, stride)?;
            for (token, sum) in sums.into_iter().enumerate() {
                let (pointer, offset) = lane.times(4).address(b, temporary);
                b.store_s(pointer, offset + 64 * token as i32, sum);
            }
            Ok(())
        })?;
        Ok((0..count).map(|token| b.load_f(temporary, 64 * token as i32)).collect())
    }

    /// One row times some tokens.
    fn row_dots(
        &mut self,
        b: &mut Builder,
        layer: &Layer,
        input: &super::access::Buffer,
        number: &Ix,
        count: u32,
        stride: i64,
    ) -> Result<Vec<Value>, NotCompiled> {
        let columns = self.shape(layer.input)[0];
        let packed = self.packed(layer.weight_value);
        let part = match packed {
            Some(weight) => {
                let step = self.graph.def(layer.result).expect("a layer");
                self.group_inputs(step, weight)?
            }
            None => columns,
        };
        let tokens: Vec<_> = (0..i64::from(count))
            .map(|token| {
                let mut buffer = input.clone();
                buffer.base = buffer.base.offset(token * stride);
                buffer
            })
            .collect();
        let mut totals: Vec<Option<Value>> = vec![None; count as usize];
        for start in (0..columns).step_by(part.max(1)) {
            let len = super::loops::Len::Const(part.min(columns - start));
            let zero = b.const_f(0.0);
            let inits = vec![zero; count as usize];
            let sums = self.strips(b, &len, &inits, &mut |emit, b, base, tail, carried| {
                let column = base.offset(start as i64);
                let w = match packed {
                    Some(weight) => emit.code(b, weight, number, &column, true),
                    None => {
                        let at = [number.clone(), column.clone()];
                        emit.eval(b, layer.weight_value, &at, true)?
                    }
                };
                let mut next = Vec::new();
                for (buffer, &acc) in tokens.iter().zip(carried) {
                    let x = emit.load(b, buffer, std::slice::from_ref(&column), true);
                    let product = b.mul(w, x);
                    let product = emit.masked(b, tail, product, zero);
                    next.push(b.add(acc, product));
                }
                Ok(next)
            })?;
            for (total, sum) in totals.iter_mut().zip(sums) {
                let mut sum = b.red_add(sum);
                if let Some(weight) = packed {
                    let scale = self.scale(b, weight, number, &Ix::constant(start as i64));
                    sum = b.mul(sum, scale);
                }
                *total = Some(match *total {
                    None => sum,
                    Some(total) => b.add(total, sum),
                });
            }
        }
        let none = b.const_s(0.0);
        Ok(totals.into_iter().map(|t| t.unwrap_or(none)).collect())
    }
}
