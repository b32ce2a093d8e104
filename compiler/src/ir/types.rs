//! Element types, shapes, encodings and literal tensors.

use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use crate::limits::Limits;

use super::module::AxisId;

/// The element of a value.
///
/// `F16`, `Bf16`, `Ternary` and `Sign` occur only in the types of weights: arithmetic is in `F32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Elem {
    F32,
    F16,
    Bf16,
    I32,
    U32,
    U64,
    I8,
    U8,
    Bool,
    /// A weight of codes -1, 0, +1 with scales; see [`Encoding::Ternary`].
    Ternary,
    /// A weight of signs with scales; see [`Encoding::Sign`].
    Sign,
}

impl Elem {
    /// The name in printed IR.
    pub fn name(self) -> &'static str {
        match self {
            Elem::F32 => "f32",
            Elem::F16 => "f16",
            Elem::Bf16 => "bf16",
            Elem::I32 => "i32",
            Elem::U32 => "u32",
            Elem::U64 => "u64",
            Elem::I8 => "i8",
            Elem::U8 => "u8",
            Elem::Bool => "bool",
            Elem::Ternary => "ternary",
            Elem::Sign => "sign",
        }
    }

    /// The inverse of [`Elem::name`].
    pub fn from_name(name: &str) -> Option<Elem> {
        use Elem::*;
        [F32, F16, Bf16, I32, U32, U64, I8, U8, Bool, Ternary, Sign].into_iter().find(|e| e.name() == name)
    }

    /// Bytes of one element in an arena or a state; `None` for elements that exist only packed.
    pub fn bytes(self) -> Option<usize> {
        match self {
            Elem::F32 | Elem::I32 | Elem::U32 => Some(4),
            Elem::U64 => Some(8),
            Elem::F16 | Elem::Bf16 => Some(2),
            Elem::I8 | Elem::U8 | Elem::Bool => Some(1),
            Elem::Ternary | Elem::Sign => None,
        }
    }

    /// Whether the element is one of the integers.
    pub fn is_integer(self) -> bool {
        matches!(self, Elem::I32 | Elem::U32 | Elem::U64 | Elem::I8 | Elem::U8)
    }
}

/// One axis of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// Known before running.
    Const(usize),
    /// The steps evaluated in one call; present only in lifted graphs, always first.
    Time,
    /// The entries of a growing state, after `plus` fixed places (from a concatenation in front of it).
    Grow { axis: AxisId, plus: usize },
}

impl Dim {
    /// The length if it is known before running.
    pub fn constant(self) -> Option<usize> {
        match self {
            Dim::Const(n) => Some(n),
            _ => None,
        }
    }
}

/// The type of a value: an element and a shape. A scalar has no axes.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Type {
    pub elem: Elem,
    pub shape: Shape,
}

impl Clone for Type {
    /// What is derived would copy axis by axis, which shows where graphs are rebuilt.
    fn clone(&self) -> Type {
        Type { elem: self.elem, shape: Shape::from_slice(&self.shape) }
    }
}

/// The axes of a type. Few have many, so that a type seldom needs memory elsewhere.
pub type Shape = SmallVec<[Dim; 3]>;

impl Type {
    /// A type of any shape.
    pub fn new(elem: Elem, shape: impl AsRef<[Dim]>) -> Type {
        Type { elem, shape: shape.as_ref().into() }
    }

    /// A type whose axes are all constants.
    pub fn of(elem: Elem, shape: &[usize]) -> Type {
        Type { elem, shape: shape.iter().map(|&n| Dim::Const(n)).collect() }
    }

    /// A scalar.
    pub fn scalar(elem: Elem) -> Type {
        Type { elem, shape: Shape::new() }
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// All axes as constants, if they are.
    pub fn constant_shape(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(|d| d.constant()).collect()
    }

    /// Number of elements, if all axes are constants.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(d.constant()?))
    }

    /// Whether the first axis is time.
    pub fn is_lifted(&self) -> bool {
        self.shape.first() == Some(&Dim::Time)
    }

