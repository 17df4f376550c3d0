//! Texts that are changed a little each time they are learned from: words are left out, change places, or give way to others of the same sense (Wei and
//! Zou 2019).

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::super::tokens::Tokens;
use super::Tune;
use crate::error::Result;

/// What a tokenizer's tokens are made of.
#[derive(Debug)]
pub(super) struct Words {
    /// Of each token, whether a word begins with it.
    begins: Vec<bool>,
    /// The tokens before a text, and after it.
    around: [usize; 2],
    /// How many words of a text have tokens that they have in no other place, and stay in theirs: its first one or none.
    fixed: usize,
    /// The words that each word may give way to, as tokens.
    synonyms: HashMap<Vec<u64>, Vec<Vec<u64>>>,
}

impl Words {
    /// Takes in which words may give way to which.
    pub(super) fn new(tokens: &Tokens, synonyms: &[(String, String)]) -> Result<Self> {
        let fixed = usize::from(tokens.first("a")? != tokens.inner("a")?);
        let mut words = Self { begins: tokens.begins(), around: tokens.around()?, fixed, synonyms: HashMap::new() };
        for (word, synonym) in synonyms {
            let instead = spelled(&tokens.inner(synonym)?);
            let known = words.synonyms.entry(spelled(&tokens.inner(word)?)).or_default();
            if !known.contains(&instead) {
                known.push(instead);
            }
        }
        Ok(words)
    }

    /// The tokens of a text, perhaps changed; at most `most` of them, and never without a word where there was one.
    pub(super) fn change<'t>(&self, text: &'t [u64], tune: &Tune, most: usize, rng: &mut ChaCha8Rng) -> Cow<'t, [u64]> {
        let [before, after] = self.around;
        let Some(body) = text.len().checked_sub(after).and_then(|end| text.get(before..end)).filter(|body| !body.is_empty()) else {
            return text.into();
        };
        let mut words: Vec<&[u64]> = self.words(body).into_iter().map(|range| &body[range]).collect();
        let fixed = self.fixed.min(words.len());
        if tune.word_dropout > 0.0 {
            let spared = if fixed > 0 { 0 } else { rng.random_range(0..words.len()) };
            let mut place = 0;
            words.retain(|_| {
                place += 1;
                rng.random::<f32>() >= tune.word_dropout || place == spared + 1
            });
        }
        let mut room = most.saturating_sub(before + after + words.iter().map(|word| word.len()).sum::<usize>());
        if !self.synonyms.is_empty() {
            for word in &mut words[fixed..] {
                let Some(known) = self.synonyms.get(*word).filter(|_| rng.random::<f32>() < tune.word_synonyms) else { continue };
                let instead = known[rng.random_range(0..known.len())].as_slice();
                if instead.len() <= word.len() + room {
                    room = room + word.len() - instead.len();
                    *word = instead;
                }
            }
        }
        for place in fixed..words.len() {
            if rng.random::<f32>() < tune.word_swap {
                let other = rng.random_range(fixed..words.len());
                words.swap(place, other);
            }
        }
        let body = words.into_iter().flatten();
        text[..before].iter().chain(body).chain(&text[text.len() - after..]).copied().collect::<Vec<u64>>().into()
    }

    fn words(&self, body: &[u64]) -> Vec<Range<usize>> {
        let begins = |place: &usize| *place == 0 || self.begins.get(body[*place] as usize).copied().unwrap_or(true);
        let starts: Vec<usize> = (0..body.len()).filter(begins).collect();
        let ends = starts.iter().skip(1).copied().chain([body.len()]);
        starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
    }
}

