//! A model as one self-contained graph: plain columns in, probabilities or uplifts out. It does what [`crate::features::encode`],
//! [`crate::click::ClickModel`] and [`crate::uplift::UpliftModel`] do on the host.

use super::inputs::{self, Form, Inputs};
use super::places::{self, Known};
use super::signature::Input;
use super::writer::{Value, Writer};
use crate::click::{Calibration, Member, Stored, net};
use crate::error::Result;
use crate::features::encode::{Encoding, LIMIT};
use crate::features::{Bins, Feature, Kind as Reads, Number, Vocabulary, id_of};
use crate::net::{Net, Output, port};
use crate::onnx::{ModelProto, data_type};
use crate::registry::Kind;
use crate::uplift::{Learner, Uplift};

/// An exported graph with what it takes and gives.
pub(super) struct Exported {
    pub(super) model: ModelProto,
    pub(super) inputs: Vec<Input>,
    pub(super) output: String,
}

/// What a feature gives to every member.
struct Field {
    vocabulary: Vocabulary,
    uses: Uses,
}

/// How a field's rows of the table are used.
enum Uses {
    /// The row `[n]`.
    One(Value),
    /// The rows `[n, l]`, with their weights `[n, l, 1]`; NULL's where `empty` `[n, 1]`.
    Mean { rows: Value, weights: Value, empty: Value },
    /// The rows `[l]`, with their weights `[n, l]`; NULL's where `empty` `[n, 1]`.
    Sum { rows: Value, weights: Value, empty: Value },
    /// Between the knots `left` and `right` `[n]`, at `share` `[n, 1]`; nothing where `missing` `[n, 1]`.
    Between { knots: usize, left: Value, right: Value, share: Value, missing: Value },
}

/// The history `[n, l]` of rows of the table, with its mask.
struct History {
    vocabulary: Vocabulary,
    rows: Value,
    mask: Value,
}

/// What all members read.
#[derive(Default)]
struct Rows {
    fields: Vec<Field>,
    /// Each `[n, 1]`.
    dense: Vec<Value>,
    history: Option<History>,
}

pub(super) fn exported(stored: &Stored) -> Result<Exported> {
    let Stored { manifest, weights, texts, .. } = stored;
    let mut writer = Writer::default();
    let mut inputs = Inputs::default();
    let mut rows = Rows::default();
    for (position, (feature, ids)) in manifest.inputs().iter().zip(&weights.known).enumerate() {
        let known = Known { ids, texts: texts.get(&position).map(Vec::as_slice) };
        read(&mut writer, &mut inputs, &mut rows, feature, &known)?;
    }
    let (name, width, result) = match &manifest.kind {
        Kind::Uplift(uplift) => {
            let values = if uplift.learner == Learner::S {
                both_arms(&mut writer, &inputs, &mut rows, stored)?
            } else {
                let logits = means(&mut writer, &rows, stored)?;
                let parts = uplift.parts.iter().zip(&manifest.calibration).zip(&logits);
                parts.map(|((part, calibration), logit)| value(&mut writer, logit, calibration, uplift.output(*part))).collect()
            };
            ("uplift", 1, effect(&mut writer, uplift, &values))
        }
        Kind::Click | Kind::Text(_) | Kind::Language(_) | Kind::Onnx(_) => {
            let logits = means(&mut writer, &rows, stored)?.remove(0);
            let probabilities = calibrated(&mut writer, &logits, &manifest.calibration);
            ("probability", manifest.calibration.len(), probabilities)
        }
    };
    let output = writer.output(name, width, &result);
    let model = writer.finish(&format!("{}@{}", manifest.name, manifest.version));
    Ok(Exported { model, inputs: inputs.described, output })
}

