//! The kernels of a session as text: kernel IR, CLIF, or machine code.

use std::fmt::Write;

use super::{CompileOptions, Result, Session};
use crate::target::clif::text;

impl Session {
    /// The distinct kernels of all entries, in order of their first launch.
    ///
    /// # Errors
    /// Something is not compiled yet, or the processor level is unknown here.
    pub fn kernel_text(&self, options: &CompileOptions, clif: bool, assembly: bool) -> Result<String> {
        let lowered = self.lowered(options)?;
        let mut out = String::new();
        for kernel in &lowered.program.kernels {
            let body = match (clif, assembly) {
                (_, true) => text::assembly(kernel, options.cpu)?,
                (true, false) => text::clif(kernel, options.cpu)?,
                (false, false) => kernel.to_string(),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{}\n", body.trim_end());
        }
        Ok(out)
    }
}
