//! Exact arithmetic and functions of static values: checked integers, IEEE doubles, lists, texts.
//! Problems are plain sentences; the caller knows the place.

use std::sync::Arc;

use super::value::Val;
use crate::ir::{Data, Elem, Literal};
use crate::lang::ast::BinaryOp;

/// What went wrong, in one sentence.
pub(super) type Problem = String;

const OVERFLOW: &str = "the integer does not fit 128 bits";

/// `a op b` of two static values; `and` and `or` are the caller's, which need not evaluate `b`.
pub(super) fn binary<'a>(op: BinaryOp, a: &Val<'a>, b: &Val<'a>) -> Result<Val<'a>, Problem> {
    use BinaryOp as B;
    match op {
        B::Equal => return Ok(Val::Bool(a.same(b))),
        B::NotEqual => return Ok(Val::Bool(!a.same(b))),
        B::In => return contains(a, b),
        _ => {}
    }
    match (a, b) {
        (Val::Int(x), Val::Int(y)) => integers(op, *x, *y),
        (Val::Bool(x), Val::Bool(y)) if op == B::Xor => Ok(Val::Bool(x != y)),
        _ => match (a.as_f64(), b.as_f64()) {
            (Some(x), Some(y)) => floats(op, x, y),
            _ => Err(format!("`{}` does not take {} and {}", op.symbol(), a.kind(), b.kind())),
        },
    }
}

fn integers<'a>(op: BinaryOp, x: i128, y: i128) -> Result<Val<'a>, Problem> {
    use BinaryOp as B;
    let some = |value: Option<i128>| value.map(Val::Int).ok_or_else(|| OVERFLOW.to_string());
    match op {
        B::Add => some(x.checked_add(y)),
        B::Subtract => some(x.checked_sub(y)),
        B::Multiply => some(x.checked_mul(y)),
        B::Divide if y == 0 => Err("division by zero".into()),
        B::FloorDivide | B::Remainder if y == 0 => Err("division by zero".into()),
        B::Divide => Ok(Val::Float(x as f64 / y as f64)),
        B::FloorDivide => some(x.checked_div_euclid(y).and_then(|q| {
            // Euclid and floor differ where the divisor is negative and something remains.
            if y < 0 && x.rem_euclid(y) != 0 { q.checked_sub(1) } else { Some(q) }
        })),
        B::Remainder => {
            some(x.checked_rem(y).and_then(|r| if r != 0 && (r < 0) != (y < 0) { r.checked_add(y) } else { Some(r) }))
        }
        B::Power if y >= 0 => match u32::try_from(y) {
            Ok(exponent) => some(x.checked_pow(exponent)),
            Err(_) => Err(OVERFLOW.into()),
        },
        B::Power => Ok(Val::Float((x as f64).powf(y as f64))),
        B::ShiftLeft | B::ShiftRight => {
            let by = u32::try_from(y).ok().filter(|&by| by < 127);
            let by = by.ok_or_else(|| format!("a shift by {y}"))?;
            if op == B::ShiftRight {
                Ok(Val::Int(x >> by))
            } else {
                some(1i128.checked_shl(by).and_then(|f| x.checked_mul(f)))
            }
        }
        B::Xor => Ok(Val::Int(x ^ y)),
        B::Less => Ok(Val::Bool(x < y)),
        B::LessEqual => Ok(Val::Bool(x <= y)),
        B::Greater => Ok(Val::Bool(x > y)),
        B::GreaterEqual => Ok(Val::Bool(x >= y)),
        _ => Err(format!("`{}` does not take two integers", op.symbol())),
    }
}

fn floats<'a>(op: BinaryOp, x: f64, y: f64) -> Result<Val<'a>, Problem> {
    use BinaryOp as B;
    Ok(match op {
        B::Add => Val::Float(x + y),
        B::Subtract => Val::Float(x - y),
        B::Multiply => Val::Float(x * y),
        B::Divide | B::FloorDivide | B::Remainder if y == 0.0 => {
            return Err("division by zero".into());
        }
        B::Divide => Val::Float(x / y),
        B::FloorDivide => Val::Float((x / y).floor()),
        B::Remainder => Val::Float(x - (x / y).floor() * y),
        B::Power => Val::Float(x.powf(y)),
        B::Less => Val::Bool(x < y),
        B::LessEqual => Val::Bool(x <= y),
        B::Greater => Val::Bool(x > y),
        B::GreaterEqual => Val::Bool(x >= y),
        _ => return Err(format!("`{}` does not take numbers", op.symbol())),
    })
}

