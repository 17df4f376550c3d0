//! Where the words of a text are.

use std::ops::Range;

use super::ngrams::Kind;

/// The words of a text, as bytes: runs of letters and digits; single characters of scripts that do not separate words; single other signs.
pub(crate) fn words(text: &str) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    let mut before = Kind::Space;
    for (at, character) in text.char_indices() {
        let (kind, end) = (Kind::of(character), at + character.len_utf8());
        match (kind, words.last_mut()) {
            (Kind::Space, _) => {}
            (Kind::Letter, Some(word)) if before == Kind::Letter => word.end = end,
            _ => words.push(at..end),
        }
        before = kind;
    }
    words
}
