//! The printed form of kernels and programs: what tests compare and `inspect` shows.

use std::fmt::{self, Write};

use super::ir::*;
use super::program::{Arg, Base, Count, Driver, Extent, LoopVar, Program, RowsId, Step, Work};

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params: Vec<String> = self
            .params
            .iter()
            .map(|param| {
                let kind = match param.kind {
                    ParamKind::Ro => "ro",
                    ParamKind::Rw => "rw",
                    ParamKind::Count => "count",
                };
                format!("{kind} {}", param.name)
            })
            .collect();
        writeln!(f, "kernel {}({}) {{", self.name, params.join(", "))?;
        block(f, self, &self.body, 1)?;
        writeln!(f, "}}")
    }
}

fn indent(f: &mut impl Write, depth: usize) -> fmt::Result {
    (0..depth).try_for_each(|_| f.write_str("  "))
}

fn typed(kernel: &Kernel, values: &[Value]) -> String {
    let names: Vec<String> = values.iter().map(|&value| format!("{value}:{}", kernel.ty(value))).collect();
    names.join(", ")
}

fn plain(values: &[Value]) -> String {
    let names: Vec<String> = values.iter().map(Value::to_string).collect();
    names.join(", ")
}

fn block(f: &mut fmt::Formatter<'_>, kernel: &Kernel, list: &Block, depth: usize) -> fmt::Result {
    for inst in &list.insts {
        indent(f, depth)?;
        if !inst.results.is_empty() {
            write!(f, "{} = ", typed(kernel, &inst.results))?;
        }
        match &inst.op {
            Op::Loop { step, body } => {
                let carried: Vec<String> = body.params[1..]
                    .iter()
                    .zip(&inst.args[2..])
                    .map(|(&param, init)| format!("{param}:{} = {init}", kernel.ty(param)))
                    .collect();
                write!(f, "loop {} = {} .. {} step {step}", body.params[0], inst.args[0], inst.args[1])?;
                writeln!(f, " [{}] {{", carried.join(", "))?;
                block(f, kernel, body, depth + 1)?;
                indent(f, depth)?;
                writeln!(f, "}}")?;
            }
            Op::If { then, otherwise } => {
                writeln!(f, "if {} {{", inst.args[0])?;
                block(f, kernel, then, depth + 1)?;
                indent(f, depth)?;
                writeln!(f, "}} else {{")?;
                block(f, kernel, otherwise, depth + 1)?;
                indent(f, depth)?;
                writeln!(f, "}}")?;
            }
            op => {
                f.write_str(&op_name(op))?;
                if !inst.args.is_empty() {
                    write!(f, " {}", plain(&inst.args))?;
                }
                writeln!(f)?;
            }
        }
    }
    if !list.yields.is_empty() {
        indent(f, depth)?;
        writeln!(f, "yield {}", plain(&list.yields))?;
    }
    Ok(())
}

/// The operation with its attributes, as printed before the operands.
pub fn op_name(op: &Op) -> String {
    let lower = |name: &dyn fmt::Debug| format!("{name:?}").to_lowercase();
    match op {
        Op::Param(index) => format!("param {index}"),
        Op::Count(index) => format!("count {index}"),
        Op::CountL(index) => format!("count.l {index}"),
        Op::Begin => "begin".into(),
        Op::End => "end".into(),
        Op::ConstF(bits) => format!("const.f {bits:#010x}"),
        Op::ConstI(value) => format!("const.i {value}"),
        Op::ConstS(bits) => format!("const.s {bits:#010x}"),
        Op::ConstN(value) => format!("const.n {value}"),
        Op::ConstL(value) => format!("const.l {value}"),
        Op::Iota => "iota".into(),
        Op::LaneMask => "lane_mask".into(),
        Op::MaskBits => "mask_bits".into(),
        Op::Stack(bytes) => format!("stack {bytes}"),
        Op::Load { mem, offset } => format!("load.{}{offset:+}", lower(mem)),
        Op::Store { mem, offset } => format!("store.{}{offset:+}", lower(mem)),
        Op::StoreFirst { mem, offset } => format!("store_first.{}{offset:+}", lower(mem)),
        Op::Offset(bytes) => format!("offset {bytes}"),
        Op::Index(bytes) => format!("index {bytes}"),
        Op::OffsetBy => "offset_by".into(),
        Op::Sqrt => "sqrt".into(),
        Op::Binary(binary) => lower(binary),
        Op::Shift(shift, amount) => format!("shift.{} {amount}", lower(shift)),
        Op::ShiftBy(shift) => format!("shift_by.{}", lower(shift)),
        Op::Compare(compare) => format!("cmp.{}", lower(compare)),
        Op::Select => "select".into(),
        Op::Cast => "cast".into(),
        Op::Convert => "convert".into(),
        Op::Extend(signed) => if *signed { "extend" } else { "extend.u" }.into(),
        Op::Truncate => "truncate".into(),
        Op::Splat => "splat".into(),
        Op::Reduce(reduce) => format!("reduce.{}", lower(reduce)),
        Op::AccZero => "acc_zero".into(),
        Op::Dot(mask) => format!("dot {mask:#04x}"),
        Op::DotSigned => "dot_signed".into(),
        Op::AccFold(shifts) => format!("acc_fold {shifts:?}"),
        Op::DotRows(dot) => format!(
            "dot_rows {} blocks={} tokens={} stride={}",
            lower(&dot.packing),
            dot.blocks,
            dot.tokens,
            dot.stride
        ),
        Op::FloatRows(rows) => format!(
            "float_rows {} columns={} row_stride={} tokens={} stride={}",
            lower(&rows.element),
            rows.columns,
            rows.row_stride,
            rows.tokens,
            rows.stride
        ),
        Op::Loop { .. } => "loop".into(),
        Op::If { .. } => "if".into(),
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "program weights={} scratch={} max_rows={}", self.weight_bytes, self.scratch_bytes, self.max_rows)?;
        for kernel in &self.kernels {
            write!(f, "\n{kernel}")?;
        }
        for entry in &self.entries {
            let Driver { name, input_bytes, output_bytes, state_bytes, .. } = entry;
            writeln!(f, "\nentry {name} in={input_bytes:?} out={output_bytes:?} state={state_bytes} {{")?;
            steps(f, self, &entry.steps, 1)?;
            writeln!(f, "}}")?;
        }
        Ok(())
    }
}

