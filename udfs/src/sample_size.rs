//! `sample_size(baseline, mde)`: how many rows an experiment needs.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, Int64Array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use stratagem_models::metrics::experiment;

use crate::declaration::{Failure, Function, Kind, Parameter, Returns, Type};
use crate::error::Error;

/// The declaration of `sample_size`.
pub static DECLARATION: Function = Function {
    name: "sample_size",
    kind: Kind::Scalar,
    parameters: &[
        Parameter::value("baseline", Type::Number, "The rate of the control, such as 0.03."),
        Parameter::value("mde", Type::Number, "The smallest difference of rates to find, such as 0.003; negative for a fall."),
        Parameter::value("power", Type::Number, "The probability of finding it.").or("0.8"),
        Parameter::value("alpha", Type::Number, "The probability of finding something when there is nothing.").or("0.05"),
    ],
    returns: Returns::Value(Type::BigInt),
    summary: "How many rows each variant of an experiment needs",
    docs: "Rows per variant for the two-sided z-test of two proportions that `ab_test` does (Fleiss, Levin and Paik 2003, without \
           continuity correction; statsmodels' `samplesize_proportions_2indep_onetail`, rounded up). The difference is absolute: for a \
           relative one write `sample_size(0.03, 0.03 * 0.1)`. NULL for NULL.",
    example: "SELECT sample_size(baseline => 0.03, mde => 0.003)",
    errors: &[
        Failure { sqlstate: "22023", when: "`baseline`, `baseline + mde`, `power` or `alpha` is not above 0 and below 1, or `mde` is 0" },
        Failure { sqlstate: "42804", when: "an argument has a type that is not a number" },
    ],
};

/// The SQL function.
pub(crate) fn function() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(SampleSize { signature: DECLARATION.engine_signature(Volatility::Immutable) }))
}

#[derive(Debug)]
struct SampleSize {
    signature: Signature,
}

impl PartialEq for SampleSize {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SampleSize {}

impl Hash for SampleSize {
    fn hash<H: Hasher>(&self, state: &mut H) {
        DECLARATION.name.hash(state);
    }
}

impl ScalarUDFImpl for SampleSize {
    fn name(&self) -> &str {
        DECLARATION.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        DECLARATION.check_types(args.arg_fields.iter().map(|field| field.data_type()))?;
        Ok(Arc::new(Field::new(DECLARATION.name, DataType::Int64, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let mut columns = Vec::with_capacity(args.args.len());
        for argument in &args.args {
            columns.push(cast(&argument.to_array(rows)?, &DataType::Float64)?);
        }
        let columns: Vec<_> = columns.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
        let size = |row: usize| {
            let known = columns.iter().all(|column| column.is_valid(row));
            known.then(|| size(columns.iter().map(|column| column.value(row)))).transpose()
        };
        let sizes = (0..rows).map(size).collect::<Result<Int64Array, Error>>()?;
        Ok(if constant { ColumnarValue::Scalar(ScalarValue::try_from_array(&sizes, 0)?) } else { ColumnarValue::Array(Arc::new(sizes)) })
    }
}

fn size(arguments: impl IntoIterator<Item = f64>) -> Result<i64, Error> {
    let mut values = [0.0; 4];
    values.iter_mut().zip(arguments).for_each(|(value, argument)| *value = argument);
    let [baseline, mde, power, alpha] = values;
    let object = |name: &str| format!("argument {name} of {}", DECLARATION.name);
    for (name, value) in [("baseline", baseline), ("power", power), ("alpha", alpha)] {
        if !(value > 0.0 && value < 1.0) {
            return Err(Error::value(object(name), format!("is {value}, but must be above 0 and below 1")));
        }
    }
    let other = baseline + mde;
    if mde == 0.0 || !(other > 0.0 && other < 1.0) {
        return Err(Error::InvalidValue {
            object: object("mde"),
            reason: format!("is {mde}, but must not be 0, and baseline + mde must be above 0 and below 1"),
            hint: Some("it is a difference of rates: for 10 % more write baseline * 0.1".to_owned()),
        });
    }
    Ok(experiment::sample_size(baseline, mde, power, alpha) as i64)
}
