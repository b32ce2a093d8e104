//! Probes: those that somebody asks for become outputs of their entry, the others are dropped before anything is
//! compiled, with all that only they read.

use rustc_hash::FxHashSet;

use super::{Context, PassError, Report, dce, rewrite::each_region};
use crate::ir::{Entry, Module, NodeId, Op, OutputDecl, Region};

/// A probe that is an output now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Its path.
    pub path: String,
    /// The entry, by index.
    pub entry: usize,
    /// The output's name.
    pub output: String,
}

/// What became of the probes that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Those that are outputs now, in order of the graph.
    pub observed: Vec<Observed>,
    /// Paths of those that have no single value of constant shape per step of an outer entry, with the reason.
    pub hidden: Vec<(String, &'static str)>,
}

/// What stands before the path of a probe in the name of its output.
pub const OUTPUT: &str = "probe:";

/// Makes the wanted probes of a module in step form outputs, named [`OUTPUT`] and their path. Running this twice finds
/// the same outputs again.
pub fn observe(module: &mut Module, wanted: impl Fn(&str) -> bool) -> Observation {
    let mut observation = Observation::default();
    for (index, entry) in module.entries.iter_mut().enumerate() {
        let ids: Vec<NodeId> = entry.body.nodes().collect();
        for id in ids {
            let node = entry.body.node(id);
            for nested in Region::nested(&node.op) {
                hide(nested, &wanted, "it is inside a choice or a loop", &mut observation);
            }
            let Op::Probe { path } = &node.op else { continue };
            if !wanted(path) {
                continue;
            }
            let path = path.clone();
            let value = node.inputs[0];
            if entry.within.is_some() {
                observation.hidden.push((path, "it is inside an inner entry"));
            } else if entry.body.ty(value).constant_shape().is_none() {
                observation.hidden.push((path, "its length grows"));
            } else {
                let output = format!("{OUTPUT}{path}");
                expose(entry, &output, value);
                observation.observed.push(Observed { path, entry: index, output });
            }
        }
    }
    observation
}

fn expose(entry: &mut Entry, output: &str, value: crate::ir::Value) {
    if entry.outputs.iter().any(|o| o.name == output) {
        return;
    }
    let ty = entry.body.ty(value).clone();
    let mut results = entry.body.results().to_vec();
    results.push(value);
    entry.body.set_results(results);
    entry.outputs.push(OutputDecl { name: output.to_owned(), ty });
}

fn hide(region: &Region, wanted: &impl Fn(&str) -> bool, why: &'static str, observation: &mut Observation) {
    for id in region.nodes() {
        let op = &region.node(id).op;
        if let Op::Probe { path } = op
            && wanted(path)
        {
            observation.hidden.push((path.clone(), why));
        }
        for nested in Region::nested(op) {
            hide(nested, wanted, why, observation);
        }
    }
}

/// Removes every probe, and what nobody reads then.
pub fn drop(module: &mut Module, context: &mut Context) -> Result<Report, PassError> {
    let mut dropped = 0;
    each_region(module, |_, region, _| {
        let before = region.nodes().len();
        let is_probe = |&id: &NodeId| matches!(region.node(id).op, Op::Probe { .. });
        let probes: FxHashSet<NodeId> = region.nodes().filter(is_probe).collect();
        region.retain(|id| !probes.contains(&id));
        dropped += before - region.nodes().len();
        Ok::<(), PassError>(())
    })?;
    let report = dce::run(module, context)?;
    Ok(Report::new(format!("{dropped} probes dropped; {}", report.text)))
}
