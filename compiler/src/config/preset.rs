//! Presets of graph files in the form of a config: the same value tree, with spans into the graph.

use super::value::{Json, JsonKind, Object, Property};
use crate::diagnostics::{Code, Diagnostic, Diagnostics, Span, nearest};
use crate::lang::ast::{Expr, ExprKind, File, Item, Name, Preset, Setting, UnaryOp, Value};

/// The names of every preset of a graph, in order.
pub fn preset_names(graph: &File) -> impl Iterator<Item = &Name> {
    presets(graph).flat_map(|preset| &preset.names)
}

/// The complete config of a preset: its bases' settings, the nearer replacing the farther.
pub fn preset(graph: &File, name: &str, diagnostics: &mut Diagnostics) -> Option<Json> {
    let mut found = Diagnostics::new();
    let value = resolve(graph, name, &mut found);
    let fine = !found.has_errors();
    diagnostics.append(found);
    value.filter(|_| fine)
}

fn presets(graph: &File) -> impl Iterator<Item = &Preset> {
    graph.items.iter().filter_map(|item| match item {
        Item::Preset(preset) => Some(preset),
        _ => None,
    })
}

fn find<'a>(graph: &'a File, name: &str) -> Option<&'a Preset> {
    presets(graph).find(|preset| preset.names.iter().any(|known| known.as_str() == name))
}

fn unknown(graph: &File, name: &str) -> Diagnostic {
    let title = format!("{} has no preset `{name}`", graph.name.as_str());
    let near = nearest(name, preset_names(graph).map(Name::as_str));
    Diagnostic::error(Code::UnknownPreset, title).help_if(near.map(|near| format!("nearest preset: `{near}`")))
}

fn resolve(graph: &File, name: &str, diagnostics: &mut Diagnostics) -> Option<Json> {
    let Some(first) = find(graph, name) else {
        diagnostics.push(unknown(graph, name));
        return None;
    };
    let mut chain = vec![first];
    while let Some(base) = &chain.last()?.base {
        let Some(next) = find(graph, base.as_str()) else {
            diagnostics.push(unknown(graph, base.as_str()).at(base.span, "not found"));
            return None;
        };
        if chain.iter().any(|seen| std::ptr::eq(*seen, next)) {
            let title = format!("preset `{name}` is its own base");
            let error = Diagnostic::error(Code::Cycle, title);
            diagnostics.push(error.at(base.span, "leads back to it"));
            return None;
        }
        chain.push(next);
    }
    let mut root = Object::default();
    for preset in chain.iter().rev() {
        let mut own = Object::default();
        for setting in &preset.settings {
            let Some(value) = constant(&setting.value, diagnostics) else {
                continue;
            };
            set(&mut own, setting, value, diagnostics);
        }
        merge(&mut root, own);
    }
    Some(Json { kind: JsonKind::Object(root), span: first.names[0].span })
}

/// Puts a value at the end of a dotted path, making the objects between. Twice the same is an error.
fn set(object: &mut Object, setting: &Setting, value: Json, out: &mut Diagnostics) {
    let Some((last, path)) = setting.path.split_last() else {
        return;
    };
    let mut at = object;
    for segment in path {
        let empty = JsonKind::Object(Object::default());
        let index = index_of(at, segment, empty);
        let found = at.properties[index].key_span;
        match &mut at.properties[index].value.kind {
            JsonKind::Object(inner) => at = inner,
            _ => return out.push(twice(segment, found)),
        }
    }
    match at.get(last.as_str()) {
        Some(first) => out.push(twice(last, first.key_span)),
        None => {
            let (key, key_span) = (last.text.clone(), last.span);
            at.properties.push(Property { key, key_span, value });
        }
    }
}

fn index_of(object: &mut Object, segment: &Name, new: JsonKind) -> usize {
    let known = object.properties.iter().position(|property| property.key == segment.text);
    known.unwrap_or_else(|| {
        let value = Json { kind: new, span: segment.span };
        let (key, key_span) = (segment.text.clone(), segment.span);
        object.properties.push(Property { key, key_span, value });
        object.properties.len() - 1
    })
}

