//! Graphviz: one cluster per part, nested as the parts are; regions of control flow are clusters of their node.

use std::collections::HashMap;
use std::fmt::Write;

use super::View;
use crate::ir::{Module, Op, Region, Value};

/// The entries of a view as one `digraph`.
pub fn dot(module: &Module, view: &View) -> String {
    let mut picture = Picture { module, view, text: String::new(), nodes: 0, clusters: 0 };
    picture.line("digraph model {");
    picture.line("  rankdir = TB; node [shape = box, fontname = \"monospace\", fontsize = 10];");
    for entry in module.entries.iter().filter(|e| view.shows_entry(&e.name)) {
        picture.open(&format!("entry {}", entry.name));
        let mut names = HashMap::new();
        for (param, &value) in entry.params.iter().zip(entry.body.params()) {
            let label = format!("{}: {}", param.name, entry.body.ty(value));
            names.insert(value, picture.node(&label, "ellipse"));
        }
        picture.region(&entry.body, &mut names);
        for (output, value) in entry.outputs.iter().zip(entry.body.results()) {
            if let Some(from) = names.get(value).copied() {
                let to = picture.node(&format!("output {}", output.name), "ellipse");
                picture.line(&format!("  n{from} -> n{to};"));
            }
        }
        picture.line("  }");
    }
    picture.line("}");
    picture.text
}

struct Picture<'a> {
    module: &'a Module,
    view: &'a View<'a>,
    text: String,
    nodes: usize,
    clusters: usize,
}

impl Picture<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn open(&mut self, label: &str) {
        self.clusters += 1;
        let head = format!("  subgraph cluster_{} {{ label = \"{}\";", self.clusters, escape(label));
        self.line(&head);
    }

    fn node(&mut self, label: &str, shape: &str) -> usize {
        self.nodes += 1;
        let line = format!("  n{} [label = \"{}\", shape = {shape}];", self.nodes, escape(label));
        self.line(&line);
        self.nodes
    }

    fn region(&mut self, region: &Region, names: &mut HashMap<Value, usize>) {
        let mut part = "";
        let module = self.module;
        for id in region.nodes() {
            let node = region.node(id);
            if !self.view.shows_node(module, node) {
                continue;
            }
            let path = module.origins.get(node.origin.index()).map_or("", |o| &*o.path);
            if path != part {
                if !part.is_empty() {
                    self.line("  }");
                }
                part = path;
                if !part.is_empty() {
                    self.open(part);
                }
            }
            let mut label = node.op.name().to_string();
            if let Op::Weight(w) = &node.op {
                write!(label, "\n{}", module.weight(*w).path).expect("writing to a string");
            }
            if let Op::StateRead(s) | Op::StateWrite(s) = &node.op {
                write!(label, "\n{}", module.state(*s).path).expect("writing to a string");
            }
            if let Some(&first) = node.results.first() {
                write!(label, "\n{}", region.ty(first)).expect("writing to a string");
            }
            let name = self.node(&label, "box");
            for input in &node.inputs {
                if let Some(from) = names.get(input) {
                    let line = format!("  n{from} -> n{name};");
                    self.line(&line);
                }
            }
            for nested in Region::nested(&node.op) {
                self.open(&format!("{} {path}", node.op.name()));
                let mut inner: HashMap<Value, usize> = nested
                    .params()
                    .iter()
                    .rev()
                    .zip(node.inputs.iter().rev())
                    .filter_map(|(&p, v)| Some((p, *names.get(v)?)))
                    .collect();
                self.region(nested, &mut inner);
                self.line("  }");
            }
            for &result in &node.results {
                names.insert(result, name);
            }
        }
        if !part.is_empty() {
            self.line("  }");
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
