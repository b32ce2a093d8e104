//! The pickle machine: reads the protocol-2 pickles that torch writes and executes nothing.
//!
//! It knows a closed list of opcodes and a closed list of callables (see [`Global`]). A call is not made: the
//! few that may occur build a node (an empty dictionary, a tensor reference). The stack, the memo and the
//! arena hold indices, so a memo bomb is as small as its text; the number of nodes is at most the number of
//! pickle bytes and at most [`MAX_NODES`]. There is no recursion.

use std::collections::HashMap;

use super::value::{Arena, Global, Node, NodeId, StorageRef, TensorRef};

/// Most values one pickle may build.
pub const MAX_NODES: usize = 1 << 22;
/// Most bytes one pickle may have.
pub const MAX_PICKLE: usize = 1 << 28;
/// Most axes a tensor may have.
pub const MAX_RANK: usize = 8;

/// Why a pickle is refused: the offset of the guilty opcode in `data.pkl` and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("data.pkl byte {offset}: {problem}")]
pub struct PickleError {
    /// Offset of the opcode.
    pub offset: usize,
    /// What is wrong.
    pub problem: PickleProblem,
}

/// What can be wrong with an opcode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PickleProblem {
    /// The pickle ends inside an opcode, or without STOP.
    #[error("the pickle is cut off")]
    Truncated,
    /// An opcode outside the closed list.
    #[error("opcode 0x{0:02x} is not among those that a checkpoint needs")]
    Opcode(u8),
    /// A protocol other than 2.
    #[error("pickle protocol {0}; torch writes protocol 2")]
    Protocol(u8),
    /// A callable outside the closed list.
    #[error("it wants to use {0}, which is not among the few names a checkpoint needs; nothing was executed")]
    Global(String),
    /// A string that is not UTF-8.
    #[error("a string that is not UTF-8")]
    Utf8,
    /// An integer of more than 64 bits.
    #[error("an integer of more than 64 bits")]
    Integer,
    /// An operand that is missing from the stack.
    #[error("the stack holds too few values")]
    StackUnderflow,
    /// A mark that was never set.
    #[error("there is no mark on the stack")]
    NoMark,
    /// A memo place that was never set.
    #[error("memo place {0} was never filled")]
    Memo(u32),
    /// An operand of the wrong kind.
    #[error("expected {expected}, found {found}")]
    Kind {
        /// What the opcode needs.
        expected: &'static str,
        /// What the stack holds.
        found: &'static str,
    },
    /// A call with arguments that its callable never gets.
    #[error("the arguments of {0} are not those torch writes")]
    Arguments(&'static str),
    /// More values than the limit.
    #[error("the pickle builds more than {MAX_NODES} values")]
    TooManyValues,
    /// A pickle longer than the limit.
    #[error("the pickle is longer than {MAX_PICKLE} bytes")]
    TooLong,
    /// Bytes after STOP.
    #[error("{0} bytes follow the end of the pickle")]
    Trailing(usize),
    /// STOP with something left over.
    #[error("the pickle ends with {0} values on the stack, not one")]
    Leftover(usize),
}

/// Reads a whole pickle and gives its arena with the top-level value.
///
/// # Errors
/// Anything that a checkpoint does not need.
pub fn read(pickle: &[u8]) -> Result<(Arena<'_>, NodeId), PickleError> {
    if pickle.len() > MAX_PICKLE {
        return Err(PickleError { offset: MAX_PICKLE, problem: PickleProblem::TooLong });
    }
    let mut machine = Machine {
        arena: Arena { pickle, nodes: Vec::new() },
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let offset = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(top)) => return Ok((machine.arena, top)),
            Err(problem) => return Err(PickleError { offset, problem }),
        }
    }
}

struct Machine<'a> {
    arena: Arena<'a>,
    at: usize,
    stack: Vec<NodeId>,
    marks: Vec<usize>,
    memo: HashMap<u32, NodeId>,
}

type Step<T> = Result<T, PickleProblem>;

