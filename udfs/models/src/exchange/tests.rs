//! An exported graph gives the probabilities of the model it was made from.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use chrono::{Datelike, NaiveDate, Timelike};
use ort::session::SessionInputValue;
use ort::value::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value as Json;

use super::*;
use crate::click::{Calibrate, ModelType, train};
use crate::examples::{Block, Examples};
use crate::features::{Bag, Batch, Column, Part, Texts, Treatment, Values, id_of};
use crate::model::Rows;
use crate::testing::runtime;
use crate::uplift::{self, Learner, Plan, Propensity};

const COLOURS: [&str; 6] = ["red", "blue", "", "dark green", "\u{9ec4}", "never trained"];

/// A row of every kind of column.
#[derive(Debug, Clone, Default)]
struct Row {
    promo: Option<i64>,
    item: Option<i64>,
    colour: Option<usize>,
    shop: Option<u64>,
    zip: Option<i64>,
    brand: Option<u64>,
    price: Option<f32>,
    income: Option<f32>,
    quantity: Option<f32>,
    moment: Option<i64>,
    day: Option<i64>,
    time: Option<i64>,
    seen: Vec<i64>,
    tags: Vec<usize>,
    vector: Vec<f32>,
    note: Vec<u64>,
}

impl Row {
    /// A random row; one value in `rare` is one that no training row has.
    fn random(rng: &mut ChaCha8Rng, rare: f64) -> Self {
        let null = |rng: &mut ChaCha8Rng| rng.random_bool(0.1);
        let some = |rng: &mut ChaCha8Rng, most: i64| if rng.random_bool(rare) { most + 77 } else { rng.random_range(0..most) };
        let maybe = |rng: &mut ChaCha8Rng, most: i64| if null(rng) { None } else { Some(some(rng, most) - 3) };
        let hashed = |rng: &mut ChaCha8Rng, most: i64| if null(rng) { None } else { Some(id_of(some(rng, most) + 1000)) };
        let number = |rng: &mut ChaCha8Rng, low: f32, high: f32| match rng.random_range(0..20) {
            0 => None,
            1 if rare > 0.0 => Some(high * 50.0),
            2 if rare > 0.0 => Some(f32::INFINITY),
            _ => Some(rng.random_range(low..high)),
        };
        let colour = |rng: &mut ChaCha8Rng| if rng.random_bool(rare) { 5 } else { rng.random_range(0..5) };
        let items = |rng: &mut ChaCha8Rng| (0..rng.random_range(0..4)).map(|_| some(rng, 30) - 3).collect();
        Self {
            promo: if null(rng) { None } else { Some(rng.random_range(0..2)) },
            item: maybe(rng, 30),
            colour: if null(rng) { None } else { Some(colour(rng)) },
            shop: hashed(rng, 9),
            zip: maybe(rng, 500),
            brand: hashed(rng, 300),
            price: number(rng, -20.0, 80.0),
            income: number(rng, -5.0, 9000.0),
            quantity: number(rng, 0.0, 12.0),
            moment: if null(rng) { None } else { Some(rng.random_range(-90_000_000_000_000..1_900_000_000_000_000)) },
            day: if null(rng) { None } else { Some(rng.random_range(-20_000..25_000)) },
            time: if null(rng) { None } else { Some(rng.random_range(0..86_400_000_000)) },
            seen: items(rng),
            tags: (0..rng.random_range(0..4)).map(|_| colour(rng)).collect(),
            vector: (0..rng.random_range(0..if rare > 0.0 { 6 } else { 4 })).map(|_| rng.random_range(-3.0..3.0)).collect(),
            note: (0..rng.random_range(0..8)).map(|_| id_of(some(rng, 20) + 5000)).collect(),
        }
    }