fn contains<'a>(a: &Val<'a>, b: &Val<'a>) -> Result<Val<'a>, Problem> {
    match b {
        Val::List(values) => Ok(Val::Bool(values.iter().any(|v| v.same(a)))),
        Val::Map(entries) => Ok(Val::Bool(entries.iter().any(|(k, _)| matches!(a, Val::Text(t) if t == k)))),
        other => Err(format!("`in` looks into a list, not {}", other.kind())),
    }
}

/// `-x` or `not x`.
pub(super) fn negate<'a>(value: &Val<'a>) -> Result<Val<'a>, Problem> {
    match value {
        Val::Int(n) => n.checked_neg().map(Val::Int).ok_or_else(|| OVERFLOW.to_string()),
        Val::Float(x) => Ok(Val::Float(-x)),
        other => Err(format!("`-` does not take {}", other.kind())),
    }
}

/// A function of one number, if the name is one that static numbers have too.
pub(super) fn unary_function<'a>(name: &str, value: &Val<'a>) -> Option<Result<Val<'a>, Problem>> {
    let whole = |x: f64| -> Result<Val<'a>, Problem> {
        if x.is_finite() && x.abs() < 1e30 { Ok(Val::Int(x as i128)) } else { Err(format!("{x} is no integer")) }
    };
    if let (Val::Int(n), "abs" | "floor" | "round") = (value, name) {
        return Some(Ok(Val::Int(if name == "abs" { n.abs() } else { *n })));
    }
    let x = value.as_f64()?;
    Some(match name {
        "exp" => Ok(Val::Float(x.exp())),
        "expm1" => Ok(Val::Float(x.exp_m1())),
        "ln" => Ok(Val::Float(x.ln())),
        "log1p" => Ok(Val::Float(x.ln_1p())),
        "log2" => Ok(Val::Float(x.log2())),
        "sqrt" => Ok(Val::Float(x.sqrt())),
        "sin" => Ok(Val::Float(x.sin())),
        "cos" => Ok(Val::Float(x.cos())),
        "tanh" => Ok(Val::Float(x.tanh())),
        "sigmoid" => Ok(Val::Float(1.0 / (1.0 + (-x).exp()))),
        "abs" => Ok(Val::Float(x.abs())),
        "floor" => whole(x.floor()),
        "round" => whole(x.round_ties_even()),
        _ => return None,
    })
}

/// The smaller or larger of numbers.
pub(super) fn extreme<'a>(values: &[Val<'a>], largest: bool) -> Result<Val<'a>, Problem> {
    let mut best: Option<&Val<'a>> = None;
    for value in values {
        let x = value.as_f64().ok_or_else(|| format!("{} is no number", value.kind()))?;
        let better = match best.and_then(Val::as_f64) {
            None => true,
            Some(y) => (largest && x > y) || (!largest && x < y),
        };
        if better {
            best = Some(value);
        }
    }
    best.cloned().ok_or_else(|| "an empty list".into())
}

/// The sum of numbers, exact if all are integers.
pub(super) fn sum<'a>(values: &[Val<'a>]) -> Result<Val<'a>, Problem> {
    let mut total = Val::Int(0);
    for value in values {
        total = binary(BinaryOp::Add, &total, value)?;
    }
    Ok(total)
}

