//! Edits of JSON by its values, and, so that it may also be what no writer of JSON makes, by its words and bytes.

use serde_json::{Map, Value, json};

use super::{bytes, words};
use crate::programs::dice::Dice;

/// One edit of a JSON text.
pub fn edit(text: &mut Vec<u8>, donor: &[u8], dice: &mut Dice) {
    match dice.below(20) {
        0 => bytes::edit(text, donor, dice),
        1..4 => {
            let mut whole = String::from_utf8_lossy(text).into_owned();
            words::edit(&mut whole, &String::from_utf8_lossy(donor), dice);
            *text = whole.into_bytes();
        }
        _ => {
            let Ok(mut value) = serde_json::from_slice(text) else { return bytes::edit(text, donor, dice) };
            edit_value(&mut value, dice);
            *text = value.to_string().into_bytes();
        }
    }
}

/// Paths of all values, the whole among them.
fn paths(value: &Value, at: &str, out: &mut Vec<String>) {
    out.push(at.to_owned());
    match value {
        Value::Array(all) => all.iter().enumerate().for_each(|(i, inner)| paths(inner, &format!("{at}/{i}"), out)),
        Value::Object(all) => all.iter().for_each(|(key, inner)| {
            let key = key.replace('~', "~0").replace('/', "~1");
            paths(inner, &format!("{at}/{key}"), out);
        }),
        _ => {}
    }
}

/// One edit of a value somewhere inside.
pub fn edit_value(whole: &mut Value, dice: &mut Dice) {
    let mut all = Vec::new();
    paths(whole, "", &mut all);
    let at = all[dice.below(all.len())].clone();
    let other = whole.pointer(&all[dice.below(all.len())]).cloned().unwrap_or_default();
    let Some(value) = whole.pointer_mut(&at) else { return };
    match dice.below(12) {
        0 | 1 => *value = any(dice),
        2 => *value = other,
        3 => {
            let depth = dice.pick(&[1, 1, 1, 2, 70, 200]);
            let inner = value.take();
            *value =
                (0..depth).fold(inner, |inner, _| if depth % 2 == 0 { json!([inner]) } else { json!({ "a": inner }) });
        }
        _ => inside(value, &other, dice),
    }
}

/// An edit that keeps the type.
fn inside(value: &mut Value, other: &Value, dice: &mut Dice) {
    match value {
        Value::Null => *value = any(dice),
        Value::Bool(b) => *b = !*b,
        Value::Number(number) => {
            *value = match number.as_i64() {
                Some(old) if dice.chance(60) => small(i128::from(old), dice),
                Some(old) => exact(bytes::number(i128::from(old), dice)),
                None => json!(number.as_f64().unwrap_or(0.0) * dice.pick(&[0.0, -1.0, 0.5, 2.0, 1e300, 1e-300])),
            };
        }
        Value::String(text) => {
            *text = match dice.below(4) {
                0 => String::new(),
                1 => text.repeat(2),
                2 => other.as_str().unwrap_or("é").to_owned(),
                _ => {
                    let mut changed = text.clone();
                    words::edit(&mut changed, "x 1 -1 [2] {3} \u{1} */..", dice);
                    changed
                }
            };
        }
        Value::Array(all) => {
            let length = all.len();
            match dice.below(4) {
                0 if length > 0 => drop(all.remove(dice.below(length))),
                1 if length > 0 => all.insert(dice.below(length), all[dice.below(length)].clone()),
                2 if length > 1 => all.swap(0, dice.below(length)),
                _ => all.push(other.clone()),
            }
        }
        Value::Object(all) => object(all, other, dice),
    }
}

fn object(all: &mut Map<String, Value>, other: &Value, dice: &mut Dice) {
    let keys: Vec<String> = all.keys().cloned().collect();
    if keys.is_empty() {
        all.insert("a".into(), other.clone());
        return;
    }
    let key = &keys[dice.below(keys.len())];
    match dice.below(5) {
        0 | 1 => drop(all.remove(key)),
        2 => {
            let value = all.remove(key).unwrap_or_default();
            all.insert(format!("{key}x"), value);
        }
        3 => {
            let value = all.get(key).cloned().unwrap_or_default();
            all.insert(keys[dice.below(keys.len())].clone(), value);
        }
        _ => drop(all.insert(dice.pick(&["", "name", "type", "0", "d_model", "é"]).into(), other.clone())),
    }
}

fn small(old: i128, dice: &mut Dice) -> Value {
    exact(match dice.below(3) {
        0 => dice.below(20) as i128,
        1 => old + 1,
        _ => old - 1,
    })
}

fn exact(number: i128) -> Value {
    i64::try_from(number).map(Value::from).or_else(|_| u64::try_from(number).map(Value::from)).unwrap_or(json!(1e30))
}

fn any(dice: &mut Dice) -> Value {
    match dice.below(9) {
        0 => Value::Null,
        1 => json!(dice.chance(50)),
        2 | 3 => exact(bytes::number(0, dice)),
        4 => json!(dice.pick(&[0.5, -0.5, 1e308, 1e-320, 3.0])),
        5 => json!(dice.pick(&["", "a", "f32", "é\u{0}", "../x"])),
        6 => json!([]),
        7 => json!({}),
        _ => json!([1, "a", null]),
    }
}
