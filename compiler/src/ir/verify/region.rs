//! Invariants of regions: definitions, types, and where states and control flow may be.

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::declarations::{fixed_part_sized, quantiser};
use super::states::Walk;
use super::{Checker, Fault};
use crate::ir::graph::{Node, NodeId, Region, Value};
use crate::ir::groups::state_of;
use crate::ir::infer::{is_arithmetic, result_types};
use crate::ir::module::{StateId, WeightSource};
use crate::ir::op::{FusedKind, Op};
use crate::ir::print::{Place, RegionPath, Root};
use crate::ir::types::{Dim, Encoding, Type, row_fits};

/// What surrounds a region.
pub(super) struct Around<'r> {
    pub root: Root,
    pub path: RegionPath,
    lifted: bool,
    in_scan: bool,
    in_experts: bool,
    fused: Option<FusedKind>,
    /// Bounds of the repeats, outermost first.
    repeats: Vec<usize>,
    /// The region around, the node that this one is nested in, and what surrounds both.
    pub outer: Option<(&'r Region, NodeId, &'r Around<'r>)>,
    /// How many pushes the parameters have seen, where it is known.
    pub seen: Vec<Option<usize>>,
    /// States that regions nested in this one, before the node that is looked at, have changed in this step.
    pub changed: FxHashSet<StateId>,
}

impl Around<'_> {
    /// Whether a region before this place has changed a state in this step.
    pub fn is_changed(&self, state: StateId) -> bool {
        self.changed.contains(&state) || self.outer.is_some_and(|(.., around)| around.is_changed(state))
    }
}

/// How often a state is written and pushed on the busiest way through a region.
pub(super) type Uses = FxHashMap<StateId, (usize, usize)>;

