//! Sterna: a declarative compiler for ternary and 1-bit language models.

pub mod cli;
pub mod config;
pub mod diagnostics;
pub mod health;
mod input_file;
pub mod inspect;
pub mod interp;
pub mod ir;
pub mod kernel;
pub mod lang;
pub mod limits;
pub mod measure;
pub mod numerics;
pub mod output_file;
pub mod package;
pub mod passes;
pub mod session;
pub mod target;
pub mod weights;
