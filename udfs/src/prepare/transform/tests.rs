use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, DictionaryArray, Float64Array, Int16Array, Int32Array, Int64Array, ListArray,
    RecordBatch, StringArray, StringViewArray, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type, Int8Type, Int64Type};
use datafusion::arrow::util::display::array_value_to_string;
use serde_json::Value;

use super::*;
use crate::error::find;

/// Made by `tests/fixtures/prepare.py`.
const FIXTURE: &str = include_str!("../../../tests/fixtures/prepare.json");

fn rows() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("item_id", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))),
        ("slot", Arc::new(StringViewArray::from(vec![Some("top"), Some("side"), None, Some("top")]))),
        ("price", Arc::new(Float64Array::from(vec![Some(1.0), Some(2.0), None, Some(6.0)]))),
        ("raw", Arc::new(BinaryArray::from(vec![b"x".as_slice(); 4]))),
        ("click", Arc::new(BooleanArray::from(vec![true, false, false, true]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn parse(select: &str) -> Result<Transform> {
    Transform::parse(select, &rows().schema())
}

fn fitted(select: &str) -> Fitted {
    let mut fitting = parse(select).unwrap().fitting().unwrap();
    fitting.update(&rows()).unwrap();
    fitting.finish().unwrap()
}

/// Saved and loaded, as with a model.
fn reopened(fitted: &Fitted) -> Fitted {
    let saved = serde_json::to_string(fitted).unwrap();
    let opened: Fitted = serde_json::from_str(&saved).unwrap();
    assert_eq!(serde_json::to_string(&opened).unwrap(), saved);
    opened
}

fn apply(fitted: &Fitted, rows: &RecordBatch, except: &[&str]) -> RecordBatch {
    fitted.bind("ctr@3", rows.schema().fields(), except).unwrap().apply(rows.columns(), rows.num_rows()).unwrap()
}

/// The values of an output.
fn column(batch: &RecordBatch, name: &str) -> Vec<String> {
    let column = batch.column_by_name(name).unwrap();
    (0..column.len()).map(|row| array_value_to_string(column, row).unwrap()).collect()
}

fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|field| field.name().as_str()).collect()
}

fn refusal(select: &str) -> (String, String) {
    let error = parse(select).unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("in the transform argument of finetune: "), "{message}");
    let Error::InQuery { source, .. } = &error else { panic!("{error:?}") };
    (find(source).map_or_else(|| source.to_string(), ToString::to_string), error.hint().unwrap_or_default())
}

#[test]
fn a_select_list_is_planned_with_names_and_types() {
    let transform = parse(
        "ml.hash_bucketize(item_id, 100) AS item_h, ml.quantile_bucketize(price, buckets => 2) OVER () AS \"Price\", *, slot AS place",
    )
    .unwrap();
    assert_eq!(names(&transform.output()), ["item_h", "Price", "item_id", "slot", "price", "raw", "click", "place"]);
    let types: Vec<_> = transform.output().fields().iter().map(|field| field.data_type().clone()).collect();
    assert_eq!(types[..4], [DataType::Int64, DataType::Int32, DataType::Int64, DataType::Utf8View]);
    assert!(transform.learns());
    assert!(!parse("price * 2 AS p").unwrap().learns());
    assert_eq!(names(&parse("* EXCEPT (price, RAW), price AS p").unwrap().output()), ["item_id", "slot", "click", "p"]);
}

#[test]
fn functions_learn_inside_expressions_once_per_distinct_call() {
    let transform = parse("2 * ml.impute(ln(price), 'median') + ml.impute(ln( price ), strategy => 'median') AS z, price").unwrap();
    assert_eq!(transform.plan.calls.len(), 1);
    let fitted = fitted("2 * ml.impute(ln(price), 'median') + ml.impute(ln( price ), strategy => 'median') AS z, price");
    let z = apply(&fitted, &rows(), &[]);
    let expected = [1.0, 2.0, 2.0, 6.0].map(|price: f64| 3.0 * price.ln());
    assert_eq!(z.column_by_name("z").unwrap().as_primitive::<Float64Type>().values().to_vec(), expected);
}

