//! How good a text model is on its held-out rows.

use std::collections::{BTreeMap, BTreeSet};

use super::{Evaluation, Task, tags};
use crate::encoder::cosine;
use crate::metrics::classification::{Line, report};
use crate::metrics::{self, softmax};

/// Pairs that are told apart when the loss of vectors is worked out.
const TOGETHER: usize = 16;

/// Texts among which the partner of a text is looked for, at most.
const CANDIDATES: usize = 4096;

/// What a model gives for the held-out rows, and what is right.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held {
    /// Logits of the classes of each row or token, the number, or the two vectors of a pair.
    pub(crate) values: Vec<f32>,
    pub(crate) labels: Vec<f32>,
    /// The tokens of each row that have a tag.
    pub(crate) tokens: Vec<usize>,
}

/// The loss that tells the best epoch, in which classes count as much as `balance` says, or all the same; `None` without held-out rows.
pub(crate) fn loss(task: Task, classes: usize, held: &Held, balance: &[f32]) -> Option<f64> {
    let Held { values, labels, .. } = held;
    if labels.is_empty() {
        return None;
    }
    Some(match task {
        Task::Class | Task::Tags => metrics::class_log_loss(values, labels, classes, balance),
        Task::Labels => metrics::label_log_loss(values, labels),
        Task::Number { mean, scale } => {
            let errors = values.iter().zip(labels).map(|(value, label)| f64::from(*value) - (f64::from(*label) - mean) / scale);
            errors.map(|error| error * error).sum::<f64>() / labels.len() as f64
        }
        Task::Pairs => ranking_loss(&vectors(held)),
        Task::Likeness => {
            let errors = likenesses(held).into_iter().zip(labels).map(|(cosine, label)| cosine - f64::from(*label));
            errors.map(|error| error * error).sum::<f64>() / labels.len() as f64
        }
    })
}

/// All figures; `None` without held-out rows.
pub(crate) fn judge(task: Task, classes: &[String], held: &Held) -> Option<Evaluation> {
    let loss = loss(task, classes.len(), held, &[])?;
    let mut figures: BTreeMap<String, f64> = BTreeMap::new();
    let mut rows = held.labels.len() / classes.len().max(1);
    let mut add = |name: &str, value: f64| figures.insert(name.to_owned(), value);
    match task {
        Task::Class => {
            add("logloss", loss);
            let lines = lines(classes, held);
            if let Some(accuracy) = summary(&lines, "accuracy") {
                add("accuracy", accuracy.f1);
            }
            if let Some(mean) = summary(&lines, "macro avg") {
                add("macro_f1", mean.f1);
            }
        }
        Task::Labels => {
            add("logloss", loss);
            let counts: Vec<Counts> = (0..classes.len()).map(|label| Counts::of_label(held, classes.len(), label)).collect();
            add("micro_f1", counts.iter().copied().fold(Counts::default(), Counts::plus).f1());
            add("macro_f1", counts.iter().map(|counts| counts.f1()).sum::<f64>() / counts.len().max(1) as f64);
            let right =
                |(values, labels): (&[f32], &[f32])| values.iter().zip(labels).all(|(value, label)| (*value >= 0.0) == (*label > 0.5));
            let exact =
                held.values.chunks_exact(classes.len()).zip(held.labels.chunks_exact(classes.len())).filter(|row| right(*row)).count();
            add("exact_match", exact as f64 / rows as f64);
        }
        Task::Tags => {
            rows = held.tokens.len();
            add("logloss", loss);
            figures.extend(tagged(classes, held));
        }
        Task::Number { mean, scale } => {
            let errors = |held: &Held| -> Vec<f64> {
                held.values.iter().zip(&held.labels).map(|(value, label)| f64::from(*value) * scale + mean - f64::from(*label)).collect()
            };
            let (errors, count) = (errors(held), held.labels.len() as f64);
            let squares = errors.iter().map(|error| error * error).sum::<f64>();
            let middle = held.labels.iter().map(|label| f64::from(*label)).sum::<f64>() / count;
            let spread = held.labels.iter().map(|label| (f64::from(*label) - middle).powi(2)).sum::<f64>();
            add("rmse", (squares / count).sqrt());
            add("mae", errors.iter().map(|error| error.abs()).sum::<f64>() / count);
            if spread > 0.0 {
                add("r2", 1.0 - squares / spread);
            }
        }
        Task::Pairs => {
            let (first, mrr) = ranks(&vectors(held));
            add("ranking_loss", loss);
            add("recall_at_1", first);
            add("mrr", mrr);
        }
        Task::Likeness => {
            let (cosines, labels): (Vec<f64>, Vec<f64>) = (likenesses(held), held.labels.iter().map(|label| f64::from(*label)).collect());
            add("squared_error", loss);
            add("pearson", correlation(&cosines, &labels));
            add("spearman", correlation(&places(&cosines), &places(&labels)));
        }
    }
    figures.retain(|_, value| value.is_finite());
    Some(Evaluation { rows: rows as u64, figures })
}

