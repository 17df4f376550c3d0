//! PostgreSQL's patterns: `to_char` of times, intervals and numbers, `to_date`, `to_timestamp` and `to_number` of texts.
//!
//! A pattern is read into pieces once, and then written or read with, value by value.

mod moment;
mod number;
mod piece;
mod read;
mod zone;

use std::sync::Arc;

use datafusion::arrow::array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int64Type, IntervalMonthDayNanoType, TimestampMicrosecondType,
};
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Decimal128Array, StringArray, StringBuilder, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, exec_datafusion_err, plan_datafusion_err};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;

use crate::sqlstate::{SqlError, SqlState};
use moment::Moment;
use number::Numbers;
use piece::{Piece, pieces};
use zone::Zone;

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// Digits of a numeric, and those behind its point where a pattern that is no constant says how many.
const MOST_DIGITS: u8 = 38;
const SCALE: i8 = 10;

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// Puts the functions in the place of the engine's, whose patterns are others.
pub(crate) fn register(context: &SessionContext) -> Result<()> {
    // with its other name, under which it would come back
    context.deregister_udf("to_char");
    context.register_udf(ScalarUDF::from(ToChar(Signature::user_defined(Volatility::Stable))));
    for name in ["to_date", "to_timestamp"] {
        let engine = context.udf(name)?;
        context.register_udf(ScalarUDF::from(FromText::new(name, engine)));
    }
    context.register_udf(ScalarUDF::from(ToNumber(Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Stable))));
    Ok(())
}

/// The zone of the session.
fn zone(options: &ConfigOptions) -> Result<Zone> {
    Zone::new(options.execution.time_zone.as_deref().unwrap_or("UTC"))
}

/// What was made of the pattern at hand. Mostly it is the same in all rows.
struct Last<T> {
    pattern: String,
    parsed: Option<T>,
}

impl<T> Last<T> {
    fn new() -> Self {
        Self { pattern: String::new(), parsed: None }
    }

    fn of(&mut self, pattern: &str, parse: impl Fn(&str) -> Result<T, SqlError>) -> Result<&T, SqlError> {
        let parsed = match self.parsed.take().filter(|_| self.pattern == pattern) {
            Some(parsed) => parsed,
            None => parse(pattern)?,
        };
        pattern.clone_into(&mut self.pattern);
        Ok(self.parsed.insert(parsed))
    }
}

/// The two arguments, as arrays.
fn arrays(args: &ScalarFunctionArgs) -> Result<(ArrayRef, ArrayRef)> {
    Ok((args.args[0].to_array(args.number_rows)?, args.args[1].to_array(args.number_rows)?))
}

/// `to_char(value, pattern)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar(Signature);

