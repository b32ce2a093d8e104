//! JSON configs with spans: reading them, presets in the same form, and looking things up.
//! What keys mean is declared in graph files and checked where those are elaborated.

mod preset;
mod read;
mod value;

pub use preset::{preset, preset_names};
pub use read::read;
pub use value::{Json, JsonKind, Object, Property, abbreviated};
