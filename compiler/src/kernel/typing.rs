//! The types that each operation takes and gives: one table for the builder and the verifier.

use super::ir::{Binary, Block, Compare, Kernel, MAX_TOKENS, Mem, Op, Packing, ParamKind, Reduce, Type, Value};
use crate::limits::Limits;

/// The result types of `op` on operands of the given types, or what is wrong with them.
///
/// The blocks of a loop or conditional are not looked into here beyond their yields and parameters.
pub fn result_types(kernel: &Kernel, op: &Op, args: &[Value]) -> Result<Vec<Type>, String> {
    use Type::*;
    let types: Vec<Type> = args.iter().map(|&arg| kernel.ty(arg)).collect();
    let fixed = |expected: &[Type], result: Option<Type>| {
        if types == expected {
            Ok(result.into_iter().collect())
        } else {
            Err(format!("takes {}, got {}", list(expected), list(&types)))
        }
    };
    let wrong = |expected: &str| Err(format!("takes {expected}, got {}", list(&types)));
    match op {
        Op::Param(index) => match kernel.params.get(*index as usize) {
            Some(param) if param.kind != ParamKind::Count => fixed(&[], Some(P)),
            _ => Err(format!("parameter {index} is not a pointer")),
        },
        Op::Count(index) | Op::CountL(index) => match kernel.params.get(*index as usize) {
            Some(param) if param.kind == ParamKind::Count => {
                fixed(&[], Some(if matches!(op, Op::Count(_)) { N } else { L }))
            }
            _ => Err(format!("parameter {index} is not a count")),
        },
        Op::Begin | Op::End | Op::ConstN(_) => fixed(&[], Some(N)),
        Op::ConstF(_) => fixed(&[], Some(F)),
        Op::ConstI(_) | Op::Iota => fixed(&[], Some(I)),
        Op::ConstS(_) => fixed(&[], Some(S)),
        Op::ConstL(_) => fixed(&[], Some(L)),
        Op::LaneMask | Op::MaskBits => fixed(&[N], Some(I)),
        Op::Stack(bytes) => match bytes {
            1..=65536 => fixed(&[], Some(P)),
            _ => Err("a stack buffer has 1 to 65536 bytes".into()),
        },
        Op::Load { mem, .. } => fixed(&[P], Some(mem.ty())),
        Op::Store { mem, .. } if mem.storable() => fixed(&[P, mem.ty()], None),
        Op::StoreFirst { mem, .. } if mem.storable_in_part() => fixed(&[P, mem.ty(), N], None),
        Op::Store { .. } | Op::StoreFirst { .. } => Err("this form cannot be stored so".into()),
        Op::Offset(_) => fixed(&[P], Some(P)),
        Op::Index(_) => fixed(&[P, N], Some(P)),
        Op::OffsetBy => fixed(&[P, L], Some(P)),
        Op::Sqrt => match types[..] {
            [t @ (F | S)] => Ok(vec![t]),
            _ => wrong("F or S"),
        },
        Op::Binary(binary) => {
            let ok = |t| match binary {
                Binary::Add | Binary::Sub | Binary::Mul => matches!(t, F | S | I | N | L),
                Binary::Div | Binary::PMin | Binary::PMax => matches!(t, F | S),
                Binary::SMin | Binary::SMax | Binary::And | Binary::Or | Binary::Xor => {
                    matches!(t, I | N | L)
                }
                Binary::UDiv | Binary::URem => matches!(t, N | L),
            };
            match types[..] {
                [a, b] if a == b && ok(a) => Ok(vec![a]),
                _ => wrong("two equal operands of a type it is defined for"),
            }
        }
        Op::Shift(_, amount) => match types[..] {
            [t @ (I | N)] if *amount < 32 => Ok(vec![t]),
            [L] if *amount < 64 => Ok(vec![L]),
            _ => wrong("I, N or L, and an amount below its width"),
        },
        Op::ShiftBy(_) => match types[..] {
            [t @ (I | N | L), N] => Ok(vec![t]),
            _ => wrong("I, N or L, and an N"),
        },
        Op::Compare(compare) => match types[..] {
            [F, F] if !matches!(compare, Compare::LtU | Compare::LeU) => Ok(vec![I]),
            [S, S] if !matches!(compare, Compare::LtU | Compare::LeU) => Ok(vec![N]),
            [I, I] => Ok(vec![I]),
            [N, N] | [L, L] => Ok(vec![N]),
            _ => wrong("two equal operands of a type it is defined for"),
        },
        Op::Select => match types[..] {
            [I, a @ (F | I), b] | [N, a @ (S | N | L | P), b] if a == b => Ok(vec![a]),
            _ => wrong("a mask and two equal vectors, or a condition and two equal scalars"),
        },
        Op::Cast => match types[..] {
            [F] => Ok(vec![I]),
            [I] => Ok(vec![F]),
            [S] => Ok(vec![N]),
            [N] => Ok(vec![S]),
            _ => wrong("F, I, S or N"),
        },
        Op::Convert => match types[..] {
            [I] => Ok(vec![F]),
            [N] => Ok(vec![S]),
            _ => wrong("I or N"),
        },
        Op::Extend(_) => fixed(&[N], Some(L)),
        Op::Truncate => fixed(&[L], Some(N)),
        Op::Splat => match types[..] {
            [S] => Ok(vec![F]),
            [N] => Ok(vec![I]),
            _ => wrong("S or N"),
        },
        Op::Reduce(reduce) => match reduce {
            Reduce::Add | Reduce::PMin | Reduce::PMax => fixed(&[F], Some(S)),
            Reduce::IAdd | Reduce::IMin | Reduce::IMax => fixed(&[I], Some(N)),
        },
        Op::AccZero => fixed(&[], Some(A)),
        Op::Dot(mask) => {
            let field = [0x03, 0x0c, 0x30, 0xc0].contains(mask) || mask.is_power_of_two();
            if field { fixed(&[A, B, B], Some(A)) } else { Err(format!("mask {mask:#04x} is not a field")) }
        }
        Op::DotSigned => fixed(&[A, B, B], Some(A)),
        Op::AccFold(shifts) => {
            if types.is_empty() || shifts.len() != types.len() || types.iter().any(|&t| t != A) {
                return wrong("as many accumulators as shifts");
            }
            if shifts.iter().any(|&s| s > 7) {
                return Err("a shift is at most 7".into());
            }
            Ok(vec![N])
        }
        Op::DotRows(dot) => {
            if dot.tokens == 0 || dot.tokens > MAX_TOKENS {
                return Err(format!("1 to {MAX_TOKENS} tokens"));
            }
            if dot.stride % 64 != 0 {
                return Err("the stride is a multiple of 64".into());
            }
            let weights = u64::from(dot.blocks) * dot.packing.block_weights() as u64;
            if weights > max_dot_weights(dot.packing) {
                return Err(format!("{weights} weights in a row may overflow an i32 total"));
            }
            fixed(&[P, P], None).map(|_| vec![I; dot.tokens as usize])
        }
        Op::FloatRows(rows) => {
            if rows.tokens == 0 || rows.tokens > MAX_TOKENS {
                return Err(format!("1 to {MAX_TOKENS} tokens"));
            }
            if rows.stride % 4 != 0 {
                return Err("the stride is a multiple of 4".into());
            }
            // Displacements inside a group are immediates of the assembled form.
            if rows.row_stride > MAX_STRIDE || rows.stride > MAX_STRIDE {
                return Err(format!("rows and vectors are at most {MAX_STRIDE} bytes apart"));
            }
            fixed(&[P, P], None).map(|_| vec![F; rows.tokens as usize])
        }
        Op::Loop { step, body } => {
            if *step <= 0 {
                return Err("the step is positive".into());
            }
            if types.len() < 2 || types[..2] != [N, N] {
                return wrong("N, N and the initial values");
            }
            let carried = types[2..].to_vec();
            if carried.contains(&B) {
                return Err("B values are not carried".into());
            }
            let params = block_types(kernel, &body.params);
            if params.first() != Some(&N) || params[1..] != carried {
                return Err("the body's parameters are the index and the carried values".into());
            }
            if block_types(kernel, &body.yields) != carried {
                return Err("the body yields the carried values".into());
            }
            Ok(carried)
        }
        Op::If { then, otherwise } => {
            if types != [N] {
                return wrong("N");
            }
            let yields = block_types(kernel, &then.yields);
            if !then.params.is_empty() || !otherwise.params.is_empty() {
                return Err("the branches have no parameters".into());
            }
            if block_types(kernel, &otherwise.yields) != yields {
                return Err("both branches yield the same types".into());
            }
            Ok(yields)
        }
    }
}

