//! Suggestions for misspelt names.
//!
//! Owns: finding the known name that the user probably meant. Must not know: what the names mean.

/// Returns the candidate that is most similar to `word`, or `None` if no candidate is similar enough. Case is ignored.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut best: Option<(f64, &str)> = None;
    for candidate in candidates {
        let score = strsim::jaro_winkler(&word.to_lowercase(), &candidate.to_lowercase());
        if score >= 0.8 && best.is_none_or(|(highest, _)| score > highest) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, candidate)| candidate.to_owned())
}
