//! Programs against the interpreter: the same graphs, bit for bit, with any number of rows.

mod blocks;
mod control;
mod heads;
mod operations;
mod presets;
mod recurrent;

use std::collections::HashMap;
use std::sync::Arc;

use super::state::Fill;
use super::{Lowered, Options, Port, lower};
use crate::interp::{Arguments, CodedWeight, Interpreter, MemoryWeights, StreamState, Tensor};
use crate::interp::{InterpError, WeightStore, WeightValue};
use crate::ir::read::read_module;
use crate::ir::verify::verify;
use crate::ir::{Data, Elem, Encoding, Module, ParamKind, WeightSource};
use crate::kernel::prove::{Proven, prove};
use crate::kernel::run::{Buffers, Order, run};
use crate::numerics::narrow;
use crate::passes;
use crate::weights::layout::pack;
use crate::weights::{MatrixShape, WeightValue as Packable, group_of};

/// Numbers that look random, the same each time.
pub struct Noise(u64);

impl Noise {
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as u32
    }

    /// In -2 .. 2, sometimes large or zero.
    fn float(&mut self) -> f32 {
        let x = (self.bits() % 4001) as f32 / 1000.0 - 2.0;
        match self.bits() % 17 {
            0 => x * 40.0,
            1 => 0.0,
            _ => x,
        }
    }
}

