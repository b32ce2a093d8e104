//! `sterna export`.

use std::path::PathBuf;

use clap::ValueEnum;

use super::options::{self, CacheArguments, ModelArguments, WeightArguments};
use super::{Failure, Outcome, output};
use crate::weights::{Float, WriteOptions};

/// Arguments of `sterna export`.
#[derive(clap::Args)]
#[command(
    after_help = "bit2 holds sign weights with one scale a row, and floats: models of other packed weights, and\n\
                        configs with which no weight is a sign weight, are refused."
)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    weights: WeightArguments,
    /// The format to write.
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// The file to write; it replaces a file of this name when it is complete.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// How the scales of rows are stored.
    #[arg(long, default_value = "f16", value_name = "TYPE")]
    alphas: FloatName,
    /// How tensors that are not packed are stored.
    #[arg(long, default_value = "f16", value_name = "TYPE")]
    dense: FloatName,
    /// Use random weights instead of a checkpoint.
    #[arg(long, conflicts_with = "weights")]
    random: bool,
}

/// A format that is written.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// .bit2 version 1: bits with one scale a row, mapped and used in place.
    Bit2,
}

/// A stored float.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FloatName {
    /// Half precision.
    F16,
    /// Single precision.
    F32,
}

impl From<FloatName> for Float {
    fn from(name: FloatName) -> Float {
        match name {
            FloatName::F16 => Float::F16,
            FloatName::F32 => Float::F32,
        }
    }
}

pub fn run(arguments: Arguments) -> Outcome {
    let package = arguments.model.config.as_deref().is_some_and(|path| path.extension().is_some_and(|e| e == "sterna"));
    if arguments.weights.weights.is_none() && !arguments.random && !package {
        return Err(Failure::Usage("error: give --weights FILE, a package, or --random for random weights".into()));
    }
    options::check_output(&arguments.output, &options::inputs(&arguments.model, &arguments.weights))?;
    let session = options::session(&arguments.model, Some(&arguments.weights), CacheArguments::default())?;
    let Format::Bit2 = arguments.format;
    let options = WriteOptions { alphas: arguments.alphas.into(), dense: arguments.dense.into() };
    let bar = output::progress(session.section_bytes() as u64, "writing");
    let bytes = session.export_bit2(&arguments.output, options, |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let parameters = output::grouped(session.module().parameters());
    tell!("{}: {parameters} parameters, {} bytes", arguments.output.display(), output::grouped(bytes));
    Ok(())
}
