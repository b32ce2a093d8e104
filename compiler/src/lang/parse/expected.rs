//! Puts a failure of the grammar into words: what stands there, what was expected, and what the
//! author may have meant.

use super::layout::is_word;
use super::tree::Rule;
use crate::diagnostics::{Code, Diagnostic, FileId, Span, nearest};
use crate::lang::ast::BinaryOp;
use crate::lang::foreign;
use pest::error::{Error, ErrorVariant};
use std::ops::Range;

/// Where a mistake was found.
pub struct Context<'a> {
    /// The text after layout.
    pub text: &'a str,
    /// The innermost statement that holds it.
    pub statement: Range<usize>,
    /// Which text.
    pub file: FileId,
}

/// Words that begin a statement or an item, for the nearest one.
const OPENERS: [&str; 25] = [
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
    "match",
    "for",
    "repeat",
    "exit",
    "return",
    "output",
    "probe",
    "check",
    "warn",
    "input",
    "host",
    "entry",
    "model",
    "library",
    "else",
];

/// Words that no name may be.
const RESERVED: [&str; 36] = [
    "and",
    "at",
    "block",
    "checkpoint",
    "check",
    "config",
    "else",
    "entry",
    "exit",
    "false",
    "for",
    "held",
    "host",
    "if",
    "import",
    "inf",
    "input",
    "in",
    "library",
    "match",
    "model",
    "not",
    "null",
    "or",
    "output",
    "part",
    "preset",
    "probe",
    "repeat",
    "return",
    "state",
    "true",
    "warn",
    "weight",
    "when",
    "_",
];

const NUMBERS: &str = "numbers are written `1000`, `0xff`, `0.5` or `1e-3`, without a letter for their type";

/// What may begin with a name.
const NAMES: [&str; 6] = ["a name", "an expression", "a parameter", "a static parameter", "a type", "a key"];

/// The diagnostic for a failure of the grammar at byte `at`.
pub fn describe(error: &Error<Rule>, at: usize, context: &Context<'_>) -> Diagnostic {
    let rules = match &error.variant {
        ErrorVariant::ParsingError { positives, .. } => positives.as_slice(),
        ErrorVariant::CustomError { .. } => &[],
    };
    let text = context.text;
    let expected = words(rules);
    let ends = rules.iter().any(|rule| matches!(rule, Rule::sep | Rule::EOI));
    let operator = rules.contains(&Rule::infix);

    let early = at >= context.statement.end || text[at..].starts_with('\n');
    let token = token(text, at);
    let (title, range) = if early {
        let end = text[..at].trim_end().len();
        ("this statement ends too early".to_string(), end..end)
    } else if ends && operator {
        ("this statement does not end".to_string(), at..context.statement.end.max(token.end))
    } else {
        (format!("`{}` is not expected here", &text[token.clone()]), token.clone())
    };
    let label = if expected.is_empty() { String::new() } else { format!("expected {}", join(&expected)) };
    let diagnostic = Diagnostic::error(Code::Syntax, title).at(Span::new(context.file, range), label);
    if early {
        return diagnostic.help_if(early_end(text, at).map(str::to_string));
    }
    diagnostic.help_if(advice(rules, ends && operator, at, &text[token], context))
}

/// What the author of a statement that ends too early may have meant.
fn early_end(text: &str, at: usize) -> Option<&'static str> {
    let before = text[..at].trim_end();
    if text[at..].trim_start().starts_with('{') {
        return Some("the `{` stands on the line of what it belongs to");
    }
    before.strip_suffix('.').is_some_and(|rest| rest.ends_with(|c: char| c.is_ascii_digit())).then_some(NUMBERS)
}