/// scikit-learn's report of the likeliest classes.
fn lines(classes: &[String], held: &Held) -> Vec<Line> {
    let mut cells: BTreeMap<(usize, usize), u64> = BTreeMap::new();
    for (values, labels) in held.values.chunks_exact(classes.len()).zip(held.labels.chunks_exact(classes.len())) {
        *cells.entry((super::ready::class(labels), likeliest(values))).or_default() += 1;
    }
    report(cells.iter().map(|((actual, predicted), rows)| (classes[*actual].as_str(), classes[*predicted].as_str(), *rows)))
}

fn summary<'l>(lines: &'l [Line], name: &str) -> Option<&'l Line> {
    // Summaries come last, so a class of the same name is not taken for one.
    lines.iter().rev().find(|line| line.class == name)
}

/// The class with the highest value, of equals the first.
pub(crate) fn likeliest(values: &[f32]) -> usize {
    let highest = values.iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    highest.map_or(0, |(class, _)| class)
}

/// Figures of tags, token by token and span by span.
fn tagged(classes: &[String], held: &Held) -> BTreeMap<String, f64> {
    let mut figures = BTreeMap::new();
    for line in lines(classes, held) {
        let name = match line.class.as_str() {
            "accuracy" => {
                // With one tag for each token, micro precision, recall and F1 are the share of right ones.
                figures.extend(["accuracy", "micro_f1"].map(|name| (name.to_owned(), line.f1)));
                continue;
            }
            "macro avg" => "macro_",
            "weighted avg" => "weighted_",
            class => &format!("{class}."),
        };
        figures.insert(format!("{name}f1"), line.f1);
        figures.extend(line.precision.map(|value| (format!("{name}precision"), value)));
        figures.extend(line.recall.map(|value| (format!("{name}recall"), value)));
        if name.ends_with('.') {
            figures.insert(format!("{name}support"), line.support as f64);
        }
    }
    let mut counts: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut rows = held.values.chunks_exact(classes.len()).zip(held.labels.chunks_exact(classes.len()));
    for tokens in &held.tokens {
        let tokens: Vec<(&str, &str)> = rows
            .by_ref()
            .take(*tokens)
            .map(|(values, labels)| (classes[likeliest(values)].as_str(), classes[super::ready::class(labels)].as_str()))
            .collect();
        let predicted: BTreeSet<tags::Span<'_>> = tags::spans(tokens.iter().map(|(tag, _)| *tag)).into_iter().collect();
        let actual: BTreeSet<tags::Span<'_>> = tags::spans(tokens.iter().map(|(_, tag)| *tag)).into_iter().collect();
        for span in &predicted {
            let own = counts.entry(span.2).or_default();
            own.predicted += 1;
            own.right += u64::from(actual.contains(span));
        }
        actual.iter().for_each(|span| counts.entry(span.2).or_default().actual += 1);
    }
    for (label, own) in &counts {
        let all = [("precision", own.precision()), ("recall", own.recall()), ("f1", own.f1()), ("support", own.actual as f64)];
        figures.extend(all.map(|(name, value)| (format!("{label}.{name}"), value)));
    }
    let whole = counts.values().copied().fold(Counts::default(), Counts::plus);
    let (labels, spans) = (counts.len().max(1) as f64, whole.actual.max(1) as f64);
    for (name, of) in [("precision", Counts::precision as fn(Counts) -> f64), ("recall", Counts::recall), ("f1", Counts::f1)] {
        figures.insert(format!("entity_micro_{name}"), of(whole));
        figures.insert(format!("entity_macro_{name}"), counts.values().map(|own| of(*own)).sum::<f64>() / labels);
        let weighted = counts.values().map(|own| of(*own) * own.actual as f64).sum::<f64>() / spans;
        figures.insert(format!("entity_weighted_{name}"), weighted);
    }
    figures
}