fn twice(name: &Name, first: Span) -> Diagnostic {
    let title = format!("key `{}` is set twice in one preset", name.as_str());
    Diagnostic::error(Code::DuplicateKey, title).at(name.span, "again here").and_at(first, "first here")
}

/// Later settings replace earlier ones; objects are merged.
fn merge(into: &mut Object, from: Object) {
    for property in from.properties {
        let known = into.properties.iter_mut().find(|known| known.key == property.key);
        let Some(known) = known else {
            into.properties.push(property);
            continue;
        };
        if let (JsonKind::Object(old), JsonKind::Object(_)) = (&mut known.value.kind, &property.value.kind)
            && let JsonKind::Object(new) = property.value.kind
        {
            merge(old, new);
        } else {
            *known = property;
        }
    }
}

/// The value of an expression of literals and lists.
fn constant(expr: &Expr, out: &mut Diagnostics) -> Option<Json> {
    let span = expr.span;
    let float = |value: f64| JsonKind::Float { value, text: format!("{value:?}").into() };
    let kind = match &expr.kind {
        ExprKind::Literal(Value::Int(value)) => JsonKind::Int(*value),
        ExprKind::Literal(Value::Float(value)) => float(*value),
        ExprKind::Literal(Value::Text(text)) => JsonKind::String(text.clone()),
        ExprKind::Literal(Value::Bool(value)) => JsonKind::Bool(*value),
        ExprKind::Literal(Value::Null) => JsonKind::Null,
        ExprKind::List(elements) => {
            let values: Vec<_> = elements.iter().filter_map(|e| constant(e, out)).collect();
            JsonKind::List(values)
        }
        ExprKind::Unary { op: UnaryOp::Negate, operand, .. } => match &operand.kind {
            ExprKind::Literal(Value::Int(value)) => JsonKind::Int(-value),
            ExprKind::Literal(Value::Float(value)) => float(-value),
            _ => return not_constant(expr, out),
        },
        _ => return not_constant(expr, out),
    };
    Some(Json { kind, span })
}

fn not_constant(expr: &Expr, out: &mut Diagnostics) -> Option<Json> {
    let title = "a preset sets numbers, texts, `true`, `false`, `null` and lists of them";
    out.push(Diagnostic::error(Code::PresetValue, title).at(expr.span, "not a constant"));
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::SourceFiles;

    fn run(text: &str, name: &str) -> Result<String, Vec<String>> {
        let mut files = SourceFiles::new();
        let file = files.add("m.graph", text);
        let mut diagnostics = Diagnostics::new();
        let graph = crate::lang::parse(&files, file, &mut diagnostics).expect("it parses");
        preset(&graph, name, &mut diagnostics)
            .map(|value| show(&value))
            .ok_or_else(|| diagnostics.iter().map(|d| d.title.clone()).collect())
    }

    fn show(value: &Json) -> String {
        let Some(object) = value.as_object() else {
            return value.to_string();
        };
        let inside = object.properties.iter().map(|p| format!("{}: {}", p.key, show(&p.value)));
        format!("{{{}}}", inside.collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn bases_come_first() {
        let text = "model m
preset base { d: 1, a.x: 2.5; a.y: [0, -1] }
preset other, same from base { a.x: \"t\", d: 2 }";
        assert_eq!(run(text, "same").unwrap(), "{d: 2, a: {x: \"t\", y: [0, -1]}}");
    }

    #[test]
    fn mistakes() {
        let text = "model m
preset a from b { d: 1 }
preset b from a { d: 2 }
preset c from nobody { }
preset e { d: 1, d: 2, f: 1 + 1 }";
        assert_eq!(run(text, "a").unwrap_err(), ["preset `a` is its own base"]);
        assert_eq!(run(text, "c").unwrap_err(), ["m has no preset `nobody`"]);
        assert_eq!(run(text, "zzz").unwrap_err(), ["m has no preset `zzz`"]);
        assert_eq!(run(text, "e").unwrap_err().len(), 2);
    }
}
