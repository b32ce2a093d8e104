//! The pickle machine: reads the pickles that torch writes, of protocols 2 to 5, and executes nothing.
//!
//! It knows a closed list of opcodes. A call is not made: a few names build a node (an empty dictionary, a tensor
//! reference, see [`Global`]), everything else leaves an opaque node that says what it would have been. The stack, the
//! memo and the arena hold indices, so a memo bomb is as small as its text; the number of nodes is at most the number
//! of pickle bytes and at most [`MAX_NODES`]. There is no recursion. `tensors` has what torch's own names build.

use std::collections::HashMap;

use super::value::{Arena, Global, Node, NodeId, TextRange};

/// Most values one pickle may build.
pub const MAX_NODES: usize = 1 << 22;
/// Most bytes one pickle may have.
pub const MAX_PICKLE: usize = 1 << 28;
/// Most bytes of a module's or a class's name.
const MAX_NAME: usize = 1024;

/// Why a pickle is refused: the offset of the guilty opcode and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{within} byte {offset}: {problem}")]
pub struct PickleError {
    /// In what the offset counts.
    pub within: &'static str,
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
    /// A protocol that is not read.
    #[error("pickle protocol {0}; protocols 2 to 5 are read")]
    Protocol(u8),
    /// A name that is not UTF-8.
    #[error("a name that is not UTF-8")]
    Utf8,
    /// Data that a protocol 5 pickle leaves to whoever reads it.
    #[error("the pickle refers to buffers outside the file; save without out-of-band buffers")]
    OutOfBand,
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
/// Anything that no pickle of these protocols has, and bytes behind the end.
pub fn read(pickle: &[u8]) -> Result<(Arena<'_>, NodeId), PickleError> {
    let fail = |offset, problem| PickleError { within: "data.pkl", offset, problem };
    if pickle.len() > MAX_PICKLE {
        return Err(fail(MAX_PICKLE, PickleProblem::TooLong));
    }
    let (arena, top, end) = read_front(pickle).map_err(|(offset, problem)| fail(offset, problem))?;
    match pickle.len() - end {
        0 => Ok((arena, top)),
        trailing => Err(fail(end, PickleProblem::Trailing(trailing))),
    }
}

/// Reads the pickle with which `bytes` start; gives its arena, its value and where it ends.
///
/// # Errors
/// As [`read`], with the offset of the opcode; also a pickle longer than [`MAX_PICKLE`].
pub fn read_front(bytes: &[u8]) -> Result<(Arena<'_>, NodeId, usize), (usize, PickleProblem)> {
    let pickle = &bytes[..bytes.len().min(MAX_PICKLE)];
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
            Ok(Some(top)) => return Ok((machine.arena, top, machine.at)),
            Err(PickleProblem::Truncated) if pickle.len() < bytes.len() => {
                return Err((offset, PickleProblem::TooLong));
            }
            Err(problem) => return Err((offset, problem)),
        }
    }
}

pub(super) struct Machine<'a> {
    pub(super) arena: Arena<'a>,
    at: usize,
    pub(super) stack: Vec<NodeId>,
    marks: Vec<usize>,
    memo: HashMap<u32, NodeId>,
}

pub(super) type Step<T> = Result<T, PickleProblem>;

