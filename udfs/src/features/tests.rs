use std::sync::Arc;

use datafusion::arrow::array::{
    BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array, Int8Array, Int32Array, Int64Array, LargeStringArray,
    ListArray, NullArray, StringArray, StringViewArray, TimestampMicrosecondArray, TimestampSecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::{Fields, Int8Type, Int64Type};
use stratagem_models::features::{Kind, Vocabulary};

use super::*;

fn encode(name: &str, column: ArrayRef) -> Batch {
    let fields: Vec<FieldRef> =
        vec![Arc::new(Field::new(name, column.data_type().clone(), true)), Arc::new(Field::new("click", DataType::Boolean, true))];
    let (encoder, _) = Encoder::for_training(&fields, &[1], &Treatments::default()).unwrap();
    let rows = column.len();
    encoder.encode(&[column], rows).unwrap()
}

fn ids(column: impl Array + 'static) -> Vec<u64> {
    encode("x", Arc::new(column)).ids
}

#[test]
fn equal_values_hash_alike_in_every_representation() {
    let whole = ids(Int64Array::from(vec![Some(7), None, Some(-1)]));
    assert_eq!(whole[1], 0);
    assert!(whole[0] != 0 && whole[0] != whole[2]);
    assert_eq!(whole, ids(Int32Array::from(vec![Some(7), None, Some(-1)])));
    assert_eq!(whole, ids(Int8Array::from(vec![Some(7), None, Some(-1)])));
    assert_eq!(whole[0], ids(UInt64Array::from(vec![7]))[0]);
    assert_ne!(ids(UInt64Array::from(vec![u64::MAX]))[0], 0);
    let words = vec![Some("a"), None, Some("b"), Some("a")];
    let text = ids(StringArray::from(words.clone()));
    assert!(text[0] == text[3] && text[0] != text[2] && text[1] == 0);
    assert_eq!(text, ids(LargeStringArray::from(words.clone())));
    assert_eq!(text, ids(StringViewArray::from(words.clone())));
    assert_eq!(text, ids(words.into_iter().collect::<DictionaryArray<Int8Type>>()));
}

#[test]
fn numbers_keep_their_value_and_null_is_nan() {
    let numbers = encode("x", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::INFINITY), Some(1e300)]))).numbers;
    assert_eq!(numbers[0], 1.5);
    assert!(numbers[1..].iter().all(|number| number.is_nan()));
    let money = Decimal128Array::from(vec![1999]).with_precision_and_scale(10, 2).unwrap();
    assert_eq!(encode("x", Arc::new(money)).numbers, [19.99]);
}

#[test]
fn a_timestamp_becomes_its_hour_weekday_and_age() {
    // 1970-01-01 was a Thursday; one second before it a Wednesday at 23 hours.
    let hour = |batch: &Batch, row: usize| batch.ids[row * 2];
    let weekday = |batch: &Batch, row: usize| batch.ids[row * 2 + 1];
    let micro = encode("x", Arc::new(TimestampMicrosecondArray::from(vec![-1, 0, 3_600_000_000, 7 * 86_400_000_000])));
    assert_eq!(hour(&micro, 1), hour(&micro, 3));
    assert_eq!(weekday(&micro, 1), weekday(&micro, 2));
    assert_eq!(weekday(&micro, 1), weekday(&micro, 3));
    assert_ne!(hour(&micro, 1), hour(&micro, 2));
    assert_ne!(weekday(&micro, 0), weekday(&micro, 1));
    let second = encode("x", Arc::new(TimestampSecondArray::from(vec![-1, 0, 3600, 7 * 86_400]).with_timezone("+02:00")));
    assert_eq!(micro, second);
    let fields: Vec<FieldRef> = vec![
        Arc::new(Field::new("ts", DataType::Timestamp(TimeUnit::Second, None), true)),
        Arc::new(Field::new("y", DataType::Int64, true)),
    ];
    let (_, columns) = Encoder::for_training(&fields, &[1], &Treatments::default()).unwrap();
    assert_eq!(columns.iter().map(|c| c.part).collect::<Vec<_>>(), [Part::Hour, Part::Weekday, Part::Age]);
    assert_eq!(micro.numbers[1..], [0.0, 1.0 / 24.0, 7.0]);
}

#[test]
fn booleans_dates_and_nothing_are_categories() {
    let flags = ids(BooleanArray::from(vec![Some(true), Some(false), None]));
    assert!(flags[0] != flags[1] && flags[0] != 0 && flags[1] != 0 && flags[2] == 0);
    // 2024-02-29 was a Thursday, 2024-03-07 one in March.
    let dates = encode("x", Arc::new(Date32Array::from(vec![19_782, 19_789])));
    assert_eq!((dates.ids[0], dates.numbers.as_slice()), (dates.ids[2], [19_782.0, 19_789.0].as_slice()));
    assert_ne!(dates.ids[1], dates.ids[3]);
    assert_eq!(dates.ids[1], ids(Int64Array::from(vec![2]))[0]);
    let model = [feature("x", "text", Values::Id)];
    let fields: Vec<FieldRef> = vec![Arc::new(Field::new("x", DataType::Null, true))];
    let batch = Encoder::for_model("m@1", &model, &fields).unwrap().encode(&[Arc::new(NullArray::new(2))], 2).unwrap();
    assert_eq!(batch.ids, [0, 0]);
}

