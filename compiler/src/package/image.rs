//! The values of a module's weights, from a checkpoint, a package or random numbers, computed ones included, packed
//! into the image that kernels read or handed to the interpreter.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use sterna_runtime::Buffer;
use sterna_runtime::package::Extended;
use sterna_runtime::system;

use crate::interp::{self, CodedWeight, Fault, InterpError, MemoryWeights, Tensor, WeightStore, compute_weight};
use crate::ir::{Group, Module, Op, Region, WeightDecl, WeightId, WeightSource};
use crate::weights::{
    Binding, Checkpoint, InPlace, Layout, Section, ValueSource, WeightValue, WeightsError, encode_latent, group_of,
    layout,
};

/// Why a weight has no value.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Its tensor cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A computed weight cannot be evaluated.
    #[error("weight `{path}`, computed at load: {source}")]
    Computed {
        /// Its name.
        path: String,
        /// What went wrong.
        source: Box<InterpError>,
    },
    /// No memory for the image.
    #[error(transparent)]
    Memory(#[from] sterna_runtime::Error),
}

/// Where all weights of a module come from.
#[derive(Debug)]
pub enum Values<'a> {
    /// Tensors or random numbers; computed weights are evaluated from them.
    Source(Loading<'a>),
    /// A packed section of the same module: computed weights are in it, too.
    Packed {
        /// The layout of the section.
        section: &'a Section,
        /// Its bytes.
        bytes: &'a [u8],
    },
}

/// A source of weights, with the computed ones that others are computed from.
#[derive(Debug)]
pub struct Loading<'a> {
    source: ValueSource<'a>,
    computed: RefCell<HashMap<WeightId, interp::WeightValue>>,
}

impl<'a> From<ValueSource<'a>> for Values<'a> {
    fn from(source: ValueSource<'a>) -> Values<'a> {
        Values::Source(Loading { source, computed: RefCell::default() })
    }
}

impl Values<'_> {
    /// The value of one weight.
    ///
    /// # Errors
    /// It cannot be read or computed.
    pub fn value(&self, module: &Module, id: WeightId) -> Result<WeightValue, ImageError> {
        match self {
            Self::Packed { section, bytes } => {
                let (offset, layout) = (section.offsets[id.index()], section.layouts[id.index()]);
                Ok(layout::unpack(&bytes[offset..offset + layout.bytes()], layout))
            }
            Self::Source(loading) => match loading.source.value(module, id)? {
                Some(value) => Ok(value),
                None => loading.computed(module, id),
            },
        }
    }

    /// The value of one weight, packed into `out` of the layout's size.
    ///
    /// # Errors
    /// It cannot be read or computed.
    pub fn pack(&self, module: &Module, id: WeightId, layout: Layout, out: &mut [u8]) -> Result<(), ImageError> {
        layout::pack(&self.value(module, id)?, layout, out);
        Ok(())
    }
}

impl Loading<'_> {
    fn computed(&self, module: &Module, id: WeightId) -> Result<WeightValue, ImageError> {
        let store = LoadStore { module, loading: self, failed: RefCell::default(), read: RefCell::default() };
        let evaluated = |id: WeightId| {
            compute_weight(module, &store, id).map_err(|error| match store.failed.take() {
                Some(failed) => ImageError::Weights(failed),
                None => ImageError::Computed { path: module.weight(id).path.clone(), source: Box::new(error) },
            })
        };
        // Those it reads first, in order of declaration, so that none of them asks for another that is not there.
        let before = computed_before(module, id, &self.computed.borrow());
        for needed in before {
            let value = interp::WeightValue::Dense(evaluated(needed)?);
            self.computed.borrow_mut().insert(needed, value);
        }
        let tensor = evaluated(id)?;
        let declared = module.weight(id);
        let values = tensor.as_f32().ok_or_else(|| ImageError::Computed {
            path: declared.path.clone(),
            source: Box::new(Fault::Element { op: "a computed weight", elem: tensor.elem().name() }.into()),
        })?;
        let Ok(value) =
            encode_latent(values.to_vec(), &declared.shape, &declared.encoding, |_| Ok::<(), Infallible>(()));
        Ok(value)
    }
}

/// The computed weights that one is computed from, directly or not, in order of declaration, those known aside.
fn computed_before(
    module: &Module,
    id: WeightId,
    known: &HashMap<WeightId, interp::WeightValue>,
) -> BTreeSet<WeightId> {
    let mut found = BTreeSet::new();
    let mut stack = vec![id];
    while let Some(at) = stack.pop() {
        let WeightSource::Computed(region) = &module.weight(at).source else {
            continue;
        };
        let mut regions: Vec<&Region> = vec![region];
        while let Some(region) = regions.pop() {
            for node in region.nodes() {
                let op = &region.node(node).op;
                regions.extend(Region::nested(op));
                if let Op::Weight(read) = *op
                    && matches!(module.weight(read).source, WeightSource::Computed(_))
                    && !known.contains_key(&read)
                    && found.insert(read)
                {
                    stack.push(read);
                }
            }
        }
    }
    found
}

