//! Pictures of the IR: the printed form, Graphviz, JSON, and a summary for people. Nothing here changes a graph.

mod dot;
mod json;
mod summary;

pub use dot::dot;
pub use json::json;
pub use summary::summary;

use crate::ir::print::print_module;
use crate::ir::{Module, Node};

/// Which part of a module is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct View<'a> {
    /// Only this entry.
    pub entry: Option<&'a str>,
    /// Only nodes of this part or below it.
    pub part: Option<&'a str>,
}

impl View<'_> {
    fn shows_entry(&self, name: &str) -> bool {
        self.entry.is_none_or(|entry| entry == name)
    }

    fn shows_node(&self, module: &Module, node: &Node) -> bool {
        let path = module.origins.get(node.origin.index()).map_or("", |o| &*o.path);
        self.part
            .is_none_or(|part| path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }
}

/// The printed form, which reads back to the same graph; with a view of one entry, the module without the others.
pub fn text(module: &Module, view: &View) -> String {
    let Some(name) = view.entry else { return print_module(module) };
    let mut only = module.clone();
    only.entries.retain(|e| e.name == name);
    only.entries.iter_mut().for_each(|e| e.within = None);
    print_module(&only)
}
