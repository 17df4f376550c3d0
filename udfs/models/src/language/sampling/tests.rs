use super::*;

/// Scores whose softmax is these probabilities.
fn scores(probabilities: &[f64]) -> Vec<f32> {
    probabilities.iter().map(|p| p.ln() as f32).collect()
}

/// How often each token comes in `draws` draws with seeds 0, 1, 2, ...
fn counts(sampling: &Sampling, scores: &[f32], draws: u64) -> Vec<u64> {
    let mut counts = vec![0; scores.len()];
    let mut scratch = Scratch::default();
    for seed in 0..draws {
        let mut sampler = Sampler::new(Sampling { seed, ..sampling.clone() });
        counts[sampler.choose(scores, None, &mut scratch).unwrap().id as usize] += 1;
    }
    counts
}

/// Pearson's statistic against expected probabilities; tokens of probability 0 must not come at all.
fn chi_squared(counts: &[u64], expected: &[f64]) -> f64 {
    let draws = counts.iter().sum::<u64>() as f64;
    counts
        .iter()
        .zip(expected)
        .map(|(count, p)| {
            if *p == 0.0 {
                assert_eq!(*count, 0);
                return 0.0;
            }
            (*count as f64 - draws * p).powi(2) / (draws * p)
        })
        .sum()
}

/// The 99.9th percentile of chi squared with 4 degrees of freedom; fewer degrees have lower ones.
const BOUND: f64 = 18.47;

#[test]
fn temperature_zero_takes_the_best_token_and_the_first_of_equals() {
    let mut sampler = Sampler::new(Sampling::default());
    let mut scratch = Scratch::default();
    let choice = sampler.choose(&scores(&[0.1, 0.4, 0.4, 0.1]), None, &mut scratch).unwrap();
    assert_eq!(choice.id, 1);
    assert!((choice.log_probability - 0.4f64.ln()).abs() < 1e-6);
}

#[test]
fn without_limits_tokens_come_as_often_as_the_model_says() {
    let probabilities = [0.5, 0.25, 0.15, 0.07, 0.03];
    let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
    assert!(chi_squared(&counts(&sampling, &scores(&probabilities), 20_000), &probabilities) < BOUND);
}

#[test]
fn temperature_raises_each_probability_to_its_inverse() {
    let probabilities: [f64; 5] = [0.5, 0.25, 0.15, 0.07, 0.03];
    for temperature in [0.5, 2.0] {
        let raised = probabilities.map(|p| p.powf(1.0 / f64::from(temperature)));
        let expected = raised.map(|p| p / raised.iter().sum::<f64>());
        let sampling = Sampling { temperature, ..Sampling::default() };
        assert!(chi_squared(&counts(&sampling, &scores(&probabilities), 20_000), &expected) < BOUND);
    }
}

#[test]
fn top_k_keeps_exactly_k_tokens_and_the_lower_number_of_equals() {
    let probabilities = [0.1, 0.3, 0.2, 0.2, 0.2];
    let sampling = Sampling { temperature: 1.0, top_k: 2, ..Sampling::default() };
    let expected = [0.0, 0.6, 0.4, 0.0, 0.0];
    assert!(chi_squared(&counts(&sampling, &scores(&probabilities), 10_000), &expected) < BOUND);
}

#[test]
fn top_p_keeps_the_smallest_set_that_reaches_the_sum() {
    let probabilities = [0.1, 0.4, 0.3, 0.15, 0.05];
    let sampling = Sampling { temperature: 1.0, top_p: 0.75, ..Sampling::default() };
    // 0.4 + 0.3 does not reach 0.75, with 0.15 it does.
    let expected = [0.0, 0.4 / 0.85, 0.3 / 0.85, 0.15 / 0.85, 0.0];
    assert!(chi_squared(&counts(&sampling, &scores(&probabilities), 10_000), &expected) < BOUND);
    let one = Sampling { top_p: 1e-6, ..sampling };
    assert_eq!(counts(&one, &scores(&probabilities), 100), [0, 100, 0, 0, 0]);
}

#[test]
fn top_p_counts_what_top_k_left() {
    let probabilities = [0.4, 0.3, 0.2, 0.1];
    // Of three tokens, 4/9 + 3/9 reaches 0.7; of all four, 0.4 + 0.3 reaches it too, but 0.75 tells them apart.
    let sampling = Sampling { temperature: 1.0, top_k: 3, top_p: 0.75, ..Sampling::default() };
    let expected = [4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0];
    assert!(chi_squared(&counts(&sampling, &scores(&probabilities), 10_000), &expected) < BOUND);
}

