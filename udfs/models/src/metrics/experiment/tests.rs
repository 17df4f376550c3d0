//! Promises about tests of experiments.

use super::*;
use crate::metrics::statistic::{Column, Statistic, Template};

fn results(statistic: &mut dyn Statistic) -> Vec<Value> {
    let mut results = Vec::new();
    statistic.evaluate(&mut results).unwrap();
    results
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Number(number) => *number,
        Value::Count(count) => *count as f64,
        _ => panic!("{value:?}"),
    }
}

/// 100 rows of each variant, of which some have an outcome of 1.
fn rates(control: usize, treatment: usize) -> (Vec<f64>, Vec<&'static str>) {
    let outcome = (0..200).map(|row| if row < 100 { f64::from(row < control) } else { f64::from(row - 100 < treatment) });
    (outcome.collect(), (0..200).map(|row| if row < 100 { "a" } else { "b" }).collect())
}

fn names(control: &str, treatment: &str) -> Names {
    let name = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
    Names { control: name(control), treatment: name(treatment) }
}

fn ab(template: &Template, outcome: &[f64], variant: &[&str]) -> Vec<Value> {
    let mut test = template.one();
    test.update(&[Column::Numbers(outcome), Column::Texts(variant)]).unwrap();
    results(test.as_mut())
}

#[test]
fn two_rates_are_what_a_pencil_says() {
    let (outcome, variant) = rates(10, 20);
    let fields = ab(&AbTest::template(Design::Fixed, Names::default(), 0.95), &outcome, &variant);
    assert_eq!(fields[..4], [Value::Text("a".into()), Value::Text("b".into()), Value::Count(100), Value::Count(100)]);
    let expected = [0.1, 0.2, 0.1, 1.0, (0.1_f64 * 0.9 / 100.0 + 0.2 * 0.8 / 100.0).sqrt()];
    for (field, expected) in fields[4..9].iter().zip(expected) {
        assert!((number(field) - expected).abs() < 1e-14);
    }
    assert_eq!(fields[12], Value::Text("two-proportion z-test".into()));
    let turned = ab(&AbTest::template(Design::Fixed, names("b", ""), 0.95), &outcome, &variant);
    assert_eq!((&turned[0], number(&turned[6]), number(&turned[7])), (&Value::Text("b".into()), -number(&fields[6]), -0.5));
    assert_eq!(ab(&AbTest::template(Design::Fixed, names("", "a"), 0.95), &outcome, &variant), turned);
}

#[test]
fn a_third_variant_is_refused_unless_two_are_named() {
    let columns = [Column::Numbers(&[1.0, 0.0, 1.0, 1.0]), Column::Texts(&["a", "b", "c", "b"])];
    let mut test = AbTest::template(Design::Fixed, Names::default(), 0.9).one();
    let refused = test.update(&columns).unwrap_err();
    assert_eq!((refused.argument, refused.value.as_str()), ("variant", "c"));
    // In different partitions nobody sees three, until they meet.
    let mut whole = AbTest::template(Design::Fixed, Names::default(), 0.9).one();
    for rows in [0..2, 2..3] {
        let mut part = AbTest::template(Design::Fixed, Names::default(), 0.9).one();
        part.update(&columns.map(|column| column.slice(rows.clone()))).unwrap();
        let mut written = Writer::default();
        part.take(&mut written);
        whole.merge(&mut Reader::new(&written.finish()));
    }
    assert_eq!(whole.evaluate(&mut Vec::new()).unwrap_err().value, "c");
    let fields = ab(&AbTest::template(Design::Fixed, names("c", "b"), 0.9), columns[0].numbers(), columns[1].texts());
    assert_eq!(fields[..4], [Value::Text("c".into()), Value::Text("b".into()), Value::Count(1), Value::Count(2)]);
    let absent = ab(&AbTest::template(Design::Fixed, names("c", "d"), 0.9), columns[0].numbers(), columns[1].texts());
    assert_eq!(absent, vec![Value::Null; 13]);
}

