use serde::Deserialize;

use super::*;

/// A line of `tests/fixtures/language/blocks.json`.
#[derive(Deserialize)]
struct Line {
    kind: String,
    bytes: String,
    values: Vec<f32>,
}

fn lines() -> Vec<(Kind, Vec<u8>, Vec<f32>)> {
    let lines: Vec<Line> = serde_json::from_str(include_str!("../../../tests/fixtures/language/blocks.json")).unwrap();
    let kinds = (0..40).filter_map(Kind::from_gguf);
    lines
        .into_iter()
        .map(|line| {
            let kind = kinds.clone().find(|kind| kind.name() == line.kind).unwrap();
            let bytes = (0..line.bytes.len()).step_by(2).map(|at| u8::from_str_radix(&line.bytes[at..at + 2], 16).unwrap());
            (kind, bytes.collect(), line.values)
        })
        .collect()
}

#[test]
fn blocks_of_every_kind_have_the_values_the_gguf_package_computes() {
    let mut seen = Vec::new();
    for (kind, bytes, expected) in lines() {
        let mut values = vec![f32::NAN; expected.len()];
        assert_eq!(kind.row(values.len()), bytes.len());
        dequantise(kind, &bytes, &mut values);
        for (value, expected) in values.iter().zip(&expected) {
            // A product of three factors may be rounded in another order.
            assert!((value - expected).abs() <= 2e-7 * expected.abs(), "{}: {value} for {expected}", kind.name());
        }
        seen.push(kind);
    }
    assert!((0..40).filter_map(Kind::from_gguf).all(|kind| seen.contains(&kind)));
}

#[test]
fn stored_four_bit_values_are_the_same_numbers() {
    let mut seen = 0;
    for (kind, bytes, expected) in lines() {
        let groups = expected.len() / GROUP;
        let (mut quants, mut scales, mut least) = (vec![0; expected.len()], vec![0.0; groups], vec![0.0; groups]);
        let is_four = matches!(kind, Kind::Q4_0 | Kind::Q4_1 | Kind::Q4K);
        assert_eq!(four_bits(kind, &bytes, &mut quants, &mut scales, &mut least), is_four);
        if is_four {
            for (index, expected) in expected.iter().enumerate() {
                let (scale, least) = (scales[index / GROUP], least[index / GROUP]);
                let value = scale * f32::from(quants[index]) + least;
                assert!((value - expected).abs() <= 1e-6 * (least.abs() + expected.abs()), "{}: {value} for {expected}", kind.name());
            }
            seen += 1;
        }
    }
    assert!(seen >= 3);
}
