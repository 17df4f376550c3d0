//! One table schema out of the schemas of its files.

use std::collections::HashMap;

use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use super::error::Error;

/// The columns of all files, in order of first appearance.
///
/// A column that a file lacks is NULL for that file's rows. A column with different types in two files is an error that
/// names both, except where SQL has one type for them: timestamps of different precision become microseconds, 8-bit and
/// 16-bit integers `smallint`, and a column that is all NULL in one file takes the other file's type.
pub(crate) fn merge<'a>(files: impl IntoIterator<Item = (&'a str, &'a Schema)>) -> Result<Schema, Error> {
    let mut columns: Vec<Column<'_>> = Vec::new();
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let mut count = 0;
    for (label, schema) in files {
        count += 1;
        for field in schema.fields() {
            let Some(column) = by_name.get(field.name().as_str()).map(|at| &mut columns[*at]) else {
                by_name.insert(field.name(), columns.len());
                columns.push(Column::new(label, field));
                continue;
            };
            column.files += 1;
            column.nullable |= field.is_nullable();
            let Some(unified) = unify(&column.data_type, field.data_type()) else {
                return Err(Error::TypeDrift {
                    column: field.name().clone(),
                    first: column.file.to_owned(),
                    first_type: column.data_type.to_string(),
                    second: label.to_owned(),
                    second_type: field.data_type().to_string(),
                });
            };
            if column.data_type == DataType::Null {
                column.file = label;
            }
            column.data_type = unified;
        }
    }
    Ok(Schema::new(columns.into_iter().map(|column| column.into_field(count)).collect::<Vec<_>>()))
}

struct Column<'a> {
    name: &'a str,
    file: &'a str,
    data_type: DataType,
    nullable: bool,
    files: usize,
}

impl<'a> Column<'a> {
    fn new(file: &'a str, field: &'a Field) -> Self {
        Self { name: field.name(), file, data_type: field.data_type().clone(), nullable: field.is_nullable(), files: 1 }
    }

    fn into_field(self, files: usize) -> Field {
        // A column without any value still needs a type that SQL can name.
        let data_type = if self.data_type == DataType::Null { DataType::Utf8View } else { self.data_type };
        Field::new(self.name, data_type, self.nullable || self.files < files)
    }
}

fn unify(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::{Int8, Int16, Null, Timestamp};
    match (a, b) {
        (Null, other) | (other, Null) => Some(other.clone()),
        (Int8, Int16) | (Int16, Int8) => Some(Int16),
        (Timestamp(one, zone), Timestamp(two, other)) if zone.is_some() == other.is_some() => {
            Some(Timestamp(if one == two { *one } else { TimeUnit::Microsecond }, zone.clone()))
        }
        _ => same(a, b).then(|| a.clone()),
    }
}

/// Equal but for what writers choose freely: the name of a list's element, nullability and metadata of nested fields.
fn same(a: &DataType, b: &DataType) -> bool {
    use DataType::{FixedSizeList, LargeList, List, Map, Struct};
    match (a, b) {
        (List(a) | LargeList(a), List(b) | LargeList(b)) => same(a.data_type(), b.data_type()),
        (FixedSizeList(a, n), FixedSizeList(b, m)) => n == m && same(a.data_type(), b.data_type()),
        (Struct(a), Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name() == b.name() && same(a.data_type(), b.data_type()))
        }
        (Map(a, _), Map(b, _)) => match (a.data_type(), b.data_type()) {
            (Struct(a), Struct(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a.data_type(), b.data_type())),
            _ => false,
        },
        _ => super::footer::plain(a) == super::footer::plain(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType)]) -> Schema {
        Schema::new(fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), false)).collect::<Vec<_>>())
    }

    #[test]
    fn column_missing_from_one_file_is_nullable() {
        let old = schema(&[("id", DataType::Int64)]);
        let new = schema(&[("id", DataType::Int64), ("note", DataType::Utf8View)]);
        let merged = merge([("a", &old), ("b", &new)]).unwrap();
        assert_eq!(merged.field_with_name("id").unwrap(), &Field::new("id", DataType::Int64, false));
        assert_eq!(merged.field_with_name("note").unwrap(), &Field::new("note", DataType::Utf8View, true));
    }

    #[test]
    fn type_drift_names_both_files_and_the_column() {
        let one = schema(&[("id", DataType::Int64), ("price", DataType::Float64)]);
        let two = schema(&[("id", DataType::Int64), ("price", DataType::Utf8View)]);
        let error = merge([("t/a.parquet", &one), ("t/b.parquet", &two)]).unwrap_err();
        assert_eq!(error.to_string(), "column price is Float64 in file t/a.parquet and Utf8View in file t/b.parquet");
    }

    #[test]
    fn all_null_column_takes_the_type_of_the_other_file() {
        let none = schema(&[("x", DataType::Null)]);
        let some = schema(&[("x", DataType::Date32)]);
        assert_eq!(merge([("a", &none), ("b", &some)]).unwrap().field(0).data_type(), &DataType::Date32);
        assert_eq!(merge([("a", &none)]).unwrap().field(0).data_type(), &DataType::Utf8View);
    }

    #[test]
    fn timestamps_of_two_precisions_become_microseconds_but_zones_do_not_mix() {
        let ns = schema(&[("at", DataType::Timestamp(TimeUnit::Nanosecond, None))]);
        let ms = schema(&[("at", DataType::Timestamp(TimeUnit::Millisecond, None))]);
        let zoned = schema(&[("at", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())))]);
        let merged = merge([("a", &ns), ("b", &ms)]).unwrap();
        assert_eq!(merged.field(0).data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
        assert!(merge([("a", &ns), ("b", &zoned)]).is_err());
    }
}