#[test]
fn what_was_learned_is_replayed_on_other_rows() {
    let fitted = reopened(&fitted(
        "ml.standard_scaler(price) AS s, ml.one_hot(slot, 1) AS h, ml.impute(slot, 'most_frequent') AS i, ml.split(item_id, 0.5) AS half, 7 AS seven",
    ));
    let other: Vec<(&str, ArrayRef)> = vec![
        ("price", Arc::new(Int32Array::from(vec![Some(3), None]))),
        ("slot", Arc::new(vec![Some("nowhere"), None].into_iter().collect::<DictionaryArray<Int8Type>>())),
        ("item_id", Arc::new(Int16Array::from(vec![7, 8]))),
    ];
    let out = apply(&fitted, &RecordBatch::try_from_iter(other).unwrap(), &[]);
    assert_eq!(column(&out, "s"), ["0.0", ""]);
    assert_eq!(column(&out, "h"), ["[0.0, 1.0]", "[0.0, 0.0]"]);
    assert_eq!(column(&out, "i"), ["nowhere", "top"]);
    assert_eq!(column(&out, "seven"), ["7", "7"]);
    assert_eq!(out.schema().field_with_name("half").unwrap().data_type(), &DataType::Boolean);
}

#[test]
fn plain_columns_pass_through_as_they_are() {
    let keys: DictionaryArray<Int8Type> = vec![Some("a"), None].into_iter().collect();
    let batch = RecordBatch::try_from_iter(vec![
        ("k", Arc::new(keys) as ArrayRef),
        ("u", Arc::new(UInt64Array::from(vec![u64::MAX, 1])) as ArrayRef),
    ])
    .unwrap();
    let transform = Transform::parse("*", &batch.schema()).unwrap();
    let out = apply(&reopened(&transform.fitting().unwrap().finish().unwrap()), &batch, &[]);
    assert_eq!(out.columns(), batch.columns());
    assert_eq!(*transform.output(), *batch.schema());
}

#[test]
fn a_number_beyond_its_type_is_an_error_and_not_null() {
    let batch = RecordBatch::try_from_iter(vec![("u", Arc::new(UInt64Array::from(vec![u64::MAX])) as ArrayRef)]).unwrap();
    let mut fitting = Transform::parse("ml.standard_scaler(u) AS s", &batch.schema()).unwrap().fitting().unwrap();
    assert!(fitting.update(&batch).unwrap_err().to_string().contains("18446744073709551615"));
}

#[test]
fn the_label_is_left_out_when_scoring() {
    let fitted = fitted("*, price > 1 AS dear, ml.impute(price) AS p, click = (price > 1) AS leak");
    let all = [("item_id", "bigint"), ("slot", "text"), ("price", "double precision"), ("raw", "bytea"), ("click", "boolean")];
    assert_eq!(fitted.input_columns(&[]), all);
    assert_eq!(fitted.input_columns(&["click"]), all, "another output reads it");
    assert_eq!(fitted.input_columns(&["click", "leak"]), all[..4]);
    assert_eq!(fitted.input_columns(&["click", "leak", "raw", "slot", "item_id", "price", "dear"]), [("price", "double precision")]);
    let scored = rows().project(&[0, 1, 2, 3]).unwrap();
    let out = apply(&reopened(&fitted), &scored, &["click", "leak"]);
    assert_eq!(names(&out.schema()), ["item_id", "slot", "price", "raw", "dear", "p"]);
    assert_eq!(column(&out, "p"), ["1.0", "2.0", "3.0", "6.0"]);
    let error = fitted.bind("ctr@3", scored.schema().fields(), &["click"]).unwrap_err();
    assert_eq!(error.to_string(), "model \"ctr@3\" needs column \"click\", which is not there");
    let only = rows().project(&[2]).unwrap();
    let out = apply(&fitted, &only, &["item_id", "slot", "raw", "click", "leak", "p"]);
    assert_eq!(column(&out, "dear"), ["false", "true", "", "true"]);
}

