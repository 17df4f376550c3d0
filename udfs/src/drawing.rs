//! What the functions that draw with text share: their arguments are columns of any form, their result is text.

use std::fmt::{self, Debug};
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

use crate::declaration::Function;

pub mod bar;
pub mod sparkline;

/// A function that draws.
pub(crate) trait Drawing: 'static {
    /// Its declaration.
    const DECLARATION: &'static Function;

    /// The texts of some rows.
    fn draw(columns: &[ArrayRef]) -> Result<ArrayRef>;
}

/// The SQL functions that draw.
pub(crate) fn functions() -> [Arc<ScalarUDF>; 2] {
    [Arc::new(DrawingFunction::<bar::Bar>::function()), Arc::new(DrawingFunction::<sparkline::Sparkline>::function())]
}

/// The SQL function of a drawing.
struct DrawingFunction<D> {
    signature: Signature,
    drawing: PhantomData<fn() -> D>,
}

impl<D: Drawing> DrawingFunction<D> {
    fn function() -> ScalarUDF {
        ScalarUDF::from(Self { signature: D::DECLARATION.engine_signature(Volatility::Immutable), drawing: PhantomData })
    }
}

impl<D: Drawing> Debug for DrawingFunction<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DrawingFunction").field(&D::DECLARATION.name).finish()
    }
}

impl<D: Drawing> PartialEq for DrawingFunction<D> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<D: Drawing> Eq for DrawingFunction<D> {}

impl<D: Drawing> Hash for DrawingFunction<D> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        D::DECLARATION.name.hash(state);
    }
}

impl<D: Drawing> ScalarUDFImpl for DrawingFunction<D> {
    fn name(&self) -> &str {
        D::DECLARATION.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        D::DECLARATION.check_types(args.arg_fields.iter().map(|field| field.data_type()))?;
        Ok(Arc::new(Field::new(D::DECLARATION.name, DataType::Utf8, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = args.args.iter().map(|argument| argument.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array(D::draw(&columns)?))
    }
}
