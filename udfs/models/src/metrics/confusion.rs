//! How often a class was predicted as which: what the metrics of classifiers are computed from.

use std::collections::HashMap;

use super::interval::{self, Interval};
use super::part::{Reader, Writer};
use super::statistic::{self, Column, Invalid, Statistic, Template, Value};

/// The weight of the rows of each pair of classes; columns `label`, `predicted`, `weight`.
#[derive(Debug, Clone, Default)]
pub struct Confusion {
    /// The number of each class, in the order in which they appeared.
    classes: HashMap<String, usize>,
    /// By label and predicted class.
    cells: HashMap<(usize, usize), f64>,
    /// Bytes of the names.
    names: usize,
}

/// The counts of one class.
#[derive(Debug, Clone, Copy, Default)]
pub struct Class {
    /// Rows of the class that were predicted as such.
    pub hits: f64,
    /// Rows of the class.
    pub support: f64,
    /// Rows that were predicted as such.
    pub predicted: f64,
}

impl Class {
    /// The harmonic mean of precision and recall; 0 without hits.
    pub fn f1(self) -> f64 {
        if self.hits > 0.0 { 2.0 * self.hits / (self.support + self.predicted) } else { 0.0 }
    }
}

impl Confusion {
    fn class(&mut self, name: &str) -> usize {
        if let Some(&class) = self.classes.get(name) {
            return class;
        }
        let class = self.classes.len();
        self.classes.insert(name.to_owned(), class);
        self.names += name.len();
        class
    }

    /// Adds the rows of a batch.
    ///
    /// # Errors
    /// A weight that is negative or not finite.
    pub fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        let weights = columns.get(2).map(|column| column.numbers()).unwrap_or_default();
        for (row, (label, predicted)) in columns[0].texts().iter().zip(columns[1].texts()).enumerate() {
            let weight = weights.get(row).map_or(Ok(1.0), |&weight| statistic::weight("weight", weight))?;
            let cell = (self.class(label), self.class(predicted));
            *self.cells.entry(cell).or_default() += weight;
        }
        Ok(())
    }

    /// The pairs of label and predicted class that there are, by name, with their weight.
    pub fn cells(&self) -> Vec<(&str, &str, f64)> {
        let mut names = vec![""; self.classes.len()];
        self.classes.iter().for_each(|(name, &class)| names[class] = name);
        let mut cells: Vec<_> = self.cells.iter().map(|(&(label, predicted), &weight)| (names[label], names[predicted], weight)).collect();
        cells.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        cells
    }

    /// The counts of every class, by name.
    pub fn classes(&self) -> Vec<(&str, Class)> {
        let mut names: Vec<&str> = self.classes.keys().map(String::as_str).collect();
        names.sort_unstable();
        let places: HashMap<&str, usize> = names.iter().enumerate().map(|(place, name)| (*name, place)).collect();
        let mut counts = vec![Class::default(); names.len()];
        // In the order of the names, so that sums of weights come out the same however rows were cut.
        for (label, predicted, weight) in self.cells() {
            counts[places[label]].support += weight;
            counts[places[predicted]].predicted += weight;
            if label == predicted {
                counts[places[label]].hits += weight;
            }
        }
        names.into_iter().zip(counts).collect()
    }

    /// Writes all counts; none is left.
    pub fn take(&mut self, part: &mut Writer) {
        for (label, predicted, weight) in self.cells() {
            part.text(label).text(predicted).number(weight);
        }
        *self = Self::default();
    }

    /// Adds counts that were written.
    pub fn merge(&mut self, part: &mut Reader<'_>) {
        while !part.is_empty() {
            let (label, predicted, weight) = (part.text(), part.text(), part.number());
            let cell = (self.class(label), self.class(predicted));
            *self.cells.entry(cell).or_default() += weight;
        }
    }

    /// Bytes on the heap.
    pub fn heap(&self) -> usize {
        // A hash table keeps one byte of control beside each entry.
        let classes = self.classes.capacity() * (size_of::<(String, usize)>() + 1);
        self.names + classes + self.cells.capacity() * (size_of::<((usize, usize), f64)>() + 1)
    }
}

/// What is asked of the counts.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// The share of rows that were predicted right.
    Accuracy,
    /// The same with Wilson's interval of this coverage; values: value, low, high.
    AccuracyInterval(f64),
    /// The mean F1 of the classes.
    MacroF1,
    /// F1 of all decisions together; with one class per row, the accuracy.
    MicroF1,
    /// The mean F1 of the classes, weighted by their rows.
    WeightedF1,
    /// The correlation of labels and predictions (Matthews 1975; several classes: Gorodkin 2004).
    Matthews,
    /// Agreement beyond chance (Cohen 1960).
    CohenKappa,
}

/// One metric of a classifier.
#[derive(Debug, Clone)]
pub struct Classified {
    confusion: Confusion,
    answer: Answer,
}