#[test]
fn columns_are_found_by_name_or_by_position_and_checked() {
    let fitted = fitted("price + item_id AS x");
    let field = |name: &str, data_type: DataType| -> FieldRef { Arc::new(Field::new(name, data_type, true)) };
    let bind = |fields: &[FieldRef]| fitted.bind("ctr@3", fields, &[]);
    let numbers: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![5])), Arc::new(Float64Array::from(vec![0.5]))];
    let by_position = bind(&[field("$1", DataType::Int64), field("$2", DataType::Float64)]).unwrap();
    assert_eq!(column(&by_position.apply(&numbers, 1).unwrap(), "x"), ["5.5"]);
    let error = bind(&[field("$1", DataType::Int64)]).unwrap_err();
    assert_eq!(error.to_string(), "model \"ctr@3\" needs column \"price\", which is not there");
    assert_eq!(error.detail().unwrap(), "1 values are given for: item_id bigint, price double precision");
    let error = bind(&[field("item_id", DataType::Int64), field("prise", DataType::Float64)]).unwrap_err();
    assert_eq!(error.detail().unwrap(), "the model reads: item_id bigint, price double precision; the row has: item_id, prise");
    assert_eq!(error.hint().unwrap(), "did you mean \"prise\"? Write price => prise");
    let error = bind(&[field("item_id", DataType::Float64), field("price", DataType::Float64)]).unwrap_err();
    assert_eq!(error.to_string(), "column \"item_id\" of model \"ctr@3\" cannot be double precision");
    assert_eq!(error.hint().unwrap(), "write item_id => CAST(... AS bigint)");
    assert!(bind(&[field("price", DataType::Null), field("item_id", DataType::UInt8), field("more", DataType::Binary)]).is_ok());
}

#[test]
fn lists_that_cannot_be_replayed_are_refused() {
    for (select, message, hint) in [
        ("price * 2", "output price * 2 has no name", "write price * 2 AS name"),
        (
            "price, item_id AS price",
            "output \"price\" is there twice",
            "give one another name with AS, or leave the column out of the star: * EXCEPT (price)",
        ),
        ("* EXCEPT (prise)", "* EXCEPT needs column \"prise\", which is not there", "did you mean \"price\"?"),
        ("i.*", "i.* cannot be an output", "write * or the names of columns"),
        ("random() AS r", "random, whose value is another one each time, cannot stand in TRANSFORM", "compute it in the training query"),
        ("now() AS r", "now, whose value is another one each time, cannot stand in TRANSFORM", "compute it in the training query"),
        ("price / sum(price) AS r", "the aggregate sum cannot stand in TRANSFORM", "compute it in the training query"),
        ("rank() OVER (ORDER BY price) AS r", "the window function rank cannot stand in TRANSFORM", "compute it in the training query"),
        ("(SELECT 1) AS r", "a subquery cannot stand in TRANSFORM", "join the table in the training query"),
        ("price > $1 AS r", "the parameter $1 cannot stand in TRANSFORM", "write the value"),
        (
            "predict_ctr('ctr', price) AS p",
            "predict_ctr cannot stand in TRANSFORM",
            "functions of a row and of the schema ml that prepare columns can",
        ),
        ("auc(click, price) AS p", "auc cannot stand in TRANSFORM", "functions of a row and of the schema ml that prepare columns can"),
        (
            "ml.quantile_bucketize(1 + ml.impute(price), 3) AS p",
            "ml.quantile_bucketize cannot learn from the result of ml.impute",
            "compute the inner one in the training query, or leave it out",
        ),
        (
            "ml.impute(price) OVER (PARTITION BY slot) AS p",
            "in TRANSFORM ml.impute learns from all training rows",
            "write it without further clauses, or with OVER ()",
        ),
        (
            "ml.impute(price) FILTER (WHERE click) AS p",
            "in TRANSFORM ml.impute learns from all training rows",
            "write it without further clauses, or with OVER ()",
        ),
        ("ml.impute(slot) AS p", "argument strategy of ml.impute is 'mean', but text has no mean", "write strategy => 'most_frequent'"),
        ("ml.quantile_bucketize(price, item_id) AS p", "argument buckets of ml.quantile_bucketize must be a constant", ""),
        ("ml.quantile_bucketize(price) AS p", "ml.quantile_bucketize needs argument \"buckets\"", "give it as buckets => ..."),
        ("ml.hash_bucketize(item_id, 0) AS p", "argument buckets of ml.hash_bucketize is 0, but must be from 1 to 9223372036854775807", ""),
        ("ml.bucketize(price, ARRAY[2, 1]) AS p", "argument boundaries of ml.bucketize must be different numbers in ascending order", ""),
        (
            "ml.hash_bucketize(raw, 5) AS p",
            "column \"raw\" in an expression cannot be bytea",
            "turn it into one of these types in the query",
        ),
    ] {
        assert_eq!(refusal(select), (message.to_owned(), hint.to_owned()), "{select}");
    }
    for (select, part) in
        [("prise AS p", "prise"), ("lower(price, 1) AS p", "lower"), ("price AS", "Expected"), ("", "Expected"), ("price p q", "Expected")]
    {
        let (message, _) = refusal(select);
        assert!(message.contains(part), "{select}: {message}");
    }
}

