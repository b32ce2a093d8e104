//! `sterna completions`.

use clap::CommandFactory;

use super::{Outcome, output};

/// Arguments of `sterna completions`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The shell.
    shell: clap_complete::Shell,
}

pub fn run(arguments: Arguments) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "sterna", &mut script);
    output::text(&String::from_utf8_lossy(&script));
    Ok(())
}