/// The weights that a computed one reads, loaded when they are asked for.
struct LoadStore<'a> {
    module: &'a Module,
    loading: &'a Loading<'a>,
    failed: RefCell<Option<WeightsError>>,
    read: RefCell<HashMap<WeightId, interp::WeightValue>>,
}

impl WeightStore for LoadStore<'_> {
    fn weight(&self, id: WeightId) -> Result<interp::WeightValue, InterpError> {
        if let Some(value) = self.read.borrow().get(&id).or(self.loading.computed.borrow().get(&id)) {
            return Ok(value.clone());
        }
        let declared = self.module.weight(id);
        let value = match self.loading.source.value(self.module, id) {
            Ok(Some(value)) => interp_value(value, declared)?,
            Ok(None) => interp::WeightValue::Dense(compute_weight(self.module, self, id)?),
            Err(error) => {
                *self.failed.borrow_mut() = Some(error);
                return Err(Fault::MissingWeight(declared.path.clone()).into());
            }
        };
        self.read.borrow_mut().insert(id, value.clone());
        Ok(value)
    }
}

fn interp_value(value: WeightValue, weight: &WeightDecl) -> Result<interp::WeightValue, Fault> {
    match value {
        WeightValue::Dense(values) => Ok(interp::WeightValue::Dense(Tensor::f32(&weight.shape, values))),
        WeightValue::Codes { codes, scales } => {
            let group = group_of(&weight.encoding).unwrap_or(Group::Tensor);
            CodedWeight::new(&weight.shape, codes, scales, group)
                .map(|coded| interp::WeightValue::Coded(Arc::new(coded)))
        }
    }
}

/// All weights of a module as the interpreter takes them. What a package has of computed ones is what runs.
///
/// # Errors
/// One of them cannot be read or computed.
pub fn memory_weights(module: &Module, values: &Values) -> Result<MemoryWeights, ImageError> {
    let mut by_path = HashMap::with_capacity(module.weights.len());
    let computed =
        |path: &str, source: InterpError| ImageError::Computed { path: path.to_owned(), source: Box::new(source) };
    for (index, weight) in module.weights.iter().enumerate() {
        let packed = matches!(values, Values::Packed { .. });
        if packed || matches!(weight.source, WeightSource::Checkpoint) {
            let value = values.value(module, WeightId(index as u32))?;
            let value = interp_value(value, weight).map_err(|fault| computed(&weight.path, fault.into()))?;
            by_path.insert(weight.path.clone(), value);
        }
    }
    MemoryWeights::new(module, by_path).map_err(|error| computed(&module.name, error))
}

/// The packed weight section of a module, in memory of its own with room for `bytes` in all: what may stand behind the
/// section is zero.
///
/// # Errors
/// One of the weights cannot be read or computed, or there is no memory.
pub fn weight_image(module: &Module, section: &Section, bytes: usize, values: &Values) -> Result<Buffer, ImageError> {
    system::room_for(bytes)?;
    let mut image = Buffer::zeroed(bytes)?;
    image.advise_huge();
    for index in 0..module.weights.len() {
        let value = values.value(module, WeightId(index as u32))?;
        let (codes, scales) = section.parts(index, &mut image);
        layout::pack_parts(&value, section.layouts[index], codes, scales);
    }
    Ok(image)
}

/// The weight section of a module over the file of its checkpoint, with room for `bytes` in all: what `found` says of a
/// weight stays where the file has it, everything else is packed behind the file.
///
/// # Errors
/// One of the weights cannot be read or computed or would be refused otherwise, or there is no memory.
pub fn image_over_file(
    module: &Module,
    section: &Section,
    bytes: usize,
    (checkpoint, binding): (&Checkpoint, &Binding),
    found: &[Option<InPlace>],
    values: &Values,
) -> Result<Extended, ImageError> {
    let start = checkpoint.file_bytes().next_multiple_of(layout::FILE_BORDER);
    let mut image = Extended::new(checkpoint.mapping(), start, bytes - start)?;
    image.advise_huge();
    let behind = image.behind_mut();
    for (index, weight) in module.weights.iter().enumerate() {
        let layout = section.layouts[index];
        let scales = section.scales[index].wrapping_sub(start);
        match (found[index], group_of(&weight.encoding)) {
            (Some(place), Some(group)) => {
                let entry = &checkpoint.tensors()[binding.tensors[index].expect("a tensor lies in place")];
                let source = if let Values::Source(loading) = values { Some(&loading.source) } else { None };
                let any = matches!(source, Some(ValueSource::Checkpoint { allow_non_finite: true, .. }));
                let values = checkpoint.scales_of_rows(entry, weight, any)?;
                if place.scales.is_none() {
                    layout::pack_scales(&values, group, layout, &mut behind[scales..][..layout.scales().len()]);
                }
            }
            // Read for what it would be refused for.
            (Some(_), None) => drop(values.value(module, WeightId(index as u32))?),
            (None, _) => {
                let codes = section.offsets[index] - start;
                let out = &mut behind[codes..][..layout.bytes()];
                values.pack(module, WeightId(index as u32), layout, out)?;
            }
        }
    }
    Ok(image)
}