/// Functions that exist for static values only. `None`: not one of them.
pub(super) fn static_function<'a>(name: &str, args: &[Val<'a>]) -> Option<Result<Val<'a>, Problem>> {
    Some(match (name, args) {
        ("len", [Val::List(values)]) => Ok(Val::Int(values.len() as i128)),
        ("len", [Val::Map(entries)]) => Ok(Val::Int(entries.len() as i128)),
        ("len", [Val::Text(text)]) => Ok(Val::Int(text.chars().count() as i128)),
        ("keys", [Val::Map(entries)]) => Ok(Val::list(entries.iter().map(|(k, _)| Val::Text(k.clone())).collect())),
        ("words", [Val::Text(text)]) => Ok(Val::list(text.split_whitespace().map(Val::text).collect())),
        ("count", [Val::List(values), wanted]) => {
            Ok(Val::Int(values.iter().filter(|v| v.same(wanted)).count() as i128))
        }
        ("distinct", [Val::List(values)]) => {
            Ok(Val::Bool(values.iter().enumerate().all(|(i, v)| !values[..i].iter().any(|w| w.same(v)))))
        }
        ("all" | "any", [Val::List(values)]) => {
            let mut bools = Vec::new();
            for value in values.iter() {
                match value {
                    Val::Bool(b) => bools.push(*b),
                    other => return Some(Err(format!("`{name}` of {}", other.kind()))),
                }
            }
            Ok(Val::Bool(if name == "all" { bools.iter().all(|&b| b) } else { bools.iter().any(|&b| b) }))
        }
        ("join", _) => Ok(Val::text(&args.iter().map(Val::show).collect::<String>())),
        ("starts_with", [Val::Text(text), Val::Text(front)]) => Ok(Val::Bool(text.starts_with(&**front))),
        ("fnv1a64", [Val::Text(text)]) => {
            let mut hash = 0xcbf2_9ce4_8422_2325u64;
            for byte in text.bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            Ok(Val::Int(i128::from(hash)))
        }
        ("about", [Val::Text(text), count]) => about(text, count),
        _ => return None,
    })
}

/// Whether an abbreviated number (`350M`, `2.3B`) is within 5 % of another; an empty text claims nothing.
fn about<'a>(text: &str, count: &Val<'a>) -> Result<Val<'a>, Problem> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(Val::Bool(true));
    }
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 1e3),
        Some((at, 'M')) => (&text[..at], 1e6),
        Some((at, 'B' | 'G')) => (&text[..at], 1e9),
        Some((at, 'T')) => (&text[..at], 1e12),
        _ => (text, 1.0),
    };
    let claimed: f64 = digits.trim().parse().map_err(|_| format!("\"{text}\" is no abbreviated number"))?;
    let counted = count.as_f64().ok_or_else(|| format!("{} is no number", count.kind()))?;
    Ok(Val::Bool((claimed * unit - counted).abs() <= 0.05 * counted))
}

/// The shape of a static value used as a tensor.
pub(super) fn shape(value: &Val<'_>) -> Option<Vec<usize>> {
    match value {
        Val::Int(_) | Val::Float(_) | Val::Bool(_) => Some(Vec::new()),
        Val::List(values) => {
            let mut shape = shape(values.first()?)?;
            shape.insert(0, values.len());
            Some(shape)
        }
        _ => None,
    }
}

/// A number or a list of numbers as a constant of this element; without one, integers are i32.
pub(super) fn literal(value: &Val<'_>, hint: Option<Elem>) -> Result<Literal, Problem> {
    let mut flat = Vec::new();
    let shape = shape(value).ok_or_else(|| format!("{} is no tensor", value.kind()))?;
    flatten(value, &shape, &mut flat)?;
    let elem = hint.unwrap_or_else(|| natural_elem(&flat));
    Ok(Literal { shape, data: Arc::new(encode(&flat, elem)?) })
}

fn natural_elem(flat: &[Val<'_>]) -> Elem {
    if flat.iter().any(|v| matches!(v, Val::Float(_))) {
        Elem::F32
    } else if matches!(flat.first(), Some(Val::Bool(_))) {
        Elem::Bool
    } else {
        Elem::I32
    }
}

fn flatten<'a>(value: &Val<'a>, shape: &[usize], out: &mut Vec<Val<'a>>) -> Result<(), Problem> {
    match (value, shape) {
        (Val::List(values), [n, rest @ ..]) => {
            if values.len() != *n {
                return Err("the lists in a list have different lengths".into());
            }
            values.iter().try_for_each(|v| flatten(v, rest, out))
        }
        (Val::Int(_) | Val::Float(_) | Val::Bool(_), []) => {
            out.push(value.clone());
            Ok(())
        }
        (other, _) => Err(format!("{} among numbers", other.kind())),
    }
}

