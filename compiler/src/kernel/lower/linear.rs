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
use super::kernels::{Built, CODE_SUM, Context, Form, Frame, Spec, open};
use super::weights::scale_group;
use crate::ir::{BinaryOp, Dim, Elem, Group, Op, Type, WeightId};
use crate::kernel::build::Builder;
use crate::kernel::ir::{LANES, MAX_TOKENS, Value};

/// A linear layer of the kernel.
pub struct Layer {
    pub weight_value: V,
    pub result: V,
    pub input: V,
    /// Block maxima, for int8 products.
    pub maxima: Option<V>,
}

/// What is known of each token before the strips: i32 sums of codes unless they stand with the maxima, and
/// for each layer with one scale what its totals are multiplied with.
struct Tables {
    sums: Option<Value>,
    factors: Vec<Option<Value>>,
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
                    if !super::quantised::one_block(context.weights.layout(*weight), *quant) {
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
                || !is_input(if layer.maxima.is_some() { layer.input } else { source(spec, layer.input) })
                || layer.maxima.is_some_and(|a| !is_input(a))
                || graph.ty(layer.input).elem != Elem::F32 && layer.maxima.is_none()
            {
                return None;
            }
            layers.push(layer);
        }
    }
    let rows = rows?;
    let fits = |ty: &Type| ty.rank() == 0 || *ty.shape == [Dim::Const(rows)];
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
                *ty.shape == [Dim::Const(rows)]
            }
            _ => false,
        };
        if !allowed {
            return None;
        }
    }
    let outputs_fit =
        spec.outputs.iter().all(|(v, place)| *graph.ty(*v).shape == [Dim::Const(rows)] && place.row_stride > 0);
    outputs_fit.then_some(Plan { layers, rows })
}

/// The value whose memory is seen in another shape as `v`.
fn source(spec: &Spec, v: V) -> V {
    match spec.graph.def(v) {
        Some(Step { act: Act::Op(Op::Reshape), inputs, .. }) => source(spec, inputs[0]),
        _ => v,
    }
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
    let mut known = true;
    if let Some(layer) = codes {
        let same = plan.layers.iter().all(|l| l.maxima.is_none() || l.input == layer.input);
        if !same {
            return Ok(None);
        }
        let input = layer.input;
        let maxima = layer.maxima;
        known = spec.inputs.iter().any(|(v, place)| Some(*v) == maxima && place.code_sum);
        let n = emit.shape(input)[0];
        if !known {
            emit.each(&mut b, zero, frame.rows, &mut |emit, b, row| {
                emit.enter_row(b, spec, &frame, row)?;
                let sum = emit.code_sum(b, input, &[], 0, n)?;
                let (pointer, offset) = row.times(4).address(b, sums);
                b.store_n(pointer, offset, sum);
                Ok(())
            })?;
        }
    }
    let factors = emit.token_factors(&mut b, spec, &frame, &plan, context)?;
    let tables = Tables { sums: (!known).then_some(sums), factors };
    let (begin, end) = (b.begin(), b.end());
    let tile = MAX_TOKENS as i32;
    let rest = b.const_n(!(tile - 1));
    let whole = b.and(frame.rows, rest);
    emit.each(&mut b, begin, end, &mut |emit, b, strip| {
        let tokens = |emit: &mut Emit<'_>, b: &mut Builder, row: &Ix, count: u32| {
            emit.tile(b, spec, &frame, &plan, strip, row, count, &tables)
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
        tables: &Tables,
    ) -> Result<(), NotCompiled> {
        let place = [strip.times(LANES as i64)];
        self.enter_row(b, spec, frame, row)?;
        let mut totals: Vec<Vec<Value>> = Vec::new();
        self.weights_of(b, spec)?;
        for layer in &plan.layers {
            let input = source(spec, layer.input);
            let stride = spec.inputs.iter().find(|(v, _)| *v == input).map_or(0, |(_, p)| p.row_stride);
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
                self.epilogue(b, spec, frame, plan, strip, &row, &place, tables, |layer| totals[layer][token as usize]);
            self.close();
            self.locs = locs;
            result?;
        }
        Ok(())
    }

    /// Tables of the factors that depend on the token alone.
    fn token_factors(
        &mut self,
        b: &mut Builder,
        spec: &Spec,
        frame: &Frame,
        plan: &Plan,
        context: &Context<'_>,
    ) -> Result<Vec<Option<Value>>, NotCompiled> {
        let mut tables = vec![None; plan.layers.len()];
        let mut wanted = Vec::new();
        for (number, layer) in plan.layers.iter().enumerate() {
            let step = spec.graph.def(layer.result);
            let Some(Act::Op(Op::LinearInt8 { quant })) = step.map(|s| &s.act) else {
                continue;
            };
            let Some(Act::Op(Op::Weight(weight))) = spec.graph.def(layer.weight_value).map(|s| &s.act) else {
                continue;
            };
            if scale_group(context.weights.layout(*weight)) == Group::Tensor {
                let table = b.stack((context.max_rows * 4).next_multiple_of(64) as u32);
                tables[number] = Some(table);
                wanted.push((*weight, layer.maxima, table, *quant));
            }
        }
        if wanted.is_empty() {
            return Ok(tables);
        }
        let zero = b.const_n(0);
        self.each(b, zero, frame.rows, &mut |emit, b, row| {
            emit.enter_row(b, spec, frame, row)?;
            for &(weight, maxima, table, quant) in &wanted {
                let maxima = maxima.expect("an int8 product");
                let factor = emit.token_factor(b, weight, maxima, &[], quant)?;
                let (pointer, offset) = row.times(4).address(b, table);
                b.store_s(pointer, offset, factor);
            }
            Ok(())
        })?;
        Ok(tables)
    }

    /// The sum of a token's codes.
    fn token_sum(&mut self, b: &mut Builder, maxima: V, row: &Ix, tables: &Tables) -> Value {
        match (tables.sums, &self.locs[maxima.index()]) {
            (None, Some(Loc::Buf(buffer))) => {
                let (pointer, offset) = buffer.base.address(b, buffer.pointer);
                b.load_n(pointer, offset + CODE_SUM)
            }
            (Some(sums), _) => {
                let (pointer, offset) = row.times(4).address(b, sums);
                b.load_n(pointer, offset)
            }
            _ => unreachable!("maxima lie in memory"),
        }
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
        tables: &Tables,
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
                        let factor = match tables.factors[layer] {
                            Some(table) => {
                                let (pointer, offset) = row.times(4).address(b, table);
                                let factor = b.load_s(pointer, offset);
                                b.splat(factor)
                            }
                            None => self.undo(b, weight, maxima, &[], strip, *quant)?,
                        };
                        let sum = self.token_sum(b, maxima, row, tables);
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
}
