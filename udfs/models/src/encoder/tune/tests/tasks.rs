//! What can be learned of texts besides one class.

use super::*;
use crate::encoder::{Sentence, cosine};
use crate::model::Model;
use crate::registry::{ModelName, Registry, Source};
use crate::text::TextModel;

/// A model of a task, trained and read again from its files.
fn learned(encoder: &Encoder, examples: &Examples, base: &Base, text: Text, options: &TrainOptions) -> (Text, Box<TextModel>) {
    let trained = train(&runtime(), base, examples, options, text, &mut |_| ControlFlow::Continue(()), &AtomicBool::new(false)).unwrap();
    let text = trained.text().clone();
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let name = ModelName::parse("own").unwrap();
    let source = Source { label: "label".to_owned(), query: "SELECT 1".to_owned(), rows: examples.rows() as u64 };
    let version = trained.save(&registry, &name, source).unwrap();
    let bases = |_: &str| Ok(encoder.clone());
    let Model::Text(model) = Model::load_with(&runtime(), &registry, &name, version, &bases).unwrap() else { panic!("no text model") };
    (text, model)
}

fn of(task: Task, classes: &[&str]) -> Text {
    Text { task, classes: classes.iter().map(|class| (*class).to_owned()).collect(), ..text() }
}

fn figure(text: &Text, name: &str) -> f64 {
    text.evaluation.as_ref().unwrap().get(name).unwrap_or(f64::NAN)
}

/// Titles of products with the tags of their words: a brand of one or two words, a colour and a price, in changing order.
fn titles(rows: usize) -> Vec<(Sentence, Vec<usize>)> {
    // B-brand, B-colour, B-price, I-brand, O
    let brands: [&[&str]; 4] = [&["shop"], &["running", "shoes"], &["parcel"], &["card", "label"]];
    let title = |row: usize| {
        let brand: Vec<(&str, usize)> = brands[row % 4].iter().enumerate().map(|(at, word)| (*word, if at == 0 { 0 } else { 3 })).collect();
        let colour = vec![(["red", "winter"][row / 4 % 2], 1)];
        let price = vec![(["money", "courier"][row / 8 % 2], 2)];
        let filler = vec![("the", 4), ("for", 4)];
        let mut parts = [brand, colour, price, filler];
        parts.rotate_left(row / 16 % 4);
        let words: Vec<(&str, usize)> = parts.concat();
        (Sentence::of_words(words.iter().map(|(word, _)| *word)), words.iter().map(|(_, tag)| *tag).collect())
    };
    (0..rows).map(title).collect()
}

const TAGS: [&str; 5] = ["B-brand", "B-colour", "B-price", "I-brand", "O"];

#[test]
fn words_are_tagged_and_spans_found_in_texts() {
    let (_folder, encoder) = encoder("bert");
    for (method, learning_rate, epochs) in [(Method::Full, 2e-3, 8), (Method::Lora, 1e-2, 20)] {
        let own = TrainOptions { epochs, learning_rate, ..options(method) };
        let base = Base::new(encoder.clone(), Tune::new(method)).unwrap();
        let titles = titles(320);
        let (batch, truncated) = base.read_tags(titles.iter().map(|(sentence, tags)| (sentence, tags.as_slice()))).unwrap();
        assert_eq!(truncated, 0);
        let counted = |bag: &crate::features::Bag| bag.ids.iter().filter(|tag| **tag > 0).count();
        assert_eq!(
            counted(&batch.bags[1]),
            titles.iter().map(|(_, tags)| tags.len()).sum::<usize>(),
            "each word has one tag, at its first token"
        );
        assert!(batch.bags[0].ids.len() > counted(&batch.bags[1]) + 2 * 320, "some words have several tokens");
        let examples = Examples::new(columns("words", "text[]", Task::Tags), &Block { batch, labels: vec![0.0; 320], split: vec![] }, 0);
        let (text, model) = learned(&encoder, &examples, &base, of(Task::Tags, &TAGS), &own);
        assert_eq!(text.evaluation.as_ref().unwrap().rows, 32);
        for name in ["accuracy", "macro_f1", "weighted_f1", "entity_micro_f1", "brand.f1", "B-brand.recall"] {
            assert!(figure(&text, name) > 0.95, "{method} {name}: {text:?}");
        }
        let asked = Sentence::of_words(["running", "shoes", "red", "money", "the", "for"]);
        let tagged = model.tag(&[asked, Sentence::default()], &AtomicBool::new(false)).unwrap();
        let names: Vec<&str> = tagged.tags[0].iter().map(|(tag, _)| TAGS[*tag]).collect();
        assert_eq!(names, ["B-brand", "I-brand", "B-colour", "B-price", "O", "O"], "{method}");
        assert!(tagged.tags[1].is_empty() && tagged.tags[0].iter().all(|(_, share)| *share > 0.2));
        assert!(model.read(&["x"], &AtomicBool::new(false)).is_ok());
    }
}

#[test]
fn tags_that_tell_nothing_are_refused() {
    let (_folder, encoder) = encoder("bert");
    let base = Base::new(encoder, Tune::new(Method::Full)).unwrap();
    let titles = titles(20);
    let outside = [0; 8];
    let (batch, _) = base.read_tags(titles.iter().map(|(sentence, tags)| (sentence, &outside[..tags.len()]))).unwrap();
    let examples = Examples::new(columns("words", "text[]", Task::Tags), &Block { batch, labels: vec![0.0; 20], split: vec![] }, 0);
    let go_on = &mut |_: &Progress| ControlFlow::Continue(());
    let refused = train(&runtime(), &base, &examples, &options(Method::Full), of(Task::Tags, &["O"]), go_on, &AtomicBool::new(false));
    assert_eq!(refused.unwrap_err().to_string(), "all tokens of 20 rows have the same tag");
}

