//! Constants, and what depends on weights only, are computed before running.
//!
//! Four steps, each in its file: leaves move into the regions that use them (`sink`); operations that change nothing
//! go, products of a weight with a vector become linears (`simplify`); operations on constants are evaluated by the
//! interpreter (`evaluate`); float expressions of weights become computed weights, evaluated once at load (`weights`),
//! and so do the values of weights that states of another type start from.

mod evaluate;
mod simplify;
mod sink;
mod weights;

use super::rewrite::{each_computed, each_region};
use super::{Context, PassError, Report};
use crate::ir::Module;

/// Runs on every region.
pub fn run(module: &mut Module, _: &mut Context) -> Result<Report, PassError> {
    // Outer regions give their leaves to inner ones, so the outermost must go first.
    let mut entries = std::mem::take(&mut module.entries);
    for entry in &mut entries {
        sink::sink(&mut entry.body);
    }
    module.entries = entries;
    let (mut simpler, mut constants) = (0, 0);
    each_region(module, |module, region, _| {
        simpler += simplify::identities(region);
        constants += evaluate::evaluate(module, region)?;
        Ok::<(), PassError>(())
    })?;
    let mut failed = None;
    each_computed(module, |module, region| {
        simpler += simplify::identities(region);
        match evaluate::evaluate(module, region) {
            Ok(n) => constants += n,
            Err(error) => failed = Some(error),
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let mut computed = weights::Computed::default();
    weights::starts(module, &mut computed);
    each_region(module, |module, region, _| {
        weights::hoist(module, region, &mut computed);
        simpler += simplify::products(module, region)?;
        Ok::<(), PassError>(())
    })?;
    Ok(Report::new(format!(
        "folded {constants} constants, {simpler} operations made simpler, {} weights computed at load",
        computed.count()
    )))
}
