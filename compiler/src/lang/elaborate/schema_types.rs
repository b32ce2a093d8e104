//! Types of config keys: whether a value fits one, and how types and values are put into words.

use std::fmt::Write as _;

use super::Elaborator;
use super::value::{R, Val};
use crate::config::{Json, JsonKind};
use crate::diagnostics::{Code, Diagnostic};
use crate::lang::ast::{self, KeyForm, KeyType, Scalar};

impl<'a> Elaborator<'a> {
    /// The value as the type holds it, if it does.
    pub(super) fn fit(&mut self, value: &Val<'a>, ty: &'a KeyType) -> R<Option<Val<'a>>> {
        for alternative in &ty.alternatives {
            if alternative.optional && matches!(value, Val::Null) {
                return Ok(Some(Val::Null));
            }
            let fitted = match &alternative.form {
                KeyForm::Literal(literal) => {
                    let wanted = super::expressions::literal_value(&literal.value);
                    // 1 is not true and "1" is not 1, but 1 and 1.0 are one number.
                    value.same(&wanted).then_some(wanted)
                }
                KeyForm::Tuple(types) => match value {
                    Val::List(values) if values.len() == types.len() => {
                        let mut out = Vec::new();
                        for (value, ty) in values.iter().zip(types) {
                            match self.fit(value, ty)? {
                                Some(value) => out.push(value),
                                None => break,
                            }
                        }
                        (out.len() == types.len()).then(|| Val::list(out))
                    }
                    _ => None,
                },
                KeyForm::Scalar { scalar, list } => self.fit_scalar(value, *scalar, list.as_ref())?,
                KeyForm::Map { scalar, list } => match value {
                    Val::Map(entries) => {
                        let mut out = Vec::new();
                        for (key, value) in entries.iter() {
                            match self.fit_scalar(value, *scalar, list.as_ref())? {
                                Some(value) => out.push((key.clone(), value)),
                                None => break,
                            }
                        }
                        (out.len() == entries.len()).then(|| Val::Map(out.into()))
                    }
                    _ => None,
                },
            };
            if let Some(fitted) = fitted
                && self.in_limit(&fitted, ty.limit.as_ref())?
            {
                return Ok(Some(fitted));
            }
        }
        Ok(None)
    }

    pub(super) fn fit_scalar(
        &mut self,
        value: &Val<'a>,
        scalar: Scalar,
        list: Option<&'a ast::ListOf>,
    ) -> R<Option<Val<'a>>> {
        let Some(list) = list else {
            return Ok(match (scalar, value) {
                (Scalar::Int, Val::Int(_))
                | (Scalar::Bool, Val::Bool(_))
                | (Scalar::Float, Val::Float(_))
                | (Scalar::String, Val::Text(_)) => Some(value.clone()),
                (Scalar::Float, Val::Int(n)) => Some(Val::Float(*n as f64)),
                _ => None,
            });
        };
        let Val::List(values) = value else {
            return Ok(None);
        };
        if let Some(length) = &list.length {
            let length = self.in_model_frame(0, length.span, |this| {
                let value = this.eval(length, None)?;
                this.as_int(&value, length.span)
            })?;
            if values.len() as i128 != length {
                return Ok(None);
            }
        }
        let mut out = Vec::new();
        for value in values.iter() {
            match self.fit_scalar(value, scalar, None)? {
                Some(value) => out.push(value),
                None => return Ok(None),
            }
        }
        Ok(Some(Val::list(out)))
    }

    pub(super) fn in_limit(&mut self, value: &Val<'a>, limit: Option<&'a ast::Limit>) -> R<bool> {
        let Some(limit) = limit else {
            return Ok(true);
        };
        let mut end = |expr: &'a Option<ast::Expr>| -> R<Option<f64>> {
            let Some(expr) = expr else { return Ok(None) };
            let value = self.in_model_frame(0, expr.span, |this| this.eval(expr, None))?;
            match value.as_f64() {
                Some(x) => Ok(Some(x)),
                None => self.fail(
                    Diagnostic::error(Code::StaticValue, "the end of a range is no number").at(expr.span, value.kind()),
                ),
            }
        };
        let (low, high) = (end(&limit.low)?, end(&limit.high)?);
        fn inside(value: &Val<'_>, low: Option<f64>, high: Option<f64>, inclusive: bool) -> bool {
            match value {
                Val::List(values) => values.iter().all(|v| inside(v, low, high, inclusive)),
                Val::Map(entries) => entries.iter().all(|(_, v)| inside(v, low, high, inclusive)),
                _ => value.as_f64().is_none_or(|x| {
                    low.is_none_or(|low| x >= low) && high.is_none_or(|high| x < high || inclusive && x == high)
                }),
            }
        }
        Ok(inside(value, low, high, limit.inclusive))
    }
}