/// The most bytes from one row or vector of a float product to the next.
pub const MAX_STRIDE: u32 = Limits::DEFAULT.row as u32;

/// The most weights of one dot product whose i32 accumulators cannot overflow. Every field has its own
/// accumulator and the highest weighs 128 times an activation of at most 127.
pub fn max_dot_weights(packing: Packing) -> u64 {
    match packing {
        Packing::Codes2 | Packing::Bits1 => Limits::DEFAULT.code_columns as u64,
        Packing::Bytes8 => Limits::DEFAULT.byte_columns as u64,
    }
}

fn block_types(kernel: &Kernel, values: &[Value]) -> Vec<Type> {
    values.iter().map(|&value| kernel.ty(value)).collect()
}

fn list(types: &[Type]) -> String {
    let names: Vec<String> = types.iter().map(Type::to_string).collect();
    format!("[{}]", names.join(", "))
}

/// The blocks nested in an operation.
pub fn nested(op: &Op) -> Vec<&Block> {
    match op {
        Op::Loop { body, .. } => vec![body],
        Op::If { then, otherwise } => vec![then, otherwise],
        _ => Vec::new(),
    }
}

/// Whether the operation writes memory by itself.
pub fn stores(op: &Op) -> Option<Mem> {
    match op {
        Op::Store { mem, .. } | Op::StoreFirst { mem, .. } => Some(*mem),
        _ => None,
    }
}
