//! The typed intermediate representation: what a model computes, without any trace of how its text was
//! written or on which machine it will run.
//!
//! A [`Module`] holds the declarations (weights, states, inputs, host functions) and the entries. An
//! [`Entry`] has one [`Region`]: a dataflow graph (petgraph) of [`Node`]s, each an [`Op`] with typed results.
//! Control flow nests regions inside ops. Regions are isolated: what one reads from outside is passed in as
//! an operand and named by a region parameter, so a region can be lifted over time, moved or printed alone.
//!
//! What does not live here: the language (`lang`), evaluation (`interp`), rewriting (`passes`).

pub mod extents;
pub mod graph;
pub mod groups;
pub mod infer;
pub mod key;
pub mod lengths;
pub mod module;
pub mod names;
pub mod op;
pub mod print;
pub mod read;
pub mod show;
pub mod types;
pub mod verify;

pub use graph::{Node, NodeId, NodeMap, Region, Value, ValueDef};
pub use module::{
    Axis, AxisCapacity, AxisId, CheckpointRule, ConfigUse, Entry, HostDecl, HostId, Initial, Module, Origin, OriginId,
    OutputDecl, Param, ParamKind, Start, StateDecl, StateId, Treatment, UnreadTensor, WeightDecl, WeightId,
    WeightSource,
};
pub use op::{BinaryOp, CompareOp, FusedKind, Op, ReduceOp, UnaryOp};
pub use types::{Data, Dim, Elem, Encoding, Group, InputQuant, Keep, Literal, ScaleFormat, Type, Undo};
