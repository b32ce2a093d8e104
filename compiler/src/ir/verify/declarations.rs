//! Invariants of weights, states, axes, host functions and the heads of entries.

use rustc_hash::{FxHashMap, FxHashSet};

use super::Checker;
use crate::ir::infer::is_arithmetic;
use crate::ir::module::*;
use crate::ir::types::*;
use crate::limits::Limits;

impl Checker<'_> {
    pub(super) fn declarations(&mut self) {
        let module = self.module;
        for (i, axis) in module.axes.iter().enumerate() {
            if let AxisCapacity::Max(0) | AxisCapacity::Ring(0) = axis.capacity {
                self.declaration(&format!("cache{i}"), "an axis keeps at least one entry");
            }
            if let AxisCapacity::Max(n) | AxisCapacity::Ring(n) = axis.capacity
                && n > Limits::DEFAULT.entries
            {
                self.declaration(&format!("cache{i}"), "too many entries");
            }
        }
        for (i, host) in module.hosts.iter().enumerate() {
            let types = host.params.iter().map(|(_, ty)| ty).chain([&host.result]);
            for ty in types {
                let fits = is_arithmetic(ty.elem) && sized(ty);
                if !fits {
                    self.declaration(&format!("h{i}"), format!("{ty} does not cross to the host"));
                }
            }
        }
        for (path, tensor, _) in module.unread() {
            if !sized(&Type::of(tensor.encoding.elem(), &tensor.shape)) {
                self.declaration(path, "its size is not between 1 and 2^40");
            }
            if let Err(why) = encoding(&tensor.encoding) {
                self.declaration(path, why);
            }
        }
        self.weights();
        self.states();
        let mut names = FxHashSet::default();
        for (i, entry) in module.entries.iter().enumerate() {
            if !names.insert(&entry.name) {
                self.declaration(&format!("e{i}"), "another entry has this name");
            }
            self.entry(i, entry);
        }
    }

    fn origin(&mut self, name: &dyn Fn() -> String, origin: OriginId) {
        if origin.index() >= self.module.origins.len().max(1) {
            self.declaration(&name(), format!("origin @{} is not declared", origin.0));
        }
    }

    fn weights(&mut self) {
        let module = self.module;
        let mut paths = FxHashSet::default();
        for (i, weight) in module.weights.iter().enumerate() {
            let name = || format!("w{i}");
            self.origin(&name, weight.origin);
            if !paths.insert(&weight.path) {
                self.declaration(&name(), "another weight has this path");
            }
            if !sized(&weight.ty()) {
                self.declaration(&name(), "its size is not between 1 and 2^40");
            }
            if let Err(why) = encoding(&weight.encoding) {
                self.declaration(&name(), why);
            }
            if let WeightSource::Computed(region) = &weight.source {
                if weight.encoding != Encoding::F32 {
                    self.declaration(&name(), "a computed weight is f32");
                }
                if !region.params().is_empty() || region.results().len() != 1 {
                    self.declaration(&name(), "is computed from nothing but weights, to one value");
                } else if region.has_value(region.results()[0]) && *region.ty(region.results()[0]) != weight.ty() {
                    let ty = region.ty(region.results()[0]);
                    self.declaration(&name(), format!("is computed as {ty}"));
                }
            }
        }
    }

    fn states(&mut self) {
        let module = self.module;
        let mut paths = FxHashSet::default();
        for (i, state) in module.states.iter().enumerate() {
            let name = || format!("s{i}");
            self.origin(&name, state.origin);
            if !paths.insert(&state.path) {
                self.declaration(&name(), "another state has this path");
            }
            if state.ty.shape.contains(&Dim::Time) || !is_arithmetic(state.ty.elem) {
                self.declaration(&name(), format!("{} is no type of a state", state.ty));
            }
            let grows = state.ty.shape.iter().filter(|d| matches!(d, Dim::Grow { .. })).count();
            if grows > 1 {
                self.declaration(&name(), "at most one axis grows");
            }
            if !fixed_part_sized(&state.ty) {
                self.declaration(&name(), "its size is not between 1 and 2^40");
            }
            if let Some((at, axis)) = state.growing() {
                if axis.index() >= module.axes.len() {
                    self.declaration(&name(), format!("cache{} is not declared", axis.0));
                }
                if !matches!(state.ty.shape[at], Dim::Grow { plus: 0, .. }) {
                    self.declaration(&name(), "a state has nothing before its entries");
                }
            }
            match state.initial {
                Initial::Empty if grows == 0 => self.declaration(&name(), "only what grows is empty"),
                Initial::Fill(_) | Initial::Weight(_) if grows > 0 => {
                    self.declaration(&name(), "what grows starts empty");
                }
                Initial::Fill(v) if !fill_fits(v, state.ty.elem) => {
                    self.declaration(&name(), format!("{v:?} is no {}", state.ty.elem.name()));
                }
                Initial::Weight(w) => match module.weights.get(w.index()) {
                    None => self.declaration(&name(), format!("w{} is not declared", w.0)),
                    Some(weight) => {
                        if state.ty.elem != Elem::F32 || !state.ty.shape.ends_with(&weight.ty().shape) {
                            self.declaration(
                                &name(),
                                "is f32 and starts from a weight of its shape, or of its last axes",
                            );
                        }
                    }
                },
                _ => {}
            }
            let narrowed = state.stored == Elem::Bf16 && state.ty.elem == Elem::F32 && grows > 0;
            if state.stored != state.ty.elem && !narrowed {
                self.declaration(&name(), format!("{} cannot be stored as {}", state.ty, state.stored.name()));
            }
            if state.instances.contains(&0) {
                self.declaration(&name(), "a repeat has at least one round");
            }
            if state.held && (grows > 0 || !state.instances.is_empty()) {
                self.declaration(&name(), "what the host writes does not grow and is one for all rounds");
            }
            if !room_fits(module, state) {
                self.declaration(&name(), "all its entries in all its instances are more than 2^40 elements");
            }
        }
    }

    fn entry(&mut self, i: usize, entry: &Entry) {
        let name = || format!("e{i}");
        let module = self.module;
        let outer = match entry.within {
            Some(outer) if outer < i && module.entries[outer].within.is_none() => Some(&module.entries[outer]),
            Some(outer) => {
                self.declaration(&name(), format!("cannot be within e{outer}"));
                None
            }
            None => None,
        };
        let body = &entry.body;
        if entry.params.len() != body.params().len() {
            self.declaration(&name(), "its body has another number of parameters");
        }
        if entry.outputs.len() != body.results().len() {
            self.declaration(&name(), "its body has another number of results");
        }
        let outer: Option<FxHashMap<&str, &Type>> =
            outer.map(|outer| outer.outputs.iter().rev().map(|o| (o.name.as_str(), &o.ty)).collect());
        let mut names = FxHashSet::default();
        for (param, &value) in entry.params.iter().zip(body.params()) {
            if *body.ty(value) != param.ty {
                let ty = body.ty(value);
                self.declaration(&name(), format!("its body takes {} as {ty}", param.name));
            }
            if entry.lifted != param.ty.is_lifted() {
                let ty = &param.ty;
                self.declaration(&name(), format!("{} is {ty}: time is missing or too much", param.name));
            }
            if !names.insert(&param.name) {
                self.declaration(&name(), format!("two parameters are called {}", param.name));
            }
            self.param(&name(), entry, outer.as_ref(), param);
        }
        if let Some(start) = &entry.start
            && let Err(why) = starts(entry, start)
        {
            self.declaration(&name(), why);
        }
        let kinds = |f: fn(&ParamKind) -> bool| entry.params.iter().filter(|p| f(&p.kind)).count();
        if kinds(|k| *k == ParamKind::Stream) > 1 || kinds(|k| *k == ParamKind::Position) > 1 {
            self.declaration(&name(), "the stream and the position come once");
        }
        let mut names = FxHashSet::default();
        for (output, &value) in entry.outputs.iter().zip(body.results()) {
            if body.has_value(value) && *body.ty(value) != output.ty {
                let ty = body.ty(value);
                self.declaration(&name(), format!("its body gives {} as {ty}", output.name));
            }
            if entry.lifted != output.ty.is_lifted() {
                let ty = &output.ty;
                self.declaration(&name(), format!("{} is {ty}: time is missing or too much", output.name));
            }
            if !sized(&output.ty.step()) || !is_arithmetic(output.ty.elem) {
                self.declaration(&name(), format!("{} is no type of an output", output.ty));
            }
            if !names.insert(&output.name) {
                self.declaration(&name(), format!("two outputs are called {}", output.name));
            }
        }
    }

    fn param(&mut self, name: &str, entry: &Entry, outer: Option<&FxHashMap<&str, &Type>>, param: &Param) {
        let ty = param.ty.step();
        let fits = match &param.kind {
            ParamKind::Stream => ty == Type::scalar(Elem::U32) || ty.elem == Elem::U8 && ty.rank() <= 1,
            ParamKind::Position => ty == Type::scalar(Elem::I32),
            ParamKind::Given { .. } => ty == Type::scalar(Elem::Bool),
            ParamKind::Input { default: Some(value) } => value.ty() == ty && ty.elements() == Some(value.data.len()),
            ParamKind::Outer { output } => {
                let given = outer.and_then(|outputs| outputs.get(output.as_str()));
                given.is_some_and(|given| given.step() == ty)
            }
            ParamKind::Input { default: None } | ParamKind::Value => true,
        };
        if !fits || !sized(&ty) || !is_arithmetic(ty.elem) {
            self.declaration(name, format!("{} cannot be {}", param.name, param.ty));
        }
        if let Some((low, high)) = param.range {
            // A comparison that is false for NaN too.
            let ordered = low <= high;
            if !ordered {
                self.declaration(name, format!("nothing is in the range of {}", param.name));
            }
        }
        if let ParamKind::Input { default: Some(neutral) } = &param.kind
            && let Some(value) = param.range.and_then(|range| neutral.data.outside(range))
        {
            self.declaration(name, format!("the neutral value {value} of {} is outside its range", param.name));
        }
        let within = matches!(param.kind, ParamKind::Outer { .. });
        if within && entry.within.is_none() {
            self.declaration(name, format!("{} has no outer entry", param.name));
        }
    }
}