#[test]
fn several_labels_are_learned_side_by_side() {
    let (_folder, encoder) = encoder("bert");
    let base = Base::new(encoder.clone(), Tune::new(Method::Full)).unwrap();
    // Parcels and money come together, alone or not at all.
    let row =
        |row: usize| format!("the {} of a {} {}", ["parcel", "shop"][row % 2], ["money", "shoe"][row / 2 % 2], "now ".repeat(row % 3));
    let texts: Vec<String> = (0..240).map(row).collect();
    let labels: Vec<f32> = (0..240).flat_map(|row| [f32::from(u8::from(row % 2 == 0)), f32::from(u8::from(row / 2 % 2 == 0))]).collect();
    let (batch, _) = base.read(texts.iter().map(String::as_str)).unwrap();
    let examples = Examples::new(columns("text", "text", Task::Labels), &Block { batch, labels, split: vec![] }, 0);
    let text = of(Task::Labels, &["delivery", "payment"]);
    let (text, model) = learned(&encoder, &examples, &base, text, &TrainOptions { epochs: 6, ..options(Method::Full) });
    for name in ["micro_f1", "macro_f1", "exact_match"] {
        assert!(figure(&text, name) > 0.95, "{name}: {text:?}");
    }
    let shares = model.read(&["the parcel of a money", "the shop of a shoe"], &AtomicBool::new(false)).unwrap().values;
    assert!(shares[0] > 0.5 && shares[1] > 0.5 && shares[2] < 0.5 && shares[3] < 0.5, "{shares:?}");
}

#[test]
fn numbers_are_learned_in_their_own_unit() {
    let (_folder, encoder) = encoder("bert");
    let base = Base::new(encoder.clone(), Tune::new(Method::Full)).unwrap();
    let texts: Vec<String> =
        (0..240).map(|row| format!("the {} of a shop {}", ["parcel", "money"][row % 2], "now ".repeat(row / 2 % 4))).collect();
    let labels: Vec<f32> = (0..240).map(|row| 1000.0 + 100.0 * (row % 2) as f32 + 10.0 * (row / 2 % 4) as f32).collect();
    let (batch, _) = base.read(texts.iter().map(String::as_str)).unwrap();
    let examples = Examples::new(columns("text", "text", Task::NUMBER), &Block { batch, labels, split: vec![] }, 0);
    let (text, model) = learned(&encoder, &examples, &base, of(Task::NUMBER, &[]), &TrainOptions { epochs: 12, ..options(Method::Full) });
    assert!(figure(&text, "r2") > 0.9 && figure(&text, "rmse") < 16.0 && figure(&text, "mae") <= figure(&text, "rmse"), "{text:?}");
    let found = model.read(&["the parcel of a shop", "the money of a shop now now now"], &AtomicBool::new(false)).unwrap().values;
    assert!((found[0] - 1000.0).abs() < 40.0 && (found[1] - 1130.0).abs() < 40.0, "{found:?}");
}

#[test]
fn pairs_move_together_and_likeness_follows_the_label() {
    let (_folder, encoder) = encoder("bert");
    let tune = Tune::new(Method::Full);
    let base = Base::new(encoder.clone(), tune).unwrap();
    let words = ["parcel", "courier", "card", "money", "shoe", "label", "red", "winter"];
    let pairs: Vec<(String, String)> =
        (0..240).map(|row| (format!("the {}", words[row % 8]), format!("now a shop {}", words[(row + 1) % 8]))).collect();
    let (batch, _) = base.read_pairs(pairs.iter().map(|(left, right)| (left.as_str(), right.as_str()))).unwrap();
    let examples = |labels: Vec<f32>, task: Task| {
        Examples::new(columns("question", "text", task), &Block { batch: batch.clone(), labels, split: vec![] }, 0)
    };
    let own = TrainOptions { epochs: 8, ..options(Method::Full) };
    let (text, model) = learned(&encoder, &examples(vec![0.0; 240], Task::Pairs), &base, of(Task::Pairs, &[]), &own);
    let engine = model.vectors().unwrap();
    let vectors = |texts: &[&str]| engine.embed(texts, &AtomicBool::new(false)).unwrap().vectors;
    let found = vectors(&["the parcel", "now a shop courier", "now a shop money"]);
    let (near, far) = (cosine(&found[0], &found[1]).unwrap(), cosine(&found[0], &found[2]).unwrap());
    assert!(near > far + 0.3, "{near} {far}");
    // Among equal partners none is the first: with eight kinds of pairs all of a kind share a rank.
    assert!(figure(&text, "recall_at_1") > 0.9 && figure(&text, "mrr") > 0.9, "{text:?}");

    let labels: Vec<f32> = (0..240).map(|row| [1.0, -0.5, 0.2, 0.8][row % 4]).collect();
    let (text, model) = learned(&encoder, &examples(labels, Task::Likeness), &base, of(Task::Likeness, &[]), &own);
    assert!(figure(&text, "spearman") > 0.8 && figure(&text, "squared_error") < 0.1, "{text:?}");
    assert!(model.vectors().is_some() && model.text().loss().is_some());
}
