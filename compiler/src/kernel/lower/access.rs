//! Values in memory: where an element lies, and loads and stores of strips and scalars.

use super::emit::Emit;
use super::index::Ix;
use crate::ir::{Dim, Elem};
use crate::kernel::build::Builder;
use crate::kernel::ir::{LANES, Mem, Type, Value};

/// A strided array. Element `i` lies at `pointer + base + sum of i[axis] * strides[axis]` bytes.
#[derive(Clone, Debug)]
pub struct Buffer {
    pub pointer: Value,
    pub elem: Elem,
    /// Bytes.
    pub base: Ix,
    /// Bytes per index of each axis.
    pub strides: Vec<i64>,
    /// For the growing axis of a state: how its places are found.
    pub ring: Option<Ring>,
}

/// How a place on a growing axis becomes a slot: `(place + gap) mod slots`.
#[derive(Clone, Debug)]
pub struct Ring {
    pub axis: usize,
    pub gap: Value,
    pub slots: i32,
}

/// Row-major strides in bytes.
pub fn row_major(shape: &[usize], bytes: usize) -> Vec<i64> {
    let mut strides = vec![0; shape.len()];
    let mut next = bytes as i64;
    for (stride, &n) in strides.iter_mut().zip(shape).rev() {
        *stride = next;
        next *= n as i64;
    }
    strides
}

/// Strides of [`Buffer::array`].
pub fn array_strides(elem: Elem, shape: &[usize]) -> Vec<i64> {
    let bytes = elem.bytes().expect("an element of memory");
    let mut padded = shape.to_vec();
    if let (Elem::I8, Some(last)) = (elem, padded.last_mut()) {
        *last = last.next_multiple_of(64);
    }
    row_major(&padded, bytes)
}

/// Bytes of [`Buffer::array`], room for vectors behind its end not included.
pub fn array_bytes(elem: Elem, shape: &[usize]) -> usize {
    match shape.first() {
        Some(&n) => array_strides(elem, shape)[0] as usize * n,
        None => elem.bytes().expect("an element of memory"),
    }
}

impl Buffer {
    /// A row-major array at a pointer.
    pub fn dense(pointer: Value, elem: Elem, bytes: usize, shape: &[usize]) -> Buffer {
        Buffer { pointer, elem, base: Ix::default(), strides: row_major(shape, bytes), ring: None }
    }

    /// An array of a kernel's own memory: row-major, but rows of codes start on multiples of 64 bytes, where the
    /// integer products want them.
    pub fn array(pointer: Value, elem: Elem, shape: &[usize]) -> Buffer {
        Buffer { pointer, elem, base: Ix::default(), strides: array_strides(elem, shape), ring: None }
    }

    fn bytes(&self) -> i64 {
        self.elem.bytes().expect("an element of memory") as i64
    }

    /// Whether both are the same array at the same place.
    pub fn is_same(&self, other: &Buffer) -> bool {
        let rings = self.ring.is_some() || other.ring.is_some();
        !rings
            && (self.pointer, self.elem, &self.base, &self.strides)
                == (other.pointer, other.elem, &other.base, &other.strides)
    }

    /// Whether neighbours along the last axis are neighbours in memory.
    pub fn is_contiguous(&self) -> bool {
        self.strides.last() == Some(&self.bytes())
    }

    /// The same array seen with its axes in another order.
    pub fn permuted(&self, axes: &[usize]) -> Buffer {
        let mut view = self.clone();
        view.strides = axes.iter().map(|&a| self.strides[a]).collect();
        if let Some(ring) = &mut view.ring {
            ring.axis = axes.iter().position(|&a| a == ring.axis).unwrap_or(0);
        }
        view
    }

    /// The part from `start` along an axis that does not grow.
    pub fn sliced(&self, axis: usize, start: usize) -> Buffer {
        let mut view = self.clone();
        view.base = view.base.offset(self.strides[axis] * start as i64);
        view
    }

    /// One place of the first axis, without that axis.
    pub fn place_of_first(&self, place: &Ix) -> Buffer {
        let mut view = self.clone();
        let stride = view.strides.remove(0);
        view.base = view.base.add_scaled(place, stride);
        if let Some(ring) = &mut view.ring {
            ring.axis -= 1;
        }
        view
    }

    /// Repeated along the axes of the result that `axes` does not name.
    pub fn broadcast(&self, axes: &[usize], from: &[Dim], to: &[Dim]) -> Buffer {
        let mut view = self.clone();
        view.strides = vec![0; to.len()];
        for (i, &axis) in axes.iter().enumerate() {
            if from[i] == to[axis] {
                view.strides[axis] = self.strides[i];
            }
        }
        if let Some(ring) = &mut view.ring {
            ring.axis = axes[ring.axis];
        }
        view
    }

