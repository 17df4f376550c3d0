//! Promises about uplift statistics.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::metrics::statistic::{Statistic, Value};

type Columns = [Vec<f64>; 4];

fn columns(rows: &Columns) -> [Column<'_>; 4] {
    rows.each_ref().map(|column| if column.is_empty() { Column::Absent } else { Column::Numbers(column) })
}

fn results(statistic: &mut dyn Statistic) -> Vec<Value> {
    let mut results = Vec::new();
    statistic.evaluate(&mut results).unwrap();
    results
}

fn score(mut statistic: Score, rows: &Columns) -> Option<f64> {
    statistic.update(&columns(rows)).unwrap();
    match results(&mut statistic)[..] {
        [Value::Number(number), ..] => Some(number),
        _ => None,
    }
}

/// Outcomes 0 or 1, both arms, scores with ties, no propensities.
fn random_rows(random: &mut ChaCha8Rng, count: usize) -> Columns {
    let mut column = |values: u32| -> Vec<f64> { (0..count).map(|_| f64::from(random.random_range(0..values))).collect() };
    let (outcome, mut treated, score) = (column(2), column(2), column(12));
    treated[..2].copy_from_slice(&[0.0, 1.0]);
    [outcome, treated, score, vec![]]
}

fn shuffled(rows: &Columns, random: &mut ChaCha8Rng) -> Columns {
    let mut order: Vec<usize> = (0..rows[0].len()).collect();
    order.shuffle(random);
    rows.each_ref().map(|column| if column.is_empty() { vec![] } else { order.iter().map(|row| column[*row]).collect() })
}

const ALL: [(Curve, Definition); 4] = [
    (Curve::Qini, Definition::Normalized),
    (Curve::Qini, Definition::PerHead),
    (Curve::Uplift, Definition::Normalized),
    (Curve::Uplift, Definition::PerHead),
];

#[test]
fn four_rows_are_what_a_pencil_says() {
    // From the best: a treated buyer, an untreated one who did not buy, a treated one who did not, an untreated buyer.
    let rows: Columns = [vec![1.0, 0.0, 0.0, 1.0], vec![1.0, 0.0, 1.0, 0.0], vec![4.0, 3.0, 2.0, 1.0], vec![]];
    // Heights 1, 1, 1, 0 after one to four rows: the area is 0.5 + 1 + 1 + 0.5, the random line is flat, and the order is perfect
    // (a perfect one has the rows of no effect on one step).
    assert_eq!(score(Score::area(Curve::Qini, Definition::Normalized, None), &rows), Some(1.0));
    assert_eq!(score(Score::area(Curve::Qini, Definition::PerHead, None), &rows), Some(3.0 / (4.0 * 2.0)));
    // Differences of means 1, 1, 0.5, 0 times 1 to 4 rows: heights 1, 2, 1.5, 0.
    assert_eq!(score(Score::area(Curve::Uplift, Definition::PerHead, None), &rows), Some((0.5 + 1.5 + 1.75 + 0.75) / 16.0));
    assert_eq!(score(Score::at(0.5, false), &rows), Some(1.0));
    assert_eq!(score(Score::at(3.0, false), &rows), Some(0.5));
    assert_eq!(score(Score::at(1.0, false), &rows), Some(0.0));
    assert_eq!(score(Score::at(0.25, false), &rows), None, "the best row alone has nothing to compare with");
    assert_eq!(score(Score::at(0.5, true), &rows), Some(1.0));
}

#[test]
fn only_the_order_of_scores_counts() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..20 {
        let rows = random_rows(&mut random, 60);
        let mut turned = shuffled(&rows, &mut random);
        turned[2].iter_mut().for_each(|score| *score = score.exp() * 7.0 - 100.0);
        for (curve, definition) in ALL {
            let (left, right) = (score(Score::area(curve, definition, None), &rows), score(Score::area(curve, definition, None), &turned));
            assert!((left.unwrap() - right.unwrap()).abs() < 1e-12, "{curve:?} {definition:?}");
        }
        for by_arm in [false, true] {
            let (left, right) = (score(Score::at(0.3, by_arm), &rows), score(Score::at(0.3, by_arm), &turned));
            assert!((left.unwrap_or(9.0) - right.unwrap_or(9.0)).abs() < 1e-12);
        }
    }
}

