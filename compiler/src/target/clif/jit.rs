//! Compiles a program in memory. Pages are written first and become executable once, when all is defined.

use std::collections::{BTreeSet, HashMap};

use cranelift_codegen::Context as CodegenContext;
use cranelift_codegen::ir::{Function, Signature, UserFuncName};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_frontend::FunctionBuilderContext;
use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::{FuncId, Linkage, Module, default_libcall_names};
use sterna_runtime::abi::{EntryFn, KernelFn};

use super::emit::{Target, emit, kernel_signature};
use super::isa::{dot_form, isa};
use super::{CompileError, driver};
use crate::kernel::ir::Kernel;
use crate::kernel::program::{Driver, KernelId, Program, Step};
use crate::target::cpu::Cpu;

/// Address space for code, reserved at once so that direct calls reach; only what is used is committed.
const RESERVED_CODE: usize = 256 << 20;

/// A compiled program. Its functions live as long as it does.
pub struct Jit {
    module: Option<JITModule>,
    entries: Vec<(String, FuncId)>,
    kernels: Vec<FuncId>,
    /// What was compiled.
    pub report: Report,
}

/// What a compilation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes of machine code.
    pub code_bytes: usize,
    /// Kernels compiled, after identical ones are merged.
    pub distinct_kernels: usize,
}

impl std::fmt::Debug for Jit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jit").field("entries", &self.entries).field("report", &self.report).finish()
    }
}

impl Drop for Jit {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
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
        if !cpu.runs_here() {
            return Err(CompileError::NotHere(cpu.name()));
        }
        program.verify().map_err(|problems| CompileError::Invalid(problems.join("; ")))?;
        let isa = isa(cpu)?;
        let mut builder = JITBuilder::with_isa(isa.clone(), default_libcall_names());
        let memory = ArenaMemoryProvider::new_with_size(RESERVED_CODE)
            .map_err(|error| CompileError::Target(format!("no memory for code: {error}")))?;
        builder.memory_provider(Box::new(memory));
        let mut module = JITModule::new(builder);
        let mut functions = Functions::default();
        let mut report = Report::default();
        let built = define(&mut module, &isa, program, &mut functions, &mut report).and_then(|()| {
            let failed = |error: cranelift_module::ModuleError| CompileError::Backend {
                name: "finalization".into(),
                problem: error.to_string(),
            };
            module.finalize_definitions().map_err(failed)
        });
        let Functions { kernels, entries } = functions;
        let jit = Jit { module: Some(module), entries, kernels, report };
        built.map(|()| jit)
    }

    fn address(&self, id: FuncId) -> *const u8 {
        self.module.as_ref().expect("present until dropped").get_finalized_function(id)
    }

    /// The entry of that name. The pointer must not outlive this value.
    pub fn entry(&self, name: &str) -> Option<EntryFn> {
        let (_, id) = self.entries.iter().find(|(entry, _)| entry == name)?;
        // SAFETY: the address is a finished function with this very signature.
        Some(unsafe { std::mem::transmute::<*const u8, EntryFn>(self.address(*id)) })
    }

    /// The function of a kernel. The pointer must not outlive this value.
    pub fn kernel(&self, id: KernelId) -> Option<KernelFn> {
        let id = self.kernels.get(id.0 as usize)?;
        // SAFETY: the address is a finished function with this very signature.
        Some(unsafe { std::mem::transmute::<*const u8, KernelFn>(self.address(*id)) })
    }
}

/// The functions of a program in a module.
#[derive(Debug, Default)]
pub struct Functions {
    /// One per kernel of the program; identical kernels share one.
    pub kernels: Vec<FuncId>,
    /// Entries by name.
    pub entries: Vec<(String, FuncId)>,
}

/// What makes two kernels the same code.
fn identity(kernel: &Kernel) -> Kernel {
    let mut same = kernel.clone();
    same.name.clear();
    same.params.iter_mut().for_each(|param| param.name.clear());
    same
}

/// The target description of a module's instruction set.
pub fn target(isa: &OwnedTargetIsa) -> Target {
    Target { dot: dot_form(isa), frontend: isa.frontend_config() }
}