impl Driver {
    /// The driver's steps alone, as text; kernels are named as `program` names them.
    pub fn describe(&self, program: &Program) -> String {
        struct Steps<'a>(&'a Driver, &'a Program);
        impl fmt::Display for Steps<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                steps(f, self.1, &self.0.steps, 0)
            }
        }
        Steps(self, program).to_string()
    }
}

fn steps(f: &mut fmt::Formatter<'_>, program: &Program, list: &[Step], depth: usize) -> fmt::Result {
    for step in list {
        indent(f, depth)?;
        match step {
            Step::Launch { kernel, args, work } => {
                let name = program.kernels.get(kernel.0 as usize).map_or("?", |kernel| kernel.name.as_str());
                let args: Vec<String> = args.iter().map(arg).collect();
                writeln!(f, "{name}({}) {}", args.join(", "), units(work))?;
            }
            Step::LoadRows { into, offset } => writeln!(f, "{} = rows at scratch+{offset}", rows(*into))?,
            Step::Tally { rows: count, tally } => writeln!(f, "tally{tally} += {}", rows(*count))?,
            Step::IfRows { rows: count, body } => {
                writeln!(f, "if {} {{", rows(*count))?;
                steps(f, program, body, depth + 1)?;
                indent(f, depth)?;
                writeln!(f, "}}")?;
            }
            Step::Loop { var, first, end, rows: count, body } => {
                write!(f, "loop {} = {first} .. {end}", index(*var))?;
                if let Some(count) = count {
                    write!(f, " while {}", rows(*count))?;
                }
                writeln!(f, " {{")?;
                steps(f, program, body, depth + 1)?;
                indent(f, depth)?;
                writeln!(f, "}}")?;
            }
        }
    }
    Ok(())
}

fn rows(rows: RowsId) -> String {
    if rows == RowsId::CONTEXT { "rows".into() } else { format!("rows{}", rows.0) }
}

fn index(var: LoopVar) -> String {
    format!("i{}", var.0)
}

fn units(work: &Work) -> String {
    let mut text = format!("units={}", work.per);
    if let Some(count) = work.rows {
        write!(text, "*{}", rows(count)).expect("writing to a string");
    }
    if work.grain > 0 {
        write!(text, " grain={}", work.grain).expect("writing to a string");
    }
    if work.pieces > 0 {
        write!(text, " pieces={}", work.pieces).expect("writing to a string");
    }
    text
}

fn arg(arg: &Arg) -> String {
    match arg {
        Arg::Count(Count::Const(value)) => value.to_string(),
        Arg::Count(Count::Rows(count)) => rows(*count),
        Arg::Count(Count::StateStride) => "state_stride".into(),
        Arg::Count(Count::LoopVar(var)) => index(*var),
        Arg::Pointer { base, offset, scaled, extent } => {
            let base = match base {
                Base::Weights => "weights".into(),
                Base::State => "state".into(),
                Base::Scratch => "scratch".into(),
                Base::Input(index) => format!("input{index}"),
                Base::Output(index) => format!("output{index}"),
                Base::Position => "position".into(),
            };
            let terms: String = scaled.iter().map(|(var, stride)| format!("+{}*{stride}", index(*var))).collect();
            let extent = extent.map(|Extent { start, end }| format!(" in {start}..{end}")).unwrap_or_default();
            format!("{base}+{offset}{terms}{extent}")
        }
    }
}