#[test]
fn a_perfect_order_is_one_and_equal_scores_are_zero() {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut rows = random_rows(&mut random, 200);
    rows[2] = rows[0].iter().zip(&rows[1]).map(|(outcome, treated)| outcome * (2.0 * treated - 1.0)).collect();
    assert!((score(Score::area(Curve::Qini, Definition::Normalized, None), &rows).unwrap() - 1.0).abs() < 1e-12);
    rows[2].fill(0.25);
    for (curve, definition) in ALL {
        let area = score(Score::area(curve, definition, None), &rows).unwrap();
        let expected = if (curve, definition) == (Curve::Uplift, Definition::PerHead) { effect(&rows) / 2.0 } else { 0.0 };
        assert!((area - expected).abs() < 1e-12, "{curve:?} {definition:?}: {area}");
    }
    assert!((score(Score::at(0.3, false), &rows).unwrap() - effect(&rows)).abs() < 1e-12, "a part of all rows is like all rows");
}

/// The average effect by a plain sum.
fn effect(rows: &Columns) -> f64 {
    let mean = |arm: f64| {
        let of_arm: Vec<f64> = rows[0].iter().zip(&rows[1]).filter(|(_, treated)| **treated == arm).map(|(outcome, _)| *outcome).collect();
        of_arm.iter().sum::<f64>() / of_arm.len() as f64
    };
    mean(1.0) - mean(0.0)
}

#[test]
fn one_arm_and_nothing_are_null_and_bad_values_are_named() {
    let one: Columns = [vec![1.0, 0.0], vec![1.0, 1.0], vec![0.3, 0.2], vec![]];
    let none: Columns = [vec![], vec![], vec![], vec![]];
    for rows in [&one, &none] {
        for (curve, definition) in ALL {
            assert_eq!(score(Score::area(curve, definition, None), rows), None);
        }
        let resampling = Resampling { level: 0.9, samples: 10, seed: 1 };
        let mut interval = Score::area(Curve::Qini, Definition::PerHead, Some(resampling));
        interval.update(&columns(rows)).unwrap();
        assert_eq!(results(&mut interval), vec![Value::Null; 4]);
        let mut ate = Ate::new(None);
        let [outcome, treated, ..] = columns(rows);
        ate.update(&[outcome, treated, Column::Absent]).unwrap();
        assert_eq!(results(&mut ate), [Value::Null]);
        let mut uplift = Uplift::default();
        uplift.add(&columns(rows)).unwrap();
        assert!(uplift.points(Curve::Qini, 10).is_empty());
    }
    let refused = |rows: [f64; 4]| {
        let columns = rows.each_ref().map(|value| Column::Numbers(std::slice::from_ref(value)));
        Score::area(Curve::Qini, Definition::Normalized, None).update(&columns).unwrap_err()
    };
    assert_eq!(refused([0.5, 1.0, 1.0, 0.5]).argument, "outcome");
    assert_eq!(refused([1.0, 2.0, 1.0, 0.5]).argument, "treated");
    assert_eq!(refused([1.0, 1.0, f64::NAN, 0.5]).argument, "uplift");
    assert_eq!(refused([1.0, 1.0, 1.0, 1.0]), Invalid { argument: "propensity", value: "1".into(), allowed: "above 0 and below 1" });
}

