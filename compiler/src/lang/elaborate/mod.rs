//! From syntax tree and config to the IR: an evaluator in which static values are computed and
//! tensors become nodes. One file per group of constructs; this one holds the state they share.
//!
//! A block's body is evaluated once per call. A call whose arguments have leading axes is mapped by
//! vectorisation: every tensor carries the set of mapped calls whose axes it has (`leads`), and
//! operations join those sets. Mistakes are collected; what depends on a mistake becomes poison.

mod branches;
mod build;
mod calls;
mod checks;
mod control;
mod declarations;
mod encodings;
mod entries;
mod experts;
mod expressions;
mod functions;
mod globals;
mod growing;
mod indexing;
mod loops;
mod operators;
mod powers;
mod products;
mod schema;
mod schema_types;
mod scope;
mod states;
mod statics;
mod tensor_functions;
mod unused;
mod value;
mod verified;

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use indexmap::IndexSet;
use rustc_hash::FxHashMap;

use self::build::Builder;
use self::growing::Apart;
use self::schema::Schema;
use self::scope::{Frame, Namespace};
use self::value::{R, Reported, Val};
use crate::config::Json;
use crate::diagnostics::{Code, Diagnostic, Diagnostics, Position, SourceFiles, Span};
use crate::ir::{AxisId, Dim, Module, OriginId};
use crate::lang::ast;
use crate::limits::Limits;
#[cfg(test)]
pub(in crate::lang) use functions::OPERATIONS;

/// What elaboration may know beside graph and config.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The tensors of the checkpoint by their names in the file; they decide which optional weights exist.
    /// Without them, no optional weight does.
    pub tensors: Option<Vec<String>>,
    /// What the checkpoint was saved with.
    pub saved: Option<super::Saved>,
    /// Bounds on what the graph may cost.
    pub limits: Limits,
}

/// The axes over which a call is mapped.
struct Mapped {
    dims: Vec<Dim>,
}

/// An entry being elaborated.
struct Context<'a> {
    params: Vec<crate::ir::Param>,
    outputs: Vec<crate::ir::OutputDecl>,
    results: Vec<crate::ir::Value>,
    /// Position, inputs and outer outputs already made parameters.
    known: HashMap<String, Val<'a>>,
    within: Option<usize>,
}

/// How an elaboration ends.
enum Finished {
    Model(Box<(Module, Diagnostics)>),
    /// States that must not share an axis; elaborated again, the model knows it.
    Apart(Apart),
}

struct Elaborator<'a> {
    files: &'a SourceFiles,
    diagnostics: Diagnostics,
    limits: Limits,
    nodes: usize,
    /// Elements computed in a step so far.
    work: usize,
    /// Bytes of constants so far.
    constants: usize,
    /// Bytes of weights so far, as f32.
    weight_bytes: usize,
    /// Bytes of states so far, as f32.
    state_bytes: usize,
    evaluations: usize,
    ids: usize,
    module: Module,
    /// By place in the text and number of the frame's names.
    origins: FxHashMap<(Span, usize), OriginId>,
    /// Paths of frames with their chains of calls, each once.
    ways: IndexSet<(Arc<str>, Arc<str>)>,
    positions: FxHashMap<Span, Position>,
    namespaces: Vec<Namespace<'a>>,
    /// Where the model's config declares its keys of the top level.
    config_keys: HashMap<&'a str, Span>,
    schema: Schema<'a>,
    frames: Vec<Frame<'a>>,
    regions: Vec<Builder>,
    mapped: Vec<Mapped>,
    entry: Option<Context<'a>>,
    /// Bounds of the repeats around the place being elaborated.
    repeats: Vec<usize>,
    /// Branches that each step decides anew, by their statements.
    stepwise: HashSet<Span>,
    /// How many dynamic branches or loops are open in the current block.
    guards: Vec<usize>,
    /// Parts with state that have run in this step, in order.
    ran: IndexSet<usize>,
    /// Parts made, for the final check that each is called.
    parts: Vec<Rc<value::Part<'a>>>,
    weight_used: Vec<bool>,
    /// Of the module's entries, where they are named.
    entry_spans: Vec<Span>,
    /// Where each weight is declared: its name.
    weight_spans: Vec<Span>,
    weight_shapes: Vec<Span>,
    /// Weights and states by path: where the name is declared, and the part that owns it.
    paths: HashMap<String, (Span, Span)>,
    state_paths: HashMap<String, (Span, Span)>,
    /// Model-level checks that read what is known only at the end.
    deferred: Vec<&'a ast::Stmt>,
    /// Growing axes by who owns their states.
    axes: HashMap<growing::Shared, AxisId>,
    apart: Apart,
    tensors: Option<HashSet<String>>,
    /// The name an expression is assigned to, for advice.
    target: Option<&'a str>,
}

