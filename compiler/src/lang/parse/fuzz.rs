//! Hostile texts: whatever is read, parsing ends without a panic, gives a tree or errors, and every
//! error can be drawn.

use super::tests::{library, run};
use crate::diagnostics::{Style, render};
use proptest::prelude::*;

fn survives(text: &str) -> Result<(), TestCaseError> {
    let (tree, diagnostics, files) = run(text);
    prop_assert_eq!(tree.is_none(), diagnostics.has_errors(), "{}", text);
    let shown = render(&diagnostics, &files, Style::Plain);
    prop_assert_eq!(shown.is_empty(), diagnostics.is_empty());
    Ok(())
}

const TOKENS: &[&str] = &[
    "model",
    "library",
    "m",
    "import",
    "config",
    "preset",
    "checkpoint",
    "block",
    "part",
    "weight",
    "state",
    "held",
    "if",
    "else",
    "match",
    "for",
    "in",
    "repeat",
    "max",
    "exit",
    "when",
    "return",
    "output",
    "probe",
    "check",
    "warn",
    "input",
    "host",
    "entry",
    "within",
    "start",
    "empty",
    "at",
    "any",
    "map",
    "of",
    "int",
    "float",
    "ignored",
    "strip",
    "rename",
    "choose",
    "ignore",
    "as",
    "copy",
    "not",
    "and",
    "or",
    "x",
    "y",
    "f32",
    "_",
    "0",
    "1.5",
    "0x1f",
    "1e9",
    "\"t\"",
    "\"{x}\"",
    "\"{(x\"",
    "true",
    "inf",
    "null",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    ";",
    "\n",
    "=",
    "==",
    "=>",
    "->",
    ".",
    "..",
    "..=",
    "|",
    "?",
    "+",
    "-",
    "*",
    "**",
    "/",
    "//",
    "%",
    "@",
    "<",
    "<<",
    ">=",
    "^",
    "!",
    "#",
    "é",
    " ",
    "\"",
    "\u{0}",
    "\r\n",
    "\t",
];

/// One change to a text: where (as a share of its length), what, and with what.
type Change = (f64, u8, usize);

fn changed(text: &str, changes: &[Change]) -> String {
    let mut text = text.to_string();
    for &(share, kind, what) in changes {
        let mut at = (share * text.len() as f64) as usize;
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let mut end = (at + what % 40).min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        match kind % 4 {
            0 => text.insert_str(at, TOKENS[what % TOKENS.len()]),
            1 => text.replace_range(at..end, ""),
            2 => text.replace_range(at..end, TOKENS[what % TOKENS.len()]),
            _ => {
                let copy = text[at..end].to_string();
                text.insert_str(at, &copy);
            }
        }
    }
    text
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        survives(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn any_tokens(tokens in proptest::collection::vec(0..TOKENS.len(), 0..120), open: bool) {
        let words: Vec<&str> = tokens.iter().map(|&token| TOKENS[token]).collect();
        let body = words.join(" ");
        survives(&if open { format!("model m\nblock b() -> f32 {{ {body} }}") } else { body })?;
    }

    #[test]
    fn changed_graphs(
        which in 0usize..4,
        changes in proptest::collection::vec((0.0..1.0, any::<u8>(), any::<usize>()), 1..5),
    ) {
        let text = library(["std", "cpu1", "v76", "chimera"][which]);
        survives(&changed(&text, &changes))?;
    }
}

/// Time grows with the length only: texts that try every alternative at every level.
#[test]
fn hostile_texts_take_linear_time() {
    let started = std::time::Instant::now();
    let n = 20_000;
    for text in [
        format!("model m\nx = {}", "if a { ".repeat(60) + &"} else { 1 }".repeat(60)),
        format!("model m\nx = {}", "[a for i in ".repeat(60) + &"]".repeat(60)),
        format!("model m\nconfig {{ {} }}", "a: [int, ".repeat(50) + &"]".repeat(50)),
        format!("model m\n{}", "match x { 1 => ".repeat(60) + &"}".repeat(60)),
        format!("model m\nx = f({})", "a, ".repeat(n)),
        format!("model m\nx ={}", " ".repeat(n * 10)),
        format!("model m\n{}", "x = = 1\n".repeat(n)),
        format!("model m\nblock b() -> f32 {{ {} }}", "x = = 1\n".repeat(n)),
        format!("model m\nx = {}1", "1 +\n".repeat(200)),
        format!("model m\ncheck x, \"{}\"", "{".repeat(n)),
    ] {
        let (tree, diagnostics, files) = run(&text);
        assert_eq!(tree.is_none(), diagnostics.has_errors());
        render(&diagnostics, &files, Style::Plain);
    }
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
