//! The Cranelift target of a processor level, and the dot-product form that it gives.

use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable};

use super::CompileError;
use crate::target::cpu::Cpu;

/// How an exact dot product of bytes is emitted; all forms give the same totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DotForm {
    /// One `vpdpbusd`.
    Vnni,
    /// `pmaddubsw`, then `pmaddwd` with ones.
    Maddubs,
    /// Widened to 16 bits, then `pmaddwd`.
    Widen,
}

/// The target of a processor level.
///
/// # Errors
/// When this machine cannot host the level's architecture or Cranelift refuses its flags.
pub fn isa(cpu: Cpu) -> Result<OwnedTargetIsa, CompileError> {
    let mut shared = settings::builder();
    let mut set =
        |name: &str, value: &str| shared.set(name, value).map_err(|error| CompileError::Target(error.to_string()));
    set("opt_level", "speed")?;
    set("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" })?;
    set("is_pic", "false")?;
    set("unwind_info", "false")?;
    let target = |error: &dyn std::fmt::Display| CompileError::Target(error.to_string());
    let builder = match cpu.flags() {
        None => cranelift_native::builder().map_err(|error| target(&error))?,
        Some(flags) => {
            let mut builder = cranelift_codegen::isa::lookup_by_name("x86_64").map_err(|error| target(&error))?;
            for flag in flags {
                builder.enable(flag).map_err(|error| target(&error))?;
            }
            builder
        }
    };
    builder.finish(settings::Flags::new(shared)).map_err(|error| target(&error))
}

/// Whether the target has a Cranelift flag.
fn has(isa: &OwnedTargetIsa, name: &str) -> bool {
    isa.isa_flags().iter().any(|flag| flag.name == name && flag.as_bool() == Some(true))
}

/// Whether a memory operand of a vector instruction may lie at any address. Those of SSE must lie at multiples of 16,
/// those of AVX and of other architectures need not.
pub fn any_alignment(isa: &OwnedTargetIsa) -> bool {
    isa.triple().architecture != target_lexicon::Architecture::X86_64 || has(isa, "has_avx")
}

/// The best dot-product form of a target.
pub fn dot_form(isa: &OwnedTargetIsa) -> DotForm {
    let has = |name: &str| has(isa, name);
    if isa.triple().architecture != target_lexicon::Architecture::X86_64 {
        return DotForm::Widen;
    }
    if has("has_avx_vnni") || (has("has_avx512vnni") && has("has_avx512vl")) {
        DotForm::Vnni
    } else if has("has_ssse3") {
        DotForm::Maddubs
    } else {
        DotForm::Widen
    }
}