/// The model of a graph file for one config.
///
/// `model` is the parsed model file, `libraries` what it imports (transitively). On success the
/// diagnostics hold warnings only.
pub(super) fn elaborate(
    files: &SourceFiles,
    model: &ast::File,
    libraries: &[&ast::File],
    config: &Json,
    options: &Options,
) -> Result<(Module, Diagnostics), Diagnostics> {
    // Evaluation recurses over expressions, blocks and branches, each depth limited; the product
    // of the limits is more than the stack of a test or main thread holds. A stack needs no thread, which may not be
    // had.
    const STACK: usize = 512 << 20;
    // What cannot be mapped now is an error; `grow` would panic.
    if let Err(error) = sterna_runtime::Buffer::zeroed(STACK) {
        return Err(Diagnostic::error(Code::TooBig, format!("no stack to elaborate with: {error}")).into());
    }
    stacker::grow(STACK, || {
        let mut apart = Apart::default();
        loop {
            match Elaborator::new(files, model, libraries, options, apart).run(config)? {
                Finished::Model(finished) => return Ok(*finished),
                // Who shares an axis is known once all pushes are, so what was taken to be one axis may be several.
                Finished::Apart(found) => apart = found,
            }
        }
    })
}

impl<'a> Elaborator<'a> {
    fn new(
        files: &'a SourceFiles,
        model: &'a ast::File,
        libraries: &[&'a ast::File],
        options: &Options,
        apart: Apart,
    ) -> Elaborator<'a> {
        let mut namespaces = vec![Namespace::new(model)];
        namespaces.extend(libraries.iter().map(|file| Namespace::new(file)));
        Elaborator {
            files,
            diagnostics: Diagnostics::new(),
            limits: options.limits,
            nodes: 0,
            work: 0,
            constants: 0,
            weight_bytes: 0,
            state_bytes: 0,
            evaluations: 0,
            ids: 0,
            module: Module {
                name: model.name.text.to_string(),
                title: model.title.as_ref().map_or_else(String::new, |t| t.value.to_string()),
                ..Module::default()
            },
            origins: FxHashMap::default(),
            ways: IndexSet::from([Default::default()]),
            positions: FxHashMap::default(),
            namespaces,
            config_keys: globals::config_keys(model),
            schema: Schema::default(),
            frames: Vec::new(),
            regions: Vec::new(),
            mapped: Vec::new(),
            entry: None,
            repeats: Vec::new(),
            stepwise: HashSet::new(),
            guards: Vec::new(),
            ran: IndexSet::new(),
            parts: Vec::new(),
            weight_used: Vec::new(),
            entry_spans: Vec::new(),
            weight_spans: Vec::new(),
            weight_shapes: Vec::new(),
            paths: HashMap::new(),
            state_paths: HashMap::new(),
            deferred: Vec::new(),
            axes: HashMap::new(),
            apart,
            tensors: options.tensors.as_ref().map(|names| names.iter().cloned().collect()),
            target: None,
        }
    }

    fn run(mut self, config: &Json) -> Result<Finished, Diagnostics> {
        self.declare_namespaces();
        self.frames.push(Frame::model(0));
        self.read_config(config);
        if !self.diagnostics.has_errors() {
            self.checkpoint_rules();
            let entries = self.model_statements();
            // What follows from a config that the graph refuses would only hide the refusal.
            if !self.diagnostics.iter().any(|d| d.code == Code::CheckFailed) {
                for entry in entries {
                    self.entry_statement(entry);
                }
                self.force_globals();
                self.deferred_checks();
                self.unused_parts_and_weights();
                self.copies_without_original();
            }
        }
        self.unused_names();
        self.config_uses(config);
        if let Some(apart) = self.growing_values() {
            return Ok(Finished::Apart(apart));
        }
        if !self.diagnostics.has_errors() {
            self.verified();
        }
        let Elaborator { diagnostics, module, .. } = self;
        diagnostics.into_result(module).map(|model| Finished::Model(Box::new(model)))
    }

