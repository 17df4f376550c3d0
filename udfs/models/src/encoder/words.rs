//! Words of a text and the tokens that stand for them. A word has the tag of its first token; its other tokens have none.

use std::ops::Range;

/// A text, and where its words are, as bytes, in order and without overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sentence {
    /// The text.
    pub text: String,
    /// The words.
    pub words: Vec<Range<usize>>,
}

impl Sentence {
    /// A text that is cut into words: runs of letters and digits; single characters of scripts that do not separate words; single other signs.
    pub fn of_text(text: &str) -> Self {
        Self { text: text.to_owned(), words: crate::text::words(text) }
    }

    /// Words with a space between any two.
    pub fn of_words<'w>(words: impl IntoIterator<Item = &'w str>) -> Self {
        let mut sentence = Self::default();
        for word in words {
            if !sentence.words.is_empty() {
                sentence.text.push(' ');
            }
            let from = sentence.text.len();
            sentence.text.push_str(word);
            sentence.words.push(from..sentence.text.len());
        }
        sentence
    }
}

/// The place of the first token of each word: the first one that lies in it, at least in part. Two words may share a token; a word without a token, or
/// one that was not read, has none. Both are in order.
pub(super) fn first_tokens(tokens: &[Option<Range<usize>>], words: &[Range<usize>]) -> Vec<Option<usize>> {
    let mut from = 0;
    let first = |word: &Range<usize>| {
        let before = |token: &Option<Range<usize>>| token.as_ref().is_none_or(|token| token.end <= word.start || token.is_empty());
        while tokens.get(from).is_some_and(before) {
            from += 1;
        }
        let found = tokens.get(from)?.as_ref()?;
        (found.start < word.end && !word.is_empty()).then_some(from)
    };
    words.iter().map(first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_told_by_its_first_token() {
        // [CLS] run ##ning shoe ##s "$" 20 [SEP], of which "shoes" and "$" are words of their own.
        let tokens = [None, Some(0..3), Some(3..7), Some(8..12), Some(12..13), Some(14..15), Some(15..17), None];
        assert_eq!(first_tokens(&tokens, &[0..7, 8..13, 14..15, 15..17]), [Some(1), Some(3), Some(5), Some(6)]);
        // Words that share a token, one without any, and one that is not read.
        assert_eq!(first_tokens(&[None, Some(0..4), None], &[0..2, 2..4, 4..4, 5..8]), [Some(1), Some(1), None, None]);
    }

    #[test]
    fn words_are_joined_by_spaces_and_found_in_texts() {
        let sentence = Sentence::of_words(["red", "", "shoes"]);
        assert_eq!((sentence.text.as_str(), sentence.words.as_slice()), ("red  shoes", [0..3, 4..4, 5..10].as_slice()));
        let sentence = Sentence::of_text("Ann's 很好 $20");
        let words: Vec<&str> = sentence.words.iter().map(|word| &sentence.text[word.clone()]).collect();
        assert_eq!(words, ["Ann", "'", "s", "很", "好", "$", "20"]);
    }
}
