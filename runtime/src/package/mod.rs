//! The `.sterna` package: one mapped file with a compiled model's graph, config and packed weights.

mod mapping;

pub use mapping::{Mapping, MappingMut};
