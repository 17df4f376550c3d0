//! The rows of a call: what each decides, and what a prompt and a click model are given of it.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, UInt32Array};
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarFunctionArgs;
use stratagem_models::prompt::{Prompt, Value};

use super::brief::{Brief, Given, promoting};
use super::{BRIEF, COPY, Draft, no_row};
use crate::declaration::Function;
use crate::error::Error;
use crate::models::Held;
use crate::prompt::Variables;

/// The rows of a call.
pub(super) struct Customers {
    function: &'static Function,
    fields: Vec<FieldRef>,
    columns: Vec<ArrayRef>,
    nulls: Option<NullBuffer>,
    /// The columns that name what is promoted, as text.
    promoting: Vec<(String, ArrayRef)>,
    goal: ArrayRef,
    channel: ArrayRef,
    tone: ArrayRef,
    offer: ArrayRef,
    language: ArrayRef,
    banned: ArrayRef,
    seed: ArrayRef,
}

impl Customers {
    pub(super) fn new(function: &'static Function, arguments: &ScalarFunctionArgs) -> Result<Self> {
        let rows = arguments.number_rows;
        let argument = |name: &str, data_type: &DataType| -> Result<ArrayRef> {
            match function.position(name).and_then(|position| arguments.args.get(position)) {
                Some(value) => Ok(cast(&value.to_array(rows)?, data_type)?),
                None => exec_err!("{} has no argument {name}", function.name),
            }
        };
        let text = |name: &str| argument(name, &DataType::Utf8);
        let Some(row) = arguments.args.first() else { return exec_err!("{} has no row", function.name) };
        let row = row.to_array(rows)?;
        let Some(row) = row.as_struct_opt() else { return Err(no_row(function, &arguments.arg_fields[0]).into()) };
        let fields = row.fields().to_vec();
        let promoting = promoting(&fields, function.name)?;
        let promoting = promoting.into_iter().map(|place| Ok((fields[place].name().clone(), cast(row.column(place), &DataType::Utf8)?)));
        Ok(Self {
            function,
            columns: row.columns().to_vec(),
            nulls: row.nulls().cloned(),
            promoting: promoting.collect::<Result<_>>()?,
            goal: text("goal")?,
            channel: text("channel")?,
            tone: text("tone")?,
            offer: text("offer")?,
            language: text("language")?,
            banned: text("banned")?,
            seed: argument("seed", &DataType::Int64)?,
            fields,
        })
    }
}

/// A row of them.
pub(super) struct Row<'a> {
    pub(super) customers: &'a Customers,
    pub(super) place: usize,
}

impl Row<'_> {
    fn text<'a>(&self, column: &'a ArrayRef) -> Option<&'a str> {
        let column = column.as_string::<i32>();
        column.is_valid(self.place).then(|| column.value(self.place))
    }

    pub(super) fn brief(&self) -> Result<Option<Brief>, Error> {
        let customers = self.customers;
        if customers.nulls.as_ref().is_some_and(|nulls| nulls.is_null(self.place)) {
            return Ok(None);
        }
        let named = customers.promoting.iter().find_map(|(name, column)| {
            let product = self.text(column).filter(|product| !product.trim().is_empty())?;
            Some((name.as_str(), product))
        });
        let Some((column, product)) = named else { return Ok(None) };
        let needed = |name: &str, column| {
            let missing = || Error::value(format!("argument {name} of {}", customers.function.name), "is NULL");
            self.text(column).ok_or_else(missing)
        };
        let given = Given {
            product,
            column,
            offer: self.text(&customers.offer),
            channel: needed("channel", &customers.channel)?,
            goal: needed("goal", &customers.goal)?,
            tone: needed("tone", &customers.tone)?,
            language: needed("language", &customers.language)?,
        };
        Brief::new(&given, customers.function.name)
    }

    pub(super) fn banned(&self) -> Vec<String> {
        let banned = self.text(&self.customers.banned).unwrap_or_default().to_lowercase();
        banned.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn seed(&self) -> i64 {
        let seeds = self.customers.seed.as_primitive::<Int64Type>();
        if seeds.is_valid(self.place) { seeds.value(self.place) } else { 0 }
    }

    /// A prompt with the values of the brief and of the row.
    pub(super) fn filled_in(&self, prompt: &Prompt, brief: &Brief) -> Result<String> {
        let customers = self.customers;
        let own = Variables::new(prompt, &customers.fields, &customers.columns)?;
        let channel = brief.channel.to_string();
        let decided = [
            ("product", Value::Text(&brief.product)),
            ("offer", brief.offer.as_deref().map_or(Value::Null, Value::Text)),
            ("channel", Value::Text(&channel)),
            ("goal", Value::Text(&brief.goal)),
            ("tone", Value::Text(&brief.tone)),
            ("language", Value::Text(brief.language.name())),
        ];
        // The brief comes last: what was decided counts.
        Ok(prompt.template.render(own.at(self.place).chain(decided)).map_err(Error::from)?)
    }

    /// What a click model predicts for the drafts.
    pub(super) fn judged(&self, judge: &Held, brief: &Brief, drafts: &[Draft]) -> Result<Vec<Option<f64>>> {
        let rows = drafts.len();
        let fields = judged_fields(&self.customers.fields);
        let here = UInt32Array::from_value(u32::try_from(self.place).unwrap_or(u32::MAX), rows);
        let channel = brief.channel.to_string();
        let columns = fields.iter().map(|field| -> Result<ArrayRef> {
            let all = |text: Option<&str>| -> ArrayRef { Arc::new(StringArray::from(vec![text; rows])) };
            let own = self.customers.fields.iter().position(|own| own == field && !COPY.contains(&own.name().as_str()));
            Ok(match (own, field.name().as_str()) {
                (Some(own), _) => take(&self.customers.columns[own], &here, None)?,
                (None, "headline") => Arc::new(StringArray::from_iter_values(drafts.iter().map(|draft| &draft.copy.headline))),
                (None, "body") => Arc::new(StringArray::from_iter_values(drafts.iter().map(|draft| draft.copy.body(brief)))),
                (None, "product") => all(Some(&brief.product)),
                (None, "offer") => all(brief.offer.as_deref()),
                (None, "channel") => all(Some(&channel)),
                (None, "goal") => all(Some(&brief.goal)),
                (None, "tone") => all(Some(&brief.tone)),
                (None, _) => all(Some(brief.language.code())),
            })
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let reader = judge.intake().bind(&judge.pinned().to_string(), &fields)?;
        let scores = judge.model().map_err(Error::from)?.predict(&reader.read(&columns, rows)?).map_err(Error::from)?;
        Ok(scores.task(0).map(|score| Some(f64::from(score)).filter(|score| !score.is_nan())).collect())
    }
}

/// The columns that a click model is given.
pub(super) fn judged_fields(row: &[FieldRef]) -> Vec<FieldRef> {
    let text = |name: &&str| Arc::new(Field::new(*name, DataType::Utf8, true));
    let own = row.iter().filter(|field| !COPY.contains(&field.name().as_str())).cloned();
    let lacking = BRIEF.iter().filter(|name| row.iter().all(|field| field.name() != *name));
    own.chain(COPY.iter().map(text)).chain(lacking.map(text)).collect()
}
