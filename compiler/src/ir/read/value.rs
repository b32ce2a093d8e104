//! Types, encodings and literals.

use std::sync::Arc;

use super::lexer::Token;
use super::{Reader, Result};
use crate::ir::module::AxisId;
use crate::ir::print::MAX_SPLAT;
use crate::ir::types::*;
use crate::limits::Limits;

impl Reader<'_> {
    pub(super) fn elem(&mut self) -> Result<Elem> {
        if let Token::Word(word) = self.next
            && let Some(elem) = Elem::from_name(word)
        {
            self.advance()?;
            return Ok(elem);
        }
        self.expected("an element type")
    }

    pub(super) fn ty(&mut self) -> Result<Type> {
        let elem = self.elem()?;
        let mut shape = Shape::new();
        if self.accept('[')? {
            loop {
                shape.push(self.dim()?);
                if !self.accept(',')? {
                    break;
                }
            }
            self.expect(']')?;
        }
        Ok(Type { elem, shape })
    }

    fn dim(&mut self) -> Result<Dim> {
        match self.next {
            Token::Number(_) => Ok(Dim::Const(self.size()?)),
            Token::Word("T") => {
                self.advance()?;
                Ok(Dim::Time)
            }
            _ => {
                let axis = AxisId(self.id("cache")?);
                let plus = if self.accept('+')? { self.size()? } else { 0 };
                Ok(Dim::Grow { axis, plus })
            }
        }
    }

    pub(super) fn encoding(&mut self) -> Result<Encoding> {
        match self.word("an encoding")? {
            "f32" => Ok(Encoding::F32),
            "f16" => Ok(Encoding::F16),
            "bf16" => Ok(Encoding::Bf16),
            "ternary" => {
                self.expect('(')?;
                let group = self.group()?;
                self.expect(',')?;
                self.expect_word("floor")?;
                let floor = self.float()?;
                self.expect(',')?;
                let scale = self.scale()?;
                self.expect(',')?;
                let keep = match self.word("which codes are kept")? {
                    "nearest" => Keep::Nearest,
                    "three_of_four" => Keep::ThreeOfFour,
                    _ => return self.fail("expected nearest or three_of_four before this"),
                };
                self.expect(',')?;
                let input = self.input()?;
                self.expect(')')?;
                Ok(Encoding::Ternary { group, floor, scale, keep, input })
            }
            "sign" => {
                self.expect('(')?;
                let group = self.group()?;
                self.expect(',')?;
                let scale = self.scale()?;
                self.expect(',')?;
                let input = self.input()?;
                self.expect(')')?;
                Ok(Encoding::Sign { group, scale, input })
            }
            word => self.fail(format!("'{word}' before this is no encoding")),
        }
    }

    fn group(&mut self) -> Result<Group> {
        match self.word("a group")? {
            "tensor" => Ok(Group::Tensor),
            "row" => Ok(Group::Row),
            "inputs" => Ok(Group::Inputs(self.size()?)),
            word => self.fail(format!("'{word}' before this is no group")),
        }
    }

    fn scale(&mut self) -> Result<ScaleFormat> {
        self.expect_word("scale")?;
        match self.word("a scale format")? {
            "f32" => Ok(ScaleFormat::F32),
            "bf16" => Ok(ScaleFormat::Bf16),
            "f16" => Ok(ScaleFormat::F16),
            word => self.fail(format!("'{word}' before this is no scale format")),
        }
    }

    fn input(&mut self) -> Result<InputQuant> {
        self.expect_word("input")?;
        self.quant()
    }

    pub(super) fn quant(&mut self) -> Result<InputQuant> {
        if self.accept_word("none")? {
            return Ok(InputQuant::None);
        }
        self.expect_word("int8")?;
        self.expect('(')?;
        let block = if self.accept_word("token")? {
            None
        } else {
            self.expect_word("block")?;
            Some(self.size()?)
        };
        self.expect(',')?;
        self.expect_word("floor")?;
        let floor = self.float()?;
        self.expect(',')?;
        let undo = match self.word("multiply or divide")? {
            "multiply" => Undo::Multiply,
            "divide" => Undo::Divide,
            word => {
                return self.fail(format!("'{word}' before this is neither multiply nor divide"));
            }
        };
        self.expect(')')?;
        Ok(InputQuant::Int8 { block, floor, undo })
    }

    pub(super) fn float(&mut self) -> Result<f32> {
        if !self.accept_word("nan")? {
            return self.number("a number");
        }
        self.expect('(')?;
        let bits = match self.next {
            Token::Number(digits) => digits.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        let Some(value) = bits.map(f32::from_bits).filter(|v| v.is_nan()) else {
            return self.expected("the bits of a NaN");
        };
        self.advance()?;
        self.expect(')')?;
        Ok(value)
    }

    pub(super) fn literal(&mut self) -> Result<Literal> {
        let ty = self.ty()?;
        let (Some(shape), Some(elements)) = (ty.constant_shape(), ty.elements()) else {
            return self.fail(format!("{ty} before this is no type of a literal"));
        };
        let data = match ty.elem {
            Elem::F32 => Data::F32(self.values(elements, Self::float)?),
            Elem::I32 => Data::I32(self.values(elements, |r| r.number("an i32"))?),
            Elem::U32 => Data::U32(self.values(elements, |r| r.number("a u32"))?),
            Elem::U64 => Data::U64(self.values(elements, |r| r.number("a u64"))?),
            Elem::I8 => Data::I8(self.values(elements, |r| r.number("an i8"))?),
            Elem::U8 => Data::U8(self.values(elements, |r| r.number("a u8"))?),
            Elem::Bool => Data::Bool(self.values(elements, |r| match r.next {
                Token::Word("true") => r.advance().map(|_| true),
                Token::Word("false") => r.advance().map(|_| false),
                _ => r.expected("true or false"),
            })?),
            _ => return self.fail(format!("{ty} before this is no type of a literal")),
        };
        Ok(Literal { shape, data: Arc::new(data) })
    }

    fn values<T: Clone>(&mut self, elements: usize, mut one: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        if !self.accept('[')? {
            let value = one(self)?;
            self.splat = self.splat.saturating_add(elements);
            if elements > MAX_SPLAT || self.splat > Limits::DEFAULT.constants / 4 {
                return self.fail("too large a constant written as one value");
            }
            return Ok(vec![value; elements]);
        }
        let mut values = Vec::new();
        while !self.is(']') {
            values.push(one(self)?);
            if !self.accept(',')? {
                break;
            }
        }
        if values.len() != elements {
            return self.fail(format!("{elements} values expected, {} found", values.len()));
        }
        self.expect(']')?;
        Ok(values)
    }
}