/// The mean logits `[n, tasks]` of each ensemble.
fn means(w: &mut Writer, rows: &Rows, stored: &Stored) -> Result<Vec<Value>> {
    let Stored { manifest, weights, .. } = stored;
    let encoding = Encoding::new(&manifest.features, &weights.known, false);
    let net = net(&encoding, &manifest.options);
    let each = weights.members.len() / manifest.kind.parts() as usize;
    let mut means = Vec::new();
    for part in weights.members.chunks(each.max(1)) {
        let mut logits = Vec::new();
        for member in part {
            let mut knots = Vec::new();
            encoding.knots(&member.table, net.stride(), &mut knots);
            logits.push(score(w, rows, &net, member, &knots)?);
        }
        let all: Vec<&str> = logits.iter().map(String::as_str).collect();
        let sum = w.op("Sum", &all);
        let share = w.float(1.0 / all.len() as f32);
        means.push(w.op("Mul", &[&sum, &share]));
    }
    Ok(means)
}

/// What the nets of an S-learner say of a row as treated, and as not treated: the treatment, the last feature, is set in the graph.
fn both_arms(w: &mut Writer, inputs: &Inputs, rows: &mut Rows, stored: &Stored) -> Result<Vec<Value>> {
    let (Kind::Uplift(uplift), Some(treatment)) = (&stored.manifest.kind, stored.manifest.features.last()) else { return Ok(Vec::new()) };
    let (Reads::Category(vocabulary), Some(ids)) = (&treatment.kind, stored.weights.known.last()) else { return Ok(Vec::new()) };
    let first = inputs.described.first().map(|input| input.name.clone()).unwrap_or_default();
    let (shape, start) = (w.op("Shape", &[&first]), w.ints(&[1], &[0]));
    let count = w.op("Gather", &[&shape, &start]);
    let mut values = Vec::new();
    for treated in [1, 0] {
        // After the row of NULL and that of unseen values.
        let place = ids.iter().position(|id| *id == id_of(treated)).map_or(1, |position| position as i64 + 2);
        let place = w.ints(&[1], &[place]);
        let row = w.op("Expand", &[&place, &count]);
        rows.fields.push(Field { vocabulary: *vocabulary, uses: Uses::One(row) });
        let logits = means(w, rows, stored)?;
        rows.fields.pop();
        values.extend(logits.iter().zip(&stored.manifest.calibration).map(|(logit, own)| value(w, logit, own, uplift.outcome)));
    }
    Ok(values)
}

/// The effect `[n, 1]`, as [`crate::uplift::UpliftModel`] puts it together.
fn effect(w: &mut Writer, uplift: &Uplift, values: &[Value]) -> Value {
    let effect = match (uplift.learner, values) {
        (Learner::S | Learner::T, [treated, control]) => w.op("Sub", &[treated, control]),
        (Learner::X, [treated, control, rest @ ..]) => {
            let share = rest.first().cloned().unwrap_or_else(|| w.float(uplift.share));
            let difference = w.op("Sub", &[control, treated]);
            let moved = w.op("Mul", &[&share, &difference]);
            w.op("Add", &[treated, &moved])
        }
        (_, values) => values.first().cloned().unwrap_or_default(),
    };
    match uplift.outcome {
        Output::Probability => limited(w, &effect, -1.0, 1.0),
        Output::Number => effect,
    }
}

