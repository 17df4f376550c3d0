//! How much of a question's words a text has: BM25 (Robertson and Zaragoza 2009), as a share of what the question could get at most.

use std::collections::{HashMap, HashSet};

/// How soon further occurrences of a word count less.
const SATURATION: f64 = 1.2;
/// How much the length of a text counts against it.
const LENGTH: f64 = 0.75;

/// The words of some texts.
#[derive(Debug, Default)]
pub struct Bm25 {
    /// The texts that have a word, with how often.
    postings: HashMap<String, Vec<(usize, u32)>>,
    lengths: Vec<u32>,
}

impl Bm25 {
    /// Adds the next text, by its words.
    pub fn add(&mut self, words: impl IntoIterator<Item = String>) {
        let text = self.lengths.len();
        let mut length = 0;
        for word in words {
            length += 1;
            let postings = self.postings.entry(word).or_default();
            match postings.last_mut() {
                Some((last, count)) if *last == text => *count += 1,
                _ => postings.push((text, 1)),
            }
        }
        self.lengths.push(length);
    }

    /// For each text, its score by BM25 over the bound that no text can reach: 0 where it has no word of the question, below 1 always.
    pub fn shares(&self, question: impl IntoIterator<Item = String>) -> Vec<f64> {
        let texts = self.lengths.len();
        let mean = self.lengths.iter().map(|length| f64::from(*length)).sum::<f64>() / texts.max(1) as f64;
        let (mut shares, mut bound) = (vec![0.0; texts], 0.0);
        for word in question.into_iter().collect::<HashSet<String>>() {
            let postings = self.postings.get(&word).map_or(&[][..], Vec::as_slice);
            let having = postings.len() as f64;
            let weight = (1.0 + (texts as f64 - having + 0.5) / (having + 0.5)).ln() * (SATURATION + 1.0);
            bound += weight;
            for (text, count) in postings {
                let (count, length) = (f64::from(*count), f64::from(self.lengths[*text]));
                shares[*text] += weight * count / (count + SATURATION * (1.0 - LENGTH + LENGTH * length / mean));
            }
        }
        if bound > 0.0 {
            shares.iter_mut().for_each(|share| *share /= bound);
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> impl Iterator<Item = String> {
        text.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>().into_iter()
    }

    fn index(texts: &[&str]) -> Bm25 {
        let mut index = Bm25::default();
        texts.iter().for_each(|text| index.add(words(text)));
        index
    }

    /// By hand, from the formula: n = 3, mean length 7/3, df(late) = 1, df(parcel) = 2.
    #[test]
    fn scores_are_those_of_the_formula() {
        let shares = index(&["late parcel", "parcel parcel here", "a refund"]).shares(words("late parcel"));
        let (late, parcel) = ((1.0 + 2.5 / 1.5f64).ln(), (1.0 + 1.5 / 2.5f64).ln());
        let part = |count: f64, length: f64| count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / (7.0 / 3.0)));
        let bound = 2.2 * (late + parcel);
        let expected = [(late + parcel) * part(1.0, 2.0) / bound, parcel * part(2.0, 3.0) / bound, 0.0];
        for (share, expected) in shares.iter().zip(expected) {
            assert!((share - expected).abs() < 1e-12, "{shares:?}");
        }
    }

    #[test]
    fn words_that_no_text_has_lower_all_shares() {
        let index = index(&["late parcel", "refund"]);
        let (known, unknown) = (index.shares(words("late parcel")), index.shares(words("late parcel zebra")));
        assert!(known[0] > unknown[0] && unknown[0] > 0.0 && known[0] < 1.0);
        assert_eq!(index.shares(words("")), [0.0, 0.0]);
        assert!(Bm25::default().shares(words("late")).is_empty());
    }
}
