//! The n-grams of long texts, in any language: words and pairs of words, and for scripts that do not separate words single characters and
//! pairs of them.

use super::*;

/// N-grams of one text that are read.
const MOST: usize = 256;

/// A text with fewer words (or such characters) is a category, not a text.
const LONG: usize = 3;

/// Seed of the hash, so that a word and a category of the same text differ.
const SEED: u64 = 1;

/// The n-grams of a column of texts; none for a short text.
pub(super) fn bag(column: &ArrayRef, rows: usize) -> datafusion::common::Result<Bag> {
    let column = if Family::of(column.data_type()) == Some(Family::Text) {
        cast(column, &DataType::Utf8View)?
    } else {
        datafusion::arrow::array::new_null_array(&DataType::Utf8View, rows)
    };
    let mut bag = Bag::default();
    let mut words = Words::default();
    for text in column.as_string_view() {
        let start = bag.ids.len();
        words.read(text.unwrap_or_default(), &mut bag.ids);
        if words.count < LONG {
            bag.ids.truncate(start);
        }
        bag.end_row();
    }
    Ok(bag)
}

/// Cuts a text into words.
#[derive(Default)]
struct Words {
    word: String,
    before: String,
    count: usize,
}

impl Words {
    fn read(&mut self, text: &str, out: &mut Vec<u64>) {
        let end = out.len() + MOST;
        self.count = 0;
        self.before.clear();
        self.word.clear();
        for character in text.chars() {
            if out.len() >= end {
                return;
            }
            if stands_alone(character) {
                self.finish(out);
                self.word.push(character);
                self.finish(out);
            } else if character.is_alphanumeric() {
                self.word.extend(character.to_lowercase());
            } else {
                self.finish(out);
            }
        }
        self.finish(out);
    }

    /// Ends a word: it is an n-gram, and so is the pair with the word before.
    fn finish(&mut self, out: &mut Vec<u64>) {
        if self.word.is_empty() {
            return;
        }
        out.push(hash(&self.word));
        if self.count > 0 {
            self.before.push(' ');
            self.before.push_str(&self.word);
            out.push(hash(&self.before));
        }
        self.count += 1;
        std::mem::swap(&mut self.before, &mut self.word);
        self.word.clear();
    }
}

fn hash(gram: &str) -> u64 {
    XxHash64::oneshot(SEED, gram.as_bytes()).max(1)
}

/// Han, kana and the scripts of Thai, Lao, Khmer and Burmese: no spaces between words.
fn stands_alone(character: char) -> bool {
    matches!(u32::from(character),
        0x0e00..=0x0eff | 0x1000..=0x109f | 0x1780..=0x17ff | 0x3040..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff
        | 0x20000..=0x2fa1f)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::StringArray;

    use super::*;

    fn grams(text: &str) -> Vec<u64> {
        let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
        bag(&column, 1).unwrap().ids
    }

    #[test]
    fn words_and_pairs_of_any_script_are_found() {
        let expected: Vec<u64> = ["red", "running", "red running", "shoes", "running shoes"].iter().map(|gram| hash(gram)).collect();
        assert_eq!(grams("Red running-SHOES!"), expected);
        let expected: Vec<u64> = ["很", "好", "很 好", "用", "好 用"].iter().map(|gram| hash(gram)).collect();
        assert_eq!(grams("很好,用"), expected);
    }

    #[test]
    fn a_short_text_has_none_and_a_huge_one_a_bounded_number() {
        assert!(grams("running shoes").is_empty());
        assert!(grams("").is_empty());
        assert!(grams(&"word ".repeat(2_000_000)).len() <= MOST + 2);
    }
}
