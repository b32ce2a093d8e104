//! Programs of real graphs, and the same changed at random, on memory that holds anything: what leaves a buffer when
//! it is run was not accepted.

use std::path::Path;

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::diagnostics::SourceFiles;
use crate::kernel::interp::memory::Trap;
use crate::kernel::ir::{Binary, Block, Inst, Op};
use crate::kernel::lower::{Options, lower};
use crate::kernel::program::{Arg, Count, Program, Step};
use crate::kernel::prove::{NotProven, Proven, prove};
use crate::kernel::run::{Buffers, Order, run};
use crate::lang::Library;
use crate::passes;

const MAX_ROWS: usize = 5;

/// The programs of the small graphs of the tests.
fn programs() -> Vec<(String, Program)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/files/run");
    let library = Library::with_directory(&folder).expect("they parse");
    let own: Vec<String> = std::fs::read_dir(&folder)
        .expect("the folder")
        .filter_map(|file| Some(file.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    let mut all = Vec::new();
    for name in library.presets(&mut SourceFiles::new()).expect("they parse") {
        if !own.iter().any(|model| name.split('/').next() == Some(model)) {
            continue;
        }
        let mut files = SourceFiles::new();
        let compiled = library.compile_preset(&mut files, &name, &Default::default());
        let mut module = compiled.unwrap_or_else(|e| panic!("{name}: {e:?}")).module;
        passes::run_pipeline(&mut module, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        let lowered = lower(&module, &Options { max_rows: MAX_ROWS, max_context: 48 });
        all.push((name, lowered.expect("it is lowered").program));
    }
    assert!(all.len() > 5);
    all
}

struct Noise(Xoshiro256PlusPlus);

impl Noise {
    fn below(&mut self, n: usize) -> usize {
        self.0.next_u32() as usize % n.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = self.below(from.len());
        from[index]
    }

    /// A buffer of so many bytes and its padding; each byte has only bits of the mask.
    fn bytes(&mut self, bytes: u64, mask: u8) -> Vec<u8> {
        let mut all = vec![0; (bytes as usize).next_multiple_of(64) + 64];
        self.0.fill_bytes(&mut all);
        all.iter_mut().for_each(|byte| *byte &= mask);
        all
    }
}

/// Calls each entry on noise. Padding must stay what it was.
fn run_on_noise(program: Proven<'_>, noise: &mut Noise, rows: usize, streams: bool) -> Result<(), Trap> {
    for entry in &program.entries {
        let rows64 = rows as u64;
        let (stride, blocks) = if streams { (entry.state_bytes, rows64) } else { (0, 1) };
        // Codes that every packing has.
        let weights = noise.bytes(program.weight_bytes, 0x55);
        let mut state = noise.bytes(entry.state_bytes * blocks, 0xff);
        let mut scratch = noise.bytes(program.scratch_bytes, 0xff);
        let position = noise.bytes(4 * rows64, 0xff);
        let inputs: Vec<Vec<u8>> = entry.input_bytes.iter().map(|bytes| noise.bytes(bytes * rows64, 0xff)).collect();
        let sizes: Vec<usize> = entry.output_bytes.iter().map(|&bytes| bytes as usize * rows).collect();
        let mut outputs: Vec<Vec<u8>> = sizes.iter().map(|&size| noise.bytes(size as u64, 0xff)).collect();
        let padding: Vec<Vec<u8>> = outputs.iter().zip(&sizes).map(|(bytes, &size)| bytes[size..].to_vec()).collect();
        let state_end = (entry.state_bytes * blocks) as usize;
        let behind = state[state_end..].to_vec();
        let buffers = Buffers {
            weights: &weights,
            state: &mut state,
            state_stride: stride,
            scratch: &mut scratch,
            inputs: inputs.iter().map(Vec::as_slice).collect(),
            outputs: outputs.iter_mut().map(Vec::as_mut_slice).collect(),
            position: &position,
            rows: rows as u32,
        };
        let order = noise.pick(&[Order::Whole, Order::ReversedChunks]);
        let found = run(program, entry, buffers, order);
        for ((bytes, &size), padding) in outputs.iter().zip(&sizes).zip(&padding) {
            assert_eq!(&bytes[size..], padding, "an output's padding");
        }
        assert_eq!(&state[state_end..], behind, "the state's padding");
        found?;
    }
    Ok(())
}

/// Runs what was accepted; says whether it stayed inside.
fn stays_inside(program: Proven<'_>, noise: &mut Noise) -> Result<(), Trap> {
    for rows in [1, 3, MAX_ROWS] {
        for streams in [false, true] {
            match run_on_noise(program, noise, rows, streams) {
                Err(trap) if trap.to_string().contains("leaves region") || trap.to_string().contains("not aligned") => {
                    return Err(trap);
                }
                // Noise as activations may overflow a dot product.
                _ => {}
            }
        }
    }
    Ok(())
}

#[test]
fn programs_stay_inside_whatever_memory_holds() {
    let mut noise = Noise(Xoshiro256PlusPlus::seed_from_u64(1));
    for (name, program) in programs() {
        let proven = prove(&program).unwrap_or_else(|e| panic!("{name}: {e}"));
        stays_inside(proven, &mut noise).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn what_leaves_a_buffer_was_not_accepted() {
    let mut noise = Noise(Xoshiro256PlusPlus::seed_from_u64(7));
    let (mut accepted, mut refused) = (0, 0);
    for (name, original) in programs() {
        for _ in 0..25 {
            let mut program = original.clone();
            let change = mutate(&mut program, &mut noise);
            match prove(&program) {
                Ok(proven) => {
                    accepted += 1;
                    stays_inside(proven, &mut noise).unwrap_or_else(|e| panic!("{name}: {change}: {e}"));
                }
                Err(NotProven::Accesses(_)) => refused += 1,
                Err(NotProven::Invalid(_)) => {}
            }
        }
    }
    assert!(accepted > 20 && refused > 20, "{accepted} accepted, {refused} refused");
}

/// Changes one number of a program; says which.
fn mutate(program: &mut Program, noise: &mut Noise) -> String {
    match noise.below(8) {
        0 => mutate_sizes(program, noise),
        1 => mutate_launch(program, noise),
        _ => mutate_kernel(program, noise),
    }
}

fn mutate_sizes(program: &mut Program, noise: &mut Noise) -> String {
    let entry = noise.below(program.entries.len());
    let entry = &mut program.entries[entry];
    let mut sizes = vec![&mut program.weight_bytes, &mut program.scratch_bytes, &mut entry.state_bytes];
    sizes.extend(entry.input_bytes.iter_mut().chain(&mut entry.output_bytes));
    let at = noise.below(sizes.len());
    *sizes[at] = *sizes[at] / 2 / 64 * 64;
    format!("size {at} is {}", sizes[at])
}

fn launches(steps: &mut [Step]) -> Vec<&mut Step> {
    let mut all = Vec::new();
    for step in steps {
        match step {
            Step::IfRows { body, .. } | Step::Loop { body, .. } => all.extend(launches(body)),
            Step::Launch { .. } => all.push(step),
            Step::LoadRows { .. } | Step::Tally { .. } => {}
        }
    }
    all
}

fn mutate_launch(program: &mut Program, noise: &mut Noise) -> String {
    let entry = noise.below(program.entries.len());
    let mut all = launches(&mut program.entries[entry].steps);
    let at = noise.below(all.len());
    let Step::Launch { kernel, args, work } = &mut *all[at] else { unreachable!("launches only") };
    let place = noise.below(args.len() + 1);
    match args.get_mut(place) {
        None => work.per += 1,
        Some(Arg::Count(Count::Const(n))) => *n += noise.pick(&[1, 64]),
        Some(Arg::Count(count)) => *count = Count::Const(noise.pick(&[1, 8])),
        Some(Arg::Pointer { offset, scaled, extent, .. }) => match (scaled.last_mut(), extent) {
            (Some((_, stride)), _) => *stride *= 2,
            (None, Some(extent)) if noise.below(2) == 0 => extent.end = extent.start + (extent.end - extent.start) / 2,
            _ => *offset += noise.pick(&[4, 64, 256]),
        },
    }
    format!("argument {place} of {kernel:?}: {:?} {work:?}", args.get(place))
}

fn mutate_kernel(program: &mut Program, noise: &mut Noise) -> String {
    loop {
        let kernel = noise.below(program.kernels.len());
        let kernel = &mut program.kernels[kernel];
        let count = count(&kernel.body);
        let mut left = noise.below(count);
        let inst = find(&mut kernel.body, &mut left).expect("there are so many");
        let before = inst.op.clone();
        if change(&mut inst.op, noise) {
            return format!("{}: {before:?} is {:?}", kernel.name, inst.op);
        }
    }
}

fn nested_mut(op: &mut Op) -> Vec<&mut Block> {
    match op {
        Op::Loop { body, .. } => vec![body],
        Op::If { then, otherwise } => vec![then, otherwise],
        _ => Vec::new(),
    }
}

fn count(block: &Block) -> usize {
    let inner = |inst: &Inst| crate::kernel::typing::nested(&inst.op).into_iter().map(count).sum::<usize>();
    block.insts.iter().map(|inst| 1 + inner(inst)).sum()
}

fn find<'b>(block: &'b mut Block, left: &mut usize) -> Option<&'b mut Inst> {
    for inst in &mut block.insts {
        if *left == 0 {
            return Some(inst);
        }
        *left -= 1;
        for inner in nested_mut(&mut inst.op) {
            if let Some(found) = find(inner, left) {
                return Some(found);
            }
        }
    }
    None
}

fn change(op: &mut Op, noise: &mut Noise) -> bool {
    match op {
        Op::ConstN(n) => *n = n.wrapping_add(noise.pick(&[1, -1, 16, -16, *n])),
        Op::ConstL(n) => *n += noise.pick(&[1, -1, 64]),
        Op::Offset(bytes) => *bytes += noise.pick(&[4, -4, 64, -64, 4096]),
        Op::Index(scale) => *scale = noise.pick(&[2 * *scale, *scale + 4, -*scale]),
        Op::Load { offset, .. } | Op::Store { offset, .. } | Op::StoreFirst { offset, .. } => {
            *offset += noise.pick(&[4, -4, 64, -64, 1024]);
        }
        Op::Loop { step, .. } => *step = noise.pick(&[2 * *step, *step + 1, (*step / 2).max(1)]),
        Op::Shift(_, amount) => *amount = noise.pick(&[amount.saturating_sub(1), (*amount + 1).min(31)]),
        Op::Stack(bytes) => *bytes = (*bytes / 2).max(1),
        Op::DotRows(dot) => *noise.pick_mut([&mut dot.blocks, &mut dot.stride]) *= 2,
        Op::FloatRows(rows) => *noise.pick_mut([&mut rows.columns, &mut rows.row_stride, &mut rows.stride]) *= 2,
        Op::Binary(binary) => {
            *binary = match binary {
                Binary::SMin => Binary::SMax,
                Binary::SMax => Binary::SMin,
                Binary::UDiv => Binary::URem,
                Binary::URem => Binary::UDiv,
                _ => return false,
            };
        }
        _ => return false,
    }
    true
}

impl Noise {
    fn pick_mut<'n, const N: usize>(&mut self, from: [&'n mut u32; N]) -> &'n mut u32 {
        let at = self.below(N);
        from.into_iter().nth(at).expect("one of them")
    }
}
