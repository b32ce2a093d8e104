//! The runtime of Sterna: what runs a model once it is compiled. It maps a package, keeps the state of each stream,
//! shares work between threads, samples and generates.
//!
//! It knows nothing of the compiler: a model is a table ([`model`]) and an [`engine`] that computes entries. Compiled
//! code comes in as functions of the ABI in spec/abi.md; the interpreter implements the same trait from outside.

pub mod abi;
pub mod decode;
pub mod engine;
pub mod error;
pub mod float_control;
pub mod generate;
pub mod guard;
pub mod memory;
pub mod model;
pub mod native;
pub mod observe;
pub mod package;
pub mod pool;
pub mod sample;
pub mod system;
pub mod text;

pub use decode::{Decoder, Mode, Stream};
pub use engine::{Engine, Rows};
pub use error::{Error, Result};
pub use generate::{End, Limits, generate};
pub use memory::Buffer;
pub use native::{Code, NativeEngine, StateBlocks, Weights};
pub use observe::Observer;
pub use pool::Pool;
pub use sample::{Options, Sampler};
