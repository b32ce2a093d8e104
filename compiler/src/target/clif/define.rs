//! Defines every function of a program in a Cranelift module, whatever the module makes of them.

use std::collections::{BTreeSet, HashMap};

use cranelift_codegen::Context as CodegenContext;
use cranelift_codegen::ir::{FuncRef, Function, Signature, UserExternalName, UserFuncName};
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_frontend::FunctionBuilderContext;
use cranelift_module::{FuncId, Linkage, Module, ModuleError};

use super::emit::{Target, Wide, emit, kernel_signature, wide_signature};
use super::isa::{any_alignment, dot_form};
use super::{CompileError, driver};
use crate::kernel::ir::{Kernel, Rows};
use crate::kernel::program::{Driver, KernelId, Program, Step};
use crate::target::wide;

/// What a compilation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Bytes of machine code.
    pub code_bytes: usize,
    /// Kernels compiled, after identical ones are merged.
    pub distinct_kernels: usize,
    /// Row groups assembled in the wide form.
    pub wide_forms: usize,
}

/// The functions of a program in a module.
#[derive(Debug, Default)]
pub struct Functions {
    /// One per kernel of the program; identical kernels share one.
    pub kernels: Vec<FuncId>,
    /// Entries by name.
    pub entries: Vec<(String, FuncId)>,
}

/// The target description of an instruction set.
fn target(isa: &OwnedTargetIsa) -> Target {
    Target { dot: dot_form(isa), any_alignment: any_alignment(isa), frontend: isa.frontend_config() }
}

/// The CLIF of a kernel by itself; row groups in the wide form are calls of undefined functions.
pub fn kernel_function(kernel: &Kernel, isa: &OwnedTargetIsa, has_wide: bool) -> Function {
    let mut forms: Vec<Rows> = Vec::new();
    let mut import = |function: &mut Function, rows: Rows| {
        (has_wide && wide::has_form(rows)).then(|| {
            let signature = function.import_signature(wide_signature());
            let number = forms.iter().position(|&form| form == rows).unwrap_or_else(|| {
                forms.push(rows);
                forms.len() - 1
            });
            let name = UserExternalName::new(1, number as u32);
            let name = function.declare_imported_user_function(name);
            function.import_function(cranelift_codegen::ir::ExtFuncData {
                name: cranelift_codegen::ir::ExternalName::user(name),
                signature,
                colocated: true,
                patchable: false,
            })
        })
    };
    let signature = kernel_signature(isa.default_call_conv());
    let mut function = Function::with_name_signature(UserFuncName::default(), signature);
    emit(kernel, target(isa), &mut import, &mut function, &mut FunctionBuilderContext::new());
    function
}

/// Defines every kernel and entry of a verified program in a module.
///
/// # Errors
/// When Cranelift or the assembler refuses a function.
pub fn define<M: Module>(
    module: &mut M,
    isa: &OwnedTargetIsa,
    has_wide: bool,
    program: &Program,
    functions: &mut Functions,
    report: &mut Report,
) -> Result<(), CompileError> {
    let mut definer = Definer {
        module,
        target: target(isa),
        has_wide,
        scratch: FunctionBuilderContext::new(),
        known: HashMap::new(),
        assembled: HashMap::new(),
        report,
    };
    let convention = isa.default_call_conv();
    for (index, kernel) in program.kernels.iter().enumerate() {
        functions.kernels.push(definer.kernel(index, kernel, kernel_signature(convention))?);
    }
    definer.report.distinct_kernels = definer.known.len();
    let frontend = isa.frontend_config();
    let signature = driver::launch_signature(convention);
    let launch = definer.function("launch", Linkage::Local, signature, |_, function, scratch| {
        driver::emit_launch(frontend, function, scratch);
        Ok(())
    })?;
    for entry in &program.entries {
        let signature = driver::entry_signature(convention);
        let name = format!("sterna_{}", entry.name);
        let kernels = &functions.kernels;
        let id = definer.function(&name, Linkage::Export, signature, |definer, function, scratch| {
            let import = |id: KernelId| (id, definer.module.declare_func_in_func(kernels[id.0 as usize], function));
            let calls = used(entry).into_iter().map(import).collect();
            let launch = definer.module.declare_func_in_func(launch, function);
            driver::emit_entry(program, entry, &calls, launch, frontend, function, scratch);
            Ok(())
        })?;
        functions.entries.push((entry.name.clone(), id));
    }
    Ok(())
}

