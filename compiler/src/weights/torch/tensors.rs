//! What torch's own names build in a pickle: storages, tensors and parameters. A description that torch does not write
//! builds an opaque node, which is an error only where the tensor is needed.

use super::pickle::{Machine, Step};
use super::value::{ElementType, Global, Node, NodeId, StorageRef, TensorRef};

/// Most axes a tensor may have.
const MAX_RANK: usize = 8;

/// The value of a call.
enum Made {
    New(Node),
    /// One of its arguments.
    Same(NodeId),
}

impl Machine<'_> {
    /// A persistent id: a storage, or something else that lies outside the pickle.
    pub(super) fn persistent(&mut self) -> Step<()> {
        let id = self.pop()?;
        let node = match self.storage(id) {
            Some(storage) => Node::Storage(Box::new(storage)),
            None => Node::Opaque("a reference out of the pickle"),
        };
        self.push(node)
    }

    fn storage(&self, id: NodeId) -> Option<StorageRef> {
        let Node::Tuple(parts) = self.arena.node(id) else {
            return None;
        };
        // the sixth part is there in legacy files only
        let (tag, kind, key, elements, part) = match **parts {
            [tag, kind, key, _location, elements] => (tag, kind, key, elements, None),
            [tag, kind, key, _location, elements, part] => (tag, kind, key, elements, Some(part)),
            _ => return None,
        };
        let Node::Global(Global::Storage(elements_are)) = *self.arena.node(kind) else {
            return None;
        };
        self.arena.text(key)?;
        let part = match part.map(|id| self.arena.node(id)) {
            None | Some(Node::None) => None,
            Some(Node::Tuple(view)) => match **view {
                [_key, first, length] => Some((self.natural(first)?, self.natural(length)?)),
                _ => return None,
            },
            Some(_) => return None,
        };
        let elements = self.natural(elements)?;
        (self.arena.text(tag) == Some("storage")).then_some(StorageRef { elements_are, key, elements, part })
    }

    /// What a call would give, or a class of these arguments. Nothing is called, and nothing is copied: a shared
    /// argument may stand in any number of calls.
    pub(super) fn call(&mut self, callable: NodeId, arguments: NodeId) -> Step<()> {
        let Node::Tuple(items) = self.arena.node(arguments) else {
            return Err(self.kind("a tuple", arguments));
        };
        let made = match *self.arena.node(callable) {
            Node::Global(Global::Dictionary) => self.dictionary(items).map(Made::New),
            Node::Global(Global::Size) => match **items {
                [size] if matches!(self.arena.node(size), Node::Tuple(_)) => Some(Made::Same(size)),
                _ => None,
            },
            Node::Global(Global::RebuildFromType) => match **items {
                [function, _type, arguments, _state] => match self.arena.node(arguments) {
                    Node::Tuple(items) => self.rebuilt(function, items),
                    _ => None,
                },
                _ => None,
            },
            Node::Global(_) => self.rebuilt(callable, items),
            Node::Object(_) | Node::Opaque(_) => None,
            _ => return Err(self.kind("a callable", callable)),
        };
        match made.unwrap_or(Made::New(Node::Object(callable))) {
            Made::New(node) => self.push(node),
            Made::Same(id) => {
                self.stack.push(id);
                Ok(())
            }
        }
    }

    /// A tensor or a parameter.
    fn rebuilt(&self, function: NodeId, arguments: &[NodeId]) -> Option<Made> {
        match *self.arena.node(function) {
            Node::Global(global @ (Global::RebuildTensor | Global::RebuildTypedTensor)) => {
                Some(Made::New(Node::Tensor(Box::new(self.tensor(global, arguments)?))))
            }
            Node::Global(Global::RebuildParameter) => match *arguments {
                [tensor, _, _] | [tensor, _, _, _] => {
                    matches!(self.arena.node(tensor), Node::Tensor(_)).then_some(Made::Same(tensor))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// A new dictionary. Python 2 gives the items of an ordered one as a list of pairs; of such a list it is opaque.
    fn dictionary(&self, arguments: &[NodeId]) -> Option<Node> {
        let items = arguments.last().map(|&id| self.arena.node(id));
        match items {
            Some(Node::List(pairs)) if !pairs.is_empty() => None,
            Some(Node::Dict(pairs)) if !pairs.is_empty() => None,
            _ => Some(Node::Dict(Vec::new())),
        }
    }

    fn tensor(&self, function: Global, arguments: &[NodeId]) -> Option<TensorRef> {
        // four arguments in the first version, six later; metadata may follow, and in the third version the dtype
        // before it
        let (&[storage, first, shape, strides], rest) = arguments.split_first_chunk::<4>()?;
        let Node::Storage(held) = self.arena.node(storage) else {
            return None;
        };
        let elements_are = match (function, rest) {
            (Global::RebuildTensor, [] | [_, _] | [_, _, _]) => held.elements_are,
            (Global::RebuildTypedTensor, [_, _, dtype] | [_, _, dtype, _]) => self.dtype(*dtype)?,
            _ => return None,
        };
        let list = |id: NodeId| match self.arena.node(id) {
            Node::Tuple(items) if items.len() <= MAX_RANK => {
                items.iter().map(|&item| self.natural(item)).collect::<Option<Vec<_>>>()
            }
            _ => None,
        };
        let (shape, strides) = (list(shape)?, list(strides)?);
        let tensor = TensorRef { storage, elements_are, first: self.natural(first)?, shape, strides };
        (tensor.shape.len() == tensor.strides.len()).then_some(tensor)
    }

    fn dtype(&self, id: NodeId) -> Option<ElementType> {
        match *self.arena.node(id) {
            Node::Global(Global::Dtype(elements_are)) => Some(elements_are),
            _ => None,
        }
    }

    fn natural(&self, id: NodeId) -> Option<u64> {
        match *self.arena.node(id) {
            Node::Int(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }
}
