//! The gradients of a step are its slopes.

use super::super::super::graph;
use super::*;
use crate::testing::{Feed, run};

/// A graph of a step that is to be looked at.
#[derive(Clone, Copy)]
struct Case {
    method: Method,
    task: Task,
    dropout: bool,
    r_drop: f32,
}

/// The slope of a step's loss along a direction by differences agrees with the gradient by the graph, for every weight that is trained and for the
/// words; no other weight has a gradient.
fn check(config: &Config, case: Case) {
    let Case { method, task, dropout, r_drop } = case;
    let runtime = runtime();
    let targets = vec![Target::Query, Target::Key, Target::Value, Target::Output, Target::Up, Target::Down];
    let tune = Tune { rank: 2, alpha: 1.0, targets, r_drop, ..Tune::new(method) };
    let outputs = task.outputs(3);
    let words = method == Method::Lora;
    let net::Training { graph, weights, masks } = plan(config, &tune, task, outputs).training(dropout, words).unwrap();
    let (b, s, hidden) = (2, 4, config.hidden);
    let floats = |name: &str, shape: &[usize], values: Vec<f32>| (name.to_owned(), Feed::Floats(shape.to_vec(), values));
    let mut feeds: Vec<(String, Feed)> = vec![
        floats("words", &[b, s, hidden], wave(3, b * s * hidden)),
        ("positions".to_owned(), Feed::Indices(vec![s], (0..s as i64).collect())),
        floats("mask", &[b, s], vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1e9, -1e9]),
        floats("pool", &[b, s], vec![0.25, 0.25, 0.25, 0.25, 0.5, 0.5, 0.0, 0.0]),
    ];
    let indices = |name: &str, values: &[i64]| (name.to_owned(), Feed::Indices(vec![values.len()], values.to_vec()));
    feeds.extend(match task {
        Task::Class | Task::Labels => {
            vec![floats(port::LABELS, &[b, 3], vec![1.0, 0.0, 0.0, 0.1, 0.8, 0.1]), floats(port::ROW_WEIGHTS, &[b, 1], vec![0.5, 2.0])]
        }
        Task::Number { .. } => vec![floats(port::LABELS, &[b, 1], vec![0.3, -1.5]), floats(port::ROW_WEIGHTS, &[b, 1], vec![0.5, 2.0])],
        Task::Tags => {
            let mut labels = vec![0.0; b * s * 3];
            [(1, 0), (2, 2), (5, 1)].into_iter().for_each(|(token, class): (usize, usize)| labels[token * 3 + class] = 1.0);
            vec![floats(port::LABELS, &[b, s, 3], labels), floats(port::ROW_WEIGHTS, &[b, 1], vec![0.5, 2.0])]
        }
        Task::Pairs => vec![
            floats(port::LABELS, &[2, 2], vec![1.0, 0.0, 0.0, 1.0]),
            floats(port::APART, &[2, 2], vec![0.0; 4]),
            floats(port::ROW_WEIGHTS, &[2, 1], vec![0.05, 0.02]),
            indices(port::PAIR[0], &[0, 1]),
            indices(port::PAIR[1], &[1, 0]),
        ],
        Task::Likeness => vec![
            floats(port::LABELS, &[1, 1], vec![0.2]),
            floats(port::ROW_WEIGHTS, &[1, 1], vec![0.7]),
            indices(port::PAIR[0], &[0]),
            indices(port::PAIR[1], &[1]),
        ],
    });
    if r_drop > 0.0 {
        feeds.push(indices(port::TWIN, &[1, 0]));
    }
    let low = matches!(method, Method::Lora | Method::Adalora);
    assert_eq!(masks.is_empty(), !low || !dropout);
    if dropout {
        let mask = |count: usize| (0..count).map(|at| if at % 5 == 0 { 0.0 } else { 1.25 }).collect::<Vec<f32>>();
        let read = if task == Task::Tags { vec![b, s, hidden] } else { vec![b, hidden] };
        feeds.push(floats(port::POOLED, &read, mask(read.iter().product())));
        let widths = masks.iter().enumerate();
        feeds.extend(widths.map(|(number, width)| floats(&graph::mask(number), &[b, s, *width], mask(b * s * width))));
    }
    for (seed, weight) in weights.iter().enumerate() {
        let mut values = wave(seed, weight.shape.iter().product());
        if weight.name.ends_with("LayerNorm.weight") {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        feeds.push(floats(&weight.name, &weight.shape, values));
    }
    let given = |feeds: &[(String, Feed)]| {
        let feeds: Vec<(&str, Feed)> = feeds.iter().map(|(name, feed)| (name.as_str(), feed.clone())).collect();
        run(&runtime, &graph, &feeds)
    };
    let penalty = |feeds: &[(String, Feed)]| if method == Method::Adalora { penalty(feeds) } else { 0.0 };
    let outputs = given(&feeds);
    let mut of: Vec<&str> = weights.iter().filter(|weight| weight.trained).map(|weight| weight.name.as_str()).collect();
    of.extend((words || net::trains_words(&tune)).then_some("words"));
    assert_eq!(outputs.len(), of.len() + 1, "a gradient for each, and for no other");
    for (name, gradient) in of.iter().zip(&outputs[1..]) {
        let place = feeds.iter().position(|(own, _)| own == name).unwrap();
        let way = wave(place + 50, gradient.len());
        let moved = |step: f32| {
            let mut feeds = feeds.clone();
            let Feed::Floats(_, values) = &mut feeds[place].1 else { panic!("{name}") };
            values.iter_mut().zip(&way).for_each(|(value, way)| *value += step * way);
            f64::from(given(&feeds)[0][0]) + penalty(&feeds)
        };
        let slope = (moved(5e-3) - moved(-5e-3)) / 1e-2;
        let along: f64 = gradient.iter().zip(&way).map(|(gradient, way)| f64::from(gradient * way)).sum();
        assert!((slope - along).abs() <= 5e-3 * (0.2 + along.abs()), "{method}, {task:?}, {name}: {slope} {along}");
    }
}