fn read(text: &str) -> Module {
    let module = read_module(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    verify(&module).unwrap_or_else(|e| panic!("{e}"));
    module
}

/// Random weights, as the interpreter and as the packer take them.
fn random_weights(module: &Module, noise: &mut Noise) -> (HashMap<String, WeightValue>, Vec<Packable>) {
    let mut values = HashMap::new();
    let mut packable = Vec::new();
    for weight in &module.weights {
        assert!(matches!(weight.source, WeightSource::Checkpoint));
        let matrix = MatrixShape::of(&weight.shape);
        let n = weight.elements();
        match group_of(&weight.encoding) {
            None => {
                let v: Vec<f32> = (0..n)
                    .map(|_| match weight.encoding {
                        Encoding::Bf16 => narrow::bf16(noise.float()),
                        Encoding::F16 => narrow::f16(noise.float()),
                        _ => noise.float(),
                    })
                    .collect();
                let tensor = Tensor::f32(&weight.shape, v.clone());
                values.insert(weight.path.clone(), WeightValue::Dense(tensor));
                packable.push(Packable::Dense(v));
            }
            Some(group) => {
                let sign = weight.encoding.elem() == Elem::Sign;
                let codes: Vec<i8> = (0..n)
                    .map(|_| {
                        let code = (noise.bits() % 3) as i8 - 1;
                        if sign && code == 0 { 1 } else { code }
                    })
                    .collect();
                let scales: Vec<f32> =
                    (0..matrix.scales(group)).map(|_| narrow::bf16(noise.float().abs() + 0.01)).collect();
                let coded = CodedWeight::new(&weight.shape, codes.clone(), scales.clone(), group);
                let coded = coded.expect("the counts agree");
                values.insert(weight.path.clone(), WeightValue::Coded(Arc::new(coded)));
                packable.push(Packable::Codes { codes, scales });
            }
        }
    }
    (values, packable)
}

fn image(lowered: &Lowered, values: &[Packable]) -> Vec<u8> {
    let section = &lowered.weights.section;
    let mut image = vec![0; section.bytes];
    for ((value, &layout), &offset) in values.iter().zip(&section.layouts).zip(&section.offsets) {
        pack(value, layout, &mut image[offset..offset + layout.bytes()]);
    }
    image.extend(lowered.weights.tail());
    image
}

/// Fresh state blocks.
fn blocks(lowered: &Lowered, group: usize, count: usize, image: &[u8]) -> Vec<u8> {
    let group = &lowered.states.groups[group];
    let size = group.bytes.next_multiple_of(64) as usize;
    let mut memory = vec![0xa5; size * count + 128];
    for block in 0..count {
        for reset in &group.resets {
            let target = &mut memory[block * size + reset.offset as usize..][..reset.bytes as usize];
            match &reset.fill {
                Fill::Zero => target.fill(0),
                Fill::Pattern(p) => target.chunks_mut(p.len()).for_each(|c| c.copy_from_slice(p)),
                Fill::Weights(at) => target.copy_from_slice(&image[*at as usize..][..target.len()]),
            }
        }
    }
    memory
}

fn put(data: &Data, from: usize, n: usize, out: &mut [u8]) {
    match data {
        Data::F32(v) => bytes(&v[from..][..n], out, |x| x.to_le_bytes()),
        Data::I32(v) => bytes(&v[from..][..n], out, |x| x.to_le_bytes()),
        Data::U32(v) => bytes(&v[from..][..n], out, |x| x.to_le_bytes()),
        Data::U64(v) => bytes(&v[from..][..n], out, |x| x.to_le_bytes()),
        Data::I8(v) => bytes(&v[from..][..n], out, |x| x.to_le_bytes()),
        Data::U8(v) => bytes(&v[from..][..n], out, |x| x.to_le_bytes()),
        Data::Bool(v) => bytes(&v[from..][..n], out, |x| [u8::from(x)]),
    }
}

fn bytes<T: Copy, const N: usize>(v: &[T], out: &mut [u8], f: impl Fn(T) -> [u8; N]) {
    for (out, &x) in out.chunks_exact_mut(N).zip(v) {
        out.copy_from_slice(&f(x));
    }
}

fn get(port: &Port, row: &[u8]) -> Vec<u64> {
    let n: usize = port.shape.iter().product();
    let size = port.elem.bytes().expect("an element of memory");
    row[..n * size].chunks_exact(size).map(|c| c.iter().rev().fold(0, |x, &b| x << 8 | u64::from(b))).collect()
}

/// The elements of an output as bits, NaN made one.
fn bits(t: &Tensor) -> Vec<u64> {
    match &*t.data {
        Data::F32(v) => v.iter().map(|x| u64::from(x.to_bits())).collect(),
        Data::I32(v) => v.iter().map(|&x| u64::from(x as u32)).collect(),
        Data::U32(v) => v.iter().map(|&x| u64::from(x)).collect(),
        Data::U64(v) => v.clone(),
        Data::I8(v) => v.iter().map(|&x| u64::from(x as u8)).collect(),
        Data::U8(v) => v.iter().map(|&x| u64::from(x)).collect(),
        Data::Bool(v) => v.iter().map(|&x| u64::from(x)).collect(),
    }
}

fn same(elem: Elem, a: u64, b: u64) -> bool {
    let nan = |x: u64| f32::from_bits(x as u32).is_nan();
    a == b || elem == Elem::F32 && nan(a) && nan(b)
}

/// How a test's steps are run.
#[derive(Clone, Copy, Debug)]
enum Mode {
    /// So many steps of one stream per call.
    Steps(usize),
    /// Two streams side by side, one step each per call.
    Streams,
}

/// A program on memory of its own.
struct Machine<'a> {
    module: &'a Module,
    lowered: &'a Lowered,
    program: Proven<'a>,
    image: Vec<u8>,
    scratch: Vec<u8>,
}

