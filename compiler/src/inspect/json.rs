//! JSON for tools: declarations and nodes with their operands, types and places in the model's text.

use serde_json::{Value as Json, json};

use super::View;
use crate::ir::{Module, Region, WeightSource};

/// The entries of a view with the declarations of the whole module.
pub fn json(module: &Module, view: &View) -> Json {
    let entries: Vec<Json> = module
        .entries
        .iter()
        .filter(|e| view.shows_entry(&e.name))
        .map(|entry| {
            let params: Vec<Json> = entry
                .params
                .iter()
                .zip(entry.body.params())
                .map(|(p, v)| json!({ "name": p.name, "value": v.to_string(), "type": p.ty.to_string() }))
                .collect();
            let outputs: Vec<Json> = entry
                .outputs
                .iter()
                .zip(entry.body.results())
                .map(|(o, v)| json!({ "name": o.name, "value": v.to_string(), "type": o.ty.to_string() }))
                .collect();
            json!({
                "name": entry.name,
                "within": entry.within.map(|i| &module.entries[i].name),
                "params": params,
                "outputs": outputs,
                "nodes": region(module, view, &entry.body),
            })
        })
        .collect();
    let weights: Vec<Json> = module
        .weights
        .iter()
        .map(|w| {
            json!({
                "path": w.path, "shape": w.shape, "encoding": w.encoding.to_string(),
                "computed": matches!(w.source, WeightSource::Computed(_)),
            })
        })
        .collect();
    let states: Vec<Json> = module
        .states
        .iter()
        .map(|s| json!({ "path": s.path, "type": s.ty.to_string(), "instances": s.instances, "held": s.held }))
        .collect();
    json!({ "model": module.name, "title": module.title, "weights": weights, "states": states, "entries": entries })
}

fn region(module: &Module, view: &View, region_: &Region) -> Vec<Json> {
    region_
        .nodes()
        .map(|id| region_.node(id))
        .filter(|node| view.shows_node(module, node))
        .map(|node| {
            let results: Vec<Json> = node
                .results
                .iter()
                .map(|&v| json!({ "value": v.to_string(), "type": region_.ty(v).to_string() }))
                .collect();
            let mut out = json!({
                "op": node.op.name(),
                "inputs": node.inputs.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "results": results,
            });
            if let Some(origin) = module.origins.get(node.origin.index()) {
                out["origin"] = json!({
                    "file": *origin.file, "line": origin.line, "column": origin.column,
                    "path": *origin.path, "chain": *origin.chain,
                });
            }
            let nested: Vec<Json> = Region::nested(&node.op)
                .into_iter()
                .map(|r| {
                    json!({
                        "params": r.params().iter().map(ToString::to_string).collect::<Vec<_>>(),
                        "nodes": region(module, view, r),
                        "results": r.results().iter().map(ToString::to_string).collect::<Vec<_>>(),
                    })
                })
                .collect();
            if !nested.is_empty() {
                out["regions"] = Json::Array(nested);
            }
            out
        })
        .collect()
}
