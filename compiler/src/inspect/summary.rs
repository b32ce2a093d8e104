//! What a person wants to know first: per entry its ports and operations; parts with weights and bytes; states.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::View;
use crate::ir::{Elem, Module, Op, Region};
use crate::weights::layout::Layout;

/// A page of text.
pub fn summary(module: &Module, view: &View) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write(module, view, &mut text);
    text
}

fn write(module: &Module, view: &View, out: &mut String) -> std::fmt::Result {
    writeln!(out, "{} - {}", module.name, module.title)?;
    for entry in module.entries.iter().filter(|e| view.shows_entry(&e.name)) {
        writeln!(out, "\nentry {}", entry.name)?;
        for param in &entry.params {
            writeln!(out, "  takes {:<12} {}", param.name, param.ty)?;
        }
        for output in &entry.outputs {
            writeln!(out, "  gives {:<12} {}", output.name, output.ty)?;
        }
        let mut counts = BTreeMap::new();
        let mut probes = Vec::new();
        count(&entry.body, &mut counts, &mut probes);
        let list: Vec<String> = counts.iter().map(|(name, n)| format!("{n} {name}")).collect();
        writeln!(out, "  nodes {}", list.join(", "))?;
        for probe in probes {
            writeln!(out, "  probe {probe}")?;
        }
    }
    // Parts that differ only in their indices are one line.
    let mut parts: BTreeMap<(String, String), (usize, usize, usize)> = BTreeMap::new();
    for weight in &module.weights {
        let shape: Vec<String> = weight.shape.iter().map(usize::to_string).collect();
        let kind = format!("{} [{}]", weight.encoding.elem().name(), shape.join(", "));
        let entry = parts.entry((indices_hidden(&weight.path), kind)).or_default();
        let layout = Layout::of(&weight.encoding, &weight.shape);
        *entry = (entry.0 + 1, entry.1 + weight.elements(), entry.2 + layout.bytes());
    }
    writeln!(out, "\nweights")?;
    for ((path, kind), (n, elements, bytes)) in parts {
        writeln!(out, "  {path:<40} {n:>4} x {kind:<24} {elements:>12} {bytes:>12} B")?;
    }
    let mut states: BTreeMap<(String, String), (usize, Option<usize>)> = BTreeMap::new();
    for state in &module.states {
        let instances: usize = state.instances.iter().product();
        let bytes = state.ty.elements().zip(state.ty.elem.bytes()).map(|(n, b)| n * b * instances);
        let entry = states.entry((indices_hidden(&state.path), state.ty.to_string())).or_insert((0, Some(0)));
        *entry = (entry.0 + instances, entry.1.zip(bytes).map(|(a, b)| a + b));
    }
    if !states.is_empty() {
        writeln!(out, "\nstates of a stream")?;
    }
    for ((path, ty), (n, bytes)) in states {
        let bytes = bytes.map_or_else(|| "grows".into(), |b| format!("{b} B"));
        writeln!(out, "  {path:<40} {n:>4} x {ty:<24} {bytes:>14}")?;
    }
    Ok(())
}

fn count<'a>(region: &'a Region, counts: &mut BTreeMap<&'static str, usize>, probes: &mut Vec<&'a str>) {
    for id in region.nodes() {
        let node = region.node(id);
        let leaf = matches!(node.op, Op::Weight(_) | Op::Constant(_))
            || node.results.iter().any(|&v| region.ty(v).elem == Elem::Ternary);
        if !leaf {
            *counts.entry(node.op.name()).or_default() += 1;
        }
        if let Op::Probe { path } = &node.op {
            probes.push(path);
        }
        Region::nested(&node.op).into_iter().for_each(|r| count(r, counts, probes));
    }
}

/// A path with every index replaced by `*`.
fn indices_hidden(path: &str) -> String {
    let names: Vec<&str> =
        path.split('.').map(|name| if name.bytes().all(|b| b.is_ascii_digit()) { "*" } else { name }).collect();
    names.join(".")
}
