//! Runs the text tests under `tests/files`.
//!
//! `files/passes/*.ir`: a module, the passes named in its first line (`# passes: fold, dce`), and after `# ---` what
//! they report and print. With `STERNA_BLESS=1` what they print now is written into the file; read the difference
//! before you commit it.

use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use sterna_compiler::ir::print::print_module;
use sterna_compiler::ir::read::read_module;
use sterna_compiler::ir::verify::verify;
use sterna_compiler::passes::run_pass;

/// Between what goes in and what comes out.
const BORDER: &str = "# ---\n";

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for path in files("passes", "ir") {
        let name = format!("passes/{}", path.file_stem().unwrap_or_default().to_string_lossy());
        trials.push(Trial::test(name, move || check(&path, passes)));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// The files of a room with this ending, in order.
fn files(room: &str, ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("files").join(room);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == ending))
        .collect();
    assert!(!paths.is_empty(), "no tests in {}", folder.display());
    paths.sort();
    paths
}

/// Compares what `run` makes of the first part of a file with the second, or writes it there.
fn check(path: &Path, run: fn(&str) -> Result<String, Failed>) -> Result<(), Failed> {
    let text = std::fs::read_to_string(path)?;
    let (input, expected) = text.split_once(BORDER).unwrap_or((&text, ""));
    let found = run(input)?;
    if found == expected {
        return Ok(());
    }
    if std::env::var_os("STERNA_BLESS").is_some() {
        std::fs::write(path, format!("{input}{BORDER}{found}"))?;
        return Ok(());
    }
    let same = found.lines().zip(expected.lines()).take_while(|(a, b)| a == b).count();
    let line = |text: &str| text.lines().nth(same).unwrap_or("(the end)").to_string();
    Err(format!(
        "differs at line {} of the output:\n  expected {}\n  found    {}\n\n{found}",
        same + 1,
        line(expected),
        line(&found)
    )
    .into())
}

fn passes(input: &str) -> Result<String, Failed> {
    let first = input.lines().next().unwrap_or_default();
    let names = first.strip_prefix("# passes: ").ok_or("the first line names the passes: # passes: fold, dce")?;
    let mut module = read_module(input).map_err(|e| e.to_string())?;
    verify(&module).map_err(|e| e.to_string())?;
    let mut out = String::new();
    for name in names.split(", ") {
        let report = run_pass(&mut module, name).map_err(|e| e.to_string())?;
        out.push_str(&format!("# {name}: {}\n", report.text));
    }
    out.push_str(&print_module(&module));
    Ok(out)
}
