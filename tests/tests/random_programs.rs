//! Random programs (`sterna_tests::programs`): 500 of them must give the same bits in every way of running them. What
//! supervises and shrinks them is tried on processes and faults that are known.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sterna_tests::programs::outcome::{Job, Outcome, Thorough, reason};
use sterna_tests::programs::shrink::shrink;
use sterna_tests::programs::supervise::Worker;
use sterna_tests::programs::{generate, render};

/// The command that makes and runs programs.
const COMMAND: &str = env!("CARGO_BIN_EXE_random-programs");

#[test]
fn five_hundred_programs_give_the_same_bits_in_every_way() {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).to_string();
    let output = Command::new(COMMAND).args(["--count", "500", "--seed", "1", "--threads", &threads]).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    // What is refused proves nothing.
    let equal = said.split(": ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|n| n.parse::<usize>().ok());
    assert!(equal.is_some_and(|n| n >= 450), "{said}");
}

#[test]
fn a_program_depends_on_its_seed_alone() {
    let text = |seed| render::graph(&generate(seed));
    assert_eq!(text(7), text(7));
    assert_ne!(text(7), text(8));
}

/// A file that runs as a program.
fn script(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("worker");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn signals_and_hangs_are_noticed_and_the_next_program_gets_a_new_process() {
    let job = Job { graph: String::new(), config: "{}".into(), seed: 1, thorough: Thorough::Whole };
    let check = |text: &str, limit| {
        let folder = tempfile::tempdir().unwrap();
        let mut worker = Worker::new(&script(folder.path(), text), limit);
        [worker.check(&job).unwrap(), worker.check(&job).unwrap()]
    };
    let (soon, late) = (Duration::from_millis(300), Duration::from_secs(20));
    assert_eq!(check("read line; kill -SEGV $$", late), [Outcome::Died { signal: 11 }, Outcome::Died { signal: 11 }]);
    assert_eq!(check("read line; exec sleep 60", soon), [Outcome::Hung, Outcome::Hung]);
}

#[test]
fn workers_answer_with_what_is_wrong_with_a_program() {
    let mut worker = Worker::new(Path::new(COMMAND), Duration::from_secs(60));
    let mut check = |graph: &str| {
        worker.check(&Job { graph: graph.into(), config: "{}".into(), seed: 1, thorough: Thorough::Whole }).unwrap()
    };
    let body = "weight e: f32[9, 4]\nentry step(token: u32 in 0..9) { output logits = e(e[token]) }";
    let outcome = check(&format!("model m \"fine\"\n{body}"));
    assert!(matches!(outcome, Outcome::Equal { ways, values } if ways > 8 && values > 0), "{outcome:?}");
    let optional = "x = embed[token]\n  if given(hint) { x = x + hint }\n  output logits = embed(x)";
    let head = "input hint: f32[4]?\nweight embed: f32[9, 4]\nentry step(token: u32 in 0..9)";
    let outcome = check(&format!("model m \"an input that comes and goes\"\n{head} {{\n  {optional}\n}}"));
    assert!(matches!(outcome, Outcome::Equal { .. }), "{outcome:?}");
    let outcome = check(&format!("model m \"wrong\"\nx = 1\n{body}"));
    assert!(matches!(&outcome, Outcome::Refused { reason, .. } if reason.contains("E0306")), "{outcome:?}");
}

#[test]
fn reasons_are_counted_without_names_and_numbers() {
    assert_eq!(
        reason("error[E0401]: `max` needs [3, 4]\n --> m.graph:3"),
        reason("error[E0401]: `min` needs [5, 4]\n --> m.graph:7")
    );
    assert_ne!(reason("not yet compiled: a push"), reason("not yet compiled: a pull"));
}

#[test]
fn shrinking_keeps_what_fails_and_little_else() {
    // The fault is a word of the text: a program that has it and can still be checked.
    let mut worker = Worker::new(Path::new(COMMAND), Duration::from_secs(60));
    let mut fails = |program: &_, seed| {
        let job =
            Job { graph: render::graph(program), config: render::config(program), seed, thorough: Thorough::Quick };
        let refused = |text: &str| text.contains("error[E") || text.contains("not valid");
        job.graph.contains("sigmoid(")
            && !matches!(worker.check(&job).unwrap(), Outcome::Refused { text, .. } if refused(&text))
    };
    let seed = (1..50).find(|&seed| fails(&generate(seed), seed)).expect("a valid program with the word");
    let program = generate(seed);
    let small = shrink(&program, 300, |program| fails(program, seed));
    let text = render::graph(&small);
    assert!(text.contains("sigmoid("), "{text}");
    assert!(text.len() < 700 && text.len() < render::graph(&program).len(), "{text}");
}
