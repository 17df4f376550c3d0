use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::click::{Metric, Split, TrainOptions, Trained};
use crate::error::{Error, Result};
use crate::examples::{Block, Examples};
use crate::model::Model;
use crate::registry::{Kind, ModelName, Registry, Source};
use crate::testing::runtime;

const CLASSES: [&str; 3] = ["delivery", "payment", "质量"];

/// Texts with the number of their class.
fn texts(rows: usize) -> Vec<(String, usize)> {
    let words = [["parcel", "late", "courier"], ["card", "charged", "refund"], ["很好用", "质量不错", "值得买"]];
    let text = |row: usize| {
        let class = row % 3;
        let own = words[class][row / 3 % 3];
        (format!("note {} about {own} and {}", row % 7, ["more", "this", "那个"][row % 2]), class)
    };
    (0..rows).map(text).collect()
}

fn examples(texts: &[(String, usize)], classes: usize) -> Examples {
    let mut labels = vec![0.0; texts.len() * classes];
    texts.iter().enumerate().for_each(|(row, (_, class))| labels[row * classes + class] = 1.0);
    let (batch, _) = grams(texts.iter().map(|(text, _)| text.as_str()));
    Examples::new(columns("text", None), &Block { batch, labels, split: vec![] }, 0)
}

fn text(classes: &[&str], encoder: Option<&str>) -> Text {
    let classes = classes.iter().map(|class| (*class).to_owned()).collect();
    Text { task: Task::Class, classes, encoder: encoder.map(str::to_owned), truncated: 0, evaluation: None, tuned: None }
}

fn trained(examples: &Examples, options: &TrainOptions, text: Text) -> Result<Trained> {
    train(&runtime(), examples, options, text, &mut |_| ControlFlow::Continue(()), &AtomicBool::new(false))
}

#[test]
fn classes_are_learned_by_words_of_any_script_and_survive_a_restart() {
    let texts = texts(600);
    let trained = trained(&examples(&texts, 3), &TrainOptions::default(), text(&CLASSES, None)).unwrap();
    let Kind::Text(Text { evaluation: Some(evaluation), .. }) = trained.kind() else { panic!("{:?}", trained.kind()) };
    assert_eq!((evaluation.rows, evaluation.get("accuracy"), evaluation.get("macro_f1")), (60, Some(1.0), Some(1.0)));
    assert!(evaluation.get("logloss").unwrap() < 0.2, "{evaluation:?}");
    assert!(trained.epochs().iter().all(|epoch| epoch.validation_auc.is_none()));

    let asked = ["my courier did not come", "I was charged twice", "质量不错的", ""];
    let shares = trained.text_model().unwrap().shares(&grams(asked).0).unwrap();
    for (row, class) in [0, 1, 2].into_iter().enumerate() {
        assert!(shares[row * 3 + class] > 0.5, "{row}: {shares:?}");
    }
    assert!(shares.chunks(3).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5), "{shares:?}");

    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path()).unwrap();
    let name = ModelName::parse("intent").unwrap();
    let source = Source { label: "intent".to_owned(), query: "SELECT 1".to_owned(), rows: 600 };
    let version = trained.save(&registry, &name, source, None).unwrap();
    assert_eq!(registry.manifest(&name, version).unwrap().model_type(), "text, ngram");
    let Model::Text(again) = Model::load(&runtime(), &registry, &name, version).unwrap() else { panic!("no text model") };
    assert_eq!(again.shares(&grams(asked).0).unwrap(), shares);
    assert!(again.shares(&numbers([[0.0; 3].as_slice()])).is_err());
}

