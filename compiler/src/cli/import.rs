//! `sterna import`: a checkpoint that carries its own config, or has `config.json` beside it, becomes a package.

use std::path::PathBuf;

use super::{Outcome, options};
use crate::session::{self, LoadOptions, ModelSource, WeightsSource};

/// Arguments of `sterna import`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The checkpoint: .pt, .safetensors or .bit2.
    checkpoint: PathBuf,
    /// The config, if the checkpoint has none of its own and no config.json beside it.
    #[arg(long, value_name = "CONFIG")]
    config: Option<PathBuf>,
    /// The graph that the config is for.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// A folder of graph files that replace or add to the built-in ones.
    #[arg(long, value_name = "DIR")]
    graphs: Option<PathBuf>,
    /// A JSON object from regular expressions over the checkpoint's tensor names to the graph's names; $1 is a group.
    #[arg(long, value_name = "MAP.json")]
    rename: Option<PathBuf>,
    /// Load weights that are not finite.
    #[arg(long)]
    allow_nan: bool,
    /// The package to write; it replaces a file of this name when it is complete.
    #[arg(long, short, value_name = "FILE.sterna")]
    output: PathBuf,
}

pub fn run(arguments: Arguments) -> Outcome {
    let mut inputs = session::files_of_checkpoint(&arguments.checkpoint);
    inputs.extend(arguments.config.iter().map(PathBuf::from));
    inputs.extend(arguments.rename.clone());
    inputs.extend(options::graph_files(arguments.graphs.as_deref()));
    options::check_output(&arguments.output, &inputs)?;
    let source = match &arguments.config {
        Some(config) => ModelSource::named(config),
        None => session::config_of_checkpoint(&arguments.checkpoint)?,
    };
    let load = LoadOptions {
        model: arguments.model,
        graphs: arguments.graphs,
        weights: WeightsSource::File(arguments.checkpoint),
        allow_nan: arguments.allow_nan,
        rename: arguments.rename,
        ..LoadOptions::default()
    };
    super::compile::write(&options::load(&source, &load)?, &arguments.output)
}