    /// In another shape, if strides can say it.
    pub fn reshaped(&self, from: &[usize], to: &[usize]) -> Option<Buffer> {
        if self.ring.is_some() {
            return None;
        }
        // Runs of axes of `from` that lie densely behind each other, outermost first: (elements, stride).
        let mut runs: Vec<(usize, i64)> = Vec::new();
        for (&n, &stride) in from.iter().zip(&self.strides) {
            if n == 1 {
                continue;
            }
            match runs.last_mut() {
                Some((count, last)) if *last == stride * n as i64 => {
                    *count *= n;
                    *last = stride;
                }
                _ => runs.push((n, stride)),
            }
        }
        let mut strides = vec![0; to.len()];
        let mut run = runs.pop();
        let mut done = 1;
        for (stride, &n) in strides.iter_mut().zip(to).rev() {
            if n == 1 {
                continue;
            }
            let (count, unit) = run?;
            if count % (done * n) != 0 {
                return None;
            }
            *stride = unit * done as i64;
            done *= n;
            if done == count {
                run = runs.pop();
                done = 1;
            }
        }
        Some(Buffer { strides, ..self.clone() })
    }

    /// In another shape with the same growing axis, if strides can say it: what is in front of that axis stays in
    /// front.
    pub fn reshaped_beside(&self, from: &[Dim], to: &[Dim]) -> Option<Buffer> {
        let along = |shape: &[Dim]| shape.iter().position(|dim| dim.constant().is_none());
        let (Some(a), Some(z)) = (along(from), along(to)) else {
            let known = |shape: &[Dim]| shape.iter().map(|dim| dim.constant()).collect::<Option<Vec<_>>>();
            return self.reshaped(&known(from)?, &known(to)?);
        };
        let part = |from: &[Dim], strides: &[i64], to: &[Dim]| {
            let known = |shape: &[Dim]| shape.iter().filter_map(|dim| dim.constant()).collect::<Vec<_>>();
            let part = Buffer { strides: strides.to_vec(), ring: None, ..self.clone() };
            part.reshaped(&known(from), &known(to)).map(|part| part.strides)
        };
        let mut strides = part(&from[..a], &self.strides[..a], &to[..z])?;
        strides.push(self.strides[a]);
        strides.extend(part(&from[a + 1..], &self.strides[a + 1..], &to[z + 1..])?);
        let ring = self.ring.clone().map(|ring| Ring { axis: z, ..ring });
        Some(Buffer { strides, ring, ..self.clone() })
    }
}

/// The memory form of 16 elements or of one.
pub fn mem(elem: Elem, wide: bool) -> Mem {
    match (elem, wide) {
        (Elem::F32, true) => Mem::F32x16,
        (Elem::F32, false) => Mem::F32,
        (Elem::I32 | Elem::U32, true) => Mem::I32x16,
        (Elem::I32 | Elem::U32, false) => Mem::I32,
        (Elem::F16, true) => Mem::F16x16,
        (Elem::F16, false) => Mem::F16,
        (Elem::Bf16, true) => Mem::Bf16x16,
        (Elem::Bf16, false) => Mem::Bf16,
        (Elem::I8, true) => Mem::I8x16,
        (Elem::I8, false) => Mem::I8,
        (Elem::U8 | Elem::Bool, true) => Mem::U8x16,
        (Elem::U8 | Elem::Bool, false) => Mem::U8,
        (Elem::U64, _) => Mem::I64,
        (Elem::Ternary | Elem::Sign, _) => unreachable!("packed elements have no memory form"),
    }
}

/// What part of a strip counts.
#[derive(Clone, Copy, Debug)]
pub enum Tail {
    All,
    /// The first lanes.
    First(usize),
    /// Those of a mask.
    Mask(Value),
}