#[test]
fn lists_are_items_or_vectors_and_nothing_is_empty() {
    let lists = |values: &[Option<&[i64]>]| {
        let rows = values.iter().map(|row| row.map(|row| row.iter().copied().map(Some)));
        ListArray::from_iter_primitive::<Int64Type, _, _>(rows)
    };
    let items = encode("x", Arc::new(lists(&[Some(&[7, 8]), None, Some(&[]), Some(&[7])]))).bags.remove(0);
    assert_eq!(items.offsets, [0, 2, 2, 2, 3]);
    let seven = ids(Int64Array::from(vec![7]))[0];
    assert!(items.ids[0] == seven && items.ids[2] == seven && items.ids[1] != seven && items.weights.is_empty());
    let numbers = cast(&lists(&[Some(&[3, -1]), None]), &DataType::new_list(DataType::Float32, true)).unwrap();
    let vector = encode("x", numbers).bags.remove(0);
    assert_eq!(vector, Bag { offsets: vec![0, 2, 2], ids: vec![1, 2], weights: vec![3.0, -1.0] });
}

#[test]
fn a_wish_decides_what_a_column_gives() {
    let fields = row(&[("zip", DataType::Int64), ("note", DataType::Utf8), ("price", DataType::Float64), ("click", DataType::Boolean)]);
    let wishes = Treatments::parse("zip: category, note: skip, price: log").unwrap();
    let (_, columns) = Encoder::for_training(&fields, &[3], &wishes).unwrap();
    let given: Vec<_> = columns.iter().map(|c| (c.column.as_str(), c.values, c.treatment)).collect();
    assert_eq!(given, [("zip", Values::Id, Some(Treatment::Category)), ("price", Values::Number, Some(Treatment::Log))]);
    let error = Encoder::for_training(&fields, &[3], &Treatments::parse("prize: log").unwrap()).unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("did you mean \"price\"?"));
    let error = Encoder::for_training(&fields, &[3], &Treatments::parse("note: log").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "column \"note\" in argument features of finetune cannot be text");
}

#[test]
fn a_list_of_other_things_is_refused_with_its_name_and_type() {
    let fields: Vec<FieldRef> = vec![
        Arc::new(Field::new("tags", DataType::new_list(DataType::Boolean, true), true)),
        Arc::new(Field::new("click", DataType::Boolean, true)),
    ];
    let error = Encoder::for_training(&fields, &[1], &Treatments::default()).unwrap_err();
    assert_eq!(error.to_string(), "feature column \"tags\" cannot be boolean[]");
    assert!(error.hint().unwrap().contains("leave \"tags\" out"));
}

fn feature(name: &str, sql_type: &str, values: Values) -> Feature {
    let vocabulary = Vocabulary { offset: 0, size: 1, hashed: true };
    let kind = Kind::Category(vocabulary);
    Feature { column: name.into(), part: Part::Whole, sql_type: sql_type.into(), values, kind, missing: 0.0, distinct: 2 }
}

fn model() -> Vec<Feature> {
    vec![
        feature("item_id", "bigint", Values::Id),
        Feature { part: Part::Hour, ..feature("ts", "timestamp", Values::Id) },
        Feature { part: Part::Weekday, ..feature("ts", "timestamp", Values::Id) },
        feature("price", "double precision", Values::Number),
    ]
}

fn row(fields: &[(&str, DataType)]) -> Vec<FieldRef> {
    fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect::<Fields>().to_vec()
}

const TS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

#[test]
fn a_model_finds_its_columns_by_name_in_any_order_and_width() {
    let fields = row(&[("extra", DataType::Binary), ("price", DataType::Int32), ("ts", TS), ("item_id", DataType::Int16)]);
    let encoder = Encoder::for_model("ctr@1", &model(), &fields).unwrap();
    assert_eq!(encoder.sources.iter().map(|source| source.column).collect::<Vec<_>>(), [3, 2, 2, 1]);
    assert_eq!((encoder.ids, encoder.numbers), (3, 1));
}

#[test]
fn values_without_names_stand_for_the_columns_in_their_order() {
    let encoder = Encoder::for_model("ctr@1", &model(), &row(&[("$1", DataType::Int64), ("$2", TS), ("$3", DataType::Float64)])).unwrap();
    assert_eq!(encoder.sources.iter().map(|source| source.column).collect::<Vec<_>>(), [0, 1, 1, 2]);
    let error = Encoder::for_model("ctr@1", &model(), &row(&[("$1", DataType::Int64), ("$2", TS)])).unwrap_err();
    assert_eq!(error.to_string(), "model \"ctr@1\" needs column \"price\", which is not there");
    assert_eq!(error.detail().unwrap(), "2 values are given for: item_id bigint, ts timestamp, price double precision");
}

#[test]
fn a_missing_or_mistyped_column_is_named_with_what_is_expected() {
    let error = Encoder::for_model("ctr@1", &model(), &row(&[("item", DataType::Int64), ("ts", TS)])).unwrap_err();
    assert_eq!(error.to_string(), "model \"ctr@1\" needs column \"item_id\", which is not there");
    assert_eq!(error.detail().unwrap(), "the model reads: item_id bigint, ts timestamp, price double precision; the row has: item, ts");
    let fields = row(&[("item_id", DataType::Utf8), ("ts", TS), ("price", DataType::Float64)]);
    let error = Encoder::for_model("ctr@1", &model(), &fields).unwrap_err();
    assert_eq!(error.to_string(), "column \"item_id\" of model \"ctr@1\" cannot be text");
    assert_eq!(error.detail().unwrap(), "the model was trained on bigint");
}

#[test]
fn labels_are_zero_or_one_and_nulls_are_counted() {
    let mut out = [9.0; 3];
    let column: ArrayRef = Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]));
    assert_eq!(labels(&column, "label", "click", out.iter_mut()).unwrap(), 1);
    assert_eq!(out, [1.0, 0.0, 0.0]);
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 3]));
    let error = labels(&column, "label", "click", out.iter_mut()).unwrap_err();
    assert_eq!(crate::error::find(&error).unwrap().to_string(), "label column \"click\" is 3 in a row, but must be 0 or 1");
}