#[test]
fn one_propensity_for_all_changes_nothing() {
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let rows = random_rows(&mut random, 80);
    let mut known = rows.clone();
    known[3] = vec![0.3; 80];
    for (curve, definition) in ALL {
        let (left, right) = (score(Score::area(curve, definition, None), &rows), score(Score::area(curve, definition, None), &known));
        assert!((left.unwrap() - right.unwrap()).abs() < 1e-12, "{curve:?} {definition:?}");
    }
    let ate = |rows: &Columns| {
        let mut ate = Ate::new(Some(0.95));
        let [outcome, treated, _, propensity] = columns(rows);
        ate.update(&[outcome, treated, propensity]).unwrap();
        results(&mut ate)
    };
    let (plain, weighted) = (ate(&rows), ate(&known));
    for (left, right) in plain.iter().zip(&weighted) {
        let (Value::Number(left), Value::Number(right)) = (left, right) else { panic!("{left:?} {right:?}") };
        assert!((left - right).abs() < 1e-12);
    }
}

#[test]
fn parts_make_the_whole_and_an_interval_is_repeatable() {
    let mut random = ChaCha8Rng::seed_from_u64(6);
    let rows = random_rows(&mut random, 150);
    let resampling = Resampling { level: 0.9, samples: 50, seed: 7 };
    let new = || Score::area(Curve::Qini, Definition::Normalized, Some(resampling));
    let mut whole = new();
    whole.update(&columns(&rows)).unwrap();
    let turned = shuffled(&rows, &mut random);
    let mut merged = new();
    for cut in [70..150, 0..1, 1..70] {
        let mut part = new();
        part.update(&columns(&turned).map(|column| column.slice(cut.clone()))).unwrap();
        let mut written = Writer::default();
        part.take(&mut written);
        merged.merge(&mut Reader::new(&written.finish()));
    }
    let fields = results(&mut whole);
    assert_eq!(fields, results(&mut merged));
    let [Value::Number(value), Value::Number(error), Value::Number(low), Value::Number(high)] = fields[..] else { panic!("{fields:?}") };
    assert!(low < value && value < high && (high - low) / error > 2.0 && (high - low) / error < 5.0, "{fields:?}");
}

#[test]
fn curves_begin_at_nothing_and_end_at_all() {
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let mut rows = random_rows(&mut random, 500);
    rows[2] = (0..500).map(f64::from).collect();
    let mut uplift = Uplift::default();
    uplift.add(&columns(&rows)).unwrap();
    for curve in [Curve::Qini, Curve::Uplift] {
        let all = uplift.points(curve, 1000);
        assert_eq!((all.len(), all[0]), (501, Point { rows: 0.0, score: None, height: 0.0, random: 0.0 }));
        let some = uplift.points(curve, 11);
        assert_eq!(some.iter().map(|point| point.rows).collect::<Vec<_>>(), (0..=10).map(|part| f64::from(part * 50)).collect::<Vec<_>>());
        assert_eq!((some.last(), some[10].height), (all.last(), some[10].random));
    }
}

#[test]
fn slices_are_equal_but_never_part_equal_scores() {
    let rows: Columns = [vec![1.0; 7], vec![1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0], vec![9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0], vec![]];
    let mut uplift = Uplift::default();
    uplift.add(&columns(&rows)).unwrap();
    let sizes = |slices: &[(usize, Slice)]| -> Vec<_> { slices.iter().map(|(n, s)| (*n, s.treated_rows + s.control_rows)).collect() };
    assert_eq!(sizes(&uplift.slices(3)), [(0, 3), (1, 2), (2, 2)]);
    let mut tied = Uplift::default();
    let mut rows = rows;
    rows[2] = vec![9.0, 5.0, 5.0, 5.0, 5.0, 5.0, 3.0];
    tied.add(&columns(&rows)).unwrap();
    let slices = tied.slices(7);
    assert_eq!(sizes(&slices), [(0, 1), (3, 5), (6, 1)]);
    assert_eq!((slices[2].1.treated_mean, slices[2].1.control_mean), (None, Some(1.0)));
}
