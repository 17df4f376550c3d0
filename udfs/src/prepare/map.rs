//! What the functions of a row share: arguments that are columns, then constants.

use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::declaration::{Function, Returns};
use crate::error::Error;
use crate::options::Options;

/// A function of a row.
pub(super) trait Map: 'static {
    /// Its declaration.
    const DECLARATION: &'static Function;
    /// How many arguments, from the first, are columns.
    const COLUMNS: usize;

    /// Checks the constants.
    fn check(options: &Options) -> Result<(), Error>;
    /// The results of some rows.
    fn map(options: &Options, columns: &[ArrayRef]) -> Result<ArrayRef>;
}

/// The SQL function of a map.
pub(super) struct MapFunction<M> {
    signature: Signature,
    map: PhantomData<fn() -> M>,
}

impl<M: Map> MapFunction<M> {
    pub(super) fn function() -> ScalarUDF {
        ScalarUDF::from(Self { signature: M::DECLARATION.engine_signature(Volatility::Immutable), map: PhantomData })
    }
}

impl<M: Map> Debug for MapFunction<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MapFunction").field(&M::DECLARATION.name).finish()
    }
}

impl<M: Map> PartialEq for MapFunction<M> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<M: Map> Eq for MapFunction<M> {}

impl<M: Map> Hash for MapFunction<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        M::DECLARATION.name.hash(state);
    }
}

fn returned(function: &Function) -> DataType {
    match function.returns {
        Returns::Value(data_type) => data_type.arrow(),
        Returns::Struct(_) | Returns::Rows(_) | Returns::QueryRows(_) => DataType::Null,
    }
}

impl<M: Map> ScalarUDFImpl for MapFunction<M> {
    fn name(&self) -> &str {
        M::DECLARATION.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(returned(M::DECLARATION))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        M::DECLARATION.check_types(args.arg_fields.iter().take(M::COLUMNS).map(|field| field.data_type()))?;
        let options = Options::new(M::DECLARATION, args.scalar_arguments.iter().map(|argument| argument.cloned()));
        if options.known(M::COLUMNS) {
            M::check(&options)?;
        }
        Ok(Arc::new(Field::new(M::DECLARATION.name, returned(M::DECLARATION), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = |argument: &ColumnarValue| match argument {
            ColumnarValue::Scalar(value) => Some(value.clone()),
            ColumnarValue::Array(_) => None,
        };
        let options = Options::new(M::DECLARATION, args.args.iter().map(constant));
        let columns = &args.args[..args.args.len().min(M::COLUMNS)];
        let one_value = columns.iter().all(|column| matches!(column, ColumnarValue::Scalar(_)));
        let rows = if one_value { 1 } else { args.number_rows };
        let columns = columns.iter().map(|column| column.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let result = M::map(&options, &columns)?;
        Ok(if one_value { ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?) } else { ColumnarValue::Array(result) })
    }
}
