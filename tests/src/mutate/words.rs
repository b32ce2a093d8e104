//! Edits of texts by their words: names, numbers, quoted texts and single signs, as graph files, printed graphs and
//! JSON have them. Most of them leave a text that still parses.

use std::ops::Range;

use super::bytes;
use crate::programs::dice::Dice;

/// The ranges of names, numbers, texts and single signs.
pub fn words(text: &str) -> Vec<Range<usize>> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let mut out = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        let mut end = start + c.len_utf8();
        if is_word(c) {
            while let Some((at, _)) = chars.next_if(|(_, c)| is_word(*c)) {
                end = at + 1;
            }
        } else if c == '#' {
            while chars.next_if(|(_, c)| *c != '\n').is_some() {}
            continue;
        } else if c == '"' {
            for (at, c) in chars.by_ref() {
                end = at + c.len_utf8();
                if c == '"' || c == '\n' {
                    break;
                }
            }
        } else if c.is_whitespace() {
            continue;
        }
        out.push(start..end);
    }
    out
}

/// Words of the language that no name may be.
const KEYWORDS: [&str; 20] = [
    "model",
    "library",
    "import",
    "config",
    "checkpoint",
    "preset",
    "block",
    "part",
    "weight",
    "state",
    "entry",
    "input",
    "output",
    "probe",
    "check",
    "return",
    "if",
    "else",
    "for",
    "in",
];

/// What a word is: a number, a name, a text, a sign, a bracket or a keyword.
pub fn kind(word: &str) -> u8 {
    match word.chars().next() {
        _ if KEYWORDS.contains(&word) => 5,
        Some(c) if c.is_ascii_digit() => 0,
        Some(c) if c.is_ascii_alphabetic() || c == '_' => 1,
        Some('"') => 2,
        Some('(' | ')' | '[' | ']' | '{' | '}') => 4,
        _ => 3,
    }
}

/// One edit; `donor` is a text of the same kind.
pub fn edit(text: &mut String, donor: &str, dice: &mut Dice) {
    let all = words(text);
    if all.is_empty() {
        return text.push_str(donor);
    }
    // Brackets and keywords hold a text together: few mutants that lose one are read any further.
    let kinds: &[u8] = match dice.below(40) {
        0..34 => &[0, 1, 2],
        34..38 => &[3],
        _ => &[4, 5],
    };
    let meant: Vec<&Range<usize>> = all.iter().filter(|at| kinds.contains(&kind(&text[(*at).clone()]))).collect();
    let at = if meant.is_empty() { all[dice.below(all.len())].clone() } else { dice.pick(&meant).clone() };
    match dice.below(24) {
        20..24 => everywhere(text, &all, &at, dice),
        0..6 => {
            let other = alike(text, &all, &text[at.clone()], dice);
            text.replace_range(at, &other);
        }
        6 | 7 => {
            let other = alike(donor, &words(donor), &text[at.clone()], dice);
            text.replace_range(at, &other);
        }
        8..13 => {
            let numbers: Vec<&Range<usize>> = all.iter().filter(|at| kind(&text[(*at).clone()]) == 0).collect();
            if numbers.is_empty() {
                return;
            }
            let at = dice.pick(&numbers).clone();
            let new = other_number(&text[at.clone()], dice);
            text.replace_range(at, &new);
        }
        13 if dice.chance(50) => text.replace_range(at, ""),
        13 => {
            let copy = format!(" {} ", &text[at.clone()]);
            text.insert_str(at.end, &copy);
        }
        14 | 15 => {
            let same: Vec<&Range<usize>> =
                all.iter().filter(|other| kind(&text[(*other).clone()]) == kind(&text[at.clone()])).collect();
            let other = dice.pick(&same).clone();
            let (first, second) = if at.start < other.start { (at, other) } else { (other, at) };
            if first.end <= second.start {
                let (a, b) = (text[first.clone()].to_owned(), text[second.clone()].to_owned());
                text.replace_range(second, &a);
                text.replace_range(first, &b);
            }
        }
        16 | 17 => lines(text, donor, dice),
        18 => {
            // Some words in the place of some others.
            let from = words(donor);
            let (to, from) = (bytes::range(all.len(), dice), bytes::range(from.len(), dice).map(|i| from[i].clone()));
            let put: Vec<&str> = from.map(|at| &donor[at]).collect();
            text.replace_range(all[to.start].start..all[to.end - 1].end, &put.join(" "));
        }
        _ => {
            let sign =
                dice.pick(&["(", ")", "[", "]", "{", "}", "-", "..", ",", "\"", "\n", "\u{0}", "é", "0x", "#", "inf"]);
            text.insert_str(at.start, sign);
        }
    }
}

/// A word replaced wherever it stands: a size stays one size, a name one name.
fn everywhere(text: &mut String, all: &[Range<usize>], at: &Range<usize>, dice: &mut Dice) {
    let old = text[at.clone()].to_owned();
    let new = match old.parse::<i128>() {
        Ok(_) => other_number(&old, dice),
        Err(_) => alike(text, all, &old, dice),
    };
    for at in all.iter().rev().filter(|at| text[(*at).clone()] == old).cloned().collect::<Vec<_>>() {
        text.replace_range(at, &new);
    }
}

/// A line taken away, repeated, moved, or taken from the donor.
fn lines(text: &mut String, donor: &str, dice: &mut Dice) {
    let mut all: Vec<&str> = text.lines().collect();
    if all.is_empty() {
        return;
    }
    let whole: Vec<usize> = (0..all.len()).filter(|&at| !all[at].contains(['{', '}'])).collect();
    let mut place = || if whole.is_empty() || dice.chance(15) { dice.below(all.len()) } else { dice.pick(&whole) };
    let (at, to) = (place(), place());
    match dice.below(4) {
        0 => drop(all.remove(at)),
        1 => all.insert(to, all[at]),
        2 => all.swap(at, to),
        _ => {
            let others: Vec<&str> = donor.lines().collect();
            if !others.is_empty() {
                all.insert(to, others[dice.below(others.len())]);
            }
        }
    }
    *text = all.join("\n");
}

/// A word of the same kind.
fn alike(text: &str, words: &[Range<usize>], word: &str, dice: &mut Dice) -> String {
    let same: Vec<&Range<usize>> = words.iter().filter(|at| kind(&text[(*at).clone()]) == kind(word)).collect();
    if same.is_empty() { word.to_owned() } else { text[dice.pick(&same).clone()].to_owned() }
}

/// A number in the place of another.
fn other_number(word: &str, dice: &mut Dice) -> String {
    if let Ok(old) = word.parse::<i128>()
        && dice.chance(85)
    {
        // Small numbers are sizes and places; most that are near still mean something.
        return match dice.below(4) {
            0 => bytes::number(old, dice).to_string(),
            1 => dice.below(9).to_string(),
            2 => (old + 1).to_string(),
            _ => (old - 1).to_string(),
        };
    }
    dice.pick(&["0", "1", "0.5", "-1", "1e30", "1e-40", "-0.0", "1e400", "0.1", "127.5", "3.0"]).to_owned()
}