    fn id(&self, column: &str, part: Part) -> u64 {
        let date = |days: i64| NaiveDate::from_ymd_opt(1970, 1, 1).unwrap() + chrono::Duration::days(days);
        let of_day = |date: NaiveDate| match part {
            Part::Weekday => i64::from(date.weekday().num_days_from_monday()),
            _ => i64::from(date.month()),
        };
        let moment = self.moment.and_then(chrono::DateTime::from_timestamp_micros);
        let whole = match (column, part) {
            ("promo", _) => self.promo,
            ("item", _) => self.item,
            ("zip", _) => self.zip,
            ("moment", Part::Hour) => moment.map(|moment| i64::from(moment.hour())),
            ("moment", _) => moment.map(|moment| of_day(moment.date_naive())),
            ("day", _) => self.day.map(|day| of_day(date(day))),
            ("time", _) => self.time.map(|time| time / 3_600_000_000),
            ("colour", _) => return self.colour.map_or(0, |colour| id_of(colour as i64 + 100)),
            ("shop", _) => return self.shop.unwrap_or(0),
            ("brand", _) => return self.brand.unwrap_or(0),
            other => panic!("{other:?}"),
        };
        whole.map_or(0, id_of)
    }

    fn number(&self, column: &str) -> f32 {
        let value = match column {
            "item" => self.item.map(|item| item as f32),
            "price" => self.price,
            "income" => self.income,
            "quantity" => self.quantity,
            "moment" => self.moment.map(|moment| (moment.div_euclid(1_000_000) as f64 / 86_400.0) as f32),
            "day" => self.day.map(|day| day as f32),
            other => panic!("{other}"),
        };
        value.filter(|value| value.is_finite()).unwrap_or(f32::NAN)
    }

    fn bag(&self, column: &str, bag: &mut Bag) {
        match column {
            "seen" => bag.ids.extend(self.seen.iter().map(|item| id_of(*item))),
            "tags" => bag.ids.extend(self.tags.iter().map(|tag| id_of(*tag as i64 + 100))),
            "note" => bag.ids.extend(&self.note),
            "vector" => {
                bag.ids.extend(1..=self.vector.len() as u64);
                bag.weights.extend(&self.vector);
            }
            other => panic!("{other}"),
        }
        bag.end_row();
    }
}

fn columns() -> Vec<Column> {
    let column = |name: &str, part, sql_type: &str, values, treatment| {
        let (column, sql_type) = (name.to_owned(), sql_type.to_owned());
        Column { column, part, sql_type, values, treatment }
    };
    let whole = |name: &str, sql_type: &str, values| column(name, Part::Whole, sql_type, values, None);
    let treated = |name: &str, sql_type: &str, values, treatment| column(name, Part::Whole, sql_type, values, Some(treatment));
    let part = |name: &str, part, sql_type: &str, values| column(name, part, sql_type, values, None);
    vec![
        whole("promo", "boolean", Values::Id),
        whole("seen", "bigint[]", Values::Items),
        whole("item", "bigint", Values::Id),
        whole("item", "bigint", Values::Number),
        whole("colour", "text", Values::Id),
        whole("shop", "text", Values::Id),
        treated("zip", "integer", Values::Id, Treatment::Hash(1 << 20)),
        treated("brand", "text", Values::Id, Treatment::Hash(32)),
        whole("price", "double precision", Values::Number),
        treated("income", "real", Values::Number, Treatment::Log),
        treated("quantity", "numeric", Values::Number, Treatment::Quantile(5)),
        part("moment", Part::Hour, "timestamp", Values::Id),
        part("moment", Part::Weekday, "timestamp", Values::Id),
        part("moment", Part::Age, "timestamp", Values::Number),
        part("day", Part::Weekday, "date", Values::Id),
        part("day", Part::Month, "date", Values::Id),
        part("day", Part::Age, "date", Values::Number),
        part("time", Part::Hour, "time", Values::Id),
        whole("tags", "text[]", Values::Items),
        whole("vector", "real[]", Values::Vector),
        whole("note", "text", Values::Tokens),
    ]
}