#[test]
fn vectors_tell_classes_too() {
    let rows = 300;
    let mut labels = vec![0.0; rows * 2];
    let vectors: Vec<[f32; 4]> = (0..rows)
        .map(|row| {
            labels[row * 2 + row % 2] = 1.0;
            let side = if row % 2 == 0 { 0.5 } else { -0.5 };
            [side + (row % 11) as f32 / 40.0, (row % 13) as f32 / 13.0 - 0.5, -side, 0.1]
        })
        .collect();
    let batch = numbers(vectors.iter().map(<[f32; 4]>::as_slice));
    let examples = Examples::new(columns("text", Some(4)), &Block { batch, labels, split: vec![] }, 0);
    let trained = trained(&examples, &TrainOptions::default(), text(&["a", "b"], Some("minilm"))).unwrap();
    let model = trained.text_model().unwrap();
    let shares = model.shares(&numbers([[0.6, 0.0, -0.5, 0.1].as_slice(), &[-0.4, 0.0, 0.5, 0.1]])).unwrap();
    assert!(shares[0] > 0.9 && shares[3] > 0.9, "{shares:?}");
    assert!(model.shares(&grams(["x"]).0).is_err());
}

#[test]
fn what_cannot_be_learned_from_is_refused_with_a_count() {
    let texts = texts(40);
    let refusal = |texts: &[(String, usize)], classes: &[&str], options: TrainOptions| {
        trained(&examples(texts, classes.len()), &options, text(classes, None)).unwrap_err()
    };
    let one: Vec<(String, usize)> = texts.iter().map(|(text, _)| (text.clone(), 0)).collect();
    assert_eq!(refusal(&one, &["all"], TrainOptions::default()).to_string(), "all 40 rows have the same label");
    let mut few = one.clone();
    few.push(("late".to_owned(), 1));
    assert_eq!(refusal(&few, &["all", "one"], TrainOptions::default()).to_string(), "class \"one\" has 1 row");
    assert_eq!(refusal(&[], &["a", "b"], TrainOptions::default()).to_string(), "the training query returned no rows");
    for (name, options) in [
        ("metric", TrainOptions { metric: Metric::Auc, ..TrainOptions::default() }),
        ("negative_sampling", TrainOptions { negative_sampling: 0.5, ..TrainOptions::default() }),
        ("positive_weight", TrainOptions { positive_weight: Some(2.0), ..TrainOptions::default() }),
    ] {
        let refused = refusal(&texts, &CLASSES, options);
        assert!(matches!(&refused, Error::InvalidOption { option, .. } if option == name), "{refused}");
    }
}

/// The last of several nets stands for a linear model, and gives what that gave for the held-out rows when it was fitted.
#[test]
fn a_saved_model_is_as_good_as_its_evaluation_says() {
    let texts = texts(400);
    // one in eight has the wrong class
    let texts: Vec<(String, usize)> =
        texts.into_iter().enumerate().map(|(row, (text, class))| (text, (class + row / 3 % 8 / 7) % 3)).collect();
    let marks: Vec<f64> = (0..400).map(|row| f64::from(u8::from(row % 5 == 0))).collect();
    let (batch, _) = grams(texts.iter().map(|(text, _)| text.as_str()));
    let labels: Vec<f32> = texts.iter().flat_map(|(_, class)| (0..3).map(|own| f32::from(u8::from(own == *class)))).collect();
    let examples = Examples::new(columns("text", None), &Block { batch, labels, split: marks.clone() }, 0);
    let held: Vec<&(String, usize)> = texts.iter().zip(&marks).filter(|(_, mark)| **mark > 0.5).map(|(text, _)| text).collect();
    for (ensembles, several) in [(2, false), (3, true)] {
        let options = TrainOptions { split: Split::Column, ensembles, ..usual() };
        let task = if several { Task::Labels } else { Task::Class };
        let trained = trained(&examples, &options, Text { task, ..text(&CLASSES, None) }).unwrap();
        let linear = trained.weights.members.last().unwrap();
        let others = linear.parameters.iter().filter(|parameter| !parameter.name.starts_with("head."));
        assert!(others.flat_map(|parameter| &parameter.values).all(|value| *value == 0.0));
        assert!(linear.table.iter().any(|value| *value != 0.0));
        let shares = trained.text_model().unwrap().shares(&grams(held.iter().map(|(text, _)| text.as_str())).0).unwrap();
        let loss = shares.chunks(3).zip(&held).map(|(shares, (_, class))| {
            let of = |label: usize| if label == *class { shares[label].ln() } else { (1.0 - shares[label]).ln() };
            f64::from(if several { -(0..3).map(of).sum::<f32>() / 3.0 } else { -shares[*class].ln() })
        });
        let loss = loss.sum::<f64>() / held.len() as f64;
        let Kind::Text(kind) = trained.kind() else { panic!("a text model") };
        assert!((kind.evaluation.as_ref().unwrap().get("logloss").unwrap() - loss).abs() < 1e-4, "{loss} {:?}", kind.evaluation);
    }
}