#[test]
fn min_p_keeps_tokens_relative_to_the_best_one() {
    let probabilities = [0.5, 0.24, 0.16, 0.06, 0.04];
    let expected = [0.5 / 0.9, 0.24 / 0.9, 0.16 / 0.9, 0.0, 0.0];
    // 0.16 is above 0.5 * 0.3, 0.06 is below; with top-k the candidates are sorted, without it they are not.
    for top_k in [0, 5] {
        let sampling = Sampling { temperature: 1.0, min_p: 0.3, top_k, ..Sampling::default() };
        assert!(chi_squared(&counts(&sampling, &scores(&probabilities), 10_000), &expected) < BOUND);
    }
}

#[test]
fn the_repetition_penalty_divides_positive_and_multiplies_negative_scores() {
    let mut sampler = Sampler::new(Sampling { repetition_penalty: 2.0, ..Sampling::default() });
    let mut scratch = Scratch::default();
    let scores = [3.0, 2.0, -1.0, -1.5];
    let mut next = || {
        let choice = sampler.choose(&scores, None, &mut scratch).unwrap();
        sampler.note(choice.id);
        choice
    };
    // 3 halves to 1.5, so 2 is next; it halves to 1, so 1.5 is next again: the penalty does not add up.
    assert_eq!([next().id, next().id, next().id], [0, 1, 0]);
    // The probability is the model's own.
    let total: f64 = scores.iter().map(|s| f64::from(*s).exp()).sum();
    assert!((next().log_probability - (3.0 - total.ln())).abs() < 1e-6);
}

#[test]
fn a_mask_removes_tokens_without_changing_what_the_model_thought_of_the_rest() {
    let mut scratch = Scratch::default();
    let mut scores = vec![0.0f32; 70];
    scores[3] = 5.0;
    scores[65] = 4.0;
    let allowed = [!(1 << 3), u32::MAX, u32::MAX];
    for temperature in [0.0, 1e-3] {
        let mut sampler = Sampler::new(Sampling { temperature, ..Sampling::default() });
        let choice = sampler.choose(&scores, Some(&allowed), &mut scratch).unwrap();
        let total: f64 = scores.iter().map(|s| f64::from(*s).exp()).sum();
        assert_eq!(choice.id, 65);
        assert!((choice.log_probability - (4.0 - total.ln())).abs() < 1e-6);
    }
    assert_eq!(Sampler::new(Sampling::default()).choose(&scores, Some(&[0, 0, 0]), &mut scratch), None);
    assert_eq!(Sampler::new(Sampling::default()).choose(&[f32::NAN; 4], None, &mut scratch), None);
}

#[test]
fn equal_seeds_give_equal_choices() {
    let scores: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.7).sin()).collect();
    let sampling = Sampling { temperature: 0.8, top_k: 40, top_p: 0.9, ..Sampling::default() };
    let run = |seed| {
        let mut sampler = Sampler::new(Sampling { seed, ..sampling.clone() });
        let mut scratch = Scratch::default();
        (0..20).map(|_| sampler.choose(&scores, None, &mut scratch).unwrap().id).collect::<Vec<_>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn the_best_tokens_of_a_large_vocabulary_are_those_of_a_full_sort() {
    let scores: Vec<f32> = (0..50_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 20) as f32 / 100.0).collect();
    let mut sorted: Vec<Candidate> = scores.iter().enumerate().map(|(id, score)| Candidate { score: *score, id: id as u32 }).collect();
    sorted.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.id.cmp(&b.id)));
    let mut scratch = Scratch::default();
    for count in [1, 40, 4096, 60_000] {
        largest(&scores, count, &mut scratch);
        assert_eq!(scratch.candidates, sorted[..count.min(sorted.len())]);
    }
}

#[test]
fn the_exponential_is_right_to_two_in_ten_million() {
    for step in 0..87_000 {
        let x = -(step as f32) / 1000.0;
        let exact = f64::from(x).exp();
        let error = (f64::from(exponential(x)) - exact).abs() / exact;
        // The argument's own rounding grows with it.
        assert!(error < 3e-7 + 1e-8 * f64::from(-x), "{x}: {error}");
    }
    assert_eq!((exponential(0.0), exponential(-1e4), exponential(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    let wrong = [
        Sampling { max_tokens: 0, ..Sampling::default() },
        Sampling { temperature: -0.1, ..Sampling::default() },
        Sampling { temperature: f32::NAN, ..Sampling::default() },
        Sampling { top_p: 0.0, ..Sampling::default() },
        Sampling { min_p: 1.5, ..Sampling::default() },
        Sampling { repetition_penalty: 0.0, ..Sampling::default() },
        Sampling { stop: vec![String::new()], ..Sampling::default() },
    ];
    let names = ["max_tokens", "temperature", "temperature", "top_p", "min_p", "repetition_penalty", "stop"];
    for (sampling, name) in wrong.iter().zip(names) {
        let text = sampling.check().unwrap_err().to_string();
        assert!(text.starts_with(&format!("invalid value for option \"{name}\": ")), "{text}");
    }
    assert!(Sampling::default().check().is_ok());
}
