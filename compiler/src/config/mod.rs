//! JSON configs with spans: reading them, presets in the same form, and looking things up.
//! What keys mean is declared in graph files and checked where those are elaborated.

mod value;

pub use value::{Json, JsonKind, Object, Property, abbreviated};
