//! Speed of the row products, printed:
//! `cargo test --release -p sterna-compiler --lib speed -- --ignored --nocapture`.

use std::time::Instant;

use super::{Buffer, activations, bytes};
use crate::kernel::build::Builder;
use crate::kernel::ir::{DotRows, FloatRows, Packing, RowElement, Rows};
use crate::kernel::program::{KernelId, Program};
use crate::target::clif::jit::Jit;
use crate::target::cpu::Cpu;
use crate::target::wide;

/// A product with the packed bytes and the weights of a 16-row group.
#[derive(Clone, Copy)]
struct Case {
    rows: Rows,
    bytes: usize,
    weights: usize,
}

fn dot(packing: Packing, tokens: u32) -> Case {
    let blocks = 10;
    let columns = blocks as usize * packing.block_weights();
    let rows = Rows::Dot(DotRows { packing, blocks, tokens, stride: columns as u32 });
    Case { rows, bytes: packing.packed_bytes(16, columns), weights: 16 * columns }
}

fn float(element: RowElement, tokens: u32) -> Case {
    let columns = 1280;
    let row_stride = (columns as usize / 16 * element.strip_bytes()) as u32;
    let rows = Rows::Float(FloatRows { element, columns, row_stride, tokens, stride: 4 * columns });
    Case { rows, bytes: 16 * row_stride as usize, weights: 16 * columns as usize }
}

/// Groups per second for weights of about `size` bytes.
fn rate(case: Case, size: usize, cpu: Cpu, wide: bool) -> f64 {
    let mut b = Builder::new("rows");
    let (w, x, out) = (b.ro("w"), b.ro("x"), b.rw("out"));
    let (begin, end) = (b.begin(), b.end());
    b.for_each(begin, end, |b, group| {
        let w = b.index(w, group, case.bytes as i64);
        let totals = match case.rows {
            Rows::Dot(dot) => b.dot_rows(dot, w, x).into_iter().map(|total| b.convert(total)).collect(),
            Rows::Float(float) => b.float_rows(float, w, x),
        };
        for (token, total) in totals.into_iter().enumerate() {
            b.store_f(out, 64 * token as i32, total);
        }
    });
    let program = Program { kernels: vec![b.finish()], row_counts: 1, ..Program::default() };
    let jit = Jit::with_forms(&program, cpu, wide).unwrap();
    let kernel = jit.kernel(KernelId(0)).unwrap();
    let groups = size / case.bytes;
    let weights = Buffer::new(&bytes(groups * case.bytes, 1));
    let x = match case.rows {
        Rows::Dot(dot) => Buffer::new(&activations((dot.stride * dot.tokens) as usize, 2)),
        Rows::Float(float) => Buffer::of_floats(&vec![0.5; (float.stride / 4 * float.tokens) as usize]),
    };
    let mut out = Buffer::new(&[0; 256]);
    let table = [weights.bytes().as_ptr() as u64, x.bytes().as_ptr() as u64, out.bytes_mut().as_mut_ptr() as u64];
    let repeats = ((64 << 20) / (groups * case.bytes)).max(2);
    (0..3)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..repeats {
                // SAFETY: the table has the three buffers, which are as large as the range needs.
                unsafe { kernel(table.as_ptr(), 0, groups as i32) };
            }
            (repeats * groups) as f64 / start.elapsed().as_secs_f64()
        })
        .fold(0.0, f64::max)
}

#[test]
#[ignore = "prints speeds, checks nothing"]
fn speed() {
    for tokens in [1, 2, 4] {
        let dots = [Packing::Codes2, Packing::Bits1, Packing::Bytes8].map(|p| (format!("{p:?}"), dot(p, tokens)));
        let elements = [RowElement::Sign, RowElement::F32, RowElement::F16, RowElement::Bf16];
        let floats = elements.map(|e| (format!("{e:?}"), float(e, tokens)));
        for (name, case) in dots.into_iter().chain(floats) {
            for cpu in Cpu::here() {
                for wide in [false, true] {
                    if wide && !(cpu.has_wide() && wide::has_form(case.rows)) {
                        continue;
                    }
                    let rates = [400 << 10, 8 << 20, 128 << 20].map(|size| rate(case, size, cpu, wide));
                    let bytes = rates.map(|rate| format!("{:6.1}", rate * case.bytes as f64 / 1e9));
                    let products = rates[0] * f64::from(tokens) * case.weights as f64 / 1e9;
                    println!(
                        "{name:7} x{tokens} {:10}{} GB/s in L2, L3, memory: {}, {products:6.1} G products/s",
                        cpu.name(),
                        if wide { " wide" } else { "     " },
                        bytes.join(" ")
                    );
                }
            }
        }
    }
}
