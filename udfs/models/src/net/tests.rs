use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::testing::{Feed, run, runtime};

/// A small net with its results in PyTorch: `tests/fixtures/nets.py`.
#[derive(Debug, Deserialize)]
struct Example {
    model_type: ModelType,
    fields: usize,
    dim: usize,
    dense: usize,
    history_target: Option<usize>,
    cross_layers: usize,
    hidden: Vec<usize>,
    experts: usize,
    rows: usize,
    length: usize,
    inputs: BTreeMap<String, Vec<f32>>,
    labels: Vec<f32>,
    row_weights: Vec<f32>,
    masks: Vec<Vec<f32>>,
    weights: Vec<Weight>,
    logits: Vec<f32>,
    loss: f32,
    gradients: BTreeMap<String, Vec<f32>>,
}

#[derive(Debug, Deserialize)]
struct Weight {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

fn examples() -> Vec<Example> {
    let examples: Vec<Example> = serde_json::from_str(include_str!("../../tests/fixtures/nets.json")).unwrap();
    assert_eq!(examples.iter().map(|e| e.model_type).collect::<Vec<_>>(), ModelType::ALL);
    examples
}

impl Example {
    fn net(&self) -> Net {
        Net {
            model_type: self.model_type,
            fields: self.fields,
            dim: self.dim,
            dense: self.dense,
            history_target: self.history_target,
            cross_layers: self.cross_layers,
            hidden: self.hidden.clone(),
            experts: self.experts,
            classes: 0,
            several: false,
        }
    }

    fn parameters(&self) -> Vec<Parameter> {
        let parameter = |w: &Weight| Parameter { name: w.name.clone(), shape: w.shape.clone(), values: w.values.clone() };
        self.weights.iter().map(parameter).collect()
    }

    /// What every graph reads.
    fn inputs(&self) -> Vec<(String, Feed)> {
        let net = self.net();
        let shape = |name: &str| match name {
            port::X => vec![self.rows, net.width()],
            port::HISTORY => vec![self.rows, self.length, net.stride()],
            _ => vec![self.rows, self.length],
        };
        self.inputs.iter().map(|(name, values)| (name.clone(), Feed::Floats(shape(name), values.clone()))).collect()
    }

    fn training_inputs(&self) -> Vec<(String, Feed)> {
        let mut feeds = self.inputs();
        feeds.push((port::LABELS.to_owned(), Feed::Floats(vec![self.rows, self.model_type.tasks()], self.labels.clone())));
        feeds.push((port::ROW_WEIGHTS.to_owned(), Feed::Floats(vec![self.rows, 1], self.row_weights.clone())));
        feeds.extend(weights(&self.parameters()));
        feeds
    }
}

fn weights(parameters: &[Parameter]) -> Vec<(String, Feed)> {
    parameters.iter().map(|p| (p.name.clone(), Feed::Floats(p.shape.clone(), p.values.clone()))).collect()
}

fn outputs(graph: &Graph, feeds: &[(String, Feed)]) -> Vec<Vec<f32>> {
    let feeds: Vec<(&str, Feed)> = feeds.iter().map(|(name, feed)| (name.as_str(), feed.clone())).collect();
    run(&runtime(), graph, &feeds)
}

/// Equal to 1e-5 of the largest number.
fn assert_close(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let scale = theirs.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert!((ours - theirs).abs() <= 1e-5 * scale, "{what}: {ours} instead of {theirs}");
    }
}

#[test]
fn logits_equal_pytorch() {
    for example in examples() {
        let net = example.net();
        let mut feeds = example.inputs();
        let scored = outputs(&net.scoring_graph(&example.parameters()).unwrap(), &feeds);
        assert_close(&format!("{}: scoring", example.model_type), &scored[0], &example.logits);
        feeds.extend(weights(&example.parameters()));
        let evaluated = outputs(&net.evaluation_graph().unwrap(), &feeds);
        assert_close(&format!("{}: evaluation", example.model_type), &evaluated[0], &example.logits);
    }
}

