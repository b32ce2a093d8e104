//! `sterna sweep`.

use std::path::PathBuf;

use super::options::{self, EngineArguments};
use super::{Failure, Outcome, output};
use crate::input_file;
use crate::session::sweep::{Sweep, SweepOptions, find_checkpoints};
use crate::session::sweep_results::{Results, Shard};
use crate::session::{self, LoadOptions, ModelSource};

/// Arguments of `sterna sweep`.
#[derive(clap::Args)]
#[command(
    after_help = "Each checkpoint brings its config, inside it or as the config.json beside it. Checkpoints with one \
                        config are compiled once. Done checkpoints are skipped, so that an interrupted sweep goes on \
                        where it was; failed ones are tried again, and have one line as long as they fail alike.\n\n\
                        The folder gets results.jsonl (results-I-of-N.jsonl with --shard), and from the results of all \
                        shards table.md and chart.svg."
)]
pub struct Arguments {
    /// Checkpoints, folders of them (searched to any depth), or globs.
    #[arg(required = true, value_name = "CHECKPOINTS")]
    checkpoints: Vec<String>,
    /// The text; for token models without a tokenizer a JSON array of ids.
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// The folder for the results.
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Do only every N-th checkpoint, from the I-th on, counted from 0.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Evaluate windows of so many elements, each a stream of its own; 0: the whole text is one stream, unless a
    /// model's caches have no room for it (--context): then windows that fill them, and the result's cut_to has their
    /// size.
    #[arg(long, default_value_t = 0, value_name = "N")]
    window: usize,
    /// One config for all checkpoints.
    #[arg(long, value_name = "CONFIG")]
    config: Option<PathBuf>,
    /// The graph that the configs are for.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// A folder of graph files that replace or add to the built-in ones.
    #[arg(long, value_name = "DIR")]
    graphs: Option<PathBuf>,
    /// A JSON object from regular expressions over the checkpoints' tensor names to the graph's names; $1 is a group.
    #[arg(long, value_name = "MAP.json")]
    rename: Option<PathBuf>,
    /// The tokenizer of token models; by default the tokenizer.json beside each checkpoint.
    #[arg(long, value_name = "tokenizer.json")]
    tokenizer: Option<PathBuf>,
    /// Load weights that are not finite.
    #[arg(long)]
    allow_nan: bool,
    #[command(flatten)]
    engine: EngineArguments,
}

pub fn run(arguments: Arguments) -> Outcome {
    let path = arguments.text.display();
    let text = input_file::read(&arguments.text, input_file::TEXT)
        .map_err(|e| Failure::Input(format!("error: cannot read {path}: {e}")))?;
    let mut checkpoints = find_checkpoints(&arguments.checkpoints)?;
    if let Some(shard) = arguments.shard {
        checkpoints = checkpoints.into_iter().skip(shard.index).step_by(shard.count).collect();
    }
    let mut inputs: Vec<PathBuf> = vec![arguments.text.clone()];
    inputs.extend(arguments.config.iter().map(PathBuf::from));
    inputs.extend(arguments.rename.iter().chain(&arguments.tokenizer).cloned());
    inputs.extend(options::graph_files(arguments.graphs.as_deref()));
    inputs.extend(checkpoints.iter().flat_map(|path| session::files_of_checkpoint(path)));
    let mut sweep = Sweep::new(SweepOptions {
        config: arguments.config.as_deref().map(ModelSource::named),
        load: LoadOptions {
            model: arguments.model,
            graphs: arguments.graphs,
            allow_nan: arguments.allow_nan,
            rename: arguments.rename,
            ..LoadOptions::default()
        },
        compile: arguments.engine.compile_options()?,
        pool: arguments.engine.pool()?,
        tokenizer: arguments.tokenizer,
        text,
        window: arguments.window,
    });
    let mut results = Results::open(&arguments.output, arguments.shard, &inputs)?;
    let bar = output::progress(checkpoints.len() as u64, "sweeping");
    let (mut done, mut skipped, mut failed) = (0, 0, 0);
    for checkpoint in &checkpoints {
        if results.has(&checkpoint.display().to_string(), sweep.text_crc32(), arguments.window)? {
            skipped += 1;
        } else {
            let record = sweep.record(checkpoint);
            match &record.error {
                None => done += 1,
                Some(error) => {
                    failed += 1;
                    bar.suspend(|| tell!("{}: {error}", checkpoint.display()));
                }
            }
            results.add(&record)?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let all = results.report()?;
    tell!(
        "{done} evaluated with {} compiled architectures, {skipped} done before, {failed} failed; {all} in {}",
        sweep.compiled(),
        arguments.output.join("table.md").display()
    );
    match failed {
        0 => Ok(()),
        n => Err(Failure::Input(format!("error: {n} checkpoints have no result"))),
    }
}