struct Definer<'a, M> {
    module: &'a mut M,
    target: Target,
    has_wide: bool,
    scratch: FunctionBuilderContext,
    known: HashMap<Kernel, FuncId>,
    assembled: HashMap<Rows, FuncId>,
    report: &'a mut Report,
}

fn failed(name: &str, problem: impl std::fmt::Display) -> CompileError {
    CompileError::Backend { name: name.to_string(), problem: problem.to_string() }
}

impl<M: Module> Definer<'_, M> {
    /// Declares and defines one function that `fill` writes.
    fn function(
        &mut self,
        name: &str,
        linkage: Linkage,
        signature: Signature,
        fill: impl FnOnce(&mut Self, &mut Function, &mut FunctionBuilderContext) -> Result<(), CompileError>,
    ) -> Result<FuncId, CompileError> {
        let id = self.module.declare_function(name, linkage, &signature).map_err(|error| failed(name, error))?;
        let mut context = CodegenContext::new();
        context.func = Function::with_name_signature(UserFuncName::user(0, id.as_u32()), signature);
        let mut scratch = std::mem::take(&mut self.scratch);
        fill(self, &mut context.func, &mut scratch)?;
        self.scratch = scratch;
        self.module.define_function(id, &mut context).map_err(|error| match error {
            ModuleError::Compilation(error) => failed(name, format!("{error:?}\n{}", context.func.display())),
            other => failed(name, other),
        })?;
        self.report.code_bytes += context.compiled_code().map_or(0, |code| code.code_buffer().len());
        Ok(id)
    }

    fn kernel(&mut self, index: usize, kernel: &Kernel, signature: Signature) -> Result<FuncId, CompileError> {
        let identity = identity(kernel);
        if let Some(&id) = self.known.get(&identity) {
            return Ok(id);
        }
        let name = format!("kernel{index}_{}", kernel.name);
        let id = self.function(&name, Linkage::Local, signature, |definer, function, scratch| {
            let mut problem = None;
            let target = definer.target;
            let mut import = |function: &mut Function, rows: Rows| -> Option<FuncRef> {
                match definer.wide_form(rows) {
                    Ok(id) => id.map(|id| definer.module.declare_func_in_func(id, function)),
                    Err(error) => {
                        problem = Some(error);
                        None
                    }
                }
            };
            let import: &mut Wide<'_> = &mut import;
            emit(kernel, target, import, function, scratch);
            problem.map_or(Ok(()), Err)
        })?;
        self.known.insert(identity, id);
        Ok(id)
    }

    /// The assembled function of a row group, if the target and the packing have one.
    fn wide_form(&mut self, rows: Rows) -> Result<Option<FuncId>, CompileError> {
        if !self.has_wide || !wide::has_form(rows) {
            return Ok(None);
        }
        if let Some(&id) = self.assembled.get(&rows) {
            return Ok(Some(id));
        }
        let name = format!("rows{}", self.assembled.len());
        let code = wide::assemble(rows).map_err(|error| failed(&name, error))?;
        let signature = wide_signature();
        let id =
            self.module.declare_function(&name, Linkage::Local, &signature).map_err(|error| failed(&name, error))?;
        self.module.define_function_bytes(id, 64, &code, &[]).map_err(|error| failed(&name, error))?;
        self.report.code_bytes += code.len();
        self.report.wide_forms += 1;
        self.assembled.insert(rows, id);
        Ok(Some(id))
    }
}

/// What makes two kernels the same code.
fn identity(kernel: &Kernel) -> Kernel {
    let mut same = kernel.clone();
    same.name.clear();
    same.params.iter_mut().for_each(|param| param.name.clear());
    same
}

/// The kernels that an entry launches.
fn used(entry: &Driver) -> BTreeSet<KernelId> {
    fn walk(steps: &[Step], found: &mut BTreeSet<KernelId>) {
        for step in steps {
            match step {
                Step::Launch { kernel, .. } => {
                    found.insert(*kernel);
                }
                Step::LoadRows { .. } | Step::Tally { .. } => {}
                Step::IfRows { body, .. } | Step::Loop { body, .. } => walk(body, found),
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&entry.steps, &mut found);
    found
}
