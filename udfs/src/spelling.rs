//! "Did you mean": the closest of the names that exist.

use datafusion::common::utils::datafusion_strsim::levenshtein;

/// The candidate closest to `word` by edit distance, if it is close enough to be a slip of the finger: at most a third of the word is wrong,
/// or two letters are swapped.
pub fn closest<'a>(candidates: impl IntoIterator<Item = &'a str>, word: &str) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&candidate.to_lowercase(), &word), candidate))
        .filter(|&(distance, candidate)| distance <= allowed && distance < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

/// The edit distance, where two swapped letters are one edit.
fn distance(left: &str, right: &str) -> usize {
    let distance = levenshtein(left, right);
    let letters = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    if distance == 2 && letters(left) == letters(right) { 1 } else { distance }
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
        assert_eq!(closest(names, "sum"), None);
        assert_eq!(closest(names, "count"), None);
        assert_eq!(closest(names, "x"), None);
    }
}
