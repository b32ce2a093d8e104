//! Compiles a program in memory. Pages are written first and become executable once, when all is defined.

use std::sync::{Mutex, PoisonError};

use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::{FuncId, default_libcall_names};
use sterna_runtime::abi::{EntryFn, KernelFn};

use super::CompileError;
use super::define::{Functions, Report, define};
use super::isa::isa;
use super::perf_map;
use crate::kernel::program::{KernelId, Program};
use crate::kernel::prove::prove;
use crate::target::cpu::Cpu;

/// Address space for code, reserved at once so that direct calls reach; only what is used is committed.
const RESERVED_CODE: usize = 256 << 20;

/// A compiled program. Its functions live as long as it does; they may be called from any thread.
pub struct Jit {
    /// Keeps the code mapped; touched again only to free it.
    module: Mutex<Option<JITModule>>,
    entries: Vec<(String, EntryFn)>,
    kernels: Vec<KernelFn>,
    /// What was compiled.
    pub report: Report,
}

impl std::fmt::Debug for Jit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jit").field("entries", &self.entries).field("report", &self.report).finish()
    }
}

impl Drop for Jit {
    fn drop(&mut self) {
        let module = self.module.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = module.take() {
            // SAFETY: the function pointers handed out are documented to live no longer than this value.
            unsafe { module.free_memory() };
        }
    }
}

impl Jit {
    /// Compiles every kernel and entry of a program for this machine.
    ///
    /// # Errors
    /// When the program does not verify, the level does not run here, or Cranelift refuses something.
    pub fn new(program: &Program, cpu: Cpu) -> Result<Jit, CompileError> {
        Jit::with_forms(program, cpu, cpu.has_wide())
    }

    /// As [`Jit::new`], with the choice whether assembled wide forms are used. Asking for them on a level that
    /// lacks their instructions is refused.
    ///
    /// # Errors
    /// As [`Jit::new`].
    pub fn with_forms(program: &Program, cpu: Cpu, wide: bool) -> Result<Jit, CompileError> {
        if wide && !cpu.has_wide() {
            return Err(CompileError::NotHere("512-bit VNNI"));
        }
        if !cpu.runs_here() {
            return Err(CompileError::NotHere(cpu.name()));
        }
        prove(program)?;
        let isa = isa(cpu)?;
        let mut builder = JITBuilder::with_isa(isa.clone(), default_libcall_names());
        let memory = ArenaMemoryProvider::new_with_size(RESERVED_CODE)
            .map_err(|error| CompileError::Memory(format!("{error}{}", sterna_runtime::system::words())))?;
        builder.memory_provider(Box::new(memory));
        let mut module = JITModule::new(builder);
        let mut functions = Functions::default();
        let mut report = Report::default();
        let built = define(&mut module, &isa, wide, program, &mut functions, &mut report).and_then(|()| {
            let failed = |error: cranelift_module::ModuleError| CompileError::Backend {
                name: "finalization".into(),
                problem: error.to_string(),
            };
            module.finalize_definitions().map_err(failed)
        });
        let address = |id: &FuncId| module.get_finalized_function(*id);
        let mut jit = Jit { module: Mutex::new(None), entries: Vec::new(), kernels: Vec::new(), report };
        if built.is_ok() {
            perf_map::write(&module);
            // SAFETY: each address is a finished function with this very signature.
            let kernel = |id| unsafe { std::mem::transmute::<*const u8, KernelFn>(address(id)) };
            jit.kernels = functions.kernels.iter().map(kernel).collect();
            // SAFETY: each address is a finished function with this very signature.
            let entry = |id| unsafe { std::mem::transmute::<*const u8, EntryFn>(address(id)) };
            jit.entries = functions.entries.iter().map(|(name, id)| (name.clone(), entry(id))).collect();
        }
        // Owned in either case, so that the memory is freed.
        jit.module = Mutex::new(Some(module));
        built.map(|()| jit)
    }

    /// The entry of that name. The pointer must not outlive this value.
    pub fn entry(&self, name: &str) -> Option<EntryFn> {
        self.entries.iter().find(|(entry, _)| entry == name).map(|(_, function)| *function)
    }

    /// The function of a kernel. The pointer must not outlive this value.
    pub fn kernel(&self, id: KernelId) -> Option<KernelFn> {
        self.kernels.get(id.0 as usize).copied()
    }
}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Jit>();
};
