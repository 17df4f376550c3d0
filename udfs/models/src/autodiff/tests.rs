use std::collections::BTreeSet;

use super::*;
use crate::runtime::Runtime;
use crate::testing::{Feed, run, runtime};

type Build = fn(&mut Graph, &[Tensor]) -> Result<Tensor>;

/// An operation (or a few) under test.
struct Case {
    name: &'static str,
    /// Symbolic shapes of the operands; `n` is 3 and `s` is 2.
    shapes: &'static [&'static [&'static str]],
    /// The operands are even within this range, and at least 0.1 from 0.
    range: (f32, f32),
    build: Build,
}

const fn case(name: &'static str, shapes: &'static [&'static [&'static str]], build: Build) -> Case {
    Case { name, shapes, range: (-2.0, 2.0), build }
}

const fn positive(name: &'static str, shapes: &'static [&'static [&'static str]], build: Build) -> Case {
    Case { name, shapes, range: (0.5, 2.0), build }
}

const CASES: &[Case] = &[
    case("gemm", &[&["n", "4"], &["4", "5"], &["5"]], |g, x| g.gemm(x[0], x[1], Some(x[2]))),
    case("gemm without bias", &[&["n", "4"], &["4", "5"]], |g, x| g.gemm(x[0], x[1], None)),
    case("gemm a'", &[&["4", "n"], &["4", "5"]], |g, x| g.one(Op::Gemm { transpose_a: true, transpose_b: false }, x)),
    case("gemm b'", &[&["n", "4"], &["5", "4"], &["n", "5"]], |g, x| g.one(Op::Gemm { transpose_a: false, transpose_b: true }, x)),
    case("gemm a' b'", &[&["4", "n"], &["5", "4"], &["1"]], |g, x| g.one(Op::Gemm { transpose_a: true, transpose_b: true }, x)),
    case("matmul of batches", &[&["n", "2", "4"], &["n", "4", "3"]], |g, x| g.matmul(x[0], x[1])),
    case("matmul with a matrix", &[&["n", "s", "4"], &["4", "3"]], |g, x| g.matmul(x[0], x[1])),
    case("matmul with a matrix'", &[&["n", "s", "4"], &["3", "4"]], |g, x| g.matmul_transposed(x[0], x[1])),
    case("matmul b'", &[&["n", "2", "s", "4"], &["n", "2", "3", "4"]], |g, x| g.matmul_transposed(x[0], x[1])),
    case("matmul a'", &[&["n", "4", "2"], &["n", "4", "3"]], |g, x| g.one(Op::MatMul { transpose_a: true, transpose_b: false }, x)),
    case("matmul a' b'", &[&["n", "4", "2"], &["n", "3", "4"]], |g, x| g.one(Op::MatMul { transpose_a: true, transpose_b: true }, x)),
    case("add", &[&["n", "4"], &["4"]], |g, x| g.add(x[0], x[1])),
    case("add both ways", &[&["n", "1", "4"], &["2", "1"]], |g, x| g.add(x[0], x[1])),
    case("sub", &[&["4"], &["n", "4"]], |g, x| g.sub(x[0], x[1])),
    case("sub of a column", &[&["n", "4"], &["n", "1"]], |g, x| g.sub(x[0], x[1])),
    case("mul", &[&["n", "4"], &["n", "4"]], |g, x| g.mul(x[0], x[1])),
    case("mul with a column", &[&["n", "4"], &["n", "1"]], |g, x| g.mul(x[0], x[1])),
    case("mul with a number", &[&["n", "4"], &[]], |g, x| g.mul(x[0], x[1])),
    case("square", &[&["n", "4"]], |g, x| g.mul(x[0], x[0])),
    positive("div", &[&["n", "4"], &["4"]], |g, x| g.div(x[0], x[1])),
    positive("div of a column", &[&["n", "1"], &["n", "4"]], |g, x| g.div(x[0], x[1])),
    case("relu", &[&["n", "4"]], |g, x| g.relu(x[0])),
    case("sigmoid", &[&["n", "4"]], |g, x| g.sigmoid(x[0])),
    case("tanh", &[&["n", "4"]], |g, x| g.tanh(x[0])),
    case("gelu", &[&["n", "4"]], |g, x| g.gelu(x[0])),
    case("exp", &[&["n", "4"]], |g, x| g.exp(x[0])),
    positive("log", &[&["n", "4"]], |g, x| g.log(x[0])),
    case("softplus", &[&["n", "4"]], |g, x| g.softplus(x[0])),
    case("softmax", &[&["n", "2", "4"]], |g, x| g.softmax(x[0])),
    case("layer norm", &[&["n", "s", "4"], &["4"], &["4"]], |g, x| g.layer_norm(x[0], x[1], x[2], 1e-5)),
    case("rms norm", &[&["n", "s", "4"], &["4"]], |g, x| g.rms_norm(x[0], x[1], 1e-5)),
    case("log-sum-exp", &[&["n", "s", "4"]], |g, x| g.log_sum_exp(x[0])),
    case("gather", &[&["4", "3"]], |g, x| {
        let index = g.index_input("index", Shape::batch("n", &[2]))?;
        g.gather(x[0], index)
    }),
    case("gather from a symbolic table", &[&["u", "3"]], |g, x| {
        let index = g.index_input("index", Shape::batch("n", &[2]))?;
        g.gather(x[0], index)
    }),
    case("concat", &[&["n", "2"], &["n", "3"], &["n", "1"]], |g, x| g.concat(x, 1)),
    case("concat of one twice", &[&["n", "2"]], |g, x| g.concat(&[x[0], x[0]], 1)),
    case("split", &[&["n", "6"]], |g, x| {
        let parts = g.split(x[0], 1, &[2, 2, 2])?;
        // The middle part is not used: its gradient is zero.
        g.mul(parts[0], parts[2])
    }),
    case("slice", &[&["n", "6"]], |g, x| g.slice(x[0], 1, 1, 4)),
    case("reshape", &[&["n", "2", "6"]], |g, x| {
        let flat = g.reshape(x[0], Shape::new([Dim::from("n").times(&2.into()), 6.into()]))?;
        let square = g.mul(flat, flat)?;
        g.reshape(square, Shape::batch("n", &[3, 4]))
    }),
    case("transpose", &[&["n", "2", "s", "3"]], |g, x| g.transpose(x[0], &[0, 2, 3, 1])),
    case("unsqueeze and squeeze", &[&["n", "3"]], |g, x| {
        let wide = g.one(Op::Unsqueeze(vec![0, 2]), &[x[0]])?;
        g.one(Op::Squeeze(vec![2]), &[wide])
    }),
    case("reduce sum", &[&["n", "2", "3"]], |g, x| g.reduce_sum(x[0], &[0, 2], false)),
    case("reduce sum, kept", &[&["n", "2", "3"]], |g, x| g.reduce_sum(x[0], &[1], true)),
    case("reduce mean", &[&["n", "2", "3"]], |g, x| g.reduce_mean(x[0], &[1, 2], false)),
    case("reduce mean over symbols", &[&["n", "s", "3"]], |g, x| g.reduce_mean(x[0], &[0, 1], true)),
    case("binary cross-entropy", &[&["n", "1"], &["n", "1"]], |g, x| {
        let labels = g.sigmoid(x[1])?;
        g.binary_cross_entropy(x[0], labels)
    }),
    case("a value used three times", &[&["n", "3"]], |g, x| {
        let tanh = g.tanh(x[0])?;
        let product = g.mul(tanh, x[0])?;
        g.add(product, tanh)
    }),
];