impl Machine<'_> {
    /// One call on rows given by stream and step. Gives the outputs' rows.
    fn call(
        &mut self,
        entry: usize,
        state: &mut [u8],
        stride: u64,
        inputs: &[Vec<Tensor>],
        rows: &[(usize, usize)],
        order: Order,
    ) -> Vec<Vec<Vec<u64>>> {
        let places = rows;
        let rows = places.len();
        let ports = &self.lowered.inputs[entry];
        let mut buffers = Vec::new();
        for (i, port) in ports.iter().enumerate() {
            let n: usize = port.shape.iter().product();
            let mut buffer = vec![0x7f; (port.stride as usize * rows).next_multiple_of(64) + 64];
            for (row, &(stream, step)) in places.iter().enumerate() {
                let target = &mut buffer[row * port.stride as usize..];
                put(&inputs[stream][i].data, step * n, n, target);
            }
            buffers.push(buffer);
        }
        let outputs = &self.lowered.outputs[entry];
        let mut results: Vec<Vec<u8>> = outputs.iter().map(|p| vec![0xee; p.stride as usize * rows + 64]).collect();
        let mut position = vec![0; (rows * 4).next_multiple_of(64) + 64];
        let steps: Vec<i32> = places.iter().map(|p| p.1 as i32).collect();
        bytes(&steps, &mut position, |x| x.to_le_bytes());
        let status = run(
            self.program,
            &self.lowered.program.entries[entry],
            Buffers {
                weights: &self.image,
                state,
                state_stride: stride,
                scratch: &mut self.scratch,
                inputs: buffers.iter().map(|b| &b[..]).collect(),
                outputs: results.iter_mut().map(|b| &mut b[..]).collect(),
                position: &position,
                rows: rows as u32,
            },
            order,
        )
        .unwrap_or_else(|trap| panic!("{trap:?}\n{}", crate::ir::print::print_module(self.module)));
        assert_eq!(status, 0, "{:?}", self.lowered.messages);
        let rows = 0..rows;
        rows.map(|row| {
            let pairs = outputs.iter().zip(&results);
            pairs.map(|(p, bytes)| get(p, &bytes[row * p.stride as usize..])).collect()
        })
        .collect()
    }
}

/// Runs the first entry of a step-form module, interpreted and compiled, on random weights and inputs.
fn check(text: &str) {
    check_with(text, 37, &mut Noise(1), |noise, _, n| {
        Tensor::f32(&[n], (0..n).map(|_| noise.float()).collect::<Vec<f32>>())
    });
}

fn check_with(
    text: &str,
    steps: usize,
    noise: &mut Noise,
    make: impl Fn(&mut Noise, &crate::ir::Param, usize) -> Tensor,
) {
    let module = read(text);
    let (values, packable) = random_weights(&module, noise);
    let store = MemoryWeights::new(&module, values).expect("all weights");
    // Two streams, to be run side by side.
    let mut inputs: Vec<Vec<Tensor>> = Vec::new();
    for _ in 0..2 {
        let params = &module.entries[0].params;
        inputs.push(
            params
                .iter()
                .map(|param| {
                    let shape = param.ty.constant_shape().expect("constant inputs");
                    let n = steps * shape.iter().product::<usize>();
                    let mut tensor = match param.kind {
                        ParamKind::Position => Tensor::i32(&[steps], (0..steps as i32).collect::<Vec<_>>()),
                        _ => make(noise, param, n),
                    };
                    tensor.shape = [vec![steps], shape].concat();
                    tensor
                })
                .collect(),
        );
    }
    let expected: Vec<Vec<Vec<Vec<u64>>>> =
        inputs.iter().map(|inputs| interpreted(&module, &store, inputs, steps)).collect();
    for fused in [false, true] {
        let mut lifted = module.clone();
        let until = if fused { None } else { Some("quantise") };
        passes::run_pipeline(&mut lifted, until).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let (mut all, mut pack) = (Vec::new(), packable.clone());
        for (i, weight) in lifted.weights.iter().enumerate() {
            all.push(i);
            if i >= pack.len() {
                let id = crate::ir::WeightId(i as u32);
                let tensor = crate::interp::compute_weight(&lifted, &Fallback(&store), id);
                let tensor = tensor.unwrap_or_else(|e| panic!("{e} for {}", weight.path));
                pack.push(Packable::Dense(tensor.as_f32().expect("floats").to_vec()));
            }
        }
        let shown = crate::ir::print::print_module(&lifted);
        let options = Options { max_rows: 17, max_context: 48 };
        let lowered = lower(&lifted, &options).unwrap_or_else(|e| panic!("{e}\n{shown}"));
        let program = prove(&lowered.program).unwrap_or_else(|e| panic!("{e}\n{}\n{shown}", lowered.program));
        let image = image(&lowered, &pack);
        let mut machine = Machine {
            module: &lifted,
            lowered: &lowered,
            program,
            scratch: vec![0x5a; lowered.program.scratch_bytes as usize],
            image,
        };
        for mode in [Mode::Steps(1), Mode::Steps(3), Mode::Steps(17), Mode::Streams] {
            for order in [Order::Whole, Order::ReversedChunks] {
                compare(&mut machine, &inputs, &expected, steps, mode, order, &shown);
            }
        }
    }
}