#[test]
fn one_variant_or_nothing_is_null() {
    for design in [Design::Fixed, Design::Sequential { effect: 0.1 }] {
        let template = AbTest::template(design, Names::default(), 0.95);
        assert_eq!(ab(&template, &[], &[]), vec![Value::Null; 13]);
        assert_eq!(ab(&template, &[1.0, 2.0], &["a", "a"]), vec![Value::Null; 13]);
    }
    let mut cuped = Cuped::template(Names::default(), 0.95).one();
    cuped.update(&[Column::Numbers(&[1.0]), Column::Texts(&["a"]), Column::Numbers(&[1.0])]).unwrap();
    assert_eq!(results(cuped.as_mut()), vec![Value::Null; 14]);
    let mut srm = SrmTest::template(Expected::default()).one();
    srm.update(&[Column::Texts(&["a"])]).unwrap();
    assert_eq!(results(srm.as_mut()), vec![Value::Null; 5]);
    // One row of amounts has no variance, so there is a difference but no error.
    let single = ab(&AbTest::template(Design::Fixed, Names::default(), 0.95), &[1.5, 2.0, 3.0], &["a", "b", "b"]);
    assert_eq!((number(&single[6]), &single[8..12]), (1.0, &vec![Value::Null; 4][..]));
    // Amounts that never differ have an error of 0 and nothing to test.
    let same = ab(&AbTest::template(Design::Fixed, Names::default(), 0.95), &[5.0; 4], &["a", "a", "b", "b"]);
    assert_eq!((number(&same[8]), &same[11]), (0.0, &Value::Null));
}

#[test]
fn an_always_valid_interval_is_wider_and_holds_no_difference_that_its_p_value_denies() {
    for (control, treatment) in [(10, 12), (10, 30), (50, 50), (5, 60)] {
        let (outcome, variant) = rates(control, treatment);
        let fixed = ab(&AbTest::template(Design::Fixed, Names::default(), 0.95), &outcome, &variant);
        let sequential = ab(&AbTest::template(Design::Sequential { effect: 0.1 }, Names::default(), 0.95), &outcome, &variant);
        assert!(number(&sequential[9]) < number(&fixed[9]) && number(&sequential[10]) > number(&fixed[10]));
        let excluded = number(&sequential[9]) > 0.0 || number(&sequential[10]) < 0.0;
        assert_eq!(number(&sequential[11]) < 0.05, excluded, "{sequential:?}");
    }
}

#[test]
fn a_covariate_that_says_all_leaves_no_error() {
    let covariate: Vec<f64> = (0..40).map(|row| f64::from(row * 7 % 13)).collect();
    let variant: Vec<&str> = (0..40).map(|row| if row % 2 == 0 { "a" } else { "b" }).collect();
    let outcome: Vec<f64> = (0..40).map(|row| 3.0 * covariate[row] + if row % 2 == 0 { 1.0 } else { 1.5 }).collect();
    let mut cuped = Cuped::template(Names::default(), 0.95).one();
    let columns = [Column::Numbers(&outcome), Column::Texts(&variant), Column::Numbers(&covariate)];
    for cut in [0..7, 7..40] {
        let mut part = Cuped::template(Names::default(), 0.95).one();
        part.update(&columns.map(|column| column.slice(cut.clone()))).unwrap();
        let mut written = Writer::default();
        part.take(&mut written);
        cuped.merge(&mut Reader::new(&written.finish()));
    }
    let fields = results(cuped.as_mut());
    for (field, expected) in [(6, 0.5), (8, 0.0), (12, 3.0), (13, 1.0)] {
        assert!((number(&fields[field]) - expected).abs() < 1e-7, "{fields:?}");
    }
}

#[test]
fn shares_are_read_and_a_mismatch_is_found() {
    let expected = Expected::parse("a: 0.5, b : 0.5").unwrap();
    assert_eq!(Expected::parse("").unwrap(), Expected::default());
    for (text, reason) in [("a", "has no share"), ("a: x, b: 1", "above 0"), ("a: 1, a: 2", "twice"), ("a: 1", "one variant")] {
        assert!(Expected::parse(text).unwrap_err().contains(reason), "{text}");
    }
    let mut srm = SrmTest::template(expected).one();
    let variants: Vec<&str> = (0..100).map(|row| if row < 60 { "a" } else { "b" }).collect();
    srm.update(&[Column::Texts(&variants)]).unwrap();
    let fields = results(srm.as_mut());
    assert_eq!((number(&fields[1]), number(&fields[2]), &fields[4]), (4.0, 1.0, &Value::Text("a: 60, b: 40".into())));
    assert!((number(&fields[0]) - 0.045_500_263_896_358_4).abs() < 1e-12);
    assert_eq!(srm.update(&[Column::Texts(&["c"])]).unwrap_err().argument, "variant");
    let mut uneven = SrmTest::template(Expected::parse("a: 3, b: 2").unwrap()).one();
    uneven.update(&[Column::Texts(&variants)]).unwrap();
    assert_eq!(number(&results(uneven.as_mut())[0]), 1.0);
}
