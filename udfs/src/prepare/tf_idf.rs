//! `ml.tf_idf(text, top_k)`: texts as the weights of their most telling words.

use std::collections::HashMap;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result;
use serde::{Deserialize, Serialize};

use super::categories::Categories;
use super::fit::{Fit, State};
use super::number::Number;
use super::tokens::tokens;
use super::values::{of_width, texts};
use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;
use crate::options::Options;

/// The declaration of `ml.tf_idf`.
pub(crate) static DECLARATION: Function = Function {
    name: "ml.tf_idf",
    kind: Kind::Window,
    parameters: &[
        Parameter::value("text", Type::Text, "The text."),
        Parameter::value("top_k", Type::Integer, "How many words have a place at most, from 1 to 65536; a constant.").or("128"),
    ],
    returns: Returns::Value(Type::Doubles),
    summary: "Texts as the weights of their words: frequent in the text, rare in the others",
    docs: "A list with a place for each of the `top_k` words that occur most often, in the order of their text. The weight of a word is how often \
           it occurs in the text times `ln((1 + n) / (1 + df)) + 1`, where `df` of the `n` texts have it (Sparck Jones 1972); the list is \
           then divided by its length (the root of the sum of squares). This is scikit-learn's `TfidfVectorizer(max_features=top_k)` with \
           our words: runs of letters and digits in lower case, and for Chinese and Japanese every character and every pair of neighbours. \
           A text without any of the words is a list of zeros; NULL stays NULL and is not counted.",
    example: "SELECT ml.tf_idf(review, top_k => 4) OVER () AS words\n\
              FROM (VALUES ('good value, good shop'), ('bad value'), ('good'), ('\u{5f88}\u{597d}')) AS reviews (review)",
    errors: &[
        Failure { sqlstate: "42883", when: "it stands without `OVER`, outside of a model's `TRANSFORM`" },
        Failure {
            sqlstate: "22023",
            when: "`top_k` is not a constant from 1 to 65536, or there are too many different words to count them",
        },
        Failure { sqlstate: "42804", when: "the argument is not text" },
    ],
};

/// How often a word occurs, then in how many texts; of words that occur equally often the one in more texts comes first.
type Occurrences = (u64, u64);

/// The words so far.
#[derive(Debug)]
pub(super) struct TfIdf {
    top_k: usize,
    texts: u64,
    words: Categories<Occurrences>,
}

/// The words with a place, sorted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Vocabulary {
    words: Vec<Word>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Word {
    word: String,
    weight: Number,
}

impl Fit for TfIdf {
    const DECLARATION: &'static Function = &DECLARATION;
    type State = Vocabulary;

    fn returns(_: &DataType) -> DataType {
        Type::Doubles.arrow()
    }

    fn start(_: &DataType, options: &Options) -> Result<Self, Error> {
        Ok(Self { top_k: options.whole("top_k", 1..=65_536)? as usize, texts: 0, words: Categories::new(&DECLARATION) })
    }

    fn update(&mut self, values: &ArrayRef) -> Result<()> {
        let mut words: HashMap<String, u64> = HashMap::new();
        for text in texts(values)?.iter().flatten() {
            self.texts += 1;
            tokens(text, |token| match words.get_mut(token) {
                Some(count) => *count += 1,
                None => drop(words.insert(token.to_owned(), 1)),
            });
            for (word, count) in words.drain() {
                self.words.count(&word, |(occurrences, texts)| {
                    *occurrences += count;
                    *texts += 1;
                })?;
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        self.texts += other.texts;
        Ok(self.words.merge(other.words, |(occurrences, texts), more| {
            *occurrences += more.0;
            *texts += more.1;
        })?)
    }

    fn finish(self) -> Result<Vocabulary> {
        let texts = self.texts as f64;
        let weight = |(_, with): Occurrences| Number(((1.0 + texts) / (1.0 + with as f64)).ln() + 1.0);
        let words = self.words.top(self.top_k);
        Ok(Vocabulary { words: words.into_iter().map(|(word, count)| Word { word, weight: weight(count) }).collect() })
    }
}

impl State for Vocabulary {
    fn apply(&self, values: &ArrayRef) -> Result<ArrayRef> {
        let texts = texts(values)?;
        let width = self.words.len();
        let mut numbers = vec![0.0; texts.len() * width];
        for (text, places) in texts.iter().zip(numbers.chunks_mut(width.max(1))) {
            tokens(text.unwrap_or_default(), |token| {
                if let Ok(place) = self.words.binary_search_by(|word| word.word.as_str().cmp(token)) {
                    places[place] += 1.0;
                }
            });
            places.iter_mut().zip(&self.words).for_each(|(place, word)| *place *= word.weight.0);
            let length = places.iter().map(|place| place * place).sum::<f64>().sqrt();
            if length > 0.0 {
                places.iter_mut().for_each(|place| *place /= length);
            }
        }
        of_width(&DECLARATION, texts.len(), width, numbers, texts.nulls().cloned())
    }
}