/// The counts of one label.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    right: u64,
    actual: u64,
    predicted: u64,
}

impl Counts {
    /// Those of a label of several, at a probability of one half.
    fn of_label(held: &Held, classes: usize, label: usize) -> Self {
        let mut counts = Self::default();
        for (values, labels) in held.values.chunks_exact(classes).zip(held.labels.chunks_exact(classes)) {
            let (predicted, actual) = (values[label] >= 0.0, labels[label] > 0.5);
            counts.predicted += u64::from(predicted);
            counts.actual += u64::from(actual);
            counts.right += u64::from(predicted && actual);
        }
        counts
    }

    fn plus(self, other: Self) -> Self {
        Self { right: self.right + other.right, actual: self.actual + other.actual, predicted: self.predicted + other.predicted }
    }

    fn precision(self) -> f64 {
        self.right as f64 / self.predicted.max(1) as f64
    }

    fn recall(self) -> f64 {
        self.right as f64 / self.actual.max(1) as f64
    }

    fn f1(self) -> f64 {
        2.0 * self.right as f64 / (self.actual + self.predicted).max(1) as f64
    }
}

/// The two vectors of each pair.
fn vectors(held: &Held) -> Vec<(&[f32], &[f32])> {
    let width = held.values.len() / held.labels.len().max(1);
    held.values.chunks_exact(width.max(2)).map(|pair| pair.split_at(pair.len() / 2)).collect()
}

fn likenesses(held: &Held) -> Vec<f64> {
    vectors(held).into_iter().map(|(left, right)| cosine(left, right).unwrap_or(0.0)).collect()
}

/// The cross-entropy of the right partner among those of a few pairs.
fn ranking_loss(pairs: &[(&[f32], &[f32])]) -> f64 {
    let mut sum = 0.0;
    for together in pairs.chunks(TOGETHER) {
        for (own, (left, _)) in together.iter().enumerate() {
            let mut scores: Vec<f32> =
                together.iter().map(|(_, right)| (super::SHARPNESS as f64 * cosine(left, right).unwrap_or(0.0)) as f32).collect();
            softmax(&mut scores);
            sum -= f64::from(scores[own].max(1e-7)).ln();
        }
    }
    sum / pairs.len().max(1) as f64
}

/// The share of texts whose partner is the nearest of all, and the mean of one over its rank.
fn ranks(pairs: &[(&[f32], &[f32])]) -> (f64, f64) {
    let pairs = &pairs[..pairs.len().min(CANDIDATES)];
    let (mut first, mut sum) = (0, 0.0);
    for (left, right) in pairs {
        let own = cosine(left, right).unwrap_or(0.0);
        let before = pairs.iter().filter(|(_, other)| cosine(left, other).unwrap_or(0.0) > own).count();
        first += usize::from(before == 0);
        sum += 1.0 / (before + 1) as f64;
    }
    let count = pairs.len().max(1) as f64;
    (first as f64 / count, sum / count)
}

/// Pearson's correlation.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let count = a.len() as f64;
    let (middle_a, middle_b) = (a.iter().sum::<f64>() / count, b.iter().sum::<f64>() / count);
    let (mut product, mut left, mut right) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        product += (a - middle_a) * (b - middle_b);
        left += (a - middle_a).powi(2);
        right += (b - middle_b).powi(2);
    }
    product / (left * right).sqrt()
}

