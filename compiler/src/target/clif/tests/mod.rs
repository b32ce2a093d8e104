//! Compiled kernels against the kernel interpreter, bit for bit, on every processor level that runs here.

mod dots;
mod kernels;
mod ops;
mod programs;
mod random;
mod rows;
mod speed;

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::jit::Jit;
use crate::kernel::interp::memory::{Memory, Pointer, Region};
use crate::kernel::interp::{self, Slot};
use crate::kernel::ir::{Kernel, ParamKind};
use crate::kernel::program::{KernelId, Program};
use crate::target::cpu::Cpu;

/// 64-byte-aligned bytes with the padding that the ABI promises.
#[derive(Clone)]
pub struct Buffer {
    lines: Vec<Line>,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u8; 64]);

impl Buffer {
    pub fn new(bytes: &[u8]) -> Buffer {
        let mut lines = vec![Line([0x5a; 64]); bytes.len().div_ceil(64) + 1];
        for (line, chunk) in lines.iter_mut().zip(bytes.chunks(64)) {
            line.0[..chunk.len()].copy_from_slice(chunk);
        }
        Buffer { lines }
    }

    pub fn of_floats(values: &[f32]) -> Buffer {
        Buffer::new(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
    }

    pub fn bytes(&self) -> &[u8] {
        self.lines.as_flattened_bytes()
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let (pointer, length) = (self.lines.as_mut_ptr(), self.lines.len() * 64);
        // SAFETY: lines are plain bytes without padding, borrowed for as long as the slice.
        unsafe { std::slice::from_raw_parts_mut(pointer.cast(), length) }
    }

    pub fn words(&self) -> impl Iterator<Item = u32> {
        self.bytes().chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()))
    }
}

trait Flat {
    fn as_flattened_bytes(&self) -> &[u8];
}

impl Flat for Vec<Line> {
    fn as_flattened_bytes(&self) -> &[u8] {
        // SAFETY: lines are plain bytes without padding, borrowed for as long as the slice.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.len() * 64) }
    }
}

/// What a parameter is given.
#[derive(Clone)]
pub enum Input {
    Bytes(Buffer),
    Count(i64),
}

/// Words that must be equal, or both NaN.
fn compare(name: &str, at: &str, expected: &Buffer, got: &Buffer) {
    let nan = |word: u32| f32::from_bits(word).is_nan();
    for (index, (a, b)) in expected.words().zip(got.words()).enumerate() {
        assert!(a == b || (nan(a) && nan(b)), "{name}, {at}, word {index}: {a:#010x} expected, got {b:#010x}");
    }
}

/// A kernel compiled for every level and form that runs here.
pub struct Compiled {
    kernel: Kernel,
    forms: Vec<(String, Jit)>,
}

impl Compiled {
    pub fn new(kernel: Kernel) -> Compiled {
        if let Err(problems) = crate::kernel::verify::verify(&kernel) {
            panic!("{problems:?}\n{kernel}");
        }
        let program = Program { kernels: vec![kernel.clone()], row_counts: 1, ..Program::default() };
        let mut forms = Vec::new();
        for cpu in Cpu::here() {
            for wide in [false, true] {
                if wide && !cpu.has_wide() {
                    continue;
                }
                let name = format!("{}{}", cpu.name(), if wide { " wide" } else { "" });
                let jit = Jit::with_forms(&program, cpu, wide).unwrap_or_else(|error| panic!("{name}: {error}"));
                // Forms without assembled parts are the same code twice.
                if !wide || jit.report.wide_forms > 0 {
                    forms.push((name, jit));
                }
            }
        }
        Compiled { kernel, forms }
    }

    /// Runs the interpreter, then every form; all must leave the same buffers. Gives the interpreter's.
    pub fn check(&self, inputs: &[Input], begin: i32, end: i32) -> Vec<Input> {
        let kernel = &self.kernel;
        let mut expected = inputs.to_vec();
        let mut slots = Vec::new();
        let mut memory = Memory::default();
        for (input, param) in expected.iter_mut().zip(&kernel.params) {
            slots.push(match input {
                Input::Count(count) => Slot::Count(*count),
                Input::Bytes(buffer) => {
                    let region = match param.kind {
                        ParamKind::Rw => Region::Rw(buffer.bytes_mut()),
                        _ => Region::Ro(buffer.bytes()),
                    };
                    memory.regions.push(region);
                    Slot::Pointer(Pointer { region: memory.regions.len() - 1, offset: 0 })
                }
            });
        }
        interp::run(kernel, &mut memory, &slots, begin, end).unwrap_or_else(|trap| panic!("{trap}\n{kernel}"));
        for (name, jit) in &self.forms {
            let mut got = inputs.to_vec();
            let table: Vec<u64> = got
                .iter_mut()
                .map(|input| match input {
                    Input::Count(count) => *count as u64,
                    Input::Bytes(buffer) => buffer.bytes_mut().as_mut_ptr() as u64,
                })
                .collect();
            let function = jit.kernel(KernelId(0)).unwrap();
            // SAFETY: the table has a slot per parameter, and the interpreter saw that accesses stay inside.
            unsafe { function(table.as_ptr(), begin, end) };
            for (index, pair) in expected.iter().zip(&got).enumerate() {
                if let (Input::Bytes(a), Input::Bytes(b)) = pair {
                    compare(&kernel.name, &format!("{name} buffer {index}"), a, b);
                }
            }
        }
        expected
    }
}

/// The three kinds of float content: normal; denormals, zeros and the smallest normal mixed in; NaN payloads,
/// infinities and random bits.
#[derive(Clone, Copy, Debug)]
pub enum Image {
    Normal,
    Denormal,
    Wild,
}

impl Image {
    pub const ALL: [Image; 3] = [Image::Normal, Image::Denormal, Image::Wild];

    pub fn floats(self, count: usize, seed: u64) -> Vec<f32> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        (0..count).map(|_| self.float(&mut rng)).collect()
    }

    fn float(self, rng: &mut Xoshiro256PlusPlus) -> f32 {
        let bits = rng.next_u32();
        let normal = (bits as i32 as f32) / (1u32 << 30) as f32 * 3.0;
        match (self, rng.next_u32() % 8) {
            (Image::Denormal, 0) => f32::from_bits(bits & 0x807f_ffff),
            (Image::Denormal, 1) => f32::from_bits(bits & 0x8000_0000),
            (Image::Denormal, 2) => f32::from_bits(bits & 0x8000_0000 | 0x0080_0000),
            (Image::Wild, 0) => f32::from_bits(bits | 0x7f80_0000),
            (Image::Wild, 1) => f32::from_bits(bits & 0x8000_0000 | 0x7f80_0000),
            (Image::Wild, 2) => f32::from_bits(bits),
            _ => normal,
        }
    }
}

/// Deterministic bytes.
pub fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; count];
    Xoshiro256PlusPlus::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// Deterministic activations in [-127, 127].
pub fn activations(count: usize, seed: u64) -> Vec<u8> {
    bytes(count, seed).into_iter().map(|byte| (byte as i8).max(-127) as u8).collect()
}
