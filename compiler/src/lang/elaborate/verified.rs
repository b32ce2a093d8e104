//! The finished module against the verifier: what means nothing is refused at its place in the text.
//!
//! Most of it is refused while it is elaborated, with more to say. What is left is what only whole regions show, such
//! as states along one axis of which one is not pushed.

use rustc_hash::FxHashMap;

use super::Elaborator;
use crate::diagnostics::{Code, Diagnostic, Span};
use crate::ir::OriginId;
use crate::ir::graph::Region;
use crate::ir::print::{Place, RegionPath, Root};
use crate::ir::verify::verify;

impl Elaborator<'_> {
    /// Tells each fault of the module once for each place.
    pub(super) fn verified(&mut self) {
        let Err(error) = verify(&self.module) else { return };
        let spans: FxHashMap<OriginId, Span> = self.origins.iter().map(|((span, ..), &id)| (id, *span)).collect();
        let mut told: Vec<(Option<Span>, String)> = Vec::new();
        for violation in &error.violations {
            let origin = self.origin_of(&violation.place);
            let span = match &violation.place {
                Place::Declaration(name) => self.entry_span(name),
                _ => None,
            };
            let span = span.or_else(|| origin.and_then(|id| spans.get(&id)).copied());
            let what = violation.fault.to_string();
            if told.iter().any(|known| known.0 == span && known.1 == what) {
                continue;
            }
            let within = origin.and_then(|id| self.module.origins.get(id.index())).filter(|o| !o.path.is_empty());
            let mut diagnostic = Diagnostic::error(Code::NoMeaning, what.clone());
            if let Some(span) = span {
                diagnostic = diagnostic.at(span, "");
            }
            if let Some(origin) = within {
                diagnostic = diagnostic.note(format!("in {} ({})", origin.path, origin.chain));
            }
            told.push((span, what));
            self.diagnostics.push(diagnostic);
        }
    }

    /// The name of an entry, by its printed name.
    fn entry_span(&self, name: &str) -> Option<Span> {
        let number: usize = name.strip_prefix('e')?.parse().ok()?;
        self.entry_spans.get(number).copied()
    }

    /// Where what is at a place comes from.
    fn origin_of(&self, place: &Place) -> Option<OriginId> {
        let module = &self.module;
        match place {
            Place::Module => None,
            Place::Declaration(name) => {
                let digits = name.find(|c: char| c.is_ascii_digit())?;
                let number: usize = name[digits..].parse().ok()?;
                let on_axis =
                    |state: &&crate::ir::StateDecl| state.growing().is_some_and(|(_, axis)| axis.index() == number);
                match &name[..digits] {
                    "w" => module.weights.get(number).map(|weight| weight.origin),
                    "s" => module.states.get(number).map(|state| state.origin),
                    "cache" => module.states.iter().find(on_axis).map(|state| state.origin),
                    _ => None,
                }
            }
            Place::Node(root, path, id) => Some(self.nested(*root, path)?.node(*id).origin),
            Place::Params(root, path) | Place::Yield(root, path) => {
                let (last, around) = path.split_last()?;
                Some(self.nested(*root, &around.to_vec())?.node(last.0).origin)
            }
        }
    }

    fn nested(&self, root: Root, path: &RegionPath) -> Option<&Region> {
        let mut region = match root {
            Root::Entry(number) => &self.module.entries.get(number)?.body,
            Root::Weight(_) => return None,
        };
        for &(id, number) in path {
            region = Region::nested(&region.node(id).op).get(number).copied()?;
        }
        Some(region)
    }
}