impl Emit<'_> {
    /// The pointer to an element, with a constant offset still to be added.
    pub fn address(&mut self, b: &mut Builder, buffer: &Buffer, at: &[Ix]) -> (Value, i32) {
        debug_assert_eq!(at.len(), buffer.strides.len());
        let mut bytes = buffer.base.clone();
        for (axis, (index, &stride)) in at.iter().zip(&buffer.strides).enumerate() {
            match &buffer.ring {
                Some(ring) if ring.axis == axis => {
                    let place = index.plus(&Ix::value(ring.gap)).scalar(b);
                    let slots = b.const_n(ring.slots);
                    let slot = b.urem(place, slots);
                    bytes = bytes.add_scaled(&Ix::value(slot), stride);
                }
                _ => bytes = bytes.add_scaled(index, stride),
            }
        }
        bytes.address(b, buffer.pointer)
    }

    /// Elements `at`, the last index being that of the first of 16 where `wide`.
    pub fn load(&mut self, b: &mut Builder, buffer: &Buffer, at: &[Ix], wide: bool) -> Value {
        let last = buffer.strides.last().copied().unwrap_or(0);
        if !wide || at.is_empty() {
            let (pointer, offset) = self.address(b, buffer, at);
            let value = b.load(mem(buffer.elem, false), pointer, offset);
            let value = truth(b, buffer.elem, value);
            return if wide { b.splat(value) } else { value };
        }
        if last == 0 {
            let value = self.load(b, buffer, at, false);
            return b.splat(value);
        }
        if last == buffer.bytes() {
            let (pointer, offset) = self.address(b, buffer, at);
            let value = b.load(mem(buffer.elem, true), pointer, offset);
            return truth(b, buffer.elem, value);
        }
        let (wide_mem, store, bytes) = match mem(buffer.elem, false).ty() {
            Type::S => (Mem::F32x16, Mem::F32, 4),
            _ => (Mem::I32x16, Mem::I32, 4),
        };
        let temporary = b.stack((bytes * LANES) as u32);
        for lane in 0..self.live_lanes {
            let mut place = at.to_vec();
            let end = place.len() - 1;
            place[end] = place[end].offset(lane as i64);
            let value = self.load(b, buffer, &place, false);
            b.store(store, temporary, (lane * bytes) as i32, value);
        }
        b.load(wide_mem, temporary, 0)
    }

    /// Stores a strip or an element.
    pub fn store(&mut self, b: &mut Builder, buffer: &Buffer, at: &[Ix], value: Value, wide: Option<Tail>) {
        let value = match buffer.elem {
            Elem::Bool => {
                let one = b.const_like(value, 1);
                b.and(value, one)
            }
            Elem::Bf16 => bf16_bits(b, value),
            _ => value,
        };
        let form = |wide: bool| match mem(buffer.elem, wide) {
            Mem::Bf16x16 => Mem::U16x16,
            Mem::Bf16 => Mem::U16,
            form => form,
        };
        let Some(tail) = wide else {
            let (pointer, offset) = self.address(b, buffer, at);
            return b.store(form(false), pointer, offset, value);
        };
        let last = buffer.strides.last().copied().unwrap_or(0);
        if last == buffer.bytes() {
            let (pointer, offset) = self.address(b, buffer, at);
            return match tail {
                Tail::First(n) => {
                    let n = b.const_n(n as i32);
                    b.store_first(form(true), pointer, offset, value, n);
                }
                Tail::All | Tail::Mask(_) => b.store(form(true), pointer, offset, value),
            };
        }
        let temporary = b.stack((4 * LANES) as u32);
        let (wide_mem, one) = match b.ty(value) {
            Type::F => (Mem::F32x16, Mem::F32),
            _ => (Mem::I32x16, Mem::I32),
        };
        b.store(wide_mem, temporary, 0, value);
        let count = if let Tail::First(n) = tail { n } else { LANES };
        for lane in 0..count {
            let mut place = at.to_vec();
            let end = place.len() - 1;
            place[end] = place[end].offset(lane as i64);
            let value = b.load(one, temporary, (lane * 4) as i32);
            let (pointer, offset) = self.address(b, buffer, &place);
            b.store(form(false), pointer, offset, value);
        }
    }
}

/// A stored truth as a mask or condition.
fn truth(b: &mut Builder, elem: Elem, value: Value) -> Value {
    if elem != Elem::Bool {
        return value;
    }
    let zero = b.const_like(value, 0);
    b.ne(value, zero)
}

/// The bits of the nearest bf16, in the low half of each integer. NaN stays NaN.
fn bf16_bits(b: &mut Builder, value: Value) -> Value {
    let bits = b.cast(value);
    let odd = b.shr_u(bits, 16);
    let (one, half, quiet) = (b.const_like(bits, 1), b.const_like(bits, 0x7fff), b.const_like(bits, 0x40));
    let last = b.and(odd, one);
    let up = b.add(bits, half);
    let up = b.add(up, last);
    let rounded = b.shr_u(up, 16);
    let nan = b.or(odd, quiet);
    let is_nan = b.ne(value, value);
    b.select(is_nan, nan, rounded)
}