/// Adds what a feature gives.
fn read(w: &mut Writer, inputs: &mut Inputs, rows: &mut Rows, feature: &Feature, known: &Known<'_>) -> Result<()> {
    if !feature.is_used() {
        return Ok(());
    }
    let form = Form::of(feature, known.texts.is_some());
    let input = inputs.of(w, feature, form)?;
    match &feature.kind {
        Reads::Unused(_) => {}
        Reads::Category(vocabulary) => {
            let value = inputs::whole(w, &input, feature, form);
            let row = places::rows(w, &value, form, *vocabulary, known);
            rows.fields.push(Field { vocabulary: *vocabulary, uses: Uses::One(row) });
        }
        Reads::Bag(vocabulary) => {
            let items = places::rows(w, &input, form, *vocabulary, known);
            let mask = is_there(w, &items);
            let count = w.sum(&mask, 1, true);
            let (one, zero) = (w.float(1.0), w.float(0.0));
            let empty = w.op("Equal", &[&count, &zero]);
            let count = w.op("Max", &[&count, &one]);
            let root = w.op("Sqrt", &[&count]);
            let weights = w.op("Div", &[&mask, &root]);
            let weights = w.unsqueeze(&weights, 2);
            rows.fields.push(Field { vocabulary: *vocabulary, uses: Uses::Mean { rows: items, weights, empty } });
        }
        Reads::Vector { vocabulary, scale } => {
            let uses = vector(w, &input, *vocabulary, *scale);
            rows.fields.push(Field { vocabulary: *vocabulary, uses });
        }
        Reads::History { vocabulary, .. } => {
            let items = places::rows(w, &input, form, *vocabulary, known);
            let mask = is_there(w, &items);
            rows.history = Some(History { vocabulary: *vocabulary, rows: items, mask });
        }
        Reads::Number(number) => {
            let value = inputs::number(w, &input, feature, form);
            let value = w.unsqueeze(&value, 1);
            self::number(w, rows, number, &value);
        }
    }

    Ok(())
}

/// 1 for a row of the table that is not NULL's.
fn is_there(w: &mut Writer, rows: &str) -> Value {
    let zero = w.int(0);
    let there = w.op("Greater", &[rows, &zero]);
    w.cast(&there, data_type::FLOAT)
}

/// The numbers of a list `[n, l]` by position. NaN pads; what is not finite counts as 0.
fn vector(w: &mut Writer, input: &str, vocabulary: Vocabulary, scale: f32) -> Uses {
    let padding = w.op("IsNaN", &[input]);
    let infinite = w.op("IsInf", &[input]);
    let nothing = w.op("Or", &[&padding, &infinite]);
    let zero = w.float(0.0);
    let values = w.op("Where", &[&nothing, &zero, input]);
    let scale = w.float(scale);
    let scaled = w.op("Div", &[&values, &scale]);
    let weights = limited(w, &scaled, -LIMIT, LIMIT);

    let there = w.op("Not", &[&padding]);
    let there = w.cast(&there, data_type::FLOAT);
    let count = w.sum(&there, 1, true);
    let empty = w.op("Equal", &[&count, &zero]);

    let (shape, axis, none, step) = (w.op("Shape", &[input]), w.int(1), w.int(0), w.int(1));
    let length = w.op("Gather", &[&shape, &axis]);
    let positions = w.op("Range", &[&none, &length, &step]);
    let size = w.int(vocabulary.size.into());
    let known = w.op("Less", &[&positions, &size]);
    let (own, other) = (inputs::plus(w, &positions, 2), w.int(1));
    Uses::Sum { rows: w.op("Where", &[&known, &own, &other]), weights, empty }
}

/// The numeric inputs and, with bins, the field of a number `[n, 1]`.
fn number(w: &mut Writer, rows: &mut Rows, number: &Number, value: &str) {
    let missing = w.op("IsNaN", &[value]);
    let zero = w.float(0.0);
    let known = w.op("Where", &[&missing, &zero, value]);
    let within = match (number.bins, number.edges.as_slice()) {
        (Bins::Piecewise(vocabulary), edges @ [first, .., last]) => {
            let within = limited(w, &known, *first, *last);
            let (left, right, share) = between(w, &known, edges);
            let uses = Uses::Between { knots: edges.len(), left, right, share, missing: missing.clone() };
            rows.fields.push(Field { vocabulary, uses });
            within
        }
        (Bins::Quantile(vocabulary), edges) => {
            let bin = bin(w, &known, edges);
            let bin = inputs::plus(w, &bin, 1);
            let (null, flat) = (w.int(0), w.ints(&[1], &[1]));
            let missing = w.op("Squeeze", &[&missing, &flat]);
            let row = w.op("Where", &[&missing, &null, &bin]);
            rows.fields.push(Field { vocabulary, uses: Uses::One(row) });
            known
        }
        _ => known,
    };
    let scaled = if number.log { logarithm(w, &within) } else { within };
    let (mean, std) = (w.float(number.mean), w.float(number.std));
    let centred = w.op("Sub", &[&scaled, &mean]);
    let standard = w.op("Div", &[&centred, &std]);
    let standard = limited(w, &standard, -LIMIT, LIMIT);
    let standard = w.op("Where", &[&missing, &zero, &standard]);
    rows.dense.push(standard);
    if number.nullable {
        let flag = w.cast(&missing, data_type::FLOAT);
        rows.dense.push(flag);
    }
}

