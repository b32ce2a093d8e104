//! Emitting nodes: the stack of regions under construction, captures between them, constants,
//! broadcasting and the joining of mapped axes. Nothing here knows syntax.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::value::{R, Tensor, Val};
use super::{Elaborator, Mapped};
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::verify::budget::{OfWeights, elements, looks};
use crate::ir::{Dim, Elem, Literal, NodeId, Op, Origin, OriginId, Region, Type, Value, WeightId};

/// A region being filled.
pub(super) struct Builder {
    pub id: usize,
    pub region: Region,
    /// Values of the enclosing region passed in, in order of the parameters they became.
    pub captures: Vec<Value>,
    known: FxHashMap<Value, Value>,
    of_weights: OfWeights,
    weights: FxHashMap<WeightId, Value>,
}

impl<'a> Elaborator<'a> {
    /// Refuses one more region inside those that are open.
    pub(super) fn region_fits(&mut self, span: Span) -> R<()> {
        let most = self.limits.regions;
        if self.regions.len() > most {
            return self.too_big(span, format!("more than {most} branches and loops of the step inside one another"));
        }
        Ok(())
    }

    /// Opens a region inside the current one; captures of `like` become its first captures, in order.
    pub(super) fn open_region(&mut self, like: Option<&Builder>) {
        let id = self.next_id();
        let mut builder = Builder {
            id,
            region: Region::new(),
            captures: Vec::new(),
            known: FxHashMap::default(),
            of_weights: OfWeights::default(),
            weights: FxHashMap::default(),
        };
        if let (Some(like), Some(outer)) = (like, self.regions.last()) {
            for &value in &like.captures {
                let ty = outer.region.ty(value).clone();
                builder.capture(value, ty);
            }
        }
        self.regions.push(builder);
    }

    /// Takes the current region off the stack.
    pub(super) fn close_region(&mut self) -> Builder {
        self.regions.pop().expect("a region is open")
    }

    /// The region that nodes go to.
    pub(super) fn region(&self) -> &Region {
        &self.regions.last().expect("a region is open").region
    }

    /// The value of a tensor in the current region, captured through the regions between.
    pub(super) fn local(&mut self, tensor: &Tensor) -> Value {
        let home = self.regions.iter().position(|r| r.id == tensor.region);
        let home = home.expect("tensors do not outlive their region");
        let mut value = tensor.value;
        for at in home + 1..self.regions.len() {
            if let Some(&known) = self.regions[at].known.get(&value) {
                value = known;
                continue;
            }
            let ty = self.regions[at - 1].region.ty(value).clone();
            value = self.regions[at].capture(value, ty);
        }
        value
    }

    /// Does something in an open region around the current one, before the node that the regions between belong to.
    pub(super) fn outside<T>(&mut self, region: usize, emit: impl FnOnce(&mut Self) -> R<T>) -> R<T> {
        let home = self.regions.iter().position(|r| r.id == region).expect("tensors do not outlive their region");
        let inner = self.regions.split_off(home + 1);
        let result = emit(self);
        self.regions.extend(inner);
        result
    }

    /// The axes of mapped calls followed by the axes the text sees.
    pub(super) fn full(&self, leads: &[usize], shape: &[Dim]) -> Vec<Dim> {
        let mut full = Vec::new();
        for &lead in leads {
            full.extend(self.mapped[lead].dims.iter().copied());
        }
        full.extend(shape.iter().copied());
        full
    }

    /// How many axes the mapped calls give.
    pub(super) fn lead_axes(&self, leads: &[usize]) -> usize {
        leads.iter().map(|&l| self.mapped[l].dims.len()).sum()
    }

    /// Registers the axes over which a call is mapped.
    pub(super) fn new_lead(&mut self, dims: Vec<Dim>) -> usize {
        self.mapped.push(Mapped { dims });
        self.mapped.len() - 1
    }

    /// The origin of nodes that come from a place in the text.
    pub(super) fn origin(&mut self, span: Span) -> OriginId {
        let way = self.frames.last().map_or(0, |frame| frame.way);
        let key = (span, way);
        if let Some(&id) = self.origins.get(&key) {
            return id;
        }
        let file = self.files.get(span.file);
        let position = *self.positions.entry(span).or_insert_with(|| file.position(span.start as usize));
        let (path, chain) = &self.ways[way];
        Arc::make_mut(&mut self.module.origins).push(Origin {
            file: file.name().clone(),
            line: position.line as u32,
            column: position.column as u32,
            path: path.clone(),
            chain: chain.clone(),
        });
        let id = OriginId(self.module.origins.len() as u32 - 1);
        self.origins.insert(key, id);
        id
    }

