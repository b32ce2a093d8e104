//! The kernel IR, the lowering of fused regions into it, the memory plan and the schedule.
//!
//! [`ir`] is a kernel as data, made by [`build::Builder`] (with [`math`] and the functions of
//! [`crate::numerics`]), shown by [`print`], checked by [`verify`] and given its meaning by [`interp`].
//! [`program`] is what launches kernels, [`prove`] shows that all launches stay inside their buffers, [`run`] walks it
//! without machine code. Nothing here knows a target.

pub mod build;
pub mod functions;
pub mod interp;
pub mod ir;
pub mod lower;
pub mod math;
pub mod print;
pub mod products;
pub mod program;
pub mod prove;
pub mod run;
pub mod typing;
pub mod verify;

#[cfg(test)]
mod tests;