fn encode(flat: &[Val<'_>], elem: Elem) -> Result<Data, Problem> {
    fn ints<T: TryFrom<i128>>(flat: &[Val<'_>], elem: Elem) -> Result<Vec<T>, Problem> {
        flat.iter()
            .map(|v| match v {
                Val::Int(n) => T::try_from(*n).map_err(|_| format!("{n} does not fit {}", elem.name())),
                other => Err(format!("{} is no {}", other.show(), elem.name())),
            })
            .collect()
    }
    Ok(match elem {
        Elem::F32 => Data::F32(
            flat.iter()
                .map(|v| v.as_f64().map(|x| x as f32).ok_or_else(|| format!("{} is no f32", v.show())))
                .collect::<Result<_, _>>()?,
        ),
        Elem::I32 => Data::I32(ints(flat, elem)?),
        Elem::U32 => Data::U32(ints(flat, elem)?),
        Elem::U64 => Data::U64(ints(flat, elem)?),
        Elem::I8 => Data::I8(ints(flat, elem)?),
        Elem::U8 => Data::U8(ints(flat, elem)?),
        Elem::Bool => Data::Bool(
            flat.iter()
                .map(|v| match v {
                    Val::Bool(b) => Ok(*b),
                    other => Err(format!("{} is no bool", other.show())),
                })
                .collect::<Result<_, _>>()?,
        ),
        Elem::F16 | Elem::Bf16 | Elem::Ternary | Elem::Sign => {
            return Err(format!("no constant has the element {}", elem.name()));
        }
    })
}

/// Lists one after the other.
pub(super) fn concat_lists<'a>(args: &[Val<'a>]) -> Option<Val<'a>> {
    let mut all = Vec::new();
    for arg in args {
        match arg {
            Val::List(values) if arg.is_static() => all.extend(values.iter().cloned()),
            _ => return None,
        }
    }
    Some(Val::list(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(op: BinaryOp, a: i128, b: i128) -> String {
        match binary(op, &Val::Int(a), &Val::Int(b)) {
            Ok(value) => value.show(),
            Err(problem) => problem,
        }
    }

    #[test]
    fn floor_division_rounds_down_for_every_sign() {
        for (a, b, quotient, rest) in [(7, 2, "3", "1"), (-7, 2, "-4", "1"), (7, -2, "-4", "-1"), (-7, -2, "3", "-1")] {
            assert_eq!(int(BinaryOp::FloorDivide, a, b), quotient);
            assert_eq!(int(BinaryOp::Remainder, a, b), rest);
        }
    }

    #[test]
    fn overflow_is_a_problem_not_a_wrap() {
        assert_eq!(int(BinaryOp::Multiply, i128::MAX, 2), OVERFLOW);
        assert_eq!(int(BinaryOp::Power, 10, 1 << 40), OVERFLOW);
        assert_eq!(int(BinaryOp::ShiftLeft, 1, 200), "a shift by 200");
        assert_eq!(int(BinaryOp::Power, 2, -1), "0.5");
    }

    #[test]
    fn abbreviated_numbers_are_within_five_percent() {
        let about =
            |text: &str, n: i128| static_function("about", &[Val::text(text), Val::Int(n)]).unwrap().unwrap().show();
        assert_eq!(about("350M", 349_000_000), "true");
        assert_eq!(about("350M", 1_486_550_016), "false");
        assert_eq!(about("", 3), "true");
    }

    #[test]
    fn constants_take_the_element_they_meet() {
        let list = Val::list(vec![Val::Int(1), Val::Int(300)]);
        assert_eq!(literal(&list, None).unwrap().ty().elem, Elem::I32);
        assert_eq!(*literal(&list, Some(Elem::F32)).unwrap().data, Data::F32(vec![1.0, 300.0]));
        assert_eq!(literal(&list, Some(Elem::U8)).unwrap_err(), "300 does not fit u8");
    }
}
