//! Stores: values that need memory, the results of a body, and the states it writes.

use super::NotCompiled;
use super::access::{Buffer, Tail};
use super::emit::{Emit, Loc, Sink};
use super::graph::{Act, Body, Graph, V};
use crate::ir::{Op, StateId};
use crate::kernel::build::Builder;

impl Emit<'_> {
    pub fn finish(&mut self, b: &mut Builder, body: &Body, sinks: &[Sink]) -> Result<(), NotCompiled> {
        let mut writes = Vec::new();
        for &id in &body.steps {
            let step = &self.graph.steps[id];
            if let Act::Op(Op::StateWrite(state)) = &step.act
                && let Some(sink) = self.state_sink(*state, step)?
            {
                writes.push((*state, sink));
            }
        }
        let written: Vec<StateId> = writes.iter().map(|(state, _)| *state).collect();
        for (state, sink) in &writes {
            let reads = self.states_read(sink.value);
            let foreign = reads.iter().any(|(r, _)| r != state && written.contains(r));
            let moved = reads.iter().any(|(r, in_place)| r == state && !in_place);
            if foreign || moved {
                self.ensure_buffer(b, sink.value)?;
            }
        }
        // Results of the shape of a written state are stored together with it, all others before any state
        // changes. A result that reads a state which another group changes is computed first.
        let shape = |v: V| &self.graph.ty(v).shape;
        let mut early: Vec<Vec<Sink>> = Vec::new();
        let mut late: Vec<Vec<Sink>> = Vec::new();
        for (_, sink) in &writes {
            add_to_group(&mut late, self.graph, sink, true);
        }
        let mut exposed = Vec::new();
        for sink in sinks {
            if self.is_in_place(sink) {
                continue;
            }
            if add_to_group(&mut late, self.graph, sink, false) {
                let safe = self.states_read(sink.value).iter().all(|(read, in_place)| {
                    writes
                        .iter()
                        .find(|(s, _)| s == read)
                        .is_none_or(|(_, w)| shape(w.value) == shape(sink.value) && *in_place)
                });
                if !safe {
                    exposed.push(sink.value);
                }
            } else {
                add_to_group(&mut early, self.graph, sink, true);
            }
        }
        for v in exposed {
            self.ensure_buffer(b, v)?;
        }
        for group in early.iter().chain(&late) {
            self.store_all(b, group)?;
        }
        self.finish_pushes(b, body)
    }

    /// Computes `v` into memory unless it is there.
    pub fn ensure_buffer(&mut self, b: &mut Builder, v: V) -> Result<Buffer, NotCompiled> {
        if let Some(Loc::Buf(buffer)) = &self.locs[v.index()] {
            return Ok(buffer.clone());
        }
        if self.locs[v.index()].is_none() {
            self.prepare(b, v)?;
            if let Some(view) = self.view(v) {
                self.locs[v.index()] = Some(Loc::Buf(view.clone()));
                return Ok(view);
            }
        }
        let buffer = self.allocate(b, v);
        let sink = Sink { value: v, buffer: buffer.clone(), padded: true };
        self.store_all(b, &[sink])?;
        self.locs[v.index()] = Some(Loc::Buf(buffer.clone()));
        Ok(buffer)
    }

    /// Whether a value was computed right where it is to be stored.
    fn is_in_place(&self, sink: &Sink) -> bool {
        matches!(&self.locs[sink.value.index()], Some(Loc::Buf(found)) if found.is_same(&sink.buffer))
    }

    /// Like [`Emit::ensure_buffer`], the last axis without gaps and all axes row-major.
    pub fn ensure_dense(&mut self, b: &mut Builder, v: V) -> Result<Buffer, NotCompiled> {
        let buffer = self.ensure_buffer(b, v)?;
        let shape: Vec<usize> = self.graph.ty(v).shape.iter().map(|d| self.most(*d)).collect();
        let bytes = buffer.elem.bytes().unwrap_or(4);
        let dense = super::access::row_major(&shape, bytes);
        let same = shape.iter().zip(dense.iter().zip(&buffer.strides)).all(|(&n, (a, b))| n == 1 || a == b);
        if same && buffer.ring.is_none() {
            return Ok(buffer);
        }
        let copy = self.allocate(b, v);
        let sink = Sink { value: v, buffer: copy.clone(), padded: true };
        self.store_all(b, &[sink])?;
        Ok(copy)
    }

    /// Stores values of one shape, evaluated together strip by strip.
    pub fn store_all(&mut self, b: &mut Builder, sinks: &[Sink]) -> Result<(), NotCompiled> {
        let Some(first) = sinks.first() else {
            return Ok(());
        };
        for sink in sinks {
            self.prepare(b, sink.value)?;
        }
        let shape = self.graph.ty(first.value).shape.clone();
        let grow = self.extent(b, first.value);
        let lens = self.lens(&shape, grow.as_ref())?;
        if sinks.iter().any(|sink| self.scalar_only(sink.value)) || lens.is_empty() {
            return self.nest(b, &lens, &[], &mut |emit, b, at| {
                let mut values = Vec::new();
                for sink in sinks {
                    values.push(emit.eval(b, sink.value, at, false)?);
                }
                for (sink, value) in sinks.iter().zip(values) {
                    emit.store(b, &sink.buffer, at, value, None);
                }
                Ok(())
            });
        }
        let (last, leading) = lens.split_last().expect("an axis");
        let alone = shape.len() == 1;
        self.nest(b, leading, &[], &mut |emit, b, at| {
            emit.strips(b, last, &[], &mut |emit, b, base, tail, _| {
                let mut place = at.to_vec();
                place.push(base.clone());
                let mut values = Vec::new();
                for sink in sinks {
                    values.push(emit.eval(b, sink.value, &place, true)?);
                }
                for (sink, value) in sinks.iter().zip(values) {
                    let tail = if alone && sink.padded { Tail::All } else { tail };
                    emit.store(b, &sink.buffer, &place, value, Some(tail));
                }
                Ok(Vec::new())
            })?;
            Ok(())
        })
    }
}

/// Adds a store to the group of its shape; makes one if there is none and `create`. Says whether it was added.
fn add_to_group(groups: &mut Vec<Vec<Sink>>, graph: &Graph, sink: &Sink, create: bool) -> bool {
    let shape = &graph.ty(sink.value).shape;
    if let Some(group) = groups.iter_mut().find(|g| graph.ty(g[0].value).shape == *shape) {
        group.push(sink.clone());
        return true;
    }
    if create {
        groups.push(vec![sink.clone()]);
    }
    create
}