#[test]
fn loss_and_gradients_equal_pytorch() {
    for example in examples() {
        let net = example.net();
        let shapes: Vec<_> = example.weights.iter().map(|w| (w.name.clone(), w.shape.clone())).collect();
        assert_eq!(net.shapes(), shapes, "{}", example.model_type);
        let mut feeds = example.training_inputs();
        assert_eq!(net.mask_widths().len(), example.masks.len(), "{}", example.model_type);
        for (layer, (width, mask)) in net.mask_widths().into_iter().zip(&example.masks).enumerate() {
            feeds.push((port::mask(layer), Feed::Floats(vec![example.rows, width], mask.clone())));
        }
        let results = outputs(&net.training_graph(true, Output::Probability).unwrap(), &feeds);
        assert_close(&format!("{}: loss", example.model_type), &results[0], &[example.loss]);

        let history = (example.model_type == ModelType::Din).then_some(port::HISTORY);
        let names = std::iter::once(port::X).chain(history).chain(shapes.iter().map(|(name, _)| name.as_str()));
        assert_eq!(results.len() - 1, example.gradients.len(), "{}", example.model_type);
        for (name, gradient) in names.zip(&results[1..]) {
            assert_close(&format!("{}: {name}", example.model_type), gradient, &example.gradients[name]);
        }
    }
}

/// The squared error of a row has the gradient of its cross-entropy where its label is moved so that both have the same slope, so the
/// gradients of all weights are PyTorch's too.
#[test]
fn the_squared_error_is_right_and_its_gradients_equal_pytorch() {
    for example in examples().into_iter().filter(|example| example.model_type.tasks() == 1) {
        let net = example.net();
        let scored = outputs(&net.scoring_graph(&example.parameters()).unwrap(), &example.inputs()).remove(0);
        let slope = |logit: f32, label: f32| sigmoid(logit) - label;
        let labels: Vec<f32> = scored.iter().zip(&example.labels).map(|(logit, label)| logit - slope(*logit, *label) / 2.0).collect();
        let mut feeds = example.training_inputs();
        for (name, feed) in &mut feeds {
            if name == port::LABELS {
                *feed = Feed::Floats(vec![example.rows, 1], labels.clone());
            }
        }
        let (squared, crossed) =
            (net.training_graph(false, Output::Number).unwrap(), net.training_graph(false, Output::Probability).unwrap());
        let results = outputs(&squared, &feeds);
        let weighted =
            scored.iter().zip(&labels).zip(&example.row_weights).map(|((logit, label), weight)| weight * (logit - label).powi(2));
        assert_close("loss", &results[0], &[weighted.sum::<f32>() / example.rows as f32]);
        // The fixture's gradients are with dropout; those without it equal PyTorch's as well, as the test above shows of the same graph.
        for (ours, theirs) in results[1..].iter().zip(&outputs(&crossed, &example.training_inputs())[1..]) {
            assert_close(&example.model_type.to_string(), ours, theirs);
        }
    }
}

#[test]
fn a_dropout_that_keeps_everything_changes_nothing() {
    for example in examples() {
        let net = example.net();
        let mut feeds = example.training_inputs();
        let without = outputs(&net.training_graph(false, Output::Probability).unwrap(), &feeds);
        for (layer, width) in net.mask_widths().into_iter().enumerate() {
            feeds.push((port::mask(layer), Feed::Floats(vec![example.rows, width], vec![1.0; example.rows * width])));
        }
        assert_eq!(outputs(&net.training_graph(true, Output::Probability).unwrap(), &feeds), without, "{}", example.model_type);
    }
}