    /// Collects a mistake and gives the error that stands for it.
    fn fail<T>(&mut self, diagnostic: Diagnostic) -> R<T> {
        self.diagnostics.push(diagnostic);
        Err(Reported)
    }

    /// As [`Elaborator::fail`], with the chain of parts and calls that led here.
    fn fail_here<T>(&mut self, diagnostic: Diagnostic) -> R<T> {
        let diagnostic = self.with_chain(diagnostic);
        self.fail(diagnostic)
    }

    fn with_chain(&self, diagnostic: Diagnostic) -> Diagnostic {
        match self.chain_note() {
            Some(note) => diagnostic.note(note),
            None => diagnostic,
        }
    }

    /// `in layers.0.ffn (swiglu[1376, 512, true]), called from block layer, line 141`.
    fn chain_note(&self) -> Option<String> {
        let at = self.frames.iter().rposition(|f| f.part.is_some())?;
        let frame = &self.frames[at];
        let part = frame.part.as_ref()?;
        let mut note = format!("in {} ({})", part.path, part.bound.label());
        if let (Some(call), Some(caller)) = (frame.call, self.frames[..at].last()) {
            let line = self.files.position(call).line;
            match caller.block {
                Some(block) => {
                    note.push_str(&format!(", called from block {}, line {line}", block.name.as_str()));
                }
                None => note.push_str(&format!(", called in line {line}")),
            }
        }
        Some(note)
    }

    fn next_id(&mut self) -> usize {
        self.ids += 1;
        self.ids
    }

    fn count_node(&mut self, span: Span) -> R<()> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes {
            return self.too_big(span, format!("more than {} nodes", self.limits.nodes));
        }
        Ok(())
    }

    fn count_evaluation(&mut self, span: Span) -> R<()> {
        self.count_evaluations(1, span)
    }

    /// Counts what takes as long as so many expressions.
    fn count_evaluations(&mut self, n: usize, span: Span) -> R<()> {
        // Enough has been said of this graph; to go on would only cost time.
        if self.diagnostics.is_full() {
            return Err(Reported);
        }
        self.evaluations = self.evaluations.saturating_add(n);
        if self.evaluations > self.limits.evaluations {
            let most = self.limits.evaluations;
            return self.too_big(span, format!("more than {most} expressions evaluated"));
        }
        Ok(())
    }

    /// Counts a walk over a list, or the comparison of all its elements with each other.
    fn count_size(&mut self, value: &Val<'a>, pairs: bool, span: Span) -> R<()> {
        match value {
            Val::List(list) if pairs => self.count_evaluations(list.leaves.saturating_mul(list.len()) / 16, span),
            Val::List(list) => self.count_evaluations(list.leaves / 4, span),
            Val::Text(text) => self.count_evaluations(text.len() / 16, span),
            Val::Map(entries) => self.count_evaluations(entries.len() / 4, span),
            _ => Ok(()),
        }
    }

    /// Refuses a text that grows beyond the limit.
    fn text_fits(&mut self, value: &Val<'a>, span: Span) -> R<()> {
        if let Val::Text(text) = value
            && text.len() > self.limits.text
        {
            let most = self.limits.text;
            return self.too_big(span, format!("a text of more than {most} bytes"));
        }
        Ok(())
    }

    /// Counts the elements that a node computes, as often as it may run.
    fn count_work(&mut self, elements: usize, span: Span) -> R<()> {
        // A node costs something however small its result is.
        const NODE: usize = 1024;
        let rounds = self.repeats.iter().fold(1usize, |n, &max| n.saturating_mul(max.max(1)));
        self.work = self.work.saturating_add(rounds.saturating_mul(elements.saturating_add(NODE)));
        if self.work > self.limits.work {
            let most = self.limits.work;
            return self.too_big(span, format!("more than {most} elements computed in a step"));
        }
        Ok(())
    }

    fn too_big<T>(&mut self, span: Span, what: String) -> R<T> {
        self.fail(Diagnostic::error(Code::TooBig, "the graph unrolls beyond the size limit").at(span, what))
    }

    fn frame(&self) -> &Frame<'a> {
        self.frames.last().expect("a frame is open")
    }

    fn frame_mut(&mut self) -> &mut Frame<'a> {
        self.frames.last_mut().expect("a frame is open")
    }
}
