//! Makes random programs and runs each in every way (see `sterna_tests::programs`). Exit code 3 if any of them differs,
//! panics, dies or hangs; what is refused is counted by reason.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sterna_tests::programs::outcome::{Job, Thorough};
use sterna_tests::programs::search::{LIMIT, Search};
use sterna_tests::programs::supervise::Worker;
use sterna_tests::programs::{generate, render, worker};
use sterna_tests::workers::exit;

/// Makes random programs of the graph language and runs each in every way.
#[derive(Parser)]
struct Arguments {
    /// How many programs.
    #[arg(long, default_value_t = 500, value_name = "N")]
    count: u64,
    /// The seed of the first program; the others follow.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Programs checked at the same time.
    #[arg(long, default_value_t = 2, value_name = "N")]
    threads: usize,
    /// Where to write programs that fail, cut down.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Candidates that are tried to make one failing program smaller.
    #[arg(long, default_value_t = 600, value_name = "N")]
    questions: usize,
    /// Programs of one kind of fault that are cut down; the others are counted.
    #[arg(long, default_value_t = 2, value_name = "N")]
    each: usize,
    /// Cut down one program of each refusal too.
    #[arg(long)]
    refusals: bool,
    /// Check compiled code on the best processor level and one other in turn, not on all, and one program of 16 in
    /// the kernel interpreter: three times as many programs in the same time.
    #[arg(long)]
    quick: bool,
    /// Print the program of a seed.
    #[arg(long, value_name = "SEED")]
    show: Option<u64>,
    /// Check the program of a folder that was written before, with the seed given.
    #[arg(long, value_name = "FOLDER")]
    check: Option<PathBuf>,
    /// Take programs from stdin and answer each.
    #[arg(long, hide = true)]
    worker: bool,
}

fn main() -> ExitCode {
    exit(run(&Arguments::parse()))
}

/// Whether no fault was found.
fn run(arguments: &Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    if arguments.worker {
        worker::serve()?;
        return Ok(true);
    }
    if let Some(seed) = arguments.show {
        print!("{}", render::graph(&generate(seed)));
        return Ok(true);
    }
    let thorough = if arguments.quick { Thorough::Quick } else { Thorough::Whole };
    let executable = std::env::current_exe()?;
    if let Some(folder) = &arguments.check {
        let read = |name: &str| std::fs::read_to_string(folder.join(name));
        let job = Job { graph: read("m.graph")?, config: read("c.json")?, seed: arguments.seed, thorough };
        let outcome = Worker::new(&executable, LIMIT).check(&job)?;
        println!("{}\n{}", outcome.kind(), outcome.text());
        return Ok(!outcome.is_fault());
    }
    let search = Search {
        count: arguments.count,
        seed: arguments.seed,
        threads: arguments.threads,
        out: arguments.out.clone(),
        questions: arguments.questions,
        each: arguments.each,
        refusals: arguments.refusals,
        thorough,
    };
    let tally = search.run(&executable)?;
    print!("{tally}");
    Ok(tally.faults.is_empty())
}