    /// The same type with the time axis in front.
    pub fn lifted(&self) -> Type {
        let mut shape: Shape = smallvec![Dim::Time];
        shape.extend(self.shape.iter().copied());
        Type { elem: self.elem, shape }
    }

    /// The type of one step of a lifted value; itself if it has no time axis.
    pub fn step(&self) -> Type {
        if self.is_lifted() { Type { elem: self.elem, shape: self.shape[1..].into() } } else { self.clone() }
    }

    /// Whether an axis is that of a growing state.
    pub fn grows(&self) -> bool {
        self.shape.iter().any(|d| matches!(d, Dim::Grow { .. }))
    }

    /// The same shape with another element.
    pub fn with_elem(&self, elem: Elem) -> Type {
        Type { elem, shape: self.shape.clone() }
    }
}

/// What a stored number of a weight means (spec/language.md, "Weights and encodings").
#[derive(Clone, Debug, PartialEq)]
pub enum Encoding {
    F32,
    F16,
    Bf16,
    /// Codes in {-1, 0, +1} times a scale; `floor` bounds the mean from below.
    Ternary {
        group: Group,
        floor: f32,
        scale: ScaleFormat,
        keep: Keep,
        input: InputQuant,
    },
    /// +1 where the latent weight is >= 0, else -1, times the mean magnitude of the group.
    Sign {
        group: Group,
        scale: ScaleFormat,
        input: InputQuant,
    },
}

impl Encoding {
    /// The element that a weight of this encoding has in types.
    pub fn elem(&self) -> Elem {
        match self {
            Encoding::F32 => Elem::F32,
            Encoding::F16 => Elem::F16,
            Encoding::Bf16 => Elem::Bf16,
            Encoding::Ternary { .. } => Elem::Ternary,
            Encoding::Sign { .. } => Elem::Sign,
        }
    }

    /// How the input of a linear layer with this weight is quantised.
    pub fn input(&self) -> InputQuant {
        match self {
            Encoding::Ternary { input, .. } | Encoding::Sign { input, .. } => *input,
            _ => InputQuant::None,
        }
    }
}

/// The weights that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Tensor,
    Row,
    /// This many consecutive inputs of a row; the last group of a row may be shorter.
    Inputs(usize),
}

/// The format a scale is rounded to (to nearest even) before it is widened to f32 for use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleFormat {
    F32,
    Bf16,
    F16,
}

/// Which codes a ternary quantiser keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Round to the nearest of -1, 0, +1.
    Nearest,
    /// Of each 4 consecutive inputs the smallest magnitude is 0, the others are signs.
    ThreeOfFour,
}

/// How the float input of a linear layer is turned into integers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum InputQuant {
    /// It is not: the layer is a float product.
    None,
    /// a = max(max |x| of the block, floor); q = clamp(round(x * (127 / a)), -127, 127), half to even.
    Int8 {
        /// Inputs per block; `None`: one block, the whole vector.
        block: Option<usize>,
        floor: f32,
        undo: Undo,
    },
}

/// The order of the float operations that scale an integer sum back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undo {
    /// One block: float(acc) * (scale * (a / 127)); more: the sum over blocks, ascending, of float(acc_b) * (a_b / 127)
    /// * scale.
    Multiply,
    /// float(acc) * (scale / (127 / a)).
    Divide,
}

/// The elements of a tensor, row-major. Elements of `Bool` are `true` or `false`.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    F32(Vec<f32>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    I8(Vec<i8>),
    U8(Vec<u8>),
    Bool(Vec<bool>),
}

/// Element, shape and bytes of a constant.
pub type LiteralKey = (Elem, Vec<usize>, Vec<u8>);

/// A constant tensor inside a graph. Two are equal if they have the same bits: zeros of both signs differ, a NaN is
/// itself.
#[derive(Clone, Debug)]
pub struct Literal {
    pub shape: Vec<usize>,
    pub data: Arc<Data>,
}

