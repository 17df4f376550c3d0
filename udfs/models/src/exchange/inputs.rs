//! The inputs of an exported graph: a column of the training query, in the form that a graph can take.

use serde_json::{Value as Json, json};

use super::signature::{Input, dtype};
use super::writer::{LENGTH, ROWS, Value, Writer};
use crate::error::{Error, Result};
use crate::features::encode::HISTORY;
use crate::features::{Feature, Kind, Part, Values};
use crate::onnx::data_type;

/// Stands for NULL among whole numbers.
pub(super) const NULL: i64 = i64::MIN;

/// Stands for NULL among texts, as in PostgreSQL's COPY.
pub(super) const NULL_TEXT: &str = "\\N";

/// The items, positions and n-grams of a list or text that a model reads.
const MOST_ITEMS: usize = 512;
const MOST_POSITIONS: usize = 4096;
const MOST_GRAMS: usize = 256;

/// What the elements of an input are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// 64-bit integers.
    Whole,
    /// Days since 1970.
    Days,
    /// Microseconds of a day.
    Time,
    /// Microseconds since 1970.
    Moment,
    /// 32-bit floats.
    Number,
    /// Texts.
    Text,
    /// The hash of a text.
    Hash,
    /// The hashes of a text's n-grams.
    Grams,
    /// Ids whose origin is not known.
    Id,
}

impl Form {
    /// The form that a feature takes; `texts` tells that the texts of its known values are there.
    pub(super) fn of(feature: &Feature, texts: bool) -> Self {
        let item = feature.sql_type.trim_end_matches("[]");
        match (feature.values, item) {
            (Values::Vector, _) => Self::Number,
            (Values::Tokens, _) => Self::Grams,
            (_, "boolean" | "smallint" | "integer" | "bigint") => Self::Whole,
            (_, "date") => Self::Days,
            (_, "time") => Self::Time,
            (_, "timestamp" | "timestamp with time zone") => Self::Moment,
            (Values::Number, _) => Self::Number,
            (_, "text") if texts => Self::Text,
            (_, "text") => Self::Hash,
            _ => Self::Id,
        }
    }

    fn elem_type(self) -> i32 {
        match self {
            Self::Whole | Self::Days | Self::Time | Self::Moment | Self::Hash | Self::Grams | Self::Id => data_type::INT64,
            Self::Number => data_type::FLOAT,
            Self::Text => data_type::STRING,
        }
    }

    /// What the name of the input has after that of the column.
    fn suffix(self) -> &'static str {
        match self {
            Self::Hash | Self::Id => ".id",
            Self::Grams => ".ngrams",
            _ => "",
        }
    }

    fn null(self) -> Json {
        match self {
            Self::Whole | Self::Days | Self::Time | Self::Moment => json!(NULL),
            // JSON has no such number.
            Self::Number => json!("NaN"),
            Self::Text => json!(NULL_TEXT),
            Self::Hash | Self::Grams | Self::Id => json!(0),
        }
    }

    fn encoding(self) -> &'static str {
        match self {
            Self::Whole | Self::Number | Self::Text => "value",
            Self::Days => "days",
            Self::Time | Self::Moment => "microseconds",
            Self::Hash => "xxh64",
            Self::Grams => "ngrams",
            Self::Id => "id",
        }
    }

    fn element(self, sql_type: &str) -> &'static str {
        match self {
            Self::Whole if sql_type == "boolean" => "0 or 1",
            Self::Whole => "the number",
            Self::Days => "days since 1970-01-01",
            Self::Time => "microseconds since midnight",
            Self::Moment if sql_type == "timestamp" => "microseconds since 1970-01-01 00:00:00",
            Self::Moment => "microseconds since 1970-01-01 00:00:00 UTC",
            Self::Number => "the number; in a list 0 for NULL",
            Self::Text => "the text",
            Self::Hash => "XXH64 with seed 0 of the text in UTF-8, 1 where that is 0, as a signed integer",
            Self::Grams => {
                "XXH64 with seed 1, 1 where that is 0, as a signed integer, of every word in lower case and of every two neighbouring words \
                 joined by a space; a word is a run of letters and digits, or one Han, kana, Thai, Lao, Khmer or Burmese character; nothing \
                 for a text of fewer than 3 words"
            }
            Self::Id => "the id",
        }
    }
}

/// The inputs declared so far.
#[derive(Default)]
pub(super) struct Inputs {
    declared: Vec<(String, Form)>,
    pub(super) described: Vec<Input>,
}