fn batch<'a>(columns: impl Iterator<Item = (&'a str, Part, Values)> + Clone, rows: &[Row]) -> Batch {
    let mut batch = Batch { rows: rows.len(), ..Batch::default() };
    for row in rows {
        for (column, part, values) in columns.clone() {
            match values {
                Values::Id => batch.ids.push(row.id(column, part)),
                Values::Number => batch.numbers.push(row.number(column)),
                _ => {}
            }
        }
    }
    for (column, _, _) in columns.filter(|(_, _, values)| values.is_bag()) {
        let mut bag = Bag::default();
        rows.iter().for_each(|row| row.bag(column, &mut bag));
        batch.bags.push(bag);
    }
    batch
}

/// The inputs of the graph, as the signature describes them.
fn feed(signature: &Json, rows: &[Row]) -> Vec<(String, SessionInputValue<'static>)> {
    let padded = |lengths: &dyn Fn(&Row) -> usize| rows.iter().map(lengths).max().unwrap().max(1);
    let inputs = signature["inputs"].as_array().unwrap();
    let feed = inputs.iter().map(|input| {
        let name = input["name"].as_str().unwrap();
        let null = &input["null"];
        let whole = |value: fn(&Row) -> Option<i64>| {
            let values: Vec<i64> = rows.iter().map(|row| value(row).unwrap_or(null.as_i64().unwrap())).collect();
            Tensor::from_array((vec![rows.len()], values)).unwrap().into()
        };
        let number = |value: fn(&Row) -> Option<f32>| {
            let values: Vec<f32> = rows.iter().map(|row| value(row).unwrap_or(f32::NAN)).collect();
            Tensor::from_array((vec![rows.len()], values)).unwrap().into()
        };
        let wholes = |value: fn(&Row) -> Vec<i64>| {
            let length = padded(&|row| value(row).len());
            let pad = std::iter::repeat(null.as_i64().unwrap());
            let values: Vec<i64> = rows.iter().flat_map(|row| value(row).into_iter().chain(pad.clone()).take(length)).collect();
            Tensor::from_array((vec![rows.len(), length], values)).unwrap().into()
        };
        let text = |colour: Option<&usize>| colour.map_or(null.as_str().unwrap(), |colour| COLOURS[*colour]).to_owned();
        let value: SessionInputValue<'static> = match name {
            "promo" => whole(|row| row.promo),
            "item" => whole(|row| row.item),
            "zip" => whole(|row| row.zip),
            "moment" => whole(|row| row.moment),
            "day" => whole(|row| row.day),
            "time" => whole(|row| row.time),
            "shop.id" => whole(|row| row.shop.map(u64::cast_signed)),
            "brand.id" => whole(|row| row.brand.map(u64::cast_signed)),
            "price" => number(|row| row.price),
            "income" => number(|row| row.income),
            "quantity" => number(|row| row.quantity),
            "seen" => wholes(|row| row.seen.clone()),
            "note.ngrams" => wholes(|row| row.note.iter().map(|id| id.cast_signed()).collect()),
            "colour" => {
                let values: Vec<String> = rows.iter().map(|row| text(row.colour.as_ref())).collect();
                Tensor::from_string_array((vec![rows.len()], values.as_slice())).unwrap().into()
            }
            "tags" => {
                let length = padded(&|row: &Row| row.tags.len());
                let values: Vec<String> = rows.iter().flat_map(|row| (0..length).map(|at| text(row.tags.get(at)))).collect();
                Tensor::from_string_array((vec![rows.len(), length], values.as_slice())).unwrap().into()
            }
            "vector" => {
                let length = padded(&|row| row.vector.len());
                let value = |row: &Row, at| row.vector.get(at).copied().unwrap_or(f32::NAN);
                let values: Vec<f32> = rows.iter().flat_map(|row| (0..length).map(move |at| value(row, at))).collect();
                Tensor::from_array((vec![rows.len(), length], values)).unwrap().into()
            }
            other => panic!("{other}"),
        };
        (name.to_owned(), value)
    });
    feed.collect()
}