/// A tenth of the mean of |A A' - 1|² and |B' B - 1|².
fn penalty(feeds: &[(String, Feed)]) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for (name, feed) in feeds {
        let Feed::Floats(shape, values) = feed else { continue };
        let at = |rank: usize, other: usize| match name.ends_with(".lora_A") {
            true => f64::from(values[rank * shape[1] + other]),
            false => f64::from(values[other * shape[1] + rank]),
        };
        let [ranks, others] = match name {
            name if name.ends_with(".lora_A") => [shape[0], shape[1]],
            name if name.ends_with(".lora_B") => [shape[1], shape[0]],
            _ => continue,
        };
        count += 1.0;
        for (left, right) in (0..ranks).flat_map(|left| (0..ranks).map(move |right| (left, right))) {
            let product: f64 = (0..others).map(|other| at(left, other) * at(right, other)).sum();
            sum += (product - f64::from(u8::from(left == right))).powi(2);
        }
    }
    0.1 * sum / count
}

#[test]
fn the_gradients_of_a_step_are_its_slopes() {
    let (_folder, encoder) = encoder("bert");
    for (method, dropout) in METHODS.into_iter().flat_map(|method| [(method, false), (method, true)]) {
        check(encoder.config(), Case { method, task: Task::Class, dropout, r_drop: 0.0 });
    }
}

#[test]
fn so_are_those_of_every_task_and_of_two_passes_that_are_compared() {
    let (_folder, encoder) = encoder("bert");
    for method in [Method::Full, Method::Lora] {
        for task in [Task::Labels, Task::NUMBER, Task::Tags, Task::Pairs, Task::Likeness] {
            check(encoder.config(), Case { method, task, dropout: true, r_drop: 0.0 });
        }
        check(encoder.config(), Case { method, task: Task::Class, dropout: true, r_drop: 0.7 });
    }
}
