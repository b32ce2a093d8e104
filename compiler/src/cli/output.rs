//! What commands print: progress on a terminal's stderr, numbers for people, JSON for machines.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A line on stdout, formatted as by `println!`; see [`text`].
macro_rules! say {
    ($($argument:tt)*) => { $crate::cli::output::text(&format!("{}\n", format_args!($($argument)*))) };
}

/// A line on stderr, formatted as by `eprintln!`. Where nobody can read it the command goes on, and keeps its exit code.
macro_rules! tell {
    ($($argument:tt)*) => { $crate::cli::output::told(&format!("{}\n", format_args!($($argument)*))) };
}

/// Writes to stderr, if that can be written; see `tell`.
pub fn told(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Writes a result to stdout. A reader that has seen enough closes the pipe: the command ends there, and well. Where
/// stdout cannot be written otherwise (a full disk) it ends with an error.
pub fn text(text: &str) {
    let mut stdout = std::io::stdout();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        if error.kind() != ErrorKind::BrokenPipe {
            tell!("error: cannot write to stdout: {error}");
        }
        std::process::exit(i32::from(error.kind() != ErrorKind::BrokenPipe));
    }
}

/// A bar over `length` units that shows itself only on a terminal and only if the work takes longer than a second.
pub fn progress(length: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar.set_message(what);
    tick(&bar);
    bar
}

/// A sign of life for work of unknown length, under the same conditions.
pub fn spinner(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_message(what);
    tick(&bar);
    bar
}

/// Draws a bar anew every second, from a thread of its own. Where no thread can be had the bar moves with the work
/// only.
fn tick(bar: &ProgressBar) {
    if bar.is_hidden() {
        return;
    }
    let bar = bar.downgrade();
    let draw = move || {
        while let Some(bar) = bar.upgrade().filter(|bar| !bar.is_finished()) {
            bar.tick();
            drop(bar);
            std::thread::sleep(Duration::from_secs(1));
        }
    };
    // The thread ends with the bar or the process; nobody waits for it.
    drop(std::thread::Builder::new().name("progress".into()).spawn(draw));
}

/// 1,234,567
pub fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count of bytes as people say it: 9.67 MiB.
pub fn bytes(n: usize) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.2} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(38_999_808), "38,999,808");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.50 KiB");
    }
}