#[test]
fn padding_and_its_mask_leave_no_trace() {
    let din = examples().into_iter().find(|e| e.model_type == ModelType::Din).unwrap();
    let mut feeds = din.training_inputs();
    let graph = din.net().training_graph(false, Output::Probability).unwrap();
    let before = outputs(&graph, &feeds);
    let mask = &din.inputs[port::HISTORY_MASK];
    let Some((_, Feed::Floats(_, history))) = feeds.iter_mut().find(|(name, _)| name == port::HISTORY) else { unreachable!("fed above") };
    for (item, _) in mask.iter().enumerate().filter(|(_, kept)| **kept == 0.0) {
        history[item * din.dim..][..din.dim].fill(7.0);
        assert!(before[2][item * din.dim..][..din.dim].iter().all(|gradient| *gradient == 0.0), "gradient of padding {item}");
    }
    assert!(mask.contains(&0.0));
    assert_eq!(outputs(&graph, &feeds), before);
}

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

#[test]
fn an_untrained_net_predicts_the_base_rates() {
    const RATES: [f32; 2] = [0.03, 0.2];
    let base_logits = RATES.map(|rate| (rate / (1.0 - rate)).ln());
    for example in examples() {
        let net = example.net();
        let parameters = net.initial(&base_logits, &mut ChaCha8Rng::seed_from_u64(5));
        let mut feeds = example.inputs();
        // The first-order weights of the table start at 0, embeddings near it.
        for (name, feed) in &mut feeds {
            if let (port::X, Feed::Floats(_, x)) = (name.as_str(), feed) {
                for row in x.chunks_mut(net.width()) {
                    for field in row[..net.fields * net.stride()].chunks_mut(net.stride()) {
                        let embedding =
                            net.stride() - usize::from(matches!(net.model_type, ModelType::Logistic | ModelType::Fm | ModelType::Deepfm));
                        field[..embedding].iter_mut().for_each(|v| *v *= 0.01);
                        field[embedding..].fill(0.0);
                    }
                }
            }
        }
        let logits = outputs(&net.scoring_graph(&parameters).unwrap(), &feeds).remove(0);
        for row in logits.chunks(net.model_type.tasks()) {
            for (logit, rate) in row.iter().zip(RATES) {
                assert!((sigmoid(*logit) / rate - 1.0).abs() < 2e-3, "{}: {} instead of {rate}", net.model_type, sigmoid(*logit));
            }
        }
    }
}

#[test]
fn first_weights_repeat_with_the_seed_and_fit_their_shapes() {
    for example in examples() {
        let net = example.net();
        let initial = |seed: u64| net.initial(&[-1.0, -2.0], &mut ChaCha8Rng::seed_from_u64(seed));
        let first = initial(1);
        assert_eq!(first, initial(1));
        let shapes: Vec<_> = first.iter().map(|p| (p.name.clone(), p.shape.clone())).collect();
        assert_eq!(shapes, net.shapes());
        for parameter in &first {
            assert_eq!(parameter.values.len(), parameter.shape.iter().product::<usize>(), "{}", parameter.name);
            let bound = 1.0 / (parameter.shape[0] as f32).sqrt();
            assert!(!parameter.decays() || parameter.values.iter().all(|v| v.abs() <= bound), "{}", parameter.name);
        }
    }
}

/// -log(1 - sigmoid(a) sigmoid(b)) and -log(sigmoid(a) sigmoid(b)), of numbers that cannot round to 0 or 1.
fn joint_losses(a: f64, b: f64) -> [f64; 2] {
    let softplus = |z: f64| z.max(0.0) + (-z.abs()).exp().ln_1p();
    let terms = [-a, -b, -a - b];
    let largest = terms.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let rest = largest + terms.into_iter().map(|t| (t - largest).exp()).sum::<f64>().ln();
    let both = softplus(-a) + softplus(-b);
    [both - rest, both]
}

