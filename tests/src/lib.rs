//! What the whole-system tests share: the `sterna` command, and the project's own files.

pub mod mutate;
pub mod programs;
pub mod torch_writer;
pub mod workers;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The project's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of a workspace").to_path_buf()
}

/// A file below `tests/files`.
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("files").join(path)
}

/// The `sterna` command, from the binary of this crate: cargo builds it with the tests, with the same features.
pub fn sterna() -> Command {
    let test = std::env::current_exe().expect("a running test");
    let folder = test.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    Command::new(folder.join(format!("sterna-command{}", std::env::consts::EXE_SUFFIX)))
}

/// Runs the command with these arguments.
pub fn run(arguments: &[&str]) -> Output {
    sterna().args(arguments).output().expect("the command starts")
}

/// Runs the command, which must succeed, and gives what it printed.
pub fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "sterna {}\n{error}", arguments.join(" "));
    String::from_utf8(output.stdout).expect("text")
}

/// Runs the command, which must fail with this code, and gives what it said. A panic is never an answer.
pub fn failure(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "sterna {}\n{error}", arguments.join(" "));
    assert!(!error.contains("panicked"), "{error}");
    error
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The largest difference between rows of logits, which must have one shape.
pub fn largest_difference(found: &[Vec<f64>], expected: &[Vec<f64>]) -> f64 {
    assert_eq!(found.len(), expected.len(), "rows");
    let rows = found.iter().zip(expected);
    rows.flat_map(|(a, b)| {
        assert_eq!(a.len(), b.len(), "vocabulary");
        a.iter().zip(b)
    })
    .fold(0.0, |worst, (a, b)| worst.max((a - b).abs()))
}
