//! `ternary(...)`, `sign(...)` and `int8(...)`: encodings as static values.

use super::Elaborator;
use super::functions::Given;
use super::value::{R, Val};
use crate::diagnostics::{Code, Diagnostic};
use crate::ir::{Elem, Encoding, Group, InputQuant, Keep, ScaleFormat, Undo};

impl<'a> Elaborator<'a> {
    pub(super) fn encoding(&mut self, name: &'static str, args: &[Given<'a>]) -> R<Val<'a>> {
        let mut group = if name == "sign" { Group::Row } else { Group::Tensor };
        let mut floor = 0.0f32;
        let mut scale = ScaleFormat::F32;
        let mut keep = Keep::Nearest;
        let mut input = InputQuant::None;
        let mut block = None;
        let mut undo = Undo::Multiply;
        let known: &[&str] = match name {
            "ternary" => &["group", "floor", "scale", "keep", "input"],
            "sign" => &["group", "scale", "input"],
            _ => &["block", "floor", "undo"],
        };
        for arg in args {
            let Some(key) = arg.name.filter(|key| known.contains(key)) else {
                return self.fail(
                    Diagnostic::error(Code::Encoding, format!("`{name}` has the parameters {}", known.join(", ")))
                        .at(arg.span, arg.name.unwrap_or("without a name")),
                );
            };
            let fits = match (key, &arg.value) {
                ("group" | "block", Val::Int(n)) if *n > 0 && *n < 1 << 40 => {
                    let n = *n as usize;
                    (group, block) = (Group::Inputs(n), Some(n));
                    true
                }
                ("group", Val::Text(text)) if &**text == "tensor" => {
                    group = Group::Tensor;
                    true
                }
                ("group", Val::Text(text)) if &**text == "row" => {
                    group = Group::Row;
                    true
                }
                ("block", Val::Text(text)) if &**text == "token" => true,
                ("floor", value) if value.as_f64().is_some_and(|x| x >= 0.0) => {
                    floor = value.as_f64().unwrap_or(0.0) as f32;
                    true
                }
                ("scale", Val::Elem(elem)) => {
                    let format = match elem {
                        Elem::F32 => Some(ScaleFormat::F32),
                        Elem::F16 => Some(ScaleFormat::F16),
                        Elem::Bf16 => Some(ScaleFormat::Bf16),
                        _ => None,
                    };
                    scale = format.unwrap_or(scale);
                    format.is_some()
                }
                ("keep", Val::Text(text)) => match &**text {
                    "nearest" => true,
                    "three_of_four" => {
                        keep = Keep::ThreeOfFour;
                        true
                    }
                    _ => false,
                },
                ("input", Val::Input(quant)) => {
                    input = *quant;
                    true
                }
                ("input", Val::Elem(Elem::F32)) => true,
                ("undo", Val::Text(text)) => match &**text {
                    "multiply" => true,
                    "divide" => {
                        undo = Undo::Divide;
                        true
                    }
                    _ => false,
                },
                _ => false,
            };
            if !fits {
                return self.fail(
                    Diagnostic::error(Code::Encoding, format!("`{key}` of `{name}` cannot be {}", arg.value.show()))
                        .at(arg.span, arg.value.kind()),
                );
            }
        }
        Ok(match name {
            "ternary" => Val::Encoding(Encoding::Ternary { group, floor, scale, keep, input }.into()),
            "sign" => Val::Encoding(Encoding::Sign { group, scale, input }.into()),
            _ => Val::Input(InputQuant::Int8 { block, floor, undo }),
        })
    }
}