impl PartialEq for Literal {
    fn eq(&self, other: &Literal) -> bool {
        let same = match (&*self.data, &*other.data) {
            (Data::F32(a), Data::F32(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits())
            }
            (a, b) => a == b,
        };
        self.shape == other.shape && same
    }
}

impl Literal {
    /// What tells it from all that are not equal to it, for tables.
    pub fn key(&self) -> LiteralKey {
        (self.data.elem(), self.shape.clone(), self.data.to_bytes())
    }

    /// A scalar of type f32.
    pub fn f32(value: f32) -> Literal {
        Literal { shape: Vec::new(), data: Arc::new(Data::F32(vec![value])) }
    }

    /// A scalar of type i32.
    pub fn i32(value: i32) -> Literal {
        Literal { shape: Vec::new(), data: Arc::new(Data::I32(vec![value])) }
    }

    /// Its type.
    pub fn ty(&self) -> Type {
        Type::of(self.data.elem(), &self.shape)
    }
}

impl Data {
    /// The element stored.
    pub fn elem(&self) -> Elem {
        match self {
            Data::F32(_) => Elem::F32,
            Data::I32(_) => Elem::I32,
            Data::U32(_) => Elem::U32,
            Data::U64(_) => Elem::U64,
            Data::I8(_) => Elem::I8,
            Data::U8(_) => Elem::U8,
            Data::Bool(_) => Elem::Bool,
        }
    }

    /// The first element outside of a range, if there is one; NaN lies in none.
    pub fn outside(&self, (low, high): (f64, f64)) -> Option<f64> {
        let at = |i| match self {
            Data::F32(v) => f64::from(v[i]),
            Data::I32(v) => f64::from(v[i]),
            Data::U32(v) => f64::from(v[i]),
            Data::U64(v) => v[i] as f64,
            Data::I8(v) => f64::from(v[i]),
            Data::U8(v) => f64::from(v[i]),
            Data::Bool(v) => f64::from(u8::from(v[i])),
        };
        (0..self.len()).map(at).find(|x| !(low..=high).contains(x))
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::F32(v) => v.len(),
            Data::I32(v) => v.len(),
            Data::U32(v) => v.len(),
            Data::U64(v) => v.len(),
            Data::I8(v) => v.len(),
            Data::U8(v) => v.len(),
            Data::Bool(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `n` zeros, or false; none for an element that exists only in weights.
    pub fn zeros(elem: Elem, n: usize) -> Option<Data> {
        Some(match elem {
            Elem::F32 => Data::F32(vec![0.0; n]),
            Elem::I32 => Data::I32(vec![0; n]),
            Elem::U32 => Data::U32(vec![0; n]),
            Elem::U64 => Data::U64(vec![0; n]),
            Elem::I8 => Data::I8(vec![0; n]),
            Elem::U8 => Data::U8(vec![0; n]),
            Elem::Bool => Data::Bool(vec![false; n]),
            Elem::F16 | Elem::Bf16 | Elem::Ternary | Elem::Sign => return None,
        })
    }

    /// The elements as little-endian bytes; true is 1.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::U32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::U64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::I8(v) => v.iter().map(|&x| x as u8).collect(),
            Data::U8(v) => v.clone(),
            Data::Bool(v) => v.iter().map(|&x| u8::from(x)).collect(),
        }
    }
}

/// Whether a row of so many weights can be multiplied with activations: the total of codes fits i32 whatever they are,
/// and a row of floats fits the strides of kernels.
///
/// # Errors
/// What is too wide, as a sentence.
pub fn row_fits(encoding: &Encoding, columns: usize) -> Result<(), String> {
    let limits = Limits::DEFAULT;
    match encoding {
        Encoding::Ternary { .. } | Encoding::Sign { .. } if columns > limits.code_columns => {
            Err(format!("a row of {columns} codes: beyond {} its total may overflow an i32", limits.code_columns))
        }
        Encoding::F32 | Encoding::F16 | Encoding::Bf16 if columns > limits.row / 4 => {
            Err(format!("a row of {columns} floats, at most {}", limits.row / 4))
        }
        _ => Ok(()),
    }
}
