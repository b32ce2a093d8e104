//! The `sterna` command as the tests run it: the library's own entry point, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(sterna_compiler::cli::main())
}
