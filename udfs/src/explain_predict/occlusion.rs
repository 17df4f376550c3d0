//! What a probability loses when a word is left out.

use std::sync::atomic::AtomicBool;

use stratagem_models::encoder::Sentence;
use stratagem_models::encoder::tune::Explanation;
use stratagem_models::model::Model;
use stratagem_models::text::{grams, numbers};

use crate::models::{Error, Held, Models, Result};

/// The words of a text that are looked at.
const MOST_WORDS: usize = 512;

/// Added to a probability before its logarithm is taken.
const LEAST: f64 = 1e-7;

/// Which words speak for a class of a text, by its number, or for the likeliest one.
pub(super) fn explain(models: &Models, held: &Held, text: &str, class: Option<usize>, stop: &AtomicBool) -> Result<Explanation> {
    let model = held.model()?;
    let Model::Text(own) = &*model else {
        return Err(Error::Data { reason: format!("{} is no text model", held.pinned()), hint: "name a text model".to_owned() });
    };
    let sentence = Sentence::of_text(text);
    let words = &sentence.words[..sentence.words.len().min(MOST_WORDS)];
    let without = |word: &std::ops::Range<usize>| format!("{}{}", &text[..word.start], &text[word.end..]);
    let asked: Vec<String> = [text.to_owned(), String::new()].into_iter().chain(words.iter().map(without)).collect();
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    let shares = match (&own.text().tuned, &own.text().encoder) {
        (Some(_), _) => own.read(&asked, stop)?.values,
        (None, None) => own.shares(&grams(asked).0)?,
        (None, Some(encoder)) => {
            let vectors = models.encoder(Some(encoder))?.embed(&asked, stop)?.vectors;
            own.shares(&numbers(vectors.iter().map(|vector| &**vector)))?
        }
    };
    let classes = own.text().classes.len();
    let whole = &shares[..classes];
    let likeliest =
        || whole.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best }).map_or(0, |(class, _)| class);
    let class = class.unwrap_or_else(likeliest);
    let log = |row: usize| (f64::from(shares[row * classes + class]) + LEAST).ln();
    let tokens = words.iter().enumerate().map(|(place, word)| (text[word.clone()].to_owned(), log(0) - log(place + 2)));
    Ok(Explanation { class, probability: f64::from(whole[class]), difference: log(0) - log(1), tokens: tokens.collect() })
}