fn spelled(ids: &[u32]) -> Vec<u64> {
    ids.iter().map(|id| u64::from(*id)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::SeedableRng;

    use super::super::tests::encoder;
    use super::super::{Base, Method};
    use super::*;

    const TEXT: &str = "running shoes for the winter and a red shirt";

    /// What becomes of a text in so many passes, as its words, and how often.
    fn changed(name: &str, tune: Tune, synonyms: &[(&str, &str)], passes: u64) -> BTreeMap<Vec<String>, u64> {
        let (_folder, encoder) = encoder(name);
        let base = Base::new(encoder, tune).unwrap();
        let synonyms: Vec<(String, String)> = synonyms.iter().map(|(word, other)| ((*word).to_owned(), (*other).to_owned())).collect();
        let base = base.with_synonyms(&synonyms).unwrap();
        let words = base.words.as_ref().unwrap();
        // Tokens back to words, by the spelling of each at the beginning of a text and behind another word.
        let all: Vec<&str> = TEXT.split(' ').chain(synonyms.iter().map(|(_, other)| &**other)).collect();
        let both = |word: &&str| [spelled(&base.tokens.first(word).unwrap()), spelled(&base.tokens.inner(word).unwrap())];
        let known: BTreeMap<Vec<u64>, &str> = all.iter().flat_map(|word| both(word).map(|ids| (ids, *word))).collect();
        let text = spelled(&base.tokens.encode(TEXT).unwrap().ids);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut found = BTreeMap::new();
        for _ in 0..passes {
            let now = words.change(&text, base.tune(), 64, &mut rng);
            let [before, after] = words.around;
            assert_eq!((&now[..before], &now[now.len() - after..]), (&text[..before], &text[text.len() - after..]), "{name}");
            let body = &now[before..now.len() - after];
            let word = |range: Range<usize>| {
                known.get(&body[range.clone()]).unwrap_or_else(|| panic!("{name}: {range:?} of {body:?} in {known:?}"))
            };
            let spelled = words.words(body).into_iter().map(|range| (*word(range)).to_owned()).collect();
            *found.entry(spelled).or_default() += 1;
        }
        found
    }

    fn own() -> Vec<String> {
        TEXT.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn words_are_left_out_in_the_share_asked_for_and_never_all() {
        for name in ["bert", "roberta", "xlm-roberta"] {
            let found = changed(name, Tune { word_dropout: 0.3, ..Tune::new(Method::Lora) }, &[], 2000);
            let words: u64 = found.iter().map(|(words, times)| words.len() as u64 * times).sum();
            // One is always spared, so 1 + 8 * 0.7 of 9 are left.
            assert!((words as f64 / 2000.0 - 6.6).abs() < 0.1, "{name}: {words}");
            assert!(found.len() > 200);
            for words in found.keys() {
                let mut rest = own().into_iter();
                assert!(words.iter().all(|word| rest.any(|own| own == *word)), "{name}: {words:?} is out of order");
            }
            let found = changed(name, Tune { word_dropout: 0.99, ..Tune::new(Method::Lora) }, &[], 500);
            assert!(found.keys().all(|words| !words.is_empty()));
        }
    }

    #[test]
    fn words_change_their_places_and_stay_the_same_words() {
        for name in ["bert", "roberta", "xlm-roberta"] {
            let found = changed(name, Tune { word_swap: 0.2, ..Tune::new(Method::Lora) }, &[], 500);
            assert!(found.len() > 100 && found[&own()] > 20, "{name}");
            let mut sorted = own();
            sorted.sort_unstable();
            for words in found.keys() {
                let mut words = words.clone();
                words.sort_unstable();
                assert_eq!(words, sorted, "{name}");
            }
        }
    }

    #[test]
    fn words_give_way_to_their_synonyms() {
        for name in ["bert", "roberta", "xlm-roberta"] {
            let pairs = [("red", "blue"), ("red", "green"), ("running", "walking"), ("hat", "cap")];
            let found = changed(name, Tune { word_synonyms: 0.5, ..Tune::new(Method::Lora) }, &pairs, 2000);
            let count =
                |word: &str| found.iter().filter(|(words, _)| words.iter().any(|own| own == word)).map(|(_, times)| times).sum::<u64>();
            // That of this family has other tokens for the first word of a text.
            let walking = if name == "roberta" { 0.0 } else { 1000.0 };
            for (word, expected) in [("red", 1000.0), ("blue", 500.0), ("green", 500.0), ("walking", walking), ("cap", 0.0)] {
                assert!((count(word) as f64 - expected).abs() < 120.0, "{name}, {word}: {}", count(word));
            }
            assert!(found.keys().all(|words| words.len() == 9 && words[1..6] == own()[1..6]));
        }
    }
}
