//! Speed of the row dot products, printed: `cargo test -p sterna-compiler speed -- --ignored --nocapture`.

use std::time::Instant;

use super::{Buffer, activations, bytes, levels};
use crate::kernel::build::Builder;
use crate::kernel::ir::{DotRows, Packing};
use crate::kernel::program::{KernelId, Program};
use crate::target::clif::jit::Jit;

/// Packed bytes per second for weights of about `size` bytes.
fn rate(packing: Packing, tokens: u32, size: usize, cpu: crate::target::cpu::Cpu, wide: bool) -> f64 {
    let blocks = 10;
    let mut b = Builder::new("rows");
    let (w, x, out) = (b.ro("w"), b.ro("x"), b.rw("out"));
    let (begin, end) = (b.begin(), b.end());
    let stride = blocks * 64 * packing.fields() as u32;
    b.for_each(begin, end, |b, group| {
        let w = b.index(w, group, 16 * 64 * i64::from(blocks));
        let totals = b.dot_rows(DotRows { packing, blocks, tokens, stride }, w, x);
        for (token, total) in totals.into_iter().enumerate() {
            let value = b.convert(total);
            b.store_f(out, 64 * token as i32, value);
        }
    });
    let program = Program { kernels: vec![b.finish()], row_counts: 1, ..Program::default() };
    let jit = Jit::with_forms(&program, cpu, wide).unwrap();
    let kernel = jit.kernel(KernelId(0)).unwrap();
    let group = 16 * 64 * blocks as usize;
    let groups = size / group;
    let weights = Buffer::new(&bytes(groups * group, 1));
    let x = Buffer::new(&activations((stride * tokens) as usize, 2));
    let mut out = Buffer::new(&[0; 256]);
    let table = [weights.bytes().as_ptr() as u64, x.bytes().as_ptr() as u64, out.bytes_mut().as_mut_ptr() as u64];
    let repeats = ((256 << 20) / (groups * group)).max(2);
    (0..3)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..repeats {
                // SAFETY: the table has the three buffers, which are as large as the range needs.
                unsafe { kernel(table.as_ptr(), 0, groups as i32) };
            }
            (repeats * groups * group) as f64 / start.elapsed().as_secs_f64() / 1e9
        })
        .fold(0.0, f64::max)
}

#[test]
#[ignore = "prints speeds, checks nothing"]
fn speed() {
    for packing in [Packing::Codes2, Packing::Bits1, Packing::Bytes8] {
        for tokens in [1, 2, 4] {
            for cpu in levels() {
                for wide in [false, true] {
                    if wide && !(cpu.has_wide() && packing == Packing::Codes2) {
                        continue;
                    }
                    let rates: Vec<String> = [400 << 10, 8 << 20, 256 << 20]
                        .map(|size| format!("{:6.1}", rate(packing, tokens, size, cpu, wide)))
                        .into();
                    println!(
                        "{packing:?} x{tokens} {:10}{} GB/s in L2, L3, memory: {}",
                        cpu.name(),
                        if wide { " wide" } else { "     " },
                        rates.join(" ")
                    );
                }
            }
        }
    }
}