    /// Appends a node to the current region.
    pub(super) fn emit(&mut self, op: Op, inputs: &[Value], types: Vec<Type>, span: Span) -> R<Vec<Value>> {
        self.count_node(span)?;
        if self.regions.is_empty() {
            return self.outside_of_step(span);
        }
        for ty in &types {
            self.check_size(&ty.shape, span)?;
        }
        let origin = self.origin(span);
        let region = &mut self.regions.last_mut().expect("a region is open").region;
        let node = region.push(op, inputs, types, origin);
        self.count_values(node, span)?;
        Ok(self.region().node(node).results.to_vec())
    }

    /// Counts the values that a node computes in the step.
    fn count_values(&mut self, node: NodeId, span: Span) -> R<()> {
        let builder = self.regions.last_mut().expect("a region is open");
        let found = builder.region.node(node);
        let sizes = found.results.iter().map(|&r| elements(builder.region.ty(r)));
        let (all, largest) = (sizes.clone().fold(0, usize::saturating_add), sizes.max().unwrap_or(0));
        let looks = looks(&builder.region, found);
        if builder.of_weights.node(&found.op, &found.inputs, &found.results, all) {
            return self.count_work(looks, span);
        }
        let most = self.limits.value;
        if largest > most {
            return self.fail(
                Diagnostic::error(Code::TooBig, "a value with too many elements")
                    .at(span, format!("{largest} elements, at most {most}")),
            );
        }
        self.count_work(all.saturating_add(looks), span)
    }

    /// A tensor is computed where only static values exist.
    fn outside_of_step<T>(&mut self, span: Span) -> R<T> {
        let diagnostic = Diagnostic::error(Code::NotStatic, "this must be known before running");
        self.fail(diagnostic.at(span, "computed with tensors"))
    }

    /// Appends a node with one result.
    pub(super) fn emit1(
        &mut self,
        op: Op,
        inputs: &[Value],
        elem: Elem,
        leads: &[usize],
        shape: &[Dim],
        span: Span,
    ) -> R<Tensor> {
        let ty = Type::new(elem, self.full(leads, shape));
        let value = self.emit(op, inputs, vec![ty], span)?[0];
        Ok(self.wrap(value, elem, leads, shape))
    }

    /// A tensor of the current region.
    pub(super) fn wrap(&self, value: Value, elem: Elem, leads: &[usize], shape: &[Dim]) -> Tensor {
        Tensor {
            region: self.regions.last().map_or(0, |r| r.id),
            value,
            elem,
            leads: leads.to_vec(),
            shape: shape.to_vec(),
            state: None,
            literal: false,
        }
    }

    /// Refuses shapes whose product no machine could hold.
    pub(super) fn check_size(&mut self, shape: &[Dim], span: Span) -> R<()> {
        let most = self.limits.elements;
        let product =
            shape.iter().try_fold(1usize, |n, d| n.checked_mul(d.constant().unwrap_or(1)).filter(|&n| n <= most));
        match product {
            Some(0) => self.fail(
                Diagnostic::error(Code::StaticValue, "an axis of length 0")
                    .at(span, format!("[{}]", shape.iter().map(super::value::show_dim).collect::<Vec<_>>().join(", "))),
            ),
            Some(_) => Ok(()),
            None => self.fail(
                Diagnostic::error(Code::TooBig, "a tensor with too many elements")
                    .at(span, format!("more than {most}")),
            ),
        }
    }

    /// The node of a weight in the current region, with the element of its encoding.
    pub(super) fn weight_value(&mut self, id: WeightId, span: Span) -> R<Tensor> {
        if self.regions.is_empty() {
            return self.outside_of_step(span);
        }
        self.weight_used[id.index()] = true;
        let weight = self.module.weight(id);
        let (elem, shape) = (weight.encoding.elem(), weight.ty().shape);
        let top = self.regions.len() - 1;
        if let Some(&value) = self.regions[top].weights.get(&id) {
            return Ok(self.wrap(value, elem, &[], &shape));
        }
        let tensor = self.emit1(Op::Weight(id), &[], elem, &[], &shape, span)?;
        self.regions[top].weights.insert(id, tensor.value);
        Ok(tensor)
    }

    /// A weight by its numbers: widened or decoded to f32.
    pub(super) fn weight_tensor(&mut self, id: WeightId, span: Span) -> R<Tensor> {
        let tensor = self.weight_value(id, span)?;
        self.convert(&tensor, Elem::F32, span)
    }

    /// A constant.
    pub(super) fn constant(&mut self, literal: Literal, span: Span) -> R<Tensor> {
        let ty = literal.ty();
        self.constants = self.constants.saturating_add(literal.data.len() * ty.elem.bytes().unwrap_or(8));
        if self.constants > self.limits.constants {
            let most = self.limits.constants;
            return self.too_big(span, format!("more than {most} bytes of constants"));
        }
        let (elem, shape) = (ty.elem, ty.shape);
        self.emit1(Op::Constant(literal), &[], elem, &[], &shape, span)
    }