fn json(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A click model that was trained on rows of every kind and saved.
fn saved(registry: &Registry, name: &str, options: TrainOptions) -> ModelName {
    saved_as(registry, name, options, None)
}

/// The same, or an uplift model.
fn saved_as(registry: &Registry, name: &str, options: TrainOptions, plan: Option<&Plan>) -> ModelName {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let rows: Vec<Row> = (0..3000).map(|_| Row::random(&mut rng, 0.0)).collect();
    let tasks = options.model_type.tasks();
    let click = |row: &Row| row.item.unwrap_or(9) % 3 == 0 || row.price.unwrap_or(0.0) > 55.0;
    let labels = rows.iter().flat_map(|row| {
        let clicked = click(row) != (row.day.unwrap_or(0) % 5 == 0);
        [clicked, clicked && row.promo == Some(1)][..tasks].iter().map(|label| f32::from(u8::from(*label))).collect::<Vec<_>>()
    });
    let columns = columns();
    let kinds: Vec<_> = columns.iter().map(|c| (c.column.clone(), c.part, c.values)).collect();
    let batch = batch(kinds.iter().map(|(column, part, values)| (column.as_str(), *part, *values)), &rows);
    let block = match plan {
        Some(plan) => {
            // The treatment makes even items clicked.
            let labels = labels.zip(&rows).flat_map(|(label, row)| {
                let treated = rng.random_bool(0.4);
                let moved = treated && row.item.unwrap_or(1) % 2 == 0;
                [f32::from(u8::from(moved)).max(label), f32::from(u8::from(treated))]
            });
            uplift::rows(plan, batch, labels.collect(), vec![])
        }
        None => Block { batch, labels: labels.collect(), split: vec![] },
    };
    let columns = columns.into_iter().chain(plan.and_then(|plan| uplift::column(plan, "boolean"))).collect();
    let mut texts = Texts::default();
    for column in [4, 18] {
        COLOURS.iter().enumerate().for_each(|(colour, text)| texts.see(column, id_of(colour as i64 + 100), text));
    }
    let mut examples = Examples::new(columns, &block, 0);
    examples.texts = texts;
    let (stop, mut go_on) = (AtomicBool::new(false), |_: &Progress| ControlFlow::Continue(()));
    let trained = match plan {
        Some(plan) => uplift::train(&runtime(), &examples, &options, plan, &mut go_on, &stop).unwrap(),
        None => train(&runtime(), &examples, &options, None, &mut go_on, &stop).unwrap(),
    };
    let name = ModelName::parse(name).unwrap();
    let source = Source { label: "click".to_owned(), query: "SELECT * FROM impressions".to_owned(), rows: 3000 };
    trained.save(registry, &name, source, None).unwrap();
    name
}

fn options(model_type: ModelType) -> TrainOptions {
    let history = (model_type == ModelType::Din).then(|| ("seen".to_owned(), "item".to_owned()));
    TrainOptions {
        model_type,
        history,
        epochs: 2,
        ensembles: 1,
        threads: 1,
        embedding_dim: 8,
        hidden: vec![32, 16],
        ..TrainOptions::default()
    }
}

/// The largest difference between a model and its export on rows with NULLs and unseen values.
fn compare(options: TrainOptions) -> (f32, Json) {
    compare_as(options, None)
}

fn compare_as(options: TrainOptions, plan: Option<&Plan>) -> (f32, Json) {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path().join("models")).unwrap();
    let name = saved_as(&registry, "ctr", options, plan);
    let to = folder.path().join("out");
    export(&registry, &name, 1, None, &to, false).unwrap();
    let signature = json(&to.join(SIGNATURE));
    let model = Model::load(&runtime(), &registry, &name, 1).unwrap();
    let manifest = registry.manifest(&name, 1).unwrap();
    let used = manifest.inputs().iter().filter(|f| f.is_used()).map(|f| (f.column.clone(), f.part, f.values));
    let used: Vec<_> = used.collect();
    assert!(used.len() >= 20, "{used:?}");
    let mut session = runtime().session(&std::fs::read(to.join(GRAPH)).unwrap(), 1).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let mut worst = 0.0f32;
    // By how much the results must differ: effects are smaller than probabilities.
    let least = if plan.is_some() { 0.01 } else { 0.05 };
    for count in [1, 700] {
        let mut rows: Vec<Row> = (0..count).map(|_| Row::random(&mut rng, 0.15)).collect();
        rows.push(Row::default());
        let batch = batch(used.iter().map(|(column, part, values)| (column.as_str(), *part, *values)), &rows);
        let expected = model.predict(&Rows::Features(batch)).unwrap();
        let outputs = session.run(feed(&signature, &rows)).unwrap();
        let output = outputs.get(signature["outputs"][0]["name"].as_str().unwrap()).unwrap();
        let (shape, values) = output.try_extract_tensor::<f32>().unwrap();
        assert_eq!(**shape, [rows.len() as i64, expected.tasks() as i64]);
        for task in 0..expected.tasks() {
            let own = values.iter().skip(task).step_by(expected.tasks());
            let differences: Vec<f32> = own.zip(expected.task(task)).map(|(a, b)| (a - b).abs()).collect();
            assert!(differences.iter().all(|difference| difference.is_finite()));
            worst = differences.into_iter().fold(worst, f32::max);
            let spread: Vec<f32> = expected.task(task).collect();
            assert!(count == 1 || spread.iter().copied().fold(0.0, f32::max) - spread.iter().copied().fold(1.0, f32::min) > least);
        }
    }
    (worst, signature)
}

