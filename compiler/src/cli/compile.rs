//! `sterna compile`.

use std::path::PathBuf;

use super::options::{self, CacheArguments, ModelArguments, WeightArguments};
use super::{Failure, Outcome, output};

/// Arguments of `sterna compile`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    cache: CacheArguments,
    #[command(flatten)]
    weights: WeightArguments,
    /// The package to write; it replaces a file of this name when it is complete.
    #[arg(long, short, value_name = "FILE.sterna")]
    output: PathBuf,
    /// Use random weights instead of a checkpoint.
    #[arg(long, conflicts_with = "weights")]
    random: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    if arguments.weights.weights.is_none() && !arguments.random {
        return Err(Failure::Usage("error: give --weights FILE, or --random for random ones".into()));
    }
    options::check_output(&arguments.output, &options::inputs(&arguments.model, &arguments.weights))?;
    let session = options::session(&arguments.model, Some(&arguments.weights), arguments.cache)?;
    write(&session, &arguments.output)
}

/// Writes the package of a session and says how large it is.
pub fn write(session: &crate::session::Session, path: &std::path::Path) -> Outcome {
    let bar = output::progress(session.section_bytes() as u64, "packing");
    let bytes = session.write_package(path, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let parameters = session.module().parameters();
    tell!("{}: {} parameters, {}", path.display(), output::grouped(parameters), output::bytes(bytes));
    Ok(())
}