/// What the author may have meant.
fn advice(rules: &[Rule], unended: bool, at: usize, found: &str, context: &Context<'_>) -> Option<String> {
    let first = word(context.text, context.statement.start);
    let before = context.text[..at].trim_end();
    if unended && context.text[context.statement.start.min(at)..at].contains("//") {
        return Some("`//` divides and rounds down; a comment begins with `#`".to_string());
    }
    if let Some(meant) = foreign::sign(found).or_else(|| foreign::sign(first)) {
        return Some(meant.to_string());
    }
    if let Some(meant) = form(rules, unended, at, found, context) {
        return Some(meant.to_string());
    }
    if !found.is_ascii() {
        return Some("names are ASCII; other characters stand in texts and comments".to_string());
    }
    let wants_name = words(rules).iter().any(|word| NAMES.contains(word));
    if wants_name && RESERVED.contains(&found) {
        return Some(format!("`{found}` is a reserved word, so it cannot be a name"));
    }
    // `blok f(x) ...` is read as the names of an assignment; a mistaken first word explains it.
    let assigns = rules.iter().any(|rule| matches!(rule, Rule::equals | Rule::comma));
    if assigns
        && !RESERVED.contains(&first)
        && !unended
        && let Some(near) = nearest(first, OPENERS)
    {
        return Some(format!("nearest keyword: `{near}`"));
    }
    if rules.contains(&Rule::item) && BinaryOp::ALL.iter().any(|op| op.symbol() == found) {
        return Some("a line break ends a statement: put the operator at the end of the line before".to_string());
    }
    if matches!(found, ")" | "]") && before.ends_with(',') {
        return Some(format!("no comma stands before `{found}`"));
    }
    if unended && found == "," {
        return Some("statements and keys end with the line or with `;`".to_string());
    }
    if unended && found == "=" {
        return Some("`==` compares; `=` only begins the value of a name".to_string());
    }
    let known = words(rules).into_iter().flat_map(|word| word.split('`').skip(1).step_by(2));
    let kinds = ["int", "float", "bool", "string", "map of int", "ignored", "runtime", "warned"];
    let typed = rules.contains(&Rule::fate) || rules.contains(&Rule::key_type);
    if let Some(near) = nearest(found, known.chain(kinds.into_iter().filter(|_| typed))) {
        // What is drawn in quotes as a form (`ignored(...)`) is too long to be near to a word.
        return Some(format!("nearest word: `{near}`"));
    }
    unended.then(|| "a long expression goes on after an operator: end the line with `+`".to_string())
}

/// Forms of other languages that are known by what stands around the place.
fn form(rules: &[Rule], unended: bool, at: usize, found: &str, context: &Context<'_>) -> Option<&'static str> {
    let before = &context.text.as_bytes()[context.statement.start.min(at)..at];
    let mut depth = 0usize;
    let open = before.iter().rev().find(|byte| match byte {
        b')' | b']' | b'}' => {
            depth += 1;
            false
        }
        b'(' | b'[' | b'{' if depth > 0 => {
            depth -= 1;
            false
        }
        byte => matches!(byte, b'(' | b'[' | b'{'),
    });
    let value = words(rules).contains(&"an expression") && !rules.contains(&Rule::infix);
    let statement = rules.iter().any(|rule| matches!(rule, Rule::stmt | Rule::item | Rule::sep)) && !value;
    let rest = &context.text[at..];
    let slice = open == Some(&b'[');
    match found {
        ":" if slice => Some("a slice is written with two dots, and with both ends: `x[0..4]`"),
        ".." if rest.starts_with("...") => Some("there is no `...`: an index counts axes from the first"),
        ".." if slice && value => Some("a slice is written with both ends: `x[0..4]`"),
        "]" if slice && before.ends_with(b"..") => Some("a slice is written with both ends: `x[0..4]`"),
        ".." if rules.contains(&Rule::infix) => Some("a slice or range takes neighbours: it has no step"),
        "." if value && rest[1..].starts_with(|c: char| c.is_ascii_digit()) => Some(NUMBERS),
        _ if value && found.starts_with(|c: char| c.is_ascii_digit()) => Some(NUMBERS),
        ">" if before.ends_with(b"<") => Some("`!=` compares for difference"),
        ":" if rules.contains(&Rule::open_brace) => Some("what belongs to it stands in braces: `if c { ... }`"),
        ":" if rules.contains(&Rule::equals) => {
            Some("a name that is assigned has the type of its value: `y = x`; a conversion is written `f32(x)`")
        }
        "{" if value => Some("braces hold statements: `(...)` groups, and `[a, b]` is a list"),
        "{" if statement => Some("braces belong to a block, an entry, `if`, `match`, `for` or `repeat`"),
        "if" if unended || rules.contains(&Rule::infix) => Some("a choice is written `if c { a } else { b }`"),
        "[" if rules.contains(&Rule::equals) && rules.contains(&Rule::comma) => {
            Some("a name is assigned whole: put the new value together with `concat`, `select` or a list, `s = [a, b]`")
        }
        _ => None,
    }
}

/// The word at an offset, or nothing.
fn word(text: &str, at: usize) -> &str {
    let length = text.as_bytes()[at..].iter().take_while(|&&byte| is_word(byte)).count();
    &text[at..at + length]
}

/// The bytes of the word, number, text or sign at an offset.
fn token(text: &str, at: usize) -> Range<usize> {
    let rest = &text[at..];
    let Some(first) = rest.chars().next() else {
        return at..at;
    };
    let length = if first.is_ascii() && is_word(first as u8) {
        word(text, at).len()
    } else if first == '"' {
        rest[1..].find('"').map_or(rest.len(), |end| end + 2)
    } else {
        let own = ["==", "=>", "->", "..", "**", "//", "!=", "<=", ">=", "<<", ">>"];
        let signs = foreign::long_signs().chain(own);
        signs.filter(|sign| rest.starts_with(sign)).map(str::len).max().unwrap_or(first.len_utf8())
    };
    at..at + length
}

/// The expected things, without what follows from another one.
fn words(rules: &[Rule]) -> Vec<&'static str> {
    let has = |rule| rules.contains(&rule);
    let mut found = Vec::new();
    for &rule in rules {
        let implied = match rule {
            // Wherever an operator may follow, so may these.
            Rule::postfix | Rule::call | Rule::index | Rule::member | Rule::range_op => has(Rule::infix),
            Rule::open_paren | Rule::open_bracket | Rule::dot => has(Rule::infix),
            // A name before the `:` of an argument is also an expression.
            Rule::colon => has(Rule::infix),
            // The statement may go on or be the last; that it may end says enough.
            Rule::comma | Rule::close_brace => has(Rule::infix) && (has(Rule::sep) || has(Rule::EOI)),
            Rule::prefix | Rule::primary => has(Rule::expr) || has(Rule::domain),
            Rule::any_depth => true,
            // A line break that only stands before a closing brace.
            Rule::sep => [Rule::stmt, Rule::key_decl, Rule::setting, Rule::tensor_rule].into_iter().any(has),
            _ => false,
        };
        let word = word_of(rule);
        if !implied && !word.is_empty() && !found.contains(&word) {
            found.push(word);
        }
    }
    // Operators first, what closes last, as one would say it.
    found.sort_by_key(|word| match *word {
        "an operator" => 0,
        "`)`" | "`]`" | "`}`" => 2,
        "`;` or the end of the line" => 3,
        _ => 1,
    });
    found
}

