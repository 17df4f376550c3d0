//! "Did you mean": the closest of the names that exist.

use datafusion::common::utils::datafusion_strsim::levenshtein;

/// The candidate closest to `word` by edit distance, if it is close enough to be a slip of the finger: at most a third of the word, and
/// two neighbouring letters swapped count as close.
pub fn closest<'a>(candidates: impl IntoIterator<Item = &'a str>, word: &str) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(2);
    candidates
        .into_iter()
        .map(|candidate| (levenshtein(&candidate.to_lowercase(), &word), candidate))
        .filter(|&(distance, candidate)| distance <= allowed && distance < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn slips_are_corrected_and_other_words_are_not() {
        let names = ["predict_ctr", "finetune", "auc", "ips"];
        assert_eq!(closest(names, "predict_crt"), Some("predict_ctr"));
        assert_eq!(closest(names, "Finetun"), Some("finetune"));
        assert_eq!(closest(names, "acu"), Some("auc"));
        assert_eq!(closest(names, "count"), None);
        assert_eq!(closest(names, "x"), None);
    }
}
