//! What a footer says about its file's rows, in terms of the table's columns.

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::parquet::file::metadata::ParquetMetaData;

/// Rows in the file; a footer with a negative count has been tampered with and counts as unknown.
pub(crate) fn rows(metadata: &ParquetMetaData) -> Option<u64> {
    metadata.row_groups().iter().try_fold(0_u64, |sum, group| sum.checked_add(u64::try_from(group.num_rows()).ok()?))
}

/// Statistics over the file's columns and, after them, its partition values.
pub(crate) fn collect(metadata: &ParquetMetaData, file_schema: &SchemaRef, partition_values: &[ScalarValue]) -> Statistics {
    let rows = match rows(metadata).and_then(|rows| usize::try_from(rows).ok()) {
        Some(rows) => Precision::Exact(rows),
        None => Precision::Absent,
    };
    let mut statistics =
        DFParquetMetadata::statistics_from_parquet_metadata(metadata, file_schema).unwrap_or_else(|_| Statistics::new_unknown(file_schema));
    statistics.num_rows = rows;
    for (column, field) in statistics.column_statistics.iter_mut().zip(file_schema.fields()) {
        // The bounds have the file's type, which may be narrower than the table's; a bound of another type misleads the optimizer.
        column.min_value = typed(std::mem::take(&mut column.min_value), field.data_type());
        column.max_value = typed(std::mem::take(&mut column.max_value), field.data_type());
    }
    statistics.column_statistics.extend(partition_values.iter().map(|value| partition(value, rows)));
    statistics
}

fn typed(bound: Precision<ScalarValue>, data_type: &datafusion::arrow::datatypes::DataType) -> Precision<ScalarValue> {
    let cast = |value: ScalarValue| if value.data_type() == *data_type { Some(value) } else { value.cast_to(data_type).ok() };
    match bound {
        Precision::Exact(value) => cast(value).map_or(Precision::Absent, Precision::Exact),
        Precision::Inexact(value) => cast(value).map_or(Precision::Absent, Precision::Inexact),
        Precision::Absent => Precision::Absent,
    }
}

fn partition(value: &ScalarValue, rows: Precision<usize>) -> ColumnStatistics {
    ColumnStatistics {
        null_count: if value.is_null() { rows } else { Precision::Exact(0) },
        min_value: Precision::Exact(value.clone()),
        max_value: Precision::Exact(value.clone()),
        sum_value: Precision::Absent,
        distinct_count: Precision::Exact(usize::from(!value.is_null())),
        byte_size: Precision::Absent,
    }
}
