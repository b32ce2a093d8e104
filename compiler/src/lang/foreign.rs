//! What people who come from Python and its tensor libraries write, and how it is said here.
//!
//! Both tables only give advice for a text that is wrong already. What is right is decided by the grammar and by
//! the names in scope, which never look here.

/// Signs and words that the grammar does not have where an expression or a statement stands.
const SIGNS: &[(&str, &str)] = &[
    ("&&", "`and` joins conditions"),
    ("||", "`or` joins conditions"),
    ("&", "`and` joins conditions; `x % 8` keeps the three lowest bits of an integer"),
    ("|", "`or` joins conditions"),
    ("!", "`not` negates"),
    ("~", "`not` negates"),
    ("elif", "write `else if`"),
    ("+=", "write the name twice: `x = x + ...`"),
    ("-=", "write the name twice: `x = x - ...`"),
    ("*=", "write the name twice: `x = x * ...`"),
    ("/=", "write the name twice: `x = x / ...`"),
    ("//=", "write the name twice: `x = x // ...`"),
    ("**=", "write the name twice: `x = x ** ...`"),
    ("%=", "write the name twice: `x = x % ...`"),
    ("@=", "write the name twice: `x = x @ ...`"),
    ("++", "write the name twice: `x = x + 1`"),
    ("--", "write the name twice: `x = x - 1`"),
    ("//", "a comment begins with `#`"),
    ("/*", "a comment begins with `#`"),
    ("is", "`==` compares"),
    ("const", "a name is made by assigning it: `x = ...`"),
    (":=", "a name is made by assigning it in a statement of its own: `x = ...`"),
    ("'", "texts stand between `\"`"),
    ("?", "a choice is written `if c { a } else { b }`"),
    ("while", "`repeat r in 0..n max m { ... }` with `exit when c` loops in a step"),
    ("def", "blocks begin with `block`"),
    ("class", "blocks begin with `block`"),
    ("fn", "blocks begin with `block`"),
    ("lambda", "blocks begin with `block`; a call of a block maps it over leading axes"),
    ("let", "a name is made by assigning it: `x = ...`"),
    ("assert", "write `check condition, \"message\"`"),
    ("del", "names end with the block; nothing is deleted"),
];

/// Names of functions and values that are not known here, or not by that name.
const NAMES: &[(&str, &str)] = &[
    ("log", "the natural logarithm is `ln(x)`; `log2(n)` is for static numbers"),
    ("log10", "write `ln(x) / 2.302585093`"),
    ("pow", "write `x ** 2` with a static integer, or `exp(y * ln(x))`"),
    ("square", "write `x ** 2`"),
    (
        "einsum",
        "`a @ b` contracts one axis; `outer`, `transpose`, `permute`, `reshape` and `sum(x, axis: i)` do the rest",
    ),
    ("matmul", "write `a @ b`"),
    ("mm", "write `a @ b`"),
    ("bmm", "write `a @ b` in a block for one matrix: a call maps it over leading axes"),
    ("dot", "write `a @ b`"),
    ("sort", "`top_k(x, k)` gives the k largest in descending order, and their indices"),
    ("argsort", "`top_k(x, k)` gives the k largest in descending order, and their indices"),
    ("topk", "write `top_k(x, k)`"),
    ("argmin", "write `argmax(-x)`"),
    ("where", "write `select(condition, a, b)`"),
    ("masked_fill", "write `select(mask, value, x)`"),
    ("clip", "write `clamp(x, low, high)`"),
    ("minimum", "write `min(a, b)`"),
    ("maximum", "write `max(a, b)`"),
    ("amax", "write `max(x, axis: -1)`"),
    ("amin", "write `min(x, axis: -1)`"),
    ("cat", "write `concat(a, b, axis: 0)`"),
    ("stack", "a list of values stacks them: `[a, b]`"),
    ("chunk", "write `split(x, n)`"),
    ("view", "write `reshape(x, a, b)`"),
    ("unsqueeze", "write `reshape(x, 1, n)`"),
    ("squeeze", "write `reshape(x, n)`"),
    ("ones", "write `zeros(n) + 1`"),
    ("arange", "write `iota(n)`, or a list `[i for i in 0..n]`"),
    ("range", "write `for i in 0..n { ... }`"),
    ("ceil", "write `-floor(-x)`"),
    ("neg", "write `-x`"),
    ("bool", "compare: `x != 0`"),
    ("float", "write `f32(x)`"),
    ("int", "write `i32(x)`"),
    ("None", "write `null`"),
    ("True", "write `true`"),
    ("False", "write `false`"),
    ("self", "parts and states of a block are known by their names alone"),
    ("print", "`probe name = value` marks a value to observe; `sterna logits --probe` shows it"),
];

/// Members of tensors elsewhere that are no functions here.
const MEMBERS: &[(&str, &str)] = &[
    ("T", "write `transpose(x)`"),
    ("mT", "write `transpose(x)`"),
    ("t", "write `transpose(x)`"),
    ("shape", "shapes are known where values are declared: use the names of their axes"),
    ("size", "shapes are known where values are declared: use the names of their axes"),
    ("numel", "shapes are known where values are declared: use the names of their axes"),
    ("dtype", "types are known where values are declared"),
    ("to", "conversions are written: `f32(x)`, `i32(x)`, ..."),
    ("item", "a tensor without axes is a number already"),
];

fn find(table: &'static [(&str, &str)], wanted: &str) -> Option<&'static str> {
    table.iter().find(|(foreign, _)| *foreign == wanted).map(|(_, meant)| *meant)
}

/// Advice for a sign or word that the grammar does not take.
pub fn sign(found: &str) -> Option<&'static str> {
    find(SIGNS, found)
}

/// Signs of more than one character, for the reader of tokens.
pub fn long_signs() -> impl Iterator<Item = &'static str> {
    SIGNS.iter().map(|(sign, _)| *sign).filter(|sign| sign.len() > 1 && !sign.as_bytes()[0].is_ascii_alphabetic())
}

/// Advice for a member of a value that has none, other than functions by the same name.
pub fn member(unknown: &str) -> Option<&'static str> {
    find(MEMBERS, unknown).or_else(|| name(unknown))
}

/// Advice for a name that is not declared.
pub fn name(unknown: &str) -> Option<&'static str> {
    find(NAMES, unknown)
}
