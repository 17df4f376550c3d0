//! The n-grams of a text, in any language.

use crate::features::id_of;

/// N-grams of one text that are read.
const MOST: usize = 4096;

/// Neighbouring characters that are read together, where a script does not separate words.
const CHARACTERS: usize = 4;

/// Neighbouring characters of a word that are read together.
const PARTS: std::ops::RangeInclusive<usize> = 3..=5;

/// Longer words are no words.
const LONGEST: usize = 40;

/// Adds the hashes of a text's n-grams, none of them 0, and says whether the text goes on after the last one. In lower case: words and pairs of
/// words; 3 to 5 characters of a word with its ends; 1 to 4 characters of scripts that do not separate words; runs of other signs.
pub(super) fn ngrams(text: &str, out: &mut Vec<u64>) -> bool {
    let end = out.len() + MOST;
    let mut before: Option<String> = None;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if out.len() >= end {
            out.truncate(end);
            return true;
        }
        let kind = Kind::of(first);
        // A run without end is read in parts, so that no text is copied as a whole.
        let stop = rest.char_indices().enumerate().find(|(count, (_, letter))| *count >= MOST || Kind::of(*letter) != kind);
        let (run, after) = rest.split_at(stop.map_or(rest.len(), |(_, (at, _))| at));
        rest = after;
        match kind {
            Kind::Space => {}
            Kind::Dense => {
                let letters: Vec<char> = run.chars().collect();
                for at in 0..letters.len() {
                    (1..=CHARACTERS).filter_map(|length| letters.get(at..at + length)).for_each(|gram| out.push(of(gram.iter().copied())));
                }
                before = None;
            }
            Kind::Sign => out.push(of(run.chars().take(CHARACTERS))),
            Kind::Letter => {
                let word = run.to_lowercase();
                out.push(of(word.chars()));
                if let Some(before) = &before {
                    out.push(of(before.chars().chain([' ']).chain(word.chars())));
                }
                let letters: Vec<char> = ['<'].into_iter().chain(word.chars().take(LONGEST)).chain(['>']).collect();
                for length in PARTS {
                    letters.windows(length).for_each(|gram| out.push(of(gram.iter().copied())));
                }
                before = Some(word);
            }
        }
    }
    let truncated = out.len() > end;
    out.truncate(end);
    truncated
}

/// What a character is part of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Space,
    /// Of a script that does not separate words: Han, kana, Thai, Lao, Khmer and Burmese.
    Dense,
    Letter,
    Sign,
}

impl Kind {
    pub(super) fn of(character: char) -> Self {
        let dense = matches!(u32::from(character),
            0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff
            | 0x20000..=0x2fa1f);
        match character {
            _ if dense => Self::Dense,
            _ if character.is_whitespace() => Self::Space,
            _ if character.is_alphanumeric() => Self::Letter,
            _ => Self::Sign,
        }
    }
}

fn of(characters: impl Iterator<Item = char>) -> u64 {
    characters.fold(0, |hash, character| id_of((hash ^ u64::from(u32::from(character))).cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grams(text: &str) -> Vec<u64> {
        let mut grams = Vec::new();
        ngrams(text, &mut grams);
        grams
    }

    #[test]
    fn words_their_pairs_and_parts_are_read_in_lower_case() {
        let expected = ["big", "<bi", "big", "ig>", "<big", "big>", "<big>", "tv", "big tv", "<tv", "tv>", "<tv>", "!"];
        assert_eq!(grams("Big  TV!"), expected.map(|gram| of(gram.chars())));
        assert_eq!(grams(" \n"), [0; 0]);
    }

    #[test]
    fn scripts_without_spaces_are_read_by_characters() {
        assert_eq!(grams("很好用"), ["很", "很好", "很好用", "好", "好用", "用"].map(|gram| of(gram.chars())));
    }

    #[test]
    fn a_huge_text_is_read_as_its_beginning() {
        for text in ["word ".repeat(400_000), "好".repeat(400_000), "x".repeat(1 << 20), "-".repeat(1 << 20)] {
            let mut grams = Vec::new();
            let truncated = ngrams(&text, &mut grams);
            assert!(grams.len() <= MOST, "{}", grams.len());
            assert_eq!(truncated, !text.starts_with('-'));
        }
    }
}
