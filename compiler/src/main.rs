//! The `sterna` command.

use std::process::ExitCode;

use sterna_compiler::cli::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    ExitCode::from(sterna_compiler::cli::main())
}