impl ScalarUDFImpl for ToChar {
    fn name(&self) -> &str {
        "to_char"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [value, _] = types else { return Err(plan_datafusion_err!("to_char takes a value and a pattern")) };
        let value = match value {
            DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
            DataType::Date32 | DataType::Date64 => DataType::Date32,
            DataType::Time32(_) | DataType::Time64(_) | DataType::Interval(_) | DataType::Duration(_) => INTERVAL,
            DataType::Float16 | DataType::Float32 => DataType::Float32,
            DataType::Float64 => DataType::Float64,
            DataType::UInt64 => DataType::Decimal128(20, 0),
            decimal @ DataType::Decimal128(..) => decimal.clone(),
            integer if integer.is_integer() => DataType::Int64,
            DataType::Null => DataType::Timestamp(TimeUnit::Microsecond, None),
            other => return Err(plan_datafusion_err!("to_char takes a time, an interval or a number, not {other}")),
        };
        Ok(vec![value, DataType::Utf8])
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (values, patterns) = arrays(&args)?;
        let shown: StringArray = match values.data_type() {
            DataType::Timestamp(_, zoned) => {
                let zone = if zoned.is_some() { Some(zone(&args.config_options)?) } else { None };
                let times = values.as_primitive::<TimestampMicrosecondType>();
                moments(&values, &patterns, |row| {
                    let time = times.value(row);
                    if matches!(time, i64::MIN | i64::MAX) {
                        return Ok(None);
                    }
                    let (offset, name) = zone.map_or(Ok((0, String::new())), |zone| zone.at(time))?;
                    Ok(Some(Moment::local(time.saturating_add(offset * 1_000_000), offset, name)))
                })?
            }
            // a date is the time of its midnight in the zone of the session
            DataType::Date32 => {
                let zone = zone(&args.config_options)?;
                let days = values.as_primitive::<Date32Type>();
                moments(&values, &patterns, |row| {
                    let local = i64::from(days.value(row)) * MICROSECONDS_PER_DAY;
                    let time = local - zone.at_local(local)? * 1_000_000;
                    let (offset, name) = zone.at(time)?;
                    Ok(Some(Moment::local(time + offset * 1_000_000, offset, name)))
                })?
            }
            DataType::Interval(_) => {
                let intervals = values.as_primitive::<IntervalMonthDayNanoType>();
                moments(&values, &patterns, |row| {
                    let interval = intervals.value(row);
                    Ok(Some(Moment::interval(interval.months, interval.days, interval.nanoseconds / 1000)))
                })?
            }
            DataType::Int64 => {
                let whole = values.as_primitive::<Int64Type>();
                numbers(&values, &patterns, |pattern, row, out| pattern.write_decimal(whole.value(row).into(), 0, out))?
            }
            DataType::Decimal128(_, scale) => {
                let decimals = values.as_primitive::<Decimal128Type>();
                numbers(&values, &patterns, |pattern, row, out| pattern.write_decimal(decimals.value(row), *scale, out))?
            }
            DataType::Float32 => {
                let floats = values.as_primitive::<Float32Type>();
                numbers(&values, &patterns, |pattern, row, out| pattern.write_float(floats.value(row).into(), 6, out))?
            }
            _ => {
                let floats = values.as_primitive::<Float64Type>();
                numbers(&values, &patterns, |pattern, row, out| pattern.write_float(floats.value(row), 15, out))?
            }
        };
        Ok(ColumnarValue::Array(Arc::new(shown)))
    }
}

/// Shows what each row has, which may be nothing.
fn moments(values: &ArrayRef, patterns: &ArrayRef, moment: impl Fn(usize) -> Result<Option<Moment>>) -> Result<StringArray> {
    let mut last = Last::new();
    shown(values, patterns, |pattern, row, out| {
        let pieces: &Vec<Piece> = last.of(pattern, |pattern| Ok(pieces(pattern)))?;
        match moment(row)? {
            Some(moment) => moment.write(pieces, out).map(|()| true).map_err(Into::into),
            None => Ok(false),
        }
    })
}

fn numbers(
    values: &ArrayRef,
    patterns: &ArrayRef,
    write: impl Fn(&Numbers, usize, &mut String) -> Result<(), SqlError>,
) -> Result<StringArray> {
    let mut last = Last::new();
    shown(values, patterns, |pattern, row, out| {
        write(last.of(pattern, Numbers::parse)?, row, out)?;
        Ok(true)
    })
}

/// A text for each row that has a value and a pattern, unless there is none.
fn shown(values: &ArrayRef, patterns: &ArrayRef, mut write: impl FnMut(&str, usize, &mut String) -> Result<bool>) -> Result<StringArray> {
    let patterns = patterns.as_string::<i32>();
    let mut texts = StringBuilder::new();
    let mut text = String::new();
    for row in 0..values.len() {
        text.clear();
        // PostgreSQL has nothing to say where a pattern says nothing
        let said = values.is_valid(row) && patterns.is_valid(row) && !patterns.value(row).is_empty();
        if said && write(patterns.value(row), row, &mut text)? {
            texts.append_value(&text);
        } else {
            texts.append_null();
        }
    }
    Ok(texts.finish())
}

/// `to_date(text, pattern)` and `to_timestamp(text, pattern)`; of one argument they are the engine's.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FromText {
    name: &'static str,
    engine: Arc<ScalarUDF>,
    signature: Signature,
}