    /// A scalar constant of type i32.
    pub(super) fn int_constant(&mut self, value: i32, span: Span) -> R<Tensor> {
        self.constant(Literal::i32(value), span)
    }

    /// The tensor with these mapped axes and this shape; it must have that shape or be a scalar.
    pub(super) fn expand(&mut self, tensor: &Tensor, leads: &[usize], shape: &[Dim], span: Span) -> R<Tensor> {
        let value = self.local(tensor);
        if tensor.leads == leads && tensor.shape == shape {
            let mut same = tensor.clone();
            (same.value, same.region) = (value, self.regions.last().map_or(0, |r| r.id));
            return Ok(same);
        }
        let mut axes = Vec::new();
        let mut at = 0;
        for &lead in leads {
            let n = self.mapped[lead].dims.len();
            if tensor.leads.contains(&lead) {
                axes.extend(at..at + n);
            }
            at += n;
        }
        axes.extend((0..tensor.shape.len()).map(|i| at + i));
        let mut full = self.emit1(Op::Broadcast { axes }, &[value], tensor.elem, leads, shape, span)?;
        full.literal = tensor.literal;
        Ok(full)
    }

    /// Same elements, another shape as the text sees it.
    pub(super) fn reshape(&mut self, tensor: &Tensor, shape: &[Dim], span: Span) -> R<Tensor> {
        if tensor.shape == shape {
            return Ok(tensor.clone());
        }
        let value = self.local(tensor);
        let (elem, leads) = (tensor.elem, tensor.leads.clone());
        self.emit1(Op::Reshape, &[value], elem, &leads, shape, span)
    }

    /// `len` places from `start` along an axis as the text sees it.
    pub(super) fn slice(&mut self, tensor: &Tensor, axis: usize, start: usize, len: usize, span: Span) -> R<Tensor> {
        let value = self.local(tensor);
        let mut shape = tensor.shape.clone();
        shape[axis] = Dim::Const(len);
        let op = Op::Slice { axis: axis + self.lead_axes(&tensor.leads), start, len };
        let leads = tensor.leads.clone();
        self.emit1(op, &[value], tensor.elem, &leads, &shape, span)
    }

    /// The element at a static index of axis 0.
    pub(super) fn pick(&mut self, tensor: &Tensor, index: usize, span: Span) -> R<Tensor> {
        let one = self.slice(tensor, 0, index, 1, span)?;
        let shape = one.shape[1..].to_vec();
        self.reshape(&one, &shape, span)
    }

    /// One after the other along an axis; mapped axes are joined.
    pub(super) fn concat(&mut self, tensors: &[Tensor], axis: usize, span: Span) -> R<Tensor> {
        if let [only] = tensors {
            return Ok(only.clone());
        }
        let leads = union(tensors.iter());
        let mut values = Vec::new();
        let (mut length, mut grow) = (0usize, None);
        for tensor in tensors {
            let shape = tensor.shape.clone();
            let full = self.expand(tensor, &leads, &shape, span)?;
            values.push(full.value);
            match shape[axis] {
                Dim::Const(n) => length += n,
                Dim::Grow { axis, plus } => {
                    length += plus;
                    grow = Some(axis);
                }
                Dim::Time => {}
            }
        }
        let mut shape = tensors[0].shape.clone();
        shape[axis] = match grow {
            Some(axis) => Dim::Grow { axis, plus: length },
            None => Dim::Const(length),
        };
        let op = Op::Concat { axis: axis + self.lead_axes(&leads) };
        let elem = tensors[0].elem;
        self.emit1(op, &values, elem, &leads, &shape, span)
    }

    /// The element converted.
    pub(super) fn convert(&mut self, tensor: &Tensor, elem: Elem, span: Span) -> R<Tensor> {
        if tensor.elem == elem {
            return Ok(tensor.clone());
        }
        let value = self.local(tensor);
        let (leads, shape) = (tensor.leads.clone(), tensor.shape.clone());
        self.emit1(Op::Convert(elem), &[value], elem, &leads, &shape, span)
    }

