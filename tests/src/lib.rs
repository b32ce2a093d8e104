//! What the whole-system tests share: the `sterna` command, and the project's own files.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The project's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of a workspace").to_path_buf()
}

/// A file below `tests/files`.
pub fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("files").join(path)
}

/// The `sterna` command, built once with the profile of the tests.
pub fn sterna() -> Command {
    static BUILT: OnceLock<escargot::CargoRun> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        escargot::CargoBuild::new()
            .manifest_path(root().join("Cargo.toml"))
            .package("sterna-compiler")
            .bin("sterna")
            .current_release()
            .current_target()
            .run()
            .expect("the command builds")
    });
    built.command()
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
