//! How types, encodings and literals are written in printed IR and in messages.

use std::fmt::{self, Display, Formatter};

use super::print::MAX_SPLAT;
use super::types::*;

impl Display for Dim {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Const(n) => write!(f, "{n}"),
            Dim::Time => write!(f, "T"),
            Dim::Grow { axis, plus: 0 } => write!(f, "cache{}", axis.0),
            Dim::Grow { axis, plus } => write!(f, "cache{}+{plus}", axis.0),
        }
    }
}

impl Display for Type {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.elem.name())?;
        for (i, dim) in self.shape.iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "[" } else { ", " })?;
        }
        f.write_str(if self.shape.is_empty() { "" } else { "]" })
    }
}

impl Display for Group {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Group::Tensor => write!(f, "tensor"),
            Group::Row => write!(f, "row"),
            Group::Inputs(n) => write!(f, "inputs {n}"),
        }
    }
}

impl Display for ScaleFormat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScaleFormat::F32 => "f32",
            ScaleFormat::Bf16 => "bf16",
            ScaleFormat::F16 => "f16",
        })
    }
}

impl Display for InputQuant {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            InputQuant::None => write!(f, "none"),
            InputQuant::Int8 { block, floor, undo } => {
                write!(f, "int8(")?;
                match block {
                    None => write!(f, "token")?,
                    Some(n) => write!(f, "block {n}")?,
                }
                let undo = match undo {
                    Undo::Multiply => "multiply",
                    Undo::Divide => "divide",
                };
                write!(f, ", floor {}, {undo})", Float(*floor))
            }
        }
    }
}

impl Display for Encoding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Encoding::F32 => write!(f, "f32"),
            Encoding::F16 => write!(f, "f16"),
            Encoding::Bf16 => write!(f, "bf16"),
            Encoding::Ternary { group, floor, scale, keep, input } => {
                let keep = match keep {
                    Keep::Nearest => "nearest",
                    Keep::ThreeOfFour => "three_of_four",
                };
                write!(f, "ternary({group}, floor {}, scale {scale}, {keep}, input {input})", Float(*floor))
            }
            Encoding::Sign { group, scale, input } => write!(f, "sign({group}, scale {scale}, input {input})"),
        }
    }
}

/// A float so that it reads back to the same bits: the shortest decimal, or the bits of a NaN.
pub struct Float(pub f32);

impl Display for Float {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_nan() { write!(f, "nan(0x{:08x})", self.0.to_bits()) } else { write!(f, "{:?}", self.0) }
    }
}

impl Display for Literal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ty())?;
        match &*self.data {
            Data::F32(v) => values(f, v, |a, b| a.to_bits() == b.to_bits(), |&x| Float(x)),
            Data::I32(v) => values(f, v, |a, b| a == b, |&x| x),
            Data::U32(v) => values(f, v, |a, b| a == b, |&x| x),
            Data::U64(v) => values(f, v, |a, b| a == b, |&x| x),
            Data::I8(v) => values(f, v, |a, b| a == b, |&x| x),
            Data::U8(v) => values(f, v, |a, b| a == b, |&x| x),
            Data::Bool(v) => values(f, v, |a, b| a == b, |&x| x),
        }
    }
}

fn values<T, D: Display>(
    f: &mut Formatter<'_>,
    data: &[T],
    same: impl Fn(&T, &T) -> bool,
    show: impl Fn(&T) -> D,
) -> fmt::Result {
    if let [first, rest @ ..] = data
        && data.len() <= MAX_SPLAT
        && rest.iter().all(|x| same(first, x))
    {
        return write!(f, " {}", show(first));
    }
    write!(f, " [")?;
    for (i, x) in data.iter().enumerate() {
        write!(f, "{}{}", if i > 0 { ", " } else { "" }, show(x))?;
    }
    write!(f, "]")
}
