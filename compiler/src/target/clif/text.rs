//! CLIF and disassembly as text, for `inspect`.

use std::fmt::Write;

use cranelift_codegen::Context as CodegenContext;
use cranelift_codegen::control::ControlPlane;
use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, NasmFormatter};

use super::CompileError;
use super::define::kernel_function;
use super::isa::isa;
use crate::kernel::ir::Kernel;
use crate::target::cpu::Cpu;

/// The CLIF of a kernel.
///
/// # Errors
/// When the level cannot be targeted.
pub fn clif(kernel: &Kernel, cpu: Cpu) -> Result<String, CompileError> {
    let function = kernel_function(kernel, &isa(cpu)?, cpu.has_wide());
    Ok(format!("; {}\n{}", kernel.name, function.display()))
}

/// The x86-64 machine code of a kernel, disassembled, with its size.
///
/// # Errors
/// When the level cannot be targeted or Cranelift refuses the kernel.
pub fn assembly(kernel: &Kernel, cpu: Cpu) -> Result<String, CompileError> {
    let isa = isa(cpu)?;
    let mut context = CodegenContext::new();
    context.func = kernel_function(kernel, &isa, cpu.has_wide());
    let compiled = context
        .compile(&*isa, &mut ControlPlane::default())
        .map_err(|error| CompileError::Backend { name: kernel.name.clone(), problem: format!("{:?}", error.inner) })?;
    Ok(disassemble(&kernel.name, compiled.code_buffer()))
}

/// Disassembles x86-64 code that starts at offset 0.
pub fn disassemble(name: &str, code: &[u8]) -> String {
    let mut text = format!("; {name}: {} bytes\n", code.len());
    let mut decoder = Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    let mut formatter = NasmFormatter::new();
    let mut line = String::new();
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        line.clear();
        formatter.format(&instruction, &mut line);
        writeln!(text, "{:6x}  {line}", instruction.ip()).expect("writing to a string");
    }
    text
}