struct Fallback<'a>(&'a MemoryWeights);

impl WeightStore for Fallback<'_> {
    fn weight(&self, id: crate::ir::WeightId) -> Result<WeightValue, InterpError> {
        self.0.weight(id)
    }
}

fn interpreted(module: &Module, store: &MemoryWeights, inputs: &[Tensor], steps: usize) -> Vec<Vec<Vec<u64>>> {
    let entry = &module.entries[0];
    let mut arguments = Arguments::new();
    for (param, tensor) in entry.params.iter().zip(inputs) {
        if param.kind != ParamKind::Position {
            arguments = arguments.with(&param.name, tensor.clone());
        }
    }
    let mut stream = StreamState::new(module);
    let found =
        Interpreter::new(module, store).run(entry, &mut stream, steps, &arguments).unwrap_or_else(|e| panic!("{e}"));
    (0..steps).map(|t| entry.outputs.iter().map(|o| bits(&found[&o.name].row(t))).collect()).collect()
}

fn compare(
    machine: &mut Machine<'_>,
    inputs: &[Vec<Tensor>],
    expected: &[Vec<Vec<Vec<u64>>>],
    steps: usize,
    mode: Mode,
    order: Order,
    shown: &str,
) {
    let group = machine.lowered.states.entry_group[0];
    let size = machine.lowered.states.groups[group].bytes.next_multiple_of(64);
    let mut found: Vec<Vec<Vec<Vec<u64>>>> = vec![Vec::new(); 2];
    match mode {
        Mode::Steps(n) => {
            for (stream, found) in found.iter_mut().enumerate() {
                let mut state = blocks(machine.lowered, group, 1, &machine.image);
                let mut from = 0;
                while from < steps {
                    let to = (from + n).min(steps);
                    let rows: Vec<_> = (from..to).map(|step| (stream, step)).collect();
                    found.extend(machine.call(0, &mut state, 0, inputs, &rows, order));
                    from = to;
                }
            }
        }
        Mode::Streams => {
            let mut state = blocks(machine.lowered, group, 2, &machine.image);
            for step in 0..steps {
                let places = [(0, step), (1, step)];
                let rows = machine.call(0, &mut state, size, inputs, &places, order);
                for (found, row) in found.iter_mut().zip(rows) {
                    found.push(row);
                }
            }
        }
    }
    let entry = &machine.module.entries[0];
    for (stream, (expected, found)) in expected.iter().zip(&found).enumerate() {
        for (step, (expected, found)) in expected.iter().zip(found).enumerate() {
            for (output, (a, z)) in expected.iter().zip(found).enumerate() {
                let elem = entry.outputs[output].ty.elem;
                for (i, (&a, &z)) in a.iter().zip(z).enumerate() {
                    if !same(elem, a, z) {
                        let value = |x: u64| f32::from_bits(x as u32);
                        panic!(
                            "{mode:?} {order:?} stream {stream} step {step} output {output} [{i}]: \
                             expected {a:#x} ({}), found {z:#x} ({})\n{shown}",
                            value(a),
                            value(z)
                        );
                    }
                }
            }
        }
    }
}
