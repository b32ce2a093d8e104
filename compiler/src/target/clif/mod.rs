//! Cranelift: kernels and drivers to CLIF, JIT and objects.
