//! The `sterna` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(sterna_compiler::cli::main())
}