/// sign(x) ln(1 + |x|), in 64 bits since there is no such operation that is exact near 0.
fn logarithm(w: &mut Writer, value: &str) -> Value {
    let wide = w.cast(value, data_type::DOUBLE);
    let (sign, size, one) = (w.op("Sign", &[&wide]), w.op("Abs", &[&wide]), w.double(1.0));
    let above = w.op("Add", &[&size, &one]);
    let log = w.op("Log", &[&above]);
    let signed = w.op("Mul", &[&sign, &log]);
    w.cast(&signed, data_type::FLOAT)
}

fn limited(w: &mut Writer, value: &str, low: f32, high: f32) -> Value {
    let (low, high) = (w.float(low), w.float(high));
    w.op("Clip", &[value, &low, &high])
}

/// How many edges are not above a number `[n, 1]`: `[n]`.
fn bin(w: &mut Writer, value: &str, edges: &[f32]) -> Value {
    let edges = w.floats(&[edges.len()], edges);
    let below = w.op("GreaterOrEqual", &[value, &edges]);
    let below = w.cast(&below, data_type::INT64);
    w.sum(&below, 1, false)
}

/// The edges `[n]` left and right of a number `[n, 1]`, and the share `[n, 1]` of the way between them; a number outside lies at the end.
fn between(w: &mut Writer, value: &str, edges: &[f32]) -> (Value, Value, Value) {
    let bin = bin(w, value, edges);
    let (first, last) = (w.int(1), w.int(edges.len() as i64 - 1));
    let right = w.op("Clip", &[&bin, &first, &last]);
    let left = w.op("Sub", &[&right, &first]);
    let edges = w.floats(&[edges.len(), 1], edges);
    let (low, high) = (w.op("Gather", &[&edges, &left]), w.op("Gather", &[&edges, &right]));
    let (above, size) = (w.op("Sub", &[value, &low]), w.op("Sub", &[&high, &low]));
    let share = w.op("Div", &[&above, &size]);
    let share = limited(w, &share, 0.0, 1.0);
    (left, right, share)
}

/// The logits `[n, tasks]` of a member.
fn score(w: &mut Writer, rows: &Rows, net: &Net, member: &Member, mut knots: &[f32]) -> Result<Value> {
    let stride = net.stride();
    let mut parts = Vec::new();
    for Field { vocabulary, uses } in &rows.fields {
        let own = if let Uses::Between { knots: count, .. } = uses {
            let (own, rest) = knots.split_at(count * stride);
            knots = rest;
            w.floats(&[*count, stride], own)
        } else {
            table(w, member, *vocabulary, stride)
        };
        parts.push(embedding(w, &own, uses));
    }
    parts.extend(rows.dense.iter().cloned());
    let x = w.concat(&parts, 1);
    let graph = net.scoring_graph(&member.parameters)?.proto().graph.unwrap_or_default();
    let Some(history) = &rows.history else { return Ok(w.splice(graph, &[(port::X, &x)])) };
    let own = table(w, member, history.vocabulary, stride);
    let items = w.op("Gather", &[&own, &history.rows]);
    let mask = w.unsqueeze(&history.mask, 2);
    let items = w.op("Mul", &[&items, &mask]);
    Ok(w.splice(graph, &[(port::X, &x), (port::HISTORY, &items), (port::HISTORY_MASK, &history.mask)]))
}

