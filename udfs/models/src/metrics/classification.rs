//! What a classifier gets right, class by class.

use std::collections::BTreeMap;

/// A line of a report: one class, or a summary of all.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The class; `accuracy`, `macro avg` or `weighted avg` for the last three.
    pub class: String,
    /// The share of right rows among those called this class; 0 when none was. None for the accuracy.
    pub precision: Option<f64>,
    /// The share of the rows of this class that were called so; 0 when there are none. None for the accuracy.
    pub recall: Option<f64>,
    /// The harmonic mean of both; for the accuracy the accuracy.
    pub f1: f64,
    /// The rows of this class.
    pub support: u64,
}

/// The counts of one class.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    right: u64,
    actual: u64,
    predicted: u64,
}

impl Counts {
    fn precision(self) -> f64 {
        ratio(self.right, self.predicted)
    }

    fn recall(self) -> f64 {
        ratio(self.right, self.actual)
    }

    fn f1(self) -> f64 {
        ratio(2 * self.right, self.actual + self.predicted)
    }
}

/// scikit-learn's `classification_report` of a confusion matrix, whose cells are (actual class, predicted class, rows). Empty without rows.
pub fn report<'a>(cells: impl IntoIterator<Item = (&'a str, &'a str, u64)>) -> Vec<Line> {
    let mut classes: BTreeMap<&str, Counts> = BTreeMap::new();
    for (actual, predicted, rows) in cells {
        classes.entry(actual).or_default().actual += rows;
        let counts = classes.entry(predicted).or_default();
        counts.predicted += rows;
        if actual == predicted {
            counts.right += rows;
        }
    }
    let mut classes: Vec<(&str, Counts)> = classes.into_iter().collect();
    in_order(&mut classes);
    let rows: u64 = classes.iter().map(|(_, counts)| counts.actual).sum();
    if rows == 0 {
        return vec![];
    }
    let line = |(class, counts): &(&str, Counts)| Line {
        class: (*class).to_owned(),
        precision: Some(counts.precision()),
        recall: Some(counts.recall()),
        f1: counts.f1(),
        support: counts.actual,
    };
    let mut lines: Vec<Line> = classes.iter().map(line).collect();
    let right: u64 = classes.iter().map(|(_, counts)| counts.right).sum();
    lines.push(Line { class: "accuracy".to_owned(), precision: None, recall: None, f1: ratio(right, rows), support: rows });
    for (class, weight) in [("macro avg", None), ("weighted avg", Some(()))] {
        let mean = |of: fn(Counts) -> f64| match weight {
            None => classes.iter().map(|(_, counts)| of(*counts)).sum::<f64>() / classes.len() as f64,
            Some(()) => classes.iter().map(|(_, counts)| of(*counts) * counts.actual as f64).sum::<f64>() / rows as f64,
        };
        let (precision, recall) = (Some(mean(Counts::precision)), Some(mean(Counts::recall)));
        lines.push(Line { class: class.to_owned(), precision, recall, f1: mean(Counts::f1), support: rows });
    }
    lines
}

/// Classes that are all numbers stand in the order of numbers, others in that of their text.
fn in_order(classes: &mut [(&str, Counts)]) {
    let number = |class: &str| class.parse::<f64>().ok().filter(|number| !number.is_nan());
    if classes.iter().all(|(class, _)| number(class).is_some()) {
        classes.sort_by(|(a, _), (b, _)| number(a).unwrap_or_default().total_cmp(&number(b).unwrap_or_default()));
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_numbers_stand_in_their_order_and_a_class_that_was_never_predicted_has_no_precision() {
        let lines = report([("10", "9", 3), ("9", "9", 5), ("-1", "10", 2)]);
        let shown: Vec<_> = lines.iter().map(|line| (line.class.as_str(), line.support)).collect();
        assert_eq!(shown, [("-1", 2), ("9", 5), ("10", 3), ("accuracy", 10), ("macro avg", 10), ("weighted avg", 10)]);
        assert_eq!((lines[0].precision, lines[0].recall, lines[0].f1), (Some(0.0), Some(0.0), 0.0));
        assert_eq!((lines[1].precision, lines[1].recall), (Some(5.0 / 8.0), Some(1.0)));
        assert_eq!((lines[3].precision, lines[3].f1), (None, 0.5));
        assert!(report([]).is_empty());
    }
}
