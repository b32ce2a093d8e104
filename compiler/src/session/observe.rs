//! Probes along a prompt: the outputs that they became, read from whatever engine runs.

use sterna_runtime::{Engine, Observer};

use super::{Result, Session, SessionError, tables};
use crate::interp::Tensor;
use crate::passes::probes;

/// Watches the observed probes of a session while an engine runs.
pub struct Observations<'e, E> {
    observer: Observer<'e, E>,
    /// Path, element and shape of each.
    ports: Vec<(String, sterna_runtime::model::Element, Vec<usize>)>,
}

impl Session {
    /// Whether the model has probes that can be observed.
    pub fn has_probes(&self) -> bool {
        let mut module = self.module().clone();
        !probes::observe(&mut module, |_| true).observed.is_empty()
    }

    /// Paths of the probes that this session was loaded to observe and that each step of its stream gives.
    pub fn observed(&self) -> impl Iterator<Item = &str> {
        self.observation.observed.iter().map(|o| o.path.as_str())
    }

    /// Paths of probes that were asked for and cannot be observed, with the reason.
    pub fn hidden(&self) -> &[(String, &'static str)] {
        &self.observation.hidden
    }

    /// An engine that runs as the one given, and remembers the observed probes.
    ///
    /// # Errors
    /// The model has no stream.
    pub fn observing<'e, E: Engine>(&self, engine: &'e mut E) -> Result<Observations<'e, E>> {
        let main = engine.table().main().ok_or(SessionError::Incomplete)?;
        let table = &engine.table().entries[main];
        let (mut outputs, mut ports) = (Vec::new(), Vec::new());
        for observed in self.observation.observed.iter().filter(|o| o.entry == main) {
            let index = table.output(&observed.output).ok_or(SessionError::Incomplete)?;
            let port = &table.outputs[index];
            outputs.push(index);
            ports.push((observed.path.clone(), port.element, port.shape.clone()));
        }
        Ok(Observations { observer: Observer::new(engine, main, outputs), ports })
    }
}

impl<'e, E: Engine> Observations<'e, E> {
    /// The engine to run.
    pub fn engine(&mut self) -> &mut Observer<'e, E> {
        &mut self.observer
    }

    /// What was seen since the last call: paths with values `[steps, ..]`, in order of the graph.
    pub fn take(&mut self) -> Vec<(String, Tensor)> {
        let seen = self.observer.take();
        let values = self.ports.iter().zip(seen).map(|((path, element, shape), bytes)| {
            let row = shape.iter().product::<usize>() * element.bytes();
            let mut all = vec![bytes.len() / row.max(1)];
            all.extend_from_slice(shape);
            (path.clone(), Tensor::new(&all, tables::data_of(*element, &bytes)))
        });
        values.collect()
    }
}