fn join(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_string(),
        [most @ .., last] if last.contains(" or ") => format!("{}, {last}", most.join(", ")),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// A rule in the words of a person; empty for rules that explain nothing.
fn word_of(rule: Rule) -> &'static str {
    use Rule::*;
    match rule {
        infix => "an operator",
        sep | EOI => "`;` or the end of the line",
        prefix | primary | expr | domain | args | arg | choice | expr_only => "an expression",
        postfix | call | index | member => "`(`, `[` or `.`",
        name | names | word | part_name | arg_name => "a name",
        header | header_only | k_model | k_library => "`model` or `library` and a name",
        item | item_only => "a statement",
        stmt | assign => "a statement",
        param | params => "a parameter",
        static_param | statics => "a static parameter",
        kind => "a kind: `int`, `float`, `bool`, `string`, `list`, `encoding`, `axis` or `part`",
        value_type | stored => "a type",
        shape => "`[`",
        key_type | key_alt => "a type or allowed value",
        fate => "`ignored(...)`, `runtime(...)` or `warned(...)`",
        scalar => "`int`, `float`, `bool` or `string`",
        list_of => "`[`",
        map | k_map => "`map of`",
        key | key_decl => "a key",
        keys => "`{`",
        wildcard => "`*`",
        default | equals => "`=`",
        limit | k_in => "`in`",
        range_op => "`..`",
        setting | path | path_segment => "a key",
        tensor_rule | ignore | strip | rename | choose => checkpoint_word(rule),
        body | open_brace | choice_value => "`{`",
        arm => "an arm",
        otherwise => "`_`",
        literal | signed_literal => "a literal",
        number | signed_number => "a number",
        text => "a text",
        word_literal => "`true`, `false`, `inf` or `null`",
        list | open_bracket => "`[`",
        comprehension | k_for => "`for`",
        optional => "`?`",
        within | k_within => "`within`",
        start | k_start => "`start`",
        at | k_at => "`at`",
        close_brace => "`}`",
        open_paren => "`(`",
        close_paren => "`)`",
        close_bracket => "`]`",
        comma => "`,`",
        colon => "`:`",
        dot => "`.`",
        bar => "`|`",
        arrow => "`->`",
        fat_arrow => "`=>`",
        k_else => "`else`",
        k_if => "`if`",
        k_when => "`when`",
        k_as => "`as`",
        copy_of | k_copy => "`copy of`",
        k_most => "`max`",
        k_from => "`from`",
        k_empty => "`empty`",
        k_of => "`of`",
        k_state => "`state`",
        _ => "",
    }
}

fn checkpoint_word(rule: Rule) -> &'static str {
    match rule {
        Rule::ignore => "`ignore`",
        Rule::strip => "`strip`",
        Rule::rename => "`rename`",
        Rule::choose => "`choose`",
        _ => "`ignore`, `strip`, `rename` or `choose`",
    }
}