impl Inputs {
    /// The input for a feature: declared now, if no other feature of the column has done so.
    pub(super) fn of(&mut self, writer: &mut Writer, feature: &Feature, form: Form) -> Result<Value> {
        let name = format!("{}{}", feature.column, form.suffix());
        if self.declared.contains(&(feature.column.clone(), form)) {
            return Ok(name);
        }
        if !writer.reserve(&name) {
            let reason = format!("the columns of the model give two inputs called \"{name}\"");
            return Err(Error::data(reason, "train with a column of another name"));
        }
        let dims: &[&str] = if feature.values.is_bag() { &[ROWS, LENGTH] } else { &[ROWS] };
        // The lengths of two lists differ.
        let own = format!("{LENGTH}_{}", self.declared.len());
        let dims: Vec<&str> = dims.iter().map(|dim| if *dim == LENGTH { own.as_str() } else { dim }).collect();
        writer.input(&name, form.elem_type(), &dims);
        let most = match (&feature.kind, feature.values) {
            (Kind::History { .. }, _) => Some(format!("the last {HISTORY}")),
            (_, Values::Items) => Some(format!("the last {MOST_ITEMS}")),
            (_, Values::Vector) => Some(format!("the first {MOST_POSITIONS}")),
            (_, Values::Tokens) => Some(format!("the first {MOST_GRAMS}")),
            (_, Values::Id | Values::Number) => None,
        };
        self.described.push(Input {
            name: name.clone(),
            dtype: dtype(form.elem_type()),
            shape: dims.iter().map(|dim| (*dim).to_owned()).collect(),
            column: feature.column.clone(),
            sql_type: feature.sql_type.clone(),
            encoding: form.encoding(),
            element: form.element(&feature.sql_type).to_owned(),
            null: Some(form.null()),
            most,
        });
        self.declared.push((feature.column.clone(), form));
        Ok(name)
    }
}

/// The whole number of a feature: the column's value or a part of it, [`NULL`] where that is NULL.
pub(super) fn whole(writer: &mut Writer, input: &str, feature: &Feature, form: Form) -> Value {
    let part = match (form, feature.part) {
        (Form::Days | Form::Moment, Part::Weekday | Part::Month) | (Form::Time | Form::Moment, Part::Hour) => feature.part,
        _ => return input.to_owned(),
    };
    let w = writer;
    let null = is_null(w, input);
    let (zero, sentinel) = (w.int(0), w.int(NULL));
    let known = w.op("Where", &[&null, &zero, input]);
    let day = match form {
        Form::Moment => divided(w, &known, 86_400_000_000),
        _ => known.clone(),
    };
    let value = match part {
        Part::Hour => {
            let of_day = modulo(w, &known, 86_400_000_000);
            quotient(w, &of_day, 3_600_000_000)
        }
        // 1970-01-01 was a Thursday; Monday is 0.
        Part::Weekday => {
            let shifted = plus(w, &day, 3);
            modulo(w, &shifted, 7)
        }
        _ => month(w, &day),
    };
    w.op("Where", &[&null, &sentinel, &value])
}

/// January is 1 (Hinnant, "chrono-compatible low-level date algorithms").
fn month(w: &mut Writer, day: &str) -> Value {
    let shifted = plus(w, day, 719_468);
    let of_era = modulo(w, &shifted, 146_097);
    let leaps = [(1_460, "Sub"), (36_524, "Add"), (146_096, "Sub")];
    let days = leaps.iter().fold(of_era.clone(), |days, (every, op)| {
        let count = quotient(w, &of_era, *every);
        w.op(op, &[&days, &count])
    });
    let year = quotient(w, &days, 365);
    let full = times(w, &year, 365);
    let (fourth, hundredth) = (quotient(w, &year, 4), quotient(w, &year, 100));
    let full = w.op("Add", &[&full, &fourth]);
    let full = w.op("Sub", &[&full, &hundredth]);
    let of_year = w.op("Sub", &[&of_era, &full]);
    // The year begins in March.
    let scaled = times(w, &of_year, 5);
    let scaled = plus(w, &scaled, 2);
    let from_march = quotient(w, &scaled, 153);
    let shifted = plus(w, &from_march, 2);
    let twelve = modulo(w, &shifted, 12);
    plus(w, &twelve, 1)
}

/// The number of a feature, NaN where it is NULL or not finite.
pub(super) fn number(w: &mut Writer, input: &str, feature: &Feature, form: Form) -> Value {
    let nan = w.float(f32::NAN);
    if form == Form::Number {
        let infinite = w.op("IsInf", &[input]);
        return w.op("Where", &[&infinite, &nan, input]);
    }
    let null = is_null(w, input);
    let zero = w.int(0);
    let known = w.op("Where", &[&null, &zero, input]);
    let value = match (form, feature.part) {
        (Form::Moment, Part::Age) => {
            let second = divided(w, &known, 1_000_000);
            let second = w.cast(&second, data_type::DOUBLE);
            let day = w.double(86_400.0);
            w.op("Div", &[&second, &day])
        }
        _ => known,
    };
    let value = w.cast(&value, data_type::FLOAT);
    w.op("Where", &[&null, &nan, &value])
}

pub(super) fn is_null(w: &mut Writer, whole: &str) -> Value {
    let null = w.int(NULL);
    w.op("Equal", &[whole, &null])
}

pub(super) fn plus(w: &mut Writer, value: &str, by: i64) -> Value {
    let by = w.int(by);
    w.op("Add", &[value, &by])
}

pub(super) fn times(w: &mut Writer, value: &str, by: i64) -> Value {
    let by = w.int(by);
    w.op("Mul", &[value, &by])
}

/// The quotient of a number that is not negative.
pub(super) fn quotient(w: &mut Writer, value: &str, by: i64) -> Value {
    let by = w.int(by);
    w.op("Div", &[value, &by])
}

/// The remainder, which is not negative.
fn modulo(w: &mut Writer, value: &str, by: i64) -> Value {
    let by = w.int(by);
    w.op("Mod", &[value, &by])
}

/// The quotient, rounded down.
fn divided(w: &mut Writer, value: &str, by: i64) -> Value {
    let rest = modulo(w, value, by);
    let multiple = w.op("Sub", &[value, &rest]);
    quotient(w, &multiple, by)
}