/// The rank of each value; equal ones share the mean of theirs.
fn places(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut places = vec![0.0; values.len()];
    let mut from = 0;
    while from < order.len() {
        let to = (from..order.len()).take_while(|at| values[order[*at]] == values[order[from]]).last().unwrap_or(from) + 1;
        order[from..to].iter().for_each(|row| places[*row] = (from + to - 1) as f64 / 2.0);
        from = to;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn near(evaluation: &Evaluation, name: &str, expected: f64) {
        let value = evaluation.get(name).unwrap_or(f64::NAN);
        assert!((value - expected).abs() < 1e-9, "{name}: {value} {expected}");
    }

    /// Logits that give these classes.
    fn given(classes: usize, own: &[usize]) -> Vec<f32> {
        own.iter().flat_map(|own| (0..classes).map(move |class| if class == *own { 1.0 } else { -1.0 })).collect()
    }

    #[test]
    fn tags_are_judged_by_tokens_and_by_whole_spans() {
        let classes = names(&["B-brand", "B-price", "I-brand", "O"]);
        let one_hot = |own: &[usize]| -> Vec<f32> { given(4, own).iter().map(|value| value.max(0.0)).collect() };
        // Two rows: "B-brand I-brand O" read right, "B-brand I-brand B-price" with a span that is too short.
        let held = Held { values: given(4, &[0, 2, 3, 0, 3, 1]), labels: one_hot(&[0, 2, 3, 0, 2, 1]), tokens: vec![3, 3] };
        let found = judge(Task::Tags, &classes, &held).unwrap();
        assert_eq!(found.rows, 2);
        near(&found, "accuracy", 5.0 / 6.0);
        near(&found, "I-brand.recall", 0.5);
        near(&found, "I-brand.support", 2.0);
        near(&found, "O.precision", 0.5);
        near(&found, "brand.f1", 0.5);
        near(&found, "price.f1", 1.0);
        near(&found, "entity_micro_f1", 2.0 / 3.0);
        near(&found, "entity_macro_f1", 0.75);
        near(&found, "entity_weighted_f1", (0.5 * 2.0 + 1.0) / 3.0);
    }

    #[test]
    fn labels_are_judged_one_by_one_and_together() {
        let held = Held { values: vec![1.0, -1.0, 1.0, 1.0], labels: vec![1.0, 0.0, 0.0, 1.0], tokens: vec![] };
        let found = judge(Task::Labels, &names(&["a", "b"]), &held).unwrap();
        near(&found, "micro_f1", 0.8);
        near(&found, "macro_f1", (2.0 / 3.0 + 1.0) / 2.0);
        near(&found, "exact_match", 0.5);
    }

    #[test]
    fn numbers_are_judged_in_their_own_unit() {
        let held = Held { values: vec![-1.0, 1.0, 0.0], labels: vec![1.0, 5.0, 6.0], tokens: vec![] };
        let found = judge(Task::Number { mean: 3.0, scale: 2.0 }, &[], &held).unwrap();
        near(&found, "rmse", 3f64.sqrt());
        near(&found, "mae", 1.0);
        near(&found, "r2", 1.0 - 9.0 / 14.0);
        assert!(judge(Task::Number { mean: 0.0, scale: 1.0 }, &[], &Held::default()).is_none());
    }

    #[test]
    fn pairs_are_judged_by_the_rank_of_the_partner_and_likeness_by_its_order() {
        let held = Held { values: vec![1.0, 0.0, 1.0, 0.1, 0.0, 1.0, 0.9, 0.1], labels: vec![0.0; 2], tokens: vec![] };
        let found = judge(Task::Pairs, &[], &held).unwrap();
        near(&found, "recall_at_1", 1.0);
        let held = Held { labels: vec![0.9, 0.1], ..held };
        near(&judge(Task::Likeness, &[], &held).unwrap(), "spearman", 1.0);
        assert_eq!(places(&[3.0, 1.0, 3.0]), [1.5, 0.0, 1.5]);
    }
}
