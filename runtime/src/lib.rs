//! The small runtime: packages, streams, the thread pool, sampling and generation.
pub mod abi;
