//! The columns of a model that was made elsewhere: as they are, in the types of its inputs.

use datafusion::arrow::array::{BooleanArray, StringArray};
use datafusion::arrow::datatypes::Float64Type;
use stratagem_models::foreign::{Column as Values, Element, Plain};

use super::*;

/// Finds the columns of such a model among those of a row.
#[derive(Debug, Clone)]
pub(crate) struct PlainEncoder {
    model: String,
    /// Where a column is, its name and its type.
    sources: Vec<(usize, String, Element)>,
}

impl PlainEncoder {
    /// The columns by name, or by position as for [`Encoder::for_model`].
    pub(crate) fn new(model: &str, columns: &[(String, Element)], fields: &[FieldRef]) -> Result<Self> {
        let expected: Vec<(&str, &str)> = columns.iter().map(|(name, element)| (name.as_str(), element.sql_type())).collect();
        let row = Row::new(model, &expected, fields)?;
        let mut sources = Vec::with_capacity(columns.len());
        for (name, element) in columns {
            let column = row.position(name)?;
            if !fits(*element, fields[column].data_type()) {
                return Err(Error::WrongType {
                    object: format!("column \"{name}\" of model \"{model}\""),
                    actual: sql_type(fields[column].data_type()),
                    detail: Some(format!("the model takes {}", element.sql_type())),
                    hint: Some(format!("write {name} => CAST(... AS {})", element.sql_type())),
                });
            }
            sources.push((column, name.clone(), *element));
        }
        Ok(Self { model: model.to_owned(), sources })
    }

    /// `rows` rows of `columns`. NULL is NaN among floats; elsewhere it has no value.
    pub(crate) fn encode(&self, columns: &[ArrayRef], rows: usize) -> datafusion::common::Result<Plain> {
        let values = self.sources.iter().map(|(column, name, element)| {
            let column = &columns[*column];
            let values = match element {
                Element::Float => {
                    let column = cast(column, &DataType::Float32)?;
                    Values::Float(column.as_primitive::<Float32Type>().iter().map(|value| value.unwrap_or(f32::NAN)).collect())
                }
                Element::Double => {
                    let column = cast(column, &DataType::Float64)?;
                    Values::Double(column.as_primitive::<Float64Type>().iter().map(|value| value.unwrap_or(f64::NAN)).collect())
                }
                Element::Int64 => {
                    let column = self.whole(cast(column, &DataType::Int64)?, name)?;
                    Values::Int64(column.as_primitive::<Int64Type>().values().to_vec())
                }
                Element::Int32 => {
                    let column = self.whole(cast(column, &DataType::Int32)?, name)?;
                    Values::Int32(column.as_primitive::<Int32Type>().values().to_vec())
                }
                Element::Bool => {
                    let column = self.whole(cast(column, &DataType::Boolean)?, name)?;
                    let column: &BooleanArray = column.as_boolean();
                    Values::Bool(column.values().iter().collect())
                }
                Element::Text => {
                    let column = self.whole(cast(column, &DataType::Utf8)?, name)?;
                    let column: &StringArray = column.as_string();
                    Values::Text(column.iter().map(|value| value.unwrap_or_default().to_owned()).collect())
                }
            };
            Ok(values)
        });
        Ok(Plain { rows, columns: values.collect::<datafusion::common::Result<_>>()? })
    }

    /// The column, unless it has NULLs, for which its type has no value.
    fn whole(&self, column: ArrayRef, name: &str) -> datafusion::common::Result<ArrayRef> {
        if column.null_count() == 0 {
            return Ok(column);
        }
        let (rows, total) = (column.null_count(), column.len());
        let hint =
            format!("model \"{}\" has no value for NULL there, nor for numbers out of range: write {name} => COALESCE(...)", self.model);
        Err(Error::Nulls { column: name.to_owned(), rows, total, hint }.into())
    }
}

/// Whether a column can be read as an input of this type.
fn fits(element: Element, data_type: &DataType) -> bool {
    let Some(family) = Family::of(data_type) else { return false };
    match element {
        Element::Float | Element::Double => matches!(family, Family::Number | Family::Integer | Family::Boolean | Family::Null),
        Element::Int64 | Element::Int32 => matches!(family, Family::Integer | Family::Boolean | Family::Null),
        Element::Bool => matches!(family, Family::Boolean | Family::Null),
        Element::Text => matches!(family, Family::Text | Family::Null),
    }
}