#[test]
fn a_damaged_state_is_not_loaded() {
    let saved = serde_json::to_string(&fitted("ml.impute(price) AS p")).unwrap();
    assert!(serde_json::from_str::<Fitted>(&saved).is_ok());
    for (part, other) in [("\"learned\":[{", "\"learned\":[{},{"), ("\"number\"", "\"words\""), ("ml.impute(price)", "ml.impute(prise)")] {
        assert!(saved.contains(part), "{saved}");
        assert!(serde_json::from_str::<Fitted>(&saved.replace(part, other)).is_err(), "{part}");
    }
}

/// A column of a case.
fn values(case: &Value) -> ArrayRef {
    let values = case["values"].as_array().unwrap().iter();
    match case["type"].as_str().unwrap() {
        "text" => Arc::new(values.map(Value::as_str).collect::<StringArray>()),
        "bigint" => Arc::new(values.map(Value::as_i64).collect::<Int64Array>()),
        "double precision" => Arc::new(values.map(Value::as_f64).collect::<Float64Array>()),
        _ => {
            let lists = values.map(|list| Some(list.as_array().unwrap().iter().map(Value::as_f64)));
            Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists))
        }
    }
}

fn close(ours: &ArrayRef, row: usize, theirs: &Value) -> bool {
    let near = |ours: f64, theirs: &Value| theirs.as_f64().is_some_and(|theirs| (ours - theirs).abs() <= 1e-9 * theirs.abs().max(1.0));
    match theirs {
        Value::Null => ours.is_null(row),
        Value::Array(items) => {
            let numbers = ours.as_list::<i32>().value(row);
            items.len() == numbers.len() && numbers.as_primitive::<Float64Type>().values().iter().zip(items).all(|(a, b)| near(*a, b))
        }
        Value::Number(_) => array_value_to_string(ours, row).unwrap().parse().is_ok_and(|ours| near(ours, theirs)),
        _ => array_value_to_string(ours, row).unwrap() == theirs.to_string().trim_matches('"'),
    }
}

#[test]
fn parts_in_any_order_learn_what_other_libraries_do() {
    let fixture: Value = serde_json::from_str(FIXTURE).unwrap();
    for case in fixture["cases"].as_array().unwrap() {
        let batch = RecordBatch::try_from_iter(vec![("a", values(case))]).unwrap();
        let transform = Transform::parse(&format!("{} AS out", case["call"].as_str().unwrap()), &batch.schema()).unwrap();
        let learn = |parts: &[RecordBatch]| {
            let mut fitting = transform.fitting().unwrap();
            parts.iter().for_each(|part| fitting.update(part).unwrap());
            fitting
        };
        let whole = learn(std::slice::from_ref(&batch)).finish().unwrap();
        for at in [0, 1, batch.num_rows() / 2] {
            let (first, last) = (batch.slice(0, at), batch.slice(at, batch.num_rows() - at));
            let mut merged = learn(&[last.slice(1, last.num_rows() - 1), last.slice(0, 1)]);
            merged.merge(learn(&[first])).unwrap();
            let merged = merged.finish().unwrap();
            // Sums of products differ in the last digit.
            if !transform.plan.select.starts_with("ml.pca") {
                assert_eq!(serde_json::to_string(&merged).unwrap(), serde_json::to_string(&whole).unwrap(), "{}", case["name"]);
            }
        }
        let out = apply(&reopened(&whole), &batch, &[]);
        for (row, theirs) in case["expected"].as_array().unwrap().iter().enumerate() {
            assert!(close(out.column(0), row, theirs), "{}, row {row}: {theirs}", case["name"]);
        }
    }
}

#[test]
fn an_integer_stays_an_integer_in_arithmetic() {
    let out = apply(&fitted("item_id % 2 AS odd"), &rows(), &[]);
    assert_eq!(out.column(0).as_primitive::<Int64Type>().values().to_vec(), [1, 0, 1, 0]);
}