impl FromText {
    fn new(name: &'static str, engine: Arc<ScalarUDF>) -> Self {
        let shapes = vec![TypeSignature::Any(1), TypeSignature::Exact(vec![DataType::Utf8, DataType::Utf8])];
        Self { name, engine, signature: Signature::one_of(shapes, Volatility::Stable) }
    }

    fn is_date(&self) -> bool {
        self.name == "to_date"
    }
}

impl ScalarUDFImpl for FromText {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.engine.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        if args.arg_fields.len() == 1 {
            return self.engine.return_field_from_args(args);
        }
        let data_type = if self.is_date() { DataType::Date32 } else { DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())) };
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(self.name, data_type, nullable)))
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let engine = self.engine.inner().with_updated_config(config)?;
        Some(ScalarUDF::from(Self::new(self.name, Arc::new(engine))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if args.args.len() == 1 {
            return self.engine.invoke_with_args(args);
        }
        let (texts, patterns) = arrays(&args)?;
        let (texts, patterns) = (texts.as_string::<i32>(), patterns.as_string::<i32>());
        let zone = zone(&args.config_options)?;
        let mut last = Last::new();
        let found = texts.iter().zip(patterns).map(|pair| {
            let (Some(text), Some(pattern)) = pair else { return Ok(None) };
            let pieces = last.of(pattern, |pattern| Ok(pieces(pattern)))?;
            read::read(text, pieces).map(Some)
        });
        let found = found.collect::<Result<Vec<_>, SqlError>>()?;
        if self.is_date() {
            let days = found.into_iter().map(|found| found.map(|found| i32::try_from(found.days).map_err(|_| out_of_range("date"))));
            let days = days.map(Option::transpose).collect::<Result<Date32Array, _>>()?;
            return Ok(ColumnarValue::Array(Arc::new(days)));
        }
        let times = found.into_iter().map(|found| {
            let Some(found) = found else { return Ok(None) };
            let local = found.days.checked_mul(MICROSECONDS_PER_DAY).and_then(|days| days.checked_add(found.time));
            let local = local.ok_or_else(|| out_of_range("timestamp"))?;
            let offset = found.offset.map_or_else(|| zone.at_local(local), Ok)?;
            Ok(Some(local - offset * 1_000_000))
        });
        let times = times.collect::<Result<TimestampMicrosecondArray>>()?;
        Ok(ColumnarValue::Array(Arc::new(times.with_timezone("+00:00"))))
    }
}

/// `to_number(text, pattern)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToNumber(Signature);

impl ScalarUDFImpl for ToNumber {
    fn name(&self) -> &str {
        "to_number"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(MOST_DIGITS, SCALE))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let pattern = args.scalar_arguments.get(1).and_then(|pattern| pattern.and_then(|pattern| pattern.try_as_str()).flatten());
        // a pattern that is wrong is said where it is used
        let scale = pattern
            .and_then(|pattern| Numbers::parse(pattern).ok())
            .map_or(SCALE, |numbers| i8::try_from(numbers.scale()).unwrap_or(i8::MAX).min(MOST_DIGITS as i8));
        Ok(Arc::new(Field::new(self.name(), DataType::Decimal128(MOST_DIGITS, scale), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let DataType::Decimal128(precision, scale) = *args.return_field.data_type() else {
            return Err(exec_datafusion_err!("to_number gives numerics"));
        };
        let behind = usize::try_from(scale).unwrap_or_default();
        let (texts, patterns) = arrays(&args)?;
        let mut last = Last::new();
        let numbers = texts.as_string::<i32>().iter().zip(patterns.as_string::<i32>()).map(|pair| match pair {
            (Some(text), Some(pattern)) if !pattern.is_empty() => last.of(pattern, Numbers::parse)?.read(text, behind).map(Some),
            _ => Ok(None),
        });
        let numbers = numbers.collect::<Result<Decimal128Array, SqlError>>()?;
        Ok(ColumnarValue::Array(Arc::new(numbers.with_precision_and_scale(precision, scale)?)))
    }
}

fn out_of_range(what: &str) -> SqlError {
    SqlError::new(SqlState::DatetimeFieldOverflow, format!("{what} out of range"))
}
