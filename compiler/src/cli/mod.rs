//! The `sterna` command: one file per subcommand, and what they share. No logic of the compiler lives here.
//!
//! Results go to stdout, all else to stderr. Exit codes: 0, 1 (the input is wrong), 2 (usage), 3 (a check failed).

#[macro_use]
mod output;

mod bench;
mod check;
mod compile;
mod completions;
mod eval;
mod export;
mod import;
mod inspect;
mod logits;
mod options;
mod presets;
mod probe;
mod run;
mod skipping;
mod start;
mod sweep;
mod verify;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
pub use sterna_runtime::system::Allocator;

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    /// The input is wrong: a message, already fit to print.
    Input(String),
    /// The command line asks for something that makes no sense.
    Usage(String),
    /// A check did not hold.
    Check(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Input(_) => 1,
            Failure::Usage(_) => 2,
            Failure::Check(_) => 3,
        }
    }
}

/// Any error of the library is one of the input.
impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        let mut text = format!("error: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Many errors name their cause themselves.
            if !text.contains(&cause_text) {
                text.push_str(&format!("\n  because: {cause_text}"));
            }
            source = cause.source();
        }
        Failure::Input(text)
    }
}

/// A command's end.
pub type Outcome = Result<(), Failure>;

#[derive(Parser)]
#[command(
    name = "sterna",
    version,
    about = "A compiler for ternary and 1-bit language models described as text",
    after_help = "CONFIG is a JSON file, a preset such as cpu1/run_05 (or run_05), or a .sterna package.\n\
                  Without one, the config inside or beside the checkpoint given, else the tiny model that comes with\n\
                  Sterna.\n\n\
                  Exit codes: 0 success, 1 the input is wrong, 2 usage, 3 a check failed."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compile in memory and generate text.
    Run(run::Arguments),
    /// Compile a config and its weights into one .sterna package.
    Compile(compile::Arguments),
    /// Show the graph, after any pass; the CLIF or the machine code of its kernels.
    Inspect(inspect::Arguments),
    /// Account for every config key and tensor; count parameters, bytes and operations.
    Check(check::Arguments),
    /// Compare the interpreter with the compiled code, bit for bit.
    Verify(verify::Arguments),
    /// Print the logits of every position as JSON.
    Logits(logits::Arguments),
    /// Loss, perplexity and bits per byte on a text.
    Eval(eval::Arguments),
    /// Evaluate many checkpoints on one text: a result for each, a table and a chart.
    Sweep(sweep::Arguments),
    /// Measure tokens per second and the share of the memory's bandwidth.
    Bench(bench::Arguments),
    /// Measure how the heads of a pointer model point: induction, diversity, margins.
    Probe(probe::Arguments),
    /// Pack a checkpoint with its own config into a .sterna package.
    Import(import::Arguments),
    /// Write a checkpoint in another format.
    Export(export::Arguments),
    /// List the presets.
    Presets(presets::Arguments),
    /// Print a completion script for a shell.
    Completions(completions::Arguments),
}

/// Runs the command line of this process and gives its exit code.
pub fn main() -> u8 {
    sterna_runtime::package::explain_shrunken_files();
    crate::output_file::heed_signals();
    // A negative number is a value, so that what is wrong with it is said of its option.
    let command = Arguments::command().mut_subcommands(|command| command.allow_negative_numbers(true));
    let arguments = command.try_get_matches().and_then(|found| Arguments::from_arg_matches(&found));
    let arguments = match arguments {
        Ok(arguments) => arguments,
        Err(error) => {
            // The terminal being gone is no reason to fail otherwise.
            let _ = error.print();
            // A file without an option, where there is a config already.
            if error.kind() == ErrorKind::UnknownArgument
                && let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg)
                && !given.starts_with('-')
                && std::path::Path::new(given).exists()
            {
                tell!("help: a checkpoint is given with --weights (-w): `-w {given}`");
            }
            return if error.use_stderr() { 2 } else { 0 };
        }
    };
    let outcome = match arguments.command {
        Command::Run(a) => run::run(a),
        Command::Compile(a) => compile::run(a),
        Command::Inspect(a) => inspect::run(a),
        Command::Check(a) => check::run(a),
        Command::Verify(a) => verify::run(a),
        Command::Logits(a) => logits::run(a),
        Command::Eval(a) => eval::run(a),
        Command::Sweep(a) => sweep::run(a),
        Command::Bench(a) => bench::run(a),
        Command::Probe(a) => probe::run(a),
        Command::Import(a) => import::run(a),
        Command::Export(a) => export::run(a),
        Command::Presets(a) => presets::run(a),
        Command::Completions(a) => completions::run(a),
    };
    match outcome {
        Ok(()) => 0,
        Err(failure) => {
            let (Failure::Input(text) | Failure::Usage(text) | Failure::Check(text)) = &failure;
            tell!("{}", text.trim_end());
            failure.code()
        }
    }
}
