//! `sterna completions`.

use clap::CommandFactory;

use super::Outcome;

/// Arguments of `sterna completions`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The shell.
    shell: clap_complete::Shell,
}

pub fn run(arguments: Arguments) -> Outcome {
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "sterna", &mut std::io::stdout());
    Ok(())
}
