//! The kernels of a session as text: kernel IR, CLIF, or machine code.

use std::fmt::Write;

use super::{CompileOptions, Result, Session};
use crate::kernel::prove::prove;
use crate::target::clif::{CompileError, text};

impl Session {
    /// The distinct kernels of all entries, in order of their first launch; as kernel IR with the launches of each
    /// entry, whose pointers show the extents that the proof is about.
    ///
    /// # Errors
    /// Something is not compiled yet, or the processor level is unknown here; for code also where a kernel is not shown
    /// to stay inside its buffers.
    pub fn kernel_text(&self, options: &CompileOptions, clif: bool, assembly: bool) -> Result<String> {
        let lowered = self.lowered(options)?;
        if !clif && !assembly {
            return Ok(lowered.program.to_string());
        }
        let program = prove(&lowered.program).map_err(CompileError::from)?;
        let mut out = String::new();
        for kernel in &program.kernels {
            let body = match assembly {
                true => text::assembly(kernel, options.cpu)?,
                false => text::clif(kernel, options.cpu)?,
            };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{}\n", body.trim_end());
        }
        Ok(out)
    }
}