impl Classified {
    /// Without rows.
    pub fn template(answer: Answer) -> Template {
        Template::new(Self { confusion: Confusion::default(), answer })
    }
}

/// The value of a metric; `None` where it would divide by 0.
fn metric(answer: Answer, classes: &[(&str, Class)]) -> Option<f64> {
    let sum = |of: fn(&Class) -> f64| classes.iter().map(|(_, class)| of(class)).sum::<f64>();
    let (rows, hits) = (sum(|class| class.support), sum(|class| class.hits));
    if rows <= 0.0 {
        return None;
    }
    match answer {
        Answer::Accuracy | Answer::AccuracyInterval(_) | Answer::MicroF1 => Some(hits / rows),
        Answer::MacroF1 => {
            // A class whose rows weigh nothing is not there.
            let there = classes.iter().filter(|(_, class)| class.support + class.predicted > 0.0).count();
            Some(sum(|class| class.f1()) / there as f64)
        }
        Answer::WeightedF1 => Some(sum(|class| class.f1() * class.support) / rows),
        Answer::Matthews => {
            let expected = sum(|class| class.support * class.predicted);
            let of_labels = rows * rows - sum(|class| class.support * class.support);
            let of_predictions = rows * rows - sum(|class| class.predicted * class.predicted);
            let below = (of_labels * of_predictions).sqrt();
            (below > 0.0).then(|| (hits * rows - expected) / below)
        }
        Answer::CohenKappa => {
            let expected = sum(|class| class.support * class.predicted) / rows;
            (rows - expected > 0.0).then(|| (hits - expected) / (rows - expected))
        }
    }
}

impl Statistic for Classified {
    fn update(&mut self, columns: &[Column<'_>]) -> Result<(), Invalid> {
        self.confusion.update(columns)
    }

    fn take(&mut self, part: &mut Writer) {
        self.confusion.take(part);
    }

    fn merge(&mut self, part: &mut Reader<'_>) {
        self.confusion.merge(part);
    }

    fn evaluate(&mut self, result: &mut Vec<Value>) -> Result<(), Invalid> {
        let classes = self.confusion.classes();
        let value = metric(self.answer, &classes);
        if let Answer::AccuracyInterval(level) = self.answer {
            let rows: f64 = classes.iter().map(|(_, class)| class.support).sum();
            Interval::push(value, value.map(|share| interval::wilson(share * rows, rows, level)), result);
        } else {
            result.push(value.into());
        }
        Ok(())
    }

    fn heap(&self) -> usize {
        self.confusion.heap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(answer: Answer, labels: &[&str], predicted: &[&str]) -> Vec<Value> {
        let mut metric = Classified::template(answer).one();
        metric.update(&[Column::Texts(labels), Column::Texts(predicted), Column::Absent]).unwrap();
        let mut result = Vec::new();
        metric.evaluate(&mut result).unwrap();
        result
    }

    fn number(answer: Answer, labels: &[&str], predicted: &[&str]) -> f64 {
        if let [Value::Number(number)] = of(answer, labels, predicted)[..] { number } else { f64::NAN }
    }

    #[test]
    fn metrics_of_three_classes_by_hand() {
        // Hits: a 2 of 3, b 1 of 2, c 0 of 1; predicted: a 3, b 2, c 1.
        let labels = ["a", "a", "a", "b", "b", "c"];
        let predicted = ["a", "a", "b", "b", "c", "a"];
        let near = |answer, expected: f64| assert!((number(answer, &labels, &predicted) - expected).abs() < 1e-15, "{answer:?}");
        let (a, b) = (2.0 * 2.0 / 6.0, 2.0 / 4.0);
        near(Answer::Accuracy, 0.5);
        near(Answer::MicroF1, 0.5);
        near(Answer::MacroF1, (a + b) / 3.0);
        near(Answer::WeightedF1, (3.0 * a + 2.0 * b) / 6.0);
        near(Answer::CohenKappa, (3.0 - 14.0 / 6.0) / (6.0 - 14.0 / 6.0));
        near(Answer::Matthews, (18.0 - 14.0) / (36.0 - 14.0));
    }

    #[test]
    fn one_class_has_an_accuracy_but_no_correlation() {
        assert_eq!(of(Answer::Accuracy, &["a", "a"], &["a", "a"]), [Value::Number(1.0)]);
        assert_eq!(of(Answer::Matthews, &["a", "a"], &["a", "a"]), [Value::Null]);
        assert_eq!(of(Answer::CohenKappa, &["a", "a"], &["a", "a"]), [Value::Null]);
        assert_eq!(of(Answer::Accuracy, &[], &[]), [Value::Null]);
        assert_eq!(of(Answer::AccuracyInterval(0.95), &[], &[]), [Value::Null, Value::Null, Value::Null]);
    }
}
