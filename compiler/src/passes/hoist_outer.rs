//! What an inner entry computes from outputs of the outer one and weights alone is the same in all its steps: it moves
//! to the outer entry, which gives it as a further output.

use rustc_hash::{FxHashMap, FxHashSet};

use super::rewrite::{Copy, is_leaf, is_pure};
use super::{Context, PassError, Report};
use crate::ir::{Entry, Module, NodeId, Op, OutputDecl, Param, ParamKind, Region, Value};

/// Runs on every entry that is within another.
pub fn run(module: &mut Module, _: &mut Context) -> Result<Report, PassError> {
    let mut moved = 0;
    for i in 0..module.entries.len() {
        if let Some(outer) = module.entries[i].within {
            let mut inner = module.entries[i].clone();
            moved += hoist(&mut module.entries[outer], &mut inner);
            module.entries[i] = inner;
        }
    }
    Ok(Report::new(format!("{moved} nodes moved to outer entries")))
}

fn hoist(outer: &mut Entry, inner: &mut Entry) -> usize {
    let body = &inner.body;
    let mut known: FxHashMap<Value, String> = FxHashMap::default();
    for (param, &value) in inner.params.iter().zip(body.params()) {
        if let ParamKind::Outer { output } = &param.kind {
            known.insert(value, output.clone());
        }
    }
    // Nodes whose operands are all outer; of these, leaves move only for the sake of others.
    let mut fixed: FxHashSet<Value> = known.keys().copied().collect();
    let mut from_outer: FxHashSet<Value> = fixed.clone();
    let mut nodes: Vec<NodeId> = Vec::new();
    for id in body.nodes() {
        let node = body.node(id);
        if is_pure(&node.op) && node.inputs.iter().all(|v| fixed.contains(v)) {
            fixed.extend(&node.results);
            if node.inputs.iter().any(|v| from_outer.contains(v)) {
                from_outer.extend(&node.results);
                nodes.push(id);
            }
        }
    }
    let moved: FxHashSet<NodeId> = nodes.iter().copied().collect();
    let mut frontier: Vec<Value> = Vec::new();
    for &id in &nodes {
        for &r in &body.node(id).results {
            let read = body.results().contains(&r) || body.users(r).iter().any(|u| !moved.contains(u));
            if read {
                frontier.push(r);
            }
        }
    }
    let worth = nodes.iter().any(|&id| !is_view(&body.node(id).op));
    if frontier.is_empty() || !worth {
        return 0;
    }
    compute_outside(outer, body, &known, &frontier);
    // What the inner entry computed is now given to it.
    let mut region = Region::new();
    let mut params = inner.params.clone();
    let mut given = Vec::new();
    let mut copy = Copy::without_params(body);
    for &p in body.params() {
        let new = region.add_param(body.ty(p).clone());
        given.push((p, new));
    }
    let first = outer.outputs.len() - frontier.len();
    for (k, &v) in frontier.iter().enumerate() {
        let output = outer.outputs[first + k].name.clone();
        let ty = body.ty(v).clone();
        given.push((v, region.add_param(ty.clone())));
        params.push(Param {
            name: format!("{}.{output}", outer.name),
            ty,
            kind: ParamKind::Outer { output },
            range: None,
        });
    }
    copy.to = region;
    for (old, new) in given {
        copy.set(old, new);
    }
    for id in body.nodes().filter(|id| !moved.contains(id)) {
        copy.node(id);
    }
    let mut region = copy.finish();
    super::dce::sweep(&mut region);
    // Outer outputs that nothing reads any more; the other parameters are the entry's own.
    for i in (0..params.len()).rev() {
        let is_outer = matches!(params[i].kind, ParamKind::Outer { .. });
        if is_outer && !region.is_used(region.params()[i]) {
            region.remove_param(i);
            params.remove(i);
        }
    }
    inner.body = region;
    inner.params = params;
    nodes.len()
}

/// Appends the computation of `frontier` to the outer entry, as outputs.
fn compute_outside(outer: &mut Entry, inner: &Region, known: &FxHashMap<Value, String>, frontier: &[Value]) {
    let mut copy = Copy::without_params(inner);
    copy.to = std::mem::take(&mut outer.body);
    for (&value, name) in known {
        if let Some(i) = outer.outputs.iter().position(|o| o.name == *name) {
            let result = copy.to.results()[i];
            copy.set(value, result);
        }
    }
    let mut needed: FxHashSet<Value> = frontier.iter().copied().collect();
    let ids: Vec<NodeId> = inner.nodes().collect();
    let mut wanted = FxHashSet::default();
    for &id in ids.iter().rev() {
        let node = inner.node(id);
        if node.results.iter().any(|r| needed.contains(r)) {
            needed.extend(&node.inputs);
            wanted.insert(id);
        }
    }
    for id in ids.into_iter().filter(|id| wanted.contains(id)) {
        copy.node(id);
    }
    let mut results = copy.to.results().to_vec();
    for &v in frontier {
        results.push(copy.value(v));
        outer.outputs.push(OutputDecl { name: format!("inner.{}", outer.outputs.len()), ty: inner.ty(v).clone() });
    }
    copy.to.set_results(results);
    outer.body = copy.to;
}

fn is_view(op: &Op) -> bool {
    is_leaf(op) || matches!(op, Op::Broadcast { .. } | Op::Reshape | Op::Permute { .. } | Op::Slice { .. })
}