impl Machine<'_> {
    /// Executes one opcode; gives the top-level value at STOP.
    fn step(&mut self) -> Step<Option<NodeId>> {
        let [opcode] = self.bytes()?;
        match opcode {
            b'\x80' => {
                let [protocol] = self.bytes()?;
                if !(2..=5).contains(&protocol) {
                    return Err(PickleProblem::Protocol(protocol));
                }
            }
            // a frame says how much may be read at once
            b'\x95' => {
                let length = self.length()?;
                self.arena.pickle.get(self.at..self.at + length).ok_or(PickleProblem::Truncated)?;
            }
            b'.' => return self.stop().map(Some),
            b'N' | b'\x88' | b'\x89' | b'J' | b'K' | b'M' | b'\x8a' | b'\x8b' | b'G' => self.number(opcode)?,
            b'X' | b'U' | b'T' | b'\x8c' | b'\x8d' | b'B' | b'C' | b'\x8e' | b'\x96' => self.string(opcode)?,
            b'}' | b']' | b')' | b't' | b'\x85'..=b'\x87' | b'\x8f' | b'\x91' => self.container(opcode)?,
            b's' | b'u' | b'a' | b'e' | b'\x90' => self.fill(opcode)?,
            b'(' | b'0' | b'1' | b'2' | b'q' | b'r' | b'h' | b'j' | b'\x94' => self.stack_and_memo(opcode)?,
            b'c' | b'\x93' => self.global(opcode)?,
            b'Q' => self.persistent()?,
            b'R' | b'\x81' => {
                let start = self.operands(2)?;
                let (callable, arguments) = (self.stack[start], self.stack[start + 1]);
                self.stack.truncate(start);
                self.call(callable, arguments)?;
            }
            b'\x92' => {
                // a class with arguments by name: nothing that is built here has any
                let start = self.operands(3)?;
                let class = self.stack[start];
                self.stack.truncate(start);
                self.push(Node::Object(class))?;
            }
            b'b' => {
                // BUILD sets attributes (`_metadata` on a state dictionary); they mean nothing to us
                self.pop()?;
                self.top()?;
            }
            b'\x97' | b'\x98' => return Err(PickleProblem::OutOfBand),
            other => return Err(PickleProblem::Opcode(other)),
        }
        Ok(None)
    }

    fn number(&mut self, opcode: u8) -> Step<()> {
        let node = match opcode {
            b'N' => Node::None,
            b'\x88' => Node::Bool(true),
            b'\x89' => Node::Bool(false),
            b'J' => Node::Int(i32::from_le_bytes(self.bytes()?).into()),
            b'K' => {
                let [value] = self.bytes()?;
                Node::Int(value.into())
            }
            b'M' => Node::Int(u16::from_le_bytes(self.bytes()?).into()),
            b'\x8a' => {
                let [length] = self.bytes()?;
                self.long(length.into())?
            }
            b'\x8b' => {
                let length =
                    usize::try_from(i32::from_le_bytes(self.bytes()?)).map_err(|_| PickleProblem::Truncated)?;
                self.long(length)?
            }
            _ => Node::Float(f64::from_be_bytes(self.bytes()?)),
        };
        self.push(node)
    }

    /// An integer of so many bytes.
    fn long(&mut self, length: usize) -> Step<Node> {
        let digits = self.take(length)?;
        if length > 8 {
            return Ok(Node::Opaque("an integer of more than 64 bits"));
        }
        let negative = digits.last().is_some_and(|&top| top >= 0x80);
        let mut value = [if negative { 0xff } else { 0 }; 8];
        value[..length].copy_from_slice(digits);
        Ok(Node::Int(i64::from_le_bytes(value)))
    }

    fn string(&mut self, opcode: u8) -> Step<()> {
        let length = match opcode {
            b'U' | b'C' | b'\x8c' => {
                let [length] = self.bytes()?;
                length.into()
            }
            b'X' | b'T' | b'B' => u32::from_le_bytes(self.bytes()?) as usize,
            _ => self.length()?,
        };
        let start = self.at;
        let bytes = self.take(length)?;
        // strings of Python 2 (U, T) have no encoding of their own
        let node = match (opcode, std::str::from_utf8(bytes)) {
            (b'X' | b'U' | b'T' | b'\x8c' | b'\x8d', Ok(_)) => Node::Text(range(start, length)),
            (b'X' | b'U' | b'T' | b'\x8c' | b'\x8d', Err(_)) => Node::Opaque("a string that is not UTF-8"),
            _ => Node::Opaque("bytes"),
        };
        self.push(node)
    }

    fn container(&mut self, opcode: u8) -> Step<()> {
        let node = match opcode {
            b'}' => Node::Dict(Vec::new()),
            b']' => Node::List(Vec::new()),
            b')' => Node::Tuple(Box::default()),
            b't' => Node::Tuple(self.pop_to_mark()?.into()),
            b'\x8f' => Node::Opaque("a set"),
            b'\x91' => {
                self.pop_to_mark()?;
                Node::Opaque("a set")
            }
            _ => {
                let start = self.operands(usize::from(opcode - b'\x84'))?;
                Node::Tuple(self.stack.split_off(start).into())
            }
        };
        self.push(node)
    }

    /// Puts items into the container below them.
    fn fill(&mut self, opcode: u8) -> Step<()> {
        let items = match opcode {
            b's' => {
                let start = self.operands(2)?;
                self.stack.split_off(start)
            }
            b'a' => vec![self.pop()?],
            _ => self.pop_to_mark()?,
        };
        let target = self.top()?;
        let pairs = matches!(opcode, b's' | b'u');
        if pairs && !items.len().is_multiple_of(2) {
            return Err(PickleProblem::StackUnderflow);
        }
        match &mut self.arena.nodes[target.0 as usize] {
            Node::Dict(entries) if pairs => entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            Node::List(list) if matches!(opcode, b'a' | b'e') => list.extend(items),
            Node::Opaque(_) | Node::Object(_) => {}
            _ => {
                let expected = if pairs { "a dictionary" } else { "a list" };
                return Err(self.kind(expected, target));
            }
        }
        Ok(())
    }

    fn stack_and_memo(&mut self, opcode: u8) -> Step<()> {
        match opcode {
            b'(' => self.marks.push(self.stack.len()),
            // POP takes a mark where nothing lies above it
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'q' | b'h' => {
                let [place] = self.bytes()?;
                if opcode == b'q' { self.put(place.into())? } else { self.get(place.into())? }
            }
            b'\x94' => self.put(u32::try_from(self.memo.len()).map_err(|_| PickleProblem::TooManyValues)?)?,
            _ => {
                let place = u32::from_le_bytes(self.bytes()?);
                if opcode == b'r' { self.put(place)? } else { self.get(place)? }
            }
        }
        Ok(())
    }

    fn stop(&mut self) -> Step<NodeId> {
        match (self.stack.as_slice(), self.marks.len()) {
            (&[top], 0) => Ok(top),
            (left, _) => Err(PickleProblem::Leftover(left.len())),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Step<[u8; N]> {
        Ok(self.take(N)?.try_into().expect("a slice of N bytes"))
    }

    fn take(&mut self, length: usize) -> Step<&[u8]> {
        let stop = self.at.checked_add(length).ok_or(PickleProblem::Truncated)?;
        let bytes = self.arena.pickle.get(self.at..stop).ok_or(PickleProblem::Truncated)?;
        self.at = stop;
        Ok(bytes)
    }

    /// A length of 8 bytes, of something that lies within the pickle.
    fn length(&mut self) -> Step<usize> {
        let length = usize::try_from(u64::from_le_bytes(self.bytes()?)).map_err(|_| PickleProblem::Truncated)?;
        if length > self.arena.pickle.len() { Err(PickleProblem::Truncated) } else { Ok(length) }
    }

    pub(super) fn push(&mut self, node: Node) -> Step<()> {
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

    pub(super) fn pop(&mut self) -> Step<NodeId> {
        self.operands(1)?;
        self.stack.pop().ok_or(PickleProblem::StackUnderflow)
    }

    fn pop_to_mark(&mut self) -> Step<Vec<NodeId>> {
        let mark = self.marks.pop().ok_or(PickleProblem::NoMark)?;
        Ok(self.stack.split_off(mark))
    }

    pub(super) fn kind(&self, expected: &'static str, id: NodeId) -> PickleProblem {
        PickleProblem::Kind { expected, found: self.arena.node(id).kind() }
    }

    /// The value on top, which stays there.
    fn top(&self) -> Step<NodeId> {
        self.stack[self.floor()..].last().copied().ok_or(PickleProblem::StackUnderflow)
    }

    fn put(&mut self, place: u32) -> Step<()> {
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn get(&mut self, place: u32) -> Step<()> {
        let id = *self.memo.get(&place).ok_or(PickleProblem::Memo(place))?;
        self.stack.push(id);
        Ok(())
    }

    /// A name, from two lines or from two strings on the stack.
    fn global(&mut self, opcode: u8) -> Step<()> {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?)
        } else {
            let start = self.operands(2)?;
            let (module, name) = (self.stack[start], self.stack[start + 1]);
            self.stack.truncate(start);
            let text = |id: NodeId| match self.arena.node(id) {
                Node::Text(range) => Ok(*range),
                _ => Err(self.kind("a string", id)),
            };
            (text(module)?, text(name)?)
        };
        let known = Global::known(self.arena.range(module), self.arena.range(name));
        self.push(Node::Global(known.unwrap_or(Global::Foreign(module, name))))
    }

    fn line(&mut self) -> Step<TextRange> {
        let start = self.at;
        let rest = &self.arena.pickle[start..];
        let length = rest.iter().take(MAX_NAME).position(|&b| b == b'\n').ok_or(PickleProblem::Truncated)?;
        std::str::from_utf8(&rest[..length]).map_err(|_| PickleProblem::Utf8)?;
        self.at += length + 1;
        Ok(range(start, length))
    }
}

/// A range of a pickle, which is shorter than [`MAX_PICKLE`].
fn range(start: usize, length: usize) -> TextRange {
    let narrow = |n: usize| u32::try_from(n).expect("below MAX_PICKLE");
    TextRange(narrow(start), narrow(length))
}