const INDEX: [i64; 6] = [1, 0, 3, 3, 1, 3];

fn dims(shape: &[&str]) -> Shape {
    Shape::new(shape.iter().map(|d| d.parse::<usize>().map_or_else(|_| Dim::from(*d), Dim::from)))
}

fn sizes(shape: &[&str]) -> Vec<usize> {
    let size = |d: &&str| match *d {
        "n" => 3,
        "s" => 2,
        "u" => 4,
        number => number.parse().unwrap(),
    };
    shape.iter().map(size).collect()
}

/// Even numbers from a linear congruential generator, so that a failure repeats.
fn numbers(count: usize, range: (f32, f32), state: &mut u64) -> Vec<f32> {
    let mut draw = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        range.0 + (range.1 - range.0) * (*state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..count).map(|_| std::iter::repeat_with(&mut draw).find(|x| x.abs() > 0.1).unwrap()).collect()
}

/// The graph of a case with its result (`y`), or with the gradients of sum(y * w).
fn graph(case: &Case, with_gradients: bool) -> Graph {
    let mut graph = Graph::new(case.name);
    let names = ["a", "b", "c"];
    let operands: Vec<Tensor> = case.shapes.iter().zip(names).map(|(s, name)| graph.input(name, dims(s)).unwrap()).collect();
    let y = (case.build)(&mut graph, &operands).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    if !with_gradients {
        graph.output("y", y).unwrap();
        return graph;
    }
    let axes: Vec<usize> = (0..graph.shape(y).rank()).collect();
    let w = graph.input("w", graph.shape(y).clone()).unwrap();
    let product = graph.mul(y, w).unwrap();
    let loss = graph.reduce_sum(product, &axes, false).unwrap();
    let gradients = gradients(&mut graph, loss, &operands).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    for (name, gradient) in ["da", "db", "dc"].iter().zip(gradients) {
        graph.output(name, gradient).unwrap();
    }
    graph
}

