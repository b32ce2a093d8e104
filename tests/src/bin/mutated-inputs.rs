//! Makes hostile inputs and tries each (see `sterna_tests::mutate`). Exit code 3 if any of them panics, dies, hangs,
//! needs too much memory, or gives other bits compiled than interpreted; what is refused is counted by reason.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use sterna_tests::mutate::outcome::Job;
use sterna_tests::mutate::search::Search;
use sterna_tests::mutate::supervise::{LIMIT, Worker};
use sterna_tests::mutate::{Kind, drive, make, worker};
use sterna_tests::workers::exit;

/// Makes mutants of packages, graphs, configs and checkpoints and tries each under guard pages.
#[derive(Parser)]
struct Arguments {
    /// How many mutants, of all kinds together.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    count: u64,
    /// The first seed; the others follow.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Mutants tried at the same time.
    #[arg(long, default_value_t = 2, value_name = "N")]
    threads: usize,
    /// The kind of input: `all`, or one of them.
    #[arg(long, default_value = "all", value_name = "KIND")]
    kind: String,
    /// Where to write mutants that fail, with as few edits as they need.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Mutants of one kind of fault that are written; the others are counted.
    #[arg(long, default_value_t = 2, value_name = "N")]
    each: usize,
    /// Write the mutant of a seed and of one kind to the folder of `--out`.
    #[arg(long, value_name = "SEED")]
    show: Option<u64>,
    /// Try the mutant of a seed and of one kind alone.
    #[arg(long, value_name = "SEED")]
    check: Option<u64>,
    /// Edits that are not done, as a number with a bit for each.
    #[arg(long, default_value_t = 0, value_name = "BITS")]
    undone: u64,
    /// Take jobs from stdin and answer each mutant.
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
    let kinds = match arguments.kind.as_str() {
        "all" => Kind::ALL.to_vec(),
        name => vec![Kind::from_str(name, true)?],
    };
    let one = || if let [kind] = kinds[..] { Ok(kind) } else { Err("name the kind of the mutant with --kind") };
    if let Some(seed) = arguments.show {
        let folder = arguments.out.as_ref().ok_or("name a folder with --out")?;
        std::fs::create_dir_all(folder)?;
        drive::write(&make(one()?, seed, arguments.undone).0, folder)?;
        return Ok(true);
    }
    let executable = std::env::current_exe()?;
    if let Some(seed) = arguments.check {
        let mut sound = true;
        let job = Job { kind: one()?, seed, count: 1, undone: arguments.undone };
        Worker::new(&executable, LIMIT).check(&job, |answer| {
            println!("{}\n{}", answer.outcome.kind(), answer.outcome.text());
            println!("{} ms, {} KiB", answer.time, answer.memory);
            sound = !answer.outcome.is_fault();
        })?;
        return Ok(sound);
    }
    let search = Search {
        kinds,
        count: arguments.count,
        seed: arguments.seed,
        threads: arguments.threads,
        out: arguments.out.clone(),
        each: arguments.each,
    };
    let tally = search.run(&executable)?;
    print!("{tally}");
    Ok(tally.faults.is_empty())
}
