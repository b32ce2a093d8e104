//! The nearest name to one that is misspelt.

/// The candidate that most resembles `name`, if any resembles it enough to be worth naming:
/// at most a third of its characters (at least one) inserted, deleted, replaced or swapped.
/// The first of equals wins, so pass candidates in a fixed order.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Hostile names may be long and many; the distance costs the product of both lengths.
    const LONGEST: usize = 128;
    const MOST: usize = 4096;
    if name.len() > LONGEST {
        return None;
    }
    let allowed = (name.chars().count() / 3).max(1);
    let folded = name.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates.into_iter().take(MOST) {
        if candidate.len() > LONGEST || candidate == name {
            continue;
        }
        let distance = strsim::damerau_levenshtein(&folded, &candidate.to_lowercase());
        if distance <= allowed && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_swaps_and_case_but_not_strangers() {
        let keys = ["d_model", "n_layers", "d_ff"];
        assert_eq!(nearest("d_modle", keys), Some("d_model"));
        assert_eq!(nearest("D_MODEL", keys), Some("d_model"));
        assert_eq!(nearest("nlayers", keys), Some("n_layers"));
        assert_eq!(nearest("vocabulary", keys), None);
        assert_eq!(nearest("x", keys), None);
    }
}
