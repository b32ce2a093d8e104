//! Operations: their attributes, and the regions nested in them.

use std::sync::Arc;

use super::{Reader, Result};
use crate::ir::graph::Region;
use crate::ir::module::{HostId, StateId, WeightId};
use crate::ir::op::{BinaryOp, CompareOp, FusedKind, Op, ReduceOp, UnaryOp};

/// An operation whose regions are still to come.
pub(super) enum Head {
    Done(Box<Op>),
    If,
    Repeat { first: i64, max: usize, carried: usize },
    Experts,
    Scan,
    Fused(FusedKind),
}

impl Reader<'_> {
    pub(super) fn operation(&mut self) -> Result<Head> {
        let at = self.at;
        let name = self.word("an operation")?;
        let op = match name {
            "constant" => {
                self.expect('(')?;
                let literal = self.literal()?;
                self.expect(')')?;
                Op::Constant(literal)
            }
            "weight" => Op::Weight(WeightId(self.in_brackets("w")?)),
            "iota" => Op::Iota(self.sizes_of::<1>()?[0]),
            "select" => Op::Select,
            "convert" => {
                self.expect('(')?;
                let elem = self.elem()?;
                self.expect(')')?;
                Op::Convert(elem)
            }
            "bits" => Op::Bits,
            "broadcast" => Op::Broadcast { axes: self.sizes('(', ')')? },
            "reshape" => Op::Reshape,
            "permute" => Op::Permute { axes: self.sizes('(', ')')? },
            "slice" => {
                let [axis, start, len] = self.sizes_of()?;
                Op::Slice { axis, start, len }
            }
            "concat" => Op::Concat { axis: self.sizes_of::<1>()?[0] },
            "gather" => Op::Gather { batch: self.sizes_of::<1>()?[0] },
            "top_k" => Op::TopK { k: self.sizes_of::<1>()?[0] },
            "top_mask" => Op::TopMask { k: self.sizes_of::<1>()?[0] },
            "matmul" => Op::MatMul { batch: self.sizes_of::<1>()?[0] },
            "linear" => Op::Linear,
            "quantize_input" | "linear_int8" => {
                self.expect('(')?;
                let quant = self.quant()?;
                self.expect(')')?;
                if name == "linear_int8" { Op::LinearInt8 { quant } } else { Op::QuantizeInput { quant } }
            }
            "state_read" => Op::StateRead(StateId(self.in_brackets("s")?)),
            "state_write" => Op::StateWrite(StateId(self.in_brackets("s")?)),
            "push" => Op::Push { state: StateId(self.in_brackets("s")?) },
            "positions" => Op::Positions { state: StateId(self.in_brackets("s")?) },
            "recent" => {
                self.expect('(')?;
                let state = StateId(self.id("s")?);
                self.expect(',')?;
                let back = self.size()?;
                self.expect(')')?;
                Op::Recent { back, state }
            }
            "if" => return Ok(Head::If),
            "repeat" => {
                self.expect('(')?;
                let first = self.number("the first round")?;
                self.expect(',')?;
                let max = self.size()?;
                self.expect(',')?;
                let carried = self.size()?;
                self.expect(')')?;
                return Ok(Head::Repeat { first, max, carried });
            }
            "experts" => return Ok(Head::Experts),
            "scan" => return Ok(Head::Scan),
            "fused" => {
                self.expect('(')?;
                let kind = match FusedKind::from_name(self.word("a kind of group")?) {
                    Some(kind) => kind,
                    None => return self.fail("before this is no kind of group"),
                };
                self.expect(')')?;
                return Ok(Head::Fused(kind));
            }
            "host" => Op::Host(HostId(self.in_brackets("h")?)),
            "check" | "probe" => {
                self.expect('(')?;
                let text = self.text()?;
                self.expect(')')?;
                if name == "check" { Op::Check { message: text } } else { Op::Probe { path: text } }
            }
            name => {
                if let Some(op) = UnaryOp::from_name(name) {
                    Op::Unary(op)
                } else if let Some(op) = BinaryOp::from_name(name) {
                    Op::Binary(op)
                } else if let Some(op) = CompareOp::from_name(name) {
                    Op::Compare(op)
                } else if let Some(op) = ReduceOp::from_name(name) {
                    Op::Reduce { op, axis: self.sizes_of::<1>()?[0] }
                } else {
                    let message = format!("'{name}' is no operation");
                    return Err(self.lexer.error(at, message));
                }
            }
        };
        Ok(Head::Done(Box::new(op)))
    }

    /// The operation with its regions.
    pub(super) fn bodies(&mut self, head: Head) -> Result<Op> {
        if let Head::Done(op) = head {
            return Ok(*op);
        }
        self.expect('{')?;
        let op = match head {
            Head::Done(op) => *op,
            Head::If => Op::If { then: Arc::new(self.labelled("then")?), otherwise: Arc::new(self.labelled("else")?) },
            Head::Repeat { first, max, carried } => {
                Op::Repeat { first, max, carried, body: Arc::new(self.labelled("body")?) }
            }
            Head::Experts => {
                let mut regions = Vec::new();
                while self.is_word("expert") {
                    regions.push(self.labelled("expert")?);
                }
                Op::Experts { regions }
            }
            Head::Scan => Op::Scan { body: Arc::new(self.labelled("body")?) },
            Head::Fused(kind) => Op::Fused { kind, body: Arc::new(self.labelled("body")?) },
        };
        self.expect('}')?;
        Ok(op)
    }

    pub(super) fn labelled(&mut self, label: &str) -> Result<Region> {
        self.expect_word(label)?;
        self.region()
    }

    fn in_brackets(&mut self, prefix: &str) -> Result<u32> {
        self.expect('(')?;
        let id = self.id(prefix)?;
        self.expect(')')?;
        Ok(id)
    }

    fn sizes_of<const N: usize>(&mut self) -> Result<[usize; N]> {
        let sizes = self.sizes('(', ')')?;
        match <[usize; N]>::try_from(sizes) {
            Ok(sizes) => Ok(sizes),
            Err(_) => self.fail(format!("{N} numbers expected before this")),
        }
    }
}
