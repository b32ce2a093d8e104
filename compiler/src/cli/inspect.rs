//! `sterna inspect`.

use clap::ValueEnum;

use super::options::{self, CacheArguments, EngineArguments, ModelArguments};
use super::{Failure, Outcome, output};
use crate::{inspect, passes};

/// Arguments of `sterna inspect`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    cache: CacheArguments,
    #[command(flatten)]
    engine: EngineArguments,
    /// Show the graph after this pass (see --list); by default after all.
    #[arg(long, value_name = "PASS")]
    after: Option<String>,
    /// How to show it.
    #[arg(long, default_value = "text")]
    format: Format,
    /// Only this entry.
    #[arg(long, value_name = "NAME")]
    entry: Option<String>,
    /// Only nodes of this part, such as layers.0.mixer (dot and json).
    #[arg(long, value_name = "PATH")]
    part: Option<String>,
    /// The passes with what each did, instead of the graph.
    #[arg(long)]
    list: bool,
    /// The kernels, as text of the kernel IR, and how each entry launches them, with the extent of every buffer.
    #[arg(long)]
    kernels: bool,
    /// The CLIF of the kernels.
    #[arg(long)]
    clif: bool,
    /// The machine code of the kernels, disassembled.
    #[arg(long)]
    asm: bool,
}

/// How a graph is shown.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Ports, parts, weights and states at a glance.
    Summary,
    /// The printed form, which reads back.
    Text,
    /// Graphviz.
    Dot,
    /// For machines.
    Json,
}

pub fn run(arguments: Arguments) -> Outcome {
    if let Some(name) = &arguments.after
        && !passes::names().iter().any(|known| known == name)
    {
        let known = passes::names();
        return Err(Failure::Usage(format!("error: no pass is named `{name}`; there are {}", known.join(", "))));
    }
    let session = options::session(&arguments.model, None, arguments.cache)?;
    let options = arguments.engine.compile_options()?;
    if arguments.kernels || arguments.clif || arguments.asm {
        output::text(&session.kernel_text(&options, arguments.clif, arguments.asm)?);
        return Ok(());
    }
    let (module, mut reports) = session.optimised(arguments.after.as_deref())?;
    if arguments.list {
        if arguments.after.is_none() {
            reports.extend(session.planned(&options)?);
        }
        for report in reports {
            say!("{report}");
        }
        return Ok(());
    }
    let view = inspect::View { entry: arguments.entry.as_deref(), part: arguments.part.as_deref() };
    if let Some(name) = view.entry
        && module.entry(name).is_none()
    {
        return Err(Failure::Usage(format!("error: {} has no entry named `{name}`", module.name)));
    }
    match arguments.format {
        Format::Summary => output::text(&inspect::summary(&module, &view)),
        Format::Text => output::text(&inspect::text(&module, &view)),
        Format::Dot => output::text(&inspect::dot(&module, &view)),
        Format::Json => say!("{}", inspect::json(&module, &view)),
    }
    Ok(())
}