/// A feature's part of the table.
fn table(w: &mut Writer, member: &Member, vocabulary: Vocabulary, stride: usize) -> Value {
    let rows = vocabulary.rows() as usize;
    w.floats(&[rows, stride], &member.table[vocabulary.offset as usize * stride..][..rows * stride])
}

/// The embedding `[n, stride]` of a field.
fn embedding(w: &mut Writer, table: &str, uses: &Uses) -> Value {
    match uses {
        Uses::One(row) => w.op("Gather", &[table, row]),
        Uses::Mean { rows, weights, empty } => {
            let items = w.op("Gather", &[table, rows]);
            let items = w.op("Mul", &[&items, weights]);
            let sum = w.sum(&items, 1, false);
            or_null(w, table, &sum, empty)
        }
        Uses::Sum { rows, weights, empty } => {
            let positions = w.op("Gather", &[table, rows]);
            let sum = w.op("MatMul", &[weights, &positions]);
            or_null(w, table, &sum, empty)
        }
        Uses::Between { left, right, share, missing, .. } => {
            let (low, high) = (w.op("Gather", &[table, left]), w.op("Gather", &[table, right]));
            let one = w.float(1.0);
            let rest = w.op("Sub", &[&one, share]);
            let (low, high) = (w.op("Mul", &[&low, &rest]), w.op("Mul", &[&high, share]));
            let (sum, zero) = (w.op("Add", &[&low, &high]), w.float(0.0));
            w.op("Where", &[missing, &zero, &sum])
        }
    }
}

/// NULL's row of the table where a list is empty.
fn or_null(w: &mut Writer, table: &str, sum: &str, empty: &str) -> Value {
    let first = w.ints(&[1], &[0]);
    let null = w.op("Gather", &[table, &first]);
    w.op("Where", &[empty, &null, sum])
}

/// The probabilities `[n, tasks]` for mean logits.
fn calibrated(w: &mut Writer, logits: &str, calibration: &[Calibration]) -> Value {
    let mut tasks = Vec::new();
    for (task, calibration) in calibration.iter().enumerate() {
        let column = w.ints(&[1], &[task as i64]);
        let logit = w.op_with("Gather", &[logits, &column], vec![crate::onnx::AttributeProto::int("axis", 1)]);
        tasks.push(value(w, &logit, calibration, Output::Probability));
    }
    w.concat(&tasks, 1)
}

/// What a mean logit `[n, 1]` stands for.
fn value(w: &mut Writer, logit: &str, Calibration { scale, shift, steps }: &Calibration, output: Output) -> Value {
    let (scale, shift) = (w.float(*scale), w.float(*shift));
    let logit = w.op("Mul", &[logit, &scale]);
    let logit = w.op("Add", &[&logit, &shift]);
    match (output, steps.as_slice()) {
        (Output::Number, _) => logit,
        (Output::Probability, []) => w.op("Sigmoid", &[&logit]),
        (Output::Probability, [(_, only)]) => limited(w, &logit, *only, *only),
        (Output::Probability, steps) => {
            let (logits, values): (Vec<f32>, Vec<f32>) = steps.iter().copied().unzip();
            let (left, right, share) = between(w, &logit, &logits);
            let values = w.floats(&[values.len(), 1], &values);
            let (low, high) = (w.op("Gather", &[&values, &left]), w.op("Gather", &[&values, &right]));
            let rise = w.op("Sub", &[&high, &low]);
            let rise = w.op("Mul", &[&rise, &share]);
            w.op("Add", &[&low, &rise])
        }
    }
}
