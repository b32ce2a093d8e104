//! Hostile inputs (`sterna_tests::mutate`): some of every kind, under guard pages. What supervises them is tried on
//! processes that are known.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sterna_tests::mutate::outcome::{Job, Outcome};
use sterna_tests::mutate::supervise::Worker;
use sterna_tests::mutate::{Kind, make};

/// The command that makes and tries mutants.
const COMMAND: &str = env!("CARGO_BIN_EXE_mutated-inputs");

/// The outcomes of a job.
fn tried(worker: &mut Worker, job: &Job) -> Vec<Outcome> {
    let mut found = Vec::new();
    worker.check(job, |answer| found.push(answer.outcome)).unwrap();
    found
}

#[test]
fn mutants_of_every_kind_are_refused_or_run() {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).to_string();
    let output =
        Command::new(COMMAND).args(["--count", "1200", "--seed", "1", "--threads", &threads]).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    // What no reader lets through proves little.
    for kind in Kind::ALL {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("{}: 200 mutants, ", kind.name())));
        let ran = line.and_then(|line| line.split(' ').next()?.parse::<usize>().ok());
        assert!(ran.is_some_and(|ran| ran >= 2), "{} {said}", kind.name());
    }
}

#[test]
fn what_mutants_are_made_of_runs() {
    let mut worker = Worker::new(Path::new(COMMAND), Duration::from_secs(60));
    for kind in Kind::ALL {
        let found = tried(&mut worker, &Job { kind, seed: 1, count: 8, undone: u64::MAX });
        // Of the larger ones some are only lowered and proven.
        let taken = found.iter().all(|outcome| matches!(outcome, Outcome::Ran | Outcome::Planned));
        let ran = found.iter().filter(|outcome| **outcome == Outcome::Ran).count();
        assert!(taken && ran >= 1, "{} {found:?}", kind.name());
    }
}

#[test]
fn a_mutant_depends_on_its_seed_and_its_edits_alone() {
    for kind in Kind::ALL {
        let files = |seed, undone| make(kind, seed, undone).0.files;
        assert_eq!(files(5, 0), files(5, 0));
        assert!((1..9).any(|seed| files(seed, 0) != files(seed, u64::MAX)), "{}", kind.name());
    }
}

#[test]
fn a_signal_and_a_hang_are_those_of_one_mutant() {
    let check = |text: &str, limit| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("worker");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        tried(&mut Worker::new(&path, limit), &Job { kind: Kind::Graph, seed: 7, count: 2, undone: 0 })
    };
    let (soon, late) = (Duration::from_millis(60), Duration::from_secs(20));
    let answer = |seed| format!(r#"echo '{{"seed":{seed},"outcome":"Ran","time":1,"memory":1}}'"#);
    let first = format!("read line; case $line in *:7,*) {};; esac; ", answer(7));
    assert_eq!(check(&format!("{first} kill -SEGV $$"), late), [Outcome::Ran, Outcome::Died(11)]);
    assert_eq!(check(&format!("{first} exec sleep 60"), soon), [Outcome::Ran, Outcome::Hung]);
    assert_eq!(check(&format!("read line; {}; {}", answer(7), answer(8)), late), [Outcome::Ran, Outcome::Ran]);
}
