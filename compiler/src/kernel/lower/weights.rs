//! Where weights lie in the image and in what form: the table that the packer fills and kernels read by.
//!
//! Float weights are stored as their encoding says, their axes perhaps in another order. Ternary and sign
//! weights are stored as codes for [`crate::kernel::ir::Op::DotRows`], in rows padded to 16, followed by their
//! scales as f32. Constants of the graph that are not one repeated number stand behind the weights.

use super::eval::uniform;
use crate::ir::{Data, Elem, Encoding, Group, Literal, Module, Op, Region, WeightId};
use crate::kernel::ir::{LANES, Packing};

/// How a weight is stored.
#[derive(Clone, Debug, PartialEq)]
pub enum WeightForm {
    /// Row-major in the order `axes` of the checkpoint's axes, 2 or 4 bytes an element by the encoding.
    Dense { axes: Vec<usize> },
    /// Codes of `rows` x `inputs` weights, then the scales.
    Rows {
        packing: Packing,
        rows: usize,
        inputs: usize,
        /// Byte offset of the scales from that of the weight.
        scales_at: u64,
        scales: Scales,
    },
}

/// How scales are stored, f32 each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scales {
    /// One.
    Tensor,
    /// One per row, padded to 16 rows with zeros.
    Row,
    /// For each group of so many inputs, one per row, padded to 16 rows with zeros.
    Inputs(usize),
}

impl Scales {
    /// Scales stored for a weight of this many rows and inputs.
    pub fn count(self, rows: usize, inputs: usize) -> usize {
        let rows = rows.next_multiple_of(LANES);
        match self {
            Scales::Tensor => 1,
            Scales::Row => rows,
            Scales::Inputs(n) => rows * inputs.div_ceil(n),
        }
    }
}

/// The place of a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightPlace {
    pub weight: WeightId,
    pub form: WeightForm,
    /// Byte offset in the image, a multiple of 64.
    pub offset: u64,
    /// Bytes with scales, without padding.
    pub bytes: u64,
}

/// The image of weights and constants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightLayout {
    /// In order of offsets; only weights that an entry reads.
    pub places: Vec<WeightPlace>,
    /// Constants with their byte offsets.
    pub literals: Vec<(Literal, u64)>,
    /// Bytes of the image, padding included.
    pub bytes: u64,
}

/// Padding behind each weight, so that whole vectors may be read at its end.
const PAD: u64 = 64;

impl WeightLayout {
    /// Lays out all weights and constants that the entries read.
    pub fn new(module: &Module) -> WeightLayout {
        let mut layout = WeightLayout::default();
        let mut used = Vec::new();
        for entry in &module.entries {
            layout.collect(&entry.body, &mut used);
        }
        for state in &module.states {
            if let crate::ir::Initial::Weight(weight) = state.initial {
                used.push(weight);
            }
        }
        used.sort_unstable();
        used.dedup();
        for weight in used {
            layout.add(module, weight);
        }
        let mut offset = layout.bytes;
        for (literal, at) in &mut layout.literals {
            *at = offset;
            offset += literal_bytes(literal).len() as u64 + PAD;
            offset = offset.next_multiple_of(64);
        }
        layout.bytes = offset.max(64);
        layout
    }

    fn collect(&mut self, region: &Region, used: &mut Vec<WeightId>) {
        for id in region.nodes() {
            let op = &region.node(id).op;
            match op {
                Op::Weight(weight) => used.push(*weight),
                Op::Constant(literal) if needs_memory(literal) => {
                    if !self.literals.iter().any(|(l, _)| l == literal) {
                        self.literals.push((literal.clone(), 0));
                    }
                }
                _ => {}
            }
            for inner in Region::nested(op) {
                self.collect(inner, used);
            }
        }
    }

    fn add(&mut self, module: &Module, weight: WeightId) {
        let decl = module.weight(weight);
        let (form, bytes) = match &decl.encoding {
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => {
                let axes = (0..decl.shape.len()).collect();
                let bytes = decl.encoding.elem().bytes().unwrap_or(4);
                (WeightForm::Dense { axes }, decl.elements() * bytes)
            }
            Encoding::Ternary { group, .. } => rows(&decl.shape, Packing::Codes2, *group),
            Encoding::Sign { group, .. } => rows(&decl.shape, Packing::Bits1, *group),
        };
        let place = WeightPlace {
            weight,
            form,
            offset: self.bytes,
            bytes: bytes as u64,
        };
        self.bytes = (self.bytes + place.bytes + PAD).next_multiple_of(64);
        self.places.push(place);
    }

    /// The place of a weight that an entry reads.
    pub fn place(&self, weight: WeightId) -> &WeightPlace {
        let at = self.places.binary_search_by_key(&weight, |p| p.weight);
        &self.places[at.expect("a weight that an entry reads")]
    }

    /// The byte offset of a weight.
    pub fn offset(&self, weight: WeightId) -> u64 {
        self.place(weight).offset
    }

    /// The order in which the axes of a float weight are stored.
    pub fn axes(&self, weight: WeightId) -> &[usize] {
        match &self.place(weight).form {
            WeightForm::Dense { axes } => axes,
            WeightForm::Rows { .. } => &[],
        }
    }
}

fn rows(shape: &[usize], packing: Packing, group: Group) -> (WeightForm, usize) {
    let inputs = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().product::<usize>() / inputs.max(1);
    let scales_at = packing.packed_bytes(rows, inputs);
    let scales = match group {
        Group::Tensor => Scales::Tensor,
        Group::Row => Scales::Row,
        Group::Inputs(n) if n >= inputs => Scales::Row,
        Group::Inputs(n) => Scales::Inputs(n),
    };
    let form = WeightForm::Rows {
        packing,
        rows,
        inputs,
        scales_at: scales_at as u64,
        scales,
    };
    (form, scales_at + scales.count(rows, inputs) * 4)
}

/// Whether a constant must lie in memory: it has axes and its elements differ.
pub fn needs_memory(literal: &Literal) -> bool {
    !literal.shape.is_empty() && !literal.data.is_empty() && !uniform(&literal.data)
}

/// The bytes of a constant, row-major; truth is 1.
pub fn literal_bytes(literal: &Literal) -> Vec<u8> {
    match &*literal.data {
        Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::U32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::U64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I8(v) => v.iter().map(|&x| x as u8).collect(),
        Data::U8(v) => v.clone(),
        Data::Bool(v) => v.iter().map(|&x| u8::from(x)).collect(),
    }
}

/// Whether values of the element are stored as codes.
pub fn is_packed(elem: Elem) -> bool {
    matches!(elem, Elem::Ternary | Elem::Sign)
}
