//! Emitters: kernels and drivers to machine code. [`cpu`] is the table of processors, [`clif`] the emitter
//! through Cranelift, [`wide`] the 512-bit x86 forms of the integer dot products. Nothing here knows operations
//! of the graph, only kernels.

pub mod clif;
pub mod cpu;
pub mod wide;