#[test]
fn an_exported_graph_gives_the_models_probabilities_for_every_architecture() {
    for model_type in ModelType::ALL {
        let (worst, signature) = compare(options(model_type));
        assert!(worst < 1e-5, "{model_type}: {worst}");
        assert_eq!(signature["model_type"], model_type.to_string());
        assert_eq!(signature["tasks"].as_array().unwrap().len(), model_type.tasks());
    }
}

#[test]
fn an_exported_uplift_model_gives_the_same_effects() {
    for learner in [Learner::S, Learner::T, Learner::X, Learner::R] {
        for propensity in [Propensity::Share, Propensity::Learned] {
            let plan = Plan { learner, propensity, treatment: "treated".to_owned() };
            let options = TrainOptions { ensembles: 2, calibration: Calibrate::Temperature, ..options(ModelType::Dcnv2) };
            let (worst, signature) = compare_as(options, Some(&plan));
            assert!(worst < 1e-5, "{learner} with {propensity:?}: {worst}");
            assert_eq!((&signature["tasks"][0], &signature["outputs"][0]["name"]), (&"uplift".into(), &"uplift".into()));
            assert!(signature["inputs"].as_array().unwrap().iter().all(|input| input["column"] != "treated"));
        }
    }
}

#[test]
fn ensembles_and_calibration_are_in_the_graph() {
    for calibration in [Calibrate::Temperature, Calibrate::Isotonic] {
        let options = TrainOptions { ensembles: 2, calibration, positive_weight: Some(3.0), ..options(ModelType::Dcnv2) };
        let (worst, signature) = compare(options);
        assert!(worst < 1e-5, "{calibration:?}: {worst}");
        assert_ne!(signature["calibration"][0]["scale"], 0.0);
    }
}