fn uses_index(graph: &Graph) -> bool {
    (0..graph.nodes()).any(|i| graph.node(i).op == Op::Gather)
}

#[test]
fn every_gradient_equals_the_finite_difference() {
    let runtime = runtime();
    for case in CASES {
        check(&runtime, case);
    }
}

fn check(runtime: &Runtime, case: &Case) {
    const STEP: f32 = 1.0 / 128.0;
    let forward = graph(case, false);
    let mut state = 1;
    let mut feeds: Vec<(&str, Feed)> = Vec::new();
    for (shape, name) in case.shapes.iter().zip(["a", "b", "c"]) {
        let sizes = sizes(shape);
        let values = numbers(sizes.iter().product(), case.range, &mut state);
        feeds.push((name, Feed::Floats(sizes, values)));
    }
    if uses_index(&forward) {
        feeds.push(("index", Feed::Indices(vec![3, 2], INDEX.to_vec())));
    }
    let result = run(runtime, &forward, &feeds).remove(0);
    let weights = numbers(result.len(), (-1.0, 1.0), &mut state);
    let objective = |feeds: &[(&str, Feed)]| -> f64 {
        let y = run(runtime, &forward, feeds).remove(0);
        y.iter().zip(&weights).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
    };

    let backward = graph(case, true);
    let mut with_weights = feeds.clone();
    with_weights.push(("w", Feed::Floats(output_sizes(&forward, &result), weights.clone())));
    let gradients = run(runtime, &backward, &with_weights);
    for (operand, gradient) in gradients.iter().enumerate() {
        for (element, analytic) in gradient.iter().enumerate() {
            let shifted = |by: f32| {
                let mut feeds = feeds.clone();
                let Feed::Floats(_, values) = &mut feeds[operand].1 else { unreachable!("operands are floats") };
                values[element] += by;
                objective(&feeds)
            };
            let numeric = (shifted(STEP) - shifted(-STEP)) / f64::from(2.0 * STEP);
            let error = (numeric - f64::from(*analytic)).abs();
            let place = format!("{}: operand {operand}, element {element}", case.name);
            assert!(error <= 1e-3 * (1.0 + numeric.abs()), "{place}: {analytic} by rule, {numeric} by difference");
        }
    }
}

/// Sizes of the result, from its symbolic shape.
fn output_sizes(forward: &Graph, result: &[f32]) -> Vec<usize> {
    let last = forward.node(forward.nodes() - 1).outputs[0];
    let names: Vec<String> = forward.shape(last).dims().iter().map(ToString::to_string).collect();
    let sizes = sizes(&names.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(sizes.iter().product::<usize>(), result.len());
    sizes
}

#[test]
fn every_differentiable_operation_has_a_case() {
    let named = |op: &Op| format!("{op:?}").split([' ', '(', '{']).next().unwrap().to_owned();
    let covered: BTreeSet<String> = CASES
        .iter()
        .flat_map(|case| {
            let graph = graph(case, false);
            (0..graph.nodes()).map(|i| named(&graph.node(i).op)).collect::<Vec<_>>()
        })
        .collect();
    let expected = "Add Concat Div Exp Gather Gelu Gemm LayerNorm Log LogSumExp MatMul Mul ReduceMean ReduceSum Relu Reshape RmsNorm \
                    Sigmoid Slice Softmax Softplus Split Squeeze Sub Tanh Transpose Unsqueeze";
    assert_eq!(covered.iter().map(String::as_str).collect::<Vec<_>>(), expected.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn a_loss_that_does_not_depend_on_a_tensor_is_an_error() {
    let mut graph = Graph::new("g");
    let x = graph.input("x", Shape::batch("n", &[2])).unwrap();
    let y = graph.input("y", Shape::batch("n", &[2])).unwrap();
    let loss = graph.reduce_sum(x, &[0, 1], false).unwrap();
    let error = gradients(&mut graph, loss, &[x, y]).unwrap_err();
    assert!(error.to_string().contains("does not depend on tensor 1"), "{error}");
    let error = gradients(&mut graph, x, &[x]).unwrap_err();
    assert!(error.to_string().contains("[n, 2] instead of one number"), "{error}");
}
