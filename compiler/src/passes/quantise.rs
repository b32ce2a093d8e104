//! Linears whose weights ask for int8 input: one quantiser per value and way of quantising, and exact integer products.
//!
//! A linear whose weight is float, or whose encoding takes the float input, stays as it is.

use rustc_hash::FxHashMap;

use super::rewrite::{Copy, each_region};
use super::{Context, PassError, Report};
use crate::ir::{InputQuant, Module, NodeId, Op, Region, Value};

/// Runs on every region of every entry.
pub fn run(module: &mut Module, _: &mut Context) -> Result<Report, PassError> {
    let (mut linears, mut quantisers) = (0, 0);
    each_region(module, |module, region, _| {
        let wanted = region.nodes().any(|n| quantised(module, region, n).is_some());
        if wanted {
            let (new, l, q) = quantise(module, region)?;
            *region = new;
            linears += l;
            quantisers += q;
        }
        Ok::<(), PassError>(())
    })?;
    Ok(Report::new(format!("{linears} linears in int8, with {quantisers} quantisers")))
}

/// The input quantisation of a linear, if it has one and all its weights agree.
fn quantised(module: &Module, region: &Region, id: NodeId) -> Option<InputQuant> {
    let node = region.node(id);
    if !matches!(node.op, Op::Linear) {
        return None;
    }
    let of = |w: Value| match region.node(region.producer(w)?).op {
        Op::Weight(id) => Some(module.weight(id).encoding.input()),
        _ => None,
    };
    let quant = of(*node.inputs.get(1)?)?;
    let same = node.inputs[1..].iter().all(|&w| of(w) == Some(quant));
    (same && quant != InputQuant::None).then_some(quant)
}

fn quantise(module: &Module, region: &Region) -> Result<(Region, usize, usize), PassError> {
    let mut copy = Copy::new(region);
    let mut quantisers: FxHashMap<(Value, String), Vec<Value>> = FxHashMap::default();
    let mut linears = 0;
    for id in region.nodes() {
        let node = region.node(id);
        let Some(quant) = quantised(module, region, id) else {
            copy.node(id);
            continue;
        };
        linears += 1;
        let x = copy.value(node.inputs[0]);
        let key = (x, quant.to_string());
        let mut inputs = match quantisers.get(&key) {
            Some(known) => known.clone(),
            None => {
                let op = Op::QuantizeInput { quant };
                let new = copy.push(module, op, &[x], node.origin)?;
                quantisers.insert(key, new.clone());
                new
            }
        };
        inputs.extend(copy.values(&node.inputs[1..]));
        let new = copy.push(module, Op::LinearInt8 { quant }, &inputs, node.origin)?;
        for (&old, new) in node.results.iter().zip(new) {
            copy.set(old, new);
        }
    }
    Ok((copy.finish(), linears, quantisers.len()))
}