/// One text with two labels, nine to one: balanced, both are as likely.
#[test]
fn classes_are_balanced_where_that_is_asked_for() {
    let share = |positive_weight: Option<f32>| -> f32 {
        let texts: Vec<(String, usize)> = (0..400).map(|row| ("the same words".to_owned(), usize::from(row % 10 == 0))).collect();
        let options = TrainOptions { positive_weight, ensembles: 1, epochs: 10, ..TrainOptions::default() };
        let model = trained(&examples(&texts, 2), &options, text(&["often", "seldom"], None)).unwrap().text_model().unwrap();
        model.shares(&grams(["the same words"]).0).unwrap()[1]
    };
    let (plain, balanced) = (share(Some(1.0)), share(None));
    assert!((plain - 0.1).abs() < 0.04 && (balanced - 0.5).abs() < 0.1, "{plain} {balanced}");
}

/// A text has both labels, one or none; and a number.
#[test]
fn labels_and_numbers_are_learned_by_words() {
    let texts: Vec<String> = (0..240)
        .map(|row| {
            format!("note {} {} {}", row % 7, ["the parcel is late", "hello"][row % 2], ["the card was charged", "bye"][row / 2 % 2])
        })
        .collect();
    let block = |labels: Vec<f32>| Block { batch: grams(texts.iter().map(String::as_str)).0, labels, split: vec![] };
    let labels = (0..240).flat_map(|row| [f32::from(u8::from(row % 2 == 0)), f32::from(u8::from(row / 2 % 2 == 0))]).collect();
    let of = Text { task: Task::Labels, ..text(&["delivery", "payment"], None) };
    let own = trained(&Examples::new(columns("text", None), &block(labels), 0), &TrainOptions::default(), of).unwrap();
    let Kind::Text(kind) = own.kind() else { panic!("a text model") };
    assert!(kind.evaluation.as_ref().unwrap().get("micro_f1").unwrap() > 0.95, "{kind:?}");
    let shares = own.text_model().unwrap().shares(&grams(["the parcel is late, the card was charged", "hello and bye"]).0).unwrap();
    assert!(shares[0] > 0.5 && shares[1] > 0.5 && shares[2] < 0.5 && shares[3] < 0.5, "{shares:?}");

    let numbers = (0..240).map(|row| 100.0 + 10.0 * (row % 2) as f32 + 5.0 * (row / 2 % 2) as f32).collect();
    let of = Text { task: Task::NUMBER, ..text(&[], None) };
    let own = trained(&Examples::new(columns("text", None), &block(numbers), 0), &TrainOptions::default(), of).unwrap();
    let Kind::Text(kind) = own.kind() else { panic!("a text model") };
    assert!(kind.evaluation.as_ref().unwrap().get("r2").unwrap() > 0.9 && kind.loss().unwrap() < 0.1, "{kind:?}");
    let found = own.text_model().unwrap().shares(&grams(["the parcel is late, the card was charged", "hello bye"]).0).unwrap();
    assert!((found[0] - 100.0).abs() < 4.0 && (found[1] - 115.0).abs() < 4.0, "{found:?}");
    let same = trained(
        &Examples::new(columns("text", None), &block(vec![3.0; 240]), 0),
        &TrainOptions::default(),
        Text { task: Task::NUMBER, ..text(&[], None) },
    );
    assert!(same.unwrap_err().to_string().contains("have the same label"));
}