impl Checker<'_> {
    pub(super) fn regions(&mut self) {
        let module = self.module;
        let around = |root, lifted| Around {
            root,
            path: Vec::new(),
            lifted,
            in_scan: false,
            in_experts: false,
            fused: None,
            repeats: Vec::new(),
            outer: None,
            seen: Vec::new(),
            changed: FxHashSet::default(),
        };
        for (i, weight) in module.weights.iter().enumerate() {
            if let WeightSource::Computed(region) = &weight.source {
                self.region(region, around(Root::Weight(i), false));
            }
        }
        for (i, entry) in module.entries.iter().enumerate() {
            let uses = self.region(&entry.body, around(Root::Entry(i), entry.lifted));
            for (state, (writes, pushes)) in uses {
                if writes > 1 || pushes > 1 {
                    let what = format!("s{} is written {writes} times and pushed {pushes} times in one step", state.0);
                    self.declaration(&format!("e{i}"), what);
                }
            }
        }
    }

    fn region(&mut self, region: &Region, mut around: Around) -> Uses {
        let mut defined = vec![false; region.value_numbers()];
        for &param in region.params() {
            defined[param.0 as usize] = true;
            self.ty(region.ty(param), true, &around, &|around| Place::Params(around.root, around.path.clone()));
        }
        let mut uses = Uses::default();
        let mut walk = Walk::new(region, &around);
        for id in region.nodes() {
            let node = region.node(id);
            let place = |around: &Around| Place::Node(around.root, around.path.clone(), id);
            let mut sound = true;
            for &value in &node.inputs {
                if !defined.get(value.0 as usize).is_some_and(|&d| d) {
                    self.fault(place(&around), Fault::Undefined(value.0));
                    sound = false;
                }
            }
            if node.origin.index() >= self.module.origins.len().max(1) {
                let what = format!("origin @{} is not declared", node.origin.0);
                self.fault(place(&around), Fault::Structure(what));
            }
            if sound {
                self.types(region, node, &around, &place);
                let structure = self.structure(node, &around);
                if let Err(what) = structure.and_then(|()| self.codes(region, node, &around)) {
                    self.fault(place(&around), Fault::Structure(what));
                }
                self.step(region, id, &around, &mut walk);
            }
            node.results.iter().for_each(|r| defined[r.0 as usize] = true);
            let inner = self.nested(region, id, &around, &walk, &mut uses);
            Self::changed(&mut around, &inner);
        }
        self.pushes(region, &around, &walk);
        for &value in region.results() {
            if !defined.get(value.0 as usize).is_some_and(|&d| d) {
                let place = Place::Yield(around.root, around.path.clone());
                self.fault(place, Fault::Undefined(value.0));
            }
        }
        uses
    }

    fn nested(&mut self, region: &Region, id: NodeId, around: &Around, walk: &Walk, uses: &mut Uses) -> Uses {
        let node = region.node(id);
        match node.op {
            Op::StateWrite(s) => uses.entry(s).or_default().0 += 1,
            Op::Push { state } => uses.entry(state).or_default().1 += 1,
            _ => {}
        }
        let mut inner = Uses::default();
        let outer = region;
        for (i, region) in Region::nested(&node.op).into_iter().enumerate() {
            let mut inside = Around {
                root: around.root,
                path: around.path.iter().copied().chain([(id, i)]).collect(),
                lifted: around.lifted,
                in_scan: around.in_scan,
                in_experts: around.in_experts,
                fused: around.fused,
                repeats: around.repeats.clone(),
                outer: Some((outer, id, around)),
                seen: walk.seen(node),
                changed: FxHashSet::default(),
            };
            match &node.op {
                Op::Repeat { max, .. } => inside.repeats.push(*max),
                Op::Scan { .. } => inside.in_scan = true,
                Op::Experts { .. } => inside.in_experts = true,
                Op::Fused { kind, .. } => inside.fused = Some(*kind),
                _ => {}
            }
            // The sides of a choice exclude each other; one part may be on both.
            let exclusive = matches!(node.op, Op::If { .. });
            for (state, (writes, pushes)) in self.region(region, inside) {
                let most = inner.entry(state).or_default();
                if exclusive {
                    *most = (most.0.max(writes), most.1.max(pushes));
                } else {
                    *most = (most.0 + writes, most.1 + pushes);
                }
            }
        }
        for (&state, (writes, pushes)) in &inner {
            let all = uses.entry(state).or_default();
            *all = (all.0 + writes, all.1 + pushes);
        }
        inner
    }

    fn types(&mut self, region: &Region, node: &Node, around: &Around, place: &dyn Fn(&Around) -> Place) {
        let operands: SmallVec<[&Type; 4]> = node.inputs.iter().map(|&v| region.ty(v)).collect();
        let found: SmallVec<[&Type; 2]> = node.results.iter().map(|&v| region.ty(v)).collect();
        let stored = matches!(node.op, Op::Weight(_));
        for ty in &found {
            self.ty(ty, stored, around, place);
        }
        match result_types(self.module, &node.op, &operands, Some(&found)) {
            Err(error) => self.fault(place(around), Fault::Type(error)),
            Ok(expected) if !expected.iter().eq(found.iter().copied()) => {
                let list = |types: &[&Type]| {
                    let types: Vec<String> = types.iter().map(|t| t.to_string()).collect();
                    if types.is_empty() { "nothing".to_string() } else { types.join(", ") }
                };
                let expected: Vec<&Type> = expected.iter().collect();
                let fault = Fault::Results { expected: list(&expected), found: list(&found) };
                self.fault(place(around), fault);
            }
            Ok(_) => {}
        }
        if let Err(what) = self.rows_fit(region, node) {
            self.fault(place(around), Fault::Budget(what));
        }
        if let Op::QuantizeInput { quant } | Op::LinearInt8 { quant } = node.op
            && let Err(why) = quantiser(quant)
        {
            self.fault(place(around), Fault::Structure(why.to_string()));
        }
    }

    /// Whether the rows that a product contracts are not too wide.
    fn rows_fit(&self, region: &Region, node: &Node) -> Result<(), String> {
        let columns = |v: &Value| region.ty(*v).shape.last().and_then(|d| d.constant()).unwrap_or(1);
        match node.op {
            Op::MatMul { .. } => row_fits(&Encoding::F32, columns(&node.inputs[0])),
            Op::Linear | Op::LinearInt8 { .. } => node.inputs.iter().try_for_each(|v| {
                let producer = region.producer(*v).map(|p| &region.node(p).op);
                match producer {
                    Some(Op::Weight(w)) => match self.module.weights.get(w.index()) {
                        Some(weight) => row_fits(&weight.encoding, columns(v)),
                        None => Ok(()),
                    },
                    _ => Ok(()),
                }
            }),
            _ => Ok(()),
        }
    }

    fn ty(&mut self, ty: &Type, stored: bool, around: &Around, place: &dyn Fn(&Around) -> Place) {
        let mut why = None;
        let grows = ty.shape.iter().filter(|d| matches!(d, Dim::Grow { .. })).count();
        let times = ty.shape.iter().filter(|d| **d == Dim::Time).count();
        if times > 1 || times == 1 && !ty.is_lifted() {
            why = Some("time is the first axis or none");
        } else if times == 1 && (!around.lifted || around.in_scan) {
            why = Some("there is no time here");
        } else if grows > 1 || grows == 1 && times == 1 {
            why = Some("one axis at most is of unknown length");
        } else if grows == 1 && around.lifted && !around.in_scan {
            why = Some("in a lifted entry only a scan has growing axes");
        } else if ty.shape.iter().any(|d| matches!(d, Dim::Grow { axis, .. } if axis.index() >= self.module.axes.len()))
        {
            why = Some("the axis is not declared");
        } else if ty.shape.iter().any(|d| matches!(d, Dim::Grow { plus, .. } if *plus > 1 << 30))
            || !fixed_part_sized(ty)
        {
            why = Some("its size is not between 1 and 2^40");
        } else if !stored && !is_arithmetic(ty.elem) {
            why = Some("only a weight has this element");
        }
        if let Some(why) = why {
            let ty = ty.to_string();
            self.fault(place(around), Fault::IllFormed { ty, why });
        }
    }

    fn structure(&self, node: &Node, around: &Around) -> Result<(), String> {
        let state = state_of(&node.op);
        let effect = state.is_some() || matches!(node.op, Op::Host(_) | Op::Check { .. } | Op::Probe { .. });
        if let Root::Weight(own) = around.root {
            if effect {
                return Err("a computed weight depends on weights only".into());
            }
            if let Op::Weight(w) = node.op
                && w.index() >= own
            {
                return Err("a computed weight reads weights declared before it".into());
            }
        }
        if let Some(id) = state
            && let Some(decl) = self.module.states.get(id.index())
        {
            if around.lifted && !around.in_scan {
                return Err("in a lifted entry states are used inside scans".into());
            }
            if around.in_experts {
                return Err("parts that are chosen by an index have no states".into());
            }
            if !decl.held && decl.instances != around.repeats {
                return Err(format!(
                    "{} is used within repeats {:?} and declared within {:?}",
                    decl.path, around.repeats, decl.instances
                ));
            }
        }
        match &node.op {
            Op::Scan { .. } if !around.lifted => Err("a scan is in a lifted entry".into()),
            Op::Scan { .. } if around.in_scan => Err("a scan is not in a scan".into()),
            Op::If { .. } | Op::Repeat { .. } | Op::Experts { .. } | Op::Fused { .. } if around.fused.is_some() => {
                Err("a fused group has no control flow inside but scans".into())
            }
            Op::Host(_) | Op::Check { .. } | Op::Probe { .. } if around.fused.is_some() => {
                Err("a fused group has no effects inside".into())
            }
            Op::Fused { kind, body } => fused(*kind, body),
            _ => Ok(()),
        }
    }
}

fn fused(kind: FusedKind, body: &Region) -> Result<(), String> {
    let count = |f: fn(&Op) -> bool| body.nodes().filter(|&n| f(&body.node(n).op)).count();
    let linears = count(|op| matches!(op, Op::Linear | Op::LinearInt8 { .. }));
    let quantisers = count(|op| matches!(op, Op::QuantizeInput { .. }));
    match kind {
        FusedKind::LinearEpilogue if linears != 1 => {
            Err(format!("a linear epilogue has one linear operation, not {linears}"))
        }
        FusedKind::NormQuant if quantisers != 1 || linears > 0 => {
            Err("a norm_quant is a norm with its quantiser".into())
        }
        FusedKind::Elementwise if linears + quantisers > 0 => {
            Err("an elementwise group has no linear operation or quantiser".into())
        }
        _ => Ok(()),
    }
}
