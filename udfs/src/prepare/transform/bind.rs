//! A transform that has found its columns in a row.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, new_null_array};
use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::physical_expr::PhysicalExpr;

use super::Fitted;
use super::columns::{self, Column};
use super::plan::{self, Needs, Source};
use crate::error::Error;

/// A transform over rows of certain columns.
#[derive(Debug, Clone)]
pub struct Bound {
    fitted: Fitted,
    /// Where each column of the training query is in the row, as far as it is needed.
    places: Vec<Option<usize>>,
    /// Which calls are needed.
    calls: Vec<bool>,
    outputs: Vec<Origin>,
    schema: SchemaRef,
}

/// Where an output comes from.
#[derive(Debug, Clone)]
enum Origin {
    /// A column of the row.
    Row(usize),
    Expression(Arc<dyn PhysicalExpr>),
}

impl Bound {
    pub(super) fn new(fitted: &Fitted, model: &str, fields: &[FieldRef], except: &[&str]) -> Result<Self, Error> {
        let plan = &fitted.plan;
        let Needs { columns: needed, calls } = plan.needs(except);
        let wanted: Vec<&Column> = plan.columns.iter().zip(&needed).filter(|(_, needed)| **needed).map(|(column, _)| column).collect();
        let mut found = columns::locate(model, &wanted, fields)?.into_iter();
        let places: Vec<Option<usize>> = needed.iter().map(|needed| if *needed { found.next() } else { None }).collect();
        let mut outputs = Vec::new();
        let mut schema = Vec::new();
        for output in plan.outputs.iter().filter(|output| !except.contains(&output.name.as_str())) {
            let (origin, data_type) = match &output.source {
                Source::Column(column) => {
                    let place = places[*column].expect("the columns of all outputs are located");
                    (Origin::Row(place), fields[place].data_type().clone())
                }
                Source::Expression { value, .. } => {
                    (Origin::Expression(Arc::clone(value)), value.data_type(&plan.wide).expect("the type was computed when it was planned"))
                }
            };
            outputs.push(origin);
            schema.push(Field::new(&output.name, data_type, true));
        }
        Ok(Self { fitted: fitted.clone(), places, calls, outputs, schema: Arc::new(Schema::new(schema)) })
    }

    /// The columns of the result.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Prepares `rows` rows of the columns that the fields were of.
    pub fn apply(&self, columns: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
        let plan = &self.fitted.plan;
        let narrow = plan.narrow(rows, |column| self.places[column].map(|place| Arc::clone(&columns[place])))?;
        let mut wide = narrow.columns().to_vec();
        for (((call, state), needed), field) in
            plan.calls.iter().zip(&*self.fitted.states).zip(&self.calls).zip(&plan.wide.fields()[narrow.num_columns()..])
        {
            wide.push(match needed {
                true => state.apply(&call.argument.evaluate(&narrow)?.into_array(rows)?)?,
                false => new_null_array(field.data_type(), rows),
            });
        }
        let wide = plan::batch(&plan.wide, wide, rows)?;
        let output = |origin: &Origin| match origin {
            Origin::Row(place) => Ok(Arc::clone(&columns[*place])),
            Origin::Expression(value) => value.evaluate(&wide)?.into_array(rows),
        };
        plan::batch(&self.schema, self.outputs.iter().map(output).collect::<Result<_>>()?, rows)
    }
}