    /// A static value as a constant tensor, a list of tensors stacked, a weight by its numbers.
    pub(super) fn tensor_of(&mut self, value: &Val<'a>, hint: Option<Elem>, span: Span) -> R<Tensor> {
        match value {
            Val::Tensor(tensor) if tensor.literal && hint == Some(Elem::F32) => self.convert(tensor, Elem::F32, span),
            Val::Tensor(tensor) => Ok(Tensor { literal: tensor.literal && hint.is_none(), ..(**tensor).clone() }),
            Val::Weight(id) => self.weight_tensor(*id, span),
            Val::Optional(optional) => {
                if self.guards.contains(&optional.id) {
                    return Ok(optional.value.clone());
                }
                let name = optional.name.clone();
                self.fail(
                    Diagnostic::error(Code::Unguarded, format!("`{name}` may be absent"))
                        .at(span, "read without a guard")
                        .and_at(optional.declared, "declared here")
                        .help(format!(
                            "read it in a branch of `if given({name}) {{ ... }}` or after `given({name}) and`"
                        )),
                )
            }
            Val::Absent(path) => self.fail(
                Diagnostic::error(Code::Unguarded, format!("`{path}` is not in the checkpoint"))
                    .at(span, "read without a guard")
                    .help("read it where `present(...)` of it holds"),
            ),
            Val::Poison => Err(super::value::Reported),
            Val::List(values) if !value.is_static() => {
                let elem = common_elem(values.iter(), hint);
                let mut parts = Vec::new();
                for value in values.iter() {
                    parts.push(self.tensor_of(value, elem, span)?);
                }
                self.stack(&parts, span)
            }
            _ => {
                let literal = super::statics::literal(value, hint);
                match literal {
                    Ok(literal) => {
                        let mut tensor = self.constant(literal, span)?;
                        tensor.literal = hint.is_none() && tensor.elem == Elem::I32;
                        Ok(tensor)
                    }
                    Err(problem) => self.fail(Diagnostic::error(Code::StaticValue, problem).at(span, value.show())),
                }
            }
        }
    }

    /// Tensors of one shape as the rows of a new first axis.
    pub(super) fn stack(&mut self, tensors: &[Tensor], span: Span) -> R<Tensor> {
        let Some(first) = tensors.first() else {
            return self.fail(Diagnostic::error(Code::StaticValue, "an empty list has no type").at(span, ""));
        };
        for other in &tensors[1..] {
            if other.shape != first.shape || other.elem != first.elem {
                return self.fail(
                    Diagnostic::error(Code::ShapeMismatch, "the values of a list have different types")
                        .at(
                            span,
                            format!(
                                "{} and {}",
                                super::value::show_type(first.elem, &first.shape),
                                super::value::show_type(other.elem, &other.shape)
                            ),
                        )
                        .note_if(self.other_entries(&first.shape, &other.shape)),
                );
            }
        }
        let mut rows = Vec::new();
        for tensor in tensors {
            let mut shape = vec![Dim::Const(1)];
            shape.extend(tensor.shape.iter().copied());
            rows.push(self.reshape(tensor, &shape, span)?);
        }
        self.concat(&rows, 0, span)
    }
}

impl Builder {
    /// Passes a value of the enclosing region in.
    pub fn capture(&mut self, outer: Value, ty: Type) -> Value {
        let inner = self.region.add_param(ty);
        self.captures.push(outer);
        self.known.insert(outer, inner);
        inner
    }

    /// Gives this region the captures of a later one, so that both take the same operands in the
    /// same order.
    pub fn adopt_captures(&mut self, later: &Builder) {
        for i in self.captures.len()..later.captures.len() {
            let params = later.region.params();
            let skipped = params.len() - later.captures.len();
            let ty = later.region.ty(params[skipped + i]).clone();
            self.capture(later.captures[i], ty);
        }
    }
}

/// The mapped axes that any of the tensors carries, outermost first.
pub(super) fn union<'t>(tensors: impl Iterator<Item = &'t Tensor>) -> Vec<usize> {
    let mut leads: Vec<usize> = tensors.flat_map(|t| t.leads.iter().copied()).collect();
    leads.sort_unstable();
    leads.dedup();
    leads
}

/// The element of values that must have one in common: that of the first which has one, else the one wanted around
/// them. Literals alone are f32 if one of them is written as a float, else by their nature (none is given).
pub(super) fn common_elem<'v, 'a: 'v>(
    values: impl IntoIterator<Item = &'v Val<'a>, IntoIter: Clone>,
    hint: Option<Elem>,
) -> Option<Elem> {
    let values = values.into_iter();
    let written = || values.clone().any(has_float).then_some(Elem::F32);
    values.clone().find_map(known_elem).or(hint).or_else(written)
}

fn has_float(value: &Val<'_>) -> bool {
    match value {
        Val::Float(_) => true,
        Val::List(values) => values.iter().any(has_float),
        _ => false,
    }
}

/// The element of a value that has one.
pub(super) fn known_elem(value: &Val<'_>) -> Option<Elem> {
    match value {
        Val::Tensor(tensor) => (!tensor.literal).then_some(tensor.elem),
        Val::Optional(optional) => Some(optional.value.elem),
        Val::Weight(_) => Some(Elem::F32),
        Val::List(list) => list.elem,
        _ => None,
    }
}
