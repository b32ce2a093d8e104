//! The runtime's tables of a module's entries: names, ports and conventions, without any code.

use sterna_runtime::abi::row_stride;
use sterna_runtime::model::{Element, EntryTable, Port, Source, Start};

use crate::ir::{Data, Elem, Entry, Module, Param, ParamKind, Type};

/// The tables of all entries, without their state groups (0) and choices (none).
///
/// # Errors
/// A port that cannot cross the border: an element without a size, or an axis that is not constant.
pub fn entries(module: &Module) -> Result<Vec<EntryTable>, String> {
    module.entries.iter().map(entry).collect()
}

fn entry(entry: &Entry) -> Result<EntryTable, String> {
    Ok(EntryTable {
        name: entry.name.clone(),
        within: entry.within,
        start: entry.start.as_ref().map(|s| Start { elements: s.elements.clone(), only_if_empty: s.only_if_empty }),
        inputs: entry.params.iter().map(input).collect::<Result<_, _>>()?,
        outputs: entry.outputs.iter().map(|o| port(&o.name, &o.ty)).collect::<Result<_, _>>()?,
        group: 0,
        choices: Vec::new(),
    })
}

fn input(param: &Param) -> Result<Port, String> {
    let mut port = port(&param.name, &param.ty)?;
    port.range = param.range;
    port.source = Some(match &param.kind {
        ParamKind::Stream => Source::Stream,
        ParamKind::Value => Source::Value,
        ParamKind::Position => Source::Position,
        ParamKind::Outer { output } => Source::Outer(output.clone()),
        ParamKind::Input { default } => {
            Source::Input(default.as_ref().map_or_else(|| vec![0; port.bytes()], |literal| literal.data.to_bytes()))
        }
        ParamKind::Given { input } => Source::Given(input.clone()),
    });
    // Positions are one i32 after the other: the host has them so.
    if port.source == Some(Source::Position) {
        port.stride = port.element.bytes();
    }
    Ok(port)
}

fn port(name: &str, ty: &Type) -> Result<Port, String> {
    let ty = ty.step();
    let shape = ty.constant_shape().ok_or_else(|| format!("the shape of `{name}` is not constant"))?;
    let element = element(ty.elem).ok_or_else(|| format!("`{name}` is {} outside of the graph", ty.elem.name()))?;
    let bytes = shape.iter().product::<usize>() * element.bytes();
    let stride = row_stride(bytes);
    Ok(Port { name: name.into(), element, shape, stride, source: None, range: None })
}

/// The runtime's name of an element that arithmetic uses.
pub fn element(elem: Elem) -> Option<Element> {
    Some(match elem {
        Elem::F32 => Element::F32,
        Elem::I32 => Element::I32,
        Elem::U32 => Element::U32,
        Elem::U64 => Element::U64,
        Elem::I8 => Element::I8,
        Elem::U8 => Element::U8,
        Elem::Bool => Element::Bool,
        Elem::F16 | Elem::Bf16 | Elem::Ternary | Elem::Sign => return None,
    })
}

/// Little-endian bytes as elements.
pub fn data_of(element: Element, bytes: &[u8]) -> Data {
    fn words<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
        bytes
            .chunks_exact(N)
            .map(|chunk| {
                let mut word = [0; N];
                word.copy_from_slice(chunk);
                read(word)
            })
            .collect()
    }
    match element {
        Element::F32 => Data::F32(words(bytes, f32::from_le_bytes)),
        Element::I32 => Data::I32(words(bytes, i32::from_le_bytes)),
        Element::U32 => Data::U32(words(bytes, u32::from_le_bytes)),
        Element::U64 => Data::U64(words(bytes, u64::from_le_bytes)),
        Element::I8 => Data::I8(bytes.iter().map(|&b| b as i8).collect()),
        Element::U8 => Data::U8(bytes.to_vec()),
        Element::Bool => Data::Bool(bytes.iter().map(|&b| b != 0).collect()),
    }
}