/// Builds the CLIF of a kernel.
pub fn kernel_function(kernel: &Kernel, isa: &OwnedTargetIsa, scratch: &mut FunctionBuilderContext) -> Function {
    let signature = kernel_signature(isa.default_call_conv());
    let mut function = Function::with_name_signature(UserFuncName::default(), signature);
    emit(kernel, target(isa), &mut function, scratch);
    function
}

/// Defines every function of a program in a module.
pub fn define<M: Module>(
    module: &mut M,
    isa: &OwnedTargetIsa,
    program: &Program,
    functions: &mut Functions,
    report: &mut Report,
) -> Result<(), CompileError> {
    let mut scratch = FunctionBuilderContext::new();
    let mut known: HashMap<Kernel, FuncId> = HashMap::new();
    let convention = isa.default_call_conv();
    for (index, kernel) in program.kernels.iter().enumerate() {
        let identity = identity(kernel);
        let id = match known.get(&identity) {
            Some(&id) => id,
            None => {
                let function = kernel_function(kernel, isa, &mut scratch);
                let name = format!("kernel{index}_{}", kernel.name);
                let id = add(
                    module,
                    &mut scratch,
                    &name,
                    Linkage::Local,
                    kernel_signature(convention),
                    report,
                    |f, _, _| {
                        *f = function;
                    },
                )?;
                known.insert(identity, id);
                id
            }
        };
        functions.kernels.push(id);
    }
    report.distinct_kernels = known.len();
    let frontend = isa.frontend_config();
    let launch_signature = driver::launch_signature(convention);
    let launch = add(module, &mut scratch, "launch", Linkage::Local, launch_signature, report, |f, scratch, _| {
        driver::emit_launch(frontend, f, scratch);
    })?;
    for entry in &program.entries {
        let signature = driver::entry_signature(convention);
        let name = format!("sterna_{}", entry.name);
        let kernels = &functions.kernels;
        let id = add(module, &mut scratch, &name, Linkage::Export, signature, report, |f, scratch, module| {
            let calls = used(entry)
                .into_iter()
                .map(|id| (id, module.declare_func_in_func(kernels[id.0 as usize], f)))
                .collect();
            let launch = module.declare_func_in_func(launch, f);
            driver::emit_entry(program, entry, &calls, launch, frontend, f, scratch);
        })?;
        functions.entries.push((entry.name.clone(), id));
    }
    Ok(())
}

/// Declares and defines one function that `fill` writes.
fn add<M: Module>(
    module: &mut M,
    scratch: &mut FunctionBuilderContext,
    name: &str,
    linkage: Linkage,
    signature: Signature,
    report: &mut Report,
    fill: impl FnOnce(&mut Function, &mut FunctionBuilderContext, &mut M),
) -> Result<FuncId, CompileError> {
    let failed = |error: cranelift_module::ModuleError| CompileError::Backend {
        name: name.to_string(),
        problem: error.to_string(),
    };
    let id = module.declare_function(name, linkage, &signature).map_err(failed)?;
    let mut context = CodegenContext::new();
    context.func = Function::with_name_signature(UserFuncName::user(0, id.as_u32()), signature);
    fill(&mut context.func, scratch, module);
    module.define_function(id, &mut context).map_err(|error| {
        let text = context.func.display().to_string();
        CompileError::Backend { name: name.to_string(), problem: format!("{error:?}\n{text}") }
    })?;
    report.code_bytes += context.compiled_code().map_or(0, |code| code.code_buffer().len());
    Ok(id)
}

/// The kernels that an entry launches.
fn used(entry: &Driver) -> BTreeSet<KernelId> {
    fn walk(steps: &[Step], found: &mut BTreeSet<KernelId>) {
        for step in steps {
            match step {
                Step::Launch { kernel, .. } => {
                    found.insert(*kernel);
                }
                Step::LoadRows { .. } => {}
                Step::IfRows { body, .. } | Step::Loop { body, .. } => walk(body, found),
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&entry.steps, &mut found);
    found
}