/// Whether what is fed to a stream before anything else is one step of it.
fn starts(entry: &Entry, start: &Start) -> Result<(), String> {
    let Some(stream) = entry.params.iter().find(|p| p.kind == ParamKind::Stream) else {
        return Err("it has a start and no stream".into());
    };
    let (given, needed) = (start.elements.len(), stream.ty.step().elements());
    if needed != Some(given) {
        return Err(format!("its start is {given} elements, a step takes {}", needed.unwrap_or(0)));
    }
    let most = if stream.ty.elem == Elem::U8 { f64::from(u8::MAX) } else { f64::from(u32::MAX) };
    let (low, high) = stream.range.unwrap_or((0.0, most));
    match start.elements.iter().find(|&&e| f64::from(e) < low || f64::from(e) > high.min(most)) {
        Some(element) => Err(format!("it starts with {element}, which its stream does not have")),
        None => Ok(()),
    }
}

/// Whether a state whose axis is full, in all its instances, has a number of elements within bounds.
fn room_fits(module: &Module, state: &StateDecl) -> bool {
    let entries = |axis: AxisId| match module.axes.get(axis.index()).map(|axis| axis.capacity) {
        Some(AxisCapacity::Max(n) | AxisCapacity::Ring(n)) => n,
        // Options bound it.
        Some(AxisCapacity::Unbounded) | None => 1,
    };
    let places = state.ty.shape.iter().map(|dim| match *dim {
        Dim::Const(n) => n,
        Dim::Grow { axis, .. } => entries(axis),
        Dim::Time => 1,
    });
    places
        .chain(state.instances.iter().copied())
        .try_fold(1usize, |n, d| n.checked_mul(d))
        .is_some_and(|n| n <= Limits::DEFAULT.elements)
}

