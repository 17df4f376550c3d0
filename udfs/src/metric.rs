//! What the metric aggregates share: arguments become numbers, rows with a NULL are skipped, DISTINCT, and a state that merges.

use std::collections::HashSet;
use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::mem::size_of;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};

use crate::declaration::Function;
use crate::error::Error;

/// The most arguments a metric has.
const WIDTH: usize = 3;

/// One row's arguments; those that were not given are 1, which is the weight of a row without weights.
pub(crate) type Row = [f64; WIDTH];

/// A metric over rows of numbers.
pub(crate) trait Metric: Debug + Default + Send + Sync + 'static {
    /// Its declaration.
    const DECLARATION: &'static Function;
    /// The names of the lists of numbers that carry a partial result between partitions.
    const STATE: &'static [&'static str];

    /// Adds a row without NULLs.
    fn add(&mut self, row: Row) -> Result<(), Error>;
    /// The lists of [`Metric::STATE`]; leaves the metric empty.
    fn take(&mut self) -> Vec<Vec<f64>>;
    /// Adds another partial result.
    fn merge(&mut self, state: &[&[f64]]);
    /// The result so far; asked for repeatedly by a window. `None` is NULL.
    fn evaluate(&mut self) -> Option<f64>;
    /// Bytes on the heap.
    fn heap(&self) -> usize;
}

/// The SQL aggregate of a metric.
pub(crate) struct MetricAggregate<M> {
    signature: Signature,
    metric: PhantomData<fn() -> M>,
}

impl<M: Metric> MetricAggregate<M> {
    pub(crate) fn function() -> AggregateUDF {
        AggregateUDF::from(Self { signature: M::DECLARATION.engine_signature(Volatility::Immutable), metric: PhantomData })
    }
}

impl<M: Metric> Debug for MetricAggregate<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MetricAggregate").field(&M::DECLARATION.name).finish()
    }
}

impl<M: Metric> PartialEq for MetricAggregate<M> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<M: Metric> Eq for MetricAggregate<M> {}

impl<M: Metric> Hash for MetricAggregate<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        M::DECLARATION.name.hash(state);
    }
}

impl<M: Metric> AggregateUDFImpl for MetricAggregate<M> {
    fn name(&self) -> &str {
        M::DECLARATION.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        M::DECLARATION.check_types(arguments)?;
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let names = if args.is_distinct { &["rows"] } else { M::STATE };
        let list = DataType::new_list(DataType::Float64, true);
        Ok(names.iter().map(|name| Arc::new(Field::new(format!("{}[{name}]", args.name), list.clone(), true))).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let width = args.exprs.len();
        if args.is_distinct {
            return Ok(Box::new(Distinct::<M> { width, rows: HashSet::new(), metric: PhantomData }));
        }
        Ok(Box::new(Plain { width, metric: M::default() }))
    }
}

/// Every row counts.
#[derive(Debug)]
struct Plain<M> {
    width: usize,
    metric: M,
}

impl<M: Metric> Accumulator for Plain<M> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for_each_row(values, self.width, |row| self.metric.add(row))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.metric.evaluate()))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.metric.heap()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(self.metric.take().into_iter().map(list).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states.first().map_or(0, Array::len);
        for row in 0..rows {
            let lists: Vec<Float64Array> = states.iter().map(|state| list_at(state, row)).collect();
            let slices: Vec<&[f64]> = lists.iter().map(|list| list.values().as_ref()).collect();
            self.metric.merge(&slices);
        }
        Ok(())
    }
}

/// Equal rows count once.
#[derive(Debug)]
struct Distinct<M> {
    width: usize,
    rows: HashSet<[u64; WIDTH]>,
    metric: PhantomData<fn() -> M>,
}

impl<M: Metric> Accumulator for Distinct<M> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for_each_row(values, self.width, |row| {
            self.rows.insert(row.map(f64::to_bits));
            Ok(())
        })
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut metric = M::default();
        for row in &self.rows {
            metric.add(row.map(f64::from_bits))?;
        }
        Ok(ScalarValue::Float64(metric.evaluate()))
    }

    fn size(&self) -> usize {
        // A hash table keeps one byte of control beside each entry.
        size_of::<Self>() + self.rows.capacity() * (size_of::<[u64; WIDTH]>() + 1)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![list(self.rows.drain().flat_map(|row| row.map(f64::from_bits)).collect())])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let Some(state) = states.first() else { return Ok(()) };
        for row in 0..state.len() {
            let flat = list_at(state, row);
            self.rows.extend(flat.values().as_chunks::<WIDTH>().0.iter().map(|row| row.map(f64::to_bits)));
        }
        Ok(())
    }
}

fn list(values: Vec<f64>) -> ScalarValue {
    SingleRowListArrayBuilder::new(Arc::new(Float64Array::from(values))).with_nullable(true).build_list_scalar()
}

fn list_at(state: &ArrayRef, row: usize) -> Float64Array {
    let lists = state.as_list::<i32>();
    if lists.is_null(row) { Float64Array::from(Vec::<f64>::new()) } else { lists.value(row).as_primitive::<Float64Type>().clone() }
}

/// Calls `add` for every row whose arguments are all there.
fn for_each_row(values: &[ArrayRef], width: usize, mut add: impl FnMut(Row) -> Result<(), Error>) -> Result<()> {
    let columns = values[..width].iter().map(|value| cast(value, &DataType::Float64)).collect::<Result<Vec<_>, _>>()?;
    let columns: Vec<&Float64Array> = columns.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
    let rows = columns.first().map_or(0, |column| column.len());
    let nulls = columns.iter().any(|column| column.null_count() > 0);
    for row in 0..rows {
        if nulls && columns.iter().any(|column| column.is_null(row)) {
            continue;
        }
        let mut arguments = [1.0; WIDTH];
        for (argument, column) in arguments.iter_mut().zip(&columns) {
            // Adding zero makes -0 the same as 0, for ties and for DISTINCT.
            *argument = column.value(row) + 0.0;
        }
        add(arguments)?;
    }
    Ok(())
}

/// A label as a class; anything but 0 and 1 is an error.
pub(crate) fn label(function: &Function, value: f64) -> Result<bool, Error> {
    if value == 1.0 {
        return Ok(true);
    }
    if value == 0.0 {
        return Ok(false);
    }
    Err(out_of_range(function, "label", value, "0 or 1"))
}

/// A weight: finite and not negative.
pub(crate) fn weight(function: &Function, value: f64) -> Result<f64, Error> {
    if value >= 0.0 && value.is_finite() { Ok(value) } else { Err(out_of_range(function, "weight", value, "a number from 0")) }
}

/// A probability.
pub(crate) fn probability(function: &Function, argument: &str, value: f64) -> Result<f64, Error> {
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(out_of_range(function, argument, value, "from 0 to 1")) }
}

/// An error that names the argument, its value and what is allowed.
pub(crate) fn out_of_range(function: &Function, argument: &str, value: f64, allowed: &str) -> Error {
    Error::value(format!("argument {argument} of {}", function.name), format!("is {value}, but must be {allowed}"))
}

/// A sum that does not depend on the order of its terms beyond the last digits (Neumaier 1974).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    total: f64,
    lost: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, value: f64) {
        let total = self.total + value;
        self.lost += if self.total.abs() >= value.abs() { (self.total - total) + value } else { (value - total) + self.total };
        self.total = total;
    }

    pub(crate) fn value(self) -> f64 {
        self.total + self.lost
    }

    /// The parts, for a state.
    pub(crate) fn parts(self) -> [f64; 2] {
        [self.total, self.lost]
    }
}
