//! A random sample of rows that depends on the rows and a seed, not on their order: those whose hashes are the smallest.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::FieldRef;
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::common::Result;
use twox_hash::XxHash64;

/// The distinct rows with the smallest hashes, and how often each occurred.
#[derive(Debug)]
pub(super) struct Sample {
    fields: Arc<[FieldRef]>,
    most: usize,
    seed: u64,
    converter: Option<RowConverter>,
    rows: BTreeMap<u64, Row>,
    bytes: usize,
}

#[derive(Debug)]
struct Row {
    count: u64,
    bytes: Box<[u8]>,
}

impl Row {
    fn size(&self) -> usize {
        self.bytes.len() + size_of::<(u64, Self)>()
    }
}

impl Sample {
    pub(super) fn new(fields: Arc<[FieldRef]>, most: usize, seed: u64) -> Self {
        Self { fields, most, seed, converter: None, rows: BTreeMap::new(), bytes: 0 }
    }

    pub(super) fn fields(&self) -> &[FieldRef] {
        &self.fields
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn converter(fields: &[FieldRef]) -> Result<RowConverter> {
        Ok(RowConverter::new(fields.iter().map(|field| SortField::new(field.data_type().clone())).collect())?)
    }

    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let converter = match &mut self.converter {
            Some(converter) => converter,
            none => none.insert(Self::converter(&self.fields)?),
        };
        let rows = converter.convert_columns(batch.columns())?;
        for row in &rows {
            let hash = XxHash64::oneshot(self.seed, row.as_ref());
            self.add(hash, 1, || row.as_ref().into());
        }
        Ok(())
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (hash, row) in other.rows {
            self.add(hash, row.count, || row.bytes);
        }
    }

    fn add(&mut self, hash: u64, count: u64, bytes: impl FnOnce() -> Box<[u8]>) {
        // A row that was ever left out stays out: the largest hash only falls.
        let full = self.rows.len() >= self.most;
        if full && self.rows.last_key_value().is_some_and(|(largest, _)| hash > *largest) {
            return;
        }
        match self.rows.entry(hash) {
            Entry::Occupied(mut row) => {
                row.get_mut().count += count;
                return;
            }
            Entry::Vacant(place) => {
                let row = Row { count, bytes: bytes() };
                self.bytes += row.size();
                place.insert(row);
            }
        }
        if full && let Some((_, row)) = self.rows.pop_last() {
            self.bytes -= row.size();
        }
    }

    /// The columns of the sample, in the order of the hashes, and how often each row occurred.
    pub(super) fn rows(&self) -> Result<(Vec<ArrayRef>, Vec<f64>)> {
        let converter = Self::converter(&self.fields)?;
        let parser = converter.parser();
        let columns = converter.convert_rows(self.rows.values().map(|row| parser.parse(&row.bytes)))?;
        // A dictionary comes back as its values.
        let typed = columns.iter().zip(self.fields.iter()).map(|(column, field)| Ok(cast(column, field.data_type())?));
        Ok((typed.collect::<Result<_>>()?, self.rows.values().map(|row| row.count as f64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{AsArray, Int64Array, StringArray};
    use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    fn sample(values: &[i64], most: usize, seed: u64, cut: usize) -> (Vec<i64>, Vec<f64>) {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("t", DataType::Utf8, true)]));
        let fields: Arc<[FieldRef]> = schema.fields().iter().map(Arc::clone).collect();
        let part = |values: &[i64]| {
            let mut sample = Sample::new(Arc::clone(&fields), most, seed);
            let texts: StringArray = values.iter().map(|value| (value % 2 == 0).then(|| value.to_string())).collect();
            let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(values.to_vec())), Arc::new(texts)];
            sample.push(&RecordBatch::try_new(Arc::clone(&schema), columns).unwrap()).unwrap();
            sample
        };
        let mut whole = part(&values[..cut]);
        whole.merge(part(&values[cut..]));
        let (columns, counts) = whole.rows().unwrap();
        assert_eq!(columns[1].null_count(), columns[0].as_primitive::<Int64Type>().values().iter().filter(|n| *n % 2 != 0).count());
        (columns[0].as_primitive::<Int64Type>().values().to_vec(), counts)
    }

    #[test]
    fn a_sample_does_not_depend_on_the_order_or_the_parts_of_the_rows() {
        let values: Vec<i64> = (0..1000).collect();
        let turned: Vec<i64> = (0..1000).rev().collect();
        let first = sample(&values, 100, 1, 500);
        assert_eq!(first.0.len(), 100);
        assert_eq!(first, sample(&turned, 100, 1, 33));
        assert_ne!(first, sample(&values, 100, 2, 500));
        assert_eq!(sample(&values, 2000, 1, 0).0.len(), 1000);
    }

    #[test]
    fn equal_rows_are_one_row_that_counts_as_often() {
        let values: Vec<i64> = (0..900).map(|row| row % 3).collect();
        let (rows, counts) = sample(&values, 100, 1, 450);
        assert_eq!((rows.len(), counts), (3, vec![300.0; 3]));
        assert_eq!(sample(&values, 2, 1, 450).1, [300.0; 2]);
    }
}