/// Whether all axes are known and the number of elements is within bounds.
pub(super) fn sized(ty: &Type) -> bool {
    ty.elements().is_some_and(|n| (1..=Limits::DEFAULT.elements).contains(&n))
}

/// The same of a type's known axes.
pub(super) fn fixed_part_sized(ty: &Type) -> bool {
    ty.shape
        .iter()
        .filter_map(|d| match d {
            Dim::Const(n) => Some(*n),
            Dim::Grow { plus, .. } => Some(plus.saturating_add(1)),
            Dim::Time => None,
        })
        .try_fold(1usize, |n, d| n.checked_mul(d))
        .is_some_and(|n| (1..=Limits::DEFAULT.elements).contains(&n))
}

fn fill_fits(value: f64, elem: Elem) -> bool {
    match elem {
        Elem::F32 => !value.is_nan() && (value.is_infinite() || f64::from(value as f32) == value),
        Elem::Bool => value == 0.0 || value == 1.0,
        Elem::I32 => f64::from(value as i32) == value,
        Elem::U32 => f64::from(value as u32) == value,
        Elem::I8 => f64::from(value as i8) == value,
        Elem::U8 => f64::from(value as u8) == value,
        Elem::U64 => value.fract() == 0.0 && (0.0..=u64::MAX as f64).contains(&value),
        Elem::F16 | Elem::Bf16 | Elem::Ternary | Elem::Sign => false,
    }
}

fn encoding(encoding: &Encoding) -> Result<(), &'static str> {
    let (group, floor) = match encoding {
        Encoding::F32 | Encoding::F16 | Encoding::Bf16 => return Ok(()),
        Encoding::Ternary { group, floor, .. } => (group, *floor),
        Encoding::Sign { group, .. } => (group, 0.0),
    };
    if let Group::Inputs(0) = group {
        return Err("a group has at least one input");
    }
    if !(floor.is_finite() && floor >= 0.0) {
        return Err("the floor of a scale is a number from 0 on");
    }
    quantiser(encoding.input())
}

/// Whether the parameters of an input quantiser make sense.
pub(super) fn quantiser(quant: InputQuant) -> Result<(), &'static str> {
    match quant {
        InputQuant::Int8 { block: Some(0), .. } => Err("a block has at least one input"),
        InputQuant::Int8 { floor, .. } if !(floor.is_finite() && floor >= 0.0) => {
            Err("the floor of a quantiser is a number from 0 on")
        }
        _ => Ok(()),
    }
}
