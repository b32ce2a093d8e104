//! `sterna presets`.

use serde_json::json;

use super::Outcome;
use crate::session;

/// Arguments of `sterna presets`.
#[derive(clap::Args)]
pub struct Arguments {
    /// A folder of graph files that replace or add to the built-in ones.
    #[arg(long, value_name = "DIR")]
    graphs: Option<std::path::PathBuf>,
    /// Print JSON to stdout.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    let names = session::preset_names(arguments.graphs.as_deref())?;
    if arguments.json {
        say!("{}", json!(names));
    } else {
        names.iter().for_each(|name| say!("{name}"));
    }
    Ok(())
}
