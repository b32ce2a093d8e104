//! Float constants with axes become computed weights, so that a package holds them and kernels read one section.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{Context, PassError, Report};
use crate::ir::types::LiteralKey;
use crate::ir::{
    Data, Encoding, Literal, Module, NodeId, Op, OriginId, Region, Type, WeightDecl, WeightId, WeightSource,
};

/// Moves every such constant of the entries into the weight section, equal ones once.
pub fn run(module: &mut Module, _: &mut Context) -> Result<Report, PassError> {
    let mut placed = FxHashMap::default();
    let mut entries = std::mem::take(&mut module.entries);
    for entry in &mut entries {
        region(&mut entry.body, module, &mut placed);
    }
    module.entries = entries;
    Ok(Report::new(format!("{} constants made weights", placed.len())))
}

fn region(body: &mut Region, module: &mut Module, placed: &mut FxHashMap<LiteralKey, WeightId>) {
    let nodes: Vec<NodeId> = body.nodes().collect();
    for id in nodes {
        let origin = body.node(id).origin;
        let op = body.op_mut(id);
        if let Op::Constant(literal) = op {
            let varies = matches!(&*literal.data, Data::F32(v) if v.iter().any(|x| x.to_bits() != v[0].to_bits()));
            if varies && !literal.shape.is_empty() {
                let literal = literal.clone();
                *op = Op::Weight(weight_for(literal, origin, module, placed));
            }
        }
        for nested in Region::nested_mut(body.op_mut(id)) {
            region(nested, module, placed);
        }
    }
}

fn weight_for(
    literal: Literal,
    origin: OriginId,
    module: &mut Module,
    placed: &mut FxHashMap<LiteralKey, WeightId>,
) -> WeightId {
    let key = literal.key();
    if let Some(&id) = placed.get(&key) {
        return id;
    }
    let ty: Type = literal.ty();
    let mut region = Region::new();
    let value = region.push1(Op::Constant(literal.clone()), &[], ty, origin);
    region.set_results(vec![value]);
    let id = module.add_weight(WeightDecl {
        path: format!("constant.{}", placed.len()),
        shape: literal.shape.clone(),
        encoding: Encoding::F32,
        source: WeightSource::Computed(Arc::new(region)),
        origin,
    });
    placed.insert(key, id);
    id
}