#[test]
fn the_loss_of_two_tasks_is_finite_and_right_at_extreme_logits() {
    let net = examples().into_iter().find(|e| e.model_type == ModelType::Esmm).unwrap().net();
    let mut graph = Graph::new("loss");
    let logits = graph.input("z", Shape::batch(ROWS, &[2])).unwrap();
    let labels = graph.input(port::LABELS, Shape::batch(ROWS, &[2])).unwrap();
    let row_weights = graph.input(port::ROW_WEIGHTS, Shape::batch(ROWS, &[1])).unwrap();
    let loss = net.loss(&mut graph, Output::Probability, logits, labels, row_weights).unwrap();
    let gradient = autodiff::gradients(&mut graph, loss, &[logits]).unwrap()[0];
    graph.output(port::LOSS, loss).unwrap();
    graph.output("gradient", gradient).unwrap();
    for (a, b) in [(80.0, 80.0), (80.0, -80.0), (-80.0, 80.0), (-80.0, -80.0), (0.5, -1.5), (0.0, 80.0), (80.0, 0.0)] {
        for (click, converted) in [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)] {
            let feeds = [
                ("z".to_owned(), Feed::Floats(vec![1, 2], vec![a, b])),
                (port::LABELS.to_owned(), Feed::Floats(vec![1, 2], vec![click, converted])),
                (port::ROW_WEIGHTS.to_owned(), Feed::Floats(vec![1, 1], vec![1.0])),
            ];
            let results = outputs(&graph, &feeds);
            let (a, b) = (f64::from(a), f64::from(b));
            let click_loss = if click == 1.0 { -a } else { a };
            let click_loss = click_loss.max(0.0) + (-click_loss.abs()).exp().ln_1p();
            let expected = click_loss + joint_losses(a, b)[converted as usize];
            let place = format!("logits {a} and {b}, labels {click} and {converted}");
            assert!((f64::from(results[0][0]) - expected).abs() <= 1e-5 * (1.0 + expected), "{place}: {} not {expected}", results[0][0]);
            assert!(results[1].iter().all(|g| g.is_finite() && g.abs() <= 2.0), "{place}: gradient {:?}", results[1]);
        }
    }
}

#[test]
fn every_net_does_without_what_is_optional() {
    for model_type in ModelType::ALL {
        let history_target = (model_type == ModelType::Din).then_some(0);
        let full = Net {
            model_type,
            fields: 3,
            dim: 4,
            dense: 5,
            history_target,
            cross_layers: 2,
            hidden: vec![8, 4],
            experts: 2,
            classes: 0,
            several: false,
        };
        let mut nets = vec![
            Net { dense: 0, ..full.clone() },
            Net { hidden: Vec::new(), ..full.clone() },
            Net { hidden: vec![5], ..full.clone() },
            Net { cross_layers: 0, ..full.clone() },
            Net { cross_layers: 0, hidden: Vec::new(), ..full.clone() },
        ];
        if model_type != ModelType::Din {
            nets.push(Net { fields: 0, ..full });
        }
        let runtime = runtime();
        for net in nets {
            let graph = net.training_graph(true, Output::Probability).unwrap_or_else(|e| panic!("{net:?}: {e}"));
            runtime.session(&graph.model(), 1).unwrap_or_else(|e| panic!("{net:?}: {e}"));
            assert_eq!(net.initial(&[0.0, 0.0], &mut ChaCha8Rng::seed_from_u64(1)).len(), net.shapes().len());
        }
    }
}

#[test]
fn a_net_that_does_not_fit_together_is_an_error() {
    let net = Net { model_type: ModelType::Din, history_target: None, ..examples().remove(0).net() };
    let error = net.training_graph(false, Output::Probability).unwrap_err();
    assert!(error.to_string().contains("din needs a history"), "{error}");
    let example = examples().remove(3);
    let error = example.net().scoring_graph(&example.parameters()[..3]).unwrap_err();
    assert!(error.to_string().contains("the weight cross.1.bias is missing"), "{error}");
}

#[test]
fn names_read_back_and_unknown_ones_are_refused_with_all_names() {
    for model_type in ModelType::ALL {
        assert_eq!(model_type.to_string().parse::<ModelType>().unwrap(), model_type);
        assert_eq!(serde_json::to_value(model_type).unwrap(), model_type.to_string());
    }
    let error = "gbdt".parse::<ModelType>().unwrap_err();
    assert!(error.to_string().ends_with("is not one of: logistic, fm, deepfm, dcnv2, finalmlp, din, esmm, mmoe"), "{error}");
}