/// What a type allows, in words.
pub(super) fn describe(elaborator: &Elaborator<'_>, ty: &KeyType) -> String {
    let alternatives: Vec<String> = ty
        .alternatives
        .iter()
        .map(|alternative| {
            let name = |scalar: &Scalar| match scalar {
                Scalar::Int => "an integer",
                Scalar::Float => "a number",
                Scalar::Bool => "true or false",
                Scalar::String => "a string",
            };
            let mut text = match &alternative.form {
                KeyForm::Scalar { scalar, list: None } => name(scalar).to_string(),
                _ => elaborator.files.slice(alternative.span).to_string(),
            };
            if alternative.optional && !text.ends_with('?') {
                text.push_str(" or null");
            }
            text
        })
        .collect();
    let mut text = match alternatives.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    };
    if let Some(limit) = &ty.limit {
        let _ = write!(text, ", {}", range_text(elaborator, limit));
    }
    text
}

pub(super) fn range_text(elaborator: &Elaborator<'_>, limit: &ast::Limit) -> String {
    let text = |e: &Option<ast::Expr>| e.as_ref().map(|e| elaborator.files.slice(e.span));
    match (text(&limit.low), text(&limit.high)) {
        (Some(low), Some(high)) if limit.inclusive => format!("{low} to {high}"),
        (Some(low), Some(high)) => format!("{low} or more, less than {high}"),
        (Some(low), None) => format!("{low} or more"),
        (None, Some(high)) if limit.inclusive => format!("{high} or less"),
        (None, Some(high)) => format!("less than {high}"),
        (None, None) => "any".into(),
    }
}

pub(super) fn value_of<'a>(json: &Json) -> Val<'a> {
    match &json.kind {
        JsonKind::Null => Val::Null,
        JsonKind::Bool(value) => Val::Bool(*value),
        JsonKind::Int(value) => Val::Int(*value),
        JsonKind::Float { value, .. } => Val::Float(*value),
        JsonKind::String(value) => Val::Text(value.clone()),
        JsonKind::List(list) => Val::list(list.iter().map(value_of).collect()),
        JsonKind::Object(object) => {
            Val::Map(object.properties.iter().map(|p| (p.key.clone(), value_of(&p.value))).collect::<Vec<_>>().into())
        }
    }
}

pub(super) fn json_text(json: &Json) -> String {
    match &json.kind {
        JsonKind::List(list) => {
            let items: Vec<String> = list.iter().map(json_text).collect();
            format!("[{}]", items.join(", "))
        }
        JsonKind::Object(object) => {
            let items: Vec<String> = object
                .properties
                .iter()
                .map(|p| format!("{}: {}", serde_json::Value::from(&*p.key), json_text(&p.value)))
                .collect();
            format!("{{{}}}", items.join(", "))
        }
        JsonKind::String(text) => serde_json::Value::from(&**text).to_string(),
        JsonKind::Float { text, .. } => text.to_string(),
        JsonKind::Int(n) => n.to_string(),
        JsonKind::Bool(b) => b.to_string(),
        JsonKind::Null => "null".into(),
    }
}

/// A static value as JSON.
pub(super) fn quoted(value: &Val<'_>) -> String {
    match value {
        Val::Text(text) => serde_json::Value::from(&**text).to_string(),
        Val::List(values) => {
            let items: Vec<String> = values.iter().map(quoted).collect();
            format!("[{}]", items.join(", "))
        }
        Val::Map(entries) => {
            let items: Vec<String> =
                entries.iter().map(|(k, v)| format!("{}: {}", serde_json::Value::from(&**k), quoted(v))).collect();
            format!("{{{}}}", items.join(", "))
        }
        other => other.show(),
    }
}