impl Machine<'_> {
    /// Executes one opcode; gives the top-level value at STOP.
    fn step(&mut self) -> Step<Option<NodeId>> {
        let [opcode] = self.bytes()?;
        match opcode {
            b'\x80' => {
                let [protocol] = self.bytes()?;
                if protocol != 2 {
                    return Err(PickleProblem::Protocol(protocol));
                }
            }
            b'.' => return self.stop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Node::None)?,
            b'\x88' => self.push(Node::Bool(true))?,
            b'\x89' => self.push(Node::Bool(false))?,
            b'J' => {
                let value = i32::from_le_bytes(self.bytes()?);
                self.push(Node::Int(value.into()))?;
            }
            b'K' => {
                let [value] = self.bytes()?;
                self.push(Node::Int(value.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.bytes()?);
                self.push(Node::Int(value.into()))?;
            }
            b'\x8a' => self.long()?,
            b'G' => {
                let value = f64::from_be_bytes(self.bytes()?);
                self.push(Node::Float(value))?;
            }
            b'X' => self.text()?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b']' => self.push(Node::List(Vec::new()))?,
            b')' => self.push(Node::Tuple(Box::default()))?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items.into()))?;
            }
            b'\x85'..=b'\x87' => {
                let count = usize::from(opcode - b'\x84');
                let start = self.operands(count)?;
                let items = self.stack.split_off(start);
                self.push(Node::Tuple(items.into()))?;
            }
            b's' => {
                let start = self.operands(2)?;
                let items = self.stack.split_off(start);
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b'q' => {
                let [place] = self.bytes()?;
                self.put(place.into())?;
            }
            b'r' => {
                let place = u32::from_le_bytes(self.bytes()?);
                self.put(place)?;
            }
            b'h' => {
                let [place] = self.bytes()?;
                self.get(place.into())?;
            }
            b'j' => {
                let place = u32::from_le_bytes(self.bytes()?);
                self.get(place)?;
            }
            b'c' => self.global()?,
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            b'b' => {
                // BUILD only ever sets `_metadata` on a state dictionary here; the attribute means nothing to us
                self.pop()?;
                let target = *self.stack[self.floor()..].last().ok_or(PickleProblem::StackUnderflow)?;
                self.expect_dict(target)?;
            }
            other => return Err(PickleProblem::Opcode(other)),
        }
        Ok(None)
    }

    fn stop(&mut self) -> Step<NodeId> {
        let trailing = self.arena.pickle.len() - self.at;
        if trailing > 0 {
            return Err(PickleProblem::Trailing(trailing));
        }
        match (self.stack.as_slice(), self.marks.len()) {
            (&[top], 0) => Ok(top),
            (left, _) => Err(PickleProblem::Leftover(left.len())),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Step<[u8; N]> {
        let bytes = self.arena.pickle.get(self.at..self.at + N).ok_or(PickleProblem::Truncated)?;
        self.at += N;
        Ok(bytes.try_into().expect("a slice of N bytes"))
    }

    fn push(&mut self, node: Node) -> Step<()> {
        if self.arena.nodes.len() == MAX_NODES {
            return Err(PickleProblem::TooManyValues);
        }
        self.stack.push(NodeId(u32::try_from(self.arena.nodes.len()).expect("below MAX_NODES")));
        self.arena.nodes.push(node);
        Ok(())
    }

    /// Values below the last mark belong to an unfinished container and are out of reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    /// Where the top `count` values start.
    fn operands(&self, count: usize) -> Step<usize> {
        self.stack.len().checked_sub(count).filter(|&start| start >= self.floor()).ok_or(PickleProblem::StackUnderflow)
    }

    fn pop(&mut self) -> Step<NodeId> {
        self.operands(1)?;
        self.stack.pop().ok_or(PickleProblem::StackUnderflow)
    }

    fn pop_to_mark(&mut self) -> Step<Vec<NodeId>> {
        let mark = self.marks.pop().ok_or(PickleProblem::NoMark)?;
        Ok(self.stack.split_off(mark))
    }

    fn kind(&self, expected: &'static str, id: NodeId) -> PickleProblem {
        PickleProblem::Kind { expected, found: self.arena.node(id).kind() }
    }

    fn expect_dict(&self, id: NodeId) -> Step<()> {
        match self.arena.node(id) {
            Node::Dict(_) => Ok(()),
            _ => Err(self.kind("a dictionary", id)),
        }
    }

    fn set_items(&mut self, items: &[NodeId]) -> Step<()> {
        let target = *self.stack[self.floor()..].last().ok_or(PickleProblem::StackUnderflow)?;
        self.expect_dict(target)?;
        if !items.len().is_multiple_of(2) {
            return Err(PickleProblem::StackUnderflow);
        }
        if let Node::Dict(pairs) = &mut self.arena.nodes[target.0 as usize] {
            pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        }
        Ok(())
    }

    fn append(&mut self, items: Vec<NodeId>) -> Step<()> {
        let target = *self.stack[self.floor()..].last().ok_or(PickleProblem::StackUnderflow)?;
        if let Node::List(list) = &mut self.arena.nodes[target.0 as usize] {
            list.extend(items);
            return Ok(());
        }
        Err(self.kind("a list", target))
    }

    fn put(&mut self, place: u32) -> Step<()> {
        let top = *self.stack[self.floor()..].last().ok_or(PickleProblem::StackUnderflow)?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn get(&mut self, place: u32) -> Step<()> {
        let id = *self.memo.get(&place).ok_or(PickleProblem::Memo(place))?;
        self.stack.push(id);
        Ok(())
    }

    fn long(&mut self) -> Step<()> {
        let [length] = self.bytes()?;
        let length = usize::from(length);
        if length > 8 {
            return Err(PickleProblem::Integer);
        }
        let digits = self.arena.pickle.get(self.at..self.at + length).ok_or(PickleProblem::Truncated)?;
        let negative = digits.last().is_some_and(|&top| top >= 0x80);
        let mut value = [if negative { 0xff } else { 0 }; 8];
        value[..length].copy_from_slice(digits);
        self.at += length;
        self.push(Node::Int(i64::from_le_bytes(value)))
    }

    fn text(&mut self) -> Step<()> {
        let length = u32::from_le_bytes(self.bytes()?);
        let start = self.at;
        let stop = start.checked_add(length as usize).ok_or(PickleProblem::Truncated)?;
        let bytes = self.arena.pickle.get(start..stop).ok_or(PickleProblem::Truncated)?;
        std::str::from_utf8(bytes).map_err(|_| PickleProblem::Utf8)?;
        self.at = stop;
        self.push(Node::Text(u32::try_from(start).expect("below MAX_PICKLE"), length))
    }

    fn line(&mut self) -> Step<&str> {
        let rest = &self.arena.pickle[self.at..];
        let length = rest.iter().take(256).position(|&b| b == b'\n').ok_or(PickleProblem::Truncated)?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| PickleProblem::Utf8)
    }

    fn global(&mut self) -> Step<()> {
        let module = self.line()?.to_owned();
        let name = self.line()?;
        let global = Global::named(&module, name)
            .ok_or_else(|| PickleProblem::Global(format!("`{}.{}`", module.escape_default(), name.escape_default())))?;
        self.push(Node::Global(global))
    }

    fn persistent(&mut self) -> Step<()> {
        const WHAT: PickleProblem = PickleProblem::Arguments("a storage");
        let id = self.pop()?;
        let Node::Tuple(parts) = self.arena.node(id) else {
            return Err(self.kind("a tuple", id));
        };
        let &[tag, kind, key, _location, elements] = &**parts else {
            return Err(WHAT);
        };
        let (Node::Global(Global::Storage(element)), &Node::Int(elements), Some(_)) =
            (self.arena.node(kind), self.arena.node(elements), self.arena.text(key))
        else {
            return Err(WHAT);
        };
        if self.arena.text(tag) != Some("storage") {
            return Err(WHAT);
        }
        let elements = u64::try_from(elements).map_err(|_| WHAT)?;
        self.push(Node::Storage(Box::new(StorageRef { element: *element, key, elements })))
    }

    fn reduce(&mut self) -> Step<()> {
        let start = self.operands(2)?;
        let (callable, arguments) = (self.stack[start], self.stack[start + 1]);
        self.stack.truncate(start);
        let Node::Tuple(arguments) = self.arena.node(arguments) else {
            return Err(self.kind("a tuple", arguments));
        };
        match *self.arena.node(callable) {
            Node::Global(Global::OrderedDict) => {
                if !arguments.is_empty() {
                    return Err(PickleProblem::Arguments("OrderedDict"));
                }
                self.push(Node::Dict(Vec::new()))
            }
            Node::Global(Global::RebuildTensor) => {
                let tensor = self.tensor(arguments).ok_or(PickleProblem::Arguments("_rebuild_tensor_v2"))?;
                self.push(Node::Tensor(Box::new(tensor)))
            }
            Node::Global(Global::RebuildParameter) => match **arguments {
                [tensor, _, _] if matches!(self.arena.node(tensor), Node::Tensor(_)) => {
                    self.stack.push(tensor);
                    Ok(())
                }
                _ => Err(PickleProblem::Arguments("_rebuild_parameter")),
            },
            _ => Err(self.kind("a callable", callable)),
        }
    }

    fn tensor(&self, arguments: &[NodeId]) -> Option<TensorRef> {
        // the seventh argument, where it occurs, is the tensor's metadata
        let (&[storage, first, shape, strides, _requires_grad, _hooks]
        | &[storage, first, shape, strides, _requires_grad, _hooks, _]) = arguments
        else {
            return None;
        };
        let natural = |id: NodeId| match *self.arena.node(id) {
            Node::Int(value) => u64::try_from(value).ok(),
            _ => None,
        };
        let list = |id: NodeId| match self.arena.node(id) {
            Node::Tuple(items) if items.len() <= MAX_RANK => {
                items.iter().map(|&item| natural(item)).collect::<Option<Vec<_>>>()
            }
            _ => None,
        };
        let tensor = TensorRef { storage, first: natural(first)?, shape: list(shape)?, strides: list(strides)? };
        let storage = matches!(self.arena.node(storage), Node::Storage(_));
        (storage && tensor.shape.len() == tensor.strides.len()).then_some(tensor)
    }
}
