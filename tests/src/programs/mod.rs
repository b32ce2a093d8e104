//! Random valid programs in the graph language, and what is done with them: every way of running one must give the bits
//! of the interpreter, and none may panic, die or hang.
//!
//! A program is made as a tree ([`tree`]) that is valid by construction: each expression is made for a type that is
//! wanted ([`expressions`], [`views`], [`products`], [`integers`], [`caches`]), statements keep the rules of their
//! place ([`statements`], [`control`], [`states`], [`blocks`], [`entries`]), and what nothing reads in the end is
//! removed ([`prune`]). It is written as text ([`render`]), run in all ways ([`drive`], [`streams`]) in a process of
//! its own ([`worker`], [`supervise`]), and cut down while it still fails in the same way ([`shrink`]); [`search`] does
//! so with many. Nothing here knows passes or kernels.

pub mod dice;
pub mod drive;
pub mod outcome;
pub mod prune;
pub mod render;
pub mod search;
pub mod shrink;
pub mod streams;
pub mod supervise;
pub mod tree;
pub mod worker;

mod blocks;
mod caches;
mod control;
mod encodings;
mod entries;
mod expressions;
mod integers;
mod products;
mod scope;
mod statements;
mod states;
mod views;

pub use entries::generate;