#[test]
fn the_signature_tells_how_to_make_each_input() {
    let (_, signature) = compare(options(ModelType::Logistic));
    let inputs: BTreeMap<&str, &Json> = signature["inputs"].as_array().unwrap().iter().map(|i| (i["name"].as_str().unwrap(), i)).collect();
    let told =
        |name: &str| (inputs[name]["dtype"].as_str().unwrap(), inputs[name]["sql_type"].as_str().unwrap(), inputs[name]["null"].clone());
    assert_eq!(told("item"), ("int64", "bigint", i64::MIN.into()));
    assert_eq!(told("price"), ("float32", "double precision", "NaN".into()));
    assert_eq!(told("colour"), ("str", "text", "\\N".into()));
    assert_eq!(told("shop.id"), ("int64", "text", 0.into()));
    assert_eq!((&inputs["shop.id"]["encoding"], &inputs["day"]["encoding"]), (&"xxh64".into(), &"days".into()));
    assert_eq!(inputs["tags"]["shape"].as_array().unwrap().len(), 2);
    assert_eq!(inputs["seen"]["most"], "the last 512");
    assert_eq!(signature["provenance"]["label"], "click");
}

#[test]
fn an_import_of_an_export_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path().join("models")).unwrap();
    let name = saved(&registry, "ctr", options(ModelType::Dcnv2));
    let to = folder.path().join("out");
    export(&registry, &name, 1, Some("item, *"), &to, false).unwrap();
    assert_eq!(json(&to.join(SIGNATURE))["transform"], "item, *");
    let elsewhere = Registry::open(folder.path().join("elsewhere")).unwrap();
    let wanted = Import { name: "copy".to_owned(), label: Some("clicked".to_owned()), columns: vec![] };
    assert_eq!(import(&runtime(), &elsewhere, &to, &wanted).unwrap(), 1);
    assert_eq!(import(&runtime(), &elsewhere, &to, &wanted).unwrap(), 2);
    let (old, new) = (registry.manifest(&name, 1).unwrap(), elsewhere.manifest(&ModelName::parse("copy").unwrap(), 2).unwrap());
    assert_eq!((new.files, new.features, new.created_at), (old.files, old.features, old.created_at));
    assert_eq!((new.name.as_str(), new.source.label.as_str()), ("copy", "clicked"));
}

#[test]
fn a_folder_with_other_files_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path().join("models")).unwrap();
    let name = saved(&registry, "ctr", options(ModelType::Logistic));
    let to = folder.path().join("out");
    let refused = |replace| export(&registry, &name, 1, None, &to, replace).unwrap_err().to_string();
    std::fs::create_dir(&to).unwrap();
    export(&registry, &name, 1, None, &to, false).unwrap();
    assert!(refused(false).ends_with("out holds an export already"));
    export(&registry, &name, 1, None, &to, true).unwrap();
    std::fs::write(to.join("thesis.txt"), "mine").unwrap();
    assert!(refused(true).ends_with("out holds other files than those of an export"));
    assert_eq!(std::fs::read_to_string(to.join("thesis.txt")).unwrap(), "mine");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_changed_export_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path().join("models")).unwrap();
    let name = saved(&registry, "ctr", options(ModelType::Logistic));
    let to = folder.path().join("out");
    export(&registry, &name, 1, None, &to, false).unwrap();
    let wanted = Import { name: "copy".to_owned(), ..Import::default() };
    let mut weights = std::fs::read(to.join("version/weights.safetensors")).unwrap();
    *weights.last_mut().unwrap() ^= 1;
    std::fs::write(to.join("version/weights.safetensors"), weights).unwrap();
    let error = import(&runtime(), &registry, &to, &wanted).unwrap_err().to_string();
    assert!(error.ends_with("is damaged: weights.safetensors does not match its SHA-256"), "{error}");
    // A manifest that leads out of the folder, with the right hash.
    let manifest =
        std::fs::read_to_string(to.join("version/manifest.json")).unwrap().replace("\"weights.safetensors\"", "\"../signature.json\"");
    std::fs::write(to.join("version/manifest.sha256"), crate::registry::sha256(manifest.as_bytes())).unwrap();
    std::fs::write(to.join("version/manifest.json"), manifest).unwrap();
    let error = import(&runtime(), &registry, &to, &wanted).unwrap_err().to_string();
    assert!(error.contains("it has no file \"../signature.json\""), "{error}");
    assert_eq!(registry.names().unwrap().len(), 1);
}
